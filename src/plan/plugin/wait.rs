//! What a rollout says while it waits for a step plugin.

use super::{PluginState, Task, state, tasks};
use crate::crd::{CanaryStrategy, StepPluginOperation, StepPluginPhase, StepPluginStatus};
use crate::plan::blocker::{Blocker, BlockerReason, Object};
use crate::plan::conditions::Facts;
use crate::plan::event::{self, Event};

/// What is waited for.
pub(in crate::plan) fn blockers(facts: &Facts<'_>, canary: &CanaryStrategy) -> Vec<Blocker> {
    let tasks = tasks(facts.seen, facts.revisions, facts.stance, canary);
    let blockers = tasks.iter().map(|task| match state(facts.seen, task.name) {
        PluginState::Unusable(why) => unusable(facts, task, &why),
        _ => asked(facts, task),
    });
    blockers.collect()
}

fn blocker(facts: &Facts<'_>, task: &Task<'_>, reason: BlockerReason) -> Blocker {
    let entry = entry(facts, task);
    let index = task.index;
    Blocker {
        reason,
        object: Object::Rollout,
        condition: match task.operation {
            StepPluginOperation::Run => {
                format!("status.currentStepIndex {index}/{}", index.saturating_add(1))
            }
            _ => format!("status.canary.stepPluginStatuses of step {index}: {} Successful", task.operation),
        },
        since: entry.and_then(|entry| entry.started_at.as_ref()).map(crate::crd::Time::instant),
        message: String::new(),
        next: String::new(),
        next_at: None,
    }
}

fn entry<'a>(facts: &'a Facts<'_>, task: &Task<'_>) -> Option<&'a StepPluginStatus> {
    facts.stance.plugins.of(task.index, task.name, &task.operation)
}

fn asked(facts: &Facts<'_>, task: &Task<'_>) -> Blocker {
    let Task { index, name, operation } = task;
    let does = match operation {
        StepPluginOperation::Abort => format!("plugin {name} undoes step {index}"),
        StepPluginOperation::Terminate => format!("plugin {name} ends step {index}, which was left"),
        _ => format!("plugin {name} runs step {index}"),
    };
    let entry = entry(facts, task);
    let said = entry.and_then(|entry| entry.message.as_deref()).unwrap_or_default();
    let has_erred = entry.is_some_and(|entry| entry.phase == Some(StepPluginPhase::Error));
    Blocker {
        message: match (has_erred, said) {
            (_, "") => does,
            (false, said) => format!("{does}: {said}"),
            (true, said) => format!("{does} and has an error: {said}"),
        },
        next: if entry.is_some() { "it is asked again".to_owned() } else { "it is asked".to_owned() },
        next_at: facts.stance.plugins.due(task).filter(|due| *due > facts.now),
        ..blocker(facts, task, BlockerReason::StepPlugin)
    }
}

fn unusable(facts: &Facts<'_>, task: &Task<'_>, why: &str) -> Blocker {
    Blocker {
        message: format!("plugin {} of step {} cannot be asked: {why}", task.name, task.index),
        next: "it is asked once it can be".to_owned(),
        ..blocker(facts, task, BlockerReason::PluginUnusable)
    }
}

/// That plugins which are to be asked cannot be, for those who look at events only.
pub(super) fn notices(facts: &Facts<'_>, canary: &CanaryStrategy) -> Vec<Event> {
    let unusable = |blocker: &Blocker| blocker.reason == BlockerReason::PluginUnusable;
    blockers(facts, canary)
        .iter()
        .filter(|blocker| unusable(blocker))
        .map(|blocker| event::plugin_unusable(&blocker.message))
        .collect()
}
