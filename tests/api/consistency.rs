//! Reads that are at least as new as a token says, on the same server and on another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kube::Client;
use rolloutd::pb::v1;
use rolloutd::serve::{Connect, Part};
use serde_json::json;
use tokio::time::Instant;
use tonic::Code;
use tower::ServiceExt as _;

use crate::expect::refused;
use crate::world::{Replica, Rollouts, Wanted, World, apply_request, manifest, name, resource};

fn get(at_least: &str) -> v1::GetRolloutRequest {
    v1::GetRolloutRequest { name: name("web"), at_least: at_least.to_owned(), ..Default::default() }
}

fn list(at_least: &str) -> v1::ListRolloutsRequest {
    v1::ListRolloutsRequest {
        parent: "namespaces/shop".to_owned(),
        at_least: at_least.to_owned(),
        ..Default::default()
    }
}

fn scale(replicas: i32) -> v1::ScaleRolloutRequest {
    v1::ScaleRolloutRequest { name: name("web"), replicas: Some(replicas), ..Default::default() }
}

async fn replicas(client: &mut Rollouts, at_least: &str) -> Option<i32> {
    let rollout = client.get_rollout(get(at_least)).await.unwrap().into_inner().rollout.unwrap();
    rollout.spec.unwrap().replicas
}

/// The first token of a watch.
async fn token_of_a_watch(client: &mut Rollouts) -> String {
    let watch = v1::WatchRolloutsRequest { parent: "namespaces/shop".to_owned(), ..Default::default() };
    let mut watch = client.watch_rollouts(watch).await.unwrap().into_inner();
    loop {
        let token = watch.message().await.unwrap().expect("a bookmark comes").resume_token;
        if !token.is_empty() {
            return token;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_mutation_answers_a_token_by_which_its_caller_reads_what_was_written() {
    let world = World::new().await;
    let replica = world.replica().await;
    let create = v1::CreateRolloutRequest {
        parent: "namespaces/shop".to_owned(),
        rollout_id: "web".to_owned(),
        rollout: Some(resource("web")),
        ..Default::default()
    };
    let created = world.rollouts().create_rollout(create).await.unwrap().into_inner();
    for mut client in [world.rollouts(), replica.rollouts()] {
        assert_eq!(replicas(&mut client, &created.consistency_token).await, Some(5));
    }
    for number in 6..20 {
        let scaled = world.rollouts().scale_rollout(scale(number)).await.unwrap().into_inner();
        for mut client in [world.rollouts(), replica.rollouts()] {
            assert_eq!(replicas(&mut client, &scaled.consistency_token).await, Some(number));
            let listed = client.list_rollouts(list(&scaled.consistency_token)).await.unwrap().into_inner();
            assert_eq!(listed.rollouts[0].spec.as_ref().unwrap().replicas, Some(number));
        }
    }
    let changed = manifest("web").to_string();
    let applied = world.rollouts().apply_manifest(apply_request(&changed)).await.unwrap().into_inner();
    assert_eq!(replicas(&mut replica.rollouts(), &applied.consistency_token).await, Some(5));

    let delete = v1::DeleteRolloutRequest { name: name("web"), ..Default::default() };
    let deleted = world.rollouts().delete_rollout(delete).await.unwrap().into_inner();
    for mut client in [world.rollouts(), replica.rollouts()] {
        let gone = refused(client.get_rollout(get(&deleted.consistency_token)).await);
        gone.lacks_object("rolloutd.dev/Rollout", &name("web"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_writes_nothing_has_a_token_only_of_what_is_there() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let same = world.rollouts().scale_rollout(scale(5)).await.unwrap().into_inner();
    assert_eq!(replicas(&mut world.rollouts(), &same.consistency_token).await, Some(5));
    assert!(!same.consistency_token.is_empty());
    let dry = v1::ScaleRolloutRequest { validate_only: true, ..scale(9) };
    assert_eq!(world.rollouts().scale_rollout(dry).await.unwrap().into_inner().consistency_token, "");
    let dry = v1::ApplyManifestRequest { validate_only: true, ..apply_request(&manifest("new").to_string()) };
    assert_eq!(world.rollouts().apply_manifest(dry).await.unwrap().into_inner().consistency_token, "");
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_watch_counts_on_a_server_to_which_nothing_has_happened_since() {
    let world = World::new().await;
    world.store_rollout("web").await;
    // The other server lists at a version of which the first is told nothing.
    world.create(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "other" } })).await;
    let replica = world.replica().await;
    let token = token_of_a_watch(&mut replica.rollouts()).await;
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(replicas(&mut world.rollouts(), &token).await, Some(5));
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    // An event of a watch has one too.
    world.patch("web", &json!({ "spec": { "replicas": 7 } })).await;
    let token = token_of_a_watch(&mut replica.rollouts()).await;
    assert_eq!(replicas(&mut world.rollouts(), &token).await, Some(7));
}

#[tokio::test(start_paused = true)]
async fn an_old_token_does_no_harm_and_a_foreign_one_is_told_from_it() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let elsewhere = World::new().await;
    elsewhere.store_rollout("web").await;
    let old = elsewhere.rollouts().scale_rollout(scale(5)).await.unwrap().into_inner().consistency_token;
    assert_eq!(replicas(&mut world.rollouts(), &old).await, Some(5));
    let mut newest = String::new();
    for number in 6..30 {
        newest =
            elsewhere.rollouts().scale_rollout(scale(number)).await.unwrap().into_inner().consistency_token;
    }
    let began = Instant::now();
    refused(world.rollouts().get_rollout(get(&newest)).await)
        .names_fields(&["at_least"])
        .says("belongs to another cluster");
    assert!(began.elapsed() < Duration::from_secs(2));
    for text in ["x", "bm90", "====", "WzEsIngiLCIiXQ"] {
        refused(world.rollouts().get_rollout(get(text)).await).names_fields(&["at_least"]);
        refused(world.rollouts().list_rollouts(list(text)).await).names_fields(&["at_least"]);
    }
}

/// Lists work and watches never answer; counts the lists of metadata that RPCs make.
struct Deaf<'a>(&'a World, Arc<AtomicU32>);

impl Connect for Deaf<'_> {
    fn client(&self, part: Part) -> Client {
        let server = self.0.cluster.service(part.agent());
        let lists = Arc::clone(&self.1);
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (server, lists) = (server.clone(), Arc::clone(&lists));
            async move {
                let query = request.uri().query().unwrap_or_default();
                if part == Part::Watch && query.contains("watch=true") {
                    std::future::pending::<()>().await;
                }
                if part == Part::Api && query.contains("limit=500") {
                    lists.fetch_add(1, Ordering::SeqCst);
                }
                server.oneshot(request).await
            }
        });
        Client::new(service, "default")
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_does_not_get_there_is_said_in_time_and_asks_the_cluster_seldom() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let lists = Arc::new(AtomicU32::new(0));
    let deaf = Replica::start(&Deaf(&world, Arc::clone(&lists)), &world.clock, Wanted::default()).await;
    let token = world.rollouts().scale_rollout(scale(9)).await.unwrap().into_inner().consistency_token;
    let began = Instant::now();
    let readers = (0..50).map(|_| async {
        refused(deaf.rollouts().get_rollout(get(&token)).await).is(Code::DeadlineExceeded, "NOT_CAUGHT_UP")
    });
    for refusal in futures::future::join_all(readers).await {
        assert!(refusal.retry_after().is_some());
    }
    assert!(began.elapsed() < Duration::from_secs(11), "{:?}", began.elapsed());
    let asked = lists.load(Ordering::SeqCst);
    assert!((1..=21).contains(&asked), "{asked} lists for all of them");
    assert_eq!(replicas(&mut deaf.rollouts(), "").await, Some(5), "without a token it answers what it has");

    let reader = async { refused(deaf.rollouts().get_rollout(get(&token)).await) };
    let drain = async {
        rolloutd::clock::real_sleep(Duration::from_millis(100)).await;
        deaf.api.drain();
    };
    let (refusal, ()) = tokio::join!(reader, drain);
    refusal.is(Code::Unavailable, "DRAINING");
}
