//! Validation rules in CEL. Only `self == oldSelf` is evaluated: the node may not change once it is set.
//! A definition with any other rule is refused when it is created (see [`super::check`]).

use serde_json::Value;

use super::validate::correlated;
use super::{Immutable, Schema};
use crate::apiserver::field::{Path, Rule, Violation, Violations};

/// The rule that is evaluated, in the spellings that mean the same.
const SUPPORTED: [&str; 2] = ["self == oldSelf", "oldSelf == self"];

/// Whether a rule of a definition can be evaluated.
pub(super) fn is_supported(rule: &Value) -> bool {
    let text = rule["rule"].as_str().unwrap_or_default();
    let plain = rule.get("messageExpression").is_none() && rule["optionalOldSelf"].as_bool() != Some(true);
    plain && SUPPORTED.contains(&text.trim())
}

pub(super) fn parse(schema: &Value) -> Vec<Immutable> {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    rules
        .filter(|rule| is_supported(rule))
        .map(|rule| {
            let text = rule["rule"].as_str().unwrap_or_default().trim();
            let message = rule["message"].as_str().map(str::trim).filter(|m| !m.is_empty());
            Immutable {
                message: message.map_or_else(|| format!("failed rule: {text}"), str::to_owned),
                reason: rule["reason"].as_str().map(str::to_owned),
                field_path: rule["fieldPath"].as_str().map(str::to_owned),
            }
        })
        .collect()
}

/// The rules that an update from `old` to `new` breaks.
pub(crate) fn check_rules(new: &Value, old: &Value, schema: &Schema) -> Violations {
    let mut violations = Violations::new();
    walk(new, old, schema, &Path::root(), &mut violations);
    violations
}

fn walk(new: &Value, old: &Value, schema: &Schema, path: &Path, violations: &mut Violations) {
    if new == old {
        return;
    }
    for rule in &schema.immutable {
        violations.push(rule.violation(new, path));
    }
    match (new, old) {
        (Value::Object(members), Value::Object(_)) => {
            for (name, member) in members {
                if let (Some(old), Some(schema)) = (old.get(name), schema.member(name)) {
                    walk(member, old, schema, &path.child(name), violations);
                }
            }
        }
        (Value::Array(items), Value::Array(_)) => {
            let Some(item_schema) = schema.items.as_deref() else { return };
            for (index, item) in items.iter().enumerate() {
                if let Some(old) = correlated(old, item, &schema.list_type) {
                    walk(item, old, item_schema, &path.index(index), violations);
                }
            }
        }
        _ => {}
    }
}

impl Immutable {
    fn violation(&self, value: &Value, path: &Path) -> Violation {
        let path = match &self.field_path {
            Some(relative) => path.child(relative.trim_start_matches('.')),
            None => path.clone(),
        };
        let message = self.message.clone();
        let mut violation = match self.reason.as_deref() {
            Some("FieldValueForbidden") => return Violation::forbidden(&path, message),
            Some("FieldValueRequired") => return Violation::required(&path, message),
            _ => Violation::invalid(&path, value.clone(), message),
        };
        if self.reason.as_deref() == Some("FieldValueDuplicate") {
            violation.rule = Rule::Duplicate;
        }
        // Only scalars are shown.
        if value.is_object() || value.is_array() { violation.without_value() } else { violation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        Schema::parse(&json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "selector": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "selector is immutable"}]},
            "name": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]},
        }}}}))
    }

    #[test]
    fn a_set_value_may_not_change() {
        let old = json!({"spec": {"selector": {"a": "b"}, "name": "x"}});
        let new = json!({"spec": {"selector": {"a": "c"}, "name": "y"}});
        let violations: Vec<String> =
            check_rules(&new, &old, &schema()).iter().map(ToString::to_string).collect();
        assert_eq!(
            violations,
            [
                "spec.selector: Invalid value: selector is immutable",
                "spec.name: Invalid value: \"y\": failed rule: self == oldSelf",
            ]
        );
    }

    #[test]
    fn setting_and_removing_a_value_is_allowed() {
        let set = json!({"spec": {"name": "x"}});
        let unset = json!({"spec": {}});
        assert!(check_rules(&set, &unset, &schema()).is_empty());
        assert!(check_rules(&unset, &set, &schema()).is_empty());
    }

    #[test]
    fn other_rules_are_not_supported() {
        assert!(is_supported(&json!({"rule": " self == oldSelf "})));
        assert!(!is_supported(&json!({"rule": "self > 0"})));
        assert!(!is_supported(&json!({"rule": "self == oldSelf", "messageExpression": "'x'"})));
    }
}
