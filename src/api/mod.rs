//! The gRPC services: RolloutService, ServerService, health and reflection.
//!
//! Reads come from [`crate::store`]'s caches; mutations read an object fresh, check, and write what a careful operator would
//! write, with the version they read as the precondition. This module and [`crate::worker`] never call each other: they meet in
//! objects. Depends on L0, L1, store, lease and telemetry.
//!
//! A request goes down this list: `serve` (connections) · `rpc` (span, count, limits, deadline) · `rollouts`, `apply`,
//! `server_info`, `health` (the methods) · `mutation` (read, check, write) · `cluster` (requests to the API server). `convert`
//! stands between messages and objects; `error` and `status` say what goes back when something is wrong.

mod answer;
mod apply;
mod call;
mod cluster;
mod convert;
mod difference;
mod environment;
mod error;
mod etag;
mod filter;
mod gitops;
mod health;
mod kind;
mod mask;
mod mutating;
mod mutation;
mod name;
mod page;
mod reached;
mod request_id;
mod rollouts;
mod rpc;
mod selection;
mod selector;
mod serve;
mod server_info;
mod status;
mod ticket;
mod token;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use crate::clock::Clock;
use crate::lease::Leadership;
use crate::pb;
use crate::pb::v1::rollout_service_server::RolloutServiceServer;
use crate::pb::v1::server_service_server::ServerServiceServer;
use crate::store::activity::Activities;
use crate::store::{Scope, Store};
use crate::telemetry::Metrics;
use cluster::Cluster;
use environment::EnvironmentChanges;
use error::Error;
use health::Health;
use reached::Asked;
use request_id::RequestIds;
use rollouts::Rollouts;
use rpc::Gate;
use server_info::Server;
use status::Reason;
use turns::Turns;

/// What the services are made from.
#[derive(Clone)]
pub struct Config {
    /// The caches that reads are served from.
    pub store: Arc<Store>,
    /// Writes, and reads before them.
    pub client: Client,
    /// What was done.
    pub activities: Activities,
    /// Cluster time.
    pub clock: Clock,
    /// Counts RPCs.
    pub metrics: Metrics,
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
    /// What GetServerInfo says.
    pub server: ServerFacts,
    /// What is refused.
    pub limits: Limits,
}

/// What this server is, for GetServerInfo and ListNamespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// The version.
    pub version: String,
    /// The commit it was built from; empty when it is not known.
    pub commit: String,
    /// The API server's address, without credentials.
    pub cluster: String,
    /// The instance id whose rollouts are served; empty: those that have none.
    pub instance_id: String,
    /// The namespace this server is confined to; `None`: it serves all.
    pub namespace: Option<String>,
}

/// What callers may ask for at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The largest request, in bytes. Default 4 MiB: an object in Kubernetes has at most 1.5 MiB.
    pub max_message_bytes: usize,
    /// Unary RPCs at once. Default 256: each holds a request to the API server for milliseconds.
    pub max_requests: usize,
    /// Watches at once. Default 1024: each holds a bounded buffer.
    pub max_streams: usize,
    /// Requests a second of one caller; 0 or less: no limit. Default 200.
    pub requests_per_second: f64,
    /// Requests of one caller at once, before that rate counts. Default 400.
    pub burst: u32,
    /// How long a unary RPC may take, and how long a watch may take to begin. Default 60 s: what waits for something has shorter
    /// patience of its own.
    pub deadline: Duration,
    /// How long a mutation may wait for its rollouts to settle. Default 1 h: far more than a canary's steps take that nobody has to promote.
    pub max_wait: Duration,
    /// How long RPCs in flight may take to end when this server stops. Default 10 s: a write to the cluster ends within it.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 4 * 1024 * 1024,
            max_requests: 256,
            max_streams: 1024,
            requests_per_second: 200.0,
            burst: 400,
            deadline: Duration::from_secs(60),
            max_wait: Duration::from_secs(60 * 60),
            drain: Duration::from_secs(10),
        }
    }
}

/// The services of one process. Cheap to clone; clones are the same services.
#[derive(Clone)]
pub struct Api {
    context: Arc<Context>,
    gate: Gate,
}

/// What the methods share.
struct Context {
    store: Arc<Store>,
    cluster: Cluster,
    activities: Activities,
    clock: Clock,
    leadership: watch::Receiver<Leadership>,
    server: ServerFacts,
    limits: Limits,
    request_ids: Arc<RequestIds>,
    environment_changes: EnvironmentChanges,
    /// Which rollouts are served.
    scope: Scope,
    asked: Asked,
    /// Who may look ahead: it keeps a processor busy.
    foresights: Turns,
    /// Cancelled when this server stops taking new work.
    drain: CancellationToken,
}

impl Api {
    /// The services. Nothing runs until they are called.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let Config { store, client, activities, clock, metrics, leadership, server, limits } = config;
        let descriptors = [
            pb::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let scope = Scope::of_rollouts(&server.instance_id, server.namespace.as_deref());
        let context = Context {
            store,
            cluster: Cluster::new(client),
            activities,
            clock,
            leadership,
            server,
            limits,
            request_ids: Arc::default(),
            environment_changes: EnvironmentChanges::default(),
            scope,
            asked: Asked::default(),
            foresights: Turns::new(),
            drain: CancellationToken::new(),
        };
        Self { context: Arc::new(context), gate: Gate::new(metrics, limits, &descriptors) }
    }

    /// All services with everything around them, for a server of HTTP/2 or for callers within the process.
    pub fn router(&self) -> axum::Router {
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let decodes = "descriptor sets that the build wrote decode";
        let limit = self.context.limits.max_message_bytes;
        let rollouts = Rollouts::new(Arc::clone(&self.context));
        let server = Server::new(Arc::clone(&self.context));
        let routes = Routes::new(HealthServer::new(Health::new(Arc::clone(&self.context))))
            .add_service(RolloutServiceServer::new(rollouts).max_decoding_message_size(limit))
            .add_service(ServerServiceServer::new(server).max_decoding_message_size(limit))
            .add_service(reflection().build_v1().expect(decodes))
            .add_service(reflection().build_v1alpha().expect(decodes));
        let gate = axum::middleware::from_fn_with_state(self.gate.clone(), rpc::pass);
        routes.into_axum_router().layer(gate)
    }

    /// Says that this server stops: health turns to NOT_SERVING and watches end with UNAVAILABLE. RPCs in flight go on.
    pub fn drain(&self) {
        self.context.drain.cancel();
    }
}

/// The caches that have not listed yet, and whether the API server is away: what `/readyz` names. Empty when all is well.
#[must_use]
pub fn missing(store: &Store) -> Vec<String> {
    let unlisted = store.unlisted().into_iter().map(|kind| format!("{kind} have not been listed yet"));
    let is_away = !store.reach.is_reachable();
    unlisted.chain(is_away.then(|| "the API server does not answer".to_owned())).collect()
}

impl Context {
    /// Refuses to answer from caches that have not seen everything yet: what they lack would seem not to exist.
    fn require_ready(&self) -> Result<(), Error> {
        if self.store.unlisted().is_empty() {
            return Ok(());
        }
        let message = "this server has not seen the whole cluster yet; try again in a moment";
        Err(Error::new(Reason::NotReady, message).retry_after(error::RETRY_SOON))
    }

    /// Why watches end when this server stops.
    fn draining(&self) -> Error {
        let message = "this server is shutting down; connect again, to another one if there is any";
        Error::new(Reason::Draining, message).retry_after(error::RETRY_SOON)
    }
}
