//! Writes the Deployment that a rollout takes over from: how many replicas it keeps.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::beside::Beside;
use super::planner::Shared;
use super::queue::work;
use super::recorder::{About, Recorder};
use crate::plan::{Attempt, Version, WorkloadAction};
use crate::store::{Key, ObjectId, Writer};

/// The workload's part of a plan.
pub(super) struct WorkloadJob {
    pub(super) about: About,
    pub(super) action: WorkloadAction,
    /// The version of the rollout that was decided on.
    pub(super) rollout: Version,
}

/// Runs until it is told to stop.
pub(super) async fn run(
    shared: Arc<Shared>,
    writer: Writer,
    recorder: Recorder,
    limit: usize,
    stop: CancellationToken,
) {
    let carry_out = |key: Key, job: WorkloadJob| {
        let span = tracing::info_span!("write", namespace = %key.namespace, rollout = %key.name, object = "workload");
        carry_out(Arc::clone(&shared), writer.clone(), recorder.clone(), key, job).instrument(span)
    };
    work(&shared.workloads, limit, stop, carry_out).await;
}

async fn carry_out(shared: Arc<Shared>, writer: Writer, recorder: Recorder, key: Key, job: WorkloadJob) {
    let WorkloadJob { about, action: WorkloadAction { name, version, write }, rollout } = job;
    let beside = Beside {
        key: &key,
        rollout: &rollout,
        object: ObjectId::Workload(name.kind, Key::new(&*key.namespace, &*name.name)),
        version: &version,
        attempt: Attempt::Workload(name.clone()),
    };
    let request = async {
        writer.patch_deployment(&key, &name.name, &version, &write.patch).await?;
        tracing::info!(workload = %name, patch = %write.patch, "patched workload");
        Ok(())
    };
    // There is no other write that would be broken off.
    let _ = beside.send(&shared, request, (&recorder, &about, write.events.clone())).await;
}
