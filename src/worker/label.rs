//! Writes labels and annotations of live pods, a few at a time: a thousand of them must keep nobody else waiting.
//!
//! Each write names the version of the pod that was decided on. Where another was quicker, the pod is written again once the cache shows
//! what it is now; no plan waits for that. Which pods are next is decided anew after each few.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::planner::Shared;
use super::queue::work;
use crate::clock;
use crate::plan::{Attempt, Event, Labelling, PodAction, event};
use crate::store::{Kept, Key, ObjectId, Refusal, Settled, WriteError, Writer};

/// How many pods of a rollout are written before it is planned again.
const FEW: usize = 20;

/// How many pods of a rollout are written at the same time.
const IN_FLIGHT: usize = 4;

/// The time that a pod is given at least: twenty a second of a rollout, half of all requests that `--qps` permits by default.
const PACE: Duration = Duration::from_millis(50);

/// After how long it is said that pods lack what they should: a thousand take less than half of it.
const LONG: SignedDuration = SignedDuration::from_mins(2);

/// How often it is looked at although nothing is told of the pods: a write whose outcome no watch tells is read afresh then.
const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(5);

/// The reason of a write that was taken and did not stay.
const NOT_KEPT: &str = "NotKept";

/// What became of a write.
type Outcome<'a> = (&'a PodAction, Result<(), Refusal>);

/// Runs until it is told to stop.
pub(super) async fn run(shared: Arc<Shared>, writer: Writer, limit: usize, stop: CancellationToken) {
    let carry_out = |key: Key, actions: Vec<PodAction>| {
        let span =
            tracing::info_span!("write", namespace = %key.namespace, rollout = %key.name, object = "pods");
        let worker = Worker { shared: Arc::clone(&shared), writer: writer.clone(), stop: stop.clone(), key };
        async move { worker.carry_out(actions).await }.instrument(span)
    };
    work(&shared.labels, limit, stop.clone(), carry_out).await;
}

struct Worker {
    shared: Arc<Shared>,
    writer: Writer,
    stop: CancellationToken,
    key: Key,
}

impl Worker {
    async fn carry_out(&self, actions: Vec<PodAction>) {
        let began = Instant::now();
        self.look_afresh().await;
        if !self.confirm_sets(&actions).await {
            return;
        }
        let due: Vec<&PodAction> = actions.iter().filter(|action| self.is_due(action)).take(FEW).collect();
        let most = PACE * u32::try_from(due.len()).unwrap_or(u32::MAX);
        let forbidden = AtomicBool::new(false);
        let writes: Vec<_> = due.into_iter().map(|action| self.write(action, &forbidden)).collect();
        let outcomes: Vec<_> = stream::iter(writes).buffer_unordered(IN_FLIGHT).collect().await;
        let mut by_set: BTreeMap<&str, Vec<Outcome<'_>>> = BTreeMap::new();
        for outcome in outcomes.into_iter().flatten() {
            by_set.entry(&outcome.0.set).or_default().push(outcome);
        }
        let is_forbidden = forbidden.into_inner();
        by_set.iter().for_each(|(set, outcomes)| self.learn(set, outcomes, is_forbidden));
        let rest = most.saturating_sub(began.elapsed());
        self.stop.clone().run_until_cancelled_owned(clock::real_sleep(rest)).await;
    }

    /// Remembers what became of writes to pods of a set. One that is refused holds up the others for no longer than it must.
    fn learn(&self, set: &str, outcomes: &[Outcome<'_>], is_forbidden: bool) {
        let (memory, attempt) = (&self.shared.store.memory, Attempt::Label(set.to_owned()));
        let (written, refused): (Vec<_>, Vec<_>) = outcomes.iter().partition(|(_, outcome)| outcome.is_ok());
        // First, so that no plan finds pods that were refused without the refusal.
        if let Some((_, Err(refusal))) = refused.first() {
            self.shared.refused(&self.key, attempt.clone(), &refusal.reason, &refusal.message);
        }
        if !memory.labelled(&self.key, set, &uids(&written), &uids(&refused), is_forbidden) {
            memory.succeeded(&self.key, &attempt);
        }
    }

    /// Whether a pod is to be written now: its set is not put off, and the cache shows our last write to the pod.
    fn is_due(&self, action: &PodAction) -> bool {
        let store = &self.shared.store;
        store.memory.may_label(&self.key, &action.set, &action.version.uid, self.shared.clock.now())
            && store.labels.allows(&self.pod(action), &action.version.resource_version)
    }

    fn pod(&self, action: &PodAction) -> ObjectId {
        ObjectId::Pod(Key::new(&*self.key.namespace, &*action.pod))
    }

    /// Writes one pod; says, unless it has changed or is gone, whether it was refused. Who lacks the right for one lacks it for the next: after
    /// `forbidden` no more are tried.
    async fn write<'a>(&self, action: &'a PodAction, forbidden: &AtomicBool) -> Option<Outcome<'a>> {
        if self.stop.is_cancelled() || forbidden.load(Ordering::Relaxed) {
            return None;
        }
        let answer = self.writer.label_pod(&self.key, &action.pod, &action.version, &action.patch).await;
        match answer {
            Ok(Kept::Yes) => {
                tracing::info!(pod = %action.pod, "labelled pod");
                Some((action, Ok(())))
            }
            Ok(Kept::No) => Some((action, Err(not_kept(action)))),
            Err(WriteError::Stale | WriteError::Gone | WriteError::Taken) => None,
            Err(WriteError::Refused(refusal)) => {
                forbidden.fetch_or(refusal.lacks_right(), Ordering::Relaxed);
                Some((action, Err(refusal)))
            }
        }
    }

    /// Reads the ReplicaSets of pods afresh, once since this process leads. What pods are given is decided by their set, and a write to a pod
    /// does not fail because another process changed the set meanwhile (seed 4740). Says whether pods may be written by what was planned.
    async fn confirm_sets(&self, actions: &[PodAction]) -> bool {
        let confirmed = &self.shared.confirmed;
        let sets: BTreeSet<Key> = {
            let confirmed = confirmed.lock().unwrap_or_else(PoisonError::into_inner);
            let sets = actions.iter().map(|action| Key::new(&*self.key.namespace, &*action.set));
            sets.filter(|set| !confirmed.contains(set)).collect()
        };
        for set in &sets {
            if let Err(error) = self.writer.refresh(&ObjectId::ReplicaSet(set.clone())).await {
                tracing::warn!(rollout = %self.key, %set, %error, "a ReplicaSet whose pods are to be labelled cannot be read");
                return false;
            }
            confirmed.lock().unwrap_or_else(PoisonError::into_inner).insert(set.clone());
        }
        if !sets.is_empty() {
            self.shared.wake(&self.key);
        }
        sets.is_empty()
    }

    /// Reads pods afresh whose last write the cache had time enough to show.
    async fn look_afresh(&self) {
        let Settled::Overdue(pods) = self.shared.store.labels.settled(&self.key) else { return };
        for pod in pods {
            if let Err(error) = self.writer.refresh_pod(&pod).await {
                tracing::warn!(rollout = %self.key, ?pod, %error, "a pod that was labelled cannot be read");
                return;
            }
        }
    }
}

fn uids<'a>(outcomes: &[&'a Outcome<'_>]) -> Vec<&'a str> {
    outcomes.iter().map(|(action, _)| action.version.uid.as_str()).collect()
}

fn not_kept(action: &PodAction) -> Refusal {
    let message = format!(
        "pod {:?} has other labels or annotations than were written: something changes them when pods are written",
        action.pod
    );
    Refusal { reason: NOT_KEPT.to_owned(), message, fate: crate::store::Fate::Denied }
}

/// Since when pods of rollouts lack labels or annotations.
#[derive(Debug, Default)]
pub(super) struct Progress(HashMap<Key, Timestamp>);

impl Progress {
    /// Whether pods of a rollout lacked something when it was last planned.
    pub(super) fn is_open(&self, key: &Key) -> bool {
        self.0.contains_key(key)
    }

    /// Takes in what a plan says. Gives the warning that it has been so for long, as long as it is.
    pub(super) fn follow(
        &mut self,
        shared: &Shared,
        key: &Key,
        labelling: Option<&Labelling>,
        now: Timestamp,
    ) -> Option<Event> {
        let Some(labelling) = labelling else {
            self.forget(shared, key);
            return None;
        };
        shared.metrics.pods_unlabelled(&key.namespace, &key.name, Some(labelling.lacking));
        if labelling.is_settled {
            self.0.remove(key);
            return None;
        }
        let since = *self.0.entry(key.clone()).or_insert(now);
        if let Ok(next) = now.checked_add(LOOK_EVERY) {
            shared.wake_at(key, next);
        }
        let is_late = labelling.lacking > 0 && now.duration_since(since) >= LONG;
        is_late.then(event::relabelling_delayed)
    }

    /// This process does not lead any more: what pods lack is another's to count.
    pub(super) fn end<'a>(&mut self, shared: &Shared, rollouts: impl Iterator<Item = &'a Key>) {
        rollouts.for_each(|key| self.forget(shared, key));
    }

    /// A rollout that is gone, or whose pods nothing is put into.
    pub(super) fn forget(&mut self, shared: &Shared, key: &Key) {
        self.0.remove(key);
        shared.metrics.pods_unlabelled(&key.namespace, &key.name, None);
    }
}
