//! PATCH: RFC 6902 (JSON patch), RFC 7396 (JSON merge patch) and, for built-in kinds, strategic merge patches.
//!
//! Server-side apply is known and refused with 501.

use std::sync::Arc;

use json_patch::PatchOperation;
use serde_json::{Map, Value};

use super::{check_name, scale, settle_namespace, update};
use crate::apiserver::call::Call;
use crate::apiserver::field::{Path, Violation};
use crate::apiserver::go_types;
use crate::apiserver::http::body::{BODY_MAX, go_syntax_error, type_name};
use crate::apiserver::http::reply::Reply;
use crate::apiserver::object::{self, Object};
use crate::apiserver::resource::{Origin, Subresource};
use crate::apiserver::state::State;
use crate::apiserver::status::{ApiError, GroupKind};
use crate::apiserver::strategic::{self, GoText, PatchError};
use crate::hash::FieldPath;
use crate::json::{self, Json};

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
    Merge { value: Value, duplicates: Vec<FieldPath> },
    Strategic { go_type: &'static str, value: Map<String, Value>, duplicates: Vec<FieldPath> },
}

impl Patch {
    /// The refusal of a patch whose result is no object of the kind.
    pub(super) fn refused(&self, document: &Value, why: &str) -> ApiError {
        // Shown is what was being read: the document, or the patch where the document is never written out.
        let shown = match self {
            Self::Json(_) | Self::Merge { .. } => document.to_string(),
            Self::Strategic { value, .. } => GoText(&Value::Object(value.clone())).to_string(),
        };
        ApiError::invalid(GroupKind::default(), "", vec![Violation::invalid(&Path::of("patch"), shown, why)])
    }

    /// As [`Self::refused`], of a result that cannot be decoded, which `why` says of JSON.
    pub(super) fn undecodable(&self, document: &Value, why: &str) -> ApiError {
        let in_memory = match self {
            Self::Json(_) | Self::Merge { .. } => None,
            Self::Strategic { go_type, .. } => go_types::decode(go_type, document).err(),
        };
        self.refused(document, in_memory.as_ref().map_or(why, |error| &error.in_memory))
    }
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
            let body = json::read(bytes).map_err(|error| malformed(go_syntax_error(&error)))?;
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
            let body = json::read(bytes).map_err(|error| malformed(go_syntax_error(&error)))?;
            if !body.value.is_object() {
                let found = type_name(&body.value);
                let why = format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}");
                return Err(malformed(why));
            }
            Ok(Patch::Merge { value: body.value, duplicates: body.duplicates })
        }
        "application/strategic-merge-patch+json" if let Some(go_type) = go_type(call) => {
            let body = json::read(bytes).map_err(|error| ApiError::bad_request(go_syntax_error(&error)))?;
            strategic_patch(go_type, body)
        }
        "application/apply-patch+yaml" | "application/apply-patch+cbor" => Err(ApiError::NotImplemented(
            "server-side apply is not implemented by this API server: use client-side apply (kubectl apply without \
             --server-side), create or update"
                .to_owned(),
        )),
        "application/strategic-merge-patch+json" | "application/json" | "application/yaml" | ""
            if call.resource.origin == Origin::Definition =>
        {
            Err(ApiError::UnsupportedMediaType(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json"
                    .to_owned(),
            ))
        }
        _ => Err(ApiError::UnknownPatch),
    }
}

/// The Go type of what is patched, which only built-in kinds have.
fn go_type(call: &Call<'_>) -> Option<&'static str> {
    let own = call.version.rules.go_type()?;
    Some(if call.subresource == Some(Subresource::Scale) { scale::GO_TYPE } else { own })
}

fn strategic_patch(go_type: &'static str, body: Json) -> Result<Patch, ApiError> {
    let value = match body.value {
        Value::Object(members) => members,
        Value::Null => Map::new(),
        other => {
            let found = type_name(&other);
            let why =
                format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}");
            return Err(ApiError::bad_request(why));
        }
    };
    Ok(Patch::Strategic { go_type, value, duplicates: body.duplicates })
}

/// Applies a patch to a document; returns the document and the patch's own repeated fields.
pub(super) fn applied(patch: &Patch, document: Value) -> Result<(Value, &[FieldPath]), ApiError> {
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
        Patch::Strategic { go_type, value, duplicates } => {
            let Value::Object(members) = document else { return Err(ApiError::PatchFailed) };
            let stated = ["apiVersion", "kind"].map(|name| (name, members.get(name).cloned()));
            let mut merged = Value::Object(strategic::merge(go_type, members, value.clone())?);
            // The type of the result is known before: what the patch says about it counts for nothing.
            for (name, value) in stated {
                merged.set_member(name, value);
            }
            Ok((merged, duplicates))
        }
    }
}

impl From<PatchError> for ApiError {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Malformed(_) => Self::bad_request(error.to_string()),
            PatchError::ListOfLists => Self::PatchFailed,
            // The real server has no code for these.
            _ => Self::Unclassified(error.to_string()),
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
    let read = call.version.rules.read(document.clone());
    let mut read = read.map_err(|error| patch.undecodable(&document, error.why()))?;
    if let Patch::Strategic { .. } = patch {
        read.unknown.sort_unstable();
    }
    call.judge_fields(&read.unknown, duplicates).map_err(|why| patch.refused(&document, &why))?;
    Ok(read.object)
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
