//! How a blue-green update goes: the new version comes up beside the active one, waits for its promotion, and then a Service is
//! switched over (contract A2).
//!
//! What is decided rests on what was *seen*: a pause that ends in this very plan lets the Service be switched only after the
//! status that says so is written, and the version counts as stable once the Service is seen to select it.

use jiff::{SignedDuration, Timestamp};

use super::action::ServiceAction;
use super::event;
use super::observed::{Observed, ReplicaSet, Service};
use super::replicas::Counts;
use super::revision::{self, NewSet, Revisions};
use super::scale_down::{self, Delay, OthersServe, Stay};
use super::service;
use super::sizing::{Deadline, Deadlines, Sizing};
use super::stance::{Abort, Promotion, Stance};
use super::step::{self, Progress};
use crate::crd::{BlueGreenStrategy, ConditionType, Extra, PauseCondition, PauseReason, keys};

/// A blue-green update as it was seen.
pub(super) struct BlueGreen<'a> {
    /// What was seen.
    pub seen: &'a Observed,
    /// The sets by what they are.
    pub revisions: &'a Revisions<'a>,
    /// The strategy.
    pub strategy: &'a BlueGreenStrategy,
    /// The present.
    pub now: Timestamp,
}

/// The hash that the Service of this name selects; empty when it selects none, or is not there.
#[must_use]
pub(super) fn selected<'a>(seen: &'a Observed, service: &str) -> &'a str {
    seen.service(service).map(Service::hash).unwrap_or_default()
}

/// When a pause that began then ends by itself; `None` when only somebody can end it.
#[must_use]
pub(super) fn end_of_pause(strategy: &BlueGreenStrategy, began: Timestamp) -> Option<Timestamp> {
    let seconds = strategy.auto_promotion_seconds();
    let ends = || began.checked_add(SignedDuration::from_secs(seconds.into())).unwrap_or(Timestamp::MAX);
    (strategy.auto_promotion_enabled() && seconds > 0).then(ends)
}

/// Whether the switch is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// Nothing holds it back.
    Open,
    /// A pause is to begin.
    PauseBegins,
    /// A pause lasts, until then or until somebody promotes.
    Paused(Option<Timestamp>),
    /// The new version is not as far yet.
    NotReady,
}

impl BlueGreen<'_> {
    fn replicas(&self) -> i32 {
        self.seen.rollout.spec.replicas()
    }

    /// The hash that the active Service selects.
    fn active(&self) -> &str {
        selected(self.seen, &self.strategy.active_service)
    }

    fn preview(&self) -> &str {
        self.strategy.preview_service.as_deref().map(|name| selected(self.seen, name)).unwrap_or_default()
    }

    fn is_active(&self) -> bool {
        self.active() == self.revisions.hash
    }

    /// Nothing was ever active, and no other version could be.
    fn is_first(&self) -> bool {
        let stable = self.revisions.stable_apart();
        self.active().is_empty() && !stable.is_some_and(|stable| self.may_take_over(stable))
    }

    fn is_within_window(&self) -> bool {
        revision::is_within_window(self.seen, self.revisions)
    }

    /// Whether the update goes back to a version that is still up, or to one of the last, so that it needs no pause (contract 4.7
    /// «fast rollback»).
    pub(super) fn is_fast_rollback(&self, stance: &Stance) -> bool {
        if stance.is_promoted(self.revisions) || self.is_within_window() {
            return true;
        }
        let (Some(new), Some(stable)) = (self.revisions.new_set(), self.revisions.stable_apart()) else {
            return false;
        };
        let is_up = scale_down::deadline_of(new).is_some_and(|deadline| deadline > self.now);
        // The deadline of an update that was aborted and is tried again was never one of a version that served.
        let is_aborted_ones = !stance.fresh && is_tried_again(self.seen, stance);
        let was_promoted = !new.annotations.contains_key(keys::UNPROMOTED);
        is_up && was_promoted && new.is_older_than(stable) && !is_aborted_ones
    }

    /// Whether a pause comes before the switch.
    fn needs_pause(&self) -> bool {
        !self.strategy.auto_promotion_enabled() || self.strategy.auto_promotion_seconds() > 0
    }

    /// Whether nothing but the new version's pods holds the switch back.
    fn is_open(&self, stance: &Stance) -> bool {
        self.is_first()
            || self.is_active()
            || stance.promotion == Promotion::Full
            || stance.check_point
            || !self.needs_pause()
            || self.is_fast_rollback(stance)
            || (stance.controller_pause && stance.blue_green_pause().is_none())
    }

    /// Moves the update on as far as it goes by what was seen.
    pub(super) fn advance(&self, stance: &Stance) -> Progress {
        let mut progress = Progress { stance: stance.clone(), events: Vec::new(), wake_at: None };
        if stance.promotion == Promotion::Full {
            progress.stance.abort = Abort::No;
        }
        if let Some(how) = self.promotion(&progress.stance) {
            step::promote(&mut progress, self.revisions, 0, &how);
            progress.stance.controller_pause = false;
            progress.stance.check_point = false;
        } else if progress.stance.is_aborted() {
            step::hold_aborted(&mut progress.stance, self.revisions, 0);
            progress.stance.check_point = false;
        } else if !self.seen.rollout.spec.paused() {
            self.pass_gate(&mut progress);
        }
        step::note_resumption(&mut progress, self.seen);
        progress
    }

    /// Why the newest version becomes stable now (contract 4.7); `None` while it does not. One that is stable already needs the
    /// same clearing up.
    fn promotion(&self, stance: &Stance) -> Option<String> {
        self.revisions.new_set()?;
        if self.revisions.stable.is_none() {
            return Some("Initial deploy".to_owned());
        }
        if !self.is_active() || stance.is_aborted() {
            return None;
        }
        Some(match stance.promotion {
            Promotion::Full => "Full promotion requested".to_owned(),
            Promotion::Steps if self.is_within_window() => step::WITHIN_WINDOW.to_owned(),
            Promotion::Steps if self.is_fast_rollback(stance) => "Fast rollback".to_owned(),
            Promotion::Steps => "Completed blue-green update".to_owned(),
        })
    }

    fn pass_gate(&self, progress: &mut Progress) {
        match self.gate(&progress.stance) {
            Gate::Open => self.open(&mut progress.stance),
            Gate::PauseBegins => {
                let (reason, start_time) = (PauseReason::BlueGreenPause, crate::crd::Time::from(self.now));
                progress.events.push(event::paused(reason.as_str()));
                progress.wake_at = end_of_pause(self.strategy, start_time.instant());
                progress.stance.pauses.push(PauseCondition { reason, start_time, extra: Extra::new() });
                progress.stance.controller_pause = true;
            }
            Gate::Paused(until) => progress.wake_at = until,
            Gate::NotReady => {}
        }
    }

    fn gate(&self, stance: &Stance) -> Gate {
        let pause = stance.blue_green_pause();
        let end = pause.map(|pause| end_of_pause(self.strategy, pause.start_time.instant()));
        // Whether the pods are up by then or not: it is them that are waited for from then on, and the deadline runs.
        let is_over = end.flatten().is_some_and(|end| end <= self.now);
        if is_over || self.is_open(stance) {
            return Gate::Open;
        }
        let size = self.new_size(stance);
        let is_ready =
            |new: &ReplicaSet| new.replicas == size && new.surely_available() >= size && !stance.fresh;
        match end {
            Some(end) => Gate::Paused(end),
            None if self.revisions.new_set().is_some_and(is_ready) => Gate::PauseBegins,
            None => Gate::NotReady,
        }
    }

    /// Ends the pause, if there is one. `controllerPause` with no pause in the list is kept as the word that it is over, until that
    /// word is carried out: the new version may grow (the check point), or is active.
    fn open(&self, stance: &mut Stance) {
        let was_paused = stance.controller_pause;
        stance.pauses.retain(|pause| pause.reason != PauseReason::BlueGreenPause);
        let size = self.new_size(stance);
        let preview_is_up = |new: &ReplicaSet| new.replicas == size && new.surely_available() >= size;
        let waits_to_grow = !self.is_whole(stance);
        if waits_to_grow && !stance.fresh && self.revisions.new_set().is_some_and(preview_is_up) {
            stance.check_point = true;
        }
        let is_over = self.is_active() || stance.check_point || self.is_fast_rollback(stance);
        stance.controller_pause = !stance.pauses.is_empty()
            || (was_paused && !is_over && stance.promotion != Promotion::Full && self.needs_pause());
    }

    /// Whether the new version is to have all pods, rather than those of a preview (contract 4.5).
    fn is_whole(&self, stance: &Stance) -> bool {
        let is_paused = self.seen.rollout.spec.paused() || !stance.pauses.is_empty();
        let active = self.active();
        let serves = self.revisions.all().any(|set| !active.is_empty() && set.hash() == active);
        self.strategy.preview_replica_count.is_none()
            || self.is_active()
            || (!serves && self.revisions.stable_apart().is_none())
            || stance.promotion == Promotion::Full
            || self.is_fast_rollback(stance)
            || (!is_paused && (stance.check_point || self.may_switch(stance)))
    }

    /// Whether the new version has all its pods and nothing holds the switch back: it is not made smaller only to grow again
    /// (seed 109746).
    fn may_switch(&self, stance: &Stance) -> bool {
        let is_up = self.revisions.new_set().is_some_and(|new| self.is_saturated(new));
        is_up && !stance.is_aborted() && self.is_open(stance)
    }

    fn new_size(&self, stance: &Stance) -> i32 {
        let preview = self.strategy.preview_replica_count.filter(|_| !self.is_whole(stance));
        preview.unwrap_or_else(|| self.replicas())
    }

    /// The sizes to go to from here.
    pub(super) fn sizing(&self, stance: &Stance) -> Sizing {
        let wanted = Counts { new: self.new_size(stance), stable: self.replicas() };
        let new = self.stay_of_new(stance, wanted.new);
        let others = self.stays_of_others();
        let stable = self.revisions.stable_apart();
        let sizes = self.revisions.new_set().into_iter().map(|set| (set, new.size));
        let sizes = sizes.chain(stable.map(|set| (set, wanted.stable)));
        let sizes =
            sizes.chain(self.revisions.others.iter().copied().zip(others.iter().map(|stay| stay.size)));
        let changes = sizes.into_iter().any(|(set, size)| set.replicas != size);
        let is_reached = |set: &ReplicaSet| set.replicas == new.size && set.surely_available() >= new.size;
        Sizing {
            new: new.size,
            first: wanted.new,
            stable: wanted.stable,
            deadlines: Deadlines {
                new: new.deadline,
                stable: Deadline::Clear,
                others: others.iter().map(|stay| stay.deadline).collect(),
            },
            wake_at: others.iter().chain([&new]).filter_map(|stay| stay.until).min(),
            others: others.iter().map(|stay| stay.size).collect(),
            wanted,
            swaps: false,
            changes,
            reached: !changes && self.revisions.new_set().is_some_and(is_reached),
        }
    }

    fn stay_of_new(&self, stance: &Stance, size: i32) -> Stay {
        // While it says so, the deadline of a version that is gone back to lets it pass without a pause.
        let passes = self.is_fast_rollback(stance) && !stance.is_promoted(self.revisions);
        let deadline = if passes { Deadline::Keep } else { Deadline::Clear };
        match (self.revisions.new_set(), self.revisions.stable_apart()) {
            (Some(new), Some(stable)) if stance.is_aborted() => {
                let serves = stable.surely_available() >= self.replicas() && !self.is_active();
                let others_serve = if serves { OthersServe::Yes } else { OthersServe::No };
                scale_down::after_abort(new, self.strategy.abort_scale_down(), others_serve, self.now)
            }
            _ => Stay { size, deadline, until: None },
        }
    }

    fn stays_of_others(&self) -> Vec<Stay> {
        let status = self.seen.rollout.status();
        let recorded = status.blue_green.as_deref();
        let named = [
            self.active(),
            self.preview(),
            status.stable_rs(),
            recorded.and_then(|recorded| recorded.active_selector.as_deref()).unwrap_or_default(),
            recorded.and_then(|recorded| recorded.preview_selector.as_deref()).unwrap_or_default(),
        ];
        let is_needed = |set: &ReplicaSet| !set.hash().is_empty() && named.contains(&set.hash());
        let delay = Delay {
            seconds: self.strategy.scale_down_delay_seconds(),
            limit: self.strategy.scale_down_delay_revision_limit(),
            replicas: self.replicas(),
        };
        // What came after the version that is stable now was never promoted.
        let stable = self.revisions.stable;
        let served = |set: &ReplicaSet| stable.is_none_or(|stable| set.is_older_than(stable));
        scale_down::replaced(&self.revisions.others, is_needed, served, delay, self.now)
    }

    /// What the Services are to select.
    pub(super) fn services(&self, stance: &Stance) -> Vec<ServiceAction> {
        if self.seen.rollout.spec.paused() || stance.fresh {
            return Vec::new();
        }
        let preview = self.strategy.preview_service.as_deref().unwrap_or_default();
        let new = matches!(self.revisions.new, NewSet::Found(_)).then_some(self.revisions.hash.as_str());
        let preview = self.seen.service(preview).zip(new);
        let active = self.seen.service(&self.strategy.active_service);
        let active = active.map(|service| (service, self.active_target(stance)));
        let wanted = active.into_iter().chain(preview);
        wanted.filter_map(|(service, hash)| service::select(self.seen, service, hash)).collect()
    }

    /// The hash that the active Service is to select.
    fn active_target(&self, stance: &Stance) -> &str {
        let current = self.active();
        // After an abort, and where no Service was switched before (another strategy), the stable version serves.
        let goes_back = stance.is_aborted() || current.is_empty();
        if let Some(stable) = self.revisions.stable_apart().filter(|_| goes_back)
            && self.may_take_over(stable)
        {
            return stable.hash();
        }
        // One that is to be a preview again loses pods.
        if self.may_switch(stance) && self.is_whole(stance) { &self.revisions.hash } else { current }
    }

    /// Whether a set has all pods that are wanted, and all of them are available (the reference's `IsSaturated`).
    fn is_saturated(&self, set: &ReplicaSet) -> bool {
        let replicas = self.replicas();
        set.replicas == replicas
            && set.desired_replicas() == Some(replicas)
            && set.surely_available() >= replicas
    }

    /// Whether the stable set may serve again: it has all its pods, or more than the set that serves now. A Service that selects no
    /// version is served by all of them.
    fn may_take_over(&self, stable: &ReplicaSet) -> bool {
        let active = self.active();
        let serving = self.revisions.all().find(|set| set.hash() == active);
        let served_by = serving.map_or(0, |set| set.status.available);
        stable.surely_available() >= self.replicas()
            || (!active.is_empty() && stable.surely_available() > served_by)
    }
}

/// Whether an update was aborted and is tried again, so that its status still says that it was aborted.
#[must_use]
pub(super) fn is_tried_again(seen: &Observed, stance: &Stance) -> bool {
    let progressing = seen.rollout.status().condition(&ConditionType::Progressing);
    !stance.is_aborted() && progressing.is_some_and(|condition| condition.reason == "RolloutAborted")
}
