//! The canary strategy (contract A3) with its defaults.
//!
//! Depends on the modules of its parts: `step`, `routing`, `analysis`, `metadata`. Defaults come from
//! Argo Rollouts' utils/defaults/defaults.go unless another source is named.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::open_enum::open_enum;
use super::{
    AntiAffinity, CanaryStep, Extra, IntOrString, PodTemplateMetadata, RolloutAnalysisBackground,
    RolloutTrafficRouting,
};

/// maxSurge and maxUnavailable unless set. A percentage although it lacks the sign (contract A3).
pub const DEFAULT_MAX_SURGE_AND_UNAVAILABLE: &str = "25";

/// Seconds for which a replaced ReplicaSet stays up after traffic left it.
pub const DEFAULT_SCALE_DOWN_DELAY_SECONDS: i32 = 30;

/// Seconds for which the ReplicaSet of an aborted update stays up.
pub const DEFAULT_ABORT_SCALE_DOWN_DELAY_SECONDS: i32 = 30;

/// What becomes of the new ReplicaSet after an abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortScaleDown {
    /// It is scaled away after so many seconds.
    AfterSeconds(i32),
    /// It stays (a configured delay of 0).
    Never,
}

impl AbortScaleDown {
    pub(super) fn from_delay(seconds: Option<i32>) -> Self {
        match seconds.unwrap_or(DEFAULT_ABORT_SCALE_DOWN_DELAY_SECONDS) {
            0 => Self::Never,
            seconds => Self::AfterSeconds(seconds),
        }
    }
}

/// Replaces pods step by step while both versions serve.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryStrategy {
    /// Service whose selector is kept on the new version.
    pub canary_service: Option<String>,
    /// Service whose selector is kept on the stable version.
    pub stable_service: Option<String>,
    /// What to do, in order. Without steps this is a rolling update.
    pub steps: Option<Vec<CanaryStep>>,
    /// Routers that split the traffic by weight. Without it the share of pods is the weight.
    pub traffic_routing: Option<RolloutTrafficRouting>,
    /// How many pods may be unavailable during an update: a number, or a percentage of spec.replicas
    /// rounded down. Default 25%. Not used with traffic routing.
    pub max_unavailable: Option<IntOrString>,
    /// How many pods may exist beyond spec.replicas during an update: a number, or a percentage rounded
    /// up. Default 25%. Not used with traffic routing.
    pub max_surge: Option<IntOrString>,
    /// An analysis that runs beside the steps.
    pub analysis: Option<RolloutAnalysisBackground>,
    /// Keeps pods of the two versions on different nodes.
    pub anti_affinity: Option<AntiAffinity>,
    /// Labels and annotations that pods have while they are the canary.
    pub canary_metadata: Option<PodTemplateMetadata>,
    /// Labels and annotations that pods have while they are stable.
    pub stable_metadata: Option<PodTemplateMetadata>,
    /// Seconds for which the replaced ReplicaSet stays up after traffic left it. Default 30. Only with
    /// traffic routing, and not with dynamicStableScale.
    pub scale_down_delay_seconds: Option<i32>,
    /// How many replaced ReplicaSets may stay up at once for that delay. Default unlimited.
    pub scale_down_delay_revision_limit: Option<i32>,
    /// Seconds for which the new ReplicaSet stays up after an abort; 0 keeps it. Default 30. Only with
    /// traffic routing.
    pub abort_scale_down_delay_seconds: Option<i32>,
    /// Whether the stable ReplicaSet shrinks as the weight of the new one grows. Default false. Only with
    /// traffic routing.
    pub dynamic_stable_scale: Option<bool>,
    /// Two Services that take turns in being the stable one.
    pub ping_pong: Option<PingPongSpec>,
    /// The least number of pods of a ReplicaSet that has any. Only with traffic routing.
    pub min_pods_per_replica_set: Option<i32>,
    /// How much of the new ReplicaSet must be available before the next step. Default all of it.
    pub replica_progress_threshold: Option<ReplicaProgressThreshold>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

impl CanaryStrategy {
    /// The steps; none when the field is absent.
    #[must_use]
    pub fn steps(&self) -> &[CanaryStep] {
        self.steps.as_deref().unwrap_or_default()
    }

    /// How many pods may exist beyond spec.replicas; `"25"`, which means 25 %, unless set.
    #[must_use]
    pub fn max_surge(&self) -> IntOrString {
        self.max_surge.clone().unwrap_or_else(|| DEFAULT_MAX_SURGE_AND_UNAVAILABLE.into())
    }

    /// How many pods may be unavailable; `"25"`, which means 25 %, unless set.
    #[must_use]
    pub fn max_unavailable(&self) -> IntOrString {
        self.max_unavailable.clone().unwrap_or_else(|| DEFAULT_MAX_SURGE_AND_UNAVAILABLE.into())
    }

    /// Seconds for which a replaced ReplicaSet stays up: 30 unless set, 0 without traffic routing.
    #[must_use]
    pub fn scale_down_delay_seconds(&self) -> i32 {
        match &self.traffic_routing {
            Some(_) => self.scale_down_delay_seconds.unwrap_or(DEFAULT_SCALE_DOWN_DELAY_SECONDS),
            None => 0,
        }
    }

    /// How many replaced ReplicaSets may stay up at once; unlimited unless set (contract 4.6).
    #[must_use]
    pub fn scale_down_delay_revision_limit(&self) -> i32 {
        self.scale_down_delay_revision_limit.unwrap_or(i32::MAX)
    }

    /// What becomes of the new ReplicaSet after an abort: scaled away after 30 seconds unless set, at
    /// once without traffic routing.
    #[must_use]
    pub fn abort_scale_down(&self) -> AbortScaleDown {
        match &self.traffic_routing {
            Some(_) => AbortScaleDown::from_delay(self.abort_scale_down_delay_seconds),
            None => AbortScaleDown::AfterSeconds(0),
        }
    }

    /// Whether the stable ReplicaSet shrinks as the weight of the new one grows; false unless set.
    #[must_use]
    pub fn dynamic_stable_scale(&self) -> bool {
        self.dynamic_stable_scale.unwrap_or(false)
    }
}

/// Two Services that take turns in being the stable one.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PingPongSpec {
    /// Name of the first Service.
    pub ping_service: String,
    /// Name of the second Service.
    pub pong_service: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// How much of the new ReplicaSet must be available before the next step.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaProgressThreshold {
    /// Whether the value is a Percent or a number of Pods.
    #[serde(rename = "type")]
    pub progress_type: ProgressType,
    /// The threshold, more than 0.
    pub value: i32,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

open_enum! {
    /// The unit of a progress threshold.
    ProgressType {
        /// Percent of the pods that the step wants.
        Percent = "Percent",
        /// A number of pods.
        Pods = "Pods",
    }
}
