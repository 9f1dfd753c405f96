//! Request ids that outlive the server: what was done once is not done again by another one.

use std::time::Duration;

use kube::api::{DeleteParams, Patch, PatchParams};
use rolloutd::crd::keys;
use rolloutd::pb::v1;
use serde_json::{Value, json};
use tonic::Code;

use crate::expect::refused;
use crate::site::{Site, on_both};
use crate::world::{Rollouts, World, apply_request, manifest, name, resource};

const ID: &str = "6b8f2a4e-8a1c-4d6f-9a3e-0d4f5f6a7b8c";

async fn stored(site: &Site) -> Value {
    serde_json::to_value(site.rollouts().get("web").await.unwrap()).unwrap()
}

/// Changes the rollout as somebody else would.
async fn patch(site: &Site, patch: Value) {
    site.rollouts().patch("web", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

fn create(site: &Site) -> v1::CreateRolloutRequest {
    v1::CreateRolloutRequest {
        parent: site.parent(),
        rollout_id: "web".to_owned(),
        rollout: Some(resource("web")),
        request_id: ID.to_owned(),
        ..Default::default()
    }
}

fn set_image(site: &Site, image: &str) -> v1::SetRolloutImageRequest {
    let (container, image) = ("web".to_owned(), image.to_owned());
    v1::SetRolloutImageRequest {
        name: site.name("web"),
        images: vec![v1::set_rollout_image_request::ContainerImage { container, image }],
        request_id: ID.to_owned(),
        ..Default::default()
    }
}

async fn a_creation_is_not_repeated(site: Site) {
    let (first, second) = (site.server().await, site.server().await);
    let created = first.rollouts().create_rollout(create(&site)).await.unwrap().into_inner().rollout.unwrap();
    assert!(created.annotations.is_empty(), "what the server remembers is not the user's");
    patch(&site, json!({ "spec": { "replicas": 9 } })).await;
    let before = stored(&site).await;
    let again = second.rollouts().create_rollout(create(&site)).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!((again.uid, again.spec.unwrap().replicas), (created.uid, Some(9)));
    assert_eq!(stored(&site).await, before);

    let mut other = create(&site);
    other.rollout.as_mut().unwrap().spec.as_mut().unwrap().replicas = Some(1);
    refused(second.rollouts().create_rollout(other).await)
        .is(Code::InvalidArgument, "REQUEST_ID_REUSED")
        .names_fields(&["request_id"]);
    for request_id in ["", "11111111-8a1c-4d6f-9a3e-0d4f5f6a7b8c"] {
        let taken = v1::CreateRolloutRequest { request_id: request_id.to_owned(), ..create(&site) };
        refused(second.rollouts().create_rollout(taken).await).is(Code::AlreadyExists, "ALREADY_EXISTS");
    }
    // Another rollout of that name is not the one that was created.
    site.rollouts().delete("web", &DeleteParams::background()).await.unwrap();
    let unnamed = v1::CreateRolloutRequest { request_id: String::new(), ..create(&site) };
    first.rollouts().create_rollout(unnamed).await.unwrap();
    let third = site.server().await;
    refused(third.rollouts().create_rollout(create(&site)).await).is(Code::AlreadyExists, "ALREADY_EXISTS");
}

async fn an_image_is_not_set_again(site: Site) {
    let (first, second) = (site.server().await, site.server().await);
    let unnamed = v1::CreateRolloutRequest { request_id: String::new(), ..create(&site) };
    first.rollouts().create_rollout(unnamed).await.unwrap();
    let etag = first.rollouts().set_rollout_image(set_image(&site, "web:2")).await.unwrap();
    let etag = etag.into_inner().rollout.unwrap().etag;
    let containers = json!([{ "name": "web", "image": "web:3" }]);
    patch(&site, json!({ "spec": { "template": { "spec": { "containers": containers } } } })).await;
    let before = stored(&site).await;
    let again = second.rollouts().set_rollout_image(set_image(&site, "web:2")).await.unwrap().into_inner();
    assert_ne!(again.rollout.unwrap().etag, etag, "it is shown as it is now");
    assert_eq!(stored(&site).await, before);
    refused(second.rollouts().set_rollout_image(set_image(&site, "web:4")).await)
        .is(Code::InvalidArgument, "REQUEST_ID_REUSED");
    // The same id for another method is another request.
    let restart =
        v1::RestartRolloutRequest { name: site.name("web"), request_id: ID.to_owned(), ..Default::default() };
    refused(second.rollouts().restart_rollout(restart).await).is(Code::InvalidArgument, "REQUEST_ID_REUSED");
    assert_eq!(stored(&site).await, before);
}

async fn what_needed_no_change_is_not_repeated_either(site: Site) {
    let (first, second) = (site.server().await, site.server().await);
    let unnamed = v1::CreateRolloutRequest { request_id: String::new(), ..create(&site) };
    first.rollouts().create_rollout(unnamed).await.unwrap();
    let before = first.rollouts().set_rollout_image(set_image(&site, "web:1")).await.unwrap().into_inner();
    let before = before.rollout.unwrap();
    assert_eq!(before.generation, 1, "the spec was so already");
    let containers = json!([{ "name": "web", "image": "web:3" }]);
    patch(&site, json!({ "spec": { "template": { "spec": { "containers": containers } } } })).await;
    second.rollouts().set_rollout_image(set_image(&site, "web:1")).await.unwrap();
    assert_eq!(stored(&site).await["spec"]["template"]["spec"]["containers"][0]["image"], "web:3");
}

async fn a_restart_keeps_its_first_time(site: Site) {
    let (first, second) = (site.server().await, site.server().await);
    first.rollouts().create_rollout(create(&site)).await.unwrap();
    let restart = |number: u8| v1::RestartRolloutRequest {
        name: site.name("web"),
        request_id: format!("0000000{number}-8a1c-4d6f-9a3e-0d4f5f6a7b8c"),
        ..Default::default()
    };
    let answer = first.rollouts().restart_rollout(restart(1)).await.unwrap().into_inner();
    let time = answer.rollout.unwrap().spec.unwrap().restart_time;
    assert!(time.is_some());
    site.clock.sleep(Duration::from_millis(1100)).await;
    let again = second.rollouts().restart_rollout(restart(1)).await.unwrap().into_inner();
    assert_eq!(again.rollout.unwrap().spec.unwrap().restart_time, time);
    let another = second.rollouts().restart_rollout(restart(2)).await.unwrap().into_inner();
    assert_ne!(another.rollout.unwrap().spec.unwrap().restart_time, time);
}

async fn a_rollback_is_known_by_its_id_when_what_it_left_is_gone(site: Site) {
    let leader = site.leader().await;
    let (first, second) = (site.server().await, site.server().await);
    let wait = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let created = v1::CreateRolloutRequest { wait, ..create(&site) };
    first.rollouts().create_rollout(created).await.unwrap();
    let set = v1::SetRolloutImageRequest { wait, request_id: String::new(), ..set_image(&site, "web:2") };
    let set = first.rollouts().set_rollout_image(set).await.unwrap().into_inner().rollout.unwrap();
    let pod_template_hash = set.status.unwrap().current_pod_hash;
    let rollback = v1::RollbackRolloutRequest {
        name: site.name("web"),
        from: Some(v1::rollback_rollout_request::From { pod_template_hash: pod_template_hash.clone() }),
        request_id: ID.replace('6', "7"),
        wait,
        ..Default::default()
    };
    let back = first.rollouts().rollback_rollout(rollback.clone()).await.unwrap().into_inner();
    let hash = back.rollout.unwrap().status.unwrap().current_pod_hash;
    assert_ne!(hash, pod_template_hash);
    let before = stored(&site).await["spec"].clone();
    let again = second.rollouts().rollback_rollout(rollback.clone()).await.unwrap().into_inner();
    assert_eq!(again.rollout.unwrap().status.unwrap().current_pod_hash, hash);
    assert_eq!(stored(&site).await["spec"], before);
    let unnamed = v1::RollbackRolloutRequest { request_id: String::new(), ..rollback };
    refused(second.rollouts().rollback_rollout(unnamed).await).is(Code::FailedPrecondition, "STALE_HASH");
    leader.stop().await;
}

on_both! {
    a_creation_is_not_repeated
    an_image_is_not_set_again
    what_needed_no_change_is_not_repeated_either
    a_restart_keeps_its_first_time
    a_rollback_is_known_by_its_id_when_what_it_left_is_gone
}

fn restart(request_id: &str) -> v1::RestartRolloutRequest {
    v1::RestartRolloutRequest { name: name("web"), request_id: request_id.to_owned(), ..Default::default() }
}

/// A request that was carried out, and the server that forgets it in memory only.
async fn remembered() -> (World, Rollouts, String) {
    let world = World::new().await;
    world.store_rollout("web").await;
    world.rollouts().restart_rollout(restart(ID)).await.unwrap();
    let annotation =
        world.stored("web").await["metadata"]["annotations"][keys::REQUESTS].as_str().unwrap().to_owned();
    assert!(annotation.contains(ID) && !annotation.contains("web"), "{annotation}");
    let other = world.replica().await.rollouts();
    (world, other, annotation)
}

#[tokio::test(start_paused = true)]
async fn what_an_object_remembers_survives_every_other_change() {
    let (world, mut other, annotation) = remembered().await;
    let mut whole = resource("web");
    whole.name = name("web");
    whole.annotations.insert("note".to_owned(), "mine".to_owned());
    let update_mask = Some(prost_types::FieldMask { paths: vec!["*".to_owned()] });
    let update = v1::UpdateRolloutRequest { rollout: Some(whole), update_mask, ..Default::default() };
    world.rollouts().update_rollout(update).await.unwrap();
    world.apply(&manifest("web").to_string()).await;
    world.apply(&manifest("web").to_string()).await;
    assert_eq!(world.stored("web").await["metadata"]["annotations"][keys::REQUESTS], annotation);
    world.untouched(other.restart_rollout(restart(ID))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_can_forge_it_through_this_api() {
    let (world, mut other, annotation) = remembered().await;
    let forged = annotation.replace(ID, "00000000-0000-0000-0000-000000000001");
    let mut whole = resource("web");
    whole.name = name("web");
    whole.annotations.insert(keys::REQUESTS.to_owned(), forged.clone());
    let update = v1::UpdateRolloutRequest { rollout: Some(whole.clone()), ..Default::default() };
    refused(world.untouched(world.rollouts().update_rollout(update)).await)
        .names_fields(&["rollout.annotations[rolloutd.dev/requests]"]);
    let create = v1::CreateRolloutRequest {
        parent: "namespaces/shop".to_owned(),
        rollout_id: "new".to_owned(),
        rollout: Some(whole),
        ..Default::default()
    };
    refused(world.untouched(world.rollouts().create_rollout(create)).await)
        .names_fields(&["rollout.annotations[rolloutd.dev/requests]"]);
    for (app, expected) in [("web", json!(annotation)), ("new", Value::Null)] {
        let mut manifest = manifest(app);
        manifest["metadata"]["annotations"] = json!({ keys::REQUESTS: forged });
        let answer = world.rollouts().apply_manifest(apply_request(&manifest.to_string())).await.unwrap();
        let warnings = answer.into_inner().warnings;
        assert_eq!(warnings[0].reason, "BOOKKEEPING_IGNORED", "{warnings:?}");
        assert_eq!(warnings[0].field, "[0].metadata.annotations[rolloutd.dev/requests]");
        let annotations = world.stored(app).await["metadata"]["annotations"].clone();
        assert_eq!(annotations[keys::REQUESTS], expected);
        let applied = annotations["kubectl.kubernetes.io/last-applied-configuration"].as_str().unwrap();
        assert!(!applied.contains("rolloutd.dev/requests"));
    }
    world.settle().await;
    world.untouched(other.restart_rollout(restart(ID))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_applied_by_kubectl_with_it_does_not_remove_it() {
    let (world, _, annotation) = remembered().await;
    // `kubectl get -o yaml`, then `kubectl apply`.
    let mut exported = manifest("web");
    exported["metadata"]["annotations"] = json!({ keys::REQUESTS: "[]" });
    let applied = json!({ "kubectl.kubernetes.io/last-applied-configuration": exported.to_string() });
    world.patch("web", &json!({ "metadata": { "annotations": applied } })).await;
    world.apply(&manifest("web").to_string()).await;
    assert_eq!(world.stored("web").await["metadata"]["annotations"][keys::REQUESTS], annotation);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_forgotten_and_written_over() {
    let world = World::new().await;
    world.store_rollout("web").await;
    for (number, malformed) in ["", "x", "{}", "[1]", "[{\"id\":\"a\"}]"].into_iter().enumerate() {
        world.patch("web", &json!({ "metadata": { "annotations": { keys::REQUESTS: malformed } } })).await;
        let id = format!("0000000{number}-8a1c-4d6f-9a3e-0d4f5f6a7b8c");
        world.rollouts().restart_rollout(restart(&id)).await.unwrap();
        let stored = world.stored("web").await["metadata"]["annotations"][keys::REQUESTS].clone();
        assert!(stored.as_str().unwrap().contains(&id), "{malformed}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_servers_at_once_one_carries_it_out() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let replica = world.replica().await;
    for number in 0..5 {
        let id = format!("0000000{number}-8a1c-4d6f-9a3e-0d4f5f6a7b8c");
        let generation = world.stored("web").await["metadata"]["generation"].as_i64().unwrap();
        rolloutd::clock::real_sleep(Duration::from_secs(2)).await;
        let (mut one, mut other) = (world.rollouts(), replica.rollouts());
        let (one, other) =
            tokio::join!(one.restart_rollout(restart(&id)), other.restart_rollout(restart(&id)));
        let time = |answer: v1::RestartRolloutResponse| answer.rollout.unwrap().spec.unwrap().restart_time;
        assert_eq!(time(one.unwrap().into_inner()), time(other.unwrap().into_inner()));
        assert_eq!(world.stored("web").await["metadata"]["generation"], generation + 1);
    }
}
