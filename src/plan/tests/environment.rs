//! The environment of pods (docs/environment.md): which version's pods have which, and a change that is taken back.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::world::World;
use crate::crd::keys;
use crate::plan::{BlockerReason, ReplicaSet, revision};

const CANARY: &str = r#"{"LEVEL":"debug"}"#;
const STABLE: &str = r#"{"LEVEL":"info"}"#;

fn strategies() -> [World; 2] {
    let steps = json!([{ "setWeight": 40 }, { "pause": {} }]);
    [World::new(5, json!({ "steps": steps })), World::blue_green(5, json!({ "autoPromotionEnabled": false }))]
}

fn with_environment(mut world: World) -> World {
    world.edit_metadata(json!({ "annotations": {
        keys::CANARY_ENVIRONMENT: CANARY,
        keys::STABLE_ENVIRONMENT: STABLE,
        keys::ENVIRONMENT_VOLUME: r#"{"container":"web","mountPath":"/live"}"#,
    } }));
    world
}

fn set<'a>(world: &'a World, image: &str) -> &'a ReplicaSet {
    let is_of_image = |set: &&ReplicaSet| set.template["spec"]["containers"][0]["image"] == image;
    world.sets.values().find(is_of_image).unwrap()
}

/// The environment of a version, on the template of its set, which all its pods have.
fn environment(world: &World, image: &str) -> String {
    let set = set(world, image);
    let annotations = set.template["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    for pod in world.live.of(set) {
        assert_eq!(json!(pod.marks.annotations), json!(annotations), "{} follows its set", pod.name);
    }
    let text = annotations.get(keys::ENVIRONMENT).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

fn promote(world: &mut World) {
    world.patch_status(json!({ "pauseConditions": null }));
    world.settle();
}

#[test]
fn each_version_has_the_environment_of_what_it_is_and_hashes_do_not_know_of_it() {
    for (mut plain, mut world) in strategies().into_iter().zip(strategies().map(with_environment)) {
        for world in [&mut plain, &mut world] {
            world.settle();
            world.set_image("v2");
            world.settle();
        }
        assert!(world.sets.keys().eq(plain.sets.keys()), "it is no part of the hash");
        assert_eq!(environment(&world, "v1"), "LEVEL=\"info\"\n");
        assert_eq!(environment(&world, "v2"), "LEVEL=\"debug\"\n");
        let files = &set(&world, "v2").template["spec"]["volumes"][0]["downwardAPI"]["items"];
        let files: Vec<&Value> = files.as_array().unwrap().iter().map(|file| &file["path"]).collect();
        assert_eq!(files, ["environment", "LEVEL"]);
        assert!(plain.sets.values().all(|set| set.template["spec"]["volumes"].is_null()));

        let before = set(&world, "v2").replicas;
        promote(&mut world);
        assert_eq!(environment(&world, "v2"), "LEVEL=\"info\"\n", "{before} pods were promoted");
        assert_eq!(
            set(&world, "v2").template["metadata"]["annotations"]["rolloutd.dev/environment.LEVEL"],
            "info"
        );
    }
}

#[test]
fn a_change_reaches_the_pods_that_run_and_is_forgotten_when_it_has_proved_good() {
    for mut world in strategies().map(with_environment) {
        world.settle();
        world.pass(1000);
        world.settle();
        world.writes.clear();
        world.edit_metadata(
            json!({ "annotations": { keys::STABLE_ENVIRONMENT: r#"{"LEVEL":"error","NEW":"1"}"# } }),
        );
        world.settle();
        assert_eq!(environment(&world, "v1"), "LEVEL=\"error\"\nNEW=\"1\"\n");
        let annotations = set(&world, "v1").annotations.clone();
        assert!(
            annotations[keys::ENVIRONMENT_STATE].contains("\"good\":{\"LEVEL\":\"info\"}"),
            "{annotations:?}"
        );
        assert_eq!(world.plan().wake_at, Some(world.now + SignedDuration::from_mins(5)));
        let of_sets = world.writes.iter().filter(|write| write.contains("replicaset")).count();
        assert_eq!(of_sets, 1, "{:?}", world.writes);
        world.pass(300);
        world.settle();
        assert!(!set(&world, "v1").annotations.contains_key(keys::ENVIRONMENT_STATE));
        assert!(world.plan().sets.is_empty());
        world.edit_metadata(json!({ "annotations": { keys::STABLE_ENVIRONMENT: null } }));
        world.settle();
        assert_eq!(environment(&world, "v1"), "");
    }
}

#[test]
fn pods_that_turn_unready_get_back_what_they_had_and_the_rollout_keeps_its_word() {
    for mut world in strategies().map(with_environment) {
        world.settle();
        let bad = r#"{"LEVEL":"loud"}"#;
        world.edit_metadata(json!({ "annotations": { keys::STABLE_ENVIRONMENT: bad } }));
        world.settle();
        world.pass(30);
        world.pods = world.live.all();
        world.pods[1].unready_since = Some(world.now);
        world.settle();
        assert_eq!(environment(&world, "v1"), "LEVEL=\"info\"\n");
        let events: Vec<&String> =
            world.events.iter().filter(|event| event.starts_with("EnvironmentTakenBack: ")).collect();
        assert_eq!(events.len(), 1);
        assert!(events[0].contains(&world.pods[1].name), "{events:?}");
        assert_eq!(world.object["metadata"]["annotations"][keys::STABLE_ENVIRONMENT], bad);
        let plan = world.plan();
        assert_eq!((plan.sets.len(), plan.blockers.len()), (0, 1));
        assert_eq!(plan.blockers[0].reason, BlockerReason::EnvironmentTakenBack);

        world.pass(3600);
        world.pods.clear();
        world.settle();
        assert_eq!(environment(&world, "v1"), "LEVEL=\"info\"\n", "it is not tried again by itself");
        world.edit_metadata(json!({ "annotations": { keys::STABLE_ENVIRONMENT: STABLE } }));
        world.settle();
        assert!(world.plan().blockers.is_empty());
    }
}

#[test]
fn what_cannot_be_read_or_must_not_be_given_leaves_pods_as_they_are() {
    for bad in ["LEVEL=loud", r#"{"DB_PASSWORD":"x"}"#] {
        for mut world in strategies().map(with_environment) {
            world.settle();
            world.writes.clear();
            world.edit_metadata(json!({ "annotations": { keys::STABLE_ENVIRONMENT: bad } }));
            world.settle();
            assert_eq!(world.writes, [""; 0]);
            assert_eq!(environment(&world, "v1"), "LEVEL=\"info\"\n");
            let notices = world.plan().notices;
            assert_eq!((notices.len(), notices[0].reason), (1, "MetadataIgnored"));
            world.edit_metadata(json!({ "annotations": { keys::CANARY_ENVIRONMENT: bad } }));
            world.set_image("v2");
            world.settle();
            assert_eq!(environment(&world, "v2"), "", "a new version has none then");
        }
    }
}

#[test]
fn what_was_put_into_a_set_is_left_out_where_templates_are_compared() {
    for mut world in strategies().map(with_environment) {
        world.settle();
        let set = set(&world, "v1");
        assert_ne!(set.template["spec"], world.object["spec"]["template"]["spec"]);
        assert_eq!(revision::stripped(set), world.object["spec"]["template"]);
    }
}

/// The largest environment of such a value that is accepted.
fn largest(world: &World, character: char) -> String {
    let of = |count: usize| json!({ "LEVEL": character.to_string().repeat(count) }).to_string();
    let is_accepted = |count: usize| {
        let mut object = world.object.clone();
        object["metadata"]["annotations"][keys::STABLE_ENVIRONMENT] = json!(of(count));
        let rollout = crate::crd::Rollout::decode(&object).unwrap();
        crate::validate::environment(&rollout, crate::validate::Side::Stable).is_ok()
    };
    let (mut fits, mut does_not) = (0_usize, 256 * 1024);
    while does_not - fits > 1 {
        let middle = fits.midpoint(does_not);
        if is_accepted(middle) { fits = middle } else { does_not = middle }
    }
    of(fits)
}

#[test]
fn the_largest_environments_fit_into_the_annotations_of_a_set() {
    for character in ['x', '\u{1}', '"', '$', '\n', 'ß'] {
        let mut world = with_environment(World::new(2, json!({})));
        world.edit_metadata(json!({ "annotations": { "note": "x".repeat(70_000) } }));
        for largest in [largest(&world, character), largest(&world, 'y')] {
            world.edit_metadata(json!({ "annotations": { keys::STABLE_ENVIRONMENT: largest } }));
            world.settle();
            let bytes = set(&world, "v1").annotations.iter().map(|(key, value)| key.len() + value.len());
            let bytes: usize = bytes.sum();
            assert!(bytes > 140_000 && bytes <= 256 * 1024, "{character:?}: {bytes}");
            world.pass(1000);
            world.settle();
        }
    }
}
