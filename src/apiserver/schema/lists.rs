//! Lists with identity (`x-kubernetes-list-type`), and embedded resources.

use serde_json::{Map, Value};

use super::{ListType, Schema};
use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::names;

/// Items that occur twice in a set, or share their keys in a map list.
pub(crate) fn validate_list_types(value: &Value, schema: &Schema, path: &Path) -> Violations {
    let mut violations = Violations::new();
    visit(value, schema, path, &mut |value, schema, path| {
        let Value::Array(items) = value else { return };
        match &schema.list_type {
            ListType::Atomic => {}
            ListType::Set => duplicates(items.iter().cloned(), path, &mut violations),
            ListType::Map(keys) => {
                let identity = |item: &Value| {
                    let members = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
                    Value::Object(members.collect::<Map<_, _>>())
                };
                duplicates(items.iter().map(identity), path, &mut violations);
            }
        }
    });
    violations
}

/// Embedded resources must say what they are, and be named as objects are.
pub(crate) fn validate_embedded(value: &Value, schema: &Schema, path: &Path) -> Violations {
    let mut violations = Violations::new();
    visit(value, schema, path, &mut |value, schema, path| {
        if !schema.embedded || !value.is_object() {
            return;
        }
        for name in ["apiVersion", "kind"] {
            if value.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
                violations.push(Violation::required(&path.child(name), ""));
            }
        }
        if let Some(name) = value.pointer("/metadata/name").and_then(Value::as_str) {
            let path = path.child("metadata").child("name");
            violations.extend(
                names::path_segment(name).into_iter().map(|why| Violation::invalid(&path, name, why)),
            );
        }
    });
    violations
}

fn visit(value: &Value, schema: &Schema, path: &Path, check: &mut dyn FnMut(&Value, &Schema, &Path)) {
    check(value, schema, path);
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if let Some(schema) = schema.member(name) {
                    visit(member, schema, &path.child(name), check);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.items.as_deref() else { return };
            for (index, item) in items.iter().enumerate() {
                visit(item, schema, &path.index(index), check);
            }
        }
        _ => {}
    }
}

fn duplicates(items: impl Iterator<Item = Value>, path: &Path, violations: &mut Violations) {
    let mut seen: Vec<Value> = Vec::new();
    for (index, item) in items.enumerate() {
        if seen.contains(&item) {
            violations.push(Violation::duplicate(&path.index(index), item));
        } else {
            seen.push(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sets_and_map_lists_refuse_repeats() {
        let schema = Schema::parse(&json!({"type": "object", "properties": {
            "s": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                  "items": {"type": "object", "properties": {"k": {"type": "string"}}}},
        }}));
        let value = json!({"s": ["a", "b", "a"], "m": [{"k": "x", "v": 1}, {"k": "x", "v": 2}]});
        let violations: Vec<String> =
            validate_list_types(&value, &schema, &Path::of("spec")).iter().map(ToString::to_string).collect();
        assert_eq!(
            violations,
            ["spec.s[2]: Duplicate value: \"a\"", "spec.m[1]: Duplicate value: {\"k\":\"x\"}"]
        );
    }

    #[test]
    fn embedded_resources_need_a_kind() {
        let schema = Schema::parse(&json!({"type": "object", "properties": {
            "emb": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}));
        let violations: Vec<String> =
            validate_embedded(&json!({"emb": {"kind": "Pod"}}), &schema, &Path::root())
                .iter()
                .map(ToString::to_string)
                .collect();
        assert_eq!(violations, ["emb.apiVersion: Required value"]);
    }
}
