//! Whether a definition's schema is structural, and one that this server can act on.
//!
//! The rules and their wording are those of apiextensions' `schema/validation.go`, those that a hand-written or
//! generated definition may break.

use regex::Regex;
use serde_json::Value;

use super::rules;
use crate::apiserver::field::{Path, Violation, Violations};

/// Where a node stands; the wording of a missing type depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What is wrong with a schema (`openAPIV3Schema`), which stands at `path` of the definition.
pub(crate) fn check_definition_schema(schema: &Value, path: &Path) -> Violations {
    let mut violations = Violations::new();
    structure(schema, Level::Root, path, &mut violations);
    completeness(schema, schema, path, path, &mut violations);
    violations.sort_by_key(ToString::to_string);
    violations
}

fn is_set(schema: &Value, key: &str) -> bool {
    schema.get(key).is_some_and(|v| !v.is_null() && *v != Value::Bool(false))
}

fn properties<'s>(schema: &'s Value) -> impl Iterator<Item = (&'s String, &'s Value)> + use<'s> {
    schema["properties"].as_object().into_iter().flatten()
}

fn structure(schema: &Value, level: Level, path: &Path, violations: &mut Violations) {
    node_type(schema, level, path, violations);
    extensions(schema, path, violations);
    if is_set(schema, "items") {
        structure(&schema["items"], Level::Item, &path.child("items"), violations);
    }
    for (name, property) in properties(schema) {
        structure(property, Level::Field, &path.child("properties").key(name), violations);
    }
    let additional = &schema["additionalProperties"];
    if is_set(schema, "additionalProperties") {
        let at = path.child("additionalProperties");
        if level == Level::Root {
            violations.push(Violation::forbidden(&at, "must not be used at the root"));
        }
        if properties(schema).next().is_some() && additional.is_object() {
            violations
                .push(Violation::forbidden(&at, "additionalProperties and properties are mutual exclusive"));
        }
        if additional.is_object() {
            structure(additional, Level::Field, &at, violations);
        }
    }
    if level == Level::Root {
        root_metadata(schema, path, violations);
    }
    values(schema, is_int_or_string_pattern(&schema["anyOf"]), path, violations);
}

fn node_type(schema: &Value, level: Level, path: &Path, violations: &mut Violations) {
    let at = path.child("type");
    let kind = schema["type"].as_str().unwrap_or_default();
    let embedded = is_set(schema, "x-kubernetes-embedded-resource");
    let untyped = is_set(schema, "x-kubernetes-int-or-string")
        || is_set(schema, "x-kubernetes-preserve-unknown-fields");
    if embedded && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        violations.push(if kind.is_empty() {
            Violation::required(&at, detail)
        } else {
            Violation::invalid(&at, kind, detail)
        });
    } else if kind.is_empty() && !untyped {
        violations.push(Violation::required(
            &at,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        ));
    } else if level == Level::Root && !kind.is_empty() && kind != "object" {
        violations.push(Violation::invalid(&at, kind, "must be object at the root"));
    }
    const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];
    if !kind.is_empty() && (!TYPES.contains(&kind) || kind == "null") {
        violations.push(Violation::not_supported(
            &at,
            kind,
            &["array", "boolean", "integer", "number", "object", "string"],
        ));
    }
    if kind == "array" && !is_set(schema, "items") {
        violations.push(Violation::required(&path.child("items"), "must be specified"));
    }
}

fn extensions(schema: &Value, path: &Path, violations: &mut Violations) {
    const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
    if schema.get(PRESERVE) == Some(&Value::Bool(false)) {
        violations.push(Violation::invalid(&path.child(PRESERVE), false, "must be true or undefined"));
    }
    if is_set(schema, "x-kubernetes-int-or-string") && is_set(schema, PRESERVE) {
        let detail = "must be false if x-kubernetes-int-or-string is true";
        violations.push(Violation::invalid(&path.child(PRESERVE), true, detail));
    }
    for key in [
        "$ref",
        "definitions",
        "dependencies",
        "deprecated",
        "discriminator",
        "id",
        "patternProperties",
        "readOnly",
        "writeOnly",
        "xml",
        "uniqueItems",
    ] {
        if is_set(schema, key) {
            let detail = match key {
                "uniqueItems" => {
                    "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
                }
                _ => "not supported by a structural schema",
            };
            violations.push(Violation::forbidden(&path.child(key), detail));
        }
    }
    list_type(schema, path, violations);
    for (index, rule) in schema["x-kubernetes-validations"].as_array().into_iter().flatten().enumerate() {
        let at = path.child("x-kubernetes-validations").index(index).child("rule");
        let text = rule["rule"].as_str().unwrap_or_default();
        if text.trim().is_empty() {
            violations.push(Violation::required(&at, "rule is not specified"));
        } else if !rules::is_supported(rule) {
            let detail = "this API server evaluates no rule but `self == oldSelf` (with a plain message); apply the \
                          definition without the rule, or use a full Kubernetes API server";
            violations.push(Violation::invalid(&at, text, detail));
        }
    }
}

fn list_type(schema: &Value, path: &Path, violations: &mut Violations) {
    const KEY: &str = "x-kubernetes-list-type";
    let Some(list_type) = schema[KEY].as_str() else { return };
    if schema["type"].as_str() != Some("array") {
        let detail = "must be array if x-kubernetes-list-type is specified";
        violations.push(Violation::invalid(&path.child("type"), schema["type"].clone(), detail));
    }
    if !["atomic", "set", "map"].contains(&list_type) {
        violations.push(Violation::not_supported(&path.child(KEY), list_type, &["atomic", "set", "map"]));
    }
    let keys = schema["x-kubernetes-list-map-keys"].as_array();
    let at = path.child("x-kubernetes-list-map-keys");
    match (list_type, keys) {
        ("map", None) => {
            violations.push(Violation::required(&at, "must not be empty if x-kubernetes-list-type is map"));
        }
        ("map", Some(keys)) => {
            let known = |key: &Value| {
                key.as_str().is_some_and(|key| schema["items"]["properties"].get(key).is_some())
            };
            if !keys.iter().all(known) {
                let detail = "entries must all be names of item properties";
                violations.push(Violation::invalid(&at, Value::from(keys.clone()), detail));
            }
        }
        _ => {}
    }
}

/// At the root, `metadata` may only restrict the name.
fn root_metadata(schema: &Value, path: &Path, violations: &mut Violations) {
    let Some(metadata) = schema["properties"].get("metadata") else { return };
    let at = path.child("properties").key("metadata");
    if metadata["type"].as_str() != Some("object") {
        violations.push(Violation::invalid(&at.child("type"), metadata["type"].clone(), "must be object"));
    }
    let restricts_names = properties(metadata).all(|(name, _)| name == "name" || name == "generateName");
    let others = metadata.as_object().into_iter().flatten();
    let only_known =
        others.map(|(key, _)| key.as_str()).all(|key| ["type", "properties", "description"].contains(&key));
    if !restricts_names || !only_known {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        violations.push(Violation::forbidden(&at, detail));
    }
}

/// Value validations may not declare structure.
fn values(schema: &Value, skip_any_of: bool, path: &Path, violations: &mut Violations) {
    if let Some(pattern) = schema["pattern"].as_str()
        && let Err(error) = Regex::new(pattern)
    {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        violations.push(Violation::invalid(&path.child("pattern"), pattern, detail));
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        for (index, nested) in schema[key].as_array().into_iter().flatten().enumerate() {
            let pattern = key == "allOf" && index == 0 && is_int_or_string_pattern(&nested["anyOf"]);
            if key != "anyOf" || !skip_any_of {
                nested_values(nested, pattern, &path.child(key).index(index), violations);
            }
        }
    }
    if is_set(schema, "not") {
        nested_values(&schema["not"], false, &path.child("not"), violations);
    }
}

fn nested_values(nested: &Value, skip_any_of: bool, path: &Path, violations: &mut Violations) {
    values(nested, skip_any_of, path, violations);
    if is_set(nested, "items") {
        nested_values(&nested["items"], false, &path.child("items"), violations);
    }
    for (name, property) in properties(nested) {
        nested_values(property, false, &path.child("properties").key(name), violations);
    }
    for key in ["type", "description", "title", "default", "nullable"] {
        if is_set(nested, key) {
            let detail = if key == "nullable" {
                "must be false to be structural"
            } else {
                "must be empty to be structural"
            };
            violations.push(Violation::forbidden(&path.child(key), detail));
        }
    }
    if is_set(nested, "additionalProperties") {
        let at = path.child("additionalProperties");
        violations.push(Violation::forbidden(&at, "must be undefined to be structural"));
    }
    for key in [
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
        "x-kubernetes-validations",
    ] {
        if is_set(nested, key) {
            violations.push(Violation::forbidden(&path.child(key), "must be false to be structural"));
        }
    }
}

/// Every field that a value validation names must be specified outside of it.
fn completeness(
    nested: &Value,
    schema: &Value,
    path: &Path,
    nested_path: &Path,
    violations: &mut Violations,
) {
    for key in ["anyOf", "oneOf", "allOf", "not"] {
        let alternatives: Vec<(Path, &Value)> = match &nested[key] {
            Value::Array(list) => {
                list.iter().enumerate().map(|(i, v)| (nested_path.child(key).index(i), v)).collect()
            }
            Value::Object(_) => vec![(nested_path.child(key), &nested[key])],
            _ => Vec::new(),
        };
        for (at, alternative) in alternatives {
            completeness(alternative, schema, path, &at, violations);
            for (name, property) in properties(alternative) {
                let (structural, at) = (path.child("properties").key(name), at.child("properties").key(name));
                match schema["properties"].get(name) {
                    Some(known) => completeness(property, known, &structural, &at, violations),
                    None => violations
                        .push(Violation::required(&structural, format!("because it is defined in {at}"))),
                }
            }
        }
    }
}

fn is_int_or_string_pattern(any_of: &Value) -> bool {
    let types: Vec<&Value> = any_of.as_array().into_iter().flatten().filter_map(|s| s.get("type")).collect();
    types == ["integer", "string"]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn violations(schema: &Value) -> Vec<String> {
        check_definition_schema(schema, &Path::of("s")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn structural_schemas_are_accepted() {
        let schema = json!({"type": "object", "properties": {
            "metadata": {"type": "object"},
            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
                "p": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "m": {"type": "object", "additionalProperties": {"type": "string"}},
                "one": {"type": "object", "properties": {"a": {"type": "string"}}, "oneOf": [{"required": ["a"]}]},
                "sel": {"type": "object", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "no"}]},
            }},
        }});
        assert_eq!(violations(&schema), Vec::<String>::new());
    }

    #[test]
    fn schemas_that_are_not_structural_are_refused_with_the_place() {
        let cases = [
            (json!({}), "s.type: Required value: must not be empty at the root"),
            (
                json!({"type": "array", "items": {"type": "string"}}),
                "s.type: Invalid value: \"array\": must be object at the root",
            ),
            (
                json!({"type": "object", "properties": {"a": {}}}),
                "s.properties[a].type: Required value: must not be empty for specified object fields",
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "array"}}}),
                "s.properties[a].items: Required value: must be specified",
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "object", "anyOf": [{"type": "object"}]}}}),
                "s.properties[a].anyOf[0].type: Forbidden: must be empty to be structural",
            ),
            (
                json!({"type": "object", "oneOf": [{"properties": {"b": {"minimum": 1}}}]}),
                "s.properties[b]: Required value: because it is defined in s.oneOf[0].properties[b]",
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}),
                "s.properties[a].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't",
            ),
            (
                json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
                "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName",
            ),
            (
                json!({"type": "object", "properties": {"a": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0"}]}}}),
                "s.properties[a].x-kubernetes-validations[0].rule: Invalid value: \"self > 0\": this API server evaluates no rule",
            ),
        ];
        for (schema, expected) in cases {
            let found = violations(&schema);
            assert_eq!(found.len(), 1, "{schema}: {found:?}");
            assert!(found[0].starts_with(expected), "{found:?}");
        }
    }
}
