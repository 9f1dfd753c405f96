//! `wait`: answers that are held until rollouts settle. RPCs go to a server that does not reconcile; another one does.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::Api as Objects;
use kube::api::{DeleteParams, PostParams};
use rolloutd::api::Limits;
use rolloutd::pb::v1;
use serde_json::json;
use tokio::time::Instant;
use tonic::{Code, Request};
use v1::promote_rollout_request::{From as Seen, Target};
use v1::rollout_status::State;

use crate::expect::refused;
use crate::site::{Site, on_both};
use crate::world::{Rollouts, Wanted, World, manifest, name, resource, updating};

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn image(site: &Site, image: &str) -> v1::SetRolloutImageRequest {
    let (container, image) = ("web".to_owned(), image.to_owned());
    v1::SetRolloutImageRequest {
        name: site.name("web"),
        images: vec![v1::set_rollout_image_request::ContainerImage { container, image }],
        wait: seconds(60),
        ..Default::default()
    }
}

/// Creates the rollout `web` and waits until it is healthy.
async fn created(site: &Site, client: &mut Rollouts) -> v1::Rollout {
    let request = v1::CreateRolloutRequest {
        parent: site.parent(),
        rollout_id: "web".to_owned(),
        rollout: Some(resource("web")),
        wait: seconds(60),
        ..Default::default()
    };
    let answer = client.create_rollout(request).await.unwrap().into_inner();
    assert_eq!(answer.warnings, []);
    answer.rollout.unwrap()
}

/// State, message, and the step that runs.
fn standing(rollout: &v1::Rollout) -> (State, Option<i32>) {
    let status = rollout.status.as_ref().expect("it has a status");
    assert_eq!(status.observed_generation, rollout.generation);
    (status.state(), status.current_step_index)
}

async fn an_answer_is_held_until_the_rollout_rests(site: Site) {
    let (leader, server) = (site.leader().await, site.server().await);
    let mut client = server.rollouts();
    assert_eq!(standing(&created(&site, &mut client).await), (State::Healthy, Some(2)));

    let set = client.set_rollout_image(image(&site, "web:2")).await.unwrap().into_inner();
    let paused = set.rollout.unwrap();
    assert_eq!((standing(&paused), set.warnings), ((State::Paused, Some(1)), vec![]));
    let hash = paused.status.as_ref().unwrap().current_pod_hash.clone();

    let abort = v1::AbortRolloutRequest { name: site.name("web"), wait: seconds(60), ..Default::default() };
    let aborted = client.abort_rollout(abort).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(standing(&aborted), (State::Degraded, Some(0)));
    assert!(aborted.status.unwrap().message.starts_with("RolloutAborted"));

    let retry = v1::RetryRolloutRequest { name: site.name("web"), wait: seconds(60), ..Default::default() };
    let retried = client.retry_rollout(retry).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(standing(&retried), (State::Paused, Some(1)));

    let promote = v1::PromoteRolloutRequest {
        name: site.name("web"),
        from: Some(Seen { pod_template_hash: hash, step_index: Some(1) }),
        target: Some(Target::Next(())),
        wait: seconds(60),
        ..Default::default()
    };
    let promoted = client.promote_rollout(promote).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(standing(&promoted), (State::Healthy, Some(2)));

    let scale = v1::ScaleRolloutRequest {
        name: site.name("web"),
        replicas: Some(8),
        wait: seconds(60),
        ..Default::default()
    };
    let scaled = client.scale_rollout(scale).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!((standing(&scaled).0, scaled.status.unwrap().available_replicas), (State::Healthy, 8));
    server.stop().await;
    leader.stop().await;
}

async fn a_pause_that_follows_a_pause_is_not_taken_for_it(site: Site) {
    let (leader, server) = (site.leader().await, site.server().await);
    let mut client = server.rollouts();
    let mut manifest = site.manifest("web");
    manifest["spec"]["strategy"]["canary"]["steps"] =
        json!([{ "pause": {} }, { "pause": {} }, { "pause": {} }]);
    let apply = v1::ApplyManifestRequest {
        parent: site.parent(),
        manifest: manifest.to_string(),
        wait: seconds(60),
        ..Default::default()
    };
    let applied = client.apply_manifest(apply).await.unwrap().into_inner();
    assert_eq!(standing(applied.objects[0].rollout.as_ref().unwrap()).0, State::Healthy);
    let set = client.set_rollout_image(image(&site, "web:2")).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(standing(&set), (State::Paused, Some(0)));
    let hash = set.status.unwrap().current_pod_hash;
    for step in 0..2 {
        let promote = v1::PromoteRolloutRequest {
            name: site.name("web"),
            from: Some(Seen { pod_template_hash: hash.clone(), step_index: Some(step) }),
            target: Some(Target::ToStepIndex(step + 1)),
            wait: seconds(60),
            ..Default::default()
        };
        let promoted = client.promote_rollout(promote).await.unwrap().into_inner().rollout.unwrap();
        assert_eq!(standing(&promoted), (State::Paused, Some(step + 1)));
        let pauses = promoted.status.unwrap().pause_conditions;
        assert_eq!(pauses.len(), 1, "the pause is one that a controller made after the promotion");
    }
    server.stop().await;
    leader.stop().await;
}

async fn when_the_time_is_up_the_answer_says_what_is_waited_for(site: Site) {
    let (leader, server) = (site.leader().await, site.server().await);
    let mut client = server.rollouts();
    created(&site, &mut client).await;
    let request = v1::SetRolloutImageRequest { wait: seconds(2), ..image(&site, "web:never") };
    let began = Instant::now();
    let answer = client.set_rollout_image(request).await.unwrap().into_inner();
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(standing(answer.rollout.as_ref().unwrap()).0, State::Progressing);
    let [warning] = answer.warnings.as_slice() else { panic!("{:?}", answer.warnings) };
    assert_eq!((warning.reason.as_str(), warning.field.as_str()), ("NOT_SETTLED", "wait"));
    assert!(warning.description.contains("has not settled within 2s: "), "{}", warning.description);
    assert!(warning.description.contains("available"), "{}", warning.description);

    // Somebody deletes it meanwhile.
    let pause = v1::PauseRolloutRequest { name: site.name("web"), wait: seconds(60), ..Default::default() };
    client.pause_rollout(pause).await.unwrap();
    let resume = v1::ResumeRolloutRequest { name: site.name("web"), wait: seconds(60), ..Default::default() };
    let deletion = async {
        rolloutd::clock::real_sleep(Duration::from_millis(500)).await;
        site.rollouts().delete("web", &DeleteParams::background()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(client.resume_rollout(resume), deletion);
    refused(answer).lacks_object("rolloutd.dev/Rollout", &site.name("web")).says("the change was made");
    server.stop().await;
    leader.stop().await;
}

/// A blue-green rollout of `web:1` with its Services.
async fn blue_green(site: &Site) -> String {
    let services: Objects<Service> = Objects::namespaced(site.client.clone(), &site.namespace);
    for service in ["active", "preview"] {
        let object = json!({ "metadata": { "name": service },
            "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] } });
        services.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }
    let mut manifest = site.manifest("web");
    manifest["spec"]["strategy"] = json!({ "blueGreen": {
        "activeService": "active", "previewService": "preview", "autoPromotionEnabled": false } });
    manifest.to_string()
}

/// Which version the active Service selects.
async fn served(site: &Site) -> Option<String> {
    let services: Objects<Service> = Objects::namespaced(site.client.clone(), &site.namespace);
    services.get("active").await.unwrap().spec?.selector?.remove("rollouts-pod-template-hash")
}

/// Restarts the rollout and checks that the answer comes when that is done.
async fn restarted(site: &Site, client: &mut Rollouts, state: State) {
    // Kubernetes counts seconds: a pod of this very second is not older than it.
    site.clock.sleep(Duration::from_millis(1100)).await;
    let restart =
        v1::RestartRolloutRequest { name: site.name("web"), wait: seconds(60), ..Default::default() };
    let restarted = client.restart_rollout(restart).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(standing(&restarted).0, state);
    let object = site.rollouts().get("web").await.unwrap();
    assert!(object.spec.restart_at.is_some());
    assert_eq!(object.status().restarted_at, object.spec.restart_at);
}

async fn a_blue_green_promotion_and_a_restart_are_waited_for_whole(site: Site) {
    let (leader, server) = (site.leader().await, site.server().await);
    let mut client = server.rollouts();
    let apply = v1::ApplyManifestRequest {
        parent: site.parent(),
        manifest: blue_green(&site).await,
        wait: seconds(60),
        ..Default::default()
    };
    let applied = client.apply_manifest(apply).await.unwrap().into_inner();
    assert_eq!(standing(applied.objects[0].rollout.as_ref().unwrap()).0, State::Healthy);
    let set = client.set_rollout_image(image(&site, "web:2")).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(standing(&set).0, State::Paused);
    // Paused all the while.
    restarted(&site, &mut client, State::Paused).await;
    let hash = set.status.unwrap().current_pod_hash;
    assert_ne!(served(&site).await.as_ref(), Some(&hash));
    let promote = v1::PromoteRolloutRequest {
        name: site.name("web"),
        from: Some(Seen { pod_template_hash: hash.clone(), step_index: None }),
        target: Some(Target::Next(())),
        wait: seconds(60),
        ..Default::default()
    };
    let promoted = client.promote_rollout(promote).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(standing(&promoted).0, State::Healthy);
    assert_eq!(served(&site).await, Some(hash), "Healthy means that it serves");

    restarted(&site, &mut client, State::Healthy).await;
    server.stop().await;
    leader.stop().await;
}

on_both! {
    a_blue_green_promotion_and_a_restart_are_waited_for_whole
    an_answer_is_held_until_the_rollout_rests
    a_pause_that_follows_a_pause_is_not_taken_for_it
    when_the_time_is_up_the_answer_says_what_is_waited_for
}

fn scale(replicas: i32, wait: i64) -> v1::ScaleRolloutRequest {
    v1::ScaleRolloutRequest {
        name: name("web"),
        replicas: Some(replicas),
        wait: seconds(wait),
        ..Default::default()
    }
}

/// A rollout that never settles, since nobody reconciles it.
async fn restless(limits: Limits) -> World {
    let world = World::wanted(Wanted { limits, ..Wanted::default() }).await;
    world.store_rollout("web").await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_longer_than_the_deadline_of_others_but_bounded() {
    let world = restless(Wanted::default().limits).await;
    let began = Instant::now();
    let answer = world.rollouts().scale_rollout(scale(9, 600)).await.unwrap().into_inner();
    assert_eq!((began.elapsed().as_secs(), answer.warnings.len()), (600, 1));
    let names_the_controller =
        answer.warnings[0].description.contains("no controller has seen the newest spec");
    assert!(names_the_controller, "{}", answer.warnings[0].description);

    refused(world.untouched(world.rollouts().scale_rollout(scale(7, 3601))).await)
        .names_fields(&["wait"])
        .says("waits for 3600s at most");
    refused(world.untouched(world.rollouts().scale_rollout(scale(7, -1))).await).names_fields(&["wait"]);
    let began = Instant::now();
    let dry = v1::ScaleRolloutRequest { validate_only: true, ..scale(7, 600) };
    assert_eq!(world.untouched(world.rollouts().scale_rollout(dry)).await.unwrap().into_inner().warnings, []);
    assert_eq!(began.elapsed(), Duration::ZERO);
    // No longer than the caller waits.
    let mut request = Request::new(scale(7, 600));
    request.set_timeout(Duration::from_secs(90));
    let began = Instant::now();
    refused(world.rollouts().scale_rollout(request).await).is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    assert_eq!(began.elapsed().as_secs(), 90);
}

#[tokio::test(start_paused = true)]
async fn who_waits_counts_among_the_watches() {
    let limits = Limits { max_requests: 1, max_streams: 1, ..Wanted::default().limits };
    let world = restless(limits).await;
    let (mut waiting, mut client) = (world.rollouts(), world.rollouts());
    let others = async {
        rolloutd::clock::real_sleep(Duration::from_secs(1)).await;
        let get = v1::GetRolloutRequest { name: name("web"), ..Default::default() };
        client.get_rollout(get).await.expect("there is room");
        refused(world.untouched(client.scale_rollout(scale(7, 10))).await)
            .is(Code::ResourceExhausted, "TOO_MANY_STREAMS");
        let watch = v1::WatchRolloutsRequest { parent: "namespaces/-".to_owned(), ..Default::default() };
        refused(client.watch_rollouts(watch).await).is(Code::ResourceExhausted, "TOO_MANY_STREAMS");
    };
    let (answer, ()) = tokio::join!(waiting.scale_rollout(scale(9, 10)), others);
    answer.unwrap();
    world.rollouts().scale_rollout(scale(8, 1)).await.expect("its place is given back");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_says_that_the_change_was_made() {
    let world = restless(Wanted::default().limits).await;
    let mut client = world.rollouts();
    let stop = async {
        rolloutd::clock::real_sleep(Duration::from_secs(1)).await;
        world.api.drain();
    };
    let (answer, ()) = tokio::join!(client.scale_rollout(scale(9, 600)), stop);
    let refusal = refused(answer).is(Code::Unavailable, "DRAINING").says("the change was made");
    assert!(refusal.retry_after().is_some());
    assert_eq!(world.stored("web").await["spec"]["replicas"], 9);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_repeated_waits_again_and_writes_nothing() {
    let world = restless(Wanted::default().limits).await;
    let request_id = "6b8f2a4e-8a1c-4d6f-9a3e-0d4f5f6a7b8c".to_owned();
    let request = v1::ScaleRolloutRequest { request_id, ..scale(9, 5) };
    let first = world.rollouts().scale_rollout(request.clone()).await.unwrap().into_inner();
    assert_eq!(first.warnings.len(), 1);
    let again = world.untouched(world.rollouts().scale_rollout(request)).await.unwrap().into_inner();
    assert_eq!((again.rollout, again.warnings), (first.rollout, first.warnings));
}

#[tokio::test(start_paused = true)]
async fn a_status_of_before_is_none_of_this_mutation() {
    let world = World::new().await;
    world.in_the_middle("web", 1).await;
    // PAUSED it is, and was before: nobody acts on the promotion.
    let promote = v1::PromoteRolloutRequest {
        name: name("web"),
        from: Some(Seen { pod_template_hash: "canary".to_owned(), step_index: Some(1) }),
        target: Some(Target::Next(())),
        wait: seconds(5),
        ..Default::default()
    };
    let answer = world.rollouts().promote_rollout(promote).await.unwrap().into_inner();
    assert_eq!(answer.warnings.len(), 1);
    // Nor is a status that was resumed and that no controller has looked at since.
    world.seen("web", &updating(3)).await;
    world.patch_status("web", &json!({ "status": { "pauseConditions": null } })).await;
    let scaled = world.rollouts().scale_rollout(scale(5, 5)).await.unwrap().into_inner();
    assert_eq!(scaled.warnings.len(), 1);
    let missing = v1::ScaleRolloutRequest { name: name("nowhere"), ..scale(5, 600) };
    refused(world.rollouts().scale_rollout(missing).await)
        .lacks_object("rolloutd.dev/Rollout", &name("nowhere"));
}

#[tokio::test(start_paused = true)]
async fn rollouts_that_this_server_does_not_look_after_are_not_waited_for() {
    let world = World::new().await;
    let mut other = manifest("other");
    other["metadata"]["labels"]["argo-rollouts.argoproj.io/controller-instance-id"] = json!("blue");
    let apply =
        v1::ApplyManifestRequest { wait: seconds(600), ..crate::world::apply_request(&other.to_string()) };
    let began = Instant::now();
    let answer = world.rollouts().apply_manifest(apply).await.unwrap().into_inner();
    let reasons: Vec<&str> = answer.warnings.iter().map(|warning| warning.reason.as_str()).collect();
    assert_eq!((began.elapsed(), reasons), (Duration::ZERO, vec!["OTHER_INSTANCE"]));
}
