//! A state in which a rollout rests.
//!
//! At rest is a rollout about which nothing would be written, none of whose statuses waits to be written, and of which no pod is on its
//! way: only time, or somebody's act, moves it on. Values only.

use jiff::SignedDuration;

use crate::plan::{Blocker, Observed, ReplicaSet, Service};

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
        let waits = |state: &Self| {
            let told = |blocker: &Blocker| {
                (blocker.reason, blocker.object.clone(), blocker.condition.clone(), blocker.message.clone())
            };
            state.blockers.iter().map(told).collect::<Vec<_>>()
        };
        let status = |state: &Self| {
            let status = state.seen.rollout.status();
            (status.current_step_index, status.phase.clone(), status.message.clone())
        };
        let size = |set: &ReplicaSet| (set.name.clone(), set.replicas, set.status.clone());
        let sizes = |state: &Self| state.seen.sets.iter().map(|set| size(set)).collect::<Vec<_>>();
        let selects = |service: &Service| (service.name.clone(), service.hash().to_owned());
        let selected =
            |state: &Self| state.seen.services.iter().map(|service| selects(service)).collect::<Vec<_>>();
        status(self) == status(other)
            && sizes(self) == sizes(other)
            && selected(self) == selected(other)
            && waits(self) == waits(other)
    }
}
