//! Labels, selectors and names, by Kubernetes' rules.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use kube::core::{Selector, SelectorExt};

use super::path::Path;
use super::violation::Violation;
use crate::crd::LabelSelector;

const NAME_MAX: usize = 63;
const PREFIX_MAX: usize = 253;

/// Checks a label selector's form.
pub(super) fn selector(selector: &LabelSelector, path: &Path) -> Vec<Violation> {
    const OPERATORS: &[&str] = &["In", "NotIn", "Exists", "DoesNotExist"];
    let mut violations = labels(selector.match_labels.as_ref(), &path.field("matchLabels"));
    for (index, requirement) in selector.match_expressions.iter().flatten().enumerate() {
        let path = path.field("matchExpressions").index(index);
        let values = requirement.values.as_deref().unwrap_or_default();
        match requirement.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => violations.push(Violation::required(
                path.field("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => violations.push(Violation::forbidden(
                path.field("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => violations.push(Violation::not_supported(path.field("operator"), other, OPERATORS)),
        }
        if let Some(rule) = key_rule(&requirement.key) {
            violations.push(Violation::invalid(path.field("key"), requirement.key.as_str(), rule));
        }
        for (at, value) in values.iter().enumerate() {
            if let Some(rule) = value_rule(value) {
                violations.push(Violation::invalid(path.field("values").index(at), value.as_str(), rule));
            }
        }
    }
    violations
}

/// Whether a selector matches labels; `None` when the selector is not well-formed.
#[must_use]
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> Option<bool> {
    let selector = Selector::try_from(meta::LabelSelector::from(selector)).ok()?;
    Some(selector.matches(labels))
}

/// Checks a map of labels.
pub(super) fn labels(labels: Option<&BTreeMap<String, String>>, path: &Path) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (key, value) in labels.into_iter().flatten() {
        if let Some(rule) = key_rule(key) {
            violations.push(Violation::invalid(path.clone(), key.as_str(), rule));
        }
        if let Some(rule) = value_rule(value) {
            violations.push(Violation::invalid(path.key(key), value.as_str(), rule));
        }
    }
    violations
}

/// The rule that a label or annotation key breaks, if any (a qualified name: an optional DNS subdomain, a slash, a name).
#[must_use]
pub fn key_rule(key: &str) -> Option<&'static str> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_some_and(|prefix| !is_dns_subdomain(prefix)) {
        return Some("prefix part must be a DNS subdomain (lower case alphanumeric characters, '-' or '.')");
    }
    let is_name = !name.is_empty() && name.len() <= NAME_MAX && is_bounded_word(name);
    (!is_name).then_some(
        "name part must be 1 to 63 alphanumeric characters, '-', '_' or '.', and start and end with an alphanumeric character",
    )
}

/// The rule that a label's value breaks, if any.
#[must_use]
pub fn value_rule(value: &str) -> Option<&'static str> {
    let is_value = value.is_empty() || (value.len() <= NAME_MAX && is_bounded_word(value));
    (!is_value).then_some(
        "must be empty or at most 63 alphanumeric characters, '-', '_' or '.', starting and ending with an alphanumeric character",
    )
}

/// Whether a text is a DNS label (RFC 1123), as container and volume names must be.
#[must_use]
pub(super) fn is_dns_label(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=NAME_MAX).contains(&bytes.len())
        && bytes.iter().all(|&byte| word(byte) || byte == b'-')
        && bytes.first().is_some_and(|&byte| word(byte))
        && bytes.last().is_some_and(|&byte| word(byte))
}

/// Whether a text is a DNS subdomain (RFC 1123): labels joined by dots.
#[must_use]
pub(super) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= PREFIX_MAX && text.split('.').all(is_dns_label)
}

fn is_bounded_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    bytes.iter().all(inner)
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_follow_kubernetes_rules() {
        for key in ["app", "a.b/c", "app.kubernetes.io/name", "A_b-c.d"] {
            assert_eq!(key_rule(key), None, "{key}");
        }
        for key in ["", "-a", "a/", "/a", "A.b/c", "a b", "a/b/c"] {
            assert!(key_rule(key).is_some(), "{key}");
        }
        for (value, valid) in [("", true), ("v1", true), ("v1.", false), ("a b", false)] {
            assert_eq!(value_rule(value).is_none(), valid, "{value}");
        }
        assert!(value_rule(&"a".repeat(64)).is_some());
    }

    #[test]
    fn a_selector_matches_by_labels_and_expressions() {
        let selector: LabelSelector = serde_json::from_value(serde_json::json!({
            "matchLabels": { "app": "web" },
            "matchExpressions": [{ "key": "tier", "operator": "In", "values": ["a", "b"] }],
        }))
        .unwrap();
        let labels =
            |tier: &str| BTreeMap::from([("app".into(), "web".into()), ("tier".into(), tier.into())]);
        assert_eq!(matches(&selector, &labels("a")), Some(true));
        assert_eq!(matches(&selector, &labels("c")), Some(false));
    }
}
