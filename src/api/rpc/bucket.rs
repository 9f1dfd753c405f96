//! How often something may happen, by who or what it is: a token bucket for each.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many callers are told apart. Beyond, those that are idle are forgotten, and if none is, newcomers share one bucket:
/// memory stays bounded whoever calls.
const CALLERS: usize = 10_000;

/// The buckets. A rate that is not positive limits nothing.
#[derive(Debug)]
pub(in crate::api) struct Buckets<K> {
    per_second: f64,
    burst: f64,
    callers: Mutex<HashMap<Option<K>, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    counted: Instant,
}

impl<K: Eq + Hash> Buckets<K> {
    /// Buckets that hold `burst` requests and fill at `per_second`.
    pub(in crate::api) fn new(per_second: f64, burst: u32) -> Self {
        Self { per_second, burst: f64::from(burst.max(1)), callers: Mutex::default() }
    }

    /// Takes one request of a caller, or says how long it must wait.
    pub(in crate::api) fn take(&self, caller: Option<K>) -> Result<(), Duration> {
        if !self.per_second.is_finite() || self.per_second <= 0.0 {
            return Ok(());
        }
        let now = Instant::now();
        let mut callers = self.lock();
        if callers.len() >= CALLERS && !callers.contains_key(&caller) {
            callers.retain(|_, bucket| self.filled(*bucket, now) < self.burst);
        }
        let caller = if callers.len() < CALLERS { caller } else { None };
        let bucket = callers.entry(caller).or_insert(Bucket { tokens: self.burst, counted: now });
        *bucket = Bucket { tokens: self.filled(*bucket, now), counted: now };
        if bucket.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// Gives back what a caller took and did not need.
    pub(in crate::api) fn give_back(&self, caller: Option<K>) {
        let mut callers = self.lock();
        let caller = if callers.contains_key(&caller) { caller } else { None };
        if let Some(bucket) = callers.get_mut(&caller) {
            bucket.tokens = (bucket.tokens + 1.0).min(self.burst);
        }
    }

    fn filled(&self, bucket: Bucket, now: Instant) -> f64 {
        (bucket.tokens + (now - bucket.counted).as_secs_f64() * self.per_second).min(self.burst)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Option<K>, Bucket>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Peer;
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn peer(number: u32) -> Option<Peer> {
        Some(Peer(IpAddr::V4(Ipv4Addr::from_bits(number))))
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_has_a_burst_and_then_a_rate_of_its_own() {
        let buckets = Buckets::new(10.0, 2);
        assert_eq!((buckets.take(peer(1)), buckets.take(peer(1))), (Ok(()), Ok(())));
        assert_eq!(buckets.take(peer(1)), Err(Duration::from_millis(100)));
        assert_eq!(buckets.take(peer(2)), Ok(()));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(buckets.take(peer(1)), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_can_be_taken_again() {
        let buckets = Buckets::new(0.1, 2);
        buckets.give_back(peer(1));
        assert_eq!((buckets.take(peer(1)), buckets.take(peer(1))), (Ok(()), Ok(())));
        assert!(buckets.take(peer(1)).is_err());
        buckets.give_back(peer(1));
        assert_eq!(buckets.take(peer(1)), Ok(()));
        (0..9).for_each(|_| buckets.give_back(peer(1)));
        assert_eq!((0..9).filter(|_| buckets.take(peer(1)).is_ok()).count(), 2, "no more than a burst");
    }

    #[tokio::test(start_paused = true)]
    async fn callers_without_number_do_not_take_memory_without_bound() {
        let buckets = Buckets::new(1.0, 2);
        let callers = u32::try_from(CALLERS).unwrap();
        for number in 0..callers + 5 {
            let _ = buckets.take(peer(number));
        }
        assert!(buckets.lock().len() <= CALLERS + 1);
        assert!(buckets.take(peer(callers + 9)).is_err(), "newcomers share a bucket, which is empty by now");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(buckets.take(peer(callers + 9)), Ok(()));
        assert_eq!(buckets.lock().len(), 1, "the idle were forgotten");
    }

    #[test]
    fn a_rate_that_is_not_positive_limits_nothing() {
        let buckets = Buckets::<Peer>::new(0.0, 1);
        assert!((0..1000).all(|_| buckets.take(None).is_ok()));
    }
}
