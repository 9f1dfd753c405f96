//! rollbackWindow: going back to one of the last versions is quick (contract 4.7 «Rollback within window»).

use serde_json::json;

use super::scenarios::{endless_pause, phase};
use super::world::{Outcome, World};
use crate::crd::{CompletionStatus, RolloutPhase};

/// A rollout that has gone through versions 1 to `newest` and keeps its window from now on.
fn grown(mut world: World, newest: i32, window: i32) -> World {
    world.settle();
    for version in 2..=newest {
        world.set_image(&format!("v{version}"));
        world.settle();
        world.patch_status(json!({ "promoteFull": true }));
        world.settle();
        world.pass(60);
        assert_eq!(phase(&world).0, RolloutPhase::Healthy, "{:#?}", world.status());
    }
    world.edit(|spec| spec["rollbackWindow"] = json!({ "revisions": window }));
    world.settle();
    world.events.clear();
    world
}

fn canary() -> World {
    World::new(5, endless_pause())
}

fn blue_green() -> World {
    World::blue_green(
        5,
        json!({ "autoPromotionEnabled": false, "scaleDownDelaySeconds": 1, "previewReplicaCount": 1 }),
    )
}

fn completed(world: &World) -> Option<&str> {
    let completed = world.events.iter().find(|event| event.starts_with("RolloutCompleted: "))?;
    completed.rsplit(": ").next()
}

fn how(world: &World) -> CompletionStatus {
    world.status().duration.unwrap().completion_status.unwrap()
}

#[test]
fn only_one_of_the_last_versions_needs_neither_steps_nor_a_promotion() {
    for (newest, back_to, window, is_quick) in [
        (4, "v3", 1, true),
        (4, "v2", 1, false),
        (4, "v2", 2, true),
        (4, "v1", 2, false),
        (4, "v1", 3, true),
        (2, "v1", 1, true),
        (2, "v1", 0, false),
        // Forward.
        (2, "v3", 9, false),
    ] {
        for world in [canary(), blue_green()] {
            let mut world = grown(world, newest, window);
            world.set_image(back_to);
            world.settle();
            let name = format!("{back_to} from v{newest} within {window}");
            let expected = if is_quick { RolloutPhase::Healthy } else { RolloutPhase::Paused };
            assert_eq!(phase(&world).0, expected, "{name}: {:#?}", world.events);
            if is_quick {
                assert_eq!(completed(&world), Some("Rollback within window"), "{name}");
                assert_eq!(how(&world), CompletionStatus::FastRolledBack, "{name}");
                assert_eq!(world.replicas(back_to), 5);
            }
        }
    }
}

#[test]
fn steps_that_are_skipped_are_told_once() {
    let mut world = grown(canary(), 2, 1);
    world.set_image("v1");
    world.settle();
    let told: Vec<_> = world.events.iter().filter(|event| event.starts_with("SkipSteps")).collect();
    assert_eq!(told, ["SkipSteps: Rollback within window"]);
    assert!(
        !world.events.iter().any(|event| event.starts_with("RolloutStepCompleted")),
        "{:#?}",
        world.events
    );
    assert_eq!(world.status().current_step_index, Some(4));
}

#[test]
fn a_version_that_never_was_stable_counts_as_one_between() {
    let mut world = grown(canary(), 2, 1);
    world.set_image("aborted");
    world.settle();
    world.set_image("v3");
    world.settle();
    world.patch_status(json!({ "promoteFull": true }));
    world.settle();
    world.set_image("v2");
    world.settle();
    assert_eq!(phase(&world).0, RolloutPhase::Paused, "one was made between them");
}

#[test]
fn the_limits_hold_on_the_way_back() {
    let mut world = grown(canary(), 2, 1);
    world.outcomes.insert("v1".to_owned(), Outcome::UpTo(1));
    world.set_image("v1");
    world.settle();
    assert_eq!(phase(&world).0, RolloutPhase::Progressing);
    assert!(world.replicas("v2") >= 3, "{:#?}", world.sets);
}

#[test]
fn an_abort_on_the_way_back_holds() {
    for world in [canary(), blue_green()] {
        let mut world = grown(world, 2, 1);
        world.outcomes.insert("v1".to_owned(), Outcome::Never);
        world.set_image("v1");
        world.settle();
        world.patch_status(json!({ "abort": true }));
        world.settle();
        world.outcomes.clear();
        world.pass(3600);
        assert_eq!(phase(&world).0, RolloutPhase::Degraded);
        assert_eq!(world.replicas("v2"), 5);
        world.patch_status(json!({ "abort": false }));
        world.settle();
        assert_eq!(phase(&world).0, RolloutPhase::Healthy);
        assert_eq!(completed(&world), Some("Rollback within window"));
    }
}
