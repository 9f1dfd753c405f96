//! Others write at the worst moment: right after any of the control plane's own writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rolloutd::crd::RolloutPhase;
use serde_json::json;
use tokio::sync::Notify;

use crate::drive::{Drive, Driver};
use crate::scenarios::{healthy, in_virtual_time, is};
use crate::world::{World, manifest};

/// How many writes an update of this kind takes at most.
const WRITES: usize = 24;

/// Runs an update and does something right after its `nth` write, before anything else gets to run. Says whether there was
/// such a write.
async fn update_interrupted(drive: &Drive<'_>, nth: usize, interrupt: impl AsyncFn(&Drive<'_>)) -> bool {
    let steps = json!([{ "setWeight": 25 }, { "setWeight": 50 }, { "setWeight": 75 }]);
    drive.create(manifest(4, json!({ "steps": steps }))).await;
    healthy(drive).await;
    let (seen, reached) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (counter, signal) = (Arc::clone(&seen), Arc::clone(&reached));
    drive.world.cluster().api.on_write(move |write| {
        if write.user_agent.starts_with("rolloutd/") && counter.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            signal.notify_one();
        }
    });
    drive.set_image("v2").await;
    tokio::select! {
        biased;
        () = reached.notified() => {
            interrupt(drive).await;
            true
        }
        _ = healthy(drive) => false,
    }
}

fn for_each_write(test: impl AsyncFn(&Drive<'_>, usize)) {
    for nth in 1..=WRITES {
        in_virtual_time(async || {
            let world = World::embedded().await;
            test(&Drive { world: &world, driver: Driver::Patches }, nth).await;
            world.finish().await;
        });
    }
}

#[test]
fn an_abort_in_the_middle_of_a_plan_is_never_overwritten() {
    for_each_write(async |drive, nth| {
        let aborted_at_version = std::cell::Cell::new(0);
        let interrupted = update_interrupted(drive, nth, async |drive: &Drive<'_>| {
            drive.abort().await;
            aborted_at_version.set(drive.world.version().await);
        })
        .await;
        if !interrupted {
            return;
        }
        // An abort that came before the update was announced, or after it was complete, has nothing to abort.
        let rollout = drive
            .world
            .until("at rest", |rollout| {
                is(RolloutPhase::Degraded)(rollout) || is(RolloutPhase::Healthy)(rollout)
            })
            .await;
        let status = rollout.status();
        if status.phase == Some(RolloutPhase::Degraded) {
            assert!(status.abort());
            drive
                .world
                .until("back at v1", |rollout| {
                    let status = rollout.status();
                    status.abort()
                        && status.available_replicas == Some(4)
                        && status.updated_replicas.unwrap_or(0) == 0
                })
                .await;
            drive.world.history.check_abort_since(aborted_at_version.get());
        } else {
            drive.world.history.check_abort_was_void(aborted_at_version.get());
        }
    });
}

#[test]
fn a_third_revision_at_any_moment_finishes() {
    for_each_write(async |drive, nth| {
        let interrupted =
            update_interrupted(drive, nth, async |drive: &Drive<'_>| drive.set_image("v3").await).await;
        let rollout = healthy(drive).await;
        let version = if interrupted { "v3" } else { "v2" };
        assert_eq!(
            rollout.spec.template.unwrap()["spec"]["containers"][0]["image"],
            crate::world::image(version)
        );
        assert_eq!(rollout.status.unwrap().available_replicas, Some(4));
    });
}

#[test]
fn resizing_at_any_moment_finishes() {
    for_each_write(async |drive, nth| {
        for replicas in [1, 9] {
            let interrupted =
                update_interrupted(drive, nth, async |drive: &Drive<'_>| drive.scale(replicas).await).await;
            let wanted = if interrupted { replicas } else { 4 };
            drive
                .world
                .until("of the wanted size", |rollout| {
                    is(RolloutPhase::Healthy)(rollout) && rollout.status().available_replicas == Some(wanted)
                })
                .await;
            drive.delete().await;
        }
    });
}
