//! The same with the process of the API server, `rolloutd dev --cluster-only --data-dir`, while one control plane stays: it is killed
//! when a change of a rollout or of a set has been seen, in the midst of the writes that follow.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::Api;
use kube::runtime::watcher;
use rolloutd::clock::real_sleep;

use super::{KILLS, check, create, have_arrived, seeds, set_images};
use crate::cluster::ClusterOnly;
use crate::durability::client;
use crate::kubernetes;
use crate::process::{Running, get, until};
use crate::serve::Serve;
use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::{Client, ResourceExt};
use rolloutd::crd::Rollout;

/// The most changes that a process lives to tell of.
const CHANGES: u64 = 40;

/// Kills a process when it has told of so many changes.
#[derive(Clone)]
struct Executioner {
    inner: Arc<Mutex<Sentence>>,
}

struct Sentence {
    process: Running,
    left: Option<u64>,
    /// Nobody is killed any more.
    pardoned: bool,
    killed_after: Vec<String>,
}

impl Executioner {
    fn witness(&self, what: impl FnOnce() -> String) {
        let mut sentence = self.inner.lock().unwrap();
        match sentence.left {
            Some(0) => {
                sentence.left = None;
                sentence.killed_after.push(what());
                sentence.process.kill();
            }
            Some(left) => sentence.left = Some(left - 1),
            None => {}
        }
    }

    /// Watches until it is dropped.
    async fn watch(self, client: Client) {
        let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), "default");
        let rollouts: Api<Rollout> = Api::namespaced(client, "default");
        let sets = watcher::watcher(sets, watcher::Config::default())
            .map(|event| event.map(|event| changed("ReplicaSet", &event)));
        let rollouts = watcher::watcher(rollouts, watcher::Config::default())
            .map(|event| event.map(|event| changed("Rollout", &event)));
        let mut events = std::pin::pin!(futures::stream::select(sets, rollouts));
        while let Some(event) = events.next().await {
            match event {
                Ok(Some(change)) => self.witness(|| change),
                Ok(None) => {}
                // It is dead, or on its way up.
                Err(_) => real_sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

fn changed<K: ResourceExt>(kind: &str, event: &watcher::Event<K>) -> Option<String> {
    let watcher::Event::Apply(object) = event else { return None };
    Some(format!("{kind} {} at {}", object.name_any(), object.resource_version().unwrap_or_default()))
}

fn start(folder: &Path) -> ClusterOnly {
    ClusterOnly::start(folder, &["--loglevel", "error"])
}

/// One run: two versions are rolled out on a cluster that is killed again and again.
fn api_servers_are_killed(seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = kubernetes::runtime();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut lives: VecDeque<u64> = (0..random.u64(1..=KILLS)).map(|_| random.u64(0..CHANGES)).collect();
    let ClusterOnly { running, kubeconfig, .. } = start(folder.path());
    let kube = runtime.block_on(client(&kubeconfig));
    let serve = Serve::start(&kubeconfig, "default");
    until("ready", || get(serve.probes, "/readyz").filter(|(status, _)| *status == 200));
    let sentence = Sentence { process: running, left: None, pardoned: false, killed_after: Vec::new() };
    let executioner = Executioner { inner: Arc::new(Mutex::new(sentence)) };
    let watching = runtime.spawn(executioner.clone().watch(kube.clone()));
    let mut tend = |what: &str, revision: &str| {
        until(&format!("seed {seed}: {what}"), || {
            let mut sentence = executioner.inner.lock().unwrap();
            if sentence.process.has_ended() {
                sentence.process = start(folder.path()).running;
                sentence.left = lives.pop_front().filter(|_| !sentence.pardoned);
            }
            drop(sentence);
            runtime.block_on(have_arrived(&kube, revision))
        });
    };
    runtime.block_on(create(&kube));
    tend("the first version", "1");
    runtime.block_on(set_images(&kube, "v2"));
    executioner.inner.lock().unwrap().left = Some(random.u64(0..CHANGES));
    tend("the second version", "2");
    {
        let mut sentence = executioner.inner.lock().unwrap();
        (sentence.left, sentence.pardoned) = (None, true);
    }
    // It may have been killed just now.
    tend("the second version again", "2");
    runtime.block_on(check(&kube));
    watching.abort();
    let killed_after = executioner.inner.lock().unwrap().killed_after.join(", ");
    assert!(!killed_after.is_empty(), "seed {seed}: nobody was killed");
    println!("seed {seed}: killed after {killed_after}");
}

#[test]
fn the_api_server_may_be_killed_at_any_moment() {
    for seed in 0..seeds() {
        api_servers_are_killed(seed);
    }
}
