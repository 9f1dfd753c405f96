//! The objects that are cached, trimmed while they are decoded: what nobody reads is never stored.
//!
//! Managed fields and last-applied manifests are often larger than the rest of an object; of pods and
//! Services only what plans and the tree read is kept.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{ClusterResourceScope, NamespaceResourceScope};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::writers::Writers;
use crate::crd::{LabelSelector, Rollout, keys};
use crate::plan::{Metadata, Pod, PodFault, PodPart, ReplicaSet, Service, SetFailure, SetStatus};

/// A Rollout, or why it cannot be decoded.
#[derive(Clone, Debug)]
pub struct RolloutRecord {
    metadata: ObjectMeta,
    /// The rollout without managed fields and last-applied manifest.
    pub decoded: Result<Arc<Rollout>, Arc<str>>,
    /// Who wrote it besides us; `None` where the API server does not keep that.
    pub writers: Option<Writers>,
}

impl<'de> Deserialize<'de> for RolloutRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct OnlyMetadata {
            #[serde(default)]
            metadata: ObjectMeta,
        }
        let mut object = Value::deserialize(deserializer)?;
        let writers = Writers::of(&object["metadata"]);
        trim(&mut object);
        let OnlyMetadata { metadata } =
            OnlyMetadata::deserialize(&object).map_err(serde::de::Error::custom)?;
        // One object that cannot be decoded must not stop the watch of all others.
        let decoded = Rollout::decode(&object).map(Arc::new).map_err(|why| why.to_string().into());
        Ok(Self { metadata, decoded, writers })
    }
}

fn trim(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    metadata.remove("managedFields");
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(keys::LAST_APPLIED_CONFIGURATION);
    }
}

/// A ReplicaSet with the fields that plans read.
#[derive(Clone, Debug)]
pub struct SetRecord {
    metadata: ObjectMeta,
    /// What plans read.
    pub set: Arc<ReplicaSet>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSet {
    metadata: WireMetadata,
    #[serde(default)]
    spec: WireSetSpec,
    #[serde(default)]
    status: WireSetStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireMetadata {
    #[serde(default)]
    pub(super) name: String,
    namespace: Option<String>,
    #[serde(default)]
    pub(super) uid: String,
    #[serde(default)]
    pub(super) resource_version: String,
    #[serde(default)]
    pub(super) generation: i64,
    creation_timestamp: Option<Timestamp>,
    deletion_timestamp: Option<Timestamp>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<Value>>,
}

impl WireMetadata {
    /// What `kube` needs to know of an object.
    pub(super) fn identity(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name.clone()),
            namespace: self.namespace.clone(),
            uid: Some(self.uid.clone()),
            resource_version: Some(self.resource_version.clone()),
            ..ObjectMeta::default()
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSetSpec {
    replicas: Option<i32>,
    min_ready_seconds: Option<i32>,
    #[serde(default)]
    selector: LabelSelector,
    #[serde(default)]
    template: Value,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireSetStatus {
    replicas: i32,
    ready_replicas: i32,
    available_replicas: i32,
    observed_generation: i64,
    conditions: Vec<WireCondition>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireCondition {
    #[serde(rename = "type")]
    condition_type: String,
    status: String,
    reason: String,
    message: String,
    last_transition_time: Option<Timestamp>,
}

impl<'de> Deserialize<'de> for SetRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WireSet { metadata, spec, status } = WireSet::deserialize(deserializer)?;
        let identity = metadata.identity();
        let failure =
            status.conditions.into_iter().find(|condition| condition.condition_type == "ReplicaFailure");
        let set = ReplicaSet {
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            generation: metadata.generation,
            created: metadata.creation_timestamp.unwrap_or_default(),
            terminating: metadata.deletion_timestamp.is_some(),
            labels: metadata.labels.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
            owners: metadata.owner_references.unwrap_or_default(),
            replicas: spec.replicas.unwrap_or(1),
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            selector: spec.selector,
            template: Arc::new(spec.template),
            status: SetStatus {
                replicas: status.replicas,
                ready: status.ready_replicas,
                available: status.available_replicas,
                observed_generation: status.observed_generation,
                failure: failure.map(|condition| SetFailure {
                    status: condition.status,
                    reason: condition.reason,
                    message: condition.message,
                    since: condition.last_transition_time.unwrap_or_default(),
                }),
            },
        };
        Ok(Self { metadata: identity, set: Arc::new(set) })
    }
}

/// A pod with what the tree shows of it.
#[derive(Clone, Debug)]
pub struct PodRecord {
    metadata: ObjectMeta,
    /// The uid of the ReplicaSet that controls it; `None` for an orphan.
    pub controller: Option<String>,
    /// The name of that ReplicaSet.
    pub controller_name: Option<String>,
    /// When it was created.
    pub created: Timestamp,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// The node it runs on; empty before it is scheduled.
    pub node: String,
    /// status.phase, or the reason that stands for it.
    pub phase: String,
    /// Whether status.phase is Succeeded or Failed.
    ended: bool,
    /// Condition Ready, where it is there.
    pub ready: Option<PodReady>,
    /// Why no node takes it (the message of condition PodScheduled), where none does.
    pub unschedulable: Option<String>,
    /// Its containers, init containers first.
    pub containers: Vec<ContainerRecord>,
    /// Its labels and annotations, which may be to be changed.
    pub marks: Arc<Metadata>,
}

/// Condition Ready of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodReady {
    /// Whether it is True.
    pub is_ready: bool,
    /// Since when it is as it is.
    pub since: Timestamp,
    /// Its reason.
    pub reason: String,
    /// Its message.
    pub message: String,
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerRecord {
    /// Its name.
    pub name: String,
    /// Whether it runs before the others.
    pub init: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// How often it was restarted.
    pub restarts: i32,
    /// Why it waits or ended, such as `CrashLoopBackOff`; empty while it runs.
    pub reason: String,
    /// The same for people.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePod {
    metadata: WireMetadata,
    #[serde(default)]
    spec: WirePodSpec,
    #[serde(default)]
    status: WirePodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WirePodSpec {
    node_name: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WirePodStatus {
    phase: String,
    reason: String,
    conditions: Vec<WireCondition>,
    init_container_statuses: Vec<WireContainer>,
    container_statuses: Vec<WireContainer>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireContainer {
    name: String,
    ready: bool,
    restart_count: i32,
    state: BTreeMap<String, WireState>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WireState {
    reason: String,
    message: String,
}

impl WireContainer {
    fn record(self, init: bool) -> ContainerRecord {
        let state = self.state.into_values().find(|state| !state.reason.is_empty()).unwrap_or_default();
        ContainerRecord {
            name: self.name,
            init,
            ready: self.ready,
            restarts: self.restart_count,
            reason: state.reason,
            message: state.message,
        }
    }
}

impl<'de> Deserialize<'de> for PodRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WirePod { mut metadata, spec, status } = WirePod::deserialize(deserializer)?;
        let (mut ready, mut unschedulable) = (None, None);
        for condition in status.conditions {
            match (condition.condition_type.as_str(), condition.reason.as_str()) {
                ("Ready", _) => ready = Some(condition),
                ("PodScheduled", "Unschedulable") if condition.status == "False" => {
                    unschedulable = Some(condition.message);
                }
                _ => {}
            }
        }
        let init = status.init_container_statuses.into_iter().map(|container| container.record(true));
        let containers = status.container_statuses.into_iter().map(|container| container.record(false));
        let owners = metadata.owner_references.as_deref().unwrap_or_default();
        let of_controller = |field: &str| controller(owners)?.get(field)?.as_str();
        let is_of_set = of_controller("kind") == Some("ReplicaSet");
        Ok(Self {
            controller: of_controller("uid").map(str::to_owned),
            controller_name: of_controller("name").filter(|_| is_of_set).map(str::to_owned),
            created: metadata.creation_timestamp.unwrap_or_default(),
            terminating: metadata.deletion_timestamp.is_some(),
            node: spec.node_name,
            ended: matches!(&*status.phase, "Succeeded" | "Failed"),
            phase: if status.reason.is_empty() { status.phase } else { status.reason },
            ready: ready.map(|condition| PodReady {
                is_ready: condition.status == "True",
                since: condition.last_transition_time.unwrap_or_default(),
                reason: condition.reason,
                message: condition.message,
            }),
            unschedulable,
            containers: init.chain(containers).collect(),
            marks: Arc::new(Metadata {
                labels: metadata.labels.take().unwrap_or_default(),
                annotations: metadata.annotations.take().unwrap_or_default(),
            }),
            metadata: metadata.identity(),
        })
    }
}

fn controller(owners: &[Value]) -> Option<&Value> {
    owners.iter().find(|owner| owner.get("controller").and_then(Value::as_bool).unwrap_or(false))
}

impl PodRecord {
    /// Whether its containers have ended for good, so that its ReplicaSet does not count it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// What plans read of a pod of a ReplicaSet; `None` for an orphan.
    #[must_use]
    pub fn pod(&self) -> Option<Pod> {
        Some(Pod {
            name: self.metadata.name.clone().unwrap_or_default(),
            uid: self.metadata.uid.clone().unwrap_or_default(),
            resource_version: self.metadata.resource_version.clone().unwrap_or_default(),
            set: self.controller.clone()?,
            created: self.created,
            terminating: self.terminating,
            ready_since: self.ready.as_ref().filter(|ready| ready.is_ready).map(|ready| ready.since),
            unready_since: self.unready_since(),
            fault: self.fault(),
            marks: Arc::clone(&self.marks),
        })
    }

    fn unready_since(&self) -> Option<Timestamp> {
        match &self.ready {
            Some(ready) if ready.is_ready => None,
            Some(ready) => Some(ready.since.max(self.created)),
            None => Some(self.created),
        }
    }

    /// What keeps it from running, the first thing first.
    fn fault(&self) -> Option<PodFault> {
        self.unready_since()?;
        let unschedulable = self.unschedulable.as_ref().map(|message| PodFault {
            part: PodPart::Scheduling,
            reason: "Unschedulable".to_owned(),
            message: message.clone(),
        });
        unschedulable.or_else(|| self.containers.iter().find_map(ContainerRecord::fault))
    }
}

impl ContainerRecord {
    /// What keeps it from running; that it is yet to begin is no fault, and neither is that it has done its work.
    fn fault(&self) -> Option<PodFault> {
        const TO_BEGIN: [&str; 2] = ["ContainerCreating", "PodInitializing"];
        let is_done = self.ready || (self.init && self.reason == "Completed");
        if is_done || TO_BEGIN.contains(&self.reason.as_str()) {
            return None;
        }
        let (reason, message) = match (self.reason.as_str(), self.restarts) {
            ("", 0) => return None,
            // It runs once more, after it ended before it was ready.
            ("", restarts) => ("Restarted", format!("it ended {restarts} times")),
            (reason, _) => (reason, self.message.clone()),
        };
        let part = if self.init { PodPart::InitContainer } else { PodPart::Container };
        Some(PodFault { part: part(self.name.clone()), reason: reason.to_owned(), message })
    }
}

/// A Service with the fields that plans read.
#[derive(Clone, Debug)]
pub struct ServiceRecord {
    metadata: ObjectMeta,
    /// What plans read.
    pub service: Arc<Service>,
}

#[derive(Deserialize)]
struct WireService {
    metadata: WireMetadata,
    #[serde(default)]
    spec: WireServiceSpec,
}

#[derive(Default, Deserialize)]
struct WireServiceSpec {
    selector: Option<BTreeMap<String, String>>,
}

impl<'de> Deserialize<'de> for ServiceRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WireService { metadata, spec } = WireService::deserialize(deserializer)?;
        let identity = metadata.identity();
        let service = Service {
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            terminating: metadata.deletion_timestamp.is_some(),
            selector: spec.selector.unwrap_or_default(),
            managed_by: metadata.annotations.and_then(|mut notes| notes.remove(keys::MANAGED_BY_ROLLOUTS)),
        };
        Ok(Self { metadata: identity, service: Arc::new(service) })
    }
}

/// A namespace: that it exists.
#[derive(Clone, Debug, Deserialize)]
pub struct NamespaceRecord {
    metadata: ObjectMeta,
}

/// Implements [`Resource`] for a record: `(type, scope, group, version, kind, plural)`.
macro_rules! resource {
    ($($record:ty, $scope:ty, $group:literal, $version:literal, $kind:literal, $plural:literal;)+) => {$(
        impl Resource for $record {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> Cow<'_, str> {
                $version.into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    )+};
}

resource! {
    RolloutRecord, NamespaceResourceScope, "argoproj.io", "v1alpha1", "Rollout", "rollouts";
    SetRecord, NamespaceResourceScope, "apps", "v1", "ReplicaSet", "replicasets";
    PodRecord, NamespaceResourceScope, "", "v1", "Pod", "pods";
    ServiceRecord, NamespaceResourceScope, "", "v1", "Service", "services";
    NamespaceRecord, ClusterResourceScope, "", "v1", "Namespace", "namespaces";
}
