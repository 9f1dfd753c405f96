//! Somebody else writes between the services' read and their write: what they decided on must still hold.

use rolloutd::pb::v1;
use serde_json::json;
use tonic::Code;
use v1::promote_rollout_request::{From as Seen, Target};

use crate::expect::refused;
use crate::world::{World, manifest, name};

fn promote(target: Target) -> v1::PromoteRolloutRequest {
    v1::PromoteRolloutRequest {
        name: name("web"),
        from: Some(Seen { pod_template_hash: "canary".to_owned(), step_index: Some(1) }),
        target: Some(target),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn an_abort_just_before_a_promotion_is_not_overwritten() {
    for target in [Target::Next(()), Target::Full(()), Target::ToStepIndex(3)] {
        let world = World::new().await;
        world.in_the_middle("web", 1).await;
        world.intrude("web", Some("status"), json!({ "status": { "abort": true } }));
        refused(world.rollouts().promote_rollout(promote(target)).await)
            .is(Code::FailedPrecondition, "ROLLOUT_ABORTED");
        let status = world.stored("web").await["status"].clone();
        assert_eq!((&status["abort"], &status["currentStepIndex"]), (&json!(true), &json!(1)), "{target:?}");
        assert!(status["pauseConditions"].is_array() && status["promoteFull"].is_null(), "{target:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_went_on_just_before_is_not_promoted_again() {
    let world = World::new().await;
    world.in_the_middle("web", 1).await;
    let went_on = json!({ "currentStepIndex": 2, "controllerPause": null, "pauseConditions": null });
    world.intrude("web", Some("status"), json!({ "status": went_on }));
    refused(world.rollouts().promote_rollout(promote(Target::Next(()))).await)
        .is(Code::FailedPrecondition, "STALE_STEP")
        .says("step 2 runs");
    assert_eq!(world.stored("web").await["status"]["currentStepIndex"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_new_version_just_before_is_not_promoted() {
    let world = World::new().await;
    world.in_the_middle("web", 1).await;
    world.intrude("web", None, json!({ "spec": { "template": { "metadata": { "labels": { "v": "3" } } } } }));
    // The status still speaks of the version that the caller saw; the generation tells.
    refused(world.rollouts().promote_rollout(promote(Target::Full(()))).await)
        .is(Code::FailedPrecondition, "NOT_OBSERVED");
    assert!(world.stored("web").await["status"]["promoteFull"].is_null());
}

#[tokio::test(start_paused = true)]
async fn two_changes_of_different_fields_both_stay() {
    let world = World::new().await;
    world.store_rollout("web").await;
    world.intrude(
        "web",
        None,
        json!({ "spec": { "minReadySeconds": 8 }, "metadata": { "labels": { "x": "y" } } }),
    );
    let spec = v1::RolloutSpec { replicas: Some(9), ..Default::default() };
    let rollout = v1::Rollout { name: name("web"), spec: Some(spec), ..Default::default() };
    let update = v1::UpdateRolloutRequest { rollout: Some(rollout), ..Default::default() };
    world.rollouts().update_rollout(update).await.unwrap();
    let stored = world.stored("web").await;
    assert_eq!((&stored["spec"]["replicas"], &stored["spec"]["minReadySeconds"]), (&json!(9), &json!(8)));
    assert_eq!(stored["metadata"]["labels"]["x"], "y");
}

#[tokio::test(start_paused = true)]
async fn the_etag_is_checked_against_what_is_written_to() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let get = v1::GetRolloutRequest { name: name("web"), ..Default::default() };
    let etag = world.rollouts().get_rollout(get).await.unwrap().into_inner().rollout.unwrap().etag;
    let scale = |etag: &str| v1::ScaleRolloutRequest {
        name: name("web"),
        replicas: Some(9),
        etag: etag.to_owned(),
        ..Default::default()
    };
    world.intrude("web", None, json!({ "spec": { "minReadySeconds": 8 } }));
    refused(world.rollouts().scale_rollout(scale(&etag)).await).is(Code::Aborted, "ETAG_MISMATCH");
    assert_eq!(world.stored("web").await["spec"]["replicas"], 5);

    // The status is nobody's edit: it is tried again.
    world.intrude("web", Some("status"), json!({ "status": { "phase": "Healthy" } }));
    let delete = v1::DeleteRolloutRequest { name: name("web"), etag: etag.clone(), ..Default::default() };
    refused(world.untouched(world.rollouts().delete_rollout(delete)).await)
        .is(Code::Aborted, "ETAG_MISMATCH");
    assert!(!world.was_intruded());
    let scaled = world.rollouts().scale_rollout(scale("")).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(9));
    assert!(world.was_intruded());
}

#[tokio::test(start_paused = true)]
async fn a_manifest_is_merged_with_what_somebody_wrote_meanwhile() {
    let world = World::new().await;
    let text = |replicas: i32| {
        let mut manifest = manifest("web");
        manifest["spec"]["replicas"] = json!(replicas);
        manifest.to_string()
    };
    world.apply(&text(3)).await;
    world.intrude("web", None, json!({ "spec": { "minReadySeconds": 8 } }));
    world.apply(&text(4)).await;
    assert!(world.was_intruded());
    let spec = world.stored("web").await["spec"].clone();
    assert_eq!((&spec["replicas"], &spec["minReadySeconds"]), (&json!(4), &json!(8)));
}
