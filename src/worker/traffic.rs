//! Writes Services: which version each of them selects.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::beside::Beside;
use super::planner::Shared;
use super::queue::work;
use super::recorder::{About, Recorder};
use crate::plan::{Attempt, Basis, ServiceAction};
use crate::store::{Key, ObjectId, Writer};

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
        let beside = Beside {
            key: &key,
            rollout: &basis.rollout,
            object: ObjectId::Service(Key::new(&*key.namespace, &*name)),
            version: &version,
            attempt: Attempt::Service(name.clone()),
        };
        let request = async {
            writer.patch_service(&key, &name, &version, &write.patch).await?;
            tracing::info!(service = %name, patch = %write.patch, "patched Service");
            Ok(())
        };
        if beside.send(&shared, request, (&recorder, &about, write.events.clone())).await.is_break() {
            return;
        }
    }
}
