//! The embedded cluster: an API server with Argo Rollouts' kinds, and simulated nodes that run pods.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, PostParams};
use kube::{Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Error;
use super::folder::Folder;
use crate::apiserver::{self, ApiServer, Database};
use crate::clock::Clock;
use crate::crd;
use crate::serve::{Connect, Part};
use crate::simcluster::{self, Behaviour, Namespaces, SimCluster};

/// A cluster that lives as long as this value.
pub(super) struct Cluster {
    api: ApiServer,
    url: String,
    folder: Folder,
    tasks: TaskTracker,
    stop: CancellationToken,
    simcluster: SimCluster,
}

impl Cluster {
    /// Starts it, with these namespaces: the one of `database`, or one in memory.
    pub(super) async fn start(
        clock: &Clock,
        listener: TcpListener,
        database: Option<Database>,
        namespaces: &[&str],
    ) -> Result<Self, Error> {
        let seed = clock.now().as_microsecond().unsigned_abs();
        let config = apiserver::Config { seed, ..apiserver::Config::new(clock.clone()) };
        let (api, folder) = match database {
            Some(database) => {
                let folder = Folder::Kept(database.folder().to_owned());
                (ApiServer::stored(config, database)?, folder)
            }
            None => (ApiServer::new(config), Folder::passing()?),
        };
        prepare(api.client("rolloutd-dev"), namespaces).await?;
        let url = format!("http://{}", listener.local_addr()?);
        folder.write_kubeconfig(&url)?;

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
            seed,
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
        self.folder.kubeconfig()
    }

    /// Stops everything that runs in it.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.simcluster.shutdown().await;
        self.tasks.close();
        self.tasks.wait().await;
        self.api.close().await;
    }
}

impl Connect for Cluster {
    fn client(&self, part: Part) -> Client {
        self.api.client(part.agent())
    }
}

/// Creates what is not there yet. What is there is left as it is: it may be another's on purpose.
async fn prepare(client: Client, namespaces: &[&str]) -> Result<(), kube::Error> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in crd::definitions() {
        create(&definitions, &definition).await?;
    }
    let api: Api<Namespace> = Api::all(client);
    for name in namespaces {
        let namespace = Namespace {
            metadata: kube::api::ObjectMeta { name: Some((*name).to_owned()), ..Default::default() },
            ..Default::default()
        };
        create(&api, &namespace).await?;
    }
    Ok(())
}

async fn create<K>(api: &Api<K>, object: &K) -> Result<(), kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    match api.create(&PostParams::default(), object).await {
        Ok(created) => tracing::debug!(name = %created.name_any(), "created"),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
