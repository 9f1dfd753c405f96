//! The namespace controller: a namespace that is being deleted is emptied, then let go.
//!
//! Depends on discovery, so that it finds every kind that is served. Pods go first, so that what they use is there
//! until they have stopped (as Kubernetes' ordered namespace deletion). Deletions of namespaces are rare; this one
//! looks again at intervals instead of watching all kinds.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::core::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::discovery::{ApiGroup, Discovery, Scope, verbs};
use kube::{Client, ResourceExt as _};

use super::cache::{Cache, Change, Key};
use super::queue::{Controller, Next, Queue};
use super::request::{Refusal, SyncError};
use crate::clock::Clock;

/// The finalizer (in the spec) that keeps a namespace until it is empty.
const FINALIZER: &str = "kubernetes";
/// Pods take a moment to stop, and so do objects with finalizers.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Empties namespaces.
pub(super) struct NamespaceController {
    context: Context,
    queue: Queue<Key>,
}

/// What the controller works with.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) clock: Clock,
    pub(super) namespaces: Arc<Cache<Namespace>>,
}

/// Whether anything is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Something,
}

impl NamespaceController {
    pub(super) fn new(context: Context) -> Self {
        Self { queue: Queue::new(context.clock.clone()), context }
    }

    pub(super) fn on_namespace(&self, change: &Change<'_, Namespace>) {
        if change.new.is_some_and(|namespace| is_ours(namespace)) {
            self.queue.add(change.key.clone());
        }
    }

    /// Deletes all objects of a kind in the namespace, if there are any.
    async fn empty(&self, namespace: &str, resource: &ApiResource) -> Result<Left, SyncError> {
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::namespaced_with(self.context.client.clone(), namespace, resource);
        if api.list(&ListParams::default().limit(1)).await?.items.is_empty() {
            return Ok(Left::Nothing);
        }
        api.delete_collection(&DeleteParams::background(), &ListParams::default()).await?;
        let left = api.list(&ListParams::default().limit(1)).await?.items;
        Ok(if left.is_empty() { Left::Nothing } else { Left::Something })
    }

    async fn empty_all(&self, namespace: &str) -> Result<Left, SyncError> {
        if self.empty(namespace, &ApiResource::erase::<Pod>(&())).await? == Left::Something {
            return Ok(Left::Something);
        }
        let mut left = Left::Nothing;
        for resource in self.kinds().await? {
            if self.empty(namespace, &resource).await? == Left::Something {
                left = Left::Something;
            }
        }
        Ok(left)
    }

    /// Every namespaced kind whose objects can be listed and deleted.
    async fn kinds(&self) -> Result<Vec<ApiResource>, SyncError> {
        let discovery = Discovery::new(self.context.client.clone()).run_aggregated().await?;
        let resources = discovery.groups_alphabetical().into_iter().flat_map(ApiGroup::recommended_resources);
        let emptiable = resources.filter(|(_, capabilities)| {
            capabilities.scope == Scope::Namespaced
                && capabilities.supports_operation(verbs::LIST)
                && capabilities.supports_operation(verbs::DELETE_COLLECTION)
        });
        Ok(emptiable.map(|(resource, _)| resource).collect())
    }

    async fn finalize(&self, namespace: &Namespace) -> Result<(), SyncError> {
        let mut finalized = namespace.clone();
        if let Some(finalizers) = finalized.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        let api: Api<Namespace> = Api::all(self.context.client.clone());
        let name = namespace.name_any();
        match api.replace_subresource("finalize", &name, &PostParams::default(), &finalized).await {
            Ok(_) => Ok(()),
            Err(error) if Refusal::of(&error) == Refusal::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether the namespace is being deleted and waits for us.
fn is_ours(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref()).unwrap_or_default();
    namespace.metadata.deletion_timestamp.is_some()
        && finalizers.iter().any(|finalizer| finalizer == FINALIZER)
}

impl Controller for NamespaceController {
    type Key = Key;
    const NAME: &'static str = "namespace";
    const CONCURRENCY: usize = 4;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Next, SyncError> {
        let Some(namespace) = self.context.namespaces.get(key).filter(|namespace| is_ours(namespace)) else {
            return Ok(Next::Idle);
        };
        match self.empty_all(&key.name).await? {
            Left::Nothing => self.finalize(&namespace).await.map(|()| Next::Idle),
            Left::Something => Ok(Next::earliest([self.context.clock.now().checked_add(LOOK_AGAIN).ok()])),
        }
    }
}
