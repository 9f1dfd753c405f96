//! The ReplicaSet controller: as many pods as each set wants.
//!
//! Depends on the watch caches of ReplicaSets and pods. `decide` says which pods go and what the status is,
//! `expectation` keeps a slow watch from making pods twice; this file asks them and sends the requests. Pods are
//! created on a node at once; the kubelet takes over from there.

mod decide;
mod expectation;
mod template;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use self::decide::{Failure, FailureReason, Members};
use self::expectation::{Asked, Expectations};
use super::cache::{Cache, Change, Key, OwnWrites};
use super::event::{Recorder, Severity};
use super::node::Nodes;
use super::pod;
use super::queue::{Controller, Next, Queue};
use super::random::Random;
use super::request::{Refusal, SyncError, message, versioned_patch};
use crate::clock::Clock;

const COMPONENT: &str = "replicaset-controller";
/// Changes of pods wait this long for company: pods that become ready together give one status.
const SETTLE: Duration = Duration::from_millis(30);
/// After this long an unseen creation or deletion is looked up.
const EXPECTATION_CHECK: Duration = Duration::from_secs(5);
/// How many pods one pass creates or deletes (`BurstReplicas`).
const BURST: usize = 500;
/// How many requests for one set are under way at a time.
const PARALLEL_REQUESTS: usize = 32;
/// More than there are nodes.
const NODE_OFFSETS: u64 = 64;
/// How many names are tried for one pod before its creation counts as failed (as the API server does for
/// `generateName`).
const NAME_ATTEMPTS: usize = 8;

/// The controller of all ReplicaSets.
pub(super) struct ReplicaSets {
    context: Context,
    queue: Queue<Key>,
    /// With the uid of the set that they are of.
    expectations: Mutex<BTreeMap<Key, (String, Expectations)>>,
    own_writes: OwnWrites,
}

/// What the controller works with.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) clock: Clock,
    pub(super) random: Random,
    pub(super) nodes: Arc<Nodes>,
    pub(super) recorder: Recorder,
    pub(super) sets: Arc<Cache<ReplicaSet>>,
    pub(super) pods: Arc<Cache<Pod>>,
}

/// What scaling came to.
enum Scaled {
    /// Nothing is to be done, or nothing can be.
    Done,
    /// Pods were asked for or away; their events are to come.
    Asked,
}

/// What asking for a pod came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Created {
    Yes,
    /// Its namespace is being deleted, and the set with it.
    Pointless,
}

/// Scaling was refused: what the status says, and what the queue retries.
struct Refused {
    failure: Failure,
    error: SyncError,
}

impl ReplicaSets {
    pub(super) fn new(context: Context) -> Self {
        Self {
            queue: Queue::new(context.clock.clone()),
            context,
            expectations: Mutex::new(BTreeMap::new()),
            own_writes: OwnWrites::new(),
        }
    }

    /// A set changed: look at it at once.
    pub(super) fn on_set(&self, change: &Change<'_, ReplicaSet>) {
        self.queue.add(change.key.clone());
    }

    /// A pod changed: look at its set soon.
    pub(super) fn on_pod(&self, change: &Change<'_, Pod>) {
        let Some(latest) = change.new.or(change.old) else { return };
        let alive = change.new.is_some_and(|pod| !pod::is_deleting(pod));
        let mut owners: Vec<&OwnerReference> =
            [change.old, change.new].into_iter().flatten().filter_map(|pod| set_reference(pod)).collect();
        owners.dedup_by(|a, b| a.uid == b.uid);
        for owner in owners {
            let key = Key::new(change.key.namespace.clone(), owner.name.clone());
            if let Some((uid, expectations)) = self.expectations().get_mut(&key)
                && *uid == owner.uid
            {
                expectations.seen(&change.key.name, pod::uid(latest), alive);
            }
            self.queue.add_after(key, SETTLE);
        }
    }

    fn expectations(&self) -> MutexGuard<'_, BTreeMap<Key, (String, Expectations)>> {
        self.expectations.lock().expect("no holder of this lock panics")
    }

    /// Acts on what is expected of this very set; a successor of the same name starts afresh.
    fn with_expectations<T>(&self, set: &ReplicaSet, act: impl FnOnce(&mut Expectations) -> T) -> T {
        let uid = set.uid().unwrap_or_default();
        let mut all = self.expectations();
        let (of, expectations) = all.entry(Key::of(&set.metadata)).or_default();
        if *of != uid {
            *of = uid;
            *expectations = Expectations::default();
        }
        act(expectations)
    }

    fn members(&self, set: &ReplicaSet) -> Result<Members, SyncError> {
        let selector = kube::core::Selector::try_from(set.spec.selector.clone())
            .map_err(|error| SyncError::Malformed(format!("selector of {}: {error}", set.name_any())))?;
        Ok(Members::of(&selector, self.context.pods.controlled_by(&set.uid().unwrap_or_default())))
    }

    /// The active pods of all sets that have this set's controller; this set's own are among them.
    fn siblings(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let owners = set.owner_references();
        let Some(owner) = owners.iter().find(|owner| owner.controller == Some(true)) else {
            return Vec::new();
        };
        let sets = self.context.sets.controlled_by(&owner.uid);
        let pods =
            sets.iter().flat_map(|set| self.context.pods.controlled_by(&set.uid().unwrap_or_default()));
        pods.filter(|pod| pod::is_active(pod)).collect()
    }

    fn pods_api(&self, set: &ReplicaSet) -> Api<Pod> {
        Api::namespaced(self.context.client.clone(), &set.namespace().unwrap_or_default())
    }

    /// Asks the server about what should have been seen by now, so that a lost answer or a slow watch neither
    /// doubles a pod nor stops the set.
    async fn look_up_overdue(&self, set: &ReplicaSet) -> Result<(), SyncError> {
        let overdue =
            self.with_expectations(set, |expectations| expectations.overdue(self.context.clock.now()));
        let pods = self.pods_api(set);
        for (name, asked) in overdue {
            let live = pods.get_opt(&name).await?;
            let cached = self.context.pods.get(&Key::new(set.namespace().unwrap_or_default(), &name));
            let late = asked.has_happened(live.as_ref()) && !asked.has_happened(cached.as_deref());
            self.with_expectations(set, |expectations| {
                if late {
                    expectations.doubt(&name, self.check_at());
                } else {
                    expectations.withdraw(&name);
                }
            });
        }
        Ok(())
    }

    fn check_at(&self) -> Timestamp {
        self.context.clock.now().checked_add(EXPECTATION_CHECK).unwrap_or(Timestamp::MAX)
    }

    async fn scale(&self, set: &ReplicaSet, members: &Members) -> Result<Scaled, Refused> {
        let (wanted, active) = (decide::wanted(set), members.active.len());
        match wanted.cmp(&active) {
            std::cmp::Ordering::Equal => Ok(Scaled::Done),
            std::cmp::Ordering::Greater => self.create_pods(set, (wanted - active).min(BURST)).await,
            std::cmp::Ordering::Less => {
                let excess = (active - wanted).min(BURST);
                let now = self.context.clock.now();
                let chosen = decide::pods_to_delete(&members.active, &self.siblings(set), excess, now);
                self.delete_pods(set, chosen).await
            }
        }
    }

    /// Creates pods in batches that double as long as all goes well, so that a set that may have none does not
    /// ask hundreds of times.
    async fn create_pods(&self, set: &ReplicaSet, count: usize) -> Result<Scaled, Refused> {
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            let size = batch.min(left);
            let requests = futures::stream::iter(0..size).map(|_| self.create_pod(set));
            let answers: Vec<_> = requests.buffer_unordered(PARALLEL_REQUESTS).collect().await;
            let answers = answers.into_iter().collect::<Result<Vec<Created>, Refused>>()?;
            if answers.contains(&Created::Pointless) {
                return Ok(Scaled::Done);
            }
            left -= size;
            batch *= 2;
        }
        Ok(Scaled::Asked)
    }

    async fn create_pod(&self, set: &ReplicaSet) -> Result<Created, Refused> {
        let pods = self.pods_api(set);
        let mut taken = None;
        for _ in 0..NAME_ATTEMPTS {
            let (name, node) = self.next_name(set);
            let pod = template::pod(set, name.clone(), node);
            let error = match pods.create(&PostParams::default(), &pod).await {
                Ok(_) => {
                    self.record(set, Severity::Normal, "SuccessfulCreate", format!("Created pod: {name}"));
                    return Ok(Created::Yes);
                }
                Err(error) if Refusal::of(&error) == Refusal::AlreadyExists => {
                    // A creation repeated by the client's own retries finds its first attempt.
                    match pods.get_opt(&name).await {
                        Ok(Some(pod)) if is_owned_by(&pod, set) => return Ok(Created::Yes),
                        Ok(_) => {
                            self.with_expectations(set, |expectations| expectations.withdraw(&name));
                            taken = Some(error);
                            continue;
                        }
                        Err(unanswered) => unanswered,
                    }
                }
                Err(error) => error,
            };
            self.with_expectations(set, |expectations| match Refusal::of(&error) {
                Refusal::Uncertain => expectations.doubt(&name, self.context.clock.now()),
                _ => expectations.withdraw(&name),
            });
            if Refusal::of(&error) == Refusal::NamespaceTerminating {
                return Ok(Created::Pointless);
            }
            return Err(self.creation_refused(set, error.into()));
        }
        Err(self.creation_refused(set, taken.map_or(SyncError::Deadline, SyncError::from)))
    }

    fn creation_refused(&self, set: &ReplicaSet, error: SyncError) -> Refused {
        self.record(set, Severity::Warning, "FailedCreate", format!("Error creating: {error}"));
        let failure = Failure { reason: FailureReason::FailedCreate, message: error.to_string() };
        Refused { failure, error }
    }

    /// The next name that no pod in the cache has, expected from now on, and the node for it.
    fn next_name(&self, set: &ReplicaSet) -> (String, Option<String>) {
        let (base, uid) = (template::name_base(set), set.uid().unwrap_or_default());
        let namespace = set.namespace().unwrap_or_default();
        // Sets begin at different nodes, or all small ones would share the first.
        let offset = self.context.random.number(&uid, 0) % NODE_OFFSETS;
        let check_at = self.check_at();
        self.with_expectations(set, |expectations| {
            loop {
                let ordinal = expectations.next_ordinal();
                let name = self.context.random.name(&base, &uid, ordinal);
                if self.context.pods.get(&Key::new(namespace.clone(), name.clone())).is_none() {
                    expectations.expect(&name, Asked::Creation, check_at);
                    return (name, self.context.nodes.place(offset + ordinal));
                }
            }
        })
    }

    async fn delete_pods(&self, set: &ReplicaSet, chosen: Vec<Arc<Pod>>) -> Result<Scaled, Refused> {
        let requests = futures::stream::iter(chosen).map(|pod| self.delete_pod(set, pod));
        let answers: Vec<_> = requests.buffer_unordered(PARALLEL_REQUESTS).collect().await;
        answers.into_iter().collect::<Result<(), Refused>>().map(|()| Scaled::Asked)
    }

    async fn delete_pod(&self, set: &ReplicaSet, pod: Arc<Pod>) -> Result<(), Refused> {
        let (uid, name) = (pod::uid(&pod).to_owned(), pod::name(&pod));
        let asked = Asked::Deletion { uid: uid.clone() };
        self.with_expectations(set, |expectations| expectations.expect(name, asked, self.check_at()));
        let preconditions = Preconditions { uid: Some(uid), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        let Err(error) = self.pods_api(set).delete(name, &parameters).await else {
            self.record(set, Severity::Normal, "SuccessfulDelete", format!("Deleted pod: {name}"));
            return Ok(());
        };
        let refusal = Refusal::of(&error);
        self.with_expectations(set, |expectations| match refusal {
            Refusal::Uncertain => expectations.doubt(name, self.context.clock.now()),
            _ => expectations.withdraw(name),
        });
        if matches!(refusal, Refusal::NotFound | Refusal::Conflict) {
            // Somebody else was faster.
            return Ok(());
        }
        self.record(set, Severity::Warning, "FailedDelete", format!("Error deleting: {}", message(&error)));
        let message = format!("unable to delete pods: {}", message(&error));
        Err(Refused {
            failure: Failure { reason: FailureReason::FailedDelete, message },
            error: error.into(),
        })
    }

    fn record(&self, set: &ReplicaSet, severity: Severity, reason: &'static str, message: String) {
        self.context.recorder.record(set, COMPONENT, (severity, reason), message);
    }

    async fn write_status(
        &self,
        key: &Key,
        set: &ReplicaSet,
        status: ReplicaSetStatus,
    ) -> Result<(), SyncError> {
        if set.status.as_ref().is_some_and(|current| decide::same(current, &status)) {
            return Ok(());
        }
        let status = json!({ "status": {
            "replicas": status.replicas,
            "fullyLabeledReplicas": status.fully_labeled_replicas,
            "readyReplicas": status.ready_replicas,
            "availableReplicas": status.available_replicas,
            "terminatingReplicas": status.terminating_replicas,
            "observedGeneration": status.observed_generation,
            "conditions": status.conditions,
        } });
        let patch = versioned_patch(set.metadata.resource_version.as_deref(), json!({}), status);
        let sets: Api<ReplicaSet> = Api::namespaced(self.context.client.clone(), &key.namespace);
        match sets.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(written) => {
                self.own_writes.wrote(key, &written.metadata, self.context.clock.now());
                Ok(())
            }
            Err(error) if Refusal::of(&error) == Refusal::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Controller for ReplicaSets {
    type Key = Key;
    const NAME: &'static str = "replica-set";
    const CONCURRENCY: usize = 16;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Next, SyncError> {
        let Some(set) = self.context.sets.get(key) else {
            self.own_writes.forget(key);
            self.expectations().remove(key);
            return Ok(Next::Idle);
        };
        if let Some(at) = self.own_writes.awaited(key, &set.metadata, self.context.clock.now()) {
            return Ok(Next::At(at));
        }
        self.look_up_overdue(&set).await?;
        if let Some(at) = self.with_expectations(&set, |expectations| expectations.next_check()) {
            // Pods and their absence come through one watch: until these are seen, the cache knows nothing newer.
            return Ok(Next::At(at));
        }
        let scaled = if set.metadata.deletion_timestamp.is_some() {
            Ok(Scaled::Done)
        } else {
            self.scale(&set, &self.members(&set)?).await
        };
        let now = self.context.clock.now();
        let refused = match scaled {
            Ok(Scaled::Asked) => return Ok(Next::At(now.checked_add(SETTLE).unwrap_or(Timestamp::MAX))),
            Ok(Scaled::Done) => None,
            Err(refused) => Some(refused),
        };
        let members = self.members(&set)?;
        let status = decide::status(&set, &members, refused.as_ref().map(|refused| &refused.failure), now);
        self.write_status(key, &set, status).await?;
        match refused {
            Some(refused) => Err(refused.error),
            None => Ok(Next::earliest([decide::next_availability(&set, &members, now)])),
        }
    }
}

/// The pod's controller, if it is a ReplicaSet.
fn set_reference(pod: &Pod) -> Option<&OwnerReference> {
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| {
        owner.controller == Some(true) && owner.kind == "ReplicaSet" && owner.api_version.starts_with("apps/")
    })
}

fn is_owned_by(pod: &Pod, set: &ReplicaSet) -> bool {
    set_reference(pod).is_some_and(|owner| Some(&owner.uid) == set.metadata.uid.as_ref())
}
