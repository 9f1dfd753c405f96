//! `rolloutd dev --data-dir` killed at any moment: whatever was acknowledged is there when it starts again.
//!
//! ROLLOUTD_SEEDS says how many seeds are tried; `make durability` tries many.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, ResourceExt as _};
use rolloutd::clock::real_sleep;
use serde_json::json;

use crate::cluster::ClusterOnly;
use crate::kubernetes;
use crate::process::DEADLINE;

/// Seeds that are tried unless ROLLOUTD_SEEDS says how many.
const SEEDS: u64 = 5;
/// How often one cluster is killed.
const LIVES: usize = 3;
/// Clients that write at the same time, so that requests share transactions.
const WRITERS: usize = 6;
/// Objects of each of them.
const NAMES: usize = 4;

fn seeds() -> u64 {
    let asked = std::env::var_os("ROLLOUTD_SEEDS");
    asked.map_or(SEEDS, |text| {
        text.to_str().and_then(|text| text.parse().ok()).expect("ROLLOUTD_SEEDS is a number")
    })
}

/// A client for the server that a kubeconfig names.
pub async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// What an object is known to be: its value and the revision of the write, `None` when it is not there.
type Known = Option<(String, u64)>;

/// What a writer knows of one of its objects.
#[derive(Clone, Debug, Default)]
struct Belief {
    acknowledged: Known,
    /// A write was not answered: the value that it would give, `None` for a deletion.
    unanswered: Option<Option<String>>,
}

type Beliefs = BTreeMap<String, Belief>;

fn known(map: &ConfigMap) -> (String, u64) {
    (map.data.as_ref().unwrap()["v"].clone(), revision(map))
}

fn revision(map: &ConfigMap) -> u64 {
    map.resource_version().unwrap().parse().unwrap()
}

/// Writes as fast as it can until a request is not answered.
async fn write(
    api: Api<ConfigMap>,
    writer: usize,
    mut random: fastrand::Rng,
    mut beliefs: Beliefs,
) -> Beliefs {
    loop {
        let name = format!("w{writer}-{}", random.usize(..NAMES));
        let value = random.u64(..).to_string();
        let belief = beliefs.entry(name.clone()).or_default();
        let there = belief.acknowledged.is_some();
        let (wanted, outcome) = if there && random.u8(..4) == 0 {
            (None, api.delete(&name, &DeleteParams::default()).await.map(|_| None))
        } else if there {
            let patch = Patch::Merge(json!({ "data": { "v": value } }));
            let patched = api.patch(&name, &PatchParams::default(), &patch).await;
            (Some(value), patched.map(|map| Some(known(&map))))
        } else {
            let map = json!({ "metadata": { "name": name }, "data": { "v": value } });
            let created = api.create(&PostParams::default(), &serde_json::from_value(map).unwrap()).await;
            (Some(value), created.map(|map| Some(known(&map))))
        };
        match outcome {
            Ok(now) => belief.acknowledged = now,
            Err(kube::Error::Api(status)) => panic!("refused: {status:?}"),
            Err(_) => {
                belief.unanswered = Some(wanted);
                return beliefs;
            }
        }
    }
}

/// Names and revisions of the events of a watch, as far as it goes.
async fn follow(api: Api<ConfigMap>, from: u64, seen: Arc<Mutex<Vec<(String, u64)>>>) {
    let params = WatchParams { bookmarks: false, ..WatchParams::default() };
    let Ok(events) = api.watch(&params, &from.to_string()).await else { return };
    let mut events = Box::pin(events);
    while let Some(Ok(event)) = events.next().await {
        let map = match event {
            WatchEvent::Added(map) | WatchEvent::Modified(map) | WatchEvent::Deleted(map) => map,
            other => panic!("{other:?}"),
        };
        seen.lock().unwrap().push((map.name_any(), revision(&map)));
    }
}

/// Settles what was not answered by what is there now; everything else must be as it was acknowledged.
async fn check(api: &Api<ConfigMap>, beliefs: &mut [Beliefs]) -> u64 {
    let list = api.list(&ListParams::default()).await.unwrap();
    let there: BTreeMap<_, _> = list.items.iter().map(|map| (map.name_any(), known(map))).collect();
    for (name, belief) in beliefs.iter_mut().flatten() {
        let found = there.get(name).cloned();
        let expected = found == belief.acknowledged
            || belief
                .unanswered
                .as_ref()
                .is_some_and(|value| *value == found.as_ref().map(|(value, _)| value.clone()));
        assert!(expected, "{name}: {belief:?}, but found {found:?}");
        *belief = Belief { acknowledged: found, unanswered: None };
    }
    let names: BTreeSet<&String> = beliefs.iter().flatten().map(|(name, _)| name).collect();
    assert!(there.keys().all(|name| names.contains(name)), "{there:?} has what nobody asked for");
    list.metadata.resource_version.unwrap().parse().unwrap()
}

async fn live_and_die(seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut beliefs = vec![Beliefs::new(); WRITERS];
    let mut reached = 0;
    // All that watchers were told, in all lives.
    let mut told: Vec<(String, u64)> = Vec::new();
    let mut begin = None;
    for life in 0..=LIVES {
        let mut cluster = ClusterOnly::start(folder.path(), &[]);
        let client = client(&cluster.kubeconfig).await;
        let api: Api<ConfigMap> = Api::default_namespaced(client);
        let now = check(&api, &mut beliefs).await;
        assert!(now >= reached, "revisions went back from {reached} to {now}");
        let latest = told.iter().map(|(_, revision)| *revision).max().unwrap_or(0);
        assert!(latest <= now, "a watcher was told of {latest}, which is not there");
        let from = *begin.get_or_insert(now);
        // A watch from the very beginning, over all lives.
        let history = watched(&api, from, now).await;
        assert!(history.windows(2).all(|pair| pair[0].1 < pair[1].1), "in order, each once");
        for event in &told {
            assert!(history.contains(event), "{event:?} was told, and is not in the history");
        }
        for (name, belief) in beliefs.iter().flatten() {
            let Some((_, revision)) = belief.acknowledged else { continue };
            assert!(
                history.contains(&(name.clone(), revision)),
                "{name} at {revision} is not in the history"
            );
        }
        if life == LIVES {
            break;
        }
        let seen = Arc::new(Mutex::new(Vec::new()));
        let watcher = tokio::spawn(follow(api.clone(), now, seen.clone()));
        let writers: Vec<_> = std::mem::take(&mut beliefs)
            .into_iter()
            .enumerate()
            .map(|(writer, beliefs)| tokio::spawn(write(api.clone(), writer, random.fork(), beliefs)))
            .collect();
        real_sleep(Duration::from_millis(random.u64(20..700))).await;
        cluster.running.signal("KILL");
        for writer in writers {
            beliefs.push(tokio::time::timeout(DEADLINE, writer).await.expect("requests end").unwrap());
        }
        tokio::time::timeout(DEADLINE, watcher).await.expect("the watch ends").unwrap();
        cluster.running.ended();
        let told_now = seen.lock().unwrap().clone();
        assert!(told_now.windows(2).all(|pair| pair[0].1 < pair[1].1), "in order, each once");
        told.extend(told_now);
        let acknowledged = beliefs.iter().flatten().filter_map(|(_, belief)| belief.acknowledged.as_ref());
        reached = acknowledged.map(|(_, revision)| *revision).max().unwrap_or(0).max(now);
    }
    let written = reached - begin.unwrap();
    println!("seed {seed}: {written} writes in {LIVES} lives, {} told to watchers", told.len());
    assert!(written > 0 && !told.is_empty());
}

/// The events after `from` up to the revision `until`.
async fn watched(api: &Api<ConfigMap>, from: u64, until: u64) -> Vec<(String, u64)> {
    let params = WatchParams { bookmarks: true, timeout: Some(1), ..WatchParams::default() };
    let mut events = Box::pin(api.watch(&params, &from.to_string()).await.unwrap());
    let mut seen = Vec::new();
    let mut bookmark = 0;
    while let Some(event) = events.next().await {
        match event.unwrap() {
            WatchEvent::Added(map) | WatchEvent::Modified(map) | WatchEvent::Deleted(map) => {
                seen.push((map.name_any(), revision(&map)));
            }
            WatchEvent::Bookmark(mark) => bookmark = mark.metadata.resource_version.parse().unwrap(),
            WatchEvent::Error(status) => panic!("{status:?}"),
        }
    }
    assert!(bookmark >= until, "the watch got as far as {bookmark} of {until}");
    seen
}

#[test]
fn nothing_that_was_acknowledged_is_lost_by_a_kill() {
    for seed in 1..=seeds() {
        kubernetes::runtime().block_on(live_and_die(seed));
    }
}
