//! PodDisruptionBudgets: how many pods of a selection evictions may take.

use jiff::Timestamp;
use k8s_openapi::api::policy;
use serde_json::{Value, json};

use super::container::push_non_negative;
use super::label_selector::validate_label_selector;
use super::{open_api, read};
use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::names::{self, NameFormat};
use crate::apiserver::object::Object;
use crate::apiserver::resource::{Read, ReadError, Rules, Surroundings, count_spec_changes, keep_status};
use crate::apiserver::status::ApiError;
use crate::apiserver::table::{Column, age};

/// Longest reason of a condition.
const REASON_MAX: usize = 1024;
/// Longest message of a condition.
const MESSAGE_MAX: usize = 32 * 1024;

const GO_TYPE: &str = "io.k8s.api.policy.v1.PodDisruptionBudget";

pub(super) struct DisruptionBudgetRules;

impl Rules for DisruptionBudgetRules {
    fn read(&self, body: Value) -> Result<Read, ReadError> {
        read(&body, GO_TYPE, "policy/v1", |_| {})
    }

    /// The real server checks no more of their names.
    fn name_format(&self) -> NameFormat {
        NameFormat::PathSegment
    }

    fn update_needs_version(&self) -> bool {
        true
    }

    fn prepare_create(&self, budget: &mut Value, _: &mut Surroundings<'_>) -> Result<(), ApiError> {
        budget["status"] =
            json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
        budget.set_meta("generation", Some(json!(1)));
        Ok(())
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _: &mut Surroundings<'_>) -> Result<(), ApiError> {
        keep_status(new, old);
        count_spec_changes(new, old);
        Ok(())
    }

    fn validate(&self, budget: &Value) -> Violations {
        let (path, spec) = (Path::of("spec"), &budget["spec"]);
        let mut violations = Violations::new();
        if spec.get("minAvailable").is_some() && spec.get("maxUnavailable").is_some() {
            // The message shows the spec as the server holds it inside.
            let member = |name: &str| spec.get(name).cloned().unwrap_or_default();
            let shown = json!({"MinAvailable": member("minAvailable"), "Selector": member("selector"),
                "MaxUnavailable": member("maxUnavailable"),
                "UnhealthyPodEvictionPolicy": member("unhealthyPodEvictionPolicy")});
            let detail = "minAvailable and maxUnavailable cannot be both set";
            violations.push(Violation::invalid(&path, shown, detail));
        }
        for field in ["minAvailable", "maxUnavailable"] {
            validate_amount(spec.get(field), &path.child(field), &mut violations);
        }
        violations.extend(validate_label_selector(&spec["selector"], &path.child("selector")));
        if let Some(policy) = spec.get("unhealthyPodEvictionPolicy").and_then(Value::as_str)
            && !["AlwaysAllow", "IfHealthyBudget"].contains(&policy)
        {
            let path = path.child("unhealthyPodEvictionPolicy");
            violations.push(Violation::not_supported(&path, policy, &["AlwaysAllow", "IfHealthyBudget"]));
        }
        violations
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Violations {
        let path = Path::of("status");
        let mut violations = validate_conditions(new.list("/status/conditions"), &path.child("conditions"));
        for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            push_non_negative(&mut violations, &path.child(field), new.integer(&format!("/status/{field}")));
        }
        violations
    }

    fn go_type(&self) -> Option<&'static str> {
        Some(GO_TYPE)
    }

    fn open_api(&self) -> (String, Value) {
        open_api::<policy::v1::PodDisruptionBudget>()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Min Available", "string", "The minimum number of pods that must be available."),
            Column::new("Max Unavailable", "string", "The maximum number of pods that may be unavailable."),
            Column::new(
                "Allowed Disruptions",
                "integer",
                "Calculated number of pods that may be disrupted at this time.",
            ),
            Column::age(),
        ]
    }

    fn cells(&self, budget: &Value, now: Timestamp) -> Vec<Value> {
        let amount = |field: &str| match &budget["spec"][field] {
            Value::String(percent) => json!(percent),
            Value::Null => json!("N/A"),
            number => json!(number.to_string()),
        };
        vec![
            json!(budget.name()),
            amount("minAvailable"),
            amount("maxUnavailable"),
            json!(budget.integer("/status/disruptionsAllowed").unwrap_or(0)),
            age(budget, now),
        ]
    }
}

/// A number of pods, or a share of them.
fn validate_amount(amount: Option<&Value>, path: &Path, violations: &mut Violations) {
    match amount {
        Some(Value::String(text)) => {
            let reasons = names::percent(text);
            let digits = text.trim_end_matches('%').trim_start_matches('0');
            if reasons.is_empty() && (digits.len() > 3 || digits.parse::<u32>().is_ok_and(|n| n > 100)) {
                violations.push(Violation::invalid(path, text.as_str(), "must not be greater than 100%"));
            }
            violations.extend(reasons.into_iter().map(|why| Violation::invalid(path, text.as_str(), why)));
        }
        Some(number) => push_non_negative(violations, path, number.as_i64()),
        None => {}
    }
}

/// Rules of a list of `metav1.Condition`.
fn validate_conditions(conditions: &[Value], path: &Path) -> Violations {
    let mut violations = Violations::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let kind = condition.text("/type");
        if conditions[..index].iter().any(|earlier| earlier.text("/type") == kind) {
            violations.push(Violation::duplicate(&path.child("type"), kind));
        }
        let reasons = names::qualified_name(kind).into_iter();
        violations.extend(reasons.map(|why| Violation::invalid(&path.child("type"), kind, why)));
        let status = condition.text("/status");
        if !["False", "True", "Unknown"].contains(&status) {
            let supported = ["False", "True", "Unknown"];
            violations.push(Violation::not_supported(&path.child("status"), status, &supported));
        }
        if let Some(generation) = condition.integer("/observedGeneration").filter(|number| *number < 0) {
            let detail = "must be greater than or equal to zero";
            violations.push(Violation::invalid(&path.child("observedGeneration"), generation, detail));
        }
        if condition.text("/lastTransitionTime").is_empty() {
            violations.push(Violation::required(&path.child("lastTransitionTime"), ""));
        }
        let (reason, at) = (condition.text("/reason"), path.child("reason"));
        if reason.is_empty() {
            violations.push(Violation::required(&at, ""));
        } else {
            let reasons = names::condition_reason(reason).into_iter();
            violations.extend(reasons.map(|why| Violation::invalid(&at, reason, why)));
        }
        for (field, limit) in [("reason", REASON_MAX), ("message", MESSAGE_MAX)] {
            if condition.text(&format!("/{field}")).len() > limit {
                violations.push(Violation::too_long(&path.child(field), limit));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(spec: &Value) -> Vec<String> {
        let budget = DisruptionBudgetRules.read(json!({"spec": spec})).unwrap().object;
        DisruptionBudgetRules.validate(&budget).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn amounts_are_numbers_or_percentages() {
        for amount in [json!(0), json!(3), json!("0%"), json!("100%"), json!("0050%")] {
            assert_eq!(texts(&json!({"minAvailable": amount})), Vec::<String>::new(), "{amount}");
        }
        for amount in [json!(-1), json!("101%"), json!("99999999999999999999%"), json!("%"), json!("5")] {
            assert_eq!(texts(&json!({"maxUnavailable": amount})).len(), 1, "{amount}");
        }
    }

    #[test]
    fn only_one_amount_may_be_set() {
        let both = texts(&json!({"minAvailable": 1, "maxUnavailable": "5%"}));
        assert_eq!(
            both,
            ["spec: Invalid value: {\"MinAvailable\":1,\"Selector\":null,\"MaxUnavailable\":\"5%\",\
              \"UnhealthyPodEvictionPolicy\":null}: minAvailable and maxUnavailable cannot be both set"]
        );
    }
}
