//! Where an update stands: the part of the status that decisions are made from.
//!
//! Read from the status once, so that the rest of the plan works on values that mean something whatever the wire had: a
//! status that belongs to another template or to other steps is a fresh start. [`super::step`] moves it on,
//! [`super::status`] writes it down.

use jiff::Timestamp;

use super::observed::Observed;
use super::plugin::Record;
use super::revision::Revisions;
use crate::crd::{CanaryStrategy, PauseCondition, PauseReason, StepAction};

/// Where an update stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Stance {
    /// Whether the status belonged to another template or to other steps, so that the update starts afresh.
    pub fresh: bool,
    /// The step that runs now, 0-based; the number of steps when all are done; `None` without steps.
    pub step: Option<i32>,
    /// The stable set's hash; empty before the first version is stable.
    pub stable: String,
    /// Whether the update is aborted, and since when (`None` inside: from now on).
    pub abort: Abort,
    /// Why this plan aborts it; `None` where it does not, or where somebody else did.
    pub abort_cause: Option<String>,
    /// Whether the remaining steps are skipped.
    pub promotion: Promotion,
    /// Pauses that the controller made.
    pub pauses: Vec<PauseCondition>,
    /// Whether the controller paused; with no pause in the list, somebody has ended it.
    pub controller_pause: bool,
    /// What was asked of step plugins.
    pub(super) plugins: Record,
    /// Whether a blue-green update may grow beyond its preview (status.blueGreen.scaleUpPreviewCheckPoint).
    pub check_point: bool,
}

/// Whether an update is aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abort {
    /// It is not.
    No,
    /// It is, since then; `None` when nobody noted the time yet.
    Since(Option<Timestamp>),
}

/// How an update is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promotion {
    /// Step by step.
    Steps,
    /// To its end, without the remaining steps.
    Full,
}

impl Stance {
    /// Where the update stands by the status that was seen.
    #[must_use]
    pub fn seen(seen: &Observed, revisions: &Revisions<'_>) -> Self {
        let status = seen.rollout.status();
        let other_template = status.current_pod_hash() != revisions.hash;
        let fresh = other_template || is_other_steps(seen, revisions);
        if fresh {
            return Self::fresh(seen, revisions);
        }
        let abort = match status.abort() && !is_promoted(revisions, status.stable_rs()) {
            true => Abort::Since(status.aborted_at.as_ref().map(crate::crd::Time::instant)),
            false => Abort::No,
        };
        let step = current_step(seen);
        Self {
            fresh,
            step,
            stable: status.stable_rs().to_owned(),
            abort,
            abort_cause: None,
            // An abort that nobody has acted on is the last word; only one that was there before is ended by a promotion.
            promotion: match status.promote_full() && abort != Abort::Since(None) {
                true => Promotion::Full,
                false => Promotion::Steps,
            },
            pauses: status.pause_conditions().to_vec(),
            controller_pause: status.controller_pause(),
            plugins: Record::seen(seen, revisions, abort != Abort::No, step),
            check_point: status
                .blue_green
                .as_ref()
                .is_some_and(|status| status.scale_up_preview_check_point.unwrap_or(false)),
        }
    }

    /// The beginning of an update (contract 4.7 «template or steps changed»): everything that belonged to the last one is
    /// gone; going back to the stable version skips the steps.
    fn fresh(seen: &Observed, revisions: &Revisions<'_>) -> Self {
        let stable = seen.rollout.status().stable_rs().to_owned();
        let steps = step_count(seen);
        let step = (steps > 0).then_some(if stable == revisions.hash { steps } else { 0 });
        Self {
            fresh: true,
            step,
            stable,
            abort: Abort::No,
            abort_cause: None,
            promotion: Promotion::Steps,
            pauses: Vec::new(),
            controller_pause: false,
            plugins: Record::default(),
            check_point: false,
        }
    }

    /// Whether the update is aborted.
    #[must_use]
    pub fn is_aborted(&self) -> bool {
        self.abort != Abort::No
    }

    /// Whether the newest version is the stable one.
    #[must_use]
    pub fn is_promoted(&self, revisions: &Revisions<'_>) -> bool {
        is_promoted(revisions, &self.stable)
    }

    /// The pause that a pause step made, if it lasts.
    #[must_use]
    pub fn step_pause(&self) -> Option<&PauseCondition> {
        self.pauses.iter().find(|pause| pause.reason == PauseReason::CanaryPauseStep)
    }

    /// The pause before a blue-green switch, if it lasts.
    #[must_use]
    pub fn blue_green_pause(&self) -> Option<&PauseCondition> {
        self.pauses.iter().find(|pause| pause.reason == PauseReason::BlueGreenPause)
    }

    /// The share that the new version is to have now, in percent (contract 4.5).
    #[must_use]
    pub fn weight(&self, revisions: &Revisions<'_>, canary: &CanaryStrategy) -> i32 {
        const ALL: i32 = 100;
        if self.promotion == Promotion::Full || self.stable.is_empty() || self.is_promoted(revisions) {
            return ALL;
        }
        if self.is_aborted() {
            return 0;
        }
        let steps = canary.steps();
        let Some(current) =
            self.step.and_then(|step| usize::try_from(step).ok()).filter(|&step| step < steps.len())
        else {
            return ALL;
        };
        steps[..=current].iter().rev().find_map(|step| step.set_weight).unwrap_or(0)
    }

    /// The step that runs now; `None` without steps and when all are done.
    #[must_use]
    pub fn action<'a>(&self, canary: &'a CanaryStrategy) -> Option<StepAction<'a>> {
        let index = usize::try_from(self.step?).ok()?;
        canary.steps().get(index)?.action().ok()
    }
}

/// How many steps the canary has; 0 for other strategies.
#[must_use]
pub fn step_count(seen: &Observed) -> i32 {
    let canary = seen.rollout.spec.strategy.as_ref().and_then(|strategy| strategy.canary.as_ref());
    canary.map_or(0, |canary| i32::try_from(canary.steps().len()).unwrap_or(i32::MAX))
}

/// The current step by the status, within the steps that there are.
fn current_step(seen: &Observed) -> Option<i32> {
    let steps = step_count(seen);
    (steps > 0).then(|| seen.rollout.status().current_step_index.unwrap_or(0).clamp(0, steps))
}

fn is_other_steps(seen: &Observed, revisions: &Revisions<'_>) -> bool {
    let recorded = seen.rollout.status().current_step_hash();
    recorded != revisions.step_hash
}

fn is_promoted(revisions: &Revisions<'_>, stable: &str) -> bool {
    !stable.is_empty() && stable == revisions.hash
}
