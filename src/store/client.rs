//! What every request to the API server passes through: a name, a rate limit, and a count.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response, header};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

use crate::clock;
use crate::telemetry::{Metrics, RequestLabels};

/// How long requests may wait for their turn at most, by the rate: half of a request's deadline, so that none passes its own
/// here.
const LONGEST_QUEUE: Duration = Duration::from_secs(5);

/// What a timer can tell apart.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// How many requests may wait however low the rate is: as many as workers, events and watches send at once.
const SHORTEST_QUEUE: usize = 32;

/// Lets so many requests a second pass, and so many at once (`--qps`, `--burst`). Clones are the same throttle.
///
/// In order of arrival. A request that is given up while it waits has taken nothing.
#[derive(Clone, Debug)]
pub struct Throttle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Places in the queue.
    places: Semaphore,
    /// Whose turn it is; fair.
    turn: tokio::sync::Mutex<()>,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    per_second: f64,
    burst: f64,
    /// Tokens that are there.
    tokens: f64,
    counted: Instant,
}

/// Too many requests wait already; nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests to the API server wait for their turn (--qps)")]
pub struct Throttled;

impl Throttle {
    /// A throttle; a rate that is not positive throttles nothing.
    #[must_use]
    pub fn new(per_second: f64, burst: u32) -> Self {
        let burst = f64::from(burst.max(1));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, and is bounded below"
        )]
        let places = (per_second * LONGEST_QUEUE.as_secs_f64()) as usize;
        let places = Semaphore::new(places.clamp(SHORTEST_QUEUE, Semaphore::MAX_PERMITS));
        let bucket = Mutex::new(Bucket { per_second, burst, tokens: burst, counted: Instant::now() });
        Self { shared: Arc::new(Shared { places, turn: tokio::sync::Mutex::default(), bucket }) }
    }

    /// Waits for its turn.
    pub(crate) async fn pass(&self) -> Result<(), Throttled> {
        let shared = &*self.shared;
        if shared.bucket().is_unlimited() {
            return Ok(());
        }
        let _place = shared.places.try_acquire().map_err(|_| Throttled)?;
        let _turn = shared.turn.lock().await;
        loop {
            let taken = shared.bucket().take();
            match taken {
                Ok(()) => return Ok(()),
                Err(wait) => clock::real_sleep(wait).await,
            }
        }
    }
}

impl Shared {
    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn is_unlimited(&self) -> bool {
        !self.per_second.is_finite() || self.per_second <= 0.0
    }

    /// Takes a token, or says when there will be one.
    fn take(&mut self) -> Result<(), Duration> {
        let now = Instant::now();
        let earned = (now - self.counted).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + earned).min(self.burst);
        self.counted = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let wait = Duration::try_from_secs_f64((1.0 - self.tokens) / self.per_second);
        // Rounding must not make it wait for nothing.
        Err(wait.unwrap_or(Duration::MAX).max(SHORTEST_WAIT))
    }
}

/// Names, throttles and counts requests.
#[derive(Clone, Debug)]
pub struct Requests {
    /// The User-Agent.
    pub agent: HeaderValue,
    /// The rate limit.
    pub throttle: Throttle,
    /// Counts answers.
    pub metrics: Metrics,
}

impl<S> Layer<S> for Requests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, requests: self.clone() }
    }
}

/// A service with [`Requests`] around it.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    requests: Requests,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let requests = self.requests.clone();
        request.headers_mut().insert(header::USER_AGENT, requests.agent.clone());
        let about = About::of(&request);
        // Nothing is sent before the answer is first waited for, which is after the throttle.
        let answer = self.inner.call(request);
        Box::pin(async move {
            requests.throttle.pass().await?;
            let answer = answer.await;
            let code = answer
                .as_ref()
                .map_or_else(|_| "none".to_owned(), |answer| answer.status().as_str().to_owned());
            requests.metrics.request(&about.labels(code));
            answer
        })
    }
}

/// What a request is about, by its path (Kubernetes API conventions).
struct About {
    kind: String,
    namespace: String,
    verb: &'static str,
}

impl About {
    fn of<B>(request: &Request<B>) -> Self {
        let path: Vec<&str> = request.uri().path().split('/').filter(|part| !part.is_empty()).collect();
        // api/v1/... or apis/group/version/...
        let rest = match path.as_slice() {
            ["api", _, rest @ ..] | ["apis", _, _, rest @ ..] => rest,
            _ => &[],
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
            rest => ("", rest),
        };
        let (kind, named) = match rest {
            [kind] => (*kind, false),
            [kind, _, ..] => (*kind, true),
            [] => ("", true),
        };
        let watches = request
            .uri()
            .query()
            .is_some_and(|query| query.contains("watch=true") || query.contains("watch=1"));
        let verb = match request.method().as_str() {
            "GET" if watches => "Watch",
            "GET" if named => "Get",
            "GET" => "List",
            "POST" => "Create",
            "PUT" => "Update",
            "PATCH" => "Patch",
            "DELETE" => "Delete",
            _ => "Unknown",
        };
        Self { kind: kind.to_owned(), namespace: namespace.to_owned(), verb }
    }

    fn labels(self, status_code: String) -> RequestLabels {
        RequestLabels { kind: self.kind, namespace: self.namespace, verb: self.verb.to_owned(), status_code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_by_its_path() {
        for (method, uri, kind, namespace, verb) in [
            ("GET", "/apis/argoproj.io/v1alpha1/rollouts?watch=true", "rollouts", "", "Watch"),
            ("GET", "/apis/apps/v1/namespaces/shop/replicasets", "replicasets", "shop", "List"),
            ("GET", "/api/v1/namespaces/shop/pods/web-1", "pods", "shop", "Get"),
            (
                "PATCH",
                "/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts/web/status",
                "rollouts",
                "shop",
                "Patch",
            ),
            ("GET", "/api/v1/namespaces/shop", "namespaces", "", "Get"),
            ("GET", "/version", "", "", "Get"),
        ] {
            let request = Request::builder().method(method).uri(uri).body(()).unwrap();
            let about = About::of(&request);
            assert_eq!(
                (&*about.kind, &*about.namespace, about.verb),
                (kind, namespace, verb),
                "{method} {uri}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let throttle = Throttle::new(10.0, 5);
        let began = Instant::now();
        for _ in 0..5 {
            throttle.pass().await.unwrap();
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        for _ in 0..10 {
            throttle.pass().await.unwrap();
        }
        assert_eq!(began.elapsed().as_millis().div_ceil(100), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_that_is_not_positive_throttles_nothing() {
        let throttle = Throttle::new(-1.0, 1);
        let began = Instant::now();
        for _ in 0..1000 {
            throttle.pass().await.unwrap();
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_has_taken_nothing() {
        let throttle = Throttle::new(10.0, 1);
        throttle.pass().await.unwrap();
        for _ in 0..20 {
            let given_up = tokio::time::timeout(Duration::ZERO, throttle.pass()).await;
            assert!(given_up.is_err());
        }
        let began = Instant::now();
        throttle.pass().await.unwrap();
        assert!(began.elapsed() <= Duration::from_millis(101), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_wait_than_pass_within_a_requests_deadline() {
        let throttle = Throttle::new(10.0, 1);
        let mut requests: futures::stream::FuturesUnordered<_> = (0..1000).map(|_| throttle.pass()).collect();
        let began = Instant::now();
        let (mut passed, mut refused) = (0, 0);
        while let Some(request) = futures::StreamExt::next(&mut requests).await {
            match request {
                Ok(()) => passed += 1,
                Err(Throttled) => refused += 1,
            }
        }
        // One passed at once.
        assert_eq!((passed, refused), (51, 949));
        assert_eq!(began.elapsed().as_millis() / 100, LONGEST_QUEUE.as_millis() / 100);
    }
}
