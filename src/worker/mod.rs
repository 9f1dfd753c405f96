//! The workers: one planner for each rollout, and tasks of their own that carry the parts of its plan out.
//!
//! The [`planner`] observes, plans (what it must ask for that is in [`question`]) and hands each worker the newest part; [`rollout`] writes
//! the rollout and its status, [`replica_set`] writes ReplicaSets, [`traffic`] writes Services, [`restart`] evicts pods, [`label`] writes
//! their labels and annotations, [`step_plugin`] asks step plugins, [`workload`] scales the Deployment that a rollout takes over from,
//! [`recorder`] records events, [`activity`] what others did. All of them run only while this process leads. Depends on L0 to L3; knows
//! neither the API nor who else runs.

mod activity;
mod beside;
mod label;
mod planner;
mod question;
mod queue;
mod recorder;
mod replica_set;
mod restart;
mod rollout;
mod step_plugin;
mod traffic;
mod workload;

use std::sync::{Arc, OnceLock};

use kube::Client;
use tokio_util::sync::CancellationToken;

pub use recorder::Recorder;

use crate::clock::Clock;
use crate::plugin::AskPlugins;
use crate::store::activity::Activities;
use crate::store::{Store, Writer};
use crate::telemetry::Metrics;
use planner::Planner;

/// What the workers need.
#[derive(Clone)]
pub struct Workers {
    /// The caches.
    pub store: Arc<Store>,
    /// Sends writes.
    pub client: Client,
    /// Sends events, apart so that they can be counted apart.
    pub event_client: Client,
    /// Cluster time.
    pub clock: Clock,
    /// Counters.
    pub metrics: Metrics,
    /// Step plugins, once they are known.
    pub plugins: Arc<OnceLock<Arc<dyn AskPlugins>>>,
    /// What others did.
    pub activities: Activities,
    /// How many rollouts are written to at the same time (`--rollout-threads`).
    pub rollout_limit: usize,
    /// How many rollouts' ReplicaSets are written to at the same time.
    pub set_limit: usize,
    /// How many rollouts' Services are written to at the same time (`--service-threads`).
    pub service_limit: usize,
    /// How many rollouts' pods are labelled at the same time (`--ephemeral-metadata-threads`).
    pub label_limit: usize,
}

impl Workers {
    /// Runs the workers until they are told to stop; then waits until what they have begun is done.
    pub async fn run(self, stop: CancellationToken) {
        let (recorder, recording) =
            Recorder::new(&self.event_client, self.clock.clone(), self.metrics.clone());
        let writer = Writer::new(self.client.clone(), Arc::clone(&self.store));
        let planner = Planner::new(&self, writer.clone(), recorder.clone());
        let rollouts = rollout::run(
            planner.shared(),
            writer.clone(),
            recorder.clone(),
            self.rollout_limit,
            stop.clone(),
        );
        let services = traffic::run(
            planner.shared(),
            writer.clone(),
            recorder.clone(),
            self.service_limit,
            stop.clone(),
        );
        let workloads = workload::run(
            planner.shared(),
            writer.clone(),
            recorder.clone(),
            self.rollout_limit,
            stop.clone(),
        );
        let restarts = restart::run(planner.shared(), writer.clone(), self.rollout_limit, stop.clone());
        let labels = label::run(planner.shared(), writer.clone(), self.label_limit, stop.clone());
        let calls = step_plugin::run(planner.shared(), self.plugins, stop.clone());
        let sets = replica_set::run(planner.shared(), writer, recorder, self.set_limit, stop.clone());
        let others = activity::run(self.store, self.activities, self.clock, stop.clone());
        let planning = planner.run(stop.clone());
        // Events of the last writes are still recorded, as far as the recorder gets within its own bound.
        tokio::join!(biased; planning, rollouts, sets, services, workloads, restarts, labels, calls, others, recording.run(stop));
    }
}
