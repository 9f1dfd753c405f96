//! The order of merged lists: items of the patch as the patch has them, the others where they were.

use std::collections::HashMap;

use serde_json::Value;

use super::list::{Items, identity, merge_lists};
use super::text::{GoList, go_type};
use super::{DIRECTIVE, ELEMENT_ORDER, Members, PatchError, without_directives};
use crate::apiserver::go_types::{Member, Schema};

/// Merges the lists for which the patch says an order. They, and what orders them, leave the patch.
pub(super) fn merge_ordered(
    object: &mut Members,
    patch: &mut Members,
    schema: Schema,
) -> Result<(), PatchError> {
    let directives: Vec<String> =
        patch.keys().filter(|name| name.starts_with(ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let order = into_list(patch.shift_remove(&directive).unwrap_or_default())?;
        let name = directive.strip_prefix(ELEMENT_ORDER).and_then(|rest| rest.strip_prefix('/'));
        let name = name.ok_or(PatchError::Malformed("setElementOrder list"))?;
        let present = object.get(name).cloned().map(into_list).transpose()?;
        let change = patch.get(name).cloned().map(into_list).transpose()?;
        let items = schema.items(name)?;
        check_order(change.as_deref().unwrap_or_default(), &order, items.key)?;
        if present.is_none() && change.is_none() {
            continue;
        }
        let merged = ordered(present, change, &order, items)?;
        object.insert(name.to_owned(), Value::Array(merged));
        patch.shift_remove(name);
    }
    Ok(())
}

fn into_list(value: Value) -> Result<Vec<Value>, PatchError> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(PatchError::WrongType { expected: "[]interface {}", found: go_type(&other) }),
    }
}

fn ordered(
    present: Option<Vec<Value>>,
    change: Option<Vec<Value>>,
    order: &[Value],
    items: Member,
) -> Result<Vec<Value>, PatchError> {
    let before = present.clone().unwrap_or_default();
    if Items::of(&[&before, change.as_deref().unwrap_or_default()])?.is_none() {
        return Err(PatchError::NothingToOrder);
    }
    let merged = match (present, change) {
        (Some(present), Some(change)) => merge_lists(present, change, items)?,
        (Some(present), None) => present,
        (None, change) => change.into_iter().flatten().filter_map(without_directives).collect(),
    };
    arranged(merged, order, &before, items.key)
}

/// Whether the items of the patch stand in the order that it says.
fn check_order(change: &[Value], order: &[Value], key: &str) -> Result<(), PatchError> {
    if order.is_empty() || change.is_empty() {
        return Ok(());
    }
    let mut wanted = order.iter();
    for item in change.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let mut found = false;
        for next in wanted.by_ref() {
            if identity(item, key)? == identity(next, key)? {
                found = true;
                break;
            }
        }
        if !found {
            let (patch, order) = (GoList(change).to_string(), GoList(order).to_string());
            return Err(PatchError::WrongOrder { patch, order });
        }
    }
    Ok(())
}

/// First place of each item in a list.
struct Places(HashMap<String, usize>);

impl Places {
    fn of(list: &[Value], key: &str) -> Result<Self, PatchError> {
        let mut places = HashMap::new();
        for (place, item) in list.iter().enumerate() {
            places.entry(identity(item, key)?).or_insert(place);
        }
        Ok(Self(places))
    }
}

/// Brings a merged list in order: the items that `wanted` names as it names them, between the others as they stood in
/// `before`.
pub(super) fn arranged(
    merged: Vec<Value>,
    wanted: &[Value],
    before: &[Value],
    key: &str,
) -> Result<Vec<Value>, PatchError> {
    let (wanted, before) = (Places::of(wanted, key)?, Places::of(before, key)?);
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for item in merged {
        let identity = identity(&item, key)?;
        let place = before.0.get(&identity).copied();
        match wanted.0.get(&identity) {
            Some(rank) => named.push((*rank, place, item)),
            None => others.push((place, item)),
        }
    }
    named.sort_by_key(|(rank, ..)| *rank);
    // Those that were not there stand first, the last of them foremost: Go's comparison takes each of them for smaller
    // than whatever it is compared with.
    let (mut new, mut known): (Vec<_>, Vec<_>) = others.into_iter().partition(|(place, _)| place.is_none());
    new.reverse();
    known.sort_by_key(|(place, _)| *place);
    new.append(&mut known);
    let (mut named, mut others) = (named.into_iter().peekable(), new.into_iter().peekable());
    let mut out = Vec::new();
    loop {
        let other_first = match (others.peek(), named.peek()) {
            (Some((Some(other), _)), Some((_, Some(named), _))) => other < named,
            (Some(_), None) => true,
            (_, Some(_)) => false,
            (None, None) => return Ok(out),
        };
        let next = if other_first {
            others.next().map(|(_, item)| item)
        } else {
            named.next().map(|(_, _, item)| item)
        };
        out.extend(next);
    }
}
