//! Autoscalers look at a rollout, and size it, through its scale subresource alone (contract 4.8).

use kube::Client;
use kube::api::{Patch, PatchParams};
use rolloutd::crd::{Rollout, RolloutPhase};
use rolloutd::pb::v1;
use serde_json::{Value, json};

use crate::drive::{Drive, Driver};
use crate::scenarios::{endless, healthy, is, paused_at};
use crate::world::{World, image, manifest, manifest_of};

on_both! {
    a_canary_is_scaled_in_the_middle_of_its_update
    a_blue_green_rollout_is_scaled_by_its_active_version
    replicas_that_are_left_out_are_written_back_and_then_the_autoscalers
}

async fn request(client: &Client, method: &str, path: &str, body: &Value) -> Value {
    try_request(client, method, path, body).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
}

async fn try_request(client: &Client, method: &str, path: &str, body: &Value) -> kube::Result<Value> {
    let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request = http::Request::builder().method(method).uri(path).header("content-type", content_type);
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = request.body(body).expect("a request");
    client.request(request).await
}

/// The rollout's Scale, as an autoscaler sees it.
struct Scale<'a> {
    world: &'a World,
}

impl Scale<'_> {
    fn path(&self) -> String {
        format!("/apis/argoproj.io/v1alpha1/namespaces/{}/rollouts/web/scale", self.world.namespace)
    }

    async fn get(&self) -> Value {
        request(&self.world.client, "GET", &self.path(), &Value::Null).await
    }

    /// As `kubectl scale` does it.
    async fn patch(&self, replicas: i32) {
        let patch = json!({ "spec": { "replicas": replicas } });
        request(&self.world.client, "PATCH", &self.path(), &patch).await;
    }

    /// As the HorizontalPodAutoscaler does it.
    async fn put(&self, replicas: i32) {
        // It tries again where somebody was quicker.
        loop {
            let mut scale = self.get().await;
            scale["spec"]["replicas"] = json!(replicas);
            match try_request(&self.world.client, "PUT", &self.path(), &scale).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Checks what it says: the pods that count, and how they are found.
    async fn says(&self, wanted: i32, replicas: i32, selector: &str) {
        let scale = self.get().await;
        assert_eq!(scale["spec"]["replicas"], json!(wanted), "{scale}");
        assert_eq!(scale["status"], json!({ "replicas": replicas, "selector": selector }), "{scale}");
    }
}

fn has(replicas: i32) -> impl Fn(&Rollout) -> bool {
    move |rollout| {
        let status = rollout.status();
        status.hpa_replicas == Some(replicas)
            && status.available_replicas == Some(replicas)
            && status.observed_generation() == rollout.metadata.generation
    }
}

async fn a_canary_is_scaled_in_the_middle_of_its_update(world: World) {
    let (drive, scale) = (Drive { world: &world, driver: Driver::Patches }, Scale { world: &world });
    drive.create(manifest(5, endless())).await;
    healthy(&drive).await;
    scale.says(5, 5, "app=web").await;
    drive.set_image("v2").await;
    paused_at(&drive, 1).await;
    assert_eq!((drive.replicas("v1").await, drive.replicas("v2").await), (3, 2));
    // The pods of both versions count, and both are found.
    scale.says(5, 5, "app=web").await;
    scale.patch(10).await;
    world.until("ten pods", has(10)).await;
    assert_eq!((drive.replicas("v1").await, drive.replicas("v2").await), (6, 4), "the weight is kept");
    paused_at(&drive, 1).await;
    scale.put(5).await;
    world.until("five pods", has(5)).await;
    assert_eq!((drive.replicas("v1").await, drive.replicas("v2").await), (3, 2));
    scale.says(5, 5, "app=web").await;
    world.finish().await;
}

async fn a_blue_green_rollout_is_scaled_by_its_active_version(world: World) {
    let (drive, scale) = (Drive { world: &world, driver: Driver::Patches }, Scale { world: &world });
    drive.create_services(&["active", "preview"]).await;
    let strategy = json!({ "blueGreen": { "activeService": "active", "previewService": "preview",
        "autoPromotionEnabled": false, "scaleDownDelaySeconds": 3600 } });
    drive.create(manifest_of(2, strategy)).await;
    healthy(&drive).await;
    let old = format!("app=web,rollouts-pod-template-hash={}", drive.hash_of("v1").await);
    scale.says(2, 2, &old).await;
    drive.set_image("v2").await;
    world.until("the preview up", |rollout| rollout.status().updated_replicas == Some(2)).await;
    // Four pods are there; those of the active version count.
    scale.says(2, 2, &old).await;
    scale.put(3).await;
    let is_paused = is(RolloutPhase::Paused);
    world
        .until("three pods serve", |rollout| is_paused(rollout) && rollout.status().hpa_replicas == Some(3))
        .await;
    drive.promote().await;
    healthy(&drive).await;
    let new = format!("app=web,rollouts-pod-template-hash={}", drive.hash_of("v2").await);
    scale.says(3, 3, &new).await;
    world.finish().await;
}

/// A manifest as a GitOps tool has it where an autoscaler sizes the rollout.
fn without_replicas(version: &str) -> Value {
    let mut manifest = manifest(0, json!({}));
    manifest["spec"].as_object_mut().unwrap().remove("replicas");
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image(version));
    manifest
}

async fn apply(world: &World, manifest: &Value) {
    let request = v1::ApplyManifestRequest {
        parent: format!("namespaces/{}", world.namespace),
        manifest: manifest.to_string(),
        ..Default::default()
    };
    world.rpc().apply_manifest(request).await.expect("it is applied");
}

async fn replicas_that_are_left_out_are_written_back_and_then_the_autoscalers(world: World) {
    let (drive, scale) = (Drive { world: &world, driver: Driver::Patches }, Scale { world: &world });
    apply(&world, &without_replicas("v1")).await;
    let rollout = healthy(&drive).await;
    assert_eq!(rollout.spec.replicas, Some(1), "without them there is no Scale");
    scale.put(3).await;
    world.until("three pods", has(3)).await;

    // Through us, and by a GitOps tool that applies on its own.
    apply(&world, &without_replicas("v2")).await;
    world.until("updated", |rollout| rollout.status().updated_replicas == Some(3)).await;
    let rollout = healthy(&drive).await;
    assert_eq!(rollout.spec.replicas, Some(3));
    let gitops = Patch::Merge(json!({ "spec": without_replicas("v3")["spec"] }));
    let params =
        PatchParams { field_manager: Some("argocd-controller".to_owned()), ..PatchParams::default() };
    world.rollouts().patch("web", &params, &gitops).await.expect("it is applied");
    healthy(&drive).await;
    assert_eq!(drive.replicas("v3").await, 3);
    scale.says(3, 3, "app=web").await;

    // Somebody takes them away: the number is written back, and the rollout stays as large as a rollout without one is.
    let none = Patch::Merge(json!({ "spec": { "replicas": null } }));
    world.rollouts().patch("web", &PatchParams::default(), &none).await.expect("it is patched");
    world.until("one pod", has(1)).await;
    scale.says(1, 1, "app=web").await;
    world.finish().await;
}
