//! The newest part for each rollout: what a worker has to do next, without a queue of what it once had to do.
//!
//! A newer part replaces one that has not begun. A rollout's parts never run at the same time; those of different rollouts do,
//! up to the worker's limit. Holds at most one part a rollout, so it is bounded by their number.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::Key;

/// Parts by rollout.
#[derive(Debug)]
pub(super) struct Latest<T> {
    inner: Mutex<Inner<T>>,
    news: Notify,
    ended: Notify,
}

#[derive(Debug)]
struct Inner<T> {
    slots: HashMap<Key, Slot<T>>,
    /// Slots that wait and do not run, by when they are due.
    due: BTreeSet<(Instant, Key)>,
}

#[derive(Debug)]
struct Slot<T> {
    waiting: Option<(T, Instant)>,
    running: bool,
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        let inner = Inner { slots: HashMap::new(), due: BTreeSet::new() };
        Self { inner: Mutex::new(inner), news: Notify::new(), ended: Notify::new() }
    }
}

impl<T> Latest<T> {
    /// Puts a part in place of the one that waits. It is due when either was: waiting for company must not last for ever.
    pub(super) fn put(&self, key: &Key, part: T, due: Instant) {
        let mut inner = self.lock();
        let slot = inner.slots.entry(key.clone()).or_insert(Slot { waiting: None, running: false });
        let (before, running) = (slot.waiting.as_ref().map(|(_, due)| *due), slot.running);
        let due = before.map_or(due, |before| before.min(due));
        slot.waiting = Some((part, due));
        if let Some(before) = before {
            inner.due.remove(&(before, key.clone()));
        }
        if !running {
            inner.due.insert((due, key.clone()));
        }
        drop(inner);
        self.news.notify_one();
    }

    /// Takes back the part that waits, if one does.
    pub(super) fn take_back(&self, key: &Key) {
        self.withdraw(key);
    }

    /// The same; gives when it was due, for another to keep its place.
    pub(super) fn withdraw(&self, key: &Key) -> Option<Instant> {
        let mut inner = self.lock();
        let slot = inner.slots.get_mut(key)?;
        let (_, due) = slot.waiting.take()?;
        let idle = !slot.running;
        inner.due.remove(&(due, key.clone()));
        if idle {
            inner.slots.remove(key);
        }
        Some(due)
    }

    /// Waits for the next part that is due and whose rollout has none running. Nothing is lost when the wait is dropped.
    pub(super) async fn next(&self) -> (Key, T) {
        loop {
            let news = self.news.notified();
            let until = match self.begin() {
                Ok(begun) => return begun,
                Err(until) => until,
            };
            match until {
                None => news.await,
                Some(until) => {
                    // Either something is due, or something new came in: both are looked at again.
                    let _ = tokio::time::timeout_at(until, news).await;
                }
            }
        }
    }

    /// Whether a part of a rollout runs.
    pub(super) fn is_running(&self, key: &Key) -> bool {
        self.lock().slots.get(key).is_some_and(|slot| slot.running)
    }

    /// Waits until no part of a rollout runs.
    pub(super) async fn quiet(&self, key: &Key) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // From here on no end is missed.
            ended.as_mut().enable();
            if !self.is_running(key) {
                return;
            }
            ended.await;
        }
    }

    /// Says that a rollout's part has ended.
    pub(super) fn done(&self, key: &Key) {
        let mut inner = self.lock();
        let Some(slot) = inner.slots.get_mut(key) else { return };
        slot.running = false;
        self.ended.notify_waiters();
        match slot.waiting.as_ref().map(|(_, due)| *due) {
            Some(due) => {
                inner.due.insert((due, key.clone()));
            }
            None => {
                inner.slots.remove(key);
            }
        }
        drop(inner);
        self.news.notify_one();
    }

    /// Forgets everything that waits.
    pub(super) fn clear(&self) {
        let mut inner = self.lock();
        inner.due.clear();
        inner.slots.retain(|_, slot| {
            slot.waiting = None;
            slot.running
        });
    }

    fn begin(&self) -> Result<(Key, T), Option<Instant>> {
        let mut inner = self.lock();
        let Some((due, key)) = inner.due.first().cloned() else { return Err(None) };
        if due > Instant::now() {
            return Err(Some(due));
        }
        inner.due.pop_first();
        let slot = inner.slots.get_mut(&key).and_then(|slot| {
            slot.running = true;
            slot.waiting.take()
        });
        let more = !inner.due.is_empty();
        drop(inner);
        if more {
            // `notify_one` wakes one waiter; whoever comes next must look as well.
            self.news.notify_one();
        }
        slot.map(|(part, _)| (key, part)).ok_or(None)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries parts out, at most `limit` at a time, until it is told to stop; then waits for those that run.
pub(super) async fn work<T, F>(
    parts: &Latest<T>,
    limit: usize,
    stop: CancellationToken,
    mut carry_out: impl FnMut(Key, T) -> F,
) where
    F: Future<Output = ()>,
{
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(key) = running.next(), if !running.is_empty() => parts.done(&key),
            (key, part) = parts.next(), if running.len() < limit => {
                let work = carry_out(key.clone(), part);
                running.push(async move {
                    work.await;
                    key
                });
            }
        }
    }
    while let Some(key) = running.next().await {
        parts.done(&key);
    }
    parts.clear();
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn key(name: &str) -> Key {
        Key::new("shop", name)
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_part_wins() {
        let parts = Latest::default();
        parts.put(&key("a"), 1, Instant::now());
        parts.put(&key("a"), 2, Instant::now());
        assert_eq!(parts.next().await, (key("a"), 2));
        parts.done(&key("a"));
        assert!(tokio::time::timeout(Duration::from_secs(60), parts.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn parts_of_one_rollout_never_run_at_the_same_time() {
        let parts = Latest::default();
        parts.put(&key("a"), 1, Instant::now());
        parts.next().await;
        parts.put(&key("a"), 2, Instant::now());
        parts.put(&key("b"), 3, Instant::now());
        assert_eq!(parts.next().await, (key("b"), 3));
        assert!(tokio::time::timeout(Duration::from_secs(60), parts.next()).await.is_err());
        parts.done(&key("a"));
        assert_eq!(parts.next().await, (key("a"), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_waits_until_it_is_due_and_not_longer_for_company() {
        let parts = Latest::default();
        let began = Instant::now();
        parts.put(&key("a"), 1, began + Duration::from_millis(500));
        tokio::time::advance(Duration::from_millis(400)).await;
        parts.put(&key("a"), 2, Instant::now() + Duration::from_millis(500));
        assert_eq!(parts.next().await, (key("a"), 2));
        assert_eq!(began.elapsed(), Duration::from_millis(500));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_back_does_not_run() {
        let parts = Latest::default();
        parts.put(&key("a"), 1, Instant::now());
        assert_eq!(parts.withdraw(&key("b")), None);
        parts.take_back(&key("a"));
        assert!(tokio::time::timeout(Duration::from_secs(60), parts.next()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_keeps_to_its_limit_and_finishes_what_runs_when_it_is_stopped() {
        let parts = Arc::new(Latest::default());
        let stop = CancellationToken::new();
        for name in ["a", "b", "c"] {
            parts.put(&key(name), (), Instant::now());
        }
        let (running, done) =
            (Arc::new(std::sync::atomic::AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let worker = work(&parts, 2, stop.clone(), |key, ()| {
            let (running, done) = (Arc::clone(&running), Arc::clone(&done));
            async move {
                use std::sync::atomic::Ordering::SeqCst;
                assert!(running.fetch_add(1, SeqCst) < 2);
                crate::clock::real_sleep(Duration::from_secs(1)).await;
                running.fetch_sub(1, SeqCst);
                done.lock().unwrap().push(key.name);
            }
        });
        let stopper = async {
            crate::clock::real_sleep(Duration::from_millis(1500)).await;
            stop.cancel();
        };
        tokio::join!(worker, stopper);
        assert_eq!(*done.lock().unwrap(), ["a", "b", "c"]);
    }
}
