//! Request ids: a repeated request changes nothing and gets the same answer (AIP-155).
//!
//! Remembered in this process only; [`super::ticket`] says which outlive it. A request with an id is carried out to its end even when its caller goes away, so that the
//! answer is there when the caller asks again. Only successes are remembered: what failed may be tried again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::digest;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::convert::Fault;
use super::error::Error;
use super::status::Reason;

/// How long an answer is remembered: longer than any client goes on retrying.
const KEPT_FOR: Duration = Duration::from_secs(15 * 60);

/// How many answers are remembered at most.
const MOST_ANSWERS: usize = 1024;

/// How many bytes of answers are remembered at most: a thousand ordinary rollouts.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The answers that are remembered.
#[derive(Debug, Default)]
pub(super) struct RequestIds {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_id: HashMap<String, Arc<Slot>>,
    /// Answers by age, oldest first: id, size, and when it was given.
    given: VecDeque<(String, usize, Instant)>,
    bytes: usize,
}

/// One request. The lock is held while it is carried out.
#[derive(Debug)]
struct Slot {
    digest: String,
    answer: tokio::sync::Mutex<Option<Vec<u8>>>,
}

/// Forgets an id when it is dropped, unless it is to be kept.
struct Claim<'a> {
    ids: &'a RequestIds,
    id: &'a str,
    is_kept: bool,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.ids.forget(self.id);
        }
    }
}

impl RequestIds {
    /// Carries a request out, unless one with this id was: then that one's answer is given.
    ///
    /// `method` and `request` tell whether it is the same request.
    pub(super) async fn once<A, F>(
        self: &Arc<Self>,
        id: &str,
        method: &'static str,
        request: Vec<u8>,
        run: F,
    ) -> Result<A, Error>
    where
        A: prost::Message + Default + 'static,
        F: Future<Output = Result<A, Error>> + Send + 'static,
    {
        let id = parse(id)?;
        let slot = self.slot(&id, digest_of(method, &request))?;
        let ids = Arc::clone(self);
        let carry_out = async move {
            let mut remembered = slot.answer.lock().await;
            // Given back unless there is an answer to remember, also when carrying it out panics.
            let mut claim = Claim { ids: &ids, id: &id, is_kept: true };
            if let Some(answer) = &*remembered {
                return A::decode(answer.as_slice())
                    .map_err(|error| Error::internal("a remembered answer cannot be read", &error));
            }
            claim.is_kept = false;
            let answer = run.await?;
            claim.is_kept = true;
            let encoded = answer.encode_to_vec();
            ids.remember(id.clone(), Arc::clone(&slot), encoded.len());
            *remembered = Some(encoded);
            Ok(answer)
        };
        // A task of its own: it ends even when the caller goes away.
        let carried_out = tokio::spawn(carry_out.in_current_span());
        carried_out.await.map_err(|error| Error::internal("the request broke off", &error))?
    }

    fn slot(&self, id: &str, digest: String) -> Result<Arc<Slot>, Error> {
        let mut inner = self.lock();
        inner.drop_old();
        match inner.by_id.get(id) {
            Some(slot) if slot.digest == digest => Ok(Arc::clone(slot)),
            Some(_) => Err(reused(id)),
            None => {
                let slot = Arc::new(Slot { digest, answer: tokio::sync::Mutex::default() });
                inner.by_id.insert(id.to_owned(), Arc::clone(&slot));
                Ok(slot)
            }
        }
    }

    fn remember(&self, id: String, slot: Arc<Slot>, bytes: usize) {
        let mut inner = self.lock();
        inner.bytes += bytes;
        // The one before, which failed while this one waited for it, has forgotten the id.
        inner.by_id.insert(id.clone(), slot);
        inner.given.push_back((id, bytes, Instant::now()));
        inner.drop_old();
    }

    fn forget(&self, id: &str) {
        self.lock().by_id.remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn drop_old(&mut self) {
        while let Some((id, bytes, since)) = self.given.front() {
            let fits = self.given.len() <= MOST_ANSWERS && self.bytes <= MOST_BYTES;
            if fits && since.elapsed() < KEPT_FOR {
                return;
            }
            self.by_id.remove(id);
            self.bytes -= bytes;
            self.given.pop_front();
        }
    }
}

/// A request id in its one form.
pub(super) fn parse(id: &str) -> Result<String, Error> {
    let parsed = uuid::Uuid::try_parse(id);
    parsed.map(|id| id.to_string()).map_err(|_| Error::field("request_id", format!("{id:?} is not a UUID")))
}

/// An id that another request had.
pub(super) fn reused(id: &str) -> Error {
    let message = format!("{id} was used for another request; use a new one for each");
    let error = Error::new(Reason::RequestIdReused, format!("request_id: {message}"));
    error.with_faults(vec![Fault::new("request_id", message)])
}

/// What tells a request from others with the same id.
pub(super) fn digest_of(method: &str, request: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(method.as_bytes());
    context.update(b"\0");
    context.update(request);
    STANDARD_NO_PAD.encode(context.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI32, Ordering};

    const ID: &str = "6b8f2a4e-8a1c-4d6f-9a3e-0d4f5f6a7b8c";

    async fn counted(
        ids: &Arc<RequestIds>,
        id: &str,
        body: &[u8],
        runs: &Arc<AtomicI32>,
    ) -> Result<i32, Error> {
        let runs = Arc::clone(runs);
        let run = async move { Ok(runs.fetch_add(1, Ordering::SeqCst)) };
        ids.once::<i32, _>(id, "Scale", body.to_vec(), run).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeated_request_is_answered_and_not_carried_out() {
        let (ids, runs) = (Arc::new(RequestIds::default()), Arc::default());
        for _ in 0..3 {
            assert_eq!(counted(&ids, ID, b"a", &runs).await.unwrap(), 0);
        }
        assert_eq!(counted(&ids, &ID.to_uppercase(), b"a", &runs).await.unwrap(), 0);
        let error = counted(&ids, ID, b"b", &runs).await.unwrap_err();
        assert_eq!(error.reason(), Reason::RequestIdReused);
        tokio::time::advance(KEPT_FOR).await;
        assert_eq!(counted(&ids, ID, b"b", &runs).await.unwrap(), 1, "it is forgotten after a while");
    }

    #[tokio::test(start_paused = true)]
    async fn two_at_once_are_one() {
        let (ids, runs) = (Arc::new(RequestIds::default()), Arc::<AtomicI32>::default());
        let slow = || {
            let runs = Arc::clone(&runs);
            ids.once::<i32, _>(ID, "Scale", Vec::new(), async move {
                crate::clock::real_sleep(Duration::from_secs(1)).await;
                Ok(runs.fetch_add(1, Ordering::SeqCst) + 7)
            })
        };
        let (a, b) = tokio::join!(slow(), slow());
        assert_eq!((a.unwrap(), b.unwrap()), (7, 7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_goes_away_finds_the_answer_later() {
        let (ids, runs) = (Arc::new(RequestIds::default()), Arc::<AtomicI32>::default());
        let slow = || {
            let runs = Arc::clone(&runs);
            ids.once::<i32, _>(ID, "Scale", Vec::new(), async move {
                crate::clock::real_sleep(Duration::from_secs(1)).await;
                Ok(runs.fetch_add(1, Ordering::SeqCst))
            })
        };
        assert!(tokio::time::timeout(Duration::from_millis(1), slow()).await.is_err());
        assert_eq!(slow().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_failure_may_be_tried_again() {
        let ids = Arc::new(RequestIds::default());
        let fail = async { Err(Error::new(Reason::Conflict, "")) };
        ids.once::<i32, _>(ID, "Scale", Vec::new(), fail).await.unwrap_err();
        assert_eq!(ids.once::<i32, _>(ID, "Scale", Vec::new(), async { Ok(3) }).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_panic_may_be_tried_again() {
        let (ids, runs) = (Arc::new(RequestIds::default()), Arc::default());
        let panics = async { panic!("on purpose") };
        let error = ids.once::<i32, _>(ID, "Scale", b"a".to_vec(), panics).await.unwrap_err();
        assert_eq!(error.reason(), Reason::Internal);
        assert!(!error.message().contains("on purpose"), "{}", error.message());
        assert!(ids.lock().by_id.is_empty());
        assert_eq!(counted(&ids, ID, b"b", &runs).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waited_for_a_failure_is_remembered() {
        let (ids, runs) = (Arc::new(RequestIds::default()), Arc::default());
        let fail = ids.once::<i32, _>(ID, "Scale", b"a".to_vec(), async {
            crate::clock::real_sleep(Duration::from_secs(1)).await;
            Err(Error::new(Reason::Conflict, ""))
        });
        let (failed, done) = tokio::join!(fail, counted(&ids, ID, b"a", &runs));
        assert!(failed.is_err());
        assert_eq!((done.unwrap(), counted(&ids, ID, b"a", &runs).await.unwrap()), (0, 0));
    }

    #[tokio::test]
    async fn memory_is_bounded_and_only_uuids_are_ids() {
        let (ids, runs) = (Arc::new(RequestIds::default()), Arc::default());
        assert!(counted(&ids, "1", b"", &runs).await.is_err());
        for number in 0..MOST_ANSWERS + 10 {
            let id = uuid::Uuid::from_u128(number as u128).to_string();
            counted(&ids, &id, b"", &runs).await.unwrap();
        }
        assert_eq!(ids.lock().by_id.len(), MOST_ANSWERS);
    }
}
