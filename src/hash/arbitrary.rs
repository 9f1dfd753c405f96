//! Random pod templates for tests: values of the right types over all fields of the type table, with
//! nulls, zeros, empty lists and unknown fields between them.

use proptest::collection::{btree_map, vec};
use proptest::option::weighted;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::go_types::{GoType, GoTypes};

const TEXTS: &[&str] = &["", "a", "web", "x<y>&z", "nginx:latest", "reg.io/a:v1", "Always"];

/// How likely a field is set, by depth: wide at the top, narrow further down, or templates get large.
fn likelihood(depth: usize) -> f64 {
    [0.9, 0.3, 0.3, 0.15].get(depth).copied().unwrap_or(0.1)
}

/// Random pod templates.
pub(crate) fn template() -> BoxedStrategy<Value> {
    of_type(&GoTypes::get().named("PodTemplateSpec"), 0)
}

fn of_type(go_type: &GoType, depth: usize) -> BoxedStrategy<Value> {
    match go_type {
        GoType::Pointer(target) => or_null(of_type(target, depth)),
        GoType::Slice(element) => {
            or_null(vec(of_type(element, depth + 1), 0..3).prop_map(Value::from).boxed())
        }
        GoType::Map(element) => {
            let map = btree_map("[a-z]{1,3}(/[a-z])?", of_type(element, depth + 1), 0..3);
            or_null(map.prop_map(|map| map.into_iter().collect()).boxed())
        }
        GoType::Struct(index) => structure(*index, depth),
        GoType::String => or_null(prop::sample::select(TEXTS).prop_map(Value::from).boxed()),
        GoType::Bool => or_null(any::<bool>().prop_map(Value::from).boxed()),
        GoType::Int32 | GoType::Int64 => or_null((-1..500_i32).prop_map(Value::from).boxed()),
        GoType::Time => Just(json!("2026-11-21T05:37:43Z")).boxed(),
        GoType::Quantity => prop_oneof![
            "[0-9]{1,4}(\\.[0-9]{1,8})?([numkMGTPE]|[KMGTPE]i|e[0-9])?".prop_map(Value::from),
            Just(json!(0.5))
        ]
        .boxed(),
        GoType::IntOrString => prop_oneof![Just(json!(80)), Just(json!("http"))].boxed(),
        // One key: in raw JSON the order of keys counts.
        GoType::Raw => Just(json!({ "a": ["<", 0.5] })).boxed(),
    }
}

fn or_null(strategy: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop_oneof![1 => Just(Value::Null), 20 => strategy].boxed()
}

fn structure(index: usize, depth: usize) -> BoxedStrategy<Value> {
    let fields: Vec<_> = GoTypes::get()
        .structure(index)
        .fields
        .iter()
        .map(|field| {
            let value = of_type(&field.go_type, depth + 1);
            weighted(likelihood(depth), (Just(field.name.clone()), value))
        })
        .collect();
    let unknown =
        weighted(0.05, (Just("newerField".to_owned()), prop_oneof![Just(json!(1)), Just(json!({ "a": 1 }))]));
    (fields, unknown)
        .prop_map(|(fields, unknown)| {
            fields.into_iter().flatten().chain(unknown).collect::<Map<_, _>>().into()
        })
        .boxed()
}
