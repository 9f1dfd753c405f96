//! Rollouts that take their pod template from a workload.

use std::sync::Arc;

use serde_json::{Value, json};

use super::scenarios::{endless_pause, phase};
use super::world::{Outcome, World};
use crate::crd::{RolloutPhase, WorkloadKind, WorkloadName, keys};
use crate::plan::{Attempt, BlockerReason, Object, Question, Setback, Workload};

fn named() -> WorkloadName {
    WorkloadName { kind: WorkloadKind::Deployment, name: "legacy".to_owned() }
}

/// A rollout that refers to a Deployment with so many replicas.
fn referring(replicas: i32, had: i32, scale_down: &str, canary: Value) -> World {
    let mut world = World::new(replicas, canary);
    let template = world.object["spec"]["template"].take();
    let selector = serde_json::from_value(world.object["spec"]["selector"].take()).unwrap();
    let spec = world.object["spec"].as_object_mut().unwrap();
    spec.remove("template");
    spec.remove("selector");
    spec.insert(
        "workloadRef".to_owned(),
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "legacy", "scaleDown": scale_down }),
    );
    world.workload = Some(Workload {
        name: named(),
        uid: "uid-legacy".to_owned(),
        resource_version: "1".to_owned(),
        generation: 1,
        replicas: had,
        selector: Some(selector),
        template: Arc::new(template),
    });
    world
}

fn deployed(world: &World) -> i32 {
    world.workload.as_ref().unwrap().replicas
}

fn note(world: &World, key: &str) -> Option<String> {
    world.object["metadata"]["annotations"][key].as_str().map(str::to_owned)
}

#[test]
fn the_workloads_template_is_rolled_out_and_its_generation_noted() {
    let mut world = referring(3, 3, "never", endless_pause());
    world.settle();
    assert_eq!((world.replicas("v1"), deployed(&world)), (3, 3));
    assert_eq!(note(&world, keys::WORKLOAD_GENERATION).as_deref(), Some("1"));
    assert_eq!(world.status().workload_observed_generation.as_deref(), Some("1"));
    assert_eq!(world.status().selector.as_deref(), Some("app=web"), "the Deployment's, since it has none");
    let set = world.sets.values().next().unwrap();
    assert!(!set.annotations.contains_key(keys::WORKLOAD_GENERATION));
    assert!(world.object["spec"].get("template").is_none(), "it stays the Deployment's");

    world.edit_workload("v2");
    world.settle();
    assert_eq!(phase(&world), (RolloutPhase::Paused, "CanaryPauseStep".to_owned()));
    assert!(world.replicas("v2") > 0);
    assert_eq!(note(&world, keys::WORKLOAD_GENERATION).as_deref(), Some("2"));
    assert_eq!(world.status().workload_observed_generation.as_deref(), Some("2"));
}

#[test]
fn a_status_of_the_workloads_template_keeps_hashes_that_another_algorithm_made() {
    let mut world = referring(2, 2, "never", endless_pause());
    world.settle();
    // As a release left it that hashed otherwise.
    let hash = world.status().current_pod_hash().to_owned();
    let mut set = world.sets.pop_first().unwrap().1;
    set.labels.insert(keys::POD_TEMPLATE_HASH.to_owned(), "older".to_owned());
    world.sets.insert(set.name.clone(), set);
    world.patch_status(json!({ "currentPodHash": "older", "stableRS": "older" }));
    assert!(world.plan().sets.is_empty(), "it is adopted as it is");
    // Replicas of the Deployment are none of the template: the set is found by that.
    world.workload.as_mut().unwrap().generation = 7;
    world.settle();
    assert_eq!(world.sets.len(), 1, "no set of hash {hash} is created");
    assert_eq!(world.status().current_pod_hash(), "older");
}

#[test]
fn steps_are_not_run_again_because_the_workload_was_scaled() {
    let mut world = referring(5, 5, "never", endless_pause());
    world.settle();
    world.edit_workload("v2");
    world.settle();
    assert_eq!(world.status().current_step_index, Some(1));
    // A step hash of another algorithm, which only a status of this spec vouches for.
    world.patch_status(json!({ "currentStepHash": "older" }));
    world.workload.as_mut().unwrap().generation += 1;
    world.settle();
    assert_eq!(world.status().current_step_index, Some(1));
    assert_eq!(world.status().current_step_hash(), "older");
}

#[test]
fn onsuccess_takes_the_deployments_pods_once_the_rollout_is_healthy() {
    let mut world = referring(3, 5, "onsuccess", json!({}));
    world.outcomes.insert("v1".to_owned(), Outcome::UpTo(2));
    world.settle();
    assert_eq!(deployed(&world), 5, "it is not healthy");
    assert_eq!(note(&world, keys::WORKLOAD_REPLICAS).as_deref(), Some("5"));
    world.outcomes.clear();
    world.settle();
    assert_eq!(deployed(&world), 0);
    assert!(world.events.contains(&"ScalingWorkload: Scaled down Deployment legacy from 5 to 0".to_owned()));
    assert_eq!(note(&world, keys::WORKLOAD_REPLICAS), None, "it is over");
    assert_eq!(phase(&world).0, RolloutPhase::Healthy);
    assert_eq!(world.plan().blockers, []);

    // Later revisions leave it alone, whoever scales it.
    world.edit_workload("v2");
    world.settle();
    world.scale_workload(4);
    world.settle();
    assert_eq!(deployed(&world), 4);
}

#[test]
fn a_first_version_that_fails_does_not_end_the_takeover() {
    for mode in ["onsuccess", "progressively"] {
        let mut world = referring(3, 3, mode, json!({}));
        world.outcomes.insert("v1".to_owned(), Outcome::Never);
        world.settle();
        assert_eq!(deployed(&world), 3, "{mode}");
        world.edit_workload("v2");
        world.settle();
        world.pass(60);
        assert_eq!(phase(&world).0, RolloutPhase::Healthy, "{mode}");
        assert_eq!((deployed(&world), world.replicas("v2")), (0, 3), "{mode}");
    }
}

#[test]
fn progressively_gives_and_takes_as_pods_become_available() {
    for (replicas, had, available, kept) in
        [(5, 5, 0, 5), (5, 5, 1, 4), (5, 5, 4, 1), (3, 5, 1, 4), (3, 5, 2, 3), (8, 5, 2, 5), (8, 5, 4, 4)]
    {
        let mut world = referring(replicas, had, "progressively", json!({}));
        world.outcomes.insert("v1".to_owned(), Outcome::UpTo(available));
        world.settle();
        assert_eq!(deployed(&world), kept, "{available} of {replicas}, beside {had}");
        // They fail again: what was given is given back.
        world.outcomes.insert("v1".to_owned(), Outcome::UpTo(0));
        world.settle();
        assert_eq!(deployed(&world), had);
        world.outcomes.clear();
        world.settle();
        assert_eq!((deployed(&world), note(&world, keys::WORKLOAD_REPLICAS)), (0, None));
    }
}

/// Seed 9659: what was given back then nobody took any more.
#[test]
fn a_takeover_that_is_over_is_not_begun_again_before_that_is_noted() {
    let mut world = referring(3, 3, "progressively", json!({}));
    world.settle();
    world.object["metadata"]["annotations"][keys::WORKLOAD_REPLICAS] = json!("3");
    world.object["spec"]["replicas"] = json!(5);
    let plan = world.plan();
    assert!(plan.workload.is_none(), "{:?}", plan.workload);
    world.settle();
    assert_eq!((deployed(&world), note(&world, keys::WORKLOAD_REPLICAS)), (0, None));
    assert_eq!(phase(&world).0, RolloutPhase::Healthy);
}

#[test]
fn an_abort_during_the_takeover_gives_back() {
    let mut world = referring(4, 4, "progressively", endless_pause());
    world.outcomes.insert("v1".to_owned(), Outcome::UpTo(1));
    world.settle();
    assert_eq!(deployed(&world), 3);
    world.edit_workload("v2");
    world.settle();
    let given = deployed(&world);
    assert!(given < 3, "the canary's pods count: {given}");
    // As long as the canary's pods are needed they stay, and the Deployment's need not come back.
    world.patch_status(json!({ "abort": true }));
    world.settle();
    let available: i32 = world.sets.values().map(|set| set.status.available).sum();
    assert!(deployed(&world) + available >= 4);
    world.outcomes.insert("v2".to_owned(), Outcome::UpTo(0));
    world.settle();
    assert_eq!(deployed(&world), 3, "what only the canary made up for");
    assert!(world.plan().blockers.iter().any(|blocker| blocker.reason == BlockerReason::Aborted));
}

#[test]
fn nothing_but_a_deployment_is_scaled() {
    for (kind, api_version, mode) in [
        (WorkloadKind::ReplicaSet, "apps/v1", "onsuccess"),
        (WorkloadKind::PodTemplate, "v1", "progressively"),
    ] {
        let mut world = referring(2, 2, mode, json!({}));
        world.workload.as_mut().unwrap().name.kind = kind;
        world.edit(|spec| {
            spec["workloadRef"]["kind"] = json!(kind.as_str());
            spec["workloadRef"]["apiVersion"] = json!(api_version);
        });
        world.settle();
        assert_eq!((phase(&world).0, deployed(&world)), (RolloutPhase::Healthy, 2));
        assert_eq!(note(&world, keys::WORKLOAD_REPLICAS), None);
    }
}

#[test]
fn a_missing_workload_is_looked_for_and_then_named() {
    let mut world = referring(2, 2, "never", json!({}));
    let workload = world.workload.take();
    assert_eq!(world.plan().question, Some(Question::Workload(named())));
    world.workload_is_absent = true;
    world.settle();
    let said = "InvalidSpec: The Rollout \"web\" is invalid: spec.workloadRef.name: Invalid value: \"legacy\": Deployment \"legacy\" not found";
    assert_eq!(phase(&world), (RolloutPhase::Degraded, said.to_owned()));
    let blocker = &world.plan().blockers[0];
    assert_eq!(
        (blocker.reason, &blocker.object),
        (BlockerReason::WorkloadMissing, &Object::Workload(named()))
    );
    // It comes into being.
    world.workload = workload;
    world.settle();
    assert_eq!(phase(&world).0, RolloutPhase::Healthy);
}

#[test]
fn a_workload_that_does_not_fit_is_named_with_the_field() {
    let mut world = referring(2, 2, "never", json!({}));
    world.edit(|spec| spec["selector"] = json!({ "matchLabels": { "app": "other" } }));
    world.settle();
    let blocker = &world.plan().blockers[0];
    assert_eq!((blocker.reason, &blocker.object), (BlockerReason::InvalidSpec, &Object::Workload(named())));
    assert_eq!(blocker.condition, "spec.template.metadata.labels valid");
    assert_eq!(
        world.status().workload_observed_generation.as_deref(),
        Some("1"),
        "it is about this template"
    );
    assert_eq!(note(&world, keys::WORKLOAD_GENERATION).as_deref(), Some("1"));

    let mut both = referring(2, 2, "never", json!({}));
    both.edit(|spec| spec["template"] = json!({ "metadata": { "labels": { "app": "web" } } }));
    both.settle();
    let (_, message) = phase(&both);
    assert!(message.contains("spec.template: Forbidden: template must be empty"), "{message}");

    let mut other = referring(2, 2, "never", json!({}));
    other.edit(|spec| spec["workloadRef"]["kind"] = json!("StatefulSet"));
    other.settle();
    let (_, message) = phase(&other);
    assert!(
        message.contains("spec.workloadRef.kind: Unsupported value: \"apps/v1 StatefulSet\""),
        "{message}"
    );
}

#[test]
fn steps_that_changed_while_the_workload_did_not_fit_are_not_forgotten() {
    let mut world = referring(5, 5, "never", endless_pause());
    world.settle();
    world.edit_workload("v2");
    world.settle();
    assert_eq!(world.status().current_step_index, Some(1));
    let relabel = |world: &mut World, app: &str| {
        let workload = world.workload.as_mut().unwrap();
        Arc::make_mut(&mut workload.template)["metadata"]["labels"]["app"] = json!(app);
        workload.generation += 1;
    };
    relabel(&mut world, "other");
    world.edit(|spec| {
        spec["selector"] = json!({ "matchLabels": { "app": "web" } });
        spec["strategy"] =
            json!({ "canary": { "steps": [{ "setWeight": 20 }, { "setWeight": 60 }, { "pause": {} }] } });
    });
    world.settle();
    assert_eq!(phase(&world).0, RolloutPhase::Degraded);
    relabel(&mut world, "web");
    world.settle();
    assert_eq!(world.status().current_step_index, Some(2), "the new steps run from their beginning");
}

#[test]
fn a_right_that_is_missing_is_named_and_holds_nothing_else_up() {
    let mut world = referring(2, 3, "onsuccess", json!({}));
    world.settle_with(|plan| plan.workload = None);
    assert!(world.plan().workload.is_some());
    let message = "deployments.apps \"legacy\" is forbidden: User \"x\" cannot patch resource \"deployments\" in API group \"apps\" in the namespace \"shop\"";
    world.setbacks = vec![Setback {
        attempt: Attempt::Workload(named()),
        reason: "Forbidden".to_owned(),
        message: message.to_owned(),
        since: world.now,
        next_try: Some(world.now),
    }];
    let plan = world.plan();
    let blocker = &plan.blockers[0];
    assert_eq!(
        (blocker.reason, &blocker.object),
        (BlockerReason::PermissionMissing, &Object::Workload(named()))
    );
    assert!(
        blocker.next.contains("{apiGroups: [\"apps\"], resources: [\"deployments\"], verbs: [\"patch\"]}")
    );
    world.edit_workload("v2");
    world.settle_with(|plan| plan.workload = None);
    assert_eq!(world.replicas("v2"), 2);
}

#[test]
fn a_rollout_that_refers_no_more_forgets_the_workload() {
    let mut world = referring(2, 2, "never", json!({}));
    world.settle();
    let (template, selector) = {
        let workload = world.workload.take().unwrap();
        ((*workload.template).clone(), json!(workload.selector))
    };
    world.edit(|spec| {
        spec.as_object_mut().unwrap().remove("workloadRef");
        spec["template"] = template;
        spec["selector"] = selector;
    });
    world.settle();
    assert_eq!((world.sets.len(), phase(&world).0), (1, RolloutPhase::Healthy));
    assert_eq!(note(&world, keys::WORKLOAD_GENERATION), None);
    assert_eq!(world.status().workload_observed_generation, None);
}

#[test]
fn what_cannot_be_decoded_is_left_out_and_told() {
    let mut world = World::new(2, json!({}));
    world.edit(|spec| {
        spec["template"]["spec"]["containers"][0]["resources"] =
            json!({ "limits": { "memory": "invalid", "cpu": "1" } });
    });
    world.settle();
    let set = world.sets.values().next().unwrap();
    assert_eq!(set.template["spec"]["containers"][0]["resources"], json!({ "limits": { "cpu": "1" } }));
    assert_eq!(phase(&world).0, RolloutPhase::Healthy);
    let plan = world.plan();
    let told = "spec.template.spec.containers[0].resources.limits[memory]: \"invalid\" is not a quantity such as 100m or 1Gi; \
                it is left out of the pods";
    assert_eq!(plan.notices.iter().map(|notice| notice.message.as_str()).collect::<Vec<_>>(), [told]);
    assert_eq!(
        (plan.blockers[0].reason, plan.blockers[0].message.as_str()),
        (BlockerReason::MalformedObject, told)
    );

    // Without the field the template is the same: no new version.
    world.edit(|spec| {
        spec["template"]["spec"]["containers"][0]["resources"]["limits"]
            .as_object_mut()
            .unwrap()
            .remove("memory");
    });
    world.settle();
    assert_eq!((world.sets.len(), world.plan().notices.len(), world.plan().blockers.len()), (1, 0, 0));
}
