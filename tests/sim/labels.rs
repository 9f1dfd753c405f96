//! What is put into pods: the strategy's metadata and the status label, drawn at random and changed on the way. At the end every live pod
//! bears what it should, by the spec as it then is.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use rolloutd::apiserver::Write;
use rolloutd::crd::{PodTemplateMetadata, Rollout, Strategy, keys};
use serde_json::{Value, json};

use crate::act::Actor;
use crate::cluster::{Cluster, NAMESPACE};
use crate::end::is_live;
use crate::features::template;
use crate::program::Act;

/// The label that tells the status, by the server's defaults.
const STATUS: &str = "argo-rollouts-status";

/// A label that the pod template has itself, and that the strategy may have for a role.
const TIER: &str = "tier";

/// An annotation that only the strategy may have.
const NOTE: &str = "note.test/role";

/// What is put into pods, as the rollout is created.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// Whether they carry the status label.
    pub status: bool,
    /// Metadata of the leading version, and of one that is on its way.
    pub metadata: [Option<Value>; 2],
}

impl Labels {
    /// The labels of a seed, and what is done to them later. From a generator of their own: the rest of a program is the same without.
    pub fn draw(seed: u64) -> (Self, Vec<Act>) {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x6c61_6265_6c73);
        let mut metadata = || [metadata(&mut random), metadata(&mut random)];
        let labels = Self { metadata: metadata(), status: false };
        let changes = [metadata(), metadata()];
        let labels = Self { status: random.bool(), ..labels };
        let acts = changes.into_iter().filter_map(|change| match random.u32(0..4) {
            0 => Some(Act::ChangeMetadata(change)),
            1 => Some(Act::StatusLabels(random.bool())),
            _ => None,
        });
        let acts = acts.collect();
        (labels, acts)
    }

    /// Puts them into a manifest.
    pub fn put_into(&self, manifest: &mut Value) {
        if self.status {
            manifest["metadata"]["annotations"][keys::STATUS_LABELS] = json!("true");
        }
        if self.metadata.iter().any(Option::is_some) {
            manifest["spec"]["template"]["metadata"]["labels"][TIER] = json!("own");
        }
        let strategy = &mut manifest["spec"]["strategy"];
        json_patch::merge(strategy, &self::strategy(strategy, &self.metadata));
    }
}

fn metadata(random: &mut fastrand::Rng) -> Option<Value> {
    let value = random.u32(0..3);
    match random.u32(0..4) {
        0 => Some(json!({ "labels": { TIER: format!("t{value}") } })),
        1 => Some(
            json!({ "labels": { TIER: format!("t{value}") }, "annotations": { NOTE: format!("n{value}") } }),
        ),
        _ => None,
    }
}

/// The merge patch of a strategy that gives it this metadata, and no other.
fn strategy(strategy: &Value, [leading, coming]: &[Option<Value>; 2]) -> Value {
    let whole = |metadata: &Option<Value>| match metadata {
        // A merge patch keeps what it does not name.
        Some(metadata) => json!({ "labels": metadata["labels"], "annotations": metadata["annotations"] }),
        None => Value::Null,
    };
    let (leading, coming) = (whole(leading), whole(coming));
    match strategy.get("blueGreen") {
        Some(_) => json!({ "blueGreen": { "activeMetadata": leading, "previewMetadata": coming } }),
        None => json!({ "canary": { "stableMetadata": leading, "canaryMetadata": coming } }),
    }
}

impl Actor<'_> {
    /// Changes what is put into pods.
    pub async fn relabel(&mut self, act: &Act) -> anyhow::Result<()> {
        let patch = match act {
            Act::ChangeMetadata(metadata) => {
                let stored = serde_json::to_value(self.cluster.rollout().await.spec.strategy)?;
                json!({ "spec": { "strategy": strategy(&stored, metadata) } })
            }
            Act::StatusLabels(wanted) => {
                json!({ "metadata": { "annotations": { keys::STATUS_LABELS: wanted.to_string() } } })
            }
            _ => return Ok(()),
        };
        self.change(patch).await
    }
}

/// A worker changes labels and annotations of a live pod, and nothing else of it, and never the label that pods are found by.
pub fn check_write(write: &Write<'_>) -> anyhow::Result<()> {
    let (Some(old), Some(new)) = (write.old, write.new) else {
        anyhow::bail!("a worker creates or deletes a pod")
    };
    let rest = |pod: &Value| {
        let mut pod = pod.clone();
        if let Some(metadata) = pod["metadata"].as_object_mut() {
            for field in ["labels", "annotations", "resourceVersion", "managedFields"] {
                metadata.remove(field);
            }
        }
        pod
    };
    ensure!(rest(old) == rest(new), "a worker changed more of a pod than labels and annotations");
    let hash = |pod: &Value| pod["metadata"]["labels"][keys::POD_TEMPLATE_HASH].clone();
    ensure!(hash(old) == hash(new), "a worker changed the hash of a pod");
    Ok(())
}

/// All that may be put in, of an object's metadata.
type Marks = BTreeMap<&'static str, String>;

fn marks(labels: &BTreeMap<String, String>, annotations: &BTreeMap<String, String>) -> Marks {
    let found = [(STATUS, labels), (TIER, labels), (NOTE, annotations)];
    found.into_iter().filter_map(|(key, map)| Some((key, map.get(key)?.clone()))).collect()
}

/// What pods of the stable version must bear at the end, by the spec.
fn wanted(rollout: &Rollout, template: &Value) -> Marks {
    let (metadata, status): (Option<&PodTemplateMetadata>, _) = match rollout.spec.strategy() {
        Ok(Strategy::Canary(canary)) => (canary.stable_metadata.as_ref(), "stable"),
        Ok(Strategy::BlueGreen(strategy)) => (strategy.active_metadata.as_ref(), "active"),
        Err(_) => (None, ""),
    };
    let mut wanted = Marks::new();
    if let Some(own) = template.pointer("/metadata/labels/tier").and_then(Value::as_str) {
        wanted.insert(TIER, own.to_owned());
    }
    if rollout.annotations().get(keys::STATUS_LABELS).is_some_and(|wanted| wanted == "true") {
        wanted.insert(STATUS, status.to_owned());
    }
    let none = BTreeMap::new();
    let given = metadata.map_or_else(Marks::new, |metadata| {
        marks(metadata.labels.as_ref().unwrap_or(&none), metadata.annotations.as_ref().unwrap_or(&none))
    });
    wanted.extend(given);
    wanted
}

/// Every live pod of the stable version bears what the spec wants, and so does its set's template.
pub async fn are_right(cluster: &Cluster) -> anyhow::Result<()> {
    let rollout = cluster.rollout().await;
    let wanted = wanted(&rollout, &template(cluster, &rollout).await?);
    let hash = rollout.status().stable_rs();
    let these = ListParams::default().labels(&format!("{}={hash}", keys::POD_TEMPLATE_HASH));
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    for pod in pods.list(&these).await?.items.iter().filter(|pod| is_live(pod)) {
        let found = marks(pod.labels(), pod.annotations());
        ensure!(found == wanted, "pod {} bears {found:?}, not {wanted:?}", pod.name_any());
    }
    let sets: Api<ReplicaSet> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    for set in sets.list(&these).await?.items {
        let template = set.spec.template.clone().and_then(|template| template.metadata);
        let template = template.context("a template has metadata")?;
        let found = marks(&template.labels.unwrap_or_default(), &template.annotations.unwrap_or_default());
        ensure!(found == wanted, "the template of {} bears {found:?}, not {wanted:?}", set.name_any());
        let is_withdrawing = set.annotations().contains_key(keys::WITHDRAWN_METADATA);
        ensure!(!is_withdrawing, "{} still remembers what was withdrawn", set.name_any());
    }
    Ok(())
}
