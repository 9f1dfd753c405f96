//! Lists: those with a key are merged item by item, those of scalars as sets, the others replaced.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::text::{GoList, go_type};
use super::{DIRECTIVE, GoText, Members, PatchError, merge_objects, order, unknown_directive};
use crate::apiserver::go_types::{Member, Schema, Strategy};

/// What the items of a list are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Items {
    Objects,
    Scalars,
}

impl Items {
    /// The type of all items; `None` where there are none.
    pub(super) fn of(lists: &[&[Value]]) -> Result<Option<Self>, PatchError> {
        let mut items = lists.iter().copied().flatten();
        let Some(first) = items.next() else { return Ok(None) };
        if first.is_array() {
            return Err(PatchError::ListOfLists);
        }
        // Go has no answer for a null here: it ends the request with a panic.
        if first.is_null() || !items.all(|item| same_type(first, item)) {
            let lists: Vec<String> = lists.iter().map(|list| GoList(list).to_string()).collect();
            return Err(PatchError::MixedList(lists.join(" ")));
        }
        Ok(Some(if first.is_object() { Self::Objects } else { Self::Scalars }))
    }
}

fn same_type(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.is_f64() == right.is_f64(),
        _ => std::mem::discriminant(left) == std::mem::discriminant(right),
    }
}

/// What an item is told apart by: its key, or the item itself where there is none.
pub(super) fn identity(item: &Value, key: &str) -> Result<String, PatchError> {
    if key.is_empty() && !item.is_object() {
        return Ok(item.to_string());
    }
    let Value::Object(members) = item else {
        return Err(PatchError::WrongType { expected: "map[string]interface {}", found: go_type(item) });
    };
    match members.get(key) {
        Some(value) => Ok(value.to_string()),
        None => Err(no_merge_key(item, key)),
    }
}

fn no_merge_key(item: &Value, key: &str) -> PatchError {
    PatchError::NoMergeKey { item: GoText(item).to_string(), key: key.to_owned() }
}

/// The list that a patch makes of a present one.
pub(super) fn merge_lists(
    present: Vec<Value>,
    change: Vec<Value>,
    items: Member,
) -> Result<Vec<Value>, PatchError> {
    match items.strategy {
        Strategy::Merge => merge_items(present, change, items),
        Strategy::Usual | Strategy::Replace => Ok(change),
    }
}

/// Takes scalars out of a list. A list of objects is merged instead, as the real server does.
pub(super) fn delete_items(
    present: Vec<Value>,
    gone: Vec<Value>,
    items: Member,
) -> Result<Vec<Value>, PatchError> {
    if Items::of(&[&present, &gone])? != Some(Items::Scalars) {
        return merge_items(present, gone, items);
    }
    let gone: HashSet<String> = gone.iter().map(Value::to_string).collect();
    Ok(present.into_iter().filter(|item| !gone.contains(&item.to_string())).collect())
}

fn merge_items(present: Vec<Value>, change: Vec<Value>, items: Member) -> Result<Vec<Value>, PatchError> {
    let Some(kind) = Items::of(&[&present, &change])? else { return Ok(present) };
    if kind == Items::Scalars {
        let mut known = HashSet::new();
        let both = present.iter().chain(&change);
        let merged = both.filter(|item| known.insert(item.to_string())).cloned().collect();
        return order::arranged(merged, &change, &present, items.key);
    }
    if items.key.is_empty() {
        return Err(PatchError::NoDeclaredKey(items.schema.kind()));
    }
    let (present, change) = follow_directives(present, change, items.key)?;
    let merged = merge_by_key(present.clone(), &change, items.key, items.schema)?;
    order::arranged(merged, &change, &present, items.key)
}

/// Deletes the items that the patch wants gone; `$patch: replace` leaves those of the patch alone. Returns what is
/// left of both lists.
fn follow_directives(
    present: Vec<Value>,
    change: Vec<Value>,
    key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let (mut kept, mut gone, mut replaced) = (Vec::new(), HashSet::new(), false);
    for item in change {
        let Some(directive) = item.get(DIRECTIVE) else {
            kept.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => drop(gone.insert(identity(&item, key)?)),
            Some("replace") => replaced = true,
            Some("merge") => return Err(PatchError::MergeDirective),
            _ => return Err(unknown_directive(item.as_object().unwrap_or(&Members::new()))),
        }
    }
    if replaced {
        return Ok((kept, Vec::new()));
    }
    // An item without the key is no item of another's; the arrangement refuses it.
    let stays = |item: &Value| identity(item, key).map_or(true, |identity| !gone.contains(&identity));
    Ok((present.into_iter().filter(stays).collect(), kept))
}

/// Merges each item of the patch into the first present one with the same key, or adds it.
fn merge_by_key(
    mut merged: Vec<Value>,
    change: &[Value],
    key: &str,
    schema: Schema,
) -> Result<Vec<Value>, PatchError> {
    let mut places: HashMap<String, usize> = HashMap::new();
    for (place, item) in merged.iter().enumerate() {
        if let Ok(identity) = identity(item, key) {
            places.entry(identity).or_insert(place);
        }
    }
    for item in change {
        let identity = identity(item, key)?;
        match (places.get(&identity), item) {
            (Some(place), Value::Object(item)) => {
                if let Value::Object(present) = merged[*place].take() {
                    merged[*place] = Value::Object(merge_objects(present, item.clone(), schema)?);
                }
            }
            _ => {
                places.insert(identity, merged.len());
                merged.push(item.clone());
            }
        }
    }
    Ok(merged)
}
