//! Controllers that stand in for a cluster: pods out of ReplicaSets, a kubelet, a scheduler, a garbage collector,
//! disruption budgets, and a namespace controller.
//!
//! Plain `kube` clients, so that they run against the embedded API and against a real kube-apiserver alike; they
//! know plain Kubernetes only. [`SimCluster::start`] wires watches (`cache`) to controllers (`queue`); each
//! controller decides in pure functions beside it. All waiting is in cluster time, all choices come from one seed.

mod behaviour;
mod cache;
mod disruption;
mod event;
mod garbage;
mod kubelet;
mod namespace;
mod node;
mod pod;
mod queue;
mod random;
mod replica_set;
mod request;
mod scheduler;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams};
use kube::runtime::watcher;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::behaviour::{
    BackOff, BadAnnotation, Behaviour, ImageMatch, OUTCOME_ANNOTATION, Outcome, Overrides, Plan, Rule,
    START_UP_ANNOTATION, TERMINATION_ANNOTATION,
};
use self::cache::{Cache, Key, Listener, feed};
use self::disruption::Disruptions;
use self::garbage::Garbage;
use self::kubelet::{Fault, Kubelet, NotInjected};
use self::namespace::NamespaceController;
use self::node::Nodes;
use self::queue::Controller;
use self::random::Random;
use self::replica_set::ReplicaSets;
use self::scheduler::Scheduler;
use crate::clock::Clock;

/// What a simulated cluster is like.
#[derive(Clone, Debug)]
pub struct Config {
    /// Cluster time.
    pub clock: Clock,
    /// How pods behave.
    pub behaviour: Behaviour,
    /// All random choices come from it: pods' names and places.
    pub seed: u64,
    /// Whether deleted namespaces are emptied.
    pub namespaces: Namespaces,
}

/// Whether somebody empties namespaces that are being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// This cluster does.
    Managed,
    /// Somebody else, or nobody.
    Unmanaged,
}

/// Why a pod or node could not be made to fail.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// No node of this cluster runs such a pod, or its kubelet has not seen it yet.
    #[error("no node of this cluster runs pod {namespace}/{pod}")]
    UnknownPod {
        /// The namespace.
        namespace: String,
        /// The pod.
        pod: String,
    },
    /// No container of the pod runs that could crash.
    #[error("no container of pod {namespace}/{pod} runs")]
    NotRunning {
        /// The namespace.
        namespace: String,
        /// The pod.
        pod: String,
    },
    /// The cluster has no such node.
    #[error("there is no node {node}")]
    UnknownNode {
        /// The node.
        node: String,
    },
    /// The API server refused.
    #[error(transparent)]
    Api(#[from] kube::Error),
}

/// A running cluster. Dropping it stops all controllers at their next step; [`Self::shutdown`] waits for that.
pub struct SimCluster {
    client: Client,
    clock: Clock,
    nodes: Arc<Nodes>,
    kubelet: Arc<Kubelet>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Everything that is wired together.
struct Parts {
    client: Client,
    clock: Clock,
    tasks: TaskTracker,
    stop: CancellationToken,
    pods: Arc<Cache<Pod>>,
    sets: Arc<Cache<ReplicaSet>>,
}

impl SimCluster {
    /// Starts all controllers over `client`, on the current runtime. They begin to act once they have listed what
    /// there is.
    #[must_use]
    pub fn start(client: Client, config: Config) -> Self {
        let Config { clock, behaviour, seed, namespaces } = config;
        let parts = Parts {
            client,
            clock,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            pods: Arc::new(Cache::new()),
            sets: Arc::new(Cache::new()),
        };
        let nodes = Arc::new(Nodes::new());
        let kubelet = parts.start_workloads(&nodes, behaviour, Random::new(seed));
        if namespaces == Namespaces::Managed {
            parts.start_namespaces();
        }
        let Parts { client, clock, tasks, stop, .. } = parts;
        tasks.close();
        Self { client, clock, nodes, kubelet, tasks, stop }
    }

    /// Stops all controllers and waits until they have stopped.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    /// The names of the nodes.
    #[must_use]
    pub fn nodes(&self) -> &[String] {
        self.nodes.names()
    }

    /// Lets the readiness probes of a pod fail from now on.
    ///
    /// # Errors
    ///
    /// [`FaultError::UnknownPod`].
    pub fn make_unready(&self, namespace: &str, pod: &str) -> Result<(), FaultError> {
        self.inject(namespace, pod, Fault::Unready)
    }

    /// Lets the readiness probes of a pod tell the truth again.
    ///
    /// # Errors
    ///
    /// [`FaultError::UnknownPod`].
    pub fn make_ready(&self, namespace: &str, pod: &str) -> Result<(), FaultError> {
        self.inject(namespace, pod, Fault::Recovered)
    }

    /// Lets the containers of a pod exit with an error; they are restarted as the pod's policy says.
    ///
    /// # Errors
    ///
    /// [`FaultError::UnknownPod`], [`FaultError::NotRunning`].
    pub fn crash(&self, namespace: &str, pod: &str) -> Result<(), FaultError> {
        self.inject(namespace, pod, Fault::Crash)
    }

    /// What a container finds in the Downward API volumes that it mounts, by path: each file as it is now.
    ///
    /// # Errors
    ///
    /// [`FaultError::UnknownPod`], [`FaultError::NotRunning`] where the pod has no such container.
    pub fn files(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<BTreeMap<String, String>, FaultError> {
        let files = self.kubelet.files(&Key::new(namespace, pod), container);
        files.map_err(|error| fault_of(namespace, pod, error))
    }

    /// Removes a pod at once, as when its machine is reset: no grace, no termination time.
    ///
    /// # Errors
    ///
    /// [`FaultError::Api`].
    pub async fn kill(&self, namespace: &str, pod: &str) -> Result<(), FaultError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        pods.delete(pod, &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }

    /// A node is not heard of any longer: its pods are not ready, stay where they are when they are deleted, and
    /// are deleted after [`Behaviour::eviction`].
    ///
    /// # Errors
    ///
    /// [`FaultError::UnknownNode`].
    pub fn lose_node(&self, node: &str) -> Result<(), FaultError> {
        self.node_changed(node, self.nodes.lose(node, self.clock.now()))
    }

    /// A lost node is back: its pods go on where they would be, and deleted ones stop.
    ///
    /// # Errors
    ///
    /// [`FaultError::UnknownNode`].
    pub fn restore_node(&self, node: &str) -> Result<(), FaultError> {
        self.node_changed(node, self.nodes.restore(node))
    }

    fn node_changed(&self, node: &str, known: bool) -> Result<(), FaultError> {
        if !known {
            return Err(FaultError::UnknownNode { node: node.to_owned() });
        }
        self.kubelet.on_node(node);
        Ok(())
    }

    fn inject(&self, namespace: &str, pod: &str, fault: Fault) -> Result<(), FaultError> {
        self.kubelet.inject(&Key::new(namespace, pod), fault).map_err(|error| fault_of(namespace, pod, error))
    }
}

fn fault_of(namespace: &str, pod: &str, error: NotInjected) -> FaultError {
    let (namespace, pod) = (namespace.to_owned(), pod.to_owned());
    match error {
        NotInjected::UnknownPod => FaultError::UnknownPod { namespace, pod },
        NotInjected::NotRunning => FaultError::NotRunning { namespace, pod },
    }
}

impl Drop for SimCluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Parts {
    /// ReplicaSets, pods and what they own: everything that lives on the two large watches.
    fn start_workloads(&self, nodes: &Arc<Nodes>, behaviour: Behaviour, random: Random) -> Arc<Kubelet> {
        let (recorder, events) = event::channel(self.client.clone(), self.clock.clone());
        self.tasks.spawn(events.run(self.stop.clone()));
        let sets = Arc::new(ReplicaSets::new(replica_set::Context {
            client: self.client.clone(),
            clock: self.clock.clone(),
            random,
            nodes: Arc::clone(nodes),
            recorder: recorder.clone(),
            sets: Arc::clone(&self.sets),
            pods: Arc::clone(&self.pods),
        }));
        let kubelet = Arc::new(Kubelet::new(kubelet::Context {
            client: self.client.clone(),
            clock: self.clock.clone(),
            behaviour,
            nodes: Arc::clone(nodes),
            recorder,
            pods: Arc::clone(&self.pods),
        }));
        let scheduler = Arc::new(Scheduler::new(scheduler::Context {
            client: self.client.clone(),
            clock: self.clock.clone(),
            nodes: Arc::clone(nodes),
            pods: Arc::clone(&self.pods),
        }));
        let garbage = Arc::new(Garbage::new(garbage::Context {
            client: self.client.clone(),
            clock: self.clock.clone(),
            tasks: self.tasks.clone(),
            stop: self.stop.clone(),
        }));
        garbage.watch();
        let disruptions = self.disruptions();
        let set_listeners = vec![
            listener(&sets, ReplicaSets::on_set),
            listener(&disruptions, Disruptions::on_set),
            garbage.listener(&self.sets),
        ];
        self.watch(&self.sets, set_listeners);
        let pod_listeners = vec![
            listener(&sets, ReplicaSets::on_pod),
            listener(&kubelet, Kubelet::on_pod),
            listener(&scheduler, Scheduler::on_pod),
            listener(&disruptions, Disruptions::on_pod),
            garbage.listener(&self.pods),
        ];
        self.watch(&self.pods, pod_listeners);
        self.run(&sets);
        self.run(&kubelet);
        self.run(&scheduler);
        self.run(&garbage);
        self.run(&disruptions);
        kubelet
    }

    fn disruptions(&self) -> Arc<Disruptions> {
        let budgets = Arc::new(Cache::new());
        let controller = Arc::new(Disruptions::new(disruption::Context {
            client: self.client.clone(),
            clock: self.clock.clone(),
            budgets: Arc::clone(&budgets),
            sets: Arc::clone(&self.sets),
            pods: Arc::clone(&self.pods),
        }));
        self.watch(&budgets, vec![listener(&controller, Disruptions::on_budget)]);
        controller
    }

    fn start_namespaces(&self) {
        let namespaces = Arc::new(Cache::new());
        let controller = Arc::new(NamespaceController::new(namespace::Context {
            client: self.client.clone(),
            clock: self.clock.clone(),
            namespaces: Arc::clone(&namespaces),
        }));
        self.watch::<Namespace>(&namespaces, vec![listener(&controller, NamespaceController::on_namespace)]);
        self.run(&controller);
    }

    fn watch<K>(&self, cache: &Arc<Cache<K>>, listeners: Vec<Listener<K>>)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let source = move || watcher::watcher(api.clone(), watcher::Config::default());
        self.tasks.spawn(feed(source, Arc::clone(cache), listeners, self.clock.clone(), self.stop.clone()));
    }

    /// Runs a controller once the caches that all share show what there is.
    fn run<C: Controller>(&self, controller: &Arc<C>) {
        let (pods, sets) = (Arc::clone(&self.pods), Arc::clone(&self.sets));
        let (controller, stop) = (Arc::clone(controller), self.stop.clone());
        self.tasks.spawn(async move {
            let synced = async { tokio::join!(biased; pods.synced(), sets.synced()) };
            if stop.run_until_cancelled(synced).await.is_none() {
                return;
            }
            let controlling = AssertUnwindSafe(queue::run(controller, stop)).catch_unwind();
            if let Err(panic) = controlling.await {
                // A task that dies unseen looks like a cluster that stands still.
                tracing::error!(controller = C::NAME, "controller panicked");
                std::panic::resume_unwind(panic);
            }
        });
    }
}

/// Calls a method of a controller for each change.
fn listener<C, K>(
    controller: &Arc<C>,
    on_change: impl Fn(&C, &cache::Change<'_, K>) + Send + Sync + 'static,
) -> Listener<K>
where
    C: Send + Sync + 'static,
{
    let controller = Arc::clone(controller);
    Box::new(move |change| on_change(&controller, change))
}

/// As Kubernetes stores moments.
fn whole_seconds(moment: Timestamp) -> Timestamp {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment)
}
