//! The embedded cluster: an API server in memory with Argo Rollouts' kinds, and simulated nodes that run pods.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Error;
use crate::apiserver::{self, ApiServer};
use crate::clock::Clock;
use crate::crd;
use crate::serve::{Connect, Part};
use crate::simcluster::{self, Behaviour, Namespaces, SimCluster};

/// A cluster that lives as long as this value.
pub(super) struct Cluster {
    api: ApiServer,
    url: String,
    /// Readable by its owner only, and gone in the end.
    folder: TempDir,
    tasks: TaskTracker,
    stop: CancellationToken,
    simcluster: SimCluster,
}

impl Cluster {
    /// Starts it, with these namespaces.
    pub(super) async fn start(
        clock: &Clock,
        listener: TcpListener,
        namespaces: &[&str],
    ) -> Result<Self, Error> {
        let api = ApiServer::new(apiserver::Config {
            seed: clock.now().as_microsecond().unsigned_abs(),
            ..apiserver::Config::new(clock.clone())
        });
        prepare(api.client("rolloutd-dev"), namespaces).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let folder = tempfile::Builder::new().prefix("rolloutd-dev-").tempdir()?;
        write_kubeconfig(folder.path(), &url)?;

        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (server, until) = (api.clone(), stop.clone());
        tasks.spawn(async move {
            if let Err(error) = server.serve(listener, until).await {
                tracing::error!(%error, "the embedded Kubernetes API is not served any more");
            }
        });
        let simulated = simcluster::Config {
            clock: clock.clone(),
            behaviour: Behaviour::default(),
            seed: clock.now().as_microsecond().unsigned_abs(),
            namespaces: Namespaces::Managed,
        };
        let simcluster = SimCluster::start(api.client("simcluster"), simulated);
        Ok(Self { api, url, folder, tasks, stop, simcluster })
    }

    /// The API server's address.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// A file that kubectl takes.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join(KUBECONFIG)
    }

    /// Stops everything that runs in it.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.simcluster.shutdown().await;
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Connect for Cluster {
    fn client(&self, part: Part) -> Client {
        self.api.client(part.agent())
    }
}

const KUBECONFIG: &str = "kubeconfig";

fn write_kubeconfig(folder: &Path, url: &str) -> io::Result<()> {
    const NAME: &str = "rolloutd-dev";
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": NAME,
        "clusters": [{ "name": NAME, "cluster": { "server": url } }],
        "users": [{ "name": NAME, "user": {} }],
        "contexts": [{ "name": NAME, "context": { "cluster": NAME, "user": NAME, "namespace": "default" } }],
    });
    // JSON is YAML.
    fs::write(folder.join(KUBECONFIG), format!("{kubeconfig:#}\n"))
}

async fn prepare(client: Client, namespaces: &[&str]) -> Result<(), kube::Error> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in crd::definitions() {
        definitions.create(&PostParams::default(), &definition).await?;
    }
    let api: Api<Namespace> = Api::all(client);
    for name in namespaces {
        let namespace = Namespace {
            metadata: kube::api::ObjectMeta { name: Some((*name).to_owned()), ..Default::default() },
            ..Default::default()
        };
        match api.create(&PostParams::default(), &namespace).await {
            Ok(created) => tracing::debug!(namespace = %created.name_any(), "created"),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
