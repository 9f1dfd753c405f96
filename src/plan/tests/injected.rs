//! Ephemeral metadata and the status label (contract A2, A3, 4.1): on the templates of ReplicaSets and on live pods, never in the
//! rollout's template or hash.

use std::sync::Arc;

use serde_json::{Value, json};

use super::scenarios::{endless_pause, phase};
use super::world::World;
use crate::crd::{RolloutPhase, keys};
use crate::plan::{BlockerReason, ReplicaSet, Settings, StatusLabels, revision};

const STATUS: &str = "argo-rollouts-status";

fn with_status_labels(mut world: World) -> World {
    world.settings =
        Arc::new(Settings { status_labels: StatusLabels { enabled: true, ..StatusLabels::default() } });
    world
}

fn set<'a>(world: &'a World, image: &str) -> &'a ReplicaSet {
    let is_of_image = |set: &&ReplicaSet| set.template["spec"]["containers"][0]["image"] == image;
    world.sets.values().find(is_of_image).unwrap()
}

/// The value of a label in the template of the set with this image, and on all of its pods; `None` where they have none.
fn label(world: &World, image: &str, key: &str) -> Option<String> {
    let set = set(world, image);
    let value = set.template["metadata"]["labels"][key].as_str().map(str::to_owned);
    for pod in world.live.of(set) {
        assert_eq!(pod.marks.labels.get(key), value.as_ref(), "{key} of {}", pod.name);
    }
    value
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn metadata(role: &str) -> Value {
    json!({ "labels": { "role": role }, "annotations": { format!("is-{role}"): "yes" } })
}

/// Canary with an endless pause, and blue-green that waits for its promotion; with metadata for both roles.
fn strategies() -> [World; 2] {
    let mut canary = endless_pause();
    canary["canaryMetadata"] = metadata("new");
    canary["stableMetadata"] = metadata("leading");
    let blue_green = json!({ "autoPromotionEnabled": false, "previewMetadata": metadata("new"), "activeMetadata": metadata("leading") });
    [World::new(5, canary), World::blue_green(3, blue_green)]
}

fn promote(world: &mut World) {
    world.patch_status(json!({ "promoteFull": true }));
    world.settle();
    assert_eq!(phase(world).0, RolloutPhase::Healthy);
}

#[test]
fn pods_are_born_with_the_metadata_of_their_role_and_get_that_of_another_in_place() {
    for mut world in strategies() {
        world.settle();
        assert_eq!(label(&world, "v1", "role"), text("leading"));
        world.set_image("v2");
        world.settle();
        assert_eq!(
            (label(&world, "v1", "role"), label(&world, "v2", "role")),
            (text("leading"), text("new"))
        );
        assert_eq!(
            set(&world, "v2").annotations[keys::EPHEMERAL_METADATA],
            r#"{"labels":{"role":"new"},"annotations":{"is-new":"yes"}}"#
        );
        let pods: Vec<String> = world.live.of(set(&world, "v2")).iter().map(|pod| pod.uid.clone()).collect();
        assert!(!pods.is_empty());
        promote(&mut world);
        assert_eq!((label(&world, "v1", "role"), label(&world, "v2", "role")), (None, text("leading")));
        let after = world.live.of(set(&world, "v2"));
        assert!(pods.iter().all(|uid| after.iter().any(|pod| pod.uid == *uid)), "none restarts");
        assert!(after.iter().all(|pod| !pod.marks.annotations.contains_key("is-new")));
        world.check_labels();
        assert_eq!(
            set(&world, "v2").annotations.get(keys::WITHDRAWN_METADATA),
            None,
            "it is forgotten once it is gone"
        );
        assert_eq!(world.object["spec"]["template"]["metadata"], json!({ "labels": { "app": "web" } }));
    }
}

#[test]
fn the_hash_is_that_of_the_template_without_it() {
    for (mut with, mut without) in
        strategies().into_iter().zip([World::new(5, json!({})), World::blue_green(3, json!({}))])
    {
        with = with_status_labels(with);
        with.settle();
        without.settle();
        assert_eq!(with.status().current_pod_hash(), without.status().current_pod_hash());
        assert_eq!(revision::stripped(set(&with, "v1")), revision::stripped(set(&without, "v1")));
    }
}

#[test]
fn an_aborted_version_stays_a_canary_and_the_stable_one_stable() {
    let mut world = with_status_labels(strategies().into_iter().next().unwrap());
    world.settle();
    world.set_image("v2");
    world.settle();
    world.patch_status(json!({ "abort": true }));
    world.settle();
    assert_eq!((label(&world, "v1", STATUS), label(&world, "v2", STATUS)), (text("stable"), text("canary")));
    assert_eq!((label(&world, "v1", "role"), label(&world, "v2", "role")), (text("leading"), text("new")));
}

#[test]
fn a_label_that_the_template_has_itself_comes_back_on_promotion() {
    for mut world in strategies() {
        let strategy =
            if world.object["spec"]["strategy"]["canary"].is_object() { "canary" } else { "blueGreen" };
        for field in ["stableMetadata", "activeMetadata"] {
            world.object["spec"]["strategy"][strategy].as_object_mut().unwrap().remove(field);
        }
        world.object["spec"]["template"]["metadata"]["labels"]["role"] = json!("own");
        world.settle();
        assert_eq!(label(&world, "v1", "role"), text("own"));
        world.set_image("v2");
        world.settle();
        assert_eq!(label(&world, "v2", "role"), text("new"));
        assert_eq!(set(&world, "v2").annotations[keys::OVERRIDDEN_METADATA], r#"{"labels":{"role":"own"}}"#);
        assert_eq!(
            revision::stripped(set(&world, "v2"))["metadata"]["labels"],
            json!({ "app": "web", "role": "own" })
        );
        promote(&mut world);
        assert_eq!((label(&world, "v1", "role"), label(&world, "v2", "role")), (text("own"), text("own")));
        assert_eq!(set(&world, "v2").annotations.get(keys::OVERRIDDEN_METADATA), None);
        world.check_labels();
    }
}

/// Argo Rollouts overwrites such a label and notes nothing of it.
#[test]
fn a_label_of_the_template_that_argo_rollouts_overwrote_comes_back_on_promotion() {
    for mut world in strategies() {
        world.edit(|spec| {
            spec["template"]["metadata"]["labels"]["role"] = json!("own");
            for strategy in spec["strategy"].as_object_mut().unwrap().values_mut() {
                let fields = strategy.as_object_mut().unwrap();
                fields.retain(|field, _| !["stableMetadata", "activeMetadata"].contains(&field.as_str()));
            }
        });
        world.settle();
        world.set_image("v2");
        world.settle();
        let name = set(&world, "v2").name.clone();
        let theirs = world.sets.get_mut(&name).unwrap();
        theirs.annotations.remove(keys::OVERRIDDEN_METADATA).expect("it was noted by us");
        assert_eq!(theirs.template["metadata"]["labels"]["role"], "new");
        let before = world.sets.len();
        world.settle();
        promote(&mut world);
        assert_eq!((label(&world, "v1", "role"), label(&world, "v2", "role")), (text("own"), text("own")));
        assert_eq!(world.sets.len(), before);
        world.check_labels();
    }
}

#[test]
fn what_the_strategy_no_longer_says_is_taken_from_sets_and_pods() {
    for mut world in strategies() {
        world.settle();
        world.edit(|spec| {
            for strategy in spec["strategy"].as_object_mut().unwrap().values_mut() {
                strategy.as_object_mut().unwrap().retain(|field, _| !field.ends_with("Metadata"));
            }
        });
        world.settle();
        assert_eq!(label(&world, "v1", "role"), None);
        world.check_labels();
        let ours = [keys::EPHEMERAL_METADATA, keys::OVERRIDDEN_METADATA, keys::WITHDRAWN_METADATA];
        let annotations = &set(&world, "v1").annotations;
        assert!(ours.iter().all(|key| !annotations.contains_key(*key)), "{annotations:?}");
        assert_eq!(set(&world, "v1").template["metadata"]["annotations"], json!({}));
        assert_eq!(world.plan().labelling, None);
    }
}

#[test]
fn what_somebody_else_put_on_pods_stays() {
    let [mut world, _] = strategies();
    world.settle();
    world.live.relabel(|marks| {
        marks.labels.insert("team".to_owned(), "shop".to_owned());
    });
    world.set_image("v2");
    world.settle();
    promote(&mut world);
    world.edit(|spec| {
        spec["strategy"]["canary"]["stableMetadata"] = json!({ "labels": { "team": "others" } });
    });
    world.settle();
    assert_eq!(label(&world, "v2", "team"), text("others"));
}

#[test]
fn every_version_is_either_the_stable_one_or_a_canary() {
    let mut world = with_status_labels(World::new(5, endless_pause()));
    world.settle();
    assert_eq!(label(&world, "v1", STATUS), text("stable"));
    world.set_image("v2");
    world.settle();
    world.set_image("v3");
    world.settle();
    let labels = ["v1", "v2", "v3"].map(|image| label(&world, image, STATUS));
    assert_eq!(labels, [text("stable"), text("canary"), text("canary")]);
    promote(&mut world);
    let labels = ["v1", "v2", "v3"].map(|image| label(&world, image, STATUS));
    assert_eq!(labels, [text("canary"), text("canary"), text("stable")]);
}

#[test]
fn the_active_version_is_the_one_that_serves_and_the_old_one_is_told_before_it_leaves() {
    let mut world = with_status_labels(World::blue_green(3, json!({ "autoPromotionEnabled": false })));
    world.settle();
    assert_eq!(label(&world, "v1", STATUS), text("active"));
    world.set_image("v2");
    world.settle();
    assert_eq!((label(&world, "v1", STATUS), label(&world, "v2", STATUS)), (text("active"), text("preview")));
    promote(&mut world);
    assert_eq!(world.replicas("v1"), 3, "it stays up for a while");
    assert_eq!((label(&world, "v1", STATUS), label(&world, "v2", STATUS)), (text("preview"), text("active")));
    assert!(world.services.values().all(|service| !service.selector.contains_key(STATUS)));
    assert!(world.sets.values().all(|set| !set.selector.match_labels.as_ref().unwrap().contains_key(STATUS)));
}

#[test]
fn a_label_of_the_users_stands_and_is_reported() {
    let own =
        |world: &mut World| world.object["spec"]["template"]["metadata"]["labels"][STATUS] = json!("mine");
    let of_strategy = |world: &mut World| {
        world.object["spec"]["strategy"]["canary"]["stableMetadata"] =
            json!({ "labels": { STATUS: "mine" } });
    };
    for change in [&own as &dyn Fn(&mut World), &of_strategy] {
        let mut world = with_status_labels(World::new(2, endless_pause()));
        change(&mut world);
        world.settle();
        assert_eq!(label(&world, "v1", STATUS), text("mine"));
        let plan = world.plan();
        assert_eq!(
            plan.notices.iter().map(|notice| notice.reason).collect::<Vec<_>>(),
            ["StatusLabelNotSet"]
        );
        assert!(plan.blockers.is_empty());
        assert!(plan.labelling.unwrap().status_label.unwrap().is_anothers);
    }
}

#[test]
fn the_rollouts_annotation_outweighs_the_flag() {
    for (enabled, annotation, has) in
        [(false, "true", true), (true, "false", false), (true, "perhaps", true), (false, "perhaps", false)]
    {
        let mut world = World::new(2, json!({}));
        world.settings =
            Arc::new(Settings { status_labels: StatusLabels { enabled, ..StatusLabels::default() } });
        world.object["metadata"]["annotations"] = json!({ keys::STATUS_LABELS: annotation });
        world.settle();
        assert_eq!(label(&world, "v1", STATUS).is_some(), has, "{enabled} {annotation}");
        let notices: Vec<&str> = world.plan().notices.iter().map(|notice| notice.reason).collect();
        let expected: &[&str] = if annotation == "perhaps" { &["MetadataIgnored"] } else { &[] };
        assert_eq!(notices, expected, "{annotation}");
    }
}

#[test]
fn another_key_takes_the_place_of_the_one_before() {
    let mut world = with_status_labels(World::new(2, json!({})));
    world.settle();
    let status_labels = StatusLabels {
        enabled: true,
        key: "shop.io/is".to_owned(),
        stable: "good".to_owned(),
        ..StatusLabels::default()
    };
    world.settings = Arc::new(Settings { status_labels });
    world.settle();
    assert_eq!((label(&world, "v1", STATUS), label(&world, "v1", "shop.io/is")), (None, text("good")));
    world.check_labels();
}

#[test]
fn labels_that_pods_are_found_by_are_never_put_in() {
    let mut canary = endless_pause();
    canary["stableMetadata"] = json!({ "labels": { "app": "web", "role": "stable" } });
    let mut world = World::new(2, canary);
    world.settle();
    assert_eq!(set(&world, "v1").annotations[keys::EPHEMERAL_METADATA], r#"{"labels":{"role":"stable"}}"#);
    // What is always ours is passed over, with a warning.
    let mut change = |key: &str| {
        world.edit(|spec| {
            spec["strategy"]["canary"]["stableMetadata"]["labels"] =
                json!({ key: "other", "role": "stable" });
        });
        world.settle();
        (world.plan(), set(&world, "v1").annotations[keys::EPHEMERAL_METADATA].clone())
    };
    let (plan, given) = change(keys::POD_TEMPLATE_HASH);
    assert_eq!((plan.blockers, given.as_str()), (Vec::new(), r#"{"labels":{"role":"stable"}}"#));
    assert!(
        plan.notices.iter().any(|notice| notice.message.contains(keys::POD_TEMPLATE_HASH)),
        "{:?}",
        plan.notices
    );
    let (plan, _) = change("app");
    assert_eq!(plan.blockers[0].reason, BlockerReason::InvalidSpec);
    let message = &plan.blockers[0].message;
    assert!(message.contains("is a label that the rollout's pods are found by"), "{message}");
}

#[test]
fn going_back_by_copying_a_sets_template_finds_the_set_again() {
    for mut world in strategies().map(with_status_labels) {
        world.settle();
        world.set_image("v2");
        world.settle();
        promote(&mut world);
        // What kubectl's plugin does, injected labels and all.
        let mut template = (*set(&world, "v1").template).clone();
        assert!(template["metadata"]["labels"][STATUS].is_string());
        template["metadata"]["labels"].as_object_mut().unwrap().remove(keys::POD_TEMPLATE_HASH);
        world.edit(|spec| spec["template"] = template);
        world.settle();
        assert_eq!(world.sets.len(), 2, "{:?}", world.sets.keys());
        assert_eq!(set(&world, "v1").hash(), world.status().current_pod_hash());
        promote(&mut world);
        world.check_labels();
        // The set bears another value of the label by now than what was copied from it.
        world.edit(|spec| spec["replicas"] = json!(3));
        world.settle();
        assert_eq!(world.sets.len(), 2, "{:?}", world.sets.keys());
        assert_eq!(set(&world, "v1").hash(), world.status().current_pod_hash());
    }
}

#[test]
fn a_set_that_argo_rollouts_put_metadata_into_is_known_whatever_its_hash() {
    let [mut world, _] = strategies();
    world.settle();
    let name = world.sets.keys().next().unwrap().clone();
    let mut old = world.sets.remove(&name).unwrap();
    "web-older".clone_into(&mut old.name);
    old.labels.insert(keys::POD_TEMPLATE_HASH.to_owned(), "older".to_owned());
    let template = Arc::make_mut(&mut old.template);
    template["metadata"]["labels"][keys::POD_TEMPLATE_HASH] = json!("older");
    world.sets.insert(old.name.clone(), old);
    // Of a status that says nothing of the spec as it is.
    world.patch_status(json!({ "observedGeneration": "0", "currentPodHash": "older", "stableRS": "older" }));
    world.writes.clear();
    world.settle();
    assert_eq!(world.sets.len(), 1);
    assert!(!world.writes.iter().any(|write| write == "patch pod"), "{:?}", world.writes);
}

/// Whoever comes after a crash goes on with what the sets say.
#[test]
fn pods_are_changed_one_after_the_other_whenever_planning_is_interrupted() {
    for mut world in strategies().map(with_status_labels) {
        world.settle();
        world.set_image("v2");
        world.settle();
        world.patch_status(json!({ "promoteFull": true }));
        let mut counted = Vec::new();
        for _ in 0..200 {
            let mut plan = world.plan();
            counted.extend(plan.labelling.as_ref().map(|labelling| labelling.pods - labelling.lacking));
            let relabelling =
                plan.blockers.iter().any(|blocker| blocker.reason == BlockerReason::Relabelling);
            let lacking = plan.labelling.as_ref().is_some_and(|labelling| labelling.lacking > 0);
            assert_eq!(relabelling, lacking);
            plan.pods.truncate(1);
            if !world.apply(&plan) && !world.pods() {
                break;
            }
        }
        assert!(counted.windows(2).any(|pair| pair[0] + 1 == pair[1]), "{counted:?}");
        assert!(world.plan().labelling.unwrap().is_settled);
        assert_eq!(phase(&world).0, RolloutPhase::Healthy);
        world.check_labels();
    }
}

#[test]
fn a_refused_write_is_said_with_its_set() {
    let mut world = with_status_labels(World::new(2, json!({})));
    world.settle();
    let setback = crate::plan::Setback {
        attempt: crate::plan::Attempt::Label("web-1".to_owned()),
        reason: "Forbidden".to_owned(),
        message: "pods \"web-1-a\" is forbidden: User \"x\" cannot patch resource \"pods\" in API group \"\" in the namespace \"shop\"".to_owned(),
        since: world.now,
        next_try: None,
    };
    world.setbacks = vec![setback];
    let blocker = world.plan().blockers.remove(0);
    assert_eq!(blocker.reason, BlockerReason::PermissionMissing);
    assert_eq!(
        blocker.next,
        "tried again; grant the rule {apiGroups: [\"\"], resources: [\"pods\"], verbs: [\"patch\"]}"
    );
}
