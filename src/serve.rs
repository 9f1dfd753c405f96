//! The control plane, put together: caches, leadership, workers, API and probes, and how they stop.
//!
//! The composition root. [`ControlPlane::start`] reads like a wiring diagram; [`process`] puts API and probes around it;
//! [`run()`] runs that against a cluster, `dev` against the embedded one, tests against either.

pub mod cluster;
mod collector;
pub mod flags;
mod plugins;
pub mod process;
mod run;

pub use plugins::PluginSource;
pub use run::{Environment, Error, bind, require_loopback, run};

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{self, Clock};
use crate::crd::keys;
use crate::lease::{self, Leadership};
use crate::plan::Settings;
use crate::store::activity::Activities;
use crate::store::workload::{Deployment, PodTemplate, ReplicaSet, reflect_workloads};
use crate::store::{PodRecord, Scope, ServiceRecord, SetRecord, Store, follow, reflect};
use crate::telemetry::Metrics;
use crate::worker::Workers;

/// How long workers may take to finish the writes that they began, when this process stops or loses the Lease: a little
/// more than the deadline of a request.
const WORKERS_STOP: Duration = Duration::from_secs(12);

/// How long workers rest that ended by themselves.
const WORKERS_REST: Duration = Duration::from_secs(1);

/// Makes clients of the API server; the argument names the part that sends through it.
pub trait Connect: Send + Sync {
    /// A client whose requests bear the part's name.
    fn client(&self, part: Part) -> Client;
}

/// A part of the process that talks to the API server; each has a User-Agent of its own, so that requests can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Lists and watches.
    Watch,
    /// Writes of workers.
    Workers,
    /// Events.
    Events,
    /// RPCs.
    Api,
    /// The Lease.
    Lease,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 5] = [Self::Watch, Self::Workers, Self::Events, Self::Api, Self::Lease];

    /// The User-Agent.
    #[must_use]
    pub fn agent(self) -> &'static str {
        match self {
            Self::Watch => concat!("rolloutd/", env!("CARGO_PKG_VERSION"), " (watch)"),
            Self::Workers => concat!("rolloutd/", env!("CARGO_PKG_VERSION"), " (workers)"),
            Self::Events => concat!("rolloutd/", env!("CARGO_PKG_VERSION"), " (events)"),
            Self::Api => concat!("rolloutd/", env!("CARGO_PKG_VERSION"), " (api)"),
            Self::Lease => concat!("rolloutd/", env!("CARGO_PKG_VERSION"), " (lease)"),
        }
    }
}

/// Whether rollouts are reconciled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reconcile {
    /// All kinds.
    #[default]
    All,
    /// Analysis only (`--controllers analysis`): no rollout is written.
    AnalysisOnly,
}

/// Who may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Election {
    /// Whoever holds the Lease.
    Lease(lease::Config),
    /// This process, unasked (`--leader-elect=false`).
    Undisputed,
}

/// What a control plane is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Cluster time.
    pub clock: Clock,
    /// Counters.
    pub metrics: Metrics,
    /// The instance id whose objects are served; empty: those without one.
    pub instance_id: String,
    /// The only namespace, with `--namespaced`.
    pub namespace: Option<String>,
    /// Whether rollouts are reconciled.
    pub reconcile: Reconcile,
    /// Who may write.
    pub election: Election,
    /// How many rollouts are written to at the same time.
    pub threads: Threads,
    /// What plans depend on.
    pub settings: Arc<Settings>,
    /// Where step plugins come from.
    pub plugins: PluginSource,
}

/// How many rollouts are written to at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads {
    /// Rollouts, their ReplicaSets and pods (`--rollout-threads`).
    pub rollouts: usize,
    /// Services (`--service-threads`).
    pub services: usize,
    /// Labels and annotations of pods (`--ephemeral-metadata-threads`).
    pub labels: usize,
}

impl Default for Threads {
    /// Argo Rollouts' defaults (contract A10).
    fn default() -> Self {
        Self { rollouts: 10, services: 10, labels: 10 }
    }
}

/// A control plane that runs.
pub struct ControlPlane {
    /// Its caches.
    pub store: Arc<Store>,
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
    /// What was done.
    pub activities: Activities,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl ControlPlane {
    /// Starts caches, election and workers on the current runtime.
    #[must_use]
    pub fn start(connect: &dyn Connect, options: &Options) -> Self {
        let store = Arc::new(Store::new(Arc::clone(&options.settings)));
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        options.metrics.collect(collector::Rollouts(Arc::clone(&store)));
        let plugins = Arc::new(OnceLock::new());
        let learning = plugins::learn(
            connect.client(Part::Watch),
            options.plugins.clone(),
            Arc::clone(&store),
            Arc::clone(&plugins),
        );
        tasks.spawn(stop.clone().run_until_cancelled_owned(learning));
        watch_all(connect.client(Part::Watch), &store, options, &tasks, &stop);

        // Through the client of RPCs: most of it is told by them, and must not slow the workers.
        let (activities, recording) = Activities::new(connect.client(Part::Api), options.metrics.clone());
        // Outlives this control plane until the last RPC has told what it did.
        tokio::spawn(recording.run());

        let (leading, leadership) = watch::channel(Leadership::default());
        let workers = Workers {
            store: Arc::clone(&store),
            client: connect.client(Part::Workers),
            event_client: connect.client(Part::Events),
            clock: options.clock.clone(),
            metrics: options.metrics.clone(),
            plugins,
            activities: activities.clone(),
            rollout_limit: options.threads.rollouts.max(1),
            set_limit: options.threads.rollouts.max(1),
            service_limit: options.threads.services.max(1),
            label_limit: options.threads.labels.max(1),
        };
        let workers = (options.reconcile == Reconcile::All).then_some(workers);
        let lead = lead(workers, Arc::clone(&store), leadership.clone(), stop.clone());
        match &options.election {
            Election::Undisputed => {
                let now = Clock::wall().now();
                leading.send_replace(Leadership::undisputed(env!("CARGO_PKG_NAME"), now));
                tasks.spawn(async move {
                    lead.await;
                    drop(leading);
                });
            }
            Election::Lease(config) => {
                let (client, config, stop) = (connect.client(Part::Lease), config.clone(), stop.clone());
                tasks.spawn(async move {
                    tokio::join!(biased; lead, lease::campaign(client.clone(), config.clone(), leading, stop));
                    lease::hand_over(client, &config).await;
                });
            }
        }
        Self { store, leadership, activities, tasks, stop }
    }

    /// Stops: workers finish what they began, then the Lease is handed over.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.activities.flush().await;
    }
}

fn watch_all(
    client: Client,
    store: &Arc<Store>,
    options: &Options,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let rollouts = Scope::of_rollouts(&options.instance_id, options.namespace.as_deref());
    let services = Scope { namespace: options.namespace.clone(), labels: String::new() };
    let children = Scope { namespace: options.namespace.clone(), labels: keys::POD_TEMPLATE_HASH.to_owned() };
    let watching = stop.clone().run_until_cancelled_owned({
        let (store, namespace) = (Arc::clone(store), options.namespace.clone());
        async move {
            tokio::join!(
                biased;
                follow(Arc::clone(&store), client.clone(), rollouts),
                reflect::<SetRecord>(Arc::clone(&store), client.clone(), children.clone()),
                reflect::<PodRecord>(Arc::clone(&store), client.clone(), children),
                reflect::<ServiceRecord>(Arc::clone(&store), client.clone(), services),
                reflect_workloads::<Deployment>(Arc::clone(&store), client.clone(), namespace.clone()),
                reflect_workloads::<ReplicaSet>(Arc::clone(&store), client.clone(), namespace.clone()),
                reflect_workloads::<PodTemplate>(Arc::clone(&store), client.clone(), namespace),
                store.reach.probe(client),
            )
        }
    });
    tasks.spawn(watching);
}

/// Runs the workers whenever this process leads and its caches have listed, until it is told to stop.
async fn lead(
    workers: Option<Workers>,
    store: Arc<Store>,
    mut leadership: watch::Receiver<Leadership>,
    stop: CancellationToken,
) {
    let Some(workers) = workers else { return };
    while !stop.is_cancelled() {
        let ready = async {
            // The sender is dropped only when this process stops.
            let _ = leadership.wait_for(Leadership::is_ours).await;
            store.has_listed().await;
        };
        if stop.run_until_cancelled(ready).await.is_none() {
            return;
        }
        let term = stop.child_token();
        let mut working = tokio::spawn(workers.clone().run(term.clone()));
        let ended = tokio::select! {
            biased;
            _ = leadership.wait_for(|leadership| !leadership.is_ours()) => None,
            () = stop.cancelled() => None,
            ended = &mut working => Some(ended),
        };
        if let Some(ended) = ended {
            // Workers do not end by themselves; should they ever, they start again, and do not spin.
            tracing::error!(?ended, "workers ended by themselves: this is a bug; they start again");
            clock::real_sleep(WORKERS_REST).await;
            continue;
        }
        term.cancel();
        let finished = async {
            tokio::select! {
                biased;
                _ = &mut working => true,
                () = clock::real_sleep(WORKERS_STOP) => false,
            }
        };
        if !finished.await {
            tracing::warn!("workers did not finish in time");
            working.abort();
        }
    }
}
