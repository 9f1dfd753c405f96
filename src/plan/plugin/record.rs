//! What was asked of step plugins in an update and what they answered: status.canary.stepPluginStatuses.

use jiff::{SignedDuration, Timestamp};

use super::{Answer, Asked, Reply, Task};
use crate::crd::{
    Extra, RolloutStatus, StepPluginOperation, StepPluginPhase, StepPluginStatus, Time, go_duration,
};
use crate::plan::event::{self, Event};
use crate::plan::observed::Observed;
use crate::plan::revision::Revisions;

/// A plugin is not asked again sooner, whatever it says (contract A13).
const LEAST_BACKOFF: SignedDuration = SignedDuration::from_secs(10);

/// After how long a plugin is asked again that does not say, or that could not be asked (contract A13).
const BACKOFF: SignedDuration = SignedDuration::from_secs(30);

/// What was asked of plugins in an update.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::plan) struct Record {
    /// One for each plugin step that was come to.
    pub(in crate::plan) statuses: Vec<StepPluginStatus>,
    /// Whether the answer that came is among them.
    pub(in crate::plan) took_answer: bool,
}

/// Those of a status.
pub(super) fn entries(status: &RolloutStatus) -> &[StepPluginStatus] {
    status.canary.as_ref().and_then(|canary| canary.step_plugin_statuses.as_deref()).unwrap_or_default()
}

impl Record {
    /// By the status that was seen, of an update that stands at `step` (`None`: it has none), with the answer that came.
    pub(in crate::plan) fn seen(
        seen: &Observed,
        revisions: &Revisions<'_>,
        is_aborted: bool,
        step: Option<i32>,
    ) -> Self {
        let stored = entries(seen.rollout.status());
        let statuses = stored.iter().filter(|entry| is_aborted || counts(entry, step)).cloned().collect();
        let mut record = Self { statuses, took_answer: false };
        if let Some(answer) =
            seen.plugins.answer.as_ref().filter(|answer| answer.asked.pod_hash == revisions.hash)
        {
            record.take(answer);
        }
        record
    }

    /// What is known of a plugin's step.
    pub(super) fn of(&self, index: i32, name: &str) -> Option<&StepPluginStatus> {
        self.statuses.iter().find(|entry| entry.index == index && entry.name == name)
    }

    /// How often something was asked for.
    pub(super) fn executions(&self, index: i32, name: &str, operation: &StepPluginOperation) -> i32 {
        let entry = self.of(index, name).filter(|entry| entry.operation == *operation);
        entry.and_then(|entry| entry.executions).unwrap_or(0)
    }

    /// Whether a plugin has run to its end, whichever.
    pub(super) fn has_run(&self, index: i32, name: &str) -> bool {
        let has_ended = |entry: &StepPluginStatus| {
            matches!(entry.phase, Some(StepPluginPhase::Successful | StepPluginPhase::Failed))
        };
        self.of(index, name)
            .is_some_and(|entry| entry.operation == StepPluginOperation::Run && has_ended(entry))
    }

    /// When a plugin may be asked; `None`: at once.
    pub(super) fn due(&self, task: &Task<'_>) -> Option<Timestamp> {
        let entry = self.of(task.index, task.name).filter(|entry| entry.operation == task.operation)?;
        let asked = entry.updated_at.as_ref().or(entry.started_at.as_ref())?.instant();
        let stored = entry.backoff.as_deref().and_then(|text| go_duration::parse(text).ok());
        let backoff = stored.unwrap_or(BACKOFF).max(LEAST_BACKOFF);
        Some(asked.checked_add(backoff).unwrap_or(Timestamp::MAX))
    }

    /// The step of a disabled plugin passes as done.
    pub(super) fn disabled(&mut self, index: i32, name: &str, now: Timestamp) {
        let entry = self.entry(index, name, StepPluginOperation::Run, now);
        entry.phase = Some(StepPluginPhase::Successful);
        entry.finished_at = Some(Time::from(now));
        entry.disabled = Some(true);
    }

    /// Takes an answer in, unless it is one to something else than was asked last.
    fn take(&mut self, answer: &Answer) {
        let Answer { asked, began, ended, result } = answer;
        if !self.awaits(asked) {
            return;
        }
        self.took_answer = true;
        let entry = self.entry(asked.index, &asked.name, asked.operation.clone(), *began);
        entry.updated_at = Some(Time::from(*ended));
        entry.executions = Some(asked.executions.saturating_add(1));
        match result {
            Ok(reply) => take_reply(entry, reply),
            Err(error) => {
                entry.phase = Some(StepPluginPhase::Error);
                entry.message = Some(error.clone()).filter(|message| !message.is_empty());
                entry.backoff = Some(go_duration::format(BACKOFF));
            }
        }
        let has_ended = matches!(entry.phase, Some(StepPluginPhase::Successful | StepPluginPhase::Failed));
        entry.finished_at = has_ended.then(|| Time::from(*ended));
    }

    fn awaits(&self, asked: &Asked) -> bool {
        let entry = self.of(asked.index, &asked.name);
        let follows = match entry.map(|entry| &entry.operation) {
            None => asked.operation == StepPluginOperation::Run,
            Some(StepPluginOperation::Run) => true,
            Some(operation) => *operation == asked.operation,
        };
        let is_over =
            entry.is_some_and(|entry| entry.operation == asked.operation && entry.finished_at.is_some());
        follows && !is_over && asked.executions == self.executions(asked.index, &asked.name, &asked.operation)
    }

    /// The entry of an operation, which begins then where it has not begun.
    fn entry(
        &mut self,
        index: i32,
        name: &str,
        operation: StepPluginOperation,
        began: Timestamp,
    ) -> &mut StepPluginStatus {
        let at = self.statuses.iter().position(|entry| entry.index == index && entry.name == name);
        let before = at.map(|at| self.statuses.remove(at));
        let entry = match before {
            Some(entry) if entry.operation == operation => entry,
            before => StepPluginStatus {
                index,
                name: name.to_owned(),
                operation,
                phase: None,
                message: None,
                started_at: Some(Time::from(began)),
                updated_at: None,
                finished_at: None,
                backoff: None,
                executions: None,
                disabled: None,
                status: before.and_then(|before| before.status),
                extra: Extra::new(),
            },
        };
        let place = at.unwrap_or(self.statuses.len());
        self.statuses.insert(place, entry);
        &mut self.statuses[place]
    }
}

fn take_reply(entry: &mut StepPluginStatus, reply: &Reply) {
    let Reply { phase, message, requeue_after, status } = reply;
    entry.backoff = match phase {
        StepPluginPhase::Running => {
            Some(go_duration::format(requeue_after.unwrap_or(BACKOFF).max(LEAST_BACKOFF)))
        }
        StepPluginPhase::Error => Some(go_duration::format(BACKOFF)),
        _ => None,
    };
    entry.phase = Some(phase.clone());
    entry.message = Some(message.clone()).filter(|message| !message.is_empty());
    entry.status.clone_from(status);
}

/// Whether an entry means something to an update that is not aborted: one that was undone or that failed is of an attempt before, and so
/// is one that was stopped at a step that is to come again.
fn counts(entry: &StepPluginStatus, step: Option<i32>) -> bool {
    match entry.operation {
        StepPluginOperation::Run => entry.phase != Some(StepPluginPhase::Failed),
        StepPluginOperation::Terminate => step.is_none_or(|step| entry.index < step),
        _ => false,
    }
}

/// Events of what has changed in what plugins do.
pub(in crate::plan) fn transitions<'a>(
    before: &'a RolloutStatus,
    after: &'a [StepPluginStatus],
) -> impl Iterator<Item = Event> + use<'a> {
    after.iter().filter_map(|entry| {
        let stored =
            entries(before).iter().find(|stored| stored.index == entry.index && stored.name == entry.name);
        let state = |entry: &StepPluginStatus| (entry.operation.clone(), entry.phase.clone());
        (stored.map(state) != Some(state(entry))).then(|| event::step_plugin_transition(entry))
    })
}
