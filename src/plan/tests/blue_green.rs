//! Blue-green updates over the pure plan. The world checks at every switch that the active Service is not given too few pods.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::scenarios::{condition, phase};
use super::world::{Outcome, World};
use crate::crd::{CompletionStatus, ConditionStatus, ConditionType, RolloutPhase, keys};
use crate::plan::{BlockerReason, Question, SetAction};

const MANUAL: &str = r#"{ "autoPromotionEnabled": false }"#;

fn strategy(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn healthy(replicas: i32, more: &str) -> World {
    let mut world = World::blue_green(replicas, strategy(more));
    world.settle();
    assert_eq!(phase(&world), (RolloutPhase::Healthy, String::new()), "{:#?}", world.status());
    assert_eq!((world.served_by("active").as_str(), world.served_by("preview").as_str()), ("v1", "v1"));
    world.events.clear();
    world.writes.clear();
    world
}

/// v2 is up and waits.
fn waiting(replicas: i32, more: &str) -> World {
    let mut world = healthy(replicas, more);
    world.set_image("v2");
    world.settle();
    assert_eq!(phase(&world), (RolloutPhase::Paused, "BlueGreenPause".to_owned()), "{:#?}", world.status());
    assert_eq!((world.served_by("active").as_str(), world.served_by("preview").as_str()), ("v1", "v2"));
    world
}

fn promote(world: &mut World) {
    world.patch_status(json!({ "pauseConditions": null }));
    world.settle();
}

fn deadline(world: &World, image: &str) -> Option<Timestamp> {
    let of_image = |set: &&crate::plan::ReplicaSet| {
        set.template.pointer("/spec/containers/0/image").and_then(Value::as_str) == Some(image)
    };
    world.sets.values().find(of_image)?.annotations.get(keys::SCALE_DOWN_DEADLINE)?.parse().ok()
}

#[test]
fn the_first_version_becomes_active_once_it_is_up_and_needs_no_promotion() {
    let world = {
        let mut world = World::blue_green(3, strategy(MANUAL));
        world.settle();
        world
    };
    assert_eq!(phase(&world), (RolloutPhase::Healthy, String::new()));
    let hash = world.status().stable_rs().to_owned();
    assert_eq!(
        world.events,
        [
            "RolloutUpdated: Rollout updated to revision 1".to_owned(),
            format!("NewReplicaSetCreated: Created ReplicaSet web-{hash} (revision 1)"),
            format!("RolloutNotCompleted: Rollout not completed, started update to revision 1 ({hash})"),
            format!("ScalingReplicaSet: Scaled up ReplicaSet web-{hash} (revision 1) from 0 to 3"),
            format!("RolloutCompleted: Rollout completed update to revision 1 ({hash}): Initial deploy"),
            format!("SwitchService: Switched selector for service 'preview' from '' to '{hash}'"),
            format!("SwitchService: Switched selector for service 'active' from '' to '{hash}'"),
        ]
    );
    let status = world.status();
    assert_eq!(
        status.selector.as_deref(),
        Some(format!("app=web,rollouts-pod-template-hash={hash}").as_str())
    );
    assert_eq!(world.services["active"].managed_by.as_deref(), Some("web"));
}

#[test]
fn an_update_waits_for_its_promotion_then_switches_and_keeps_the_old_version_for_a_while() {
    let mut world = waiting(3, MANUAL);
    assert_eq!((world.replicas("v1"), world.replicas("v2")), (3, 3));
    let status = world.status();
    assert_eq!(
        (status.replicas, status.updated_replicas, status.available_replicas),
        (Some(6), Some(3), Some(3))
    );
    assert_eq!(status.hpa_replicas, Some(3));
    assert_eq!(world.plan().blockers[0].reason, BlockerReason::BlueGreenPause);
    world.pass(3600);
    assert_eq!(world.served_by("active"), "v1", "no time promotes it");

    world.events.clear();
    promote(&mut world);
    assert_eq!(phase(&world), (RolloutPhase::Healthy, String::new()));
    assert_eq!(world.served_by("active"), "v2");
    let (old, new) = (status.stable_rs().to_owned(), status.current_pod_hash().to_owned());
    assert_eq!(
        world.events,
        [
            format!("SwitchService: Switched selector for service 'active' from '{old}' to '{new}'"),
            format!(
                "RolloutCompleted: Rollout completed update to revision 2 ({new}): Completed blue-green update"
            ),
        ]
    );
    let status = world.status();
    assert!(!status.controller_pause() && status.pause_conditions().is_empty());
    assert_eq!(deadline(&world, "v1"), Some(world.now + SignedDuration::from_secs(30)));
    world.pass(29);
    assert_eq!(world.replicas("v1"), 3);
    world.pass(1);
    assert_eq!((world.replicas("v1"), deadline(&world, "v1")), (0, None));
    assert_eq!(phase(&world).0, RolloutPhase::Healthy);
}

#[test]
fn without_a_pause_an_update_switches_as_soon_as_it_is_up_in_few_writes() {
    let mut world = healthy(3, "{}");
    world.set_image("v2");
    world.settle();
    assert_eq!((phase(&world).0, world.served_by("active").as_str()), (RolloutPhase::Healthy, "v2"));
    world.pass(30);
    assert_eq!(world.replicas("v1"), 0);
    let count = |what: &str| world.writes.iter().filter(|write| *write == what).count();
    let counts = ["create replicaset", "patch replicaset", "patch service", "patch rollout"].map(count);
    assert_eq!(counts, [1, 2, 2, 1], "{:#?}", world.writes);
    assert!(count("patch rollout/status") <= 5, "{:#?}", world.writes);
}

#[test]
fn an_update_promotes_itself_after_its_time_or_earlier_when_somebody_does() {
    const AFTER: &str = r#"{ "autoPromotionSeconds": 60 }"#;
    let mut world = waiting(3, AFTER);
    assert_eq!(world.plan().blockers[0].next_at, Some(world.now + SignedDuration::from_secs(60)));
    world.pass(59);
    assert_eq!(world.served_by("active"), "v1");
    world.pass(1);
    assert_eq!((phase(&world).0, world.served_by("active").as_str()), (RolloutPhase::Healthy, "v2"));
    assert!(world.events.contains(&"RolloutResumed: Rollout is resumed".to_owned()), "{:#?}", world.events);

    let mut world = waiting(3, AFTER);
    promote(&mut world);
    assert_eq!((phase(&world).0, world.served_by("active").as_str()), (RolloutPhase::Healthy, "v2"));
}

#[test]
fn auto_promotion_that_is_off_ignores_its_seconds() {
    let mut world = waiting(1, r#"{ "autoPromotionEnabled": false, "autoPromotionSeconds": 5 }"#);
    world.pass(60);
    assert_eq!(world.served_by("active"), "v1");
}

#[test]
fn a_preview_is_small_until_it_is_promoted_and_grows_before_the_switch() {
    let mut world = waiting(5, r#"{ "autoPromotionEnabled": false, "previewReplicaCount": 2 }"#);
    assert_eq!((world.replicas("v1"), world.replicas("v2")), (5, 2));
    world.outcomes.insert("v2".to_owned(), Outcome::Never);
    promote(&mut world);
    let status = world.status();
    assert_eq!(status.blue_green.as_ref().unwrap().scale_up_preview_check_point, Some(true));
    assert!(!status.controller_pause());
    assert_eq!(
        (world.replicas("v2"), world.served_by("active").as_str()),
        (5, "v1"),
        "it has to be up first"
    );
    world.outcomes.clear();
    world.settle();
    assert_eq!((phase(&world).0, world.served_by("active").as_str()), (RolloutPhase::Healthy, "v2"));
    assert_eq!(world.status().blue_green.unwrap().scale_up_preview_check_point, None);
}

#[test]
fn a_preview_without_a_pause_still_comes_up_small_first() {
    let mut world = healthy(5, r#"{ "previewReplicaCount": 1 }"#);
    world.outcomes.insert("v2".to_owned(), Outcome::Never);
    world.set_image("v2");
    world.settle();
    assert_eq!(world.replicas("v2"), 1);
    world.outcomes.clear();
    world.settle();
    assert_eq!((world.replicas("v2"), world.served_by("active").as_str()), (5, "v2"));
}

/// Seed 109746: the plan that switched over made it a preview again as well, so that it served with fewer pods than are wanted.
#[test]
fn a_preview_that_has_grown_is_not_made_small_again_when_an_abort_is_taken_back() {
    let mut world = healthy(5, r#"{ "previewReplicaCount": 4 }"#);
    world.outcomes.insert("v2".to_owned(), Outcome::UpTo(4));
    world.set_image("v2");
    world.settle();
    assert_eq!((world.replicas("v2"), world.served_by("active").as_str()), (5, "v1"));
    world.patch_status(json!({ "abort": true }));
    world.settle();
    world.outcomes.clear();
    world.settle();
    assert_eq!((world.replicas("v2"), world.served_by("active").as_str()), (5, "v1"));
    world.patch_status(json!({ "abort": false }));
    let plan = world.plan();
    let resizes = plan.sets.iter().any(|action| match action {
        SetAction::Patch { write, .. } => write.patch.pointer("/spec/replicas").is_some(),
        _ => true,
    });
    assert!(!resizes && plan.services.len() == 1, "{:#?} {:#?}", plan.sets, plan.services);
    world.settle();
    assert_eq!((phase(&world).0, world.served_by("active").as_str()), (RolloutPhase::Healthy, "v2"));

    // With a pause before the switch it is a preview again.
    let mut world = waiting(5, r#"{ "autoPromotionEnabled": false, "previewReplicaCount": 4 }"#);
    world.outcomes.insert("v2".to_owned(), Outcome::UpTo(4));
    promote(&mut world);
    world.patch_status(json!({ "abort": true }));
    world.settle();
    world.outcomes.clear();
    world.settle();
    assert_eq!(world.replicas("v2"), 5);
    world.patch_status(json!({ "abort": false }));
    world.settle();
    assert_eq!((world.replicas("v2"), world.served_by("active").as_str()), (4, "v1"));
}

#[test]
fn a_full_promotion_skips_the_pause_but_not_the_pods() {
    let mut world = healthy(4, r#"{ "autoPromotionEnabled": false, "previewReplicaCount": 1 }"#);
    world.outcomes.insert("v2".to_owned(), Outcome::Never);
    world.set_image("v2");
    world.settle();
    world.patch_status(json!({ "promoteFull": true }));
    world.settle();
    assert_eq!((world.replicas("v2"), world.served_by("active").as_str()), (4, "v1"));
    world.outcomes.clear();
    world.settle();
    assert_eq!((phase(&world).0, world.served_by("active").as_str()), (RolloutPhase::Healthy, "v2"));
    assert!(!world.status().promote_full());
    assert!(world.events.last().unwrap().ends_with("Full promotion requested"), "{:#?}", world.events);
    assert_eq!(world.status().duration.unwrap().completion_status, Some(CompletionStatus::FastPromoted));
}

#[test]
fn an_abort_leaves_the_active_version_and_takes_the_preview_down_after_its_delay() {
    let mut world = waiting(3, MANUAL);
    world.patch_status(json!({ "abort": true }));
    world.settle();
    assert_eq!(phase(&world).0, RolloutPhase::Degraded);
    assert_eq!(
        condition(&world, &ConditionType::Progressing),
        (ConditionStatus::False, "RolloutAborted".to_owned())
    );
    assert_eq!((world.replicas("v2"), world.served_by("active").as_str()), (3, "v1"));
    world.pass(30);
    assert_eq!((world.replicas("v1"), world.replicas("v2")), (3, 0));
    world.pass(3600);
    assert_eq!(deadline(&world, "v2"), None, "what is down is down");

    world.patch_status(json!({ "abort": false }));
    world.settle();
    assert_eq!(phase(&world), (RolloutPhase::Paused, "BlueGreenPause".to_owned()), "it starts again");
    promote(&mut world);
    assert_eq!((phase(&world).0, world.served_by("active").as_str()), (RolloutPhase::Healthy, "v2"));
}

#[test]
fn a_status_of_an_older_spec_lets_no_switch_pass() {
    let mut world = waiting(3, r#"{ "autoPromotionEnabled": false, "abortScaleDownDelaySeconds": 1 }"#);
    world.patch_status(json!({ "abort": true }));
    world.settle();
    world.now += SignedDuration::from_secs(1);
    let down = world.plan();
    world.apply(&down);
    assert_eq!(world.replicas("v2"), 0);
    // Scaled up again before anybody counted the pods that are going.
    world.patch_status(json!({ "abort": false, "promoteFull": true }));
    for _ in 0..5 {
        let plan = world.plan();
        world.apply(&plan);
    }
    assert_eq!((world.replicas("v2"), world.served_by("active").as_str()), (3, "v1"));
    world.settle();
    assert_eq!((phase(&world).0, world.served_by("active").as_str()), (RolloutPhase::Healthy, "v2"));
}

#[test]
fn an_abort_with_no_delay_set_keeps_the_preview() {
    let mut world = waiting(2, r#"{ "autoPromotionEnabled": false, "abortScaleDownDelaySeconds": 0 }"#);
    world.patch_status(json!({ "abort": true }));
    world.settle();
    world.pass(3600);
    assert_eq!(world.replicas("v2"), 2);
}

#[test]
fn a_retry_within_the_delay_keeps_the_preview_and_needs_its_promotion_again() {
    let mut world = waiting(3, MANUAL);
    world.patch_status(json!({ "abort": true }));
    world.settle();
    world.pass(10);
    world.patch_status(json!({ "abort": false }));
    world.settle();
    assert_eq!(phase(&world), (RolloutPhase::Paused, "BlueGreenPause".to_owned()));
    assert_eq!((world.replicas("v2"), deadline(&world, "v2")), (3, None));
}

/// v2 is active, v1 in its scale-down delay.
fn switched(more: &str) -> World {
    let mut world = waiting(3, more);
    promote(&mut world);
    assert!(deadline(&world, "v1").is_some());
    world
}

#[test]
fn going_back_within_the_delay_needs_no_promotion() {
    let mut world = switched(MANUAL);
    world.pass(10);
    world.events.clear();
    world.set_image("v1");
    world.settle();
    assert_eq!((phase(&world).0, world.served_by("active").as_str()), (RolloutPhase::Healthy, "v1"));
    assert!(world.events.iter().any(|event| event.ends_with(": Fast rollback")), "{:#?}", world.events);
    assert_eq!(deadline(&world, "v1"), None);
    assert!(deadline(&world, "v2").is_some());
    assert_eq!(world.status().duration.unwrap().completion_status, Some(CompletionStatus::FastRolledBack));
}

#[test]
fn going_back_after_the_delay_is_an_update_like_any_other() {
    let mut world = switched(MANUAL);
    world.pass(31);
    assert_eq!(world.replicas("v1"), 0);
    world.set_image("v1");
    world.settle();
    assert_eq!(phase(&world), (RolloutPhase::Paused, "BlueGreenPause".to_owned()));
    promote(&mut world);
    assert_eq!(world.served_by("active"), "v1");
    assert_eq!(world.status().duration.unwrap().completion_status, Some(CompletionStatus::RolledBack));
}

#[test]
fn a_rollback_that_was_aborted_is_not_let_through_because_its_pods_are_still_up() {
    let mut world = switched(MANUAL);
    world.pass(31);
    world.set_image("v1");
    world.settle();
    world.patch_status(json!({ "abort": true }));
    world.settle();
    assert!(deadline(&world, "v1").is_some());
    world.patch_status(json!({ "abort": false }));
    world.settle();
    assert_eq!(phase(&world), (RolloutPhase::Paused, "BlueGreenPause".to_owned()));
    assert_eq!(world.served_by("active"), "v2");
}

#[test]
fn undoing_a_waiting_update_ends_it_at_once() {
    let mut world = waiting(3, MANUAL);
    world.set_image("v1");
    world.settle();
    assert_eq!(phase(&world), (RolloutPhase::Healthy, String::new()));
    assert_eq!((world.served_by("active").as_str(), world.served_by("preview").as_str()), ("v1", "v1"));
    world.pass(30);
    assert_eq!(world.replicas("v2"), 0);
}

#[test]
fn an_update_that_supersedes_a_waiting_one_waits_for_its_own_promotion() {
    let mut world = waiting(3, MANUAL);
    world.set_image("v3");
    world.settle();
    assert_eq!(phase(&world), (RolloutPhase::Paused, "BlueGreenPause".to_owned()));
    assert_eq!((world.served_by("active").as_str(), world.served_by("preview").as_str()), ("v1", "v3"));
    assert!(deadline(&world, "v2").is_some(), "the one between stays for its delay");
    promote(&mut world);
    assert_eq!(world.served_by("active"), "v3");
    world.pass(31);
    assert_eq!((world.replicas("v1"), world.replicas("v2"), world.replicas("v3")), (0, 0, 3));
}

#[test]
fn a_second_version_takes_over_from_a_first_that_never_came_up() {
    let mut world = World::blue_green(3, strategy(MANUAL));
    world.outcomes.insert("v1".to_owned(), Outcome::Never);
    world.settle();
    assert_eq!(phase(&world).0, RolloutPhase::Progressing);
    world.set_image("v2");
    world.settle();
    assert_eq!((phase(&world).0, world.served_by("active").as_str()), (RolloutPhase::Healthy, "v2"));
}

#[test]
fn the_deadline_runs_while_a_preview_does_not_come_up_and_not_while_it_waits() {
    let mut world = healthy(2, MANUAL);
    world.outcomes.insert("v2".to_owned(), Outcome::Never);
    world.set_image("v2");
    world.settle();
    world.pass(601);
    assert_eq!(condition(&world, &ConditionType::Progressing).1, "ProgressDeadlineExceeded");
    assert_eq!(world.served_by("active"), "v1");
    world.outcomes.clear();
    world.settle();
    assert_eq!(phase(&world).0, RolloutPhase::Paused, "it goes on once pods come up");
    world.pass(7200);
    assert_eq!(phase(&world).0, RolloutPhase::Paused);
    assert_eq!(condition(&world, &ConditionType::Progressing).1, "RolloutPaused");
}

#[test]
fn paused_by_hand_no_service_is_switched_and_sizes_follow_replicas() {
    let mut world = waiting(3, MANUAL);
    world.edit(|spec| spec["paused"] = json!(true));
    world.patch_status(json!({ "pauseConditions": null }));
    world.edit(|spec| spec["replicas"] = json!(5));
    world.settle();
    assert_eq!(phase(&world), (RolloutPhase::Paused, "manually paused".to_owned()));
    assert_eq!((world.replicas("v1"), world.replicas("v2")), (5, 5));
    assert_eq!(world.served_by("active"), "v1");
    world.edit(|spec| spec["paused"] = json!(false));
    world.settle();
    assert_eq!(world.served_by("active"), "v2", "it was promoted meanwhile");
}

#[test]
fn resizing_in_the_delay_resizes_the_old_version_too() {
    let mut world = switched(MANUAL);
    world.edit(|spec| spec["replicas"] = json!(5));
    world.settle();
    assert_eq!((world.replicas("v1"), world.replicas("v2")), (5, 5));
}

#[test]
fn a_service_that_is_missing_is_looked_for_before_the_spec_is_called_invalid() {
    let mut world = World::blue_green(2, json!({}));
    let active = world.services.remove("active").unwrap();
    let mut seen = world.observed();
    seen.absent_services.clear();
    let plan = crate::plan::plan(&seen, world.now);
    assert_eq!(plan.question, Some(Question::Services(vec!["active".to_owned()])));
    assert!(plan.rollout.status.is_none() && plan.sets.is_empty());

    world.settle();
    let (phase_now, message) = phase(&world);
    assert_eq!(phase_now, RolloutPhase::Degraded);
    assert!(
        message.contains(r#"activeService: Invalid value: "active": service "active" not found"#),
        "{message}"
    );
    assert!(world.sets.is_empty());
    let mut seen = world.observed();
    seen.absent_services.clear();
    assert_eq!(crate::plan::plan(&seen, world.now).question, None, "what is said need not be asked again");

    world.services.insert("active".to_owned(), active);
    world.settle();
    assert_eq!(phase(&world).0, RolloutPhase::Healthy);
}

#[test]
fn a_service_of_another_rollout_is_not_touched() {
    let mut world = World::blue_green(2, json!({}));
    world.services.get_mut("active").unwrap().managed_by = Some("other".to_owned());
    world.settle();
    assert!(
        phase(&world).1.contains(r#"Service "active" is managed by another Rollout"#),
        "{:?}",
        phase(&world)
    );
    assert_eq!(world.services["active"].managed_by.as_deref(), Some("other"));
}

#[test]
fn from_blue_green_to_canary_the_services_get_their_selectors_back() {
    let mut world = waiting(4, MANUAL);
    world.edit(|spec| {
        spec["strategy"] = json!({ "canary": { "steps": [{ "setWeight": 50 }, { "pause": {} }] } });
    });
    world.settle();
    assert_eq!(phase(&world), (RolloutPhase::Paused, "CanaryPauseStep".to_owned()));
    assert_eq!((world.replicas("v1"), world.replicas("v2")), (2, 2));
    for service in world.services.values() {
        assert_eq!((service.hash(), &service.managed_by), ("", &None), "{}", service.name);
    }
    assert_eq!(world.status().blue_green, None);
    promote(&mut world);
    assert_eq!((phase(&world).0, world.replicas("v2")), (RolloutPhase::Healthy, 4));
}

#[test]
fn from_canary_to_blue_green_in_the_middle_the_stable_version_serves_first() {
    let mut world = super::scenarios::healthy(4, super::scenarios::endless_pause());
    world.set_image("v2");
    world.settle();
    assert_eq!(phase(&world).0, RolloutPhase::Paused);
    world.edit(|spec| {
        spec["strategy"] = json!({ "blueGreen": {
            "activeService": "active", "previewService": "preview", "autoPromotionEnabled": false } });
    });
    world.settle();
    assert_eq!(phase(&world), (RolloutPhase::Paused, "BlueGreenPause".to_owned()));
    assert_eq!((world.replicas("v1"), world.replicas("v2")), (4, 4));
    assert_eq!((world.served_by("active").as_str(), world.served_by("preview").as_str()), ("v1", "v2"));
    promote(&mut world);
    assert_eq!((phase(&world).0, world.served_by("active").as_str()), (RolloutPhase::Healthy, "v2"));
}

/// Version v2 was replaced by v3 before anybody promoted it, and is set again while its pods are still up.
fn back_to_v2(mut world: World) {
    world.set_image("v3");
    world.settle();
    promote(&mut world);
    assert_eq!(world.served_by("active"), "v3");
    world.pass(10);
    world.set_image("v2");
    world.settle();
    assert_eq!((phase(&world).0, world.served_by("active").as_str()), (RolloutPhase::Paused, "v3"));
    promote(&mut world);
    assert_eq!(world.served_by("active"), "v2");
}

#[test]
fn a_version_that_was_aborted_and_replaced_waits_for_its_promotion() {
    let delays = r#"{ "autoPromotionEnabled": false, "abortScaleDownDelaySeconds": 600, "scaleDownDelaySeconds": 600 }"#;
    let mut world = waiting(3, delays);
    world.patch_status(json!({ "abort": true }));
    world.settle();
    world.pass(10);
    back_to_v2(world);
}

#[test]
fn a_preview_that_was_superseded_waits_for_its_promotion() {
    let one = r#"{ "autoPromotionEnabled": false, "scaleDownDelaySeconds": 600, "previewReplicaCount": 1 }"#;
    let mut world = waiting(3, one);
    world.pass(10);
    back_to_v2(world);
}

#[test]
fn a_rollback_that_was_aborted_waits_for_its_promotion() {
    let mut world = switched(MANUAL);
    world.pass(31);
    world.set_image("v1");
    world.settle();
    world.patch_status(json!({ "abort": true }));
    world.settle();
    world.set_image("v2");
    world.settle();
    world.pass(5);
    world.set_image("v1");
    world.settle();
    assert_eq!((phase(&world).0, world.served_by("active").as_str()), (RolloutPhase::Paused, "v2"));
}

#[test]
fn an_abort_after_the_switch_back_leaves_what_serves_its_pods() {
    let mut world = switched(MANUAL);
    world.pass(10);
    // It is broken: that is why it is left.
    world.outcomes.insert("v2".to_owned(), Outcome::Never);
    for set in world.sets.values_mut() {
        if set.template.pointer("/spec/containers/0/image") == Some(&json!("v2")) {
            (set.status.available, set.status.ready) = (0, 0);
        }
    }
    world.settle();
    world.set_image("v1");
    for _ in 0..20 {
        let plan = world.plan();
        world.apply(&plan);
        if world.served_by("active") == "v1" {
            break;
        }
    }
    assert_eq!(world.served_by("active"), "v1");
    world.patch_status(json!({ "abort": true }));
    world.settle();
    world.pass(60);
    assert_eq!((world.served_by("active").as_str(), world.replicas("v1")), ("v1", 3));
}
