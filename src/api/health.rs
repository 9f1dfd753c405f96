//! grpc.health.v1: whether this server serves, as a whole and by service.
//!
//! SERVING once every cache has listed and while the API server answers; NOT_SERVING while it drains. Changes are pushed to
//! watches.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::Context;
use super::error::{Error, Resource};
use crate::clock;

/// How often a watch looks again while caches fill: they have no signal for it, and it lasts seconds.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The services whose health can be asked for; the empty name is the server as a whole.
const SERVICES: [&str; 3] = ["", "rolloutd.v1.RolloutService", "rolloutd.v1.ServerService"];

/// The health service.
#[derive(Clone)]
pub(super) struct Health {
    context: Arc<Context>,
}

impl Health {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn now(&self) -> ServingStatus {
        let serving = self.context.store.is_ready() && !self.context.drain.is_cancelled();
        if serving { ServingStatus::Serving } else { ServingStatus::NotServing }
    }

    /// Waits until the health is another than it was. It ends when this server drains for good.
    async fn changed(&self, before: ServingStatus) -> Option<ServingStatus> {
        if self.context.drain.is_cancelled() && before == ServingStatus::NotServing {
            return None;
        }
        let mut reach = self.context.store.reach.watch();
        loop {
            let now = self.now();
            if now != before {
                return Some(now);
            }
            tokio::select! {
                () = self.context.drain.cancelled() => {}
                // The sender lives as long as the store.
                _ = reach.changed() => {}
                () = clock::real_sleep(LOOK_EVERY), if before == ServingStatus::NotServing => {}
            }
            if self.context.drain.is_cancelled() && before == ServingStatus::NotServing {
                return None;
            }
        }
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !SERVICES.contains(&service.as_str()) {
            return Err(Error::not_found(Resource { kind: "grpc.health.v1/Service", name: service }).into());
        }
        Ok(Response::new(response(self.now())))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if !SERVICES.contains(&request.into_inner().service.as_str()) {
            // As the protocol has it: the watch goes on, in case the service appears. Ours never do.
            let unknown = stream::once(async { Ok(response(ServingStatus::ServiceUnknown)) });
            let drain = self.context.drain.clone();
            let until_drain = stream::once(async move { drain.cancelled().await });
            let silent = futures::StreamExt::filter_map(until_drain, |()| async { None });
            return Ok(Response::new(Box::pin(futures::StreamExt::chain(unknown, silent))));
        }
        let health = self.clone();
        let changes = stream::unfold((health, None), |(health, before)| async move {
            let now = match before {
                None => health.now(),
                Some(before) => health.changed(before).await?,
            };
            Some((Ok(response(now)), (health, Some(now))))
        });
        Ok(Response::new(Box::pin(changes)))
    }
}
