//! Our own writes that the caches have not shown yet.
//!
//! A plan must not be made from a version that is older than our own last write, or a write that was refused as stale would be
//! tried again from the same cache. The wait ends when the cache has caught up, when the object is gone, or after
//! [`PATIENCE`] with one fresh GET. A write that found no answer may have been carried out all the same: nothing is decided
//! until its object has been read afresh, which is at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::object::{Key, ObjectId, is_at_least};

/// How long a cache may take to show our own write before the object is read afresh: far longer than a watch takes, short
/// beside what people wait for.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What the cache must show of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// This version or a newer one: our own write.
    AtLeast(String),
    /// A newer version than this: a write of ours was refused as stale.
    NewerThan(String),
    /// That it is gone: our own deletion.
    Gone,
    /// That it is gone or on its way out: our own eviction, which may take its time.
    Going,
    /// Nothing: a write of ours found no answer, so that only a fresh look tells.
    Unsure,
}

/// What the cache shows of an object that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown<'a> {
    version: &'a str,
    is_terminating: bool,
}

impl<'a> Shown<'a> {
    pub(super) fn of(version: &'a str, is_terminating: bool) -> Self {
        Self { version, is_terminating }
    }
}

/// Whether the caches have shown all our own writes to a rollout and its sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// They have.
    Yes,
    /// They have not; look again by then at the latest.
    Wait(Instant),
    /// They had time enough: these objects must be read afresh.
    Overdue(Vec<ObjectId>),
}

/// The expectations of a process.
#[derive(Debug, Default)]
pub struct Own {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    open: BTreeMap<ObjectId, Open>,
    /// How many there were ever.
    count: u64,
}

/// What is expected of an object.
#[derive(Debug)]
struct Open {
    number: u64,
    expectation: Expectation,
    since: Instant,
    rollout: Key,
}

impl Own {
    /// Expects something of an object that belongs to a rollout. After a refusal, what is expected already is at least as new.
    pub(super) fn expect(&self, object: ObjectId, rollout: &Key, expectation: Expectation) {
        let mut inner = self.lock();
        if matches!(expectation, Expectation::NewerThan(_)) && inner.open.contains_key(&object) {
            return;
        }
        let since = match expectation {
            // No cache can show it, so that there is nothing to wait for.
            Expectation::Unsure => long_ago(),
            _ => Instant::now(),
        };
        inner.count += 1;
        let open = Open { number: inner.count, expectation, since, rollout: rollout.clone() };
        inner.open.insert(object, open);
    }

    /// Nothing is certain of an object that belongs to a rollout, until it has been read afresh.
    pub fn suspect(&self, object: ObjectId, rollout: &Key) {
        self.expect(object, rollout, Expectation::Unsure);
    }

    /// Whether something is expected of an object, so that it will be shown or read afresh.
    #[must_use]
    pub fn expects(&self, object: &ObjectId) -> bool {
        self.lock().open.contains_key(object)
    }

    /// Whether we have asked for an object's end.
    pub(super) fn is_deleting(&self, object: &ObjectId) -> bool {
        self.lock().open.get(object).is_some_and(|open| open.expectation == Expectation::Gone)
    }

    /// Whether a plan that was made from this version of an object has seen our own last write to it.
    #[must_use]
    pub fn allows(&self, object: &ObjectId, version: &str) -> bool {
        let shown = Some(Shown::of(version, false));
        self.lock().open.get(object).is_none_or(|open| open.expectation.is_met_by(shown))
    }

    /// Whether a write to one of these sets of a rollout has not been shown yet.
    #[must_use]
    pub fn awaits_set(&self, rollout: &Key, which: impl Fn(&str) -> bool) -> bool {
        self.awaits(rollout, |object| matches!(object, ObjectId::ReplicaSet(set) if which(&set.name)))
    }

    /// Whether an eviction of one of a rollout's pods, or a write to one, has not been shown yet.
    #[must_use]
    pub fn awaits_pods(&self, rollout: &Key) -> bool {
        self.awaits(rollout, |object| matches!(object, ObjectId::Pod(_)))
    }

    fn awaits(&self, rollout: &Key, which: impl Fn(&ObjectId) -> bool) -> bool {
        self.lock().open.iter().any(|(object, open)| open.rollout == *rollout && which(object))
    }

    /// The cache shows this of an object, or (`None`) that it is gone.
    pub(super) fn shown(&self, object: &ObjectId, shown: Option<Shown<'_>>) {
        let mut inner = self.lock();
        if inner.open.get(object).is_some_and(|open| open.expectation.is_met_by(shown)) {
            inner.open.remove(object);
        }
    }

    /// Whether the caches have caught up with our writes to a rollout and its sets.
    #[must_use]
    pub fn settled(&self, rollout: &Key) -> Settled {
        let inner = self.lock();
        let (mut overdue, mut until) = (Vec::new(), None);
        for (object, open) in inner.open.iter().filter(|(_, open)| open.rollout == *rollout) {
            if open.since.elapsed() >= PATIENCE {
                overdue.push(object.clone());
            } else {
                until = until.into_iter().chain([open.since + PATIENCE]).min();
            }
        }
        match (overdue.is_empty(), until) {
            (false, _) => Settled::Overdue(overdue),
            (true, Some(until)) => Settled::Wait(until),
            (true, None) => Settled::Yes,
        }
    }

    /// Gives the cache as long again: the object is being read afresh.
    pub fn extend(&self, object: &ObjectId) {
        if let Some(open) = self.lock().open.get_mut(object) {
            open.since = Instant::now();
        }
    }

    /// The object could not be read: its time is up again.
    pub fn expire(&self, object: &ObjectId) {
        if let Some(open) = self.lock().open.get_mut(object) {
            open.since = long_ago();
        }
    }

    /// The number of what is expected of an object, as long as it is that.
    pub(super) fn number(&self, object: &ObjectId) -> Option<u64> {
        self.lock().open.get(object).map(|open| open.number)
    }

    /// Expects that of an object no longer: it was read afresh. What is expected only since the read began stays.
    pub(super) fn forget(&self, object: &ObjectId, number: Option<u64>) {
        let mut inner = self.lock();
        if inner.open.get(object).is_some_and(|open| Some(open.number) == number) {
            inner.open.remove(object);
        }
    }

    /// The rollouts of whose objects something is expected.
    #[must_use]
    pub fn rollouts(&self) -> BTreeSet<Key> {
        self.lock().open.values().map(|open| open.rollout.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When what is overdue now began.
fn long_ago() -> Instant {
    let now = Instant::now();
    now.checked_sub(PATIENCE).unwrap_or(now)
}

impl Expectation {
    fn is_met_by(&self, shown: Option<Shown<'_>>) -> bool {
        match (self, shown) {
            (Self::Unsure, _) | (Self::Gone, Some(_)) => false,
            (_, None) => true,
            (Self::AtLeast(wanted), Some(Shown { version, .. })) => is_at_least(version, wanted),
            (Self::NewerThan(stale), Some(Shown { version, .. })) => {
                version != stale && is_at_least(version, stale)
            }
            (Self::Going, Some(Shown { is_terminating, .. })) => is_terminating,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str) -> ObjectId {
        ObjectId::ReplicaSet(Key::new("shop", name))
    }

    #[tokio::test(start_paused = true)]
    async fn a_plan_waits_until_the_cache_shows_our_own_write() {
        let (own, rollout) = (Own::default(), Key::new("shop", "web"));
        own.expect(set("web-1"), &rollout, Expectation::AtLeast("10".to_owned()));
        assert!(matches!(own.settled(&rollout), Settled::Wait(_)));
        assert!(!own.allows(&set("web-1"), "9"));
        own.shown(&set("web-1"), Some(Shown::of("9", false)));
        assert!(matches!(own.settled(&rollout), Settled::Wait(_)), "an older version does not count");
        own.shown(&set("web-1"), Some(Shown::of("12", false)));
        assert_eq!(own.settled(&rollout), Settled::Yes);
        assert!(own.allows(&set("web-1"), "9"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_when_the_object_is_gone() {
        let (own, rollout) = (Own::default(), Key::new("shop", "web"));
        for expectation in [
            Expectation::AtLeast("10".to_owned()),
            Expectation::NewerThan("10".to_owned()),
            Expectation::Gone,
        ] {
            own.expect(set("web-1"), &rollout, expectation);
            own.shown(&set("web-1"), None);
            assert_eq!(own.settled(&rollout), Settled::Yes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_eviction_is_seen_once_the_pod_is_on_its_way_out() {
        let (own, rollout) = (Own::default(), Key::new("shop", "web"));
        let pod = ObjectId::Pod(Key::new("shop", "web-1-x"));
        own.expect(pod.clone(), &rollout, Expectation::Going);
        own.shown(&pod, Some(Shown::of("12", false)));
        assert!(matches!(own.settled(&rollout), Settled::Wait(_)));
        own.shown(&pod, Some(Shown::of("13", true)));
        assert_eq!(own.settled(&rollout), Settled::Yes);
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_with_a_fresh_look_after_a_bound() {
        let (own, rollout) = (Own::default(), Key::new("shop", "web"));
        own.expect(set("web-1"), &rollout, Expectation::AtLeast("10".to_owned()));
        tokio::time::advance(PATIENCE).await;
        assert_eq!(own.settled(&rollout), Settled::Overdue(vec![set("web-1")]));
        own.forget(&set("web-1"), own.number(&set("web-1")));
        assert_eq!(own.settled(&rollout), Settled::Yes);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_write_waits_for_a_newer_version_and_other_rollouts_do_not_wait() {
        let (own, rollout) = (Own::default(), Key::new("shop", "web"));
        own.expect(set("web-1"), &rollout, Expectation::NewerThan("10".to_owned()));
        own.shown(&set("web-1"), Some(Shown::of("10", false)));
        assert!(matches!(own.settled(&rollout), Settled::Wait(_)));
        assert_eq!(own.settled(&Key::new("shop", "other")), Settled::Yes);
        own.shown(&set("web-1"), Some(Shown::of("11", false)));
        assert_eq!(own.settled(&rollout), Settled::Yes);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_write_without_an_answer_the_object_is_read_afresh_at_once() {
        let (own, rollout) = (Own::default(), Key::new("shop", "web"));
        tokio::time::advance(PATIENCE).await;
        own.expect(set("web-1"), &rollout, Expectation::Unsure);
        assert_eq!(own.settled(&rollout), Settled::Overdue(vec![set("web-1")]));
        own.shown(&set("web-1"), Some(Shown::of("12", false)));
        own.shown(&set("web-1"), None);
        assert!(!own.allows(&set("web-1"), "12"), "no cache knows");
        assert!(
            own.awaits_set(&rollout, |name| name == "web-1")
                && !own.awaits_set(&rollout, |name| name == "web-2")
        );
        assert!(!own.awaits_pods(&rollout));
        own.forget(&set("web-1"), own.number(&set("web-1")));
        assert_eq!(own.settled(&rollout), Settled::Yes);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_expected_since_a_fresh_look_began_is_not_settled_by_it() {
        let (own, rollout) = (Own::default(), Key::new("shop", "web"));
        own.expect(set("web-1"), &rollout, Expectation::Unsure);
        let number = own.number(&set("web-1"));
        own.expect(set("web-1"), &rollout, Expectation::Unsure);
        own.forget(&set("web-1"), number);
        assert_eq!(own.rollouts(), BTreeSet::from([rollout]), "the second write found no answer either");
    }
}
