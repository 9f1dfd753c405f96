//! How an update moves on: steps, pauses, promotion, abort.
//!
//! Takes where the update stands and returns where it stands next, with the events of the way. Several steps may be passed at
//! once when nothing holds them; a pause begins when no set is left to resize. [`super::status`] writes the result down.

use jiff::{SignedDuration, Timestamp};

use super::canary;
use super::event::{self, Event};
use super::observed::Observed;
use super::plugin;
use super::revision::{self, Revisions};
use super::sizing::Sizing;
use super::stance::{Abort, Promotion, Stance, step_count};
use crate::crd::{CanaryStep, CanaryStrategy, Extra, PauseCondition, PauseReason, RolloutPause, StepAction};

/// Why a version that was there before needs no steps (contract 4.7).
pub(super) const WITHIN_WINDOW: &str = "Rollback within window";

/// Where an update stands next, and what happened on the way there.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Where it stands next.
    pub stance: Stance,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// When time alone will move it on.
    pub wake_at: Option<Timestamp>,
}

/// Moves an update on as far as it goes by what was seen.
///
/// The order is the contract's (4.7): a full promotion ends pauses and aborts, a version that is complete becomes stable, an
/// aborted update stays at its first step, and otherwise steps are passed.
#[must_use]
pub fn advance(
    seen: &Observed,
    revisions: &Revisions<'_>,
    stance: &Stance,
    canary: &CanaryStrategy,
    now: Timestamp,
) -> Progress {
    let steps = step_count(seen);
    let mut progress = Progress { stance: stance.clone(), events: Vec::new(), wake_at: None };
    if stance.fresh && steps > 0 && stance.step == Some(steps) {
        progress.events.push(event::skip_steps("Rollback to stable ReplicaSets"));
    }
    if progress.stance.promotion == Promotion::Full {
        skip_the_rest(&mut progress.stance, steps);
    } else if !progress.stance.is_aborted() && revision::is_within_window(seen, revisions) {
        if progress.stance.step.is_some_and(|step| step < steps) {
            progress.events.push(event::skip_steps(WITHIN_WINDOW));
        }
        skip_the_rest(&mut progress.stance, steps);
    }
    note_resumption(&mut progress, seen);
    if let Some(how) = promotion(seen, revisions, &progress.stance) {
        promote(&mut progress, revisions, steps, &how);
    } else if progress.stance.is_aborted() {
        hold_aborted(&mut progress.stance, revisions, steps);
    } else {
        pass_steps(&mut progress, &Scene { seen, revisions, canary, now });
        if let Some(how) = promotion(seen, revisions, &progress.stance) {
            promote(&mut progress, revisions, steps, &how);
        }
    }
    settle_controller_pause(&mut progress.stance, seen, canary);
    progress
}

/// Says that pauses which were seen are over, where nothing said so yet. An abort is no resumption.
pub(super) fn note_resumption(progress: &mut Progress, seen: &Observed) {
    let was_paused = !seen.rollout.status().pause_conditions().is_empty();
    if was_paused && progress.stance.pauses.is_empty() && !progress.stance.is_aborted() {
        progress.events.push(event::resumed());
    }
}

fn skip_the_rest(stance: &mut Stance, steps: i32) {
    stance.pauses.clear();
    stance.abort = Abort::No;
    stance.step = (steps > 0).then_some(steps);
}

/// Why the newest version becomes stable now (contract 4.7 «stable promotion reasons»); `None` while it does not. A version that
/// is stable already stays so, for which there is no reason to give but which needs the same clearing up.
fn promotion(seen: &Observed, revisions: &Revisions<'_>, stance: &Stance) -> Option<String> {
    let new = revisions.new_set()?;
    if revisions.stable.is_none() {
        return Some("Initial deploy".to_owned());
    }
    if stance.is_aborted() || new.surely_available() < seen.rollout.spec.replicas() {
        return None;
    }
    if stance.promotion == Promotion::Full {
        return Some("Full promotion requested".to_owned());
    }
    if revision::is_within_window(seen, revisions) {
        return Some(WITHIN_WINDOW.to_owned());
    }
    if stance.is_promoted(revisions) {
        return Some("Fast rollback".to_owned());
    }
    let steps = step_count(seen);
    (steps == 0 || stance.step == Some(steps)).then(|| format!("Completed all {steps} canary steps"))
}

/// Makes the newest version the stable one, and clears what belonged to the way there.
pub(super) fn promote(progress: &mut Progress, revisions: &Revisions<'_>, steps: i32, how: &str) {
    let stance = &mut progress.stance;
    skip_the_rest(stance, steps);
    stance.promotion = Promotion::Steps;
    if stance.stable != revisions.hash {
        stance.stable.clone_from(&revisions.hash);
        progress.events.push(event::completed(revisions.number, &revisions.hash, how));
    }
}

/// Aborts an update that did not get on in time (progressDeadlineAbort), or whose step failed.
pub(super) fn give_up(progress: &mut Progress, revisions: &Revisions<'_>, steps: i32, cause: String) {
    let stance = &mut progress.stance;
    stance.abort = Abort::Since(None);
    stance.abort_cause = Some(cause);
    stance.check_point = false;
    hold_aborted(stance, revisions, steps);
    progress.wake_at = None;
}

/// An aborted update stands at its first step.
pub(super) fn hold_aborted(stance: &mut Stance, revisions: &Revisions<'_>, steps: i32) {
    stance.pauses.clear();
    stance.controller_pause = false;
    stance.promotion = Promotion::Steps;
    stance.step = (steps > 0).then_some(if stance.is_promoted(revisions) { steps } else { 0 });
}

/// What steps are judged by.
struct Scene<'a> {
    seen: &'a Observed,
    revisions: &'a Revisions<'a>,
    canary: &'a CanaryStrategy,
    now: Timestamp,
}

/// Passes steps until one holds. There are no more of them than the strategy has, so this ends.
fn pass_steps(progress: &mut Progress, scene: &Scene<'_>) {
    if scene.seen.rollout.spec.paused() || scene.revisions.new_set().is_none() {
        return;
    }
    while let Some(action) = progress.stance.action(scene.canary) {
        let sizing = canary::sizing(scene.seen, scene.revisions, &progress.stance, scene.canary, scene.now);
        let passed = match action {
            StepAction::SetWeight(_) => sizing.reached,
            StepAction::Pause(pause) => pass_pause(progress, pause, &sizing, scene.now),
            StepAction::Plugin(step) => plugin::passes(&mut progress.stance, scene.seen, step, scene.now),
            // A rollout with any other step is not acted on (`super::unsupported`).
            _ => false,
        };
        if !passed {
            return;
        }
        complete_step(progress, scene.canary);
    }
}

/// Begins a pause, or says whether it is over: its time has passed, or somebody ended it by clearing the list of pauses.
fn pass_pause(progress: &mut Progress, pause: &RolloutPause, sizing: &Sizing, now: Timestamp) -> bool {
    let stance = &mut progress.stance;
    let Some(began) = stance.step_pause().map(|pause| pause.start_time.instant()) else {
        if stance.controller_pause {
            return true;
        }
        if sizing.changes {
            return false;
        }
        let reason = PauseReason::CanaryPauseStep;
        progress.events.push(event::paused(reason.as_str()));
        stance.pauses.push(PauseCondition { reason, start_time: now.into(), extra: Extra::new() });
        stance.controller_pause = true;
        progress.wake_at = end_of(pause, crate::crd::Time::from(now).instant());
        return false;
    };
    match end_of(pause, began) {
        Some(end) if end <= now => true,
        end => {
            progress.wake_at = end;
            false
        }
    }
}

/// When a pause that began then is over; `None` when only somebody can end it.
#[must_use]
pub(super) fn end_of(pause: &RolloutPause, began: Timestamp) -> Option<Timestamp> {
    let seconds = pause.duration_seconds().ok()??;
    began.checked_add(SignedDuration::from_secs(i64::from(seconds))).ok()
}

fn complete_step(progress: &mut Progress, canary: &CanaryStrategy) {
    let stance = &mut progress.stance;
    let index = stance.step.unwrap_or(0);
    let step = usize::try_from(index).ok().and_then(|index| canary.steps().get(index));
    stance.step = Some(index + 1);
    let was_paused = !stance.pauses.is_empty();
    stance.pauses.retain(|pause| pause.reason != PauseReason::CanaryPauseStep);
    stance.controller_pause = !stance.pauses.is_empty();
    let number = usize::try_from(index).unwrap_or(0) + 1;
    progress.events.push(event::step_completed(
        number,
        canary.steps().len(),
        &step.map_or(String::new(), describe),
    ));
    if was_paused && stance.pauses.is_empty() {
        progress.events.push(event::resumed());
    }
    progress.wake_at = None;
}

/// `controllerPause` with an empty list means that somebody ended the pause; it says so only while a pause step is there to be
/// ended, which under spec.paused may take a while.
fn settle_controller_pause(stance: &mut Stance, seen: &Observed, canary: &CanaryStrategy) {
    let waits_to_end =
        seen.rollout.spec.paused() && matches!(stance.action(canary), Some(StepAction::Pause(_)));
    stance.controller_pause &= !stance.pauses.is_empty() || waits_to_end;
}

/// A step in a few words, as events and the tree show it (contract 4.2 RolloutStepCompleted).
#[must_use]
pub fn describe(step: &CanaryStep) -> String {
    match step.action() {
        Ok(StepAction::SetWeight(weight)) => format!("setWeight: {weight}"),
        Ok(StepAction::Pause(RolloutPause { duration: Some(duration), .. })) => format!("pause: {duration}"),
        Ok(StepAction::Pause(_)) => "pause".to_owned(),
        Ok(StepAction::Experiment(_)) => "experiment".to_owned(),
        Ok(StepAction::Analysis(_)) => "analysis".to_owned(),
        Ok(StepAction::SetCanaryScale(scale)) => {
            match (scale.weight, scale.match_traffic_weight, scale.replicas) {
                (Some(weight), ..) => format!("setCanaryScale{{weight: {weight}}}"),
                (None, Some(true), _) => "setCanaryScale{matchTrafficWeight: true}".to_owned(),
                (None, _, Some(replicas)) => format!("setCanaryScale{{replicas: {replicas}}}"),
                (None, ..) => "setCanaryScale".to_owned(),
            }
        }
        Ok(StepAction::SetHeaderRoute(route)) => {
            format!("setHeaderRoute: {}", route.name.as_deref().unwrap_or_default())
        }
        Ok(StepAction::SetMirrorRoute(route)) => format!("setMirrorRoute: {}", route.name),
        Ok(StepAction::Plugin(plugin)) => format!("plugin: {}", plugin.name),
        Err(_) => "invalid".to_owned(),
    }
}
