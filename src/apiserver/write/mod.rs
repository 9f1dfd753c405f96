//! Writing: create, update, patch, delete, and the subresources.
//!
//! Depends on the state and a resolved [`Call`]. The order of checks is that of apiserver's handlers and
//! `registry/generic/registry/store.go`, because clients see which refusal comes first.

pub(crate) mod binding;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod eviction;
pub(crate) mod patch;
pub(crate) mod scale;
pub(crate) mod update;

use std::sync::Arc;

use serde_json::{Value, json};

use super::call::Call;
use super::object::{self, Object};
use super::resource::Scope;
use super::state::State;
use super::status::ApiError;

/// Largest object in bytes of JSON: what etcd accepts in one request by default (1.5 MiB).
const OBJECT_MAX: usize = 3 * 512 * 1024;

/// Puts an object into the namespace of the request; refuses another one.
fn settle_namespace(call: &Call<'_>, object: &mut Value) -> Result<(), ApiError> {
    let expected = match call.resource.scope {
        Scope::Namespaced => call.target.namespace.as_str(),
        Scope::Cluster => "",
    };
    let stated = object.namespace().to_owned();
    if call.resource.scope == Scope::Namespaced && !stated.is_empty() && stated != expected {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(ApiError::bad_request(why));
    }
    object.set_meta("namespace", (!expected.is_empty()).then(|| json!(expected)));
    Ok(())
}

/// Refuses an object whose name is not that of the path.
fn check_name(call: &Call<'_>, object: &Value) -> Result<(), ApiError> {
    let (name, expected) = (object.name(), &call.target.name);
    if name.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({expected} based on URL) was undeterminable: name must be provided"
        )));
    }
    if name != expected {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({expected})"
        )));
    }
    Ok(())
}

/// What no client sets here: this server does not track field managers.
fn drop_untracked(object: &mut Value) {
    object.set_meta("managedFields", None);
    object.set_meta("selfLink", None);
}

/// Commits an object, unless the request is a dry run; returns it as the client sees it.
fn store(state: &mut State, call: &Call<'_>, mut object: Value) -> Result<Arc<Value>, ApiError> {
    object.set_member("apiVersion", Some(json!(call.resource.api_version(&call.resource.storage))));
    if call.is_dry_run() {
        return Ok(Arc::new(object));
    }
    if object::size(&object) > OBJECT_MAX {
        // In a real cluster the refusal comes from the database.
        return Err(ApiError::Unclassified("etcdserver: request is too large".to_owned()));
    }
    Ok(state.write(call.author(), &call.resource, object))
}
