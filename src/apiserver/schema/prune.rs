//! Pruning of unknown fields, of nulls, and defaulting.

use serde_json::Value;

use super::{Additional, Schema};

/// The members that every resource has, whatever its schema says.
const META_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Removes the fields that the schema does not know and returns their paths, sorted.
pub(crate) fn prune(object: &mut Value, schema: &Schema) -> Vec<String> {
    let mut pruner = Pruner { unknown: Vec::new() };
    pruner.node(object, Some(schema), "", Place::Root);
    pruner.unknown.sort();
    pruner.unknown
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Inside,
}

struct Pruner {
    unknown: Vec<String>,
}

impl Pruner {
    fn node(&mut self, value: &mut Value, schema: Option<&Schema>, path: &str, place: Place) {
        let keeps_meta = place == Place::Root || schema.is_some_and(|s| s.embedded);
        let preserves = schema.is_some_and(|s| s.preserve_unknown);
        match value {
            Value::Object(members) => {
                let names: Vec<String> = members.keys().cloned().collect();
                for name in names {
                    if keeps_meta && META_FIELDS.contains(&name.as_str()) {
                        continue;
                    }
                    let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    let known = schema.and_then(|s| s.member(&name));
                    let allowed = schema.is_some_and(|s| matches!(s.additional, Additional::Allowed));
                    if known.is_some() || (allowed && !preserves) {
                        if let Some(member) = members.get_mut(&name) {
                            self.node(member, known, &at, Place::Inside);
                        }
                    } else if !preserves {
                        members.remove(&name);
                        self.unknown.push(at);
                    }
                }
            }
            Value::Array(items) => {
                let item_schema = schema.and_then(|s| s.items.as_deref());
                if preserves && item_schema.is_none() {
                    return;
                }
                for (index, item) in items.iter_mut().enumerate() {
                    self.node(item, item_schema, &format!("{path}[{index}]"), Place::Inside);
                }
            }
            _ => {}
        }
    }
}

/// Removes nulls where the schema allows none and has no default for them.
pub(crate) fn drop_nulls(value: &mut Value, schema: Option<&Schema>) {
    match value {
        Value::Object(members) => {
            members.retain(|name, member| {
                let unwanted = schema
                    .and_then(|s| s.member(name))
                    .is_some_and(|s| member.is_null() && !s.nullable && s.default.is_none());
                !unwanted
            });
            for (name, member) in members {
                drop_nulls(member, schema.and_then(|s| s.member(name)));
            }
        }
        Value::Array(items) => {
            for item in items {
                drop_nulls(item, schema.and_then(|s| s.items.as_deref()));
            }
        }
        _ => {}
    }
}

/// Sets the defaults of missing fields, and of nulls where the schema allows none.
pub(crate) fn apply_defaults(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(members) => {
            for (name, property) in &schema.properties {
                let Some(default) = &property.default else { continue };
                if members.get(name).is_none_or(|found| found.is_null() && !property.nullable) {
                    members.insert(name.clone(), default.clone());
                }
            }
            for (name, member) in members {
                if let Some(property) = schema.member(name) {
                    default_null(member, property);
                    apply_defaults(member, property);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.items.as_deref() else { return };
            for item in items {
                default_null(item, schema);
                apply_defaults(item, schema);
            }
        }
        _ => {}
    }
}

fn default_null(value: &mut Value, schema: &Schema) {
    if value.is_null()
        && !schema.nullable
        && let Some(default) = &schema.default
    {
        *value = default.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        Schema::parse(&json!({
            "type": "object",
            "properties": {
                "spec": {"type": "object", "properties": {
                    "replicas": {"type": "integer", "default": 2},
                    "name": {"type": "string", "nullable": true},
                    "list": {"type": "array", "items": {"type": "object", "properties": {
                        "k": {"type": "string"}, "mode": {"type": "string", "default": "a"}}}},
                    "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": {"type": "string"}}}},
                    "free": {"type": "object", "additionalProperties": true},
                    "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                             "properties": {"closed": {"type": "object", "properties": {"x": {"type": "string"}}}}},
                }},
            },
        }))
    }

    #[test]
    fn unknown_fields_are_removed_except_where_they_are_preserved() {
        let mut object = json!({
            "apiVersion": "ex.dev/v1", "kind": "Gizmo", "metadata": {"name": "a", "labels": {"x": "y"}},
            "other": 1,
            "spec": {
                "zzz": 1,
                "list": [{"k": "a", "x": 1}],
                "map": {"m": {"x": "1", "y": 2}},
                "free": {"a": 1, "b": {"deep": true}},
                "open": {"any": {"thing": [1]}, "closed": {"x": "1", "y": 1}},
            },
        });
        let unknown = prune(&mut object, &schema());
        assert_eq!(
            unknown,
            ["other", "spec.free.b.deep", "spec.list[0].x", "spec.map.m.y", "spec.open.closed.y", "spec.zzz"]
        );
        let expected = json!({
            "list": [{"k": "a"}],
            "map": {"m": {"x": "1"}},
            "free": {"a": 1, "b": {}},
            "open": {"any": {"thing": [1]}, "closed": {"x": "1"}},
        });
        assert_eq!(object["spec"], expected);
        assert_eq!(object["metadata"]["labels"], json!({"x": "y"}));
    }

    #[test]
    fn nulls_are_dropped_kept_or_defaulted_by_the_schema() {
        let mut object =
            json!({"spec": {"replicas": null, "name": null, "list": null, "open": {"any": null}}});
        drop_nulls(&mut object, Some(&schema()));
        apply_defaults(&mut object, &schema());
        assert_eq!(object, json!({"spec": {"replicas": 2, "name": null, "open": {"any": null}}}));
    }

    #[test]
    fn defaults_reach_items_but_do_not_make_missing_objects() {
        let mut object = json!({"spec": {"list": [{"k": "a"}, {"mode": "b"}]}});
        apply_defaults(&mut object, &schema());
        assert_eq!(
            object,
            json!({"spec": {"replicas": 2, "list": [{"k": "a", "mode": "a"}, {"mode": "b"}]}})
        );
        let mut empty = json!({});
        apply_defaults(&mut empty, &schema());
        assert_eq!(empty, json!({}));
    }
}
