//! A namespace on one of the two clusters, for tests that run on both: servers of it come and go.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use kube::{Api as Objects, Client, ResourceExt as _};
use rolloutd::apiserver::{self, ApiServer};
use rolloutd::clock::Clock;
use rolloutd::crd;
use rolloutd::serve::{Connect, Part, Reconcile};
use rolloutd::simcluster::{self, Behaviour, ImageMatch, Namespaces, Outcome, Rule, SimCluster};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::kubernetes::{self, Kubernetes};
use crate::world::{Replica, Wanted};

pub(crate) struct Site {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) clock: Clock,
    clients: Clients,
    /// What makes pods of ReplicaSets, where it runs for this site alone.
    _pods: Option<SimCluster>,
}

struct Clients(Vec<(Part, Client)>);

impl Connect for Clients {
    fn client(&self, part: Part) -> Client {
        self.0.iter().find(|(of, _)| *of == part).expect("a client for each part").1.clone()
    }
}

impl Site {
    /// On an embedded cluster of its own, for a runtime whose time is paused.
    async fn embedded() -> Self {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap(), 1.0);
        let cluster = ApiServer::new(apiserver::Config::new(clock.clone()));
        let client = cluster.client("test");
        install(&client).await;
        let clients = Part::ALL.map(|part| (part, cluster.client(part.agent())));
        let config = simcluster_config(clock.clone(), Namespaces::Managed);
        let pods = SimCluster::start(cluster.client("simcluster"), config);
        Self { _pods: Some(pods), ..Self::new(client, clock, Clients(clients.into())).await }
    }

    /// On the real one; `None` where there is none.
    async fn real() -> Option<Self> {
        let kubernetes = real_cluster().await?;
        let mut clients = Vec::new();
        for part in Part::ALL {
            clients.push((part, kubernetes.client(part.agent()).await.expect("a client")));
        }
        let client = kubernetes.client("test").await.expect("a client");
        Some(Self::new(client, Clock::wall(), Clients(clients)).await)
    }

    async fn new(client: Client, clock: Clock, clients: Clients) -> Self {
        let namespaces: Objects<Namespace> = Objects::all(client.clone());
        let namespace = serde_json::from_value(json!({ "metadata": { "generateName": "site-" } })).unwrap();
        let namespace = namespaces.create(&PostParams::default(), &namespace).await.unwrap().name_any();
        Self { client, namespace, clock, clients, _pods: None }
    }

    /// A server of this namespace that writes nothing by itself, whose caches have listed.
    pub(crate) async fn server(&self) -> Replica {
        self.server_with(Reconcile::AnalysisOnly).await
    }

    async fn server_with(&self, reconcile: Reconcile) -> Replica {
        let wanted = Wanted { namespace: Some(self.namespace.clone()), reconcile, ..Wanted::default() };
        Replica::start(&self.clients, &self.clock, wanted).await
    }

    /// A server that also reconciles.
    pub(crate) async fn leader(&self) -> Replica {
        self.server_with(Reconcile::All).await
    }

    pub(crate) fn rollouts(&self) -> Objects<crd::Rollout> {
        Objects::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn parent(&self) -> String {
        format!("namespaces/{}", self.namespace)
    }

    pub(crate) fn name(&self, rollout: &str) -> String {
        format!("namespaces/{}/rollouts/{rollout}", self.namespace)
    }

    /// The manifest of a rollout in this namespace.
    pub(crate) fn manifest(&self, name: &str) -> Value {
        let mut manifest = crate::world::manifest(name);
        manifest["metadata"]["namespace"] = json!(self.namespace);
        manifest
    }
}

/// The real API server with the definitions; `None` where there is none.
pub(crate) async fn real_cluster() -> Option<Arc<Kubernetes>> {
    static PREPARED: OnceCell<Option<(Arc<Kubernetes>, SimCluster)>> = OnceCell::const_new();
    let prepare = || async {
        let kubernetes = kubernetes::shared().await?;
        install(&kubernetes.client("test").await.expect("a client")).await;
        let client = kubernetes.client("simcluster").await.expect("a client");
        let config = simcluster_config(Clock::wall(), Namespaces::Unmanaged);
        Some((kubernetes, SimCluster::start(client, config)))
    };
    PREPARED.get_or_init(prepare).await.as_ref().map(|(kubernetes, _)| Arc::clone(kubernetes))
}

/// Pods are quick, except those of images `:never`, which never get ready.
fn simcluster_config(clock: Clock, namespaces: Namespaces) -> simcluster::Config {
    let never = Rule {
        image: ImageMatch::Contains(":never".to_owned()),
        start_up: None,
        outcome: Outcome::NeverReady,
    };
    let behaviour = Behaviour {
        start_up: Duration::from_millis(50),
        termination: Duration::from_millis(20),
        rules: vec![never],
        ..Behaviour::default()
    };
    simcluster::Config { clock, behaviour, seed: 1, namespaces }
}

async fn install(client: &Client) {
    let definitions: Objects<CustomResourceDefinition> = Objects::all(client.clone());
    for definition in crd::definitions() {
        definitions.create(&PostParams::default(), &definition).await.expect("the CRD is accepted");
        let established = kube::runtime::conditions::is_crd_established();
        await_condition(definitions.clone(), &definition.name_any(), established)
            .await
            .expect("it is established");
    }
}

/// Runs a test on an embedded cluster, whose clock stands still while anything has work to do.
pub(crate) fn embedded(test: impl AsyncFnOnce(Site)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async { test(Site::embedded().await).await });
}

/// Runs a test on the real cluster, where there is one.
pub(crate) fn real(test: impl AsyncFnOnce(Site)) {
    kubernetes::runtime().block_on(async {
        match Site::real().await {
            Some(site) => test(site).await,
            None => println!("skipped: KUBEBUILDER_ASSETS is not set"),
        }
    });
}

/// Runs each test once on each cluster.
macro_rules! on_both {
    ($($name:ident)+) => {
        mod on_the_embedded_cluster {
            $(#[test] fn $name() { crate::site::embedded(super::$name); })+
        }

        mod on_kubernetes {
            $(#[test] fn $name() { crate::site::real(super::$name); })+
        }
    };
}

pub(crate) use on_both;
