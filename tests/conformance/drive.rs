//! The ways to move a rollout: RPCs, and the patches that kubectl and Argo Rollouts' plugin send (contract 4.11, A12).

use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use rolloutd::crd::{Rollout, keys};
use serde_json::{Value, json};

use crate::world::{World, image};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// What kubectl and its plugin write, sent by a plain client.
    Patches,
}

pub struct Drive<'a> {
    pub world: &'a World,
    pub driver: Driver,
}

impl Drive<'_> {
    pub async fn create(&self, manifest: Value) {
        let rollout = serde_json::from_value(manifest).expect("a rollout");
        self.world.rollouts().create(&PostParams::default(), &rollout).await.expect("it is created");
    }

    /// Deletes it, and waits until it is gone with everything below it.
    pub async fn delete(&self) {
        self.world.rollouts().delete("web", &DeleteParams::foreground()).await.expect("it is deleted");
        let gone = kube::runtime::wait::await_condition(
            self.world.rollouts(),
            "web",
            |rollout: Option<&Rollout>| rollout.is_none(),
        );
        gone.await.expect("the watch works");
    }

    pub async fn set_image(&self, version: &str) {
        self.spec(
            json!({ "template": { "spec": { "containers": [{ "name": "web", "image": image(version) }] } } }),
        )
        .await;
    }

    pub async fn scale(&self, replicas: i32) {
        self.spec(json!({ "replicas": replicas })).await;
    }

    pub async fn pause(&self) {
        self.spec(json!({ "paused": true })).await;
    }

    pub async fn resume(&self) {
        self.spec(json!({ "paused": false })).await;
    }

    pub async fn abort(&self) {
        self.status(json!({ "abort": true })).await;
    }

    pub async fn retry(&self) {
        self.status(json!({ "abort": false })).await;
    }

    pub async fn promote(&self) {
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
    }

    pub async fn promote_full(&self) {
        self.status(json!({ "promoteFull": true })).await;
    }

    pub async fn promote_to(&self, step: i32) {
        self.status(json!({ "pauseConditions": null, "controllerPause": false, "currentStepIndex": step }))
            .await;
    }

    /// Puts the pod template of an earlier revision back.
    pub async fn undo(&self, revision: i64) {
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
        self.spec(json!({ "strategy": { "canary": canary } })).await;
    }

    /// The ReplicaSets there are, by name.
    pub async fn sets(&self) -> Vec<ReplicaSet> {
        let sets: Api<ReplicaSet> = Api::namespaced(self.world.client.clone(), &self.world.namespace);
        sets.list(&ListParams::default()).await.expect("sets are listed").items
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
