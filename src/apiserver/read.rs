//! Reading: get, list with pages and revisions, and the beginning of a watch.
//!
//! Depends on the state and a resolved [`Call`]. [`super::server`] dispatches here; a watch goes on in
//! [`super::stream`].

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Value, json};

use super::call::Call;
use super::http::accept::Form;
use super::http::options::{AsOf, ListOptions, Mode};
use super::http::reply::Reply;
use super::object::Object;
use super::resource::{Origin, Scope, Subresource};
use super::selector::FieldSelector;
use super::state::State;
use super::status::ApiError;
use super::store::{self, Key};
use super::watch::{Event, EventType, Selection, Subscription, event};
use super::write::scale;

/// GET of one object or of a part of it.
pub(crate) fn get(state: &State, call: &Call<'_>) -> Result<Reply, ApiError> {
    if let Some(version) = call.request.query.get("resourceVersion") {
        let version = version.parse().map_err(|_| {
            ApiError::bad_request(format!(
                "invalid resource version: strconv.ParseUint: parsing \"{version}\": invalid syntax"
            ))
        })?;
        check_reached(state, version)?;
    }
    let object = state.store.get(&call.resource.id, &call.key()).ok_or_else(|| call.not_found())?;
    let value = match call.subresource {
        Some(Subresource::Scale) => scale::of(call, object)?,
        _ => call.presenter().object(object, state.now()),
    };
    Ok(Reply::document(value, call.accept.media))
}

fn check_reached(state: &State, wanted: u64) -> Result<(), ApiError> {
    let current = state.store.revision();
    if wanted > current { Err(ApiError::VersionAhead { wanted, current }) } else { Ok(()) }
}

/// Which objects a list or watch is about; refuses fields that the kind does not offer.
pub(crate) fn selection(call: &Call<'_>, options: &ListOptions) -> Result<Selection, ApiError> {
    let rules = call.rules();
    let mut fields = options.fields.clone();
    for field in fields.fields() {
        let known = field == "metadata.name"
            || (field == "metadata.namespace" && call.resource.scope == Scope::Namespaced)
            || rules.field(&Value::Null, field).is_some();
        if !known {
            return Err(ApiError::bad_request(rules.unknown_field(field)));
        }
    }
    if !call.target.name.is_empty() {
        if fields.required_name().is_some_and(|name| name != call.target.name) {
            return Err(ApiError::bad_request("fieldSelector metadata.name doesn't match requested name"));
        }
        if fields.is_empty() {
            fields = FieldSelector::name(&call.target.name);
        }
    }
    let namespace = &call.target.namespace;
    Ok(Selection {
        namespace: (!namespace.is_empty()).then(|| namespace.clone()),
        labels: options.labels.clone(),
        fields,
        rules,
    })
}

/// A page of a list.
pub(crate) struct Page {
    pub(crate) items: Vec<Arc<Value>>,
    pub(crate) revision: u64,
    /// Token for the next page, and how many objects it and those after it hold (unknown with a selector).
    pub(crate) rest: Option<(String, Option<usize>)>,
}

/// The objects that a list request asks for.
pub(crate) fn page(state: &State, call: &Call<'_>, options: &ListOptions) -> Result<Page, ApiError> {
    let selection = selection(call, options)?;
    let (revision, start) = match &options.continue_token {
        Some(token) => decode_token(token)?,
        None => match options.as_of {
            AsOf::Latest => (state.store.revision(), None),
            AsOf::NotOlderThan(version) => {
                check_reached(state, version)?;
                (state.store.revision(), None)
            }
            AsOf::Exact(version) => {
                check_reached(state, version)?;
                (version, None)
            }
        },
    };
    let namespace = selection.namespace.as_deref();
    if revision == state.store.revision() {
        let objects = state.store.list(&call.resource.id, namespace);
        return Ok(cut(objects, &selection, options, revision, start.as_ref()));
    }
    let Some(past) = state.store.as_of(&call.resource.id, revision) else {
        return Err(ApiError::Expired(if options.continue_token.is_some() {
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter."
                .to_owned()
        } else {
            format!(
                "The resourceVersion for the provided list is too old: {revision} ({})",
                state.store.compacted()
            )
        }));
    };
    Ok(cut(store::within(&past, namespace), &selection, options, revision, start.as_ref()))
}

fn cut<'s>(
    objects: impl Iterator<Item = (&'s Key, &'s Arc<Value>)>,
    selection: &Selection,
    options: &ListOptions,
    revision: u64,
    start: Option<&Key>,
) -> Page {
    let mut items = Vec::new();
    let mut last: Option<Key> = None;
    let mut remaining = 0;
    for (key, object) in objects {
        if start.is_some_and(|start| key <= start) || !selection.matches(object) {
            continue;
        }
        if options.limit > 0 && items.len() >= options.limit {
            remaining += 1;
            continue;
        }
        items.push(object.clone());
        last = Some(key.clone());
    }
    let unselective = selection.labels.is_empty() && selection.fields.is_empty();
    let rest = last
        .filter(|_| remaining > 0)
        .map(|last| (encode_token(revision, &last), unselective.then_some(remaining)));
    Page { items, revision, rest }
}

/// Opaque to clients: the revision of the list and the last key of the page, in hexadecimal digits.
fn encode_token(revision: u64, last: &Key) -> String {
    let text = json!([revision, last.namespace, last.name]).to_string();
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn decode_token(token: &str) -> Result<(u64, Option<Key>), ApiError> {
    let invalid = || ApiError::bad_request("invalid continue token: continue key is not valid");
    let digits = token.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return Err(invalid());
    }
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(text, 16).ok()
    };
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    let (revision, namespace, name): (u64, String, String) =
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(invalid)?;
    Ok((revision, Some(Key { namespace, name })))
}

/// LIST.
pub(crate) fn list(state: &State, call: &Call<'_>) -> Result<Reply, ApiError> {
    let options = ListOptions::parse(&call.request.query, Mode::List)?;
    let page = page(state, call, &options)?;
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if call.resource.origin == Origin::Definition && call.accept.form == Form::Objects {
        metadata["continue"] = json!("");
    }
    if let Some((token, remaining)) = page.rest {
        metadata["continue"] = json!(token);
        if let Some(remaining) = remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    let value = call.presenter().list(&page.items, &metadata, state.now());
    Ok(Reply::document(value, call.accept.media))
}

/// How a watch begins.
pub(crate) enum Beginning {
    Subscribed(Subscription),
    /// The history that it asks for is gone; told as an event of the watch.
    Expired(ApiError),
}

/// WATCH: subscribes to changes, with what happened since the revision that the client names (or, without one, with
/// the objects as they are).
pub(crate) fn watch(
    state: &mut State,
    call: &Call<'_>,
    options: &ListOptions,
) -> Result<Beginning, ApiError> {
    let selection = selection(call, options)?;
    let current = state.store.revision();
    let mut backlog = VecDeque::new();
    let after = match options.since {
        None => {
            let objects = state.store.list(&call.resource.id, selection.namespace.as_deref());
            let selected = objects.filter(|(_, object)| selection.matches(object));
            backlog
                .extend(selected.map(|(_, object)| Event { kind: EventType::Added, object: object.clone() }));
            current
        }
        Some(since) => {
            let Some(changes) = state.store.changes_after(since) else {
                let oldest = state.store.compacted();
                return Ok(Beginning::Expired(ApiError::Expired(format!(
                    "too old resource version: {since} ({oldest})"
                ))));
            };
            let ours = changes.filter(|change| change.resource == call.resource.id);
            backlog.extend(ours.filter_map(|change| event(change, &selection)));
            since.max(current)
        }
    };
    let subscription = state.hub.subscribe(&call.resource.id, selection, after, backlog);
    Ok(Beginning::Subscribed(subscription))
}

/// Whether the namespace of a new object exists and takes objects.
pub(crate) fn namespace<'s>(state: &'s State, name: &str) -> Option<&'s Arc<Value>> {
    let namespaces = super::status::GroupResource::new("", "namespaces");
    state.store.get(&namespaces, &Key::new("", name)).filter(|namespace| namespace.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_carry_the_revision_and_the_last_key() {
        let key = Key::new("a", "b");
        let token = encode_token(42, &key);
        assert_eq!(decode_token(&token).unwrap(), (42, Some(key)));
        for bad in ["abc", "zz", "5b5d", ""] {
            assert!(decode_token(bad).is_err(), "{bad}");
        }
    }
}
