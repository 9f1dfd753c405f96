//! What others do to a rollout's objects, and what the cluster refuses: nothing sticks, nothing spins, nothing is overwritten.

use serde_json::json;

use super::scenarios::{condition, endless_pause, healthy, phase};
use super::world::World;
use crate::crd::{ConditionType, RolloutPhase, keys};
use crate::plan::{Attempt, ReplicaSet, SetAction, Setback, UNAVAILABLE};

fn paused_at_first_pause(replicas: i32) -> World {
    let mut world = healthy(replicas, endless_pause());
    world.set_image("v2");
    world.settle();
    assert_eq!(phase(&world).0, RolloutPhase::Paused);
    world
}

#[test]
fn the_deadline_runs_while_the_new_set_cannot_be_created() {
    let mut world = healthy(3, endless_pause());
    world.set_image("v2");
    world.refuse_creation("exceeded quota: pods");
    world.settle_without_creating();
    assert_eq!(condition(&world, &ConditionType::Progressing).1, "ReplicaSetCreateError");
    world.now = world.now.checked_add(jiff::SignedDuration::from_secs(601)).unwrap();
    world.settle_without_creating();
    assert_eq!(condition(&world, &ConditionType::Progressing).1, "ProgressDeadlineExceeded");
    let (phase_now, message) = phase(&world);
    assert_eq!(phase_now, RolloutPhase::Degraded);
    assert!(message.contains("exceeded quota: pods"), "{message}");
    world.setbacks.clear();
    world.settle();
    assert_eq!(phase(&world).0, RolloutPhase::Paused);
}

#[test]
fn a_server_that_is_away_is_no_refusal() {
    let mut world = healthy(3, endless_pause());
    let before = world.status();
    world.set_image("v2");
    world.refuse_creation("connection refused");
    world.setbacks[0].reason = UNAVAILABLE.to_owned();
    let plan = world.plan();
    assert!(plan.rollout.status.is_none(), "{:?}", plan.rollout);
    assert!(!plan.blockers.is_empty());
    assert_eq!(world.status(), before);
}

#[test]
fn a_hash_label_that_somebody_took_is_put_back() {
    let mut world = paused_at_first_pause(5);
    let names: Vec<String> = world.sets.keys().cloned().collect();
    for set in world.sets.values_mut() {
        set.labels.remove(keys::POD_TEMPLATE_HASH);
    }
    world.writes.clear();
    world.settle();
    assert_eq!(world.writes, ["patch replicaset", "patch replicaset"]);
    assert_eq!(world.sets.keys().cloned().collect::<Vec<_>>(), names);
    assert!(world.sets.values().all(|set| set.labels.contains_key(keys::POD_TEMPLATE_HASH)));
    assert_eq!(phase(&world).0, RolloutPhase::Paused);
}

#[test]
fn a_revision_number_that_nobody_counted_up_to_is_no_number() {
    let mut world = paused_at_first_pause(5);
    for text in ["9223372036854775807", "-3", "many"] {
        for set in world.sets.values_mut() {
            set.annotations.insert(keys::REVISION.to_owned(), text.to_owned());
        }
        world.settle();
        assert_eq!(phase(&world).0, RolloutPhase::Paused, "{text}");
    }
}

#[test]
fn a_status_that_calls_the_spec_invalid_says_nothing_of_its_template() {
    let mut world = healthy(3, json!({}));
    let before = world.status();
    world.set_image("v2");
    // What a controller writes that finds more to be invalid than we do.
    let time = "2026-01-01T00:00:00Z";
    let condition = json!({ "type": "InvalidSpec", "status": "True", "reason": "InvalidSpec", "message": "no such Service",
        "lastUpdateTime": time, "lastTransitionTime": time });
    let generation = world.object["metadata"]["generation"].to_string();
    world.patch_status(json!({ "observedGeneration": generation, "conditions": [condition] }));
    world.settle();
    assert_ne!(world.status().stable_rs(), before.stable_rs());
    assert_eq!((world.replicas("v1"), world.replicas("v2")), (0, 3));
    assert_eq!(phase(&world).0, RolloutPhase::Healthy);
}

#[test]
fn an_abort_is_noted_while_the_new_set_is_being_deleted() {
    let mut world = paused_at_first_pause(5);
    let new = world.status().current_pod_hash().to_owned();
    world.sets.values_mut().find(|set| set.hash() == new).unwrap().terminating = true;
    world.patch_status(json!({ "abort": true }));
    world.settle_without_creating();
    assert!(world.status().aborted_at.is_some());
    assert_eq!(phase(&world).0, RolloutPhase::Degraded);
}

#[test]
fn an_orphan_that_cannot_be_adopted_holds_nothing_up() {
    let mut world = healthy(3, endless_pause());
    let name = "web-orphan".to_owned();
    world.orphans =
        vec![ReplicaSet { name: name.clone(), uid: "uid-orphan".to_owned(), ..ReplicaSet::default() }];
    let adopts = |plan: &crate::plan::Plan| matches!(plan.sets.first(), Some(SetAction::Adopt { .. }));
    assert!(adopts(&world.plan()) && world.plan().sets.len() == 1);
    world.setbacks = vec![Setback {
        attempt: Attempt::Change(name),
        reason: "Forbidden".to_owned(),
        message: "denied by policy".to_owned(),
        since: world.now,
        next_try: None,
    }];
    world.set_image("v2");
    let plan = world.plan();
    assert!(adopts(&plan), "it is tried again: {:?}", plan.sets);
    assert!(matches!(plan.sets.get(1), Some(SetAction::Create { .. })), "{:?}", plan.sets);
    assert!(plan.blockers.iter().any(|blocker| blocker.message.contains("denied by policy")));
}
