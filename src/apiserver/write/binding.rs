//! `pods/binding`: puts a pod on a node.

use serde_json::{Value, json};

use super::store;
use crate::apiserver::call::Call;
use crate::apiserver::field::{Path, Violation};
use crate::apiserver::go_types;
use crate::apiserver::http::body;
use crate::apiserver::http::reply::Reply;
use crate::apiserver::object::{self, Object};
use crate::apiserver::resource::ReadError;
use crate::apiserver::state::State;
use crate::apiserver::status::{ApiError, GroupKind, GroupResource};

/// POST of a Binding.
pub(crate) fn bind(state: &mut State, call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let body = body::parse(call.request, "Binding")?;
    let decoded = go_types::decode("io.k8s.api.core.v1.Binding", &body.value).map_err(|error| {
        ApiError::from(ReadError::Unfit {
            stated: "Binding".to_owned(),
            version: "v1".to_owned(),
            kind: "Binding".to_owned(),
            why: error.to_string(),
        })
    })?;
    let binding = decoded.object;
    check(call, &binding)?;
    let pod = state.store.get(&call.resource.id, &call.key()).cloned().ok_or_else(|| call.not_found())?;
    let conflict = |why: String| {
        Err(ApiError::conflict(&GroupResource::new("", "pods/binding"), &call.target.name, why))
    };
    let node = pod.text("/spec/nodeName");
    if pod.is_being_deleted() {
        return conflict(format!("pod {} is being deleted, cannot be assigned to a host", pod.name()));
    }
    if !node.is_empty() {
        return conflict(format!("pod {} is already assigned to node \"{node}\"", pod.name()));
    }
    if !pod.list("/spec/schedulingGates").is_empty() {
        return conflict(format!("pod {} has non-empty .spec.schedulingGates", pod.name()));
    }
    let mut bound = (*pod).clone();
    bound["spec"]["nodeName"] = json!(binding.text("/target/name"));
    for field in ["annotations", "labels"] {
        for (key, value) in binding.map(&format!("/metadata/{field}")).into_iter().flatten() {
            bound.metadata_mut().entry(field).or_insert_with(|| json!({}))[key.as_str()] = value.clone();
        }
    }
    mark_scheduled(&mut bound, &object::time(state.now()));
    store(state, call, bound)?;
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(Reply::document(status, call.accept.media).with_code(201))
}

fn check(call: &Call<'_>, binding: &Value) -> Result<(), ApiError> {
    if binding.name() != call.target.name {
        return Err(ApiError::bad_request("name in URL does not match name in Binding object"));
    }
    let mut violations = Vec::new();
    let kind = binding.text("/target/kind");
    if !kind.is_empty() && kind != "Node" {
        violations.push(Violation::not_supported(&Path::of("target.kind"), kind, &["Node", "<empty>"]));
    }
    if binding.text("/target/name").is_empty() {
        violations.push(Violation::required(&Path::of("target.name"), ""));
    }
    ApiError::check(&GroupKind::new("", "Binding"), &call.target.name, violations)
}

fn mark_scheduled(pod: &mut Value, now: &str) {
    let condition =
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    let mut conditions = pod.list("/status/conditions").to_vec();
    conditions.retain(|known| known["type"] != "PodScheduled");
    conditions.push(condition);
    pod["status"]["conditions"] = Value::Array(conditions);
}
