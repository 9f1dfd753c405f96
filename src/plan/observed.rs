//! What a plan is made from: a rollout and everything below it, as it was seen at one moment.
//!
//! Plain values of L0, built by [`crate::store`]. Nothing here decides anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::blocker::Object;
use super::injected::Metadata;
use super::plugin::Plugins;
use super::settings::Settings;
use crate::crd::{LabelSelector, Rollout, WorkloadName, keys};
use crate::hash::HashError;

/// A rollout and everything that is known about it.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The rollout, with its pod template resolved ([`super::template::resolve`]).
    pub rollout: Arc<Rollout>,
    /// The workload that its pod template is from; `None` where it has its own, and where there is no such workload.
    pub workload: Option<Arc<Workload>>,
    /// Whether a fresh look did not find the workload that it refers to (the answer to [`super::Question::Workload`]).
    pub workload_is_absent: bool,
    /// Values of the stored pod template that their fields cannot hold: the rollout's template is without them.
    pub left_out: Vec<HashError>,
    /// The ReplicaSets that it controls, in any order.
    pub sets: Vec<Arc<ReplicaSet>>,
    /// ReplicaSets that its selector matches and that nobody controls.
    pub orphans: Vec<Arc<ReplicaSet>>,
    /// The answer to [`super::Question::DefaultedTemplate`], where it was asked.
    pub defaulted: Option<DefaultedTemplate>,
    /// Writes of ours that were refused and have not succeeded since.
    pub setbacks: Vec<Setback>,
    /// The Services that its strategy names, and those that say that it manages them.
    pub services: Vec<Arc<Service>>,
    /// Names of Services that a fresh look did not find (the answer to [`super::Question::Services`]).
    pub absent_services: BTreeSet<String>,
    /// The pods of its sets: where a restart is asked for and not done ([`super::restart::is_asked_for`]), or where somebody asks why
    /// it does not advance; while some lack labels or annotations; and while they are watched after a change of their environment. Else
    /// empty. Without a restart only blockers and those depend on them.
    pub pods: Vec<Pod>,
    /// Whether all live pods have what was put into the template of their set ([`super::Wanted`]), as far as that is known to a
    /// certainty: analysis may compare versions by it.
    pub labels_settled: bool,
    /// The uids of pods whose labels and annotations may not be written, as far as that is known.
    pub unlabelled: BTreeSet<String>,
    /// Step plugins, and what one of them answered.
    pub plugins: Plugins,
    /// What this process was told at its start.
    pub settings: Arc<Settings>,
    /// Fields of the status that the server pruned from a write of ours: they are neither compared nor sent.
    pub pruned: Arc<BTreeSet<FieldPath>>,
}

/// The names on the way to a field, outermost first.
pub type FieldPath = Vec<String>;

impl Observed {
    /// A rollout of which nothing else is known.
    #[must_use]
    pub fn alone(rollout: Arc<Rollout>) -> Self {
        Self {
            rollout,
            workload: None,
            workload_is_absent: false,
            left_out: Vec::new(),
            sets: Vec::new(),
            orphans: Vec::new(),
            defaulted: None,
            setbacks: Vec::new(),
            services: Vec::new(),
            absent_services: BTreeSet::new(),
            pods: Vec::new(),
            labels_settled: true,
            unlabelled: BTreeSet::new(),
            plugins: Plugins::default(),
            settings: Arc::default(),
            pruned: Arc::default(),
        }
    }

    /// The Service of this name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().map(Arc::as_ref).find(|service| service.name == name)
    }
}

/// A Service, with the fields that plans read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// metadata.name.
    pub name: String,
    /// metadata.uid.
    pub uid: String,
    /// metadata.resourceVersion.
    pub resource_version: String,
    /// Whether metadata.deletionTimestamp is set.
    pub terminating: bool,
    /// spec.selector.
    pub selector: BTreeMap<String, String>,
    /// The rollout that says it manages it (contract 4.1).
    pub managed_by: Option<String>,
}

impl Service {
    /// The hash of the ReplicaSet that it selects; empty when it selects by other labels only.
    #[must_use]
    pub fn hash(&self) -> &str {
        self.selector.get(keys::POD_TEMPLATE_HASH).map(String::as_str).unwrap_or_default()
    }

    /// The version that a write to it is decided on.
    #[must_use]
    pub fn version(&self) -> super::Version {
        super::Version { uid: self.uid.clone(), resource_version: self.resource_version.clone() }
    }
}

/// An object that a rollout takes its pod template from, with the fields that plans read.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// Its kind and name.
    pub name: WorkloadName,
    /// metadata.uid.
    pub uid: String,
    /// metadata.resourceVersion.
    pub resource_version: String,
    /// metadata.generation.
    pub generation: i64,
    /// spec.replicas; 1 when absent, as Kubernetes has it, and 0 where the kind has none.
    pub replicas: i32,
    /// spec.selector, where the kind has one.
    pub selector: Option<LabelSelector>,
    /// Its pod template.
    pub template: Arc<Value>,
}

impl Workload {
    /// The version that a write to it is decided on.
    #[must_use]
    pub fn version(&self) -> super::Version {
        super::Version { uid: self.uid.clone(), resource_version: self.resource_version.clone() }
    }
}

/// A pod, with the fields that plans read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    /// metadata.name.
    pub name: String,
    /// metadata.uid.
    pub uid: String,
    /// metadata.resourceVersion.
    pub resource_version: String,
    /// The uid of the ReplicaSet that controls it.
    pub set: String,
    /// metadata.creationTimestamp.
    pub created: Timestamp,
    /// Whether metadata.deletionTimestamp is set.
    pub terminating: bool,
    /// Since when condition Ready is True; `None` while it is not.
    pub ready_since: Option<Timestamp>,
    /// Since when it is not; `None` while it is.
    pub unready_since: Option<Timestamp>,
    /// What keeps it from running, where the cluster says so.
    pub fault: Option<PodFault>,
    /// Its labels and annotations.
    pub marks: Arc<Metadata>,
}

impl Pod {
    /// The version that a write to it is decided on.
    #[must_use]
    pub fn version(&self) -> super::Version {
        super::Version { uid: self.uid.clone(), resource_version: self.resource_version.clone() }
    }

    /// Since when it counts as available, or from when on it will; `None` while it is not ready.
    #[must_use]
    pub fn available_from(&self, min_ready_seconds: i32) -> Option<Timestamp> {
        self.ready_since?.checked_add(SignedDuration::from_secs(min_ready_seconds.into())).ok()
    }
}

/// What keeps a pod from running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFault {
    /// What of the pod.
    pub part: PodPart,
    /// In one word, such as `ImagePullBackOff`.
    pub reason: String,
    /// For people; empty where the word says it all.
    pub message: String,
}

impl fmt::Display for PodFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            PodPart::Scheduling => {}
            PodPart::InitContainer(name) => write!(formatter, "init container {name:?}: ")?,
            PodPart::Container(name) => write!(formatter, "container {name:?}: ")?,
        }
        formatter.write_str(&self.reason)?;
        if self.message.is_empty() { Ok(()) } else { write!(formatter, ": {}", self.message) }
    }
}

/// A part of a pod that something can be wrong with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodPart {
    /// No node takes it.
    Scheduling,
    /// The init container of this name.
    InitContainer(String),
    /// The container of this name.
    Container(String),
}

/// A pod template as the API server would store it.
#[derive(Clone, Debug)]
pub struct DefaultedTemplate {
    /// What was asked: spec.template of the rollout.
    pub given: Arc<Value>,
    /// What the server made of it; `None` where it refused to say.
    pub stored: Option<Arc<Value>>,
}

/// A ReplicaSet, with the fields that plans read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicaSet {
    /// metadata.name.
    pub name: String,
    /// metadata.uid.
    pub uid: String,
    /// metadata.resourceVersion.
    pub resource_version: String,
    /// metadata.generation.
    pub generation: i64,
    /// metadata.creationTimestamp.
    pub created: Timestamp,
    /// Whether metadata.deletionTimestamp is set.
    pub terminating: bool,
    /// metadata.labels.
    pub labels: BTreeMap<String, String>,
    /// metadata.annotations.
    pub annotations: BTreeMap<String, String>,
    /// metadata.ownerReferences, as they are.
    pub owners: Vec<Value>,
    /// spec.replicas; 1 when absent, as Kubernetes has it.
    pub replicas: i32,
    /// spec.minReadySeconds.
    pub min_ready_seconds: i32,
    /// spec.selector.
    pub selector: LabelSelector,
    /// spec.template.
    pub template: Arc<Value>,
    /// status.
    pub status: SetStatus,
}

/// The status of a ReplicaSet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SetStatus {
    /// Pods that exist.
    pub replicas: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Pods that are available.
    pub available: i32,
    /// The generation that the ReplicaSet controller saw last.
    pub observed_generation: i64,
    /// Condition ReplicaFailure, where it is there: the cluster refuses pods.
    pub failure: Option<SetFailure>,
}

/// Condition ReplicaFailure of a ReplicaSet.
#[derive(Clone, Debug, PartialEq)]
pub struct SetFailure {
    /// True, False or Unknown.
    pub status: String,
    /// Its reason, such as `FailedCreate`.
    pub reason: String,
    /// Its message: the API server's.
    pub message: String,
    /// When its status last changed.
    pub since: Timestamp,
}

impl ReplicaSet {
    /// Its pod template hash: the label's, or where somebody took that away, that of its pods; empty when both are missing.
    #[must_use]
    pub fn hash(&self) -> &str {
        let of_pods = || self.template.pointer("/metadata/labels")?.get(keys::POD_TEMPLATE_HASH)?.as_str();
        self.labels.get(keys::POD_TEMPLATE_HASH).map(String::as_str).or_else(of_pods).unwrap_or_default()
    }

    /// The uid of the owner that controls it; `None` for an orphan.
    #[must_use]
    pub fn controller(&self) -> Option<&str> {
        let controls = |owner: &&Value| owner.get("controller").and_then(Value::as_bool).unwrap_or(false);
        self.owners.iter().find(controls)?.get("uid")?.as_str()
    }

    /// The version that a write to it is decided on.
    #[must_use]
    pub fn version(&self) -> super::Version {
        super::Version { uid: self.uid.clone(), resource_version: self.resource_version.clone() }
    }

    /// Its revision number; 0 when it has none that can be read, or one that nobody counted up to.
    #[must_use]
    pub fn revision(&self) -> i64 {
        const MOST: i64 = 1 << 53;
        let number = self.annotations.get(keys::REVISION).and_then(|text| text.parse().ok());
        number.filter(|number| (0..MOST).contains(number)).unwrap_or(0)
    }

    /// Whether it was made before another set: the older of two versions, whichever was rolled out last.
    #[must_use]
    pub fn is_older_than(&self, other: &Self) -> bool {
        // Creation times tell seconds apart only.
        (self.created, self.first_revision()) < (other.created, other.first_revision())
    }

    /// The revision number that it had at first.
    fn first_revision(&self) -> i64 {
        let history = self.annotations.get(keys::REVISION_HISTORY);
        let first = history.and_then(|history| history.split(',').next()?.trim().parse().ok());
        first.unwrap_or_else(|| self.revision())
    }

    /// spec.replicas of its rollout when it was last scaled; `None` when it was not recorded.
    #[must_use]
    pub fn desired_replicas(&self) -> Option<i32> {
        self.annotations.get(keys::DESIRED_REPLICAS).and_then(|text| text.parse().ok())
    }

    /// Whether its status is about its current spec. One about an older spec may count pods that are on their way out already.
    #[must_use]
    pub fn is_observed(&self) -> bool {
        self.status.observed_generation >= self.generation
    }

    /// Pods that are certainly available: none as long as the status is about an older spec.
    #[must_use]
    pub fn surely_available(&self) -> i32 {
        if self.is_observed() { self.status.available } else { 0 }
    }

    /// Its size as the arithmetic takes it.
    #[must_use]
    pub fn size(&self) -> super::replicas::Size {
        super::replicas::Size { spec: self.replicas, available: self.status.available }
    }
}

/// The reason of a write that failed because the API server did not answer, or not now: nothing is wrong with the write.
pub const UNAVAILABLE: &str = "Unavailable";

/// A request of ours that the API server refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Setback {
    /// What was to be done.
    pub attempt: Attempt,
    /// The server's reason in one word, such as `Forbidden`; empty when it gave none.
    pub reason: String,
    /// The server's message.
    pub message: String,
    /// When it was first refused.
    pub since: Timestamp,
    /// When it is tried again.
    pub next_try: Option<Timestamp>,
}

impl Setback {
    /// Whether the server has something against the write, rather than being away.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.reason != UNAVAILABLE
    }
}

/// What a request was to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attempt {
    /// Create the ReplicaSet of this name.
    Create(String),
    /// The name is taken by a ReplicaSet that is not the rollout's, or whose template is another: a hash collision.
    Collide(String),
    /// Change the ReplicaSet of this name.
    Change(String),
    /// Delete the ReplicaSet of this name.
    Delete(String),
    /// Change the selector of the Service of this name.
    Service(String),
    /// Evict pods of the ReplicaSet of this name.
    Evict(String),
    /// Change labels and annotations of pods of the ReplicaSet of this name.
    Label(String),
    /// Look whether the Service of this name exists.
    LookForService(String),
    /// Look whether the workload that the rollout refers to exists.
    LookForWorkload(WorkloadName),
    /// Change that workload.
    Workload(WorkloadName),
    /// Read an object afresh, after a write to it that the watch does not show.
    Read(Object),
    /// Ask how the pod template looks with the server's defaults.
    AskForDefaults,
    /// Write the rollout itself.
    Rollout,
}
