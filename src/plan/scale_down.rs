//! How long sets that nothing needs any more stay up: deadlines that are noted on ReplicaSets (contract 4.6).
//!
//! A set that was replaced stays until every node has learnt of the switch; one that was aborted stays for a while for whoever
//! wants to look at it. [`super::blue_green`] says which sets these are.

use jiff::{SignedDuration, Timestamp};

use super::observed::ReplicaSet;
use super::sizing::Deadline;
use crate::crd::{AbortScaleDown, keys};

/// What becomes of a set that is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stay {
    /// Its size now.
    pub size: i32,
    /// What is noted on it.
    pub deadline: Deadline,
    /// When it goes, where that is yet to come.
    pub until: Option<Timestamp>,
}

impl Stay {
    /// It keeps its size, and what is noted on it.
    fn as_it_is(set: &ReplicaSet) -> Self {
        Self { size: set.replicas, deadline: Deadline::Keep, until: None }
    }

    fn gone() -> Self {
        Self { size: 0, deadline: Deadline::Keep, until: None }
    }
}

/// The deadline that is noted on a set; `None` where none is, or none that can be read: it then gets a new one.
#[must_use]
pub(super) fn deadline_of(set: &ReplicaSet) -> Option<Timestamp> {
    set.annotations.get(keys::SCALE_DOWN_DEADLINE)?.parse().ok()
}

/// What becomes of the new set of an aborted update. Its time begins once `others_serve`: the stable set is whole and traffic has left
/// the new one.
#[must_use]
pub(super) fn after_abort(
    set: &ReplicaSet,
    rule: AbortScaleDown,
    others_serve: OthersServe,
    now: Timestamp,
) -> Stay {
    let AbortScaleDown::AfterSeconds(seconds) = rule else {
        return Stay { deadline: Deadline::Clear, ..Stay::as_it_is(set) };
    };
    match (deadline_of(set), others_serve) {
        _ if set.replicas == 0 => Stay { deadline: Deadline::Clear, ..Stay::gone() },
        (Some(deadline), OthersServe::Yes) if deadline <= now => Stay::gone(),
        (Some(deadline), _) if deadline > now => Stay { until: Some(deadline), ..Stay::as_it_is(set) },
        (_, OthersServe::No) => Stay::as_it_is(set),
        (_, OthersServe::Yes) => until(set, seconds, now, Deadline::Unpromoted),
    }
}

/// Whether a set could go without being missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OthersServe {
    /// It could.
    Yes,
    /// It could not.
    No,
}

/// How long replaced sets stay up, and how many of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delay {
    /// Seconds from when a set is not needed any more.
    pub seconds: i32,
    /// How many of them stay; the others go at once, oldest first.
    pub limit: i32,
    /// spec.replicas: a set that had all pods follows it while it stays, so that going back to it is quick.
    pub replicas: i32,
}

/// What becomes of the sets that are neither new nor stable, given newest first. Those that `served` may be gone back to.
#[must_use]
pub(super) fn replaced(
    sets: &[&ReplicaSet],
    is_needed: impl Fn(&ReplicaSet) -> bool,
    served: impl Fn(&ReplicaSet) -> bool,
    delay: Delay,
    now: Timestamp,
) -> Vec<Stay> {
    let mut staying = 0;
    let become_of = |set: &&ReplicaSet| {
        if set.replicas == 0 || is_needed(set) {
            return Stay::as_it_is(set);
        }
        staying += 1;
        match deadline_of(set) {
            _ if staying > delay.limit => Stay::gone(),
            Some(deadline) if deadline <= now => Stay::gone(),
            Some(deadline) => {
                let was_whole = set.desired_replicas() == Some(set.replicas);
                let size = if was_whole { delay.replicas } else { set.replicas };
                Stay { size, deadline: Deadline::Keep, until: Some(deadline) }
            }
            None if delay.seconds <= 0 => Stay::gone(),
            None if served(set) => until(set, delay.seconds, now, Deadline::At),
            None => until(set, delay.seconds, now, Deadline::Unpromoted),
        }
    };
    sets.iter().map(become_of).collect()
}

fn until(set: &ReplicaSet, seconds: i32, now: Timestamp, noted: fn(Timestamp) -> Deadline) -> Stay {
    let deadline = now.checked_add(SignedDuration::from_secs(seconds.into())).unwrap_or(Timestamp::MAX);
    Stay { deadline: noted(deadline), until: Some(deadline), ..Stay::as_it_is(set) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn set(replicas: i32, deadline: Option<&str>) -> ReplicaSet {
        let noted = deadline.map(|deadline| (keys::SCALE_DOWN_DEADLINE.to_owned(), deadline.to_owned()));
        let whole = (keys::DESIRED_REPLICAS.to_owned(), replicas.to_string());
        ReplicaSet { replicas, annotations: noted.into_iter().chain([whole]).collect(), ..Default::default() }
    }

    fn at(seconds: i64) -> Timestamp {
        now() + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_replaced_set_stays_for_its_delay_follows_replicas_and_then_goes() {
        let delay = Delay { seconds: 30, limit: 9, replicas: 5 };
        let become_of = |set: ReplicaSet| replaced(&[&set], |_| false, |_| true, delay, now())[0];
        let begins = Stay { size: 3, deadline: Deadline::At(at(30)), until: Some(at(30)) };
        assert_eq!(become_of(set(3, None)), begins);
        assert_eq!(become_of(set(3, Some("no time"))), begins, "a deadline that nobody can read is set anew");
        let stays = Stay { size: 5, deadline: Deadline::Keep, until: Some(at(1)) };
        assert_eq!(become_of(set(3, Some("2026-01-01T00:00:01Z"))), stays);
        let preview = ReplicaSet {
            annotations: [
                (keys::SCALE_DOWN_DEADLINE.to_owned(), "2026-01-01T00:00:01Z".to_owned()),
                (keys::DESIRED_REPLICAS.to_owned(), "5".to_owned()),
            ]
            .into(),
            replicas: 1,
            ..Default::default()
        };
        assert_eq!(become_of(preview).size, 1, "a preview that was never whole does not grow on its way out");
        assert_eq!(become_of(set(3, Some(NOW))), Stay::gone());
        assert_eq!(become_of(set(0, Some(NOW))).size, 0);
    }

    #[test]
    fn no_delay_is_none_and_needed_sets_stay_whatever_is_noted() {
        let none = Delay { seconds: 0, limit: 9, replicas: 3 };
        let (old, whole) = (set(3, Some(NOW)), set(3, None));
        assert_eq!(replaced(&[&whole], |_| false, |_| true, none, now())[0], Stay::gone());
        assert_eq!(replaced(&[&old], |_| true, |_| true, none, now())[0], Stay::as_it_is(&old));
    }

    #[test]
    fn of_replaced_sets_only_the_newest_stay_up_to_the_limit() {
        let delay = Delay { seconds: 30, limit: 1, replicas: 3 };
        let (newer, older) = (set(3, Some("2026-01-01T00:00:09Z")), set(3, Some("2026-01-01T00:00:05Z")));
        let sizes = replaced(&[&newer, &older], |_| false, |_| true, delay, now());
        assert_eq!(sizes.iter().map(|stay| stay.size).collect::<Vec<_>>(), [3, 0]);
    }

    #[test]
    fn an_aborted_set_goes_once_the_stable_one_has_served_for_the_delay() {
        let rule = AbortScaleDown::AfterSeconds(30);
        let become_of = |set: ReplicaSet, serve| after_abort(&set, rule, serve, now());
        assert_eq!(become_of(set(3, None), OthersServe::No), Stay::as_it_is(&set(3, None)));
        let begins = Stay { size: 3, deadline: Deadline::Unpromoted(at(30)), until: Some(at(30)) };
        assert_eq!(become_of(set(3, None), OthersServe::Yes), begins);
        let stays = become_of(set(3, Some("2026-01-01T00:00:01Z")), OthersServe::Yes);
        assert_eq!(stays, Stay { size: 3, deadline: Deadline::Keep, until: Some(at(1)) });
        assert_eq!(become_of(set(3, Some(NOW)), OthersServe::Yes), Stay::gone());
        assert_eq!(become_of(set(0, None), OthersServe::Yes).until, None, "nothing is left to go");
        let never = after_abort(&set(3, Some(NOW)), AbortScaleDown::Never, OthersServe::Yes, now());
        assert_eq!(never, Stay { size: 3, deadline: Deadline::Clear, until: None });
    }
}
