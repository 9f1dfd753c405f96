//! One container's life: created, started, ready, crashed, restarted.
//!
//! Pure; depends on the behaviour only. The kubelet keeps one [`Container`] for each container of a pod, moves it
//! to the present with [`Container::advance`], and reports what it then is.

use std::time::Duration;

use jiff::Timestamp;

use crate::simcluster::behaviour::{BackOff, Outcome, Plan};

/// A state that Kubernetes shows only until the next look (an exit, a failed pull) is shown for this part of the
/// delay that follows.
const SHOWN_PART: u32 = 10;

/// Whether a container that exits is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    Always,
    Never,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its image is pulled and its sandbox made.
    Creating,
    /// Its image could not be pulled just now.
    PullFailed { until: Timestamp },
    /// Its image will be tried again.
    PullBackOff { until: Timestamp },
    /// It runs and is not ready yet.
    Starting { since: Timestamp, ready: Due },
    /// It runs and is ready.
    Ready { since: Timestamp },
    /// It has exited; without `until`, for good.
    Exited { exit: Exit, until: Option<Timestamp> },
    /// It has exited and waits to be started again.
    CrashBackOff { delay: Duration, until: Timestamp },
}

/// When a starting container becomes ready, or does what it does instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Its start-up time after the pod began, together with its cohort.
    WithPod,
    /// At this moment.
    At(Timestamp),
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exit {
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
}

/// One container of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Container {
    pub(super) plan: Plan,
    pub(super) state: State,
    pub(super) restarts: i32,
    /// How it ended last time, once it has been started again or waits for that.
    pub(super) last_exit: Option<Exit>,
    restart: Restart,
    /// Crashes or failed pulls in a row.
    failures: u32,
}

impl Container {
    pub(super) fn new(plan: Plan, restart: Restart) -> Self {
        Self { plan, state: State::Creating, restarts: 0, last_exit: None, restart, failures: 0 }
    }

    /// Takes up a container that an earlier kubelet has run.
    pub(super) fn resume(self, state: State, restarts: i32, last_exit: Option<Exit>) -> Self {
        Self { state, restarts, last_exit, ..self }
    }

    pub(super) fn restarts_by_itself(&self) -> bool {
        self.restart == Restart::Always
    }

    /// Moves to `now`; the pod began at `began`.
    pub(super) fn advance(&mut self, began: Timestamp, now: Timestamp, back_off: BackOff) {
        while let Some(at) = self.next_change(began).filter(|at| *at <= now) {
            self.step(at, began, back_off);
        }
    }

    /// When the container changes by itself.
    pub(super) fn next_change(&self, began: Timestamp) -> Option<Timestamp> {
        match self.state {
            State::Creating => Some(after(began, self.plan.start_up / 2)),
            State::Starting { ready, .. } => match (self.plan.outcome, ready) {
                (Outcome::NeverReady, _) => None,
                (_, Due::WithPod) => Some(after(began, self.plan.start_up)),
                (_, Due::At(at)) => Some(at),
            },
            State::Ready { .. } => None,
            State::Exited { until, .. } => until,
            State::PullFailed { until }
            | State::PullBackOff { until }
            | State::CrashBackOff { until, .. } => Some(until),
        }
    }

    fn step(&mut self, at: Timestamp, began: Timestamp, back_off: BackOff) {
        match self.state {
            State::Creating | State::PullBackOff { .. } if self.plan.outcome == Outcome::ImagePullFailure => {
                self.failures = self.failures.saturating_add(1);
                let shown = back_off.delay(self.failures) / SHOWN_PART;
                self.state = State::PullFailed { until: after(at, shown) };
            }
            State::Creating | State::PullBackOff { .. } => {
                self.state = State::Starting { since: at.max(began), ready: Due::WithPod };
            }
            State::PullFailed { .. } => {
                let left = back_off.delay(self.failures) / SHOWN_PART * (SHOWN_PART - 1);
                self.state = State::PullBackOff { until: after(at, left) };
            }
            State::Starting { .. } if self.plan.outcome == Outcome::CrashLoop => self.exit(at, back_off),
            State::Starting { since, .. } => self.state = State::Ready { since },
            // The first restart comes at once; only those after it wait.
            State::Exited { exit, .. } if self.failures > 1 => {
                let delay = back_off.delay(self.failures - 1);
                self.last_exit = Some(exit);
                self.state = State::CrashBackOff { delay, until: after(exit.finished, delay) };
            }
            State::Exited { exit, .. } => {
                self.last_exit = Some(exit);
                self.start_again(at);
            }
            State::CrashBackOff { .. } => self.start_again(at),
            State::Ready { .. } => {}
        }
    }

    fn start_again(&mut self, at: Timestamp) {
        self.restarts = self.restarts.saturating_add(1);
        let ready = Due::At(after(at, self.plan.start_up / 2));
        self.state = State::Starting { since: at, ready };
    }

    /// Exits with an error; whether it ran.
    pub(super) fn crash(&mut self, now: Timestamp, back_off: BackOff) -> bool {
        let runs = matches!(self.state, State::Starting { .. } | State::Ready { .. });
        if runs {
            self.exit(now, back_off);
        }
        runs
    }

    fn exit(&mut self, at: Timestamp, back_off: BackOff) {
        let (State::Starting { since: started, .. } | State::Ready { since: started }) = self.state else {
            return;
        };
        // A container that has run well for long starts counting afresh, as with the kubelet.
        let ran = Duration::try_from(at.duration_since(started)).unwrap_or_default();
        self.failures = if ran >= back_off.cap * 2 { 1 } else { self.failures.saturating_add(1) };
        let until = match self.restart {
            Restart::Never => None,
            Restart::Always => {
                Some(after(at, back_off.delay(self.failures.saturating_sub(1).max(1)) / SHOWN_PART))
            }
        };
        self.state = State::Exited { exit: Exit { started, finished: at }, until };
    }
}

/// Saturates: the end of time is as good as never.
pub(super) fn after(moment: Timestamp, duration: Duration) -> Timestamp {
    moment.checked_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACK_OFF: BackOff = BackOff { first: Duration::from_secs(10), cap: Duration::from_secs(40) };

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(millisecond).unwrap()
    }

    fn container(outcome: Outcome, restart: Restart) -> Container {
        Container::new(Plan { start_up: Duration::from_secs(2), outcome }, restart)
    }

    /// Every state on the way to `end`, as `milliseconds what`.
    fn story(mut container: Container, end: i64) -> Vec<String> {
        let began = at(0);
        let mut lines = Vec::new();
        let mut now = began;
        loop {
            container.advance(began, now, BACK_OFF);
            lines.push(format!("{} {}", now.as_millisecond(), describe(&container)));
            match container.next_change(began) {
                Some(next) if next <= at(end) => now = next,
                _ => return lines,
            }
        }
    }

    fn describe(container: &Container) -> String {
        let state = match container.state {
            State::Creating => "creating",
            State::PullFailed { .. } => "pull failed",
            State::PullBackOff { .. } => "pull back-off",
            State::Starting { .. } => "starting",
            State::Ready { .. } => "ready",
            State::Exited { .. } => "exited",
            State::CrashBackOff { .. } => "crash back-off",
        };
        format!("{state} {}", container.restarts)
    }

    #[test]
    fn a_container_runs_at_half_of_its_start_up_and_is_ready_at_its_end() {
        let story = story(container(Outcome::Ready, Restart::Always), 60_000);
        assert_eq!(story, ["0 creating 0", "1000 starting 0", "2000 ready 0"]);
    }

    #[test]
    fn a_container_that_never_becomes_ready_keeps_running() {
        let story = story(container(Outcome::NeverReady, Restart::Always), 60_000);
        assert_eq!(story, ["0 creating 0", "1000 starting 0"]);
    }

    #[test]
    fn a_crash_loop_restarts_at_once_and_then_backs_off_up_to_the_cap() {
        let story = story(container(Outcome::CrashLoop, Restart::Always), 100_000);
        assert_eq!(
            story,
            [
                "0 creating 0",
                "1000 starting 0",
                "2000 exited 0",
                "3000 starting 1",
                "4000 exited 1",
                "5000 crash back-off 1",
                "14000 starting 2",
                "15000 exited 2",
                "17000 crash back-off 2",
                "35000 starting 3",
                "36000 exited 3",
                "40000 crash back-off 3",
                "76000 starting 4",
                "77000 exited 4",
                "81000 crash back-off 4",
            ]
        );
    }

    #[test]
    fn a_container_that_must_not_restart_stays_exited() {
        let story = story(container(Outcome::CrashLoop, Restart::Never), 60_000);
        assert_eq!(story, ["0 creating 0", "1000 starting 0", "2000 exited 0"]);
    }

    #[test]
    fn a_failing_pull_is_tried_again_with_growing_delays() {
        let story = story(container(Outcome::ImagePullFailure, Restart::Always), 40_000);
        assert_eq!(
            story,
            [
                "0 creating 0",
                "1000 pull failed 0",
                "2000 pull back-off 0",
                "11000 pull failed 0",
                "13000 pull back-off 0",
                "31000 pull failed 0",
                "35000 pull back-off 0",
            ]
        );
    }

    #[test]
    fn time_that_has_passed_in_one_leap_ends_in_the_same_state() {
        let mut slow = container(Outcome::CrashLoop, Restart::Always);
        let mut leap = slow.clone();
        for second in 0..100 {
            slow.advance(at(0), at(second * 1000), BACK_OFF);
        }
        leap.advance(at(0), at(99_000), BACK_OFF);
        assert_eq!(slow, leap);
    }

    #[test]
    fn a_crash_after_a_long_good_run_restarts_at_once() {
        let mut container = container(Outcome::Ready, Restart::Always);
        container.advance(at(0), at(2000), BACK_OFF);
        assert!(container.crash(at(3000), BACK_OFF));
        container.advance(at(0), at(10_000), BACK_OFF);
        assert_eq!(describe(&container), "ready 1");
        assert!(container.crash(at(200_000), BACK_OFF));
        container.advance(at(0), at(201_000), BACK_OFF);
        assert_eq!(describe(&container), "starting 2");
        assert!(container.crash(at(201_500), BACK_OFF));
        container.advance(at(0), at(203_000), BACK_OFF);
        assert_eq!(describe(&container), "crash back-off 2");
    }

    #[test]
    fn a_container_that_does_not_run_cannot_crash() {
        let mut container = container(Outcome::Ready, Restart::Always);
        assert!(!container.crash(at(0), BACK_OFF));
        assert_eq!(container.state, State::Creating);
    }
}
