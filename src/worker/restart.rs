//! Evicts pods that are to be restarted, as far as PodDisruptionBudgets permit.
//!
//! How many may go was decided on a look at all pods of the rollout; the next are decided on once those are seen to go.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::planner::Shared;
use super::queue::work;
use crate::plan::{Attempt, Eviction, Evictions};
use crate::store::{DISRUPTION_BUDGET, Fate, Key, WriteError, Writer};

/// Runs until it is told to stop.
pub(super) async fn run(shared: Arc<Shared>, writer: Writer, limit: usize, stop: CancellationToken) {
    let carry_out = |key: Key, evictions: Evictions| {
        let span =
            tracing::info_span!("write", namespace = %key.namespace, rollout = %key.name, object = "pods");
        carry_out(Arc::clone(&shared), writer.clone(), key, evictions).instrument(span)
    };
    work(&shared.evictions, limit, stop, carry_out).await;
}

async fn carry_out(shared: Arc<Shared>, writer: Writer, key: Key, evictions: Evictions) {
    // It was decided before the last ones went.
    if shared.store.own.awaits_pods(&key) {
        return shared.wake(&key);
    }
    let mut left = evictions.at_most;
    for Eviction { pod, uid, set } in evictions.pods {
        if left == 0 {
            return;
        }
        // What a budget refuses for one pod of a set it refuses for all: one request asks for a thousand.
        let attempt = Attempt::Evict(set);
        if shared.store.memory.next_try(&key, &attempt, shared.clock.now()).is_some() {
            continue;
        }
        match writer.evict(&key, &pod, &uid).await {
            Ok(()) => {
                tracing::info!(pod, "evicted pod");
                shared.store.memory.succeeded(&key, &attempt);
                left -= 1;
            }
            // It was counted as available, and is missing as if it had been evicted now. It is planned again when the cache shows that.
            Err(WriteError::Stale | WriteError::Gone | WriteError::Taken) => left -= 1,
            Err(WriteError::Refused(refusal)) if refusal.reason == DISRUPTION_BUDGET => {
                shared.put_off(&key, attempt, &refusal.reason, &refusal.message);
            }
            Err(WriteError::Refused(refusal)) => {
                // It may have gone all the same.
                left -= usize::from(refusal.fate == Fate::Unknown);
                shared.refused(&key, attempt, &refusal.reason, &refusal.message);
            }
        }
    }
}
