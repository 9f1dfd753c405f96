//! What every RPC passes through: a span, a count, limits and a deadline.
//!
//! A tower layer around all services, so that no method can forget it. W3C trace context is accepted. A limit answers
//! RESOURCE_EXHAUSTED at once, a deadline DEADLINE_EXCEEDED and a panic INTERNAL: nothing hangs, and nothing else breaks.

mod body;
mod bucket;
mod method;
mod stay;

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures::FutureExt as _;
use http::HeaderMap;
use opentelemetry::propagation::Extractor;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tonic::Code;
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::Limits;
use super::error::{Error, RETRY_SOON};
use super::status::Reason;
use crate::telemetry::Metrics;
use body::{Counted, Ended};
pub(super) use bucket::Buckets;
use method::{Method, Methods, Shape};
pub(super) use stay::Stay;
use stay::TooLong;

/// The address that a request came from; absent within the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer(pub IpAddr);

/// Admits RPCs, and watches over them.
#[derive(Clone)]
pub(super) struct Gate {
    shared: Arc<Shared>,
}

struct Shared {
    methods: Methods,
    metrics: Metrics,
    limits: Limits,
    requests: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    buckets: Buckets<Peer>,
}

impl Gate {
    /// A gate with these limits, for the methods of these encoded descriptor sets.
    pub(super) fn new(metrics: Metrics, limits: Limits, descriptors: &[&[u8]]) -> Self {
        let shared = Shared {
            methods: Methods::of(descriptors),
            metrics,
            limits,
            requests: Arc::new(Semaphore::new(limits.max_requests.min(Semaphore::MAX_PERMITS))),
            streams: Arc::new(Semaphore::new(limits.max_streams.min(Semaphore::MAX_PERMITS))),
            buckets: Buckets::new(limits.requests_per_second, limits.burst),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A place among the RPCs in flight; probes need none.
    fn admit(&self, method: &Method, peer: Option<Peer>) -> Result<Option<OwnedSemaphorePermit>, Error> {
        let shared = &*self.shared;
        if method.shape == Shape::Probe {
            return Ok(None);
        }
        if let Err(wait) = shared.buckets.take(peer) {
            let message =
                format!("more than {} requests a second from one caller", shared.limits.requests_per_second);
            return Err(Error::new(Reason::TooManyRequests, message).retry_after(wait));
        }
        match method.shape {
            Shape::Streaming => self.place_among_streams().map(Some),
            Shape::Unary | Shape::Probe => {
                let place = Arc::clone(&shared.requests).try_acquire_owned();
                place.map(Some).map_err(|_| {
                    let message = format!("more than {} requests at once", shared.limits.max_requests);
                    Error::new(Reason::TooManyRequests, message).retry_after(RETRY_SOON)
                })
            }
        }
    }

    /// A place among those that last: watches, and requests that wait.
    fn place_among_streams(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.shared.streams).try_acquire_owned().map_err(|_| {
            let most = self.shared.limits.max_streams;
            let message = format!("more than {most} watches and requests that wait at once");
            Error::new(Reason::TooManyStreams, message).retry_after(RETRY_SOON)
        })
    }
}

/// Passes one RPC on.
pub(super) async fn pass(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let method = gate.shared.methods.find(request.uri().path());
    let span = tracing::info_span!(
        "rpc",
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = %method.service,
        rpc.method = %method.name,
        rpc.grpc.status_code = tracing::field::Empty,
    );
    let parent = opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.extract(&TraceContext(request.headers()))
    });
    // Without a collector nothing takes a parent.
    let _ = span.set_parent(parent);

    let mut ended = Ended::new(gate.shared.metrics.clone(), method.clone(), span.clone());
    let place = match gate.admit(&method, request.extensions().get::<Peer>().copied()) {
        Ok(place) => place,
        Err(error) => return refuse(error, ended),
    };
    let given = given_timeout(request.headers());
    let stay = Stay::new(gate.clone(), place, gate.shared.limits.deadline, given);
    request.extensions_mut().insert(stay.clone());
    let began = Instant::now();
    let answer = AssertUnwindSafe(next.run(request).instrument(span)).catch_unwind();
    match stay.within(answer).await {
        Ok(Err(panic)) => refuse(panicked(&*panic), ended),
        Ok(Ok(response)) => {
            if let Some(error) = undecodable(response.headers()) {
                return refuse(error, ended);
            }
            let (parts, body) = response.into_parts();
            ended.head(&parts.headers);
            Response::from_parts(parts, Body::new(Counted::new(body, ended, stay)))
        }
        Err(TooLong) => {
            let message = format!("no answer within {}s", began.elapsed().as_secs_f64());
            refuse(Error::new(Reason::DeadlineExceeded, message), ended)
        }
    }
}

/// What to answer instead of a panic, whose message is for the log alone.
fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
    Error::internal("the request broke off", &text.unwrap_or("a panic without a message"))
}

/// What to answer instead of tonic's INTERNAL for a message that cannot be decoded: it is the caller's.
fn undecodable(headers: &HeaderMap) -> Option<Error> {
    const FAILED: &str = "failed to decode Protobuf message";
    let status = tonic::Status::from_header_map(headers)?;
    let is_theirs = status.code() == Code::Internal && status.message().starts_with(FAILED);
    is_theirs.then(|| Error::new(Reason::InvalidMessage, status.message()))
}

fn refuse(error: Error, mut ended: Ended) -> Response {
    ended.end(error.reason().code());
    tonic::Status::from(error).into_http()
}

/// How long the caller gives the answer to begin. A watch begins at once and then lasts.
fn given_timeout(headers: &HeaderMap) -> Option<Duration> {
    parse_timeout(headers.get("grpc-timeout")?.to_str().ok()?)
}

/// A timeout as gRPC over HTTP/2 writes it: at most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    const DIGITS: usize = 8;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

struct TraceContext<'a>(&'a HeaderMap);

impl Extractor for TraceContext<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// The name of a code as gRPC writes it, such as `NOT_FOUND`.
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, expected) in [
            ("5S", Some(Duration::from_secs(5))),
            ("1H", Some(Duration::from_secs(3600))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("", None),
            ("S", None),
            ("5", None),
            ("-5S", None),
            ("123456789S", None),
            ("5ä", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
    }

    /// What a caller gets from a handler, and what is counted.
    async fn called(response: impl Fn() -> Response + Clone + Send + Sync + 'static) -> (HeaderMap, String) {
        use http_body_util::BodyExt as _;
        use tower::ServiceExt as _;
        let metrics = Metrics::default();
        let gate = Gate::new(metrics.clone(), Limits::default(), &[crate::pb::DESCRIPTORS]);
        let router: axum::Router = axum::Router::new()
            .fallback(move || std::future::ready(response()))
            .layer(axum::middleware::from_fn_with_state(gate, pass));
        let uri = "/rolloutd.v1.RolloutService/GetRollout";
        let request = Request::builder().method("POST").uri(uri).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let mut headers = response.headers().clone();
        let body = response.into_body().collect().await.expect("the connection does not break");
        headers.extend(body.trailers().cloned().unwrap_or_default());
        (headers, metrics.text())
    }

    #[tokio::test]
    async fn a_panic_is_answered_and_counted_as_internal() {
        let handler = || -> Response { panic!("secret") };
        let stream = || {
            let frames =
                futures::stream::poll_fn(|_| -> std::task::Poll<Option<Result<bytes::Bytes, axum::Error>>> {
                    panic!("secret")
                });
            Response::new(Body::from_stream(frames))
        };
        for (headers, metrics) in [called(handler).await, called(stream).await] {
            let status = tonic::Status::from_header_map(&headers).expect("a gRPC status");
            assert_eq!(status.code(), Code::Internal);
            assert!(!format!("{headers:?}").contains("secret"));
            assert!(
                metrics.lines().any(|line| line.contains("GetRollout") && line.contains("INTERNAL")),
                "{metrics}"
            );
        }
    }
}
