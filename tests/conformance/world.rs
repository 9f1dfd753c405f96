//! A namespace with a control plane of its own, on one of the two clusters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Namespace};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt};
use rolloutd::apiserver::{self, ApiServer};
use rolloutd::clock::Clock;
use rolloutd::crd::{self, Rollout};
use rolloutd::lease::Leadership;
use rolloutd::pb::v1::rollout_service_client::RolloutServiceClient;
use rolloutd::serve::cluster::{Cluster, Throttles};
use rolloutd::serve::process::Process;
use rolloutd::serve::{Connect, Election, Options, Part, PluginSource, Reconcile, Threads};
use rolloutd::simcluster::{self, Behaviour, ImageMatch, Namespaces, Outcome, Rule, SimCluster};
use rolloutd::telemetry::Metrics;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::foretold::Foretold;
use crate::gate::Gate;
use crate::history::History;
use crate::kubernetes::{self, Kubernetes};
use crate::role;

/// How long pods take to start here.
pub const START_UP: Duration = Duration::from_millis(50);

/// What the images of pods contain that never become ready.
pub const NEVER_READY: &str = ":never";

/// How long anything may take to come about, in the clock of the cluster that runs: generous, since machines are shared.
const DEADLINE: Duration = Duration::from_secs(60);

pub struct World {
    pub client: Client,
    pub namespace: String,
    pub history: History,
    /// What is foretold and then compared, where it is.
    pub foretold: Option<Foretold>,
    /// What its control plane may do.
    pub rights: Rights,
    connect: Kube,
    clock: Clock,
    member: Option<Member>,
    embedded: Option<Embedded>,
    /// A real cluster of its own, where it has one.
    own: Option<(Arc<Kubernetes>, SimCluster)>,
}

/// What a control plane may do in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Everything.
    All,
    /// What Argo Rollouts' own ClusterRole grants.
    ArgoRollouts,
}

/// What only the embedded cluster has.
pub struct Embedded {
    pub api: ApiServer,
    /// What the control plane and the simulated controllers send passes through it.
    pub gate: Gate,
    /// Runs pods; `None` while nobody does.
    simcluster: Option<SimCluster>,
}

struct Kube {
    clients: Vec<(Part, Client)>,
}

/// The lines of one control plane to the API server.
struct Lines<'a> {
    kube: &'a Kube,
    cut: Arc<AtomicBool>,
    /// Requests of the workers.
    requests: Arc<AtomicUsize>,
}

impl Connect for Lines<'_> {
    fn client(&self, part: Part) -> Client {
        let (_, client) =
            self.kube.clients.iter().find(|(of, _)| *of == part).expect("a client for each part");
        let (client, cut, requests) = (client.clone(), Arc::clone(&self.cut), Arc::clone(&self.requests));
        let send = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (client, cut) = (client.clone(), Arc::clone(&cut));
            requests.fetch_add(usize::from(part == Part::Workers), Ordering::SeqCst);
            async move {
                if cut.load(Ordering::SeqCst) {
                    return std::future::pending().await;
                }
                client.send(request).await
            }
        });
        Client::new(send, "default")
    }
}

/// A control plane that can be cut off at once, as if its process had died.
pub struct Member {
    process: Process,
    cut: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
}

impl Member {
    /// Nothing that it sends from now on arrives.
    pub fn cut_off(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Requests that its workers have sent.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Whether it leads.
    pub fn leads(&self) -> bool {
        self.process.leadership().borrow().is_ours()
    }

    /// Waits until it leads.
    pub async fn lead(&self) {
        let mut leadership = self.process.leadership();
        let led = leadership.wait_for(Leadership::is_ours);
        tokio::time::timeout(DEADLINE, led).await.expect("it leads in time").expect("it runs");
    }

    pub async fn stop(self) {
        self.process.stop().await;
    }
}

/// The real API server that worlds share, and the pods on it.
static PREPARED: OnceCell<Option<(Arc<Kubernetes>, SimCluster)>> = OnceCell::const_new();

/// Runs the pods of a real cluster.
pub async fn run_pods(kubernetes: &Kubernetes) -> SimCluster {
    let client = kubernetes.client("simcluster").await.expect("a client");
    SimCluster::start(client, simcluster_config(Clock::wall(), Namespaces::Unmanaged))
}

async fn real_cluster() -> Option<Arc<Kubernetes>> {
    let prepare = || async {
        let kubernetes = kubernetes::shared().await?;
        let client = kubernetes.client("simcluster").await.expect("a client");
        install_crds(&client, crd::definitions()).await;
        let simcluster = run_pods(&kubernetes).await;
        Some((kubernetes, simcluster))
    };
    PREPARED.get_or_init(prepare).await.as_ref().map(|(kubernetes, _)| Arc::clone(kubernetes))
}

fn simcluster_config(clock: Clock, namespaces: Namespaces) -> simcluster::Config {
    let rule = |version: &str, outcome| Rule {
        image: ImageMatch::Contains(format!(":{version}")),
        start_up: None,
        outcome,
    };
    let behaviour = Behaviour {
        start_up: START_UP,
        termination: Duration::from_millis(20),
        rules: vec![
            rule("never", Outcome::NeverReady),
            rule("absent", Outcome::ImagePullFailure),
            rule("crashing", Outcome::CrashLoop),
        ],
        ..Behaviour::default()
    };
    simcluster::Config { clock, behaviour, seed: 1, namespaces }
}

pub async fn install_crds(client: &Client, definitions: Vec<CustomResourceDefinition>) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in definitions {
        api.create(&PostParams::default(), &definition).await.expect("the CRD is accepted");
        let established = kube::runtime::conditions::is_crd_established();
        tokio::time::timeout(DEADLINE, await_condition(api.clone(), &definition.name_any(), established))
            .await
            .expect("the CRD is established in time")
            .expect("the watch works");
    }
}

impl World {
    /// A world on the real API server; `None` where there is none.
    pub async fn real() -> Option<Self> {
        Some(Self::on(&*real_cluster().await?, None).await.led())
    }

    /// The same for a control plane that is this user and may do what is granted to it, without one yet; with a client of that user.
    pub async fn real_as(user: &str) -> Option<(Self, Client)> {
        let world = Self::on(&*real_cluster().await?, Some(user)).await;
        let (_, client) = world.connect.clients.first().expect("a client for each part").clone();
        Some((world, client))
    }

    /// The same for a control plane that may do what Argo Rollouts' own may.
    pub async fn real_under_its_role() -> Option<Self> {
        let kubernetes = real_cluster().await?;
        Some(Self::under_its_role(&kubernetes).await)
    }

    /// A world on this API server for a control plane that may do what Argo Rollouts' own may, without one yet.
    pub async fn under_its_role(kubernetes: &Kubernetes) -> Self {
        let mut world = Self::on(kubernetes, Some(role::USER)).await;
        let (_, user) = world.connect.clients.first().expect("a client for each part");
        role::grant(&world.client, user).await;
        world.rights = Rights::ArgoRollouts;
        world
    }

    /// A world on an embedded cluster of its own; for a runtime whose time is paused.
    pub async fn embedded() -> Self {
        Self::embedded_with(crd::definitions()).await.led()
    }

    /// The same with other definitions, and without a control plane.
    pub async fn embedded_with(definitions: Vec<CustomResourceDefinition>) -> Self {
        let mut world = Self::embedded_at_rest(definitions, Rights::All).await;
        world.run_pods();
        world
    }

    /// A world on an embedded cluster for a control plane that may do what Argo Rollouts' own may, without one yet.
    pub async fn embedded_under_its_role() -> Self {
        let mut world = Self::embedded_at_rest(crd::definitions(), Rights::ArgoRollouts).await;
        world.run_pods();
        world
    }

    /// The same as [`Self::embedded_with`], for a control plane with these rights, and nobody runs pods yet.
    pub async fn embedded_at_rest(definitions: Vec<CustomResourceDefinition>, rights: Rights) -> Self {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap(), 1.0);
        let api = ApiServer::new(apiserver::Config::new(clock.clone()));
        let client = api.client("test");
        install_crds(&client, definitions).await;
        let gate = Gate::default();
        let clients = Part::ALL.into_iter().map(|part| {
            let client = gate.through(api.client(part.agent()));
            match rights {
                Rights::All => (part, client),
                Rights::ArgoRollouts => (part, role::guarded(client)),
            }
        });
        let world = Self::new(client, Kube { clients: clients.collect() }, clock).await;
        Self { rights, embedded: Some(Embedded { api, gate, simcluster: None }), ..world }
    }

    /// Runs pods on the embedded cluster from now on.
    pub fn run_pods(&mut self) {
        let embedded = self.embedded.as_mut().expect("this world is an embedded one");
        let client = embedded.gate.through(embedded.api.client("simcluster"));
        let config = simcluster_config(self.clock.clone(), Namespaces::Managed);
        embedded.simcluster = Some(SimCluster::start(client, config));
    }

    /// A world on a real API server of its own, with other definitions and without a control plane; `None` where there is none.
    pub async fn real_with(definitions: Vec<CustomResourceDefinition>) -> Option<Self> {
        let kubernetes = Arc::new(kubernetes::own().await?);
        let client = kubernetes.client("simcluster").await.expect("a client");
        install_crds(&client, definitions).await;
        let simcluster = run_pods(&kubernetes).await;
        let world = Self::on(&kubernetes, None).await;
        Some(Self { own: Some((kubernetes, simcluster)), ..world })
    }

    async fn on(kubernetes: &Kubernetes, user: Option<&str>) -> Self {
        let mut config = kubernetes.config(kubernetes::ADMIN).await.expect("a kubeconfig");
        config.auth_info.impersonate = user.map(str::to_owned);
        let cluster = Cluster::new(&config, &Throttles::new(0.0, 1), &Metrics::default()).expect("clients");
        let clients = Part::ALL.into_iter().map(|part| (part, cluster.client(part))).collect();
        let client = kubernetes.client("test").await.expect("a client");
        Self::new(client, Kube { clients }, Clock::wall()).await
    }

    async fn new(client: Client, connect: Kube, clock: Clock) -> Self {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace: Namespace =
            serde_json::from_value(json!({ "metadata": { "generateName": "conformance-" } })).unwrap();
        let namespace = namespaces.create(&PostParams::default(), &namespace).await.unwrap().name_any();
        let history = History::follow(&client, &namespace).await;
        Self {
            client,
            namespace,
            history,
            foretold: None,
            rights: Rights::All,
            connect,
            clock,
            member: None,
            embedded: None,
            own: None,
        }
    }

    /// With a control plane that leads unasked.
    pub fn led(mut self) -> Self {
        self.member = Some(self.member(Election::Undisputed));
        self
    }

    /// With a control plane that is so.
    pub fn led_by(mut self, options: Options) -> Self {
        self.member = Some(self.member_with(options));
        self
    }

    /// Without the control plane that it had.
    pub async fn unled(mut self) -> Self {
        if let Some(member) = self.member.take() {
            member.stop().await;
        }
        self
    }

    /// In which PlanRollout is asked after each operation of a [`crate::drive::Drive`], and compared with what happens; on the embedded
    /// cluster, whose clock stands still meanwhile.
    pub async fn foretelling(mut self) -> Self {
        if self.embedded.is_some() {
            let foretold = Foretold::follow(&self.client, &self.namespace, self.clock.clone()).await;
            self.foretold = Some(foretold);
        }
        self
    }

    /// One more control plane, for this world's namespace.
    pub fn member(&self, election: Election) -> Member {
        self.member_with(Options { election, ..self.options() })
    }

    /// What control planes of this world are like.
    pub fn options(&self) -> Options {
        Options {
            clock: self.clock.clone(),
            metrics: Metrics::default(),
            instance_id: String::new(),
            namespace: Some(self.namespace.clone()),
            reconcile: Reconcile::All,
            election: Election::Undisputed,
            threads: Threads::default(),
            settings: Arc::default(),
            plugins: PluginSource::ConfigMapIn(self.namespace.clone()),
        }
    }

    /// One more control plane.
    pub fn member_with(&self, options: Options) -> Member {
        let (cut, requests) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let lines = Lines { kube: &self.connect, cut: Arc::clone(&cut), requests: Arc::clone(&requests) };
        let process = Process::start(&lines, &options, String::new());
        Member { process, cut, requests }
    }

    /// The API of this world's control plane, within the process.
    pub fn rpc(&self) -> RolloutServiceClient<axum::Router> {
        let member = self.member.as_ref().expect("this world is led");
        RolloutServiceClient::new(member.process.api().router())
    }

    /// Requests that the workers of this world's control plane have sent.
    pub fn requests(&self) -> usize {
        self.member.as_ref().expect("this world is led").requests()
    }

    /// The cluster's time.
    pub fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// Waits, in the clock of the cluster.
    pub async fn pass(&self, time: Duration) {
        self.clock.sleep(time).await;
    }

    /// Stops, and checks the properties of everything that was written.
    pub async fn finish(self) {
        if let Some(foretold) = &self.foretold {
            foretold.finish().await;
        }
        if let Some(member) = self.member {
            member.stop().await;
        }
        self.history.catch_up(&self.client, &self.namespace).await;
        self.history.check();
    }

    /// The gate in front of the embedded cluster; `None` where the cluster is a real one.
    pub fn gate(&self) -> Option<&Gate> {
        self.embedded.as_ref().map(|embedded| &embedded.gate)
    }

    /// Whether its cluster is an embedded one, whose time passes at once.
    pub fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// What only the embedded cluster has.
    pub fn cluster(&self) -> &Embedded {
        self.embedded.as_ref().expect("this world is an embedded one")
    }

    /// The pods of this world's cluster.
    pub fn simcluster(&self) -> &SimCluster {
        let embedded = self.embedded.as_ref().and_then(|embedded| embedded.simcluster.as_ref());
        let own = || self.own.as_ref().map(|(_, simcluster)| simcluster);
        let shared = || PREPARED.get()?.as_ref().map(|(_, simcluster)| simcluster);
        embedded.or_else(own).or_else(shared).expect("every world has pods")
    }

    pub fn rollouts(&self) -> Api<Rollout> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The rollout's version.
    pub async fn version(&self) -> u64 {
        let rollout = self.rollouts().get_metadata("web").await.expect("it exists");
        rollout.resource_version().and_then(|version| version.parse().ok()).expect("a number")
    }

    /// Waits until the rollout is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Rollout) -> bool) -> Rollout {
        let condition = |rollout: Option<&Rollout>| rollout.is_some_and(&wanted);
        match tokio::time::timeout(DEADLINE, await_condition(self.rollouts(), "web", condition)).await {
            Ok(Ok(Some(rollout))) => rollout,
            Ok(other) => panic!("waiting for {what}: {other:?}"),
            Err(_) => {
                let rollout = self.rollouts().get_opt("web").await;
                panic!("never came about: {what}\n{rollout:#?}\n{:#?}", self.events().await)
            }
        }
    }

    /// Waits until an event that begins so is recorded.
    pub async fn until_event(&self, beginning: &str) {
        let recorded = async {
            while !self.events().await.iter().any(|event| event.starts_with(beginning)) {
                self.pass(Duration::from_millis(100)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, recorded).await.is_err() {
            panic!("no event {beginning}: {:#?}", self.events().await);
        }
    }

    /// The rollout's events, oldest first, as `Reason: message`.
    pub async fn events(&self) -> Vec<String> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut events = api.list(&ListParams::default()).await.expect("events are listed").items;
        events.retain(|event| event.involved_object.kind.as_deref() == Some("Rollout"));
        events.sort_by_key(ResourceExt::name_any);
        events
            .into_iter()
            .map(|event| {
                format!("{}: {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default())
            })
            .collect()
    }
}

/// The image of a version.
pub fn image(version: &str) -> String {
    format!("registry.test/web:{version}")
}

/// A manifest of the rollout `web`.
pub fn manifest(replicas: i32, canary: Value) -> Value {
    manifest_of(replicas, json!({ "canary": canary }))
}

/// The same with any strategy.
pub fn manifest_of(replicas: i32, strategy: Value) -> Value {
    json!({
        "apiVersion": crd::API_VERSION,
        "kind": crd::KIND,
        "metadata": { "name": "web" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "strategy": strategy,
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": image("v1") }] },
            },
        },
    })
}
