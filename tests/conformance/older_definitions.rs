//! Definitions of Rollouts that are older than fields of the status: the server prunes them from what is written, and nobody goes on
//! writing them.

use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use rolloutd::crd::{self, Rollout, RolloutPhase};
use serde_json::{Value, json};

use crate::drive::{Drive, Driver};
use crate::kubernetes;
use crate::scenarios::{endless, healthy, in_virtual_time, is, paused_at};
use crate::world::{World, manifest};

/// What the definition of a cluster that was set up long ago does not know of a status: what has always been compared, what comes with
/// every abort, and what came last.
const UNKNOWN: [&str; 4] = ["duration", "abortedAt", "message", "phase"];

fn older() -> Vec<CustomResourceDefinition> {
    let mut definitions = serde_json::to_value(crd::definitions()).unwrap();
    let rollouts = &mut definitions[0]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    // Argo Rollouts' definition keeps no fields of a status that it does not know.
    rollouts["status"].as_object_mut().unwrap().shift_remove("x-kubernetes-preserve-unknown-fields");
    let status = rollouts["status"]["properties"].as_object_mut().expect("the status has fields");
    for field in UNKNOWN {
        assert!(status.shift_remove(field).is_some(), "{field}");
    }
    serde_json::from_value(definitions).unwrap()
}

/// Everything that is stored of the rollout's status.
async fn stored(world: &World) -> Value {
    let kind = ApiResource::erase::<Rollout>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
    api.get("web").await.expect("it exists").data["status"].clone()
}

async fn nothing_is_written_over_and_over(world: World) {
    let world = world.led();
    let drive = Drive { world: &world, driver: Driver::Patches };
    drive.create(manifest(3, endless())).await;
    let is_complete = |rollout: &Rollout| {
        let status = rollout.status();
        let healthy = status.condition(&crd::ConditionType::Healthy);
        status.observed_generation() == rollout.metadata.generation
            && healthy.is_some_and(|condition| condition.status == crd::ConditionStatus::True)
    };
    world.until("complete", is_complete).await;
    quiet(&drive).await;
    drive.set_image("v2").await;
    let is_paused = |rollout: &Rollout| rollout.status().pause_conditions().len() == 1;
    world.until("paused", is_paused).await;
    quiet(&drive).await;
    drive.abort().await;
    let is_aborted = |rollout: &Rollout| {
        let progressing = rollout.status().condition(&crd::ConditionType::Progressing);
        progressing.is_some_and(|condition| condition.reason == "RolloutAborted")
            && rollout.status().updated_replicas.unwrap_or(0) == 0
    };
    world.until("aborted", is_aborted).await;
    quiet(&drive).await;
    let status = stored(&world).await;
    for field in UNKNOWN {
        assert_eq!(status.get(field), None, "{field} is unknown here");
    }
    world.finish().await;
}

/// Checks that a rollout at rest costs nothing, however often it is looked at.
async fn quiet(drive: &Drive<'_>) {
    let world = drive.world;
    world.pass(Duration::from_secs(3)).await;
    let before = world.requests();
    let sets: Api<ReplicaSet> = Api::namespaced(world.client.clone(), &world.namespace);
    for round in 0..10 {
        for set in drive.sets().await {
            let patch =
                Patch::Merge(json!({ "metadata": { "annotations": { "looked-at": round.to_string() } } }));
            sets.patch(&set.name_any(), &PatchParams::default(), &patch).await.expect("it is patched");
        }
        world.pass(Duration::from_millis(500)).await;
    }
    assert_eq!(world.requests() - before, 0, "{:#}", stored(world).await);
}

#[test]
fn nothing_is_written_over_and_over_on_the_embedded_cluster() {
    in_virtual_time(async || nothing_is_written_over_and_over(World::embedded_with(older()).await).await);
}

#[test]
fn nothing_is_written_over_and_over_on_kubernetes() {
    kubernetes::runtime().block_on(async {
        match World::real_with(older()).await {
            Some(world) => nothing_is_written_over_and_over(world).await,
            None => println!("skipped: KUBEBUILDER_ASSETS is not set"),
        }
    });
}

/// With our own definition every field is kept.
#[test]
fn our_own_definition_keeps_them_all() {
    in_virtual_time(async || {
        let world = World::embedded().await;
        let drive = Drive { world: &world, driver: Driver::Patches };
        drive.create(manifest(3, endless())).await;
        healthy(&drive).await;
        drive.set_image("v2").await;
        paused_at(&drive, 1).await;
        drive.abort().await;
        world.until("aborted", is(RolloutPhase::Degraded)).await;
        let status = stored(&world).await;
        for field in UNKNOWN {
            assert_ne!(status[field], json!(null), "{field}");
        }
        world.finish().await;
    });
}
