//! GetRolloutTree and WatchRolloutTree.

use std::time::Duration;

use rolloutd::pb::v1;
use serde_json::json;
use tonic::{Code, Streaming};
use v1::blocker::Reason;
use v1::replica_set_summary::Role;

use crate::expect::{Refusal, refused};
use crate::world::{World, malformed, name};

const PATIENCE: Duration = Duration::from_secs(60);

async fn tree(world: &World) -> v1::RolloutTree {
    let request = v1::GetRolloutTreeRequest { name: name("web") };
    world.rollouts().get_rollout_tree(request).await.unwrap().into_inner().tree.unwrap()
}

async fn watch(world: &World) -> Streaming<v1::WatchRolloutTreeResponse> {
    let request = v1::WatchRolloutTreeRequest { name: name("web") };
    world.rollouts().watch_rollout_tree(request).await.unwrap().into_inner()
}

async fn next(stream: &mut Streaming<v1::WatchRolloutTreeResponse>) -> v1::RolloutTree {
    let tree = tokio::time::timeout(PATIENCE, stream.message()).await.expect("a tree comes");
    tree.expect("the watch goes on").expect("the watch goes on").tree.expect("a tree is a tree")
}

fn reasons(tree: &v1::RolloutTree) -> Vec<Reason> {
    tree.blockers.iter().map(v1::Blocker::reason).collect()
}

#[tokio::test(start_paused = true)]
async fn a_tree_shows_sets_pods_steps_weights_and_blockers() {
    let world = World::new().await;
    world.in_the_middle("web", 1).await;
    world.store_set("web", "stable", 1, "web:1").await;
    world.store_set("web", "canary", 2, "web:1").await;
    world.store_pod("web", "stable").await;
    let tree = tree(&world).await;
    assert_eq!(tree.rollout.as_ref().unwrap().name, name("web"));
    let described: Vec<&str> = tree.steps.iter().map(|step| step.description.as_str()).collect();
    assert_eq!(described.len(), 4);
    assert!(described.iter().all(|description| !description.is_empty()), "{described:?}");
    let sets: Vec<(i64, String, Role, usize)> = tree
        .revisions
        .iter()
        .map(|revision| {
            let set = revision.replica_set.as_ref().unwrap();
            (revision.revision, set.name.clone(), set.role(), set.pods.len())
        })
        .collect();
    assert_eq!(
        sets.iter().map(|set| (set.0, set.1.as_str())).collect::<Vec<_>>(),
        [(2, "web-canary"), (1, "web-stable")]
    );
    assert_eq!((sets[1].2, sets[1].3), (Role::Stable, 1));
    let pod = &tree.revisions[1].replica_set.as_ref().unwrap().pods[0];
    assert_eq!((pod.phase.as_str(), pod.ready, pod.restarts), ("CrashLoopBackOff", false, 3));
    assert!(pod.reason.contains("back-off"), "{}", pod.reason);
    assert!(!tree.blockers.is_empty());
    for blocker in &tree.blockers {
        assert!(!blocker.message.is_empty() && blocker.object.is_some(), "{blocker:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_spec_that_nobody_has_seen_is_what_it_waits_for() {
    let world = World::new().await;
    world.store_rollout("web").await;
    world.patch("web", &json!({ "spec": { "minReadySeconds": 3 } })).await;
    let tree = tree(&world).await;
    assert!(reasons(&tree).contains(&Reason::NotObserved), "{:?}", tree.blockers);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_object_is_its_own_blocker() {
    let world = World::new().await;
    world.store_rollout("web").await;
    world.patch("web", &malformed()).await;
    let tree = tree(&world).await;
    assert_eq!(reasons(&tree), [Reason::MalformedObject]);
    assert!(
        tree.blockers[0].message.contains("spec.strategy.canary.maxSurge"),
        "{}",
        tree.blockers[0].message
    );
}

#[tokio::test(start_paused = true)]
async fn a_field_that_is_not_acted_on_is_named() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let routing = json!({ "nginx": { "stableIngress": "web" } });
    let canary = json!({ "canaryService": "c", "stableService": "s", "trafficRouting": routing });
    world.patch("web", &json!({ "spec": { "strategy": { "canary": canary } } })).await;
    let tree = tree(&world).await;
    let says = |blocker: &v1::Blocker| {
        blocker.reason() == Reason::UnsupportedField
            && blocker.message.starts_with("spec.strategy.canary.trafficRouting")
    };
    assert!(tree.blockers.iter().any(says), "{:?}", tree.blockers);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_lacks_object() {
    let world = World::new().await;
    refused(world.rollouts().get_rollout_tree(v1::GetRolloutTreeRequest { name: name("web") }).await)
        .lacks_object("rolloutd.dev/Rollout", &name("web"));
    refused(world.rollouts().watch_rollout_tree(v1::WatchRolloutTreeRequest { name: name("web") }).await)
        .lacks_object("rolloutd.dev/Rollout", &name("web"));
    for bad in ["", "web"] {
        let request = v1::GetRolloutTreeRequest { name: bad.to_owned() };
        refused(world.rollouts().get_rollout_tree(request).await).names_fields(&["name"]);
        let request = v1::WatchRolloutTreeRequest { name: bad.to_owned() };
        refused(world.rollouts().watch_rollout_tree(request).await).names_fields(&["name"]);
    }
}

#[tokio::test(start_paused = true)]
async fn each_message_is_the_whole_tree_and_only_changes_send_one() {
    let world = World::new().await;
    world.in_the_middle("web", 1).await;
    let mut stream = watch(&world).await;
    assert_eq!(next(&mut stream).await.revisions.len(), 0);
    world.store_set("web", "stable", 1, "web:1").await;
    assert_eq!(next(&mut stream).await.revisions.len(), 1);
    world.store_pod("web", "stable").await;
    let tree = next(&mut stream).await;
    assert_eq!(tree.revisions[0].replica_set.as_ref().unwrap().pods.len(), 1);
    assert_eq!(tree.steps.len(), 4, "the whole tree each time");
    world.store_rollout("other").await;
    let silence = tokio::time::timeout(Duration::from_secs(20), stream.message()).await;
    assert!(silence.is_err(), "others do not concern it: {silence:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_consumer_gets_the_newest() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let mut stream = watch(&world).await;
    next(&mut stream).await;
    for replicas in 10..40 {
        world.patch("web", &json!({ "spec": { "replicas": replicas } })).await;
    }
    let mut messages = 0;
    loop {
        let tree = next(&mut stream).await;
        messages += 1;
        if tree.rollout.unwrap().spec.unwrap().replicas == Some(39) {
            break;
        }
    }
    assert!(messages <= 10, "{messages} messages for what one says");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_ends_a_watch_with_not_found() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let mut stream = watch(&world).await;
    next(&mut stream).await;
    world.delete("web").await;
    let end = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap_err();
    Refusal::of(&end).is(Code::NotFound, "NOT_FOUND").lacks_object("rolloutd.dev/Rollout", &name("web"));
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_a_watch_with_unavailable() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let mut stream = watch(&world).await;
    next(&mut stream).await;
    world.api.drain();
    let end = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap_err();
    let end = Refusal::of(&end).is(Code::Unavailable, "DRAINING");
    assert!(end.retry_after().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_explanation_is_what_the_tree_waits_for() {
    let world = World::new().await;
    world.in_the_middle("web", 1).await;
    world.store_set("web", "stable", 1, "web:1").await;
    world.store_set("web", "canary", 2, "web:1").await;
    let tree = tree(&world).await;
    let request = v1::ExplainRolloutRequest { name: name("web") };
    let why = world.rollouts().explain_rollout(request).await.unwrap().into_inner();
    let status = tree.rollout.unwrap().status.unwrap();
    assert_eq!((why.state, why.message), (status.state, status.message));
    assert!(!why.blockers.is_empty());
    assert_eq!(why.blockers, tree.blockers);
    let absent = v1::ExplainRolloutRequest { name: name("api") };
    refused(world.rollouts().explain_rollout(absent).await)
        .lacks_object("rolloutd.dev/Rollout", &name("api"));
}
