//! Strategic merge patches: objects are merged member by member, and lists as the Go type of the field says.
//!
//! Pure; depends on [`super::go_types`] for the types. [`super::write`] applies patches with it. The rules are those of
//! `k8s.io/apimachinery/pkg/util/strategicpatch` on the server's side, its refusals included:
//!
//! - `mod`: members, and the directives of objects: `$patch`, `$retainKeys` · `list`: lists and their directives
//! - `order`: the order of a merged list, `$setElementOrder` · `text`: values in messages

mod list;
mod order;
mod text;

use serde_json::{Map, Value};
use thiserror::Error;

use super::go_types::{Schema, SchemaError, Strategy};

pub(crate) use text::GoText;

/// Says what is to be done with the object or the item that it stands in.
const DIRECTIVE: &str = "$patch";
/// Names the members of an object that stay.
const RETAIN_KEYS: &str = "$retainKeys";
/// With `/` and the name of a list: takes these items out of it.
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
/// With `/` and the name of a list: the order that it is to have.
const ELEMENT_ORDER: &str = "$setElementOrder";

/// Why a patch cannot be applied, in the real server's words.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum PatchError {
    /// A directive of the wrong form.
    #[error("invalid patch format of {0}")]
    Malformed(&'static str),
    #[error("lists of lists are not supported")]
    ListOfLists,
    #[error("unknown patch type: {directive} in map: {holder}")]
    UnknownDirective { directive: String, holder: String },
    #[error("merging lists cannot yet be specified in the patch")]
    MergeDirective,
    #[error("map: {item} does not contain declared merge key: {key}")]
    NoMergeKey { item: String, key: String },
    #[error("cannot merge lists without merge key for {0}")]
    NoDeclaredKey(&'static str),
    #[error("list element types are not identical: [{0}]")]
    MixedList(String),
    #[error("no elements in any of the given slices")]
    NothingToOrder,
    #[error("expected a {expected}, but received a {found}")]
    WrongType { expected: &'static str, found: &'static str },
    #[error("The order in patch list:\n{patch}\n doesn't match {ELEMENT_ORDER} list:\n{order}\n")]
    WrongOrder { patch: String, order: String },
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

type Members = Map<String, Value>;

/// Applies a patch to an object of a Go type.
pub(crate) fn merge(go_type: &'static str, object: Members, patch: Members) -> Result<Members, PatchError> {
    merge_objects(object, patch, Schema::Struct(go_type))
}

fn merge_objects(mut object: Members, mut patch: Members, schema: Schema) -> Result<Members, PatchError> {
    match patch.get(DIRECTIVE).map(Value::as_str) {
        None => {}
        Some(Some("replace")) => {
            patch.shift_remove(DIRECTIVE);
            return Ok(patch);
        }
        Some(Some("delete")) => return Ok(Members::new()),
        Some(_) => return Err(unknown_directive(&patch)),
    }
    retain_keys(&mut object, &mut patch)?;
    order::merge_ordered(&mut object, &mut patch, schema)?;
    for (name, value) in patch {
        match name.strip_prefix(DELETE_FROM_LIST) {
            None => merge_member(&mut object, &name, value, schema)?,
            Some(rest) => {
                let list = rest.strip_prefix('/').ok_or(PatchError::Malformed("primitive list"))?;
                delete_from_list(&mut object, list, value, schema)?;
            }
        }
    }
    Ok(object)
}

fn unknown_directive(holder: &Members) -> PatchError {
    let directive = holder.get(DIRECTIVE).map(|directive| GoText(directive).to_string());
    PatchError::UnknownDirective {
        directive: directive.unwrap_or_default(),
        holder: GoText(&Value::Object(holder.clone())).to_string(),
    }
}

/// Drops the members of the object that `$retainKeys` does not name. It must name all that the patch sets.
fn retain_keys(object: &mut Members, patch: &mut Members) -> Result<(), PatchError> {
    let malformed = || PatchError::Malformed("retainKeys");
    let Some(keys) = patch.shift_remove(RETAIN_KEYS) else { return Ok(()) };
    let keys = keys.as_array().ok_or_else(malformed)?;
    let retained = |name: &str| keys.iter().any(|key| key.as_str() == Some(name));
    let is_directive = |name: &str| name.starts_with(DELETE_FROM_LIST) || name.starts_with(ELEMENT_ORDER);
    if patch.iter().any(|(name, value)| !value.is_null() && !is_directive(name) && !retained(name)) {
        return Err(malformed());
    }
    object.retain(|name, _| retained(name));
    Ok(())
}

fn merge_member(object: &mut Members, name: &str, change: Value, schema: Schema) -> Result<(), PatchError> {
    if change.is_null() {
        object.shift_remove(name);
        return Ok(());
    }
    let merged = match (object.get_mut(name).map(Value::take), change) {
        (Some(Value::Object(present)), Value::Object(change)) => {
            let member = schema.member(name)?;
            Value::Object(match member.strategy {
                Strategy::Replace => change,
                Strategy::Usual | Strategy::Merge => merge_objects(present, change, member.schema)?,
            })
        }
        (Some(Value::Array(present)), Value::Array(change)) => {
            let items = schema.items(name)?;
            Value::Array(list::merge_lists(present, change, items)?)
        }
        (_, change) => match without_directives(without_nulls(change)) {
            Some(value) => value,
            None => {
                object.shift_remove(name);
                return Ok(());
            }
        },
    };
    object.insert(name.to_owned(), merged);
    Ok(())
}

/// Takes items out of a list; a list that is not there has none of them.
fn delete_from_list(object: &mut Members, name: &str, gone: Value, schema: Schema) -> Result<(), PatchError> {
    match (object.get_mut(name), gone) {
        (_, Value::Null) => {
            object.shift_remove(name);
        }
        (Some(Value::Array(present)), Value::Array(gone)) => {
            let items = schema.items(name)?;
            *present = list::delete_items(std::mem::take(present), gone, items)?;
        }
        _ => {}
    }
    Ok(())
}

/// A new value of a member: nothing is there that nulls could remove.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// A new value of a member without the objects that only say what is to be done with others.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(members) if members.contains_key(DIRECTIVE) => None,
        Value::Object(members) => {
            let kept =
                members.into_iter().filter_map(|(name, value)| Some((name, without_directives(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(items.into_iter().filter_map(without_directives).collect()),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests;
