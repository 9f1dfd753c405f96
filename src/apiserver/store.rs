//! Objects, their one revision counter and the recent changes.
//!
//! The seam behind which storage stands: everything that changes goes through [`Store::put`] and
//! [`Store::remove`], everything read comes from [`Store::get`], [`Store::list`] and [`Store::as_of`]. Knows
//! nothing of kinds. [`super::state`] owns it and tells the watchers of each [`Change`]; [`super::durable`] keeps the
//! changes on disk, where that is wanted, and restores a store from them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::{Value, json};

use super::object::Object;
use super::status::GroupResource;

/// Where an object stands within its resource; orders as lists are ordered, by namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// Empty for objects of cluster scope.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub(crate) fn of(object: &Value) -> Self {
        Self::new(object.namespace(), object.name())
    }
}

/// One committed write.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) resource: GroupResource,
    pub(crate) key: Key,
    pub(crate) old: Option<Arc<Value>>,
    /// `None` for a removal.
    pub(crate) new: Option<Arc<Value>>,
}

impl Change {
    /// The object to show: the new one, or the removed one at the revision of its removal.
    pub(crate) fn object(&self) -> Arc<Value> {
        match (&self.new, &self.old) {
            (Some(new), _) => new.clone(),
            (None, Some(old)) => at_revision(old, self.revision),
            (None, None) => Arc::new(Value::Null),
        }
    }
}

/// A copy of `object` that carries `revision` as its resourceVersion.
pub(crate) fn at_revision(object: &Value, revision: u64) -> Arc<Value> {
    let mut copy = object.clone();
    copy.set_meta("resourceVersion", Some(json!(revision.to_string())));
    Arc::new(copy)
}

/// The objects of one resource.
pub(crate) type Collection = BTreeMap<Key, Arc<Value>>;

/// All objects, and as many of the last changes as `history_limit` allows. A clone shares the objects.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    revision: u64,
    collections: BTreeMap<GroupResource, Collection>,
    history: VecDeque<Arc<Change>>,
    history_limit: usize,
    /// Changes up to and including this revision are no longer kept.
    compacted: u64,
}

impl Store {
    pub(crate) fn new(history_limit: usize) -> Self {
        Self {
            revision: 1,
            collections: BTreeMap::new(),
            history: VecDeque::new(),
            history_limit,
            compacted: 1,
        }
    }

    /// The store that wrote these `objects` and, last, this `history`, which begins after the revision `compacted`.
    pub(crate) fn restored(
        history_limit: usize,
        objects: impl IntoIterator<Item = (GroupResource, Arc<Value>)>,
        history: Vec<Arc<Change>>,
        (compacted, revision): (u64, u64),
    ) -> Self {
        let mut store = Self { revision, compacted, history: history.into(), ..Self::new(history_limit) };
        for (resource, object) in objects {
            store.collections.entry(resource).or_default().insert(Key::of(&object), object);
        }
        store.forget();
        store
    }

    /// The revision of the last write.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn get(&self, resource: &GroupResource, key: &Key) -> Option<&Arc<Value>> {
        self.collections.get(resource)?.get(key)
    }

    /// The objects of a resource in order, of one namespace or of all.
    pub(crate) fn list<'s>(
        &'s self,
        resource: &GroupResource,
        namespace: Option<&'s str>,
    ) -> impl Iterator<Item = (&'s Key, &'s Arc<Value>)> + use<'s> {
        self.collections.get(resource).into_iter().flat_map(move |objects| within(objects, namespace))
    }

    /// Whether a resource has no objects.
    pub(crate) fn is_empty(&self, resource: &GroupResource) -> bool {
        self.collections.get(resource).is_none_or(BTreeMap::is_empty)
    }

    /// Writes an object under the next revision, which becomes its resourceVersion.
    pub(crate) fn put(&mut self, resource: &GroupResource, mut object: Value) -> Arc<Change> {
        self.revision += 1;
        object.set_meta("resourceVersion", Some(json!(self.revision.to_string())));
        let key = Key::of(&object);
        let new = Arc::new(object);
        let old = self.collections.entry(resource.clone()).or_default().insert(key.clone(), new.clone());
        self.record(Change { revision: self.revision, resource: resource.clone(), key, old, new: Some(new) })
    }

    /// Removes an object; `None` if there is none.
    pub(crate) fn remove(&mut self, resource: &GroupResource, key: &Key) -> Option<Arc<Change>> {
        let old = self.collections.get_mut(resource)?.remove(key)?;
        self.revision += 1;
        let key = key.clone();
        let change =
            Change { revision: self.revision, resource: resource.clone(), key, old: Some(old), new: None };
        Some(self.record(change))
    }

    /// Does what another store with the same past did.
    pub(crate) fn adopt(&mut self, change: Arc<Change>) {
        self.revision = change.revision;
        let objects = self.collections.entry(change.resource.clone()).or_default();
        match &change.new {
            Some(new) => objects.insert(change.key.clone(), new.clone()),
            None => objects.remove(&change.key),
        };
        self.history.push_back(change);
        self.forget();
    }

    /// Replaces objects in place, without a write: what reading them through a changed schema gives.
    pub(crate) fn reread(&mut self, resource: &GroupResource, read: impl Fn(&Value) -> Value) {
        for object in self.collections.get_mut(resource).into_iter().flat_map(BTreeMap::values_mut) {
            let reread = read(object);
            if reread != **object {
                *object = Arc::new(reread);
            }
        }
    }

    fn record(&mut self, change: Change) -> Arc<Change> {
        let change = Arc::new(change);
        self.history.push_back(change.clone());
        self.forget();
        change
    }

    /// Drops the changes that are beyond the limit.
    fn forget(&mut self) {
        while self.history.len() > self.history_limit {
            if let Some(dropped) = self.history.pop_front() {
                self.compacted = dropped.revision;
            }
        }
    }

    /// The oldest revision from which a watch can start.
    pub(crate) fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Every object, by resource, namespace and name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&GroupResource, &Key, &Arc<Value>)> {
        self.collections
            .iter()
            .flat_map(|(resource, objects)| objects.iter().map(move |(key, object)| (resource, key, object)))
    }

    /// The changes after `revision`, oldest first; `None` if some of them are no longer kept.
    pub(crate) fn changes_after(&self, revision: u64) -> Option<impl Iterator<Item = &Arc<Change>>> {
        if revision < self.compacted {
            return None;
        }
        let first = self.history.partition_point(|change| change.revision <= revision);
        Some(self.history.range(first..))
    }

    /// The objects of a resource as they were at `revision`; `None` if that is no longer known.
    pub(crate) fn as_of(&self, resource: &GroupResource, revision: u64) -> Option<Collection> {
        let mut objects = self.collections.get(resource).cloned().unwrap_or_default();
        let changes: Vec<_> = self.changes_after(revision)?.filter(|c| &c.resource == resource).collect();
        for change in changes.into_iter().rev() {
            match &change.old {
                Some(old) => objects.insert(change.key.clone(), old.clone()),
                None => objects.remove(&change.key),
            };
        }
        Some(objects)
    }
}

/// The part of a collection that lies in `namespace`, or all of it.
pub(crate) fn within<'c>(
    objects: &'c Collection,
    namespace: Option<&'c str>,
) -> impl Iterator<Item = (&'c Key, &'c Arc<Value>)> + use<'c> {
    let start = namespace.map_or(Bound::Unbounded, |n| Bound::Included(Key::new(n, "")));
    objects
        .range((start, Bound::Unbounded))
        .take_while(move |(key, _)| namespace.is_none_or(|n| key.namespace == n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> GroupResource {
        GroupResource::new("", "pods")
    }

    fn pod(namespace: &str, name: &str, image: &str) -> Value {
        json!({"metadata": {"namespace": namespace, "name": name}, "image": image})
    }

    fn names(objects: &Collection) -> Vec<String> {
        objects.iter().map(|(k, v)| format!("{}/{}={}", k.namespace, k.name, v.text("/image"))).collect()
    }

    #[test]
    fn lists_are_sorted_by_namespace_and_name() {
        let mut store = Store::new(10);
        for (namespace, name) in [("b", "x"), ("a", "z"), ("a", "y"), ("a-b", "w")] {
            store.put(&pods(), pod(namespace, name, "1"));
        }
        let all: Vec<_> =
            store.list(&pods(), None).map(|(k, _)| format!("{}/{}", k.namespace, k.name)).collect();
        assert_eq!(all, ["a/y", "a/z", "a-b/w", "b/x"]);
        assert_eq!(store.list(&pods(), Some("a")).count(), 2);
        assert_eq!(store.list(&GroupResource::new("apps", "pods"), None).count(), 0);
    }

    #[test]
    fn every_write_takes_the_next_revision() {
        let mut store = Store::new(10);
        let before = store.revision();
        let created = store.put(&pods(), pod("a", "x", "1"));
        let removed = store.remove(&pods(), &Key::new("a", "x")).unwrap();
        assert_eq!((created.revision, removed.revision), (before + 1, before + 2));
        assert_eq!(created.object().resource_version(), created.revision.to_string());
        assert_eq!(removed.object().resource_version(), removed.revision.to_string());
        assert!(store.remove(&pods(), &Key::new("a", "x")).is_none());
        assert_eq!(store.revision(), before + 2);
    }

    #[test]
    fn the_past_can_be_read_as_far_as_history_goes() {
        let mut store = Store::new(3);
        store.put(&pods(), pod("a", "x", "1"));
        let first = store.put(&pods(), pod("a", "y", "1")).revision;
        store.put(&pods(), pod("a", "x", "2"));
        store.remove(&pods(), &Key::new("a", "y"));
        assert_eq!(names(&store.as_of(&pods(), first).unwrap()), ["a/x=1", "a/y=1"]);
        assert_eq!(names(&store.as_of(&pods(), store.revision()).unwrap()), ["a/x=2"]);
        store.put(&pods(), pod("a", "z", "1"));
        store.put(&pods(), pod("a", "z", "2"));
        assert!(store.as_of(&pods(), first).is_none());
        assert!(store.changes_after(first).is_none());
        assert_eq!(store.changes_after(store.compacted()).unwrap().count(), 3);
    }
}
