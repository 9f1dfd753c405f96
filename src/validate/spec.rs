//! The spec of a Rollout, in the order in which the reference checks it: the first violation is what InvalidSpec says.

use serde_json::{Value, json};

use super::path::Path;
use super::violation::Violation;
use super::{canary, ephemeral, labels, pod_template};
use crate::crd::{AntiAffinity, BlueGreenStrategy, Rollout, RolloutSpec};

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// All violations of a rollout's spec; none when it is valid.
#[must_use]
pub fn rollout(rollout: &Rollout) -> Vec<Violation> {
    let path = Path::root("spec");
    let spec = &rollout.spec;
    let mut violations = Vec::from_iter(not_negative(spec.replicas, &path, "replicas"));
    violations.extend(selector(spec, &path));
    violations.extend(template(spec, &path));
    violations.extend(not_negative(spec.min_ready_seconds, &path, "minReadySeconds"));
    violations.extend(not_negative(spec.revision_history_limit, &path, "revisionHistoryLimit"));
    let window = spec.rollback_window.as_ref().and_then(|window| window.revisions);
    violations.extend(not_negative(window, &path.field("rollbackWindow"), "revisions"));
    violations.extend(deadline(spec, &path));
    violations.extend(strategy(spec, &path.field("strategy")));
    violations.extend(ephemeral::metadata(spec, &path.field("strategy")));
    violations
}

/// Checks that a number, where it is given, is not negative.
pub(super) fn not_negative(value: Option<i32>, path: &Path, field: &'static str) -> Option<Violation> {
    let value = value.filter(|value| *value < 0)?;
    Some(Violation::invalid(path.field(field), value, NOT_NEGATIVE))
}

fn selector(spec: &RolloutSpec, path: &Path) -> Vec<Violation> {
    if spec.workload_ref.is_some() {
        return Vec::new();
    }
    let path = path.field("selector");
    let Some(selector) = &spec.selector else {
        return vec![Violation::required(path, "Rollout has missing field '.spec.selector'")];
    };
    let mut violations = labels::selector(selector, &path);
    let parts =
        selector.match_labels.iter().flatten().count() + selector.match_expressions.iter().flatten().count();
    if parts == 0 {
        violations.push(Violation::invalid(
            path,
            json!(selector),
            "empty selector is invalid for deployment",
        ));
    }
    violations
}

fn template(spec: &RolloutSpec, path: &Path) -> Vec<Violation> {
    let path = path.field("template");
    match (&spec.workload_ref, &spec.template) {
        (Some(_), Some(template)) if has_metadata(template) => {
            vec![Violation::forbidden(path, "template must be empty for workload reference rollout")]
        }
        (Some(_), _) => Vec::new(),
        (None, None) => vec![Violation::required(path, "Rollout has missing field '.spec.template'")],
        (None, Some(template)) => pod_template::pod_template(template, spec.selector.as_ref(), &path),
    }
}

/// A template beside workloadRef counts as given once it has labels or annotations (the reference's `EmptyTemplate`).
fn has_metadata(template: &Value) -> bool {
    let filled =
        |pointer| template.pointer(pointer).and_then(Value::as_object).is_some_and(|map| !map.is_empty());
    filled("/metadata/labels") || filled("/metadata/annotations")
}

fn deadline(spec: &RolloutSpec, path: &Path) -> Vec<Violation> {
    let mut violations =
        Vec::from_iter(not_negative(spec.progress_deadline_seconds, path, "progressDeadlineSeconds"));
    let deadline = spec.progress_deadline_seconds();
    if deadline <= spec.min_ready_seconds() {
        let path = path.field("progressDeadlineSeconds");
        violations.push(Violation::invalid(path, deadline, "must be greater than minReadySeconds"));
    }
    violations
}

fn strategy(spec: &RolloutSpec, path: &Path) -> Vec<Violation> {
    let strategy = spec.strategy.as_ref();
    let blue_green = strategy.and_then(|strategy| strategy.blue_green.as_ref());
    let canary = strategy.and_then(|strategy| strategy.canary.as_ref());
    match (blue_green, canary) {
        (None, None) => vec![Violation::required(
            path.clone(),
            "Rollout has missing field '.spec.strategy.canary or .spec.strategy.blueGreen'",
        )],
        (Some(_), Some(_)) => vec![Violation::invalid(
            path.clone(),
            "blueGreen: true canary: true",
            "Multiple Strategies can not be listed",
        )],
        (Some(blue_green), None) => check_blue_green(blue_green, spec, &path.field("blueGreen")),
        (None, Some(canary)) => canary::canary(canary, &path.field("canary")),
    }
}

fn check_blue_green(blue_green: &BlueGreenStrategy, spec: &RolloutSpec, path: &Path) -> Vec<Violation> {
    let mut violations = Vec::new();
    let active = blue_green.active_service.as_str();
    if active.is_empty() {
        violations.push(Violation::required(path.field("activeService"), "names the Service that serves"));
    } else if active == blue_green.preview_service.as_deref().unwrap_or_default() {
        violations.push(Violation::invalid(
            path.field("activeService"),
            active,
            "This rollout uses the same service for the active and preview services, but two different services are required.",
        ));
    }
    if let Some(limit) =
        blue_green.scale_down_delay_revision_limit.filter(|&limit| spec.revision_history_limit() < limit)
    {
        violations.push(Violation::invalid(
            path.field("scaleDownDelayRevisionLimit"),
            limit,
            "This rollout's revision history limit can not be smaller than the rollout's scale down limit",
        ));
    }
    for (value, field) in [
        (blue_green.preview_replica_count, "previewReplicaCount"),
        (blue_green.auto_promotion_seconds, "autoPromotionSeconds"),
        (blue_green.scale_down_delay_seconds, "scaleDownDelaySeconds"),
        (blue_green.abort_scale_down_delay_seconds, "abortScaleDownDelaySeconds"),
    ] {
        violations.extend(not_negative(value, path, field));
    }
    violations.extend(anti_affinity(blue_green.anti_affinity.as_ref(), &path.field("antiAffinity")));
    violations
}

/// Checks that exactly one rule of anti-affinity is given.
pub(super) fn anti_affinity(anti_affinity: Option<&AntiAffinity>, path: &Path) -> Vec<Violation> {
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let Some(rules) = anti_affinity else { return Vec::new() };
    let preferred = rules.preferred_during_scheduling_ignored_during_execution.as_ref();
    let required = rules.required_during_scheduling_ignored_during_execution.as_ref();
    let mut violations = Vec::new();
    if preferred.is_some() == required.is_some() {
        violations.push(Violation::invalid(
            path.clone(),
            format!("preferred: {} required: {}", preferred.is_some(), required.is_some()),
            "AntiAffinity must have exactly one strategy listed",
        ));
    }
    if let Some(preferred) = preferred.filter(|preferred| !(1..=100).contains(&preferred.weight)) {
        let path = path.field(PREFERRED).field("weight");
        violations.push(Violation::invalid(
            path,
            preferred.weight,
            "AntiAffinity weight must be between 1-100",
        ));
    }
    violations
}

#[cfg(test)]
mod tests;
