//! The writes to the rollout itself, and which events belong to which.
//!
//! The object first (its revision number, its replicas where the user left them out), then the status.

use serde_json::{Map, Value, json};

use super::action::{RolloutPart, Urgency, Write};
use super::blue_green;
use super::event::{self, Event};
use super::metadata;
use super::observed::{Observed, ReplicaSet, Setback};
use super::revision::{NewSet, Revisions};
use super::stance::Stance;
use super::status;
use super::workload;
use crate::crd::{RolloutStatus, keys};

/// The writes that bring the rollout to its new status.
#[must_use]
pub(super) fn rollout_part(
    seen: &Observed,
    revisions: &Revisions<'_>,
    stance: &Stance,
    status: &RolloutStatus,
    events: Vec<Event>,
) -> RolloutPart {
    let object = object(seen, revisions, stance);
    // Replicas that are defaulted change the spec: what the status says is about the old one, and waits.
    let spec_changes = object.as_ref().is_some_and(|write| write.patch.get("spec").is_some());
    if spec_changes || waits_for_new_set(seen, revisions) || waits_for_fresh_start(seen, revisions, stance) {
        return RolloutPart { object, ..RolloutPart::default() };
    }
    let before = seen.rollout.status();
    let urgency = if status::is_only_counting(before, status) { Urgency::Soon } else { Urgency::Now };
    let events = in_order(seen, revisions, stance, events);
    let status = status::patch(before, status, &seen.pruned).map(|patch| Write { patch, events });
    RolloutPart { object, status, urgency, ended: None }
}

/// While the new set is about to be created there is nothing new to say. When its creation was refused, or has to wait until
/// another of its name is gone, the status goes on without it: an abort or a deadline does not wait.
fn waits_for_new_set(seen: &Observed, revisions: &Revisions<'_>) -> bool {
    match revisions.new {
        NewSet::Found(_) | NewSet::Held(_) => false,
        NewSet::Missing => {
            let collided = super::revision::collision_count(seen) != seen.rollout.status().collision_count;
            !collided && !seen.setbacks.iter().any(Setback::is_refusal)
        }
    }
}

/// The deadline that an abort left on the new set must be gone before the status forgets the abort: afterwards it would look like one
/// of a version that served, which may be gone back to without a pause.
fn waits_for_fresh_start(seen: &Observed, revisions: &Revisions<'_>, stance: &Stance) -> bool {
    let is_noted = |set: &ReplicaSet| set.annotations.contains_key(keys::SCALE_DOWN_DEADLINE);
    !stance.fresh
        && blue_green::is_tried_again(seen, stance)
        && !stance.is_promoted(revisions)
        && revisions.new_set().is_some_and(is_noted)
        && !seen.setbacks.iter().any(Setback::is_refusal)
}

fn object(seen: &Observed, revisions: &Revisions<'_>, stance: &Stance) -> Option<Write> {
    let mut patch = Map::new();
    let mut annotations = workload::notes(seen);
    let mut events = Vec::new();
    if revisions.new_set().is_some() && metadata::recorded_revision(seen) != revisions.number {
        let number = revisions.number.to_string();
        annotations.insert(keys::REVISION.to_owned(), json!(number));
        events.push(event::rollout_updated(revisions.number));
        if let Some(set) = metadata::created_for_this_revision(seen, revisions).filter(|_| stance.fresh) {
            events.push(event::replica_set_created(&set.name, revisions.number));
        }
    }
    if !annotations.is_empty() {
        patch.insert("metadata".to_owned(), json!({ "annotations": annotations }));
    }
    if seen.rollout.spec.replicas.is_none() {
        patch.insert("spec".to_owned(), json!({ "replicas": seen.rollout.spec.replicas() }));
    }
    (!patch.is_empty()).then_some(Write { patch: Value::Object(patch), events })
}

/// An update is announced before anything else that happens in it; and a set that was created at the size of its first decision
/// reads as if it had been created empty and then scaled (contract 4.4).
fn in_order(seen: &Observed, revisions: &Revisions<'_>, stance: &Stance, events: Vec<Event>) -> Vec<Event> {
    let (mut ordered, rest): (Vec<Event>, Vec<Event>) =
        events.into_iter().partition(|event| event.reason == "RolloutNotCompleted");
    let created =
        metadata::created_for_this_revision(seen, revisions).filter(|set| stance.fresh && set.replicas > 0);
    ordered
        .extend(created.map(|set| event::scaling_replica_set(&set.name, revisions.number, 0, set.replicas)));
    ordered.extend(rest);
    ordered
}
