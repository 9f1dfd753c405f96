//! More of what a rollout may have: a pod template that another object holds, an environment, labels that its ReplicaSets inherit, steps that
//! plugins do. Drawn apart, so that the rest of a program is the same without; at the end all of it is as the spec has it.

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplate};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use rolloutd::crd::{Rollout, StepPluginOperation, StepPluginPhase, StepPluginStatus, keys};
use rolloutd::pb::v1::blocker::Reason;
use serde_json::{Value, json};

use crate::act::Actor;
use crate::cluster::{Cluster, NAMESPACE};
use crate::end::{explain, is_live};
use crate::plugins;
use crate::program::Act;

/// The name of what holds the pod template.
const WORKLOAD: &str = "legacy";

/// A label of the rollout that nothing else has.
const CREW: &str = "crew.test/name";

/// What a rollout has, as it is created.
#[derive(Clone, Debug, Default)]
pub struct Features {
    pub workload: Option<Workload>,
    /// Environments of the leading version, and of one that is on its way.
    pub environment: [Option<Value>; 2],
    pub has_volume: bool,
    pub crew: Option<u32>,
    /// Places of steps that plugins do, and the plugins.
    pub plugins: Vec<(usize, &'static str)>,
}

/// What holds the pod template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    PodTemplate,
    /// With when it is scaled down.
    Deployment(&'static str),
}

impl Features {
    /// Those of a seed, and what is done to them later.
    pub fn draw(seed: u64) -> (Self, Vec<Act>) {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x6665_6174_7572_6573);
        let workload = match random.u32(0..10) {
            0 => Some(Workload::PodTemplate),
            1 => Some(Workload::Deployment("never")),
            2 => Some(Workload::Deployment("onsuccess")),
            3 => Some(Workload::Deployment("progressively")),
            _ => None,
        };
        let plugins = if random.u32(0..4) == 0 { random.usize(1..=3) } else { 0 };
        let plugins =
            (0..plugins).map(|_| (random.usize(0..6), plugins::NAMES[random.usize(0..plugins::NAMES.len())]));
        let features = Self {
            workload,
            plugins: plugins.collect(),
            environment: [environment(&mut random), environment(&mut random)],
            has_volume: random.u32(0..4) == 0,
            crew: random.bool().then(|| random.u32(0..3)),
        };
        let mut acts = Vec::new();
        for _ in 0..2 {
            match random.u32(0..4) {
                0 => acts.push(Act::ChangeEnvironment([environment(&mut random), environment(&mut random)])),
                1 => acts.push(Act::ChangeCrew(random.bool().then(|| random.u32(0..3)))),
                _ => {}
            }
        }
        (features, acts)
    }

    /// Puts them into a manifest.
    pub fn put_into(&self, manifest: &mut Value) {
        let metadata = &mut manifest["metadata"];
        json_patch::merge(metadata, &environment_patch(&self.environment));
        json_patch::merge(metadata, &crew_patch(self.crew));
        if self.has_volume {
            let volume = json!({ "container": "web", "mountPath": "/etc/live" });
            metadata["annotations"][keys::ENVIRONMENT_VOLUME] = json!(volume.to_string());
        }
        if let Some(steps) = manifest.pointer_mut("/spec/strategy/canary/steps").and_then(Value::as_array_mut)
        {
            for (place, name) in &self.plugins {
                let step = json!({ "plugin": { "name": name, "config": { "place": place } } });
                steps.insert((*place).min(steps.len()), step);
            }
        }
    }

    /// Lets another object hold the pod template of a manifest, and creates that.
    pub async fn give_template_away(&self, cluster: &Cluster, manifest: &mut Value) -> anyhow::Result<()> {
        let Some(workload) = self.workload else { return Ok(()) };
        let spec = manifest["spec"].as_object_mut().context("a spec")?;
        let template = spec.remove("template").context("a template")?;
        let selector = spec["selector"].clone();
        let metadata = json!({ "name": WORKLOAD });
        match workload {
            Workload::PodTemplate => {
                let object = serde_json::from_value(json!({ "metadata": metadata, "template": template }))?;
                let api: Api<PodTemplate> = Api::namespaced(cluster.client.clone(), NAMESPACE);
                api.create(&PostParams::default(), &object).await?;
                manifest["spec"]["workloadRef"] =
                    json!({ "apiVersion": "v1", "kind": "PodTemplate", "name": WORKLOAD });
            }
            Workload::Deployment(scale_down) => {
                let spec = json!({ "replicas": HAD, "selector": selector, "template": template });
                let object = serde_json::from_value(json!({ "metadata": metadata, "spec": spec }))?;
                deployments(cluster).create(&PostParams::default(), &object).await?;
                manifest["spec"]["workloadRef"] = json!({
                    "apiVersion": "apps/v1", "kind": "Deployment", "name": WORKLOAD, "scaleDown": scale_down,
                });
            }
        }
        Ok(())
    }
}

/// How often plugins are asked in a program at most: three steps, each asked a few times in each attempt.
const MOST_CALLS: u64 = 250;

/// How many replicas the Deployment had.
const HAD: i32 = 3;

fn deployments(cluster: &Cluster) -> Api<Deployment> {
    Api::namespaced(cluster.client.clone(), NAMESPACE)
}

fn environment(random: &mut fastrand::Rng) -> Option<Value> {
    let value = random.u32(0..3);
    match random.u32(0..5) {
        0 => Some(json!({ "LEVEL": format!("l{value}") })),
        1 => Some(json!({ "LEVEL": format!("l{value}"), "FLAG": format!("a\"{value}") })),
        _ => None,
    }
}

fn environment_patch([leading, coming]: &[Option<Value>; 2]) -> Value {
    let text = |values: &Option<Value>| values.as_ref().map(Value::to_string);
    json!({ "annotations": { keys::STABLE_ENVIRONMENT: text(leading), keys::CANARY_ENVIRONMENT: text(coming) } })
}

fn crew_patch(crew: Option<u32>) -> Value {
    json!({ "labels": { CREW: crew.map(|crew| format!("c{crew}")) } })
}

impl Actor<'_> {
    /// Changes what pods find in their environment, or what ReplicaSets inherit.
    pub async fn change_features(&mut self, act: &Act) -> anyhow::Result<()> {
        let metadata = match act {
            Act::ChangeEnvironment(environment) => environment_patch(environment),
            Act::ChangeCrew(crew) => crew_patch(*crew),
            _ => return Ok(()),
        };
        self.change(json!({ "metadata": metadata })).await
    }

    /// Changes the pod template where it is. Says whether another object holds it.
    pub async fn patch_workload(&self, template: &Value) -> anyhow::Result<bool> {
        let rollout = self.cluster.rollout().await;
        let kind = rollout.spec.workload_ref.as_ref().and_then(|reference| reference.kind.as_deref());
        let params = PatchParams::default();
        match kind {
            Some("PodTemplate") => {
                let api: Api<PodTemplate> = Api::namespaced(self.cluster.client.clone(), NAMESPACE);
                api.patch(WORKLOAD, &params, &Patch::Merge(json!({ "template": template }))).await?;
            }
            Some(_) => {
                let patch = Patch::Merge(json!({ "spec": { "template": template } }));
                deployments(self.cluster).patch(WORKLOAD, &params, &patch).await?;
            }
            None => return Ok(false),
        }
        Ok(true)
    }
}

/// The pod template of a rollout, wherever it is.
pub async fn template(cluster: &Cluster, rollout: &Rollout) -> anyhow::Result<Value> {
    let Some(reference) = &rollout.spec.workload_ref else {
        return Ok(rollout.spec.template.clone().unwrap_or_default());
    };
    let template = match reference.kind.as_deref() {
        Some("PodTemplate") => {
            let api: Api<PodTemplate> = Api::namespaced(cluster.client.clone(), NAMESPACE);
            serde_json::to_value(api.get(WORKLOAD).await?.template)?
        }
        _ => serde_json::to_value(deployments(cluster).get(WORKLOAD).await?.spec.template)?,
    };
    Ok(template)
}

/// All of it is as the spec has it.
pub async fn are_right(cluster: &Cluster) -> anyhow::Result<()> {
    let rollout = cluster.rollout().await;
    is_taken_over(cluster, &rollout).await?;
    is_inherited(cluster, &rollout).await?;
    has_environment(cluster, &rollout).await?;
    ensure!(cluster.plugins().asked() < MOST_CALLS, "plugins were asked {} times", cluster.plugins().asked());
    let status = rollout.status();
    let asked = status.canary.as_ref().and_then(|canary| canary.step_plugin_statuses.as_ref());
    for entry in asked.into_iter().flatten() {
        // A Run that was left has been ended instead.
        let is_ended = |other: &StepPluginStatus| {
            other.index == entry.index && other.operation == StepPluginOperation::Terminate
        };
        let has_ended = entry.phase == Some(StepPluginPhase::Successful)
            || (entry.operation == StepPluginOperation::Run
                && asked.is_some_and(|all| all.iter().any(is_ended)));
        ensure!(has_ended, "plugin {} of step {} is left as {:?}", entry.name, entry.index, entry.phase);
    }
    Ok(())
}

async fn is_taken_over(cluster: &Cluster, rollout: &Rollout) -> anyhow::Result<()> {
    let reference = rollout.spec.workload_ref.as_ref();
    let Some(scale_down) = reference.and_then(|reference| reference.scale_down.as_ref()) else {
        return Ok(());
    };
    let deployment = deployments(cluster).get(WORKLOAD).await?;
    let replicas = deployment.spec.replicas;
    let wanted = if scale_down.as_str() == "never" { HAD } else { 0 };
    ensure!(replicas == Some(wanted), "the Deployment has {replicas:?} replicas, not {wanted}");
    Ok(())
}

async fn is_inherited(cluster: &Cluster, rollout: &Rollout) -> anyhow::Result<()> {
    let wanted = rollout.labels().get(CREW);
    let sets: Api<ReplicaSet> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    for set in sets.list(&ListParams::default().labels(keys::POD_TEMPLATE_HASH)).await?.items {
        let found = set.labels().get(CREW);
        ensure!(found == wanted, "{} inherited {found:?}, not {wanted:?}", set.name_any());
    }
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let theirs = pods.list(&ListParams::default().labels(CREW)).await?.items;
    ensure!(theirs.is_empty(), "pods inherit what is for ReplicaSets");
    Ok(())
}

/// Pods of the stable version find what the rollout says, unless that was taken back, which is told.
async fn has_environment(cluster: &Cluster, rollout: &Rollout) -> anyhow::Result<()> {
    if explain(cluster).await?.iter().any(|blocker| blocker.reason() == Reason::EnvironmentTakenBack) {
        return Ok(());
    }
    let stated = rollout.annotations().get(keys::STABLE_ENVIRONMENT);
    let values: Option<std::collections::BTreeMap<String, String>> =
        stated.map(|text| serde_json::from_str(text)).transpose()?;
    let line = |(name, value): (&String, &String)| format!("{name}=\"{}\"\n", value.replace('"', "\\\""));
    let wanted: Option<String> = values.as_ref().map(|values| values.iter().map(line).collect());
    let hash = rollout.status().stable_rs();
    let these = ListParams::default().labels(&format!("{}={hash}", keys::POD_TEMPLATE_HASH));
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    for pod in pods.list(&these).await?.items.iter().filter(|pod| is_live(pod)) {
        let found = pod.annotations().get(keys::ENVIRONMENT);
        ensure!(found == wanted.as_ref(), "pod {} finds {found:?}, not {wanted:?}", pod.name_any());
    }
    Ok(())
}
