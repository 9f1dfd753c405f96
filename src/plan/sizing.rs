//! The sizes that sets are to have next, whatever strategy decided on them.
//!
//! Values only: [`super::canary`] and [`super::blue_green`] make them, [`super::sets`] turns them into writes.

use jiff::Timestamp;

use super::replicas::Counts;

/// The sizes that sets are to have next, and what they say about the step.
#[derive(Clone, Debug, PartialEq)]
pub struct Sizing {
    /// The new set's size.
    pub new: i32,
    /// The size that the new set is created with where it does not exist yet: that of its first decision.
    pub first: i32,
    /// The stable set's size, where it is apart from the new one.
    pub stable: i32,
    /// Sizes of the other sets, in the order of [`super::revision::Revisions::others`].
    pub others: Vec<i32>,
    /// Until when sets that are to go stay up.
    pub deadlines: Deadlines,
    /// The share aimed at.
    pub wanted: Counts,
    /// Whether the new set grows into places that the stable set gives up in the same plan.
    pub swaps: bool,
    /// When time alone changes the sizes, if nothing moves until then.
    pub wake_at: Option<Timestamp>,
    /// Whether any set that exists is to change its size, now or once its status is about its current spec.
    pub changes: bool,
    /// Whether what the update waits for has been reached: all sizes are as wanted, the new pods are available, and for a canary the
    /// stable ones exist and older ones are gone (contract 4.5 AtDesiredReplicaCounts).
    pub reached: bool,
}

/// Until when a set that is to go stays up (annotation scale-down-deadline, contract 4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// Whatever is noted stays noted.
    Keep,
    /// It is not to go: what is noted is removed.
    Clear,
    /// Until then.
    At(Timestamp),
    /// Until then; it was never promoted, so that nothing goes back to it unasked.
    Unpromoted(Timestamp),
}

/// Deadlines of all sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// The new set's.
    pub new: Deadline,
    /// The stable set's.
    pub stable: Deadline,
    /// Those of the other sets, in their order.
    pub others: Vec<Deadline>,
}

impl Deadlines {
    /// None is set: the new and the stable set are not to go, and of the others no time is asked.
    #[must_use]
    pub fn none(others: usize) -> Self {
        Self { new: Deadline::Clear, stable: Deadline::Clear, others: vec![Deadline::Keep; others] }
    }
}
