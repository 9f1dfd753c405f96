//! A cluster of one program: the embedded API, its pods, and control planes that come and go, all through one weather.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use rolloutd::apiserver::{self, ApiServer};
use rolloutd::clock::Clock;
use rolloutd::crd::{self, Rollout};
use rolloutd::lease;
use rolloutd::pb::v1::rollout_service_client::RolloutServiceClient;
use rolloutd::serve::process::Process;
use rolloutd::serve::{Connect, Election, Options, Part, PluginSource, Reconcile, Threads};
use rolloutd::simcluster::{self, Namespaces, SimCluster};
use rolloutd::telemetry::Metrics;
use serde_json::json;
use tokio::time::Instant;

use crate::lens::Lens;
use crate::plugins::Plugins;
use crate::program::Program;
use crate::watcher::{SOMEBODY, Watcher};
use crate::weather::{Weather, Webhook, Wire};

/// The namespace of the rollout.
pub const NAMESPACE: &str = "shop";

/// How often the cluster is looked after while time passes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub struct Cluster {
    pub api: ApiServer,
    /// A client that no fault reaches.
    pub client: Client,
    pub weather: Weather,
    pub simcluster: SimCluster,
    clock: Clock,
    watcher: Arc<Mutex<Watcher>>,
    plugins: Arc<Plugins>,
    members: Vec<Member>,
    started: usize,
    /// What ends when.
    ends: Vec<(Instant, Ends)>,
    lens: Option<Lens>,
}

/// A fault that lasts for a while.
pub enum Ends {
    Quota,
    Webhook(Webhook),
    Away,
    Parted(Wire),
}

struct Member {
    process: Process,
    wire: Wire,
}

struct Wires<'a> {
    cluster: &'a Cluster,
    wire: Wire,
}

impl Connect for Wires<'_> {
    fn client(&self, part: Part) -> Client {
        let client = self.cluster.weather.client(&self.cluster.api, part.agent(), &self.wire);
        match self.cluster.lens {
            Some(lens) => lens.over(part, client),
            None => client,
        }
    }
}

impl Cluster {
    /// The cluster of a program, with control planes that run in fine weather.
    pub async fn start(program: &Program, lens: Option<Lens>) -> Self {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap(), 1.0);
        let api =
            ApiServer::new(apiserver::Config { seed: program.seed, ..apiserver::Config::new(clock.clone()) });
        let client = api.client(SOMEBODY);
        let weather = Weather::new(program.seed);
        prepare(&client).await;
        let config = simcluster::Config {
            clock: clock.clone(),
            behaviour: program.pods.behaviour(),
            seed: program.seed,
            namespaces: Namespaces::Unmanaged,
        };
        let simcluster = SimCluster::start(weather.client(&api, "simcluster", &Wire::default()), config);
        let watcher = Arc::new(Mutex::new(Watcher::default()));
        let hook = Arc::clone(&watcher);
        api.on_write(move |write| hook.lock().unwrap().note(write));
        let mut cluster = Self {
            api,
            client,
            weather,
            simcluster,
            clock,
            watcher,
            plugins: Arc::new(Plugins::new(program.seed)),
            members: Vec::new(),
            started: 0,
            ends: Vec::new(),
            lens,
        };
        for _ in 0..program.members {
            cluster.start_member();
        }
        cluster
    }

    /// One more control plane.
    fn start_member(&mut self) {
        self.started += 1;
        let wire = Wire::default();
        let election = Election::Lease(lease::Config {
            namespace: NAMESPACE.to_owned(),
            name: lease::lease_name(""),
            identity: format!("member-{}", self.started),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        });
        let options = Options {
            clock: self.clock.clone(),
            metrics: Metrics::default(),
            instance_id: String::new(),
            namespace: Some(NAMESPACE.to_owned()),
            reconcile: Reconcile::All,
            election,
            threads: Threads::default(),
            settings: Arc::default(),
            plugins: PluginSource::These(Arc::clone(&self.plugins) as _),
        };
        let wires = Wires { cluster: self, wire: wire.clone() };
        let process = Process::start(&wires, &options, String::new());
        self.members.push(Member { process, wire });
    }

    /// The control plane that leads, or else any.
    fn leader(&self) -> usize {
        self.members.iter().position(|member| member.process.leadership().borrow().is_ours()).unwrap_or(0)
    }

    /// The leader dies right after so many more writes.
    pub fn doom_leader(&self, writes: usize) {
        let wire = self.members[self.leader()].wire.clone();
        self.watcher().doom(writes, wire);
    }

    /// The leader stops in good order, and another starts.
    pub fn stop_leader(&mut self) {
        let leader = self.members.remove(self.leader());
        tokio::spawn(leader.process.stop());
        self.start_member();
    }

    /// The leader cannot reach the API server for a while.
    pub fn part_leader(&mut self, time: Duration) {
        let wire = self.members[self.leader()].wire.clone();
        wire.part();
        self.until(time, Ends::Parted(wire));
    }

    /// Ends a fault after a while.
    pub fn until(&mut self, time: Duration, ends: Ends) {
        self.ends.push((Instant::now() + time, ends));
    }

    /// Fine weather from now on, and nothing in the way any more.
    pub fn calm(&mut self) {
        self.weather.clear();
        for (_, ends) in std::mem::take(&mut self.ends) {
            self.end(ends);
        }
        for node in self.simcluster.nodes() {
            self.simcluster.restore_node(node).expect("it is one of its nodes");
        }
        self.watcher().pardon();
    }

    fn end(&self, ends: Ends) {
        match ends {
            Ends::Quota => self.weather.lift_quota(),
            Ends::Webhook(webhook) => self.weather.admit(webhook),
            Ends::Away => self.weather.come_back(),
            Ends::Parted(wire) => wire.join(),
        }
    }

    /// Lets time pass. Fails at the first broken property.
    pub async fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        loop {
            self.look_after();
            self.watcher().verdict()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Even an act that follows at once lets what it finds ready run.
                tokio::task::yield_now().await;
                return self.watcher().verdict();
            }
            let next = self.ends.iter().map(|(end, _)| end.saturating_duration_since(Instant::now())).min();
            let most = next.map_or(LOOK_EVERY, |next| next.min(LOOK_EVERY)).max(Duration::from_millis(1));
            rolloutd::clock::real_sleep(left.min(most)).await;
        }
    }

    /// Ends faults that are over, and replaces control planes that died.
    fn look_after(&mut self) {
        let now = Instant::now();
        let (over, lasting) = std::mem::take(&mut self.ends).into_iter().partition(|(end, _)| *end <= now);
        self.ends = lasting;
        for (_, ends) in Vec::from_iter::<Vec<_>>(over) {
            self.end(ends);
        }
        let (dead, alive) =
            std::mem::take(&mut self.members).into_iter().partition(|member| member.wire.is_cut());
        self.members = alive;
        for Member { process, .. } in Vec::from_iter::<Vec<Member>>(dead) {
            // Nothing of it arrives any more; this only frees what it holds.
            tokio::spawn(process.stop());
            self.start_member();
        }
    }

    /// The cluster's time.
    pub fn now(&self) -> jiff::Timestamp {
        self.clock.now()
    }

    /// Puts a line into the journal.
    pub fn note(&self, what: &str) {
        self.watcher().act(what, self.now());
    }

    /// The API of the control plane that leads.
    pub fn rpc(&self) -> RolloutServiceClient<axum::Router> {
        RolloutServiceClient::new(self.members[self.leader()].process.api().router())
    }

    pub fn plugins(&self) -> &Plugins {
        &self.plugins
    }

    pub fn watcher(&self) -> MutexGuard<'_, Watcher> {
        self.watcher.lock().unwrap()
    }

    pub fn rollouts(&self) -> Api<Rollout> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub async fn rollout(&self) -> Rollout {
        self.rollouts().get("web").await.expect("it exists")
    }
}

/// The definition of Rollouts, and the namespace.
async fn prepare(client: &Client) {
    use k8s_openapi::api::core::v1::Namespace;
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let definition =
        crd::definitions().into_iter().find(|definition| definition.name_any().starts_with("rollouts."));
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    api.create(&PostParams::default(), &definition.expect("it is defined")).await.expect("it is accepted");
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } })).unwrap();
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.expect("it is created");
}
