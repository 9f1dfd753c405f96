//! The spec of a Rollout (contract A1) with its defaults, and the choice of strategy.
//!
//! Depends on the modules of its parts. Defaults come from Argo Rollouts' utils/defaults/defaults.go.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_with::skip_serializing_none;

use super::open_enum::open_enum;
use super::schema::AnyObject;
use super::{BlueGreenStrategy, CanaryStrategy, Extra, LabelSelector, NotOne, Time};

/// spec.replicas unless set.
pub const DEFAULT_REPLICAS: i32 = 1;

/// spec.revisionHistoryLimit unless set.
pub const DEFAULT_REVISION_HISTORY_LIMIT: i32 = 10;

/// spec.progressDeadlineSeconds unless set.
pub const DEFAULT_PROGRESS_DEADLINE_SECONDS: i32 = 600;

/// Both limits of spec.analysis unless set.
pub const DEFAULT_RUN_HISTORY_LIMIT: i32 = 5;

/// What a Rollout should be.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSpec {
    /// Number of pods. Default 1.
    pub replicas: Option<i32>,
    /// Which pods belong to this Rollout; it must match the labels of the template and never changes.
    /// Required with template.
    #[schemars(extend("x-kubernetes-validations" = [{ "rule": "self == oldSelf", "message": ".spec.selector is immutable" }]))]
    pub selector: Option<LabelSelector>,
    /// The pod template (core/v1 PodTemplateSpec). Either this or workloadRef.
    #[schemars(with = "Option<AnyObject>")]
    pub template: Option<Value>,
    /// A workload whose pod template to use instead of template.
    pub workload_ref: Option<ObjectRef>,
    /// Seconds for which a pod must be ready before it counts as available. Default 0.
    pub min_ready_seconds: Option<i32>,
    /// Going back to one of the last revisions skips steps and analysis.
    pub rollback_window: Option<RollbackWindowSpec>,
    /// How a new version replaces the old one.
    pub strategy: Option<RolloutStrategy>,
    /// How many old ReplicaSets to keep. Default 10.
    pub revision_history_limit: Option<i32>,
    /// Whether the update is paused by hand. Scaling goes on. Default false.
    pub paused: Option<bool>,
    /// Seconds without progress after which the Rollout counts as failed; pauses do not count. Default
    /// 600.
    pub progress_deadline_seconds: Option<i32>,
    /// Whether to abort the update at that deadline. Default false.
    pub progress_deadline_abort: Option<bool>,
    /// Pods created before this time are created anew.
    pub restart_at: Option<Time>,
    /// How many analysis runs and experiments to keep.
    pub analysis: Option<AnalysisRunStrategy>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

impl RolloutSpec {
    /// Number of pods; 1 unless set.
    #[must_use]
    pub fn replicas(&self) -> i32 {
        self.replicas.unwrap_or(DEFAULT_REPLICAS)
    }

    /// Seconds for which a pod must be ready; 0 unless set (Argo Rollouts' types.go).
    #[must_use]
    pub fn min_ready_seconds(&self) -> i32 {
        self.min_ready_seconds.unwrap_or(0)
    }

    /// How many old ReplicaSets to keep; 10 unless set.
    #[must_use]
    pub fn revision_history_limit(&self) -> i32 {
        self.revision_history_limit.unwrap_or(DEFAULT_REVISION_HISTORY_LIMIT)
    }

    /// Whether the update is paused by hand; false unless set.
    #[must_use]
    pub fn paused(&self) -> bool {
        self.paused.unwrap_or(false)
    }

    /// Seconds without progress until the Rollout counts as failed; 600 unless set.
    #[must_use]
    pub fn progress_deadline_seconds(&self) -> i32 {
        self.progress_deadline_seconds.unwrap_or(DEFAULT_PROGRESS_DEADLINE_SECONDS)
    }

    /// Whether to abort the update at the deadline; false unless set.
    #[must_use]
    pub fn progress_deadline_abort(&self) -> bool {
        self.progress_deadline_abort.unwrap_or(false)
    }

    /// How many successful analysis runs and experiments to keep; 5 unless set.
    #[must_use]
    pub fn successful_run_history_limit(&self) -> i32 {
        let limit = self.analysis.as_ref().and_then(|analysis| analysis.successful_run_history_limit);
        limit.unwrap_or(DEFAULT_RUN_HISTORY_LIMIT)
    }

    /// How many failed, errored and inconclusive analysis runs and experiments to keep; 5 unless set.
    #[must_use]
    pub fn unsuccessful_run_history_limit(&self) -> i32 {
        let limit = self.analysis.as_ref().and_then(|analysis| analysis.unsuccessful_run_history_limit);
        limit.unwrap_or(DEFAULT_RUN_HISTORY_LIMIT)
    }

    /// The one strategy.
    ///
    /// # Errors
    ///
    /// [`NotOne`] with the fields that were given, when that is not exactly one.
    pub fn strategy(&self) -> Result<Strategy<'_>, NotOne> {
        let Some(strategy) = &self.strategy else { return Err(NotOne::default()) };
        match (&strategy.blue_green, &strategy.canary) {
            (Some(blue_green), None) => Ok(Strategy::BlueGreen(blue_green)),
            (None, Some(canary)) => Ok(Strategy::Canary(canary)),
            (None, None) => {
                Err(NotOne { given: Vec::new(), unknown: strategy.extra.keys().cloned().collect() })
            }
            (Some(_), Some(_)) => Err(NotOne {
                given: vec!["blueGreen", "canary"],
                unknown: strategy.extra.keys().cloned().collect(),
            }),
        }
    }
}

/// The strategy of a Rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Strategy<'a> {
    /// `blueGreen`.
    BlueGreen(&'a BlueGreenStrategy),
    /// `canary`.
    Canary(&'a CanaryStrategy),
}

/// A Service that a strategy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceName<'a> {
    /// The fields on the way to it within spec.strategy.
    pub path: &'static [&'static str],
    /// The Service's name; never empty.
    pub name: &'a str,
}

impl<'a> Strategy<'a> {
    /// The Services that it names and whose selectors it decides.
    #[must_use]
    pub fn services(self) -> Vec<ServiceName<'a>> {
        const ACTIVE: &[&str] = &["blueGreen", "activeService"];
        const PREVIEW: &[&str] = &["blueGreen", "previewService"];
        const STABLE: &[&str] = &["canary", "stableService"];
        const CANARY: &[&str] = &["canary", "canaryService"];
        const PING: &[&str] = &["canary", "pingPong", "pingService"];
        const PONG: &[&str] = &["canary", "pingPong", "pongService"];
        let named = match self {
            Self::BlueGreen(blue_green) => vec![
                (ACTIVE, Some(blue_green.active_service.as_str())),
                (PREVIEW, blue_green.preview_service.as_deref()),
            ],
            Self::Canary(canary) => {
                let ping_pong = canary.ping_pong.as_ref();
                vec![
                    (STABLE, canary.stable_service.as_deref()),
                    (CANARY, canary.canary_service.as_deref()),
                    (PING, ping_pong.map(|services| services.ping_service.as_str())),
                    (PONG, ping_pong.map(|services| services.pong_service.as_str())),
                ]
            }
        };
        let given = named.into_iter().filter_map(|(path, name)| {
            let name = name.filter(|name| !name.is_empty())?;
            Some(ServiceName { path, name })
        });
        given.collect()
    }
}

/// How a new version replaces the old one: one of the two.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStrategy {
    /// Brings the new version up beside the old one, then switches a Service over.
    pub blue_green: Option<Box<BlueGreenStrategy>>,
    /// Replaces pods step by step while both versions serve.
    pub canary: Option<Box<CanaryStrategy>>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A workload to take the pod template from: an apps/v1 Deployment or ReplicaSet, or a core/v1 PodTemplate.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// Its API version, such as apps/v1.
    pub api_version: Option<String>,
    /// Its kind.
    pub kind: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// When to scale a referenced Deployment down: never, onsuccess or progressively. Default never.
    pub scale_down: Option<ScaleDown>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

impl ObjectRef {
    /// The workload that it names; `None` where its kind holds no pod template that is taken.
    #[must_use]
    pub fn workload(&self) -> Option<WorkloadName> {
        let is_named = |kind: &WorkloadKind| {
            self.kind.as_deref() == Some(kind.as_str())
                && self.api_version.as_deref() == Some(kind.api_version())
        };
        let kind = WorkloadKind::ALL.into_iter().find(is_named)?;
        Some(WorkloadName { kind, name: self.name.clone().filter(|name| !name.is_empty())? })
    }

    /// When the workload is scaled down; only a Deployment is (contract A1).
    #[must_use]
    pub fn scale_down(&self) -> &ScaleDown {
        let is_deployment = self.kind.as_deref() == Some(WorkloadKind::Deployment.as_str());
        self.scale_down.as_ref().filter(|_| is_deployment).unwrap_or(&ScaleDown::Never)
    }
}

/// A kind that a Rollout may take its pod template from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// apps/v1 Deployment.
    Deployment,
    /// apps/v1 ReplicaSet.
    ReplicaSet,
    /// core/v1 PodTemplate.
    PodTemplate,
}

impl WorkloadKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Deployment, Self::ReplicaSet, Self::PodTemplate];

    /// The kind as objects carry it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::PodTemplate => "PodTemplate",
        }
    }

    /// The API version as objects carry it.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Deployment | Self::ReplicaSet => "apps/v1",
            Self::PodTemplate => "v1",
        }
    }
}

/// The workload that a Rollout refers to, in its own namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadName {
    /// The kind.
    pub kind: WorkloadKind,
    /// metadata.name.
    pub name: String,
}

impl std::fmt::Display for WorkloadName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.kind.as_str(), self.name)
    }
}

open_enum! {
    /// When a referenced Deployment is scaled down.
    ScaleDown {
        /// Not at all.
        Never = "never",
        /// Once the Rollout is healthy.
        OnSuccess = "onsuccess",
        /// As the Rollout's pods become available.
        Progressively = "progressively",
    }
}

/// Which revisions may be gone back to without steps.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackWindowSpec {
    /// How many of the last revisions.
    pub revisions: Option<i32>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// How many analysis runs and experiments to keep.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnalysisRunStrategy {
    /// How many successful ones. Default 5.
    pub successful_run_history_limit: Option<i32>,
    /// How many failed, errored and inconclusive ones. Default 5.
    pub unsuccessful_run_history_limit: Option<i32>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}
