//! What happened before the store's history begins, as the API server remembers it.
//!
//! Watches of the API server that follow each other, each from where the last one ended. [`super::feed`] reads them until the history
//! goes on.

use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{WatchEvent, WatchParams};

use super::super::Context;
use super::super::cluster::{Target, explain, within_deadline};
use super::super::error::{Error, RETRY_SOON};
use super::super::kind::ROLLOUT;
use super::super::selection::Selection;
use super::super::status::Reason;
use crate::store::history::Change;
use crate::store::{EXPIRED, ResourceVersion, RolloutRecord};

/// How long one watch lasts: the API server sends a bookmark shortly before its end, by which it is known how far it has told. Short,
/// since the history takes over then; kube-apiserver needs at least two.
const WATCH_SECONDS: u32 = 5;

/// The API server's memory from a version on.
pub(super) struct Past {
    context: Arc<Context>,
    /// The only namespace, or all.
    namespace: Option<String>,
    labels: String,
    watch: Option<BoxStream<'static, kube::Result<WatchEvent<RolloutRecord>>>>,
    version: ResourceVersion,
}

impl Past {
    /// What happened after a version to what is watched; `None` when nothing of that is served here.
    pub(super) fn after(
        version: ResourceVersion,
        context: &Arc<Context>,
        selection: &Selection,
    ) -> Option<Self> {
        let scope = &context.scope;
        let namespace = match (scope.namespace.as_deref(), selection.span.namespace()) {
            (Some(served), Some(asked)) if served != asked => return None,
            (served, asked) => served.or(asked).map(str::to_owned),
        };
        let labels = match selection.selector.to_string() {
            labels if labels.is_empty() => scope.labels.clone(),
            labels => format!("{},{labels}", scope.labels),
        };
        Some(Self { context: Arc::clone(context), namespace, labels, watch: None, version })
    }

    /// Everything up to this version was told.
    pub(super) fn version(&self) -> ResourceVersion {
        self.version
    }

    /// What happened next, if that concerns what is watched. Nothing is lost when the wait is dropped.
    pub(super) async fn next(&mut self) -> Result<Option<Change>, Error> {
        let watch = match &mut self.watch {
            Some(watch) => watch,
            None => {
                let opened = self.open().await?;
                self.watch.insert(opened)
            }
        };
        match watch.try_next().await {
            Ok(Some(event)) => self.take_in(event),
            Ok(None) => {
                self.watch = None;
                Ok(None)
            }
            Err(error) => Err(why(&error, self.namespace())),
        }
    }

    /// The API server has judged the selector already: what it says was changed was and is selected.
    fn take_in(&mut self, event: WatchEvent<RolloutRecord>) -> Result<Option<Change>, Error> {
        let (before, after) = match event {
            WatchEvent::Added(rollout) => (None, Some(Arc::new(rollout))),
            WatchEvent::Modified(rollout) => {
                let rollout = Arc::new(rollout);
                (Some(Arc::clone(&rollout)), Some(rollout))
            }
            WatchEvent::Deleted(rollout) => (Some(Arc::new(rollout)), None),
            WatchEvent::Bookmark(bookmark) => {
                let version = ResourceVersion::parse(&bookmark.metadata.resource_version);
                self.version = version.map_or(self.version, |version| version.max(self.version));
                return Ok(None);
            }
            WatchEvent::Error(status) => return Err(why(&kube::Error::Api(status), self.namespace())),
        };
        let version = after.as_ref().or(before.as_ref()).and_then(|rollout| ResourceVersion::of(&**rollout));
        self.version = version.map_or(self.version, |version| version.max(self.version));
        Ok(Some(Change { before, after, version }))
    }

    fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    async fn open(&mut self) -> Result<BoxStream<'static, kube::Result<WatchEvent<RolloutRecord>>>, Error> {
        let params = WatchParams::default().labels(&self.labels).timeout(WATCH_SECONDS);
        let api = self.context.cluster.rollouts(self.namespace.as_deref());
        let version = self.version.to_string();
        let namespace = self.namespace().to_owned();
        let events = within_deadline(api.watch(&params, &version), |error| why(error, &namespace)).await?;
        Ok(events.boxed())
    }
}

/// What the consumer is told of an error.
fn why(error: &kube::Error, namespace: &str) -> Error {
    if matches!(error, kube::Error::Api(status) if status.code == EXPIRED) {
        let message = "the cluster has forgotten what happened since that token; watch again without it";
        return Error::new(Reason::WatchExpired, message);
    }
    let error = explain(error, "watch", Target { kind: &ROLLOUT, namespace, name: "" }, "");
    if error.reason() == Reason::Internal {
        // The connection broke in the middle of an event.
        let message = "the API server's watch broke off";
        return Error::new(Reason::ClusterUnavailable, message).retry_after(RETRY_SOON);
    }
    error
}
