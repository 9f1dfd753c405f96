//! Everything that was written in a namespace, and the properties of design.md over it.
//!
//! Recorded by one watch of each kind from the beginning, so that no version is missed, and put in order by resource version.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, NamespaceResourceScope};
use kube::{Api, Client, Resource, ResourceExt};
use rolloutd::clock::real_sleep;
use rolloutd::crd::Rollout;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::properties::{By, Properties, Version};
use crate::versions;

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
        let list = loop {
            match api.list_metadata(&ListParams::default()).await {
                // A server that got the definition just now has not read what is stored of the kind yet.
                Err(kube::Error::Api(status)) if status.code == 429 => {
                    real_sleep(Duration::from_millis(50)).await;
                }
                list => break list.expect("the namespace is listed"),
            }
        };
        let version = list.metadata.resource_version.unwrap_or_default();
        let entries = Arc::clone(&self.entries);
        self.watches.lock().unwrap().spawn(versions::follow(api, version, move |number, name, object| {
            let entry = match object {
                Some(object) => object.try_parse().map_or(Entry::Malformed, entry),
                None => Entry::Gone(name),
            };
            entries.lock().unwrap().insert(number, entry);
        }));
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
        self.check_of(NAME, 0);
    }

    /// The same for the rollout of this name, of which others wrote what is older than `since`.
    pub fn check_of(&self, name: &str, since: u64) {
        assert!(!self.entries.lock().unwrap().is_empty(), "nothing was recorded, nothing would be checked");
        let mut properties = Properties::new(SignedDuration::ZERO);
        for (version, entry) in self.entries.lock().unwrap().iter() {
            let seen = match entry {
                Entry::Rollout(rollout) if rollout.name_any() == name => Version::Rollout(rollout),
                Entry::Set(set) if controller(set).is_some_and(|owner| owner.name == name) => {
                    Version::Set(set)
                }
                Entry::Service(service) => Version::Service(service),
                Entry::Gone(gone) if gone == name => {
                    properties.forget();
                    continue;
                }
                Entry::Gone(set) => Version::NoSet(set),
                Entry::Rollout(_) | Entry::Set(_) | Entry::Malformed => continue,
            };
            // Who wrote it is not told; nobody else writes what is judged, but people and the garbage collector delete.
            let by = match seen {
                _ if *version < since => By::Others,
                Version::NoSet(_) => By::Others,
                Version::Set(set) if set.metadata.deletion_timestamp.is_some() => By::Others,
                _ => By::Us,
            };
            let checked = properties.next(seen, by, Timestamp::UNIX_EPOCH);
            checked.unwrap_or_else(|error| panic!("version {version}: {error}"));
        }
    }
}
