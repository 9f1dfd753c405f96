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

pub use call::{Answer, Asked, Call, KnownPlugins, PluginState, Plugins, Reply, UpdateId};
pub(super) use record::Record;

use super::blocker::{Blocker, BlockerReason};
use super::conditions::Facts;
use super::event::{self, Event};
use super::observed::Observed;
use super::stance::Stance;
use crate::crd::{
    CanaryStrategy, PluginStep, RolloutStatus, StepAction, StepPluginOperation, StepPluginPhase,
    StepPluginStatus,
};
use record::entries;

const RUN: StepPluginOperation = StepPluginOperation::Run;

/// What a plugin is to do.
struct Task<'a> {
    /// Index of the step, from 0.
    index: i32,
    /// Name of the plugin.
    name: &'a str,
    operation: StepPluginOperation,
    /// Whether it can be asked for it.
    state: PluginState,
}

/// What is asked now, and when it is time to ask again.
#[derive(Default)]
struct Turn {
    call: Option<Call>,
    wake_at: Option<Timestamp>,
}

/// A plan's part about step plugins.
#[derive(Default)]
pub(super) struct Part {
    pub(super) call: Option<Call>,
    pub(super) answer_is_stale: bool,
    pub(super) wake_at: Option<Timestamp>,
    /// What has changed in what they do.
    pub(super) events: Vec<Event>,
    /// What is waited for.
    pub(super) blockers: Vec<Blocker>,
}

impl Part {
    /// That plugins which are to be asked cannot be, for those who look at events only.
    pub(super) fn notices(&self) -> Vec<Event> {
        let unusable = self.blockers.iter().filter(|blocker| blocker.reason == BlockerReason::PluginUnusable);
        unusable.map(|blocker| event::plugin_unusable(&blocker.message)).collect()
    }
}

/// Decides it, where the plan leads to `status`.
pub(super) fn part(facts: &Facts<'_>, status: &RolloutStatus) -> Part {
    let Facts { seen, stance, .. } = facts;
    let answer_is_stale = seen.plugins.answer.is_some() && !stance.plugins.took_answer;
    let Some(canary) = facts.canary() else { return Part { answer_is_stale, ..Part::default() } };
    let tasks = tasks(facts, canary);
    let Turn { call, wake_at } = turn(facts, canary, &tasks);
    let before = seen.rollout.status();
    Part {
        call: call.filter(|_| is_told(before, status)),
        answer_is_stale,
        wake_at,
        events: record::transitions(before, &stance.plugins.statuses).collect(),
        blockers: tasks.iter().map(|task| wait::blocker(facts, task)).collect(),
    }
}

/// What is to be asked by where the update stands. What is undone is so in order; else what is due comes first.
fn turn(facts: &Facts<'_>, canary: &CanaryStrategy, tasks: &[Task<'_>]) -> Turn {
    let stance = facts.stance;
    let at_once = if stance.is_aborted() { 1 } else { tasks.len() };
    let ready = || tasks.iter().filter(|task| task.state == PluginState::Ready).take(at_once);
    let due = |task: &Task<'_>| stance.plugins.due(task).filter(|due| *due > facts.now);
    match ready().find(|task| due(task).is_none()) {
        Some(task) => Turn { call: Some(call(facts, canary, task)), wake_at: None },
        None => Turn { call: None, wake_at: ready().filter_map(due).min() },
    }
}

fn call(facts: &Facts<'_>, canary: &CanaryStrategy, task: &Task<'_>) -> Call {
    let Task { index, name, operation, state: _ } = task;
    let record = &facts.stance.plugins;
    let step = step_at(canary, *index).filter(|step| step.name == *name);
    // What is undone or ended knows what Run said last.
    let known = record.of(*index, name, operation).or_else(|| record.of(*index, name, &RUN));
    Call {
        asked: Asked {
            update: record::update(facts.seen, facts.revisions),
            index: *index,
            name: (*name).to_owned(),
            operation: operation.clone(),
            executions: record.executions(*index, name, operation),
        },
        config: step.and_then(|step| step.config.clone()),
        status: known.and_then(|entry| entry.status.clone()),
    }
}

/// What is to be done, in order. Those whose plugin is disabled are done.
fn tasks<'a>(facts: &Facts<'a>, canary: &'a CanaryStrategy) -> Vec<Task<'a>> {
    let (stance, record) = (facts.stance, &facts.stance.plugins);
    let mut runs: Vec<&StepPluginStatus> =
        record.statuses.iter().filter(|entry| entry.operation == RUN).collect();
    let operation = if stance.is_aborted() {
        runs.retain(|run| run.disabled != Some(true) && run.phase != Some(StepPluginPhase::Failed));
        runs.sort_by_key(|run| std::cmp::Reverse(run.index));
        StepPluginOperation::Abort
    } else {
        let is_left = |run: &StepPluginStatus| stance.step.is_none_or(|step| run.index < step);
        runs.retain(|run| is_left(run) && !record::is_over(run));
        runs.sort_by_key(|run| run.index);
        StepPluginOperation::Terminate
    };
    let followed = runs.into_iter().map(|run| (run.index, run.name.as_str(), operation.clone()));
    let followed = followed.filter(|(index, name, operation)| !record.is_over(*index, name, operation));
    let current = current(facts, canary).map(|(index, name)| (index, name, RUN));
    let tasks = followed.chain(current).map(|(index, name, operation)| Task {
        index,
        name,
        operation,
        state: state(facts.seen, name),
    });
    tasks.filter(|task| task.state != PluginState::Disabled).collect()
}

/// The plugin of the current step, unless it has done it: index and name.
fn current<'a>(facts: &Facts<'_>, canary: &'a CanaryStrategy) -> Option<(i32, &'a str)> {
    let (stance, revisions) = (facts.stance, facts.revisions);
    let Some(StepAction::Plugin(step)) = stance.action(canary) else { return None };
    let index = stance.step?;
    let has_pods = revisions.new_set().is_some() && !stance.stable.is_empty();
    let waits = facts.seen.rollout.spec.paused()
        || stance.is_aborted()
        || stance.is_promoted(revisions)
        || stance.plugins.is_over(index, &step.name, &RUN);
    (has_pods && !waits).then_some((index, &*step.name))
}

fn step_at(canary: &CanaryStrategy, index: i32) -> Option<&PluginStep> {
    let step = canary.steps().get(usize::try_from(index).ok()?)?;
    step.plugin.as_ref()
}

/// Whether a plugin's step is passed. That of a disabled plugin is noted as done.
pub(super) fn passes(stance: &mut Stance, seen: &Observed, step: &PluginStep, now: Timestamp) -> bool {
    let Some(index) = stance.step else { return false };
    if state(seen, &step.name) == PluginState::Disabled && !stance.plugins.is_over(index, &step.name, &RUN) {
        stance.plugins.disabled(index, &step.name, now);
    }
    let entry = stance.plugins.of(index, &step.name, &RUN);
    entry.is_some_and(|entry| entry.phase == Some(StepPluginPhase::Successful))
}

/// Why the plugin of the current step ends the update; `None` where it does not (contract 4.7 «abort causes», which count steps from 1).
pub(super) fn failure(stance: &Stance, canary: &CanaryStrategy) -> Option<String> {
    let Some(StepAction::Plugin(step)) = stance.action(canary).filter(|_| !stance.is_aborted()) else {
        return None;
    };
    let entry = stance.plugins.of(stance.step?, &step.name, &RUN)?;
    (entry.phase == Some(StepPluginPhase::Failed)).then(|| {
        let message = entry.message.as_deref().unwrap_or_default();
        format!("Step Plugin {} ({}) failed: {message}", entry.index.saturating_add(1), entry.name)
    })
}

/// Whether the stored status says all of where the update stands: only then is a plugin asked.
fn is_told(before: &RolloutStatus, after: &RolloutStatus) -> bool {
    fn stands(status: &RolloutStatus) -> ([&str; 3], Option<i32>, [bool; 2]) {
        let versions = [status.current_pod_hash(), status.current_step_hash(), status.stable_rs()];
        (versions, status.current_step_index, [status.abort(), status.promote_full()])
    }
    stands(before) == stands(after) && entries(before) == entries(after)
}

/// Whether a plugin can be asked.
fn state(seen: &Observed, name: &str) -> PluginState {
    let unusable = |why: &str| PluginState::Unusable(why.to_owned());
    let Some(known) = &seen.plugins.known else { return unusable("its configuration is being read") };
    let is_pruned = seen.pruned.iter().any(|path| {
        let field: Vec<&str> = path.iter().map(String::as_str).collect();
        ["canary", "stepPluginStatuses"].starts_with(&field)
    });
    match (known.by_name.get(name), &known.fault) {
        (Some(PluginState::Ready), _) if is_pruned => unusable(
            "the cluster's definition of Rollouts is older than status.canary.stepPluginStatuses: apply a newer one and restart rolloutd",
        ),
        (Some(state), _) => state.clone(),
        (None, Some(fault)) => unusable(fault),
        (None, None) => unusable(
            "stepPlugins of ConfigMap argo-rollouts-config does not name it: add it there and restart rolloutd, or change the step",
        ),
    }
}
