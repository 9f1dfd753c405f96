//! What a plan says: the writes to make, why nothing more can be done yet, and when to look again.
//!
//! Plain values. Each write names the version of the object that it was decided on, so that it is refused when somebody
//! changed that object since. [`crate::worker`] carries them out.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::blocker::Blocker;
use super::duration::Ended;
use super::event::Event;
use super::injected::Labelling;
use super::observed::Attempt;
use super::plugin::Call;
use crate::crd::WorkloadName;

/// How long a status that only counts may wait for company (design.md, frugality): pods of a step come up one after the
/// other, and one write for all of them is enough.
pub const COMPANY: SignedDuration = SignedDuration::from_millis(500);

/// The least time until a plan is made again because time has passed: whatever a plan says, nobody who carries it out spins.
pub const LEAST_PAUSE: SignedDuration = SignedDuration::from_millis(100);

/// All that is to be done about a rollout now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The versions that were seen.
    pub basis: Basis,
    /// Writes to the rollout itself.
    pub rollout: RolloutPart,
    /// Writes to its ReplicaSets, at most one for each.
    pub sets: Vec<SetAction>,
    /// Writes to Services, at most one for each.
    pub services: Vec<ServiceAction>,
    /// A write to the Deployment that it takes over from.
    pub workload: Option<WorkloadAction>,
    /// Pods to evict.
    pub evictions: Evictions,
    /// Writes to labels and annotations of live pods: the next few of those that are to be made, at most one for each.
    pub pods: Vec<PodAction>,
    /// How far live pods have the labels and annotations that they should; `None` where none are put into them.
    pub labelling: Option<Labelling>,
    /// Why it does not advance further by itself; empty when all is done.
    pub blockers: Vec<Blocker>,
    /// Events that belong to no write, and so are repeated by every plan while they hold.
    pub notices: Vec<Event>,
    /// What is to be asked of a step plugin.
    pub call: Option<Call>,
    /// Whether the plugin's answer that was seen is one to something that nobody wants to know any more.
    pub answer_is_stale: bool,
    /// What the planner must find out before it can decide.
    pub question: Option<Question>,
    /// When time alone will change the plan.
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    /// Whether the plan asks for what was attempted: a refusal of what nobody wants any more is forgotten.
    #[must_use]
    pub fn wants(&self, attempt: &Attempt) -> bool {
        let creates = self.sets.iter().any(|action| matches!(action, SetAction::Create { .. }));
        let writes_rollout = self.rollout.object.is_some() || self.rollout.status.is_some();
        match attempt {
            Attempt::Create(_) | Attempt::Change(_) | Attempt::Delete(_) => {
                self.sets.iter().any(|action| action.attempt() == *attempt)
            }
            Attempt::Service(name) => self.services.iter().any(|action| action.name == *name),
            Attempt::Evict(set) => self.evictions.pods.iter().any(|eviction| eviction.set == *set),
            Attempt::Label(set) => self.pods.iter().any(|action| action.set == *set),
            Attempt::LookForService(name) => {
                matches!(&self.question, Some(Question::Services(names)) if names.contains(name))
            }
            Attempt::Workload(name) => self.workload.as_ref().is_some_and(|action| action.name == *name),
            Attempt::LookForWorkload(name) => {
                matches!(&self.question, Some(Question::Workload(wanted)) if wanted == name)
            }
            // There is no plan before everything was read that had to be.
            Attempt::Read(_) => false,
            Attempt::AskForDefaults => self.question == Some(Question::DefaultedTemplate),
            Attempt::Collide(_) => creates || writes_rollout,
            Attempt::Rollout => writes_rollout,
        }
    }
}

/// The versions of the objects that a plan was made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Basis {
    /// The rollout.
    pub rollout: Version,
    /// ReplicaSets, by name.
    pub sets: BTreeMap<String, Version>,
    /// Services, by name.
    pub services: BTreeMap<String, Version>,
}

/// A version of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// metadata.uid.
    pub uid: String,
    /// metadata.resourceVersion.
    pub resource_version: String,
}

/// Writes to the rollout: first the object, then its status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RolloutPart {
    /// A JSON merge patch of the object (its annotations; replicas where the user left them out).
    pub object: Option<Write>,
    /// A JSON merge patch of the status subresource, its `status` alone.
    pub status: Option<Write>,
    /// How soon the status is to be written.
    pub urgency: Urgency,
    /// The update that ended with this status.
    pub ended: Option<Ended>,
}

/// A JSON merge patch without its precondition, and the events that are recorded once it succeeded.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The patch.
    pub patch: Value,
    /// What it amounts to, in order.
    pub events: Vec<Event>,
}

/// How soon a status is to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urgency {
    /// It only follows pods that come and go: it may wait a little for company.
    Soon,
    /// It decides something.
    #[default]
    Now,
}

/// A write to a ReplicaSet.
#[derive(Clone, Debug, PartialEq)]
pub enum SetAction {
    /// Create it.
    Create {
        /// Its name.
        name: String,
        /// The whole object.
        object: Value,
    },
    /// Make it the rollout's, once a fresh look has shown that the rollout is not being deleted: a set that its deletion
    /// orphans would otherwise be taken back and then collected with it.
    Adopt {
        /// Its name.
        name: String,
        /// The version that was decided on.
        version: Version,
        /// The JSON merge patch.
        patch: Value,
    },
    /// Change it by a JSON merge patch.
    Patch {
        /// Its name.
        name: String,
        /// The version that was decided on.
        version: Version,
        /// The patch.
        write: Write,
        /// The set that must have given up places before: without that write, this one must not be made.
        after: Option<String>,
    },
    /// Delete it: an old revision beyond the history limit.
    Delete {
        /// Its name.
        name: String,
        /// The version that was decided on.
        version: Version,
    },
}

impl SetAction {
    /// Whether it makes or changes a number of pods.
    #[must_use]
    pub fn resizes(&self) -> bool {
        match self {
            Self::Create { .. } => true,
            Self::Adopt { patch, .. } => patch.pointer("/spec/replicas").is_some(),
            Self::Patch { write, .. } => write.patch.pointer("/spec/replicas").is_some(),
            Self::Delete { .. } => false,
        }
    }

    /// What it attempts.
    #[must_use]
    pub fn attempt(&self) -> Attempt {
        match self {
            Self::Create { name, .. } => Attempt::Create(name.clone()),
            Self::Adopt { name, .. } | Self::Patch { name, .. } => Attempt::Change(name.clone()),
            Self::Delete { name, .. } => Attempt::Delete(name.clone()),
        }
    }

    /// The ReplicaSet's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Create { name, .. }
            | Self::Adopt { name, .. }
            | Self::Patch { name, .. }
            | Self::Delete { name, .. } => name,
        }
    }
}

/// A write to a Service: a JSON merge patch.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceAction {
    /// Its name.
    pub name: String,
    /// The version that was decided on.
    pub version: Version,
    /// The patch.
    pub write: Write,
}

/// A write to a live pod: a JSON merge patch of its labels and annotations, and of nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct PodAction {
    /// Its name.
    pub pod: String,
    /// The name of its ReplicaSet.
    pub set: String,
    /// The version that was decided on.
    pub version: Version,
    /// The patch.
    pub patch: Value,
}

/// A write to the workload that a rollout takes its pod template from: a JSON merge patch.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadAction {
    /// Its kind and name.
    pub name: WorkloadName,
    /// The version that was decided on.
    pub version: Version,
    /// The patch.
    pub write: Write,
}

/// Pods that are to be evicted, as far as PodDisruptionBudgets permit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evictions {
    /// The pods, in order. Where a budget does not permit one, the pods of the next set take their turn.
    pub pods: Vec<Eviction>,
    /// How many of them may go now.
    pub at_most: usize,
}

/// A pod that is to be evicted.
#[derive(Clone, Debug, PartialEq)]
pub struct Eviction {
    /// Its name.
    pub pod: String,
    /// Its uid: another pod of this name is not meant.
    pub uid: String,
    /// The name of its ReplicaSet, whose pods have the same labels and with them the same budgets.
    pub set: String,
}

/// What the planner must ask the API server.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// Whether these Services exist, which the cache does not show: one that was created just now is no reason to call the spec
    /// invalid.
    Services(Vec<String>),
    /// Whether the workload exists that the rollout refers to, which the cache does not show.
    Workload(WorkloadName),
    /// How spec.template looks with the server's defaults: whether an existing set has it cannot be told without.
    DefaultedTemplate,
}
