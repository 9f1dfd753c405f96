//! Follows the rollouts of a cluster into cache and history, for as long as the process lives.
//!
//! As [`super::reflect()`] does for other kinds, but with the versions that `kube`'s watcher keeps to itself: that of the list, and
//! those of bookmarks, without which nobody could say how much of what happened is known ([`super::history`]). Lists whole, then
//! watches; a watch that ends goes on where it was, and what the API server has forgotten is listed again.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::runtime::utils::Backoff;
use kube::{Api, Client, ResourceExt};
use tokio::time::Instant;

use super::Store;
use super::kinds::RolloutRecord;
use super::object::Key;
use super::reflect::{Scope, pauses, replace};
use super::version::ResourceVersion;
use crate::clock;

/// How many rollouts are listed with one request, as client-go does.
const PAGE: u32 = 500;

/// How long one watch lasts; then it goes on with another request. Below the five minutes after which proxies cut connections.
const WATCH_SECONDS: u32 = 290;

/// How much longer than that a watch may stay silent before its connection counts as dead.
const SILENCE: Duration = Duration::from_secs(5);

/// A watch that ends sooner was not meant to: the next one waits, so that a server that is in trouble is not asked in a loop.
const SHORTEST: Duration = Duration::from_secs(1);

/// How the API server says that it has forgotten the version that is asked for.
pub const EXPIRED: u16 = 410;

/// Why following was interrupted.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Request(#[from] kube::Error),
    #[error("{}", .0.message)]
    Told(Box<kube::core::Status>),
}

impl Interrupted {
    fn code(&self) -> Option<u16> {
        match self {
            Self::Request(kube::Error::Api(status)) | Self::Told(status) => Some(status.code),
            Self::Request(_) => None,
        }
    }

    /// Whether the API server does not answer, rather than that it answers no.
    fn is_away(&self) -> bool {
        self.code().is_none_or(|code| code >= 500)
    }
}

/// Follows rollouts, for ever. What breaks is taken up again with growing pauses; an object that cannot be decoded stops nobody else.
pub async fn follow(store: Arc<Store>, client: Client, scope: Scope) {
    let api = match &scope.namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    store.rollouts.watches(&scope.labels);
    let mut follower = Follower { store, api, labels: scope.labels, version: None };
    let mut backoff = pauses();
    loop {
        let began = Instant::now();
        let ended = follower.go_on().await;
        let has_worked = began.elapsed() >= SHORTEST;
        if has_worked {
            backoff.reset();
        }
        match ended {
            Ok(()) if has_worked => continue,
            Ok(()) => {}
            Err(error) => {
                if error.is_away() {
                    follower.store.reach.lost();
                }
                if error.code() == Some(EXPIRED) {
                    follower.version = None;
                }
                tracing::warn!(kind = "Rollout", %error, "watch interrupted");
            }
        }
        if let Some(pause) = backoff.next() {
            clock::real_sleep(pause).await;
        }
    }
}

struct Follower {
    store: Arc<Store>,
    api: Api<RolloutRecord>,
    labels: String,
    /// Everything up to here was told; `None` when it has to be listed (again).
    version: Option<String>,
}

impl Follower {
    /// Lists, where that has to be done, and watches until the watch ends.
    async fn go_on(&mut self) -> Result<(), Interrupted> {
        let version = match self.version.clone() {
            Some(version) => version,
            None => self.list().await?,
        };
        let params = WatchParams::default().labels(&self.labels).timeout(WATCH_SECONDS);
        let mut events = self.api.watch(&params, &version).await?.boxed();
        self.version = Some(version);
        let silence = Duration::from_secs(WATCH_SECONDS.into()) + SILENCE;
        while let Ok(event) = tokio::time::timeout(silence, events.try_next()).await {
            let Some(event) = event? else { break };
            self.store.reach.found();
            self.take_in(event)?;
        }
        Ok(())
    }

    async fn list(&self) -> Result<String, Interrupted> {
        let mut params = ListParams::default().labels(&self.labels).limit(PAGE);
        let mut rollouts = Vec::new();
        loop {
            // All pages are of the version of the first.
            let page = self.api.list(&params).await?;
            rollouts.extend(page.items.into_iter().map(Arc::new));
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                let version = page.metadata.resource_version.unwrap_or_default();
                self.store.reach.found();
                replace(&self.store, rollouts.clone());
                self.store.history.listed(&rollouts, ResourceVersion::parse(&version));
                return Ok(version);
            }
        }
    }

    /// The cache first: who reads a version in the history finds it there.
    fn take_in(&mut self, event: WatchEvent<RolloutRecord>) -> Result<(), Interrupted> {
        let store = &self.store;
        let version = match event {
            WatchEvent::Added(rollout) | WatchEvent::Modified(rollout) => {
                let rollout = Arc::new(rollout);
                store.take_in_shared(Arc::clone(&rollout));
                store.history.changed(&rollout);
                rollout.resource_version()
            }
            WatchEvent::Deleted(rollout) => {
                store.take_out::<RolloutRecord>(&Key::of(&rollout));
                store.history.deleted(&rollout);
                rollout.resource_version()
            }
            WatchEvent::Bookmark(bookmark) => {
                let version = bookmark.metadata.resource_version;
                if let Some(version) = ResourceVersion::parse(&version) {
                    store.history.bookmark(version);
                }
                Some(version)
            }
            WatchEvent::Error(status) => return Err(Interrupted::Told(status)),
        };
        if version.is_some() {
            self.version = version;
        }
        Ok(())
    }
}
