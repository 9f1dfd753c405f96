//! kubectl's client-side apply: the JSON merge patch that a manifest makes of an object, knowing what was applied before.
//!
//! What the manifest says is set; what it said the last time and no longer says is removed; the rest is left alone. Lists are
//! one value each, as for all custom resources, except those of built-in kinds whose items have keys.

use serde_json::{Map, Value};

pub(super) use crate::manifest::item::without_nulls;

/// A list of a built-in kind whose items are told apart by these fields, each with its default.
pub(super) struct KeyedList {
    /// Where it is.
    pub path: [&'static str; 2],
    /// The fields that tell its items apart.
    pub keys: &'static [(&'static str, Option<&'static str>)],
}

/// The ports of a Service. kubectl tells them apart by `port` alone, which fails for a port that serves TCP and UDP.
pub(super) const SERVICE_PORTS: KeyedList =
    KeyedList { path: ["spec", "ports"], keys: &[("port", None), ("protocol", Some("TCP"))] };

/// The patch that brings `live` to what `manifest` says, where `last` was applied before. Empty when there is nothing to do.
#[must_use]
pub(super) fn three_way(last: &Value, manifest: &Value, live: &Value) -> Value {
    let set = difference(object(live), object(manifest));
    let remove = difference(object(last), object(manifest));
    let mut patch = Value::Object(only(&remove, Keep::Nulls));
    // Later over earlier: what is set wins over what is removed.
    overlay(&mut patch, Value::Object(only(&set, Keep::Values)));
    patch
}

/// The manifest with the items of a keyed list completed by what is live, so that a field which the manifest leaves to the
/// server is not taken for a change.
#[must_use]
pub(super) fn complete(last: &Value, manifest: &Value, live: &Value, list: &KeyedList) -> Value {
    let items = |object: &Value| object[list.path[0]][list.path[1]].as_array().cloned().unwrap_or_default();
    let (last, live) = (items(last), items(live));
    let mut completed = manifest.clone();
    let Some(wanted) = completed[list.path[0]][list.path[1]].as_array_mut() else { return manifest.clone() };
    let same = |a: &Value, b: &Value| {
        list.keys.iter().all(|(key, default)| {
            let value = |item: &Value| match (&item[key], default) {
                (Value::Null, Some(default)) => Value::from(*default),
                (value, _) => value.clone(),
            };
            value(a) == value(b)
        })
    };
    for item in wanted.iter_mut().filter(|item| item.is_object()) {
        let Some(live) = live.iter().find(|live| same(live, item)) else { continue };
        let empty = Value::Object(Map::new());
        let last = last.iter().find(|last| same(last, item)).unwrap_or(&empty);
        let patch = three_way(last, item, live);
        let mut merged = live.clone();
        json_patch::merge(&mut merged, &patch);
        *item = merged;
    }
    completed
}

fn object(value: &Value) -> &Map<String, Value> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    value.as_object().unwrap_or(&EMPTY)
}

/// The merge patch from one object to another: what differs, and null for what is gone.
fn difference(from: &Map<String, Value>, to: &Map<String, Value>) -> Map<String, Value> {
    let mut patch = Map::new();
    for (key, value) in to {
        match (from.get(key), value) {
            (Some(Value::Object(before)), Value::Object(after)) => {
                let below = difference(before, after);
                if !below.is_empty() {
                    patch.insert(key.clone(), Value::Object(below));
                }
            }
            (Some(before), after) if before == after => {}
            (_, after) => {
                patch.insert(key.clone(), after.clone());
            }
        }
    }
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    patch
}

/// Which half of a patch is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// Removals.
    Nulls,
    /// All but removals.
    Values,
}

fn only(patch: &Map<String, Value>, keep: Keep) -> Map<String, Value> {
    let mut kept = Map::new();
    for (key, value) in patch {
        let value = match (value, keep) {
            (Value::Null, Keep::Nulls) => Value::Null,
            (Value::Null, Keep::Values) => continue,
            // An empty object is a value of its own.
            (Value::Object(fields), Keep::Values) if fields.is_empty() => value.clone(),
            (Value::Object(fields), keep) => {
                let below = only(fields, keep);
                if below.is_empty() {
                    continue;
                }
                Value::Object(below)
            }
            (value, Keep::Values) => without_nulls(value),
            (_, Keep::Nulls) => continue,
        };
        kept.insert(key.clone(), value);
    }
    kept
}

/// Puts one patch over another, which keeps its nulls.
fn overlay(patch: &mut Value, over: Value) {
    match (patch, over) {
        (Value::Object(patch), Value::Object(over)) => {
            for (key, value) in over {
                match patch.get_mut(&key) {
                    Some(below) => overlay(below, value),
                    None => {
                        patch.insert(key, value);
                    }
                }
            }
        }
        (patch, over) => *patch = over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_manifest_sets_what_it_says_and_removes_what_it_no_longer_says() {
        for (why, last, manifest, live, patch) in [
            ("unchanged", json!({ "a": 1 }), json!({ "a": 1 }), json!({ "a": 1, "x": 2 }), json!({})),
            ("set", json!({}), json!({ "a": 1 }), json!({ "x": 2 }), json!({ "a": 1 })),
            ("drifted", json!({ "a": 1 }), json!({ "a": 1 }), json!({ "a": 5 }), json!({ "a": 1 })),
            ("removed", json!({ "a": 1 }), json!({}), json!({ "a": 1, "x": 2 }), json!({ "a": null })),
            ("left alone", json!({}), json!({}), json!({ "replicas": 7 }), json!({})),
            ("gone already", json!({ "a": 1 }), json!({}), json!({}), json!({ "a": null })),
            (
                "below",
                json!({ "s": { "a": 1, "b": 2 } }),
                json!({ "s": { "b": 3 } }),
                json!({ "s": { "a": 1, "b": 2, "c": 4 } }),
                json!({ "s": { "a": null, "b": 3 } }),
            ),
            (
                "a list is one value",
                json!({ "l": [1] }),
                json!({ "l": [1, 2] }),
                json!({ "l": [1, 9] }),
                json!({ "l": [1, 2] }),
            ),
            (
                "a list with the same items",
                json!({}),
                json!({ "l": [{ "a": 1 }] }),
                json!({ "l": [{ "a": 1 }] }),
                json!({}),
            ),
            ("an empty object is a value", json!({}), json!({ "e": {} }), json!({}), json!({ "e": {} })),
            (
                "an explicit null removes",
                json!({}),
                json!({ "a": null }),
                json!({ "a": 1 }),
                json!({ "a": null }),
            ),
            (
                "a null that was there before is nothing",
                json!({ "a": null }),
                json!({ "a": null }),
                json!({ "a": 1 }),
                json!({}),
            ),
            (
                "nulls in lists are dropped",
                json!({}),
                json!({ "l": [{ "a": null, "b": [null] }] }),
                json!({}),
                json!({ "l": [{ "b": [null] }] }),
            ),
            (
                "another type replaces",
                json!({}),
                json!({ "a": "1" }),
                json!({ "a": { "b": 1 } }),
                json!({ "a": "1" }),
            ),
            (
                "set wins over removed",
                json!({ "a": { "b": 1 } }),
                json!({ "a": "x" }),
                json!({ "a": { "b": 1 } }),
                json!({ "a": "x" }),
            ),
        ] {
            assert_eq!(three_way(&last, &manifest, &live), patch, "{why}");
        }
    }

    #[test]
    fn ports_keep_what_the_server_gave_them() {
        let ports = |ports: Value| json!({ "spec": { "ports": ports } });
        let live = ports(json!([
            { "port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30000 },
            { "port": 53, "protocol": "UDP", "targetPort": 53 },
            { "port": 53, "protocol": "TCP", "targetPort": 5353 },
        ]));
        let wanted = ports(
            json!([{ "port": 80, "targetPort": 8080 }, { "port": 53, "protocol": "UDP" }, { "port": 53, "targetPort": 5353 }]),
        );
        let completed = complete(&wanted, &wanted, &live, &SERVICE_PORTS);
        assert_eq!(three_way(&wanted, &completed, &live), json!({}));

        let last = ports(json!([{ "port": 80, "targetPort": 8080, "name": "web" }]));
        let fewer = ports(json!([{ "port": 80, "targetPort": 9090 }]));
        let completed = complete(&last, &fewer, &live, &SERVICE_PORTS);
        let expected =
            ports(json!([{ "port": 80, "protocol": "TCP", "targetPort": 9090, "nodePort": 30000 }]));
        assert_eq!(three_way(&last, &completed, &live), expected);
    }
}
