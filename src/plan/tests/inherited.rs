//! Custom labels: what ReplicaSets inherit of their Rollout (docs/labels.md).

use serde_json::{Value, json};

use super::world::World;
use crate::crd::keys;

fn strategies() -> [World; 2] {
    let steps = json!([{ "setWeight": 40 }, { "pause": {} }]);
    let mut worlds = [
        World::new(5, json!({ "steps": steps })),
        World::blue_green(5, json!({ "autoPromotionEnabled": false })),
    ];
    for world in &mut worlds {
        world.edit_metadata(json!({
            "labels": { "team": "a", "app": "rollout", "helm.sh/chart": "web-1" },
            "annotations": { "note": "1", "argocd.argoproj.io/tracking-id": "web" },
        }));
    }
    worlds
}

fn metadata(world: &World) -> Vec<(Value, Value)> {
    let of = |set: &crate::plan::ReplicaSet| {
        let (mut labels, mut annotations) = (json!(set.labels), json!(set.annotations));
        labels.as_object_mut().unwrap().remove(keys::POD_TEMPLATE_HASH);
        let ours = |key: &str| key.starts_with("rollout") || key == keys::SCALE_DOWN_DEADLINE;
        annotations.as_object_mut().unwrap().retain(|key, _| !ours(key));
        (labels, annotations)
    };
    world.sets.values().map(of).collect()
}

#[test]
fn sets_are_born_with_the_labels_of_the_rollout_and_pods_without() {
    for mut world in strategies() {
        world.settle();
        world.set_image("v2");
        world.settle();
        let expected = (json!({ "app": "web", "team": "a" }), json!({ "note": "1" }));
        assert_eq!(metadata(&world), [expected.clone(), expected]);
        for set in world.sets.values() {
            let template = &set.template["metadata"];
            assert_eq!(template["labels"], json!({ "app": "web", keys::POD_TEMPLATE_HASH: set.hash() }));
            assert_eq!(template["annotations"], Value::Null);
        }
    }
}

#[test]
fn a_label_that_changes_later_reaches_every_set_by_one_patch_each_and_no_pod() {
    for mut world in strategies() {
        world.settle();
        world.set_image("v2");
        world.settle();
        world.set_image("v3");
        world.settle();
        let templates: Vec<Value> = world.sets.values().map(|set| (*set.template).clone()).collect();
        assert_eq!(templates.len(), 3);
        for (patch, labels) in [
            (json!({ "team": "b", "cost": "7" }), json!({ "app": "web", "team": "b", "cost": "7" })),
            (json!({ "team": null }), json!({ "app": "web", "cost": "7" })),
        ] {
            world.writes.clear();
            world.edit_metadata(json!({ "labels": patch }));
            world.settle();
            assert_eq!(world.writes, ["patch replicaset"; 3]);
            assert_eq!(metadata(&world), vec![(labels, json!({ "note": "1" })); 3]);
        }
        let after: Vec<Value> = world.sets.values().map(|set| (*set.template).clone()).collect();
        assert_eq!(after, templates);
        world.writes.clear();
        world.edit_metadata(
            json!({ "annotations": { keys::INHERIT_LABELS: "none", keys::INHERIT_ANNOTATIONS: "none" } }),
        );
        world.settle();
        assert_eq!(world.writes, ["patch replicaset"; 3]);
        // Older versions keep the annotations that they were made with.
        let newest = world.status().current_pod_hash().to_owned();
        let notes = world
            .sets
            .values()
            .map(|set| if set.hash() == newest { json!({}) } else { json!({ "note": "1" }) });
        let expected: Vec<_> = notes.map(|notes| (json!({ "app": "web" }), notes)).collect();
        assert_eq!(metadata(&world), expected);
    }
}

#[test]
fn what_a_stored_rollout_has_no_say_in_is_named_and_changes_nothing() {
    for mut world in strategies() {
        world.edit_metadata(json!({
            "labels": { keys::POD_TEMPLATE_HASH: "mine" },
            "annotations": { keys::INHERIT_LABELS: "some" },
        }));
        world.settle();
        let set = world.sets.values().next().unwrap();
        assert_ne!(set.labels[keys::POD_TEMPLATE_HASH], "mine");
        assert_eq!(set.labels["team"], "a");
        let notices: Vec<String> = world.plan().notices.into_iter().map(|notice| notice.message).collect();
        assert_eq!(notices.len(), 2, "{notices:?}");
        assert!(
            notices[0].starts_with("metadata.labels[rollouts-pod-template-hash]: Forbidden"),
            "{}",
            notices[0]
        );
        assert!(
            notices[1]
                .starts_with("metadata.annotations[rolloutd.dev/inherit-labels]: Invalid value: \"some\"")
        );
    }
}
