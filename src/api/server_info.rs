//! ServerService: what this server is, and which namespaces it serves.

use std::collections::BTreeMap;
use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::Context;
use super::convert::timestamp;
use super::error::Error;
use super::page::Page;
use super::status::Reason;
use crate::lease::Role;
use crate::pb::v1;
use crate::pb::v1::server_service_server::ServerService;
use crate::store::Key;

/// What this server can do. Later versions add names; none goes away.
const FEATURES: [&str; 4] = ["apply", "canary", "tree", "watch"];

/// The server service.
#[derive(Clone)]
pub(super) struct Server {
    context: Arc<Context>,
}

impl Server {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    async fn info(&self) -> v1::GetServerInfoResponse {
        let facts = self.context.server.clone();
        let leadership = self.context.leadership.borrow().clone();
        let leader = leadership.holder.map(|identity| v1::get_server_info_response::Leader {
            identity,
            is_this_process: leadership.role == Role::Leader,
            acquire_time: leadership.since.map(timestamp),
        });
        v1::GetServerInfoResponse {
            version: facts.version,
            commit: facts.commit,
            cluster: facts.cluster,
            // Unknown while the API server is away: the rest is worth telling all the more then.
            kubernetes_version: self.context.cluster.version().await.unwrap_or_default(),
            instance_id: facts.instance_id,
            namespace: facts.namespace.unwrap_or_default(),
            features: FEATURES.map(str::to_owned).to_vec(),
            leader,
        }
    }

    async fn namespaces(
        &self,
        request: &v1::ListNamespacesRequest,
    ) -> Result<v1::ListNamespacesResponse, Error> {
        let page = Page::read(request.page_size, &request.page_token, &["namespaces"])?;
        self.context.require_ready()?;
        let mut namespaces = self.rollout_counts();
        match &self.context.server.namespace {
            Some(only) => {
                namespaces.entry(only.clone()).or_default();
            }
            None => match self.context.cluster.namespaces().await {
                Ok(names) => {
                    for name in names {
                        namespaces.entry(name).or_default();
                    }
                }
                // Argo Rollouts' account may not list namespaces: those that hold rollouts are known all the same.
                Err(error) if error.reason() == Reason::PermissionDenied => {}
                Err(error) => return Err(error),
            },
        }
        let after = page.after.as_ref().map(|key| key.namespace.as_str());
        let found: Vec<(String, i32)> = namespaces
            .into_iter()
            .filter(|(name, _)| after.is_none_or(|after| name.as_str() > after))
            .take(page.size + 1)
            .collect();
        let shown = &found[..found.len().min(page.size)];
        let last = shown.last().map(|(name, _)| Key::new(name.clone(), String::new()));
        let namespace = |(name, rollout_count): &(String, i32)| v1::list_namespaces_response::Namespace {
            name: format!("namespaces/{name}"),
            rollout_count: *rollout_count,
        };
        Ok(v1::ListNamespacesResponse {
            namespaces: shown.iter().map(namespace).collect(),
            next_page_token: page.next(found.len(), last.as_ref()),
        })
    }

    /// How many rollouts each namespace holds that has any.
    fn rollout_counts(&self) -> BTreeMap<String, i32> {
        let mut counts = BTreeMap::new();
        for record in self.context.store.rollouts.all() {
            let count: &mut i32 = counts.entry(Key::of(&*record).namespace).or_default();
            *count = count.saturating_add(1);
        }
        counts
    }
}

#[tonic::async_trait]
impl ServerService for Server {
    async fn get_server_info(
        &self,
        _: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        Ok(Response::new(self.info().await))
    }

    async fn list_namespaces(
        &self,
        request: Request<v1::ListNamespacesRequest>,
    ) -> Result<Response<v1::ListNamespacesResponse>, Status> {
        Ok(Response::new(self.namespaces(request.get_ref()).await?))
    }
}
