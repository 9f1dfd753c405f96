//! Carries acts out, as those who do them would: with plain patches, or over the API.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use rolloutd::crd::keys;
use rolloutd::pb::v1;
use rolloutd::pb::v1::promote_rollout_request::{From as Seen, Target};
use rolloutd::pb::v1::set_rollout_image_request::ContainerImage;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Ends, NAMESPACE};
use crate::program::{Act, Call, Deletion, Fortune, Limits, Program, Strategy};

/// How long a caller of an RPC waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody who works on the rollout.
pub struct Actor<'a> {
    pub cluster: &'a mut Cluster,
    /// The images that were set so far.
    images: Vec<String>,
    is_blue_green: bool,
}

impl<'a> Actor<'a> {
    /// Creates the rollout with its Services.
    pub async fn create(cluster: &'a mut Cluster, program: &Program) -> anyhow::Result<Self> {
        let is_blue_green = matches!(program.shape.strategy, Strategy::BlueGreen { .. });
        let actor = Self { cluster, images: vec![Fortune::Good.image(1)], is_blue_green };
        actor.create_services().await;
        let mut manifest = program.shape.manifest();
        program.shape.features.give_template_away(actor.cluster, &mut manifest).await?;
        let rollout = serde_json::from_value(manifest)?;
        actor.cluster.rollouts().create(&PostParams::default(), &rollout).await?;
        Ok(actor)
    }

    /// Does one thing. What cannot be done at the moment is left undone.
    pub async fn act(&mut self, act: &Act) -> anyhow::Result<()> {
        let now = self.cluster.now();
        self.cluster.watcher().act(&format!("{act:?}"), now);
        if act.disturbs_pods() {
            self.cluster.watcher().disturb_pods(now);
        }
        if act.disturbs_sizes(self.is_blue_green) {
            self.cluster.watcher().disturb_sizes();
        }
        match act {
            Act::Revise(_) | Act::Undo(_) => self.revise(act).await,
            Act::Abort => self.status(json!({ "abort": true })).await,
            Act::Retry => self.status(json!({ "abort": false })).await,
            Act::Promote => self.promote().await,
            Act::PromoteFull => self.status(json!({ "promoteFull": true })).await,
            Act::PromoteTo(step) => {
                self.status(
                    json!({ "pauseConditions": null, "controllerPause": false, "currentStepIndex": step }),
                )
                .await
            }
            Act::Call(call) => self.call(call).await,
            Act::Pause => self.spec(json!({ "paused": true })).await,
            Act::Resume => self.spec(json!({ "paused": false })).await,
            Act::Scale(replicas) => self.spec(json!({ "replicas": replicas })).await,
            Act::Autoscale(replicas) => self.autoscale(*replicas).await,
            Act::Restart => {
                self.spec(
                    json!({ "restartAt": self.cluster.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string() }),
                )
                .await
            }
            Act::ChangeLimits(limits) => self.limits(limits).await,
            Act::ChangeSteps(steps) => {
                self.spec(json!({ "strategy": { "canary": { "steps": steps } } })).await
            }
            Act::Invalidate => self.spec(json!({ "minReadySeconds": 900 })).await,
            Act::Annotate => self.annotate().await,
            Act::ChangeMetadata(_) | Act::StatusLabels(_) => self.relabel(act).await,
            Act::ChangeEnvironment(_) | Act::ChangeCrew(_) => self.change_features(act).await,
            Act::LabelSet(_) | Act::TakeHashFromSet(_) | Act::ResizeSet(..) | Act::DeleteSet(..) => {
                self.meddle_with_sets(act).await
            }
            Act::TakeHashFromPod(_) | Act::DeletePod(_) | Act::CrashPod(_) | Act::UnreadyPod(_) => {
                self.meddle_with_pods(act).await
            }
            Act::RedirectService | Act::DeleteService | Act::CreateServices => {
                self.meddle_with_services(act).await
            }
            _ => {
                self.fail(act);
                Ok(())
            }
        }
    }

    fn fail(&mut self, act: &Act) {
        let cluster = &mut *self.cluster;
        match act {
            Act::LoseNode(which) => {
                let nodes = cluster.simcluster.nodes();
                let node = nodes[which % nodes.len()].clone();
                cluster.simcluster.lose_node(&node).expect("it is one of its nodes");
            }
            Act::RestoreNodes => {
                for node in cluster.simcluster.nodes() {
                    cluster.simcluster.restore_node(node).expect("it is one of its nodes");
                }
            }
            Act::Quota(time) => {
                cluster.weather.impose_quota();
                cluster.until(*time, Ends::Quota);
            }
            Act::Webhook(webhook, time) => {
                cluster.weather.refuse(*webhook);
                cluster.until(*time, Ends::Webhook(*webhook));
            }
            Act::Away(time) => {
                cluster.weather.go_away();
                cluster.until(*time, Ends::Away);
            }
            Act::Part(time) => cluster.part_leader(*time),
            Act::StopLeader => cluster.stop_leader(),
            Act::Kill(writes) => cluster.doom_leader(*writes),
            _ => unreachable!("carried out elsewhere"),
        }
    }

    async fn revise(&mut self, act: &Act) -> anyhow::Result<()> {
        let image = match act {
            Act::Undo(which) => self.images[which % self.images.len()].clone(),
            Act::Revise(fortune) => self.another(*fortune),
            _ => unreachable!("carried out elsewhere"),
        };
        self.set_image(&image).await
    }

    /// The image of another version.
    fn another(&mut self, fortune: Fortune) -> String {
        let image = fortune.image(self.images.len() + 1);
        self.images.push(image.clone());
        image
    }

    pub async fn set_image(&self, image: &str) -> anyhow::Result<()> {
        let containers = json!([{ "name": "web", "image": image }]);
        let template = json!({ "spec": { "containers": containers } });
        if self.patch_workload(&template).await? {
            return Ok(());
        }
        self.spec(json!({ "template": template })).await
    }

    /// A merge patch of the spec.
    pub async fn spec(&self, patch: Value) -> anyhow::Result<()> {
        self.change(json!({ "spec": patch })).await.context("the spec")
    }

    /// A merge patch of the rollout.
    pub async fn change(&self, patch: Value) -> anyhow::Result<()> {
        self.cluster.rollouts().patch("web", &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// A merge patch of the status, as kubectl's plugin sends it.
    pub async fn status(&self, patch: Value) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({ "status": patch }));
        self.cluster
            .rollouts()
            .patch_status("web", &PatchParams::default(), &patch)
            .await
            .context("the status")?;
        Ok(())
    }

    /// As kubectl's plugin does (contract A12).
    pub async fn promote(&self) -> anyhow::Result<()> {
        let rollout = self.cluster.rollout().await;
        let status = rollout.status();
        if rollout.spec.paused() {
            self.spec(json!({ "paused": false })).await?;
        }
        match status.current_step_index {
            _ if !status.pause_conditions().is_empty() => {
                self.status(json!({ "pauseConditions": null })).await
            }
            Some(step) => self.status(json!({ "pauseConditions": null, "currentStepIndex": step + 1 })).await,
            None => Ok(()),
        }
    }

    /// Whatever the API answers, also nothing in time.
    async fn call(&mut self, call: &Call) -> anyhow::Result<()> {
        let name = format!("namespaces/{NAMESPACE}/rollouts/web");
        let mut rpc = self.cluster.rpc();
        let answer = match call {
            Call::SetImage(fortune) => {
                let images =
                    vec![ContainerImage { container: "web".to_owned(), image: self.another(*fortune) }];
                let request = v1::SetRolloutImageRequest { name, images, ..Default::default() };
                answered(rpc.set_rollout_image(request)).await
            }
            Call::Undo => {
                let request = v1::RollbackRolloutRequest { name, ..Default::default() };
                answered(rpc.rollback_rollout(request)).await
            }
            Call::Promote => {
                answered(rpc.promote_rollout(self.promotion(name, Target::Next(())).await)).await
            }
            Call::PromoteFull => {
                answered(rpc.promote_rollout(self.promotion(name, Target::Full(())).await)).await
            }
            Call::PromoteTo(step) => {
                let request = self.promotion(name, Target::ToStepIndex(*step)).await;
                answered(rpc.promote_rollout(request)).await
            }
            Call::Abort => {
                let request = v1::AbortRolloutRequest { name, ..Default::default() };
                answered(rpc.abort_rollout(request)).await
            }
            Call::Retry => {
                let request = v1::RetryRolloutRequest { name, ..Default::default() };
                answered(rpc.retry_rollout(request)).await
            }
            Call::Pause => {
                let request = v1::PauseRolloutRequest { name, ..Default::default() };
                answered(rpc.pause_rollout(request)).await
            }
            Call::Resume => {
                let request = v1::ResumeRolloutRequest { name, ..Default::default() };
                answered(rpc.resume_rollout(request)).await
            }
            Call::Scale(replicas) => {
                let request =
                    v1::ScaleRolloutRequest { name, replicas: Some(*replicas), ..Default::default() };
                answered(rpc.scale_rollout(request)).await
            }
            Call::Restart => {
                let request = v1::RestartRolloutRequest { name, ..Default::default() };
                answered(rpc.restart_rollout(request)).await
            }
        };
        let now = self.cluster.now();
        self.cluster.watcher().act(&format!("answer: {answer}"), now);
        Ok(())
    }

    /// A promotion from where the rollout is.
    async fn promotion(&self, name: String, target: Target) -> v1::PromoteRolloutRequest {
        let rollout = self.cluster.rollout().await;
        let status = rollout.status();
        let seen = Seen {
            pod_template_hash: status.current_pod_hash().to_owned(),
            step_index: status.current_step_index,
        };
        v1::PromoteRolloutRequest { name, from: Some(seen), target: Some(target), ..Default::default() }
    }

    async fn autoscale(&self, replicas: i32) -> anyhow::Result<()> {
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        self.cluster
            .rollouts()
            .patch_scale("web", &PatchParams::default(), &patch)
            .await
            .context("the scale")?;
        Ok(())
    }

    async fn limits(&self, limits: &Limits) -> anyhow::Result<()> {
        self.spec(json!({ "strategy": { "canary": limits.patch() } })).await
    }

    async fn annotate(&self) -> anyhow::Result<()> {
        let seen = self.cluster.now().to_string();
        self.change(json!({ "metadata": { "annotations": { "team.test/seen": seen }, "labels": { "team": "shop" } } })).await
    }

    async fn meddle_with_sets(&self, act: &Act) -> anyhow::Result<()> {
        let sets: Api<ReplicaSet> = self.api();
        let Some(set) = self.pick(&sets, act.which()).await? else { return Ok(()) };
        match act {
            Act::LabelSet(_) => {
                let labels = json!({ "metadata": { "labels": { "seen-by": "somebody" }, "annotations": { "seen": "yes" } } });
                patch(&sets, &set, labels).await
            }
            Act::ResizeSet(_, replicas) => {
                patch(&sets, &set, json!({ "spec": { "replicas": replicas } })).await
            }
            Act::TakeHashFromSet(_) => {
                patch(&sets, &set, json!({ "metadata": { "labels": { keys::POD_TEMPLATE_HASH: null } } }))
                    .await
            }
            Act::DeleteSet(_, Deletion::Background) => delete(&sets, &set, &DeleteParams::background()).await,
            Act::DeleteSet(_, Deletion::Foreground) => delete(&sets, &set, &DeleteParams::foreground()).await,
            Act::DeleteSet(_, Deletion::Orphan) => delete(&sets, &set, &DeleteParams::orphan()).await,
            _ => unreachable!("carried out elsewhere"),
        }
    }

    async fn meddle_with_pods(&self, act: &Act) -> anyhow::Result<()> {
        let pods: Api<Pod> = self.api();
        let (simcluster, pod) = (&self.cluster.simcluster, self.pick(&pods, act.which()).await?);
        let Some(pod) = pod else { return Ok(()) };
        match act {
            Act::TakeHashFromPod(_) => {
                let labels = json!({ "metadata": { "labels": { keys::POD_TEMPLATE_HASH: null } } });
                return patch(&pods, &pod, labels).await;
            }
            Act::DeletePod(_) => return delete(&pods, &pod, &DeleteParams::background()).await,
            // A pod that its kubelet has not seen yet cannot fail.
            Act::CrashPod(_) => drop(simcluster.crash(NAMESPACE, &pod)),
            _ => drop(simcluster.make_unready(NAMESPACE, &pod)),
        }
        Ok(())
    }

    async fn meddle_with_services(&self, act: &Act) -> anyhow::Result<()> {
        let services: Api<Service> = self.api();
        match act {
            Act::RedirectService => {
                let patch = json!({ "spec": { "selector": { keys::POD_TEMPLATE_HASH: "elsewhere" } } });
                let patched = services.patch("active", &PatchParams::default(), &Patch::Merge(patch)).await;
                unless_missing(patched)
            }
            Act::DeleteService => unless_missing(services.delete("active", &DeleteParams::default()).await),
            _ => {
                self.create_services().await;
                Ok(())
            }
        }
    }

    /// Creates the Services that are not there.
    pub async fn create_services(&self) {
        let services: Api<Service> = self.api();
        for name in ["active", "preview"] {
            let service = json!({ "metadata": { "name": name }, "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] } });
            let service = serde_json::from_value(service).expect("a Service");
            // It may be there.
            drop(services.create(&PostParams::default(), &service).await);
        }
    }

    /// Lets all pods be what their images make them.
    pub async fn heal_pods(&self) -> anyhow::Result<()> {
        let pods: Api<Pod> = self.api();
        for pod in pods.list(&ListParams::default()).await?.items {
            drop(self.cluster.simcluster.make_ready(NAMESPACE, &pod.name_any()));
        }
        Ok(())
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.cluster.client.clone(), NAMESPACE)
    }

    /// The name of one of the objects there are.
    async fn pick<K>(&self, api: &Api<K>, which: usize) -> anyhow::Result<Option<String>>
    where
        K: kube::Resource + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let all = api.list_metadata(&ListParams::default()).await?.items;
        Ok((!all.is_empty()).then(|| all[which % all.len()].name_any()))
    }
}

impl Act {
    /// The number of the object that is meant.
    fn which(&self) -> usize {
        match self {
            Self::LabelSet(which)
            | Self::ResizeSet(which, _)
            | Self::DeleteSet(which, _)
            | Self::TakeHashFromSet(which)
            | Self::TakeHashFromPod(which)
            | Self::DeletePod(which)
            | Self::CrashPod(which)
            | Self::UnreadyPod(which) => *which,
            _ => 0,
        }
    }
}

/// Somebody else may have been quicker.
fn unless_missing<T>(done: kube::Result<T>) -> anyhow::Result<()> {
    match done {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn patch<K>(api: &Api<K>, name: &str, patch: Value) -> anyhow::Result<()>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    unless_missing(api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await)
}

/// How a call ended: whatever the API answers, also nothing in time.
async fn answered<T>(call: impl Future<Output = Result<T, tonic::Status>>) -> &'static str {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(Ok(_)) => "ok",
        Ok(Err(status)) => status.code().description(),
        Err(_) => "none",
    }
}

async fn delete<K>(api: &Api<K>, name: &str, how: &DeleteParams) -> anyhow::Result<()>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    unless_missing(api.delete(name, how).await)
}
