//! The work queue and the loop of a controller.
//!
//! Depends on the cluster clock only. Keys, not events, are queued: a key is worked on once however often it was
//! added, never by two at a time, and again after a failure with a delay that grows to a cap. Controllers
//! implement [`Controller`]; [`run`] drives them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::request::SyncError;
use crate::clock::Clock;

/// The first retry comes quickly: most failures are conflicts that the next watch event resolves.
const RETRY_FIRST: Duration = Duration::from_millis(20);
/// A refusal that lasts (a quota, say) is tried again this often at most.
const RETRY_CAP: Duration = Duration::from_secs(30);
/// In real time: a request that is never answered must not hold its key for ever.
const SYNC_DEADLINE: Duration = Duration::from_secs(60);

/// When to look at a key again although nothing was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Only when something is observed.
    Idle,
    /// At this moment.
    At(Timestamp),
}

impl Next {
    /// At the earliest of these moments.
    pub(super) fn earliest(moments: impl IntoIterator<Item = Option<Timestamp>>) -> Self {
        moments.into_iter().flatten().min().map_or(Self::Idle, Self::At)
    }
}

/// Something that brings the cluster closer to what one object says.
pub(super) trait Controller: Send + Sync + 'static {
    /// Names the object.
    type Key: Ord + Clone + Debug + Send + Sync;
    /// For logs.
    const NAME: &'static str;
    /// How many keys are worked on at a time.
    const CONCURRENCY: usize;

    fn queue(&self) -> &Queue<Self::Key>;

    /// Looks at the object and does what is missing; level-triggered, so any call may be the first.
    fn sync(&self, key: &Self::Key) -> impl Future<Output = Result<Next, SyncError>> + Send;
}

/// Keys to work on, at most one entry for each object that exists.
#[derive(Debug)]
pub(super) struct Queue<K> {
    clock: Clock,
    state: Mutex<State<K>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<K> {
    ready: VecDeque<K>,
    /// What `ready` holds.
    queued: BTreeSet<K>,
    running: BTreeSet<K>,
    /// Added while running.
    again: BTreeSet<K>,
    later: BTreeMap<K, Timestamp>,
    /// What `later` holds, by time.
    due: BTreeSet<(Timestamp, K)>,
    failures: BTreeMap<K, u32>,
}

impl<K: Ord + Clone> Queue<K> {
    pub(super) fn new(clock: Clock) -> Self {
        let state = State {
            ready: VecDeque::new(),
            queued: BTreeSet::new(),
            running: BTreeSet::new(),
            again: BTreeSet::new(),
            later: BTreeMap::new(),
            due: BTreeSet::new(),
            failures: BTreeMap::new(),
        };
        Self { clock, state: Mutex::new(state), changed: Notify::new() }
    }

    /// Works on `key` as soon as possible.
    pub(super) fn add(&self, key: K) {
        self.state().add(key);
        self.changed.notify_one();
    }

    /// Works on `key` in `delay` of cluster time, or when something earlier asks for it.
    pub(super) fn add_after(&self, key: K, delay: Duration) {
        let at = self.clock.now().checked_add(delay).unwrap_or(Timestamp::MAX);
        self.add_at(key, at);
    }

    /// Works on `key` at a moment, or when something earlier asks for it.
    pub(super) fn add_at(&self, key: K, at: Timestamp) {
        self.state().add_at(key, at);
        self.changed.notify_one();
    }

    /// Waits for the next key; it counts as running until [`Self::finish`].
    async fn next(&self) -> K {
        loop {
            let deadline = {
                let mut state = self.state();
                if let Some(key) = state.take(self.clock.now()) {
                    return key;
                }
                state.due.first().map(|(at, _)| *at)
            };
            let sleep = async {
                match deadline {
                    Some(at) => self.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = sleep => {}
            }
        }
    }

    fn finish(&self, key: &K, outcome: &Result<Next, SyncError>) {
        let mut state = self.state();
        state.running.remove(key);
        match outcome {
            Ok(next) => {
                state.failures.remove(key);
                if let Next::At(at) = next {
                    state.add_at(key.clone(), *at);
                }
            }
            Err(_) => {
                let failures = state.failures.entry(key.clone()).or_insert(0);
                let delay = retry_delay(*failures);
                *failures = failures.saturating_add(1);
                let at = self.clock.now().checked_add(delay).unwrap_or(Timestamp::MAX);
                state.add_at(key.clone(), at);
            }
        }
        if state.again.remove(key) {
            state.add(key.clone());
        }
        drop(state);
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

impl<K: Ord + Clone> State<K> {
    fn add(&mut self, key: K) {
        if self.running.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn add_at(&mut self, key: K, at: Timestamp) {
        let earlier = self.later.get(&key).copied();
        if earlier.is_some_and(|earlier| earlier <= at) {
            return;
        }
        if let Some(replaced) = earlier {
            self.due.remove(&(replaced, key.clone()));
        }
        self.later.insert(key.clone(), at);
        self.due.insert((at, key));
    }

    fn take(&mut self, now: Timestamp) -> Option<K> {
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            let (_, key) = self.due.pop_first().expect("just seen");
            self.later.remove(&key);
            self.add(key);
        }
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        // This pass sees everything that a later one was wanted for; it says itself when to look again.
        if let Some(at) = self.later.remove(&key) {
            self.due.remove(&(at, key.clone()));
        }
        self.running.insert(key.clone());
        Some(key)
    }
}

fn retry_delay(failures: u32) -> Duration {
    RETRY_FIRST.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(RETRY_CAP)
}

/// Works on the controller's queue until `stop`; what is under way then is dropped.
pub(super) async fn run<C: Controller>(controller: Arc<C>, stop: CancellationToken) {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            Some((key, outcome)) = running.next() => {
                if let Err(error) = &outcome {
                    report::<C>(&key, error);
                }
                controller.queue().finish(&key, &outcome);
            }
            key = controller.queue().next(), if running.len() < C::CONCURRENCY => {
                let controller = &controller;
                running.push(async move {
                    let outcome = tokio::time::timeout(SYNC_DEADLINE, controller.sync(&key)).await;
                    (key, outcome.unwrap_or(Err(SyncError::Deadline)))
                });
            }
        }
    }
}

/// Conflicts are ordinary; everything else is worth a line.
fn report<C: Controller>(key: &C::Key, error: &SyncError) {
    if error.is_conflict() {
        tracing::debug!(controller = C::NAME, ?key, %error, "conflict");
    } else {
        tracing::warn!(controller = C::NAME, ?key, %error, "retrying");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// Notes when it was asked for which key, and answers as told.
    struct Probe {
        clock: Clock,
        queue: Queue<&'static str>,
        answers: Mutex<VecDeque<Result<Next, SyncError>>>,
        seen: Mutex<Vec<(i128, &'static str)>>,
        took: Duration,
    }

    impl Controller for Probe {
        type Key = &'static str;
        const NAME: &'static str = "probe";
        const CONCURRENCY: usize = 2;

        fn queue(&self) -> &Queue<&'static str> {
            &self.queue
        }

        async fn sync(&self, key: &&'static str) -> Result<Next, SyncError> {
            self.seen.lock().unwrap().push((self.clock.now().as_millisecond().into(), *key));
            self.clock.sleep(self.took).await;
            self.answers.lock().unwrap().pop_front().unwrap_or(Ok(Next::Idle))
        }
    }

    fn probe(took: Duration, answers: impl IntoIterator<Item = Result<Next, SyncError>>) -> Arc<Probe> {
        let clock = Clock::starting_at(Timestamp::UNIX_EPOCH, 1.0);
        Arc::new(Probe {
            queue: Queue::new(clock.clone()),
            clock,
            answers: Mutex::new(answers.into_iter().collect()),
            seen: Mutex::new(Vec::new()),
            took,
        })
    }

    async fn run_for(probe: &Arc<Probe>, duration: Duration) -> Vec<(i128, &'static str)> {
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(Arc::clone(probe), stop.clone()));
        probe.clock.sleep(duration).await;
        stop.cancel();
        task.await.unwrap();
        probe.seen.lock().unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_many_times_is_worked_on_once() {
        let probe = probe(Duration::ZERO, []);
        for _ in 0..5 {
            probe.queue.add("a");
        }
        assert_eq!(run_for(&probe, Duration::from_secs(1)).await, [(0, "a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_while_it_runs_is_worked_on_again_after_that() {
        let probe = probe(Duration::from_millis(100), []);
        probe.queue.add("a");
        let queue = Arc::clone(&probe);
        tokio::spawn(async move {
            queue.clock.sleep(Duration::from_millis(50)).await;
            queue.queue.add("a");
        });
        assert_eq!(run_for(&probe, Duration::from_secs(1)).await, [(0, "a"), (100, "a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_keys_run_at_a_time_than_the_controller_allows() {
        let probe = probe(Duration::from_millis(100), []);
        for key in ["a", "b", "c"] {
            probe.queue.add(key);
        }
        assert_eq!(run_for(&probe, Duration::from_secs(1)).await, [(0, "a"), (0, "b"), (100, "c")]);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_retried_with_growing_delays() {
        let probe = probe(
            Duration::ZERO,
            [Err(SyncError::Deadline), Err(SyncError::Deadline), Err(SyncError::Deadline)],
        );
        probe.queue.add("a");
        assert_eq!(
            run_for(&probe, Duration::from_secs(1)).await,
            [(0, "a"), (20, "a"), (60, "a"), (140, "a")]
        );
        assert_eq!(retry_delay(u32::MAX), RETRY_CAP);
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_of_two_later_moments_wins_and_the_other_is_dropped() {
        let probe = probe(Duration::ZERO, []);
        probe.queue.add_after("a", Duration::from_millis(500));
        probe.queue.add_after("a", Duration::from_millis(200));
        probe.queue.add_after("a", Duration::from_millis(900));
        assert_eq!(run_for(&probe, Duration::from_secs(2)).await, [(200, "a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_controller_is_asked_again_when_it_said_so() {
        let at = Timestamp::from_millisecond(300).unwrap();
        let probe = probe(Duration::ZERO, [Ok(Next::At(at))]);
        probe.queue.add("a");
        assert_eq!(run_for(&probe, Duration::from_secs(1)).await, [(0, "a"), (300, "a")]);
    }
}
