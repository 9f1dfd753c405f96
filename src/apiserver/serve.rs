//! The server over plain HTTP, for kubectl.
//!
//! Depends on [`super::server`] only. HTTP/1.1 and HTTP/2 without TLS, on the listener it is given.

use std::io;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ApiServer;
use crate::clock::real_sleep;

/// Connections served at once; a further one waits to be accepted. A developer's machine opens a few dozen.
const CONNECTIONS_MAX: usize = 512;

/// How long open requests may go on after the shutdown began; watches end at once.
const DRAIN: Duration = Duration::from_secs(2);

/// Pause after a failed accept, so that a lack of file descriptors does not become a busy loop.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

impl ApiServer {
    /// Serves plain HTTP on `listener` until `shutdown`; watches end then, other open requests are given two seconds.
    ///
    /// # Errors
    ///
    /// When the listener has no local address any more, that is, is broken.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
        let address = listener.local_addr()?;
        tracing::debug!(%address, "kubernetes api is served");
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(connection(self.clone(), stream, shutdown.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection was not accepted");
                        real_sleep(ACCEPT_RETRY).await;
                    }
                },
            }
        }
        drop(listener);
        tokio::select! {
            () = async { while connections.join_next().await.is_some() {} } => {}
            () = real_sleep(DRAIN) => connections.shutdown().await,
        }
        Ok(())
    }
}

async fn connection(server: ApiServer, stream: TcpStream, shutdown: CancellationToken) {
    let service = TowerToHyperService::new(server.service_until(shutdown.clone()));
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // Clients close connections as they like; nothing to do about it.
        tracing::debug!(%error, "a connection ended with an error");
    }
}
