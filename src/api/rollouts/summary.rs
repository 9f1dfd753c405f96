//! ReplicaSets and pods in a few fields each, as the tree shows them.

use crate::api::convert::timestamp;
use crate::crd::keys;
use crate::pb::v1;
use crate::plan::ReplicaSet;
use crate::store::PodRecord;
use v1::replica_set_summary::{Role, State};

/// A ReplicaSet with its pods, oldest first.
#[must_use]
pub(super) fn replica_set(set: &ReplicaSet, role: Role, pods: Vec<v1::PodSummary>) -> v1::ReplicaSetSummary {
    let deadline = set.annotations.get(keys::SCALE_DOWN_DEADLINE);
    let deadline = deadline.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let containers = set.template.pointer("/spec/containers").and_then(serde_json::Value::as_array);
    let images = containers.into_iter().flatten();
    v1::ReplicaSetSummary {
        name: set.name.clone(),
        uid: set.uid.clone(),
        pod_template_hash: set.hash().to_owned(),
        role: role.into(),
        state: state(set).into(),
        desired_replicas: set.replicas,
        replicas: set.status.replicas,
        ready_replicas: set.status.ready,
        available_replicas: set.status.available,
        images: images.filter_map(|container| Some(container["image"].as_str()?.to_owned())).collect(),
        create_time: Some(timestamp(set.created)),
        scale_down_time: deadline.map(timestamp),
        pods,
    }
}

fn state(set: &ReplicaSet) -> State {
    let failing = set.status.failure.as_ref().is_some_and(|failure| failure.status == "True");
    if failing {
        State::Failing
    } else if set.replicas == 0 && set.status.replicas == 0 {
        State::ScaledDown
    } else if set.status.replicas == set.replicas && set.status.available >= set.replicas {
        State::Healthy
    } else {
        State::Progressing
    }
}

/// A pod.
#[must_use]
pub(super) fn pod(pod: &PodRecord) -> v1::PodSummary {
    let containers = || pod.containers.iter().filter(|container| !container.init);
    let is_ready = pod.ready.as_ref().is_some_and(|ready| ready.is_ready);
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    v1::PodSummary {
        name: kube::ResourceExt::name_any(pod),
        phase: phase(pod),
        ready: is_ready,
        ready_containers: count(containers().filter(|container| container.ready).count()),
        containers: count(containers().count()),
        restarts: pod.containers.iter().map(|container| container.restarts).fold(0, i32::saturating_add),
        reason: if is_ready { String::new() } else { reason(pod) },
        create_time: Some(timestamp(pod.created)),
        node: pod.node.clone(),
        terminating: pod.terminating,
    }
}

/// What kubectl prints as a pod's status: the most telling reason of its containers, or else its phase.
fn phase(pod: &PodRecord) -> String {
    if pod.terminating {
        return if pod.phase == "NodeLost" { "Unknown" } else { "Terminating" }.to_owned();
    }
    if let Some(initializing) = initializing(pod) {
        return initializing;
    }
    let containers: Vec<_> = pod.containers.iter().filter(|container| !container.init).collect();
    // The first container with a reason wins; kubectl overwrites from the last one backwards.
    let reason =
        containers.iter().find(|container| !container.reason.is_empty()).map(|container| &*container.reason);
    let runs = containers.iter().any(|container| container.reason.is_empty() && container.ready);
    match reason {
        // Some have ended and others still run.
        Some("Completed") if runs => {
            if pod.ready.as_ref().is_some_and(|ready| ready.is_ready) { "Running" } else { "NotReady" }
                .to_owned()
        }
        Some(reason) => reason.to_owned(),
        None => pod.phase.clone(),
    }
}

/// How far init containers are, while they are not done: `Init:1/2`, or what the one that runs suffers from.
fn initializing(pod: &PodRecord) -> Option<String> {
    let init: Vec<_> = pod.containers.iter().filter(|container| container.init).collect();
    // Done, or a sidecar, which is ready while it runs.
    let current = init.iter().position(|container| {
        container.reason != "Completed" && !(container.reason.is_empty() && container.ready)
    })?;
    // Before a pod is scheduled, its init containers have not begun; after it ended, they are not what matters.
    if pod.node.is_empty() || ["Succeeded", "Failed"].contains(&pod.phase.as_str()) {
        return None;
    }
    Some(match init[current].reason.as_str() {
        "" | "PodInitializing" => format!("Init:{current}/{}", init.len()),
        reason => format!("Init:{reason}"),
    })
}

/// Why a pod is not ready, for people.
fn reason(pod: &PodRecord) -> String {
    let of_container =
        pod.containers.iter().find(|container| !container.ready && !container.reason.is_empty());
    let say = |reason: &str, message: &str| match (reason, message) {
        ("", message) => message.to_owned(),
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    };
    match (of_container, &pod.ready) {
        (Some(container), _) => say(&container.reason, &container.message),
        (None, Some(ready)) => say(&ready.reason, &ready.message),
        (None, None) => {
            pod.unschedulable.as_deref().map_or_else(String::new, |why| say("Unschedulable", why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn summary(spec: &Value, status: &Value, deleting: bool) -> v1::PodSummary {
        let mut object =
            json!({ "metadata": { "name": "web-1", "uid": "1" }, "spec": spec, "status": status });
        if deleting {
            object["metadata"]["deletionTimestamp"] = json!("2026-11-21T05:37:43Z");
        }
        pod(&serde_json::from_value(object).unwrap())
    }

    fn container(state: &Value, ready: bool, restarts: i32) -> Value {
        json!({ "name": "c", "ready": ready, "restartCount": restarts, "state": state })
    }

    #[test]
    fn a_pods_phase_is_what_kubectl_prints() {
        let running = container(&json!({ "running": {} }), true, 0);
        let starting = container(&json!({ "waiting": { "reason": "ContainerCreating" } }), false, 0);
        let crashing = container(
            &json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off" } }),
            false,
            4,
        );
        let completed =
            container(&json!({ "terminated": { "reason": "Completed", "exitCode": 0 } }), false, 0);
        let waiting = container(&json!({ "waiting": { "reason": "PodInitializing" } }), false, 0);
        let node = json!({ "nodeName": "n" });
        for (status, expected) in [
            (json!({ "phase": "Pending" }), "Pending"),
            (json!({ "phase": "Pending", "containerStatuses": [starting] }), "ContainerCreating"),
            (json!({ "phase": "Running", "containerStatuses": [running] }), "Running"),
            (json!({ "phase": "Running", "containerStatuses": [running, crashing] }), "CrashLoopBackOff"),
            (json!({ "phase": "Running", "containerStatuses": [crashing, starting] }), "CrashLoopBackOff"),
            (json!({ "phase": "Running", "containerStatuses": [completed, running] }), "NotReady"),
            (
                json!({ "phase": "Running", "containerStatuses": [completed, running],
                    "conditions": [{ "type": "Ready", "status": "True" }] }),
                "Running",
            ),
            (json!({ "phase": "Succeeded", "containerStatuses": [completed] }), "Completed"),
            (json!({ "phase": "Failed", "reason": "Evicted" }), "Evicted"),
            (
                json!({ "phase": "Pending", "initContainerStatuses": [completed, waiting], "containerStatuses": [waiting] }),
                "Init:1/2",
            ),
            (json!({ "phase": "Pending", "initContainerStatuses": [crashing] }), "Init:CrashLoopBackOff"),
            (
                json!({ "phase": "Running", "initContainerStatuses": [completed], "containerStatuses": [running] }),
                "Running",
            ),
        ] {
            assert_eq!(summary(&node, &status, false).phase, expected, "{status}");
        }
        assert_eq!(summary(&node, &json!({ "phase": "Running" }), true).phase, "Terminating");
    }

    #[test]
    fn readiness_restarts_and_the_reason_are_told() {
        let status = json!({ "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "m" }],
            "containerStatuses": [container(&json!({ "running": {} }), true, 1),
                container(&json!({ "waiting": { "reason": "ImagePullBackOff", "message": "no such image" } }), false, 2)] });
        let summary = summary(&json!({ "nodeName": "n" }), &status, false);
        assert_eq!(
            (summary.ready, summary.ready_containers, summary.containers, summary.restarts),
            (false, 1, 2, 3)
        );
        assert_eq!(summary.reason, "ImagePullBackOff: no such image");
    }
}
