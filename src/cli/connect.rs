//! The connection to a server, and the deadlines of calls.
//!
//! Verbs ask through [`Connection::ask`], which turns what goes wrong into a [`Failure`]. Every call says who makes it.

use std::time::Duration;

use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use super::actor::Actor;
use super::failure::{Failure, Subject};
use super::name::Address;
use crate::pb::v1;
use v1::rollout_service_client::RolloutServiceClient;
use v1::server_service_client::ServerServiceClient;

/// How long to try to reach the server. A server in the same cluster or behind a port-forward answers in milliseconds; what
/// takes longer is a wrong address behind a firewall.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// How long a single answer may take: a server gives up on its own API server well before.
const CALL_DEADLINE: Duration = Duration::from_secs(60);

/// How often a connection that is waited on is asked for a sign of life, and how long that may take: a watch over a connection
/// that somebody in between forgot would wait for ever.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_DEADLINE: Duration = Duration::from_secs(10);

/// The longest message that is read: a page of 1000 whole rollouts, of 64 KiB each.
const LONGEST_MESSAGE: usize = 64 << 20;

/// The way to a server, with our name on it.
type Signed = InterceptedService<Channel, Actor>;

/// A server that has been reached.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    channel: Channel,
    address: Address,
    actor: Actor,
}

impl Connection {
    pub(super) async fn open(address: &Address, actor: &Actor) -> Result<Self, Failure> {
        let unreachable = |error| Failure::unreachable(address, &error);
        let endpoint = Endpoint::try_from(address.to_string()).map_err(unreachable)?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_DEADLINE)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_DEADLINE);
        let channel = endpoint.connect().await.map_err(unreachable)?;
        Ok(Self { channel, address: address.clone(), actor: actor.clone() })
    }

    pub(super) fn rollouts(&self) -> RolloutServiceClient<Signed> {
        RolloutServiceClient::with_interceptor(self.channel.clone(), self.actor.clone())
            .max_decoding_message_size(LONGEST_MESSAGE)
    }

    pub(super) fn server(&self) -> ServerServiceClient<Signed> {
        ServerServiceClient::with_interceptor(self.channel.clone(), self.actor.clone())
    }

    /// Waits for the answer to a call about `subject`.
    pub(super) async fn ask<T>(
        &self,
        subject: Subject<'_>,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        bounded(call).await.map_err(|status| self.refused(subject, status))
    }

    /// The same for an answer that the server may hold for so long.
    pub(super) async fn ask_held<T>(
        &self,
        subject: Subject<'_>,
        held: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        within(CALL_DEADLINE.saturating_add(held), call).await.map_err(|status| self.refused(subject, status))
    }

    /// What an answer's status means to somebody who asked about `subject`.
    pub(super) fn refused(&self, subject: Subject<'_>, status: Status) -> Failure {
        Failure::refused(&self.address, subject, status)
    }
}

/// Waits for an answer, but not for ever; of a stream, for its beginning.
pub(super) async fn bounded<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    within(CALL_DEADLINE, call).await
}

/// Not by the request's own timeout, at whose end the transport says CANCELLED.
async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    let answer = tokio::time::timeout(deadline, call).await.unwrap_or_else(|_| {
        let text = format!("no answer within {} seconds", deadline.as_secs());
        Err(Status::new(Code::DeadlineExceeded, text))
    });
    answer.map(Response::into_inner)
}
