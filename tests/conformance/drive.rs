//! The ways to move a rollout: RPCs, and the patches that kubectl and Argo Rollouts' plugin send (contract 4.11, A12).

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use rolloutd::crd::{Rollout, keys};
use rolloutd::pb::v1;
use rolloutd::pb::v1::promote_rollout_request::{From as Seen, Target};
use serde_json::{Value, json};

use crate::role;
use crate::world::{Rights, World, image};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// What kubectl and its plugin write, sent by a plain client.
    Patches,
    /// The API.
    Rpcs,
}

impl Driver {
    pub const ALL: [Self; 2] = [Self::Patches, Self::Rpcs];
}

pub struct Drive<'a> {
    pub world: &'a World,
    pub driver: Driver,
}

/// Calls a method with the rollout's name and the given fields; it must succeed.
macro_rules! call {
    ($drive:ident.$method:ident($request:ident { $($field:ident: $value:expr),* $(,)? })) => {{
        let request = v1::$request { name: $drive.name(), $($field: $value,)* ..Default::default() };
        let answer = $drive.world.rpc().$method(request).await;
        answer.unwrap_or_else(|status| panic!("{}: {status:?}", stringify!($method))).into_inner()
    }};
}

/// Whether a ReplicaSet's pods are of a version.
fn is_of(version: &str, set: &ReplicaSet) -> bool {
    let template = set.spec.template.as_ref().and_then(|template| template.spec.as_ref());
    template.is_some_and(|spec| spec.containers[0].image == Some(image(version)))
}

impl Drive<'_> {
    /// Compares what was foretold after the last operation with what came of it until now, where anything was.
    pub async fn interrupt(&self) {
        if let Some(foretold) = &self.world.foretold {
            foretold.interrupt().await;
        }
    }

    /// Has foretold what comes of an operation, where that is to be compared.
    async fn foretell(&self, operation: &str) {
        if let Some(foretold) = &self.world.foretold {
            foretold.ask(self.world, operation).await;
        }
    }

    /// The rollout's name in the API.
    pub fn name(&self) -> String {
        format!("namespaces/{}/rollouts/web", self.world.namespace)
    }

    pub async fn create(&self, manifest: Value) {
        self.interrupt().await;
        match (self.driver, self.world.rights) {
            (Driver::Rpcs, Rights::All) => {
                let applied = self.apply(&manifest).await.expect("it is applied");
                assert_eq!(applied.objects.len(), 1);
            }
            (Driver::Rpcs, Rights::ArgoRollouts) => {
                let refused = self.apply(&manifest).await.expect_err("no server creates rollouts there");
                role::lacks(&refused, "create", &self.world.namespace);
                self.create_by_client(manifest).await;
            }
            (Driver::Patches, _) => self.create_by_client(manifest).await,
        }
        self.foretell("create").await;
    }

    async fn create_by_client(&self, manifest: Value) {
        let rollout = serde_json::from_value(manifest).expect("a rollout");
        self.world.rollouts().create(&PostParams::default(), &rollout).await.expect("it is created");
    }

    async fn apply(&self, manifest: &Value) -> Result<v1::ApplyManifestResponse, tonic::Status> {
        let request = v1::ApplyManifestRequest {
            parent: format!("namespaces/{}", self.world.namespace),
            manifest: manifest.to_string(),
            ..Default::default()
        };
        self.world.rpc().apply_manifest(request).await.map(tonic::Response::into_inner)
    }

    /// Creates Services that select the rollout's pods.
    pub async fn create_services(&self, names: &[&str]) {
        self.interrupt().await;
        let manifests = names.iter().map(|name| {
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
                "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] } })
        });
        match self.driver {
            Driver::Patches => {
                for manifest in manifests {
                    let service: Service = serde_json::from_value(manifest).unwrap();
                    self.services().create(&PostParams::default(), &service).await.expect("it is created");
                }
            }
            Driver::Rpcs => {
                let request = v1::ApplyManifestRequest {
                    parent: format!("namespaces/{}", self.world.namespace),
                    manifest: manifests
                        .map(|manifest| manifest.to_string())
                        .collect::<Vec<_>>()
                        .join("\n---\n"),
                    ..Default::default()
                };
                self.world.rpc().apply_manifest(request).await.expect("they are applied");
            }
        }
        self.foretell("create_services").await;
    }

    pub fn services(&self) -> Api<Service> {
        Api::namespaced(self.world.client.clone(), &self.world.namespace)
    }

    /// The hash that a Service selects; empty when it selects none.
    pub async fn selected(&self, service: &str) -> String {
        let service = self.services().get(service).await.expect("it exists");
        let selector = service.spec.and_then(|spec| spec.selector).unwrap_or_default();
        selector.get(keys::POD_TEMPLATE_HASH).cloned().unwrap_or_default()
    }

    /// The image of the pods that a Service selects by their version.
    pub async fn served_by(&self, service: &str) -> String {
        let hash = self.selected(service).await;
        let sets = self.sets().await;
        let set = sets.iter().find(|set| set.labels().get(keys::POD_TEMPLATE_HASH) == Some(&hash));
        let template = set.and_then(|set| set.spec.template.as_ref()).expect("its version exists");
        let image = template.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        image.rsplit(':').next().unwrap().to_owned()
    }

    /// The hash of the ReplicaSet with this version.
    pub async fn hash_of(&self, version: &str) -> String {
        let sets = self.sets().await;
        let set = sets.iter().find(|set| is_of(version, set)).expect("its version exists");
        set.labels().get(keys::POD_TEMPLATE_HASH).cloned().expect("its label")
    }

    /// spec.replicas of the ReplicaSet with this version.
    pub async fn replicas(&self, version: &str) -> i32 {
        let sets = self.sets().await;
        let replicas = sets.iter().filter(|set| is_of(version, set)).filter_map(|set| set.spec.replicas);
        replicas.sum()
    }

    /// Deletes it, and waits until it is gone with everything below it.
    pub async fn delete(&self) {
        self.interrupt().await;
        let propagation = v1::delete_rollout_request::Propagation::Foreground.into();
        match (self.driver, self.world.rights) {
            (Driver::Rpcs, Rights::All) => {
                call!(self.delete_rollout(DeleteRolloutRequest { propagation: propagation }));
            }
            (Driver::Rpcs, Rights::ArgoRollouts) => {
                let request =
                    v1::DeleteRolloutRequest { name: self.name(), propagation, ..Default::default() };
                let refused = self.world.rpc().delete_rollout(request).await;
                role::lacks(
                    &refused.expect_err("no server deletes rollouts there"),
                    "delete",
                    &self.world.namespace,
                );
                self.delete_by_client().await;
            }
            (Driver::Patches, _) => self.delete_by_client().await,
        }
        let gone = kube::runtime::wait::await_condition(
            self.world.rollouts(),
            "web",
            |rollout: Option<&Rollout>| rollout.is_none(),
        );
        gone.await.expect("the watch works");
    }

    async fn delete_by_client(&self) {
        let deleted = self.world.rollouts().delete("web", &DeleteParams::foreground()).await;
        deleted.expect("it is deleted");
    }

    pub async fn set_image(&self, version: &str) {
        self.interrupt().await;
        let (container, image) = ("web".to_owned(), image(version));
        match self.driver {
            Driver::Patches => {
                let containers = json!([{ "name": container, "image": image }]);
                self.spec(json!({ "template": { "spec": { "containers": containers } } })).await;
            }
            Driver::Rpcs => {
                let images = vec![v1::set_rollout_image_request::ContainerImage { container, image }];
                call!(self.set_rollout_image(SetRolloutImageRequest { images: images }));
            }
        }
        self.foretell("set_image").await;
    }

    pub async fn scale(&self, replicas: i32) {
        self.interrupt().await;
        match self.driver {
            Driver::Patches => self.spec(json!({ "replicas": replicas })).await,
            Driver::Rpcs => {
                call!(self.scale_rollout(ScaleRolloutRequest { replicas: Some(replicas) }));
            }
        }
        self.foretell("scale").await;
    }

    pub async fn pause(&self) {
        self.interrupt().await;
        match self.driver {
            Driver::Patches => self.spec(json!({ "paused": true })).await,
            Driver::Rpcs => {
                call!(self.pause_rollout(PauseRolloutRequest {}));
            }
        }
        self.foretell("pause").await;
    }

    pub async fn resume(&self) {
        self.interrupt().await;
        match self.driver {
            Driver::Patches => self.spec(json!({ "paused": false })).await,
            Driver::Rpcs => {
                call!(self.resume_rollout(ResumeRolloutRequest {}));
            }
        }
        self.foretell("resume").await;
    }

    pub async fn abort(&self) {
        self.interrupt().await;
        match self.driver {
            Driver::Patches => self.status(json!({ "abort": true })).await,
            Driver::Rpcs => {
                call!(self.abort_rollout(AbortRolloutRequest {}));
            }
        }
        self.foretell("abort").await;
    }

    pub async fn retry(&self) {
        self.interrupt().await;
        match self.driver {
            Driver::Patches => self.status(json!({ "abort": false })).await,
            Driver::Rpcs => {
                call!(self.retry_rollout(RetryRolloutRequest {}));
            }
        }
        self.foretell("retry").await;
    }

    pub async fn promote(&self) {
        self.interrupt().await;
        if self.driver == Driver::Rpcs {
            self.promote_by_rpc(Target::Next(())).await;
            return self.foretell("promote").await;
        }
        let rollout = self.world.rollouts().get("web").await.expect("it exists");
        let status = rollout.status();
        if rollout.spec.paused() {
            self.resume().await;
        }
        if !status.pause_conditions().is_empty() {
            self.status(json!({ "pauseConditions": null })).await;
        } else if let Some(step) = status.current_step_index {
            self.status(json!({ "pauseConditions": null, "currentStepIndex": step + 1 })).await;
        }
        self.foretell("promote").await;
    }

    pub async fn promote_full(&self) {
        self.interrupt().await;
        match self.driver {
            Driver::Patches => self.status(json!({ "promoteFull": true })).await,
            Driver::Rpcs => self.promote_by_rpc(Target::Full(())).await,
        }
        self.foretell("promote_full").await;
    }

    pub async fn promote_to(&self, step: i32) {
        self.interrupt().await;
        match self.driver {
            Driver::Patches => {
                let patch =
                    json!({ "pauseConditions": null, "controllerPause": false, "currentStepIndex": step });
                self.status(patch).await;
            }
            Driver::Rpcs => self.promote_by_rpc(Target::ToStepIndex(step)).await,
        }
        self.foretell("promote_to").await;
    }

    async fn promote_by_rpc(&self, target: Target) {
        let from = self.seen().await;
        call!(self.promote_rollout(PromoteRolloutRequest { from: Some(from), target: Some(target) }));
    }

    /// What a client sees before it promotes.
    pub async fn seen(&self) -> Seen {
        let rollout = self.world.rollouts().get("web").await.expect("it exists");
        let status = rollout.status();
        Seen {
            pod_template_hash: status.current_pod_hash().to_owned(),
            step_index: status.current_step_index,
        }
    }

    /// Puts the pod template of an earlier revision back.
    pub async fn undo(&self, revision: i64) {
        self.interrupt().await;
        match self.driver {
            Driver::Patches => self.undo_by_patch(revision).await,
            Driver::Rpcs => {
                let pod_template_hash = self.seen().await.pod_template_hash;
                let from = v1::rollback_rollout_request::From { pod_template_hash };
                call!(
                    self.rollback_rollout(RollbackRolloutRequest { from: Some(from), to_revision: revision })
                );
            }
        }
        self.foretell("undo").await;
    }

    async fn undo_by_patch(&self, revision: i64) {
        let sets = self.sets().await;
        let of_revision =
            |set: &&ReplicaSet| set.annotations().get(keys::REVISION) == Some(&revision.to_string());
        let set = sets.iter().find(of_revision).expect("the revision exists");
        let mut template = serde_json::to_value(&set.spec.template).unwrap();
        template["metadata"]["labels"].as_object_mut().unwrap().remove(keys::POD_TEMPLATE_HASH);
        let patch =
            serde_json::from_value(json!([{ "op": "replace", "path": "/spec/template", "value": template }]));
        let patch: Patch<Value> = Patch::Json(patch.expect("a JSON patch"));
        self.world.rollouts().patch("web", &PatchParams::default(), &patch).await.expect("it is patched");
    }

    /// Changes the strategy.
    pub async fn canary(&self, canary: Value) {
        self.interrupt().await;
        self.spec(json!({ "strategy": { "canary": canary } })).await;
        self.foretell("canary").await;
    }

    /// The ReplicaSets there are, by name.
    pub async fn sets(&self) -> Vec<ReplicaSet> {
        let sets: Api<ReplicaSet> = Api::namespaced(self.world.client.clone(), &self.world.namespace);
        sets.list(&ListParams::default()).await.expect("sets are listed").items
    }

    /// Asks for a restart of pods that were created before a time.
    pub async fn restart(&self, at: Timestamp) {
        self.interrupt().await;
        match self.driver {
            Driver::Patches => self.spec(json!({ "restartAt": rolloutd::crd::Time::from(at) })).await,
            Driver::Rpcs => {
                let restart_time = prost_types::Timestamp { seconds: at.as_second(), nanos: 0 };
                call!(self.restart_rollout(RestartRolloutRequest { restart_time: Some(restart_time) }));
            }
        }
        self.foretell("restart").await;
    }

    /// What the rollout waits for, in the words of the API.
    pub async fn blockers(&self) -> Vec<String> {
        let request = v1::GetRolloutTreeRequest { name: self.name() };
        let tree = self.world.rpc().get_rollout_tree(request).await.expect("it is shown").into_inner().tree;
        tree.unwrap().blockers.into_iter().map(|blocker| blocker.message).collect()
    }

    /// Replaces the strategy whole.
    pub async fn strategy(&self, strategy: Value) {
        self.interrupt().await;
        let patch =
            serde_json::from_value(json!([{ "op": "replace", "path": "/spec/strategy", "value": strategy }]));
        let patch: Patch<Value> = Patch::Json(patch.expect("a JSON patch"));
        self.world.rollouts().patch("web", &PatchParams::default(), &patch).await.expect("it is patched");
        self.foretell("strategy").await;
    }

    async fn spec(&self, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.world.rollouts().patch("web", &PatchParams::default(), &patch).await.expect("it is patched");
    }

    async fn status(&self, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        self.world
            .rollouts()
            .patch_status("web", &PatchParams::default(), &patch)
            .await
            .expect("it is patched");
    }
}
