//! Where a scenario runs: a namespace of its own, a client, a cluster, and eyes.
//!
//! All scenarios on one API server share one cluster, because two would fight over its pods. One that stops the
//! cluster or loses a node has it alone.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::io::Write as _;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt as _};
use rolloutd::clock::Clock;
use rolloutd::simcluster::{BackOff, Behaviour, Config, ImageMatch, Namespaces, Outcome, Rule, SimCluster};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{OnceCell, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Nothing here takes longer on two busy cores.
const PATIENCE: Duration = Duration::from_secs(120);

/// A container that never becomes ready.
pub(crate) const NEVER_READY: &str = "registry.test/never-ready:1";
/// A container that crashes.
pub(crate) const CRASHING: &str = "registry.test/crashing:1";
/// An image that is not there.
pub(crate) const MISSING: &str = "registry.test/missing:1";

/// Quick, but for what must be seen on the way.
fn behaviour() -> Behaviour {
    let rule =
        |image: &str, outcome| Rule { image: ImageMatch::Prefix(image.to_owned()), start_up: None, outcome };
    Behaviour {
        start_up: Duration::from_millis(200),
        termination: Duration::from_millis(50),
        back_off: BackOff { first: Duration::from_secs(1), cap: Duration::from_secs(4) },
        eviction: Duration::from_secs(1),
        rules: vec![
            rule("registry.test/never-ready", Outcome::NeverReady),
            rule("registry.test/crashing", Outcome::CrashLoop),
            rule("registry.test/missing", Outcome::ImagePullFailure),
        ],
    }
}

/// One API server with a cluster on it.
struct Site {
    client: Client,
    cluster_client: Client,
    clock: Clock,
    requests: Requests,
    /// None only while a scenario that has it alone restarts it.
    cluster: Arc<RwLock<Option<SimCluster>>>,
    /// Whether the scenarios' custom kind has been defined.
    defined: OnceCell<()>,
}

impl Site {
    /// An API server that the scenarios reach by one client and the cluster by another.
    fn new(client: Client, cluster_client: Client, clock: Clock) -> Arc<Self> {
        let requests = Requests::default();
        let cluster_client = requests.counting(cluster_client);
        let cluster = Arc::new(RwLock::new(Some(start(&cluster_client, &clock))));
        Arc::new(Self { client, cluster_client, clock, requests, cluster, defined: OnceCell::new() })
    }
}

fn start(client: &Client, clock: &Clock) -> SimCluster {
    let config =
        Config { clock: clock.clone(), behaviour: behaviour(), seed: 7, namespaces: Namespaces::Managed };
    SimCluster::start(client.clone(), config)
}

/// Runs a scenario on a real API server, if there is one.
pub(crate) fn on_kubernetes<F>(name: &str, scenario: fn(Lab) -> F)
where
    F: Future<Output = ()>,
{
    static SITE: OnceCell<Arc<Site>> = OnceCell::const_new();
    log();
    crate::kubernetes::runtime().block_on(async {
        let Some(server) = crate::kubernetes::shared().await else {
            return tell_that_kubernetes_is_skipped();
        };
        let site = SITE.get_or_init(|| async {
            let (client, cluster) = (server.client("test").await, server.client("simcluster").await);
            Site::new(client.unwrap(), cluster.unwrap(), Clock::wall())
        });
        run(Arc::clone(site.await), name, scenario).await;
    });
}

/// Runs a scenario on an embedded API server of its own, in virtual time.
pub(crate) fn on_embedded<F>(name: &str, scenario: fn(Lab) -> F)
where
    F: Future<Output = ()>,
{
    log();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap(), 1.0);
        let server = rolloutd::apiserver::ApiServer::new(rolloutd::apiserver::Config::new(clock.clone()));
        let site = Site::new(server.client("test"), server.client("simcluster"), clock);
        run(site, name, scenario).await;
    });
}

/// Past the test harness, which shows nothing of tests that pass.
fn tell_that_kubernetes_is_skipped() {
    static TOLD: Once = Once::new();
    let line = b"scenarios on Kubernetes are skipped: KUBEBUILDER_ASSETS is not set\n";
    TOLD.call_once(|| std::io::stderr().write_all(line).unwrap());
}

/// Shows what the cluster logs where `RUST_LOG` asks for it.
fn log() {
    static LOG: Once = Once::new();
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    LOG.call_once(|| tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init());
}

async fn run<F: Future<Output = ()>>(site: Arc<Site>, name: &str, scenario: fn(Lab) -> F) {
    let namespaces: Api<Namespace> = Api::all(site.client.clone());
    let metadata =
        ObjectMeta { generate_name: Some(format!("{}-", name.replace('_', "-"))), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    let namespace = namespaces.create(&PostParams::default(), &namespace).await.unwrap().name_any();
    let lab = Lab { client: site.client.clone(), site, namespace: namespace.clone() };
    scenario(lab).await;
    // A failed scenario leaves its namespace for the eye; the others' pods must not go on for ever.
    namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
}

/// What a scenario works with.
#[derive(Clone)]
pub(crate) struct Lab {
    site: Arc<Site>,
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Lab {
    /// The same, in another namespace.
    pub(crate) fn elsewhere(&self, namespace: String) -> Self {
        Self { namespace, ..self.clone() }
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates an object from JSON.
    pub(crate) async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + DeserializeOwned
            + Serialize
            + Clone
            + Debug,
    {
        let object = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap()
    }

    /// Watches all objects of a kind in the namespace, from now on.
    pub(crate) async fn observe<K>(&self) -> Observer<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Serialize
            + Debug
            + Send
            + 'static,
    {
        Observer::new(self.api()).await
    }

    /// The cluster, shared with other scenarios.
    pub(crate) async fn cluster(&self) -> Cluster {
        Cluster(Arc::clone(&self.site.cluster).read_owned().await)
    }

    /// The cluster, once no other scenario uses it.
    pub(crate) async fn cluster_alone(&self) -> Alone {
        let (client, clock) = (self.site.cluster_client.clone(), self.site.clock.clone());
        Alone { client, clock, cluster: Arc::clone(&self.site.cluster).write_owned().await }
    }

    /// Runs `define` unless some scenario on this API server has.
    pub(crate) async fn once<F: Future<Output = ()>>(&self, define: impl FnOnce() -> F) {
        self.site.defined.get_or_init(define).await;
    }

    /// How many requests about this namespace the cluster has sent, watches apart.
    pub(crate) fn requests(&self) -> Vec<String> {
        let marker = format!("/namespaces/{}/", self.namespace);
        let seen = self.site.requests.seen.lock().unwrap();
        seen.iter().filter(|request| request.contains(&marker)).cloned().collect()
    }
}

/// A shared cluster.
pub(crate) struct Cluster(OwnedRwLockReadGuard<Option<SimCluster>>);

impl Deref for Cluster {
    type Target = SimCluster;

    fn deref(&self) -> &SimCluster {
        self.0.as_ref().unwrap()
    }
}

/// A cluster that nobody else uses.
pub(crate) struct Alone {
    client: Client,
    clock: Clock,
    cluster: OwnedRwLockWriteGuard<Option<SimCluster>>,
}

impl Alone {
    /// Stops the cluster.
    pub(crate) async fn stop(&mut self) {
        self.cluster.take().unwrap().shutdown().await;
    }

    /// Starts another whose requests go by a client made of the usual one.
    pub(crate) fn start_over(&mut self, client: impl FnOnce(Client) -> Client) {
        *self.cluster = Some(start(&client(self.client.clone()), &self.clock));
    }

    /// Starts another.
    pub(crate) fn start(&mut self) {
        self.start_over(|client| client);
    }
}

impl Deref for Alone {
    type Target = SimCluster;

    fn deref(&self) -> &SimCluster {
        self.cluster.as_ref().unwrap()
    }
}

/// Every request of a client but watches, as `GET /path`.
#[derive(Clone, Default)]
struct Requests {
    seen: Arc<Mutex<Vec<String>>>,
}

impl Requests {
    fn counting(&self, client: Client) -> Client {
        let seen = Arc::clone(&self.seen);
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let line = format!("{} {}", request.method(), request.uri());
            if !line.contains("watch=true") {
                seen.lock().unwrap().push(line);
            }
            let client = client.clone();
            async move { client.send(request).await }
        });
        Client::new(service, "default")
    }
}

/// A number that no other caller gets.
pub(crate) fn unique() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// All objects of a kind in a namespace, as they change.
pub(crate) struct Observer<K> {
    events: BoxStream<'static, watcher::Result<watcher::Event<K>>>,
    /// As they are now, by name.
    pub(crate) now: BTreeMap<String, K>,
    /// Every version of every object that was seen, in order; an object that went appears once more.
    pub(crate) history: Vec<K>,
}

impl<K> Observer<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug + Send + 'static,
{
    async fn new(api: Api<K>) -> Self {
        let events = watcher::watcher(api, watcher::Config::default()).boxed();
        let mut observer = Self { events, now: BTreeMap::new(), history: Vec::new() };
        let listed = async { while !matches!(observer.next().await, watcher::Event::InitDone) {} };
        tokio::time::timeout(PATIENCE, listed).await.expect("the API server lists objects");
        observer
    }

    async fn next(&mut self) -> watcher::Event<K> {
        loop {
            match self.events.next().await.expect("a watch does not end") {
                Ok(event) => {
                    self.take(&event);
                    return event;
                }
                Err(error) => {
                    println!("watch: {error}");
                    rolloutd::clock::real_sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn take(&mut self, event: &watcher::Event<K>) {
        match event {
            watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                self.history.push(object.clone());
                self.now.insert(object.name_any(), object.clone());
            }
            watcher::Event::Delete(object) => {
                self.history.push(object.clone());
                self.now.remove(&object.name_any());
            }
            watcher::Event::Init => self.now.clear(),
            watcher::Event::InitDone => {}
        }
    }

    /// Waits until `holds` of all objects that there are.
    pub(crate) async fn until(&mut self, what: &str, holds: impl Fn(&BTreeMap<String, K>) -> bool) {
        let wait = async {
            while !holds(&self.now) {
                self.next().await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let there: Vec<String> =
                self.now.values().map(|object| serde_json::to_string(object).unwrap_or_default()).collect();
            panic!("waited in vain until {what}; there are {} objects:\n{}", there.len(), there.join("\n"));
        }
    }

    /// Takes in what comes within `duration`.
    pub(crate) async fn linger(&mut self, duration: Duration) {
        let forever = async {
            loop {
                self.next().await;
            }
        };
        let _: Result<(), _> = tokio::time::timeout(duration, forever).await;
    }

    /// The one object of this name, which is there.
    pub(crate) fn get(&self, name: &str) -> &K {
        self.now.get(name).unwrap_or_else(|| panic!("{name} is not there"))
    }

    /// How many different objects were ever seen.
    pub(crate) fn ever(&self) -> usize {
        let uids: std::collections::BTreeSet<Option<String>> =
            self.history.iter().map(kube::ResourceExt::uid).collect();
        uids.len()
    }
}
