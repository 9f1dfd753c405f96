//! Writes the rollout itself: its object, then its status, and records the events of both.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::planner::Shared;
use super::queue::work;
use super::recorder::{About, Recorder};
use crate::plan::{Attempt, Ended, RolloutPart, Version, Write};
use crate::store::{Key, ObjectId, WriteError, Writer};

/// How long events of a status wait for those of the ReplicaSets that the same plan moved: only their order is at stake.
const EVENTS_WAIT: Duration = Duration::from_secs(1);

/// How long a status that is the first about a new spec waits for writes to ReplicaSets that are on their way: as long as one may
/// take.
const SIZES_WAIT: Duration = Duration::from_secs(10);

/// The rollout's part of a plan.
pub(super) struct RolloutJob {
    pub(super) about: About,
    pub(super) part: RolloutPart,
    /// The version that was decided on.
    pub(super) version: Version,
    /// Resolves when the ReplicaSets' part of the same plan is through.
    pub(super) sets_done: oneshot::Receiver<()>,
}

/// Runs until it is told to stop.
pub(super) async fn run(
    shared: Arc<Shared>,
    writer: Writer,
    recorder: Recorder,
    limit: usize,
    stop: CancellationToken,
) {
    let carry_out = |key: Key, job: RolloutJob| {
        let span =
            tracing::info_span!("write", namespace = %key.namespace, rollout = %key.name, object = "rollout");
        carry_out(Arc::clone(&shared), writer.clone(), recorder.clone(), key, job).instrument(span)
    };
    work(&shared.rollouts, limit, stop, carry_out).await;
}

async fn carry_out(shared: Arc<Shared>, writer: Writer, recorder: Recorder, key: Key, job: RolloutJob) {
    let RolloutJob { about, part, version, sets_done } = job;
    if !shared.store.own.allows(&ObjectId::Rollout(key.clone()), &version.resource_version) {
        return shared.wake(&key);
    }
    if shared.store.memory.next_try(&key, &Attempt::Rollout, shared.clock.now()).is_some() {
        return;
    }
    if takes_over(&part) {
        // Sizes of the spec before may be on their way; seen after this status they would break the limits of the new one.
        let _ = tokio::time::timeout(SIZES_WAIT, shared.sets.quiet(&key)).await;
    }
    let mut events = Vec::new();
    let ended = part.ended.clone();
    match write(&writer, &key, version, part, &mut events).await {
        Ok(()) => {
            shared.store.memory.succeeded(&key, &Attempt::Rollout);
            if let Some(Ended { how, seconds, paused_seconds }) = ended {
                shared.metrics.ended(how.as_str(), seconds, paused_seconds);
            }
        }
        Err(WriteError::Stale | WriteError::Gone) => shared.wake(&key),
        Err(WriteError::Taken) => {}
        Err(WriteError::Refused(refusal)) => {
            shared.refused(&key, Attempt::Rollout, &refusal.reason, &refusal.message);
        }
    }
    if !events.is_empty() {
        // Resolves (with an error) when the other part is dropped.
        let _ = tokio::time::timeout(EVENTS_WAIT, sets_done).await;
        recorder.record(&about, events);
    }
}

/// Whether a status is the first about a new spec.
fn takes_over(part: &RolloutPart) -> bool {
    const GENERATIONS: [&str; 2] = ["observedGeneration", "workloadObservedGeneration"];
    let is_first = |write: &Write| GENERATIONS.iter().any(|field| write.patch.get(field).is_some());
    part.status.as_ref().is_some_and(is_first)
}

async fn write(
    writer: &Writer,
    key: &Key,
    mut version: Version,
    part: RolloutPart,
    events: &mut Vec<crate::plan::Event>,
) -> Result<(), WriteError> {
    if let Some(object) = part.object {
        version = writer.patch_rollout(key, &version, &object.patch).await?;
        tracing::info!(patch = %object.patch, "patched rollout");
        events.extend(object.events);
    }
    if let Some(status) = part.status {
        writer.patch_status(key, &version, &status.patch).await?;
        tracing::info!(patch = %status.patch, "patched status");
        events.extend(status.events);
    }
    Ok(())
}
