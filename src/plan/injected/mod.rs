//! What is put into the pods of a ReplicaSet besides what its template has of its own: the strategy's ephemeral metadata (contract A2,
//! A3, 4.1), the status label, and the environment ([`super::environment`]).
//!
//! None of it is in the rollout's template or in its hash. It is in the template of the set, so that pods are born with it, and the set
//! records it (`record`), so that it is taken out again, and left out where templates are compared. What a template has itself under
//! such a key is kept there and comes back. Live pods follow their set (`pods`). Who puts something in is said in `source`.

mod metadata;
mod pods;
mod record;
mod source;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub use metadata::Metadata;
pub use pods::Wanted;

use super::action::PodAction;
use super::blocker::{Blocker, BlockerReason, Object};
use super::environment;
use super::event::{self, Event};
use super::observed::{Observed, ReplicaSet};
use super::revision::Revisions;
use crate::crd::LabelSelector;
use crate::pod_template::{remove_annotations, remove_labels};
use metadata::MetadataPatch;
use record::Record;
use source::{Role, Target};

/// How far the live pods of a rollout have what they should, where anything is put into them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelling {
    /// Pods that live, by the status of their sets.
    pub pods: i32,
    /// Those of them that have not yet what their version's status asks for.
    pub lacking: i32,
    /// Whether all have, and no set is left that remembers what was withdrawn.
    pub is_settled: bool,
    /// The status label, where pods carry one.
    pub status_label: Option<StatusLabel>,
}

/// The status label of a rollout's pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusLabel {
    /// Its key.
    pub key: String,
    /// Whether the pod template or the strategy has a label of this key itself, which stands.
    pub is_anothers: bool,
}

/// What is to be written to a ReplicaSet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SetChange {
    /// Annotations; null takes one away.
    pub(super) annotations: Vec<(&'static str, Value)>,
    /// A JSON merge patch of its pod template.
    pub(super) template: Option<Value>,
    /// What it amounts to, where that is to be told.
    pub(super) events: Vec<Event>,
}

/// What becomes of what is put into the pods of one set.
struct Injection<'a> {
    set: &'a ReplicaSet,
    /// What the set lacks, or has too much.
    change: SetChange,
    environment: environment::Decision,
    /// Whether the set records something.
    is_recorded: bool,
}

/// What becomes of what is put into the pods of each set: decided once a plan.
pub(super) struct Injections<'a>(Vec<Injection<'a>>);

impl<'a> Injections<'a> {
    pub(super) fn decide(seen: &Observed, revisions: &Revisions<'a>, now: Timestamp) -> Self {
        Self(revisions.all().map(|set| inject(seen, revisions, set, now)).collect())
    }

    /// What is to be written to a set.
    pub(super) fn change(&self, set: &ReplicaSet) -> Option<&SetChange> {
        self.0.iter().find(|injection| injection.set.name == set.name).map(|injection| &injection.change)
    }

    /// How far the pods have what they should; `None` where nothing is put into them.
    pub(super) fn labelling(&self, seen: &Observed, revisions: &Revisions<'_>) -> Option<Labelling> {
        let status_label = source::has_status_label(seen).then(|| StatusLabel {
            key: seen.settings.status_labels.key.clone(),
            is_anothers: source::is_anothers(seen, &own_of_newest(seen, revisions)),
        });
        let is_unchanged = |injection: &Injection<'_>| injection.change == SetChange::default();
        let is_settled = seen.labels_settled && self.0.iter().all(is_unchanged);
        let is_recorded = self.0.iter().any(|injection| injection.is_recorded);
        let is_used = status_label.is_some() || !is_settled || is_recorded;
        let mut labelling = Labelling { pods: 0, lacking: 0, is_settled, status_label };
        for Injection { set, change, .. } in &self.0 {
            let replicas = set.status.replicas.max(0);
            let lacking = match change.template {
                Some(_) => replicas,
                None => i32::try_from(pods::lacking(seen, set).count()).unwrap_or(i32::MAX),
            };
            labelling.pods = labelling.pods.saturating_add(replicas);
            labelling.lacking = labelling.lacking.saturating_add(lacking);
        }
        // Pods and the status that counts them are seen one after the other.
        labelling.pods = labelling.pods.max(labelling.lacking);
        is_used.then_some(labelling)
    }

    /// Why pods have another environment than the one that is stated, and when pods need not be watched any more.
    pub(super) fn environments(&self) -> (Vec<Blocker>, Option<Timestamp>) {
        let wake_at = self.0.iter().filter_map(|injection| injection.environment.wake_at).min();
        let blocker = |injection: &Injection<'_>| environment::blocker(injection.set, &injection.environment);
        (self.0.iter().filter_map(blocker).collect(), wake_at)
    }
}

fn inject<'a>(
    seen: &Observed,
    revisions: &Revisions<'_>,
    set: &'a ReplicaSet,
    now: Timestamp,
) -> Injection<'a> {
    let before = Record::of(set);
    let own = own(seen, revisions, set, &before);
    let role = Role::of(seen, revisions, set.hash());
    let decision = environment::of_set(seen, set, role.side(), now);
    let environment = environment::annotations(&set.template, decision.effective.as_ref());
    let target = Target { role, own: &own, selector: &set.selector, environment: &environment };
    let injected = source::wanted(seen, target);
    let noted = decision.noted(set);
    let is_recorded = !before.is_empty();
    if injected.is_empty() && !is_recorded && noted.is_none() {
        return Injection { set, change: SetChange::default(), environment: decision, is_recorded };
    }
    let template = Metadata::of_template(&set.template);
    let mut patch = MetadataPatch::default();
    for (kind, key) in before.injected.keys().chain(injected.keys()) {
        let value = injected.get(kind, key).or_else(|| own.get(kind, key));
        if template.get(kind, key) != value {
            patch.set(kind, key, value);
        }
    }
    let after = Record {
        overridden: overridden(&own, &injected),
        withdrawn: withdrawn(seen, set, &before, &injected),
        injected,
    };
    let annotations = before.changed_to(&after).into_iter().chain(noted);
    let taken_back = decision.taken_back_for.iter();
    let change = SetChange {
        annotations: annotations.map(|(key, value)| (key, json!(value))).collect(),
        template: patch.finish(),
        events: taken_back.map(|pod| event::environment_taken_back(&set.name, pod)).collect(),
    };
    Injection { set, change, environment: decision, is_recorded }
}

/// What a set's template has itself. Argo Rollouts overwrites values of it and notes none: those of the newest version stand in the
/// rollout's template, for as long as it is the newest.
fn own(seen: &Observed, revisions: &Revisions<'_>, set: &ReplicaSet, record: &Record) -> Metadata {
    let mut own = record.own(&set.template);
    let is_newest = revisions.new_set().is_some_and(|new| new.name == set.name);
    if let Some(template) = seen.rollout.spec.template.as_ref().filter(|_| is_newest) {
        let mut overwritten = Metadata::of_template(template);
        let copied = copied(seen, template, set, record);
        overwritten.retain(|kind, key| {
            record.injected.has(kind, key) && !record.overridden.has(kind, key) && !copied.has(kind, key)
        });
        own.extend(&overwritten);
    }
    own
}

/// What a template has itself under the keys of what is put in.
fn overridden(own: &Metadata, injected: &Metadata) -> Metadata {
    let mut overridden = own.clone();
    overridden.retain(|kind, key| injected.has(kind, key));
    overridden
}

/// What pods of a set may have and must lose: what was put in and is not any more, until all pods are seen without it.
fn withdrawn(seen: &Observed, set: &ReplicaSet, before: &Record, injected: &Metadata) -> Metadata {
    let has_pods = set.replicas > 0 || set.status.replicas > 0 || !set.is_observed();
    let mut withdrawn = if seen.labels_settled { Metadata::default() } else { before.withdrawn.clone() };
    if has_pods {
        withdrawn.extend(&before.injected);
    }
    withdrawn.retain(|kind, key| has_pods && !injected.has(kind, key));
    for map in [&mut withdrawn.labels, &mut withdrawn.annotations] {
        map.values_mut().for_each(String::clear);
    }
    withdrawn
}

/// The labels that a set's template has itself.
pub(super) fn own_labels(set: &ReplicaSet) -> std::collections::BTreeMap<String, String> {
    Record::of(set).own(&set.template).labels
}

/// Puts what belongs there into the manifest of the new set.
pub(super) fn put_in(seen: &Observed, revisions: &Revisions<'_>, manifest: &mut Value) {
    let own = Record::default().own(&manifest["spec"]["template"]);
    let none = LabelSelector::default();
    let role = Role::of(seen, revisions, &revisions.hash);
    let environment = environment::of_new_set(seen, role.side());
    let environment = environment::annotations(&manifest["spec"]["template"], environment.as_ref());
    let target = Target {
        role,
        own: &own,
        selector: seen.rollout.spec.selector.as_ref().unwrap_or(&none),
        environment: &environment,
    };
    let injected = source::wanted(seen, target);
    for (kind, key) in injected.keys() {
        manifest["spec"]["template"]["metadata"][kind.field()][key] = json!(injected.get(kind, key));
    }
    let record = Record { overridden: overridden(&own, &injected), injected, ..Record::default() };
    for (key, value) in Record::default().changed_to(&record) {
        manifest["metadata"]["annotations"][key] = json!(value);
    }
}

/// Takes out of a set's template what the set records as put in, and gives it back what was there before.
pub(super) fn take_out(template: &mut Value, set: &ReplicaSet) {
    let record = Record::of(set);
    remove_labels(template, record.injected.labels.keys());
    remove_annotations(template, record.injected.annotations.keys());
    for (kind, key) in record.overridden.keys() {
        let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) else { continue };
        let entries = metadata.entry(kind.field()).or_insert_with(|| Value::Object(Map::new()));
        entries[key] = json!(record.overridden.get(kind, key));
    }
}

/// Takes out of a template what somebody copied into it with a set's template: going back to a version by its set. The set may have been
/// given another value since.
pub(super) fn take_out_copied(seen: &Observed, template: &mut Value, set: &ReplicaSet) {
    let copied = copied(seen, template, set, &Record::of(set));
    remove_labels(template, copied.labels.keys());
    remove_annotations(template, copied.annotations.keys());
}

/// What was put into a set and stands in another template with a value that a version can have been given.
fn copied(seen: &Observed, template: &Value, set: &ReplicaSet, record: &Record) -> Metadata {
    let (given, of_set) = (Metadata::of_template(template), Metadata::of_template(&set.template));
    let mut copied = record.injected.clone();
    copied.retain(|kind, key| {
        let value = given.get(kind, key);
        let is_copied = value == of_set.get(kind, key)
            || value.is_some_and(|value| source::could_give(seen, kind, key, value));
        !record.overridden.has(kind, key) && is_copied
    });
    copied
}

/// What the newest version's template has itself.
fn own_of_newest(seen: &Observed, revisions: &Revisions<'_>) -> Metadata {
    match revisions.new_set() {
        Some(set) => own(seen, revisions, set, &Record::of(set)),
        None => seen.rollout.spec.template.as_ref().map(Metadata::of_template).unwrap_or_default(),
    }
}

/// The next pods to change.
pub(super) fn pod_actions(seen: &Observed, revisions: &Revisions<'_>) -> Vec<PodAction> {
    pods::actions(seen, revisions)
}

/// What there is to be said about it.
pub(super) fn notices(labelling: Option<&Labelling>) -> Vec<Event> {
    let label = labelling.and_then(|labelling| labelling.status_label.as_ref());
    let is_anothers = label.filter(|label| label.is_anothers);
    is_anothers.map(|label| event::status_label_is_anothers(&label.key)).into_iter().collect()
}

/// Why it is not done yet.
pub(super) fn blocker(labelling: &Labelling) -> Option<Blocker> {
    let Labelling { pods, lacking, .. } = labelling;
    let labelled = pods - lacking;
    (*lacking > 0).then(|| Blocker {
        reason: BlockerReason::Relabelling,
        object: Object::Rollout,
        condition: format!("pods labelled {labelled}/{pods}"),
        since: None,
        message: format!(
            "pods are given the labels and annotations of what their version is now: {labelled} of {pods} have them"
        ),
        next: "the others follow, a few at a time, and none restarts".to_owned(),
        next_at: None,
    })
}
