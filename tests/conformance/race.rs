//! Clients that want the same thing at the same time.

use rolloutd::pb::v1;
use rolloutd::pb::v1::promote_rollout_request::{From as Seen, Target};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::drive::{Drive, Driver};
use crate::scenarios::{endless, healthy, paused_at};
use crate::world::{World, manifest};

on_both! {
    two_clients_promote_the_same_step_and_one_step_moves
    of_many_clients_that_promote_one_step_one_succeeds
}

async fn promote(drive: &Drive<'_>, from: &Seen) -> Result<(), tonic::Status> {
    let request = v1::PromoteRolloutRequest {
        name: drive.name(),
        from: Some(from.clone()),
        target: Some(Target::Next(())),
        ..Default::default()
    };
    drive.world.rpc().promote_rollout(request).await.map(|_| ())
}

fn refused_as_stale(outcome: &Result<(), tonic::Status>) -> bool {
    let Err(status) = outcome else { return false };
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    assert_eq!(status.get_details_error_info().map(|info| info.reason).as_deref(), Some("STALE_STEP"));
    true
}

/// Promotes the first of two endless pauses by so many clients at once.
async fn promoted_by(world: World, clients: usize) {
    let drive = Drive { world: &world, driver: Driver::Rpcs };
    drive.create(manifest(3, endless())).await;
    healthy(&drive).await;
    drive.set_image("v2").await;
    paused_at(&drive, 1).await;
    let from = drive.seen().await;
    let outcomes = futures::future::join_all((0..clients).map(|_| promote(&drive, &from))).await;
    let refused = outcomes.iter().filter(|outcome| refused_as_stale(outcome)).count();
    assert_eq!(refused, clients - 1, "{outcomes:?}");
    paused_at(&drive, 3).await;
    // One that comes late has seen what is no more.
    assert!(refused_as_stale(&promote(&drive, &from).await));
    paused_at(&drive, 3).await;
    world.finish().await;
}

async fn two_clients_promote_the_same_step_and_one_step_moves(world: World) {
    promoted_by(world, 2).await;
}

async fn of_many_clients_that_promote_one_step_one_succeeds(world: World) {
    promoted_by(world, 12).await;
}
