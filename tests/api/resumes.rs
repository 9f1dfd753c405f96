//! Watches that go on where they were: on the same server, on another one, and after a restart.

use std::time::Duration;

use rolloutd::pb::v1;
use serde_json::json;
use tonic::{Code, Streaming};
use v1::watch_rollouts_response::Event;

use crate::expect::{Refusal, refused};
use crate::world::{Rollouts, Wanted, World, manifest};

/// How long an event may take, in virtual time; below the heartbeat.
const PATIENCE: Duration = Duration::from_secs(10);

fn watch(label_selector: &str, resume_token: &str) -> v1::WatchRolloutsRequest {
    v1::WatchRolloutsRequest {
        parent: "namespaces/shop".to_owned(),
        label_selector: label_selector.to_owned(),
        resume_token: resume_token.to_owned(),
        ..Default::default()
    }
}

struct Watch(Streaming<v1::WatchRolloutsResponse>);

impl Watch {
    async fn open(mut client: Rollouts, request: v1::WatchRolloutsRequest) -> Self {
        Self(client.watch_rollouts(request).await.unwrap().into_inner())
    }

    /// The next event as `verb name`, and its token.
    async fn next(&mut self) -> (String, String) {
        let event = tokio::time::timeout(PATIENCE, self.0.message()).await.expect("an event comes");
        let event = event.expect("the watch goes on").expect("the watch goes on");
        let last = |name: &str| name.rsplit_once('/').unwrap().1.to_owned();
        let text = match event.event.expect("an event is one of them") {
            Event::Added(rollout) => format!("added {}", last(&rollout.name)),
            Event::Modified(rollout) => {
                format!("modified {} {}", last(&rollout.name), rollout.spec.unwrap().replicas.unwrap())
            }
            Event::Deleted(deleted) => format!("deleted {}", last(&deleted.name)),
            Event::Bookmark(_) => "bookmark".to_owned(),
        };
        (text, event.resume_token)
    }

    /// What comes up to the next bookmark, and its token.
    async fn until_bookmark(&mut self) -> (Vec<String>, String) {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                (event, token) if event == "bookmark" => return (events, token),
                (event, _) => events.push(event),
            }
        }
    }

    async fn end(&mut self) -> Refusal {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.message()).await.expect("it ends") {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ends without a reason"),
                Err(status) => return Refusal::of(&status),
            }
        }
    }
}

async fn scale(world: &World, name: &str, replicas: i32) {
    world.patch(name, &json!({ "spec": { "replicas": replicas } })).await;
}

#[tokio::test(start_paused = true)]
async fn tokens_come_with_the_first_bookmark_and_everything_after_it() {
    let world = World::new().await;
    world.store(&manifest("a")).await;
    let mut watch = Watch::open(world.rollouts(), watch("", "")).await;
    assert_eq!(watch.next().await, ("added a".to_owned(), String::new()));
    let (event, first) = watch.next().await;
    assert_eq!((event.as_str(), first.is_empty()), ("bookmark", false));
    scale(&world, "a", 7).await;
    let (event, second) = watch.next().await;
    assert_eq!(event, "modified a 7");
    assert!(!second.is_empty() && second != first);
    let heartbeat = tokio::time::timeout(Duration::from_secs(31), watch.0.message()).await;
    let heartbeat = heartbeat.expect("a sign of life").unwrap().unwrap();
    assert!(matches!(heartbeat.event, Some(Event::Bookmark(_))) && !heartbeat.resume_token.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_after_its_token_on_any_server() {
    let world = World::new().await;
    for app in ["a", "b", "c"] {
        world.store(&manifest(app)).await;
    }
    let (_, token) = Watch::open(world.rollouts(), watch("", "")).await.until_bookmark().await;
    scale(&world, "a", 6).await;
    let before = world.replica().await;
    scale(&world, "a", 7).await;
    world.delete("b").await;
    world.store(&manifest("b")).await;
    world.delete("c").await;
    // What it knows begins after all of that.
    let after = world.replica().await;
    let missed = ["modified a 6", "modified a 7", "deleted b", "added b", "deleted c"];
    for client in [world.rollouts(), before.rollouts(), after.rollouts()] {
        let mut watch = Watch::open(client, watch("", &token)).await;
        assert_eq!(watch.until_bookmark().await.0, missed);
    }
    // And it is alive.
    let mut resumed = Watch::open(after.rollouts(), watch("", &token)).await;
    assert_eq!(resumed.until_bookmark().await.0.len(), missed.len());
    scale(&world, "a", 8).await;
    assert_eq!(resumed.next().await.0, "modified a 8");
}

#[tokio::test(start_paused = true)]
async fn every_event_after_the_bookmark_can_be_gone_on_from() {
    let world = World::new().await;
    world.store(&manifest("a")).await;
    let mut first = Watch::open(world.rollouts(), watch("", "")).await;
    first.until_bookmark().await;
    for replicas in 6..10 {
        scale(&world, "a", replicas).await;
    }
    let replica = world.replica().await;
    for seen in 6..10 {
        let (event, token) = first.next().await;
        assert_eq!(event, format!("modified a {seen}"));
        let rest: Vec<String> = (seen + 1..10).map(|replicas| format!("modified a {replicas}")).collect();
        for client in [world.rollouts(), replica.rollouts()] {
            assert_eq!(Watch::open(client, watch("", &token)).await.until_bookmark().await.0, rest);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_selector_is_judged_across_the_gap() {
    let world = World::new().await;
    for app in ["a", "b"] {
        world.store(&manifest(app)).await;
    }
    let (_, token) = Watch::open(world.rollouts(), watch("app=a", "")).await.until_bookmark().await;
    let label = |app: &str| json!({ "metadata": { "labels": { "app": app } } });
    world.patch("a", &label("x")).await;
    world.patch("a", &label("y")).await;
    world.patch("b", &label("a")).await;
    world.delete("b").await;
    let replica = world.replica().await;
    for client in [world.rollouts(), replica.rollouts()] {
        let mut resumed = Watch::open(client, watch("app in (a)", &token)).await;
        assert_eq!(resumed.until_bookmark().await.0, ["deleted a", "added b", "deleted b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_server_that_knows_more_waits_for_what_comes() {
    let world = World::new().await;
    world.store(&manifest("a")).await;
    // Nothing of this happens to rollouts, so that the first server is told nothing of it.
    for number in 0..5 {
        let name = format!("other-{number}");
        world.create(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })).await;
    }
    let replica = world.replica().await;
    let (_, token) = Watch::open(replica.rollouts(), watch("", "")).await.until_bookmark().await;
    let mut resumed = Watch::open(world.rollouts(), watch("", &token)).await;
    scale(&world, "a", 9).await;
    let mut events = vec![resumed.next().await.0, resumed.next().await.0];
    events.sort();
    assert_eq!(events, ["bookmark", "modified a 9"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_belongs_to_its_watch() {
    let world = World::new().await;
    world.store(&manifest("a")).await;
    let (_, token) = Watch::open(world.rollouts(), watch("app=a", "")).await.until_bookmark().await;
    let scaled =
        v1::ScaleRolloutRequest { name: crate::world::name("a"), replicas: Some(7), ..Default::default() };
    let of_mutation = world.rollouts().scale_rollout(scaled).await.unwrap().into_inner().consistency_token;
    let all = v1::WatchRolloutsRequest { parent: "namespaces/-".to_owned(), ..watch("app=a", &token) };
    for request in [all, watch("app=b", &token), watch("", &token), watch("", &of_mutation), watch("", "x")] {
        refused(world.rollouts().watch_rollouts(request).await).names_fields(&["resume_token"]);
    }
    // How much is shown is another matter.
    let full = v1::WatchRolloutsRequest { view: v1::View::Full.into(), ..watch("app == a", &token) };
    assert_eq!(Watch::open(world.rollouts(), full).await.until_bookmark().await.0, ["modified a 7"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_cluster_has_forgotten_is_said() {
    let world = World::wanted(Wanted { history_limit: 20, ..Wanted::default() }).await;
    world.store(&manifest("a")).await;
    let (_, token) = Watch::open(world.rollouts(), watch("", "")).await.until_bookmark().await;
    for replicas in 10..40 {
        scale(&world, "a", replicas).await;
    }
    let replica = world.replica().await;
    let mut resumed = Watch::open(replica.rollouts(), watch("", &token)).await;
    resumed.end().await.is(Code::OutOfRange, "WATCH_EXPIRED").says("watch again without it");
    // The server that was there all the time remembers more than the cluster.
    let mut resumed = Watch::open(world.rollouts(), watch("", &token)).await;
    assert_eq!(resumed.until_bookmark().await.0.len(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_server_of_one_namespace_resumes_only_that() {
    let world = World::new().await;
    world.store(&manifest("a")).await;
    let wanted = Wanted { namespace: Some("default".to_owned()), ..Wanted::default() };
    for (parent, served) in [("namespaces/-", vec!["added b".to_owned()]), ("namespaces/shop", vec![])] {
        let request = v1::WatchRolloutsRequest { parent: parent.to_owned(), ..watch("", "") };
        let (_, resume_token) = Watch::open(world.rollouts(), request.clone()).await.until_bookmark().await;
        for replicas in [7, 5] {
            scale(&world, "a", replicas).await;
        }
        let confined = world.replica_with(wanted.clone()).await;
        let mut elsewhere = manifest("b");
        elsewhere["metadata"]["namespace"] = json!("default");
        world.create(&elsewhere).await;
        let resumed = v1::WatchRolloutsRequest { resume_token, ..request };
        let mut resumed = Watch::open(confined.rollouts(), resumed).await;
        assert_eq!(resumed.until_bookmark().await.0, served, "{parent}");
        let objects = world.objects("argoproj.io/v1alpha1", "Rollout", Some("default"));
        objects.delete("b", &kube::api::DeleteParams::default()).await.unwrap();
        confined.stop().await;
    }
}
