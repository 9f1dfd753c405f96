//! The status, which is shown and never stored.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Wire, show};
use crate::crd::{
    self, CompletionStatus, RolloutPhase, StepPluginOperation, StepPluginPhase, Strategy, keys,
};
use crate::pb::v1;
use v1::rollout_status::State;
use v1::step_plugin_status::{Operation, Phase};
use v1::update_duration::Completion;

/// The status as it is shown.
#[must_use]
pub(super) fn status(rollout: &crd::Rollout) -> v1::RolloutStatus {
    let status = rollout.status();
    let (state, message) = state(rollout);
    let canary = status.canary.as_deref();
    let count = |count: Option<i32>| count.unwrap_or(0);
    let steps = match rollout.spec.strategy() {
        Ok(Strategy::Canary(canary)) => canary.steps().len(),
        Ok(Strategy::BlueGreen(_)) | Err(_) => 0,
    };
    v1::RolloutStatus {
        state: state.into(),
        message,
        observed_generation: status.observed_generation().unwrap_or(0),
        replicas: count(status.replicas),
        updated_replicas: count(status.updated_replicas),
        ready_replicas: count(status.ready_replicas),
        available_replicas: count(status.available_replicas),
        selector: status.selector.clone().unwrap_or_default(),
        current_pod_hash: status.current_pod_hash().to_owned(),
        stable_pod_hash: status.stable_rs().to_owned(),
        current_step_index: status.current_step_index.filter(|_| steps > 0),
        step_count: i32::try_from(steps).unwrap_or(i32::MAX),
        revision: revision(&rollout.metadata),
        aborted: status.abort(),
        abort_time: show(status.aborted_at.as_ref()),
        promoting_fully: status.promote_full(),
        pause_conditions: status.pause_conditions().iter().map(pause_condition).collect(),
        conditions: status.conditions().iter().map(condition).collect(),
        weights: canary.and_then(|canary| canary.weights.as_ref()).map(weights),
        blue_green: status.blue_green.as_deref().map(blue_green),
        collision_count: count(status.collision_count),
        restarted_time: show(status.restarted_at.as_ref()),
        step_analysis: canary.and_then(|canary| canary.current_step_analysis_run_status.as_ref()).map(run),
        background_analysis: canary
            .and_then(|canary| canary.current_background_analysis_run_status.as_ref())
            .map(run),
        current_experiment: canary.and_then(|canary| canary.current_experiment.clone()).unwrap_or_default(),
        duration: status.duration.as_ref().map(duration),
        step_plugins: canary
            .and_then(|canary| canary.step_plugin_statuses.as_ref())
            .into_iter()
            .flatten()
            .map(step_plugin)
            .collect(),
    }
}

fn duration(stored: &crd::RolloutDuration) -> v1::UpdateDuration {
    let seconds = stored.total_manual_pause_duration_seconds;
    v1::UpdateDuration {
        start_time: show(stored.rollout_started_at.as_ref()),
        finish_time: show(stored.finished_at.as_ref()),
        completion: stored.completion_status.as_ref().map_or(Completion::Unspecified, completion).into(),
        manual_pause_start_time: show(stored.manual_pause_started_at.as_ref()),
        total_manual_pause: seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
    }
}

fn completion(stored: &CompletionStatus) -> Completion {
    match stored {
        CompletionStatus::Promoted => Completion::Promoted,
        CompletionStatus::FastPromoted => Completion::FastPromoted,
        CompletionStatus::Aborted => Completion::Aborted,
        CompletionStatus::Superseded => Completion::Superseded,
        CompletionStatus::RolledBack => Completion::RolledBack,
        CompletionStatus::FastRolledBack => Completion::FastRolledBack,
        CompletionStatus::Other(_) => Completion::Unspecified,
    }
}

fn step_plugin(stored: &crd::StepPluginStatus) -> v1::StepPluginStatus {
    let backoff = stored.backoff.as_deref().and_then(|text| crd::go_duration::parse(text).ok());
    v1::StepPluginStatus {
        step_index: stored.index,
        plugin: stored.name.clone(),
        operation: match stored.operation {
            StepPluginOperation::Run => Operation::Run,
            StepPluginOperation::Terminate => Operation::Terminate,
            StepPluginOperation::Abort => Operation::Abort,
            StepPluginOperation::Other(_) => Operation::Unspecified,
        }
        .into(),
        phase: match stored.phase {
            Some(StepPluginPhase::Running) => Phase::Running,
            Some(StepPluginPhase::Successful) => Phase::Successful,
            Some(StepPluginPhase::Failed) => Phase::Failed,
            Some(StepPluginPhase::Error) => Phase::Error,
            Some(StepPluginPhase::Other(_)) | None => Phase::Unspecified,
        }
        .into(),
        message: stored.message.clone().unwrap_or_default(),
        start_time: show(stored.started_at.as_ref()),
        update_time: show(stored.updated_at.as_ref()),
        finish_time: show(stored.finished_at.as_ref()),
        backoff: backoff.map(|backoff| prost_types::Duration {
            seconds: backoff.as_secs(),
            nanos: backoff.subsec_nanos(),
        }),
        executions: stored.executions.unwrap_or(0),
        disabled: stored.disabled.unwrap_or(false),
    }
}

/// The status of a rollout whose stored object cannot be decoded.
#[must_use]
pub(super) fn malformed(metadata: &ObjectMeta, why: &str) -> v1::RolloutStatus {
    v1::RolloutStatus {
        state: State::Degraded.into(),
        message: format!("the stored object cannot be decoded: {why}"),
        revision: revision(metadata),
        ..v1::RolloutStatus::default()
    }
}

/// The state and its message, by which clients of the CRD judge a rollout (contract 4.11).
pub(super) fn state(rollout: &crd::Rollout) -> (State, String) {
    const NOT_OBSERVED: &str = "waiting for rollout spec update to be observed";
    const NOT_RESUMED: &str = "waiting for rollout to unpause";
    const WORKLOAD_NOT_OBSERVED: &str =
        "waiting for rollout spec update to be observed for the reference workload";
    let status = rollout.status();
    if status.observed_generation() != rollout.metadata.generation {
        return (State::Progressing, NOT_OBSERVED.to_owned());
    }
    if status.controller_pause() && status.pause_conditions().is_empty() {
        return (State::Progressing, NOT_RESUMED.to_owned());
    }
    if !rollout.is_workload_observed() {
        return (State::Progressing, WORKLOAD_NOT_OBSERVED.to_owned());
    }
    let state = match &status.phase {
        Some(RolloutPhase::Healthy) => State::Healthy,
        Some(RolloutPhase::Degraded) => State::Degraded,
        Some(RolloutPhase::Paused) => State::Paused,
        Some(RolloutPhase::Progressing) | None => State::Progressing,
        Some(RolloutPhase::Other(_)) => State::Unspecified,
    };
    (state, status.message.clone().unwrap_or_default())
}

fn revision(metadata: &ObjectMeta) -> i64 {
    let annotations = metadata.annotations.as_ref();
    annotations.and_then(|map| map.get(keys::REVISION)).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn pause_condition(stored: &crd::PauseCondition) -> v1::PauseCondition {
    v1::PauseCondition { reason: stored.reason.to_string(), start_time: Some(Wire::show(&stored.start_time)) }
}

fn condition(stored: &crd::RolloutCondition) -> v1::Condition {
    v1::Condition {
        r#type: stored.condition_type.to_string(),
        status: stored.status.to_string(),
        update_time: Some(Wire::show(&stored.last_update_time)),
        transition_time: Some(Wire::show(&stored.last_transition_time)),
        reason: stored.reason.clone(),
        message: stored.message.clone(),
    }
}

fn weights(stored: &crd::TrafficWeights) -> v1::TrafficWeights {
    v1::TrafficWeights {
        canary: Some(destination(&stored.canary)),
        stable: Some(destination(&stored.stable)),
        additional: stored.additional.iter().flatten().map(destination).collect(),
        verified: stored.verified,
    }
}

fn destination(stored: &crd::WeightDestination) -> v1::WeightDestination {
    v1::WeightDestination {
        weight: stored.weight,
        service_name: stored.service_name.clone().unwrap_or_default(),
        pod_template_hash: stored.pod_template_hash.clone().unwrap_or_default(),
    }
}

fn blue_green(stored: &crd::BlueGreenStatus) -> v1::BlueGreenStatus {
    v1::BlueGreenStatus {
        preview_selector: stored.preview_selector.clone().unwrap_or_default(),
        active_selector: stored.active_selector.clone().unwrap_or_default(),
        scale_up_preview_check_point: stored.scale_up_preview_check_point.unwrap_or(false),
        pre_promotion_analysis: stored.pre_promotion_analysis_run_status.as_ref().map(run),
        post_promotion_analysis: stored.post_promotion_analysis_run_status.as_ref().map(run),
    }
}

fn run(stored: &crd::RolloutAnalysisRunStatus) -> v1::AnalysisRunSummary {
    v1::AnalysisRunSummary {
        name: stored.name.clone(),
        phase: stored.status.to_string(),
        message: stored.message.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rollout(status: &serde_json::Value) -> crd::Rollout {
        serde_json::from_value(json!({
            "metadata": { "name": "web", "generation": 3 },
            "spec": { "strategy": { "canary": { "steps": [{ "setWeight": 20 }, { "pause": {} }] } } },
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn the_state_is_that_of_the_newest_spec_or_progressing() {
        let unobserved = "waiting for rollout spec update to be observed";
        let resumed = "waiting for rollout to unpause";
        for (status, expected) in [
            (json!(null), (State::Progressing, unobserved)),
            (json!({ "observedGeneration": "2", "phase": "Healthy" }), (State::Progressing, unobserved)),
            (json!({ "observedGeneration": "67b9", "phase": "Healthy" }), (State::Progressing, unobserved)),
            (json!({ "observedGeneration": "3", "phase": "Healthy" }), (State::Healthy, "")),
            (
                json!({ "observedGeneration": "3", "phase": "Degraded", "message": "RolloutAborted: x" }),
                (State::Degraded, "RolloutAborted: x"),
            ),
            (
                json!({ "observedGeneration": "3", "phase": "Paused", "controllerPause": true, "message": "CanaryPauseStep",
                    "pauseConditions": [{ "reason": "CanaryPauseStep", "startTime": "2026-11-21T05:37:43Z" }] }),
                (State::Paused, "CanaryPauseStep"),
            ),
            (
                json!({ "observedGeneration": "3", "phase": "Paused", "controllerPause": true, "message": "CanaryPauseStep" }),
                (State::Progressing, resumed),
            ),
            (json!({ "observedGeneration": "3", "phase": "Dreaming" }), (State::Unspecified, "")),
        ] {
            let (state, message) = state(&rollout(&status));
            assert_eq!((state, message.as_str()), expected, "{status}");
        }
    }

    #[test]
    fn a_step_index_without_steps_is_not_shown() {
        let mut rollout = rollout(&json!({ "currentStepIndex": 1 }));
        assert_eq!((status(&rollout).current_step_index, status(&rollout).step_count), (Some(1), 2));
        rollout.spec.strategy = None;
        assert_eq!((status(&rollout).current_step_index, status(&rollout).step_count), (None, 0));
    }
}
