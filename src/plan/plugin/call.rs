//! What is asked of a step plugin, and what it answers: plain values.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::crd::{StepPluginOperation, StepPluginPhase};

/// A request to a step plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Which.
    pub asked: Asked,
    /// The step's configuration, which the plugin alone knows the form of.
    pub config: Option<Value>,
    /// What the plugin answered last as its state.
    pub status: Option<Value>,
}

/// What tells one request from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The update.
    pub update: UpdateId,
    /// Index of the step, from 0.
    pub index: i32,
    /// Name of the plugin.
    pub name: String,
    /// What it is to do.
    pub operation: StepPluginOperation,
    /// How often the operation was asked for before, of this step in this update.
    pub executions: i32,
}

/// What tells one update from another, and from the same one tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateId {
    /// metadata.uid of the rollout.
    pub rollout: String,
    /// The hash of its pods.
    pub pod_hash: String,
    /// The hash of its steps.
    pub step_hash: String,
    /// When it began, or was last tried again; `None` where the definition of Rollouts does not have status.duration.
    pub began: Option<Timestamp>,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Which.
    pub asked: Asked,
    /// When it was sent.
    pub began: Timestamp,
    /// When the answer came.
    pub ended: Timestamp,
    /// The plugin's words; in `Err` why there are none: it is away, too slow, or its answer cannot be taken.
    pub result: Result<Reply, String>,
}

/// What a plugin says.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// How its operation goes.
    pub phase: StepPluginPhase,
    /// For people; may be empty.
    pub message: String,
    /// While it runs: when it wants to be asked again.
    pub requeue_after: Option<SignedDuration>,
    /// State that is given back with the next request: an object.
    pub status: Option<Value>,
}

/// What is known of step plugins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plugins {
    /// Those of the configuration; `None` while it has not been read.
    pub known: Option<Arc<KnownPlugins>>,
    /// What became of the last request for this rollout, until the status has it.
    pub answer: Option<Answer>,
}

/// The step plugins of the configuration (contract A13).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownPlugins {
    /// By name.
    pub by_name: BTreeMap<String, PluginState>,
    /// Why not all of the configuration could be read.
    pub fault: Option<String>,
}

/// Whether a plugin can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginState {
    /// It can.
    Ready,
    /// The configuration disables it: its steps pass.
    Disabled,
    /// It cannot, for this reason, which names the remedy.
    Unusable(String),
}
