//! Writes Services: which version each of them selects.
//!
//! A write names the version of the Service that was decided on, and is not made once the cache shows another state of the rollout than
//! the one that was decided on: an abort that came meanwhile is seen before a Service is switched.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::planner::Shared;
use super::queue::work;
use super::recorder::{About, Recorder};
use crate::plan::{Attempt, Basis, ServiceAction};
use crate::store::{Key, ObjectId, WriteError, Writer};

/// The Services' part of a plan.
pub(super) struct ServicesJob {
    pub(super) about: About,
    pub(super) actions: Vec<ServiceAction>,
    /// The versions that were decided on.
    pub(super) basis: Basis,
}

/// Runs until it is told to stop.
pub(super) async fn run(
    shared: Arc<Shared>,
    writer: Writer,
    recorder: Recorder,
    limit: usize,
    stop: CancellationToken,
) {
    let carry_out = |key: Key, job: ServicesJob| {
        let span = tracing::info_span!("write", namespace = %key.namespace, rollout = %key.name, object = "services");
        carry_out(Arc::clone(&shared), writer.clone(), recorder.clone(), key, job).instrument(span)
    };
    work(&shared.services, limit, stop, carry_out).await;
}

async fn carry_out(shared: Arc<Shared>, writer: Writer, recorder: Recorder, key: Key, job: ServicesJob) {
    let ServicesJob { about, actions, basis } = job;
    for action in actions {
        let ServiceAction { name, version, write } = action;
        let service = ObjectId::Service(Key::new(&*key.namespace, &*name));
        if !is_current(&shared, &key, &basis) || !shared.store.own.allows(&service, &version.resource_version)
        {
            return shared.wake(&key);
        }
        let attempt = Attempt::Service(name.clone());
        if shared.store.memory.next_try(&key, &attempt, shared.clock.now()).is_some() {
            continue;
        }
        match writer.patch_service(&key, &name, &version, &write.patch).await {
            Ok(()) => {
                tracing::info!(service = %name, patch = %write.patch, "patched Service");
                shared.store.memory.succeeded(&key, &attempt);
                recorder.record(&about, write.events);
            }
            Err(WriteError::Stale | WriteError::Gone) => return shared.wake(&key),
            Err(WriteError::Taken) => {}
            Err(WriteError::Refused(refusal)) => {
                shared.refused(&key, attempt, &refusal.reason, &refusal.message);
            }
        }
    }
}

/// Whether the rollout is still as it was when this was decided. One that is gone has nobody else who could decide.
fn is_current(shared: &Shared, key: &Key, basis: &Basis) -> bool {
    let version = shared.store.rollouts.version(key);
    version.is_none_or(|version| version == basis.rollout.resource_version)
}
