//! Tests that whatever the Rollout's schema admits decodes, and encodes to the same JSON.
//!
//! The generator reads the schema that is derived from the types, so no field can be forgotten, and puts
//! unknown fields beside the known ones at every level.

use proptest::collection::{btree_map, vec};
use proptest::option::weighted;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::schema::structural;
use super::{Rollout, RolloutSpec, RolloutStatus};

/// How likely an optional field is present: enough for deep objects, few enough for small ones.
const PRESENT: f64 = 0.3;

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map("[a-z]{1,6}", inner, 0..3).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// Values that a schema admits, with unknown fields.
fn admitted(schema: &Value) -> BoxedStrategy<Value> {
    if schema.get("x-kubernetes-int-or-string").is_some() {
        return prop_oneof![any::<i32>().prop_map(Value::from), "[0-9]{0,3}%?".prop_map(Value::from)].boxed();
    }
    match (schema["type"].as_str().unwrap(), schema.get("format").and_then(Value::as_str)) {
        ("boolean", _) => any::<bool>().prop_map(Value::from).boxed(),
        ("integer", Some("int64")) => any::<i64>().prop_map(Value::from).boxed(),
        ("integer", _) => any::<i32>().prop_map(Value::from).boxed(),
        ("string", Some("date-time")) => prop_oneof![
            (0..4_000_000_000_i64).prop_map(|s| json!(jiff::Timestamp::from_second(s).unwrap())),
            Just(json!("2026-11-21T07:37:43+02:00")),
            Just(json!("2026-11-21T05:37:43.250Z")),
        ]
        .boxed(),
        ("string", _) => "\\PC{0,12}".prop_map(Value::from).boxed(),
        ("array", _) => vec(admitted(&schema["items"]), 0..3).prop_map(Value::from).boxed(),
        ("object", _) => object(schema),
        (other, _) => unreachable!("no schema of ours has type {other}"),
    }
}

fn object(schema: &Value) -> BoxedStrategy<Value> {
    if let Some(values) = schema.get("additionalProperties") {
        let map = btree_map("[a-z./]{1,8}", admitted(values), 0..3);
        return map.prop_map(|map| map.into_iter().collect()).boxed();
    }
    let required = |name: &str| {
        schema.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|n| n == name))
    };
    let known: Vec<BoxedStrategy<Option<(String, Value)>>> = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(name, below)| {
            let field = (Just(name.clone()), admitted(below));
            if required(name) { field.prop_map(Some).boxed() } else { weighted(PRESENT, field).boxed() }
        })
        .collect();
    let unknown = btree_map("x[A-Z][a-z]{1,5}", any_json(), 0..2);
    (known, unknown)
        .prop_map(|(known, unknown)| known.into_iter().flatten().chain(unknown).collect::<Map<_, _>>().into())
        .boxed()
}

fn rollout() -> impl Strategy<Value = Value> {
    let metadata = json!({ "name": "web", "namespace": "shop", "uid": "1", "generation": 3,
        "creationTimestamp": "2026-11-21T05:37:43Z", "labels": { "a": "b" }, "annotations": {} });
    let spec = admitted(&structural::<RolloutSpec>().into());
    let status = weighted(0.8, admitted(&structural::<RolloutStatus>().into()));
    let unknown = btree_map("x[A-Z][a-z]{1,5}", any_json(), 0..2);
    (spec, status, unknown).prop_map(move |(spec, status, unknown)| {
        let mut whole: Map<_, _> = unknown.into_iter().collect();
        whole.insert("apiVersion".into(), "argoproj.io/v1alpha1".into());
        whole.insert("kind".into(), "Rollout".into());
        whole.insert("metadata".into(), metadata.clone());
        whole.insert("spec".into(), spec);
        whole.extend(status.map(|status| ("status".into(), status)));
        whole.into()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_the_schema_admits_decodes_and_encodes_to_the_same_json(json in rollout()) {
        let decoded: Rollout = serde_json::from_value(json.clone()).unwrap();
        prop_assert_eq!(serde_json::to_value(&decoded).unwrap(), json.clone());
        let text = serde_json::to_string(&json).unwrap();
        let from_text: Rollout = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(from_text, decoded);
    }
}
