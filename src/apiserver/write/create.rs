//! POST: a new object.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{drop_untracked, settle_namespace, store};
use crate::apiserver::call::Call;
use crate::apiserver::catalog;
use crate::apiserver::http::body;
use crate::apiserver::http::reply::Reply;
use crate::apiserver::kind::{self, DEFINITIONS};
use crate::apiserver::metadata;
use crate::apiserver::object::{self, Object};
use crate::apiserver::read;
use crate::apiserver::resource::{Origin, Scope};
use crate::apiserver::state::State;
use crate::apiserver::status::{ApiError, GroupKind, GroupResource};
use crate::apiserver::store::Key;

/// Names that are tried for one `generateName` (apiserver's `maxNameGenerationCreateAttempts`).
const NAME_ATTEMPTS: usize = 8;

/// POST to a resource.
pub(crate) fn create(state: &mut State, call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let body = body::parse(call.request, &call.resource.names.kind)?;
    let mut object = call.read(body)?;
    metadata::wipe_system_fields(&mut object);
    settle_namespace(call, &mut object)?;
    drop_repeated_owners(call, &mut object);
    let created = insert(state, call, &object)?;
    let value = call.presenter().object(&created, state.now());
    Ok(Reply::document(value, call.accept.media).with_code(201))
}

/// Drops repeated owner references and warns of them.
pub(super) fn drop_repeated_owners(call: &mut Call<'_>, object: &mut Value) {
    let repeated = metadata::drop_repeated_owners(object);
    if !repeated.is_empty() {
        call.warnings.push(format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and \
             may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            repeated.join(", ")
        ));
    }
}

/// Inserts a decoded object: generates its name, lets the kind prepare and validate it, commits it.
pub(super) fn insert(state: &mut State, call: &mut Call<'_>, object: &Value) -> Result<Arc<Value>, ApiError> {
    admit(state, call, object)?;
    if !object.resource_version().is_empty() {
        return Err(ApiError::Unclassified(
            "resourceVersion should not be set on objects to be created".to_owned(),
        ));
    }
    let prefix = object.text("/metadata/generateName").to_owned();
    let generates = object.name().is_empty() && !prefix.is_empty();
    let attempts = if generates { NAME_ATTEMPTS } else { 1 };
    let mut taken = String::new();
    for _ in 0..attempts {
        let mut object = object.clone();
        if generates {
            let name = state.random.name(&prefix);
            object.set_meta("name", Some(json!(name)));
        }
        object.set_meta("creationTimestamp", Some(json!(object::time(state.now()))));
        let uid = state.random.uid();
        object.set_meta("uid", Some(json!(uid)));
        let prepared = prepare(state, call, object)?;
        let Some(existing) = state.store.get(&call.resource.id, &Key::of(&prepared)) else {
            return store(state, call, prepared);
        };
        let (resource, name) = (call.resource.id.clone(), prepared.name().to_owned());
        if !generates {
            return Err(if existing.is_being_deleted() {
                ApiError::BeingDeleted { resource, name }
            } else {
                ApiError::AlreadyExists { resource, name }
            });
        }
        taken = name;
    }
    Err(ApiError::GeneratedNameTaken { resource: call.resource.id.clone(), name: taken })
}

/// The namespace exists and is not ending; the definition takes objects.
fn admit(state: &State, call: &Call<'_>, object: &Value) -> Result<(), ApiError> {
    if call.resource.scope == Scope::Namespaced {
        let name = &call.target.namespace;
        let Some(namespace) = read::namespace(state, name) else {
            return Err(ApiError::not_found(&GroupResource::new("", "namespaces"), name));
        };
        if namespace.is_being_deleted() {
            return Err(kind::terminating(&call.resource.id, object.name(), name));
        }
    }
    if call.resource.origin == Origin::Definition {
        let definitions = GroupResource::new(DEFINITIONS.0, DEFINITIONS.1);
        let key = Key::new("", &format!("{}.{}", call.resource.id.resource, call.resource.id.group));
        if state.store.get(&definitions, &key).is_some_and(|definition| !catalog::takes_objects(definition)) {
            return Err(ApiError::MethodNotAllowed);
        }
    }
    Ok(())
}

fn prepare(state: &mut State, call: &mut Call<'_>, mut object: Value) -> Result<Value, ApiError> {
    let rules = call.rules();
    drop_untracked(&mut object);
    rules.prepare_create(&mut object, &mut state.surroundings())?;
    let mut violations = metadata::validate(&object, call.resource.scope, rules.name_format());
    if rules.needs_qualified_finalizers() {
        violations.extend(metadata::validate_qualified_finalizers(&object));
    }
    violations.extend(rules.validate(&object));
    // A custom resource of another kind is refused under the name it gives itself.
    let kind = GroupKind::new(&call.resource.id.group, object.text("/kind"));
    ApiError::check(&kind, object.name(), violations)?;
    call.warnings.extend(rules.warnings(&object, None));
    Ok(object)
}
