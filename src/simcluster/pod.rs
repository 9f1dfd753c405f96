//! Facts about a pod, read off its object.
//!
//! Pure; depends on Kubernetes' types only. The rules are those of `pkg/api/v1/pod/util.go` and
//! `pkg/controller/controller_utils.go` of Kubernetes.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};

/// Orders pods for deletion when a set shrinks; an integer, 0 when absent or malformed.
const DELETION_COST_ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";

/// A pod's phase, in the order in which scaling down takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Pending,
    Unknown,
    Running,
    /// Succeeded or Failed: never to run again.
    Terminal,
}

pub(super) fn phase(pod: &Pod) -> Phase {
    match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some("Running") => Phase::Running,
        Some("Succeeded" | "Failed") => Phase::Terminal,
        Some("Unknown") => Phase::Unknown,
        _ => Phase::Pending,
    }
}

pub(super) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub(super) fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub(super) fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|name| !name.is_empty())
}

pub(super) fn is_deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Counts towards its set: neither finished nor on its way out.
pub(super) fn is_active(pod: &Pod) -> bool {
    phase(pod) != Phase::Terminal && !is_deleting(pod)
}

/// On its way out and not finished.
pub(super) fn is_terminating(pod: &Pod) -> bool {
    phase(pod) != Phase::Terminal && is_deleting(pod)
}

pub(super) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when the pod is ready, if it is and says so.
pub(super) fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// When a ready pod counts as available.
pub(super) fn available_at(pod: &Pod, min_ready: Duration) -> Option<Timestamp> {
    if min_ready.is_zero() {
        return is_ready(pod).then_some(Timestamp::MIN);
    }
    ready_since(pod)?.checked_add(min_ready).ok()
}

pub(super) fn deletion_cost(pod: &Pod) -> i32 {
    let value = pod.metadata.annotations.as_ref().and_then(|all| all.get(DELETION_COST_ANNOTATION));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// The most restarts of any one container.
pub(super) fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref());
    statuses.into_iter().flatten().map(|container| container.restart_count).max().unwrap_or(0)
}

pub(super) fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}
