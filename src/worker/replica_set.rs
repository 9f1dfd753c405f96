//! Writes ReplicaSets: creation, adoption, size and metadata in one patch, deletion.
//!
//! Refuses a part that was decided on before our own last write to any of its sets, or before what the cache shows now: what one set may
//! lose depends on what the others have.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::planner::Shared;
use super::queue::work;
use super::recorder::{About, Recorder};
use crate::plan::{Attempt, Basis, SetAction};
use crate::store::{Key, ObjectId, WriteError, Writer};

/// The ReplicaSets' part of a plan.
pub(super) struct SetsJob {
    pub(super) about: About,
    pub(super) actions: Vec<SetAction>,
    /// The versions that were decided on.
    pub(super) basis: Basis,
    /// Dropped with the job: tells the rollout's worker that this part is through.
    pub(super) _done: oneshot::Sender<()>,
}

/// Runs until it is told to stop.
pub(super) async fn run(
    shared: Arc<Shared>,
    writer: Writer,
    recorder: Recorder,
    limit: usize,
    stop: CancellationToken,
) {
    let carry_out = |key: Key, job: SetsJob| {
        let span = tracing::info_span!("write", namespace = %key.namespace, rollout = %key.name, object = "replicasets");
        let worker =
            Worker { shared: Arc::clone(&shared), writer: writer.clone(), recorder: recorder.clone(), key };
        async move { worker.carry_out(job).await }.instrument(span)
    };
    work(&shared.sets, limit, stop, carry_out).await;
}

struct Worker {
    shared: Arc<Shared>,
    writer: Writer,
    recorder: Recorder,
    key: Key,
}

impl Worker {
    async fn carry_out(&self, job: SetsJob) {
        if !self.is_current(&job.basis) {
            return self.shared.wake(&self.key);
        }
        let mut written = BTreeSet::new();
        for action in &job.actions {
            if let SetAction::Patch { after: Some(before), .. } = action
                && !written.contains(before.as_str())
            {
                continue;
            }
            let attempt = action.attempt();
            if self.shared.store.memory.next_try(&self.key, &attempt, self.shared.clock.now()).is_some() {
                continue;
            }
            match self.write(&job.about, action).await {
                Ok(()) => {
                    self.shared.store.memory.succeeded(&self.key, &attempt);
                    written.insert(action.name());
                }
                // The rest was decided on the same look at the cluster: look again.
                Err(WriteError::Stale | WriteError::Gone) => return self.shared.wake(&self.key),
                Err(WriteError::Taken) => self.name_is_taken(action.name()).await,
                Err(WriteError::Refused(refusal)) => {
                    self.shared.refused(&self.key, attempt, &refusal.reason, &refusal.message);
                }
            }
        }
    }

    /// Whether the cache shows the sets still as they were decided on, and no write of ours to them is yet to be shown: what the part before
    /// this one wrote may have been shown since.
    fn is_current(&self, basis: &Basis) -> bool {
        let store = &self.shared.store;
        let stands = |(name, version): (&String, &crate::plan::Version)| {
            let set = Key::new(&*self.key.namespace, &**name);
            let is_shown = store.sets.version(&set).is_some_and(|shown| shown == version.resource_version);
            is_shown && store.own.allows(&ObjectId::ReplicaSet(set), &version.resource_version)
        };
        // One that was created meanwhile counts, too.
        let is_new = |set: &str| !basis.sets.contains_key(set);
        basis.sets.iter().all(stands) && !store.own.awaits_set(&self.key, is_new)
    }

    async fn write(&self, about: &About, action: &SetAction) -> Result<(), WriteError> {
        let (writer, key) = (&self.writer, &self.key);
        match action {
            SetAction::Create { name, object } => {
                writer.create_set(key, name, object).await?;
                tracing::info!(set = %name, replicas = %object["spec"]["replicas"], "created ReplicaSet");
            }
            SetAction::Adopt { name, version, patch } => {
                if !writer.is_alive(key, &about.uid).await? {
                    return Err(WriteError::Gone);
                }
                writer.patch_set(key, name, version, patch).await?;
                tracing::info!(set = %name, "adopted ReplicaSet");
            }
            SetAction::Patch { name, version, write, .. } => {
                writer.patch_set(key, name, version, &write.patch).await?;
                tracing::info!(set = %name, patch = %write.patch, "patched ReplicaSet");
                self.recorder.record(about, write.events.clone());
                super::activity::tell_of_ours(&self.shared, key, &write.events);
            }
            SetAction::Delete { name, version } => {
                writer.delete_set(key, name, version).await?;
                tracing::info!(set = %name, "deleted ReplicaSet of an old revision");
            }
        }
        Ok(())
    }

    /// The name that a new set was to have is taken: by our own set, which the cache does not show yet (or no longer, because somebody
    /// took its label away), or by another's, which is a hash collision.
    async fn name_is_taken(&self, name: &str) {
        let found = match self.writer.read_set(&self.key, name).await {
            Ok(found) => found,
            Err(error) => {
                return self.shared.refused(
                    &self.key,
                    Attempt::Create(name.to_owned()),
                    crate::plan::UNAVAILABLE,
                    &error.to_string(),
                );
            }
        };
        let Some(record) = found else { return self.shared.wake(&self.key) };
        let uid =
            self.shared.store.rollouts.get(&self.key).and_then(|rollout| kube::ResourceExt::uid(&*rollout));
        if record.set.controller() == uid.as_deref() {
            self.shared.store.take_in(record);
            return self.shared.wake(&self.key);
        }
        tracing::warn!(rollout = %self.key, set = %name, "hash collision: the name is taken by another's ReplicaSet");
        self.shared.refused(
            &self.key,
            Attempt::Collide(name.to_owned()),
            "AlreadyExists",
            "the name is taken",
        );
    }
}
