//! How long an RPC may take, and among which it counts.
//!
//! A method that is asked to wait for something stays longer than others, and takes none of their places meanwhile: it counts among
//! the watches then. Methods find their [`Stay`] in the extensions of the request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::{Error, Gate};

/// The time and the place that an RPC has.
#[derive(Clone)]
pub(in crate::api) struct Stay {
    shared: Arc<Shared>,
}

struct Shared {
    gate: Gate,
    /// When the answer must have begun.
    until: watch::Sender<Instant>,
    /// When the caller has given up.
    given_up: Option<Instant>,
    place: Mutex<Option<OwnedSemaphorePermit>>,
}

/// The time is over.
pub(super) struct TooLong;

impl Stay {
    /// A stay that begins now, for as long as `most` allows and the caller waits.
    pub(super) fn new(
        gate: Gate,
        place: Option<OwnedSemaphorePermit>,
        most: Duration,
        given: Option<Duration>,
    ) -> Self {
        let now = Instant::now();
        let given_up = given.and_then(|given| now.checked_add(given));
        let until = given_up.map_or(now + most, |given_up| given_up.min(now + most));
        let (until, place) = (watch::Sender::new(until), Mutex::new(place));
        Self { shared: Arc::new(Shared { gate, until, given_up, place }) }
    }

    /// Stays longer by so much, though no longer than the caller waits.
    pub(in crate::api) fn extend(&self, by: Duration) -> Result<(), Error> {
        let place = self.shared.gate.place_among_streams()?;
        *self.shared.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
        self.shared.until.send_modify(|until| {
            let longer = *until + by;
            *until = self.shared.given_up.map_or(longer, |given_up| given_up.min(longer));
        });
        Ok(())
    }

    /// Waits for the answer until the time is over.
    pub(super) async fn within<T>(&self, answer: impl Future<Output = T>) -> Result<T, TooLong> {
        let mut answer = std::pin::pin!(answer);
        let mut extended = self.shared.until.subscribe();
        loop {
            let until = *extended.borrow_and_update();
            tokio::select! {
                biased;
                answer = tokio::time::timeout_at(until, &mut answer) => match answer {
                    Ok(answer) => return Ok(answer),
                    Err(_) if *self.shared.until.borrow() > until => {}
                    Err(_) => return Err(TooLong),
                },
                // The sender lives as long as `self`.
                _ = extended.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Limits;
    use crate::clock::real_sleep;
    use crate::telemetry::Metrics;

    const SECOND: Duration = Duration::from_secs(1);

    fn gate(max_streams: usize) -> Gate {
        Gate::new(Metrics::default(), Limits { max_streams, ..Limits::default() }, &[])
    }

    #[tokio::test(start_paused = true)]
    async fn a_stay_is_extended_but_not_beyond_what_the_caller_waits() {
        for (given, extended, expected) in [
            (None, None, 10),
            (Some(4), None, 4),
            (Some(40), None, 10),
            (None, Some(20), 30),
            (Some(40), Some(20), 30),
            (Some(15), Some(20), 15),
        ] {
            let stay = Stay::new(gate(1), None, 10 * SECOND, given.map(Duration::from_secs));
            let began = Instant::now();
            let within = stay.within(async {
                real_sleep(SECOND).await;
                if let Some(extended) = extended {
                    stay.extend(Duration::from_secs(extended)).unwrap();
                }
                std::future::pending::<()>().await;
            });
            assert!(within.await.is_err());
            assert_eq!(began.elapsed().as_secs(), expected, "{given:?} {extended:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_stays_longer_takes_a_place_among_the_watches_and_gives_its_own_back() {
        let gate = gate(1);
        let places = Arc::new(tokio::sync::Semaphore::new(1));
        let place = Arc::clone(&places).try_acquire_owned().unwrap();
        let stay = Stay::new(gate.clone(), Some(place), SECOND, None);
        stay.extend(SECOND).unwrap();
        assert_eq!(places.available_permits(), 1);
        let other = Stay::new(gate.clone(), None, SECOND, None);
        assert!(other.extend(SECOND).is_err());
        drop(stay);
        other.extend(SECOND).unwrap();
    }
}
