//! How long an update takes: status.duration, from its start to its end, and for how long people held it (contract 4.11).
//!
//! Follows the stance from one status to the next. What a server pruned is simply not there next time, and is not made up.

use jiff::Timestamp;

use super::observed::Observed;
use super::revision::Revisions;
use super::stance::{Abort, Promotion, Stance};
use crate::crd::{CompletionStatus, PauseReason, RolloutDuration, RolloutStatus, StepAction, Strategy, Time};

/// How an update ended and how long it took, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub how: CompletionStatus,
    /// Seconds from its start to its end.
    pub seconds: i64,
    /// Seconds of these for which people held it.
    pub paused_seconds: i64,
}

/// What duration is computed from.
pub(super) struct Course<'a> {
    /// What was seen; its status is the one before.
    pub seen: &'a Observed,
    /// The sets by what they are.
    pub revisions: &'a Revisions<'a>,
    /// Where the update stood.
    pub before: &'a Stance,
    /// Where it stands now.
    pub after: &'a Stance,
    /// Whether all that is wanted is there now.
    pub is_healthy: bool,
    /// The present.
    pub now: Timestamp,
}

/// The new status.duration, and the updates that ended with it: the one that runs, or the one that another took the place of.
#[must_use]
pub(super) fn duration(course: &Course<'_>) -> (Option<RolloutDuration>, Option<Ended>) {
    let former = course.status().duration.as_ref();
    if course.begins() {
        let superseded = former.filter(|former| is_running(former));
        let ended = superseded.and_then(|former| ended(former, CompletionStatus::Superseded, course.now));
        let begun = RolloutDuration { rollout_started_at: Some(course.now.into()), ..Default::default() };
        return (Some(follow(begun, course).0), ended);
    }
    match former {
        Some(former) if is_running(former) => {
            let (followed, ended) = follow(former.clone(), course);
            (Some(followed), ended)
        }
        former => (former.cloned(), None),
    }
}

fn is_running(duration: &RolloutDuration) -> bool {
    duration.rollout_started_at.is_some() && duration.finished_at.is_none()
}

impl Course<'_> {
    fn status(&self) -> &RolloutStatus {
        self.seen.rollout.status()
    }

    /// A new template begins an update, and so does trying an aborted one again.
    fn begins(&self) -> bool {
        let is_new = self.status().current_pod_hash() != self.revisions.hash;
        let was_aborted = super::blue_green::is_tried_again(self.seen, self.after);
        is_new || (was_aborted && !self.after.is_promoted(self.revisions))
    }

    /// Whether the version becomes the stable one now, or is it from the beginning: only now is it known how it got there.
    fn becomes_stable(&self) -> bool {
        let was_stable = self.status().stable_rs() == self.revisions.hash;
        self.after.is_promoted(self.revisions) && (self.begins() || !was_stable)
    }

    /// Whether the version that is being rolled out is one that was there before the stable one.
    fn goes_back(&self) -> bool {
        match (self.revisions.new_set(), self.revisions.stable) {
            (Some(new), Some(stable)) => new.name == stable.name || new.is_older_than(stable),
            _ => false,
        }
    }

    /// How the update came to its end, once its version is the stable one.
    fn how(&self) -> CompletionStatus {
        let first = self.revisions.stable.is_none();
        let is_back = !first && self.goes_back();
        let is_quick = self.before.promotion == Promotion::Full || self.skipped_its_steps();
        match (is_back, is_quick) {
            (true, true) => CompletionStatus::FastRolledBack,
            (true, false) => CompletionStatus::RolledBack,
            (false, true) if !first => CompletionStatus::FastPromoted,
            (false, _) => CompletionStatus::Promoted,
        }
    }

    /// Going back to the stable version itself, to one of the last, or to one that was still up, takes no steps.
    fn skipped_its_steps(&self) -> bool {
        let Some(new) = self.revisions.new_set() else { return false };
        let to_stable = self.before.is_promoted(self.revisions);
        let is_blue_green = matches!(self.seen.rollout.spec.strategy(), Ok(Strategy::BlueGreen(_)));
        let was_up = super::scale_down::deadline_of(new).is_some_and(|deadline| deadline > self.now);
        let is_recent = super::revision::is_within_window(self.seen, self.revisions);
        self.goes_back() && (to_stable || is_recent || (is_blue_green && was_up))
    }

    /// Whether people hold the update: nothing but somebody's word ends the pause.
    fn is_held(&self) -> bool {
        let spec = &self.seen.rollout.spec;
        let is_endless = |reason: &PauseReason| match (reason, spec.strategy()) {
            (PauseReason::CanaryPauseStep, Ok(Strategy::Canary(canary))) => {
                matches!(self.after.action(canary), Some(StepAction::Pause(pause)) if pause.duration.is_none())
            }
            (PauseReason::BlueGreenPause, Ok(Strategy::BlueGreen(blue_green))) => {
                !blue_green.auto_promotion_enabled() || blue_green.auto_promotion_seconds() == 0
            }
            (PauseReason::InconclusiveAnalysisRun | PauseReason::InconclusiveExperiment, _) => true,
            _ => false,
        };
        spec.paused() || self.after.pauses.iter().any(|pause| is_endless(&pause.reason))
    }
}

/// Follows an update that runs.
fn follow(mut duration: RolloutDuration, course: &Course<'_>) -> (RolloutDuration, Option<Ended>) {
    let now = Time::from(course.now);
    let is_promoted = course.after.is_promoted(course.revisions);
    if course.becomes_stable() {
        // What is nothing special is noted at the end.
        duration.completion_status = Some(course.how()).filter(|how| *how != CompletionStatus::Promoted);
    }
    let aborted_at = match course.after.abort {
        Abort::No => None,
        Abort::Since(since) => Some(since.map_or_else(|| now.clone(), Time::from)),
    };
    let ends = aborted_at.is_some() || (is_promoted && course.is_healthy);
    hold(&mut duration, course.is_held() && !ends, &now);
    if !ends {
        return (duration, None);
    }
    let how = match aborted_at {
        Some(_) => CompletionStatus::Aborted,
        None => duration.completion_status.take().unwrap_or(CompletionStatus::Promoted),
    };
    duration.completion_status = Some(how.clone());
    duration.finished_at = aborted_at.or(Some(now));
    let finished = duration.finished_at.as_ref().map_or(course.now, Time::instant);
    let ended = ended(&duration, how, finished);
    (duration, ended)
}

/// Notes when a pause by hand begins, and adds it up when it ends.
fn hold(duration: &mut RolloutDuration, is_held: bool, now: &Time) {
    match (&duration.manual_pause_started_at, is_held) {
        (None, true) => duration.manual_pause_started_at = Some(now.clone()),
        (Some(_), false) => {
            duration.total_manual_pause_duration_seconds = Some(paused_seconds(duration, now.instant()));
            duration.manual_pause_started_at = None;
        }
        (None, false) | (Some(_), true) => {}
    }
}

/// Seconds for which people held it until now.
fn paused_seconds(duration: &RolloutDuration, now: Timestamp) -> i64 {
    let running = duration.manual_pause_started_at.as_ref().map_or(0, |since| seconds(since, now));
    duration.total_manual_pause_duration_seconds.unwrap_or(0).saturating_add(running)
}

fn seconds(since: &Time, until: Timestamp) -> i64 {
    until.duration_since(since.instant()).as_secs().max(0)
}

fn ended(duration: &RolloutDuration, how: CompletionStatus, at: Timestamp) -> Option<Ended> {
    let seconds = seconds(duration.rollout_started_at.as_ref()?, at);
    Some(Ended { how, seconds, paused_seconds: paused_seconds(duration, at).min(seconds) })
}
