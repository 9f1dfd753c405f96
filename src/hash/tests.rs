//! Vectors made by the reference, properties of the two kinds of hash, and what malformed values say.
//!
//! tests/data/go_vectors.json covers every field of the type table, quantity_vectors.json all forms of
//! quantities. Both were written by a Go program over k8s.io/api v0.34 and Argo Rollouts v1.10.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::*;

const REFERENCE_VECTORS: &str = include_str!("../../tests/data/hash_vectors.json");
const GO_VECTORS: &str = include_str!("../../tests/data/go_vectors.json");
const QUANTITY_VECTORS: &str = include_str!("../../tests/data/quantity_vectors.json");

/// A template or a list of steps, the JSON Go writes for it, and the reference's hash.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    note: String,
    template: Option<Value>,
    steps: Option<Value>,
    collision_count: Option<i32>,
    go_json: String,
    hash: String,
}

fn vectors() -> Vec<Vector> {
    let read = |text: &str| serde_json::from_str::<Vec<Vector>>(text).unwrap();
    [read(REFERENCE_VECTORS), read(GO_VECTORS)].concat()
}

#[test]
fn templates_hash_as_in_the_reference() {
    for Vector { note, template, collision_count, go_json, hash, .. } in vectors() {
        let Some(template) = template else { continue };
        assert_eq!(go_template_json(&template).unwrap(), go_json, "{note}");
        assert_eq!(pod_template_hash(&template, collision_count).unwrap().as_str(), hash, "{note}");
    }
}

#[test]
fn steps_hash_as_in_the_reference() {
    for Vector { note, template, steps, go_json, hash, .. } in vectors() {
        if template.is_some() {
            continue;
        }
        let steps = steps.unwrap_or(Value::Null);
        assert_eq!(encode(&steps_type(), &steps).json, go_json, "{note}");
        assert_eq!(step_hash(&steps).unwrap().as_str(), hash, "{note}");
    }
}

#[test]
fn quantities_are_read_and_written_as_kubernetes_does() {
    let rows: Vec<Vec<Value>> = serde_json::from_str(QUANTITY_VECTORS).unwrap();
    for row in rows {
        let read = Quantity::from_json(&row[0]);
        let [_, written, canonical, milli] = row.as_slice() else {
            assert_eq!(read, None, "{}", row[0]);
            continue;
        };
        let read = read.unwrap_or_else(|| panic!("{} is a quantity", row[0]));
        assert_eq!(read.to_string(), *written, "{}", row[0]);
        assert_eq!(read.canonical(), *canonical, "{}", row[0]);
        assert_eq!(read.rounded_up_to_milli().to_string(), *milli, "{}", row[0]);
    }
}

#[test]
fn quantities_compare_by_value() {
    let ascending =
        ["-1Gi", "-1.5", "-1", "-1n", "0", "1n", "999u", "1m", "0.5", "1", "1001m", "1023", "1Ki", "1M"];
    let quantity = |text: &str| text.parse::<Quantity>().unwrap();
    for (left_rank, left) in ascending.iter().enumerate() {
        for (right_rank, right) in ascending.iter().enumerate() {
            assert_eq!(quantity(left).cmp(&quantity(right)), left_rank.cmp(&right_rank), "{left} {right}");
        }
    }
    for equal in [["1Gi", "1073741824"], ["1000m", "1"], ["0", "-0Mi"], ["1e3", "1k"], ["1E", "1e18"]] {
        assert_eq!(quantity(equal[0]), quantity(equal[1]));
    }
    let huge = ["99999999999999999999999999999999999999", "1e30", "1e-2147483000", "1e2147483000"];
    assert!(quantity(huge[0]) > quantity(huge[1]) && quantity(huge[2]) < quantity(huge[3]));
}

#[test]
fn a_quantity_too_long_for_anything_is_refused() {
    for text in ["1".repeat(39), format!("0.{}", "1".repeat(39)), format!("{}Ei", "1".repeat(30))] {
        assert_eq!(text.parse::<Quantity>(), Err(QuantityError::TooLong), "{text}");
    }
}

#[test]
fn a_value_that_cannot_be_held_is_named_with_its_path() {
    let cases = [
        (json!(5), "5 is not an object"),
        (json!({ "spec": [] }), "spec: [] is not an object"),
        (json!({ "metadata": { "labels": { "app": 5 } } }), "metadata.labels[app]: 5 is not a string"),
        (json!({ "spec": { "containers": {} } }), "spec.containers: {} is not a list"),
        (
            json!({ "spec": { "containers": [{}, { "resources": { "limits": { "memory": "invalid" } } }] } }),
            "spec.containers[1].resources.limits[memory]: \"invalid\" is not a quantity such as 100m or 1Gi",
        ),
        (json!({ "spec": { "priority": 1.5 } }), "spec.priority: 1.5 is not a 32-bit integer"),
        (
            json!({ "spec": { "priority": 3_000_000_000_u64 } }),
            "spec.priority: 3000000000 is not a 32-bit integer",
        ),
        (json!({ "spec": { "hostNetwork": "yes" } }), "spec.hostNetwork: \"yes\" is not true or false"),
        (
            json!({ "metadata": { "creationTimestamp": "now" } }),
            "metadata.creationTimestamp: \"now\" is not an RFC 3339 time",
        ),
    ];
    for (template, message) in cases {
        assert_eq!(pod_template_hash(&template, None).unwrap_err().to_string(), message);
        assert_eq!(effective_template_hash(&template, None).unwrap_err().to_string(), message);
        assert_eq!(go_template_json(&template).unwrap_err().to_string(), message);
    }
    let steps = json!([{ "setWeight": 20 }, { "setWeight": "40" }]);
    assert_eq!(step_hash(&steps).unwrap_err().to_string(), "[1].setWeight: \"40\" is not a 32-bit integer");
}

#[test]
fn all_malformed_values_are_found_at_once() {
    let template =
        json!({ "spec": { "hostPID": 1, "containers": [{ "args": ["a", 5, true], "tty": "x" }] } });
    let paths: Vec<_> =
        malformed_template_fields(&template).iter().map(|error| error.path.to_string()).collect();
    assert_eq!(
        paths,
        [
            "spec.containers[0].args[1]",
            "spec.containers[0].args[2]",
            "spec.containers[0].tty",
            "spec.hostPID"
        ]
    );
}

#[test]
fn a_field_that_only_we_do_not_know_changes_the_effective_hash_alone() {
    let plain = json!({ "spec": { "containers": [{ "name": "app" }] } });
    let with = |value: Value| json!({ "spec": { "containers": [{ "name": "app", "newer": value }] } });
    let reference = pod_template_hash(&plain, None).unwrap();
    assert_eq!(effective_template_hash(&plain, None).unwrap(), reference);
    assert_eq!(effective_template_hash(&with(Value::Null), None).unwrap(), reference);
    let effective = |value: Value| effective_template_hash(&with(value), None).unwrap();
    for value in [json!(1), json!(2), json!("1"), json!({}), json!({ "a": 1, "b": [2] })] {
        assert_eq!(pod_template_hash(&with(value.clone()), None).unwrap(), reference);
        assert_ne!(effective(value), reference);
    }
    assert_ne!(effective(json!(1)), effective(json!(2)));
    assert_eq!(effective(json!({ "a": 1, "b": 2 })), effective(json!({ "b": 2, "a": 1 })));
    let elsewhere = json!({ "spec": { "containers": [{ "name": "app" }], "newer": 1 } });
    assert_ne!(effective(json!(1)), effective_template_hash(&elsewhere, None).unwrap());
}

#[test]
fn a_step_field_that_only_we_do_not_know_changes_the_effective_hash_alone() {
    let with = |value: Value| json!([{ "pause": { "duration": "1m" }, "newer": value }]);
    let reference = step_hash(&with(Value::Null)).unwrap();
    assert_eq!(effective_step_hash(&with(Value::Null)).unwrap(), reference);
    assert_eq!(step_hash(&with(json!(1))).unwrap(), reference);
    assert_ne!(effective_step_hash(&with(json!(1))).unwrap(), reference);
}

#[test]
fn a_missing_list_of_steps_is_not_an_empty_one() {
    assert_eq!(step_hash(&Value::Null).unwrap().as_str(), "5ffbfbbd64");
    assert_ne!(step_hash(&json!([])).unwrap(), step_hash(&Value::Null).unwrap());
}

/// The same value with the keys of all objects in an order that `seed` chooses.
fn reordered(value: &Value, seed: u64) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| reordered(item, seed)).collect(),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| {
                fnv1a(FNV_OFFSET ^ u32::try_from(seed % 997).unwrap(), key.as_bytes())
            });
            entries
                .into_iter()
                .map(|(key, value)| (key.clone(), reordered(value, seed)))
                .collect::<Map<_, _>>()
                .into()
        }
        scalar => scalar.clone(),
    }
}

proptest! {
    #[test]
    fn the_order_of_keys_does_not_matter(template in arbitrary::template(), seed in any::<u64>()) {
        let shuffled = reordered(&template, seed);
        prop_assert_eq!(pod_template_hash(&shuffled, None), pod_template_hash(&template, None));
        prop_assert_eq!(effective_template_hash(&shuffled, None), effective_template_hash(&template, None));
    }

    #[test]
    fn what_go_wrote_is_written_the_same_again(template in arbitrary::template()) {
        let json = go_template_json(&template).unwrap();
        let again: Value = serde_json::from_str(&json).unwrap();
        // Spelling of quantities settles at the second reading only: what is remembered is not canonical.
        let settled = go_template_json(&again).unwrap();
        let again: Value = serde_json::from_str(&settled).unwrap();
        prop_assert_eq!(go_template_json(&again).unwrap(), settled);
    }

    #[test]
    fn nothing_from_outside_makes_it_panic(text in "[-+]?[0-9.]{0,45}[a-zA-Z]{0,3}[-+]?[0-9]{0,12}") {
        if let Ok(quantity) = text.parse::<Quantity>() {
            let _ = quantity.cmp(&"1".parse().unwrap());
            let _ = quantity.canonical();
            let _ = quantity.rounded_up_to_milli().to_string();
        }
    }
}
