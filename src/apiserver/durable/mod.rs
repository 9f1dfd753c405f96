//! A cluster on disk: a write is answered, and told of, when it is durable.
//!
//! There are two states. Requests that write work on the one that is ahead, one after another; what they changed waits in
//! a queue, and a task in the background stores all that waits in one transaction. Then the settled state, which
//! requests that read and watches are served from, does the same and the requests are answered. While the disk is busy
//! nobody holds a lock that a reader needs.
//!
//! When the disk refuses, every waiting request is told so, the state ahead falls back to the settled one and the file
//! is opened again, which also tells whether the refused transaction is in it after all.

mod database;
mod restore;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Semaphore, oneshot};

pub(crate) use database::{Cause, Unstored};
pub use database::{Database, OpenError};

use super::random::Random;
use super::state::{State, Unsettled};
use super::status::ApiError;

/// Requests that may be writing at a time; a further one waits. Far more than share a transaction usefully.
const WRITERS_MAX: usize = 1024;

/// Requests whose writes are stored in one transaction, so that none waits for an endless one.
const BATCH_MAX: usize = 256;

/// A file that could not be opened is not tried again sooner: checking a large one takes a while.
const REOPEN_INTERVAL: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(1) };

/// The state as of the last durable write.
pub(super) type Settled = Arc<Mutex<State>>;

/// What stands between requests that write and the disk.
pub(super) struct Durable {
    ahead: tokio::sync::Mutex<Ahead>,
    settled: Settled,
    queue: Mutex<Queue>,
    database: Database,
    writers: Semaphore,
}

struct Ahead {
    state: State,
    health: Health,
}

enum Health {
    Sound,
    /// The disk refused the writes `doubtful`; they may be stored all the same.
    Broken {
        doubtful: Vec<Unsettled>,
        why: Unstored,
        tried: Instant,
    },
    Closed,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Whether a task works on it.
    is_served: bool,
}

/// A request that waits for its writes, or for those that it has seen, to be durable.
struct Waiting {
    writes: Vec<Unsettled>,
    /// Changes up to this revision need not be kept.
    compacted: u64,
    /// Where the generator of uids goes on.
    random: u64,
    done: oneshot::Sender<Result<(), Unstored>>,
}

impl Durable {
    /// The cluster of `database` at `now`; a new one begins with what `new` gives.
    pub(super) fn start(
        mut database: Database,
        history_limit: usize,
        now: Timestamp,
        new: impl FnOnce() -> State,
    ) -> Result<(Arc<Self>, Settled), OpenError> {
        let state = match database.take_found() {
            Some(found) => {
                let random = Random::new(found.random);
                let (store, written) = found.into_store(history_limit);
                let last = |place| written.get(&place).copied().unwrap_or(now);
                State::restored(store, random, |resource, key| last((resource.clone(), key.clone())), now)
            }
            None => {
                let state = new();
                database.create(&state)?;
                state
            }
        };
        let ahead = Ahead { state: state.ahead(), health: Health::Sound };
        let settled = Arc::new(Mutex::new(state));
        let durable = Self {
            ahead: tokio::sync::Mutex::new(ahead),
            settled: settled.clone(),
            queue: Mutex::default(),
            database,
            writers: Semaphore::new(WRITERS_MAX),
        };
        Ok((Arc::new(durable), settled))
    }

    /// Carries out a request that may write, and returns when all that it wrote or saw is durable.
    pub(super) async fn write<T>(
        self: &Arc<Self>,
        now: impl Fn() -> Timestamp,
        act: impl FnOnce(&mut State) -> T,
    ) -> Result<T, ApiError> {
        let _turn = self.writers.acquire().await.map_err(|_| refusal(closed()))?;
        let (outcome, done) = {
            let mut ahead = self.ahead.lock().await;
            if !matches!(ahead.health, Health::Sound) {
                drop(ahead);
                ahead = self.mended().await?;
            }
            ahead.state.begin(now());
            let outcome = act(&mut ahead.state);
            (outcome, self.submit(&mut ahead.state))
        };
        match done.await {
            Ok(Ok(())) => Ok(outcome),
            Ok(Err(why)) => Err(refusal(why)),
            Err(_) => Err(refusal(closed())),
        }
    }

    /// The state ahead, after the file was opened again.
    async fn mended(self: &Arc<Self>) -> Result<tokio::sync::MutexGuard<'_, Ahead>, ApiError> {
        let this = self.clone();
        let mended =
            tokio::task::spawn_blocking(move || this.mend(&mut this.ahead.blocking_lock()).map(drop));
        mended.await.unwrap_or_else(|_| Err(closed())).map_err(refusal)?;
        let ahead = self.ahead.lock().await;
        match &ahead.health {
            Health::Sound => Ok(ahead),
            Health::Broken { why, .. } => Err(refusal(why.clone())),
            Health::Closed => Err(refusal(closed())),
        }
    }

    /// Puts what the state ahead did into the queue. The caller holds that state, so that the queue is in its order.
    fn submit(self: &Arc<Self>, ahead: &mut State) -> oneshot::Receiver<Result<(), Unstored>> {
        let (done, result) = oneshot::channel();
        let writes = ahead.take_unsettled();
        let mut queue = self.queue();
        if writes.is_empty() && !queue.is_served {
            // Nothing is on its way; somebody waits for the answer, or does not care.
            let _ = done.send(Ok(()));
            return result;
        }
        let (compacted, random) = (ahead.store.compacted(), ahead.random.state());
        queue.waiting.push_back(Waiting { writes, compacted, random, done });
        if !queue.is_served {
            queue.is_served = true;
            let this = self.clone();
            tokio::task::spawn_blocking(move || this.serve_queue());
        }
        result
    }

    fn serve_queue(&self) {
        while let Some(batch) = self.next_batch() {
            self.store(batch);
        }
    }

    fn next_batch(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue();
        let size = queue.waiting.len().min(BATCH_MAX);
        queue.is_served = size > 0;
        (size > 0).then(|| queue.waiting.drain(..size).collect())
    }

    fn store(&self, mut batch: Vec<Waiting>) {
        let writes: Vec<Unsettled> =
            batch.iter_mut().flat_map(|one| std::mem::take(&mut one.writes)).collect();
        let stored = match batch.last() {
            Some(last) if !writes.is_empty() => self.database.append(&writes, last.compacted, last.random),
            _ => Ok(()),
        };
        match stored {
            Ok(()) => {
                settle(&mut self.settled(), &writes);
                answer(batch, &Ok(()));
            }
            Err(why) => self.fall_back(batch, writes, why),
        }
    }

    fn fall_back(&self, batch: Vec<Waiting>, writes: Vec<Unsettled>, why: Unstored) {
        tracing::error!(error = why.why, "writes were not stored");
        let mut ahead = self.ahead.blocking_lock();
        // Nobody adds to the queue now. What waits there builds on what was not stored.
        let later: Vec<Waiting> = self.queue().waiting.drain(..).collect();
        let refused = Err(why.clone());
        if matches!(ahead.health, Health::Sound) {
            ahead.health = Health::Broken { doubtful: writes, why, tried: Instant::now() };
        }
        let is_stored = matches!(self.reopen(&mut ahead), Ok(Found::Stored));
        drop(ahead);
        answer(batch, &if is_stored { Ok(()) } else { refused.clone() });
        answer(later, &refused);
    }

    /// Opens the file again, unless that was just tried.
    fn mend(&self, ahead: &mut Ahead) -> Result<Found, Unstored> {
        match &ahead.health {
            Health::Broken { why, tried, .. } if tried.elapsed() < REOPEN_INTERVAL => Err(why.clone()),
            _ => self.reopen(ahead),
        }
    }

    fn reopen(&self, ahead: &mut Ahead) -> Result<Found, Unstored> {
        let (doubtful, tried) = match &mut ahead.health {
            Health::Sound => return Ok(Found::Lost),
            Health::Closed => return Err(closed()),
            Health::Broken { doubtful, tried, .. } => (doubtful, tried),
        };
        *tried = Instant::now();
        let revision = self.database.reopen()?;
        let is_stored = doubtful.last().is_some_and(|last| last.change.revision <= revision);
        let mut settled = self.settled();
        if is_stored {
            settle(&mut settled, doubtful);
        }
        // Uids that were given out are not given again.
        let random = ahead.state.random.clone();
        ahead.state = settled.ahead();
        ahead.state.random = random;
        ahead.health = Health::Sound;
        tracing::warn!("the database is open again");
        Ok(if is_stored { Found::Stored } else { Found::Lost })
    }

    /// Takes no more writes, and closes the file when all that wait are stored.
    pub(super) async fn close(self: &Arc<Self>) {
        let done = {
            let mut ahead = self.ahead.lock().await;
            ahead.health = Health::Closed;
            self.submit(&mut ahead.state)
        };
        // However that ended, nothing comes after it.
        let _ = done.await;
        let this = self.clone();
        let _ = tokio::task::spawn_blocking(move || this.database.close()).await;
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settled(&self) -> MutexGuard<'_, State> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of writes that the disk refused.
enum Found {
    Stored,
    Lost,
}

fn settle(settled: &mut State, writes: &[Unsettled]) {
    for write in writes {
        // What comes after a hook that panics is stored as well, and must not be missing here.
        if catch_unwind(AssertUnwindSafe(|| settled.settle(write))).is_err() {
            tracing::error!(revision = write.change.revision, "a hook panicked");
        }
    }
}

fn answer(waiting: Vec<Waiting>, result: &Result<(), Unstored>) {
    for one in waiting {
        // A client that has gone does not want to know.
        let _ = one.done.send(result.clone());
    }
}

fn closed() -> Unstored {
    Unstored { why: "the server is stopping".to_owned(), cause: Cause::Other }
}

fn refusal(Unstored { why, cause }: Unstored) -> ApiError {
    ApiError::NotStored { why, cause }
}
