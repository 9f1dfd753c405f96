//! Value validation of custom resources, with the messages of kube-openapi's validator.
//!
//! An update does not fail over what it leaves unchanged: a node that equals its old value is not looked at
//! (Kubernetes calls it ratcheting).

use serde_json::{Map, Value, json};

use super::format::Format;
use super::{Additional, Limits, ListType, Schema, Type};
use crate::apiserver::field::{Path, Violation, Violations, go_json, quoted};

/// Validates `value`; `old` is the value that it replaces, `base` where it stands in the object.
pub(crate) fn validate(value: &Value, old: Option<&Value>, schema: &Schema, base: &Path) -> Violations {
    let mut validator = Validator { base, violations: Violations::new() };
    validator.node(value, old, schema, "");
    validator.violations
}

struct Validator<'a> {
    base: &'a Path,
    violations: Violations,
}

impl Validator<'_> {
    /// The path of a node; messages show it without the base.
    fn path(&self, at: &str) -> Path {
        let at = at.trim_start_matches('.');
        if at.is_empty() { self.base.clone() } else { self.base.child(at) }
    }

    fn invalid(&mut self, at: &str, value: impl Into<Value>, rule: &str) {
        let message = format!("{at} in body {rule}");
        self.violations.push(Violation::invalid(&self.path(at), value, message));
    }

    fn wrong_type(&mut self, at: &str, shown: &str, expected: &str) {
        let message = format!("{at} in body must be of type {expected}: {}", quoted(shown));
        self.violations.push(Violation::type_invalid(&self.path(at), shown, message));
    }

    fn node(&mut self, value: &Value, old: Option<&Value>, schema: &Schema, at: &str) {
        if old == Some(value) {
            return;
        }
        self.type_of(value, schema, at);
        if value.is_null() {
            return;
        }
        self.combinations(value, old, schema, at);
        match value {
            Value::String(text) => self.text(text, &schema.limits, at),
            Value::Number(_) => self.number(value, &schema.limits, at),
            Value::Array(items) => self.items(items, old, schema, at),
            _ => {}
        }
        if let Some(choices) = &schema.limits.choices
            && !choices.iter().any(|choice| same_number_or_equal(choice, value))
        {
            let supported: Vec<String> = choices.iter().map(shown_choice).collect();
            self.violations.push(Violation::not_supported(&self.path(at), value.clone(), &supported));
        }
        if let Value::Object(members) = value {
            self.members(members, old, schema, at);
        }
    }

    fn type_of(&mut self, value: &Value, schema: &Schema, at: &str) {
        let found = json_type(value);
        let fits = match (schema.kind, found) {
            (Type::Any, _) | (Type::Number, "integer") | (Type::IntOrString, "integer" | "string") => true,
            (_, "null") => schema.nullable,
            (Type::Integer, "number") => value.as_f64().is_some_and(|n| n.fract() == 0.0),
            (kind, found) => kind.name() == found,
        };
        if !fits {
            self.wrong_type(at, found, schema.kind.name());
        }
    }

    fn combinations(&mut self, value: &Value, old: Option<&Value>, schema: &Schema, at: &str) {
        let failures = |schema: &Schema, base: &Path| {
            let mut inner = Validator { base, violations: Violations::new() };
            inner.node(value, old, schema, at);
            inner.violations
        };
        if !schema.any_of.is_empty() {
            let results: Vec<Violations> = schema.any_of.iter().map(|s| failures(s, self.base)).collect();
            if results.iter().all(|r| !r.is_empty()) {
                self.combination(format!("{} must validate at least one schema (anyOf)", quoted(at)));
                self.violations.extend(results.into_iter().next().unwrap_or_default());
            }
        }
        if !schema.one_of.is_empty() {
            let results: Vec<Violations> = schema.one_of.iter().map(|s| failures(s, self.base)).collect();
            let valid = results.iter().filter(|r| r.is_empty()).count();
            if valid != 1 {
                let found =
                    if valid == 0 { "none valid".to_owned() } else { format!("{valid} valid alternatives") };
                self.combination(format!(
                    "{} must validate one and only one schema (oneOf). Found {found}",
                    quoted(at)
                ));
                if valid == 0 {
                    self.violations.extend(results.into_iter().next().unwrap_or_default());
                }
            }
        }
        let results: Vec<Violations> = schema.all_of.iter().map(|s| failures(s, self.base)).collect();
        if results.iter().any(|r| !r.is_empty()) {
            let none = if results.iter().all(|r| !r.is_empty()) { ". None validated" } else { "" };
            self.violations.extend(results.into_iter().flatten());
            self.combination(format!("{} must validate all the schemas (allOf){none}", quoted(at)));
        }
        if schema.not.as_deref().is_some_and(|not| failures(not, self.base).is_empty()) {
            self.combination(format!("{} must not validate the schema (not)", quoted(at)));
        }
    }

    fn combination(&mut self, message: String) {
        self.violations.push(Violation::invalid(self.base, "", message));
    }

    fn text(&mut self, text: &str, limits: &Limits, at: &str) {
        let length = text.chars().count();
        if let Some(most) = limits.max_length.filter(|most| length > *most) {
            self.violations.push(Violation::too_long(&self.path(at), most));
        }
        if let Some(least) = limits.min_length.filter(|least| length < *least) {
            self.invalid(at, text, &format!("should be at least {least} chars long"));
        }
        if let Some(pattern) = limits.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            self.invalid(at, text, &format!("should match '{pattern}'"));
        }
        if let Some(format) = limits.format.filter(|format: &Format| !format.accepts(text)) {
            self.wrong_type(at, text, format.name());
        }
    }

    /// An integer is compared with the whole part of a bound, as the real validator does.
    fn number(&mut self, value: &Value, limits: &Limits, at: &str) {
        let whole = value.is_i64();
        let number = value.as_f64().unwrap_or_default();
        let rounded = |bound: f64| if whole { bound.trunc() } else { bound };
        if let Some(bound) = limits.maximum {
            let most = rounded(bound.value);
            if number > most || (bound.exclusive && number >= most) {
                let or_equal = if bound.exclusive { "" } else { " or equal to" };
                self.invalid(at, value.clone(), &format!("should be less than{or_equal} {most}"));
            }
        }
        if let Some(bound) = limits.minimum {
            let least = rounded(bound.value);
            if number < least || (bound.exclusive && number <= least) {
                let or_equal = if bound.exclusive { "" } else { " or equal to" };
                self.invalid(at, value.clone(), &format!("should be greater than{or_equal} {least}"));
            }
        }
        if let Some(factor) = limits.multiple_of.filter(|factor| *factor > 0.0)
            && (number / factor).fract() != 0.0
        {
            self.invalid(at, value.clone(), &format!("should be a multiple of {factor}"));
        }
    }

    fn items(&mut self, items: &[Value], old: Option<&Value>, schema: &Schema, at: &str) {
        if let Some(item_schema) = schema.items.as_deref() {
            for (index, item) in items.iter().enumerate() {
                let old = old.and_then(|old| correlated(old, item, &schema.list_type));
                self.node(item, old, item_schema, &format!("{at}[{index}]"));
            }
        }
        if let Some(least) = schema.limits.min_items.filter(|least| items.len() < *least) {
            self.invalid(at, items.len(), &format!("should have at least {least} items"));
        }
        if let Some(most) = schema.limits.max_items.filter(|most| items.len() > *most) {
            self.violations.push(Violation::too_many(&self.path(at), items.len(), most));
        }
    }

    fn members(&mut self, members: &Map<String, Value>, old: Option<&Value>, schema: &Schema, at: &str) {
        if let Some(least) = schema.limits.min_properties.filter(|least| members.len() < *least) {
            self.invalid(at, members.len(), &format!("should have at least {least} properties"));
        }
        if let Some(most) = schema.limits.max_properties.filter(|most| members.len() > *most) {
            self.violations.push(Violation::too_many(&self.path(at), members.len(), most));
        }
        let child = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
        for (name, member) in members {
            let known = match (schema.properties.get(name), &schema.additional) {
                (Some(known), _) => known,
                (None, Additional::Of(any)) => any,
                (None, Additional::Pruned | Additional::Allowed) => continue,
            };
            self.node(member, old.and_then(|old| old.get(name)), known, &child(name));
        }
        for name in schema.limits.required.iter().filter(|name| !members.contains_key(*name)) {
            let path = self.path(&child(name));
            self.violations.push(Violation::required(&path, ""));
        }
    }
}

/// The old item that `item` replaces: items of a map list are known by their keys, others cannot be told apart.
pub(super) fn correlated<'v>(old: &'v Value, item: &Value, list_type: &ListType) -> Option<&'v Value> {
    let ListType::Map(keys) = list_type else { return None };
    old.as_array()?.iter().find(|old| keys.iter().all(|key| old.get(key) == item.get(key)))
}

fn json_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn same_number_or_equal(choice: &Value, value: &Value) -> bool {
    choice == value || (choice.is_number() && value.is_number() && choice.as_f64() == value.as_f64())
}

fn shown_choice(choice: &Value) -> String {
    match choice {
        Value::String(text) => text.clone(),
        other => go_json(&json!(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(spec: &Value) -> Schema {
        Schema::parse(
            &json!({"type": "object", "properties": {"spec": {"type": "object", "properties": spec}}}),
        )
    }

    fn violations(spec_schema: &Value, spec: &Value) -> Vec<String> {
        let object = json!({"spec": spec});
        validate(&object, None, &schema(spec_schema), &Path::root()).iter().map(ToString::to_string).collect()
    }

    /// Each case: a schema, a value that it refuses, and how.
    fn check_wording(cases: Vec<(Value, Value, Vec<&str>)>) {
        for (schema, value, expected) in cases {
            assert_eq!(violations(&json!({"x": schema}), &json!({"x": value})), expected, "{schema} {value}");
        }
    }

    #[test]
    fn rules_about_scalars_are_worded_as_the_real_validator_words_them() {
        let cases = [
            (
                json!({"type": "integer"}),
                json!("a"),
                vec!["spec.x: Invalid value: \"string\": spec.x in body must be of type integer: \"string\""],
            ),
            (
                json!({"type": "integer", "maximum": 5}),
                json!(9),
                vec!["spec.x: Invalid value: 9: spec.x in body should be less than or equal to 5"],
            ),
            (
                json!({"type": "number", "minimum": 0, "exclusiveMinimum": true}),
                json!(0),
                vec!["spec.x: Invalid value: 0: spec.x in body should be greater than 0"],
            ),
            (
                json!({"type": "number", "maximum": 2.5}),
                json!(3),
                vec!["spec.x: Invalid value: 3: spec.x in body should be less than or equal to 2"],
            ),
            (
                json!({"type": "string", "enum": ["a", "b"]}),
                json!("c"),
                vec!["spec.x: Unsupported value: \"c\": supported values: \"a\", \"b\""],
            ),
            (
                json!({"type": "string", "pattern": "^[a-z]+$"}),
                json!("A"),
                vec!["spec.x: Invalid value: \"A\": spec.x in body should match '^[a-z]+$'"],
            ),
            (
                json!({"type": "string", "maxLength": 3}),
                json!("abcd"),
                vec!["spec.x: Too long: may not be more than 3 bytes"],
            ),
            (
                json!({"type": "string", "format": "date"}),
                json!("2020-13-01"),
                vec![
                    "spec.x: Invalid value: \"2020-13-01\": spec.x in body must be of type date: \"2020-13-01\"",
                ],
            ),
            (
                json!({"type": "integer", "multipleOf": 3}),
                json!(4),
                vec!["spec.x: Invalid value: 4: spec.x in body should be a multiple of 3"],
            ),
        ];
        check_wording(cases.to_vec());
    }

    #[test]
    fn rules_about_nodes_are_worded_as_the_real_validator_words_them() {
        let cases = [
            (
                json!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
                json!(["a", 1]),
                vec![
                    "spec.x[1]: Invalid value: \"integer\": spec.x[1] in body must be of type string: \"integer\"",
                    "spec.x: Too many: 2: must have at most 1 item",
                ],
            ),
            (
                json!({"type": "object", "required": ["k"], "minProperties": 1}),
                json!({}),
                vec![
                    "spec.x: Invalid value: 0: spec.x in body should have at least 1 properties",
                    "spec.x.k: Required value",
                ],
            ),
            (
                json!({"type": "string"}),
                json!(null),
                vec!["spec.x: Invalid value: \"null\": spec.x in body must be of type string: \"null\""],
            ),
            (
                json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
                json!(5.5),
                vec![
                    "spec.x: Invalid value: \"number\": spec.x in body must be of type integer,string: \"number\"",
                    "<nil>: Invalid value: \"\": \"spec.x\" must validate at least one schema (anyOf)",
                    "spec.x: Invalid value: \"number\": spec.x in body must be of type integer: \"number\"",
                ],
            ),
        ];
        check_wording(cases.to_vec());
    }

    #[test]
    fn valid_values_pass() {
        let cases = [
            (json!({"type": "integer", "format": "int32"}), json!(99_999_999_999_i64)),
            (json!({"type": "integer"}), json!(1.0)),
            (json!({"type": "number"}), json!(1)),
            (json!({"type": "string", "nullable": true}), json!(null)),
            (json!({"x-kubernetes-int-or-string": true}), json!("5%")),
            (json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}), json!({"a": 1})),
            (json!({"type": "object", "not": {"required": ["a"]}}), json!({"b": 1})),
        ];
        for (schema, value) in cases {
            assert_eq!(violations(&json!({"x": schema}), &json!({"x": value})), Vec::<String>::new());
        }
    }

    #[test]
    fn combinations_name_the_node() {
        let one_of = json!({"x": {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}});
        assert_eq!(
            violations(&one_of, &json!({"x": {"a": 1, "b": 1}})),
            [
                "<nil>: Invalid value: \"\": \"spec.x\" must validate one and only one schema (oneOf). Found 2 valid alternatives"
            ]
        );
    }

    #[test]
    fn an_update_does_not_fail_over_what_it_leaves_unchanged() {
        let schema = schema(&json!({"x": {"type": "integer"}, "y": {"type": "integer"}}));
        let old = json!({"spec": {"x": "bad"}});
        let new = json!({"spec": {"x": "bad", "y": "worse"}});
        let violations = validate(&new, Some(&old), &schema, &Path::root());
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].path, Path::of("spec.y"));
    }

    #[test]
    fn a_base_stands_before_the_path_but_not_in_the_message() {
        let schema =
            Schema::parse(&json!({"type": "object", "properties": {"replicas": {"type": "integer"}}}));
        let status = json!({"replicas": "x"});
        let violations = validate(&status, None, &schema, &Path::of("status"));
        assert_eq!(
            violations[0].to_string(),
            "status.replicas: Invalid value: \"string\": replicas in body must be of type integer: \"string\""
        );
    }
}
