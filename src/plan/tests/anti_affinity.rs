//! antiAffinity: pods of a new version keep away from those of the stable one (contract A2, A3).

use serde_json::{Value, json};

use super::scenarios::phase;
use super::world::World;
use crate::crd::{RolloutPhase, keys};
use crate::plan::revision;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn required() -> Value {
    json!({ REQUIRED: {} })
}

fn strategies(rules: &Value) -> [World; 2] {
    let steps = json!([{ "setWeight": 40 }, { "pause": {} }]);
    [
        World::new(5, json!({ "steps": steps, "antiAffinity": rules })),
        World::blue_green(5, json!({ "autoPromotionEnabled": false, "antiAffinity": rules })),
    ]
}

fn hash(world: &World, image: &str) -> String {
    let is_of_image = |template: &Value| template["spec"]["containers"][0]["image"] == image;
    let set = world.sets.values().find(|set| is_of_image(&set.template)).unwrap();
    set.hash().to_owned()
}

/// What pods of an image are created with.
fn affinity(world: &World, image: &str) -> Value {
    let hash = hash(world, image);
    world.sets.values().find(|set| set.hash() == hash).unwrap().template["spec"]["affinity"].clone()
}

fn term(hash: &str) -> Value {
    json!({
        "labelSelector": { "matchExpressions": [
            { "key": "rollouts-pod-template-hash", "operator": "In", "values": [hash] },
        ] },
        "namespaces": ["shop"],
        "topologyKey": "kubernetes.io/hostname",
    })
}

#[test]
fn pods_of_a_new_version_keep_away_from_those_of_the_stable_one() {
    for (rules, expected) in [
        (required(), (|hash| json!({ REQUIRED: [term(hash)] })) as fn(&str) -> Value),
        (
            json!({ PREFERRED: { "weight": 7 } }),
            |hash| json!({ PREFERRED: [{ "weight": 7, "podAffinityTerm": term(hash) }] }),
        ),
    ] {
        for mut world in strategies(&rules) {
            world.settle();
            assert_eq!(affinity(&world, "v1"), Value::Null, "there is nothing to keep away from");
            world.set_image("v2");
            world.settle();
            let stable = hash(&world, "v1");
            assert_eq!(affinity(&world, "v2"), json!({ "podAntiAffinity": expected(&stable) }));
            assert_eq!(affinity(&world, "v1"), Value::Null);
            assert_eq!(world.object["spec"]["template"]["spec"]["affinity"], Value::Null);
        }
    }
}

#[test]
fn the_rule_stands_beside_those_of_the_template() {
    let own = json!({
        "nodeAffinity": { "x": 1 },
        "podAntiAffinity": { REQUIRED: [{ "topologyKey": "zone" }], PREFERRED: [] },
    });
    for mut world in strategies(&required()) {
        world.object["spec"]["template"]["spec"]["affinity"] = own.clone();
        world.settle();
        world.set_image("v2");
        world.settle();
        let stable = hash(&world, "v1");
        let mut expected = own.clone();
        expected["podAntiAffinity"][REQUIRED] = json!([{ "topologyKey": "zone" }, term(&stable)]);
        expected["podAntiAffinity"].as_object_mut().unwrap().remove(PREFERRED);
        let mut found = affinity(&world, "v2");
        found["podAntiAffinity"].as_object_mut().unwrap().remove(PREFERRED);
        assert_eq!(found, expected);
    }
}

#[test]
fn the_rule_is_no_part_of_the_version() {
    for mut world in strategies(&required()) {
        world.settle();
        world.set_image("v2");
        world.settle();
        let with_rule = hash(&world, "v2");
        let set = world.sets.values().find(|set| set.hash() == with_rule).unwrap();
        assert_eq!(revision::stripped(set), world.object["spec"]["template"]);
        // Found by its template alone, as a set with the hash of another release is.
        let found = world.sets.values_mut().find(|set| set.hash() == with_rule).unwrap();
        found.labels.insert(keys::POD_TEMPLATE_HASH.to_owned(), "made-by-another".to_owned());
        world.patch_status(json!({ "observedGeneration": "0", "currentPodHash": "made-by-another" }));
        world.settle();
        assert_eq!(world.sets.len(), 2, "{:#?}", world.events);
        assert_eq!(world.status().current_pod_hash(), "made-by-another");
    }
}

#[test]
fn a_version_that_comes_back_keeps_away_from_the_one_that_is_stable_then_and_a_promoted_one_is_left_alone() {
    for mut world in strategies(&required()) {
        world.settle();
        for image in ["v2", "v3"] {
            world.set_image(image);
            world.settle();
            world.patch_status(json!({ "promoteFull": true }));
            world.settle();
            world.pass(60);
            assert_eq!(phase(&world).0, RolloutPhase::Healthy);
        }
        let second = hash(&world, "v2");
        assert_eq!(affinity(&world, "v3"), json!({ "podAntiAffinity": { REQUIRED: [term(&second)] } }));
        let third = hash(&world, "v3");
        for image in ["v1", "v2"] {
            world.set_image(image);
            world.settle();
            assert_eq!(affinity(&world, image), json!({ "podAntiAffinity": { REQUIRED: [term(&third)] } }));
        }
        world.set_image("v3");
        world.settle();
        assert_eq!(affinity(&world, "v3"), json!({ "podAntiAffinity": { REQUIRED: [term(&second)] } }));
    }
}

#[test]
fn a_rule_of_another_kind_takes_the_place_of_the_one_there_is() {
    for mut world in strategies(&required()) {
        world.settle();
        world.set_image("v2");
        world.settle();
        world.edit(|spec| {
            let name = if spec["strategy"]["canary"].is_null() { "blueGreen" } else { "canary" };
            spec["strategy"][name]["antiAffinity"] = json!({ PREFERRED: { "weight": 3 } });
        });
        world.settle();
        let stable = hash(&world, "v1");
        let preferred = json!({ PREFERRED: [{ "weight": 3, "podAffinityTerm": term(&stable) }] });
        assert_eq!(affinity(&world, "v2"), json!({ "podAntiAffinity": preferred }));
    }
}
