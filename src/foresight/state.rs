//! A state in which a rollout rests.
//!
//! At rest is a rollout about which nothing would be written, none of whose statuses waits to be written, and of which no pod is on its
//! way: only time, or somebody's act, moves it on. Values only.

use jiff::SignedDuration;

use crate::crd::{RolloutPhase, TrafficWeights, keys};
use crate::plan::{Blocker, BlockerReason, Object, Observed, ReplicaSet, revision};

/// A state in which a rollout rests.
#[derive(Clone, Debug)]
pub struct State {
    /// How long after the beginning it is reached.
    pub at: SignedDuration,
    /// The rollout and what is below it. What does not exist yet has no version.
    pub seen: Observed,
    /// What ends the rest.
    pub blockers: Vec<Blocker>,
}

impl State {
    pub(super) fn new(at: SignedDuration, seen: Observed, blockers: Vec<Blocker>) -> Self {
        Self { at, seen, blockers }
    }

    /// Whether another state shows the same: a rollout that time alone has moved is none the wiser.
    pub(super) fn resembles(&self, other: &Self) -> bool {
        self.shown() == other.shown()
    }

    fn shown(&self) -> Shown<'_> {
        let seen = &self.seen;
        let status = seen.rollout.status();
        let active = status.blue_green.as_ref().and_then(|status| status.active_selector.as_deref());
        Shown {
            step: status.current_step_index,
            phase: status.phase.as_ref().filter(|_| revision::is_seen(seen)),
            message: status.message.as_deref().filter(|_| self.blockers.is_empty()),
            versions: [Some(status.current_pod_hash()), Some(status.stable_rs()), active],
            weights: status.canary.as_ref().and_then(|status| status.weights.as_ref()),
            sets: seen.sets.iter().map(|set| ShownSet::of(set)).collect(),
            services: seen.services.iter().map(|service| (service.name.as_str(), service.hash())).collect(),
            waits: self.blockers.iter().map(Wait::of).collect(),
        }
    }
}

/// What is shown of a state, but for its times.
#[derive(PartialEq)]
struct Shown<'a> {
    step: Option<i32>,
    phase: Option<&'a RolloutPhase>,
    /// Where nothing is waited for that would say more.
    message: Option<&'a str>,
    /// The newest, the stable and the active one, by which sets are what they are.
    versions: [Option<&'a str>; 3],
    weights: Option<&'a TrafficWeights>,
    sets: Vec<ShownSet<'a>>,
    /// Names and hashes.
    services: Vec<(&'a str, &'a str)>,
    waits: Vec<Wait<'a>>,
}

/// What is shown of a ReplicaSet.
#[derive(PartialEq)]
struct ShownSet<'a> {
    name: &'a str,
    /// Pods wanted, existing, ready and available.
    pods: [i32; 4],
    is_failing: bool,
    scale_down: Option<&'a str>,
}

impl<'a> ShownSet<'a> {
    fn of(set: &'a ReplicaSet) -> Self {
        let status = &set.status;
        Self {
            name: &set.name,
            pods: [set.replicas, status.replicas, status.ready, status.available],
            is_failing: status.failure.as_ref().is_some_and(|failure| failure.status == "True"),
            scale_down: set.annotations.get(keys::SCALE_DOWN_DEADLINE).map(String::as_str),
        }
    }
}

/// What is shown of a blocker, but for its times.
#[derive(PartialEq)]
struct Wait<'a> {
    reason: BlockerReason,
    object: &'a Object,
    /// Condition, message, and what happens next.
    texts: [&'a str; 3],
    ends_by_itself: bool,
}

impl<'a> Wait<'a> {
    fn of(blocker: &'a Blocker) -> Self {
        Self {
            reason: blocker.reason,
            object: &blocker.object,
            texts: [&blocker.condition, &blocker.message, &blocker.next],
            ends_by_itself: blocker.next_at.is_some(),
        }
    }
}
