//! Label selectors in objects: their rules, and their text form.

use serde_json::Value;

use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::metadata::validate_labels;
use crate::apiserver::names;
use crate::apiserver::object::Object;

/// Rules of a `metav1.LabelSelector`.
pub(super) fn validate_label_selector(selector: &Value, path: &Path) -> Violations {
    let mut violations = validate_labels(selector.map("/matchLabels"), &path.child("matchLabels"));
    for (index, expression) in selector.list("/matchExpressions").iter().enumerate() {
        validate_expression(expression, &path.child("matchExpressions").index(index), &mut violations);
    }
    violations
}

fn validate_expression(expression: &Value, path: &Path, violations: &mut Violations) {
    let values = expression.list("/values");
    let at = path.child("values");
    match expression.text("/operator") {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            violations.push(Violation::required(&at, detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            violations.push(Violation::forbidden(&at, detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => {
            let detail = "not a valid selector operator";
            violations.push(Violation::invalid(&path.child("operator"), other, detail));
        }
    }
    let key = expression.text("/key");
    let reasons = names::qualified_name(key).into_iter();
    violations.extend(reasons.map(|why| Violation::invalid(&path.child("key"), key, why)));
    for (index, value) in values.iter().filter_map(Value::as_str).enumerate() {
        let reasons = names::label_value(value).into_iter();
        violations.extend(reasons.map(|why| Violation::invalid(&at.index(index), value, why)));
    }
}

/// A selector in text form, as tables and scales show it.
pub(crate) fn format_selector(selector: &Value) -> String {
    let labels = selector.map("/matchLabels").into_iter().flatten();
    let equal = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let expressions = selector.list("/matchExpressions").iter().map(|expression| {
        let mut values: Vec<&str> = expression.list("/values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let (key, values) = (expression.text("/key"), values.join(","));
        match expression.text("/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        }
    });
    let mut parts: Vec<String> = equal.chain(expressions).collect();
    parts.sort_by(|a, b| a.trim_start_matches('!').cmp(b.trim_start_matches('!')));
    if parts.is_empty() { "<none>".to_owned() } else { parts.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_are_shown_in_text_form() {
        let selector = json!({"matchLabels": {"b": "2", "a": "1"},
            "matchExpressions": [{"key": "c", "operator": "NotIn", "values": ["y", "x"]}, {"key": "d", "operator": "DoesNotExist"}]});
        assert_eq!(format_selector(&selector), "a=1,b=2,c notin (x,y),!d");
        assert_eq!(format_selector(&Value::Null), "<none>");
    }
}
