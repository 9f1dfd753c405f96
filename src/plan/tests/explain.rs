//! What is said of waits, in tables: the pod that cannot run, the time that it may take, the Service that is missing.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::scenarios::{endless_pause, healthy};
use super::world::{Outcome, World};
use crate::crd::ConditionType;
use crate::plan::{
    Attempt, Blocker, BlockerReason, Object, Plan, Pod, PodFault, PodPart, Question, SetFailure, Setback,
};

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

/// A rollout whose second version does not come up. It begins at `world.now`, and nobody has looked at pods yet.
fn stuck() -> World {
    let mut world = healthy(5, endless_pause());
    world.outcomes.insert("v2".to_owned(), Outcome::Never);
    world.set_image("v2");
    world.settle();
    world
}

fn new_set(world: &World) -> String {
    format!("web-{}", world.status().current_pod_hash())
}

/// A pod of the new version that was created now and is not ready.
fn pod(world: &World, name: &str, fault: Option<PodFault>) -> Pod {
    Pod {
        name: name.to_owned(),
        set: format!("uid-{}", new_set(world)),
        created: world.now,
        unready_since: Some(world.now),
        fault,
        ..Pod::default()
    }
}

fn fault(part: PodPart, reason: &str, message: &str) -> Option<PodFault> {
    Some(PodFault { part, reason: reason.to_owned(), message: message.to_owned() })
}

fn blocker(world: &World, reason: BlockerReason) -> Blocker {
    let blockers = world.plan().blockers;
    let found = blockers.iter().find(|blocker| blocker.reason == reason).cloned();
    found.unwrap_or_else(|| panic!("{reason:?}: {blockers:#?}"))
}

#[test]
fn the_oldest_pod_that_cannot_run_is_named_with_what_keeps_it_from_running() {
    let web = || "web".to_owned();
    for (part, reason, message, condition, said, remedy) in [
        (
            PodPart::Container(web()),
            "ImagePullBackOff",
            "Back-off pulling image \"v2\"",
            "status.containerStatuses[web].state ImagePullBackOff/Running",
            "container \"web\": ImagePullBackOff: Back-off pulling image \"v2\"",
            "abort, or change the pod template",
        ),
        (
            PodPart::InitContainer(web()),
            "Error",
            "",
            "status.initContainerStatuses[web].state Error/Completed",
            "init container \"web\": Error",
            "abort, or change the pod template",
        ),
        (
            PodPart::Scheduling,
            "Unschedulable",
            "0/3 nodes are available",
            "status.conditions[PodScheduled] False/True",
            "Unschedulable: 0/3 nodes are available",
            "make room, abort, or change the pod template",
        ),
    ] {
        let mut world = stuck();
        let began = world.now;
        let failing = pod(&world, "web-b", fault(part, reason, message));
        world.now += seconds(60);
        let younger = Pod { name: "web-a".to_owned(), created: world.now, ..failing.clone() };
        world.pods = vec![younger, failing];
        let blocker = blocker(&world, BlockerReason::PodFailing);
        assert_eq!(blocker.object, Object::Pod("web-b".to_owned()));
        assert_eq!(blocker.condition, condition);
        assert_eq!(blocker.message, format!("pod \"web-b\": {said} (and 1 more of its set)"));
        assert_eq!(blocker.since, Some(began));
        assert_eq!(blocker.next, format!("the progress deadline passes, unless it runs before; {remedy}"));
        assert_eq!(blocker.next_at, Some(began + seconds(600)));
        assert_eq!(world.plan().blockers[0], blocker, "the cause first");
    }
}

#[test]
fn pods_that_are_not_available_say_since_when_and_for_how_long() {
    const LATER: &str = "the progress deadline passes, unless they are available before";
    let ready = |pod: Pod, at: Timestamp| Pod { ready_since: Some(at), unready_since: None, ..pod };
    for (min_ready, is_ready, next, next_after) in
        [(0, false, LATER, 600), (30, true, "they are available", 40), (30, false, LATER, 600)]
    {
        let mut world = stuck();
        let began = world.now;
        for set in world.sets.values_mut() {
            set.min_ready_seconds = min_ready;
        }
        let pods = [pod(&world, "web-a", None), pod(&world, "web-b", None)];
        world.pods = match is_ready {
            true => pods.map(|pod| ready(pod, began + seconds(10))).to_vec(),
            false => pods.to_vec(),
        };
        world.now += seconds(20);
        let blocker = blocker(&world, BlockerReason::PodsNotAvailable);
        let since = if is_ready { began + seconds(10) } else { began };
        assert_eq!(blocker.object, Object::ReplicaSet(new_set(&world)));
        assert_eq!(
            (blocker.condition.as_str(), blocker.since),
            ("status.availableReplicas 0/2", Some(since))
        );
        assert_eq!((blocker.next.as_str(), blocker.next_at), (next, Some(began + seconds(next_after))));
        assert_eq!(blocker.message.contains("pod \"web-a\" is not ready"), !is_ready, "{}", blocker.message);
    }
}

#[test]
fn without_a_look_at_pods_the_counts_speak() {
    let world = stuck();
    let blocker = blocker(&world, BlockerReason::PodsNotAvailable);
    assert_eq!((blocker.message.as_str(), blocker.since), ("0 of 2 pods are available", None));
}

#[test]
fn a_look_at_pods_changes_nothing_but_what_is_said() {
    let mut world = stuck();
    let before = world.plan();
    world.pods = vec![pod(&world, "web-a", fault(PodPart::Scheduling, "Unschedulable", "no room"))];
    let after = world.plan();
    assert_ne!(before.blockers, after.blockers);
    assert_eq!(before, Plan { blockers: before.blockers.clone(), ..after });
}

#[test]
fn pods_that_are_on_their_way_out_or_of_a_set_that_is_whole_are_no_cause() {
    let mut world = stuck();
    let failing = pod(&world, "web-a", fault(PodPart::Scheduling, "Unschedulable", "no room"));
    world.pods = vec![Pod { terminating: true, ..failing.clone() }];
    assert!(world.plan().blockers.iter().all(|blocker| blocker.reason != BlockerReason::PodFailing));
    world.outcomes.clear();
    world.settle();
    world.pods = vec![failing];
    let blockers = world.plan().blockers;
    assert_eq!(blockers.iter().map(|blocker| blocker.reason).collect::<Vec<_>>(), [BlockerReason::PauseStep]);
}

#[test]
fn a_deadline_that_has_passed_is_told_after_its_cause_and_names_no_other() {
    use BlockerReason::{PodFailing, PodsNotAvailable, ProgressDeadlineExceeded};
    let mut world = stuck();
    let began = world.now;
    world.pass(600);
    let failing =
        pod(&world, "web-a", fault(PodPart::Container("web".to_owned()), "CrashLoopBackOff", "back-off"));
    world.pods = vec![failing];
    let reasons: Vec<_> = world.plan().blockers.iter().map(|blocker| blocker.reason).collect();
    assert_eq!(reasons, [PodFailing, ProgressDeadlineExceeded, PodsNotAvailable]);
    assert_eq!(blocker(&world, ProgressDeadlineExceeded).since, Some(began + seconds(600)));
    let failing = blocker(&world, PodFailing);
    assert_eq!(failing.next, "the cluster tries again; abort, or change the pod template");
    assert_eq!(failing.next_at, None);
}

#[test]
fn a_quota_is_named() {
    for (message, next) in [
        (
            "pods \"web-a\" is forbidden: exceeded quota: few, requested: pods=1, used: pods=3, limited: pods=3",
            "the cluster tries again; raise ResourceQuota \"few\", or free some of it",
        ),
        ("denied by policy", "the cluster tries again"),
    ] {
        let mut world = stuck();
        let (set, since) = (new_set(&world), world.now);
        let failure = SetFailure {
            status: "True".to_owned(),
            reason: "FailedCreate".to_owned(),
            message: message.to_owned(),
            since,
        };
        world.sets.get_mut(&set).unwrap().status.failure = Some(failure);
        let blocker = &world.plan().blockers[0];
        assert_eq!(blocker.reason, BlockerReason::ReplicaFailure);
        assert_eq!((blocker.message.as_str(), blocker.next.as_str()), (message, next));
        assert_eq!((blocker.object.clone(), blocker.since), (Object::ReplicaSet(set), Some(since)));
    }
}

#[test]
fn a_pause_says_what_comes_after_it() {
    let mut world = healthy(5, endless_pause());
    let began = world.now;
    world.set_image("v2");
    world.settle();
    let pause = blocker(&world, BlockerReason::PauseStep);
    assert_eq!(pause.condition, "status.currentStepIndex 1/2");
    assert_eq!(pause.next, "promote it, then step 2 runs (setWeight: 80)");
    assert_eq!((pause.since, pause.next_at), (Some(began), None));
    world.patch_status(json!({ "pauseConditions": null }));
    world.settle();
    let pause = blocker(&world, BlockerReason::PauseStep);
    assert_eq!(
        (pause.condition.as_str(), pause.next.as_str()),
        ("status.currentStepIndex 3/4", "the new version takes over")
    );
    assert_eq!(pause.next_at, Some(began + seconds(10)));
}

#[test]
fn each_fault_of_a_spec_is_told() {
    let mut world = healthy(3, json!({}));
    world.now += seconds(5);
    world.edit(|spec| {
        spec["strategy"]["canary"]["steps"] = json!([{ "setWeight": 101 }, { "setWeight": -1 }]);
    });
    let blockers = world.plan().blockers;
    let conditions: Vec<_> = blockers.iter().map(|blocker| blocker.condition.as_str()).collect();
    let field = |index: usize| format!("spec.strategy.canary.steps[{index}].setWeight valid");
    assert_eq!(conditions, [field(0), field(1)]);
    assert!(blockers.iter().all(|blocker| blocker.since == Some(world.now)));
    world.edit(|spec| spec["strategy"]["canary"]["steps"] = json!(vec![json!({ "setWeight": 101 }); 1000]));
    assert_eq!(world.plan().blockers.len(), 16);
}

#[test]
fn a_fault_of_a_spec_is_there_since_the_status_names_it() {
    let mut world = healthy(3, json!({}));
    let mut since = Vec::new();
    for weight in [101, 102, 102] {
        world.now += seconds(5);
        world.edit(|spec| {
            spec["strategy"]["canary"]["steps"] = json!([{ "setWeight": weight }, { "pause": {} }]);
        });
        world.settle();
        world.now += seconds(5);
        since.push(
            world.now.duration_since(blocker(&world, BlockerReason::InvalidSpec).since.unwrap()).as_secs(),
        );
    }
    assert_eq!(since, [5, 5, 15]);
    let status = world.status();
    let condition = status.condition(&ConditionType::InvalidSpec).unwrap();
    assert_eq!(world.now.duration_since(condition.last_transition_time.instant()), seconds(25));
}

#[test]
fn a_missing_service_is_an_object_of_its_own() {
    let mut world = World::blue_green(2, json!({}));
    let preview = world.services.remove("preview").unwrap();
    let missing = blocker(&world, BlockerReason::ServiceMissing);
    assert_eq!(missing.object, Object::Service("preview".to_owned()));
    assert_eq!((missing.condition.as_str(), missing.since), ("exists", Some(world.now)));
    world.services.insert(
        "preview".to_owned(),
        crate::plan::Service { managed_by: Some("shop".to_owned()), ..preview },
    );
    let foreign = blocker(&world, BlockerReason::InvalidSpec);
    assert_eq!(foreign.object, Object::Service("preview".to_owned()));
    assert_eq!(foreign.condition, "spec.strategy.blueGreen.previewService valid");
}

#[test]
fn a_question_that_is_not_answered_is_told() {
    let world = World::blue_green(2, json!({}));
    let mut seen = world.observed();
    seen.services.retain(|service| service.name != "preview");
    seen.absent_services.clear();
    let attempt = Attempt::LookForService("preview".to_owned());
    let message = "services \"preview\" is forbidden: User \"x\" cannot get resource \"services\" in API group \"\" in the namespace \"shop\"";
    seen.setbacks = vec![Setback {
        attempt,
        reason: "Forbidden".to_owned(),
        message: message.to_owned(),
        since: world.now,
        next_try: Some(world.now),
    }];
    let plan = crate::plan::plan(&seen, world.now);
    assert_eq!(plan.question, Some(Question::Services(vec!["preview".to_owned()])));
    assert_eq!(plan.blockers[0].reason, BlockerReason::PermissionMissing);
    assert_eq!(plan.blockers[0].condition, "allowed to get services in namespace \"shop\"");
}

#[test]
fn who_does_not_lead_knows_of_a_refused_creation_by_the_status() {
    let mut world = healthy(3, endless_pause());
    world.set_image("v2");
    world.refuse_creation("denied by policy");
    world.settle_without_creating();
    let (set, since) = (new_set(&world), world.now);
    world.setbacks.clear();
    let blocker = &world.plan().blockers[0];
    assert_eq!((blocker.reason, blocker.message.as_str()), (BlockerReason::WriteRefused, "denied by policy"));
    assert_eq!((blocker.object.clone(), blocker.since), (Object::ReplicaSet(set), Some(since)));
}
