//! What goes wrong between clients and the API server: a layer over every call and every watch.
//!
//! All chance comes from one seed, drawn in the order of the requests, so that the same program meets the same faults.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body as Answer;
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::client::Body;
use rolloutd::apiserver::ApiServer;
use rolloutd::clock::real_sleep;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower::BoxError;

/// How much goes wrong; chances are in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub struct Storm {
    /// A request is refused before it does anything.
    pub refused: u32,
    /// A request is carried out and its answer lost.
    pub lost: u32,
    /// The longest time that a request takes.
    pub delay: Duration,
    /// A watch ends at an event.
    pub dropped: u32,
    /// A watch is told that its version is too old.
    pub expired: u32,
    /// An event comes late; its watch stays in order, others overtake it.
    pub late: u32,
    /// The latest.
    pub latest: Duration,
}

/// Writes that are refused as an admission webhook does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Webhook {
    /// Those of ReplicaSets.
    ReplicaSets,
    /// Those of Rollouts, their status included.
    Rollouts,
    /// Those of Services.
    Services,
    /// Those of pods: evictions.
    Pods,
}

impl Webhook {
    fn resource(self) -> &'static str {
        match self {
            Self::ReplicaSets => "replicasets",
            Self::Rollouts => "rollouts",
            Self::Services => "services",
            Self::Pods => "pods",
        }
    }
}

/// The weather over one cluster. Cheap to clone; clones are the same weather.
#[derive(Clone)]
pub struct Weather {
    inner: Arc<Mutex<Inner>>,
    away: Arc<Away>,
}

/// Whether the API server is away. Those who wait for it are woken in order, which a watch channel of tokio does not promise.
#[derive(Default)]
struct Away {
    is: AtomicBool,
    begins: Notify,
}

impl Away {
    fn is(&self) -> bool {
        self.is.load(Ordering::SeqCst)
    }

    async fn begins(&self) {
        let mut begins = std::pin::pin!(self.begins.notified());
        // From here on no beginning is missed.
        begins.as_mut().enable();
        if !self.is() {
            begins.await;
        }
    }
}

struct Inner {
    random: fastrand::Rng,
    storm: Storm,
    webhooks: Vec<Webhook>,
    /// Whether a quota forbids pods.
    quota: bool,
    every_second: Option<EverySecond>,
}

/// The first attempt of every second write of a worker is answered 409.
#[derive(Default)]
struct EverySecond {
    writes: usize,
    refused: Option<String>,
}

/// The wire of one process.
#[derive(Clone, Default)]
pub struct Wire {
    cut: Arc<AtomicBool>,
    parted: Arc<AtomicBool>,
}

impl Wire {
    /// Nothing arrives or is answered any more, as if the process had died.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Every request fails, until they are joined again.
    pub fn part(&self) {
        self.parted.store(true, Ordering::SeqCst);
    }

    pub fn join(&self) {
        self.parted.store(false, Ordering::SeqCst);
    }

    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst)
    }

    fn is_parted(&self) -> bool {
        self.parted.load(Ordering::SeqCst)
    }
}

/// What a request is about.
struct Asked {
    method: Method,
    path: String,
    resource: String,
    is_watch: bool,
    /// Sent by a worker of the control plane.
    by_worker: bool,
    by_simcluster: bool,
}

impl Asked {
    fn of(request: &Request<Body>, agent: &str) -> Self {
        let uri = request.uri();
        let segments: Vec<&str> = uri.path().split('/').collect();
        let namespaced = segments.iter().position(|segment| *segment == "namespaces");
        let resource = namespaced.map_or(segments.last(), |at| segments.get(at + 2));
        Self {
            method: request.method().clone(),
            path: uri.path().to_owned(),
            resource: resource.copied().unwrap_or_default().to_owned(),
            is_watch: uri.query().is_some_and(|query| query.contains("watch=true")),
            by_worker: agent.ends_with("(workers)"),
            by_simcluster: agent == "simcluster",
        }
    }

    fn writes(&self) -> bool {
        self.method != Method::GET
    }
}

/// What becomes of a request.
struct Fate {
    delay: Duration,
    refused: Option<Refusal>,
    lost: bool,
}

enum Refusal {
    Status(StatusCode, &'static str, &'static str),
    Unreachable,
}

impl Weather {
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            random: fastrand::Rng::with_seed(seed),
            storm: Storm::default(),
            webhooks: Vec::new(),
            quota: false,
            every_second: None,
        };
        Self { inner: Arc::new(Mutex::new(inner)), away: Arc::default() }
    }

    pub fn storm(&self, storm: Storm) {
        self.inner.lock().unwrap().storm = storm;
    }

    /// No pods can be created, until the quota is lifted.
    pub fn impose_quota(&self) {
        self.inner.lock().unwrap().quota = true;
    }

    pub fn lift_quota(&self) {
        self.inner.lock().unwrap().quota = false;
    }

    /// The webhook refuses, until it admits again.
    pub fn refuse(&self, webhook: Webhook) {
        self.admit(webhook);
        self.inner.lock().unwrap().webhooks.push(webhook);
    }

    pub fn admit(&self, webhook: Webhook) {
        self.inner.lock().unwrap().webhooks.retain(|other| *other != webhook);
    }

    /// From now on every second write of a worker meets a conflict at first.
    pub fn conflict_at_every_second_write(&self) {
        self.inner.lock().unwrap().every_second = Some(EverySecond::default());
    }

    /// The API server cannot be reached, until it comes back.
    pub fn go_away(&self) {
        self.away.is.store(true, Ordering::SeqCst);
        self.away.begins.notify_waiters();
    }

    pub fn come_back(&self) {
        self.away.is.store(false, Ordering::SeqCst);
    }

    /// No faults any more.
    pub fn clear(&self) {
        self.come_back();
        let mut inner = self.inner.lock().unwrap();
        inner.storm = Storm::default();
        inner.webhooks.clear();
        inner.quota = false;
    }

    /// A client of the API server through this weather.
    pub fn client(&self, api: &ApiServer, agent: &'static str, wire: &Wire) -> kube::Client {
        let (client, weather, wire) = (api.client(agent), self.clone(), wire.clone());
        let send = tower::service_fn(move |request: Request<Body>| {
            let asked = Asked::of(&request, agent);
            let (client, weather, wire) = (client.clone(), weather.clone(), wire.clone());
            async move { weather.send(client, request, asked, wire).await }
        });
        kube::Client::new(send, "default")
    }

    async fn send(
        self,
        client: kube::Client,
        request: Request<Body>,
        asked: Asked,
        wire: Wire,
    ) -> Result<Response<Answer>, BoxError> {
        if wire.is_cut() {
            return std::future::pending().await;
        }
        let fate = self.fate(&asked, &wire);
        real_sleep(fate.delay).await;
        if wire.is_cut() {
            return std::future::pending().await;
        }
        match fate.refused {
            Some(Refusal::Unreachable) => return Err("connection refused".into()),
            Some(Refusal::Status(code, reason, message)) => return Ok(failure(code, reason, message)),
            None => {}
        }
        let answer = client.send(request).await?;
        if wire.is_cut() {
            return std::future::pending().await;
        }
        if fate.lost {
            return Err("connection reset by peer".into());
        }
        Ok(if asked.is_watch && answer.status().is_success() {
            answer.map(|body| Answer::new(http_body_util::StreamBody::new(self.events(body, wire))))
        } else {
            answer.map(Answer::new)
        })
    }

    fn fate(&self, asked: &Asked, wire: &Wire) -> Fate {
        let mut inner = self.inner.lock().unwrap();
        let Inner { random, storm, webhooks, quota, every_second } = &mut *inner;
        let delay = random_up_to(random, storm.delay);
        let refused = if self.away.is() || wire.is_parted() {
            Some(Refusal::Unreachable)
        } else if asked.writes()
            && asked.by_worker
            && webhooks.iter().any(|webhook| webhook.resource() == asked.resource)
        {
            let message = "admission webhook \"policy.test\" denied the request: not now";
            Some(Refusal::Status(StatusCode::BAD_REQUEST, "BadRequest", message))
        } else if *quota
            && asked.by_simcluster
            && asked.method == Method::POST
            && asked.path.ends_with("/pods")
        {
            let message = "pods \"web\" is forbidden: exceeded quota: small, requested: pods=1, used: pods=0, limited: pods=0";
            Some(Refusal::Status(StatusCode::FORBIDDEN, "Forbidden", message))
        } else if asked.by_worker
            && asked.writes()
            && every_second.as_mut().is_some_and(|rule| rule.refuses(&asked.path))
        {
            Some(conflict())
        } else if happens(random, if asked.is_watch { storm.expired } else { 0 }) {
            Some(Refusal::Status(StatusCode::GONE, "Expired", "too old resource version"))
        } else if happens(random, storm.refused) {
            Some(any_refusal(random, asked))
        } else {
            None
        };
        let lost = happens(random, storm.lost);
        Fate { delay, refused, lost }
    }

    /// The events of a watch, late, and perhaps cut short.
    fn events(
        self,
        body: Body,
        wire: Wire,
    ) -> impl futures::Stream<Item = Result<http_body::Frame<Bytes>, BoxError>> + Send {
        let open = Some((body.into_data_stream(), self, wire));
        futures::stream::unfold(open, |open| async {
            let (mut events, weather, wire) = open?;
            let next = tokio::select! {
                biased;
                () = weather.away.begins() => None,
                next = events.next() => next,
            };
            let (late, dropped) = weather.event();
            real_sleep(late).await;
            if wire.is_cut() {
                return std::future::pending().await;
            }
            match next {
                Some(Ok(event)) if !dropped && !wire.is_parted() => {
                    Some((Ok(http_body::Frame::data(event)), Some((events, weather, wire))))
                }
                Some(Err(error)) => Some((Err(error.into()), None)),
                // As a connection that breaks: no end that the server meant.
                Some(Ok(_)) => Some((Err("connection reset by peer".into()), None)),
                None => None,
            }
        })
    }

    /// How late an event comes, and whether its watch breaks there.
    fn event(&self) -> (Duration, bool) {
        let mut inner = self.inner.lock().unwrap();
        let Inner { random, storm, .. } = &mut *inner;
        let late =
            if happens(random, storm.late) { random_up_to(random, storm.latest) } else { Duration::ZERO };
        (late, happens(random, storm.dropped))
    }
}

impl EverySecond {
    fn refuses(&mut self, path: &str) -> bool {
        if self.refused.take().as_deref() == Some(path) {
            return false;
        }
        self.writes += 1;
        let refuses = self.writes.is_multiple_of(2);
        self.refused = refuses.then(|| path.to_owned());
        refuses
    }
}

fn happens(random: &mut fastrand::Rng, thousandths: u32) -> bool {
    thousandths > 0 && random.u32(0..1000) < thousandths
}

fn random_up_to(random: &mut fastrand::Rng, most: Duration) -> Duration {
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(if most == 0 { 0 } else { random.u64(0..=most) })
}

fn conflict() -> Refusal {
    let message = "Operation cannot be fulfilled: the object has been modified; please apply your changes to the latest version and try again";
    Refusal::Status(StatusCode::CONFLICT, "Conflict", message)
}

fn any_refusal(random: &mut fastrand::Rng, asked: &Asked) -> Refusal {
    match random.u32(0..6) {
        0 => Refusal::Unreachable,
        1 => {
            Refusal::Status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "etcdserver: leader changed")
        }
        2 => Refusal::Status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "apiserver not ready"),
        3 => Refusal::Status(
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequests",
            "too many requests, please try again later",
        ),
        4 => Refusal::Status(
            StatusCode::GATEWAY_TIMEOUT,
            "Timeout",
            "request did not complete within the allotted timeout",
        ),
        _ if asked.writes() => conflict(),
        _ => Refusal::Status(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            "etcdserver: request timed out",
        ),
    }
}

/// An answer as the API server gives it.
fn failure(code: StatusCode, reason: &str, message: &str) -> Response<Answer> {
    let status: Value = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code.as_u16(), "reason": reason, "message": message,
    });
    let body = http_body_util::Full::new(Bytes::from(status.to_string()))
        .map_err(|never: Infallible| match never {});
    let answer = Response::builder().status(code).header("content-type", "application/json");
    answer.body(Answer::new(body)).expect("a fixed answer is well-formed")
}
