//! Pods of one owner that appear together become ready together.
//!
//! Pure. Pods of a set are created one request after another; were each to count its start-up time for itself,
//! they would become ready one after another too, and every controller above would react to each. A pod that
//! appears soon enough after the first of its owner's joins it, and all count from the last that joined.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::container::after;

/// Later than this after the first pod, a pod starts a cohort of its own, whatever its start-up time.
const WINDOW_MAX: Duration = Duration::from_millis(500);

/// The pods that start together, by owner and number.
#[derive(Debug, Default)]
pub(super) struct Cohorts {
    current: BTreeMap<String, Cohort>,
    began: BTreeMap<u64, (Timestamp, u32)>,
    founded: u64,
}

#[derive(Debug)]
struct Cohort {
    id: u64,
    closes: Timestamp,
}

/// A pod's membership in a cohort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member(u64);

impl Cohorts {
    /// A pod of `owner` (a uid) appears that wants `start_up` time.
    pub(super) fn join(&mut self, owner: &str, start_up: Duration, now: Timestamp) -> Member {
        let open = self.current.get(owner).filter(|cohort| now < cohort.closes).map(|cohort| cohort.id);
        let id = open.unwrap_or_else(|| {
            self.founded += 1;
            let closes = after(now, start_up.min(WINDOW_MAX));
            self.current.insert(owner.to_owned(), Cohort { id: self.founded, closes });
            self.founded
        });
        let (began, members) = self.began.entry(id).or_insert((now, 0));
        *began = now;
        *members += 1;
        Member(id)
    }

    /// When the pods of this cohort began.
    pub(super) fn began(&self, member: Member) -> Option<Timestamp> {
        self.began.get(&member.0).map(|(began, _)| *began)
    }

    /// A pod is gone.
    pub(super) fn leave(&mut self, owner: &str, member: Member) {
        let Some((_, members)) = self.began.get_mut(&member.0) else { return };
        *members = members.saturating_sub(1);
        if *members == 0 {
            self.began.remove(&member.0);
            if self.current.get(owner).is_some_and(|cohort| cohort.id == member.0) {
                self.current.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(millisecond).unwrap()
    }

    #[test]
    fn pods_that_appear_together_count_from_the_last_of_them() {
        let mut cohorts = Cohorts::default();
        let start_up = Duration::from_millis(50);
        let first = cohorts.join("set", start_up, at(0));
        let second = cohorts.join("set", start_up, at(30));
        let stranger = cohorts.join("another", start_up, at(30));
        assert_eq!(first, second);
        assert_ne!(first, stranger);
        assert_eq!(cohorts.began(first), Some(at(30)));
    }

    #[test]
    fn a_pod_that_appears_after_the_window_starts_a_new_cohort() {
        for (start_up, window) in [(50, 50), (60_000, 500)] {
            let mut cohorts = Cohorts::default();
            let start_up = Duration::from_millis(start_up);
            let first = cohorts.join("set", start_up, at(0));
            assert_eq!(cohorts.join("set", start_up, at(window - 1)), first);
            assert_ne!(cohorts.join("set", start_up, at(window)), first);
            assert_eq!(cohorts.began(first), Some(at(window - 1)));
        }
    }

    #[test]
    fn nothing_is_kept_of_cohorts_whose_pods_are_gone() {
        let mut cohorts = Cohorts::default();
        let members: Vec<Member> =
            (0..3).map(|n| cohorts.join("set", Duration::from_secs(1), at(n))).collect();
        for member in members {
            cohorts.leave("set", member);
        }
        assert!(cohorts.current.is_empty() && cohorts.began.is_empty());
    }
}
