//! What is to be done about a rollout: one pure function from what was seen to what to write.
//!
//! No clock, no random number, no I/O, no async, no log: the same function serves the workers, dry runs, the simulator and
//! every test. It depends on L0 and on [`crate::validate`]. Its plan is absolute (counts, labels, a status; never «one
//! more»), names the versions it was made from, and is carried out by [`crate::worker`]; when a write is refused, what is
//! there is observed and planned again.

mod action;
mod blocker;
mod blue_green;
pub mod canary;
mod conditions;
mod duration;
pub mod environment;
pub mod event;
mod explain;
pub mod inherited;
mod injected;
mod metadata;
mod observed;
mod phase;
mod plugin;
mod refusal;
pub mod replicas;
pub mod restart;
pub mod revision;
mod rollout_part;
mod scale_down;
pub mod service;
mod sets;
mod settings;
mod shortage;
pub mod sizing;
pub mod stance;
pub mod status;
pub mod step;
pub mod template;
pub mod unsupported;
mod workload;

use jiff::Timestamp;

pub use action::{
    Basis, COMPANY, Eviction, Evictions, LEAST_PAUSE, Plan, PodAction, Question, RolloutPart, ServiceAction,
    SetAction, Urgency, Version, WorkloadAction, Write,
};
pub use blocker::{Blocker, BlockerReason, Object};
pub use duration::Ended;
pub use event::{Event, Severity};
pub use injected::{Labelling, Metadata, StatusLabel, Wanted};
pub use observed::{
    Attempt, DefaultedTemplate, FieldPath, Observed, Pod, PodFault, PodPart, ReplicaSet, Service, SetFailure,
    SetStatus, Setback, UNAVAILABLE, Workload,
};
pub use plugin::{Answer, Asked, Call, KnownPlugins, PluginState, Plugins, Reply, UpdateId};
pub use settings::{Settings, StatusLabels};

use crate::crd::{RolloutStatus, Strategy};
use crate::validate::{self, Violation};
use blue_green::BlueGreen;
use conditions::Facts;
use explain::Fault;
use revision::{Revisions, Unclassified};
use sizing::Sizing;
use stance::Stance;
use status::Counts;
use step::Progress;

/// Decides all that is to be done about a rollout now.
#[must_use]
pub fn plan(seen: &Observed, now: Timestamp) -> Plan {
    let plan =
        if seen.rollout.metadata.deletion_timestamp.is_some() { Plan::default() } else { decide(seen, now) };
    let left_out = seen.left_out.iter().take(explain::FAULTS_MOST);
    let blockers = left_out.clone().map(template::blocker);
    let notices = left_out.map(template::notice);
    Plan {
        basis: basis(seen),
        blockers: plan.blockers.into_iter().chain(blockers).collect(),
        notices: plan.notices.into_iter().chain(notices).collect(),
        ..plan
    }
}

fn decide(seen: &Observed, now: Timestamp) -> Plan {
    let unsupported = unsupported::fields(&seen.rollout);
    if !unsupported.is_empty() {
        return explain::hands_off(&unsupported);
    }
    let violations = violations(seen);
    if let Some(first) = violations.first() {
        let faults = violations.iter().map(|violation| fault(seen, violation));
        return invalid(seen, &first.to_string(), faults, now);
    }
    if let Some(plan) = missing_workload(seen, now) {
        return plan;
    }
    if let Some(plan) = missing_or_foreign_services(seen, now) {
        return plan;
    }
    let adoptions = sets::adoptions(seen);
    if adoptions.iter().any(|action| !was_refused(seen, action)) {
        return Plan { sets: adoptions, ..Plan::default() };
    }
    // Those that cannot be adopted hold nothing up; they are tried again beside the rest.
    let plan = decide_with(seen, &restart::without_leaving(seen), now);
    Plan { sets: [adoptions, plan.sets].concat(), ..plan }
}

fn was_refused(seen: &Observed, action: &SetAction) -> bool {
    let attempt = Attempt::Change(action.name().to_owned());
    seen.setbacks.iter().any(|setback| setback.attempt == attempt)
}

/// What is wrong with the spec, and where another object holds its pod template, with that.
fn violations(seen: &Observed) -> Vec<Violation> {
    match seen.workload {
        Some(_) => validate::resolved(&seen.rollout),
        None => validate::rollout(&seen.rollout),
    }
}

/// A template is to be corrected where it is.
fn fault(seen: &Observed, violation: &Violation) -> Fault {
    let is_of_template = violation.path.to_string().starts_with("spec.template");
    match seen.workload.as_deref().filter(|_| is_of_template) {
        Some(workload) => Fault::of_workload(workload, violation),
        None => Fault::of_spec(violation),
    }
}

/// The plan where the workload that the rollout refers to is not there. Before that is said, it is looked for afresh.
fn missing_workload(seen: &Observed, now: Timestamp) -> Option<Plan> {
    let named = workload::missing(seen)?;
    if !seen.workload_is_absent && !revision::is_known_invalid(seen) {
        return Some(asking(seen, Question::Workload(named)));
    }
    let fault = Fault::of_missing_workload(&named);
    Some(invalid(seen, &validate::workload(&named).to_string(), [fault].into_iter(), now))
}

/// The plan where Services that the strategy names are not there or not to be had. Before it is said that one is not there, it is looked
/// for afresh: it may have been created just now.
fn missing_or_foreign_services(seen: &Observed, now: Timestamp) -> Option<Plan> {
    let violations = service::violations(seen);
    let (_, first) = violations.first()?;
    let unknown = service::unknown(seen);
    if !unknown.is_empty() && !revision::is_known_invalid(seen) {
        return Some(asking(seen, Question::Services(unknown)));
    }
    let faults = violations.iter().map(|(service, violation)| Fault::of_service(seen, service, violation));
    Some(invalid(seen, &first.to_string(), faults, now))
}

/// The plan where something must be asked before anything can be decided.
fn asking(seen: &Observed, question: Question) -> Plan {
    Plan { question: Some(question), blockers: refusal::refusals(seen), ..Plan::default() }
}

/// Decides with what is certain of what was seen.
fn decide_with(seen: &Observed, certain: &Observed, now: Timestamp) -> Plan {
    match (revision::classify(certain), seen.rollout.spec.strategy()) {
        (Ok(revisions), Ok(strategy)) => roll_out(certain, seen, &revisions, strategy, now),
        (Err(Unclassified::NeedsDefaults), _) => asking(seen, Question::DefaultedTemplate),
        (Err(Unclassified::Malformed(error)), _) => {
            let error = error.to_string();
            invalid(seen, &error, [Fault::of_template(&error)].into_iter(), now)
        }
        // None or both were turned away above as invalid.
        (Ok(_), Err(_)) => Plan::default(),
    }
}

/// What a strategy decides.
struct Decision {
    sizing: Sizing,
    progress: Progress,
    services: Vec<ServiceAction>,
}

impl Decision {
    fn by(
        strategy: Strategy<'_>,
        seen: &Observed,
        revisions: &Revisions<'_>,
        stance: &Stance,
        now: Timestamp,
    ) -> Self {
        match strategy {
            Strategy::Canary(canary) => {
                let sizing = canary::sizing(seen, revisions, stance, canary, now);
                Self {
                    progress: step::advance(seen, revisions, stance, canary, now),
                    services: service::of_canary(seen, revisions, stance, canary, &sizing),
                    sizing,
                }
            }
            Strategy::BlueGreen(strategy) => {
                let update = BlueGreen { seen, revisions, strategy, now };
                Self {
                    sizing: update.sizing(stance),
                    progress: update.advance(stance),
                    services: update.services(stance),
                }
            }
        }
    }
}

/// Decides by `seen`, which holds what is certain; of all that was told, a restart knows by itself what that is.
fn roll_out(
    seen: &Observed,
    told: &Observed,
    revisions: &Revisions<'_>,
    strategy: Strategy<'_>,
    now: Timestamp,
) -> Plan {
    let stance = Stance::seen(seen, revisions);
    let Decision { sizing, mut progress, services } = Decision::by(strategy, seen, revisions, &stance, now);
    let restart = restart::restart(told, revisions, &stance, now);

    let counts = Counts::of(seen, revisions, strategy);
    let derived = |stance: &Stance| RolloutStatus {
        restarted_at: restart.restarted_at.clone(),
        ..status::derive(seen, revisions, stance, counts, now)
    };
    let mut status = derived(&progress.stance);
    let facts = Facts { seen, revisions, strategy, stance: &progress.stance, counts, status: &status, now };
    if let Some(cause) = conditions::abort_cause(&facts) {
        step::give_up(&mut progress, revisions, stance::step_count(seen), cause);
        status = derived(&progress.stance);
    }
    let facts = Facts { seen, revisions, strategy, stance: &progress.stance, counts, status: &status, now };
    let (conditions, turned) = conditions::conditions(&facts);
    let deadline = conditions::deadline(&facts, &conditions);
    let course = duration::Course {
        seen,
        revisions,
        before: &stance,
        after: &progress.stance,
        is_healthy: facts.is_healthy(),
        now,
    };
    let (duration, ended) = duration::duration(&course);
    let status = with_conditions(seen, RolloutStatus { duration, ..status.clone() }, conditions);

    let plugins = plugin::part(&facts, &status);
    let injections = injected::Injections::decide(seen, revisions, now);
    let sets = sets::actions(seen, revisions, &stance, &sizing, &injections);
    let services = [services, service::releases(seen)].concat();
    let labelling = injections.labelling(seen, revisions);
    let (taken_back, watched_until) = injections.environments();
    let workload = workload::scaled(seen, &stance, &status, &sets);
    let moves = explain::Moves {
        sizing: &sizing,
        services: &services,
        workload: workload.as_ref(),
        restart: &restart,
        labelling: labelling.as_ref(),
        plugins: &plugins.blockers,
    };
    let blockers = [explain::blockers(&facts, &status, moves), taken_back].concat();
    let wakes = [progress.wake_at, plugins.wake_at, deadline, sizing.wake_at, restart.wake_at, watched_until];
    let events = [progress.events.as_slice(), &plugins.events, &turned].concat();
    let rollout = rollout_part::rollout_part(seen, revisions, &stance, &status, events);
    // Sizes and evictions each count on the pods that the other leaves.
    let is_resizing = sets.iter().any(SetAction::resizes);
    Plan {
        // It ends once, with the status that says so.
        rollout: RolloutPart { ended: ended.filter(|_| rollout.status.is_some()), ..rollout },
        sets,
        services,
        workload,
        evictions: if is_resizing { Evictions::default() } else { restart.evictions },
        pods: injected::pod_actions(seen, revisions),
        blockers,
        notices: [
            conditions::unsaid(&facts),
            injected::notices(labelling.as_ref()),
            inherited::notices(seen).collect(),
            plugins.notices(),
        ]
        .concat(),
        labelling,
        call: plugins.call,
        answer_is_stale: plugins.answer_is_stale,
        wake_at: wakes.into_iter().flatten().min(),
        ..Plan::default()
    }
}

/// The plan for a spec that is invalid: nothing but the status says so, and nothing else moves. The status has the first violation.
fn invalid(seen: &Observed, violation: &str, faults: impl Iterator<Item = Fault>, now: Timestamp) -> Plan {
    let name = seen.rollout.metadata.name.as_deref().unwrap_or_default();
    let message = format!("The Rollout {name:?} is invalid: {violation}");
    let before = seen.rollout.status();
    let observed_generation = seen.rollout.metadata.generation.map(|generation| generation.to_string());
    let workload_observed_generation =
        workload::observed_generation(seen).or_else(|| before.workload_observed_generation.clone());
    let status = RolloutStatus { observed_generation, workload_observed_generation, ..before.clone() };
    let status = with_conditions(seen, status, conditions::invalid_spec(before, &message, now));
    let notes = workload::generation_note(seen);
    let object = (!notes.is_empty()).then(|| Write {
        patch: serde_json::json!({ "metadata": { "annotations": notes } }),
        events: Vec::new(),
    });
    Plan {
        rollout: RolloutPart {
            object,
            status: status::patch(before, &status, &seen.pruned)
                .map(|patch| Write { patch, events: Vec::new() }),
            ..RolloutPart::default()
        },
        blockers: explain::invalid(seen, faults, &status),
        ..Plan::default()
    }
}

fn with_conditions(
    seen: &Observed,
    status: RolloutStatus,
    conditions: Vec<crate::crd::RolloutCondition>,
) -> RolloutStatus {
    let status = RolloutStatus { conditions: Some(conditions), ..status };
    let (phase, message) = phase::phase(seen, &status);
    RolloutStatus { phase: Some(phase), message: Some(message), ..status }
}

fn basis(seen: &Observed) -> Basis {
    let metadata = &seen.rollout.metadata;
    let version = |uid: &Option<String>, resource_version: &Option<String>| Version {
        uid: uid.clone().unwrap_or_default(),
        resource_version: resource_version.clone().unwrap_or_default(),
    };
    let sets = seen.sets.iter().map(|set| (set.name.clone(), set.version()));
    let services = seen.services.iter().map(|service| (service.name.clone(), service.version()));
    Basis {
        rollout: version(&metadata.uid, &metadata.resource_version),
        sets: sets.collect(),
        services: services.collect(),
    }
}

#[cfg(test)]
mod tests;
