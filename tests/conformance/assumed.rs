//! What people are assumed to do: promotions and an abort that PlanRollout foretells come about when somebody does so.

use rolloutd::crd::RolloutPhase;
use rolloutd::pb::v1::PlanAssumptions;
use serde_json::json;

use crate::drive::{Drive, Driver};
use crate::scenarios::{endless, healthy, in_virtual_time, is, paused_at};
use crate::world::{World, manifest, manifest_of};

/// Runs an update whose future is foretold with somebody in it.
fn foretelling(update: impl AsyncFn(&Drive<'_>)) {
    for driver in Driver::ALL {
        in_virtual_time(async || {
            let world = World::embedded().await.foretelling().await;
            update(&Drive { world: &world, driver }).await;
            world.finish().await;
        });
    }
}

/// Foretells anew what comes of the last operation, with operations that are yet to come.
async fn assuming(drive: &Drive<'_>, assumptions: PlanAssumptions, operations: usize) {
    let foretold = drive.world.foretold.as_ref().expect("it is foretold");
    foretold.ask_assuming(drive.world, "an update with people", assumptions, operations).await;
}

#[test]
fn endless_pauses_that_are_promoted() {
    foretelling(async |drive| {
        drive.create(manifest(10, endless())).await;
        healthy(drive).await;
        drive.set_image("v2").await;
        let promoted = PlanAssumptions { promote_pauses: true, ..Default::default() };
        assuming(drive, promoted, 2).await;
        paused_at(drive, 1).await;
        drive.promote().await;
        paused_at(drive, 3).await;
        drive.promote().await;
        healthy(drive).await;
    });
}

#[test]
fn an_update_that_is_aborted_at_a_step() {
    foretelling(async |drive| {
        drive.create(manifest(10, endless())).await;
        healthy(drive).await;
        drive.set_image("v2").await;
        let aborted = PlanAssumptions { abort_at_step: Some(1), ..Default::default() };
        assuming(drive, aborted, 1).await;
        paused_at(drive, 1).await;
        drive.abort().await;
        drive.world.until("aborted", is(RolloutPhase::Degraded)).await;
    });
}

#[test]
fn a_blue_green_update_that_is_promoted() {
    foretelling(async |drive| {
        drive.create_services(&["active", "preview"]).await;
        let strategy =
            json!({ "activeService": "active", "previewService": "preview", "autoPromotionEnabled": false });
        drive.create(manifest_of(3, json!({ "blueGreen": strategy }))).await;
        healthy(drive).await;
        drive.set_image("v2").await;
        let promoted = PlanAssumptions { promote_pauses: true, ..Default::default() };
        assuming(drive, promoted, 1).await;
        drive.world.until("waiting for its promotion", is(RolloutPhase::Paused)).await;
        drive.promote().await;
        healthy(drive).await;
    });
}
