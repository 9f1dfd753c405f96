//! The spec of a Rollout, in the order in which the reference checks it: the first violation is what InvalidSpec says.

use serde_json::json;

use super::path::Path;
use super::violation::Violation;
use super::{canary, ephemeral, labels, pod_template};
use crate::crd::{AntiAffinity, BlueGreenStrategy, Rollout, RolloutSpec, ScaleDown, WorkloadKind};

const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// Whose the pod template of a rollout is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TemplateOf {
    /// The rollout is as it is stored: one that refers to a workload has none.
    Stored,
    /// The workload's that the rollout refers to.
    Workload,
}

/// All violations of a rollout's spec as it is stored; none when it is valid. What a workload that it refers to holds is not looked at.
#[must_use]
pub fn rollout(rollout: &Rollout) -> Vec<Violation> {
    check(rollout, TemplateOf::Stored)
}

/// The same of a rollout that was given the pod template (and where it has none, the selector) of the workload that it refers to.
#[must_use]
pub fn resolved(rollout: &Rollout) -> Vec<Violation> {
    check(rollout, TemplateOf::Workload)
}

fn check(rollout: &Rollout, template_of: TemplateOf) -> Vec<Violation> {
    let path = Path::root("spec");
    let spec = &rollout.spec;
    let mut violations = Vec::from_iter(not_negative(spec.replicas, &path, "replicas"));
    violations.extend(workload_ref(spec, &path.field("workloadRef")));
    violations.extend(selector(spec, template_of, &path));
    violations.extend(template(spec, template_of, &path));
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

fn workload_ref(spec: &RolloutSpec, path: &Path) -> Vec<Violation> {
    const KINDS: [&str; 3] = ["apps/v1 Deployment", "apps/v1 ReplicaSet", "v1 PodTemplate"];
    let Some(reference) = &spec.workload_ref else { return Vec::new() };
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (api_version, kind) = (text(&reference.api_version), text(&reference.kind));
    let mut violations = Vec::new();
    if !WorkloadKind::ALL.iter().any(|known| (known.api_version(), known.as_str()) == (&api_version, &kind)) {
        let given = format!("{api_version} {kind}");
        violations.push(Violation::not_supported(path.field("kind"), given.trim(), &KINDS));
    }
    if text(&reference.name).is_empty() {
        violations
            .push(Violation::required(path.field("name"), "names the object that holds the pod template"));
    }
    violations
}

/// What is wrong with when the workload of a rollout is scaled down. The reference takes it for «never», and so do we where it is
/// stored; nobody who writes it through us means that.
#[must_use]
pub(super) fn scale_down(rollout: &Rollout) -> Option<Violation> {
    const MODES: [&str; 3] = ["never", "onsuccess", "progressively"];
    let reference = rollout.spec.workload_ref.as_ref()?;
    let path = Path::root("spec").field("workloadRef").field("scaleDown");
    match reference.scale_down.as_ref()? {
        ScaleDown::Never => None,
        ScaleDown::Other(other) if other.is_empty() => None,
        ScaleDown::Other(other) => Some(Violation::not_supported(path, other.as_str(), &MODES)),
        mode if *reference.scale_down() == ScaleDown::Never => {
            Some(Violation::invalid(path, mode.as_str(), "only a Deployment is scaled down"))
        }
        ScaleDown::OnSuccess | ScaleDown::Progressively => None,
    }
}

fn selector(spec: &RolloutSpec, template_of: TemplateOf, path: &Path) -> Vec<Violation> {
    if spec.workload_ref.is_some() && template_of == TemplateOf::Stored {
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

fn template(spec: &RolloutSpec, template_of: TemplateOf, path: &Path) -> Vec<Violation> {
    let path = path.field("template");
    let reference = spec.workload_ref.as_ref().filter(|_| template_of == TemplateOf::Stored);
    match (reference, &spec.template) {
        (Some(_), Some(_)) if has_own_template(spec) => {
            vec![Violation::forbidden(path, "template must be empty for workload reference rollout")]
        }
        (Some(_), _) => Vec::new(),
        (None, None) => vec![Violation::required(path, "Rollout has missing field '.spec.template'")],
        (None, Some(template)) => pod_template::pod_template(template, spec.selector.as_ref(), &path),
    }
}

/// Whether a spec has a pod template of its own. Beside workloadRef it counts as given once it has labels or annotations (the
/// reference's `EmptyTemplate`).
#[must_use]
pub fn has_own_template(spec: &RolloutSpec) -> bool {
    let filled = |pointer| {
        let map = spec.template.as_ref()?.pointer(pointer)?.as_object()?;
        Some(!map.is_empty())
    };
    let has_metadata =
        ["/metadata/labels", "/metadata/annotations"].into_iter().any(|at| filled(at) == Some(true));
    spec.template.is_some() && (spec.workload_ref.is_none() || has_metadata)
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
