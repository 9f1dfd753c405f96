//! The kind Rollout of argoproj.io/v1alpha1 as Rust types, and the definitions of all five Argo kinds.
//!
//! Lossless serde is the only job: what decodes encodes to the same JSON, unknown fields included at every
//! level (in `extra`), pod templates as plain JSON. Absent and zero stay apart (`Option`); accessors give
//! the defaults. Two things are not kept: an explicit `null` of a known field, which Kubernetes takes for
//! absence and prunes, and unknown fields of `metadata`, which the API server drops.
//!
//! Depends on nothing of this package. Everything above reads Rollouts through it.

use std::borrow::Cow;
use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

mod analysis;
mod blue_green;
mod canary;
mod decode;
mod definitions;
pub mod go_duration;
mod int_or_string;
pub mod keys;
#[cfg(test)]
mod lossless;
mod metadata;
mod one_of;
mod open_enum;
mod routing;
mod schema;
mod spec;
mod status;
mod step;
mod time;

pub use analysis::{
    AnalysisRunArgument, AnalysisTemplateRef, ArgumentValueFrom, DryRun, FieldRef, MeasurementRetention,
    PodTemplateHashValue, RolloutAnalysis, RolloutAnalysisBackground,
};
pub use blue_green::{AntiAffinity, BlueGreenStrategy, PreferredAntiAffinity, RequiredAntiAffinity};
pub use canary::{
    AbortScaleDown, CanaryStrategy, DEFAULT_ABORT_SCALE_DOWN_DELAY_SECONDS,
    DEFAULT_MAX_SURGE_AND_UNAVAILABLE, DEFAULT_SCALE_DOWN_DELAY_SECONDS, PingPongSpec, ProgressType,
    ReplicaProgressThreshold,
};
pub use decode::Malformed;
pub use definitions::{definitions, definitions_yaml};
pub use int_or_string::{IntOrString, NotAPercentage, Rounding};
pub use metadata::{AnalysisRunMetadata, LabelSelector, LabelSelectorRequirement, PodTemplateMetadata};
pub use one_of::NotOne;
pub use routing::{
    AlbTrafficRouting, AmbassadorTrafficRouting, ApisixRoute, ApisixTrafficRouting, AppMeshTrafficRouting,
    AppMeshVirtualNodeGroup, AppMeshVirtualNodeReference, AppMeshVirtualService, DEFAULT_MAX_TRAFFIC_WEIGHT,
    IstioDestinationRule, IstioTrafficRouting, IstioVirtualService, ManagedRoute, NginxTrafficRouting,
    RolloutTrafficRouting, SmiTrafficRouting, StickinessConfig, TcpRoute, TlsRoute, TraefikTrafficRouting,
};
pub use spec::{
    AnalysisRunStrategy, DEFAULT_PROGRESS_DEADLINE_SECONDS, DEFAULT_REPLICAS, DEFAULT_REVISION_HISTORY_LIMIT,
    DEFAULT_RUN_HISTORY_LIMIT, ObjectRef, RollbackWindowSpec, RolloutSpec, RolloutStrategy, ScaleDown,
    ServiceName, Strategy, WorkloadKind, WorkloadName,
};
pub use status::{
    AlbStatus, AnalysisPhase, AwsResourceRef, BlueGreenStatus, CanaryStatus, CompletionStatus,
    ConditionStatus, ConditionType, PauseCondition, PauseReason, PingPongType, RolloutAnalysisRunStatus,
    RolloutCondition, RolloutDuration, RolloutPhase, RolloutStatus, StepPluginOperation, StepPluginPhase,
    StepPluginStatus, TrafficWeights, WeightDestination,
};
pub use step::{
    CanaryStep, HeaderRoutingMatch, PluginStep, ReplicaSetSpecRef, RolloutExperimentStep,
    RolloutExperimentStepAnalysisTemplateRef, RolloutExperimentTemplate, RolloutPause, RouteMatch,
    SetCanaryScale, SetHeaderRoute, SetMirrorRoute, StepAction, StringMatch, TemplateService,
};
pub use time::Time;

/// Fields that this version does not know, by name.
pub type Extra = serde_json::Map<String, serde_json::Value>;

/// The API group of all five kinds.
pub const GROUP: &str = "argoproj.io";

/// The one version of that group.
pub const VERSION: &str = "v1alpha1";

/// [`GROUP`] and [`VERSION`] as objects carry them.
pub const API_VERSION: &str = "argoproj.io/v1alpha1";

/// The kind [`Rollout`].
pub const KIND: &str = "Rollout";

/// A Rollout. Works with `kube::Api`, `watcher` and everything else that takes a [`kube::Resource`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(try_from = "Decoded")]
pub struct Rollout {
    /// Name, labels, annotations, owners.
    pub metadata: ObjectMeta,
    /// What it should be.
    pub spec: RolloutSpec,
    /// What it is; absent until the controller has seen it. [`Rollout::status`] reads through the absence.
    pub status: Option<RolloutStatus>,
    /// Fields beside these that this version does not know.
    pub extra: Extra,
}

impl Rollout {
    /// A Rollout with a name and a spec, and nothing else.
    #[must_use]
    pub fn new(name: &str, spec: RolloutSpec) -> Self {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        Self { metadata, spec, ..Self::default() }
    }

    /// The status; an empty one when there is none yet.
    #[must_use]
    pub fn status(&self) -> &RolloutStatus {
        static EMPTY: LazyLock<RolloutStatus> = LazyLock::new(RolloutStatus::default);
        self.status.as_ref().unwrap_or(&EMPTY)
    }

    /// The generation of the workload that it takes its pod template from, as a controller noted it on the object.
    #[must_use]
    pub fn workload_generation(&self) -> Option<i64> {
        self.metadata.annotations.as_ref()?.get(keys::WORKLOAD_GENERATION)?.parse().ok()
    }

    /// Whether the status is about that generation, by which clients judge it (contract 4.3); a status that names none is taken for it.
    #[must_use]
    pub fn is_workload_observed(&self) -> bool {
        match (self.workload_generation(), self.status().workload_observed_generation()) {
            (Some(noted), Some(observed)) => noted == observed,
            _ => true,
        }
    }
}

impl Resource for Rollout {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "rollouts".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Serialize for Rollout {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("apiVersion", API_VERSION)?;
        map.serialize_entry("kind", KIND)?;
        map.serialize_entry("metadata", &self.metadata)?;
        map.serialize_entry("spec", &self.spec)?;
        if let Some(status) = &self.status {
            map.serialize_entry("status", status)?;
        }
        for (name, value) in &self.extra {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A Rollout as it is read: with the type that it claims to be.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Decoded {
    api_version: Option<String>,
    kind: Option<String>,
    #[serde(default)]
    metadata: ObjectMeta,
    spec: RolloutSpec,
    status: Option<RolloutStatus>,
    #[serde(flatten)]
    extra: Extra,
}

#[derive(Debug, thiserror::Error)]
#[error("expected a Rollout of argoproj.io/v1alpha1, got {kind:?} of {api_version:?}")]
struct AnotherType {
    api_version: String,
    kind: String,
}

impl TryFrom<Decoded> for Rollout {
    type Error = AnotherType;

    /// An object without a type is taken at the caller's word: items of a list may lack it.
    fn try_from(decoded: Decoded) -> Result<Self, AnotherType> {
        let api_version = decoded.api_version.unwrap_or_else(|| API_VERSION.to_owned());
        let kind = decoded.kind.unwrap_or_else(|| KIND.to_owned());
        if api_version != API_VERSION || kind != KIND {
            return Err(AnotherType { api_version, kind });
        }
        let Decoded { metadata, spec, status, extra, .. } = decoded;
        Ok(Self { metadata, spec, status, extra })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json, to_value};

    fn decode(json: Value) -> Rollout {
        from_value(json).unwrap()
    }

    #[test]
    fn a_rollout_without_status_reads_as_one_with_an_empty_status() {
        let rollout = decode(json!({ "metadata": { "name": "web" }, "spec": {} }));
        assert_eq!(rollout.status, None);
        assert_eq!(rollout.status(), &RolloutStatus::default());
        assert_eq!((rollout.status().abort(), rollout.status().observed_generation()), (false, None));
    }

    #[test]
    fn absent_and_zero_stay_apart() {
        let written = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": {},
            "spec": { "replicas": 0, "paused": false, "minReadySeconds": 0,
                "strategy": { "canary": { "steps": [], "canaryService": "", "dynamicStableScale": false } } },
            "status": { "abort": false, "promoteFull": false, "pauseConditions": [], "canary": {},
                "blueGreen": {}, "HPAReplicas": 0, "stableRS": "" },
        });
        let rollout = decode(written.clone());
        assert_eq!(rollout.spec.replicas(), 0);
        assert_eq!(to_value(rollout).unwrap(), written);
    }

    #[test]
    fn defaults_are_those_of_the_reference() {
        let spec: RolloutSpec = from_value(json!({ "strategy": { "canary": {} } })).unwrap();
        assert_eq!(spec.replicas(), 1);
        assert_eq!(spec.revision_history_limit(), 10);
        assert_eq!(spec.progress_deadline_seconds(), 600);
        assert_eq!((spec.successful_run_history_limit(), spec.unsuccessful_run_history_limit()), (5, 5));
        assert_eq!(
            (spec.paused(), spec.progress_deadline_abort(), spec.min_ready_seconds()),
            (false, false, 0)
        );
        let Ok(Strategy::Canary(canary)) = spec.strategy() else { unreachable!() };
        assert_eq!((canary.max_surge(), canary.max_unavailable()), ("25".into(), "25".into()));
        assert_eq!(canary.scale_down_delay_revision_limit(), i32::MAX);
    }

    #[test]
    fn delays_count_only_with_traffic_routing() {
        let without: CanaryStrategy = from_value(json!({ "scaleDownDelaySeconds": 60 })).unwrap();
        assert_eq!(without.scale_down_delay_seconds(), 0);
        assert_eq!(without.abort_scale_down(), AbortScaleDown::AfterSeconds(0));
        let with: CanaryStrategy = from_value(json!({ "trafficRouting": {} })).unwrap();
        assert_eq!(with.scale_down_delay_seconds(), 30);
        assert_eq!(with.abort_scale_down(), AbortScaleDown::AfterSeconds(30));
        let never = json!({ "trafficRouting": {}, "abortScaleDownDelaySeconds": 0 });
        let never: CanaryStrategy = from_value(never).unwrap();
        assert_eq!(never.abort_scale_down(), AbortScaleDown::Never);
    }

    #[test]
    fn the_strategy_is_one_or_says_what_was_given() {
        let strategy = |json: Value| from_value::<RolloutSpec>(json).unwrap();
        let both = strategy(json!({ "strategy": { "canary": {}, "blueGreen": { "activeService": "a" } } }));
        assert_eq!(both.strategy().unwrap_err().given, ["blueGreen", "canary"]);
        let newer = strategy(json!({ "strategy": { "wave": {} } }));
        assert_eq!(newer.strategy().unwrap_err().unknown, ["wave"]);
        for none in [json!({}), json!({ "strategy": {} })] {
            assert_eq!(strategy(none).strategy(), Err(NotOne::default()));
        }
    }

    #[test]
    fn values_of_newer_versions_survive() {
        let status = json!({ "phase": "Dreaming", "pauseConditions":
            [{ "reason": "Siesta", "startTime": "2026-11-21T05:37:43Z", "until": null }] });
        let decoded: RolloutStatus = from_value(status.clone()).unwrap();
        assert_eq!(decoded.phase, Some(RolloutPhase::Other("Dreaming".into())));
        assert_eq!(to_value(decoded).unwrap(), status);
    }

    #[test]
    fn null_is_absence() {
        let rollout = decode(json!({ "metadata": { "creationTimestamp": null },
            "spec": { "replicas": null, "strategy": { "canary": null } }, "status": null }));
        assert_eq!(rollout, decode(json!({ "spec": { "strategy": {} } })));
    }

    #[test]
    fn an_object_of_another_type_is_refused_by_name() {
        for (api_version, kind) in
            [("apps/v1", "Deployment"), (API_VERSION, "Experiment"), ("argoproj.io/v1", KIND)]
        {
            let other = json!({ "apiVersion": api_version, "kind": kind, "spec": {} });
            let error = from_value::<Rollout>(other).unwrap_err().to_string();
            assert!(error.contains(api_version) && error.contains(kind), "{error}");
        }
    }

    #[test]
    fn kube_finds_rollouts_where_argo_rollouts_serves_them() {
        assert_eq!(
            Rollout::url_path(&(), Some("shop")),
            "/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts"
        );
        assert_eq!(Rollout::api_version(&()), API_VERSION);
    }
}
