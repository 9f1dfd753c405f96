//! The phase and message of a rollout, first match wins (contract 4.3).
//!
//! From spec, status and its conditions alone, so that the conditions must be there before.

use super::observed::Observed;
use crate::crd::{ConditionType, RolloutPhase, RolloutSpec, RolloutStatus};

/// The phase and the message.
#[must_use]
pub(super) fn phase(seen: &Observed, status: &RolloutStatus) -> (RolloutPhase, String) {
    let spec = &seen.rollout.spec;
    if let Some(degraded) = degraded(status) {
        return (RolloutPhase::Degraded, degraded);
    }
    if spec.paused() {
        return (RolloutPhase::Paused, "manually paused".to_owned());
    }
    if let Some(pause) = status.pause_conditions().first() {
        return (RolloutPhase::Paused, pause.reason.as_str().to_owned());
    }
    match progressing(spec, status) {
        Some(message) => (RolloutPhase::Progressing, message.to_owned()),
        None => (RolloutPhase::Healthy, String::new()),
    }
}

fn degraded(status: &RolloutStatus) -> Option<String> {
    if let Some(invalid) = status.condition(&ConditionType::InvalidSpec) {
        return Some(format!("InvalidSpec: {}", invalid.message));
    }
    status
        .conditions()
        .iter()
        .find(|condition| matches!(condition.reason.as_str(), "RolloutAborted" | "ProgressDeadlineExceeded"))
        .map(|condition| format!("{}: {}", condition.reason, condition.message))
}

fn progressing(spec: &RolloutSpec, status: &RolloutStatus) -> Option<&'static str> {
    let count = |count: Option<i32>| count.unwrap_or(0);
    if spec.restart_at.is_some() && spec.restart_at != status.restarted_at {
        return Some("rollout is restarting");
    }
    if count(status.updated_replicas) < spec.replicas() {
        return Some("more replicas need to be updated");
    }
    if count(status.available_replicas) < count(status.updated_replicas) {
        return Some("updated replicas are still becoming available");
    }
    if count(status.replicas) > count(status.updated_replicas) {
        return Some("old replicas are pending termination");
    }
    if status.stable_rs().is_empty() || status.stable_rs() != status.current_pod_hash() {
        return Some("waiting for all steps to complete");
    }
    None
}
