//! The writes to ReplicaSets: creation, adoption, sizes and metadata in one patch each, and the end of old revisions.
//!
//! Existing sets are resized only once the status that was seen belongs to the current spec, so that an operator always sees the
//! reason for a move before the move.

use serde_json::{Map, Value, json};

use super::action::{SetAction, Write};
use super::event;
use super::inherited::{self, Role};
use super::injected::{self, Injections, SetChange};
use super::metadata;
use super::observed::{Observed, ReplicaSet};
use super::revision::{self, NewSet, Revisions};
use super::sizing::{Deadline, Sizing};
use super::stance::Stance;
use crate::crd::{Time, keys};

/// Takes over sets that the selector matches and that nobody controls.
#[must_use]
pub(super) fn adoptions(seen: &Observed) -> Vec<SetAction> {
    let adopt = |set: &ReplicaSet| {
        let mut owners = set.owners.clone();
        owners.push(metadata::owner(seen));
        SetAction::Adopt {
            name: set.name.clone(),
            version: set.version(),
            patch: json!({ "metadata": { "ownerReferences": owners } }),
        }
    };
    seen.orphans.iter().filter(|set| !set.terminating).map(|set| adopt(set)).collect()
}

/// All writes to sets.
#[must_use]
pub(super) fn actions(
    seen: &Observed,
    revisions: &Revisions<'_>,
    stance: &Stance,
    sizing: &Sizing,
    injections: &Injections<'_>,
) -> Vec<SetAction> {
    let mut sets = sizes(seen, revisions, stance, sizing, injections);
    let surplus = beyond_limit(seen, revisions);
    // What goes need not be changed.
    sets.retain(|action| !surplus.iter().any(|going| going.name() == action.name()));
    sets.extend(surplus);
    sets
}

/// Creates the new set, and brings every set to its size and metadata: the stable set first, then the new one, then the
/// others, as the reference does.
fn sizes(
    seen: &Observed,
    revisions: &Revisions<'_>,
    stance: &Stance,
    sizing: &Sizing,
    injections: &Injections<'_>,
) -> Vec<SetAction> {
    let mut actions = Vec::new();
    if let Some(set) = revisions.stable_apart().filter(|_| !stance.fresh) {
        let mut change = Change::to(set, set.revision());
        change.size(sizing.stable);
        change.leading(seen, sizing);
        change.deadline(sizing.deadlines.stable);
        change.inherit(seen, Role::Older);
        change.inject(injections);
        actions.extend(change.action());
    }
    match revisions.new {
        NewSet::Missing => {
            let mut object = metadata::new_set(seen, revisions, sizing.first);
            injected::put_in(seen, revisions, &mut object);
            actions.push(SetAction::Create { name: revision::set_name(seen, &revisions.hash), object });
        }
        NewSet::Held(_) => {}
        NewSet::Found(set) => {
            let size = if stance.fresh { set.replicas } else { sizing.new };
            let mut change = Change::to(set, revisions.number);
            change.size(size);
            change.leading(seen, sizing);
            if !stance.fresh {
                change.deadline(sizing.deadlines.new);
            }
            change.inherit(seen, Role::New);
            for (key, value) in metadata::revision_annotations(revisions, set) {
                change.annotate(&key, json!(value));
            }
            if set.min_ready_seconds != seen.rollout.spec.min_ready_seconds() {
                change
                    .spec
                    .insert("minReadySeconds".to_owned(), json!(seen.rollout.spec.min_ready_seconds()));
            }
            if let Some(template) = metadata::changed_affinity(seen, revisions, set) {
                change.template(template);
            }
            change.inject(injections);
            change.after = revisions.stable_apart().filter(|_| sizing.swaps).map(|set| set.name.clone());
            actions.extend(change.action());
        }
    }
    if stance.fresh {
        return actions;
    }
    let others = sizing.others.iter().zip(&sizing.deadlines.others);
    for (set, (&size, &deadline)) in revisions.others.iter().zip(others) {
        let mut change = Change::to(set, set.revision());
        change.deadline(deadline);
        change.inherit(seen, Role::Older);
        if change.size(size) == Resized::Yes {
            change.annotate(keys::DESIRED_REPLICAS, json!(seen.rollout.spec.replicas().to_string()));
        }
        change.inject(injections);
        actions.extend(change.action());
    }
    actions
}

/// Deletes the oldest of the sets that are neither new nor stable, as far as there are more than the history limit and they
/// have no pods (contract: revisionHistoryLimit).
fn beyond_limit(seen: &Observed, revisions: &Revisions<'_>) -> Vec<SetAction> {
    let limit = usize::try_from(seen.rollout.spec.revision_history_limit()).unwrap_or(0);
    let mut oldest_first = revisions.others.clone();
    oldest_first.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    let surplus = oldest_first.len().saturating_sub(limit);
    let is_done = |set: &&&ReplicaSet| {
        set.replicas == 0 && set.status.replicas == 0 && set.status.observed_generation >= set.generation
    };
    let delete = |set: &&ReplicaSet| SetAction::Delete { name: set.name.clone(), version: set.version() };
    oldest_first.iter().take(surplus).filter(is_done).map(delete).collect()
}

/// Whether a change resizes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resized {
    Yes,
    No,
}

/// A change to one set, gathered into one patch.
struct Change<'a> {
    set: &'a ReplicaSet,
    revision: i64,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
    spec: Map<String, Value>,
    events: Vec<event::Event>,
    after: Option<String>,
    /// What is written where something else is.
    beside: inherited::Changes,
}

impl<'a> Change<'a> {
    fn to(set: &'a ReplicaSet, revision: i64) -> Self {
        let mut labels = Map::new();
        if !set.labels.contains_key(keys::POD_TEMPLATE_HASH) && !set.hash().is_empty() {
            // Somebody took it away; without it neither we nor Argo Rollouts would see the set.
            labels.insert(keys::POD_TEMPLATE_HASH.to_owned(), json!(set.hash()));
        }
        let (annotations, spec) = (Map::new(), Map::new());
        let beside = inherited::Changes::default();
        Self { set, revision, labels, annotations, spec, events: Vec::new(), after: None, beside }
    }

    fn annotate(&mut self, key: &str, value: Value) {
        self.annotations.insert(key.to_owned(), value);
    }

    fn size(&mut self, size: i32) -> Resized {
        if size == self.set.replicas {
            return Resized::No;
        }
        self.spec.insert("replicas".to_owned(), json!(size));
        if size == 0 {
            self.deadline(Deadline::Clear);
        }
        let event = event::scaling_replica_set(&self.set.name, self.revision, self.set.replicas, size);
        self.events.push(event);
        Resized::Yes
    }

    /// What only the new and the stable set carry: the replicas they were sized for (contract 4.1). While an update is held by hand
    /// they are recorded last, since until then they say that resizing is not done.
    fn leading(&mut self, seen: &Observed, sizing: &Sizing) {
        let replicas = seen.rollout.spec.replicas();
        let done = !seen.rollout.spec.paused() || !sizing.changes;
        if done && self.set.desired_replicas() != Some(replicas) {
            self.annotate(keys::DESIRED_REPLICAS, json!(replicas.to_string()));
        }
    }

    /// What it inherits of the rollout, where it has not.
    fn inherit(&mut self, seen: &Observed, role: Role) {
        let changes = inherited::changes(&seen.rollout.metadata, self.set, role);
        match changes.can_wait {
            true => self.beside = changes,
            false => {
                self.labels.extend(changes.labels);
                self.annotations.extend(changes.annotations);
            }
        }
    }

    fn deadline(&mut self, deadline: Deadline) {
        let (time, mark) = match deadline {
            Deadline::Keep => return,
            Deadline::Clear => (None, None),
            Deadline::At(time) => (Some(time), None),
            Deadline::Unpromoted(time) => (Some(time), Some("true".to_owned())),
        };
        self.note(keys::SCALE_DOWN_DEADLINE, time.map(|time| Time::from(time).to_string()).as_ref());
        self.note(keys::UNPROMOTED, mark.as_ref());
    }

    /// What is put into its pods.
    fn inject(&mut self, injections: &Injections<'_>) {
        let Some(SetChange { annotations, template, events }) = injections.change(self.set) else { return };
        self.events.extend_from_slice(events);
        for (key, value) in annotations {
            self.annotate(key, value.clone());
        }
        if let Some(template) = template {
            self.template(template.clone());
        }
    }

    /// A part of a patch of its pod template; what another part has is none of it.
    fn template(&mut self, part: Value) {
        let template = self.spec.entry("template").or_insert_with(|| json!({}));
        if let (Some(template), Value::Object(part)) = (template.as_object_mut(), part) {
            template.extend(part);
        }
    }

    /// Annotates, where it is not annotated so.
    fn note(&mut self, key: &str, value: Option<&String>) {
        if self.set.annotations.get(key) != value {
            self.annotate(key, json!(value));
        }
    }

    fn action(mut self) -> Option<SetAction> {
        if !(self.labels.is_empty() && self.annotations.is_empty() && self.spec.is_empty()) {
            self.labels.extend(self.beside.labels);
            self.annotations.extend(self.beside.annotations);
        }
        let mut patch = Map::new();
        let mut metadata = Map::new();
        for (field, values) in [("labels", self.labels), ("annotations", self.annotations)] {
            if !values.is_empty() {
                metadata.insert(field.to_owned(), Value::Object(values));
            }
        }
        if !metadata.is_empty() {
            patch.insert("metadata".to_owned(), Value::Object(metadata));
        }
        if !self.spec.is_empty() {
            patch.insert("spec".to_owned(), Value::Object(self.spec));
        }
        (!patch.is_empty()).then(|| SetAction::Patch {
            name: self.set.name.clone(),
            version: self.set.version(),
            write: Write { patch: Value::Object(patch), events: self.events },
            after: self.after,
        })
    }
}
