//! What a ReplicaSet is given besides its size: its manifest, revision number and annotations (contract 4.1, 4.4).
//!
//! Absolute: computed from the rollout and compared with what is there, so that drift is repaired.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::environment;
use super::inherited::{self, Inherited};
use super::observed::{Observed, ReplicaSet};
use super::revision::{self, Revisions};
use crate::crd::{self, keys};
use crate::pod_template::{self, Apart};

/// The manifest of the new ReplicaSet (contract 4.4), without what is put into its pods.
#[must_use]
pub(super) fn new_set(seen: &Observed, revisions: &Revisions<'_>, replicas: i32) -> Value {
    let rollout = &seen.rollout;
    let hash = &revisions.hash;
    let mut template = rollout.spec.template.clone().unwrap_or_else(|| json!({}));
    let mut labels = template_labels(&template);
    labels.insert(keys::POD_TEMPLATE_HASH.to_owned(), json!(hash));
    set_labels(&mut template, &labels);
    if let Some(apart) = apart(seen, revisions) {
        pod_template::inject_anti_affinity(&mut template, apart);
    }
    environment::mount(rollout, &mut template);
    let Inherited { labels: inherited, mut annotations } =
        with_note(inherited::for_child(&rollout.metadata, |key| labels.contains_key(key)));
    labels.extend(inherited.into_iter().map(|(key, value)| (key, json!(value))));
    // It says whose the set is, whatever the template says.
    labels.shift_remove(keys::CONTROLLER_INSTANCE_ID);
    if let Some(instance) =
        rollout.metadata.labels.as_ref().and_then(|labels| labels.get(keys::CONTROLLER_INSTANCE_ID))
    {
        labels.insert(keys::CONTROLLER_INSTANCE_ID.to_owned(), json!(instance));
    }
    let mut selector = serde_json::to_value(&rollout.spec.selector).unwrap_or_default();
    if !selector.is_object() {
        selector = json!({});
    }
    selector["matchLabels"][keys::POD_TEMPLATE_HASH] = json!(hash);

    annotations.insert(keys::REVISION.to_owned(), revisions.number.to_string());
    annotations.insert(keys::DESIRED_REPLICAS.to_owned(), rollout.spec.replicas().to_string());
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": revision::set_name(seen, hash),
            "namespace": rollout.metadata.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner(seen)],
        },
        "spec": {
            "replicas": replicas,
            "minReadySeconds": rollout.spec.min_ready_seconds(),
            "selector": selector,
            "template": template,
        },
    })
}

/// What pods of a version that is on its way in keep away from: those of the stable one, where the strategy wants it so.
fn apart<'a>(seen: &'a Observed, revisions: &Revisions<'_>) -> Option<Apart<'a>> {
    let strategy = seen.rollout.spec.strategy.as_ref()?;
    let of_canary = strategy.canary.as_ref().and_then(|canary| canary.anti_affinity.as_ref());
    let of_blue_green = strategy.blue_green.as_ref().and_then(|strategy| strategy.anti_affinity.as_ref());
    let hash = seen.rollout.status().stable_rs();
    let namespace = seen.rollout.metadata.namespace.as_deref().unwrap_or_default();
    let is_another = !hash.is_empty() && hash != revisions.hash;
    of_canary.or(of_blue_green).filter(|_| is_another).map(|rules| Apart { rules, hash, namespace })
}

/// The patch of the new set's pod template after which its pods keep away from those of the stable version, where they do not yet: the
/// version was there before, and another one is stable now.
#[must_use]
pub(super) fn changed_affinity(
    seen: &Observed,
    revisions: &Revisions<'_>,
    set: &ReplicaSet,
) -> Option<Value> {
    pod_template::anti_affinity_patch(&set.template, apart(seen, revisions)?)
}

/// The owner reference that makes a set the rollout's.
#[must_use]
pub(super) fn owner(seen: &Observed) -> Value {
    json!({
        "apiVersion": crd::API_VERSION,
        "kind": crd::KIND,
        "name": seen.rollout.metadata.name,
        "uid": seen.rollout.metadata.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// The annotations of a new revision number, where the new set has another: the number, and those it had.
#[must_use]
pub(super) fn revision_annotations(revisions: &Revisions<'_>, set: &ReplicaSet) -> BTreeMap<String, String> {
    let mut wanted = BTreeMap::new();
    if set.revision() < revisions.number {
        wanted.insert(keys::REVISION.to_owned(), revisions.number.to_string());
        if let Some(former) = set.annotations.get(keys::REVISION) {
            let history =
                match set.annotations.get(keys::REVISION_HISTORY).filter(|history| !history.is_empty()) {
                    Some(history) => format!("{history},{former}"),
                    None => former.clone(),
                };
            wanted.insert(keys::REVISION_HISTORY.to_owned(), history);
        }
    }
    wanted
}

/// The new set, where it was created for the revision that it has now, rather than found or gone back to.
#[must_use]
pub(super) fn created_for_this_revision<'a>(
    seen: &Observed,
    revisions: &Revisions<'a>,
) -> Option<&'a ReplicaSet> {
    let created = seen.rollout.metadata.creation_timestamp.as_ref()?.0;
    revisions.new_set().filter(|set| {
        set.revision() == revisions.number
            && !set.annotations.contains_key(keys::REVISION_HISTORY)
            && set.created >= created
    })
}

/// The rollout's recorded revision number; 0 when it has none.
#[must_use]
pub(super) fn recorded_revision(seen: &Observed) -> i64 {
    let annotations = seen.rollout.metadata.annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(keys::REVISION))
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// What a new set inherits, with the note of it.
fn with_note(mut inherited: Inherited) -> Inherited {
    inherited.annotations.insert(keys::INHERITED.to_owned(), inherited.note());
    inherited
}

fn template_labels(template: &Value) -> Map<String, Value> {
    template.pointer("/metadata/labels").and_then(Value::as_object).cloned().unwrap_or_default()
}

/// Puts labels into a pod template, whatever shape its metadata has.
fn set_labels(template: &mut Value, labels: &Map<String, Value>) {
    let Some(template) = template.as_object_mut() else { return };
    let metadata = template.entry("metadata").or_insert_with(|| json!({}));
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata["labels"] = Value::Object(labels.clone());
}
