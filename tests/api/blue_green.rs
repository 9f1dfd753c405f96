//! Blue-green rollouts through the API: promotions and their guards, and the tree.

use rolloutd::pb::v1;
use serde_json::{Value, json};
use tonic::Code;
use v1::blocker::Reason;
use v1::promote_rollout_request::{From as Seen, Target};
use v1::replica_set_summary::Role;

use crate::expect::refused;
use crate::world::{World, manifest, name};

/// A rollout that waits for the promotion of `new`, with its ReplicaSets and Services.
async fn waiting() -> World {
    let world = World::new().await;
    for (service, hash) in [("active", "old"), ("preview", "new")] {
        let mut selector = json!({ "app": "web" });
        selector["rollouts-pod-template-hash"] = json!(hash);
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": service, "namespace": "shop",
                "annotations": { "argo-rollouts.argoproj.io/managed-by-rollouts": "web" } },
            "spec": { "selector": selector, "ports": [{ "port": 80 }] },
        });
        world.store(&service).await;
    }
    let mut rollout = manifest("web");
    rollout["spec"]["strategy"] = json!({ "blueGreen": {
        "activeService": "active", "previewService": "preview", "autoPromotionEnabled": false } });
    world.store(&rollout).await;
    world.seen("web", &waits()).await;
    world.store_set("web", "old", 1, "web:1").await;
    world.store_set("web", "new", 2, "web:2").await;
    world
}

fn waits() -> Value {
    json!({
        "currentPodHash": "new", "stableRS": "old", "phase": "Paused", "message": "BlueGreenPause",
        "blueGreen": { "activeSelector": "old", "previewSelector": "new" }, "controllerPause": true,
        "pauseConditions": [{ "reason": "BlueGreenPause", "startTime": "2026-01-01T00:00:00Z" }],
    })
}

fn promote(hash: &str, step_index: Option<i32>, target: Target) -> v1::PromoteRolloutRequest {
    v1::PromoteRolloutRequest {
        name: name("web"),
        from: Some(Seen { pod_template_hash: hash.to_owned(), step_index }),
        target: Some(target),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_promotion_ends_the_pause_or_skips_it() {
    for (target, written) in [
        (Target::Next(()), json!([null, true, null])),
        (Target::Full(()), json!([waits()["pauseConditions"], true, true])),
    ] {
        let world = waiting().await;
        let answer = world.rollouts().promote_rollout(promote("new", None, target)).await.unwrap();
        let status = answer.into_inner().rollout.unwrap().status.unwrap();
        assert_eq!(status.promoting_fully, matches!(target, Target::Full(())));
        let stored = world.stored("web").await["status"].clone();
        let moved = json!([stored["pauseConditions"], stored["controllerPause"], stored["promoteFull"]]);
        assert_eq!(moved, written, "{target:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_promotion_of_what_nobody_saw_is_refused() {
    for (status, request, reason) in [
        (json!({}), promote("old", None, Target::Next(())), "STALE_HASH"),
        (json!({}), promote("new", Some(0), Target::Next(())), "STALE_STEP"),
        (json!({ "pauseConditions": null }), promote("new", None, Target::Next(())), "NOTHING_TO_PROMOTE"),
        (json!({ "stableRS": "new" }), promote("new", None, Target::Next(())), "NOTHING_TO_PROMOTE"),
        (json!({ "abort": true }), promote("new", None, Target::Full(())), "ROLLOUT_ABORTED"),
    ] {
        let world = waiting().await;
        world.seen("web", &status).await;
        let refusal = refused(world.untouched(world.rollouts().promote_rollout(request)).await);
        refusal.is(Code::FailedPrecondition, reason);
    }
    let world = waiting().await;
    let to_a_step = promote("new", None, Target::ToStepIndex(1));
    refused(world.untouched(world.rollouts().promote_rollout(to_a_step)).await)
        .names_fields(&["to_step_index"]);
}

#[tokio::test(start_paused = true)]
async fn the_tree_shows_roles_and_services_and_what_is_waited_for() {
    let world = waiting().await;
    let request = v1::GetRolloutTreeRequest { name: name("web") };
    let tree = world.rollouts().get_rollout_tree(request).await.unwrap().into_inner().tree.unwrap();
    let role = |revision: &v1::RevisionTree| revision.replica_set.as_ref().unwrap().role();
    assert_eq!(tree.revisions.iter().map(role).collect::<Vec<_>>(), [Role::Preview, Role::Active]);
    let services: Vec<(&str, &str, &str)> = tree
        .services
        .iter()
        .map(|service| (service.name.as_str(), service.role.as_str(), service.pod_template_hash.as_str()))
        .collect();
    assert_eq!(services, [("active", "active", "old"), ("preview", "preview", "new")]);
    assert_eq!((tree.desired_weight, tree.actual_weight), (0, 0));
    let blocker = tree.blockers.iter().find(|blocker| blocker.reason() == Reason::BlueGreenPause).unwrap();
    assert_eq!(blocker.condition, "status.blueGreen.activeSelector old/new");
    assert_eq!((blocker.next.as_str(), &blocker.next_time), ("promote it", &None));
}

#[tokio::test(start_paused = true)]
async fn the_duration_of_an_update_is_shown() {
    let world = waiting().await;
    let duration = json!({ "rolloutStartedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:01:00Z",
        "totalManualPauseDurationSeconds": 42, "completionStatus": "FastRolledBack" });
    world.seen("web", &json!({ "duration": duration })).await;
    let request = v1::GetRolloutRequest { name: name("web"), ..Default::default() };
    let rollout = world.rollouts().get_rollout(request).await.unwrap().into_inner().rollout.unwrap();
    let shown = rollout.status.unwrap().duration.unwrap();
    assert_eq!(shown.completion(), v1::update_duration::Completion::FastRolledBack);
    assert_eq!(shown.finish_time.unwrap().seconds - shown.start_time.unwrap().seconds, 60);
    assert_eq!((shown.total_manual_pause.unwrap().seconds, shown.manual_pause_start_time), (42, None));
}
