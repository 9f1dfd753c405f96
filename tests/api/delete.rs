//! DeleteRollout.

use rolloutd::pb::v1;
use serde_json::json;
use tonic::Code;
use v1::delete_rollout_request::Propagation;

use crate::expect::refused;
use crate::world::{World, manifest, name};

fn delete(etag: &str) -> v1::DeleteRolloutRequest {
    v1::DeleteRolloutRequest { name: name("web"), etag: etag.to_owned(), ..Default::default() }
}

async fn etag(world: &World) -> String {
    let request = v1::GetRolloutRequest { name: name("web"), ..Default::default() };
    world.rollouts().get_rollout(request).await.unwrap().into_inner().rollout.unwrap().etag
}

#[tokio::test(start_paused = true)]
async fn a_rollout_is_deleted_once() {
    let world = World::new().await;
    world.store_rollout("web").await;
    world.rollouts().delete_rollout(delete("")).await.unwrap();
    assert!(!world.versions().await.contains_key("Rollout shop/web"));
    refused(world.rollouts().delete_rollout(delete("")).await)
        .lacks_object("rolloutd.dev/Rollout", &name("web"));
}

#[tokio::test(start_paused = true)]
async fn the_etag_guards_a_deletion() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let seen = etag(&world).await;
    world.patch("web", &json!({ "spec": { "minReadySeconds": 1 } })).await;
    refused(world.untouched(world.rollouts().delete_rollout(delete(&seen))).await)
        .is(Code::Aborted, "ETAG_MISMATCH");
    world.rollouts().delete_rollout(delete(&etag(&world).await)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_only_validated_stays() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let request = v1::DeleteRolloutRequest { validate_only: true, ..delete("") };
    world.untouched(world.rollouts().delete_rollout(request)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn propagation_is_passed_on() {
    let world = World::new().await;
    for (propagation, finalizer) in
        [(Propagation::Foreground, "foregroundDeletion"), (Propagation::Orphan, "orphan")]
    {
        let stored = world.store(&manifest("web")).await;
        // Somebody holds it, so that what was asked for can be seen.
        world.patch("web", &json!({ "metadata": { "finalizers": ["example.com/hold"] } })).await;
        let request = v1::DeleteRolloutRequest { propagation: propagation.into(), ..delete("") };
        world.rollouts().delete_rollout(request).await.unwrap();
        let left = world.stored("web").await;
        assert_eq!(left["metadata"]["uid"], stored["metadata"]["uid"]);
        assert!(!left["metadata"]["deletionTimestamp"].is_null());
        let finalizers = left["metadata"]["finalizers"].as_array().unwrap();
        assert!(finalizers.contains(&json!(finalizer)), "{propagation:?}: {finalizers:?}");
        world.patch("web", &json!({ "metadata": { "finalizers": null } })).await;
    }
    let request = v1::DeleteRolloutRequest { propagation: 7, ..delete("") };
    refused(world.rollouts().delete_rollout(request).await).names_fields(&["propagation"]);
}
