//! The status of a Rollout (contract A6).
//!
//! Depends on `time`. What it means is decided in `plan/`; absent and zero stay apart here, and accessors
//! read an absent value as Go does: zero, false or empty.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_with::skip_serializing_none;

use super::open_enum::open_enum;
use super::schema::AnyObject;
use super::{Extra, Time};

/// What a Rollout is.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Whether the update is aborted. Set by clients and by the controller.
    pub abort: Option<bool>,
    /// Why the controller paused the update. Clients clear the list to go on.
    pub pause_conditions: Option<Vec<PauseCondition>>,
    /// Whether the controller paused the update. True with an empty pauseConditions means that a client
    /// has resumed it.
    pub controller_pause: Option<bool>,
    /// When the abort took effect.
    pub aborted_at: Option<Time>,
    /// Hash of the pod template in spec.
    pub current_pod_hash: Option<String>,
    /// Hash of the steps in spec.
    pub current_step_hash: Option<String>,
    /// Number of pods.
    pub replicas: Option<i32>,
    /// Number of pods of the new version.
    pub updated_replicas: Option<i32>,
    /// Number of ready pods.
    pub ready_replicas: Option<i32>,
    /// Number of available pods.
    pub available_replicas: Option<i32>,
    /// Index of the step that runs now, from 0; the number of steps when all are done.
    pub current_step_index: Option<i32>,
    /// How often the name of a ReplicaSet was taken; enters the hash.
    pub collision_count: Option<i32>,
    /// The metadata.generation that this status belongs to, as a decimal string.
    pub observed_generation: Option<String>,
    /// Conditions.
    pub conditions: Option<Vec<RolloutCondition>>,
    /// What only a canary has.
    pub canary: Option<Box<CanaryStatus>>,
    /// What only a blue-green update has.
    pub blue_green: Option<Box<BlueGreenStatus>>,
    /// Number of pods for autoscalers.
    #[serde(rename = "HPAReplicas")]
    pub hpa_replicas: Option<i32>,
    /// Selector of the pods for autoscalers, in string form.
    pub selector: Option<String>,
    /// Hash of the stable ReplicaSet.
    #[serde(rename = "stableRS")]
    pub stable_rs: Option<String>,
    /// The spec.restartAt that was completed last.
    pub restarted_at: Option<Time>,
    /// Whether to skip all steps, pauses and analyses. Set by clients.
    pub promote_full: Option<bool>,
    /// Progressing, Paused, Healthy or Degraded. Only meaningful while observedGeneration is
    /// metadata.generation.
    pub phase: Option<RolloutPhase>,
    /// Why it is in this phase.
    pub message: Option<String>,
    /// The generation of the referenced workload that this status belongs to, as a decimal string.
    pub workload_observed_generation: Option<String>,
    /// Load balancer and target groups of the one Ingress.
    pub alb: Option<AlbStatus>,
    /// Load balancers and target groups of several Ingresses.
    pub albs: Option<Vec<AlbStatus>>,
    /// When the update started and ended, and how long it was paused by hand.
    pub duration: Option<RolloutDuration>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

impl RolloutStatus {
    /// Whether the update is aborted.
    #[must_use]
    pub fn abort(&self) -> bool {
        self.abort.unwrap_or(false)
    }

    /// Why the controller paused the update; empty when it did not, or when a client resumed it.
    #[must_use]
    pub fn pause_conditions(&self) -> &[PauseCondition] {
        self.pause_conditions.as_deref().unwrap_or_default()
    }

    /// Whether the controller paused the update.
    #[must_use]
    pub fn controller_pause(&self) -> bool {
        self.controller_pause.unwrap_or(false)
    }

    /// Whether somebody asked for a full promotion.
    #[must_use]
    pub fn promote_full(&self) -> bool {
        self.promote_full.unwrap_or(false)
    }

    /// Hash of the pod template that this status belongs to; empty when there is none yet.
    #[must_use]
    pub fn current_pod_hash(&self) -> &str {
        self.current_pod_hash.as_deref().unwrap_or_default()
    }

    /// Hash of the steps that this status belongs to; empty when there is none yet.
    #[must_use]
    pub fn current_step_hash(&self) -> &str {
        self.current_step_hash.as_deref().unwrap_or_default()
    }

    /// Hash of the stable ReplicaSet; empty before the first one is.
    #[must_use]
    pub fn stable_rs(&self) -> &str {
        self.stable_rs.as_deref().unwrap_or_default()
    }

    /// The generation that this status belongs to: `None` when absent or no decimal number.
    #[must_use]
    pub fn observed_generation(&self) -> Option<i64> {
        self.observed_generation.as_deref().and_then(|generation| generation.parse().ok())
    }

    /// The generation of the referenced workload that this status belongs to: `None` when absent or no decimal number.
    #[must_use]
    pub fn workload_observed_generation(&self) -> Option<i64> {
        self.workload_observed_generation.as_deref().and_then(|generation| generation.parse().ok())
    }

    /// Conditions.
    #[must_use]
    pub fn conditions(&self) -> &[RolloutCondition] {
        self.conditions.as_deref().unwrap_or_default()
    }

    /// The condition of a type; the first one, should there be several.
    #[must_use]
    pub fn condition(&self, condition_type: &ConditionType) -> Option<&RolloutCondition> {
        self.conditions().iter().find(|condition| condition.condition_type == *condition_type)
    }
}

/// A reason for a pause.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PauseCondition {
    /// The reason.
    pub reason: PauseReason,
    /// When the pause started.
    pub start_time: Time,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

open_enum! {
    /// Why the controller paused an update.
    PauseReason {
        /// An analysis run was inconclusive.
        InconclusiveAnalysisRun = "InconclusiveAnalysisRun",
        /// An experiment was inconclusive.
        InconclusiveExperiment = "InconclusiveExperiment",
        /// A pause step.
        CanaryPauseStep = "CanaryPauseStep",
        /// A blue-green update waits for promotion.
        BlueGreenPause = "BlueGreenPause",
    }
}

open_enum! {
    /// What a Rollout is doing, in one word.
    RolloutPhase {
        /// Updated and available.
        Healthy = "Healthy",
        /// Failed, aborted or misconfigured.
        Degraded = "Degraded",
        /// On its way.
        Progressing = "Progressing",
        /// Waiting for somebody or for a pause to end.
        Paused = "Paused",
    }
}

/// One aspect of a Rollout.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutCondition {
    /// Which aspect.
    #[serde(rename = "type")]
    pub condition_type: ConditionType,
    /// True, False or Unknown.
    pub status: ConditionStatus,
    /// When status or reason were last written.
    pub last_update_time: Time,
    /// When status last changed.
    pub last_transition_time: Time,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

open_enum! {
    /// An aspect of a Rollout.
    ConditionType {
        /// The spec is invalid; nothing is done until it is corrected.
        InvalidSpec = "InvalidSpec",
        /// Enough pods are available.
        Available = "Available",
        /// The update progresses, or has ended well.
        Progressing = "Progressing",
        /// A ReplicaSet or pod could not be created or deleted.
        ReplicaFailure = "ReplicaFailure",
        /// The update is paused.
        Paused = "Paused",
        /// The desired version is the stable one.
        Completed = "Completed",
        /// Completed, and all pods are available.
        Healthy = "Healthy",
    }
}

open_enum! {
    /// The truth of a condition.
    ConditionStatus {
        /// It holds.
        True = "True",
        /// It does not hold.
        False = "False",
        /// It cannot be said.
        Unknown = "Unknown",
    }
}

/// What only a canary has.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryStatus {
    /// The analysis of the current step.
    pub current_step_analysis_run_status: Option<RolloutAnalysisRunStatus>,
    /// The analysis beside the steps.
    pub current_background_analysis_run_status: Option<RolloutAnalysisRunStatus>,
    /// Name of the experiment of the current step.
    pub current_experiment: Option<String>,
    /// Weights last given to the routers.
    pub weights: Option<TrafficWeights>,
    /// Which of the two Services is the stable one: ping or pong.
    pub stable_ping_pong: Option<PingPongType>,
    /// What step plugins reported.
    pub step_plugin_statuses: Option<Vec<StepPluginStatus>>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

open_enum! {
    /// One of the two Services that take turns.
    PingPongType {
        /// The first.
        Ping = "ping",
        /// The second.
        Pong = "pong",
    }
}

/// What only a blue-green update has.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlueGreenStatus {
    /// Hash of the ReplicaSet that the preview Service selects.
    pub preview_selector: Option<String>,
    /// Hash of the ReplicaSet that the active Service selects.
    pub active_selector: Option<String>,
    /// Whether the new ReplicaSet, held at previewReplicaCount, may now grow.
    pub scale_up_preview_check_point: Option<bool>,
    /// The analysis before promotion.
    pub pre_promotion_analysis_run_status: Option<RolloutAnalysisRunStatus>,
    /// The analysis after promotion.
    pub post_promotion_analysis_run_status: Option<RolloutAnalysisRunStatus>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// Weights given to the routers.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrafficWeights {
    /// The new version's share.
    pub canary: WeightDestination,
    /// The stable version's share.
    pub stable: WeightDestination,
    /// Shares of experiments.
    pub additional: Option<Vec<WeightDestination>>,
    /// Whether the router confirmed the weights; absent when it cannot.
    pub verified: Option<bool>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A share of the traffic.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WeightDestination {
    /// Parts of the total weight.
    pub weight: i32,
    /// The Service that gets it.
    pub service_name: Option<String>,
    /// Hash of the ReplicaSet behind it.
    pub pod_template_hash: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// An analysis run that belongs to the current update.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutAnalysisRunStatus {
    /// Name of the AnalysisRun.
    pub name: String,
    /// Its phase.
    pub status: AnalysisPhase,
    /// Why it is in this phase.
    pub message: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

open_enum! {
    /// The phase of an analysis run.
    AnalysisPhase {
        /// Not measured yet.
        Pending = "Pending",
        /// Being measured.
        Running = "Running",
        /// Ended well.
        Successful = "Successful",
        /// Ended badly.
        Failed = "Failed",
        /// Could not be measured.
        Error = "Error",
        /// Neither good nor bad.
        Inconclusive = "Inconclusive",
    }
}

/// What a step plugin reported.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepPluginStatus {
    /// Index of its step, from 0.
    pub index: i32,
    /// Name of the plugin.
    pub name: String,
    /// What was asked of it.
    pub operation: StepPluginOperation,
    /// How that went.
    pub phase: Option<StepPluginPhase>,
    /// Why it is in this phase.
    pub message: Option<String>,
    /// When the operation was first asked for.
    pub started_at: Option<Time>,
    /// When the operation was last asked for.
    pub updated_at: Option<Time>,
    /// When the operation ended.
    pub finished_at: Option<Time>,
    /// How long to wait before asking again, such as 30s.
    pub backoff: Option<String>,
    /// How often the operation was asked for.
    pub executions: Option<i32>,
    /// Whether the plugin is disabled by configuration.
    pub disabled: Option<bool>,
    /// State that the plugin keeps for itself.
    #[schemars(with = "Option<AnyObject>")]
    pub status: Option<Value>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

open_enum! {
    /// What is asked of a step plugin.
    StepPluginOperation {
        /// Do the step.
        Run = "Run",
        /// Stop doing it.
        Terminate = "Terminate",
        /// Undo it.
        Abort = "Abort",
    }
}

open_enum! {
    /// How an operation of a step plugin went.
    StepPluginPhase {
        /// It goes on.
        Running = "Running",
        /// It ended well.
        Successful = "Successful",
        /// It ended badly.
        Failed = "Failed",
        /// It could not be done.
        Error = "Error",
    }
}

/// Load balancer and target groups of an Ingress.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlbStatus {
    /// The load balancer.
    pub load_balancer: Option<AwsResourceRef>,
    /// The target group of the new version.
    pub canary_target_group: Option<AwsResourceRef>,
    /// The target group of the stable version.
    pub stable_target_group: Option<AwsResourceRef>,
    /// Name of the Ingress.
    pub ingress: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A resource of AWS.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsResourceRef {
    /// Its name.
    pub name: String,
    /// Its Amazon resource name.
    pub arn: String,
    /// Its full name.
    pub full_name: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// When an update started and ended. Newer than Argo Rollouts v1.10.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutDuration {
    /// When the update started.
    pub rollout_started_at: Option<Time>,
    /// When the running pause by hand started.
    pub manual_pause_started_at: Option<Time>,
    /// Seconds of ended pauses by hand.
    pub total_manual_pause_duration_seconds: Option<i64>,
    /// When the update ended.
    pub finished_at: Option<Time>,
    /// How it ended.
    pub completion_status: Option<CompletionStatus>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

open_enum! {
    /// How an update ended.
    CompletionStatus {
        /// All steps were done.
        Promoted = "Promoted",
        /// A full promotion skipped steps.
        FastPromoted = "FastPromoted",
        /// It was aborted.
        Aborted = "Aborted",
        /// Another update took its place.
        Superseded = "Superseded",
        /// It went back to the stable version.
        RolledBack = "RolledBack",
        /// It went back to a recent version without steps.
        FastRolledBack = "FastRolledBack",
    }
}
