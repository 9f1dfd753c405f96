//! Cluster time: the only place that reads a clock.
//!
//! Depends on nothing of this package. Everything that decides takes `now` as an argument; everything
//! that waits, waits on a [`Clock`]. A clock may run faster than real time (`rolloutd dev --speed`), and
//! under tokio's paused time it runs as fast as the processor allows, which is how tests pass ten minutes
//! of cluster time in milliseconds.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// A source of cluster time, cheap to clone; clones agree with each other.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Arc<Source>,
}

#[derive(Debug)]
enum Source {
    /// The machine's own clock.
    Wall,
    /// Counts from `epoch`, `speed` seconds of cluster time for each second of tokio time.
    Counted { epoch: Timestamp, origin: Instant, speed: f64 },
}

impl Clock {
    /// The machine's wall clock: what `rolloutd serve` uses.
    #[must_use]
    pub fn wall() -> Self {
        Self { source: Arc::new(Source::Wall) }
    }

    /// The clock of a cluster whose last life, if there was one, got as far as `reached`: it starts at the present, or
    /// there if that is later, and runs `speed` times as fast as real time.
    ///
    /// A speed that is not a positive finite number counts as 1.
    #[must_use]
    pub fn resumed(reached: Option<Timestamp>, speed: f64) -> Self {
        match reached.filter(|reached| *reached > wall_now()) {
            Some(reached) => Self::starting_at(reached, speed),
            // Goes on with other processes' clocks, also over the sleep of a laptop, which tokio's time does not see.
            None if speed == 1.0 => Self::wall(),
            None => Self::starting_at(wall_now(), speed),
        }
    }

    /// How far this clock is ahead of real time; zero when it is not.
    #[must_use]
    pub fn ahead(&self) -> Duration {
        Duration::try_from(self.now().duration_since(wall_now())).unwrap_or_default()
    }

    /// A clock that reads `epoch` now and runs `speed` times as fast as tokio's time; for tests, which
    /// pause tokio's time.
    ///
    /// A speed that is not a positive finite number counts as 1.
    #[must_use]
    pub fn starting_at(epoch: Timestamp, speed: f64) -> Self {
        let speed = if speed.is_finite() && speed > 0.0 { speed } else { 1.0 };
        Self { source: Arc::new(Source::Counted { epoch, origin: Instant::now(), speed }) }
    }

    /// The present, in cluster time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &*self.source {
            Source::Wall => wall_now(),
            Source::Counted { epoch, origin, speed } => {
                let passed = origin.elapsed().mul_f64(*speed);
                epoch.checked_add(passed).unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// Waits for `duration` of cluster time.
    pub async fn sleep(&self, duration: Duration) {
        real_sleep(self.in_real_time(duration)).await;
    }

    /// Waits until this clock reads `deadline`; returns at once if it already has.
    pub async fn sleep_until(&self, deadline: Timestamp) {
        loop {
            let left = deadline.duration_since(self.now());
            let Ok(left) = Duration::try_from(left) else { return };
            if left.is_zero() {
                return;
            }
            self.sleep(left).await;
        }
    }

    /// How much real time `duration` of cluster time takes.
    #[must_use]
    pub fn in_real_time(&self, duration: Duration) -> Duration {
        match &*self.source {
            Source::Wall => duration,
            Source::Counted { speed, .. } => duration.div_f64(*speed),
        }
    }
}

/// Waits in real time: for Leases and RPC deadlines, which other processes share.
#[expect(clippy::disallowed_methods, reason = "this is its one home")]
pub async fn real_sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

#[expect(clippy::disallowed_methods, reason = "this is its one home")]
fn wall_now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_faster_clock_passes_cluster_time_in_less_real_time() {
        let clock = Clock::starting_at(Timestamp::UNIX_EPOCH, 10.0);
        let began = Instant::now();
        clock.sleep(Duration::from_secs(600)).await;
        assert_eq!(clock.now().as_second(), 600);
        assert_eq!(began.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn sleep_until_a_past_moment_returns_at_once() {
        let clock = Clock::starting_at(Timestamp::UNIX_EPOCH, 1.0);
        clock.sleep_until(Timestamp::MIN).await;
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
    }

    #[tokio::test(start_paused = true)]
    async fn a_resumed_clock_never_starts_before_what_was_reached() {
        let present = wall_now();
        let future = present.checked_add(Duration::from_secs(3600)).unwrap();
        let clock = Clock::resumed(Some(future), 2.0);
        assert_eq!(clock.now(), future);
        assert!(clock.ahead() > Duration::from_secs(3500));
        clock.sleep(Duration::from_secs(10)).await;
        assert_eq!(clock.now().duration_since(future).as_secs(), 10);
        for (reached, speed) in [(None, 1.0), (None, 3.0), (Some(Timestamp::UNIX_EPOCH), 1.0)] {
            let clock = Clock::resumed(reached, speed);
            assert!(clock.now() >= present && clock.ahead() < Duration::from_secs(60), "{reached:?} {speed}");
        }
    }

    #[test]
    fn a_nonsensical_speed_counts_as_one() {
        for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let clock = Clock::starting_at(Timestamp::UNIX_EPOCH, speed);
            assert_eq!(clock.in_real_time(Duration::from_secs(1)), Duration::from_secs(1));
        }
    }
}
