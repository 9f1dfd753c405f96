//! A control plane with its API and its probes: what `rolloutd serve` and `rolloutd dev` have in common.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Connect, ControlPlane, Options, Part};
use crate::api::{self, Api, Limits, ServerFacts};
use crate::http;
use crate::lease::Leadership;
use crate::telemetry::Metrics;

/// How long the last RPCs may take when the process stops: Kubernetes gives a pod 30 s in all.
const DRAIN: Duration = Duration::from_secs(10);

/// A control plane with its API and its probes, which run until they are stopped.
pub struct Process {
    control_plane: ControlPlane,
    api: Api,
    metrics: Metrics,
    tasks: TaskTracker,
    /// Ends RPCs.
    stop_api: CancellationToken,
    /// Ends probes: they go last.
    stop_http: CancellationToken,
}

impl Process {
    /// Starts the control plane. Nothing listens yet.
    #[must_use]
    pub fn start(connect: &dyn Connect, options: &Options, cluster_url: String) -> Self {
        let control_plane = ControlPlane::start(connect, options);
        let api = Api::new(api::Config {
            store: Arc::clone(&control_plane.store),
            client: connect.client(Part::Api),
            activities: control_plane.activities.clone(),
            clock: options.clock.clone(),
            metrics: options.metrics.clone(),
            leadership: control_plane.leadership.clone(),
            server: ServerFacts {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                commit: env!("ROLLOUTD_COMMIT").to_owned(),
                cluster: cluster_url,
                instance_id: options.instance_id.clone(),
                namespace: options.namespace.clone(),
            },
            limits: Limits { drain: DRAIN, ..Limits::default() },
        });
        Self {
            control_plane,
            api,
            metrics: options.metrics.clone(),
            tasks: TaskTracker::new(),
            stop_api: CancellationToken::new(),
            stop_http: CancellationToken::new(),
        }
    }

    /// The API.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Who leads.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.control_plane.leadership.clone()
    }

    /// Waits until the caches have listed.
    pub async fn ready(&self) {
        self.control_plane.store.has_listed().await;
    }

    /// What it lacks to be ready.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        api::missing(&self.control_plane.store)
    }

    /// Serves the gRPC API.
    pub fn serve_api(&self, listener: TcpListener) {
        let (api, stop) = (self.api.clone(), self.stop_api.clone());
        self.tasks.spawn(async move { api.serve(listener, stop).await });
    }

    /// Serves plain HTTP.
    pub fn serve_http(&self, listener: TcpListener, router: Router) {
        self.tasks.spawn(http::serve(listener, router, self.stop_http.clone()));
    }

    /// `/healthz` and `/readyz`.
    pub fn probes(&self) -> Router {
        let (store, stopping) = (Arc::clone(&self.control_plane.store), self.stop_api.clone());
        http::probes(Arc::new(move || {
            let mut missing = api::missing(&store);
            if stopping.is_cancelled() {
                missing.push("this process is shutting down".to_owned());
            }
            missing
        }))
    }

    /// `/metrics`.
    pub fn metrics(&self) -> Router {
        http::metrics(self.metrics.clone())
    }

    /// Stops: readiness turns, RPCs and workers finish what they began, the Lease is handed over, probes end.
    pub async fn stop(self) {
        self.stop_api.cancel();
        self.api.drain();
        let activities = self.control_plane.activities.clone();
        self.control_plane.stop().await;
        self.stop_http.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        // What the last RPCs did.
        activities.flush().await;
    }
}
