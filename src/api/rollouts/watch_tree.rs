//! WatchRolloutTree: the whole tree, at once and whenever anything in it changes.
//!
//! The stream is pulled: the tree is made when the consumer is ready for it, so that a slow one gets the newest and misses those
//! between, and nothing is buffered.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream};
use jiff::Timestamp;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::watch;

use super::super::Context;
use super::super::error::Error;
use super::super::kind::ROLLOUT;
use super::super::name;
use super::Rollouts;
use super::tree::{Snapshot, snapshot};
use crate::clock;
use crate::lease::Leadership;
use crate::pb::v1;
use crate::store::{Changed, Key};

/// How often the tree is looked at although no object changed: refused writes, which blockers show, change without one.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long changes are gathered before the next tree: a set's pods change in bursts.
const GATHER: Duration = Duration::from_millis(20);

impl Rollouts {
    /// WatchRolloutTree.
    pub(super) fn watch_tree(
        &self,
        request: &v1::WatchRolloutTreeRequest,
    ) -> Result<impl Stream<Item = Result<v1::WatchRolloutTreeResponse, Error>> + Send + use<>, Error> {
        let key = name::rollout(&request.name, "name")?;
        self.context.require_ready()?;
        let mut watch = Watch {
            changes: self.context.store.changes(),
            leadership: self.context.leadership.clone(),
            context: Arc::clone(&self.context),
            key,
            last: None,
        };
        // Absent from the start is an answer, not a stream.
        watch.context.store.rollouts.get(&watch.key).ok_or_else(|| watch.gone())?;
        watch.leadership.mark_unchanged();
        Ok(stream::unfold(Some(watch), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(tree) => Some((Ok(v1::WatchRolloutTreeResponse { tree: Some(tree) }), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        }))
    }
}

struct Watch {
    context: Arc<Context>,
    key: Key,
    changes: Receiver<Changed>,
    leadership: watch::Receiver<Leadership>,
    last: Option<Snapshot>,
}

impl Watch {
    /// The next tree that is another than the last one.
    async fn next(&mut self) -> Result<v1::RolloutTree, Error> {
        loop {
            if self.context.drain.is_cancelled() {
                return Err(self.context.draining());
            }
            let now = snapshot(&self.context, &self.key).ok_or_else(|| self.gone())?;
            if self.last.as_ref().is_none_or(|last| last.tree != now.tree) {
                let tree = now.tree.clone();
                self.last = Some(now);
                return Ok(tree);
            }
            let wake_at = now.wake_at;
            self.last = Some(now);
            self.changed(wake_at).await;
        }
    }

    /// Waits until the tree may be another than it was.
    async fn changed(&mut self, wake_at: Option<Timestamp>) {
        let drain = self.context.drain.clone();
        let clock = self.context.clock.clone();
        // What should have happened by now does not happen by itself.
        let wake_at = wake_at.filter(|wake_at| *wake_at > clock.now());
        let timer = async {
            match wake_at {
                Some(wake_at) => clock.sleep_until(wake_at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = drain.cancelled() => return,
            () = timer => {}
            () = clock::real_sleep(LOOK_EVERY) => {}
            // The sender may be gone; then nobody leads from here any more, and nothing changes.
            Ok(()) = self.leadership.changed() => {}
            () = concerning(&mut self.changes, &self.context, &self.key, self.last.as_ref()) => {
                clock::real_sleep(GATHER).await;
            }
        }
        // What has arrived meanwhile is in the next tree.
        while !matches!(self.changes.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {}
    }

    fn gone(&self) -> Error {
        Error::not_found(ROLLOUT.named(&self.key.namespace, &self.key.name))
    }
}

/// Waits for a change to the rollout or to something below it.
async fn concerning(changes: &mut Receiver<Changed>, context: &Context, key: &Key, last: Option<&Snapshot>) {
    let uid = last.and_then(|last| last.tree.rollout.as_ref()).map(|rollout| rollout.uid.as_str());
    loop {
        match changes.recv().await {
            Ok(change) if concerns(context, key, uid, &change) => return,
            Ok(_) => {}
            // Something was missed; or the store is gone, which the next look finds out.
            Err(RecvError::Lagged(_) | RecvError::Closed) => return,
        }
    }
}

fn concerns(context: &Context, key: &Key, uid: Option<&str>, change: &Changed) -> bool {
    match change {
        Changed::Rollout(changed, _) => changed == key,
        Changed::Below { uid: owner, .. } => Some(owner.as_str()) == uid,
        Changed::BelowSet { namespace, uid: set } => {
            let sets = &context.store.sets;
            *namespace == key.namespace
                && sets
                    .key_of(set)
                    .and_then(|set| sets.get(&set))
                    .is_some_and(|set| set.set.controller() == uid)
        }
        // The rollout may be about to adopt it.
        Changed::SetLeft { .. } => false,
        Changed::Plugins => true,
        Changed::Orphan { namespace } => *namespace == key.namespace,
        Changed::Service(service) => context.store.rollouts_of_service(service).contains(key),
        Changed::Workload { namespace, name } => {
            *namespace == key.namespace && context.store.rollouts_of_workload(namespace, name).contains(key)
        }
    }
}
