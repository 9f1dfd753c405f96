//! The scale subresource: an `autoscaling/v1` Scale in front of an object's replicas.

use std::sync::Arc;

use serde_json::{Value, json};

use super::patch::{Patch, applied};
use super::{check_name, settle_namespace, update};
use crate::apiserver::call::Call;
use crate::apiserver::field::{Path, Violation};
use crate::apiserver::go_types;
use crate::apiserver::http::body;
use crate::apiserver::http::reply::Reply;
use crate::apiserver::kind;
use crate::apiserver::object::Object;
use crate::apiserver::resource::{Origin, ReadError};
use crate::apiserver::state::State;
use crate::apiserver::status::{ApiError, GroupKind};

pub(super) const GO_TYPE: &str = "io.k8s.api.autoscaling.v1.Scale";

/// The Scale of an object.
pub(crate) fn of(call: &Call<'_>, object: &Value) -> Result<Value, ApiError> {
    let paths = call.version.scale.as_ref().ok_or(ApiError::UnknownResource)?;
    let count = |pointer: &str| object.integer(pointer).unwrap_or(0);
    let spec = match object.pointer(&paths.spec_replicas) {
        Some(Value::Number(number)) => json!(number),
        // A custom resource without replicas cannot be scaled.
        None if call.resource.origin == Origin::Definition => {
            let path = paths.spec_replicas.replace('/', ".");
            let why = format!("the spec replicas field \"{path}\" does not exist");
            return Err(ApiError::Internal(why));
        }
        _ => json!(count(&paths.spec_replicas)),
    };
    let selector = paths.selector.as_ref().map(|pointer| match object.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(selector @ Value::Object(_)) => kind::format_selector(selector),
        _ => String::new(),
    });
    let mut status = json!({"replicas": count(&paths.status_replicas)});
    if let Some(selector) = selector.filter(|selector| !selector.is_empty()) {
        status["selector"] = json!(selector);
    }
    let mut metadata = json!({});
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.pointer(&format!("/metadata/{key}")) {
            metadata[key] = value.clone();
        }
    }
    let mut scale = json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": spec}, "status": status});
    if scale["spec"]["replicas"] == 0 {
        scale["spec"] = json!({});
    }
    Ok(scale)
}

/// PUT of a Scale.
pub(super) fn update(state: &mut State, call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let body = body::parse(call.request, "Scale")?;
    let decoded = go_types::decode(GO_TYPE, &body.value).map_err(|error| {
        ApiError::from(ReadError::Unfit {
            stated: "Scale".to_owned(),
            version: "v1".to_owned(),
            kind: "Scale".to_owned(),
            why: error.to_string(),
        })
    })?;
    call.judge_fields(&decoded.unknown, &body.duplicates).map_err(ApiError::bad_request)?;
    let old = state.store.get(&call.resource.id, &call.key()).cloned().ok_or_else(|| call.not_found())?;
    apply(state, call, &old, decoded.object)
}

/// PATCH of a Scale.
pub(super) fn patch(
    state: &mut State,
    call: &mut Call<'_>,
    old: &Arc<Value>,
    patch: &Patch,
) -> Result<Reply, ApiError> {
    let (document, duplicates) = applied(patch, of(call, old)?)?;
    let decoded = go_types::decode(GO_TYPE, &document)
        .map_err(|error| patch.undecodable(&document, &error.to_string()))?;
    call.judge_fields(&decoded.unknown, duplicates).map_err(|why| patch.refused(&document, &why))?;
    apply(state, call, old, decoded.object)
}

/// Writes the replicas of a Scale into the object.
fn apply(
    state: &mut State,
    call: &mut Call<'_>,
    old: &Arc<Value>,
    mut scale: Value,
) -> Result<Reply, ApiError> {
    settle_namespace(call, &mut scale)?;
    check_name(call, &scale)?;
    let uid = scale.uid();
    if !uid.is_empty() && uid != old.uid() {
        let why =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", old.uid());
        return Err(ApiError::conflict(&call.resource.id, &call.target.name, why));
    }
    let replicas = scale.integer("/spec/replicas").unwrap_or(0);
    if replicas < 0 {
        let detail = "must be greater than or equal to 0";
        let violation = Violation::invalid(&Path::of("spec.replicas"), replicas, detail);
        let kind = GroupKind::new("autoscaling", "Scale");
        return Err(ApiError::invalid(kind, &call.target.name, vec![violation]));
    }
    let pointer = call.version.scale.as_ref().map(|paths| paths.spec_replicas.clone());
    let mut proposed = (**old).clone();
    set(&mut proposed, pointer.as_deref().unwrap_or_default(), json!(replicas));
    let stated = scale.resource_version();
    proposed.set_meta("resourceVersion", (!stated.is_empty()).then(|| json!(stated)));
    let updated = update::apply(state, call, old, proposed)?;
    Ok(Reply::document(of(call, &updated)?, call.accept.media))
}

/// Sets the value at a pointer, making objects on the way.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for name in pointer.split('/').skip(1) {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[name];
    }
    *place = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_set_at_any_depth() {
        let mut object = json!({"spec": {"a": 1}});
        set(&mut object, "/spec/deep/replicas", json!(3));
        assert_eq!(object, json!({"spec": {"a": 1, "deep": {"replicas": 3}}}));
    }
}
