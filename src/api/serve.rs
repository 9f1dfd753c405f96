//! Connections: plaintext HTTP/2 with prior knowledge, and an orderly end.

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::util::MapRequest;

use super::Api;
use super::rpc::Peer;
use crate::clock;

/// Connections at once. Beyond, new ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;

/// How often a silent connection is asked for a sign of life, so that one whose peer has vanished is closed.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How long to wait before accepting again when the system refuses a connection (no file handles left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Api {
    /// Serves until `stop` is cancelled, and then until the RPCs in flight have ended, but no longer than [`super::Limits::drain`].
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new());
        let streams = self.context.limits.max_requests.saturating_add(self.context.limits.max_streams);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            // More than the limits allow, so that it is they who answer: at this one a client would wait without a word.
            .max_concurrent_streams(u32::try_from(streams).unwrap_or(u32::MAX).saturating_mul(2));
        let router = self.router();
        let connections = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut tasks = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = tasks.join_next() => continue,
                accepted = accept(&listener, &room) => accepted,
            };
            let (stream, peer, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    clock::real_sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let peer = Peer(peer.ip());
            let service = MapRequest::new(router.clone(), move |mut request: http::Request<Incoming>| {
                request.extensions_mut().insert(peer);
                request
            });
            let connection = builder
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
                .into_owned();
            let connection = connections.watch(connection);
            tasks.spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection broke");
                }
                drop(place);
            });
        }
        drop(listener);
        self.drain();
        if tokio::time::timeout(self.context.limits.drain, connections.shutdown()).await.is_err() {
            tracing::warn!("RPCs are cut off: they did not end in time");
        }
        tasks.shutdown().await;
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, std::net::SocketAddr, Option<tokio::sync::OwnedSemaphorePermit>)>
{
    // The semaphore is never closed.
    let place = Arc::clone(room).acquire_owned().await.ok();
    let (stream, peer) = listener.accept().await?;
    // Answers are small and somebody waits for each.
    stream.set_nodelay(true)?;
    Ok((stream, peer, place))
}
