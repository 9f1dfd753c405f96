//! Watch caches: what the API server last said about each object of a kind.
//!
//! Depends on `kube`'s watcher and the cluster clock. One watch for each kind feeds one [`Cache`]; listeners are
//! called for each change, in order, after the cache shows it, and queue keys for the controllers. A watch that
//! breaks, expires or is answered with 410 is started again; what was missed in between arrives as changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;

/// A broken watch is started again this soon at first.
const WATCH_RETRY_FIRST: Duration = Duration::from_millis(50);
/// An API server that is away is asked this often at most.
const WATCH_RETRY_CAP: Duration = Duration::from_secs(5);

/// Names an object within its kind; cluster-scoped ones have an empty namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Key {
    pub(super) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub(super) fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
    }
}

/// One object's step from `old` to `new`; at least one is there.
pub(super) struct Change<'a, K> {
    pub(super) key: &'a Key,
    pub(super) old: Option<&'a Arc<K>>,
    pub(super) new: Option<&'a Arc<K>>,
}

/// Called for each change; must not wait.
pub(super) type Listener<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;

/// The objects of one kind.
#[derive(Debug)]
pub(super) struct Cache<K> {
    state: RwLock<State<K>>,
    synced: tokio::sync::watch::Sender<bool>,
}

#[derive(Debug)]
struct State<K> {
    objects: BTreeMap<Key, Arc<K>>,
    /// By the uid of their controller.
    controlled: BTreeMap<String, BTreeSet<Key>>,
}

impl<K: Resource> Cache<K> {
    pub(super) fn new() -> Self {
        let state = State { objects: BTreeMap::new(), controlled: BTreeMap::new() };
        Self { state: RwLock::new(state), synced: tokio::sync::watch::Sender::new(false) }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().objects.get(key).cloned()
    }

    /// The objects whose controller is the one with this uid, sorted by name.
    pub(super) fn controlled_by(&self, uid: &str) -> Vec<Arc<K>> {
        let state = self.read();
        let keys = state.controlled.get(uid).into_iter().flatten();
        keys.filter_map(|key| state.objects.get(key).cloned()).collect()
    }

    /// The objects of a namespace, sorted by name.
    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let state = self.read();
        let from = state.objects.range(Key::new(namespace, "")..);
        from.take_while(|(key, _)| key.namespace == namespace).map(|(_, object)| Arc::clone(object)).collect()
    }

    /// All objects, sorted by namespace and name.
    pub(super) fn all(&self) -> Vec<Arc<K>> {
        self.read().objects.values().cloned().collect()
    }

    /// Waits until every object has been listed once.
    pub(super) async fn synced(&self) {
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    fn put(&self, object: K, listeners: &[Listener<K>]) {
        let key = Key::of(object.meta());
        let new = Arc::new(object);
        let old = {
            let mut state = self.write();
            if state.objects.get(&key).is_some_and(|old| is_older(new.meta(), old.meta())) {
                return;
            }
            state.put(key.clone(), Arc::clone(&new))
        };
        if old.as_ref().is_some_and(|old| same_version(old.meta(), new.meta())) {
            return;
        }
        notify(listeners, &Change { key: &key, old: old.as_ref(), new: Some(&new) });
    }

    fn remove(&self, key: &Key, listeners: &[Listener<K>]) {
        let old = self.write().remove(key);
        if let Some(old) = old {
            notify(listeners, &Change { key, old: Some(&old), new: None });
        }
    }

    /// Forgets everything, as if each object had been deleted.
    pub(super) fn clear(&self, listeners: &[Listener<K>]) {
        self.replace(BTreeMap::new(), listeners);
    }

    /// Takes a whole new list for truth.
    fn replace(&self, listed: BTreeMap<Key, K>, listeners: &[Listener<K>]) {
        let gone: Vec<Key> =
            self.read().objects.keys().filter(|key| !listed.contains_key(key)).cloned().collect();
        for key in gone {
            self.remove(&key, listeners);
        }
        for object in listed.into_values() {
            self.put(object, listeners);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State<K>> {
        self.state.read().expect("no holder of this lock panics")
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<K>> {
        self.state.write().expect("no holder of this lock panics")
    }
}

impl<K: Resource> State<K> {
    fn put(&mut self, key: Key, new: Arc<K>) -> Option<Arc<K>> {
        let old = self.remove(&key);
        if let Some(uid) = controller_uid(new.meta()) {
            self.controlled.entry(uid.to_owned()).or_default().insert(key.clone());
        }
        self.objects.insert(key, new);
        old
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<K>> {
        let old = self.objects.remove(key)?;
        if let Some(uid) = controller_uid(old.meta())
            && let Some(keys) = self.controlled.get_mut(uid)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.controlled.remove(uid);
            }
        }
        Some(old)
    }
}

fn notify<K>(listeners: &[Listener<K>], change: &Change<'_, K>) {
    for listener in listeners {
        listener(change);
    }
}

/// The uid of the one owner that is the object's controller.
fn controller_uid(meta: &ObjectMeta) -> Option<&str> {
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

/// An object's resourceVersion as a number, which the API server lets clients compare since 1.35
/// (KEP-5504); etcd's revisions were comparable before.
pub(super) fn version(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_deref()?.parse().ok()
}

fn is_older(new: &ObjectMeta, old: &ObjectMeta) -> bool {
    new.uid == old.uid && version(new).zip(version(old)).is_some_and(|(new, old)| new < old)
}

fn same_version(old: &ObjectMeta, new: &ObjectMeta) -> bool {
    old.uid == new.uid && old.resource_version == new.resource_version
}

/// Feeds `cache` from the watches that `source` starts, until `stop`.
pub(super) async fn feed<K, S>(
    source: impl Fn() -> S,
    cache: Arc<Cache<K>>,
    listeners: Vec<Listener<K>>,
    clock: Clock,
    stop: CancellationToken,
) where
    K: Resource + Send + Sync,
    S: Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send,
{
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = feed_for_ever(source, &cache, &listeners, &clock) => {}
    }
}

async fn feed_for_ever<K, S>(
    source: impl Fn() -> S,
    cache: &Cache<K>,
    listeners: &[Listener<K>],
    clock: &Clock,
) where
    K: Resource,
    S: Stream<Item = Result<watcher::Event<K>, watcher::Error>>,
{
    let mut retry = WATCH_RETRY_FIRST;
    loop {
        let mut listing = BTreeMap::new();
        let mut events = std::pin::pin!(source());
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    apply(event, cache, &mut listing, listeners);
                    retry = WATCH_RETRY_FIRST;
                }
                Err(error) => {
                    tracing::debug!(%error, "watch interrupted");
                    clock.sleep(retry).await;
                    retry = retry.saturating_mul(2).min(WATCH_RETRY_CAP);
                    if is_expired(&error) {
                        break;
                    }
                }
            }
        }
    }
}

fn apply<K: Resource>(
    event: watcher::Event<K>,
    cache: &Cache<K>,
    listing: &mut BTreeMap<Key, K>,
    listeners: &[Listener<K>],
) {
    let slim = |mut object: K| {
        // The largest part of many objects, and nobody here reads it.
        object.meta_mut().managed_fields = None;
        object
    };
    match event {
        watcher::Event::Init => listing.clear(),
        watcher::Event::InitApply(object) => {
            listing.insert(Key::of(object.meta()), slim(object));
        }
        watcher::Event::InitDone => {
            cache.replace(std::mem::take(listing), listeners);
            cache.synced.send_replace(true);
        }
        watcher::Event::Apply(object) => cache.put(slim(object), listeners),
        watcher::Event::Delete(object) => cache.remove(&Key::of(object.meta()), listeners),
    }
}

/// A watch that is refused with 410 when it starts must begin with a list; the watcher itself does so only for
/// a 410 that arrives as an event.
fn is_expired(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

/// What a controller wrote and has not yet seen come back: until then its cache is older than its knowledge,
/// and a decision taken from it would be the last one again.
#[derive(Debug)]
pub(super) struct OwnWrites {
    last: std::sync::Mutex<BTreeMap<Key, (u64, Timestamp)>>,
}

impl OwnWrites {
    /// A watch that is slower than this is not waited for: writes carry the version they assume, so that the
    /// worst is a conflict.
    const PATIENCE: Duration = Duration::from_secs(10);

    pub(super) fn new() -> Self {
        Self { last: std::sync::Mutex::new(BTreeMap::new()) }
    }

    /// Remembers the answer to a write.
    pub(super) fn wrote(&self, key: &Key, answer: &ObjectMeta, now: Timestamp) {
        if let Some(version) = version(answer) {
            self.last.lock().expect("no holder of this lock panics").insert(key.clone(), (version, now));
        }
    }

    /// When to look again, if `cached` does not show our last write yet.
    pub(super) fn awaited(&self, key: &Key, cached: &ObjectMeta, now: Timestamp) -> Option<Timestamp> {
        let mut last = self.last.lock().expect("no holder of this lock panics");
        let (written, since) = *last.get(key)?;
        let until = since.checked_add(Self::PATIENCE).unwrap_or(Timestamp::MAX);
        if now >= until || version(cached).is_none_or(|cached| cached >= written) {
            last.remove(key);
            return None;
        }
        Some(until)
    }

    /// The object is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.last.lock().expect("no holder of this lock panics").remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use std::sync::Mutex;

    fn pod(name: &str, version: u64) -> Pod {
        let metadata = ObjectMeta {
            namespace: Some("ns".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(format!("uid-{name}")),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        };
        Pod { metadata, ..Pod::default() }
    }

    fn controlled(name: &str, version: u64, owner: &str) -> Pod {
        let owner =
            OwnerReference { uid: owner.to_owned(), controller: Some(true), ..OwnerReference::default() };
        let mut pod = pod(name, version);
        pod.metadata.owner_references = Some(vec![owner]);
        pod
    }

    /// Plays events into a cache; the listener's view as text.
    fn play(events: Vec<watcher::Event<Pod>>) -> (Cache<Pod>, Vec<String>) {
        let cache = Cache::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        let version = |pod: Option<&Arc<Pod>>| {
            pod.and_then(|pod| pod.metadata.resource_version.clone()).unwrap_or_else(|| "-".to_owned())
        };
        let listener: Listener<Pod> = Box::new(move |change| {
            let line = format!("{} {}>{}", change.key.name, version(change.old), version(change.new));
            log.lock().unwrap().push(line);
        });
        let mut listing = BTreeMap::new();
        for event in events {
            apply(event, &cache, &mut listing, std::slice::from_ref(&listener));
        }
        let seen = seen.lock().unwrap().clone();
        (cache, seen)
    }

    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};

    #[test]
    fn changes_are_told_with_what_was_there_before() {
        let (_, seen) =
            play(vec![Init, InitApply(pod("a", 1)), InitDone, Apply(pod("a", 2)), Delete(pod("a", 3))]);
        assert_eq!(seen, ["a ->1", "a 1>2", "a 2>-"]);
    }

    #[test]
    fn a_new_list_tells_only_what_differs() {
        let (cache, seen) = play(vec![
            Init,
            InitApply(pod("a", 1)),
            InitApply(pod("b", 1)),
            InitApply(pod("c", 1)),
            InitDone,
            Init,
            InitApply(pod("b", 1)),
            InitApply(pod("c", 5)),
            InitApply(pod("d", 6)),
            InitDone,
        ]);
        assert_eq!(seen[3..], ["a 1>-", "c 1>5", "d ->6"]);
        assert!(*cache.synced.borrow());
    }

    #[test]
    fn an_older_version_never_replaces_a_newer_one() {
        let (cache, seen) = play(vec![Apply(pod("a", 5)), Apply(pod("a", 4))]);
        assert_eq!(seen, ["a ->5"]);
        let kept = cache.get(&Key::new("ns", "a")).unwrap();
        assert_eq!(version(&kept.metadata), Some(5));
    }

    #[test]
    fn objects_are_found_by_their_controller() {
        let names = |cache: &Cache<Pod>, uid: &str| -> Vec<String> {
            cache.controlled_by(uid).iter().filter_map(|pod| pod.metadata.name.clone()).collect()
        };
        let (cache, _) = play(vec![
            Apply(controlled("b", 1, "x")),
            Apply(controlled("a", 2, "x")),
            Apply(controlled("c", 3, "y")),
            Apply(controlled("b", 4, "y")),
            Delete(pod("a", 5)),
        ]);
        assert_eq!(names(&cache, "x"), Vec::<String>::new());
        assert_eq!(names(&cache, "y"), ["b", "c"]);
    }

    #[test]
    fn own_writes_are_awaited_until_seen_or_patience_ends() {
        let key = Key::new("ns", "a");
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let writes = OwnWrites::new();
        assert_eq!(writes.awaited(&key, &pod("a", 1).metadata, at(0)), None);
        writes.wrote(&key, &pod("a", 7).metadata, at(0));
        assert_eq!(writes.awaited(&key, &pod("a", 6).metadata, at(1)), Some(at(10)));
        assert_eq!(writes.awaited(&key, &pod("a", 7).metadata, at(1)), None);
        writes.wrote(&key, &pod("a", 9).metadata, at(2));
        assert_eq!(writes.awaited(&key, &pod("a", 8).metadata, at(12)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_breaks_is_started_again_with_growing_delays() {
        let clock = Clock::starting_at(Timestamp::UNIX_EPOCH, 1.0);
        let starts = Arc::new(Mutex::new(Vec::new()));
        let (noted, asked) = (Arc::clone(&starts), clock.clone());
        let source = move || {
            noted.lock().unwrap().push(asked.now().as_millisecond());
            let expired = kube::core::Status::failure("", "Expired").with_code(410).boxed();
            futures::stream::iter([Err(watcher::Error::WatchStartFailed(kube::Error::Api(expired)))])
        };
        let stop = CancellationToken::new();
        let cache = Arc::new(Cache::<Pod>::new());
        let task = tokio::spawn(feed(source, cache, Vec::new(), clock.clone(), stop.clone()));
        clock.sleep(Duration::from_millis(800)).await;
        stop.cancel();
        task.await.unwrap();
        assert_eq!(*starts.lock().unwrap(), [0, 50, 150, 350, 750]);
    }
}
