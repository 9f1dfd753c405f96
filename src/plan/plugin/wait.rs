//! What a rollout says while it waits for a step plugin.

use super::{PluginState, Task};
use crate::crd::{StepPluginOperation, StepPluginPhase, StepPluginStatus};
use crate::plan::blocker::{Blocker, BlockerReason, Object};
use crate::plan::conditions::Facts;

/// What is waited for while a plugin has something to do.
pub(super) fn blocker(facts: &Facts<'_>, task: &Task<'_>) -> Blocker {
    match &task.state {
        PluginState::Unusable(why) => unusable(facts, task, why),
        PluginState::Ready | PluginState::Disabled => asked(facts, task),
    }
}

fn outline(facts: &Facts<'_>, task: &Task<'_>, reason: BlockerReason) -> Blocker {
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
    let Task { index, name, operation, state: _ } = task;
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
        ..outline(facts, task, BlockerReason::StepPlugin)
    }
}

fn unusable(facts: &Facts<'_>, task: &Task<'_>, why: &str) -> Blocker {
    Blocker {
        message: format!("plugin {} of step {} cannot be asked: {why}", task.name, task.index),
        next: "it is asked once it can be".to_owned(),
        ..outline(facts, task, BlockerReason::PluginUnusable)
    }
}
