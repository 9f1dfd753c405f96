//! What the ReplicaSet controller has asked for and not yet seen in its cache.
//!
//! Pure. A set whose requests have not all been observed is not scaled: its cache would have it create the same
//! pods again. Names and uids are remembered, not counts, so that a doubtful one can be looked up.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::simcluster::pod;

/// What was asked for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Its creation.
    Creation,
    /// The deletion of the one with this uid.
    Deletion { uid: String },
}

impl Asked {
    /// Whether it has come about, going by this state of the pod.
    pub(super) fn has_happened(&self, pod: Option<&Pod>) -> bool {
        match self {
            Self::Creation => pod.is_some(),
            Self::Deletion { uid } => pod.is_none_or(|pod| pod::uid(pod) != uid || pod::is_deleting(pod)),
        }
    }
}

/// The requests of one set that are not yet observed, by the pod's name.
#[derive(Debug, Default)]
pub(super) struct Expectations {
    open: BTreeMap<String, (Asked, Timestamp)>,
    /// How many pods were named so far.
    named: u64,
}

impl Expectations {
    /// The number of the next name.
    pub(super) fn next_ordinal(&mut self) -> u64 {
        self.named += 1;
        self.named - 1
    }

    /// Before the request is sent: its event may be seen before its answer.
    pub(super) fn expect(&mut self, pod: &str, asked: Asked, check_at: Timestamp) {
        self.open.insert(pod.to_owned(), (asked, check_at));
    }

    /// The request did not happen.
    pub(super) fn withdraw(&mut self, pod: &str) {
        self.open.remove(pod);
    }

    /// Nobody knows whether the request happened: look it up at `check_at`.
    pub(super) fn doubt(&mut self, pod: &str, check_at: Timestamp) {
        if let Some((_, moment)) = self.open.get_mut(pod) {
            *moment = check_at;
        }
    }

    /// The pod was seen, alive or on its way out.
    pub(super) fn seen(&mut self, pod: &str, uid: &str, alive: bool) {
        let met = match self.open.get(pod) {
            Some((Asked::Creation, _)) => true,
            Some((Asked::Deletion { uid: expected }, _)) => !alive || expected != uid,
            None => false,
        };
        if met {
            self.open.remove(pod);
        }
    }

    /// Those that should have been seen by now.
    pub(super) fn overdue(&self, now: Timestamp) -> Vec<(String, Asked)> {
        let late = self.open.iter().filter(|(_, (_, check_at))| *check_at <= now);
        late.map(|(pod, (asked, _))| (pod.clone(), asked.clone())).collect()
    }

    /// When the next one is overdue.
    pub(super) fn next_check(&self) -> Option<Timestamp> {
        self.open.values().map(|(_, check_at)| *check_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_creation_is_met_by_seeing_the_pod_even_as_it_leaves() {
        for alive in [true, false] {
            let mut expectations = Expectations::default();
            expectations.expect("web-1", Asked::Creation, at(5));
            expectations.seen("web-2", "u", alive);
            assert!(expectations.next_check().is_some());
            expectations.seen("web-1", "u", alive);
            assert_eq!(expectations.next_check(), None);
        }
    }

    #[test]
    fn a_deletion_is_met_only_by_seeing_that_pod_leave() {
        let mut expectations = Expectations::default();
        expectations.expect("web-1", Asked::Deletion { uid: "u".to_owned() }, at(5));
        expectations.seen("web-1", "u", true);
        assert!(expectations.next_check().is_some());
        expectations.seen("web-1", "u", false);
        assert_eq!(expectations.next_check(), None);
        expectations.expect("web-1", Asked::Deletion { uid: "u".to_owned() }, at(5));
        expectations.seen("web-1", "a successor", true);
        assert_eq!(expectations.next_check(), None);
    }

    #[test]
    fn what_is_doubtful_or_late_is_looked_up() {
        let mut expectations = Expectations::default();
        expectations.expect("web-1", Asked::Creation, at(5));
        expectations.expect("web-2", Asked::Creation, at(5));
        assert_eq!(expectations.overdue(at(4)), []);
        assert_eq!(expectations.next_check(), Some(at(5)));
        expectations.doubt("web-2", at(1));
        assert_eq!(expectations.overdue(at(4)), [("web-2".to_owned(), Asked::Creation)]);
        expectations.withdraw("web-2");
        assert_eq!(expectations.overdue(at(5)), [("web-1".to_owned(), Asked::Creation)]);
    }
}
