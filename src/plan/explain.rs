//! Why a rollout does not advance: the blockers of a plan.
//!
//! The most telling one stands first. Each names the object, the condition that must come true, since when it is waited for,
//! and what happens next.

use jiff::Timestamp;

use super::action::{Plan, ServiceAction};
use super::blocker::{Blocker, BlockerReason, Object};
use super::blue_green;
use super::conditions::Facts;
use super::event;
use super::observed::{Attempt, ReplicaSet, Setback};
use super::restart::Restart;
use super::revision::NewSet;
use super::sizing::Sizing;
use super::step;
use crate::crd::{
    BlueGreenStrategy, CanaryStrategy, ConditionType, RolloutCondition, RolloutStatus, StepAction, Strategy,
};

/// The plan for a rollout that uses fields that are not acted on yet: a warning, a blocker, and no write at all.
#[must_use]
pub(super) fn hands_off(fields: &[String]) -> Plan {
    let message = |field: &str| {
        format!("{field} is not supported by this version; the rollout is stored and left alone")
    };
    let blocker = |field: &String| Blocker {
        reason: BlockerReason::UnsupportedField,
        object: Object::Rollout,
        condition: format!("{field} unset"),
        since: None,
        message: message(field),
        next: format!("remove {field}, or run a version that supports it"),
        next_at: None,
    };
    Plan {
        blockers: fields.iter().map(blocker).collect(),
        notices: fields.iter().map(|field| event::unsupported_field(message(field))).collect(),
        ..Plan::default()
    }
}

/// The blocker of a spec that is invalid.
#[must_use]
pub(super) fn invalid_spec(message: &str, status: &RolloutStatus) -> Blocker {
    Blocker {
        reason: BlockerReason::InvalidSpec,
        object: Object::Rollout,
        condition: "spec valid".to_owned(),
        since: status.condition(&ConditionType::InvalidSpec).map(since),
        message: message.to_owned(),
        next: "nothing moves until the spec is corrected".to_owned(),
        next_at: None,
    }
}

/// What a plan moves.
#[derive(Clone, Copy)]
pub(super) struct Moves<'a> {
    /// ReplicaSets.
    pub sizing: &'a Sizing,
    /// Services.
    pub services: &'a [ServiceAction],
    /// Pods.
    pub restart: &'a Restart,
}

/// The blockers of a rollout, by the status that the plan leads to.
#[must_use]
pub(super) fn blockers(facts: &Facts<'_>, status: &RolloutStatus, moves: Moves<'_>) -> Vec<Blocker> {
    let mut blockers: Vec<Blocker> = facts.seen.setbacks.iter().map(refused).collect();
    blockers.extend(aborted(facts, status));
    blockers.extend(paused(facts, status));
    blockers.extend(timed_out(facts, status));
    blockers.extend(facts.revisions.all().filter_map(failing));
    blockers.extend(moving(facts, moves.sizing));
    if !facts.stance.is_aborted() {
        blockers.extend(facts.revisions.new_set().and_then(not_available));
    }
    blockers.extend(facts.revisions.stable_apart().and_then(not_settled));
    if matches!(facts.strategy, Strategy::Canary(_)) {
        // Of a blue-green rollout they stay up for a while, and nothing waits for them.
        blockers.extend(facts.revisions.others.iter().filter_map(|set| not_gone(set)));
    }
    blockers.extend(moves.services.iter().map(switching));
    blockers.extend(restarting(facts, moves.restart));
    blockers
}

fn refused(setback: &Setback) -> Blocker {
    let (object, what) = match &setback.attempt {
        Attempt::Create(name) | Attempt::Collide(name) => (Object::ReplicaSet(name.clone()), "created"),
        Attempt::Change(name) => (Object::ReplicaSet(name.clone()), "changed"),
        Attempt::Delete(name) => (Object::ReplicaSet(name.clone()), "deleted"),
        Attempt::Service(name) => (Object::Service(name.clone()), "changed"),
        Attempt::Evict(name) => (Object::ReplicaSet(name.clone()), "pods evicted"),
        Attempt::Rollout => (Object::Rollout, "changed"),
    };
    Blocker {
        reason: match setback.attempt {
            Attempt::Evict(_) => BlockerReason::Restarting,
            _ => BlockerReason::WriteRefused,
        },
        object,
        condition: what.to_owned(),
        since: Some(setback.since),
        message: setback.message.clone(),
        next: "tried again".to_owned(),
        next_at: setback.next_try,
    }
}

fn aborted(facts: &Facts<'_>, status: &RolloutStatus) -> Option<Blocker> {
    facts.stance.is_aborted().then(|| Blocker {
        reason: BlockerReason::Aborted,
        object: Object::Rollout,
        condition: "status.abort false".to_owned(),
        since: status.aborted_at.as_ref().map(crate::crd::Time::instant),
        message: condition_message(status, &ConditionType::Progressing),
        next: "retry it, roll it back, or change the spec".to_owned(),
        next_at: None,
    })
}

fn paused(facts: &Facts<'_>, status: &RolloutStatus) -> Option<Blocker> {
    if facts.seen.rollout.spec.paused() {
        return Some(Blocker {
            reason: BlockerReason::PausedBySpec,
            object: Object::Rollout,
            condition: "spec.paused false".to_owned(),
            since: status.condition(&ConditionType::Paused).map(since),
            message: "the rollout is paused by spec.paused".to_owned(),
            next: "resume it".to_owned(),
            next_at: None,
        });
    }
    match facts.strategy {
        Strategy::Canary(canary) => paused_by_step(facts, canary),
        Strategy::BlueGreen(strategy) => awaits_promotion(facts, strategy),
    }
}

fn awaits_promotion(facts: &Facts<'_>, strategy: &BlueGreenStrategy) -> Option<Blocker> {
    let began = facts.stance.blue_green_pause()?.start_time.instant();
    let service = &strategy.active_service;
    let (active, new) = (blue_green::selected(facts.seen, service), &facts.revisions.hash);
    let ends = blue_green::end_of_pause(strategy, began);
    Some(Blocker {
        reason: BlockerReason::BlueGreenPause,
        object: Object::Rollout,
        condition: format!("status.blueGreen.activeSelector {active}/{new}"),
        since: Some(began),
        message: match ends {
            Some(_) => {
                let seconds = strategy.auto_promotion_seconds();
                format!("the new version is up and is promoted by itself after {seconds}s")
            }
            None => "the new version is up and waits until somebody promotes it".to_owned(),
        },
        next: match ends {
            Some(_) => format!("Service {service:?} is switched to it"),
            None => "promote it".to_owned(),
        },
        next_at: ends,
    })
}

fn paused_by_step(facts: &Facts<'_>, canary: &CanaryStrategy) -> Option<Blocker> {
    let began = facts.stance.step_pause()?.start_time.instant();
    let Some(StepAction::Pause(pause)) = facts.stance.action(canary) else { return None };
    let seconds = pause.duration_seconds().ok().flatten();
    let ends = step::end_of(pause, began);
    let (index, steps) = (facts.stance.step.unwrap_or(0), canary.steps().len());
    Some(Blocker {
        reason: BlockerReason::PauseStep,
        object: Object::Rollout,
        condition: format!("status.currentStepIndex {index}/{steps}"),
        since: Some(began),
        message: match seconds {
            Some(seconds) => format!("step {index} is a pause of {seconds}s"),
            None => format!("step {index} is a pause until somebody promotes"),
        },
        next: if ends.is_some() { "the next step runs" } else { "promote it" }.to_owned(),
        next_at: ends,
    })
}

fn switching(action: &ServiceAction) -> Blocker {
    let hash = action
        .write
        .patch
        .pointer("/spec/selector")
        .and_then(|labels| labels.get(crate::crd::keys::POD_TEMPLATE_HASH)?.as_str());
    let message = match hash {
        Some(hash) => format!("Service {:?} is to select {hash}", action.name),
        None => format!("Service {:?} gets its own selector back", action.name),
    };
    Blocker {
        reason: BlockerReason::ServiceSwitch,
        object: Object::Service(action.name.clone()),
        condition: format!("spec.selector {}", hash.unwrap_or("its own")),
        since: None,
        message,
        next: "its selector is written".to_owned(),
        next_at: None,
    }
}

fn restarting(facts: &Facts<'_>, restart: &Restart) -> Option<Blocker> {
    let asked = facts.seen.rollout.spec.restart_at.as_ref().filter(|_| restart.is_pending)?;
    let (older, pods) = (restart.older, restart.pods);
    let is_to_come = asked.instant() > facts.now;
    Some(Blocker {
        reason: BlockerReason::Restarting,
        object: Object::Rollout,
        condition: format!("status.restartedAt {asked}"),
        since: Some(asked.instant()).filter(|_| !is_to_come),
        message: match is_to_come {
            true => format!("pods created before {asked} are to be restarted then"),
            false => format!("{older} of {pods} pods were created before {asked} and are being restarted"),
        },
        next: match is_to_come {
            true => "the restart begins",
            false => "they go as others become available",
        }
        .to_owned(),
        next_at: restart.wake_at,
    })
}

fn timed_out(facts: &Facts<'_>, status: &RolloutStatus) -> Option<Blocker> {
    let condition = status.condition(&ConditionType::Progressing)?;
    (condition.reason == "ProgressDeadlineExceeded").then(|| Blocker {
        reason: BlockerReason::ProgressDeadlineExceeded,
        object: facts.revisions.new_set().map_or(Object::Rollout, set_object),
        condition: format!("progress within {}s", facts.seen.rollout.spec.progress_deadline_seconds()),
        since: Some(since(condition)),
        message: condition.message.clone(),
        next: "it goes on as soon as pods become available; otherwise abort it or change the spec".to_owned(),
        next_at: None,
    })
}

fn failing(set: &ReplicaSet) -> Option<Blocker> {
    let failure = set.status.failure.as_ref().filter(|failure| failure.status == "True")?;
    Some(Blocker {
        reason: BlockerReason::ReplicaFailure,
        object: set_object(set),
        condition: format!("status.replicas {}/{}", set.status.replicas, set.replicas),
        since: Some(failure.since),
        message: failure.message.clone(),
        next: "the cluster tries again".to_owned(),
        next_at: None,
    })
}

/// Sets that are on their way to another size, or that do not exist yet.
fn moving(facts: &Facts<'_>, sizing: &Sizing) -> Option<Blocker> {
    let blocker = |object: Object, condition: String, message: String| Blocker {
        reason: BlockerReason::Scaling,
        object,
        condition,
        since: None,
        message,
        next: "the sizes are written".to_owned(),
        next_at: None,
    };
    match facts.revisions.new {
        NewSet::Missing => {
            let name = super::revision::set_name(facts.seen, &facts.revisions.hash);
            let message = format!("ReplicaSet {name:?} is being created");
            Some(blocker(Object::ReplicaSet(name), "exists".to_owned(), message))
        }
        NewSet::Held(set) => {
            let message =
                format!("ReplicaSet {:?} is being deleted and is created again once it is gone", set.name);
            Some(blocker(set_object(set), "deleted".to_owned(), message))
        }
        NewSet::Found(set) if sizing.changes => {
            let condition = format!("spec.replicas {}/{}", set.replicas, sizing.new);
            Some(blocker(set_object(set), condition, "ReplicaSets are being resized".to_owned()))
        }
        NewSet::Found(_) => None,
    }
}

fn not_available(set: &ReplicaSet) -> Option<Blocker> {
    (set.status.available != set.replicas).then(|| Blocker {
        reason: BlockerReason::PodsNotAvailable,
        object: set_object(set),
        condition: format!("status.availableReplicas {}/{}", set.status.available, set.replicas),
        since: None,
        message: format!("{} of {} pods are available", set.status.available, set.replicas),
        next: "it goes on once they are".to_owned(),
        next_at: None,
    })
}

fn not_settled(set: &ReplicaSet) -> Option<Blocker> {
    (set.status.replicas != set.replicas).then(|| Blocker {
        reason: if set.status.replicas > set.replicas {
            BlockerReason::PodsNotGone
        } else {
            BlockerReason::PodsNotAvailable
        },
        object: set_object(set),
        condition: format!("status.replicas {}/{}", set.status.replicas, set.replicas),
        since: None,
        message: format!("{} pods exist of {} wanted", set.status.replicas, set.replicas),
        next: "it goes on once they match".to_owned(),
        next_at: None,
    })
}

fn not_gone(set: &ReplicaSet) -> Option<Blocker> {
    (set.status.replicas > 0).then(|| Blocker {
        reason: BlockerReason::PodsNotGone,
        object: set_object(set),
        condition: format!("status.replicas {}/0", set.status.replicas),
        since: None,
        message: format!("{} pods of an older version are still there", set.status.replicas),
        next: "they go as soon as enough others are available".to_owned(),
        next_at: None,
    })
}

fn set_object(set: &ReplicaSet) -> Object {
    Object::ReplicaSet(set.name.clone())
}

fn since(condition: &RolloutCondition) -> Timestamp {
    condition.last_transition_time.instant()
}

fn condition_message(status: &RolloutStatus, condition_type: &ConditionType) -> String {
    status.condition(condition_type).map(|condition| condition.message.clone()).unwrap_or_default()
}
