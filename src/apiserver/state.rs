//! Everything that the server knows, and the one place where a write is committed.
//!
//! Depends on the store, the catalog and the watch hub. The handlers hold it locked for the length of one request, so
//! that requests are atomic and totally ordered; [`State::write`] and [`State::erase`] tell the watchers and the
//! hooks of each write before the next one begins. Of a cluster on disk there are two: [`super::durable`] lets writers
//! work on one that is [`State::ahead`], and [`State::settle`]s in the other what has become durable.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::audit::Verb;
use super::catalog::{Catalog, defined};
use super::kind::{self, DEFINITIONS};
use super::object::{self, Object};
use super::random::Random;
use super::resource::{Resource, Surroundings};
use super::status::GroupResource;
use super::store::{Change, Key, Store};
use super::watch::Hub;

/// User agent of the writes that the server does by itself.
const SERVER_AGENT: &str = "apiserver";

/// On whose behalf a write is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Author<'a> {
    pub(crate) agent: &'a str,
    pub(crate) verb: Verb,
    pub(crate) subresource: &'static str,
}

impl Author<'_> {
    fn server(verb: Verb) -> Self {
        Author { agent: SERVER_AGENT, verb, subresource: "" }
    }
}

/// One committed write, as a hook sees it.
#[derive(Debug)]
pub struct Write<'a> {
    /// User-Agent of the client; `apiserver` for what the server does by itself (expired events, instances of a
    /// deleted definition).
    pub user_agent: &'a str,
    /// What the client asked for; a deletion that only marks the object is [`Verb::Delete`] with a new object.
    pub verb: Verb,
    /// The resource of the object.
    pub resource: &'a GroupResource,
    /// `status`, `scale`, …; empty for the object itself.
    pub subresource: &'a str,
    /// The object before; `None` for a new one.
    pub old: Option<&'a Value>,
    /// The object after; `None` when it is gone.
    pub new: Option<&'a Value>,
    /// Revision of the write; also the resourceVersion of the new object.
    pub revision: u64,
    /// Cluster time of the write.
    pub time: Timestamp,
    /// All objects as of this write.
    pub objects: Objects<'a>,
}

/// Read access to all objects.
#[derive(Clone, Copy, Debug)]
pub struct Objects<'a>(&'a Store);

impl<'a> Objects<'a> {
    /// One object; `namespace` is empty for objects of cluster scope.
    #[must_use]
    pub fn get(&self, resource: &GroupResource, namespace: &str, name: &str) -> Option<&'a Value> {
        self.0.get(resource, &Key::new(namespace, name)).map(Arc::as_ref)
    }

    /// The objects of a resource in one namespace, or in all, by namespace and name.
    pub fn list(
        &self,
        resource: &GroupResource,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Value> + use<'a> {
        self.0.list(resource, namespace).map(|(_, object)| object.as_ref())
    }
}

/// Called for each committed write, in the order of commits, before the next request begins. It must not send
/// requests to the server and wait for them: the server is waiting for it.
pub(crate) type Hook = Box<dyn Fn(&Write<'_>) + Send>;

/// A write that nobody has been told of yet.
#[derive(Clone, Debug)]
pub(crate) struct Unsettled {
    pub(crate) change: Arc<Change>,
    /// Cluster time of the write.
    pub(crate) time: Timestamp,
    agent: String,
    verb: Verb,
    subresource: &'static str,
}

#[derive(Clone)]
struct Expiry {
    at: Timestamp,
    resource: GroupResource,
    key: Key,
    revision: u64,
}

/// The server's state.
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) catalog: Catalog,
    pub(crate) hub: Hub,
    pub(crate) random: Random,
    hooks: Vec<Hook>,
    /// Objects with a time to live, the next to go first: their kinds live equally long.
    expiries: VecDeque<Expiry>,
    now: Timestamp,
    /// Writes to be told of later; `None` where they are told of at once.
    unsettled: Option<Vec<Unsettled>>,
}

impl State {
    /// A new cluster: the built-in resources and the namespaces that every cluster has.
    pub(crate) fn new(seed: u64, history_limit: usize, now: Timestamp) -> Self {
        let mut state = Self::of(Store::new(history_limit), Random::new(seed), now);
        for name in kind::SYSTEM_NAMESPACES {
            let uid = state.random.uid();
            let namespace = json!({
                "kind": "Namespace",
                "apiVersion": "v1",
                "metadata": {"name": name, "uid": uid, "creationTimestamp": object::time(now),
                    "labels": {"kubernetes.io/metadata.name": name}},
                "spec": {"finalizers": [kind::KUBERNETES_FINALIZER]},
                "status": {"phase": "Active"},
            });
            state.store.put(&GroupResource::new("", "namespaces"), namespace);
        }
        state
    }

    fn of(store: Store, random: Random, now: Timestamp) -> Self {
        Self {
            store,
            catalog: Catalog::built_in(),
            hub: Hub::default(),
            random,
            hooks: Vec::new(),
            expiries: VecDeque::new(),
            now,
            unsettled: None,
        }
    }

    /// The cluster whose last life wrote `store` and left `random`. `written` says when each object was last written.
    pub(crate) fn restored(
        store: Store,
        random: Random,
        written: impl Fn(&GroupResource, &Key) -> Timestamp,
        now: Timestamp,
    ) -> Self {
        let mut state = Self::of(store, random, now);
        let definitions = GroupResource::new(DEFINITIONS.0, DEFINITIONS.1);
        let defined: Vec<_> =
            state.store.list(&definitions, None).map(|(_, object)| object.clone()).collect();
        for definition in defined {
            if let Some(resource) = state.catalog.define(&definition) {
                // Stored objects may be of an earlier schema.
                state.reread(&resource);
            }
        }
        let lasting = |resource: &GroupResource, key: &Key, object: &Arc<Value>| {
            let lifetime = lifetime(state.catalog.get(resource)?)?;
            let revision = object.resource_version().parse().ok()?;
            Some(Expiry {
                at: written(resource, key).checked_add(lifetime).unwrap_or(Timestamp::MAX),
                resource: resource.clone(),
                key: key.clone(),
                revision,
            })
        };
        let mut expiries: Vec<_> = state.store.all().filter_map(|(r, k, o)| lasting(r, k, o)).collect();
        expiries.sort_by_key(|expiry| (expiry.at, expiry.revision));
        state.expiries = expiries.into();
        state
    }

    /// A copy whose writes nobody is told of; [`Self::take_unsettled`] gives them.
    pub(crate) fn ahead(&self) -> Self {
        Self {
            catalog: self.catalog.clone(),
            expiries: self.expiries.clone(),
            unsettled: Some(Vec::new()),
            ..Self::of(self.store.clone(), self.random.clone(), self.now)
        }
    }

    /// The writes since the last call, in their order.
    pub(crate) fn take_unsettled(&mut self) -> Vec<Unsettled> {
        self.unsettled.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Does what a copy that is ahead did, and tells of it.
    pub(crate) fn settle(&mut self, write: &Unsettled) {
        self.now = write.time;
        self.store.adopt(write.change.clone());
        self.take_effect(&write.change);
        let author = Author { agent: &write.agent, verb: write.verb, subresource: write.subresource };
        self.tell(author, &write.change);
    }

    pub(crate) fn add_hook(&mut self, hook: Hook) {
        self.hooks.push(hook);
    }

    /// The moment of the current request.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// Begins a request that changes nothing.
    pub(crate) fn look(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Whether something has expired that [`Self::begin`] would remove. What was written since, or is gone, is forgotten.
    pub(crate) fn has_expired(&mut self, now: Timestamp) -> bool {
        while let Some(expiry) = self.expiries.front().filter(|expiry| expiry.at <= now) {
            let current = self.store.get(&expiry.resource, &expiry.key);
            if current.is_some_and(|object| object.resource_version() == expiry.revision.to_string()) {
                return true;
            }
            self.expiries.pop_front();
        }
        false
    }

    /// Begins a request: takes the time, removes what has expired.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.now = now;
        while self.has_expired(now) {
            let Some(expiry) = self.expiries.pop_front() else { return };
            self.erase(Author::server(Verb::Delete), &expiry.resource, &expiry.key);
        }
    }

    /// What the rules of a kind may look at.
    pub(crate) fn surroundings(&mut self) -> Surroundings<'_> {
        Surroundings { store: &self.store, random: &mut self.random, now: self.now }
    }

    /// Commits an object and returns it as stored.
    pub(crate) fn write(&mut self, author: Author<'_>, resource: &Resource, object: Value) -> Arc<Value> {
        let change = self.store.put(&resource.id, object);
        self.commit(author, &change);
        change.object()
    }

    /// Removes an object and returns it as it was, at the revision of the removal.
    pub(crate) fn erase(
        &mut self,
        author: Author<'_>,
        resource: &GroupResource,
        key: &Key,
    ) -> Option<Arc<Value>> {
        let change = self.store.remove(resource, key)?;
        self.commit(author, &change);
        Some(change.object())
    }

    fn commit(&mut self, author: Author<'_>, change: &Arc<Change>) {
        self.take_effect(change);
        match &mut self.unsettled {
            Some(unsettled) => unsettled.push(Unsettled {
                change: change.clone(),
                time: self.now,
                agent: author.agent.to_owned(),
                verb: author.verb,
                subresource: author.subresource,
            }),
            None => self.tell(author, change),
        }
        if change.new.is_none() {
            self.finish_definition(&change.resource);
        }
    }

    /// What a change means to the server itself.
    fn take_effect(&mut self, change: &Change) {
        if is_definition(&change.resource) {
            self.redefine(change);
        }
        if change.new.is_some()
            && let Some(lifetime) = self.catalog.get(&change.resource).and_then(|resource| lifetime(resource))
        {
            self.expiries.push_back(Expiry {
                at: self.now.checked_add(lifetime).unwrap_or(Timestamp::MAX),
                resource: change.resource.clone(),
                key: change.key.clone(),
                revision: change.revision,
            });
        }
    }

    fn tell(&mut self, author: Author<'_>, change: &Change) {
        self.hub.publish(change);
        for hook in &self.hooks {
            hook(&Write {
                user_agent: author.agent,
                verb: author.verb,
                resource: &change.resource,
                subresource: author.subresource,
                old: change.old.as_deref(),
                new: change.new.as_deref(),
                revision: change.revision,
                time: self.now,
                objects: Objects(&self.store),
            });
        }
    }

    /// Serves what a written definition says.
    fn redefine(&mut self, change: &Change) {
        let Some(definition) = change.new.as_deref() else {
            if let Some(old) = change.old.as_deref() {
                self.catalog.remove(old);
                self.hub.close(&defined(old));
            }
            return;
        };
        let spec = |object: &Option<Arc<Value>>| object.as_deref().and_then(|o| o.get("spec").cloned());
        if spec(&change.old) == spec(&change.new) {
            return;
        }
        let Some(resource) = self.catalog.define(definition) else { return };
        if change.old.is_some() {
            // Stored objects are read through the new schema from now on, and watches start afresh, as they do there.
            self.hub.close(&resource.id);
            self.reread(&resource);
        }
    }

    /// Reads the stored objects of a definition's resource through its schema.
    fn reread(&mut self, resource: &Resource) {
        let Some(version) = resource.versions.iter().find(|version| version.name == resource.storage) else {
            return;
        };
        let api_version = resource.api_version(&resource.storage);
        self.store.reread(&resource.id, |object| {
            let mut object = object.clone();
            object.set_member("apiVersion", Some(json!(api_version)));
            version.rules.read(object.clone()).map_or(object, |read| read.object)
        });
    }

    /// Removes a definition that was only waiting for its last object to go.
    pub(crate) fn finish_definition(&mut self, emptied: &GroupResource) {
        if is_definition(emptied) || !self.store.is_empty(emptied) {
            return;
        }
        let definitions = GroupResource::new(DEFINITIONS.0, DEFINITIONS.1);
        let key = Key::new("", &format!("{}.{}", emptied.resource, emptied.group));
        let waiting = self.store.get(&definitions, &key).filter(|definition| {
            definition.is_being_deleted() && definition.finalizers() == [CLEANUP_FINALIZER]
        });
        if waiting.is_some() {
            self.erase(Author::server(Verb::Delete), &definitions, &key);
        }
    }
}

/// Keeps a deleted definition until its objects are gone.
pub(crate) const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// How long objects of a resource live after their last write; `None` for ever.
fn lifetime(resource: &Resource) -> Option<SignedDuration> {
    let lifetime = resource.version(&resource.storage)?.rules.time_to_live()?;
    Some(SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::MAX))
}

fn is_definition(resource: &GroupResource) -> bool {
    (resource.group.as_str(), resource.resource.as_str()) == DEFINITIONS
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn author() -> Author<'static> {
        Author { agent: "test", verb: Verb::Create, subresource: "" }
    }

    fn event(name: &str) -> Value {
        json!({"kind": "Event", "metadata": {"namespace": "default", "name": name}})
    }

    #[test]
    fn events_expire_an_hour_after_their_last_write() {
        let start = Timestamp::UNIX_EPOCH;
        let minutes = |m: i64| start + SignedDuration::from_mins(m);
        let mut state = State::new(1, 100, start);
        let events = GroupResource::new("", "events");
        let resource = state.catalog.get(&events).unwrap().clone();
        state.begin(start);
        state.write(author(), &resource, event("a"));
        state.begin(minutes(30));
        state.write(author(), &resource, event("a"));
        state.write(author(), &resource, event("b"));
        state.begin(minutes(61));
        assert_eq!(state.store.list(&events, None).count(), 2);
        // Another state removed them: what this one sees of it is nothing to wait for any more.
        let mut seen = State::new(1, 100, start);
        seen.begin(minutes(30));
        seen.write(author(), &resource, event("a"));
        assert!(seen.has_expired(minutes(90)));
        seen.begin(minutes(40));
        seen.write(author(), &resource, event("a"));
        assert!(!seen.has_expired(minutes(99)));
        assert_eq!(seen.expiries.len(), 1);
        state.begin(minutes(90));
        assert_eq!(state.store.list(&events, None).count(), 0);
    }

    #[test]
    fn hooks_see_each_write_in_order_with_all_objects_as_of_it() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut state = State::new(1, 100, Timestamp::UNIX_EPOCH);
        let events = GroupResource::new("", "events");
        let resource = state.catalog.get(&events).unwrap().clone();
        let log = seen.clone();
        let counted = events.clone();
        state.add_hook(Box::new(move |write| {
            let count = write.objects.list(&counted, None).count();
            log.lock().unwrap().push((
                write.user_agent.to_owned(),
                write.new.is_some(),
                write.revision,
                count,
            ));
        }));
        let first = state.store.revision() + 1;
        state.write(author(), &resource, event("a"));
        state.write(author(), &resource, event("b"));
        state.erase(author(), &events, &Key::new("default", "a"));
        let expected = [(true, first, 1), (true, first + 1, 2), (false, first + 2, 1)];
        let expected: Vec<_> =
            expected.into_iter().map(|(new, r, n)| ("test".to_owned(), new, r, n)).collect();
        assert_eq!(*seen.lock().unwrap(), expected);
    }
}
