//! A write to an object beside the rollout: a Service, a workload.
//!
//! It names the version of the object that was decided on, and is not made once the cache shows another state of the rollout than the one
//! that was decided on: an abort that came meanwhile is seen before anything is moved.

use std::ops::ControlFlow;

use super::planner::Shared;
use super::recorder::{About, Recorder};
use crate::plan::{Attempt, Event, Version};
use crate::store::{Key, ObjectId, WriteError};

/// What is written, and what it was decided on.
pub(super) struct Beside<'a> {
    /// The rollout.
    pub(super) key: &'a Key,
    /// Its version.
    pub(super) rollout: &'a Version,
    /// The object.
    pub(super) object: ObjectId,
    /// Its version.
    pub(super) version: &'a Version,
    /// What is attempted by it.
    pub(super) attempt: Attempt,
}

impl Beside<'_> {
    /// Sends the write, unless its time has passed or is yet to come. Breaks off where all must be looked at again, which is seen to.
    pub(super) async fn send(
        self,
        shared: &Shared,
        request: impl Future<Output = Result<(), WriteError>>,
        (recorder, about, events): (&Recorder, &About, Vec<Event>),
    ) -> ControlFlow<()> {
        let Self { key, rollout, object, version, attempt } = self;
        // A rollout that is gone has nobody else who could decide.
        let is_current =
            shared.store.rollouts.version(key).is_none_or(|shown| shown == rollout.resource_version);
        if !is_current || !shared.store.own.allows(&object, &version.resource_version) {
            shared.wake(key);
            return ControlFlow::Break(());
        }
        if shared.is_put_off(key, &attempt) {
            return ControlFlow::Continue(());
        }
        match request.await {
            Ok(()) => {
                shared.store.memory.succeeded(key, &attempt);
                recorder.record(about, events);
            }
            Err(WriteError::Stale | WriteError::Gone) => {
                shared.wake(key);
                return ControlFlow::Break(());
            }
            Err(WriteError::Taken) => {}
            Err(WriteError::Refused(refusal)) => {
                shared.refused(key, attempt, &refusal.reason, &refusal.message);
            }
        }
        ControlFlow::Continue(())
    }
}
