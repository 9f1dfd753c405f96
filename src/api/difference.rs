//! What is different between two objects: field by field, and as a unified diff of YAML.
//!
//! Lists are compared item by item where the items can be told apart (containers have names), so that a container that is put before
//! others is one change and not a change of each.

use std::time::Duration;

use serde_json::{Map, Value};
use similar::{Algorithm, TextDiff};

use super::convert::merge;
use crate::pb::v1::diff_revisions_response::Change;

/// How long the smallest diff is looked for; after that a larger one will do. Objects of kilobytes need milliseconds.
const PATIENCE: Duration = Duration::from_millis(500);

/// Lines that are shown around a change.
const CONTEXT: usize = 3;

/// The fields that differ, in the order of their paths.
pub(super) fn changes(from: &Value, to: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    compare(Some(from), Some(to), "", &mut changes);
    changes
}

fn compare(from: Option<&Value>, to: Option<&Value>, path: &str, changes: &mut Vec<Change>) {
    match (from, to) {
        (from, to) if from == to => {}
        (Some(Value::Object(from)), Some(Value::Object(to))) => {
            let mut keys: Vec<&String> = from.keys().chain(to.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                compare(from.get(key), to.get(key), &below(path, key), changes);
            }
        }
        (Some(Value::Array(from)), Some(Value::Array(to))) => {
            let partners = merge::align(from, to);
            for (index, item) in
                from.iter().enumerate().filter(|(index, _)| !partners.contains(&Some(*index)))
            {
                compare(Some(item), None, &format!("{path}[{index}]"), changes);
            }
            for (index, (item, partner)) in to.iter().zip(&partners).enumerate() {
                compare(
                    partner.map(|partner| &from[partner]),
                    Some(item),
                    &format!("{path}[{index}]"),
                    changes,
                );
            }
        }
        (from, to) => {
            let text = |value: Option<&Value>| value.map(Value::to_string).unwrap_or_default();
            changes.push(Change { path: path.to_owned(), from_json: text(from), to_json: text(to) });
        }
    }
}

/// The path of a field: a key that would read as structure stands in brackets.
fn below(path: &str, key: &str) -> String {
    match key.contains(['.', '[', ']', '/']) {
        true => format!("{path}[{key}]"),
        false if path.is_empty() => key.to_owned(),
        false => format!("{path}.{key}"),
    }
}

/// A unified diff of YAML with sorted keys; empty where nothing differs. `None` stands for an object that does not exist.
pub(super) fn unified(from: (&str, Option<&Value>), to: (&str, Option<&Value>)) -> String {
    let text = |object: Option<&Value>| object.map(yaml).unwrap_or_default();
    let (old, new) = (text(from.1), text(to.1));
    if old == new {
        return String::new();
    }
    let diff = TextDiff::configure()
        .algorithm(Algorithm::Myers)
        .timeout(PATIENCE)
        .diff_lines(old.as_str(), new.as_str());
    diff.unified_diff().context_radius(CONTEXT).header(from.0, to.0).to_string()
}

fn yaml(object: &Value) -> String {
    let sorted = sorted(object);
    // JSON is YAML too.
    serde_saphyr::to_string(&sorted).unwrap_or_else(|_| format!("{sorted:#}\n"))
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            Value::Object(
                fields.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect::<Map<_, _>>(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn changed(from: &Value, to: &Value) -> Vec<String> {
        let text = |change: Change| format!("{}: {} -> {}", change.path, change.from_json, change.to_json);
        changes(from, to).into_iter().map(text).collect()
    }

    #[test]
    fn fields_that_differ_are_named_by_their_paths() {
        let from = json!({
            "metadata": { "labels": { "app": "web", "a.b/c": "1" } },
            "spec": { "containers": [{ "name": "web", "image": "web:1" }, { "name": "side", "image": "s" }], "hostNetwork": true },
        });
        let to = json!({
            "spec": { "dnsPolicy": "None",
                "containers": [{ "name": "first", "image": "f" }, { "image": "web:2", "name": "web" }], "hostNetwork": true },
            "metadata": { "labels": { "app": "web", "a.b/c": "2" } },
        });
        assert_eq!(
            changed(&from, &to),
            [
                "metadata.labels[a.b/c]: \"1\" -> \"2\"",
                "spec.containers[1]: {\"name\":\"side\",\"image\":\"s\"} -> ",
                "spec.containers[0]:  -> {\"name\":\"first\",\"image\":\"f\"}",
                "spec.containers[1].image: \"web:1\" -> \"web:2\"",
                "spec.dnsPolicy:  -> \"None\"",
            ]
        );
        assert_eq!(changed(&from, &from), Vec::<String>::new());
        assert_eq!(changed(&json!({ "a": null }), &json!({})), ["a: null -> "]);
        assert_eq!(changed(&json!({ "a": [1, 2] }), &json!({ "a": [1, 3] })), ["a[1]: 2 -> 3"]);
    }

    #[test]
    fn a_unified_diff_is_of_yaml_with_sorted_keys() {
        let from = json!({ "b": { "z": 1, "x": "on" }, "a": [1, { "c": null }] });
        let to = json!({ "a": [1, { "c": null }], "b": { "x": "off", "z": 1 } });
        assert_eq!(
            unified(("old", Some(&from)), ("new", Some(&to))),
            "--- old\n+++ new\n@@ -2,5 +2,5 @@\n - 1\n - c: null\n b:\n-  x: \"on\"\n+  x: \"off\"\n   z: 1\n"
        );
        let same = json!({ "a": [1, { "c": null }], "b": { "x": "on", "z": 1 } });
        assert_eq!(unified(("old", Some(&from)), ("new", Some(&same))), "");
        assert_eq!(
            unified(("old", None), ("new", Some(&json!({ "a": 1 })))),
            "--- old\n+++ new\n@@ -0,0 +1 @@\n+a: 1\n"
        );
    }
}
