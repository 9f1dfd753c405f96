//! Sets and the number of their pods.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::lab::{Lab, Observer};
use crate::pods::is_ready;

/// A set of pods with one container; `annotations` are the pods'.
pub(crate) fn set(name: &str, replicas: u32, image: &str, annotations: &[(&str, &str)]) -> Value {
    let annotations: BTreeMap<&str, &str> = annotations.iter().copied().collect();
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": { "name": name },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name }, "annotations": annotations },
                "spec": { "containers": [{ "name": "app", "image": image }] },
            },
        },
    })
}

pub(crate) fn status(sets: &BTreeMap<String, ReplicaSet>, name: &str) -> ReplicaSetStatus {
    sets.get(name).and_then(|set| set.status.clone()).unwrap_or_default()
}

/// Replicas, ready, available and terminating ones.
fn counts(sets: &BTreeMap<String, ReplicaSet>, name: &str) -> [i32; 4] {
    let status = status(sets, name);
    let count = |number: Option<i32>| number.unwrap_or(0);
    [
        status.replicas,
        count(status.ready_replicas),
        count(status.available_replicas),
        count(status.terminating_replicas),
    ]
}

pub(crate) async fn all_available(sets: &mut Observer<ReplicaSet>, name: &str, replicas: i32) {
    let wanted = [replicas, replicas, replicas, 0];
    sets.until("all pods are available", |sets| counts(sets, name) == wanted).await;
}

async fn scale(lab: &Lab, name: &str, replicas: u32) {
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    lab.api::<ReplicaSet>().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

pub(crate) async fn a_set_is_scaled_up_and_down(lab: Lab) {
    let _cluster = lab.cluster().await;
    let (mut sets, mut pods) = (lab.observe::<ReplicaSet>().await, lab.observe::<Pod>().await);
    let mut events = lab.observe::<Event>().await;
    let created: ReplicaSet = lab.create(set("web", 3, "web:1", &[])).await;
    all_available(&mut sets, "web", 3).await;
    pods.until("three pods are there", |pods| pods.len() == 3).await;
    assert_eq!(pods.ever(), 3, "no pod too many was ever made");
    for (name, pod) in &pods.now {
        let (base, suffix) = name.rsplit_once('-').unwrap();
        assert_eq!(base, "web");
        assert!(suffix.len() == 5 && suffix.bytes().all(|letter| letter.is_ascii_alphanumeric()), "{name}");
        let owner = &pod.owner_references()[0];
        assert_eq!(Some(&owner.uid), created.metadata.uid.as_ref());
        assert_eq!(
            (owner.kind.as_str(), owner.controller, owner.block_owner_deletion),
            ("ReplicaSet", Some(true), Some(true))
        );
        assert!(pod.spec.as_ref().unwrap().node_name.as_deref().unwrap().starts_with("sim-node-"));
    }
    let status = status(&sets.now, "web");
    assert_eq!(status.fully_labeled_replicas, Some(3));
    assert_eq!(status.observed_generation, Some(1));
    events.until("each pod's creation is told", |events| told(events, "SuccessfulCreate") == 3).await;

    scale(&lab, "web", 1).await;
    all_available(&mut sets, "web", 1).await;
    pods.until("one pod is left", |pods| pods.len() == 1).await;
    assert_eq!(self::status(&sets.now, "web").observed_generation, Some(2));
    events.until("each pod's deletion is told", |events| told(events, "SuccessfulDelete") == 2).await;

    scale(&lab, "web", 0).await;
    pods.until("no pod is left", BTreeMap::is_empty).await;
    scale(&lab, "web", 5).await;
    all_available(&mut sets, "web", 5).await;
    pods.until("five pods are there", |pods| pods.len() == 5).await;
    assert_eq!(pods.ever(), 8, "no pod too many was ever made");
}

fn told(events: &BTreeMap<String, Event>, reason: &str) -> usize {
    events.values().filter(|event| event.reason.as_deref() == Some(reason)).count()
}

pub(crate) async fn pods_that_start_together_become_ready_together(lab: Lab) {
    let _cluster = lab.cluster().await;
    let mut sets = lab.observe::<ReplicaSet>().await;
    let slow = [("simcluster.rolloutd.dev/start-up", "2s")];
    lab.create::<ReplicaSet>(set("web", 10, "web:1", &slow)).await;
    all_available(&mut sets, "web", 10).await;
    // Ready pods settle into few statuses, most often one; each pod for itself would make ten.
    let ready: Vec<i32> = sets
        .history
        .iter()
        .filter_map(|set| set.status.as_ref()?.ready_replicas)
        .filter(|ready| *ready > 0)
        .collect();
    assert!(ready.len() <= 4, "ready replicas went {ready:?}");
}

pub(crate) async fn terminating_pods_do_not_count(lab: Lab) {
    let _cluster = lab.cluster().await;
    let (mut sets, mut pods) = (lab.observe::<ReplicaSet>().await, lab.observe::<Pod>().await);
    let lingering = [("simcluster.rolloutd.dev/termination", "3s")];
    lab.create::<ReplicaSet>(set("web", 3, "web:1", &lingering)).await;
    all_available(&mut sets, "web", 3).await;
    scale(&lab, "web", 1).await;
    sets.until("two pods terminate", |sets| counts(sets, "web") == [1, 1, 1, 2]).await;
    pods.until("two pods are on their way out", |pods| {
        pods.len() == 3 && pods.values().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count() == 2
    })
    .await;
    all_available(&mut sets, "web", 1).await;
    pods.until("they are gone", |pods| pods.len() == 1).await;
}

pub(crate) async fn the_cheapest_pod_goes_first(lab: Lab) {
    let _cluster = lab.cluster().await;
    let (mut sets, mut pods) = (lab.observe::<ReplicaSet>().await, lab.observe::<Pod>().await);
    lab.create::<ReplicaSet>(set("web", 3, "web:1", &[])).await;
    all_available(&mut sets, "web", 3).await;
    pods.until("three pods are there", |pods| pods.len() == 3).await;
    let cheapest = pods.now.keys().nth(1).unwrap().clone();
    let annotation =
        json!({ "metadata": { "annotations": { "controller.kubernetes.io/pod-deletion-cost": "-10" } } });
    lab.api::<Pod>().patch(&cheapest, &PatchParams::default(), &Patch::Merge(annotation)).await.unwrap();
    let priced = |pod: &Pod| pod.annotations().contains_key("controller.kubernetes.io/pod-deletion-cost");
    pods.until("its price is known", |pods| pods.get(&cheapest).is_some_and(priced)).await;
    // The cluster sees it through a watch of its own; the order of creation tells that it has.
    lab.create::<Pod>(json!({
        "metadata": { "name": "marker" },
        "spec": { "containers": [{ "name": "app", "image": "web:1" }] },
    }))
    .await;
    pods.until("the marker runs", |pods| {
        pods.get("marker").is_some_and(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()))
    })
    .await;
    scale(&lab, "web", 2).await;
    pods.until("one pod is gone", |pods| pods.len() == 3).await;
    assert!(!pods.now.contains_key(&cheapest), "{cheapest} should have gone");
}

pub(crate) async fn min_ready_seconds_delay_availability(lab: Lab) {
    let _cluster = lab.cluster().await;
    let mut sets = lab.observe::<ReplicaSet>().await;
    let mut patient = set("web", 2, "web:1", &[]);
    patient["spec"]["minReadySeconds"] = json!(3);
    lab.create::<ReplicaSet>(patient).await;
    sets.until("pods are ready and not available", |sets| counts(sets, "web") == [2, 2, 0, 0]).await;
    let began = tokio::time::Instant::now();
    all_available(&mut sets, "web", 2).await;
    // Kubernetes keeps whole seconds, so that up to one is lost.
    assert!(began.elapsed() > Duration::from_millis(1500), "available after {:?}", began.elapsed());
}

pub(crate) async fn three_hundred_pods_become_ready_and_go(lab: Lab) {
    let _cluster = lab.cluster().await;
    let (mut sets, mut pods) = (lab.observe::<ReplicaSet>().await, lab.observe::<Pod>().await);
    let began = tokio::time::Instant::now();
    lab.create::<ReplicaSet>(set("web", 300, "web:1", &[])).await;
    all_available(&mut sets, "web", 300).await;
    pods.until("all pods are ready", |pods| pods.values().filter(|pod| is_ready(pod)).count() == 300).await;
    println!("300 pods were ready after {:?}", began.elapsed());
    assert_eq!(pods.ever(), 300, "no pod too many was ever made");
    let addresses: std::collections::BTreeSet<&String> =
        pods.now.values().filter_map(|pod| pod.status.as_ref()?.pod_ip.as_ref()).collect();
    assert_eq!(addresses.len(), 300);
    let began = tokio::time::Instant::now();
    scale(&lab, "web", 0).await;
    pods.until("all pods are gone", BTreeMap::is_empty).await;
    println!("300 pods were gone after {:?}", began.elapsed());
}

/// Pod security admission refuses pods, not sets.
pub(crate) async fn a_refused_creation_is_told_until_it_succeeds(lab: Lab) {
    let _cluster = lab.cluster().await;
    let mut sets = lab.observe::<ReplicaSet>().await;
    let mut events = lab.observe::<Event>().await;
    let label =
        |level: Value| json!({ "metadata": { "labels": { "pod-security.kubernetes.io/enforce": level } } });
    let namespaces: Api<Namespace> = Api::all(lab.client.clone());
    let restrict = Patch::Merge(label(json!("restricted")));
    namespaces.patch(&lab.namespace, &PatchParams::default(), &restrict).await.unwrap();
    lab.create::<ReplicaSet>(set("web", 2, "web:1", &[])).await;
    let failure = |sets: &BTreeMap<String, ReplicaSet>| {
        let conditions = status(sets, "web").conditions.unwrap_or_default();
        conditions.into_iter().find(|condition| condition.type_.as_deref() == Some("ReplicaFailure"))
    };
    sets.until("the failure is told", |sets| failure(sets).is_some()).await;
    let told = failure(&sets.now).unwrap();
    assert_eq!((told.status.as_deref(), told.reason.as_deref()), (Some("True"), Some("FailedCreate")));
    assert!(told.message.as_deref().unwrap().contains("violates PodSecurity"), "{told:?}");
    events
        .until("an event tells it", |events| {
            events.values().any(|event| {
                event.reason.as_deref() == Some("FailedCreate") && event.type_.as_deref() == Some("Warning")
            })
        })
        .await;
    let release = Patch::Merge(label(Value::Null));
    namespaces.patch(&lab.namespace, &PatchParams::default(), &release).await.unwrap();
    all_available(&mut sets, "web", 2).await;
    assert!(failure(&sets.now).is_none());
}
