//! The conditions of a rollout (contract 4.2), computed at once from what was and what is.
//!
//! The reference writes some of them in passes of their own; here one pass gives the state in which its passes end. A
//! condition whose status and reason stay the same keeps its times, and a changed message leaves `lastUpdateTime` alone,
//! since the progress deadline counts from it.

use jiff::{SignedDuration, Timestamp};

use super::blue_green;
use super::event::{self, Event};
use super::observed::{Attempt, Observed, ReplicaSet, Setback};
use super::plugin;
use super::revision::{NewSet, Revisions};
use super::stance::{Stance, step_count};
use super::status::Counts;
use crate::crd::{
    CanaryStrategy, ConditionStatus, ConditionType, Extra, RolloutCondition, RolloutStatus, StepAction,
    Strategy, Time, keys,
};

/// What conditions are computed from.
pub(super) struct Facts<'a> {
    /// What was seen; its status is the one before.
    pub seen: &'a Observed,
    /// The sets by what they are.
    pub revisions: &'a Revisions<'a>,
    /// How a new version takes over.
    pub strategy: Strategy<'a>,
    /// Where the update stands now.
    pub stance: &'a Stance,
    /// Pods.
    pub counts: Counts<'a>,
    /// The new status without conditions.
    pub status: &'a RolloutStatus,
    /// The present.
    pub now: Timestamp,
}

/// The conditions, and the events of those that turned.
#[must_use]
pub(super) fn conditions(facts: &Facts<'_>) -> (Vec<RolloutCondition>, Vec<Event>) {
    let mut list = List { conditions: facts.before().conditions().to_vec(), now: facts.now };
    let mut events = Vec::new();
    list.remove(&ConditionType::InvalidSpec);

    let turned_unhealthy = healthy(&mut list, facts);
    progressing(&mut list, facts, turned_unhealthy, &mut events);
    available(&mut list, facts);
    replica_failure(&mut list, facts);
    completed(&mut list, facts, &mut events);
    paused(&mut list, facts);
    (list.conditions, events)
}

/// The conditions of a rollout whose spec is invalid: the others stay as they are. Another fault is news, and no deadline counts from it.
#[must_use]
pub(super) fn invalid_spec(before: &RolloutStatus, message: &str, now: Timestamp) -> Vec<RolloutCondition> {
    const INVALID: ConditionType = ConditionType::InvalidSpec;
    let mut list = List { conditions: before.conditions().to_vec(), now };
    let is_another = |condition: &RolloutCondition| condition.message != message;
    if list.get(&INVALID).is_some_and(is_another) {
        list.renew(INVALID, ConditionStatus::True, "InvalidSpec", message);
    } else {
        list.set(INVALID, ConditionStatus::True, "InvalidSpec", message);
    }
    list.conditions
}

/// When the progress deadline passes, by the Progressing condition of the new status; `None` while it does not run.
#[must_use]
pub(super) fn deadline(facts: &Facts<'_>, conditions: &[RolloutCondition]) -> Option<Timestamp> {
    let condition =
        conditions.iter().find(|condition| condition.condition_type == ConditionType::Progressing)?;
    let stands_still =
        matches!(condition.reason.as_str(), "RolloutAborted" | "RolloutPaused" | "ProgressDeadlineExceeded");
    if stands_still || facts.is_healthy() || facts.waits_without_end() {
        return None;
    }
    let seconds = i64::from(facts.seen.rollout.spec.progress_deadline_seconds());
    condition.last_update_time.instant().checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// Why an update is to be aborted: a step plugin failed; or the deadline has passed, and the spec wants it so (progressDeadlineAbort). There
/// is nothing that a first version could go back to.
#[must_use]
pub(super) fn abort_cause(facts: &Facts<'_>) -> Option<String> {
    if let Some(failed) = facts.canary().and_then(|canary| plugin::failure(facts.stance, canary)) {
        return Some(failed);
    }
    if facts.stance.fresh || !aborts_in_the_end(facts) {
        return None;
    }
    let (conditions, _) = conditions(facts);
    let is_timeout = |condition: &RolloutCondition| condition.reason == "ProgressDeadlineExceeded";
    conditions.iter().any(is_timeout).then(|| timeout(facts))
}

/// Whether the update is aborted when its deadline passes.
#[must_use]
pub(super) fn aborts_in_the_end(facts: &Facts<'_>) -> bool {
    let stance = facts.stance;
    let has_another = !stance.stable.is_empty() && !facts.is_promoted();
    facts.seen.rollout.spec.progress_deadline_abort() && has_another && !stance.is_aborted()
}

fn timeout(facts: &Facts<'_>) -> String {
    format!("{} has timed out progressing.", facts.subject())
}

impl<'a> Facts<'a> {
    /// The strategy, where it is a canary.
    pub(super) fn canary(&self) -> Option<&'a CanaryStrategy> {
        match self.strategy {
            Strategy::Canary(canary) => Some(canary),
            Strategy::BlueGreen(_) => None,
        }
    }
}

impl Facts<'_> {
    fn before(&self) -> &RolloutStatus {
        self.seen.rollout.status()
    }

    fn is_paused(&self) -> bool {
        self.seen.rollout.spec.paused() || !self.stance.pauses.is_empty()
    }

    fn is_promoted(&self) -> bool {
        self.stance.is_promoted(self.revisions)
    }

    /// All wanted pods are of the newest version, which serves, and of a canary there are no others (`RolloutHealthy`).
    pub(super) fn is_healthy(&self) -> bool {
        let replicas = self.seen.rollout.spec.replicas();
        let is_whole = self.counts.updated == replicas && self.counts.available == replicas;
        let is_through = match self.strategy {
            Strategy::Canary(_) => {
                let steps = step_count(self.seen);
                let done = steps == 0 || self.stance.step == Some(steps);
                done && self.is_promoted() && self.counts.replicas == replicas
            }
            Strategy::BlueGreen(strategy) => {
                let services = [Some(strategy.active_service.as_str()), strategy.preview_service.as_deref()];
                let named = services.into_iter().flatten().filter(|name| !name.is_empty());
                let selects = |service: &str| blue_green::selected(self.seen, service) == self.revisions.hash;
                self.is_promoted() && named.into_iter().all(selects)
            }
        };
        is_whole && is_through
    }

    /// Waits that take as long as they take do not count against the deadline (contract 4.8).
    fn waits_without_end(&self) -> bool {
        let step = self.canary().and_then(|canary| self.stance.action(canary));
        let is_pausing = match step {
            Some(StepAction::Pause(_)) => true,
            // Where people put the step of a version that is stable already, nothing is asked (seed 8287).
            Some(StepAction::Plugin(_)) => !self.is_promoted(),
            _ => false,
        };
        let stays = |set: &&ReplicaSet| set.annotations.contains_key(keys::SCALE_DOWN_DEADLINE);
        self.is_paused() || is_pausing || self.revisions.others.iter().any(stays)
    }

    /// Whether this status shows progress over the one before (`RolloutProgressing`).
    fn progressed(&self) -> bool {
        let (before, after) = (self.before(), self.status);
        let count = |count: Option<i32>| count.unwrap_or(0);
        let old = |status: &RolloutStatus| count(status.replicas) - count(status.updated_replicas);
        let step_moved = match (before.current_step_index, after.current_step_index) {
            (Some(before), Some(after)) => before != after,
            _ => false,
        };
        count(after.updated_replicas) != count(before.updated_replicas)
            || old(after) < old(before)
            || count(after.ready_replicas) > count(before.ready_replicas)
            || count(after.available_replicas) > count(before.available_replicas)
            || after.stable_rs() != before.stable_rs()
            || after.current_step_hash() != before.current_step_hash()
            || step_moved
    }

    /// The name that messages call the update by.
    fn subject(&self) -> String {
        match self.revisions.new_set() {
            Some(set) => format!("ReplicaSet {:?}", set.name),
            None => format!("Rollout {:?}", self.seen.rollout.metadata.name.as_deref().unwrap_or_default()),
        }
    }

    fn create_setback(&self) -> Option<&Setback> {
        let NewSet::Missing = self.revisions.new else { return None };
        let is_refused =
            |setback: &&Setback| setback.is_refusal() && matches!(setback.attempt, Attempt::Create(_));
        self.seen.setbacks.iter().find(is_refused)
    }
}

/// Conditions in the order in which they last turned, as the reference keeps them.
struct List {
    conditions: Vec<RolloutCondition>,
    now: Timestamp,
}

/// Whether setting a condition turned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turned {
    /// Status or reason is another now.
    Yes,
    /// Both were so already.
    No,
}

impl List {
    fn get(&self, condition_type: &ConditionType) -> Option<&RolloutCondition> {
        self.conditions.iter().find(|condition| condition.condition_type == *condition_type)
    }

    fn remove(&mut self, condition_type: &ConditionType) {
        self.conditions.retain(|condition| condition.condition_type != *condition_type);
    }

    fn set(
        &mut self,
        condition_type: ConditionType,
        status: ConditionStatus,
        reason: &str,
        message: &str,
    ) -> Turned {
        let same = |condition: &&mut RolloutCondition| {
            condition.condition_type == condition_type
                && condition.status == status
                && condition.reason == reason
        };
        if let Some(condition) = self.conditions.iter_mut().find(same) {
            message.clone_into(&mut condition.message);
            return Turned::No;
        }
        self.renew(condition_type, status, reason, message);
        Turned::Yes
    }

    /// Sets a condition as news even where status and reason were the same.
    fn renew(&mut self, condition_type: ConditionType, status: ConditionStatus, reason: &str, message: &str) {
        let now = Time::from(self.now);
        let last_transition_time = match self.get(&condition_type) {
            Some(condition) if condition.status == status => condition.last_transition_time.clone(),
            _ => now.clone(),
        };
        self.remove(&condition_type);
        self.conditions.push(RolloutCondition {
            condition_type,
            status,
            last_update_time: now,
            last_transition_time,
            reason: reason.to_owned(),
            message: message.to_owned(),
            extra: Extra::new(),
        });
    }
}

fn healthy(list: &mut List, facts: &Facts<'_>) -> Turned {
    const REASON: &str = "RolloutHealthy";
    if facts.is_healthy() && !facts.is_paused() {
        list.set(ConditionType::Healthy, ConditionStatus::True, REASON, "Rollout is healthy");
        return Turned::No;
    }
    let was_there = list.get(&ConditionType::Healthy).is_some();
    let turned = list.set(ConditionType::Healthy, ConditionStatus::False, REASON, "Rollout is not healthy");
    if was_there { turned } else { Turned::No }
}

/// How the message begins that says that the new set cannot be created; its name and the cause follow.
pub(super) const NOT_CREATED: &str = "Failed to create new replica set ";

/// What separates a Progressing message from what was refused meanwhile.
const MARK: &str = " Refused: ";

fn progressing(list: &mut List, facts: &Facts<'_>, turned_unhealthy: Turned, events: &mut Vec<Event>) {
    cause(list, facts, turned_unhealthy, events);
    name_setbacks(list, facts, events);
}

fn cause(list: &mut List, facts: &Facts<'_>, turned_unhealthy: Turned, events: &mut Vec<Event>) {
    use ConditionStatus::{False, Unknown};
    const PROGRESSING: ConditionType = ConditionType::Progressing;
    if facts.stance.is_aborted() {
        let message = abort_message(facts);
        if list.set(PROGRESSING, False, "RolloutAborted", &message) == Turned::Yes {
            events.push(event::aborted(&message));
        }
        return;
    }
    match list.get(&PROGRESSING).map(|condition| condition.reason.as_str()) {
        Some("RolloutAborted") => {
            list.set(PROGRESSING, Unknown, "RolloutRetry", "Retrying Rollout after abort");
        }
        Some("RolloutPaused") if !facts.is_paused() && !facts.is_promoted() => {
            list.set(PROGRESSING, Unknown, "RolloutResumed", "Rollout is resumed");
        }
        _ => {}
    }
    if let Some(setback) = facts.create_setback() {
        return not_created(list, facts, setback, events);
    }
    if facts.is_paused() && !facts.is_promoted() {
        // Pods that come and go during a pause are no progress: the deadline does not run.
        list.set(PROGRESSING, Unknown, "RolloutPaused", "Rollout is paused");
    } else {
        progress(list, facts, turned_unhealthy);
    }
}

/// The new set cannot be created; the deadline runs meanwhile.
fn not_created(list: &mut List, facts: &Facts<'_>, setback: &Setback, events: &mut Vec<Event>) {
    use ConditionStatus::False;
    const PROGRESSING: ConditionType = ConditionType::Progressing;
    let Attempt::Create(name) = &setback.attempt else { return };
    let message = format!("{NOT_CREATED}{name:?}: {}", setback.message);
    let has_passed = match list.get(&PROGRESSING).map(|condition| condition.reason.as_str()) {
        Some("ProgressDeadlineExceeded") => !facts.stance.fresh,
        Some("ReplicaSetCreateError") => {
            deadline(facts, &list.conditions).is_some_and(|deadline| deadline <= facts.now)
        }
        _ => false,
    };
    if has_passed {
        let message = format!("{} {message}", timeout(facts));
        list.set(PROGRESSING, False, "ProgressDeadlineExceeded", &message);
    } else if list.set(PROGRESSING, False, "ReplicaSetCreateError", &message) == Turned::Yes {
        events.push(event::replica_set_create_error(message));
    }
}

fn progress(list: &mut List, facts: &Facts<'_>, turned_unhealthy: Turned) {
    use ConditionStatus::{False, True};
    const PROGRESSING: ConditionType = ConditionType::Progressing;
    let subject = facts.subject();
    if facts.is_healthy() {
        list.set(
            PROGRESSING,
            True,
            "NewReplicaSetAvailable",
            &format!("{subject} has successfully progressed."),
        );
    } else if let Some(name) = created_now(facts) {
        list.renew(PROGRESSING, True, "NewReplicaSetCreated", &format!("Created new replica set {name:?}"));
    } else if turned_unhealthy == Turned::Yes && facts.is_promoted() {
        let message = "Rollout does not have minimum availability";
        list.renew(PROGRESSING, True, "ReplicaSetNotAvailable", message);
    } else if list.get(&PROGRESSING).is_none()
        && let Some(set) = facts.revisions.new_set()
    {
        let message = format!("Found new replica set {:?}", set.name);
        list.renew(PROGRESSING, True, "FoundNewReplicaSet", &message);
    } else if facts.progressed() || turned_unhealthy == Turned::Yes {
        list.renew(PROGRESSING, True, "ReplicaSetUpdated", &format!("{subject} is progressing."));
    } else if deadline(facts, &list.conditions).is_some_and(|deadline| deadline <= facts.now) {
        list.set(PROGRESSING, False, "ProgressDeadlineExceeded", &timeout(facts));
    }
}

/// The new set, where this status is the first to know of it and where it was created for this revision.
fn created_now<'a>(facts: &Facts<'a>) -> Option<&'a str> {
    let set = super::metadata::created_for_this_revision(facts.seen, facts.revisions)?;
    facts.stance.fresh.then_some(set.name.as_str())
}

/// An abort keeps the cause that its first message gave.
fn abort_message(facts: &Facts<'_>) -> String {
    let message = format!("Rollout aborted update to revision {}", facts.revisions.number);
    match facts.before().condition(&ConditionType::Progressing) {
        Some(condition)
            if condition.reason == "RolloutAborted" && condition.message.starts_with(&message) =>
        {
            plain(&condition.message).to_owned()
        }
        _ => match &facts.stance.abort_cause {
            Some(cause) => format!("{message}: {cause}"),
            None => message,
        },
    }
}

/// A message without what was refused.
fn plain(message: &str) -> &str {
    message.split(MARK).next().unwrap_or_default()
}

/// Names what was refused in the Progressing message, which it leaves again when nothing is (design.md, decision 6).
fn name_setbacks(list: &mut List, facts: &Facts<'_>, events: &mut Vec<Event>) {
    let refusals = facts.seen.setbacks.iter().filter(|setback| setback.is_refusal());
    let named: Vec<String> = refusals.filter_map(describe).collect();
    let is_progressing =
        |condition: &&mut RolloutCondition| condition.condition_type == ConditionType::Progressing;
    let Some(condition) = list.conditions.iter_mut().find(is_progressing) else { return };
    let plain = plain(&condition.message).to_owned();
    condition.message = if named.is_empty() { plain } else { format!("{plain}{MARK}{}", named.join("; ")) };
    let before = facts.before().condition(&ConditionType::Progressing);
    let is_said = |named: &String| before.is_some_and(|before| before.message.contains(named.as_str()));
    events
        .extend(named.iter().filter(|named| !is_said(named)).map(|named| event::reconciliation_error(named)));
}

/// What the status cannot say, because it is the status that cannot be written.
#[must_use]
pub(super) fn unsaid(facts: &Facts<'_>) -> Vec<Event> {
    let refusals = facts.seen.setbacks.iter().filter(|setback| setback.is_refusal());
    let of_rollout = refusals.filter(|setback| setback.attempt == Attempt::Rollout);
    of_rollout
        .map(|setback| event::reconciliation_error(&format!("changing the Rollout: {}", setback.message)))
        .collect()
}

fn describe(setback: &Setback) -> Option<String> {
    let message = &setback.message;
    match &setback.attempt {
        Attempt::Change(name) => Some(format!("changing ReplicaSet {name:?}: {message}")),
        Attempt::Delete(name) => Some(format!("deleting ReplicaSet {name:?}: {message}")),
        Attempt::Service(name) => Some(format!("changing Service {name:?}: {message}")),
        Attempt::Workload(name) => Some(format!("changing {name}: {message}")),
        // A creation has a reason of its own, a collision is resolved by the next creation, the rollout's own status cannot say that it
        // cannot be written, a disruption budget that asks for patience is no error, labels of pods hold nothing up and have an event of
        // their own, and until a question is answered there is no status.
        Attempt::Create(_)
        | Attempt::Collide(_)
        | Attempt::Rollout
        | Attempt::Evict(_)
        | Attempt::Label(_)
        | Attempt::LookForService(_)
        | Attempt::LookForWorkload(_)
        | Attempt::Read(_)
        | Attempt::AskForDefaults => None,
    }
}

fn available(list: &mut List, facts: &Facts<'_>) {
    let replicas = facts.seen.rollout.spec.replicas();
    let is_available = match facts.strategy {
        Strategy::Canary(_) => facts.counts.available >= replicas,
        // The active set is to be whole.
        Strategy::BlueGreen(strategy) => {
            let active = blue_green::selected(facts.seen, &strategy.active_service);
            let set = facts.revisions.all().find(|set| !active.is_empty() && set.hash() == active);
            set.is_some_and(|set| set.replicas == replicas && set.status.available == replicas)
        }
    };
    let (status, message) = if is_available {
        (ConditionStatus::True, "Rollout has minimum availability")
    } else {
        (ConditionStatus::False, "Rollout does not have minimum availability")
    };
    list.set(ConditionType::Available, status, "AvailableReason", message);
}

fn replica_failure(list: &mut List, facts: &Facts<'_>) {
    let failure = facts.revisions.all().find_map(|set| set.status.failure.as_ref());
    match failure {
        None => list.remove(&ConditionType::ReplicaFailure),
        Some(failure) => {
            let status = ConditionStatus::from(failure.status.as_str());
            list.set(ConditionType::ReplicaFailure, status, &failure.reason, &failure.message);
        }
    }
}

fn completed(list: &mut List, facts: &Facts<'_>, events: &mut Vec<Event>) {
    const REASON: &str = "RolloutCompleted";
    let was_incomplete =
        list.get(&ConditionType::Completed).is_some_and(|was| was.status == ConditionStatus::False);
    let status = if facts.is_promoted() { ConditionStatus::True } else { ConditionStatus::False };
    list.set(ConditionType::Completed, status, REASON, REASON);
    // A first version is stable at once, and still an update that began; one that supersedes another began with it.
    let begins = facts.stance.fresh && facts.before().stable_rs() != facts.revisions.hash;
    if begins && !was_incomplete {
        events.push(event::not_completed(facts.revisions.number, &facts.revisions.hash));
    }
}

/// Clients wait for `Paused=False` too, so the condition exists from the first status on.
fn paused(list: &mut List, facts: &Facts<'_>) {
    let paused = facts.is_paused();
    if !paused && !facts.stance.fresh && list.get(&ConditionType::Paused).is_none() {
        return;
    }
    let status = if paused { ConditionStatus::True } else { ConditionStatus::False };
    list.set(ConditionType::Paused, status, "RolloutPaused", "Rollout is paused");
}
