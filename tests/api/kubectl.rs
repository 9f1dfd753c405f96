//! ApplyManifest and the real kubectl apply, in turn on the same objects.
//!
//! Skipped, with a printed line, where kubectl is not on the PATH; with ROLLOUTD_REQUIRE_TOOLS set that fails instead.

use std::process::Stdio;
use std::time::Duration;

use rolloutd::crd::keys::LAST_APPLIED_CONFIGURATION;
use rolloutd::pb::v1;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::{CancellationToken, DropGuard};
use v1::applied_object::Outcome;

use crate::tools;
use crate::world::World;

/// How long one run of kubectl may take; real time, on a machine that is shared.
const PATIENCE: Duration = Duration::from_secs(60);

/// With what encoders differ in: order, HTML characters, other alphabets, numbers, nothing.
const MANIFEST: &str = "
kind: Rollout
apiVersion: argoproj.io/v1alpha1
metadata:
  name: web
  namespace: shop
  labels: {zebra: z, app: web}
  annotations: {note: \"<a & b> \\u2028 \\\" \\\\ \\t é 漢 🦀\", empty: ''}
spec:
  replicas: 3
  minReadySeconds: 4
  progressDeadlineSeconds: 600
  selector: {matchLabels: {app: web}}
  strategy:
    canary:
      maxSurge: 25%
      maxUnavailable: 0
      steps: [{setWeight: 20}, {pause: {}}, {pause: {duration: 1h}}]
  template:
    metadata: {labels: {app: web}, creationTimestamp: null}
    spec:
      terminationGracePeriodSeconds: 1e1
      securityContext: {runAsUser: 0x10, runAsNonRoot: yes}
      volumes: [{name: files, configMap: {name: files, defaultMode: 0644}}]
      containers:
      - {name: web, image: 'web:1', resources: {limits: {cpu: 0.5, memory: 1Gi}}, env: [], args: ['0644', 'yes']}
";

struct Kubectl {
    world: World,
    url: String,
    home: TempDir,
    _serving: DropGuard,
}

impl Kubectl {
    /// `None` where there is no kubectl.
    async fn start() -> Option<Self> {
        if !tools::has_kubectl() {
            return None;
        }
        let world = World::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        let (server, until) = (world.cluster.clone(), shutdown.clone());
        tokio::spawn(async move { server.serve(listener, until).await });
        Some(Self { world, url, home: TempDir::new().unwrap(), _serving: shutdown.drop_guard() })
    }

    /// What kubectl apply says of a manifest, without the object's name.
    async fn apply(&self, manifest: &str) -> String {
        let home = self.home.path();
        let mut child = Command::new("kubectl")
            .args(["--server", &self.url, "--cache-dir"])
            .arg(home.join("cache"))
            .args(["apply", "-f", "-"])
            .env("HOME", home)
            .env("KUBECONFIG", home.join("none"))
            .current_dir(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(manifest.as_bytes()).await.unwrap();
        drop(stdin);
        let output =
            tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        assert!(output.status.success(), "{}", text(&output.stderr));
        self.world.settle().await;
        let said = text(&output.stdout);
        said.strip_prefix("rollout.argoproj.io/web ").unwrap_or_else(|| panic!("{said}")).to_owned()
    }

    async fn record(&self) -> String {
        let stored = self.world.stored("web").await;
        stored["metadata"]["annotations"][LAST_APPLIED_CONFIGURATION].as_str().unwrap().to_owned()
    }

    /// What a manifest decides of the object.
    async fn comparable(&self) -> Value {
        let stored = self.world.stored("web").await;
        let metadata = &stored["metadata"];
        json!([metadata["labels"], metadata["annotations"], stored["spec"]])
    }

    async fn spec(&self) -> Value {
        self.world.stored("web").await["spec"].clone()
    }
}

fn outcome(answer: &v1::ApplyManifestResponse) -> Outcome {
    answer.objects[0].outcome()
}

#[tokio::test]
async fn both_record_the_same_bytes_and_neither_sees_a_change() {
    let Some(kubectl) = Kubectl::start().await else { return };
    assert_eq!(outcome(&kubectl.world.apply(MANIFEST).await), Outcome::Created);
    let (ours, spec) = (kubectl.record().await, kubectl.spec().await);
    assert_eq!(kubectl.apply(MANIFEST).await, "unchanged");

    kubectl.world.delete("web").await;
    assert_eq!(kubectl.apply(MANIFEST).await, "created");
    assert_eq!(kubectl.record().await, ours);
    assert_eq!(kubectl.spec().await, spec);
    let again = kubectl.world.untouched(kubectl.world.apply(MANIFEST)).await;
    assert_eq!(outcome(&again), Outcome::Unchanged);
}

#[tokio::test]
async fn each_removes_what_the_other_applied_last() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let without = |field: &str| {
        let lines = MANIFEST.lines().filter(|line| !line.trim_start().starts_with(field));
        lines.collect::<Vec<_>>().join("\n")
    };
    kubectl.world.apply(MANIFEST).await;
    assert_eq!(kubectl.apply(&without("minReadySeconds")).await, "configured");
    assert_eq!(kubectl.spec().await["minReadySeconds"], Value::Null);
    assert_eq!(kubectl.apply(MANIFEST).await, "configured");
    assert_eq!(outcome(&kubectl.world.apply(&without("replicas")).await), Outcome::Configured);
    let spec = kubectl.spec().await;
    assert_eq!((&spec["replicas"], &spec["minReadySeconds"]), (&Value::Null, &Value::from(4)));
    assert_eq!(kubectl.apply(&without("replicas")).await, "unchanged");
}

#[tokio::test]
async fn both_make_the_same_of_each_change() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let changes = [
        ("nothing", json!({})),
        ("a null", json!({ "spec": { "replicas": null, "minReadySeconds": 7 } })),
        ("nulls below", json!({ "spec": { "template": { "spec": { "a": { "b": null, "c": 1 } } } } })),
        ("nulls in a list", json!({ "spec": { "extra": [{ "a": null, "b": [null, {}] }, null] } })),
        ("an empty object", json!({ "spec": { "extra": {}, "other": { "x": {} } } })),
        ("an empty list", json!({ "spec": { "extra": [], "strategy": { "canary": { "steps": [] } } } })),
        ("a scalar for an object", json!({ "spec": { "extra": { "a": 1 }, "other": 1 } })),
        ("an object for a scalar", json!({ "spec": { "extra": "x", "other": { "a": { "b": [1] } } } })),
        ("labels", json!({ "metadata": { "labels": { "app": null, "more": "x" } } })),
        ("no labels", json!({ "metadata": { "labels": {}, "annotations": { "note": "n" } } })),
        (
            "large numbers",
            json!({ "spec": { "extra": [9_007_199_254_740_993_i64, i64::MIN, 0.1, 1e21, 1e-7] } }),
        ),
        ("text", json!({ "spec": { "extra": "\u{7f}\u{1}\u{2028}</script>&\u{fffd}" } })),
    ];
    let manifest = |change: &Value| {
        let mut manifest = crate::world::manifest("web");
        // Here a null stands in the manifest, and does not remove.
        overlay(&mut manifest, change);
        manifest.to_string()
    };
    for (from, before) in &changes {
        for (to, after) in changes.iter().step_by(3).chain(&changes[..1]) {
            let (before, after) = (manifest(before), manifest(after));
            kubectl.world.apply(&before).await;
            let said = kubectl.world.apply(&after).await;
            let ours = kubectl.comparable().await;
            kubectl.world.delete("web").await;
            kubectl.world.apply(&before).await;
            let theirs_said = kubectl.apply(&after).await;
            assert_eq!(kubectl.comparable().await, ours, "{from}, then {to}");
            // kubectl calls configured what it sends in vain, such as a list with nulls that are not stored.
            if theirs_said == "unchanged" {
                assert_eq!(outcome(&said), Outcome::Unchanged, "{from}, then {to}");
            }
            kubectl.world.delete("web").await;
        }
    }
}

/// Writes the fields of one value over those of another, nulls included.
fn overlay(value: &mut Value, over: &Value) {
    match over {
        Value::Object(fields) if value.is_object() => {
            for (key, field) in fields {
                overlay(&mut value[key], field);
            }
        }
        other => *value = other.clone(),
    }
}
