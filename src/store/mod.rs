//! What the cluster holds, as far as this process cares: caches fed by watches, and typed writes.
//!
//! Each kind has one [`cache::Cache`], filled by one [`reflect()`] task and trimmed while decoding; rollouts are followed
//! ([`follow()`]), so that what happened to them is known in order ([`history`]). [`Store::observe`]
//! turns a rollout and what belongs to it into the [`Observed`] that plans are made from; [`Own`] makes sure that no plan is
//! made from a cache that has not seen our own last write yet. Depends on L0 and [`crate::plan`]; used by
//! [`crate::worker`] and [`crate::api`].

pub mod activity;
mod cache;
mod client;
mod expect;
mod follow;
pub mod history;
mod kinds;
mod memory;
mod object;
mod reach;
mod reflect;
mod version;
pub mod workload;
mod write;
mod writers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use kube::core::{Selector, SelectorExt};
use tokio::sync::{broadcast, watch};

pub use cache::{Cache, Change, Changed};
pub use client::{Counted, Requests, Throttle, Throttled};
pub use expect::{Expectation, Own, Settled};
pub use follow::{EXPIRED, follow};
pub use history::History;
pub use kinds::{NamespaceRecord, PodRecord, RolloutRecord, ServiceRecord, SetRecord};
pub use memory::Memory;
pub use object::{Key, ObjectId};
pub use reach::{Reach, Reachability};
pub use reflect::{Scope, reflect};
pub use version::ResourceVersion;
pub use write::{DISRUPTION_BUDGET, DryRun, Fate, Kept, Refusal, WriteError, Writer};
pub use writers::{FIELD_MANAGER, FieldManager, Writers};

use crate::crd::{ObjectRef, Rollout, Strategy};
use crate::plan::template::{self, Resolved};
use crate::plan::{self, KnownPlugins, Observed, Plugins, Settings, Wanted, environment, restart};
use expect::Shown;
use memory::Remembered;
use workload::Workloads;

/// How many changes a reader of [`Store::changes`] may lag behind before it has to look at everything again.
const CHANGES_BUFFERED: usize = 4096;

/// The caches of one process. Cheap to share; readers never block each other.
#[derive(Debug)]
pub struct Store {
    /// Rollouts, those that cannot be decoded included.
    pub rollouts: Cache<RolloutRecord>,
    /// What happened to rollouts.
    pub history: History,
    /// ReplicaSets that carry a pod template hash.
    pub sets: Cache<SetRecord>,
    /// Pods that carry a pod template hash, trimmed.
    pub pods: Cache<PodRecord>,
    /// Services, trimmed.
    pub services: Cache<ServiceRecord>,
    /// What rollouts take their pod templates from, kind by kind, once a rollout refers to one.
    pub workloads: Workloads,
    /// Our own writes that the caches have not shown yet.
    pub own: Own,
    /// The same of labels and annotations of pods, apart: no plan waits for those. A pod is not written again before.
    pub labels: Own,
    /// What this process was told at its start.
    pub settings: Arc<Settings>,
    /// The step plugins there are, once that is known.
    plugins: RwLock<Option<Arc<KnownPlugins>>>,
    /// What was learned from answers to writes and questions.
    pub memory: Memory,
    /// Whether the API server answers.
    pub reach: Reach,
    changes: broadcast::Sender<Changed>,
    /// Turns whenever a list is complete.
    listed: watch::Sender<()>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Store {
    /// Empty caches of a process with these settings.
    #[must_use]
    pub fn new(settings: Arc<Settings>) -> Self {
        let (changes, _) = broadcast::channel(CHANGES_BUFFERED);
        Self {
            rollouts: Cache::default(),
            history: History::default(),
            sets: Cache::default(),
            pods: Cache::default(),
            services: Cache::default(),
            workloads: Workloads::default(),
            own: Own::default(),
            labels: Own::default(),
            settings,
            plugins: RwLock::default(),
            memory: Memory::default(),
            reach: Reach::default(),
            changes,
            listed: watch::Sender::new(()),
        }
    }

    /// Changes to any cache, by the rollout that they concern. A reader that lags is told so and has to look at everything
    /// again.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Changed> {
        self.changes.subscribe()
    }

    /// These are the step plugins. Says whether that is news; then all rollouts are planned again.
    pub fn plugins_are(&self, known: Arc<KnownPlugins>) -> bool {
        let mut plugins = self.plugins.write().unwrap_or_else(PoisonError::into_inner);
        let is_news = plugins.as_ref() != Some(&known);
        *plugins = Some(known);
        drop(plugins);
        if is_news {
            self.announce(Changed::Plugins);
        }
        is_news
    }

    fn known_plugins(&self) -> Option<Arc<KnownPlugins>> {
        self.plugins.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until every cache has listed once.
    pub async fn has_listed(&self) {
        let mut listed = self.listed.subscribe();
        // The sender lives as long as `self`.
        let _ = listed.wait_for(|()| self.unlisted().is_empty()).await;
    }

    /// The kinds whose caches have not listed yet.
    #[must_use]
    pub fn unlisted(&self) -> Vec<&'static str> {
        [
            (self.rollouts.has_listed(), "rollouts"),
            (self.sets.has_listed(), "ReplicaSets"),
            (self.pods.has_listed(), "pods"),
            (self.services.has_listed(), "Services"),
        ]
        .into_iter()
        .filter_map(|(has_listed, kind)| (!has_listed).then_some(kind))
        .collect()
    }

    /// Whether every cache has listed once and the API server answers.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.unlisted().is_empty() && self.reach.is_reachable()
    }

    /// A rollout and everything below it; `None` when there is none, or when it cannot be decoded.
    #[must_use]
    pub fn observe(&self, key: &Key) -> Option<Observed> {
        let record = self.rollouts.get(key)?;
        self.observe_around(key, Arc::clone(record.decoded.as_ref().ok()?))
    }

    /// The same around a rollout as somebody else has it: as it was read afresh, or as it would be. `None` when it has no identity.
    #[must_use]
    pub fn observe_around(&self, key: &Key, rollout: Arc<Rollout>) -> Option<Observed> {
        let named = rollout.spec.workload_ref.as_ref().and_then(ObjectRef::workload);
        let workload = named.and_then(|named| self.workload(&key.namespace, &named));
        self.observe_resolved(key, template::resolve(rollout, workload))
    }

    /// The same around a rollout that takes its pod template from a workload as somebody else has that.
    #[must_use]
    pub fn observe_resolved(&self, key: &Key, resolved: Resolved) -> Option<Observed> {
        let Resolved { rollout, workload, left_out } = resolved;
        let uid = rollout.metadata.uid.as_deref()?;
        let sets: Vec<_> =
            self.sets.controlled_by(uid).iter().map(|record| Arc::clone(&record.set)).collect();
        let orphans = match &rollout.spec.selector {
            Some(selector) => self.orphans(&key.namespace, &meta::LabelSelector::from(selector)),
            None => Vec::new(),
        };
        // What a cache shows that has not caught up with our own writes to pods is not what pods have (seed 6877).
        let labels_settled = !self.labels.awaits_pods(key) && sets.iter().all(|set| self.is_labelled(set));
        let looks_at_pods = restart::is_asked_for(&rollout)
            || !labels_settled
            || sets.iter().any(|set| environment::is_watched(set));
        let pods = if looks_at_pods { self.lasting_pods(&sets) } else { Vec::new() };
        let services = self.services_of(key, &rollout);
        let Remembered { setbacks, defaulted, absent_services, workload_is_absent, answer, unlabelled } =
            self.memory.about(key, &rollout);
        let plugins = Plugins { known: self.known_plugins(), answer };
        let pruned = self.memory.pruned();
        Some(Observed {
            rollout,
            workload,
            workload_is_absent,
            left_out,
            sets,
            orphans,
            defaulted,
            setbacks,
            services,
            absent_services,
            pods,
            labels_settled,
            unlabelled,
            plugins,
            settings: Arc::clone(&self.settings),
            pruned,
        })
    }

    /// The same with the pods of all its sets, which can say why they are not available: for those who ask why it does not advance.
    #[must_use]
    pub fn observe_with_pods(&self, key: &Key) -> Option<Observed> {
        let seen = self.observe(key)?;
        Some(Observed { pods: self.lasting_pods(&seen.sets), ..seen })
    }

    /// The pods of ReplicaSets that have not ended.
    #[must_use]
    pub fn lasting_pods<'a>(
        &self,
        sets: impl IntoIterator<Item = &'a Arc<plan::ReplicaSet>>,
    ) -> Vec<plan::Pod> {
        let pods = sets.into_iter().flat_map(|set| self.pods.controlled_by(&set.uid));
        pods.filter(|record| !record.has_ended()).filter_map(|record| record.pod()).collect()
    }

    /// ReplicaSets that pods are controlled by or that a rollout's status names, and that no cache has, with their rollouts: they may have
    /// lost the label by which they are watched before this process saw them.
    #[must_use]
    pub fn unknown_sets(&self) -> BTreeMap<Key, Key> {
        let (pods, rollouts) = (self.pods.all(), self.rollouts.all());
        let of_pods = pods.iter().filter_map(|pod| self.unknown_by_pod(pod));
        of_pods.chain(rollouts.iter().flat_map(|rollout| self.unknown_by_status(rollout))).collect()
    }

    /// Such a ReplicaSet by its UID, with its rollout, while pods of it are to stay.
    #[must_use]
    pub fn unknown_set(&self, uid: &str) -> Option<(Key, Key)> {
        let pods = self.pods.controlled_by(uid);
        self.unknown_by_pod(pods.iter().find(|pod| !pod.terminating && !pod.has_ended())?)
    }

    fn unknown_by_pod(&self, pod: &PodRecord) -> Option<(Key, Key)> {
        let (uid, set) = (pod.controller.as_deref()?, pod.controller_name.as_deref()?);
        let (rollout, _) = set.rsplit_once('-')?;
        let namespace = Key::of(pod).namespace;
        let (set, rollout) = (Key::new(&*namespace, set), Key::new(&*namespace, rollout));
        // One of the same name has come in the place of one that is gone.
        let is_known = self.sets.key_of(uid).is_some() || self.sets.version(&set).is_some();
        (!is_known && self.rollouts.version(&rollout).is_some()).then_some((set, rollout))
    }

    /// Those that a status names, which may have no pods (seed 13579).
    fn unknown_by_status(&self, record: &RolloutRecord) -> Vec<(Key, Key)> {
        let (Ok(rollout), key) = (&record.decoded, Key::of(record)) else { return Vec::new() };
        let status = rollout.status();
        let sets = self.sets.controlled_by(rollout.metadata.uid.as_deref().unwrap_or_default());
        let mut hashes = BTreeSet::from([status.stable_rs(), status.current_pod_hash()]);
        hashes.retain(|hash| !hash.is_empty() && sets.iter().all(|record| record.set.hash() != *hash));
        let named = |hash: &str| (Key::new(&*key.namespace, format!("{}-{hash}", key.name)), key.clone());
        hashes.into_iter().map(named).collect()
    }

    /// Whether all live pods of a ReplicaSet are known to have what was put into its template.
    #[must_use]
    pub fn is_labelled(&self, set: &plan::ReplicaSet) -> bool {
        let Some(wanted) = Wanted::of(set) else { return true };
        let mut pods = self.pods.controlled_by(&set.uid);
        pods.retain(|pod| !pod.has_ended() && !pod.terminating);
        wanted.is_met_by(set, pods.iter().map(|pod| &*pod.marks))
    }

    /// The Services that a rollout's strategy names, and those that say that it manages them.
    fn services_of(&self, key: &Key, rollout: &Rollout) -> Vec<Arc<plan::Service>> {
        let named = rollout.spec.strategy().map(Strategy::services).unwrap_or_default();
        let named = named.into_iter().map(|named| Key::new(&*key.namespace, named.name));
        let managed = self.services.controlled_by(&key.name);
        let managed = managed.iter().map(|record| Key::of(&**record));
        let managed = managed.filter(|service| service.namespace == key.namespace);
        let keys: BTreeSet<Key> = named.chain(managed).collect();
        let found = keys.iter().filter_map(|service| self.services.get(service));
        found.map(|record| Arc::clone(&record.service)).collect()
    }

    /// The Services that say that a rollout of this name manages them, whether there is one or not.
    #[must_use]
    pub fn managed_services(&self, rollout: &Key) -> Vec<Arc<plan::Service>> {
        let managed = self.services.controlled_by(&rollout.name);
        let managed = managed.iter().filter(|record| Key::of(&***record).namespace == rollout.namespace);
        managed.map(|record| Arc::clone(&record.service)).collect()
    }

    /// Rollouts that Services say they are managed by and that the cache does not have: those that are gone, and those that are another
    /// controller's.
    #[must_use]
    pub fn absent_managers(&self) -> BTreeSet<Key> {
        let services = self.services.all();
        let managers = services.iter().filter_map(|record| {
            let manager = record.service.managed_by.as_deref()?;
            Some(Key::new(&*Key::of(&**record).namespace, manager))
        });
        managers.filter(|manager| self.rollouts.version(manager).is_none()).collect()
    }

    /// The rollouts of a namespace that a Service concerns: those whose strategy names it, and the one that says it manages it, which may
    /// be gone.
    #[must_use]
    pub fn rollouts_of_service(&self, service: &Key) -> Vec<Key> {
        let managed_by = self.services.get(service).and_then(|record| record.service.managed_by.clone());
        let names = |rollout: &RolloutRecord| {
            let Ok(rollout) = &rollout.decoded else { return false };
            let named = rollout.spec.strategy().map(Strategy::services).unwrap_or_default();
            named.iter().any(|named| named.name == service.name)
        };
        let all = self.rollouts.page(Some(&service.namespace), None, usize::MAX);
        let naming = all.iter().filter(|rollout| names(rollout)).map(|rollout| Key::of(&**rollout));
        let manager = managed_by.map(|name| Key::new(&*service.namespace, &*name));
        let concerned: BTreeSet<Key> = naming.chain(manager).collect();
        concerned.into_iter().collect()
    }

    fn orphans(&self, namespace: &str, selector: &meta::LabelSelector) -> Vec<Arc<plan::ReplicaSet>> {
        let orphans = self.sets.without_controller(namespace);
        if orphans.is_empty() {
            return Vec::new();
        }
        let Ok(selector) = Selector::try_from(selector.clone()) else { return Vec::new() };
        if selector.selects_all() {
            return Vec::new();
        }
        orphans
            .iter()
            .map(|record| &record.set)
            .filter(|set| selector.matches(&set.labels))
            .map(Arc::clone)
            .collect()
    }

    /// Expects something of an object. The watch may have been quicker than the answer to our write, so that the cache is
    /// looked at as well.
    fn expect(&self, object: &ObjectId, rollout: &Key, expectation: &Expectation) {
        self.own.expect(object.clone(), rollout, expectation.clone());
        let version = match object {
            ObjectId::Rollout(key) => self.rollouts.version(key),
            ObjectId::ReplicaSet(key) => self.sets.version(key),
            ObjectId::Service(key) => self.services.version(key),
            ObjectId::Pod(key) => self.pods.version(key),
            ObjectId::Workload(kind, key) => self.workloads.version(key, *kind),
        };
        let is_terminating = match object {
            ObjectId::Pod(key) => self.pods.get(key).is_some_and(|pod| pod.terminating),
            _ => false,
        };
        if version.is_some() || matches!(expectation, Expectation::Gone | Expectation::Going) {
            self.own.shown(object, version.as_deref().map(|version| Shown::of(version, is_terminating)));
        }
    }

    /// Expects a write to labels of a pod to be shown.
    fn expect_label(&self, pod: &ObjectId, rollout: &Key, expectation: &Expectation) {
        self.labels.expect(pod.clone(), rollout, expectation.clone());
        // Of a pod that is gone by now the cache tells nothing more.
        let version = self.pods.version(pod.key());
        self.labels.shown(pod, version.as_deref().map(|version| Shown::of(version, false)));
    }

    fn announce(&self, changed: Changed) {
        // No reader, nobody to tell.
        let _ = self.changes.send(changed);
    }
}
