//! PUT, and what PUT and PATCH share: checking a proposed object against the stored one and committing it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{check_name, create, drop_untracked, scale, settle_namespace, store};
use crate::apiserver::call::Call;
use crate::apiserver::field::{Path, Violation};
use crate::apiserver::http::body;
use crate::apiserver::http::reply::Reply;
use crate::apiserver::metadata;
use crate::apiserver::object::Object;
use crate::apiserver::resource::{Origin, Scope, Subresource};
use crate::apiserver::state::State;
use crate::apiserver::status::{ApiError, GroupKind, STALE};

/// PUT of an object or a part of it.
pub(crate) fn update(state: &mut State, call: &mut Call<'_>) -> Result<Reply, ApiError> {
    if call.subresource == Some(Subresource::Scale) {
        return scale::update(state, call);
    }
    let body = body::parse(call.request, &call.resource.names.kind)?;
    let mut proposed = call.read(body)?;
    settle_namespace(call, &mut proposed)?;
    check_name(call, &proposed)?;
    let Some(old) = state.store.get(&call.resource.id, &call.key()).cloned() else {
        return put_new(state, call, proposed);
    };
    let uid = proposed.uid();
    if !uid.is_empty() && uid != old.uid() {
        let why = uid_mismatch(call, uid, old.uid());
        return Err(ApiError::conflict(&call.resource.id, &call.target.name, why));
    }
    let updated = apply(state, call, &old, proposed)?;
    let value = call.presenter().object(&updated, state.now());
    Ok(Reply::document(value, call.accept.media))
}

/// PUT of an object that does not exist: some kinds create it.
fn put_new(state: &mut State, call: &mut Call<'_>, mut proposed: Value) -> Result<Reply, ApiError> {
    if call.subresource.is_some() || !call.rules().put_creates() {
        return Err(call.not_found());
    }
    metadata::wipe_system_fields(&mut proposed);
    let created = create::insert(state, call, &proposed)?;
    let value = call.presenter().object(&created, state.now());
    Ok(Reply::document(value, call.accept.media).with_code(201))
}

/// The refusal of etcd's transaction, which names the key.
fn uid_mismatch(call: &Call<'_>, wanted: &str, found: &str) -> String {
    let id = &call.resource.id;
    let prefix = match call.resource.origin {
        Origin::BuiltIn => format!("/registry/{}", id.resource),
        Origin::Definition => format!("/registry/{}/{}", id.group, id.resource),
    };
    let place = match call.resource.scope {
        Scope::Namespaced => format!("{}/{}", call.target.namespace, call.target.name),
        Scope::Cluster => call.target.name.clone(),
    };
    format!(
        "StorageError: invalid object, Code: 4, Key: {prefix}/{place}, ResourceVersion: 0, AdditionalErrorMsg: \
         Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
    )
}

/// Checks a proposed object against the stored one and commits it. Returns the stored object; what changes nothing
/// is not written.
pub(super) fn apply(
    state: &mut State,
    call: &mut Call<'_>,
    old: &Arc<Value>,
    mut new: Value,
) -> Result<Arc<Value>, ApiError> {
    check_version(call, old, &mut new)?;
    create::drop_repeated_owners(call, &mut new);
    drop_untracked(&mut new);
    metadata::keep_system_fields(&mut new, old);
    let rules = call.rules();
    match call.subresource {
        Some(Subresource::Status) => rules.prepare_status(&mut new, old),
        Some(Subresource::Finalize) => new.set_member("status", old.get("status").cloned()),
        _ => rules.prepare_update(&mut new, old, &mut state.surroundings())?,
    }
    let mut violations = metadata::validate_update(&new, old);
    if rules.needs_qualified_finalizers() {
        violations.extend(metadata::validate_qualified_finalizers(&new));
    }
    violations.extend(match call.subresource {
        Some(Subresource::Status) => rules.validate_status(&new, old),
        Some(Subresource::Finalize) => rules.validate(&new),
        _ => rules.validate_update(&new, old),
    });
    let kind = GroupKind::new(&call.resource.id.group, new.text("/kind"));
    ApiError::check(&kind, &call.target.name, violations)?;
    call.warnings.extend(rules.warnings(&new, Some(old)));
    new.set_member("apiVersion", Some(json!(call.resource.api_version(&call.resource.storage))));
    if is_finished(&new, old) {
        if !call.is_dry_run() {
            state.erase(call.author(), &call.resource.id, &call.key());
        }
        return Ok(Arc::new(new));
    }
    if new == **old {
        return Ok(old.clone());
    }
    store(state, call, new)
}

/// Optimistic concurrency: a version that the client names must be the stored one; without one the update is
/// unconditional, where the kind allows that.
fn check_version(call: &Call<'_>, old: &Value, new: &mut Value) -> Result<(), ApiError> {
    let stated = new.resource_version();
    if !stated.is_empty() {
        let version: u64 = stated.parse().map_err(|_| {
            ApiError::Unclassified(format!("strconv.ParseUint: parsing \"{stated}\": invalid syntax"))
        })?;
        if version != 0 {
            return if stated == old.resource_version() {
                Ok(())
            } else {
                Err(ApiError::conflict(&call.resource.id, &call.target.name, STALE))
            };
        }
    }
    if call.rules().update_needs_version() && call.subresource != Some(Subresource::Scale) {
        let path = Path::of("metadata.resourceVersion");
        let violation = Violation::invalid(&path, 0, "must be specified for an update");
        let kind = GroupKind::new(&call.resource.id.group, &call.resource.id.resource);
        return Err(ApiError::invalid(kind, &call.target.name, vec![violation]));
    }
    new.set_meta("resourceVersion", Some(json!(old.resource_version())));
    Ok(())
}

/// Whether the update took away the last reason to keep a deleted object.
fn is_finished(new: &Value, old: &Value) -> bool {
    let grace = old.integer("/metadata/deletionGracePeriodSeconds").unwrap_or(0);
    let held_by_namespace = new.text("/kind") == "Namespace" && !new.list("/spec/finalizers").is_empty();
    new.finalizers().is_empty() && old.is_being_deleted() && grace == 0 && !held_by_namespace
}
