//! PATCH: RFC 6902 (JSON patch) and RFC 7396 (JSON merge patch).
//!
//! Strategic merge patches and server-side apply are known and refused with 501.

use std::sync::Arc;

use json_patch::PatchOperation;
use serde_json::Value;

use super::{check_name, scale, settle_namespace, update};
use crate::apiserver::call::Call;
use crate::apiserver::field::{Path, Violation};
use crate::apiserver::http::body::{BODY_MAX, go_syntax_error, json, type_name};
use crate::apiserver::http::reply::Reply;
use crate::apiserver::object;
use crate::apiserver::resource::{Origin, Subresource};
use crate::apiserver::state::State;
use crate::apiserver::status::{ApiError, GroupKind};

/// Most operations of a JSON patch (apiserver's `maxJSONPatchOperations`).
const OPERATIONS_MAX: usize = 10_000;

/// Bytes that the copies of one JSON patch may add: as in kube-apiserver, what a body may have. Each copy may double a
/// document, so that a short patch could ask for any size.
const COPIED_MAX: usize = BODY_MAX;

/// How deep a patched document may be nested: as deep as a body, which `serde_json` limits. Moves could nest one
/// without end.
const DEPTH_MAX: usize = 128;

/// A patch, not yet applied.
pub(super) enum Patch {
    Json(json_patch::Patch),
    Merge { value: Value, duplicates: Vec<String> },
}

/// PATCH of an object or a part of it.
pub(crate) fn patch(state: &mut State, call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let patch = parse(call)?;
    let old = state.store.get(&call.resource.id, &call.key()).cloned().ok_or_else(|| call.not_found())?;
    if call.subresource == Some(Subresource::Scale) {
        return scale::patch(state, call, &old, &patch);
    }
    let presented = call.presenter().convert(&old);
    let proposed = read_patched(call, &patch, presented)?;
    let updated = finish(state, call, &old, proposed)?;
    let value = call.presenter().object(&updated, state.now());
    Ok(Reply::document(value, call.accept.media))
}

fn finish(
    state: &mut State,
    call: &mut Call<'_>,
    old: &Arc<Value>,
    mut proposed: Value,
) -> Result<Arc<Value>, ApiError> {
    settle_namespace(call, &mut proposed)?;
    check_name(call, &proposed)?;
    update::apply(state, call, old, proposed)
}

fn parse(call: &Call<'_>) -> Result<Patch, ApiError> {
    let bytes = &call.request.body;
    let malformed = |why: String| ApiError::bad_request(format!("error decoding patch: {why}"));
    match call.request.content_type() {
        "application/json-patch+json" => {
            let body = json(bytes).map_err(|error| malformed(go_syntax_error(&error)))?;
            let Value::Array(operations) = &body.value else {
                let found = type_name(&body.value);
                let why = format!("json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp");
                return Err(malformed(why));
            };
            if operations.len() > OPERATIONS_MAX {
                return Err(ApiError::TooLarge(format!(
                    "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
                    operations.len()
                )));
            }
            serde_json::from_value(body.value).map(Patch::Json).map_err(|_| ApiError::PatchFailed)
        }
        "application/merge-patch+json" => {
            let body = json(bytes).map_err(|error| malformed(go_syntax_error(&error)))?;
            if !body.value.is_object() {
                let found = type_name(&body.value);
                let why = format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}");
                return Err(malformed(why));
            }
            Ok(Patch::Merge { value: body.value, duplicates: body.duplicates })
        }
        "application/strategic-merge-patch+json" if call.resource.origin == Origin::BuiltIn => {
            Err(ApiError::NotImplemented(
                "strategic merge patch is not implemented by this API server: send a JSON merge patch (kubectl patch \
                 --type=merge) or a JSON patch (--type=json)"
                    .to_owned(),
            ))
        }
        "application/apply-patch+yaml" | "application/apply-patch+cbor" => Err(ApiError::NotImplemented(
            "server-side apply is not implemented by this API server: use client-side apply (kubectl apply without \
             --server-side), create or update"
                .to_owned(),
        )),
        "application/strategic-merge-patch+json" | "application/json" | "application/yaml" | "" => {
            Err(ApiError::UnsupportedMediaType(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json"
                    .to_owned(),
            ))
        }
        _ => Err(ApiError::UnknownPatch),
    }
}

/// Applies a patch to a document; returns the document and the patch's own repeated fields.
pub(super) fn applied(patch: &Patch, document: Value) -> Result<(Value, &[String]), ApiError> {
    let mut document = document;
    match patch {
        Patch::Json(operations) => {
            apply_operations(&mut document, operations).ok_or(ApiError::PatchFailed)?;
            Ok((document, &[]))
        }
        Patch::Merge { value, duplicates } => {
            json_patch::merge(&mut document, value);
            Ok((document, duplicates))
        }
    }
}

/// Applies the operations one by one; `None` when one fails or the document would grow beyond bounds.
fn apply_operations(document: &mut Value, operations: &[PatchOperation]) -> Option<()> {
    let mut copied = 0;
    for operation in operations {
        let moved = match operation {
            PatchOperation::Add(add) => Some(&add.value),
            PatchOperation::Replace(replace) => Some(&replace.value),
            PatchOperation::Move(from) => Some(document.pointer(from.from.as_str())?),
            PatchOperation::Copy(from) => {
                let value = document.pointer(from.from.as_str())?;
                copied += object::size(value);
                Some(value)
            }
            PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
        };
        let above = operation.path().as_str().matches('/').count();
        if copied > COPIED_MAX || moved.is_some_and(|value| above + depth(value) > DEPTH_MAX) {
            return None;
        }
        json_patch::patch_unsafe(document, std::slice::from_ref(operation)).ok()?;
    }
    Some(())
}

/// Levels of nesting; a scalar has one.
fn depth(value: &Value) -> usize {
    let below = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(members) => members.values().map(depth).max(),
        _ => None,
    };
    1 + below.unwrap_or(0)
}

fn read_patched(call: &mut Call<'_>, patch: &Patch, presented: Value) -> Result<Value, ApiError> {
    let (document, duplicates) = applied(patch, presented)?;
    let shown = document.to_string();
    let read = call.version.rules.read(document).map_err(|error| refused(&shown, error.why()))?;
    call.judge_fields(&read.unknown, duplicates).map_err(|why| refused(&shown, &why))?;
    Ok(read.object)
}

/// A patch whose result is no object of the kind.
pub(super) fn refused(document: &str, why: &str) -> ApiError {
    ApiError::invalid(GroupKind::default(), "", vec![Violation::invalid(&Path::of("patch"), document, why)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patched(mut document: Value, operations: Value) -> Option<Value> {
        let operations: json_patch::Patch = serde_json::from_value(operations).unwrap();
        apply_operations(&mut document, &operations).map(|()| document)
    }

    #[test]
    fn operations_apply_in_order() {
        let operations = json!([
            {"op": "test", "path": "/a", "value": [1]},
            {"op": "add", "path": "/a/-", "value": 2},
            {"op": "copy", "from": "/a", "path": "/b"},
            {"op": "remove", "path": "/a/0"},
            {"op": "move", "from": "/a", "path": "/c~1d"},
            {"op": "replace", "path": "/b/0", "value": {"x": null}},
        ]);
        let expected = json!({"b": [{"x": null}, 2], "c/d": [2]});
        assert_eq!(patched(json!({"a": [1]}), operations), Some(expected));
    }

    #[test]
    fn what_does_not_apply_fails() {
        let cases = [
            json!({"op": "test", "path": "/a", "value": 2}),
            json!({"op": "test", "path": "/b", "value": null}),
            json!({"op": "remove", "path": "/b"}),
            json!({"op": "replace", "path": "/b", "value": 1}),
            json!({"op": "add", "path": "/b/c", "value": 1}),
            json!({"op": "copy", "from": "/b", "path": "/c"}),
            json!({"op": "move", "from": "/b", "path": "/c"}),
        ];
        for operation in cases {
            assert_eq!(patched(json!({"a": 1}), json!([operation])), None, "{operation}");
        }
    }

    #[test]
    fn copies_do_not_double_a_document_without_end() {
        let copies = |count: usize| -> Value {
            (0..count).map(|index| json!({"op": "copy", "from": "", "path": format!("/{index}")})).collect()
        };
        let document = json!({"a": "x".repeat(1000)});
        assert!(patched(document.clone(), copies(10)).is_some());
        assert_eq!(patched(document, copies(40)), None);
    }

    #[test]
    fn moves_do_not_nest_a_document_without_end() {
        let turns = |count: usize| -> Value {
            let turn = |index: usize| {
                let (inner, outer) = if index.is_multiple_of(2) { ("a", "b") } else { ("b", "a") };
                [
                    json!({"op": "add", "path": format!("/{outer}"), "value": {}}),
                    json!({"op": "move", "from": format!("/{inner}"), "path": format!("/{outer}/{inner}")}),
                ]
            };
            (0..count).flat_map(turn).collect()
        };
        assert!(patched(json!({"a": {}}), turns(100)).is_some());
        assert_eq!(patched(json!({"a": {}}), turns(200)), None);
    }
}
