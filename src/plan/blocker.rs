//! Why a rollout does not advance, as data: messages, RPC answers and the live tree all come from this one list.
//!
//! Values only; the modules that decide to wait make them.

use jiff::Timestamp;

use crate::crd::WorkloadName;

/// A reason why a rollout does not advance further by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocker {
    /// What kind of wait it is.
    pub reason: BlockerReason,
    /// The object that is waited for.
    pub object: Object,
    /// The condition that must come true, as data, such as `status.availableReplicas 1/3`.
    pub condition: String,
    /// Since when, as far as it is known.
    pub since: Option<Timestamp>,
    /// A sentence for people.
    pub message: String,
    /// What happens next.
    pub next: String,
    /// When, where that depends on time alone.
    pub next_at: Option<Timestamp>,
}

/// An object that is waited for, in the rollout's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// The rollout itself.
    Rollout,
    /// A ReplicaSet, by name.
    ReplicaSet(String),
    /// A Service, by name.
    Service(String),
    /// A pod, by name.
    Pod(String),
    /// The workload that the rollout refers to.
    Workload(WorkloadName),
}

/// What kind of wait it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockerReason {
    /// The current step is a pause.
    PauseStep,
    /// spec.paused is set.
    PausedBySpec,
    /// Pods are not available yet.
    PodsNotAvailable,
    /// Pods that must go are still there.
    PodsNotGone,
    /// The update was aborted.
    Aborted,
    /// No progress within the deadline.
    ProgressDeadlineExceeded,
    /// The spec is invalid.
    InvalidSpec,
    /// The spec uses a field that is not acted on yet.
    UnsupportedField,
    /// The cluster refuses pods.
    ReplicaFailure,
    /// A write of ours was refused.
    WriteRefused,
    /// The stored object cannot be decoded.
    MalformedObject,
    /// ReplicaSets are being created, resized or deleted.
    Scaling,
    /// A blue-green update waits for its promotion.
    BlueGreenPause,
    /// A Service is to select another version.
    ServiceSwitch,
    /// Pods are being restarted.
    Restarting,
    /// A pod cannot run.
    PodFailing,
    /// A Service that the strategy names does not exist.
    ServiceMissing,
    /// The workload that the rollout takes its pod template from does not exist.
    WorkloadMissing,
    /// Our account lacks a right.
    PermissionMissing,
    /// Live pods are given the labels and annotations of what their version is now.
    Relabelling,
    /// Pods turned unready after a change of their environment, and got back what they had.
    EnvironmentTakenBack,
    /// A step plugin does its work.
    StepPlugin,
    /// A step plugin cannot be asked.
    PluginUnusable,
}
