//! Everything that was written in a namespace, and the properties of design.md over it.
//!
//! Recorded by one watch of each kind from the beginning, so that no version is missed, and put in order by resource version.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::core::{ApiResource, NamespaceResourceScope};
use kube::{Api, Client, Resource, ResourceExt};
use rolloutd::clock::real_sleep;
use rolloutd::crd::{Rollout, Rounding, Strategy, keys};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

/// The rollout whose history is checked.
const NAME: &str = "web";

fn controller(set: &ReplicaSet) -> Option<&OwnerReference> {
    set.owner_references().iter().find(|owner| owner.controller == Some(true))
}

#[derive(Clone)]
pub struct History {
    entries: Arc<Mutex<BTreeMap<u64, Entry>>>,
    /// The watches, which end with it.
    watches: Arc<Mutex<JoinSet<()>>>,
}

#[derive(Clone, Debug)]
enum Entry {
    Rollout(Box<Rollout>),
    Set(Box<ReplicaSet>),
    Service(Box<Service>),
    Gone(String),
    /// What no client of its kind can read.
    Malformed,
}

impl History {
    pub async fn follow(client: &Client, namespace: &str) -> Self {
        let history = Self { entries: Arc::default(), watches: Arc::default() };
        history.record::<Rollout>(client, namespace, |rollout| Entry::Rollout(Box::new(rollout))).await;
        history.record::<ReplicaSet>(client, namespace, |set| Entry::Set(Box::new(set))).await;
        history.record::<Service>(client, namespace, |service| Entry::Service(Box::new(service))).await;
        history
    }

    /// Records every version of every object of a kind from now on.
    async fn record<K>(&self, client: &Client, namespace: &str, entry: fn(K) -> Entry)
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + 'static,
    {
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()));
        let list = api.list_metadata(&ListParams::default()).await.expect("the namespace is listed");
        let mut version = list.metadata.resource_version.unwrap_or_default();
        let entries = Arc::clone(&self.entries);
        self.watches.lock().unwrap().spawn(async move {
            loop {
                let events = api.watch(&WatchParams::default(), &version).await;
                let mut events = events.expect("it is watched").boxed();
                while let Some(Ok(event)) = events.next().await {
                    let (object, entry) = match event {
                        WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                            (object.clone(), object.try_parse().map_or(Entry::Malformed, entry))
                        }
                        WatchEvent::Deleted(object) => (object.clone(), Entry::Gone(object.name_any())),
                        WatchEvent::Bookmark(bookmark) => {
                            version = bookmark.metadata.resource_version;
                            continue;
                        }
                        WatchEvent::Error(status) => panic!("the history has a gap: {status:?}"),
                    };
                    version = object.resource_version().expect("objects have versions");
                    entries.lock().unwrap().insert(version.parse().expect("versions are numbers"), entry);
                }
            }
        });
    }

    /// Checks that an abort which took effect was in force in every version since then.
    pub fn check_abort_since(&self, since: u64) {
        for (version, rollout) in self.rollouts(since) {
            assert!(rollout.status().abort(), "version {version}: the abort was overwritten");
        }
    }

    /// Checks that an abort which had no effect came before the update was announced or after it was complete.
    pub fn check_abort_was_void(&self, since: u64) {
        let all = self.rollouts(since);
        let (_, aborted) = all.first().expect("the abort itself");
        let status = aborted.status();
        assert_eq!(
            status.current_pod_hash(),
            status.stable_rs(),
            "an update was running, and its abort was lost"
        );
    }

    fn rollouts(&self, since: u64) -> Vec<(u64, Rollout)> {
        let entries = self.entries.lock().unwrap();
        let rollouts = entries.range(since..).filter_map(|(version, entry)| match entry {
            Entry::Rollout(rollout) => Some((*version, (**rollout).clone())),
            _ => None,
        });
        rollouts.collect()
    }

    /// Waits until everything that exists has been seen in its newest version.
    pub async fn catch_up(&self, client: &Client, namespace: &str) {
        async fn versions<K>(client: &Client, namespace: &str) -> Vec<u64>
        where
            K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        {
            let api: Api<K> = Api::namespaced(client.clone(), namespace);
            let all = api.list_metadata(&ListParams::default()).await.expect("the namespace is listed").items;
            all.iter().filter_map(|object| object.metadata.resource_version.as_ref()?.parse().ok()).collect()
        }
        let caught_up = async {
            loop {
                let mut newest = versions::<Rollout>(client, namespace).await;
                newest.extend(versions::<ReplicaSet>(client, namespace).await);
                newest.extend(versions::<Service>(client, namespace).await);
                let seen =
                    |entries: &BTreeMap<_, _>| newest.iter().all(|version| entries.contains_key(version));
                if seen(&self.entries.lock().unwrap()) {
                    return;
                }
                real_sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), caught_up).await.expect("the watch shows everything");
    }

    /// Checks the properties over all that was written so far.
    pub fn check(&self) {
        let mut state = State::default();
        assert!(!self.entries.lock().unwrap().is_empty(), "nothing was recorded, nothing would be checked");
        for (version, entry) in self.entries.lock().unwrap().iter() {
            state.next(*version, entry);
        }
    }
}

#[derive(Default)]
struct State {
    rollout: Option<Rollout>,
    /// Limits (most pods, least available) of the specs that the controller may act on: the last that it observed and newer ones.
    limits: Vec<(i64, i32, i32)>,
    sets: BTreeMap<String, Set>,
    /// The Service that is active, and the hash that it selects.
    active: (String, String),
    /// What promotion requires, by the specs that the controller may act on.
    required: Vec<(i64, i32)>,
}

/// A ReplicaSet: the pods wanted of it, those that are available, and its hash.
#[derive(Default)]
struct Set {
    spec: i32,
    available: i32,
    hash: String,
}

impl State {
    fn next(&mut self, version: u64, entry: &Entry) {
        match entry {
            Entry::Rollout(rollout) if rollout.name_any() == NAME => self.rollout(version, rollout),
            Entry::Set(set) if controller(set).is_some_and(|owner| owner.name == NAME) => {
                self.set(version, set);
            }
            Entry::Gone(name) if name == NAME => *self = Self::default(),
            Entry::Gone(name) => {
                self.sets.remove(name);
            }
            Entry::Service(service) if service.name_any() == self.active.0 => self.switched(version, service),
            Entry::Rollout(_) | Entry::Set(_) | Entry::Service(_) | Entry::Malformed => {}
        }
    }

    fn rollout(&mut self, version: u64, rollout: &Rollout) {
        let generation = rollout.metadata.generation.unwrap_or(0);
        let observed = rollout.status().observed_generation().unwrap_or(0);
        self.limits.retain(|(of, ..)| *of >= observed);
        self.blue_green(rollout, generation, observed);
        if self.limits.last().is_none_or(|(of, ..)| *of != generation)
            && let Some(canary) = rollout.spec.strategy.as_ref().and_then(|strategy| strategy.canary.as_ref())
        {
            let replicas = rollout.spec.replicas();
            let surge = canary.max_surge().scaled(replicas, Rounding::Up).unwrap_or(0);
            let unavailable = canary.max_unavailable().scaled(replicas, Rounding::Down).unwrap_or(0);
            let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable.min(replicas) };
            self.limits.push((generation, replicas + surge, replicas - unavailable));
        }
        if let Some(before) = &self.rollout {
            let (before, after) = (before.status(), rollout.status());
            let same = before.current_pod_hash() == after.current_pod_hash()
                && before.current_step_hash() == after.current_step_hash()
                && !before.abort()
                && !after.abort();
            assert!(
                !same || after.current_step_index >= before.current_step_index,
                "version {version}: the step went back: {before:?} -> {after:?}"
            );
        }
        self.rollout = Some(rollout.clone());
    }

    /// What a blue-green spec requires; other strategies require nothing, and blue-green has no limits of sizes.
    fn blue_green(&mut self, rollout: &Rollout, generation: i64, observed: i64) {
        self.required.retain(|(of, _)| *of >= observed);
        if let Ok(Strategy::BlueGreen(strategy)) = rollout.spec.strategy() {
            self.active.0.clone_from(&strategy.active_service);
            self.limits.push((generation, i32::MAX, 0));
            if self.required.last().is_none_or(|(of, _)| *of != generation) {
                self.required.push((generation, rollout.spec.replicas()));
            }
        }
    }

    /// The active Service never gets fewer available pods than promotion requires, unless it had fewer still.
    fn switched(&mut self, version: u64, service: &Service) {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let hash =
            selector.and_then(|labels| labels.get(keys::POD_TEMPLATE_HASH)).cloned().unwrap_or_default();
        let before = std::mem::replace(&mut self.active.1, hash.clone());
        if before == hash || hash.is_empty() {
            return;
        }
        let available = |hash: &str| {
            let set = self.sets.values().find(|set| !hash.is_empty() && set.hash == hash);
            set.map_or(0, |set| set.available)
        };
        let least = self.required.iter().map(|(_, required)| *required).min().unwrap_or(0);
        assert!(
            available(&hash) >= least || (!before.is_empty() && available(&hash) > available(&before)),
            "version {version}: the active Service goes from {before:?} to {hash:?} with {} of {least} pods",
            available(&hash)
        );
    }

    fn set(&mut self, version: u64, set: &ReplicaSet) {
        let name = set.name_any();
        let spec = set.spec.replicas.unwrap_or(1);
        let available = set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
        let hash = set.labels().get(keys::POD_TEMPLATE_HASH).cloned().unwrap_or_default();
        let before = self.sums();
        let old = self.sets.get(&name).map(|set| set.spec);
        self.check_active(version, &hash, old, spec);
        self.sets.insert(name.clone(), Set { spec, available, hash });
        if old == Some(spec) {
            return;
        }
        let after = self.sums();
        let holds = |(_, most, least): &(i64, i32, i32)| {
            after.0 <= (*most).max(before.0) && after.1 >= (*least).min(before.1)
        };
        assert!(
            self.limits.is_empty() || self.limits.iter().any(holds),
            "version {version}: {name} resized to {spec}: (wanted, available) {before:?} -> {after:?}, allowed {:?}",
            self.limits
        );
    }

    /// The version that the active Service selects loses no pods, but for those beyond what any spec wants.
    fn check_active(&self, version: u64, hash: &str, old: Option<i32>, spec: i32) {
        let is_active = !hash.is_empty() && hash == self.active.1;
        let (Some(old), Some(least)) = (old, self.required.iter().map(|(_, required)| *required).min())
        else {
            return;
        };
        // Other strategies may be on their way, too.
        if is_active
            && self.required.len() == self.limits.iter().filter(|(_, most, _)| *most == i32::MAX).count()
        {
            assert!(
                spec >= old.min(least),
                "version {version}: the active version goes from {old} to {spec} pods"
            );
        }
    }

    /// Pods wanted by all sets, and available pods that are to stay.
    fn sums(&self) -> (i32, i32) {
        let all = self.sets.values();
        (all.clone().map(|set| set.spec).sum(), all.map(|set| set.spec.min(set.available)).sum())
    }
}
