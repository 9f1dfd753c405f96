//! One kind's objects, with the indexes that are looked up by.
//!
//! Filled by [`super::reflect()`]. A list replaces everything at once; what it no longer has counts as deleted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kube::ResourceExt;

use super::kinds::{PodRecord, RolloutRecord, ServiceRecord, SetRecord};
use super::object::{Key, is_at_least};
use crate::crd::WorkloadName;

/// A change to a cache, by the object that it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// A rollout itself.
    Rollout(Key, Change),
    /// Something below the rollout with this uid.
    Below {
        /// The rollout's namespace.
        namespace: String,
        /// The rollout's uid.
        uid: String,
    },
    /// Something below the ReplicaSet with this uid.
    BelowSet {
        /// The set's namespace.
        namespace: String,
        /// The set's uid.
        uid: String,
    },
    /// A ReplicaSet that nobody controls.
    Orphan {
        /// Its namespace.
        namespace: String,
    },
    /// It became known which step plugins there are.
    Plugins,
    /// A Service.
    Service(Key),
    /// A ReplicaSet of the rollout with this uid left the watch, which was not our deletion: it is gone, or has lost its hash label.
    SetLeft {
        /// The ReplicaSet.
        set: Key,
        /// The rollout's uid.
        rollout: String,
    },
    /// A workload that rollouts may take their pod templates from.
    Workload {
        /// Its namespace.
        namespace: String,
        /// Its kind and name.
        name: WorkloadName,
    },
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Added,
    /// It is another than it was.
    Modified,
    /// It is gone.
    Deleted,
}

/// What a cached kind must say of itself.
pub trait Record: ResourceExt + Send + Sync + 'static {
    /// The uid of the owner that controls it, by which it is indexed; of a Service the name of the rollout that manages it.
    fn controller(&self) -> Option<&str>;
}

impl Record for RolloutRecord {
    fn controller(&self) -> Option<&str> {
        None
    }
}

impl Record for SetRecord {
    fn controller(&self) -> Option<&str> {
        self.set.controller()
    }
}

impl Record for PodRecord {
    fn controller(&self) -> Option<&str> {
        self.controller.as_deref()
    }
}

impl Record for ServiceRecord {
    fn controller(&self) -> Option<&str> {
        self.service.managed_by.as_deref()
    }
}

/// The objects of one kind.
#[derive(Debug)]
pub struct Cache<R> {
    inner: RwLock<Inner<R>>,
    /// The label selector of the objects that are watched.
    selector: OnceLock<String>,
}

#[derive(Debug)]
struct Inner<R> {
    objects: BTreeMap<Key, Arc<R>>,
    by_controller: HashMap<String, BTreeSet<Key>>,
    without_controller: BTreeSet<Key>,
    by_uid: HashMap<String, Key>,
    listed: bool,
    /// Fresh reads that have no answer yet.
    reads: Vec<Read>,
    next_read: u64,
}

/// A fresh read of an object, and whether the watch told meanwhile that it is gone.
#[derive(Debug)]
struct Read {
    id: u64,
    key: Key,
    is_gone: bool,
}

impl<R> Default for Cache<R> {
    fn default() -> Self {
        Self { inner: RwLock::default(), selector: OnceLock::new() }
    }
}

impl<R: Record> Cache<R> {
    /// An object by its name.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<R>> {
        self.read().objects.get(key).cloned()
    }

    /// Objects in order, after a key (exclusively) and within a namespace where one is given, at most so many.
    #[must_use]
    pub fn page(&self, namespace: Option<&str>, after: Option<&Key>, most: usize) -> Vec<Arc<R>> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let from = match (after, namespace) {
            (Some(after), _) => Excluded(after.clone()),
            (None, Some(namespace)) => Included(Key::new(namespace, "")),
            (None, None) => Unbounded,
        };
        let inner = self.read();
        let within = |key: &Key| namespace.is_none_or(|namespace| key.namespace == namespace);
        let objects = inner.objects.range((from, Unbounded)).take_while(|(key, _)| within(key)).take(most);
        objects.map(|(_, object)| Arc::clone(object)).collect()
    }

    /// All objects, in order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<R>> {
        self.read().objects.values().cloned().collect()
    }

    /// The objects that the owner with this uid controls, by name.
    #[must_use]
    pub fn controlled_by(&self, uid: &str) -> Vec<Arc<R>> {
        let inner = self.read();
        let keys = inner.by_controller.get(uid).into_iter().flatten();
        keys.filter_map(|key| inner.objects.get(key)).map(Arc::clone).collect()
    }

    /// The objects of a namespace that nobody controls.
    #[must_use]
    pub fn without_controller(&self, namespace: &str) -> Vec<Arc<R>> {
        let inner = self.read();
        let keys = inner.without_controller.range(Key::new(namespace, "")..);
        keys.take_while(|key| key.namespace == namespace)
            .filter_map(|key| inner.objects.get(key))
            .cloned()
            .collect()
    }

    /// The name of the object with this uid.
    #[must_use]
    pub fn key_of(&self, uid: &str) -> Option<Key> {
        self.read().by_uid.get(uid).cloned()
    }

    /// Whether the first list is complete.
    #[must_use]
    pub fn has_listed(&self) -> bool {
        self.read().listed
    }

    /// The version of an object that is cached.
    #[must_use]
    pub fn version(&self, key: &Key) -> Option<String> {
        self.read().objects.get(key)?.resource_version()
    }

    /// Takes an object in, unless a newer version of it is there. Gives what it replaced.
    pub(super) fn insert(&self, object: Arc<R>) -> Option<(Arc<R>, Option<Arc<R>>)> {
        self.write().insert(object)
    }

    /// Forgets an object. Gives what it was.
    pub(super) fn remove(&self, key: &Key) -> Option<Arc<R>> {
        self.write().remove(key)
    }

    /// Replaces everything. Gives what was there before.
    pub(super) fn replace(&self, objects: Vec<Arc<R>>) -> BTreeMap<Key, Arc<R>> {
        let mut inner = self.write();
        let before = std::mem::take(&mut inner.objects);
        let (reads, next_read) = (std::mem::take(&mut inner.reads), inner.next_read);
        *inner = Inner { listed: true, reads, next_read, ..Inner::default() };
        for object in objects {
            inner.insert(object);
        }
        for read in 0..inner.reads.len() {
            let is_gone = !inner.objects.contains_key(&inner.reads[read].key);
            inner.reads[read].is_gone |= is_gone;
        }
        before
    }

    /// Says which objects are watched, once.
    pub(super) fn watches(&self, selector: &str) {
        self.selector.get_or_init(|| selector.to_owned());
    }

    /// The label selector of the objects that are watched; empty for all, and before any is.
    pub(super) fn selector(&self) -> &str {
        self.selector.get().map_or("", String::as_str)
    }

    /// An object is about to be read past the watch, which may be quicker to tell that it is gone.
    pub(super) fn read_past(&self, key: &Key) -> FreshRead<'_, R> {
        let mut inner = self.write();
        let id = inner.next_read;
        inner.next_read += 1;
        inner.reads.push(Read { id, key: key.clone(), is_gone: false });
        FreshRead { cache: self, id }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner<R>> {
        // Nothing panics while it holds the lock; should it ever, the maps are still whole.
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner<R>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fresh read of an object that is under way.
pub(super) struct FreshRead<'a, R: Record> {
    cache: &'a Cache<R>,
    id: u64,
}

impl<R: Record> FreshRead<'_, R> {
    /// Whether the watch told that the object is gone since the read began: what was read may be from before that.
    pub(super) fn is_outdated(&self) -> bool {
        self.cache.read().reads.iter().any(|read| read.id == self.id && read.is_gone)
    }
}

impl<R: Record> Drop for FreshRead<'_, R> {
    fn drop(&mut self) {
        self.cache.write().reads.retain(|read| read.id != self.id);
    }
}

impl<R> Default for Inner<R> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            by_controller: HashMap::new(),
            without_controller: BTreeSet::new(),
            by_uid: HashMap::new(),
            listed: false,
            reads: Vec::new(),
            next_read: 0,
        }
    }
}

impl<R: Record> Inner<R> {
    fn insert(&mut self, object: Arc<R>) -> Option<(Arc<R>, Option<Arc<R>>)> {
        let key = Key::of(&*object);
        if let Some(cached) = self.objects.get(&key)
            && let (Some(cached), Some(new)) = (cached.resource_version(), object.resource_version())
            && cached != new
            && is_at_least(&cached, &new)
        {
            return None;
        }
        let before = self.take(&key);
        match object.controller() {
            Some(uid) => {
                self.by_controller.entry(uid.to_owned()).or_default().insert(key.clone());
            }
            None => {
                self.without_controller.insert(key.clone());
            }
        }
        if let Some(uid) = object.uid() {
            self.by_uid.insert(uid, key.clone());
        }
        self.objects.insert(key, Arc::clone(&object));
        Some((object, before))
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<R>> {
        for read in self.reads.iter_mut().filter(|read| read.key == *key) {
            read.is_gone = true;
        }
        self.take(key)
    }

    fn take(&mut self, key: &Key) -> Option<Arc<R>> {
        let object = self.objects.remove(key)?;
        if let Some(uid) = object.uid() {
            self.by_uid.remove(&uid);
        }
        match object.controller() {
            Some(uid) => {
                if let Some(keys) = self.by_controller.get_mut(uid) {
                    keys.remove(key);
                    if keys.is_empty() {
                        self.by_controller.remove(uid);
                    }
                }
            }
            None => {
                self.without_controller.remove(key);
            }
        }
        Some(object)
    }
}
