//! Blue-green updates. Each scenario runs on both clusters, by both drivers, with several sizes; every switch of the active Service and
//! every write to its version is checked.

use std::collections::BTreeMap;
use std::time::Duration;

use rolloutd::crd::{ConditionType, Rollout, RolloutPhase, keys};
use serde_json::{Value, json};

use crate::drive::Drive;
use crate::scenarios::{healthy, is};
use crate::world::manifest_of;

scenarios! {
    the_first_version_becomes_active
    manual_promotion
    automatic_promotion
    promotion_after_a_time
    promotion_before_its_time
    full_promotion
    a_preview_of_another_size
    the_old_version_stays_for_the_scale_down_delay
    only_so_many_old_versions_stay_for_the_delay
    rollback_inside_the_delay
    rollback_outside_the_delay
    rollback_within_the_window
    abort_then_retry
    abort_then_undo
    undo_while_waiting
    superseded_while_waiting
    superseded_while_the_second_never_becomes_available
    the_deadline_without_a_pause
    the_deadline_that_aborts
    the_deadline_does_not_run_in_the_pause
    scale_while_waiting
    paused_by_spec
    to_canary_and_back
    a_service_that_comes_later
    delete_gives_services_their_selectors_back
}

/// A strategy that waits for its promotion.
fn manual(more: Value) -> Value {
    strategy(json!({ "autoPromotionEnabled": false }), more)
}

fn strategy(mut base: Value, more: Value) -> Value {
    json_patch::merge(&mut base, &json!({ "activeService": "active", "previewService": "preview" }));
    json_patch::merge(&mut base, &more);
    json!({ "blueGreen": base })
}

/// A rollout at v1, Healthy and active.
async fn deployed(drive: &Drive<'_>, replicas: i32, strategy: Value) {
    deploy(drive, manifest_of(replicas, strategy)).await;
}

async fn deploy(drive: &Drive<'_>, manifest: Value) {
    drive.create_services(&["active", "preview"]).await;
    drive.create(manifest).await;
    healthy(drive).await;
}

async fn waiting(drive: &Drive<'_>) -> Rollout {
    let paused = is(RolloutPhase::Paused);
    drive
        .world
        .until("waiting for its promotion", |rollout| {
            paused(rollout) && rollout.status().message.as_deref() == Some("BlueGreenPause")
        })
        .await
}

/// Checks which versions the Services select. The phase tells of the active one; the preview follows on its own.
async fn serving(drive: &Drive<'_>, active: &str, preview: &str) {
    assert_eq!(drive.served_by("active").await, active);
    let previewed = async {
        while drive.served_by("preview").await != preview {
            drive.world.pass(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), previewed).await.expect("the preview follows");
}

/// Waits until the set of a version has so many pods wanted.
async fn sized(drive: &Drive<'_>, version: &str, replicas: i32) {
    let sized = async {
        while drive.replicas(version).await != replicas {
            drive.world.pass(Duration::from_millis(100)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(60), sized).await;
    assert!(in_time.is_ok(), "{version} never came to {replicas} pods: {:#?}", drive.sets().await);
}

async fn the_first_version_becomes_active(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, manual(json!({}))).await;
    let rollout = healthy(drive).await;
    let status = rollout.status();
    serving(drive, "v1", "v1").await;
    let hash = status.current_pod_hash();
    assert_eq!((status.stable_rs(), status.hpa_replicas), (hash, Some(replicas)));
    assert_eq!(
        status.selector.as_deref(),
        Some(format!("app=web,{}={hash}", keys::POD_TEMPLATE_HASH).as_str())
    );
    let blue_green = status.blue_green.as_ref().unwrap();
    assert_eq!(blue_green.active_selector.as_deref(), Some(hash));
    assert_eq!(blue_green.preview_selector.as_deref(), Some(hash));
}

async fn manual_promotion(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, manual(json!({}))).await;
    drive.set_image("v2").await;
    let rollout = waiting(drive).await;
    serving(drive, "v1", "v2").await;
    assert_eq!(rollout.status().updated_replicas, Some(replicas));
    assert!(rollout.status().duration.as_ref().unwrap().manual_pause_started_at.is_some());
    drive.promote().await;
    let rollout = healthy(drive).await;
    serving(drive, "v2", "v2").await;
    let duration = rollout.status().duration.clone().unwrap();
    assert_eq!(duration.completion_status.unwrap().as_str(), "Promoted");
    assert!(duration.finished_at.is_some() && duration.manual_pause_started_at.is_none());
}

async fn automatic_promotion(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, strategy(json!({}), json!({}))).await;
    drive.set_image("v2").await;
    healthy(drive).await;
    serving(drive, "v2", "v2").await;
    let events = drive.world.events().await;
    assert!(!events.iter().any(|event| event.starts_with("RolloutPaused")), "{events:#?}");
}

async fn promotion_after_a_time(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, strategy(json!({}), json!({ "autoPromotionSeconds": 2 }))).await;
    drive.set_image("v2").await;
    waiting(drive).await;
    healthy(drive).await;
    serving(drive, "v2", "v2").await;
    drive.world.until_event("RolloutResumed").await;
}

async fn promotion_before_its_time(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, strategy(json!({}), json!({ "autoPromotionSeconds": 3600 }))).await;
    drive.set_image("v2").await;
    waiting(drive).await;
    drive.promote().await;
    healthy(drive).await;
    serving(drive, "v2", "v2").await;
}

async fn full_promotion(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, manual(json!({ "previewReplicaCount": 1 }))).await;
    drive.set_image("v2").await;
    waiting(drive).await;
    drive.promote_full().await;
    let rollout = healthy(drive).await;
    assert!(!rollout.status().promote_full());
    serving(drive, "v2", "v2").await;
    drive.world.until_event("RolloutCompleted: Rollout completed update to revision 2").await;
}

async fn a_preview_of_another_size(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, manual(json!({ "previewReplicaCount": 2 }))).await;
    drive.set_image("v2").await;
    let rollout = waiting(drive).await;
    assert_eq!(rollout.status().updated_replicas, Some(2));
    assert_eq!((drive.replicas("v1").await, drive.replicas("v2").await), (replicas, 2));
    drive.promote().await;
    let is_whole = |rollout: &Rollout| rollout.status().updated_replicas == Some(replicas);
    drive.world.until("whole", |rollout| is(RolloutPhase::Healthy)(rollout) && is_whole(rollout)).await;
    serving(drive, "v2", "v2").await;
}

async fn the_old_version_stays_for_the_scale_down_delay(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, strategy(json!({}), json!({ "scaleDownDelaySeconds": 3 }))).await;
    drive.set_image("v2").await;
    healthy(drive).await;
    assert_eq!(drive.replicas("v1").await, replicas);
    sized(drive, "v1", 0).await;
    let old = drive.sets().await.into_iter().find(|set| set.spec.replicas == Some(0)).unwrap();
    assert!(!old.metadata.annotations.unwrap().contains_key(keys::SCALE_DOWN_DEADLINE));
    healthy(drive).await;
}

async fn only_so_many_old_versions_stay_for_the_delay(drive: &Drive<'_>, replicas: i32) {
    let more = json!({ "scaleDownDelaySeconds": 3600, "scaleDownDelayRevisionLimit": 1 });
    let mut manifest = manifest_of(replicas, strategy(json!({}), more));
    manifest["spec"]["revisionHistoryLimit"] = json!(1);
    deploy(drive, manifest).await;
    for version in ["v2", "v3"] {
        drive.set_image(version).await;
        healthy(drive).await;
        serving(drive, version, version).await;
    }
    sized(drive, "v1", 0).await;
    assert_eq!((drive.replicas("v2").await, drive.replicas("v3").await), (replicas, replicas));
    let deleted = async {
        while drive.sets().await.len() > 2 {
            drive.world.pass(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), deleted).await.expect("the oldest is deleted");
}

async fn rollback_inside_the_delay(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, manual(json!({ "scaleDownDelaySeconds": 3600 }))).await;
    drive.set_image("v2").await;
    waiting(drive).await;
    drive.promote().await;
    healthy(drive).await;
    drive.world.until_event("RolloutCompleted: Rollout completed update to revision 2").await;
    deadline_noted(drive, "v1").await;
    drive.undo(1).await;
    let rollout = drive
        .world
        .until("back without a pause", |rollout| {
            is(RolloutPhase::Healthy)(rollout)
                && rollout.metadata.annotations.as_ref().unwrap()[keys::REVISION] == "3"
        })
        .await;
    serving(drive, "v1", "v1").await;
    let how = rollout.status().duration.as_ref().and_then(|duration| duration.completion_status.clone());
    assert_eq!(how.unwrap().as_str(), "FastRolledBack");
    deadline_noted(drive, "v2").await;
}

/// Waits until the set of a version is to be scaled down.
async fn deadline_noted(drive: &Drive<'_>, version: &str) {
    let noted = async {
        loop {
            let sets = drive.sets().await;
            let is_noted = |set: &k8s_openapi::api::apps::v1::ReplicaSet| {
                let image = &set.spec.template.as_ref().unwrap().spec.as_ref().unwrap().containers[0].image;
                *image == Some(crate::world::image(version))
                    && set.metadata.annotations.as_ref().unwrap().contains_key(keys::SCALE_DOWN_DEADLINE)
            };
            if sets.iter().any(is_noted) {
                return;
            }
            drive.world.pass(Duration::from_millis(100)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(60), noted).await;
    assert!(in_time.is_ok(), "{version} is not to be scaled down: {:#?}", drive.sets().await);
}

async fn rollback_outside_the_delay(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, manual(json!({ "scaleDownDelaySeconds": 1 }))).await;
    drive.set_image("v2").await;
    waiting(drive).await;
    drive.promote().await;
    healthy(drive).await;
    sized(drive, "v1", 0).await;
    drive.undo(1).await;
    waiting(drive).await;
    serving(drive, "v2", "v1").await;
    drive.promote().await;
    let rollout = healthy(drive).await;
    serving(drive, "v1", "v1").await;
    let how = rollout.status().duration.as_ref().and_then(|duration| duration.completion_status.clone());
    assert_eq!(how.unwrap().as_str(), "RolledBack");
}

async fn rollback_within_the_window(drive: &Drive<'_>, replicas: i32) {
    let mut manifest = manifest_of(replicas, manual(json!({ "scaleDownDelaySeconds": 1 })));
    manifest["spec"]["rollbackWindow"] = json!({ "revisions": 1 });
    deploy(drive, manifest).await;
    drive.set_image("v2").await;
    waiting(drive).await;
    drive.promote().await;
    healthy(drive).await;
    sized(drive, "v1", 0).await;
    drive.undo(1).await;
    let is_third = |rollout: &Rollout| rollout.metadata.annotations.as_ref().unwrap()[keys::REVISION] == "3";
    let is_back = |rollout: &Rollout| is(RolloutPhase::Healthy)(rollout) && is_third(rollout);
    let rollout = drive.world.until("back without a pause", is_back).await;
    serving(drive, "v1", "v1").await;
    let how = rollout.status().duration.as_ref().and_then(|duration| duration.completion_status.clone());
    assert_eq!(how.unwrap().as_str(), "FastRolledBack");
    drive.world.until_event("RolloutCompleted: Rollout completed update to revision 3").await;
}

async fn abort_then_retry(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, manual(json!({ "abortScaleDownDelaySeconds": 1 }))).await;
    drive.set_image("v2").await;
    waiting(drive).await;
    drive.abort().await;
    let rollout = drive.world.until("aborted", is(RolloutPhase::Degraded)).await;
    let message = rollout.status().message.as_deref();
    assert_eq!(message, Some("RolloutAborted: Rollout aborted update to revision 2"));
    assert_eq!(drive.served_by("active").await, "v1");
    sized(drive, "v2", 0).await;
    assert_eq!(drive.replicas("v1").await, replicas);
    drive.retry().await;
    waiting(drive).await;
    drive.promote().await;
    healthy(drive).await;
    serving(drive, "v2", "v2").await;
}

async fn abort_then_undo(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, manual(json!({}))).await;
    drive.set_image("v2").await;
    waiting(drive).await;
    drive.abort().await;
    drive.world.until("aborted", is(RolloutPhase::Degraded)).await;
    drive.undo(1).await;
    let rollout = healthy(drive).await;
    assert!(!rollout.status().abort());
    serving(drive, "v1", "v1").await;
}

async fn undo_while_waiting(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, manual(json!({ "scaleDownDelaySeconds": 1 }))).await;
    drive.set_image("v2").await;
    waiting(drive).await;
    drive.undo(1).await;
    healthy(drive).await;
    serving(drive, "v1", "v1").await;
    sized(drive, "v2", 0).await;
}

async fn superseded_while_waiting(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, manual(json!({ "scaleDownDelaySeconds": 1 }))).await;
    drive.set_image("v2").await;
    waiting(drive).await;
    drive.set_image("v3").await;
    of_revision(drive, "3").await;
    serving(drive, "v1", "v3").await;
    drive.promote().await;
    healthy(drive).await;
    serving(drive, "v3", "v3").await;
    sized(drive, "v2", 0).await;
    sized(drive, "v1", 0).await;
}

/// Waits until the update to a revision waits for its promotion.
async fn of_revision(drive: &Drive<'_>, revision: &str) {
    let paused = is(RolloutPhase::Paused);
    let of_revision = |rollout: &Rollout| {
        paused(rollout) && rollout.metadata.annotations.as_ref().unwrap()[keys::REVISION] == revision
    };
    drive.world.until("the revision waits", of_revision).await;
}

async fn superseded_while_the_second_never_becomes_available(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, manual(json!({ "scaleDownDelaySeconds": 1 }))).await;
    drive.set_image("never").await;
    let of_second = |rollout: &Rollout| rollout.status().updated_replicas == Some(replicas);
    let is_second = |rollout: &Rollout| rollout.status().current_pod_hash() != rollout.status().stable_rs();
    drive.world.until("the second has pods", |rollout| of_second(rollout) && is_second(rollout)).await;
    drive.set_image("v3").await;
    of_revision(drive, "3").await;
    serving(drive, "v1", "v3").await;
    drive.promote().await;
    healthy(drive).await;
    sized(drive, "never", 0).await;
}

async fn the_deadline_without_a_pause(drive: &Drive<'_>, replicas: i32) {
    let mut manifest = manifest_of(replicas, strategy(json!({}), json!({})));
    manifest["spec"]["progressDeadlineSeconds"] = json!(3);
    deploy(drive, manifest).await;
    drive.set_image("never").await;
    let rollout = drive.world.until("Degraded", is(RolloutPhase::Degraded)).await;
    let progressing = rollout.status().condition(&ConditionType::Progressing).unwrap();
    assert_eq!(progressing.reason, "ProgressDeadlineExceeded");
    assert_eq!(drive.served_by("active").await, "v1");
    drive.set_image("v3").await;
    healthy(drive).await;
    serving(drive, "v3", "v3").await;
}

async fn the_deadline_that_aborts(drive: &Drive<'_>, replicas: i32) {
    let mut manifest = manifest_of(replicas, strategy(json!({}), json!({ "abortScaleDownDelaySeconds": 1 })));
    manifest["spec"]["progressDeadlineSeconds"] = json!(3);
    manifest["spec"]["progressDeadlineAbort"] = json!(true);
    deploy(drive, manifest).await;
    drive.set_image("never").await;
    let rollout = drive.world.until("Degraded", is(RolloutPhase::Degraded)).await;
    let message = rollout.status().message.as_deref().unwrap();
    assert!(message.starts_with("RolloutAborted: Rollout aborted update to revision 2: "), "{message}");
    assert!(rollout.status().abort() && message.ends_with(" has timed out progressing."), "{message}");
    sized(drive, "never", 0).await;
    serving(drive, "v1", "never").await;
    drive.set_image("v3").await;
    healthy(drive).await;
    serving(drive, "v3", "v3").await;
}

async fn the_deadline_does_not_run_in_the_pause(drive: &Drive<'_>, replicas: i32) {
    let mut manifest = manifest_of(replicas, manual(json!({})));
    manifest["spec"]["progressDeadlineSeconds"] = json!(3);
    deploy(drive, manifest).await;
    drive.set_image("v2").await;
    waiting(drive).await;
    drive.world.pass(Duration::from_secs(5)).await;
    let rollout = waiting(drive).await;
    let progressing = rollout.status().condition(&ConditionType::Progressing).unwrap();
    assert_eq!((progressing.reason.as_str(), progressing.status.as_str()), ("RolloutPaused", "Unknown"));
    drive.promote().await;
    healthy(drive).await;
}

async fn scale_while_waiting(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, manual(json!({}))).await;
    drive.set_image("v2").await;
    waiting(drive).await;
    for other in [replicas + 2, replicas] {
        drive.scale(other).await;
        let is_resized = |rollout: &Rollout| {
            let status = rollout.status();
            let counts = [status.updated_replicas, status.available_replicas, status.hpa_replicas];
            is(RolloutPhase::Paused)(rollout)
                && counts == [Some(other); 3]
                && status.replicas == Some(2 * other)
        };
        drive.world.until("resized", is_resized).await;
    }
    drive.promote().await;
    healthy(drive).await;
}

async fn paused_by_spec(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, strategy(json!({}), json!({}))).await;
    drive.pause().await;
    drive.set_image("v2").await;
    let is_up = |rollout: &Rollout| {
        let status = rollout.status();
        is(RolloutPhase::Paused)(rollout)
            && status.message.as_deref() == Some("manually paused")
            && status.updated_replicas == Some(replicas)
            && status.current_pod_hash() != status.stable_rs()
    };
    drive.world.until("up and held", is_up).await;
    drive.world.pass(Duration::from_secs(1)).await;
    serving(drive, "v1", "v1").await;
    drive.resume().await;
    healthy(drive).await;
    serving(drive, "v2", "v2").await;
}

async fn to_canary_and_back(drive: &Drive<'_>, replicas: i32) {
    let blue_green = manual(json!({ "scaleDownDelaySeconds": 1 }));
    deployed(drive, replicas, blue_green.clone()).await;
    drive.set_image("v2").await;
    waiting(drive).await;
    drive.strategy(json!({ "canary": { "steps": [{ "setWeight": 50 }, { "pause": {} }] } })).await;
    crate::scenarios::paused_at(drive, 1).await;
    released(drive).await;
    drive.promote().await;
    healthy(drive).await;
    drive.strategy(blue_green).await;
    let is_active = |rollout: &Rollout| {
        let active = rollout.status().blue_green.as_ref().and_then(|status| status.active_selector.clone());
        is(RolloutPhase::Healthy)(rollout) && active.as_deref() == Some(rollout.status().current_pod_hash())
    };
    drive.world.until("active again", is_active).await;
    serving(drive, "v2", "v2").await;
    drive.set_image("v3").await;
    waiting(drive).await;
    drive.promote().await;
    healthy(drive).await;
    serving(drive, "v3", "v3").await;
}

/// Waits until both Services have their own selectors back.
async fn released(drive: &Drive<'_>) {
    let released = async {
        for service in ["active", "preview"] {
            while !drive.selected(service).await.is_empty() {
                drive.world.pass(Duration::from_millis(100)).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), released).await.expect("Services select all pods again");
}

async fn a_service_that_comes_later(drive: &Drive<'_>, replicas: i32) {
    drive.create_services(&["preview"]).await;
    drive.create(manifest_of(replicas, manual(json!({})))).await;
    let rollout = drive.world.until("Degraded", is(RolloutPhase::Degraded)).await;
    let message = rollout.status().message.clone().unwrap();
    assert!(message.contains("spec.strategy.blueGreen.activeService"), "{message}");
    assert!(message.contains(r#"service "active" not found"#), "{message}");
    assert!(drive.sets().await.is_empty());
    drive.create_services(&["active"]).await;
    healthy(drive).await;
    serving(drive, "v1", "v1").await;
}

async fn delete_gives_services_their_selectors_back(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, manual(json!({}))).await;
    drive.delete().await;
    released(drive).await;
    for service in ["active", "preview"] {
        let service = drive.services().get(service).await.expect("it is the user's");
        assert!(!service.metadata.annotations.unwrap_or_default().contains_key(keys::MANAGED_BY_ROLLOUTS));
        let own = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        assert_eq!(service.spec.unwrap().selector, Some(own));
    }
}
