//! Which ReplicaSet is which: the new one, the stable one, and the rest; and what number the new revision has.
//!
//! Hashes are byte-exact, adoption does not depend on them (contract, first fact): a hash in a status that belongs to the
//! current spec is kept whatever algorithm made it. [`super::step`] goes on from here.

use std::sync::Arc;

use serde_json::Value;

use super::injected;
use super::observed::{Attempt, Observed, ReplicaSet, Setback};
use super::workload;
use crate::crd::{ConditionStatus, ConditionType, RolloutStatus};
use crate::hash::{self, HashError};
use crate::pod_template::{self, Sameness, UnknownFields};

/// The sets of a rollout by what they are to it.
#[derive(Clone, Debug)]
pub struct Revisions<'a> {
    /// The set that has the pod template of the spec.
    pub new: NewSet<'a>,
    /// The pod template hash that the new set has, or will have.
    pub hash: String,
    /// The hash of the canary steps; empty for other strategies.
    pub step_hash: String,
    /// The set that status.stableRS names, where it exists; may be the new one.
    pub stable: Option<&'a ReplicaSet>,
    /// Sets that are neither, newest revision first.
    pub others: Vec<&'a ReplicaSet>,
    /// The revision number that the new set must have.
    pub number: i64,
}

/// The set that has the pod template of the spec.
#[derive(Clone, Copy, Debug)]
pub enum NewSet<'a> {
    /// It exists.
    Found(&'a ReplicaSet),
    /// It must be created.
    Missing,
    /// Its name is held by a set that is being deleted; it is created once that is gone.
    Held(&'a ReplicaSet),
}

impl<'a> Revisions<'a> {
    /// The new set, where it exists.
    #[must_use]
    pub fn new_set(&self) -> Option<&'a ReplicaSet> {
        match self.new {
            NewSet::Found(set) => Some(set),
            NewSet::Missing | NewSet::Held(_) => None,
        }
    }

    /// The stable set, where it exists and is not the new one.
    #[must_use]
    pub fn stable_apart(&self) -> Option<&'a ReplicaSet> {
        self.stable.filter(|stable| self.new_set().is_none_or(|new| new.name != stable.name))
    }

    /// All sets that are neither being deleted nor forgotten: new, stable and others.
    pub fn all(&self) -> impl Iterator<Item = &'a ReplicaSet> {
        self.new_set().into_iter().chain(self.stable_apart()).chain(self.others.iter().copied())
    }
}

/// Why the sets cannot be told apart.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unclassified {
    /// Whether an existing set has the spec's template depends on the server's defaults, which must be asked for.
    #[error("the pod template must be compared with the server's defaults applied")]
    NeedsDefaults,
    /// The pod template or the steps hold a value that cannot be encoded.
    #[error(transparent)]
    Malformed(#[from] HashError),
}

/// Tells the sets apart.
///
/// # Errors
///
/// [`Unclassified`] when something must be asked or mended first.
pub fn classify(seen: &Observed) -> Result<Revisions<'_>, Unclassified> {
    let mut alive: Vec<&ReplicaSet> =
        seen.sets.iter().map(Arc::as_ref).filter(|set| !set.terminating).collect();
    alive.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));

    let status = seen.rollout.status();
    let (hash, found) = find_new(seen, &alive)?;
    let name = set_name(seen, &hash);
    let held = seen.sets.iter().find(|set| set.terminating && set.name == name);
    let new = match (found, held) {
        (Some(set), _) => NewSet::Found(set),
        (None, Some(set)) => NewSet::Held(set),
        (None, None) => NewSet::Missing,
    };
    let is_new = |set: &ReplicaSet| found.is_some_and(|new| new.name == set.name);
    let stable = found
        .filter(|new| new.hash() == status.stable_rs())
        .or_else(|| alive.iter().copied().find(|set| set.hash() == status.stable_rs()))
        .filter(|_| !status.stable_rs().is_empty());

    let mut others: Vec<&ReplicaSet> = alive
        .iter()
        .copied()
        .filter(|set| !is_new(set) && stable.is_none_or(|stable| stable.name != set.name))
        .collect();
    others.sort_by_key(|set| std::cmp::Reverse((set.revision(), set.created)));

    let last = seen.sets.iter().filter(|set| !is_new(set)).map(|set| set.revision()).max().unwrap_or(0);
    let number = found.map_or(0, ReplicaSet::revision).max(last.saturating_add(1));
    Ok(Revisions { new, hash, step_hash: step_hash(seen)?, stable, others, number })
}

/// The name that the set with this hash has (contract 4.4).
#[must_use]
pub fn set_name(seen: &Observed, hash: &str) -> String {
    format!("{}-{hash}", seen.rollout.metadata.name.as_deref().unwrap_or_default())
}

/// Whether the update goes back to one of the last versions, as far back as spec.rollbackWindow says (contract 4.7): what counts is how
/// many others were made between it and the stable one, whether they were ever stable or not.
#[must_use]
pub(super) fn is_within_window(seen: &Observed, revisions: &Revisions<'_>) -> bool {
    let window = seen.rollout.spec.rollback_window.as_ref().and_then(|window| window.revisions);
    let window = window.and_then(|window| usize::try_from(window).ok()).unwrap_or(0);
    let (Some(new), Some(stable)) = (revisions.new_set(), revisions.stable_apart()) else { return false };
    let is_between = |set: &&&ReplicaSet| new.is_older_than(set) && set.is_older_than(stable);
    new.is_older_than(stable) && revisions.others.iter().filter(is_between).count() < window
}

/// Whether a controller has seen the current spec, and where another object holds its pod template that one's.
#[must_use]
pub fn is_seen(seen: &Observed) -> bool {
    is_own_seen(seen) && workload::is_seen(seen)
}

/// Whether a controller has seen the rollout's own spec.
fn is_own_seen(seen: &Observed) -> bool {
    seen.rollout.status().observed_generation() == seen.rollout.metadata.generation
}

/// Whether the status says that the current spec is invalid.
#[must_use]
pub(super) fn is_known_invalid(seen: &Observed) -> bool {
    is_seen(seen) && says_invalid(seen)
}

/// Whether the status says that the spec that it is about is invalid.
fn says_invalid(seen: &Observed) -> bool {
    let condition = seen.rollout.status().condition(&ConditionType::InvalidSpec);
    condition.is_some_and(|condition| condition.status == ConditionStatus::True)
}

/// Whether the status is about the current spec. One that says that the spec is invalid says nothing else of it: hashes
/// and step in it are those of the spec before.
#[must_use]
fn is_observed(seen: &Observed) -> bool {
    is_seen(seen) && !is_known_invalid(seen)
}

fn step_hash(seen: &Observed) -> Result<String, HashError> {
    let status = seen.rollout.status();
    // Steps are the rollout's own: a workload that changes, if only in its replicas, does not bring them into question.
    if is_own_seen(seen) && !says_invalid(seen) && !status.current_step_hash().is_empty() {
        return Ok(status.current_step_hash().to_owned());
    }
    let Some(canary) = seen.rollout.spec.strategy.as_ref().and_then(|strategy| strategy.canary.as_ref())
    else {
        return Ok(String::new());
    };
    let steps = match &canary.steps {
        None => Value::Null,
        Some(steps) => serde_json::to_value(steps).unwrap_or_default(),
    };
    hash::effective_step_hash(&steps).map(|hash| hash.to_string())
}

fn find_new<'a>(
    seen: &Observed,
    alive: &[&'a ReplicaSet],
) -> Result<(String, Option<&'a ReplicaSet>), Unclassified> {
    let by_hash = |hash: &str| alive.iter().copied().find(|set| set.hash() == hash);
    let status = seen.rollout.status();
    if is_observed(seen) && !status.current_pod_hash().is_empty() && !collides(seen, status) {
        return Ok((status.current_pod_hash().to_owned(), by_hash(status.current_pod_hash())));
    }
    let template = seen.rollout.spec.template.as_ref().unwrap_or(&Value::Null);
    let hash = hash::effective_template_hash(template, collision_count(seen))?.to_string();
    if let Some(set) = by_hash(&hash) {
        return Ok((hash, Some(set)));
    }
    let same = alive.iter().copied().find_map(|set| match same_template(seen, template, set) {
        Ok(true) => Some(Ok(set)),
        Ok(false) => None,
        Err(unclassified) => Some(Err(unclassified)),
    });
    match same.transpose()? {
        Some(set) => Ok((set.hash().to_owned(), Some(set))),
        None => Ok((hash, None)),
    }
}

/// The collision count that the new set's hash is made with: one more than recorded, when the recorded one collided.
#[must_use]
pub fn collision_count(seen: &Observed) -> Option<i32> {
    let recorded = seen.rollout.status().collision_count;
    if collides(seen, seen.rollout.status()) {
        Some(recorded.unwrap_or(0).saturating_add(1))
    } else {
        recorded
    }
}

/// Whether the name that the recorded collision count leads to turned out to be taken.
fn collides(seen: &Observed, status: &RolloutStatus) -> bool {
    let is_taken = |setback: &Setback| matches!(setback.attempt, Attempt::Collide(_));
    if !seen.setbacks.iter().any(is_taken) {
        // Nearly always: the template need not be hashed then.
        return false;
    }
    let template = seen.rollout.spec.template.as_ref().unwrap_or(&Value::Null);
    let Ok(hash) = hash::effective_template_hash(template, status.collision_count) else { return false };
    let name = set_name(seen, &hash.to_string());
    seen.setbacks.iter().any(|setback| matches!(&setback.attempt, Attempt::Collide(taken) if *taken == name))
}

/// Whether a set was made from `template`, whatever its hash says.
fn same_template(seen: &Observed, template: &Value, set: &ReplicaSet) -> Result<bool, Unclassified> {
    let live = stripped(set);
    // Who goes back to a version by copying its set's template copies what we put into that, too.
    let mut wanted = template.clone();
    pod_template::remove_injected_anti_affinity(&mut wanted);
    injected::take_out_copied(seen, &mut wanted, set);
    pod_template::remove_injected_environment(&mut wanted);
    match pod_template::compare(&wanted, &live, UnknownFields::Count) {
        Sameness::Same => Ok(true),
        Sameness::Different { .. } => Ok(false),
        Sameness::Undecided => match seen.defaulted.as_ref().filter(|answer| *answer.given == *template) {
            Some(answer) => Ok(answer.stored.as_deref().is_some_and(|stored| {
                let mut stored = stored.clone();
                injected::take_out_copied(seen, &mut stored, set);
                pod_template::compare(&stored, &live, UnknownFields::Count) == Sameness::Same
            })),
            None => Err(Unclassified::NeedsDefaults),
        },
    }
}

/// A set's pod template without what controllers put into it: the template that the user wrote, with defaults.
#[must_use]
pub fn stripped(set: &ReplicaSet) -> Value {
    let mut template = (*set.template).clone();
    pod_template::remove_hash_label(&mut template);
    pod_template::remove_injected_anti_affinity(&mut template);
    injected::take_out(&mut template, set);
    pod_template::remove_injected_environment(&mut template);
    template
}

/// A ReplicaSet with the spec's template that is never created: what the server makes of its template shows the defaults.
/// `None` where the template cannot be encoded.
#[must_use]
pub fn sample_set(seen: &Observed) -> Option<Value> {
    let revisions = Revisions {
        new: NewSet::Missing,
        hash: "defaults".to_owned(),
        step_hash: String::new(),
        stable: None,
        others: Vec::new(),
        number: 0,
    };
    seen.rollout.spec.template.as_ref()?;
    Some(super::metadata::new_set(seen, &revisions, 0))
}

/// The pod template of a set that was made by [`sample_set`], without what we put into it.
#[must_use]
pub fn sampled_template(set: &Value) -> Option<Value> {
    let mut template = set.pointer("/spec/template")?.clone();
    pod_template::remove_hash_label(&mut template);
    pod_template::remove_injected_anti_affinity(&mut template);
    pod_template::remove_injected_environment(&mut template);
    Some(template)
}
