//! The body of a watch: events as they come, bookmarks, and a clean end.
//!
//! Depends on [`super::watch`] for the events and [`super::present`] for their form. Ends when the client's timeout
//! has passed, the server shuts down, the resource is served no longer, or the client was too slow.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use http_body::{Body, Frame};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::ApiServer;
use super::present::Presenter;
use super::status::ApiError;
use super::watch::{Event, Subscription};
use crate::clock::real_sleep;

/// Time between two bookmarks, as in kube-apiserver's cacher; real time, like the timeout.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);

/// How long a watch lasts whose client sets no timeout: between kube-apiserver's --min-request-timeout of 30 minutes
/// and twice that.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(45 * 60);

/// The body of a watch's answer.
pub(crate) struct WatchBody(BoxStream<'static, Bytes>);

impl WatchBody {
    /// A watch that goes on until its end.
    pub(crate) fn new(watch: Watch) -> Self {
        let frames = futures::stream::unfold(watch, |mut watch| async move {
            let bytes = watch.next().await?;
            Some((bytes, watch))
        });
        Self(frames.boxed())
    }

    /// A watch that ends with an error at once.
    pub(crate) fn error(error: &ApiError) -> Self {
        let event = line("ERROR", &error.to_status());
        Self(futures::stream::iter([event]).boxed())
    }
}

impl Body for WatchBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_next_unpin(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Whether a client wants bookmarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bookmarks {
    Wanted,
    Unwanted,
}

/// An open watch.
pub(crate) struct Watch {
    server: ApiServer,
    subscription: Subscription,
    presenter: Presenter,
    bookmarks: Bookmarks,
    next_bookmark: BoxFuture<'static, ()>,
    timeout: BoxFuture<'static, ()>,
    shutdown: CancellationToken,
    ended: bool,
}

impl Watch {
    pub(crate) fn new(
        server: ApiServer,
        subscription: Subscription,
        presenter: Presenter,
        bookmarks: Bookmarks,
        timeout_seconds: Option<u64>,
        shutdown: CancellationToken,
    ) -> Self {
        let timeout = timeout_seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        Self {
            server,
            subscription,
            presenter,
            bookmarks,
            next_bookmark: Box::pin(real_sleep(BOOKMARK_INTERVAL)),
            timeout: Box::pin(real_sleep(timeout)),
            shutdown,
            ended: false,
        }
    }

    /// The next line; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        if let Some(event) = self.subscription.backlog.pop_front() {
            return Some(self.event(&event));
        }
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return None,
                event = self.subscription.events.recv() => return event.map(|event| self.event(&event)),
                () = &mut self.timeout => {
                    // A last bookmark lets the client go on from here.
                    self.ended = true;
                    return self.bookmark();
                }
                () = &mut self.next_bookmark, if self.bookmarks == Bookmarks::Wanted => {
                    self.next_bookmark = Box::pin(real_sleep(BOOKMARK_INTERVAL));
                    if let Some(bookmark) = self.bookmark() {
                        return Some(bookmark);
                    }
                }
            }
        }
    }

    fn event(&self, event: &Event) -> Bytes {
        let object = self.presenter.object(&event.object, self.server.now());
        line(event.kind.as_str(), &object)
    }

    /// A bookmark at the present revision; none while events wait, for it would overtake them.
    fn bookmark(&self) -> Option<Bytes> {
        if self.bookmarks == Bookmarks::Unwanted {
            return None;
        }
        let revision = self.server.with_state(|state| {
            let behind = !self.subscription.events.is_empty();
            (!behind).then(|| state.store.revision())
        })?;
        Some(line("BOOKMARK", &self.presenter.bookmark(revision)))
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut text = json!({"type": kind, "object": object}).to_string();
    text.push('\n');
    Bytes::from(text)
}
