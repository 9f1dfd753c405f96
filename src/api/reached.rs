//! Waits until the cache of rollouts has reached a version that a caller brings (`at_least`).
//!
//! Most often it has, or is about to: the change that the caller knows of is on its way. A version that comes from the list of
//! another server may be of a moment at which nothing happened to any rollout, so that nothing is told of it; then one consistent
//! list shows that nothing is missing ([`crate::store::history`]). Reads go on from here.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::Api;
use kube::api::{ListParams, ObjectList, PartialObjectMeta};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Context;
use super::cluster::{Cluster, Target, explain, within_deadline};
use super::error::{Error, RETRY_SOON};
use super::kind::ROLLOUT;
use super::status::Reason;
use super::token::Token;
use crate::clock;
use crate::store::{Key, ResourceVersion, RolloutRecord, Scope};

/// How long a read waits at most: far longer than a healthy watch lags behind, and less than callers wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a watch may take to tell of what happened, before it is asked whether anything happened at all; and the pause between
/// two such questions, whoever waits.
const ASK_AFTER: Duration = Duration::from_millis(500);

/// How many objects one request lists.
const PAGE: u32 = 500;

/// When the API server was last asked for a consistent list. The lock is held meanwhile, so that all who wait ask once.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<Option<Instant>>);

impl Context {
    /// Waits until the cache is at least as new as the token says; an empty token asks for nothing.
    pub(super) async fn reach(&self, at_least: &str) -> Result<(), Error> {
        let Some(Token { version, .. }) = Token::read(at_least, "at_least")? else { return Ok(()) };
        if self.store.history.has_reached(version) {
            return Ok(());
        }
        tokio::select! {
            biased;
            reached = tokio::time::timeout(PATIENCE, self.reached(version)) => reached.unwrap_or_else(|_| Err(too_late())),
            () = self.drain.cancelled() => Err(self.draining()),
        }
    }

    async fn reached(&self, version: ResourceVersion) -> Result<(), Error> {
        let mut moved = self.store.history.moved();
        loop {
            let told = async {
                while !self.store.history.has_reached(version) {
                    // The sender lives as long as the store.
                    let _ = moved.changed().await;
                }
            };
            tokio::select! {
                biased;
                () = told => return Ok(()),
                () = clock::real_sleep(ASK_AFTER) => self.ask(version).await?,
            }
        }
    }

    /// Asks the API server whether there is anything that the cache does not know.
    async fn ask(&self, version: ResourceVersion) -> Result<(), Error> {
        let mut asked = self.asked.0.lock().await;
        if self.store.history.has_reached(version) || asked.is_some_and(|asked| asked.elapsed() < ASK_AFTER) {
            return Ok(());
        }
        let (listed, now) = self.cluster.rollout_versions(&self.scope).await?;
        *asked = Some(Instant::now());
        if now < version {
            // A consistent list is never older than anything that was answered before it.
            let what = "is of a moment that this cluster has not come to: it belongs to another cluster";
            return Err(Error::field("at_least", what));
        }
        self.store.history.verify(&listed, now);
        Ok(())
    }
}

fn too_late() -> Error {
    let message = format!(
        "this server's cache has not reached at_least within {}s; try again, or read without it",
        PATIENCE.as_secs()
    );
    Error::new(Reason::NotCaughtUp, message).retry_after(RETRY_SOON)
}

impl Cluster {
    /// The version of the cluster's rollouts at this moment.
    pub(super) async fn current_version(&self, scope: &Scope) -> Result<ResourceVersion, Error> {
        let page = self.list_rollouts(scope, &ListParams::default().labels(&scope.labels).limit(1)).await?;
        version_of(&page.metadata)
    }

    /// The versions of all rollouts, and the version of the list itself: all of them at this moment.
    async fn rollout_versions(
        &self,
        scope: &Scope,
    ) -> Result<(BTreeMap<Key, ResourceVersion>, ResourceVersion), Error> {
        let mut params = ListParams::default().labels(&scope.labels).limit(PAGE);
        let mut versions = BTreeMap::new();
        loop {
            let page = self.list_rollouts(scope, &params).await?;
            versions.extend(
                page.items.iter().filter_map(|item| Some((Key::of(item), ResourceVersion::of(item)?))),
            );
            params.continue_token = page.metadata.continue_.clone().filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return Ok((versions, version_of(&page.metadata)?));
            }
        }
    }

    async fn list_rollouts(
        &self,
        scope: &Scope,
        params: &ListParams,
    ) -> Result<ObjectList<PartialObjectMeta<RolloutRecord>>, Error> {
        let api: Api<RolloutRecord> = self.rollouts(scope.namespace.as_deref());
        let namespace = scope.namespace.as_deref().unwrap_or_default();
        let target = Target { kind: &ROLLOUT, namespace, name: "" };
        within_deadline(api.list_metadata(params), |error| explain(error, "list", target, "")).await
    }
}

fn version_of(list: &ListMeta) -> Result<ResourceVersion, Error> {
    let version = list.resource_version.as_deref().unwrap_or_default();
    let unversioned = || Error::internal("the API server's list has no version that is a number", &version);
    ResourceVersion::parse(version).ok_or_else(unversioned)
}
