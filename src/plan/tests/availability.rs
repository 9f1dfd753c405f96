//! Which pods count and how many are enough: minReadySeconds and replicaProgressThreshold (contract A1, 4.5).

use serde_json::{Value, json};

use super::scenarios::phase;
use super::world::{Outcome, World};
use crate::crd::{ConditionType, RolloutPhase};
use crate::plan::{Blocker, BlockerReason};

/// An update that wants four of five pods at its first step; so many of them come up.
fn updated(threshold: &Value, pods: i32) -> World {
    let steps = json!([{ "setWeight": 80 }, { "pause": {} }]);
    let mut world = World::new(5, json!({ "steps": steps, "replicaProgressThreshold": threshold }));
    world.settle();
    world.outcomes.insert("v2".to_owned(), Outcome::UpTo(pods));
    world.set_image("v2");
    world.settle();
    assert_eq!(world.replicas("v2"), 4);
    world
}

fn shortage(world: &World) -> Blocker {
    let blockers = world.plan().blockers;
    let found = blockers.iter().find(|blocker| blocker.reason == BlockerReason::PodsNotAvailable).cloned();
    found.unwrap_or_else(|| panic!("{blockers:#?}"))
}

#[test]
fn a_step_is_done_once_enough_of_its_pods_are_available() {
    for (threshold, pods, step) in [
        (Value::Null, 3, 0),
        (Value::Null, 4, 1),
        (json!({ "type": "Percent", "value": 75 }), 2, 0),
        (json!({ "type": "Percent", "value": 75 }), 3, 1),
        (json!({ "type": "Percent", "value": 76 }), 3, 0),
        (json!({ "type": "Percent", "value": 76 }), 4, 1),
        (json!({ "type": "Percent", "value": 100 }), 3, 0),
        (json!({ "type": "Pods", "value": 3 }), 2, 0),
        (json!({ "type": "Pods", "value": 3 }), 3, 1),
        (json!({ "type": "Pods", "value": 4 }), 3, 0),
        // More than the step wants are never there.
        (json!({ "type": "Pods", "value": 9 }), 3, 0),
        (json!({ "type": "Pods", "value": 9 }), 4, 1),
    ] {
        let world = updated(&threshold, pods);
        assert_eq!(world.status().current_step_index, Some(step), "{threshold} {pods}");
    }
}

#[test]
fn the_last_step_done_the_version_becomes_stable_only_once_all_of_it_is_available() {
    let mut world = updated(&json!({ "type": "Pods", "value": 3 }), 3);
    world.patch_status(json!({ "pauseConditions": null }));
    world.settle();
    assert_eq!(world.status().current_step_index, Some(2));
    assert_eq!(phase(&world).0, RolloutPhase::Progressing);
    assert_ne!(world.status().stable_rs(), world.status().current_pod_hash());
    assert_eq!(shortage(&world).message, "3 of 5 pods are available");
    world.outcomes.clear();
    world.settle();
    assert_eq!(phase(&world).0, RolloutPhase::Healthy);
}

#[test]
fn a_share_that_the_limits_do_not_let_the_sets_come_to_is_not_reached_however_many_pods_are_enough() {
    let canary = json!({
        "maxSurge": 1, "maxUnavailable": 0,
        "steps": [{ "setWeight": 80 }, { "pause": {} }],
        "replicaProgressThreshold": { "type": "Percent", "value": 1 },
    });
    let mut world = World::new(5, canary);
    world.settle();
    world.outcomes.insert("v2".to_owned(), Outcome::UpTo(1));
    world.set_image("v2");
    world.settle();
    // One more pod may be there than five, and five must be available.
    assert_eq!((world.replicas("v1"), world.replicas("v2")), (4, 2));
    assert_eq!(world.status().current_step_index, Some(0));
    world.pass(601);
    let status = world.status();
    assert_eq!(status.condition(&ConditionType::Progressing).unwrap().reason, "ProgressDeadlineExceeded");
}

#[test]
fn what_waits_for_pods_says_how_many_are_enough() {
    let blocker = shortage(&updated(&json!({ "type": "Percent", "value": 75 }), 2));
    assert_eq!(blocker.message, "2 of 4 pods are available; 3 of 4 pods are enough for the step");
    assert_eq!(blocker.condition, "status.availableReplicas 2/3");
    let blocker = shortage(&updated(&json!({ "type": "Percent", "value": 100 }), 2));
    assert_eq!(
        (blocker.message.as_str(), blocker.condition.as_str()),
        ("2 of 4 pods are available", "status.availableReplicas 2/4")
    );
}

#[test]
fn min_ready_seconds_are_those_of_the_new_set_from_its_creation_and_follow_the_spec() {
    let mut world = World::new(3, json!({ "steps": [{ "setWeight": 50 }, { "pause": {} }] }));
    world.object["spec"]["minReadySeconds"] = json!(7);
    world.settle();
    let seconds = |world: &World, image: &str| {
        let of_image = |template: &Value| template["spec"]["containers"][0]["image"] == image;
        world.sets.values().find(|set| of_image(&set.template)).unwrap().min_ready_seconds
    };
    assert_eq!(seconds(&world, "v1"), 7);
    world.set_image("v2");
    world.settle();
    world.edit(|spec| spec["minReadySeconds"] = json!(9));
    world.settle();
    assert_eq!((seconds(&world, "v1"), seconds(&world, "v2")), (7, 9), "an older version keeps its own");
    let writes = world.writes.len();
    world.settle();
    assert_eq!(world.writes.len(), writes, "it is written once");
}
