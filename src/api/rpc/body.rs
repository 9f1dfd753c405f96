//! How an RPC ended: gRPC says so in the trailers, after the body.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::Code;
use tracing::Span;

use super::method::Method;
use super::{Error, Stay, code_name, panicked};
use crate::telemetry::Metrics;

/// Counts an RPC once, when it has ended. One whose end nobody saw was cancelled.
pub(super) struct Ended {
    metrics: Metrics,
    method: Method,
    span: Span,
    began: Instant,
    code: Option<Code>,
}

impl Ended {
    /// An RPC that begins now.
    pub(super) fn new(metrics: Metrics, method: Method, span: Span) -> Self {
        Self { metrics, method, span, began: Instant::now(), code: None }
    }

    /// It ended with this code.
    pub(super) fn end(&mut self, code: Code) {
        self.code.get_or_insert(code);
    }

    /// Headers or trailers that may say how it ended.
    pub(super) fn head(&mut self, headers: &HeaderMap) {
        if let Some(status) = headers.get("grpc-status") {
            self.end(Code::from_bytes(status.as_bytes()));
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let code = code_name(self.code.unwrap_or(Code::Cancelled));
        let took = self.began.elapsed();
        let Method { service, name, shape: _ } = &self.method;
        self.metrics.rpc(service, name, code, took);
        self.span.record("rpc.grpc.status_code", self.code.unwrap_or(Code::Cancelled) as i32);
        self.span.in_scope(|| tracing::debug!(code, ?took, "rpc ended"));
    }
}

/// A body whose trailers are read, and which holds its place among the RPCs in flight.
pub(super) struct Counted {
    body: Body,
    ended: Ended,
    has_broken_off: bool,
    _stay: Stay,
}

impl Counted {
    pub(super) fn new(body: Body, ended: Ended, stay: Stay) -> Self {
        Self { body, ended, has_broken_off: false, _stay: stay }
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.has_broken_off {
            return Poll::Ready(None);
        }
        let poll = AssertUnwindSafe(|| this.span_entered(|body| Pin::new(body).poll_frame(context)));
        let frame = match std::panic::catch_unwind(poll) {
            Ok(frame) => frame,
            // What panicked is not polled again; its last word are the trailers.
            Err(panic) => {
                this.has_broken_off = true;
                this.body = Body::empty();
                Poll::Ready(Some(Ok(Frame::trailers(trailers(panicked(&*panic))))))
            }
        };
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.ended.head(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        !self.has_broken_off && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How a stream ends with an error.
fn trailers(error: Error) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // It fails for metadata that is no header, and these have none.
    if tonic::Status::from(error).add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from_static("13"));
    }
    trailers
}

impl Counted {
    /// Streams do their work while they are polled; it belongs to the RPC's span.
    fn span_entered<T>(&mut self, poll: impl FnOnce(&mut Body) -> T) -> T {
        let Self { body, ended, .. } = self;
        ended.span.in_scope(|| poll(body))
    }
}
