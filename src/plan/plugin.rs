//! Steps that a plugin performs (contract A4 `plugin`, A13): what is to be asked of which plugin now.
//!
//! A plan asks one thing of one plugin, and only once the stored status says where the update stands. What became of it is part of what the
//! next plan sees and goes into status.canary.stepPluginStatuses, which alone says what was asked so far: whoever comes after a crash asks
//! the last thing once more. An update that goes on runs the plugin of its current step and stops those of steps that it left; one that was
//! aborted has what was done undone, the last first.

mod call;
mod record;
mod wait;

use jiff::Timestamp;

pub use call::{Answer, Asked, Call, KnownPlugins, PluginState, Plugins, Reply};
pub(super) use record::{Record, transitions};
pub(super) use wait::blockers;

use super::observed::Observed;
use super::revision::Revisions;
use super::stance::Stance;
use crate::crd::{
    CanaryStrategy, PluginStep, RolloutStatus, StepAction, StepPluginOperation, StepPluginPhase,
    StepPluginStatus,
};
use record::entries;

/// What a plugin is to do.
struct Task<'a> {
    /// Index of the step, from 0.
    index: i32,
    /// Name of the plugin.
    name: &'a str,
    operation: StepPluginOperation,
}

/// What is asked now, and when it is time to ask again.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Turn {
    pub(super) call: Option<Call>,
    pub(super) wake_at: Option<Timestamp>,
}

/// What is to be asked by where the update stands.
pub(super) fn turn(
    seen: &Observed,
    revisions: &Revisions<'_>,
    stance: &Stance,
    canary: &CanaryStrategy,
    now: Timestamp,
) -> Turn {
    let tasks = tasks(seen, revisions, stance, canary);
    let Some(task) = tasks.into_iter().find(|task| state(seen, task.name) == PluginState::Ready) else {
        return Turn::default();
    };
    match stance.plugins.due(&task) {
        Some(due) if due > now => Turn { call: None, wake_at: Some(due) },
        _ => Turn { call: Some(call(revisions, stance, canary, &task)), wake_at: None },
    }
}

fn call(revisions: &Revisions<'_>, stance: &Stance, canary: &CanaryStrategy, task: &Task<'_>) -> Call {
    let step = step_at(canary, task.index).filter(|step| step.name == task.name);
    Call {
        asked: Asked {
            pod_hash: revisions.hash.clone(),
            index: task.index,
            name: task.name.to_owned(),
            operation: task.operation.clone(),
            executions: stance.plugins.executions(task.index, task.name, &task.operation),
        },
        config: step.and_then(|step| step.config.clone()),
        status: stance.plugins.of(task.index, task.name).and_then(|entry| entry.status.clone()),
    }
}

/// What is to be done, in order. Those whose plugin is disabled are done.
fn tasks<'a>(
    seen: &Observed,
    revisions: &Revisions<'_>,
    stance: &'a Stance,
    canary: &'a CanaryStrategy,
) -> Vec<Task<'a>> {
    let of_entry =
        |entry: &'a StepPluginStatus, operation| Task { index: entry.index, name: &entry.name, operation };
    let mut entries: Vec<&StepPluginStatus> = stance.plugins.statuses.iter().collect();
    let mut tasks: Vec<Task<'_>> = match stance.is_aborted() {
        true => {
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.index));
            let undone = entries.into_iter().filter(|entry| is_to_be_undone(entry));
            undone.map(|entry| of_entry(entry, StepPluginOperation::Abort)).collect()
        }
        false => {
            entries.sort_by_key(|entry| entry.index);
            let is_left = |entry: &&StepPluginStatus| stance.step.is_none_or(|step| entry.index < step);
            let stopped = entries.into_iter().filter(is_left).filter(|entry| is_to_be_stopped(entry));
            let stopped = stopped.map(|entry| of_entry(entry, StepPluginOperation::Terminate));
            stopped.chain(current(seen, revisions, stance, canary)).collect()
        }
    };
    tasks.retain(|task| state(seen, task.name) != PluginState::Disabled);
    tasks
}

/// The plugin of the current step, unless it has done it.
fn current<'a>(
    seen: &Observed,
    revisions: &Revisions<'_>,
    stance: &Stance,
    canary: &'a CanaryStrategy,
) -> Option<Task<'a>> {
    let Some(StepAction::Plugin(step)) = stance.action(canary) else { return None };
    let index = stance.step?;
    let waits = seen.rollout.spec.paused()
        || stance.is_promoted(revisions)
        || stance.plugins.has_run(index, &step.name);
    (!waits).then(|| Task { index, name: &step.name, operation: StepPluginOperation::Run })
}

fn step_at(canary: &CanaryStrategy, index: i32) -> Option<&PluginStep> {
    let step = canary.steps().get(usize::try_from(index).ok()?)?;
    step.plugin.as_ref()
}

fn is_under_way(entry: &StepPluginStatus) -> bool {
    matches!(entry.phase, None | Some(StepPluginPhase::Running | StepPluginPhase::Error))
}

/// Whether an abort has something of it to undo.
fn is_to_be_undone(entry: &StepPluginStatus) -> bool {
    let is_done = entry.phase == Some(StepPluginPhase::Successful);
    match entry.operation {
        StepPluginOperation::Run => entry.disabled != Some(true) && (is_done || is_under_way(entry)),
        StepPluginOperation::Abort => is_under_way(entry),
        _ => false,
    }
}

/// Whether it still does what nobody waits for any more.
fn is_to_be_stopped(entry: &StepPluginStatus) -> bool {
    matches!(entry.operation, StepPluginOperation::Run | StepPluginOperation::Terminate)
        && is_under_way(entry)
}

/// Whether a plugin's step is passed. That of a disabled plugin is noted as done.
pub(super) fn passes(stance: &mut Stance, seen: &Observed, step: &PluginStep, now: Timestamp) -> bool {
    let Some(index) = stance.step else { return false };
    if state(seen, &step.name) == PluginState::Disabled && !stance.plugins.has_run(index, &step.name) {
        stance.plugins.disabled(index, &step.name, now);
    }
    stance.plugins.of(index, &step.name).is_some_and(|entry| {
        entry.operation == StepPluginOperation::Run && entry.phase == Some(StepPluginPhase::Successful)
    })
}

/// Why the plugin of the current step ends the update; `None` where it does not (contract 4.7 «abort causes», which count steps from 1).
pub(super) fn failure(stance: &Stance, canary: &CanaryStrategy) -> Option<String> {
    let Some(StepAction::Plugin(step)) = stance.action(canary).filter(|_| !stance.is_aborted()) else {
        return None;
    };
    let entry = stance.plugins.of(stance.step?, &step.name)?;
    let has_failed =
        entry.operation == StepPluginOperation::Run && entry.phase == Some(StepPluginPhase::Failed);
    has_failed.then(|| {
        let message = entry.message.as_deref().unwrap_or_default();
        format!("Step Plugin {} ({}) failed: {message}", entry.index.saturating_add(1), entry.name)
    })
}

/// Whether the stored status says all of where the update stands: only then is a plugin asked.
pub(super) fn is_told(before: &RolloutStatus, after: &RolloutStatus) -> bool {
    let stands = |status: &RolloutStatus| {
        let (pods, steps) = (status.current_pod_hash().to_owned(), status.current_step_hash().to_owned());
        (
            pods,
            steps,
            status.current_step_index,
            status.abort(),
            status.promote_full(),
            status.stable_rs().to_owned(),
        )
    };
    stands(before) == stands(after) && entries(before) == entries(after)
}

/// Whether a plugin can be asked.
fn state(seen: &Observed, name: &str) -> PluginState {
    let unusable = |why: &str| PluginState::Unusable(why.to_owned());
    let is_pruned = seen.pruned.iter().any(|path| {
        let field: Vec<&str> = path.iter().map(String::as_str).collect();
        ["canary", "stepPluginStatuses"].starts_with(&field)
    });
    if is_pruned {
        return unusable(
            "the cluster's definition of Rollouts is older than status.canary.stepPluginStatuses: apply a newer one",
        );
    }
    let Some(known) = &seen.plugins.known else { return unusable("the configuration was not read yet") };
    match (known.by_name.get(name), &known.fault) {
        (Some(state), _) => state.clone(),
        (None, Some(fault)) => unusable(fault),
        (None, None) => unusable("stepPlugins of ConfigMap argo-rollouts-config does not name it"),
    }
}
