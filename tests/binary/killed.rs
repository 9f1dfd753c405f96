//! kill -9 at a random write: the next process goes on from what is there, every rollout ends Healthy, and none has a ReplicaSet too
//! many.
//!
//! `ROLLOUTD_KILL_SEEDS` says how many seeds (default 4); a failure names its own.

mod api_server;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use rolloutd::apiserver::{self, ApiServer, Write};
use rolloutd::clock::Clock;
use rolloutd::crd::{Rollout, RolloutPhase};
use rolloutd::serve::Part;
use rolloutd::simcluster::{self, Behaviour, Namespaces, START_UP_ANNOTATION, SimCluster};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::kubernetes;
use crate::process::{ROLLOUTD, Running, until};

/// The most kills of one run, and the most writes that a process lives to see: an update of all rollouts takes about fifty.
const KILLS: u64 = 4;
const WRITES: u64 = 24;

#[expect(clippy::disallowed_methods, reason = "a test reads what its caller asks for")]
fn seeds() -> u64 {
    std::env::var("ROLLOUTD_KILL_SEEDS").map_or(4, |seeds| seeds.parse().expect("a number"))
}

/// Kills a process at a write that it makes: it has been stored, and is never answered.
#[derive(Clone, Default)]
struct Executioner {
    inner: Arc<Mutex<Sentence>>,
}

#[derive(Default)]
struct Sentence {
    process: Option<Running>,
    /// Writes that are left to it.
    left: Option<u64>,
    /// What it was about to do.
    killed_at: Vec<String>,
}

impl Executioner {
    fn witness(&self, write: &Write<'_>) {
        if write.user_agent != Part::Workers.agent() {
            return;
        }
        let mut sentence = self.inner.lock().unwrap();
        match sentence.left {
            Some(0) => {
                sentence.left = None;
                let object = write.new.or(write.old);
                let name = object.and_then(|object| object["metadata"]["name"].as_str()).unwrap_or_default();
                let what = format!("{} {}/{} {name}", write.verb, write.resource, write.subresource);
                sentence.killed_at.push(what);
                sentence.process.as_mut().expect("it writes, so it runs").kill();
            }
            Some(left) => sentence.left = Some(left - 1),
            None => {}
        }
    }

    fn release(&self, process: Running, writes: Option<u64>) {
        let mut sentence = self.inner.lock().unwrap();
        sentence.process = Some(process);
        sentence.left = writes;
    }

    /// Whether its process was killed and has ended.
    fn is_done(&self) -> bool {
        let mut sentence = self.inner.lock().unwrap();
        sentence.process.as_mut().is_none_or(Running::has_ended)
    }

    fn killed_at(&self) -> Vec<String> {
        self.inner.lock().unwrap().killed_at.clone()
    }
}

/// An API server with simulated nodes, for processes.
struct Cluster {
    client: Client,
    kubeconfig: PathBuf,
    executioner: Executioner,
    _folder: tempfile::TempDir,
    _simcluster: SimCluster,
    _stop: DropGuard,
}

impl Cluster {
    async fn start(seed: u64) -> Self {
        let api = ApiServer::new(apiserver::Config { seed, ..apiserver::Config::new(Clock::wall()) });
        let executioner = Executioner::default();
        let witness = executioner.clone();
        api.on_write(move |write| witness.witness(write));
        let client = api.client("test");
        prepare(&client).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("config");
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::fs::write(&kubeconfig, kubeconfig_for(&url)).unwrap();
        let behaviour = Behaviour { termination: Duration::from_millis(20), ..Behaviour::default() };
        let config =
            simcluster::Config { clock: Clock::wall(), behaviour, seed, namespaces: Namespaces::Managed };
        let simcluster = SimCluster::start(api.client("simcluster"), config);
        let stop = CancellationToken::new();
        let (server, stopped) = (api.clone(), stop.clone());
        tokio::spawn(async move { server.serve(listener, stopped).await });
        Self {
            client,
            kubeconfig,
            executioner,
            _folder: folder,
            _simcluster: simcluster,
            _stop: stop.drop_guard(),
        }
    }

    /// A control plane that may make so many writes.
    fn serve(&self, writes: Option<u64>) {
        let mut command = Command::new(ROLLOUTD);
        command
            .args(["serve", "--leader-elect=false", "--listen", "127.0.0.1:0", "--loglevel", "error"])
            .args(["--healthzPort", "0", "--metricsPort", "0", "--qps", "-1", "--kubeconfig"])
            .arg(&self.kubeconfig)
            .stderr(Stdio::inherit());
        self.executioner.release(Running::start(&mut command), writes);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The API server keeps the witness, and with it the last process.
        if let Ok(mut sentence) = self.executioner.inner.lock() {
            sentence.process = None;
        }
    }
}

fn kubeconfig_for(url: &str) -> String {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{ "name": "x", "cluster": { "server": url } }],
        "users": [{ "name": "x", "user": {} }],
        "contexts": [{ "name": "x", "context": { "cluster": "x", "user": "x" } }],
    });
    config.to_string()
}

async fn prepare(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in rolloutd::crd::definitions() {
        definitions.create(&PostParams::default(), &definition).await.expect("the definition is accepted");
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let default: Namespace = serde_json::from_value(json!({ "metadata": { "name": "default" } })).unwrap();
    // The server may have it from the beginning.
    let _ = namespaces.create(&PostParams::default(), &default).await;
}

/// The rollouts of a run by name: their strategies and sizes.
fn rollouts() -> Vec<(&'static str, i32, Value)> {
    let steps = json!([{ "setWeight": 25 }, { "pause": { "duration": "1s" } }, { "setWeight": 75 }]);
    let blue_green = json!({ "activeService": "active", "previewService": "preview", "autoPromotionSeconds": 1, "scaleDownDelaySeconds": 1 });
    vec![
        ("canary", 4, json!({ "canary": { "steps": steps } })),
        ("rolling", 5, json!({ "canary": { "maxSurge": 1, "maxUnavailable": 0 } })),
        ("bluegreen", 3, json!({ "blueGreen": blue_green })),
    ]
}

fn image(version: &str) -> String {
    format!("registry.test/web:{version}")
}

async fn create(client: &Client) {
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    for name in ["active", "preview"] {
        let service = json!({ "metadata": { "name": name },
            "spec": { "selector": { "app": "bluegreen" }, "ports": [{ "port": 80 }] } });
        services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap();
    }
    let api: Api<Rollout> = Api::namespaced(client.clone(), "default");
    for (name, replicas, strategy) in rollouts() {
        let rollout = json!({
            "metadata": { "name": name },
            "spec": {
                "replicas": replicas, "strategy": strategy, "selector": { "matchLabels": { "app": name } },
                "template": { "metadata": { "labels": { "app": name }, "annotations": { START_UP_ANNOTATION: "50ms" } },
                    "spec": { "containers": [{ "name": "web", "image": image("v1") }] } },
            },
        });
        api.create(&PostParams::default(), &serde_json::from_value(rollout).unwrap()).await.unwrap();
    }
}

async fn set_images(client: &Client, version: &str) {
    let api: Api<Rollout> = Api::namespaced(client.clone(), "default");
    let containers = json!([{ "name": "web", "image": image(version) }]);
    let patch = Patch::Merge(json!({ "spec": { "template": { "spec": { "containers": containers } } } }));
    for (name, ..) in rollouts() {
        api.patch(name, &PatchParams::default(), &patch).await.expect("it is patched");
    }
}

/// Whether all rollouts have come to this revision, whole.
async fn have_arrived(client: &Client, revision: &str) -> Option<()> {
    let api: Api<Rollout> = Api::namespaced(client.clone(), "default");
    // A server that was just killed does not answer.
    let all = api.list(&ListParams::default()).await.ok()?.items;
    let has_arrived = |rollout: &Rollout| {
        let status = rollout.status();
        rollout.annotations().get("rollout.argoproj.io/revision").map(String::as_str) == Some(revision)
            && status.observed_generation() == rollout.metadata.generation
            && status.phase == Some(RolloutPhase::Healthy)
            && status.updated_replicas == Some(rollout.spec.replicas())
            && (status.replicas == status.updated_replicas)
    };
    (all.len() == rollouts().len() && all.iter().all(has_arrived)).then_some(())
}

/// Checks what is there in the end: of each rollout a set of each version and no more, and Services that select the newest.
async fn check(client: &Client) {
    let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), "default");
    let sets = sets.list(&ListParams::default()).await.unwrap().items;
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let api: Api<Rollout> = Api::namespaced(client.clone(), "default");
    for (name, replicas, _) in rollouts() {
        let of_rollout: Vec<&ReplicaSet> =
            sets.iter().filter(|set| set.owner_references().iter().any(|owner| owner.name == name)).collect();
        assert_eq!(of_rollout.len(), 2, "{name}: {of_rollout:#?}");
        let wanted: i32 = of_rollout.iter().filter_map(|set| set.spec.replicas).sum();
        assert_eq!(wanted, replicas, "{name}: {of_rollout:#?}");
        let rollout = api.get(name).await.unwrap();
        let status = rollout.status();
        assert_eq!(status.stable_rs(), status.current_pod_hash(), "{name}");
    }
    let newest = api.get("bluegreen").await.unwrap().status().current_pod_hash().to_owned();
    for service in services.list(&ListParams::default()).await.unwrap().items {
        let selector = service.spec.clone().and_then(|spec| spec.selector).unwrap_or_default();
        assert_eq!(selector.get("rollouts-pod-template-hash"), Some(&newest), "{}", service.name_any());
    }
}

/// One run: two versions are rolled out by processes that are killed, one after the other.
fn control_planes_are_killed(seed: u64) {
    let runtime = kubernetes::runtime();
    let cluster = runtime.block_on(Cluster::start(seed));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sentences: Vec<u64> = (0..random.u64(1..=KILLS)).map(|_| random.u64(0..WRITES)).collect();
    cluster.serve(sentences.pop());
    let mut tend = |what: &str, revision: &str| {
        until(&format!("seed {seed}: {what}"), || {
            if cluster.executioner.is_done() {
                cluster.serve(sentences.pop());
            }
            runtime.block_on(have_arrived(&cluster.client, revision))
        });
    };
    runtime.block_on(create(&cluster.client));
    tend("the first version", "1");
    runtime.block_on(set_images(&cluster.client, "v2"));
    tend("the second version", "2");
    runtime.block_on(check(&cluster.client));
    let killed_at = cluster.executioner.killed_at();
    assert!(!killed_at.is_empty(), "seed {seed}: nobody was killed");
    println!("seed {seed}: killed at {}", killed_at.join(", "));
}

#[test]
fn the_control_plane_may_be_killed_at_any_write() {
    for seed in 0..seeds() {
        control_planes_are_killed(seed);
    }
}
