//! The phase and message of a rollout, first match wins (contract 4.3).
//!
//! From spec, status and its conditions alone, so that the conditions must be there before.

use super::observed::Observed;
use crate::crd::{ConditionType, RolloutPhase, RolloutSpec, RolloutStatus, Strategy};

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
    let is_stable = !status.stable_rs().is_empty() && status.stable_rs() == status.current_pod_hash();
    if let Ok(Strategy::BlueGreen(_)) = spec.strategy() {
        return blue_green(status, is_stable);
    }
    if count(status.replicas) > count(status.updated_replicas) {
        return Some("old replicas are pending termination");
    }
    (!is_stable).then_some("waiting for all steps to complete")
}

/// Sets that were replaced stay up for a while: they are nothing to wait for.
fn blue_green(status: &RolloutStatus, is_stable: bool) -> Option<&'static str> {
    let active = status.blue_green.as_ref().and_then(|status| status.active_selector.as_deref());
    if active.unwrap_or_default() != status.current_pod_hash() {
        return Some("active service cutover pending");
    }
    (!is_stable).then_some("waiting for post-promotion verification to complete")
}
