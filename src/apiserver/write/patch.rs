//! PATCH: RFC 6902 (JSON patch) and RFC 7396 (JSON merge patch).
//!
//! Strategic merge patches and server-side apply are known and refused with 501.

use std::sync::Arc;

use serde_json::Value;

use super::{check_name, scale, settle_namespace, update};
use crate::apiserver::call::Call;
use crate::apiserver::field::{Path, Violation};
use crate::apiserver::http::body::{go_syntax_error, json, type_name};
use crate::apiserver::http::reply::Reply;
use crate::apiserver::resource::{Origin, Subresource};
use crate::apiserver::state::State;
use crate::apiserver::status::{ApiError, GroupKind};

/// Most operations of a JSON patch (apiserver's `maxJSONPatchOperations`).
const OPERATIONS_MAX: usize = 10_000;

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
pub(super) fn applied<'p>(patch: &'p Patch, document: Value) -> Result<(Value, &'p [String]), ApiError> {
    let mut document = document;
    match patch {
        Patch::Json(operations) => {
            json_patch::patch(&mut document, operations).map_err(|_| ApiError::PatchFailed)?;
            Ok((document, &[]))
        }
        Patch::Merge { value, duplicates } => {
            json_patch::merge(&mut document, value);
            Ok((document, duplicates))
        }
    }
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
