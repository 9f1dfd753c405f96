//! `rolloutd dev`: a cluster with a control plane for it, in one process and with nothing installed.
//!
//! `cluster` is the embedded API server with simulated nodes, in memory or in a `folder`; [`crate::serve::process`] is the same
//! control plane that serves a real cluster; `demo` is one more client of its gRPC API. One clock drives cluster and control plane.

mod cluster;
mod demo;
mod folder;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::apiserver::{Database, OpenError};
use crate::clock::Clock;
use crate::lease;
use crate::serve::process::Process;
use crate::serve::{self, Election, Options, PluginSource, Reconcile, Threads};
use crate::telemetry::{Metrics, logs};
use cluster::Cluster;

/// How long the embedded cluster may take to be ready: it takes milliseconds.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The namespace of the Lease, where Argo Rollouts has it too.
const OWN_NAMESPACE: &str = "argo-rollouts";

/// The namespaces that a new cluster has besides Kubernetes' own.
const NAMESPACES: [&str; 2] = [OWN_NAMESPACE, "default"];

/// A cluster whose clock is further ahead of real time than this is worth a warning: other processes have another clock.
const NOTABLY_AHEAD: Duration = Duration::from_secs(5);

/// Flags of `rolloutd dev`.
#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// Keep the cluster in this directory, and go on with the one that is there [default: in memory]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Serve the Kubernetes API and its simulated nodes only, for `rolloutd serve --kubeconfig` as another process
    #[arg(long, conflicts_with_all = ["demo", "speed", "listen", "http"])]
    pub cluster_only: bool,
    /// Show a canary go from one version to the next, through the API
    #[arg(long, conflicts_with = "data_dir")]
    pub demo: bool,
    /// End with the demo instead of serving on
    #[arg(long, requires = "demo")]
    pub once: bool,
    /// How many times faster than real time the cluster's clock runs
    #[arg(long, value_name = "N", default_value = "1", value_parser = speed)]
    pub speed: f64,
    /// Where the gRPC API listens
    #[arg(long, default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Where /healthz, /readyz and /metrics listen
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDRESS")]
    pub http: SocketAddr,
    /// Where the embedded Kubernetes API listens [default: on 127.0.0.1, on the port that the cluster in --data-dir had, else on
    /// a free one]
    #[arg(long, value_name = "ADDRESS")]
    pub kubernetes: Option<SocketAddr>,
    /// Let all of these listen on addresses that are not loopback, without authentication
    #[arg(long)]
    pub insecure_listen: bool,
    /// The least severe level that is logged: error, warn, info, debug or trace
    #[arg(long, default_value = "warn", value_name = "LEVEL")]
    pub loglevel: String,
    /// How logs are written
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub logformat: logs::Format,
}

/// What the environment says.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `NO_COLOR`.
    pub no_color: Option<OsString>,
    /// The machine's name.
    pub hostname: String,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be listened on.
    #[error(transparent)]
    Serve(#[from] serve::Error),
    /// The directory of the cluster cannot be used.
    #[error("--data-dir {0}")]
    Data(#[from] OpenError),
    /// The embedded cluster cannot be set up.
    #[error("the embedded cluster cannot be set up: {0}")]
    Cluster(#[from] kube::Error),
    /// It is not ready after a long time.
    #[error("not ready within {patience}s: {0}", patience = READY_WITHIN.as_secs())]
    NotReady(String),
    /// Output, or the file of the kubeconfig, cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The demo went wrong.
    #[error("demo: {0}")]
    Demo(#[from] demo::Error),
}

/// Serves until `stop` is cancelled, or until the demo has ended with `--once`.
///
/// # Errors
///
/// When an address or the directory is in use, or the demo does not end Healthy.
pub async fn run(flags: Flags, environment: Environment, stop: CancellationToken) -> Result<(), Error> {
    if !flags.insecure_listen {
        let kubernetes = flags.kubernetes.map(|address| ("kubernetes", address));
        for (flag, address) in [("listen", flags.listen), ("http", flags.http)].into_iter().chain(kubernetes)
        {
            serve::require_loopback(flag, address)?;
        }
    }
    // Before anything is put beside somebody else's.
    flags.data_dir.as_deref().map(folder::remembered_server).transpose()?;
    let database = flags.data_dir.as_deref().map(Database::open).transpose()?;
    let clock = Clock::resumed(database.as_ref().and_then(Database::time), flags.speed);
    if flags.cluster_only {
        return serve_cluster(&flags, clock, database, stop).await;
    }
    let listener = serve::bind("listen", flags.listen).await?;
    let http = serve::bind("http", flags.http).await?;
    let kubernetes = bind_kubernetes(&flags).await?;
    let (api_address, http_address) = (listener.local_addr()?, http.local_addr()?);

    let cluster = Cluster::start(&clock, kubernetes, database, &NAMESPACES).await?;
    let process = Process::start(&cluster, &options(&clock, &environment), cluster.url().to_owned());
    process.serve_api(listener);
    process.serve_http(http, process.probes().merge(process.metrics()));

    let serving = async {
        let ready = tokio::time::timeout(READY_WITHIN, process.ready()).await;
        ready.map_err(|_| Error::NotReady(process.missing().join(", ")))?;
        let mut out = io::stdout();
        writeln!(out, "gRPC        {api_address}")?;
        writeln!(out, "HTTP        http://{http_address}  (/healthz, /readyz, /metrics)")?;
        announce(&cluster)?;
        if flags.demo {
            demo::run(api_address, &clock, environment.no_color.as_deref()).await?;
        }
        if !flags.once {
            if flags.demo {
                writeln!(out, "\nServing on; Ctrl-C ends it.")?;
            }
            stop.cancelled().await;
        }
        Ok(())
    };
    let outcome = tokio::select! {
        outcome = serving => outcome,
        () = stop.cancelled() => Ok(()),
    };
    process.stop().await;
    cluster.stop().await;
    outcome
}

/// Serves the cluster alone.
async fn serve_cluster(
    flags: &Flags,
    clock: Clock,
    database: Option<Database>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let kubernetes = bind_kubernetes(flags).await?;
    let ahead = clock.ahead();
    if ahead > NOTABLY_AHEAD {
        tracing::warn!(
            seconds = ahead.as_secs(),
            "the clock of this cluster is ahead of real time, which other processes go by: it ran with --speed"
        );
    }
    let cluster = Cluster::start(&clock, kubernetes, database, &NAMESPACES).await?;
    let announced = announce(&cluster);
    if announced.is_ok() {
        stop.cancelled().await;
    }
    cluster.stop().await;
    Ok(announced?)
}

/// Listens where the flag says, else where the kubeconfig in the cluster's directory says, else anywhere.
async fn bind_kubernetes(flags: &Flags) -> Result<TcpListener, Error> {
    if let Some(address) = flags.kubernetes {
        return Ok(serve::bind("kubernetes", address).await?);
    }
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    if let Some(port) = flags.data_dir.as_deref().and_then(folder::remembered_port) {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                tracing::warn!(port, %error, "the port that this cluster had is not free: kubeconfigs name another now");
            }
        }
    }
    Ok(serve::bind("kubernetes", any).await?)
}

fn options(clock: &Clock, environment: &Environment) -> Options {
    Options {
        clock: clock.clone(),
        metrics: Metrics::default(),
        instance_id: String::new(),
        namespace: None,
        reconcile: Reconcile::All,
        election: Election::Lease(lease::Config::new(OWN_NAMESPACE.to_owned(), "", &environment.hostname)),
        threads: Threads::default(),
        settings: Arc::default(),
        plugins: PluginSource::ConfigMapIn(OWN_NAMESPACE.to_owned()),
    }
}

fn announce(cluster: &Cluster) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "Kubernetes  {}", cluster.url())?;
    writeln!(out, "kubeconfig  {}\n", cluster.kubeconfig().display())
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if speed.is_finite() && (0.01..=1000.0).contains(&speed) {
        Ok(speed)
    } else {
        Err(format!("{text} is not between 0.01 and 1000"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_number_within_reason() {
        assert_eq!(speed("10"), Ok(10.0));
        assert_eq!(speed("0.5"), Ok(0.5));
        for text in ["0", "-1", "inf", "NaN", "fast", "1001"] {
            assert!(speed(text).is_err(), "{text}");
        }
    }
}
