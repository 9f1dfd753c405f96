//! progressDeadlineAbort: an update that does not get on in time aborts itself (contract 4.7).

use serde_json::{Value, json};

use super::scenarios::{condition, endless_pause, phase};
use super::world::{Outcome, World};
use crate::crd::{CompletionStatus, ConditionStatus, ConditionType, RolloutPhase};
use crate::plan::BlockerReason;

/// A rollout at v1 whose second version does not come up, a moment before its deadline.
fn about_to_time_out(mut world: World) -> World {
    world.edit(|spec| {
        spec["progressDeadlineSeconds"] = json!(60);
        spec["progressDeadlineAbort"] = json!(true);
    });
    world.settle();
    assert_eq!(phase(&world).0, RolloutPhase::Healthy);
    world.outcomes.insert("v2".to_owned(), Outcome::Never);
    world.set_image("v2");
    world.settle();
    world.pass(59);
    assert_ne!(phase(&world).0, RolloutPhase::Degraded);
    world
}

fn strategies() -> [World; 2] {
    [World::new(4, endless_pause()), World::blue_green(4, json!({ "abortScaleDownDelaySeconds": 30 }))]
}

fn message(world: &World, revision: i64) -> String {
    let set = format!("web-{}", world.status().current_pod_hash());
    format!("Rollout aborted update to revision {revision}: ReplicaSet \"{set}\" has timed out progressing.")
}

#[test]
fn an_update_that_does_not_get_on_in_time_aborts_itself_once() {
    for world in strategies() {
        let mut world = about_to_time_out(world);
        world.pass(2);
        let message = message(&world, 2);
        let status = world.status();
        assert!(status.abort() && status.aborted_at.is_some());
        assert_eq!(phase(&world), (RolloutPhase::Degraded, format!("RolloutAborted: {message}")));
        let progressing = condition(&world, &ConditionType::Progressing);
        assert_eq!(progressing, (ConditionStatus::False, "RolloutAborted".to_owned()));
        assert_eq!(status.duration.unwrap().completion_status, Some(CompletionStatus::Aborted));
        assert_eq!(world.ended.last().unwrap().how, CompletionStatus::Aborted);
        assert_eq!(world.replicas("v1"), 4);

        world.pass(3600);
        assert_eq!(world.replicas("v2"), 0);
        let aborts: Vec<_> =
            world.events.iter().filter(|event| event.starts_with("RolloutAborted")).collect();
        assert_eq!(aborts, [&format!("RolloutAborted: {message}")]);
        let blocker = &world.plan().blockers[0];
        assert_eq!((blocker.reason, &blocker.message), (BlockerReason::Aborted, &message));
    }
}

#[test]
fn a_retry_has_the_whole_deadline_again() {
    for world in strategies() {
        let mut world = about_to_time_out(world);
        world.pass(2);
        world.patch_status(json!({ "abort": false }));
        world.settle();
        world.pass(58);
        assert!(!world.status().abort(), "{:#?}", world.status());
        world.outcomes.clear();
        world.settle();
        assert_ne!(phase(&world).0, RolloutPhase::Degraded);
        assert!(world.status().available_replicas >= Some(4));
    }
}

#[test]
fn a_retry_that_does_not_get_on_either_is_aborted_too() {
    for world in strategies() {
        let mut world = about_to_time_out(world);
        world.pass(2);
        world.patch_status(json!({ "abort": false }));
        world.settle();
        world.pass(61);
        assert_eq!(
            phase(&world),
            (RolloutPhase::Degraded, format!("RolloutAborted: {}", message(&world, 2)))
        );
    }
}

#[test]
fn a_first_version_that_does_not_come_up_is_not_aborted_since_nothing_is_there_to_go_back_to() {
    for mut world in strategies() {
        world.object["spec"]["progressDeadlineAbort"] = json!(true);
        world.object["spec"]["progressDeadlineSeconds"] = json!(60);
        world.outcomes.insert("v1".to_owned(), Outcome::Never);
        world.settle();
        world.pass(61);
        assert!(!world.status().abort());
        let progressing = condition(&world, &ConditionType::Progressing);
        assert_eq!(progressing, (ConditionStatus::False, "ProgressDeadlineExceeded".to_owned()));
        assert_eq!(world.replicas("v1"), 4);
    }
}

#[test]
fn an_update_that_timed_out_before_it_was_to_abort_aborts_then() {
    for world in strategies() {
        let mut world = about_to_time_out(world);
        world.edit(|spec| spec["progressDeadlineAbort"] = Value::Null);
        world.settle();
        world.pass(2);
        assert!(!world.status().abort());
        world.edit(|spec| spec["progressDeadlineAbort"] = json!(true));
        world.settle();
        assert!(world.status().abort());
    }
}

#[test]
fn neither_a_pause_nor_a_version_that_takes_the_place_of_one_that_timed_out_is_aborted() {
    let mut world = about_to_time_out(World::new(4, endless_pause()));
    world.outcomes.clear();
    world.settle();
    world.pass(3600);
    assert_eq!(phase(&world), (RolloutPhase::Paused, "CanaryPauseStep".to_owned()));

    let mut world = about_to_time_out(World::new(4, endless_pause()));
    world.pass(2);
    world.set_image("v3");
    world.settle();
    assert_eq!(phase(&world), (RolloutPhase::Paused, "CanaryPauseStep".to_owned()));
    assert!(!world.status().abort());
}

#[test]
fn what_waits_for_pods_says_that_time_ends_with_an_abort() {
    let world = about_to_time_out(World::new(4, endless_pause()));
    let blockers = world.plan().blockers;
    let waits = blockers.iter().find(|blocker| blocker.reason == BlockerReason::PodsNotAvailable).unwrap();
    assert_eq!(waits.next, "the update is aborted, unless they are available before");
    assert!(waits.next_at.is_some());
}
