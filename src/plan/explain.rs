//! Why a rollout does not advance: the blockers of a plan.
//!
//! The most telling one stands first. Each names the object, the condition that must come true, since when it is waited for,
//! and what happens next.

use jiff::Timestamp;

use super::action::{Plan, ServiceAction, WorkloadAction};
use super::blocker::{Blocker, BlockerReason, Object};
use super::blue_green;
use super::conditions::Facts;
use super::event;
use super::injected::{self, Labelling};
use super::observed::{Observed, Pod, ReplicaSet, Workload};
use super::refusal;
use super::restart::Restart;
use super::revision::NewSet;
use super::shortage;
use super::sizing::Sizing;
use super::step;
use super::workload;
use crate::crd::{
    BlueGreenStrategy, CanaryStrategy, ConditionType, RolloutCondition, RolloutStatus, StepAction, Strategy,
    WorkloadName,
};
use crate::validate::Violation;

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

/// How many faults of a spec are told at once: enough to mend them together, few enough to read.
pub(super) const FAULTS_MOST: usize = 16;

/// Something that is wrong with a spec, so that nothing moves.
pub(super) struct Fault {
    reason: BlockerReason,
    object: Object,
    condition: String,
    message: String,
    next: String,
}

impl Fault {
    /// A field of the rollout is wrong.
    #[must_use]
    pub(super) fn of_spec(violation: &Violation) -> Self {
        Self {
            reason: BlockerReason::InvalidSpec,
            object: Object::Rollout,
            condition: format!("{} valid", violation.path),
            message: violation.to_string(),
            next: "nothing moves until the spec is corrected".to_owned(),
        }
    }

    /// The pod template cannot be read.
    #[must_use]
    pub(super) fn of_template(error: &str) -> Self {
        Self {
            reason: BlockerReason::InvalidSpec,
            object: Object::Rollout,
            condition: "spec valid".to_owned(),
            message: error.to_owned(),
            next: "nothing moves until the spec is corrected".to_owned(),
        }
    }

    /// The pod template of the workload that the rollout refers to is wrong, for the rollout.
    #[must_use]
    pub(super) fn of_workload(workload: &Workload, violation: &Violation) -> Self {
        Self {
            object: Object::Workload(workload.name.clone()),
            next: "nothing moves until the workload's pod template is corrected".to_owned(),
            ..Self::of_spec(violation)
        }
    }

    /// The workload that the rollout refers to does not exist.
    #[must_use]
    pub(super) fn of_missing_workload(named: &WorkloadName) -> Self {
        Self {
            reason: BlockerReason::WorkloadMissing,
            object: Object::Workload(named.clone()),
            condition: "exists".to_owned(),
            message: format!("{named}, which spec.workloadRef names, does not exist"),
            next: "it goes on once that is created, or the spec names another".to_owned(),
        }
    }

    /// A Service that the strategy names is missing, or is not as it must be.
    #[must_use]
    pub(super) fn of_service(seen: &Observed, name: &str, violation: &Violation) -> Self {
        let (object, path) = (Object::Service(name.to_owned()), &violation.path);
        match seen.service(name) {
            None => Self {
                reason: BlockerReason::ServiceMissing,
                object,
                condition: "exists".to_owned(),
                message: format!("Service {name:?}, which {path} names, does not exist"),
                next: "it goes on once the Service is created, or the spec names another".to_owned(),
            },
            Some(_) => Self {
                reason: BlockerReason::InvalidSpec,
                object,
                condition: format!("{path} valid"),
                message: violation.to_string(),
                next: "nothing moves until the Service is mended, or the spec names another".to_owned(),
            },
        }
    }
}

/// The blockers of a spec that is invalid, by the status that says so.
#[must_use]
pub(super) fn invalid(
    seen: &Observed,
    faults: impl Iterator<Item = Fault>,
    status: &RolloutStatus,
) -> Vec<Blocker> {
    // When the status began to name what it names; the spec may have been invalid before, for another reason.
    let condition = status.condition(&ConditionType::InvalidSpec);
    let since = condition.map(|condition| condition.last_update_time.instant());
    let blocker = |fault: Fault| {
        let Fault { reason, object, condition, message, next } = fault;
        Blocker { reason, object, condition, since, message, next, next_at: None }
    };
    // That the status cannot say so is told last.
    faults.take(FAULTS_MOST).map(blocker).chain(refusal::refusals(seen)).collect()
}

/// What a plan moves.
#[derive(Clone, Copy)]
pub(super) struct Moves<'a> {
    /// ReplicaSets.
    pub sizing: &'a Sizing,
    /// Services.
    pub services: &'a [ServiceAction],
    /// The Deployment that the rollout takes over from.
    pub workload: Option<&'a WorkloadAction>,
    /// Pods.
    pub restart: &'a Restart,
    /// Labels and annotations of pods.
    pub labelling: Option<&'a Labelling>,
    /// What is waited for that step plugins do.
    pub plugins: &'a [Blocker],
}

/// The blockers of a rollout, by the status that the plan leads to.
#[must_use]
pub(super) fn blockers(facts: &Facts<'_>, status: &RolloutStatus, moves: Moves<'_>) -> Vec<Blocker> {
    let mut blockers = refusal::refusals(facts.seen);
    if let NewSet::Missing = facts.revisions.new {
        blockers.extend(refusal::recorded(facts.seen));
    }
    blockers.extend(aborted(facts, status));
    blockers.extend(paused(facts, status));
    blockers.extend(moves.plugins.iter().cloned());
    // The cause first: that time is up meanwhile is what it leads to.
    blockers.extend(facts.revisions.all().filter_map(failing));
    let new = facts.revisions.new_set().filter(|_| !facts.stance.is_aborted());
    let (failing, short): (Vec<_>, Vec<_>) = new
        .into_iter()
        .chain(facts.revisions.stable_apart())
        .flat_map(|set| shortage::shortage(facts, status, set))
        .partition(|blocker| blocker.reason == BlockerReason::PodFailing);
    blockers.extend(failing);
    blockers.extend(timed_out(facts, status));
    blockers.extend(moving(facts, moves.sizing));
    blockers.extend(short);
    blockers.extend(new.into_iter().chain(facts.revisions.stable_apart()).filter_map(surplus));
    if matches!(facts.strategy, Strategy::Canary(_)) {
        // Of a blue-green rollout they stay up for a while, and nothing waits for them.
        blockers.extend(facts.revisions.others.iter().filter_map(|set| not_gone(set)));
    }
    blockers.extend(moves.services.iter().map(switching));
    blockers.extend(moves.workload.map(workload::taking_over));
    blockers.extend(restarting(facts, moves.restart));
    blockers.extend(moves.labelling.and_then(injected::blocker));
    blockers
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
    let index = facts.stance.step.unwrap_or(0);
    let next = index.saturating_add(1);
    let following = usize::try_from(next).ok().and_then(|next| canary.steps().get(next));
    let then = match following {
        Some(step) => format!("step {next} runs ({})", step::describe(step)),
        None => "the new version takes over".to_owned(),
    };
    Some(Blocker {
        reason: BlockerReason::PauseStep,
        object: Object::Rollout,
        condition: format!("status.currentStepIndex {index}/{next}"),
        since: Some(began),
        message: match seconds {
            Some(seconds) => format!("step {index} is a pause of {seconds}s"),
            None => format!("step {index} is a pause until somebody promotes"),
        },
        next: if ends.is_some() { then } else { format!("promote it, then {then}") },
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
            false if older == 0 => {
                format!("{pods} pods are seen, all created since {asked}, and there are to be more")
            }
            false => format!("{older} of {pods} pods were created before {asked} and are being restarted"),
        },
        next: match (is_to_come, held_by(facts, restart)) {
            (true, _) => "the restart begins".to_owned(),
            (false, _) if older == 0 => "it is done once all are seen".to_owned(),
            (false, _) if restart.has_surplus => {
                "they go once no ReplicaSet has more pods than it is to have".to_owned()
            }
            (false, None) => "they go as others become available".to_owned(),
            (false, Some(pod)) => {
                format!("as many are missing as may be: they go once pod {pod:?} is ready, or deleted")
            }
        },
        next_at: restart.wake_at,
    })
}

/// The pod that is not ready, so that no other may go.
fn held_by<'a>(facts: &'a Facts<'_>, restart: &Restart) -> Option<&'a str> {
    let is_held = |pod: &&Pod| !pod.terminating && pod.ready_since.is_none();
    let pod = facts.seen.pods.iter().filter(is_held).min_by_key(|pod| (pod.created, &pod.name))?;
    (restart.evictions.at_most == 0).then_some(pod.name.as_str())
}

fn timed_out(facts: &Facts<'_>, status: &RolloutStatus) -> Option<Blocker> {
    let condition = status.condition(&ConditionType::Progressing)?;
    (condition.reason == "ProgressDeadlineExceeded").then(|| Blocker {
        reason: BlockerReason::ProgressDeadlineExceeded,
        object: facts.revisions.new_set().map_or(Object::Rollout, set_object),
        condition: format!("progress within {}s", facts.seen.rollout.spec.progress_deadline_seconds()),
        // When the reason turned; the condition may have been False before, for another one.
        since: Some(condition.last_update_time.instant()),
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
        next: match quota(&failure.message) {
            Some(quota) => {
                format!("the cluster tries again; raise ResourceQuota {quota:?}, or free some of it")
            }
            None => "the cluster tries again".to_owned(),
        },
        next_at: None,
    })
}

/// The name of the ResourceQuota that a refusal is about.
fn quota(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("exceeded quota: ")?;
    rest.split(',').next()
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

/// More pods of a set are there than it is to have.
fn surplus(set: &ReplicaSet) -> Option<Blocker> {
    (set.status.replicas > set.replicas).then(|| Blocker {
        reason: BlockerReason::PodsNotGone,
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
