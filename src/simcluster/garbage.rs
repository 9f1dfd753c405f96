//! The garbage collector: dependents of owners that are gone, in the background, the foreground, or orphaned.
//!
//! Depends on watches of the metadata of all kinds that own or are owned here. `graph` knows who owns whom,
//! `decide` judges an object; this file verifies missing owners by asking the server, and sends the requests. Each
//! carries the version it was decided on, so that what changed meanwhile refuses it.

mod decide;
mod graph;
mod kinds;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::discovery::Scope;
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt as _};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::decide::{Action, Verified};
use self::graph::{FOREGROUND, Graph, Kind, Node, ORPHAN, Uid};
use self::kinds::{Kinds, Served};
use super::cache::{Cache, Change, Listener, feed};
use super::queue::{Controller, Next, Queue};
use super::request::{Refusal, SyncError, versioned_patch};
use crate::clock::Clock;

/// How many owners are remembered as gone; a uid never comes back, so that forgetting costs only requests.
const GONE_MEMORY: usize = 10_000;
/// How soon to look again while some kind has not been listed yet.
const SYNC_CHECK: Duration = Duration::from_millis(100);
/// How many dependents of one owner are set free at a time.
const PARALLEL_REQUESTS: usize = 16;

/// All that is asked of the server here is metadata.
type Metadata = PartialObjectMeta<DynamicObject>;

/// An owner as a reference in some namespace names it.
type OwnerName = (Option<String>, Kind, String, Uid);

/// Collects what has lost its owners.
pub(super) struct Garbage {
    context: Context,
    queue: Queue<Uid>,
    graph: Mutex<Graph>,
    kinds: Kinds,
    gone: Mutex<BTreeSet<OwnerName>>,
    /// What was asked to be deleted, with the version it had then.
    asked: Mutex<BTreeMap<Uid, Option<String>>>,
}

/// What the collector works with.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) clock: Clock,
    /// Runs the watches.
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Garbage {
    pub(super) fn new(context: Context) -> Self {
        Self {
            queue: Queue::new(context.clock.clone()),
            context,
            graph: Mutex::new(Graph::default()),
            kinds: Kinds::default(),
            gone: Mutex::new(BTreeSet::new()),
            asked: Mutex::new(BTreeMap::new()),
        }
    }

    /// Starts watching the built-in kinds that no cache here is shared for, and whatever custom kinds are defined.
    pub(super) fn watch(self: &Arc<Self>) {
        for resource in [
            ApiResource::erase::<ControllerRevision>(&()),
            ApiResource::erase::<ConfigMap>(&()),
            ApiResource::erase::<Secret>(&()),
            ApiResource::erase::<Service>(&()),
            ApiResource::erase::<ServiceAccount>(&()),
            ApiResource::erase::<PodDisruptionBudget>(&()),
            ApiResource::erase::<Lease>(&()),
        ] {
            let served = Served { resource, scope: Scope::Namespaced };
            self.watch_kind(served, self.context.stop.child_token());
        }
        self.watch_definitions();
    }

    /// A listener for a cache of `K` that somebody else feeds; also tells when that is synced.
    pub(super) fn listener<K>(self: &Arc<Self>, cache: &Arc<Cache<K>>) -> Listener<K>
    where
        K: Resource<DynamicType = ()> + Send + Sync + 'static,
    {
        let served = Served { resource: ApiResource::erase::<K>(&()), scope: Scope::Namespaced };
        let kind = served.kind();
        self.expect_sync(served, cache, self.context.stop.clone());
        let this = Arc::clone(self);
        Box::new(move |change| this.on_change(&kind, change))
    }

    fn expect_sync<K>(self: &Arc<Self>, served: Served, cache: &Arc<Cache<K>>, stop: CancellationToken)
    where
        K: Resource + Send + Sync + 'static,
    {
        let (this, cache, kind) = (Arc::clone(self), Arc::clone(cache), served.kind());
        self.kinds.add(served, self.context.clock.now());
        self.context.tasks.spawn(async move {
            if stop.run_until_cancelled(cache.synced()).await.is_some() {
                this.kinds.synced(&kind);
            }
        });
    }

    fn watch_kind(self: &Arc<Self>, served: Served, stop: CancellationToken) {
        let cache: Arc<Cache<Metadata>> = Arc::new(Cache::new());
        let kind = served.kind();
        let api: Api<Metadata> = Api::all_with(self.context.client.clone(), &served.resource);
        self.expect_sync(served, &cache, stop.clone());
        let listener = |this: &Arc<Self>| -> Vec<Listener<Metadata>> {
            let (this, kind) = (Arc::clone(this), kind.clone());
            vec![Box::new(move |change| this.on_change(&kind, change))]
        };
        let (fed, at_the_end) = (listener(self), listener(self));
        let source = move || watcher::watcher(api.clone(), watcher::Config::default());
        let (this, clock) = (Arc::clone(self), self.context.clock.clone());
        self.context.tasks.spawn(async move {
            feed(source, Arc::clone(&cache), fed, clock, stop).await;
            // The kind is not served any longer, so that none of its objects is there.
            this.kinds.remove(&kind);
            cache.clear(&at_the_end);
        });
    }

    /// Watches the custom kinds that are defined, each as long as it is.
    fn watch_definitions(self: &Arc<Self>) {
        let resource = ApiResource::erase::<CustomResourceDefinition>(&());
        let api: Api<DynamicObject> = Api::all_with(self.context.client.clone(), &resource);
        let watches: Mutex<BTreeMap<String, (Served, CancellationToken)>> = Mutex::new(BTreeMap::new());
        let this = Arc::clone(self);
        let listener: Listener<DynamicObject> = Box::new(move |change| {
            let served = change.new.and_then(|definition| kinds::defined(&definition.data));
            let mut watches = watches.lock().expect("no holder of this lock panics");
            let current = watches.get(&change.key.name).map(|(served, _)| served);
            if current == served.as_ref() {
                return;
            }
            if let Some((_, stop)) = watches.remove(&change.key.name) {
                stop.cancel();
            }
            if let Some(served) = served {
                let stop = this.context.stop.child_token();
                watches.insert(change.key.name.clone(), (served.clone(), stop.clone()));
                this.watch_kind(served, stop);
            }
        });
        let source = move || watcher::watcher(api.clone(), watcher::Config::default());
        let (clock, stop) = (self.context.clock.clone(), self.context.stop.clone());
        self.context.tasks.spawn(feed(source, Arc::new(Cache::new()), vec![listener], clock, stop));
    }

    fn on_change<K: Resource>(&self, kind: &Kind, change: &Change<'_, K>) {
        let node = |object: &Arc<K>| Node::new(kind, object.meta());
        let (old, new) = (change.old.and_then(node), change.new.and_then(node));
        let mut look_at = Vec::new();
        {
            let mut graph = self.graph();
            if let Some(gone) = old.filter(|old| new.as_ref().is_none_or(|new| new.uid != old.uid)) {
                look_at.extend(graph.remove(&gone.uid));
                self.asked().remove(&gone.uid);
            }
            look_at.extend(new.into_iter().flat_map(|node| graph.put(node)));
        }
        for uid in look_at {
            self.queue.add(uid);
        }
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().expect("no holder of this lock panics")
    }

    fn asked(&self) -> MutexGuard<'_, BTreeMap<Uid, Option<String>>> {
        self.asked.lock().expect("no holder of this lock panics")
    }

    fn gone(&self) -> MutexGuard<'_, BTreeSet<OwnerName>> {
        self.gone.lock().expect("no holder of this lock panics")
    }

    /// Asks the server whether the owner exists that `reference`, found on `node`, names.
    async fn verify(&self, node: &Node, reference: &OwnerReference) -> Result<Verified, SyncError> {
        let kind = Kind { api_version: reference.api_version.clone(), kind: reference.kind.clone() };
        let name = (node.namespace.clone(), kind.clone(), reference.name.clone(), reference.uid.clone());
        if self.gone().contains(&name) {
            return Ok(Verified::Gone);
        }
        let served = self.kinds.resolve(&self.context.client, &kind).await?;
        let api = self.api(&served, node.namespace.as_deref())?;
        let live = api.get_opt(&reference.name).await?;
        let owner = live.filter(|owner| owner.uid().as_deref() == Some(reference.uid.as_str()));
        let Some(owner) = owner.and_then(|owner| Node::new(&kind, &owner.metadata)) else {
            let mut gone = self.gone();
            if gone.len() >= GONE_MEMORY {
                gone.clear();
            }
            gone.insert(name);
            return Ok(Verified::Gone);
        };
        Ok(if owner.awaits_dependents() { Verified::AwaitsDependents } else { Verified::Present })
    }

    fn api(&self, served: &Served, namespace: Option<&str>) -> Result<Api<Metadata>, SyncError> {
        let client = self.context.client.clone();
        match (&served.scope, namespace) {
            (Scope::Cluster, _) => Ok(Api::all_with(client, &served.resource)),
            (Scope::Namespaced, Some(namespace)) => {
                Ok(Api::namespaced_with(client, namespace, &served.resource))
            }
            (Scope::Namespaced, None) => {
                let kind = &served.resource.kind;
                Err(SyncError::Malformed(format!("a cluster-scoped object cannot be owned by a {kind}")))
            }
        }
    }

    async fn api_of(&self, node: &Node) -> Result<Api<Metadata>, SyncError> {
        let served = self.kinds.resolve(&self.context.client, &node.kind).await?;
        self.api(&served, node.namespace.as_deref())
    }

    /// Judges the object, asking the server about owners until nothing is left to ask.
    async fn judge(&self, uid: &str) -> Result<Option<(Node, Action)>, SyncError> {
        let mut verified = BTreeMap::new();
        loop {
            let (node, action) = {
                let graph = self.graph();
                let Some(node) = graph.get(uid) else { return Ok(None) };
                (node.clone(), decide::action(&graph, node, &verified))
            };
            let Action::Verify(references) = action else { return Ok(Some((node, action))) };
            for reference in references {
                let state = self.verify(&node, &reference).await?;
                verified.insert(reference.uid, state);
            }
        }
    }

    async fn delete(&self, node: &Node, policy: PropagationPolicy) -> Result<(), SyncError> {
        let version = node.resource_version.clone();
        if self.asked().get(&node.uid) == Some(&version) {
            return Ok(());
        }
        let preconditions = Preconditions { uid: Some(node.uid.clone()), resource_version: version.clone() };
        let parameters = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        gone_is_fine(self.api_of(node).await?.delete(&node.name, &parameters).await)?;
        if self.graph().get(&node.uid).is_some() {
            self.asked().insert(node.uid.clone(), version);
        }
        Ok(())
    }

    async fn patch(&self, node: &Node, metadata: serde_json::Value) -> Result<(), SyncError> {
        let patch = versioned_patch(node.resource_version.as_deref(), metadata, json!({}));
        let api = self.api_of(node).await?;
        gone_is_fine(api.patch(&node.name, &PatchParams::default(), &Patch::Merge(patch)).await)
    }

    async fn drop_owners(&self, node: &Node, owners: &[Uid]) -> Result<(), SyncError> {
        let kept: Vec<&OwnerReference> =
            node.owners.iter().filter(|owner| !owners.contains(&owner.uid)).collect();
        self.patch(node, json!({ "uid": node.uid, "ownerReferences": kept })).await
    }

    async fn remove_finalizer(&self, node: &Node, name: &str) -> Result<(), SyncError> {
        let kept: Vec<&String> = node.finalizers.iter().filter(|finalizer| *finalizer != name).collect();
        self.patch(node, json!({ "uid": node.uid, "finalizers": kept })).await
    }

    async fn free_dependents(&self, node: &Node) -> Result<(), SyncError> {
        let dependents: Vec<Node> = self.graph().dependents(&node.uid).into_iter().cloned().collect();
        let owner = std::slice::from_ref(&node.uid);
        let free = |dependent: Node| async move { self.drop_owners(&dependent, owner).await };
        let requests = futures::stream::iter(dependents).map(free);
        let answers: Vec<_> = requests.buffer_unordered(PARALLEL_REQUESTS).collect().await;
        answers.into_iter().collect::<Result<(), SyncError>>()?;
        self.remove_finalizer(node, ORPHAN).await
    }
}

fn gone_is_fine<T>(answer: Result<T, kube::Error>) -> Result<(), SyncError> {
    match answer {
        Ok(_) => Ok(()),
        Err(error) if Refusal::of(&error) == Refusal::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Controller for Garbage {
    type Key = Uid;
    const NAME: &'static str = "garbage-collector";
    const CONCURRENCY: usize = 16;

    fn queue(&self) -> &Queue<Uid> {
        &self.queue
    }

    async fn sync(&self, uid: &Uid) -> Result<Next, SyncError> {
        let now = self.context.clock.now();
        if !self.kinds.all_synced(now) {
            return Ok(Next::earliest([now.checked_add(SYNC_CHECK).ok()]));
        }
        let Some((node, action)) = self.judge(uid).await? else { return Ok(Next::Idle) };
        match action {
            // `judge` leaves nothing to verify.
            Action::Nothing | Action::Verify(_) => {}
            Action::DropOwners(owners) => self.drop_owners(&node, &owners).await?,
            Action::Delete(policy) => self.delete(&node, policy).await?,
            Action::FreeDependents => self.free_dependents(&node).await?,
            Action::Release => self.remove_finalizer(&node, FOREGROUND).await?,
            Action::Await(dependents) => dependents.into_iter().for_each(|uid| self.queue.add(uid)),
        }
        Ok(Next::Idle)
    }
}
