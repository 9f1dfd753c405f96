//! ListRolloutActivity: who did what to a rollout, through the API and otherwise.

use std::time::Duration;

use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api as Objects, ResourceExt as _};
use rolloutd::pb::v1;
use serde_json::{Value, json};
use tonic::{Code, Request};
use v1::promote_rollout_request::{From as Seen, Target};

use crate::expect::refused;
use crate::site::{Site, on_both};
use crate::world::{Instead, Replica, Rollouts, Wanted, World, apply_request, manifest, name};

const ID: &str = "6b8f2a4e-8a1c-4d6f-9a3e-0d4f5f6a7b8c";

fn list(name: &str) -> v1::ListRolloutActivityRequest {
    v1::ListRolloutActivityRequest { parent: name.to_owned(), ..Default::default() }
}

/// What was done, newest first, as `verb | outcome | revision | detail`.
async fn told(client: &mut Rollouts, name: &str) -> Vec<String> {
    let answer = client.list_rollout_activity(list(name)).await.unwrap().into_inner();
    let text = |activity: v1::Activity| {
        assert!(activity.time.is_some());
        let v1::Activity { verb, outcome, revision, detail, .. } = activity;
        format!("{verb} | {outcome} | {revision} | {detail}")
    };
    answer.activities.into_iter().map(text).collect()
}

async fn about(world: &World) -> Vec<String> {
    world.control_plane.activities.flush().await;
    told(&mut world.rollouts(), &name("web")).await
}

fn image(image: &str) -> v1::SetRolloutImageRequest {
    let (container, image) = ("web".to_owned(), image.to_owned());
    v1::SetRolloutImageRequest {
        name: name("web"),
        images: vec![v1::set_rollout_image_request::ContainerImage { container, image }],
        ..Default::default()
    }
}

fn scale(replicas: i32) -> v1::ScaleRolloutRequest {
    v1::ScaleRolloutRequest { name: name("web"), replicas: Some(replicas), ..Default::default() }
}

fn promote(step_index: i32, target: Target) -> v1::PromoteRolloutRequest {
    v1::PromoteRolloutRequest {
        name: name("web"),
        from: Some(Seen { pod_template_hash: "canary".to_owned(), step_index: Some(step_index) }),
        target: Some(target),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_done_through_the_api_is_told_in_a_few_words() {
    let world = World::new().await;
    let mut client = world.rollouts();
    let moment = || rolloutd::clock::real_sleep(Duration::from_millis(10));
    world.apply(&manifest("web").to_string()).await;
    world.seen("web", &json!({})).await;
    moment().await;
    client.scale_rollout(v1::ScaleRolloutRequest { request_id: ID.to_owned(), ..scale(3) }).await.unwrap();
    moment().await;
    client.set_rollout_image(image("web:2")).await.unwrap();
    moment().await;
    let pause = v1::PauseRolloutRequest { name: name("web"), ..Default::default() };
    client.pause_rollout(pause).await.unwrap();
    moment().await;
    let mut changed = manifest("web");
    changed["spec"]["minReadySeconds"] = json!(3);
    world.apply(&changed.to_string()).await;
    moment().await;
    let annotations = json!({ "rollout.argoproj.io/revision": "7" });
    world.patch("web", &json!({ "metadata": { "annotations": annotations } })).await;
    world.seen("web", &crate::world::updating(1)).await;
    client.promote_rollout(promote(1, Target::ToStepIndex(3))).await.unwrap();
    // It ended the hold, too.
    world.seen("web", &crate::world::updating(3)).await;
    moment().await;
    let abort = v1::AbortRolloutRequest { name: name("web"), ..Default::default() };
    client.abort_rollout(abort).await.unwrap();
    let scaled = format!("ScaleRollout | OK | 0 | replicas 5 -> 3; request_id {ID}");
    assert_eq!(
        about(&world).await,
        [
            "AbortRollout | OK | 7 | ",
            "PromoteRollout | OK | 7 | to_step_index 3",
            // The manifest has another image than was set.
            "ApplyManifest | OK | 0 | minReadySeconds, replicas, template.spec.containers[0].image",
            "PauseRollout | OK | 0 | ",
            "SetRolloutImage | OK | 0 | web=web:2",
            scaled.as_str(),
            "ApplyManifest | OK | 0 | ",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_changed_nothing_or_was_only_tried_is_not_told() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let mut client = world.rollouts();
    client.scale_rollout(scale(5)).await.unwrap();
    client.scale_rollout(v1::ScaleRolloutRequest { validate_only: true, ..scale(9) }).await.unwrap();
    client
        .set_rollout_image(v1::SetRolloutImageRequest { request_id: ID.to_owned(), ..image("web:1") })
        .await
        .unwrap();
    refused(client.scale_rollout(scale(-1)).await);
    assert_eq!(about(&world).await, Vec::<String>::new());
    for _ in 0..3 {
        let restart = v1::RestartRolloutRequest {
            name: name("web"),
            request_id: ID.replace('6', "7"),
            ..Default::default()
        };
        client.restart_rollout(restart.clone()).await.unwrap();
        world.replica().await.rollouts().restart_rollout(restart).await.unwrap();
    }
    let told = about(&world).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("RestartRollout | OK | 0 | restart_time 2026-01-01T"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn refusals_about_a_rollout_are_told_once_a_minute() {
    let world = World::new().await;
    world.in_the_middle("web", 1).await;
    let mut client = world.rollouts();
    for _ in 0..3 {
        refused(client.promote_rollout(promote(0, Target::Next(()))).await)
            .is(Code::FailedPrecondition, "STALE_STEP");
    }
    let stale = v1::ScaleRolloutRequest { etag: "old".to_owned(), ..scale(9) };
    refused(client.scale_rollout(stale.clone()).await).is(Code::Aborted, "ETAG_MISMATCH");
    // These say something of the call, or of nothing that is there.
    refused(client.scale_rollout(v1::ScaleRolloutRequest { validate_only: true, ..stale }).await);
    refused(client.promote_rollout(promote(0, Target::ToStepIndex(-1))).await);
    refused(client.scale_rollout(v1::ScaleRolloutRequest { name: name("other"), ..scale(1) }).await);
    let told = about(&world).await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("ScaleRollout | ABORTED: ETAG_MISMATCH | 0 | the rollout was changed"),
        "{told:?}"
    );
    assert!(
        told[1].starts_with("PromoteRollout | FAILED_PRECONDITION: STALE_STEP | 0 | step 1 runs"),
        "{told:?}"
    );
    rolloutd::clock::real_sleep(Duration::from_secs(61)).await;
    refused(client.promote_rollout(promote(0, Target::Next(()))).await);
    assert_eq!(about(&world).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn callers_are_who_they_say_they_are_or_their_programs() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let mut client = world.rollouts();
    let mut request = Request::new(scale(6));
    request.metadata_mut().insert("rolloutd-actor", "alice@shop".parse().unwrap());
    request.metadata_mut().insert("x-forwarded-for", "6.6.6.6".parse().unwrap());
    client.scale_rollout(request).await.unwrap();
    let mut request = Request::new(scale(7));
    request.metadata_mut().insert("rolloutd-actor", "x".repeat(500).parse().unwrap());
    client.scale_rollout(request).await.unwrap();
    let mut request = Request::new(scale(8));
    request.metadata_mut().insert("user-agent", "deployer/1".parse().unwrap());
    client.scale_rollout(request).await.unwrap();
    world.control_plane.activities.flush().await;
    let answer = client.list_rollout_activity(list(&name("web"))).await.unwrap().into_inner();
    let actors: Vec<(&str, &str)> = answer
        .activities
        .iter()
        .rev()
        .map(|activity| (activity.actor.as_str(), activity.source.as_str()))
        .collect();
    assert_eq!(actors[0], ("alice@shop", "in process"));
    assert_eq!(actors[1].0, "x".repeat(128));
    assert!(actors[2].0.starts_with("deployer/1"), "{actors:?}");
}

#[tokio::test(start_paused = true)]
async fn pages_cover_everything_once() {
    let world = World::new().await;
    world.store_rollout("web").await;
    for replicas in 10..20 {
        world.rollouts().scale_rollout(scale(replicas)).await.unwrap();
    }
    let all = about(&world).await;
    assert_eq!(all.len(), 10);
    let mut found = Vec::new();
    let mut request = v1::ListRolloutActivityRequest { page_size: 3, ..list(&name("web")) };
    loop {
        let page = world.rollouts().list_rollout_activity(request.clone()).await.unwrap().into_inner();
        assert!(page.activities.len() <= 3);
        found.extend(page.activities.into_iter().map(|activity| activity.detail));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let details: Vec<&str> = all.iter().map(|text| text.rsplit(" | ").next().unwrap()).collect();
    assert_eq!(found, details);
    let other = v1::ListRolloutActivityRequest { parent: name("other"), ..list("") };
    refused(world.rollouts().list_rollout_activity(other).await)
        .lacks_object("rolloutd.dev/Rollout", &name("other"));
    for (request, field) in [
        (list("web"), "parent"),
        (v1::ListRolloutActivityRequest { page_size: -1, ..list(&name("web")) }, "page_size"),
        (v1::ListRolloutActivityRequest { page_token: "x".to_owned(), ..list(&name("web")) }, "page_token"),
    ] {
        refused(world.rollouts().list_rollout_activity(request).await).names_fields(&[field]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_account_without_the_right_keeps_them_in_memory() {
    let forbidden = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden",
        "message": "controllerrevisions.apps is forbidden: User \"x\" cannot create resource \"controllerrevisions\"" });
    let instead =
        Instead { method: http::Method::POST, path: "/controllerrevisions", code: 403, body: forbidden };
    let world = World::wanted(Wanted { activities_instead: Some(instead), ..Wanted::default() }).await;
    world.store_rollout("web").await;
    for replicas in [7, 8] {
        world.rollouts().scale_rollout(scale(replicas)).await.unwrap();
    }
    assert_eq!(
        about(&world).await,
        ["ScaleRollout | OK | 0 | replicas 7 -> 8", "ScaleRollout | OK | 0 | replicas 5 -> 7"]
    );
    let objects = world.objects("apps/v1", "ControllerRevision", Some("shop"));
    assert_eq!(objects.list(&ListParams::default()).await.unwrap().items.len(), 0);
}

async fn objects(site: &Site) -> Vec<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "ControllerRevision"));
    let objects: Objects<DynamicObject> =
        Objects::namespaced_with(site.client.clone(), &site.namespace, &kind);
    objects.list(&ListParams::default()).await.unwrap().items
}

async fn what_others_do_is_told_by_the_leader(site: Site) {
    let (leader, server) = (site.leader().await, site.server().await);
    let mut client = server.rollouts();
    let wait = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let apply = v1::ApplyManifestRequest {
        parent: site.parent(),
        wait,
        ..apply_request(&site.manifest("web").to_string())
    };
    client.apply_manifest(apply).await.unwrap();
    let scale = v1::ScaleRolloutRequest { name: site.name("web"), wait, ..scale(6) };
    client.scale_rollout(scale).await.unwrap();
    let params = PatchParams { field_manager: Some("kubectl-edit".to_owned()), ..PatchParams::default() };
    let patch = |patch: Value| Patch::Merge(patch);
    site.rollouts().patch("web", &params, &patch(json!({ "spec": { "replicas": 7 } }))).await.unwrap();
    site.rollouts()
        .patch("web", &params, &patch(json!({ "metadata": { "labels": { "a": "b" } } })))
        .await
        .unwrap();
    // Longer than the leader leaves to others.
    site.clock.sleep(Duration::from_secs(8)).await;
    leader.control_plane.activities.flush().await;
    let told = told(&mut client, &site.name("web")).await;
    assert_eq!(
        told,
        [
            "spec changed | OK | 1 | replicas",
            "ScaleRollout | OK | 1 | replicas 5 -> 6",
            "ApplyManifest | OK | 0 | ",
        ]
    );
    // They go with their rollout, and are found by nothing that looks for revisions of workloads.
    let objects = objects(&site).await;
    assert_eq!(objects.len(), 3);
    let uid = site.rollouts().get("web").await.unwrap().uid().unwrap();
    for object in &objects {
        assert_eq!(
            object.labels().iter().collect::<Vec<_>>(),
            [(&"app".to_owned(), &"web".to_owned()), (&"rolloutd.dev/activity-of".to_owned(), &uid)],
            "they inherit its labels"
        );
        let owner = &object.owner_references()[0];
        assert_eq!(
            (owner.uid.as_str(), owner.controller, owner.block_owner_deletion),
            (uid.as_str(), Some(true), None)
        );
    }
    let edited = objects.iter().find(|object| object.data["data"]["verb"] == "spec changed").unwrap();
    // Only a real API server keeps who wrote what.
    let actor = edited.data["data"]["actor"].as_str().unwrap();
    assert!(["kubectl-edit", "unknown"].contains(&actor), "{actor}");
    if actor == "kubectl-edit" {
        aborted_by_another(&site, &leader, &mut client).await;
    }
    server.stop().await;
    leader.stop().await;
}

/// Aborts and retries an update as kubectl's plugin does.
async fn aborted_by_another(site: &Site, leader: &Replica, client: &mut Rollouts) {
    let wait = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let set = v1::SetRolloutImageRequest { name: site.name("web"), wait, ..image("web:2") };
    client.set_rollout_image(set).await.unwrap();
    let plugin = Some("kubectl-argo-rollouts".to_owned());
    let params = PatchParams { field_manager: plugin, ..PatchParams::default() };
    for abort in [true, false] {
        let patch = Patch::Merge(json!({ "status": { "abort": abort } }));
        site.rollouts().patch_status("web", &params, &patch).await.unwrap();
        site.clock.sleep(Duration::from_secs(2)).await;
    }
    site.clock.sleep(Duration::from_secs(6)).await;
    leader.control_plane.activities.flush().await;
    let answer = client.list_rollout_activity(list(&site.name("web"))).await.unwrap().into_inner();
    let told: Vec<_> = answer
        .activities
        .iter()
        .take(3)
        .map(|activity| (activity.verb.as_str(), activity.source.as_str(), activity.revision))
        .collect();
    let source = "kubectl-argo-rollouts (Update)";
    assert_eq!(told[..2], [("retried", source, 2), ("aborted", source, 2)]);
    assert_eq!(told[2].0, "SetRolloutImage");
}

async fn what_was_done_outlives_the_server(site: Site) {
    let first = site.server().await;
    let apply = |replicas: i32| {
        let mut manifest = site.manifest("web");
        manifest["spec"]["replicas"] = json!(replicas);
        v1::ApplyManifestRequest { parent: site.parent(), ..apply_request(&manifest.to_string()) }
    };
    first.rollouts().apply_manifest(apply(1)).await.unwrap();
    first.rollouts().apply_manifest(apply(2)).await.unwrap();
    first.stop().await;
    let second = site.server().await;
    let told = told(&mut second.rollouts(), &site.name("web")).await;
    assert_eq!(told, ["ApplyManifest | OK | 0 | replicas", "ApplyManifest | OK | 0 | "]);
    second.stop().await;
}

on_both! {
    what_others_do_is_told_by_the_leader
    what_was_done_outlives_the_server
}
