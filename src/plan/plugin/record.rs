//! What was asked of step plugins in an update and what they answered: status.canary.stepPluginStatuses.

use jiff::{SignedDuration, Timestamp};

use super::{Answer, Asked, RUN, Reply, Task, UpdateId};
use crate::crd::{
    ConditionType, Extra, RolloutStatus, StepPluginOperation, StepPluginPhase, StepPluginStatus, Time,
    go_duration,
};
use crate::plan::event::{self, Event};
use crate::plan::observed::Observed;
use crate::plan::revision::Revisions;

/// A plugin is not asked again sooner, whatever it says (contract A13).
const LEAST_BACKOFF: SignedDuration = SignedDuration::from_secs(10);

/// After how long a plugin is asked again that does not say, or that could not be asked (contract A13).
const BACKOFF: SignedDuration = SignedDuration::from_secs(30);

/// After how long a plugin is asked again at the latest, whatever it says.
const LONGEST_BACKOFF: SignedDuration = SignedDuration::from_hours(24);

/// What was asked of plugins in an update.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::plan) struct Record {
    /// One for each operation of each plugin's step, as the reference keeps them.
    pub(in crate::plan) statuses: Vec<StepPluginStatus>,
    /// Whether the answer that came is among them.
    pub(in crate::plan) took_answer: bool,
}

/// Those of a status.
pub(super) fn entries(status: &RolloutStatus) -> &[StepPluginStatus] {
    status.canary.as_ref().and_then(|canary| canary.step_plugin_statuses.as_deref()).unwrap_or_default()
}

/// What the update that was seen is told from others by.
pub(super) fn update(seen: &Observed, revisions: &Revisions<'_>) -> UpdateId {
    let duration = seen.rollout.status().duration.as_ref();
    UpdateId {
        rollout: seen.rollout.metadata.uid.clone().unwrap_or_default(),
        pod_hash: revisions.hash.clone(),
        step_hash: revisions.step_hash.clone(),
        began: duration.and_then(|duration| duration.rollout_started_at.as_ref()).map(Time::instant),
    }
}

/// Whether an operation has ended.
pub(super) fn is_over(entry: &StepPluginStatus) -> bool {
    matches!(entry.phase, Some(StepPluginPhase::Successful | StepPluginPhase::Failed))
}

impl Record {
    /// By the status that was seen, of an update that stands at `step` (`None`: it has none), with the answer that came.
    pub(in crate::plan) fn seen(
        seen: &Observed,
        revisions: &Revisions<'_>,
        is_aborted: bool,
        step: Option<i32>,
    ) -> Self {
        let status = seen.rollout.status();
        let stored = if is_tried_again(status, is_aborted) { &[] } else { entries(status) };
        let statuses = stored.iter().filter(|entry| is_aborted || counts(entry, step)).cloned().collect();
        let mut record = Self { statuses, took_answer: false };
        if let Some(answer) = &seen.plugins.answer
            && answer.asked.update == update(seen, revisions)
            && record.awaits(&answer.asked, is_aborted, step)
        {
            record.take(answer);
        }
        record
    }

    /// What is known of an operation of a plugin's step.
    pub(super) fn of(
        &self,
        index: i32,
        name: &str,
        operation: &StepPluginOperation,
    ) -> Option<&StepPluginStatus> {
        self.statuses.iter().find(|entry| is_of(entry, index, name, operation))
    }

    /// How often something was asked for.
    pub(super) fn executions(&self, index: i32, name: &str, operation: &StepPluginOperation) -> i32 {
        self.of(index, name, operation).and_then(|entry| entry.executions).unwrap_or(0)
    }

    /// Whether a plugin has done something, or failed to.
    pub(super) fn is_over(&self, index: i32, name: &str, operation: &StepPluginOperation) -> bool {
        self.of(index, name, operation).is_some_and(is_over)
    }

    /// When a plugin may be asked; `None`: at once.
    pub(super) fn due(&self, task: &Task<'_>) -> Option<Timestamp> {
        let entry = self.of(task.index, task.name, &task.operation)?;
        let asked = entry.updated_at.as_ref().or(entry.started_at.as_ref())?.instant();
        let stored = entry.backoff.as_deref().and_then(|text| go_duration::parse(text).ok());
        let backoff = stored.unwrap_or(BACKOFF).clamp(LEAST_BACKOFF, LONGEST_BACKOFF);
        Some(asked.checked_add(backoff).unwrap_or(Timestamp::MAX))
    }

    /// The step of a disabled plugin passes as done.
    pub(super) fn disabled(&mut self, index: i32, name: &str, now: Timestamp) {
        let entry = self.entry(index, name, &RUN, now);
        entry.phase = Some(StepPluginPhase::Successful);
        entry.finished_at = Some(Time::from(now));
        entry.disabled = Some(true);
    }

    /// Takes an answer in.
    fn take(&mut self, Answer { asked, began, ended, result }: &Answer) {
        self.took_answer = true;
        let run = self.of(asked.index, &asked.name, &RUN);
        let state = run.and_then(|run| run.status.clone());
        let entry = self.entry(asked.index, &asked.name, &asked.operation, *began);
        entry.status = entry.status.take().or(state);
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
        entry.finished_at = is_over(entry).then(|| Time::from(*ended));
    }

    /// Whether it is the answer to what was asked last. That of a step which is yet to come, since people went back, is not.
    fn awaits(&self, asked: &Asked, is_aborted: bool, step: Option<i32>) -> bool {
        let Asked { index, name, operation, executions, .. } = asked;
        let is_to_come = !is_aborted && step.is_some_and(|step| *index > step);
        let has_run = self.of(*index, name, &RUN).is_some();
        !is_to_come
            && (*operation == RUN || has_run)
            && !self.is_over(*index, name, operation)
            && *executions == self.executions(*index, name, operation)
    }

    /// The entry of an operation, which begins then where it has not begun.
    fn entry(
        &mut self,
        index: i32,
        name: &str,
        operation: &StepPluginOperation,
        began: Timestamp,
    ) -> &mut StepPluginStatus {
        let at = self.statuses.iter().position(|entry| is_of(entry, index, name, operation));
        let at = at.unwrap_or_else(|| {
            self.statuses.push(StepPluginStatus {
                index,
                name: name.to_owned(),
                operation: operation.clone(),
                phase: None,
                message: None,
                started_at: Some(Time::from(began)),
                updated_at: None,
                finished_at: None,
                backoff: None,
                executions: None,
                disabled: None,
                status: None,
                extra: Extra::new(),
            });
            self.statuses.len() - 1
        });
        &mut self.statuses[at]
    }
}

fn is_of(entry: &StepPluginStatus, index: i32, name: &str, operation: &StepPluginOperation) -> bool {
    entry.index == index && entry.name == name && entry.operation == *operation
}

/// Whether the stored status is that of an attempt which was aborted, and is tried again.
fn is_tried_again(status: &RolloutStatus, is_aborted: bool) -> bool {
    let progressing = status.condition(&ConditionType::Progressing);
    !is_aborted && progressing.is_some_and(|condition| condition.reason == "RolloutAborted")
}

fn take_reply(entry: &mut StepPluginStatus, reply: &Reply) {
    let Reply { phase, message, requeue_after, status } = reply;
    entry.backoff = match phase {
        StepPluginPhase::Running => {
            let wanted = requeue_after.unwrap_or(BACKOFF).clamp(LEAST_BACKOFF, LONGEST_BACKOFF);
            Some(go_duration::format(wanted))
        }
        StepPluginPhase::Error => Some(go_duration::format(BACKOFF)),
        _ => None,
    };
    entry.phase = Some(phase.clone());
    entry.message = Some(message.clone()).filter(|message| !message.is_empty());
    // Who cannot tell now has not forgotten what it was at.
    if status.is_some() || *phase != StepPluginPhase::Error {
        entry.status.clone_from(status);
    }
}

/// Whether an entry means something to an update that is not aborted and stands at `step`: what steps that are yet to come were asked for is of
/// a time before.
fn counts(entry: &StepPluginStatus, step: Option<i32>) -> bool {
    match entry.operation {
        StepPluginOperation::Run => step.is_none_or(|step| entry.index <= step),
        StepPluginOperation::Terminate => step.is_none_or(|step| entry.index < step),
        _ => false,
    }
}

/// Events of what has changed in what plugins do.
pub(super) fn transitions<'a>(
    before: &'a RolloutStatus,
    after: &'a [StepPluginStatus],
) -> impl Iterator<Item = Event> + use<'a> {
    after.iter().filter_map(|entry| {
        let mut stored = entries(before).iter();
        let stored = stored.find(|stored| is_of(stored, entry.index, &entry.name, &entry.operation));
        let is_news = stored.is_none_or(|stored| stored.phase != entry.phase);
        is_news.then(|| event::step_plugin_transition(entry))
    })
}
