//! Request ids: the same request twice is one.

use rolloutd::pb::v1;
use tonic::Code;

use crate::expect::refused;
use crate::world::{World, apply_request, manifest, name, resource};

const ID: &str = "6b8f2a4e-8a1c-4d6f-9a3e-0d4f5f6a7b8c";

fn scale(replicas: i32) -> v1::ScaleRolloutRequest {
    v1::ScaleRolloutRequest {
        name: name("web"),
        replicas: Some(replicas),
        request_id: ID.to_owned(),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_id_twice_is_one_write_and_one_answer() {
    let world = World::new().await;
    let create = v1::CreateRolloutRequest {
        parent: "namespaces/shop".to_owned(),
        rollout_id: "web".to_owned(),
        rollout: Some(resource("web")),
        request_id: ID.to_owned(),
        ..Default::default()
    };
    let first = world.rollouts().create_rollout(create.clone()).await.unwrap().into_inner();
    world.settle().await;
    let again = world.untouched(world.rollouts().create_rollout(create)).await.unwrap().into_inner();
    assert_eq!(first, again);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_that_of_then_even_when_the_rollout_moved_on() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let first = world.rollouts().scale_rollout(scale(9)).await.unwrap().into_inner();
    world.patch("web", &serde_json::json!({ "spec": { "replicas": 2 } })).await;
    let again = world.untouched(world.rollouts().scale_rollout(scale(9))).await.unwrap().into_inner();
    assert_eq!(first, again);
    assert_eq!(world.stored("web").await["spec"]["replicas"], 2);
}

#[tokio::test(start_paused = true)]
async fn the_same_id_with_another_body_or_method_is_refused() {
    let world = World::new().await;
    world.store_rollout("web").await;
    world.rollouts().scale_rollout(scale(9)).await.unwrap();
    refused(world.untouched(world.rollouts().scale_rollout(scale(8))).await)
        .is(Code::InvalidArgument, "REQUEST_ID_REUSED")
        .names_fields(&["request_id"])
        .says(ID);
    let pause =
        v1::PauseRolloutRequest { name: name("web"), request_id: ID.to_owned(), ..Default::default() };
    refused(world.untouched(world.rollouts().pause_rollout(pause)).await)
        .is(Code::InvalidArgument, "REQUEST_ID_REUSED");
}

#[tokio::test(start_paused = true)]
async fn two_at_once_are_one() {
    let world = World::new().await;
    let request =
        v1::ApplyManifestRequest { request_id: ID.to_owned(), ..apply_request(&manifest("web").to_string()) };
    let (mut one, mut other) = (world.rollouts(), world.rollouts());
    let (one, other) = tokio::join!(one.apply_manifest(request.clone()), other.apply_manifest(request));
    let (one, other) = (one.unwrap().into_inner(), other.unwrap().into_inner());
    assert_eq!(one, other);
    assert_eq!(one.objects[0].outcome(), v1::applied_object::Outcome::Created);
}

#[tokio::test(start_paused = true)]
async fn a_failure_may_be_tried_again_with_its_id() {
    let world = World::new().await;
    refused(world.rollouts().scale_rollout(scale(9)).await).is(Code::NotFound, "NOT_FOUND");
    world.store_rollout("web").await;
    world.rollouts().scale_rollout(scale(9)).await.unwrap();
    assert_eq!(world.stored("web").await["spec"]["replicas"], 9);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_is_repeated_is_answered() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let delete =
        v1::DeleteRolloutRequest { name: name("web"), request_id: ID.to_owned(), ..Default::default() };
    world.rollouts().delete_rollout(delete.clone()).await.unwrap();
    world.store_rollout("web").await;
    world.untouched(world.rollouts().delete_rollout(delete)).await.unwrap();
}
