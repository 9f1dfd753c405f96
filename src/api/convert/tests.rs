//! Properties of the conversion as a whole, over everything that the Rollout's definition admits.

use proptest::collection::{btree_map, vec};
use proptest::option::weighted;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Faults, Record, manifest, merge};
use crate::crd::{Rollout, definitions};
use crate::pb::v1;

/// How likely an optional field is present.
const PRESENT: f64 = 0.3;

/// Fields that stand for one choice, of which a message holds one.
const CHOICES: [&[&str]; 6] = [
    &["canary", "blueGreen"],
    &[
        "setWeight",
        "pause",
        "experiment",
        "analysis",
        "setCanaryScale",
        "setHeaderRoute",
        "setMirrorRoute",
        "plugin",
    ],
    &["weight", "replicas", "matchTrafficWeight"],
    &["exact", "prefix", "regex"],
    &["podTemplateHashValue", "fieldRef"],
    &["preferredDuringSchedulingIgnoredDuringExecution", "requiredDuringSchedulingIgnoredDuringExecution"],
];

/// Values that a schema admits and that mean something: nothing is present and empty.
fn meaningful(name: &str, schema: &Value) -> BoxedStrategy<Value> {
    if schema.get("x-kubernetes-int-or-string").is_some() {
        return prop_oneof![any::<i32>().prop_map(Value::from), "[0-9]{1,3}%?".prop_map(Value::from)].boxed();
    }
    match name {
        "operator" => return one_of(&["In", "NotIn", "Exists", "DoesNotExist"]),
        "specRef" => return one_of(&["canary", "stable"]),
        "podTemplateHashValue" => return one_of(&["Stable", "Latest"]),
        "replicaProgressThreshold.type" => return one_of(&["Percent", "Pods"]),
        "plugins" => return btree_map("[a-z]{1,4}", any_object(), 1..3).prop_map(|map| json!(map)).boxed(),
        _ => {}
    }
    match (schema["type"].as_str().unwrap(), schema.get("format").and_then(Value::as_str)) {
        ("boolean", _) => any::<bool>().prop_map(Value::from).boxed(),
        ("integer", _) => (1..i32::MAX).prop_map(Value::from).boxed(),
        ("string", Some("date-time")) => {
            (0..4_000_000_000_i64).prop_map(|s| json!(jiff::Timestamp::from_second(s).unwrap())).boxed()
        }
        ("string", _) => "[a-z]{1,8}".prop_map(Value::from).boxed(),
        ("array", _) => vec(meaningful(name, &schema["items"]), 1..3).prop_map(Value::from).boxed(),
        ("object", _) => object(name, schema),
        (other, _) => unreachable!("no schema of ours has type {other}"),
    }
}

fn one_of(texts: &'static [&'static str]) -> BoxedStrategy<Value> {
    prop::sample::select(texts).prop_map(Value::from).boxed()
}

fn any_object() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        Just(json!(0.5)),
        "[a-z]{0,4}".prop_map(Value::from),
        vec(any::<i32>(), 0..3).prop_map(Value::from),
    ];
    btree_map("[a-z]{1,4}", leaf, 0..3).prop_map(|map| Value::Object(map.into_iter().collect())).boxed()
}

fn object(name: &str, schema: &Value) -> BoxedStrategy<Value> {
    if let Some(values) = schema.get("additionalProperties") {
        let map = btree_map("[a-z]{1,8}", meaningful("", values), 1..3);
        return map.prop_map(|map| map.into_iter().collect()).boxed();
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object).filter(|map| !map.is_empty())
    else {
        // Of these two only the presence is known.
        let opaque = ["template", "config"].contains(&name);
        return if opaque { any_object() } else { Just(json!({})).boxed() };
    };
    let required = |name: &str| {
        schema.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|n| n == name))
    };
    let choices: Vec<&[&str]> = CHOICES
        .into_iter()
        .filter(|choice| choice.iter().filter(|field| properties.contains_key(**field)).count() > 1)
        // An experiment's template has both.
        .filter(|choice| choice[0] != "weight" || properties.contains_key("matchTrafficWeight"))
        .collect();
    let fields: Vec<BoxedStrategy<Option<(String, Value)>>> = properties
        .iter()
        .map(|(field, below)| {
            let path =
                if name == "replicaProgressThreshold" { format!("{name}.{field}") } else { field.clone() };
            let (value, key) = (meaningful(&path, below), field.clone());
            let named = value.prop_map(move |value| (key.clone(), value));
            if required(field) { named.prop_map(Some).boxed() } else { weighted(PRESENT, named).boxed() }
        })
        .collect();
    let name = name.to_owned();
    fields
        .prop_map(move |fields| {
            let mut fields: Map<String, Value> = fields.into_iter().flatten().collect();
            for choice in &choices {
                let given: Vec<&str> =
                    choice.iter().copied().filter(|field| fields.contains_key(*field)).collect();
                for surplus in given.iter().skip(1) {
                    fields.remove(*surplus);
                }
            }
            // Neither strategy is no strategy, to a message.
            if fields.get("strategy") == Some(&json!({})) {
                fields.remove("strategy");
            }
            // A route is known by its name.
            if name == "apisix" && fields.get("route").is_none_or(|route| route.get("name").is_none()) {
                fields.clear();
            }
            Value::Object(fields)
        })
        .boxed()
}

fn spec_schema() -> Value {
    let definition = definitions().swap_remove(0);
    let schema =
        definition.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    serde_json::to_value(schema.unwrap()).unwrap()["properties"]["spec"].take()
}

fn rollout(spec: Value) -> Rollout {
    let metadata =
        json!({ "name": "web", "namespace": "shop", "labels": { "a": "b" }, "annotations": { "c": "d" } });
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
}

fn shown(rollout: &Rollout) -> v1::Rollout {
    Record::Decoded(rollout).show(v1::View::Full)
}

/// Puts a field that nobody knows beside the known ones, at every level.
fn add_unknown_fields(schema: &Value, value: &mut Value) {
    if let Some(items) = value.as_array_mut() {
        items.iter_mut().for_each(|item| add_unknown_fields(&schema["items"], item));
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let Some(fields) = value.as_object_mut() else { return };
    for (name, below) in fields.iter_mut() {
        add_unknown_fields(&properties[name], below);
    }
    fields.insert("xUnknown".to_owned(), json!({ "kept": [1, null] }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_the_messages_know_comes_back_as_it_was(spec in meaningful("spec", &spec_schema())) {
        let stored = rollout(spec);
        let mut faults = Faults::default();
        let back = manifest(shown(&stored), &mut faults);
        prop_assert_eq!(faults.beyond(&Faults::default()), Vec::new());
        prop_assert_eq!(&back["spec"], &serde_json::to_value(&stored.spec).unwrap());
        prop_assert_eq!(&back["metadata"], &json!({ "labels": { "a": "b" }, "annotations": { "c": "d" } }));
    }

    #[test]
    fn a_change_leaves_everything_else_as_it_was(spec in meaningful("spec", &spec_schema())) {
        let mut json = serde_json::to_value(rollout(spec)).unwrap();
        add_unknown_fields(&spec_schema(), &mut json["spec"]);
        let stored: Rollout = serde_json::from_value(json.clone()).unwrap();
        let mut faults = Faults::default();
        let old = manifest(shown(&stored), &mut faults);
        let mut changed = shown(&stored);
        changed.labels.insert("team".to_owned(), "shop".to_owned());
        changed.spec.as_mut().unwrap().min_ready_seconds = Some(-7);
        let new = manifest(changed, &mut faults);
        let mut expected = json.clone();
        expected["metadata"]["labels"]["team"] = json!("shop");
        expected["spec"]["minReadySeconds"] = json!(-7);
        prop_assert_eq!(merge::three_way(&old, &new, &json), expected);
    }
}

#[test]
fn a_field_that_is_present_and_empty_is_left_alone() {
    let stored = rollout(json!({
        "rollbackWindow": { "revisions": 0 },
        "strategy": { "canary": { "steps": [], "canaryService": "", "trafficRouting": { "istio": {
            "virtualServices": [{ "name": "", "routes": [], "tcpRoutes": [{ "port": 0 }] }] } } } },
    }));
    let json = serde_json::to_value(&stored).unwrap();
    let mut faults = Faults::default();
    let old = manifest(shown(&stored), &mut faults);
    let mut changed = shown(&stored);
    changed.spec.as_mut().unwrap().replicas = Some(3);
    let new = manifest(changed, &mut faults);
    let mut expected = json.clone();
    expected["spec"]["replicas"] = json!(3);
    assert_eq!(merge::three_way(&old, &new, &json), expected);
}
