//! `rolloutd dev --cluster-only` and `--data-dir`: a cluster that stays, and that another process serves.

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use rolloutd::simcluster::TERMINATION_ANNOTATION;
use serde_json::json;

use crate::durability::client;
use crate::kubernetes;
use crate::process::{Dev, ROLLOUTD, Running, fails, get, until};
use crate::serve::Serve;

/// A `rolloutd dev --cluster-only` that runs.
pub struct ClusterOnly {
    pub running: Running,
    pub kubernetes: String,
    pub kubeconfig: PathBuf,
}

impl ClusterOnly {
    /// With the cluster of `folder`.
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(ROLLOUTD);
        command.args(["dev", "--cluster-only", "--data-dir"]).arg(folder).args(arguments);
        let mut running = Running::start(command.stdout(Stdio::piped()));
        let mut lines = running.output().lines();
        let mut announced = |what: &str| {
            let line = lines.next().expect("it says where it is").expect("its output is text");
            let value = line.strip_prefix(what).unwrap_or_else(|| panic!("{what} is not in {line:?}"));
            value.trim().to_owned()
        };
        Self { kubernetes: announced("Kubernetes"), kubeconfig: announced("kubeconfig").into(), running }
    }

    pub fn address(&self) -> SocketAddr {
        self.kubernetes.strip_prefix("http://").expect("a URL").parse().expect("an address")
    }
}

#[test]
fn a_cluster_stays_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("deep/er");
    let mut first = ClusterOnly::start(&data, &[]);
    assert_eq!(get(first.address(), "/version").map(|(status, _)| status), Some(200));
    assert_eq!(first.kubeconfig, data.join("kubeconfig"));
    for (path, mode) in [(&first.kubeconfig, 0o600), (&data.join("cluster.redb"), 0o600), (&data, 0o700)] {
        let found = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{}", path.display());
    }
    let (code, err) = fails(Command::new(ROLLOUTD).args(["dev", "--cluster-only", "--data-dir"]).arg(&data));
    assert_eq!(code, Some(1));
    assert!(err.contains("--data-dir") && err.contains("another process uses this cluster"), "{err}");
    first.running.signal("TERM");
    assert_eq!(first.running.ended(), Some(0));
    let kubeconfig = std::fs::read_to_string(&first.kubeconfig).unwrap();

    let mut second = ClusterOnly::start(&data, &[]);
    assert_eq!(second.kubernetes, first.kubernetes, "the port is the same");
    assert_eq!(std::fs::read_to_string(&second.kubeconfig).unwrap(), kubeconfig);
    second.running.signal("KILL");
    second.running.ended();
    // A flag wins, and a port that somebody else has is not waited for.
    let taken = std::net::TcpListener::bind(first.address()).unwrap();
    let mut third = ClusterOnly::start(&data, &["--loglevel", "error"]);
    assert_ne!(third.kubernetes, first.kubernetes);
    assert!(std::fs::read_to_string(&third.kubeconfig).unwrap().contains(&third.kubernetes));
    third.running.signal("INT");
    assert_eq!(third.running.ended(), Some(0));
    drop(taken);
    let asked = first.address().to_string();
    let fourth = ClusterOnly::start(&data, &["--kubernetes", &asked]);
    assert_eq!(fourth.address().to_string(), asked);
}

#[test]
fn a_damaged_cluster_is_an_error_and_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = ClusterOnly::start(folder.path(), &[]);
    first.running.signal("TERM");
    assert_eq!(first.running.ended(), Some(0));
    let file = folder.path().join("cluster.redb");
    let whole = std::fs::read(&file).unwrap();
    for length in [0, 1000, whole.len() / 2] {
        std::fs::write(&file, &whole[..length]).unwrap();
        let (code, err) =
            fails(Command::new(ROLLOUTD).args(["dev", "--cluster-only", "--data-dir"]).arg(folder.path()));
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("cluster.redb: damaged") && !err.contains("panicked"), "{err}");
        assert!(err.contains("put back a copy"), "{err}");
    }
    std::fs::write(&file, &whole).unwrap();
    let again = ClusterOnly::start(folder.path(), &[]);
    assert_eq!(until("an answer", || get(again.address(), "/readyz")).0, 200);
}

/// Name, uid, start and restarts of each pod.
async fn pods(client: &Client) -> Vec<String> {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let line = |pod: &Pod| {
        let status = pod.status.clone().unwrap_or_default();
        let restarts: Vec<i32> =
            status.container_statuses.iter().flatten().map(|container| container.restart_count).collect();
        format!("{} {:?} {:?} {restarts:?}", pod.name_any(), pod.uid(), status.start_time)
    };
    pods.list(&ListParams::default()).await.unwrap().iter().map(line).collect()
}

#[test]
fn another_process_serves_a_cluster_that_is_killed_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = ClusterOnly::start(folder.path(), &[]);
    let runtime = kubernetes::runtime();
    let kube = runtime.block_on(client(&first.kubeconfig));
    let mut serve = Serve::start(&first.kubeconfig, "default");
    until("ready", || get(serve.probes, "/readyz").filter(|(status, _)| *status == 200));
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/examples/canary.yaml");
    serve.rolloutctl("default", &["apply", "-f", manifest]);
    serve.rolloutctl("default", &["get", "web", "--until", "healthy"]);
    let before = runtime.block_on(pods(&kube));
    assert_eq!(before.len(), 5, "{before:?}");

    first.running.signal("KILL");
    first.running.ended();
    let second = ClusterOnly::start(folder.path(), &[]);
    assert_eq!(second.kubernetes, first.kubernetes);
    serve.rolloutctl("default", &["set", "image", "web", "web=nginx:1.28"]);
    // The watches of the other process take a moment to come back.
    let rollout = GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Rollout");
    let rollouts: Api<DynamicObject> =
        Api::default_namespaced_with(kube.clone(), &ApiResource::from_gvk(&rollout));
    until("paused", || {
        let rollout = runtime.block_on(rollouts.get("web")).unwrap();
        (rollout.data["status"]["phase"] == "Paused").then_some(())
    });
    // One pod makes room for the canary, and takes a moment to stop.
    let after = until("five pods", || Some(runtime.block_on(pods(&kube))).filter(|pods| pods.len() == 5));
    let kept = before.iter().filter(|pod| after.contains(pod)).count();
    assert_eq!(kept, 4, "{before:#?} became {after:#?}");
    serve.running.signal("TERM");
    assert_eq!(serve.running.ended(), Some(0));
}

#[test]
fn a_pod_that_was_stopping_stops_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = ClusterOnly::start(folder.path(), &[]);
    let runtime = kubernetes::runtime();
    let kube = runtime.block_on(client(&first.kubeconfig));
    let pods: Api<Pod> = Api::default_namespaced(kube);
    let pod = json!({
        "metadata": { "name": "slow", "annotations": { TERMINATION_ANNOTATION: "2s" } },
        "spec": { "containers": [{ "name": "c", "image": "nginx:1" }] },
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    runtime.block_on(pods.create(&PostParams::default(), &pod)).unwrap();
    until("running", || {
        let pod = runtime.block_on(pods.get("slow")).unwrap();
        pod.status.filter(|status| status.phase.as_deref() == Some("Running"))
    });
    runtime.block_on(pods.delete("slow", &DeleteParams::default())).unwrap();
    first.running.signal("KILL");
    first.running.ended();
    let _second = ClusterOnly::start(folder.path(), &[]);
    let left = runtime.block_on(pods.get("slow")).expect("it had time to stop");
    assert!(left.metadata.deletion_timestamp.is_some());
    until("the pod is gone", || runtime.block_on(pods.get_opt("slow")).unwrap().is_none().then_some(()));
}

#[test]
fn cluster_time_does_not_go_back_after_it_ran_faster() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let runtime = kubernetes::runtime();
    let made_at = |kubeconfig: &Path, name: &str| {
        let map: ConfigMap = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        let create = async {
            let maps: Api<ConfigMap> = Api::default_namespaced(client(kubeconfig).await);
            maps.create(&PostParams::default(), &map).await.unwrap().creation_timestamp().unwrap().0
        };
        runtime.block_on(create)
    };
    let mut fast = Dev::with(&["--speed", "1000", "--data-dir", data]);
    let begin = made_at(&fast.kubeconfig, "begin");
    let last = until("a quarter of an hour", || {
        let name = format!("tick-{}", fastrand::u64(..));
        Some(made_at(&fast.kubeconfig, &name)).filter(|time| time.duration_since(begin).as_secs() > 900)
    });
    fast.running.signal("KILL");
    fast.running.ended();
    let real = ClusterOnly::start(folder.path(), &["--loglevel", "error"]);
    let next = made_at(&real.kubeconfig, "next");
    assert!(next >= last, "{next} is before {last}");
    assert!(next.duration_since(last).as_secs() < 60, "{next} is not soon after {last}");
}
