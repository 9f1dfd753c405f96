//! How a cluster is reached: kubeconfig or service account, overridden by flags, as client-go does it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use http::HeaderValue;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::flags::ClusterFlags;
use super::{Connect, Part};
use crate::store::{Requests, Throttle};
use crate::telemetry::Metrics;

/// Where a pod finds the namespace of its service account.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Where the Lease lies when nothing says otherwise (contract A10).
const DEFAULT_NAMESPACE: &str = "argo-rollouts";

/// Why a cluster cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kubeconfig cannot be used.
    #[error("kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// There is neither a kubeconfig nor a service account.
    #[error("no cluster: give --kubeconfig, set KUBECONFIG, or run in a pod with a service account ({0})")]
    Infer(#[from] kube::config::InferConfigError),
    /// A file that a flag names cannot be read.
    #[error("--{flag}: {path}: {source}")]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: String,
        /// What is wrong.
        source: std::io::Error,
    },
    /// A client cannot be made.
    #[error("cannot make a client: {0}")]
    Client(#[from] kube::Error),
}

/// The cluster's address and credentials.
///
/// # Errors
///
/// When flags, files or environment do not add up to a cluster.
pub async fn config(flags: &ClusterFlags) -> Result<Config, Error> {
    let options = KubeConfigOptions {
        context: flags.context.clone(),
        cluster: flags.cluster.clone(),
        user: flags.user.clone(),
    };
    let selects = flags.context.is_some() || flags.cluster.is_some() || flags.user.is_some();
    let mut config = match &flags.kubeconfig {
        Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
        None if selects => Config::from_kubeconfig(&options).await?,
        None => match (Config::infer().await, &flags.server) {
            (Ok(config), _) => config,
            // An address is all that is needed.
            (Err(_), Some(server)) => Config::new(server.clone()),
            (Err(error), None) => return Err(error.into()),
        },
    };
    override_by(flags, &mut config)?;
    Ok(config)
}

fn override_by(flags: &ClusterFlags, config: &mut Config) -> Result<(), Error> {
    if let Some(server) = &flags.server {
        config.cluster_url = server.clone();
    }
    if let Some(namespace) = &flags.namespace {
        config.default_namespace.clone_from(namespace);
    }
    if let Some(path) = &flags.certificate_authority {
        readable("certificate-authority", path)?;
        config.root_cert_file = Some(path.clone());
    }
    let auth = &mut config.auth_info;
    if let Some(token) = &flags.token {
        auth.token = Some(token.clone().into());
    }
    if let Some(username) = &flags.username {
        auth.username = Some(username.clone());
    }
    if let Some(password) = &flags.password {
        auth.password = Some(password.clone().into());
    }
    if let Some(path) = &flags.client_certificate {
        auth.client_certificate = Some(readable("client-certificate", path)?);
    }
    if let Some(path) = &flags.client_key {
        auth.client_key = Some(readable("client-key", path)?);
    }
    if let Some(user) = &flags.as_user {
        auth.impersonate = Some(user.clone());
    }
    if !flags.as_group.is_empty() {
        auth.impersonate_groups = Some(flags.as_group.clone());
    }
    config.accept_invalid_certs |= flags.insecure_skip_tls_verify;
    config.disable_compression |= flags.disable_compression;
    if let Some(name) = &flags.tls_server_name {
        config.tls_server_name = Some(name.clone());
    }
    if let Some(proxy) = &flags.proxy_url {
        config.proxy_url = Some(proxy.clone());
    }
    Ok(())
}

fn readable(flag: &'static str, path: &Path) -> Result<String, Error> {
    let error = |source| Error::File { flag, path: path.display().to_string(), source };
    std::fs::metadata(path).map_err(error)?;
    Ok(path.display().to_string())
}

/// The namespace of this process: `$POD_NAMESPACE`, that of the service account, or `argo-rollouts`.
#[must_use]
pub fn own_namespace(pod_namespace: Option<String>) -> String {
    let of_service_account = || std::fs::read_to_string(PathBuf::from(NAMESPACE_FILE)).ok();
    pod_namespace
        .or_else(of_service_account)
        .map(|namespace| namespace.trim().to_owned())
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
}

/// The rate limits of a process.
#[derive(Clone, Debug)]
pub struct Throttles {
    /// Of the workers and what they need, watches and events: few enough to take turns.
    reconciling: Throttle,
    /// Of RPCs, so that their callers cannot slow the workers.
    api: Throttle,
    /// Of the Lease, which must not wait for anything.
    lease: Throttle,
}

impl Throttles {
    /// Each of the two that limit lets this much pass.
    #[must_use]
    pub fn new(per_second: f64, burst: u32) -> Self {
        Self {
            reconciling: Throttle::new(per_second, burst),
            api: Throttle::new(per_second, burst),
            lease: Throttle::new(0.0, 1),
        }
    }

    fn of(&self, part: Part) -> Throttle {
        match part {
            Part::Watch | Part::Workers | Part::Events => self.reconciling.clone(),
            Part::Api => self.api.clone(),
            Part::Lease => self.lease.clone(),
        }
    }
}

/// Whether a client repeats what the server refuses for the moment. The workers, watches and the Lease have their own
/// backoff; a client that repeats an eviction until its deadline would keep from them that a disruption budget forbids
/// it, and ask ten times where once is enough.
fn retries(part: Part) -> bool {
    part == Part::Api
}

/// The clients of a cluster, one for each part.
pub struct Cluster {
    clients: HashMap<Part, Client>,
}

impl Cluster {
    /// Makes the clients, throttled part by part.
    ///
    /// # Errors
    ///
    /// When address or credentials cannot be used, such as a certificate that cannot be read.
    pub fn new(config: &Config, throttles: &Throttles, metrics: &Metrics) -> Result<Self, Error> {
        let client = |part: Part| {
            let throttle = throttles.of(part);
            let agent = HeaderValue::from_static(part.agent());
            let requests = Requests { agent, throttle, metrics: metrics.clone() };
            let mut config = config.clone();
            config.default_retry = retries(part);
            Ok((part, ClientBuilder::try_from(config)?.with_layer(&requests).build()))
        };
        Ok(Self { clients: Part::ALL.into_iter().map(client).collect::<Result<_, Error>>()? })
    }
}

impl Connect for Cluster {
    fn client(&self, part: Part) -> Client {
        self.clients[&part].clone()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn callers_of_the_api_do_not_slow_the_workers() {
        let throttles = Throttles::new(1.0, 2);
        let api = throttles.of(Part::Api);
        while let Some(passed) = api.pass().now_or_never() {
            passed.unwrap();
        }
        for part in [Part::Workers, Part::Watch, Part::Lease] {
            throttles.of(part).pass().now_or_never().expect("it need not wait").unwrap();
        }
    }
}
