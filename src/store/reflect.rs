//! Fills a cache from a watch, for as long as the process lives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::{StreamExt, TryStreamExt};
use kube::runtime::watcher::{self, Event, ExponentialBackoff};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;

use super::Store;
use super::cache::{Cache, Change, Changed, Record};
use super::expect::Shown;
use super::kinds::{PodRecord, RolloutRecord, ServiceRecord, SetRecord};
use super::object::{Key, ObjectId};
use crate::crd::keys;

/// Which objects are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The only namespace, with `--namespaced`; `None`: all.
    pub namespace: Option<String>,
    /// A label selector in Kubernetes' string form.
    pub labels: String,
}

impl Scope {
    /// The rollouts of an instance id (empty: those without one), of one namespace or of all (contract 4.1).
    #[must_use]
    pub fn of_rollouts(instance_id: &str, namespace: Option<&str>) -> Self {
        let key = keys::CONTROLLER_INSTANCE_ID;
        let labels = if instance_id.is_empty() { format!("!{key}") } else { format!("{key}={instance_id}") };
        Self { namespace: namespace.map(str::to_owned), labels }
    }
}

/// A kind that a store holds.
pub trait Stored:
    Record + Clone + DeserializeOwned + std::fmt::Debug + kube::Resource<DynamicType = ()>
{
    /// Its name in logs.
    const KIND: &'static str;

    /// The cache it is held in.
    fn cache(store: &Store) -> &Cache<Self>;

    /// What a change to it concerns.
    fn changed(&self, change: Change) -> Changed;

    /// The object that writes of ours go to.
    fn written(key: Key) -> ObjectId;

    /// Whether it is on its way out.
    fn is_terminating(&self) -> bool {
        false
    }

    /// What it concerns besides that it left the watch, which was not expected.
    fn left(&self) -> Option<Changed> {
        None
    }

    /// Whether a fresh read looks also where the watch does not.
    const READ_WITHOUT_LABEL: bool = false;

    /// Whether one that was read afresh is to be known.
    fn is_known(&self, _: &Store) -> bool {
        true
    }
}

/// How long a watch waits before it is taken up again, in the end. client-go's 30 s are for clusters with a thousand nodes that all come back
/// at once; here a handful of watches would leave rollouts alone for as long as people wait for them.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The pauses of a watch that breaks; jitter at most doubles them.
pub(super) fn pauses() -> ExponentialBackoff {
    let pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(800))
        .with_max_delay(LONGEST_PAUSE);
    pauses.with_factor(2.0).without_max_times().with_jitter().into()
}

/// Watches one kind into its cache, for ever. A watch that breaks is taken up again with growing pauses; an object that cannot be
/// decoded stops nobody else.
pub async fn reflect<R>(store: Arc<Store>, client: Client, scope: Scope)
where
    R: Stored + kube::Resource<Scope = kube::core::NamespaceResourceScope>,
{
    let api: Api<R> = match &scope.namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    R::cache(&store).watches(&scope.labels);
    let config = watcher::Config::default().labels(&scope.labels);
    let mut events = watch(api, config).backoff(pauses()).boxed();
    let mut listed = Vec::new();
    loop {
        match events.try_next().await {
            Ok(Some(event)) => {
                store.reach.found();
                take_in(&store, event, &mut listed);
            }
            Ok(None) => return,
            Err(error) => {
                if is_away(&error) {
                    store.reach.lost();
                }
                tracing::warn!(kind = R::KIND, %error, "watch interrupted");
            }
        }
    }
}

/// Whether an error means that the API server does not answer, rather than that it answers no: a watch that has expired is taken
/// up again without anybody noticing.
fn is_away(error: &watcher::Error) -> bool {
    let answered = |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code < 500);
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => !answered(error),
        watcher::Error::WatchError(status) => status.code >= 500,
        watcher::Error::NoResourceVersion => false,
    }
}

fn take_in<R: Stored>(store: &Store, event: Event<R>, listed: &mut Vec<R>) {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(object) => listed.push(object),
        Event::InitDone => {
            replace(store, std::mem::take(listed).into_iter().map(Arc::new).collect());
        }
        Event::Apply(object) => store.take_in(object),
        Event::Delete(object) => store.take_out::<R>(&Key::of(&object)),
    }
}

/// Replaces all that is cached of a kind by what a complete list has.
pub(super) fn replace<R: Stored>(store: &Store, objects: Vec<Arc<R>>) {
    let keys: Vec<Key> = objects.iter().map(|object| Key::of(&**object)).collect();
    let before: BTreeMap<Key, Arc<R>> = R::cache(store).replace(objects);
    for key in &keys {
        let Some(object) = R::cache(store).get(key) else { continue };
        let change = match before.get(key) {
            Some(old) if old.resource_version() == object.resource_version() => continue,
            Some(_) => Change::Modified,
            None => Change::Added,
        };
        store.note(&*object, change);
    }
    for (key, object) in before {
        if R::cache(store).get(&key).is_none() {
            store.note_gone(&*object);
        }
    }
    store.listed.send_replace(());
    tracing::info!(kind = R::KIND, objects = keys.len(), "listed");
}

impl Store {
    /// Takes an object in that was watched or read afresh.
    pub fn take_in<R: Stored>(&self, object: R) {
        self.take_in_shared(Arc::new(object));
    }

    /// The same for an object that others hold too.
    pub(super) fn take_in_shared<R: Stored>(&self, object: Arc<R>) {
        let Some((object, before)) = R::cache(self).insert(object) else { return };
        let change = match &before {
            Some(before) => {
                // An object that changed hands concerns its old owner too.
                if before.controller() != object.controller() {
                    self.announce(before.changed(Change::Deleted));
                }
                Change::Modified
            }
            None => Change::Added,
        };
        self.note(&*object, change);
    }

    /// Takes an object out that is gone.
    pub fn take_out<R: Stored>(&self, key: &Key) {
        match R::cache(self).remove(key) {
            Some(object) => self.note_gone(&*object),
            None => {
                let written = R::written(key.clone());
                self.own.shown(&written, None);
                self.labels.shown(&written, None);
            }
        }
    }

    fn note_gone<R: Stored>(&self, object: &R) {
        let is_expected = object.is_terminating() || self.own.is_deleting(&R::written(Key::of(object)));
        if let Some(left) = object.left().filter(|_| !is_expected) {
            self.announce(left);
        }
        self.note(object, Change::Deleted);
    }

    fn note<R: Stored>(&self, object: &R, change: Change) {
        let version = object.resource_version().filter(|_| change != Change::Deleted);
        let shown = version.as_deref().map(|version| Shown::of(version, object.is_terminating()));
        let written = R::written(Key::of(object));
        self.own.shown(&written, shown);
        self.labels.shown(&written, shown);
        self.announce(object.changed(change));
    }
}

impl Stored for RolloutRecord {
    const KIND: &'static str = "Rollout";

    fn cache(store: &Store) -> &Cache<Self> {
        &store.rollouts
    }

    fn changed(&self, change: Change) -> Changed {
        Changed::Rollout(Key::of(self), change)
    }

    fn written(key: Key) -> ObjectId {
        ObjectId::Rollout(key)
    }
}

impl Stored for SetRecord {
    const KIND: &'static str = "ReplicaSet";

    fn cache(store: &Store) -> &Cache<Self> {
        &store.sets
    }

    fn changed(&self, _: Change) -> Changed {
        let namespace = self.namespace().unwrap_or_default();
        match self.controller() {
            Some(uid) => Changed::Below { namespace, uid: uid.to_owned() },
            None => Changed::Orphan { namespace },
        }
    }

    fn written(key: Key) -> ObjectId {
        ObjectId::ReplicaSet(key)
    }

    /// One that is being deleted leaves in the end.
    fn left(&self) -> Option<Changed> {
        let rollout = self.controller()?.to_owned();
        (!self.set.terminating).then(|| Changed::SetLeft { set: Key::of(self), rollout })
    }

    /// Somebody may have taken its hash label away, by which it is watched.
    const READ_WITHOUT_LABEL: bool = true;

    fn is_known(&self, store: &Store) -> bool {
        let has_label = self.set.labels.contains_key(keys::POD_TEMPLATE_HASH);
        has_label || self.controller().is_some_and(|uid| store.rollouts.key_of(uid).is_some())
    }
}

impl Stored for PodRecord {
    const KIND: &'static str = "Pod";

    fn cache(store: &Store) -> &Cache<Self> {
        &store.pods
    }

    fn changed(&self, _: Change) -> Changed {
        let namespace = self.namespace().unwrap_or_default();
        match self.controller() {
            Some(uid) => Changed::BelowSet { namespace, uid: uid.to_owned() },
            None => Changed::Orphan { namespace },
        }
    }

    fn written(key: Key) -> ObjectId {
        ObjectId::Pod(key)
    }

    fn is_terminating(&self) -> bool {
        self.terminating
    }
}

impl Stored for ServiceRecord {
    const KIND: &'static str = "Service";

    fn cache(store: &Store) -> &Cache<Self> {
        &store.services
    }

    fn changed(&self, _: Change) -> Changed {
        Changed::Service(Key::of(self))
    }

    fn written(key: Key) -> ObjectId {
        ObjectId::Service(key)
    }
}
