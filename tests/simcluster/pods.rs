//! Pods and what becomes of them.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::lab::{CRASHING, Lab, MISSING, NEVER_READY, Observer};
use crate::replica_sets::{all_available, set, status};

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("none")
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready") == "True"
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> &'a str {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .map_or("none", |condition| condition.status.as_str())
}

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

fn waiting(pod: &Pod) -> &str {
    let reason = || container(pod)?.state.as_ref()?.waiting.as_ref()?.reason.as_deref();
    reason().unwrap_or("none")
}

fn bare(name: &str, image: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "containers": [{ "name": "app", "image": image }] } })
}

/// A pod, once `holds` of it.
async fn pod(pods: &mut Observer<Pod>, what: &str, holds: impl Fn(&Pod) -> bool) -> Pod {
    pods.until(what, |pods| pods.values().any(&holds)).await;
    pods.now.values().find(|pod| holds(pod)).unwrap().clone()
}

pub(crate) async fn a_pod_reports_what_a_kubelet_reports(lab: Lab) {
    let _cluster = lab.cluster().await;
    let mut pods = lab.observe::<Pod>().await;
    lab.create::<ReplicaSet>(set("web", 1, "web:1", &[])).await;
    let ready = pod(&mut pods, "the pod is ready", is_ready).await;
    let mut stages: Vec<String> = pods
        .history
        .iter()
        .map(|pod| format!("{} {} {}", phase(pod), waiting(pod), condition(pod, "Ready")))
        .collect();
    stages.dedup();
    assert_eq!(
        stages,
        ["Pending none none", "Pending ContainerCreating False", "Running none False", "Running none True"]
    );
    for kind in ["PodScheduled", "Initialized", "ContainersReady", "Ready"] {
        assert_eq!(condition(&ready, kind), "True", "{kind}");
    }
    let status = ready.status.clone().unwrap();
    assert!(status.conditions.iter().flatten().all(|condition| condition.last_transition_time.is_some()));
    assert!(status.start_time.is_some() && status.qos_class.is_some());
    assert!(status.pod_ip.as_deref().is_some_and(|ip| ip.starts_with("10.244.")), "{:?}", status.pod_ip);
    assert!(status.host_ip.as_deref().is_some_and(|ip| ip.starts_with("192.168.")), "{:?}", status.host_ip);
    let container = container(&ready).unwrap();
    assert_eq!((container.name.as_str(), container.image.as_str()), ("app", "web:1"));
    assert_eq!((container.ready, container.started, container.restart_count), (true, Some(true), 0));
    assert!(container.state.as_ref().unwrap().running.as_ref().unwrap().started_at.is_some());
    assert!(container.container_id.is_some() && !container.image_id.is_empty());
}

pub(crate) async fn a_pod_may_never_become_ready(lab: Lab) {
    let _cluster = lab.cluster().await;
    let (mut sets, mut pods) = (lab.observe::<ReplicaSet>().await, lab.observe::<Pod>().await);
    lab.create::<ReplicaSet>(set("web", 1, NEVER_READY, &[])).await;
    pod(&mut pods, "the pod runs", |pod| phase(pod) == "Running").await;
    // Ten times its start-up time.
    pods.linger(std::time::Duration::from_secs(2)).await;
    assert!(!pods.history.iter().any(is_ready));
    sets.until("the set has a pod that is not ready", |sets| status(sets, "web").replicas == 1).await;
    assert_eq!(status(&sets.now, "web").ready_replicas.unwrap_or(0), 0);
}

pub(crate) async fn a_crashing_pod_backs_off(lab: Lab) {
    let _cluster = lab.cluster().await;
    let mut pods = lab.observe::<Pod>().await;
    lab.create::<ReplicaSet>(set("web", 1, CRASHING, &[])).await;
    let restarts = |pod: &Pod| container(pod).map_or(0, |container| container.restart_count);
    let crashed = pod(&mut pods, "it backs off after some restarts", |pod| {
        waiting(pod) == "CrashLoopBackOff" && restarts(pod) >= 2
    })
    .await;
    assert_eq!(phase(&crashed), "Running");
    assert!(!pods.history.iter().any(is_ready));
    let container = container(&crashed).unwrap();
    let last = container.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (1, Some("Error")));
    let message = container.state.as_ref().unwrap().waiting.as_ref().unwrap().message.as_deref().unwrap();
    assert!(message.starts_with("back-off 2s restarting failed container=app pod=web-"), "{message}");
    assert!(pods.history.iter().any(container_ended), "an exit was shown");
}

fn container_ended(pod: &Pod) -> bool {
    container(pod).and_then(|container| container.state.as_ref()?.terminated.as_ref()).is_some()
}

pub(crate) async fn an_image_may_not_be_pulled(lab: Lab) {
    let _cluster = lab.cluster().await;
    let mut pods = lab.observe::<Pod>().await;
    lab.create::<ReplicaSet>(set("web", 1, MISSING, &[])).await;
    let failed = pod(&mut pods, "pulling backs off", |pod| waiting(pod) == "ImagePullBackOff").await;
    assert_eq!(phase(&failed), "Pending");
    assert_eq!(container(&failed).unwrap().image_id, "");
    pod(&mut pods, "pulling is tried again", |pod| waiting(pod) == "ErrImagePull").await;
    let mut reasons: Vec<&str> = pods.history.iter().map(waiting).collect();
    reasons.dedup();
    assert_eq!(reasons, ["none", "ContainerCreating", "ErrImagePull", "ImagePullBackOff", "ErrImagePull"]);
}

pub(crate) async fn a_malformed_annotation_is_told_by_an_event(lab: Lab) {
    let _cluster = lab.cluster().await;
    let (mut pods, mut events) = (lab.observe::<Pod>().await, lab.observe::<Event>().await);
    let malformed = [("simcluster.rolloutd.dev/outcome", "sometimes")];
    lab.create::<ReplicaSet>(set("web", 1, "web:1", &malformed)).await;
    events
        .until("the event is there", |events| {
            events.values().any(|event| {
                event.reason.as_deref() == Some("InvalidAnnotation")
                    && event.involved_object.kind.as_deref() == Some("Pod")
                    && event.message.as_deref().is_some_and(|message| message.contains("\"sometimes\""))
            })
        })
        .await;
    pod(&mut pods, "the pod is ready nevertheless", is_ready).await;
}

pub(crate) async fn a_pod_becomes_unready_and_ready_again(lab: Lab) {
    let cluster = lab.cluster().await;
    let (mut sets, mut pods) = (lab.observe::<ReplicaSet>().await, lab.observe::<Pod>().await);
    lab.create::<ReplicaSet>(set("web", 2, "web:1", &[])).await;
    all_available(&mut sets, "web", 2).await;
    let victim = pod(&mut pods, "a pod is ready", is_ready).await.name_any();
    let ready = |sets: &BTreeMap<String, ReplicaSet>| status(sets, "web").ready_replicas.unwrap_or(0);
    cluster.make_unready(&lab.namespace, &victim).unwrap();
    sets.until("one pod is not ready", |sets| ready(sets) == 1).await;
    pods.until("it is that pod", |pods| !is_ready(&pods[&victim])).await;
    assert_eq!(condition(pods.get(&victim), "ContainersReady"), "False");
    assert!(container(pods.get(&victim)).unwrap().state.as_ref().unwrap().running.is_some());
    cluster.make_ready(&lab.namespace, &victim).unwrap();
    all_available(&mut sets, "web", 2).await;
    assert_eq!(pods.ever(), 2, "an unready pod is not replaced");
    let error = cluster.make_unready(&lab.namespace, "nobody").unwrap_err();
    assert_eq!(error.to_string(), format!("no node of this cluster runs pod {}/nobody", lab.namespace));
}

pub(crate) async fn a_crashed_pod_is_restarted(lab: Lab) {
    let cluster = lab.cluster().await;
    let mut pods = lab.observe::<Pod>().await;
    lab.create::<ReplicaSet>(set("web", 1, "web:1", &[])).await;
    let victim = pod(&mut pods, "the pod is ready", is_ready).await.name_any();
    cluster.crash(&lab.namespace, &victim).unwrap();
    pod(&mut pods, "its container has ended", |pod| container_ended(pod) && !is_ready(pod)).await;
    let restarted = pod(&mut pods, "it is ready again", is_ready).await;
    assert_eq!(restarted.name_any(), victim);
    assert_eq!(container(&restarted).unwrap().restart_count, 1);
}

pub(crate) async fn a_killed_pod_is_replaced(lab: Lab) {
    let cluster = lab.cluster().await;
    let (mut sets, mut pods) = (lab.observe::<ReplicaSet>().await, lab.observe::<Pod>().await);
    lab.create::<ReplicaSet>(set("web", 2, "web:1", &[])).await;
    all_available(&mut sets, "web", 2).await;
    let victim = pod(&mut pods, "a pod is ready", is_ready).await.name_any();
    cluster.kill(&lab.namespace, &victim).await.unwrap();
    pods.until("it is gone", |pods| !pods.contains_key(&victim)).await;
    pods.until("another is ready", |pods| pods.values().filter(|pod| is_ready(pod)).count() == 2).await;
    assert_eq!(pods.ever(), 3);
    all_available(&mut sets, "web", 2).await;
}

pub(crate) async fn a_pod_of_nobody_is_placed_and_run(lab: Lab) {
    let _cluster = lab.cluster().await;
    let mut pods = lab.observe::<Pod>().await;
    lab.create::<Pod>(bare("alone", "web:1")).await;
    let ready = pod(&mut pods, "the pod is ready", is_ready).await;
    assert!(ready.spec.unwrap().node_name.unwrap().starts_with("sim-node-"));
    let mut once = bare("once", CRASHING);
    once["spec"]["restartPolicy"] = json!("Never");
    lab.create::<Pod>(once).await;
    let failed = pod(&mut pods, "a pod that must not restart has failed", |pod| phase(pod) == "Failed").await;
    assert_eq!(failed.name_any(), "once");
    lab.api::<Pod>().delete("alone", &DeleteParams::default()).await.unwrap();
    pods.until("a deleted pod goes after a moment", |pods| !pods.contains_key("alone")).await;
    let left = pods.history.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some());
    assert!(left.count() >= 1, "it was on its way out first");
}

pub(crate) async fn a_readiness_gate_holds_a_pod_back(lab: Lab) {
    let _cluster = lab.cluster().await;
    let mut pods = lab.observe::<Pod>().await;
    let mut gated = bare("gated", "web:1");
    gated["spec"]["readinessGates"] = json!([{ "conditionType": "example.com/open" }]);
    lab.create::<Pod>(gated).await;
    let held =
        pod(&mut pods, "its containers are ready", |pod| condition(pod, "ContainersReady") == "True").await;
    assert_eq!(condition(&held, "Ready"), "False");
    let mut conditions = serde_json::to_value(held.status.unwrap().conditions).unwrap();
    conditions.as_array_mut().unwrap().push(json!({ "type": "example.com/open", "status": "True" }));
    let open = Patch::Merge(json!({ "status": { "conditions": conditions } }));
    lab.api::<Pod>().patch_status("gated", &PatchParams::default(), &open).await.unwrap();
    let ready = pod(&mut pods, "it is ready", is_ready).await;
    assert_eq!(condition(&ready, "example.com/open"), "True", "the gate's condition is left alone");
}
