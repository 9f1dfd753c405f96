//! What people do with kubectl, against the HTTP listener.
//!
//! Skipped, with a printed line, where kubectl is not on the PATH; with ROLLOUTD_REQUIRE_TOOLS set that fails instead.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use rolloutd::apiserver::{ApiServer, Config};
use rolloutd::clock::{Clock, real_sleep};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::{DEADLINE, create, gizmo, gizmo_definition, gizmos, pod};
use crate::tools;

/// A served API and a kubectl that knows nothing else.
struct Kubectl {
    server: ApiServer,
    client: Client,
    url: String,
    home: TempDir,
    _serving: DropGuard,
}

/// What kubectl said.
#[derive(Debug)]
struct Said {
    success: bool,
    out: String,
    err: String,
}

impl Kubectl {
    /// `None` where there is no kubectl.
    async fn start() -> Option<Self> {
        if !tools::has_kubectl() {
            return None;
        }
        let server = ApiServer::new(Config::new(Clock::wall()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = server.client("test");
        let shutdown = CancellationToken::new();
        let until = shutdown.clone();
        let served = server.clone();
        tokio::spawn(async move { served.serve(listener, until).await });
        Some(Self { server, client, url, home: TempDir::new().unwrap(), _serving: shutdown.drop_guard() })
    }

    /// Runs kubectl with `arguments`, split at spaces, and `input` on its standard input.
    async fn try_run(&self, arguments: &str, input: &str) -> Said {
        let home = self.home.path();
        let mut child = Command::new("kubectl")
            .args(["--server", &self.url, "--cache-dir"])
            .arg(home.join("cache"))
            .args(arguments.split(' '))
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
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output =
            timeout(DEADLINE, child.wait_with_output()).await.expect("kubectl ends in time").unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
        Said { success: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// As [`Self::try_run`], of what must succeed; returns what was printed.
    async fn run(&self, arguments: &str, input: &str) -> String {
        let said = self.try_run(arguments, input).await;
        assert!(said.success, "kubectl {arguments}: {said:?}");
        said.out
    }

    fn file(&self, name: &str, content: &Value) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, content.to_string()).unwrap();
        path
    }
}

/// The words of the lines of a table.
fn cells(table: &str) -> Vec<Vec<&str>> {
    table
        .lines()
        .map(|line| line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect()
}

fn first_column(table: &str) -> Vec<&str> {
    cells(table).into_iter().skip(1).map(|row| row[0]).collect()
}

fn replica_set(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name}, "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "image": "nginx:1"}]},
        },
    }})
}

#[tokio::test]
async fn get_prints_tables_yaml_and_selections() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let pods: Api<Pod> = Api::default_namespaced(kubectl.client.clone());
    for (name, app, node) in [("a", "web", "n1"), ("b", "api", "n2")] {
        let mut pod = pod(name);
        pod.metadata.labels = Some([("app".to_owned(), app.to_owned())].into());
        pod.spec.as_mut().unwrap().node_name = Some(node.to_owned());
        create(&pods, &pod).await;
    }
    create(&Api::namespaced(kubectl.client.clone(), "kube-system"), &pod("c")).await;
    let table = kubectl.run("get pods", "").await;
    let table = cells(&table);
    assert_eq!(table[0], ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(table[1][..4], ["a", "0/1", "Pending", "0"]);
    assert!(kubectl.run("get po -o wide", "").await.contains("NOMINATED NODE"));
    assert_eq!(first_column(&kubectl.run("get pods -l app=web", "").await), ["a"]);
    assert_eq!(first_column(&kubectl.run("get pods --field-selector spec.nodeName=n2", "").await), ["b"]);
    let everywhere = kubectl.run("get pods -A", "").await;
    assert_eq!(first_column(&everywhere), ["default", "default", "kube-system"]);
    let yaml = kubectl.run("get pod a -o yaml", "").await;
    assert!(yaml.starts_with("apiVersion: v1\nkind: Pod\nmetadata:\n"), "{yaml}");
    assert!(yaml.contains("dnsPolicy: ClusterFirst"), "{yaml}");
    assert_eq!(kubectl.run("get pods -o jsonpath={.items[*].spec.nodeName}", "").await, "n1 n2");
    assert_eq!(kubectl.run("get pods,configmaps -o name", "").await, "pod/a\npod/b");
    let missing = kubectl.try_run("get pod z", "").await;
    assert_eq!(missing.err, "Error from server (NotFound): pods \"z\" not found");
    let unknown = kubectl.try_run("get gadgets", "").await;
    assert_eq!(unknown.err, "error: the server doesn't have a resource type \"gadgets\"");
    let described = kubectl.run("describe pod a", "").await;
    for part in ["n1", "app=web", "nginx:1", "BestEffort"] {
        assert!(described.contains(part), "{part}: {described}");
    }
}

#[tokio::test]
async fn definitions_and_their_objects_are_applied_again_with_changes() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let definition = gizmo_definition().to_string();
    let name = "customresourcedefinition.apiextensions.k8s.io/gizmos.ex.dev";
    assert_eq!(kubectl.run("apply -f -", &definition).await, format!("{name} created"));
    assert_eq!(kubectl.run("apply -f -", &definition).await, format!("{name} unchanged"));
    kubectl.run("wait --for=condition=Established crd/gizmos.ex.dev", "").await;

    let mut object = gizmo("a");
    assert_eq!(kubectl.run("apply -f -", &object.to_string()).await, "gizmo.ex.dev/a created");
    assert_eq!(kubectl.run("apply -f -", &object.to_string()).await, "gizmo.ex.dev/a unchanged");
    object["spec"] = json!({"replicas": 3, "mode": "safe"});
    assert_eq!(kubectl.run("apply -f -", &object.to_string()).await, "gizmo.ex.dev/a configured");
    object["spec"] = json!({"mode": "safe"});
    assert_eq!(kubectl.run("apply -f -", &object.to_string()).await, "gizmo.ex.dev/a configured");
    // What apply takes away falls back to its default.
    assert_eq!(kubectl.run("get gizmo a -o jsonpath={.spec}", "").await, r#"{"mode":"safe","replicas":1}"#);
    let table = kubectl.run("get gz", "").await;
    assert_eq!(cells(&table)[0], ["NAME", "REPLICAS", "AGE"]);
    assert_eq!(cells(&table)[1][..2], ["a", "1"]);

    object["spec"] = json!({"mode": "safe", "colour": "red"});
    let unknown = kubectl.try_run("apply -f -", &object.to_string()).await;
    assert!(unknown.err.contains("unknown field \"spec.colour\""), "{unknown:?}");
    object["spec"] = json!({"mode": "slow"});
    let invalid = kubectl.try_run("apply -f -", &object.to_string()).await;
    assert!(
        invalid.err.contains("Unsupported value: \"slow\": supported values: \"fast\", \"safe\""),
        "{invalid:?}"
    );

    let explained = kubectl.run("explain gizmo.spec", "").await;
    assert!(explained.contains("What is wanted."), "{explained}");
    assert!(explained.contains("replicas\t<integer>"), "{explained}");
    assert!(
        kubectl.run("explain pod.spec.restartPolicy", "").await.contains("FIELD: restartPolicy <string>")
    );
}

#[tokio::test]
async fn built_in_kinds_are_applied_again_with_changes() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let mut set = replica_set("web");
    let applied = "replicaset.apps/web";
    assert_eq!(kubectl.run("apply -f -", &set.to_string()).await, format!("{applied} created"));
    assert_eq!(kubectl.run("apply -f -", &set.to_string()).await, format!("{applied} unchanged"));
    // What others added stays; what was applied before and is no more is taken away.
    let spec =
        "{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"side\",\"image\":\"proxy:1\"}]}}}}";
    kubectl.run(&format!("patch rs web -p {spec}"), "").await;
    set["spec"]["template"]["spec"]["containers"] =
        json!([{"name": "c", "image": "nginx:2", "env": [{"name": "A", "value": "1"}]}]);
    set["metadata"]["labels"] = json!({"tier": "front"});
    assert_eq!(kubectl.run("apply -f -", &set.to_string()).await, format!("{applied} configured"));
    let containers =
        "get rs web -o jsonpath={range.spec.template.spec.containers[*]}{.name}={.image}{.env[*].name};{end}";
    assert_eq!(kubectl.run(containers, "").await, "side=proxy:1;c=nginx:2A;");
    set["spec"]["template"]["spec"]["containers"] = json!([{"name": "d", "image": "nginx:3"}]);
    set["metadata"]["labels"] = json!({});
    assert_eq!(kubectl.run("apply -f -", &set.to_string()).await, format!("{applied} configured"));
    assert_eq!(kubectl.run(containers, "").await, "d=nginx:3;side=proxy:1;");
    assert_eq!(kubectl.run("get rs web -o jsonpath={.metadata.labels}", "").await, "");
    let server_side = kubectl.try_run("apply --server-side -f -", &set.to_string()).await;
    assert!(!server_side.success && server_side.err.contains("server-side apply"), "{server_side:?}");
    set["spec"]["replicas"] = json!(0);
    assert_eq!(kubectl.run("replace -f -", &set.to_string()).await, format!("{applied} replaced"));
    assert_eq!(kubectl.run("get rs web -o jsonpath={.spec.replicas}", "").await, "0");
}

#[tokio::test]
async fn objects_are_created_and_patched() {
    let Some(kubectl) = Kubectl::start().await else { return };
    gizmos(&kubectl.client).await;
    assert_eq!(kubectl.run("create namespace team", "").await, "namespace/team created");
    assert_eq!(kubectl.run("create configmap a --from-literal=k=v -n team", "").await, "configmap/a created");
    let map: ConfigMap = Api::namespaced(kubectl.client.clone(), "team").get("a").await.unwrap();
    assert_eq!(map.data.unwrap()["k"], "v");
    let file = kubectl.file("set.json", &replica_set("web"));
    assert_eq!(
        kubectl.run(&format!("create -f {}", file.display()), "").await,
        "replicaset.apps/web created"
    );
    let again = kubectl.try_run(&format!("create -f {}", file.display()), "").await;
    assert!(again.err.contains("(AlreadyExists)"), "{again:?}");
    assert_eq!(kubectl.run("scale rs web --replicas=4", "").await, "replicaset.apps/web scaled");
    assert_eq!(kubectl.run("get rs web -o jsonpath={.spec.replicas}", "").await, "4");

    kubectl.run("create -f -", &gizmo("a").to_string()).await;
    let patches = [
        ("patch gizmo a --type=merge -p {\"spec\":{\"replicas\":2}}", "{.spec.replicas}", "2"),
        (
            "patch gizmo a --type=json -p [{\"op\":\"replace\",\"path\":\"/spec/replicas\",\"value\":3}]",
            "{.spec.replicas}",
            "3",
        ),
        (
            "patch gizmo a --type=merge --subresource=status -p {\"status\":{\"phase\":\"Ready\"}}",
            "{.status.phase}",
            "Ready",
        ),
        ("label gizmo a tier=front", "{.metadata.labels.tier}", "front"),
        ("annotate rs web note=here", "{.metadata.labels.tier}", "front"),
        ("scale gizmo a --replicas=5", "{.spec.replicas}", "5"),
    ];
    for (arguments, path, value) in patches {
        kubectl.run(arguments, "").await;
        assert_eq!(kubectl.run(&format!("get gizmo a -o jsonpath={path}"), "").await, value, "{arguments}");
    }
    let dry = kubectl.run("create configmap b --dry-run=server", "").await;
    assert_eq!(dry, "configmap/b created (server dry run)");
    assert_eq!(kubectl.run("get configmaps -o name", "").await, "");
}

/// Removes finalizers as the garbage collector does when dependents are gone.
async fn collect(client: Client) {
    let api: Api<ReplicaSet> = Api::default_namespaced(client);
    let mut events =
        Box::pin(watcher(api.clone(), watcher::Config::default()).default_backoff().applied_objects());
    while let Some(set) = events.try_next().await.unwrap() {
        if set.metadata.deletion_timestamp.is_some() {
            assert_eq!(set.finalizers(), ["foregroundDeletion"]);
            let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            api.patch(&set.name_any(), &PatchParams::default(), &patch).await.unwrap();
        }
    }
}

#[tokio::test]
async fn deletions_in_the_back_and_foreground() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let api: Api<ReplicaSet> = Api::default_namespaced(kubectl.client.clone());
    for name in ["back", "front", "orphaning"] {
        create(&api, &serde_json::from_value(replica_set(name)).unwrap()).await;
    }
    // Later versions name the namespace too.
    assert!(kubectl.run("delete rs back", "").await.starts_with("replicaset.apps \"back\" deleted"));
    assert!(api.get_opt("back").await.unwrap().is_none());
    let collector = tokio::spawn(collect(kubectl.client.clone()));
    // Returns when the object is gone, which the collector lets happen.
    kubectl.run("delete rs front --cascade=foreground", "").await;
    assert!(api.get_opt("front").await.unwrap().is_none());
    collector.abort();
    kubectl.run("delete rs orphaning --cascade=orphan --wait=false", "").await;
    assert_eq!(api.get("orphaning").await.unwrap().finalizers(), ["orphan"]);
    let gone = kubectl.try_run("delete rs front", "").await;
    assert_eq!(gone.err, "Error from server (NotFound): replicasets.apps \"front\" not found");
}

#[tokio::test]
async fn wait_follows_conditions_fields_and_deletions() {
    let Some(kubectl) = Kubectl::start().await else { return };
    let pods: Api<Pod> = Api::default_namespaced(kubectl.client.clone());
    create(&pods, &pod("a")).await;
    let steps = [
        ("wait pod/a --for=condition=Ready", "pod/a condition met"),
        ("wait pod/a --for=jsonpath={.status.phase}=Succeeded", "pod/a condition met"),
        ("wait pod/a --for=delete", "pod/a condition met"),
    ];
    for (index, (arguments, said)) in steps.into_iter().enumerate() {
        let change = async {
            // Not before kubectl watches.
            while kubectl.server.open_watches() == 0 {
                real_sleep(Duration::from_millis(5)).await;
            }
            let status = [
                json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
                json!({"status": {"phase": "Succeeded"}}),
            ];
            match status.get(index) {
                Some(status) => {
                    pods.patch_status("a", &PatchParams::default(), &Patch::Merge(status))
                        .await
                        .map(drop)
                        .unwrap();
                }
                None => drop(pods.delete("a", &Default::default()).await.unwrap()),
            }
        };
        let (out, changed) = tokio::join!(kubectl.run(arguments, ""), timeout(DEADLINE, change));
        changed.expect("kubectl watches in time");
        assert_eq!(out, said, "{arguments}");
    }
}
