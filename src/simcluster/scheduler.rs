//! The scheduler: pods that nobody has placed get a node.
//!
//! Depends on the watch cache of pods. Every node fits every pod; nodes are taken in turn. The kubelet takes over
//! once the binding is seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};

use super::cache::{Cache, Change, Key};
use super::node::Nodes;
use super::pod;
use super::queue::{Controller, Next, Queue};
use super::request::{Refusal, SyncError};
use crate::clock::Clock;

/// The one scheduler that pods name unless they want another.
const NAME: &str = "default-scheduler";
/// How often placing is tried while all nodes are lost.
const NO_NODE_RETRY: Duration = Duration::from_secs(1);

/// Binds pods to nodes.
pub(super) struct Scheduler {
    context: Context,
    queue: Queue<Key>,
    placed: AtomicU64,
}

/// What the scheduler works with.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) clock: Clock,
    pub(super) nodes: Arc<Nodes>,
    pub(super) pods: Arc<Cache<Pod>>,
}

impl Scheduler {
    pub(super) fn new(context: Context) -> Self {
        Self { queue: Queue::new(context.clock.clone()), context, placed: AtomicU64::new(0) }
    }

    pub(super) fn on_pod(&self, change: &Change<'_, Pod>) {
        if change.new.is_some_and(|pod| wants_node(pod)) {
            self.queue.add(change.key.clone());
        }
    }
}

/// Whether the pod waits for this scheduler.
fn wants_node(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    let ours = spec.scheduler_name.as_deref().unwrap_or(NAME) == NAME;
    pod::node_name(pod).is_none() && ours && !gated && !pod::is_deleting(pod)
}

impl Controller for Scheduler {
    type Key = Key;
    const NAME: &'static str = "scheduler";
    const CONCURRENCY: usize = 16;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Next, SyncError> {
        let Some(pod) = self.context.pods.get(key).filter(|pod| wants_node(pod)) else {
            return Ok(Next::Idle);
        };
        let Some(node) = self.context.nodes.place(self.placed.fetch_add(1, Ordering::Relaxed)) else {
            let again = self.context.clock.now().checked_add(NO_NODE_RETRY);
            return Ok(Next::earliest([again.ok()]));
        };
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(key.name.clone()),
                uid: pod.metadata.uid.clone(),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(node),
                ..ObjectReference::default()
            },
        };
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let bound: Result<serde_json::Value, _> =
            pods.create_subresource("binding", &key.name, &PostParams::default(), &binding).await;
        match bound {
            Ok(_) => Ok(Next::Idle),
            // Gone, or bound before: the cache will say which.
            Err(error) if matches!(Refusal::of(&error), Refusal::NotFound | Refusal::Conflict) => {
                Ok(Next::Idle)
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_pods_that_wait_for_this_scheduler_are_placed() {
        for (why, metadata, spec, wanted) in [
            ("plain", json!({}), json!({ "containers": [] }), true),
            ("named", json!({}), json!({ "containers": [], "schedulerName": NAME }), true),
            ("placed", json!({}), json!({ "containers": [], "nodeName": "n" }), false),
            ("another's", json!({}), json!({ "containers": [], "schedulerName": "other" }), false),
            ("gated", json!({}), json!({ "containers": [], "schedulingGates": [{ "name": "x/y" }] }), false),
            (
                "leaving",
                json!({ "deletionTimestamp": "2026-01-01T00:00:00Z" }),
                json!({ "containers": [] }),
                false,
            ),
        ] {
            let pod: Pod = serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap();
            assert_eq!(wants_node(&pod), wanted, "{why}");
        }
    }
}
