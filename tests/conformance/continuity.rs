//! Control planes come and go: the next one continues from what is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use rolloutd::lease;
use rolloutd::serve::Election;
use serde_json::json;
use tokio::sync::Notify;

use crate::drive::{Drive, Driver};
use crate::kubernetes;
use crate::scenarios::{healthy, in_virtual_time, paused_at};
use crate::world::{Member, World, manifest};

fn candidate(world: &World, identity: &str) -> Member {
    world.member(Election::Lease(lease::Config {
        namespace: world.namespace.clone(),
        name: lease::lease_name(""),
        identity: identity.to_owned(),
        lease_duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry_period: Duration::from_millis(500),
    }))
}

pub async fn a_stopped_leader_hands_over(world: World) {
    let first = candidate(&world, "first");
    first.lead().await;
    let second = candidate(&world, "second");
    let drive = Drive { world: &world, driver: Driver::Patches };
    drive.create(manifest(3, json!({ "steps": [{ "setWeight": 50 }, { "pause": {} }] }))).await;
    healthy(&drive).await;
    assert!(!second.leads(), "one at a time");
    drive.set_image("v2").await;
    first.stop().await;
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.namespace);
    let held = leases.get(&lease::lease_name("")).await.expect("it exists").spec.expect("it is whole");
    assert_ne!(
        held.holder_identity.as_deref(),
        Some("first"),
        "whoever comes next need not wait for it to run out"
    );
    second.lead().await;
    // Asked before anybody has seen the new revision, a promotion is one of the old: it ends with the old.
    paused_at(&drive, 1).await;
    drive.promote_full().await;
    healthy(&drive).await;
    second.stop().await;
    world.finish().await;
}

#[test]
fn a_stopped_leader_hands_over_on_the_embedded_cluster() {
    in_virtual_time(async || {
        let world = World::embedded_with(rolloutd::crd::definitions()).await;
        a_stopped_leader_hands_over(world).await;
    });
}

#[test]
fn a_stopped_leader_hands_over_on_kubernetes() {
    kubernetes::runtime().block_on(async {
        match World::real().await {
            Some(world) => a_stopped_leader_hands_over(world).await,
            None => println!("skipped: KUBEBUILDER_ASSETS is not set"),
        }
    });
}

#[test]
fn a_leader_that_vanishes_is_succeeded_once_its_lease_has_run_out() {
    in_virtual_time(async || {
        let world = World::embedded_with(rolloutd::crd::definitions()).await;
        let first = candidate(&world, "first");
        first.lead().await;
        let second = candidate(&world, "second");
        first.cut_off();
        second.lead().await;
        let drive = Drive { world: &world, driver: Driver::Patches };
        drive.create(manifest(3, json!({}))).await;
        healthy(&drive).await;
        second.stop().await;
        world.finish().await;
    });
}

#[test]
fn a_successor_continues_after_any_write() {
    let mut cut_off = 0;
    for nth in 1.. {
        let mut reached = false;
        in_virtual_time(async || reached = succeeded_after(nth).await);
        if !reached {
            break;
        }
        cut_off += 1;
    }
    println!("{cut_off} writes, each the last of its control plane once");
    assert!(cut_off >= 10, "an update takes more than {cut_off} writes");
}

/// Runs an update whose control plane is cut off right after its `nth` write. Says whether there was such a write.
async fn succeeded_after(nth: usize) -> bool {
    let world = World::embedded_with(rolloutd::crd::definitions()).await;
    let first = world.member(Election::Undisputed);
    let (written, reached) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let signal = Arc::clone(&reached);
    world.cluster().api.on_write(move |write| {
        if write.user_agent.starts_with("rolloutd/") && written.fetch_add(1, Ordering::SeqCst) + 1 == nth {
            signal.notify_one();
        }
    });
    let drive = Drive { world: &world, driver: Driver::Patches };
    let update = async {
        drive.create(manifest(4, json!({ "steps": [{ "setWeight": 25 }, { "setWeight": 50 }] }))).await;
        drive.world.until("announced", |rollout| rollout.status().stable_rs() != "").await;
        drive.set_image("v2").await;
        healthy(&drive).await;
    };
    let mut update = Box::pin(update);
    let was_cut_off = tokio::select! {
        biased;
        () = reached.notified() => true,
        () = &mut update => false,
    };
    first.cut_off();
    if was_cut_off {
        let second = world.member(Election::Undisputed);
        update.as_mut().await;
        second.stop().await;
    }
    drop(update);
    let sets = drive.sets().await;
    assert_eq!(sets.len(), 2, "write {nth}: {sets:#?}");
    world.finish().await;
    was_cut_off
}
