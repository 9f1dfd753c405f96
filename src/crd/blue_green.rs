//! The blue-green strategy (contract A2) with its defaults, and the anti-affinity both strategies share.
//!
//! Depends on `analysis`, `metadata`, and on `canary` for the delays' defaults. Defaults come from
//! Argo Rollouts' utils/defaults/defaults.go unless another source is named.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::canary::{AbortScaleDown, DEFAULT_MAX_SURGE_AND_UNAVAILABLE, DEFAULT_SCALE_DOWN_DELAY_SECONDS};
use super::{Extra, IntOrString, PodTemplateMetadata, RolloutAnalysis};

/// Brings the new version up beside the old one, then switches a Service over.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlueGreenStrategy {
    /// Service that serves; its selector is switched at promotion.
    pub active_service: String,
    /// Service whose selector is kept on the new version.
    pub preview_service: Option<String>,
    /// Number of pods of the new version before promotion. Default spec.replicas.
    pub preview_replica_count: Option<i32>,
    /// Whether to promote once the new version is available. Default true; false waits for somebody to
    /// promote.
    pub auto_promotion_enabled: Option<bool>,
    /// Seconds to wait before promoting by itself. Default 0. Ignored when autoPromotionEnabled is false.
    pub auto_promotion_seconds: Option<i32>,
    /// How many pods may be unavailable during a restart: a number, or a percentage of spec.replicas.
    /// Default 25%.
    pub max_unavailable: Option<IntOrString>,
    /// Seconds for which the replaced ReplicaSet stays up after the switch, so that every node learns of
    /// it. Default 30.
    pub scale_down_delay_seconds: Option<i32>,
    /// How many replaced ReplicaSets may stay up at once for that delay. Default unlimited.
    pub scale_down_delay_revision_limit: Option<i32>,
    /// An analysis before the switch; its failure aborts.
    pub pre_promotion_analysis: Option<RolloutAnalysis>,
    /// Keeps pods of the two versions on different nodes.
    pub anti_affinity: Option<AntiAffinity>,
    /// An analysis after the switch; its failure switches back.
    pub post_promotion_analysis: Option<RolloutAnalysis>,
    /// Labels and annotations that pods have while they are the preview.
    pub preview_metadata: Option<PodTemplateMetadata>,
    /// Labels and annotations that pods have while they are active.
    pub active_metadata: Option<PodTemplateMetadata>,
    /// Seconds for which the new ReplicaSet stays up after an abort; 0 keeps it. Default 30.
    pub abort_scale_down_delay_seconds: Option<i32>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

impl BlueGreenStrategy {
    /// Whether to promote without being asked; true unless set.
    #[must_use]
    pub fn auto_promotion_enabled(&self) -> bool {
        self.auto_promotion_enabled.unwrap_or(true)
    }

    /// Seconds to wait before promoting by itself; 0 unless set (Argo Rollouts' types.go).
    #[must_use]
    pub fn auto_promotion_seconds(&self) -> i32 {
        self.auto_promotion_seconds.unwrap_or(0)
    }

    /// How many pods may be unavailable during a restart; `"25"`, which means 25 %, unless set.
    #[must_use]
    pub fn max_unavailable(&self) -> IntOrString {
        self.max_unavailable.clone().unwrap_or_else(|| DEFAULT_MAX_SURGE_AND_UNAVAILABLE.into())
    }

    /// Seconds for which a replaced ReplicaSet stays up; 30 unless set.
    #[must_use]
    pub fn scale_down_delay_seconds(&self) -> i32 {
        self.scale_down_delay_seconds.unwrap_or(DEFAULT_SCALE_DOWN_DELAY_SECONDS)
    }

    /// How many replaced ReplicaSets may stay up at once; unlimited unless set (contract 4.6).
    #[must_use]
    pub fn scale_down_delay_revision_limit(&self) -> i32 {
        self.scale_down_delay_revision_limit.unwrap_or(i32::MAX)
    }

    /// What becomes of the new ReplicaSet after an abort; scaled away after 30 seconds unless set.
    #[must_use]
    pub fn abort_scale_down(&self) -> AbortScaleDown {
        AbortScaleDown::from_delay(self.abort_scale_down_delay_seconds)
    }
}

/// An anti-affinity rule against the pods of the other version: one of the two.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AntiAffinity {
    /// The scheduler tries to follow it.
    pub preferred_during_scheduling_ignored_during_execution: Option<PreferredAntiAffinity>,
    /// The scheduler must follow it.
    pub required_during_scheduling_ignored_during_execution: Option<RequiredAntiAffinity>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A rule that the scheduler tries to follow.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreferredAntiAffinity {
    /// How much it counts, from 1 to 100.
    pub weight: i32,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A rule that the scheduler must follow.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequiredAntiAffinity {
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}
