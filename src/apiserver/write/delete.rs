//! DELETE: preconditions, grace, finalizers and propagation, as `registry/generic/registry/store.go` does it.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::apiserver::audit::Effect;
use crate::apiserver::call::Call;
use crate::apiserver::catalog::defined;
use crate::apiserver::go_types;
use crate::apiserver::http::body;
use crate::apiserver::http::options::{DeleteOptions, ListOptions, Mode, Propagation};
use crate::apiserver::http::reply::Reply;
use crate::apiserver::kind::{self, DEFINITIONS, SYSTEM_NAMESPACES};
use crate::apiserver::metadata::{FOREGROUND, ORPHAN};
use crate::apiserver::object::{self, Object};
use crate::apiserver::read;
use crate::apiserver::state::{CLEANUP_FINALIZER, State};
use crate::apiserver::status::{self, ApiError, GroupResource};
use crate::apiserver::store::Key;

/// DELETE of one object.
pub(crate) fn delete(state: &mut State, call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let options = options(call)?;
    call.options.effect = options.effect;
    let outcome = delete_one(state, call, &options)?;
    let (object, gone) = match &outcome {
        Outcome::Gone(object) => (object, true),
        Outcome::Waiting(object) => (object, false),
    };
    let code = if !gone && options.cascades_by_old_option { 202 } else { 200 };
    let answers_status = gone && !call.rules().delete_answers_object();
    let value = if answers_status {
        status::deleted(&call.resource.id, object.name(), object.uid())
    } else {
        call.presenter().object(object, state.now())
    };
    Ok(Reply::document(value, call.accept.media).with_code(code))
}

/// DELETE of a resource: each selected object by itself.
pub(crate) fn delete_collection(state: &mut State, call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let list = ListOptions::parse(&call.request.query, Mode::List)?;
    let options = options(call)?;
    call.options.effect = options.effect;
    let page = read::page(state, call, &list)?;
    for object in &page.items {
        object.name().clone_into(&mut call.target.name);
        match delete_one(state, call, &options) {
            Ok(_) | Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    call.target.name.clear();
    let metadata = json!({"resourceVersion": page.revision.to_string()});
    let value = call.presenter().list(&page.items, &metadata, state.now());
    Ok(Reply::document(value, call.accept.media))
}

fn options(call: &Call<'_>) -> Result<DeleteOptions, ApiError> {
    if call.request.body.is_empty() {
        return DeleteOptions::from_query(&call.request.query);
    }
    let body = body::parse(call.request, "DeleteOptions")?;
    let decoded = go_types::decode("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions", &body.value)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    DeleteOptions::from_body(&decoded.object)
}

/// What became of an object.
pub(super) enum Outcome {
    Gone(Arc<Value>),
    /// It stays until its finalizers are removed or its grace has passed.
    Waiting(Arc<Value>),
}

/// Deletes an object, whether it goes at once or not.
pub(super) fn delete_one(
    state: &mut State,
    call: &Call<'_>,
    options: &DeleteOptions,
) -> Result<Outcome, ApiError> {
    let object = state.store.get(&call.resource.id, &call.key()).cloned().ok_or_else(|| call.not_found())?;
    let id = (call.resource.id.group.as_str(), call.resource.id.resource.as_str());
    match id {
        ("", "namespaces") => delete_namespace(state, call, &object, options),
        DEFINITIONS => delete_definition(state, call, &object, options),
        _ => {
            check_preconditions(call, &object, options)?;
            delete_plain(state, call, &object, options)
        }
    }
}

/// Whether the object is the one that the client means.
pub(super) fn check_preconditions(
    call: &Call<'_>,
    object: &Value,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    // The real server names the kind here where it names the resource everywhere else.
    let kind = GroupResource::new(&call.resource.id.group, &call.resource.names.kind);
    let conflict = |why: String| Err(ApiError::conflict(&kind, &call.target.name, why));
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != object.uid()) {
        return conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been \
             deleted and then recreated",
            object.uid()
        ));
    }
    let stored = object.resource_version();
    if let Some(version) = options.resource_version.as_deref().filter(|version| *version != stored) {
        return conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record \
             ({stored}). The object might have been modified"
        ));
    }
    Ok(())
}

/// The same preconditions as namespaces and definitions word them.
fn check_own_preconditions(call: &Call<'_>, object: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
    let wanted = [
        ("UID", options.uid.as_deref(), object.uid()),
        ("ResourceVersion", options.resource_version.as_deref(), object.resource_version()),
    ];
    for (name, wanted, found) in wanted {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            let why = format!(
                "Precondition failed: {name} in precondition: {wanted}, {name} in object meta: {found}"
            );
            return Err(ApiError::conflict(&call.resource.id, &call.target.name, why));
        }
    }
    Ok(())
}

/// How a deletion with grace goes on.
enum Grace {
    /// The kind knows none, or there is none left.
    None,
    /// Marked already, and nothing changes.
    Pending,
    /// The object is to be marked, with so many seconds.
    Mark(i64),
}

fn grace(call: &Call<'_>, object: &Value, options: &DeleteOptions) -> Grace {
    let Some(seconds) = call.rules().grace_period(object, options.grace_period_seconds) else {
        return Grace::None;
    };
    if !object.is_being_deleted() {
        return Grace::Mark(seconds);
    }
    match (object.integer("/metadata/deletionGracePeriodSeconds"), options.grace_period_seconds) {
        (None | Some(0), _) => Grace::None,
        // Grace can only be shortened.
        (Some(left), Some(wanted)) if wanted < left => Grace::Mark(wanted),
        _ => Grace::Pending,
    }
}

fn delete_plain(
    state: &mut State,
    call: &Call<'_>,
    object: &Arc<Value>,
    options: &DeleteOptions,
) -> Result<Outcome, ApiError> {
    let grace = grace(call, object, options);
    if matches!(grace, Grace::Pending) {
        return Ok(Outcome::Waiting(object.clone()));
    }
    let mut marked = (**object).clone();
    let finalizers = finalizers(call, object, options);
    set_finalizers(&mut marked, &finalizers);
    match grace {
        Grace::Mark(seconds) => mark_graceful(&mut marked, object, seconds, state.now()),
        Grace::None if !finalizers.is_empty() => mark(&mut marked, state.now()),
        Grace::None | Grace::Pending => return Ok(remove(state, call, object)),
    }
    let waits = matches!(grace, Grace::Mark(seconds) if seconds > 0);
    // Without grace the mark is written all the same, and the removal follows: watchers see both.
    let marked = replace(state, call, object, marked);
    if !finalizers.is_empty() || waits {
        return Ok(Outcome::Waiting(marked));
    }
    Ok(remove(state, call, &marked))
}

fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    object.set_meta("finalizers", (!finalizers.is_empty()).then(|| json!(finalizers)));
}

/// Writes the marked object, unless nothing changed or nothing is to be written.
fn replace(state: &mut State, call: &Call<'_>, old: &Arc<Value>, marked: Value) -> Arc<Value> {
    if marked == **old {
        return old.clone();
    }
    if call.options.effect == Effect::DryRun {
        return Arc::new(marked);
    }
    state.write(call.author(), &call.resource, marked)
}

fn remove(state: &mut State, call: &Call<'_>, object: &Arc<Value>) -> Outcome {
    if call.options.effect == Effect::DryRun {
        return Outcome::Gone(object.clone());
    }
    let erased = state.erase(call.author(), &call.resource.id, &call.key());
    Outcome::Gone(erased.unwrap_or_else(|| object.clone()))
}

/// The finalizers after the deletion was asked for: those of the garbage collector by policy, the others as they are.
fn finalizers(call: &Call<'_>, object: &Value, options: &DeleteOptions) -> Vec<String> {
    let own = object.finalizers();
    let others = own.iter().filter(|name| **name != ORPHAN && **name != FOREGROUND);
    let mut kept: Vec<String> = others.map(|name| (*name).to_owned()).collect();
    if !call.rules().has_dependents() {
        return kept;
    }
    let asked = match options.propagation {
        Some(Propagation::Orphan) => Some(ORPHAN),
        Some(Propagation::Foreground) => Some(FOREGROUND),
        Some(Propagation::Background) => None,
        None => own.iter().copied().find(|name| *name == ORPHAN || *name == FOREGROUND),
    };
    kept.extend(asked.map(str::to_owned));
    kept
}

/// Marks an object that only its finalizers hold.
fn mark(object: &mut Value, now: Timestamp) {
    if !object.is_being_deleted() {
        count_generation(object);
    }
    let earlier = object.text("/metadata/deletionTimestamp").parse::<Timestamp>().is_ok_and(|at| at <= now);
    if !earlier {
        object.set_meta("deletionTimestamp", Some(json!(object::time(now))));
    }
    object.set_meta("deletionGracePeriodSeconds", Some(json!(0)));
}

/// Marks an object that somebody has time to finish with.
fn mark_graceful(object: &mut Value, old: &Value, seconds: i64, now: Timestamp) {
    let seconds_after = |moment: Timestamp, seconds: i64| {
        moment.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
    };
    let mut seconds = seconds;
    let until = match old.text("/metadata/deletionTimestamp").parse::<Timestamp>() {
        Err(_) => {
            count_generation(object);
            seconds_after(now, seconds)
        }
        Ok(planned) => {
            let granted = old.integer("/metadata/deletionGracePeriodSeconds").unwrap_or(0);
            let until = seconds_after(planned, seconds - granted);
            if until < now && seconds != 0 {
                // The time is over, but somebody else still has to finish.
                seconds = 1;
            }
            until.max(now)
        }
    };
    object.set_meta("deletionTimestamp", Some(json!(object::time(until))));
    object.set_meta("deletionGracePeriodSeconds", Some(json!(seconds)));
}

/// Being deleted is a change that controllers should notice.
fn count_generation(object: &mut Value) {
    let generation = object.generation();
    if generation > 0 {
        object.set_meta("generation", Some(json!(generation + 1)));
    }
}

/// A namespace is marked, and stays until its content is gone and `spec.finalizers` is empty.
fn delete_namespace(
    state: &mut State,
    call: &Call<'_>,
    object: &Arc<Value>,
    options: &DeleteOptions,
) -> Result<Outcome, ApiError> {
    if SYSTEM_NAMESPACES[..3].contains(&object.name()) {
        let why = "this namespace may not be deleted";
        return Err(ApiError::forbidden(&call.resource.id, object.name(), why));
    }
    check_own_preconditions(call, object, options)?;
    if object.is_being_deleted() {
        if object.list("/spec/finalizers").contains(&json!(kind::KUBERNETES_FINALIZER)) {
            return Ok(Outcome::Waiting(object.clone()));
        }
        return delete_plain(state, call, object, options);
    }
    let mut marked = (**object).clone();
    set_finalizers(&mut marked, &finalizers(call, object, options));
    marked.set_meta("deletionTimestamp", Some(json!(object::time(state.now()))));
    marked["status"]["phase"] = json!("Terminating");
    Ok(Outcome::Waiting(replace(state, call, object, marked)))
}

/// A definition is marked, its objects are deleted, and it goes with the last of them.
fn delete_definition(
    state: &mut State,
    call: &Call<'_>,
    object: &Arc<Value>,
    options: &DeleteOptions,
) -> Result<Outcome, ApiError> {
    check_own_preconditions(call, object, options)?;
    if object.is_being_deleted() {
        return delete_plain(state, call, object, options);
    }
    let mut marked = (**object).clone();
    let now = object::time(state.now());
    let mut names = finalizers(call, object, options);
    names.push(CLEANUP_FINALIZER.to_owned());
    set_finalizers(&mut marked, &names);
    marked.set_meta("deletionTimestamp", Some(json!(now)));
    let condition = json!({"type": "Terminating", "status": "True", "reason": "InstanceDeletionPending",
        "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
        "lastTransitionTime": now});
    let mut conditions = marked.list("/status/conditions").to_vec();
    conditions.push(condition);
    marked["status"]["conditions"] = Value::Array(conditions);
    let marked = replace(state, call, object, marked);
    if call.options.effect == Effect::Real {
        delete_instances(state, call, &marked);
    }
    Ok(Outcome::Waiting(marked))
}

/// Deletes the objects of a definition; those without finalizers are gone at once.
fn delete_instances(state: &mut State, call: &Call<'_>, definition: &Arc<Value>) {
    let id = defined(definition);
    let Some(resource) = state.catalog.get(&id).cloned() else { return };
    let instances: Vec<(Key, Arc<Value>)> =
        state.store.list(&id, None).map(|(key, object)| (key.clone(), object.clone())).collect();
    for (key, instance) in instances {
        if instance.finalizers().is_empty() {
            state.erase(call.author(), &id, &key);
        } else if !instance.is_being_deleted() {
            let mut marked = (*instance).clone();
            mark(&mut marked, state.now());
            state.write(call.author(), &resource, marked);
        }
    }
    // Without objects there is nothing to wait for.
    state.finish_definition(&id);
}
