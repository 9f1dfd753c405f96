//! Writes the Deployment that a rollout takes over from: how many replicas it keeps.
//!
//! A write names the version of the Deployment that was decided on, and is not made once the cache shows another state of the rollout
//! than the one that was decided on: an abort that came meanwhile is seen before a Deployment loses pods.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::planner::Shared;
use super::queue::work;
use super::recorder::{About, Recorder};
use crate::plan::{Attempt, Version, WorkloadAction};
use crate::store::{Key, ObjectId, WriteError, Writer};

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
    let workload = ObjectId::Workload(name.kind, Key::new(&*key.namespace, &*name.name));
    let is_current =
        shared.store.rollouts.version(&key).is_none_or(|shown| shown == rollout.resource_version);
    if !is_current || !shared.store.own.allows(&workload, &version.resource_version) {
        return shared.wake(&key);
    }
    let attempt = Attempt::Workload(name.clone());
    if shared.is_put_off(&key, &attempt) {
        return;
    }
    match writer.patch_deployment(&key, &name.name, &version, &write.patch).await {
        Ok(()) => {
            tracing::info!(workload = %name, patch = %write.patch, "patched workload");
            shared.store.memory.succeeded(&key, &attempt);
            recorder.record(&about, write.events);
        }
        Err(WriteError::Stale | WriteError::Gone) => shared.wake(&key),
        Err(WriteError::Taken) => {}
        Err(WriteError::Refused(refusal)) => {
            shared.refused(&key, attempt, &refusal.reason, &refusal.message);
        }
    }
}
