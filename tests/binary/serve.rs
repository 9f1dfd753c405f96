//! `rolloutd serve`: against a real API server where there is one, and against none at all.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};
use rolloutd::clock::Clock;
use rolloutd::simcluster::{self, Behaviour, Namespaces, SimCluster};
use serde_json::json;

use crate::kubernetes;
use crate::process::{ROLLOUTCTL, ROLLOUTD, Running, get, succeeds, until};

/// A port that was free a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A `rolloutd serve` that runs.
pub struct Serve {
    pub running: Running,
    api: SocketAddr,
    pub probes: SocketAddr,
    metrics: SocketAddr,
}

impl Serve {
    /// With a namespace of a cluster.
    pub fn start(kubeconfig: &Path, namespace: &str) -> Self {
        let (api, probes, metrics) = (free(), free(), free());
        let mut command = Command::new(ROLLOUTD);
        command
            .args(["serve", "--namespaced", "--namespace", namespace, "--kubeconfig"])
            .arg(kubeconfig)
            .args(["--listen", &api.to_string()])
            .args(["--healthzPort", &probes.port().to_string()])
            .args(["--metricsPort", &metrics.port().to_string()])
            // Accepted, and named in a warning.
            .args(["--rollout-resync", "900", "--loglevel", "warn"])
            .env("POD_NAMESPACE", namespace)
            .stderr(Stdio::inherit());
        Self { running: Running::start(&mut command), api, probes, metrics }
    }

    /// rolloutctl, pointed at it.
    pub fn rolloutctl(&self, namespace: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(ROLLOUTCTL);
        succeeds(
            command
                .args(arguments)
                .env("ROLLOUTD_SERVER", self.api.to_string())
                .env("ROLLOUTD_NAMESPACE", namespace),
        )
    }
}

#[test]
fn without_its_api_server_it_lives_and_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "x",
        "clusters": [{ "name": "x", "cluster": { "server": format!("http://{}", free()) } }],
        "users": [{ "name": "x", "user": {} }],
        "contexts": [{ "name": "x", "context": { "cluster": "x", "user": "x" } }],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let mut serve = Serve::start(&kubeconfig, "default");
    until("unready", || {
        let (status, body) = get(serve.probes, "/readyz")?;
        (status == 503 && body.contains("the API server does not answer")).then_some(())
    });
    assert_eq!(get(serve.probes, "/healthz"), Some((200, "ok".to_owned())));
    assert!(get(serve.metrics, "/metrics").is_some_and(|(status, _)| status == 200));
    serve.running.signal("TERM");
    assert_eq!(serve.running.ended(), Some(0));
}

/// The cluster's parts that rolloutd does not bring: definitions, a namespace, and somebody who runs pods.
async fn prepared(client: &Client) -> (String, SimCluster) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in rolloutd::crd::definitions() {
        definitions.create(&PostParams::default(), &definition).await.expect("the definition is accepted");
        let established = kube::runtime::conditions::is_crd_established();
        let name = definition.name_any();
        kube::runtime::wait::await_condition(definitions.clone(), &name, established).await.unwrap();
    }
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace: Namespace =
        serde_json::from_value(json!({ "metadata": { "generateName": "serve-" } })).unwrap();
    let namespace = namespaces.create(&PostParams::default(), &namespace).await.unwrap().name_any();
    let config = simcluster::Config {
        clock: Clock::wall(),
        behaviour: Behaviour { start_up: Duration::from_millis(100), ..Behaviour::default() },
        seed: 1,
        namespaces: Namespaces::Unmanaged,
    };
    (namespace, SimCluster::start(client.clone(), config))
}

async fn holder(client: &Client, namespace: &str) -> Option<String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let lease = leases.get_opt("argo-rollouts-controller-lock").await.unwrap()?;
    lease.spec?.holder_identity.filter(|holder| !holder.is_empty())
}

#[test]
fn a_real_cluster_is_served_and_handed_over() {
    let runtime = kubernetes::runtime();
    let Some(cluster) = runtime.block_on(kubernetes::shared()) else {
        return println!("skipped: KUBEBUILDER_ASSETS is not set");
    };
    let client = runtime.block_on(cluster.client("test")).expect("a client");
    let (namespace, _simcluster) = runtime.block_on(prepared(&client));

    let mut first = Serve::start(cluster.kubeconfig(), &namespace);
    until("ready", || get(first.probes, "/readyz").filter(|(status, _)| *status == 200));
    let leader = until("a leader", || runtime.block_on(holder(&client, &namespace)));
    let mut second = Serve::start(cluster.kubeconfig(), &namespace);
    until("ready", || get(second.probes, "/readyz").filter(|(status, _)| *status == 200));

    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/examples/canary.yaml");
    first.rolloutctl(&namespace, &["apply", "-f", manifest]);
    first.rolloutctl(&namespace, &["get", "web", "--until", "healthy"]);
    // The one that stands by answers as well.
    second.rolloutctl(&namespace, &["set", "image", "web", "web=nginx:1.28"]);
    second.rolloutctl(&namespace, &["get", "web", "--until", "paused"]);
    let (_, metrics) = get(first.metrics, "/metrics").expect("metrics");
    let paused = |line: &&str| line.starts_with("rollout_info{") && line.contains("phase=\"Paused\"");
    let info = metrics.lines().find(paused).unwrap_or_else(|| panic!("no rollout is paused in {metrics}"));
    assert!(info.contains("name=\"web\"") && info.contains(&format!("namespace=\"{namespace}\"")), "{info}");

    first.running.signal("TERM");
    assert_eq!(first.running.ended(), Some(0));
    let next = until("another leader", || {
        runtime.block_on(holder(&client, &namespace)).filter(|holder| *holder != leader)
    });
    assert_ne!(next, leader);
    second.rolloutctl(&namespace, &["promote", "web"]);
    second.rolloutctl(&namespace, &["get", "web", "--until", "healthy", "--timeout", "120s"]);
    second.running.signal("INT");
    assert_eq!(second.running.ended(), Some(0));
}
