//! `rolloutd serve`: flags and environment become a process that serves one cluster.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::cluster::{self, Cluster, Throttles};
use super::flags::{Controllers, Flags};
use super::process::Process;
use super::{Election, Options, PluginSource, Reconcile, Threads};
use crate::clock::Clock;
use crate::lease;
use crate::plan::Settings;
use crate::telemetry::Metrics;

/// How much later than its period client-go may try again: 1.2 times, as a fraction.
const RETRY_JITTER: (u32, u32) = (6, 5);

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
    /// Two processes could lead at once.
    #[error("--{flag}={value:?}: must be {rule}; raise it or lower the other (15s, 10s and 2s are usual)")]
    Election {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: Duration,
        /// What it must be.
        rule: String,
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
    if flags.leader_elect {
        check_election(&flags)?;
    }
    let listeners = Listeners::bind(&flags).await?;
    let config = cluster::config(&flags.cluster).await?;
    let metrics = Metrics::default();
    let cluster = Cluster::new(&config, &Throttles::new(flags.qps, flags.burst), &metrics)?;
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
    let config_namespace = cluster::own_namespace(environment.pod_namespace.clone());
    let election = election(&flags, environment);
    let Flags { instance_id, status_labels, .. } = flags;
    let threads = Threads {
        rollouts: flags.rollout_threads,
        services: flags.service_threads,
        labels: flags.ephemeral_metadata_threads,
    };
    let settings = Arc::new(Settings { status_labels: status_labels.settings() });
    let options = Options {
        clock: Clock::wall(),
        metrics,
        instance_id,
        namespace,
        reconcile,
        election,
        threads,
        settings,
        plugins: PluginSource::ConfigMapIn(config_namespace),
    };
    tracing::info!(cluster = %config.cluster_url, namespace = ?options.namespace, instance_id = %options.instance_id, "serving");
    let process = Process::start(&cluster, &options, config.cluster_url.to_string());
    listeners.serve(&process);
    stop.cancelled().await;
    tracing::info!("stopping");
    process.stop().await;
    Ok(())
}

/// client-go's rules: a leader gives up before others may take over, and has time for more than one attempt.
///
/// # Errors
///
/// When the durations do not keep to them.
fn check_election(flags: &Flags) -> Result<(), Error> {
    let (lease, renew, retry) = (
        flags.leader_election_lease_duration,
        flags.leader_election_renew_deadline,
        flags.leader_election_retry_period,
    );
    let broken = |flag, value, rule| Err(Error::Election { flag, value, rule });
    if lease.subsec_nanos() != 0 {
        // A Lease says it in whole seconds: others would wait for less than was asked for.
        return broken("leader-election-lease-duration", lease, "in whole seconds".to_owned());
    }
    if lease <= renew {
        let rule = format!("longer than --leader-election-renew-deadline={renew:?}");
        return broken("leader-election-lease-duration", lease, rule);
    }
    if renew <= retry.saturating_mul(RETRY_JITTER.0) / RETRY_JITTER.1 {
        let rule = format!("longer than 1.2 times --leader-election-retry-period={retry:?}");
        return broken("leader-election-renew-deadline", renew, rule);
    }
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        flags: Flags,
    }

    fn refused(lease: &str, renew: &str, retry: &str) -> Option<String> {
        let flags = [
            "serve".to_owned(),
            format!("--leader-election-lease-duration={lease}"),
            format!("--leader-election-renew-deadline={renew}"),
            format!("--leader-election-retry-period={retry}"),
        ];
        let Command { flags } = Command::try_parse_from(flags).unwrap();
        check_election(&flags).err().map(|error| error.to_string())
    }

    #[test]
    fn durations_by_which_two_could_lead_are_refused() {
        for (lease, renew, retry, blamed) in [
            (
                "2s",
                "60s",
                "2s",
                "--leader-election-lease-duration=2s: must be longer than --leader-election-renew-deadline=60s",
            ),
            ("10s", "10s", "2s", "--leader-election-lease-duration=10s: must be longer"),
            ("2500ms", "2s", "1s", "--leader-election-lease-duration=2.5s: must be in whole seconds"),
            ("500ms", "400ms", "100ms", "--leader-election-lease-duration=500ms: must be in whole seconds"),
            (
                "15s",
                "12s",
                "10s",
                "--leader-election-renew-deadline=12s: must be longer than 1.2 times --leader-election-retry-period=10s",
            ),
        ] {
            let error = refused(lease, renew, retry).unwrap_or_default();
            assert!(error.starts_with(blamed), "{lease} {renew} {retry}: {error}");
        }
        for (lease, renew, retry) in [("15s", "10s", "2s"), ("3s", "2s", "500ms"), ("137s", "107s", "26s")] {
            assert_eq!(refused(lease, renew, retry), None);
        }
    }

    #[tokio::test]
    async fn they_are_refused_before_anything_is_bound() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = format!("--listen={}", taken.local_addr().unwrap());
        let flags = ["serve", "--leader-election-renew-deadline=60s", &*listen];
        let Command { flags } = Command::try_parse_from(flags).unwrap();
        let stop = CancellationToken::new();
        let error = run(flags, Environment::default(), stop).await.unwrap_err();
        assert!(matches!(error, Error::Election { .. }), "{error}");
    }
}
