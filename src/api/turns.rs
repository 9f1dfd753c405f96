//! Turns at what keeps a processor busy: few at the same time, some who wait, and everybody else is refused at once.
//!
//! Who waits has a place and nothing else, so that it costs little to wait; who goes away gives place and turn away.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{Error, RETRY_SOON};
use super::status::Reason;

/// How many wait at most: the last of them for less than requests may take, as long as each takes a second or two.
const MOST_WAITING: usize = 16;

/// Turns at looking ahead.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    /// Places of those whose turn it is, and of those who wait.
    places: Arc<Semaphore>,
    turns: Arc<Semaphore>,
}

/// Somebody's turn, until it is dropped: by work that goes on although nobody waits for it, too.
#[derive(Debug)]
pub(super) struct Turn {
    _turn: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

impl Turns {
    /// Half of the processors for those who look ahead; the others are left for everything else.
    pub(super) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::of((processors / 2).max(1))
    }

    fn of(at_once: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(at_once + MOST_WAITING)),
            turns: Arc::new(Semaphore::new(at_once)),
        }
    }

    /// Waits for a turn, first come, first served.
    ///
    /// # Errors
    ///
    /// Too many wait already.
    pub(super) async fn take(&self) -> Result<Turn, Error> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let message = format!("{MOST_WAITING} others wait to look ahead already");
            Error::new(Reason::TooManyPlans, message).retry_after(RETRY_SOON)
        })?;
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn =
            turn.map_err(|error| Error::internal("nobody takes turns any more: this is a bug", &error))?;
        Ok(Turn { _turn: turn, _place: place })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tonic_types::StatusExt as _;

    use super::*;

    #[tokio::test]
    async fn some_wait_for_their_turn_and_everybody_else_is_refused() {
        let turns = Turns::of(2);
        let taken = [turns.take().await.unwrap(), turns.take().await.unwrap()];
        let mut waiting: Vec<_> = (0..MOST_WAITING).map(|_| Box::pin(turns.take())).collect();
        for wait in &mut waiting {
            assert!(wait.now_or_never().is_none(), "two at once");
        }
        let refusal = tonic::Status::from(turns.take().await.unwrap_err());
        assert_eq!(refusal.code(), tonic::Code::ResourceExhausted);
        let details = refusal.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "TOO_MANY_PLANS");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(RETRY_SOON));

        // One who goes away leaves place and turn to others.
        drop(waiting.remove(0));
        let mut late = Box::pin(turns.take());
        assert!((&mut late).now_or_never().is_none());
        let [first, second] = taken;
        drop(first);
        let mut next = waiting.remove(0);
        let third = (&mut next).now_or_never().expect("it is the turn of who waits longest").unwrap();
        assert!((&mut waiting[0]).now_or_never().is_none());
        drop((second, third));
        assert!((&mut waiting[0]).now_or_never().is_some());
        assert!((&mut waiting[1]).now_or_never().is_some());
        drop(waiting);
        assert!(late.now_or_never().is_some());
    }
}
