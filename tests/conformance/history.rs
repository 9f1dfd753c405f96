//! Everything that was written in a namespace, and the properties of design.md over it.
//!
//! Recorded by one watch of each kind from the beginning, so that no version is missed, and put in order by resource version.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use rolloutd::crd::{Rollout, Rounding};
use serde::de::DeserializeOwned;

#[derive(Clone)]
pub struct History {
    entries: Arc<Mutex<BTreeMap<u64, Entry>>>,
}

#[derive(Clone, Debug)]
enum Entry {
    Rollout(Box<Rollout>),
    Set(Box<ReplicaSet>),
    SetGone(String),
}

impl History {
    pub async fn follow(client: &Client, namespace: &str) -> Self {
        let history = Self { entries: Arc::default() };
        history.watch(Api::<Rollout>::namespaced(client.clone(), namespace), |event| match event {
            WatchEvent::Added(rollout) | WatchEvent::Modified(rollout) => {
                Some(Entry::Rollout(Box::new(rollout)))
            }
            _ => None,
        });
        history.watch(Api::<ReplicaSet>::namespaced(client.clone(), namespace), |event| match event {
            WatchEvent::Added(set) | WatchEvent::Modified(set) => Some(Entry::Set(Box::new(set))),
            WatchEvent::Deleted(set) => Some(Entry::SetGone(set.name_any())),
            _ => None,
        });
        history
    }

    fn watch<K>(&self, api: Api<K>, entry: fn(WatchEvent<K>) -> Option<Entry>)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let entries = Arc::clone(&self.entries);
        tokio::spawn(async move {
            let list = api.list(&ListParams::default()).await.expect("the namespace is listed");
            let version = list.metadata.resource_version.unwrap_or_default();
            let mut events = api
                .watch(&WatchParams::default().timeout(290), &version)
                .await
                .expect("it is watched")
                .boxed();
            while let Some(Ok(event)) = events.next().await {
                let version = match &event {
                    WatchEvent::Added(object)
                    | WatchEvent::Modified(object)
                    | WatchEvent::Deleted(object) => object.resource_version(),
                    _ => None,
                };
                if let (Some(version), Some(entry)) =
                    (version.and_then(|version| version.parse().ok()), entry(event))
                {
                    entries.lock().unwrap().insert(version, entry);
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

    /// Checks the properties over all that was written so far.
    pub fn check(&self) {
        let mut state = State::default();
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
    sets: BTreeMap<String, (i32, i32)>,
}

impl State {
    fn next(&mut self, version: u64, entry: &Entry) {
        match entry {
            Entry::Rollout(rollout) => self.rollout(version, rollout),
            Entry::Set(set) => self.set(version, set),
            Entry::SetGone(name) => {
                self.sets.remove(name);
            }
        }
    }

    fn rollout(&mut self, version: u64, rollout: &Rollout) {
        let generation = rollout.metadata.generation.unwrap_or(0);
        let observed = rollout.status().observed_generation().unwrap_or(0);
        self.limits.retain(|(of, ..)| *of >= observed);
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

    fn set(&mut self, version: u64, set: &ReplicaSet) {
        let name = set.name_any();
        let spec = set.spec.replicas.unwrap_or(1);
        let available = set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
        let before = self.sums();
        let resized = self.sets.get(&name).is_none_or(|(old, _)| *old != spec);
        self.sets.insert(name.clone(), (spec, available));
        if !resized {
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

    /// Pods wanted by all sets, and available pods that are to stay.
    fn sums(&self) -> (i32, i32) {
        let all = self.sets.values();
        (all.clone().map(|(spec, _)| spec).sum(), all.map(|(spec, available)| spec.min(available)).sum())
    }
}
