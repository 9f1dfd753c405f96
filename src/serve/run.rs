//! `rolloutd serve`: flags and environment become a process that serves one cluster.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::cluster::{self, Cluster};
use super::flags::{Controllers, Flags};
use super::process::Process;
use super::{Election, Options, Reconcile};
use crate::clock::Clock;
use crate::lease;
use crate::store::Throttle;
use crate::telemetry::Metrics;

/// What the environment says.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `POD_NAMESPACE`.
    pub pod_namespace: Option<String>,
    /// The machine's name: the readable half of this process's identity.
    pub hostname: String,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API would be open to everybody.
    #[error(
        "--{flag}: {address} is not a loopback address, and nobody is asked who they are: listen on 127.0.0.1, or accept with \
         --insecure-listen that everybody who reaches it may move rollouts"
    )]
    NotLoopback {
        /// The flag.
        flag: &'static str,
        /// Where.
        address: SocketAddr,
    },
    /// Something else listens there, or the address is not ours.
    #[error("--{flag}: cannot listen on {address}: {source}; choose another address or port")]
    Bind {
        /// The flag.
        flag: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The cluster cannot be made out.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
}

/// Serves until `stop` is cancelled, and then until everything has ended in order.
///
/// # Errors
///
/// When flags, files and environment do not add up to a server. A cluster that is away is no error: readiness says so.
pub async fn run(flags: Flags, environment: Environment, stop: CancellationToken) -> Result<(), Error> {
    let listeners = Listeners::bind(&flags).await?;
    let config = cluster::config(&flags.cluster).await?;
    let metrics = Metrics::default();
    let cluster = Cluster::new(&config, &Throttle::new(flags.qps, flags.burst), &metrics)?;
    for flag in flags.accepted.given() {
        tracing::warn!(flag, "flag without effect: it is taken for compatibility with Argo Rollouts");
    }

    let namespace = flags.namespaced.then(|| {
        let given = flags.cluster.namespace.clone();
        given.unwrap_or_else(|| config.default_namespace.clone())
    });
    let reconcile = match flags.controllers.as_slice() {
        [] => Reconcile::All,
        [Controllers::Analysis, ..] => Reconcile::AnalysisOnly,
    };
    let election = election(&flags, environment);
    let Flags { instance_id, rollout_threads: threads, .. } = flags;
    let options =
        Options { clock: Clock::wall(), metrics, instance_id, namespace, reconcile, election, threads };
    tracing::info!(cluster = %config.cluster_url, namespace = ?options.namespace, instance_id = %options.instance_id, "serving");
    let process = Process::start(&cluster, &options, config.cluster_url.to_string());
    listeners.serve(&process);
    stop.cancelled().await;
    tracing::info!("stopping");
    process.stop().await;
    Ok(())
}

fn election(flags: &Flags, environment: Environment) -> Election {
    if !flags.leader_elect {
        return Election::Undisputed;
    }
    let namespace = cluster::own_namespace(environment.pod_namespace);
    Election::Lease(lease::Config {
        lease_duration: flags.leader_election_lease_duration,
        renew_deadline: flags.leader_election_renew_deadline,
        retry_period: flags.leader_election_retry_period,
        ..lease::Config::new(namespace, &flags.instance_id, &environment.hostname)
    })
}

/// Bound before anything else happens: an address in use is said at once, not after the first write.
struct Listeners {
    api: TcpListener,
    probes: TcpListener,
    metrics: TcpListener,
}

impl Listeners {
    async fn bind(flags: &Flags) -> Result<Self, Error> {
        if !flags.insecure_listen {
            require_loopback("listen", flags.listen)?;
        }
        Ok(Self {
            api: bind("listen", flags.listen).await?,
            probes: bind_all("healthzPort", flags.healthz_port).await?,
            metrics: bind_all("metricsPort", flags.metrics_port).await?,
        })
    }

    fn serve(self, process: &Process) {
        for (what, listener) in
            [("grpc", &self.api), ("healthz, readyz", &self.probes), ("metrics", &self.metrics)]
        {
            match listener.local_addr() {
                Ok(address) => tracing::info!(%address, what, "listening"),
                Err(error) => tracing::warn!(%error, what, "listening, it is not known where"),
            }
        }
        process.serve_api(self.api);
        process.serve_http(self.probes, process.probes());
        process.serve_http(self.metrics, process.metrics());
    }
}

/// Refuses an address that others than this machine reach.
///
/// # Errors
///
/// When it is not loopback.
pub fn require_loopback(flag: &'static str, address: SocketAddr) -> Result<(), Error> {
    if address.ip().is_loopback() { Ok(()) } else { Err(Error::NotLoopback { flag, address }) }
}

/// Listens at an address that a flag names.
///
/// # Errors
///
/// When it is in use, or not an address of this machine.
pub async fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Bind { flag, address, source })
}

/// Listens on all addresses, of both families where the machine has both: kubelet and Prometheus come from outside.
async fn bind_all(flag: &'static str, port: u16) -> Result<TcpListener, Error> {
    match bind(flag, (Ipv6Addr::UNSPECIFIED, port).into()).await {
        Ok(listener) => Ok(listener),
        Err(_) => bind(flag, (IpAddr::V4(Ipv4Addr::UNSPECIFIED), port).into()).await,
    }
}
