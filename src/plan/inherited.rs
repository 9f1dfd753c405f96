//! What a rollout's children inherit of its labels and annotations (docs/labels.md): the children's own metadata, never a pod template, so
//! that no pod restarts for it.
//!
//! What a ReplicaSet got is noted on it, by digests, so that a change of the Rollout's reaches it later and what others put there is
//! neither overwritten nor taken away: a three-way merge of what the rollout has, what the set has, and what was given to it. Annotations
//! reach the new set as in the reference (contract 4.1). Pure, like all of [`super`]; written by [`super::metadata`] and [`super::sets`].

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::event::{self, Event};
use super::injected;
use super::observed::{Observed, ReplicaSet};
use crate::crd::keys;
use crate::hash::digest;
use crate::validate::{self, Inheritance};

/// Keys that say what an object itself is to a controller or a client: those of a rollout would be false on its children (contract 4.1).
const NOT_COPIED: [&str; 10] = [
    keys::POD_TEMPLATE_HASH,
    keys::CONTROLLER_INSTANCE_ID,
    keys::REVISION,
    keys::REVISION_HISTORY,
    keys::DESIRED_REPLICAS,
    keys::NOTIFIED,
    keys::EPHEMERAL_METADATA,
    keys::SCALE_DOWN_DEADLINE,
    keys::RESTARTED_AFTER,
    // Written anew whenever the workload is scaled: it says nothing about the set.
    keys::WORKLOAD_GENERATION,
];

/// Prefixes of the keys by which tools know what they applied, and would prune on children; and our own, which speak of the Rollout.
const NOT_INHERITED_PREFIXES: [&str; 7] = [
    "kubectl.kubernetes.io",
    "argocd.argoproj.io",
    "meta.helm.sh",
    "helm.sh",
    "kustomize.toolkit.fluxcd.io",
    "helm.toolkit.fluxcd.io",
    "rolloutd.dev",
];

/// Further keys of such tools.
const TRACKING: [&str; 2] = ["app.kubernetes.io/instance", "app.kubernetes.io/managed-by"];

/// Labels and annotations that a child inherits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Inherited {
    /// What a new child is to note of it, also where it inherits nothing: a ReplicaSet without a note is one that another controller made.
    #[must_use]
    pub fn note(&self) -> String {
        Note::of(&self.labels, &self.annotations).text()
    }
}

/// What a child inherits of a rollout. Of its own template, where it is made from one, it has the labels that `is_of_template` knows: those
/// stand.
#[must_use]
pub fn for_child(rollout: &ObjectMeta, is_of_template: impl Fn(&str) -> bool) -> Inherited {
    let chosen = |map: Option<&BTreeMap<String, String>>, policy: &Inheritance| {
        let chosen = map.into_iter().flatten().filter(|(key, _)| is_heritable(key) && policy.permits(key));
        chosen.map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>()
    };
    let policy = |key| Inheritance::stated(rollout, key);
    let mut labels = chosen(rollout.labels.as_ref(), &policy(keys::INHERIT_LABELS));
    labels.retain(|key, _| !is_of_template(key));
    let annotations = chosen(rollout.annotations.as_ref(), &policy(keys::INHERIT_ANNOTATIONS));
    Inherited { labels, annotations }
}

fn is_heritable(key: &str) -> bool {
    let prefix = key.split_once('/').map(|(prefix, _)| prefix);
    !NOT_COPIED.contains(&key)
        && !TRACKING.contains(&key)
        && prefix.is_none_or(|prefix| !NOT_INHERITED_PREFIXES.contains(&prefix))
}

/// What a rollout says in its metadata that cannot be obeyed, once for as long as it says so.
pub(super) fn notices(seen: &Observed) -> impl Iterator<Item = Event> {
    let violations = validate::metadata(&seen.rollout).into_iter();
    violations.map(|violation| event::metadata_ignored(&violation.to_string()))
}

/// What a ReplicaSet is to a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The one that has its pod template: it gets the Rollout's annotations whatever it has (contract 4.1), unless it has them from us.
    New,
    /// An older one: it keeps the annotations that it got as the newest, which say what it was made from.
    Older,
}

/// Changes to a set's metadata, as parts of a merge patch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Changes {
    pub labels: Map<String, Value>,
    pub annotations: Map<String, Value>,
    /// Whether they are no reason for a write of their own: a set that another controller left as it is gets labels with the next write that
    /// it needs anyway, so that taking a rollout over writes nothing.
    pub can_wait: bool,
}

/// What is to be changed on a set, so that it has what it inherits.
#[must_use]
pub(super) fn changes(rollout: &ObjectMeta, set: &ReplicaSet, role: Role) -> Changes {
    let own = injected::own_labels(set);
    let wanted = for_child(rollout, |key| own.contains_key(key));
    let noted = set.annotations.get(keys::INHERITED).and_then(|text| Note::read(text));
    let note = noted.clone().unwrap_or_default();
    let labels = Merge::of(&wanted.labels, &set.labels, &note.labels, Foreign::Kept);
    // As the reference left it: its annotations are the Rollout's, its labels the template's or somebody's.
    let foreign = if noted.is_none() { Foreign::Replaced } else { Foreign::Kept };
    let annotations = match role {
        Role::New => Merge::of(&wanted.annotations, &set.annotations, &note.annotations, foreign),
        Role::Older => Merge { changes: Map::new(), given: note.annotations },
    };
    if labels.changes.is_empty() && annotations.changes.is_empty() {
        return Changes::default();
    }
    let can_wait = noted.is_none() && annotations.changes.is_empty();
    let mut changes = Changes { labels: labels.changes, annotations: annotations.changes, can_wait };
    let new = Note { labels: labels.given, annotations: annotations.given };
    if noted.as_ref() != Some(&new) {
        changes.annotations.insert(keys::INHERITED.to_owned(), json!(new.text()));
    }
    changes
}

/// What becomes of a value that the note does not know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Foreign {
    /// It is somebody's.
    Kept,
    /// It is ours.
    Replaced,
}

/// A three-way merge.
struct Merge {
    /// What is to be set, or taken away (null).
    changes: Map<String, Value>,
    /// Digests of what was given then.
    given: BTreeMap<String, String>,
}

impl Merge {
    fn of(
        wanted: &BTreeMap<String, String>,
        present: &BTreeMap<String, String>,
        noted: &BTreeMap<String, String>,
        foreign: Foreign,
    ) -> Self {
        let is_ours = |key: &str, value: &str| noted.get(key).is_some_and(|noted| *noted == digest(value));
        let (mut changes, mut given) = (Map::new(), BTreeMap::new());
        for (key, value) in wanted {
            let may_give = |present: &String| is_ours(key, present) || foreign == Foreign::Replaced;
            if !present.get(key).is_none_or(may_give) {
                continue;
            }
            given.insert(key.clone(), digest(value));
            if present.get(key) != Some(value) {
                changes.insert(key.clone(), json!(value));
            }
        }
        for key in noted.keys().filter(|key| !wanted.contains_key(*key)) {
            if present.get(key).is_some_and(|present| is_ours(key, present)) {
                changes.insert(key.clone(), Value::Null);
            }
        }
        Self { changes, given }
    }
}

/// What was given to a child: a digest of each value, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
struct Note {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl Note {
    fn of(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> Self {
        let digests = |map: &BTreeMap<String, String>| {
            map.iter().map(|(key, value)| (key.clone(), digest(value))).collect()
        };
        Self { labels: digests(labels), annotations: digests(annotations) }
    }

    /// What somebody else wrote there is no note of ours.
    fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn text(&self) -> String {
        json!(self).to_string()
    }
}

#[cfg(test)]
mod tests;
