//! What is to be done about a rollout: one pure function from what was seen to what to write.
//!
//! No clock, no random number, no I/O, no async, no log: the same function serves the workers, dry runs, the simulator and
//! every test. It depends on L0 and on [`crate::validate`]. Its plan is absolute (counts, labels, a status; never «one
//! more»), names the versions it was made from, and is carried out by [`crate::worker`]; when a write is refused, what is
//! there is observed and planned again.

mod action;
mod blocker;
pub mod canary;
mod conditions;
pub mod event;
mod explain;
mod metadata;
mod observed;
mod phase;
pub mod replicas;
pub mod revision;
mod rollout_part;
mod sets;
pub mod stance;
pub mod status;
pub mod step;
pub mod unsupported;

use jiff::Timestamp;

pub use action::{Basis, Plan, Question, RolloutPart, SetAction, Urgency, Version, Write};
pub use blocker::{Blocker, BlockerReason, Object};
pub use event::{Event, Severity};
pub use observed::{
    Attempt, DefaultedTemplate, Observed, ReplicaSet, SetFailure, SetStatus, Setback, UNAVAILABLE,
};

use crate::crd::{CanaryStrategy, RolloutStatus, Strategy};
use crate::validate;
use conditions::Facts;
use revision::{Revisions, Unclassified};
use stance::Stance;
use status::Counts;

/// Decides all that is to be done about a rollout now.
#[must_use]
pub fn plan(seen: &Observed, now: Timestamp) -> Plan {
    let plan =
        if seen.rollout.metadata.deletion_timestamp.is_some() { Plan::default() } else { decide(seen, now) };
    Plan { basis: basis(seen), ..plan }
}

fn decide(seen: &Observed, now: Timestamp) -> Plan {
    let unsupported = unsupported::fields(&seen.rollout);
    if !unsupported.is_empty() {
        return explain::hands_off(&unsupported);
    }
    let violations = validate::rollout(&seen.rollout);
    if let Some(first) = violations.first() {
        return invalid(seen, &first.to_string(), now);
    }
    let adoptions = sets::adoptions(seen);
    if adoptions.iter().any(|action| !was_refused(seen, action)) {
        return Plan { sets: adoptions, ..Plan::default() };
    }
    // Those that cannot be adopted hold nothing up; they are tried again beside the rest.
    let plan = decide_with(seen, now);
    Plan { sets: [adoptions, plan.sets].concat(), ..plan }
}

fn was_refused(seen: &Observed, action: &SetAction) -> bool {
    let attempt = Attempt::Change(action.name().to_owned());
    seen.setbacks.iter().any(|setback| setback.attempt == attempt)
}

fn decide_with(seen: &Observed, now: Timestamp) -> Plan {
    match (revision::classify(seen), seen.rollout.spec.strategy()) {
        (Ok(revisions), Ok(Strategy::Canary(canary))) => roll_out(seen, &revisions, canary, now),
        (Err(Unclassified::NeedsDefaults), _) => {
            Plan { question: Some(Question::DefaultedTemplate), ..Plan::default() }
        }
        (Err(Unclassified::Malformed(error)), _) => invalid(seen, &error.to_string(), now),
        // Both were turned away above: blue-green as unsupported, none or both as invalid.
        (Ok(_), Ok(Strategy::BlueGreen(_)) | Err(_)) => Plan::default(),
    }
}

fn roll_out(seen: &Observed, revisions: &Revisions<'_>, canary: &CanaryStrategy, now: Timestamp) -> Plan {
    let stance = Stance::seen(seen, revisions);
    let sizing = canary::sizing(seen, revisions, &stance, canary, now);
    let progress = step::advance(seen, revisions, &stance, canary, now);

    let counts = Counts::of(seen, revisions);
    let status = status::derive(seen, revisions, &progress.stance, counts, now);
    let facts = Facts { seen, revisions, stance: &progress.stance, counts, status: &status, now };
    let (conditions, turned) = conditions::conditions(&facts);
    let deadline = conditions::deadline(&facts, &conditions);
    let status = with_conditions(seen, status.clone(), conditions);

    let mut sets = sets::sizes(seen, revisions, &stance, &sizing);
    sets.extend(sets::beyond_limit(seen, revisions));
    let blockers = explain::blockers(&facts, &status, &sizing, canary);
    let wake_at = progress.wake_at.into_iter().chain(deadline).chain(sizing.swaps_at).min();
    let rollout =
        rollout_part::rollout_part(seen, revisions, &stance, &status, [progress.events, turned].concat());
    let notices = conditions::unsaid(&facts);
    Plan { rollout, sets, blockers, notices, wake_at, ..Plan::default() }
}

/// The plan for a spec that is invalid: nothing but the status says so, and nothing else moves.
fn invalid(seen: &Observed, violation: &str, now: Timestamp) -> Plan {
    let name = seen.rollout.metadata.name.as_deref().unwrap_or_default();
    let message = format!("The Rollout {name:?} is invalid: {violation}");
    let before = seen.rollout.status();
    let observed_generation = seen.rollout.metadata.generation.map(|generation| generation.to_string());
    let status = RolloutStatus { observed_generation, ..before.clone() };
    let status = with_conditions(seen, status, conditions::invalid_spec(before, &message, now));
    Plan {
        rollout: RolloutPart {
            status: status::patch(before, &status).map(|patch| Write { patch, events: Vec::new() }),
            ..RolloutPart::default()
        },
        blockers: vec![explain::invalid_spec(&message, &status)],
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
    Basis { rollout: version(&metadata.uid, &metadata.resource_version), sets: sets.collect() }
}

#[cfg(test)]
mod tests;
