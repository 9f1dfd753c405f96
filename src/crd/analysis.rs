//! How a Rollout asks for analysis: the templates to run, their arguments, and what to keep.
//!
//! Depends on `metadata`. Steps, the background analysis of a canary and blue-green promotions all embed
//! [`RolloutAnalysis`]; the runs themselves are kinds of their own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::open_enum::open_enum;
use super::{AnalysisRunMetadata, Extra};

/// An analysis to run: templates that are merged into one AnalysisRun.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutAnalysis {
    /// The templates whose metrics the run measures.
    pub templates: Option<Vec<AnalysisTemplateRef>>,
    /// Arguments handed to the run.
    pub args: Option<Vec<AnalysisRunArgument>>,
    /// Metrics that are measured without deciding anything.
    pub dry_run: Option<Vec<DryRun>>,
    /// How many measurements of which metrics to keep.
    pub measurement_retention: Option<Vec<MeasurementRetention>>,
    /// Labels and annotations for the AnalysisRun.
    pub analysis_run_metadata: Option<AnalysisRunMetadata>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// An analysis that runs beside the steps of a canary.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutAnalysisBackground {
    /// What to run. On the wire its fields stand beside `startingStep`.
    #[serde(flatten)]
    pub analysis: RolloutAnalysis,
    /// Index of the step at which the analysis starts, from 0. Default 0.
    pub starting_step: Option<i32>,
}

impl RolloutAnalysisBackground {
    /// Index of the step at which the analysis starts; 0 unless set (Argo Rollouts' types.go).
    #[must_use]
    pub fn starting_step(&self) -> i32 {
        self.starting_step.unwrap_or(0)
    }
}

/// A reference to an analysis template.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisTemplateRef {
    /// Name of the template.
    pub template_name: Option<String>,
    /// Whether it is a ClusterAnalysisTemplate. Default false.
    pub cluster_scope: Option<bool>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// An argument of an analysis: a value, or where to take it from.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisRunArgument {
    /// The argument's name.
    pub name: String,
    /// The value itself; not together with `valueFrom`.
    pub value: Option<String>,
    /// Where the value comes from; not together with `value`.
    pub value_from: Option<ArgumentValueFrom>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// Where the value of an argument comes from.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArgumentValueFrom {
    /// The pod-template hash of the Stable or of the Latest ReplicaSet.
    pub pod_template_hash_value: Option<PodTemplateHashValue>,
    /// A field of the Rollout.
    pub field_ref: Option<FieldRef>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

open_enum! {
    /// Whose pod-template hash an argument takes.
    PodTemplateHashValue {
        /// The stable ReplicaSet's.
        Stable = "Stable",
        /// The newest ReplicaSet's.
        Latest = "Latest",
    }
}

/// A field of the Rollout.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldRef {
    /// Path of the field, such as `metadata.labels['region']`.
    pub field_path: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// Metrics that are measured without deciding anything.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DryRun {
    /// Name of the metric, or a regular expression over names.
    pub metric_name: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// How many measurements of a metric to keep.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeasurementRetention {
    /// Name of the metric, or a regular expression over names.
    pub metric_name: String,
    /// The number of measurements to keep.
    pub limit: i32,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}
