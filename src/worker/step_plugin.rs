//! Asks step plugins what a plan wants to know: one thing at a time for each rollout.
//!
//! What became of it is remembered until the status has it. A call that runs while this process stops to lead is broken off: whoever leads
//! next asks the same again.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::planner::Shared;
use super::queue::work;
use crate::crd::Rollout;
use crate::plan::{Answer, Call};
use crate::plugin::AskPlugins;
use crate::store::Key;

/// How many rollouts' plugins are asked at the same time: they may take a minute each, and those of one plugin keep nobody else's waiting.
const AT_ONCE: usize = 512;

/// The plugin's part of a plan.
pub(super) struct CallJob {
    pub(super) call: Call,
    /// The rollout that was decided on.
    pub(super) rollout: Arc<Rollout>,
}

/// Runs until it is told to stop.
pub(super) async fn run(
    shared: Arc<Shared>,
    plugins: Arc<OnceLock<Arc<dyn AskPlugins>>>,
    stop: CancellationToken,
) {
    let carry_out = |key: Key, job: CallJob| {
        let span = tracing::info_span!("call", namespace = %key.namespace, rollout = %key.name, plugin = %job.call.asked.name);
        let asking = ask(Arc::clone(&shared), Arc::clone(&plugins), key, job);
        let stop = stop.clone();
        async move {
            stop.run_until_cancelled_owned(asking).await;
        }
        .instrument(span)
    };
    work(&shared.calls, AT_ONCE, stop.clone(), carry_out).await;
}

async fn ask(shared: Arc<Shared>, plugins: Arc<OnceLock<Arc<dyn AskPlugins>>>, key: Key, job: CallJob) {
    let CallJob { call, rollout } = job;
    // No plan asks before they are known.
    let Some(plugins) = plugins.get() else { return };
    // A plan that was made while a plugin was still asked does not know what it answered (seeds 27918, 30665): another follows.
    if shared.store.memory.has_answer(&key) {
        return;
    }
    let began = shared.clock.now();
    let result = match serde_json::to_value(&*rollout) {
        Ok(rollout) => plugins.call(&call, &rollout).await,
        Err(error) => Err(error.to_string()),
    };
    match &result {
        Ok(reply) => {
            tracing::info!(step = call.asked.index, operation = %call.asked.operation, phase = %reply.phase, "asked plugin");
        }
        Err(error) => {
            tracing::warn!(step = call.asked.index, operation = %call.asked.operation, error, "plugin could not be asked");
            shared.metrics.reconcile_error(&key.namespace, &key.name);
        }
    }
    let answer = Answer { asked: call.asked, began, ended: shared.clock.now(), result };
    shared.store.memory.answered(&key, answer);
    shared.wake(&key);
}
