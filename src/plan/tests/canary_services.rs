//! canaryService and stableService of a canary without traffic routing (contract A3).

use serde_json::{Value, json};

use super::scenarios::phase;
use super::world::{Outcome, World};
use crate::crd::RolloutPhase;
use crate::plan::{BlockerReason, ReplicaSet};

fn strategy(more: &Value) -> Value {
    let mut canary = json!({
        "stableService": "stable", "canaryService": "canary",
        "steps": [{ "setWeight": 40 }, { "pause": {} }],
    });
    json_patch::merge(&mut canary, more);
    canary
}

fn healthy(replicas: i32, more: &Value) -> World {
    let mut world = World::new(replicas, strategy(more));
    world.settle();
    assert_eq!(phase(&world).0, RolloutPhase::Healthy);
    world
}

/// What the stable and the canary Service select.
fn served(world: &World) -> (String, String) {
    (world.served_by("stable"), world.served_by("canary"))
}

fn images(stable: &str, canary: &str) -> (String, String) {
    (stable.to_owned(), canary.to_owned())
}

#[test]
fn each_service_selects_its_version_through_an_update() {
    let mut world = healthy(5, &json!({}));
    assert_eq!(served(&world), images("v1", "v1"));
    assert_eq!(world.services["stable"].managed_by.as_deref(), Some("web"));
    world.set_image("v2");
    world.settle();
    assert_eq!(served(&world), images("v1", "v2"));
    let switched: Vec<_> = world.events.iter().filter(|event| event.starts_with("SwitchService")).collect();
    assert_eq!(switched.len(), 3, "{switched:#?}");
    world.patch_status(json!({ "pauseConditions": null }));
    world.settle();
    assert_eq!(phase(&world).0, RolloutPhase::Healthy);
    assert_eq!(served(&world), images("v2", "v2"));
}

#[test]
fn services_select_all_pods_until_the_first_version_is_whole() {
    let mut world = World::new(5, strategy(&json!({})));
    world.outcomes.insert("v1".to_owned(), Outcome::UpTo(4));
    world.settle();
    assert_eq!(served(&world), images("", ""));
    world.outcomes.clear();
    world.settle();
    assert_eq!(served(&world), images("v1", "v1"));
}

#[test]
fn a_canary_is_selected_once_one_of_its_pods_is_available() {
    let mut world = healthy(5, &json!({}));
    world.outcomes.insert("v2".to_owned(), Outcome::Never);
    world.set_image("v2");
    world.settle();
    assert_eq!(served(&world), images("v1", "v1"));
    world.outcomes.insert("v2".to_owned(), Outcome::UpTo(1));
    world.settle();
    assert_eq!(served(&world), images("v1", "v2"));
}

#[test]
fn after_an_abort_both_select_the_stable_version_and_after_a_retry_the_canary_is_back() {
    let mut world = healthy(5, &json!({}));
    world.set_image("v2");
    world.settle();
    world.patch_status(json!({ "abort": true }));
    world.settle();
    assert_eq!(served(&world), images("v1", "v1"));
    world.patch_status(json!({ "abort": false }));
    world.settle();
    assert_eq!(served(&world), images("v1", "v2"));
}

#[test]
fn the_stable_service_is_never_left_without_pods_while_the_last_of_the_old_version_go() {
    for (replicas, surge, unavailable) in [(1, 1, 0), (2, 1, 0), (5, 2, 1), (5, 0, 2), (10, 3, 2), (10, 3, 8)]
    {
        let limits = json!({ "maxSurge": surge, "maxUnavailable": unavailable, "steps": null });
        let mut world = healthy(replicas, &limits);
        world.set_image("v2");
        let check = |world: &World| {
            let image = world.served_by("stable");
            let is_served = |set: &&ReplicaSet| set.template["spec"]["containers"][0]["image"] == *image;
            let available = world.sets.values().find(is_served).unwrap().status.available;
            assert!(available > 0, "{image}: {replicas} {surge} {unavailable}");
        };
        loop {
            let plan = world.plan();
            let wrote = world.apply(&plan);
            check(&world);
            if !wrote && !world.pods() {
                break;
            }
            check(&world);
        }
        assert_eq!(served(&world), images("v2", "v2"));
    }
}

#[test]
fn a_service_that_is_named_no_more_gets_its_selector_back() {
    let mut world = healthy(3, &json!({}));
    world.edit(|spec| spec["strategy"]["canary"]["canaryService"] = Value::Null);
    world.settle();
    assert_eq!(served(&world), images("v1", ""));
    assert_eq!(world.services["canary"].managed_by, None);
}

#[test]
fn a_canary_service_that_is_missing_is_named_and_nothing_moves() {
    let mut world = World::new(3, strategy(&json!({})));
    world.services.remove("canary");
    world.settle();
    let blocker = &world.plan().blockers[0];
    assert_eq!(blocker.reason, BlockerReason::ServiceMissing);
    assert_eq!(
        blocker.message,
        "Service \"canary\", which spec.strategy.canary.canaryService names, does not exist"
    );
    assert!(world.sets.is_empty());
}

#[test]
fn from_canary_to_blue_green_each_service_serves_its_strategy() {
    let mut world = healthy(3, &json!({}));
    world.edit(|spec| {
        spec["strategy"] = json!({ "blueGreen": { "activeService": "active", "previewService": "canary" } });
    });
    world.settle();
    assert_eq!(world.served_by("active"), "v1");
    assert_eq!(served(&world), images("", "v1"));
}
