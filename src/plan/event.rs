//! The events of a rollout: reasons and messages as Argo Rollouts has them (contract 4.2).
//!
//! Values only; [`crate::worker`] records them after the write that they belong to.

use crate::crd::{StepPluginPhase, StepPluginStatus, WorkloadName};

/// Something that happened to a rollout, for people and for notification triggers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// Normal or Warning.
    pub severity: Severity,
    /// The reason, in one CamelCase word.
    pub reason: &'static str,
    /// The message.
    pub message: String,
}

/// The type of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// `Normal`.
    Normal,
    /// `Warning`.
    Warning,
}

impl Severity {
    /// As Kubernetes spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

fn normal(reason: &'static str, message: String) -> Event {
    Event { severity: Severity::Normal, reason, message }
}

fn warning(reason: &'static str, message: String) -> Event {
    Event { severity: Severity::Warning, reason, message }
}

/// A rollout has a label of the status label's key itself, which stands.
#[must_use]
pub fn status_label_is_anothers(key: &str) -> Event {
    let message = format!(
        "Pods are not given the status label {key}: the pod template or the strategy's metadata has a label of this key, which stands"
    );
    normal("StatusLabelNotSet", message)
}

/// Pods have not had the labels and annotations that they should for long.
#[must_use]
pub fn relabelling_delayed() -> Event {
    let message =
        "Labels and annotations of pods have not followed what their version is for more than two minutes";
    warning("RelabellingDelayed", message.to_owned())
}

/// The rollout has a new revision number.
#[must_use]
pub fn rollout_updated(revision: i64) -> Event {
    normal("RolloutUpdated", format!("Rollout updated to revision {revision}"))
}

/// A ReplicaSet was created.
#[must_use]
pub fn replica_set_created(name: &str, revision: i64) -> Event {
    normal("NewReplicaSetCreated", format!("Created ReplicaSet {name} (revision {revision})"))
}

/// A ReplicaSet could not be created.
#[must_use]
pub fn replica_set_create_error(message: String) -> Event {
    warning("ReplicaSetCreateError", message)
}

/// A ReplicaSet was scaled.
#[must_use]
pub fn scaling_replica_set(name: &str, revision: i64, from: i32, to: i32) -> Event {
    let direction = if to > from { "up" } else { "down" };
    normal(
        "ScalingReplicaSet",
        format!("Scaled {direction} ReplicaSet {name} (revision {revision}) from {from} to {to}"),
    )
}

/// The Deployment that a rollout takes over from was scaled.
#[must_use]
pub fn scaling_workload(workload: &WorkloadName, from: i32, to: i32) -> Event {
    let direction = if to > from { "up" } else { "down" };
    let WorkloadName { kind, name } = workload;
    normal("ScalingWorkload", format!("Scaled {direction} {} {name} from {from} to {to}", kind.as_str()))
}

/// A Service selects another version; an empty hash is none.
#[must_use]
pub fn switch_service(name: &str, from: &str, to: &str) -> Event {
    normal("SwitchService", format!("Switched selector for service '{name}' from '{from}' to '{to}'"))
}

/// An update began.
#[must_use]
pub fn not_completed(revision: i64, hash: &str) -> Event {
    normal(
        "RolloutNotCompleted",
        format!("Rollout not completed, started update to revision {revision} ({hash})"),
    )
}

/// An update ended well.
#[must_use]
pub fn completed(revision: i64, hash: &str, how: &str) -> Event {
    normal("RolloutCompleted", format!("Rollout completed update to revision {revision} ({hash}): {how}"))
}

/// A step is done; `number` counts from 1.
#[must_use]
pub fn step_completed(number: usize, steps: usize, step: &str) -> Event {
    normal("RolloutStepCompleted", format!("Rollout step {number}/{steps} completed ({step})"))
}

/// The template went back to one that needs no steps.
#[must_use]
pub fn skip_steps(why: &str) -> Event {
    normal("SkipSteps", why.to_owned())
}

/// A pause began.
#[must_use]
pub fn paused(reason: &str) -> Event {
    normal("RolloutPaused", format!("Rollout is paused ({reason})"))
}

/// A pause ended.
#[must_use]
pub fn resumed() -> Event {
    normal("RolloutResumed", "Rollout is resumed".to_owned())
}

/// A step plugin has come to another phase, or was asked for something else.
#[must_use]
pub fn step_plugin_transition(entry: &StepPluginStatus) -> Event {
    let phase = entry.phase.as_ref().map_or("", StepPluginPhase::as_str);
    let said = entry.message.as_deref().map(|message| format!(": {message}")).unwrap_or_default();
    let number = entry.index.saturating_add(1);
    let message = format!("Step plugin {} (step {number}): {} {phase}{said}", entry.name, entry.operation);
    match entry.phase {
        Some(StepPluginPhase::Failed | StepPluginPhase::Error) => warning("StepPluginTransition", message),
        _ => normal("StepPluginTransition", message),
    }
}

/// A step plugin is to be asked and cannot be.
#[must_use]
pub fn plugin_unusable(message: &str) -> Event {
    warning("StepPluginUnusable", message.to_owned())
}

/// An update was aborted.
#[must_use]
pub fn aborted(message: &str) -> Event {
    warning("RolloutAborted", message.to_owned())
}

/// A write of ours was refused.
#[must_use]
pub fn reconciliation_error(message: &str) -> Event {
    warning("ReconciliationError", format!("Reconciliation failed with error: {message}"))
}

/// The spec uses a field that is not acted on yet.
#[must_use]
pub fn unsupported_field(message: String) -> Event {
    warning("UnsupportedField", message)
}

/// The reason of [`environment_taken_back`].
pub const ENVIRONMENT_TAKEN_BACK: &str = "EnvironmentTakenBack";

/// Pods of a ReplicaSet turned unready after a change of their environment and get back what they had.
#[must_use]
pub fn environment_taken_back(set: &str, pod: &str) -> Event {
    let message = format!(
        "Pod {pod} turned unready after the environment of ReplicaSet {set} was changed: its pods get back what they had before"
    );
    warning(ENVIRONMENT_TAKEN_BACK, message)
}

/// The rollout says something in its metadata, or of labels, that is not its to say or cannot be read.
#[must_use]
pub fn metadata_ignored(violation: &str) -> Event {
    warning("MetadataIgnored", format!("{violation}; it is ignored"))
}

/// The stored object cannot be decoded.
#[must_use]
pub fn malformed_object(message: String) -> Event {
    warning("MalformedObject", message)
}

/// The rollout was seen for the first time.
#[must_use]
pub fn added(namespace: &str, name: &str) -> Event {
    normal("RolloutAddedToInformer", format!("Rollout resource added to informer: {namespace}/{name}"))
}

/// The rollout was deleted.
#[must_use]
pub fn deleted(namespace: &str, name: &str) -> Event {
    normal("RolloutDeleted", format!("Rollout {namespace}/{name} is deleted."))
}
