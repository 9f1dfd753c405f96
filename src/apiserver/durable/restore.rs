//! From what a database holds to a store: objects as they are, and the recent past from what each was before.
//!
//! Pure. [`super::database`] reads the rows; everything that does not fit together is an error with its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use thiserror::Error;

use crate::apiserver::object::Object as _;
use crate::apiserver::status::GroupResource;
use crate::apiserver::store::{Change, Key, Store};

/// An object as it lies in the database.
pub(super) struct WrittenObject {
    pub(super) resource: GroupResource,
    pub(super) key: Key,
    pub(super) written: Timestamp,
    pub(super) json: Vec<u8>,
}

/// A change as it lies in the database.
pub(super) struct Step {
    pub(super) revision: u64,
    pub(super) resource: GroupResource,
    pub(super) key: Key,
    /// What the object was before.
    pub(super) old: Option<Vec<u8>>,
}

/// All rows.
pub(super) struct Past {
    pub(super) objects: Vec<WrittenObject>,
    /// Oldest first.
    pub(super) history: Vec<Step>,
    pub(super) compacted: u64,
    pub(super) revision: u64,
}

type Place = (GroupResource, Key);

/// A cluster's last life.
#[derive(Debug)]
pub(super) struct Restored {
    objects: BTreeMap<Place, Arc<Value>>,
    history: Vec<Arc<Change>>,
    compacted: u64,
    revision: u64,
    written: BTreeMap<Place, Timestamp>,
    /// Where the generator of uids goes on.
    pub(super) random: u64,
    /// Cluster time of the last write.
    pub(super) time: Timestamp,
}

/// Rows that no cluster can have left.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Inconsistent {
    #[error("{resource} {namespace}/{name} is no object: {why}")]
    Object { resource: GroupResource, namespace: String, name: String, why: String },
    #[error("the history from revision {compacted} to {revision} has {found} changes")]
    Gap { compacted: u64, revision: u64, found: usize },
}

impl Restored {
    pub(super) fn of(past: Past, random: u64, time: Timestamp) -> Result<Self, Inconsistent> {
        let Past { objects: rows, history: steps, compacted, revision } = past;
        let contiguous = steps.iter().zip(compacted + 1..).all(|(step, expected)| step.revision == expected);
        if !contiguous || revision.checked_sub(compacted) != u64::try_from(steps.len()).ok() {
            return Err(Inconsistent::Gap { compacted, revision, found: steps.len() });
        }
        let (mut objects, mut written) = (BTreeMap::new(), BTreeMap::new());
        for row in rows {
            let object = parsed(&row.resource, &row.key, &row.json)?;
            written.insert((row.resource.clone(), row.key.clone()), row.written);
            objects.insert((row.resource, row.key), object);
        }
        let history = changes(steps, objects.clone())?;
        Ok(Self { objects, history, compacted, revision, written, random, time })
    }

    /// The store, and when each of its objects was last written.
    pub(super) fn into_store(self, history_limit: usize) -> (Store, BTreeMap<Place, Timestamp>) {
        let objects = self.objects.into_iter().map(|((resource, _), object)| (resource, object));
        let store = Store::restored(history_limit, objects, self.history, (self.compacted, self.revision));
        (store, self.written)
    }
}

/// The changes, walking back from the objects as they are `now`.
fn changes(steps: Vec<Step>, mut now: BTreeMap<Place, Arc<Value>>) -> Result<Vec<Arc<Change>>, Inconsistent> {
    let mut changes = Vec::with_capacity(steps.len());
    for Step { revision, resource, key, old } in steps.into_iter().rev() {
        let old = old.map(|json| parsed(&resource, &key, &json)).transpose()?;
        let place = (resource.clone(), key.clone());
        let new = match &old {
            Some(old) => now.insert(place, old.clone()),
            None => now.remove(&place),
        };
        if old.is_none() && new.is_none() {
            return Err(unfit(&resource, &key, format!("revision {revision} neither made nor removed it")));
        }
        changes.push(Arc::new(Change { revision, resource, key, old, new }));
    }
    changes.reverse();
    Ok(changes)
}

fn parsed(resource: &GroupResource, key: &Key, json: &[u8]) -> Result<Arc<Value>, Inconsistent> {
    let object: Value =
        serde_json::from_slice(json).map_err(|error| unfit(resource, key, error.to_string()))?;
    if Key::of(&object) != *key || object.resource_version().is_empty() {
        return Err(unfit(resource, key, "its metadata is another's".to_owned()));
    }
    Ok(Arc::new(object))
}

fn unfit(resource: &GroupResource, key: &Key, why: String) -> Inconsistent {
    let Key { namespace, name } = key.clone();
    Inconsistent::Object { resource: resource.clone(), namespace, name, why }
}
