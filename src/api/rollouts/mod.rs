//! RolloutService: one file for each group of methods, `service` with all of them.
//!
//! Depends on [`super::mutation`] for writes and on the store's caches for reads.

mod activity;
mod change;
mod copied;
mod create;
mod delete;
mod feed;
mod foresee;
mod image;
mod metadata;
mod past;
mod promote;
mod read;
mod restart;
mod revisions;
mod rollback;
mod service;
mod settle;
mod summary;
mod tree;
mod update;
mod verbs;
mod watch;
mod watch_tree;
mod workload;

use std::sync::Arc;

use super::Context;
use super::call::Call;
use super::error::Error;
use crate::pb::v1::{ApplyManifestRequest, ApplyManifestResponse};

/// The rollout service.
#[derive(Clone)]
pub(super) struct Rollouts {
    context: Arc<Context>,
    /// The call that is carried out, where it is one that may change something.
    call: Arc<Call>,
}

impl Rollouts {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context, call: Arc::default() }
    }

    /// ApplyManifest.
    async fn apply(&self, request: ApplyManifestRequest) -> Result<ApplyManifestResponse, Error> {
        self.context.apply(&self.call, request).await
    }
}
