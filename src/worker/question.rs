//! What a plan must know that the caches do not tell: asked of the API server while other rollouts are planned for.
//!
//! A question is asked once at a time for each rollout. What is not answered is asked again after a growing pause.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tracing::Instrument;

use super::planner::Planner;
use crate::crd::{WorkloadName, keys};
use crate::plan::{self, Attempt, COMPANY, Observed};
use crate::store::{DryRun, Key, ObjectId};

/// How long a workload that a rollout refers to is expected in the first list of its kind, before it is asked for by itself: many
/// rollouts may refer to one each.
const LIST_PATIENCE: Duration = Duration::from_secs(1);

/// How often an object is read again that no watch tells of.
const UNWATCHED_PAUSE: SignedDuration = SignedDuration::from_secs(5);

impl Planner {
    /// Runs an errand for a rollout, unless one is under way; what it asked is asked again a little later if it is still open.
    pub(super) fn send(&self, key: &Key, errand: impl Future<Output = ()> + Send + 'static) {
        let (shared, of) = (self.shared(), key.clone());
        self.send_once(key, async move {
            errand.await;
            shared.wake_at(&of, shared.clock.now() + COMPANY);
        });
    }

    /// Runs an errand for a rollout, unless one is under way.
    pub(super) fn send_once(&self, key: &Key, errand: impl Future<Output = ()> + Send + 'static) {
        if !self.asking.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            return;
        }
        let (asking, key) = (Arc::clone(&self.asking), key.clone());
        let run = async move {
            errand.await;
            asking.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        };
        self.errands.spawn(run.in_current_span());
    }

    /// Looks whether Services exist that the cache does not show.
    pub(super) fn look_for_services(&self, key: &Key, mut names: Vec<String>) {
        names.retain(|name| !self.shared.is_put_off(key, &Attempt::LookForService(name.clone())));
        if names.is_empty() {
            return;
        }
        let (writer, shared, of) = (self.writer.clone(), self.shared(), key.clone());
        self.send(key, async move {
            for name in names {
                let attempt = Attempt::LookForService(name.clone());
                match writer.look_for_service(&of, &name).await {
                    Ok(is_there) => {
                        shared.store.memory.succeeded(&of, &attempt);
                        shared.store.memory.looked_for_service(&of, &name, is_there);
                        shared.wake(&of);
                    }
                    Err(error) => shared.unanswered(&of, attempt, error),
                }
            }
        });
    }

    /// Looks whether the workload exists that the cache does not show.
    pub(super) fn look_for_workload(&self, key: &Key, named: WorkloadName) {
        let attempt = Attempt::LookForWorkload(named.clone());
        if self.shared.is_put_off(key, &attempt) {
            return;
        }
        let (writer, shared, of) = (self.writer.clone(), self.shared(), key.clone());
        self.send(key, async move {
            // The first rollout that refers to one has its kind listed: soon the cache may know of all.
            let listed = shared.store.workloads_listed(named.kind);
            let _ = tokio::time::timeout(LIST_PATIENCE, listed).await;
            match writer.look_for_workload(&of, &named).await {
                Ok(is_there) => {
                    shared.store.memory.succeeded(&of, &attempt);
                    shared.store.memory.looked_for_workload(&of, &named, is_there);
                    shared.wake(&of);
                }
                Err(error) => shared.unanswered(&of, attempt, error),
            }
        });
    }

    /// Asks the server how the pod template looks with its defaults, once for each template.
    pub(super) fn ask(&self, key: &Key, seen: &Observed) {
        let (Some(object), Some(given)) =
            (plan::revision::sample_set(seen), seen.rollout.spec.template.clone())
        else {
            return;
        };
        if self.shared.is_put_off(key, &Attempt::AskForDefaults) {
            return;
        }
        let (writer, shared, of) = (self.writer.clone(), self.shared(), key.clone());
        self.send(key, async move {
            match writer.dry_run_set(&of, &object).await {
                Ok(answer) => {
                    shared.store.memory.succeeded(&of, &Attempt::AskForDefaults);
                    let stored = match answer {
                        DryRun::Stored(set) => plan::revision::sampled_template(&set).map(Arc::new),
                        DryRun::Refused(_) => None,
                    };
                    shared.store.memory.defaulted(&of, Arc::new(given), stored);
                    shared.wake(&of);
                }
                Err(error) => shared.unanswered(&of, Attempt::AskForDefaults, error),
            }
        });
    }

    /// ReplicaSets that have lost their hash label are in no watch, so that nothing tells what becomes of them: they are read again now and
    /// then (seeds 9643, 18492), until they have it back. Says whether that is due: before anything is decided on them.
    pub(super) fn suspects_unwatched(&mut self, key: &Key, seen: &Observed, now: Timestamp) -> bool {
        let is_unwatched = |set: &&Arc<plan::ReplicaSet>| !set.labels.contains_key(keys::POD_TEMPLATE_HASH);
        let unwatched: Vec<_> = seen.sets.iter().filter(is_unwatched).collect();
        if unwatched.is_empty() {
            self.unwatched.remove(key);
            return false;
        }
        let next = now.checked_add(UNWATCHED_PAUSE).unwrap_or(now);
        let due = *self.unwatched.entry(key.clone()).or_insert(next);
        if due > now {
            self.shared.wake_at(key, due);
            return false;
        }
        self.unwatched.insert(key.clone(), next);
        for set in unwatched {
            let set = ObjectId::ReplicaSet(Key::new(&*key.namespace, &*set.name));
            self.shared.store.own.suspect(set, key);
        }
        true
    }

    /// The caches had time enough to show our own writes: the objects are read afresh.
    pub(super) fn look_afresh(&self, key: &Key, mut objects: Vec<ObjectId>) {
        let (memory, now) = (&self.shared.store.memory, self.shared.clock.now());
        let next_try = |object: &ObjectId| memory.next_try(key, &Attempt::Read(object.into()), now);
        if let Some(next) = objects.iter().filter_map(next_try).min() {
            self.shared.wake_at(key, next);
        }
        objects.retain(|object| next_try(object).is_none());
        if objects.is_empty() {
            return;
        }
        for object in &objects {
            self.shared.store.own.extend(object);
        }
        let (writer, shared, key) = (self.writer.clone(), self.shared(), key.clone());
        self.errands.spawn(async move {
            for object in objects {
                tracing::warn!(rollout = %key, ?object, "the cache does not tell what became of this object: reading afresh");
                let attempt = Attempt::Read((&object).into());
                match writer.refresh(&object).await {
                    Ok(()) => shared.store.memory.succeeded(&key, &attempt),
                    Err(error) => {
                        shared.store.own.expire(&object);
                        shared.unanswered(&key, attempt, error);
                    }
                }
            }
            shared.wake(&key);
        });
    }
}
