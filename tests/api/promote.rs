//! PromoteRollout and its guards.

use rolloutd::pb::v1;
use serde_json::{Value, json};
use tonic::Code;
use v1::promote_rollout_request::{From as Seen, Target};

use crate::expect::refused;
use crate::world::{World, name, updating};

fn promote(hash: &str, step_index: Option<i32>, target: Target) -> v1::PromoteRolloutRequest {
    v1::PromoteRolloutRequest {
        name: name("web"),
        from: Some(Seen { pod_template_hash: hash.to_owned(), step_index }),
        target: Some(target),
        ..Default::default()
    }
}

/// What of the status a promotion writes.
fn moved(object: &Value) -> Value {
    let status = &object["status"];
    json!([
        status["currentStepIndex"],
        status["pauseConditions"],
        status["controllerPause"],
        status["promoteFull"]
    ])
}

#[tokio::test(start_paused = true)]
async fn each_target_writes_what_an_operator_would() {
    let pauses = updating(1)["pauseConditions"].clone();
    for (target, written) in [
        (Target::Next(()), json!([1, null, true, null])),
        (Target::Full(()), json!([1, pauses, true, true])),
        (Target::ToStepIndex(3), json!([3, null, null, null])),
        (Target::ToStepIndex(4), json!([4, null, null, null])),
    ] {
        let world = World::new().await;
        world.in_the_middle("web", 1).await;
        world.rollouts().promote_rollout(promote("canary", Some(1), target)).await.unwrap();
        assert_eq!(moved(&world.stored("web").await), written, "{target:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_waits_for_pods_is_left_and_a_hold_is_ended() {
    let world = World::new().await;
    world.store_rollout("web").await;
    world.patch("web", &json!({ "spec": { "paused": true } })).await;
    let running = json!({ "controllerPause": null, "pauseConditions": null, "phase": "Progressing" });
    world.seen("web", &updating(0)).await;
    world.seen("web", &running).await;
    world.rollouts().promote_rollout(promote("canary", Some(0), Target::Next(()))).await.unwrap();
    let stored = world.stored("web").await;
    assert_eq!(
        (&stored["status"]["currentStepIndex"], &stored["spec"]["paused"]),
        (&json!(1), &json!(false))
    );
}

#[tokio::test(start_paused = true)]
async fn whatever_is_stale_is_refused() {
    for (status, request, reason) in [
        (updating(1), promote("other", Some(1), Target::Next(())), "STALE_HASH"),
        (updating(1), promote("canary", Some(0), Target::Next(())), "STALE_STEP"),
        (updating(1), promote("canary", Some(2), Target::Full(())), "STALE_STEP"),
        (updating(1), promote("canary", Some(1), Target::ToStepIndex(1)), "STEP_NOT_AHEAD"),
        (updating(3), promote("canary", Some(3), Target::ToStepIndex(0)), "STEP_NOT_AHEAD"),
        (json!({ "abort": true }), promote("canary", Some(1), Target::Next(())), "ROLLOUT_ABORTED"),
        (json!({ "stableRS": "canary" }), promote("canary", Some(1), Target::Next(())), "NOTHING_TO_PROMOTE"),
        (json!({ "stableRS": "canary" }), promote("canary", Some(1), Target::Full(())), "NOTHING_TO_PROMOTE"),
        (json!({ "promoteFull": true }), promote("canary", Some(1), Target::Full(())), "NOTHING_TO_PROMOTE"),
        (json!({ "pauseConditions": null }), promote("canary", Some(1), Target::Next(())), "STALE_STEP"),
    ] {
        let world = World::new().await;
        world.in_the_middle("web", 1).await;
        world.seen("web", &status).await;
        refused(world.untouched(world.rollouts().promote_rollout(request)).await)
            .is(Code::FailedPrecondition, reason);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_or_impossible_is_named() {
    let world = World::new().await;
    world.in_the_middle("web", 1).await;
    let next = Target::Next(());
    for (request, field) in [
        (v1::PromoteRolloutRequest { from: None, ..promote("", None, next) }, "from"),
        (promote("", Some(1), next), "from.pod_template_hash"),
        (promote("canary", None, next), "from.step_index"),
        (v1::PromoteRolloutRequest { target: None, ..promote("canary", Some(1), next) }, "target"),
        (promote("canary", Some(1), Target::ToStepIndex(-1)), "to_step_index"),
        (promote("canary", Some(1), Target::ToStepIndex(5)), "to_step_index"),
    ] {
        refused(world.untouched(world.rollouts().promote_rollout(request)).await).names_fields(&[field]);
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_clients_that_promote_the_same_step_one_moves_it() {
    for target in [Target::Next(()), Target::ToStepIndex(2), Target::Full(())] {
        let world = World::new().await;
        world.in_the_middle("web", 1).await;
        let (mut one, mut other) = (world.rollouts(), world.rollouts());
        let (one, other) = tokio::join!(
            one.promote_rollout(promote("canary", Some(1), target)),
            other.promote_rollout(promote("canary", Some(1), target)),
        );
        let mut codes = [one, other].map(|answer| answer.map_or_else(|status| status.code(), |_| Code::Ok));
        codes.sort_by_key(|code| *code as i32);
        assert_eq!(codes, [Code::Ok, Code::FailedPrecondition], "{target:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_double_click_moves_one_step() {
    let world = World::new().await;
    world.in_the_middle("web", 1).await;
    world.rollouts().promote_rollout(promote("canary", Some(1), Target::Next(()))).await.unwrap();
    world.settle().await;
    refused(
        world.untouched(world.rollouts().promote_rollout(promote("canary", Some(1), Target::Next(())))).await,
    )
    .is(Code::FailedPrecondition, "STALE_STEP")
    .says("promoted already");
}

#[tokio::test(start_paused = true)]
async fn a_rollout_without_steps_is_promoted_without_a_step() {
    let world = World::new().await;
    world.store_rollout("web").await;
    world.patch("web", &json!({ "spec": { "strategy": { "canary": { "steps": null } } } })).await;
    world.seen("web", &json!({ "currentPodHash": "canary", "stableRS": "stable" })).await;
    let next = Target::Next(());
    refused(world.untouched(world.rollouts().promote_rollout(promote("canary", Some(0), next))).await)
        .is(Code::FailedPrecondition, "STALE_STEP");
    refused(world.untouched(world.rollouts().promote_rollout(promote("canary", None, next))).await)
        .is(Code::FailedPrecondition, "NOTHING_TO_PROMOTE");
    world.rollouts().promote_rollout(promote("canary", None, Target::Full(()))).await.unwrap();
    assert_eq!(world.stored("web").await["status"]["promoteFull"], true);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_spec_is_neither_promoted_nor_aborted_but_rolled_back() {
    let world = World::new().await;
    world.in_the_middle("web", 1).await;
    world.store_set("web", "stable", 1, "web:old").await;
    world.store_set("web", "canary", 2, "web:new").await;
    let at = "2026-01-01T00:00:00Z";
    let invalid = json!({ "type": "InvalidSpec", "status": "True", "reason": "InvalidSpec", "message": "spec.template: bad",
        "lastUpdateTime": at, "lastTransitionTime": at });
    world.seen("web", &json!({ "conditions": [invalid] })).await;
    refused(world.rollouts().promote_rollout(promote("canary", Some(1), Target::Next(()))).await)
        .is(Code::FailedPrecondition, "INVALID_SPEC")
        .says("spec.template: bad");
    let abort = v1::AbortRolloutRequest { name: name("web"), ..Default::default() };
    refused(world.rollouts().abort_rollout(abort).await).is(Code::FailedPrecondition, "INVALID_SPEC");

    let from = v1::rollback_rollout_request::From { pod_template_hash: "canary".to_owned() };
    let undo = v1::RollbackRolloutRequest { name: name("web"), from: Some(from), ..Default::default() };
    world.rollouts().rollback_rollout(undo).await.unwrap();
    let image = &world.stored("web").await["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "web:new");
}
