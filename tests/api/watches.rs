//! WatchRollouts.

use std::time::Duration;

use rolloutd::pb::v1;
use serde_json::json;
use tonic::{Code, Streaming};
use v1::watch_rollouts_response::Event;

use crate::expect::{Refusal, refused};
use crate::world::{Wanted, World, malformed, manifest, updating};

/// How long an event may take, in virtual time; below the heartbeat, so that silence is told from bookmarks.
const PATIENCE: Duration = Duration::from_secs(5);

fn watch(parent: &str, label_selector: &str) -> v1::WatchRolloutsRequest {
    v1::WatchRolloutsRequest {
        parent: parent.to_owned(),
        label_selector: label_selector.to_owned(),
        ..Default::default()
    }
}

struct Watch(Streaming<v1::WatchRolloutsResponse>);

impl Watch {
    async fn open(world: &World, request: v1::WatchRolloutsRequest) -> Self {
        Self(world.rollouts().watch_rollouts(request).await.unwrap().into_inner())
    }

    /// The next event, as `verb name`.
    async fn next(&mut self) -> String {
        let event = tokio::time::timeout(PATIENCE, self.0.message()).await.expect("an event comes");
        let event = event.expect("the watch goes on").expect("the watch goes on").event;
        let last = |name: &str| name.rsplit_once('/').unwrap().1.to_owned();
        match event.expect("an event is one of them") {
            Event::Added(rollout) => format!("added {}", last(&rollout.name)),
            Event::Modified(rollout) => format!("modified {}", last(&rollout.name)),
            Event::Deleted(deleted) => format!("deleted {}", last(&deleted.name)),
            Event::Bookmark(_) => "bookmark".to_owned(),
        }
    }

    async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(PATIENCE, self.0.message()).await.is_err()
    }

    /// Why it ends.
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

#[tokio::test(start_paused = true)]
async fn those_that_exist_come_first_then_a_bookmark_then_changes() {
    let world = World::new().await;
    for app in ["a", "b"] {
        world.store(&manifest(app)).await;
    }
    let mut watch = Watch::open(&world, watch("namespaces/shop", "")).await;
    assert_eq!(
        [watch.next().await, watch.next().await, watch.next().await],
        ["added a", "added b", "bookmark"]
    );
    world.store(&manifest("c")).await;
    assert_eq!(watch.next().await, "added c");
    world.patch("a", &json!({ "spec": { "replicas": 9 } })).await;
    assert_eq!(watch.next().await, "modified a");
    world.seen("a", &json!({ "phase": "Healthy" })).await;
    assert_eq!(watch.next().await, "modified a");
    world.delete("b").await;
    assert_eq!(watch.next().await, "deleted b");
    assert!(watch.is_silent().await);
}

#[tokio::test(start_paused = true)]
async fn leaving_the_selector_is_a_deletion_and_entering_it_an_addition() {
    let world = World::new().await;
    for app in ["a", "b"] {
        world.store(&manifest(app)).await;
    }
    let mut watch = Watch::open(&world, watch("namespaces/shop", "app=a")).await;
    assert_eq!([watch.next().await, watch.next().await], ["added a", "bookmark"]);
    world.patch("a", &json!({ "metadata": { "labels": { "app": "x" } } })).await;
    assert_eq!(watch.next().await, "deleted a");
    world.patch("b", &json!({ "metadata": { "labels": { "app": "a" } } })).await;
    assert_eq!(watch.next().await, "added b");
    world.patch("a", &json!({ "spec": { "replicas": 1 } })).await;
    assert!(watch.is_silent().await, "what is not selected is not shown");
}

#[tokio::test(start_paused = true)]
async fn a_watch_spans_its_namespace_or_all() {
    let world = World::new().await;
    let mut one = Watch::open(&world, watch("namespaces/shop", "")).await;
    let mut all = Watch::open(&world, watch("namespaces/-", "")).await;
    assert_eq!((one.next().await, all.next().await), ("bookmark".to_owned(), "bookmark".to_owned()));
    let mut elsewhere = manifest("far");
    elsewhere["metadata"]["namespace"] = json!("default");
    world.store(&elsewhere).await;
    assert_eq!(all.next().await, "added far");
    world.store(&manifest("near")).await;
    assert_eq!((one.next().await, all.next().await), ("added near".to_owned(), "added near".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_is_replaced_is_another_one() {
    let world = World::new().await;
    world.store(&manifest("a")).await;
    let mut watch = Watch::open(&world, watch("namespaces/shop", "")).await;
    assert_eq!([watch.next().await, watch.next().await], ["added a", "bookmark"]);
    world.delete("a").await;
    world.store(&manifest("a")).await;
    assert_eq!([watch.next().await, watch.next().await], ["deleted a", "added a"]);
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_is_a_sign_of_life_every_thirty_seconds() {
    let world = World::new().await;
    let mut stream = Watch::open(&world, watch("namespaces/shop", "")).await;
    assert_eq!(stream.next().await, "bookmark");
    for _ in 0..3 {
        let before = tokio::time::Instant::now();
        let event = stream.0.message().await.unwrap().unwrap().event.unwrap();
        let Event::Bookmark(bookmark) = event else { panic!("{event:?}") };
        assert!(bookmark.time.is_some());
        assert!(before.elapsed() <= Duration::from_secs(31), "{:?}", before.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_shows_as_much_as_is_asked_for() {
    let world = World::new().await;
    world.store(&manifest("a")).await;
    for (view, has_template) in [(v1::View::Unspecified, false), (v1::View::Full, true)] {
        let request = v1::WatchRolloutsRequest { view: view.into(), ..watch("namespaces/shop", "") };
        let mut watch = Watch::open(&world, request).await;
        let Some(Event::Added(rollout)) = watch.0.message().await.unwrap().unwrap().event else {
            panic!("it is there")
        };
        assert_eq!(rollout.spec.unwrap().template.is_some(), has_template, "{view:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_object_does_not_end_a_watch() {
    let world = World::new().await;
    world.store(&manifest("a")).await;
    let mut watch = Watch::open(&world, watch("namespaces/shop", "")).await;
    assert_eq!([watch.next().await, watch.next().await], ["added a", "bookmark"]);
    world.patch("a", &malformed()).await;
    assert_eq!(watch.next().await, "modified a");
    world.store(&manifest("b")).await;
    assert_eq!(watch.next().await, "added b");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_takes_nothing_is_closed() {
    let world = World::new().await;
    let mut watch = Watch::open(&world, watch("namespaces/shop", "")).await;
    assert_eq!(watch.next().await, "bookmark");
    for number in 0..300 {
        world.create(&manifest(&format!("web-{number}"))).await;
    }
    rolloutd::clock::real_sleep(Duration::from_secs(60)).await;
    let end = watch.end().await.is(Code::ResourceExhausted, "SLOW_CONSUMER");
    assert!(end.retry_after().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_drains_says_so() {
    let world = World::new().await;
    let mut stream = Watch::open(&world, watch("namespaces/shop", "")).await;
    assert_eq!(stream.next().await, "bookmark");
    world.api.drain();
    let end = stream.end().await.is(Code::Unavailable, "DRAINING");
    assert!(end.retry_after().is_some());
    let mut late = Watch::open(&world, watch("namespaces/shop", "")).await;
    late.end().await.is(Code::Unavailable, "DRAINING");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_dropped_ends() {
    let limits = rolloutd::api::Limits { max_streams: 1, ..Wanted::default().limits };
    let world = World::wanted(Wanted { limits, ..Default::default() }).await;
    let stream = Watch::open(&world, watch("namespaces/shop", "")).await;
    refused(world.rollouts().watch_rollouts(watch("namespaces/shop", "")).await)
        .is(Code::ResourceExhausted, "TOO_MANY_STREAMS");
    drop(stream);
    let mut next = Watch::open(&world, watch("namespaces/shop", "")).await;
    assert_eq!(next.next().await, "bookmark");
}

#[tokio::test(start_paused = true)]
async fn what_is_malformed_is_refused_by_name() {
    let world = World::new().await;
    let good = || watch("namespaces/shop", "");
    for (request, field) in [
        (watch("shop", ""), "parent"),
        (watch("namespaces/shop", "=="), "label_selector"),
        (v1::WatchRolloutsRequest { view: 9, ..good() }, "view"),
        (v1::WatchRolloutsRequest { filter: "state = PAUSE".to_owned(), ..good() }, "filter"),
        (v1::WatchRolloutsRequest { resume_token: "x".to_owned(), ..good() }, "resume_token"),
    ] {
        refused(world.rollouts().watch_rollouts(request).await).names_fields(&[field]);
    }
}

#[tokio::test(start_paused = true)]
async fn leaving_a_filter_is_a_deletion_and_such_a_watch_cannot_be_resumed() {
    let world = World::new().await;
    for app in ["a", "b"] {
        world.store_rollout(app).await;
        world.seen(app, &json!({ "phase": "Healthy" })).await;
    }
    world.seen("a", &updating(1)).await;
    let filtered = |filter: &str| v1::WatchRolloutsRequest {
        filter: filter.to_owned(),
        ..watch("namespaces/shop", "app in (a,b)")
    };
    let mut stream = Watch::open(&world, filtered("state = PAUSED")).await;
    assert_eq!([stream.next().await, stream.next().await], ["added a", "bookmark"]);
    world.seen("b", &updating(1)).await;
    assert_eq!(stream.next().await, "added b");
    world.seen("b", &updating(2)).await;
    assert_eq!(stream.next().await, "modified b");
    world.seen("a", &json!({ "phase": "Healthy" })).await;
    assert_eq!(stream.next().await, "deleted a");
    world.patch("b", &json!({ "metadata": { "labels": { "app": "x" } } })).await;
    assert_eq!(stream.next().await, "deleted b");
    world.patch("a", &json!({ "spec": { "replicas": 9 } })).await;
    assert!(stream.is_silent().await);

    let mut stream = Watch::open(&world, filtered("strategy = canary")).await;
    let event = stream.0.message().await.unwrap().unwrap();
    assert!(matches!(event.event, Some(Event::Added(_))));
    let bookmark = stream.0.message().await.unwrap().unwrap();
    assert!(matches!(bookmark.event, Some(Event::Bookmark(_))) && bookmark.resume_token.is_empty());

    let mut plain = Watch::open(&world, watch("namespaces/shop", "app in (a,b)")).await;
    plain.next().await;
    let resume_token = plain.0.message().await.unwrap().unwrap().resume_token;
    assert!(!resume_token.is_empty());
    let both = v1::WatchRolloutsRequest { resume_token, ..filtered("state = PAUSED") };
    refused(world.rollouts().watch_rollouts(both).await).names_fields(&["filter"]);
}
