//! The server: from an HTTP request to its answer, in process or over a socket.
//!
//! Depends on everything below it. One lock holds the state for the length of a request: requests are atomic, and the
//! order in which they take the lock is the order of their revisions. With a cluster on disk, requests that write have
//! a lock and a state of their own ([`super::durable`]).

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{HeaderValue, USER_AGENT};
use http::{Request as HttpRequest, Response};
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tower::BoxError;

use super::audit::{Audit, AuditKey, CodeClass, Effect, Verb};
use super::call::Call;
use super::durable::{Database, Durable, OpenError};
use super::http::Request;
use super::http::body::BODY_MAX;
use super::http::options::{ListOptions, Mode};
use super::http::reply::{AnswerBody, Reply};
use super::http::route::{self, Route, Target};
use super::read::{self, Beginning};
use super::resource::Subresource;
use super::state::{State, Write};
use super::status::{ApiError, GroupResource};
use super::stream::{Bookmarks, Watch, WatchBody};
use super::{Config, discovery, openapi, write};
use crate::clock::Clock;

/// A Kubernetes API server, in memory or on disk. Cheap to clone; clones are the same server.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    /// What readers see; on disk, all of it is durable.
    state: Arc<Mutex<State>>,
    /// Who takes the writes of a cluster on disk.
    durable: Option<Arc<Durable>>,
    audit: Mutex<Audit>,
}

impl ApiServer {
    /// A new, empty cluster with the namespaces default, kube-system, kube-public and kube-node-lease.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let state = State::new(config.seed, config.history_limit, config.clock.now());
        Self::over(config.clock, Arc::new(Mutex::new(state)), None)
    }

    /// The cluster that `database` holds, or a new one there. Its objects, their revisions and the recent changes are
    /// those of its last life; the seed counts for a new one only. The clock must not go back before
    /// [`Database::time`].
    ///
    /// # Errors
    ///
    /// The disk refuses a new cluster.
    pub fn stored(config: Config, database: Database) -> Result<Self, OpenError> {
        let Config { clock, seed, history_limit } = config;
        let now = clock.now();
        let new = || State::new(seed, history_limit, now);
        let (durable, settled) = Durable::start(database, history_limit, now, new)?;
        Ok(Self::over(clock, settled, Some(durable)))
    }

    fn over(clock: Clock, state: Arc<Mutex<State>>, durable: Option<Arc<Durable>>) -> Self {
        Self { shared: Arc::new(Shared { clock, state, durable, audit: Mutex::default() }) }
    }

    /// Stores what is still to be stored and closes the database; writes are refused from then on. A cluster in memory
    /// goes on.
    pub async fn close(&self) {
        if let Some(durable) = &self.shared.durable {
            durable.close().await;
        }
    }

    /// A client of this server, without a socket between them. `user_agent` is sent with each request; requests are
    /// counted by it.
    ///
    /// Must be called within a tokio runtime: the client buffers requests in a task.
    #[must_use]
    pub fn client(&self, user_agent: &str) -> kube::Client {
        kube::Client::new(self.service(user_agent), "default")
    }

    /// The server as a tower service. `user_agent` replaces what requests say of themselves; empty leaves it.
    #[must_use]
    pub fn service(&self, user_agent: &str) -> Service {
        let user_agent = HeaderValue::from_str(user_agent).ok().filter(|value| !value.is_empty());
        Service { server: self.clone(), user_agent, shutdown: CancellationToken::new() }
    }

    /// The server for one listener, whose watches end with `shutdown`.
    pub(crate) fn service_until(&self, shutdown: CancellationToken) -> Service {
        Service { server: self.clone(), user_agent: None, shutdown }
    }

    /// The requests answered so far.
    #[must_use]
    pub fn audit(&self) -> Audit {
        self.lock_audit().clone()
    }

    /// Calls `hook` for each committed write, in the order of commits and before the next request begins; with a
    /// cluster on disk, for each durable write before it is answered. The hook reads the objects as of that write; it
    /// must not send requests to this server and wait for them, for the server waits for it.
    pub fn on_write(&self, hook: impl Fn(&Write<'_>) + Send + 'static) {
        self.lock_state().add_hook(Box::new(hook));
    }

    /// How many watches are open.
    #[must_use]
    pub fn open_watches(&self) -> usize {
        self.with_state(|state| state.hub.len())
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    pub(crate) fn with_state<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.lock_state())
    }

    /// A hook that panics in a test must not take the server with it: every write is committed before hooks run.
    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_audit(&self) -> MutexGuard<'_, Audit> {
        self.shared.audit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request.
    async fn answer(&self, request: &Request, shutdown: &CancellationToken) -> Reply {
        let route = Route::parse(&request.path);
        let Route::Resource(target) = route else {
            let answered = self.read(|state| document(state, request, &route)).await;
            let reply = answered.unwrap_or_else(|error| Reply::error(&error));
            self.count(request, Verb::Get, None, &reply, Effect::Real);
            return reply;
        };
        let verb = route::verb(&request.method, &target, &request.query);
        let act = |state: &mut State| self.resource(state, request, &target, shutdown);
        let (answered, effect) = match &self.shared.durable {
            Some(durable) if verb.is_some_and(Verb::is_write) => {
                let written = durable.write(|| self.now(), act).await;
                written.unwrap_or_else(|error| (Err(error), Effect::Real))
            }
            _ => self.read(act).await,
        };
        let reply = answered.unwrap_or_else(|error| Reply::error(&error));
        if let Some(verb) = verb {
            self.count(request, verb, Some(&target), &reply, effect);
        }
        reply
    }

    /// Carries out a request on what everybody may see. In memory that is all there is, so that it may write as well.
    async fn read<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let Some(durable) = &self.shared.durable else {
            let mut state = self.lock_state();
            state.begin(self.now());
            return act(&mut state);
        };
        let has_expired = self.lock_state().has_expired(self.now());
        if has_expired && let Err(error) = durable.write(|| self.now(), |_| ()).await {
            // Better to show what has expired than nothing.
            tracing::warn!(%error, "what has expired cannot be removed");
        }
        let mut state = self.lock_state();
        state.look(self.now());
        act(&mut state)
    }

    fn resource(
        &self,
        state: &mut State,
        request: &Request,
        target: &Target,
        shutdown: &CancellationToken,
    ) -> (Result<Reply, ApiError>, Effect) {
        let mut call = match Call::resolve(state, request, target.clone()) {
            Ok(call) => call,
            Err(error) => return (Err(error), Effect::Real),
        };
        let answered = self.carry_out(state, &mut call, shutdown);
        let warnings = std::mem::take(&mut call.warnings);
        // A refused request carries its warnings too.
        let mut reply = answered.unwrap_or_else(|error| Reply::error(&error));
        reply.warnings.extend(warnings);
        (Ok(reply), call.options.effect)
    }

    fn carry_out(
        &self,
        state: &mut State,
        call: &mut Call<'_>,
        shutdown: &CancellationToken,
    ) -> Result<Reply, ApiError> {
        match call.verb {
            Verb::Get => read::get(state, call),
            Verb::List => read::list(state, call),
            Verb::Watch => self.watch(state, call, shutdown),
            Verb::Create => match call.subresource {
                Some(Subresource::Binding) => write::binding::bind(state, call),
                Some(Subresource::Eviction) => write::eviction::evict(state, call),
                _ => write::create::create(state, call),
            },
            Verb::Update => write::update::update(state, call),
            Verb::Patch => write::patch::patch(state, call),
            Verb::Delete => write::delete::delete(state, call),
            Verb::DeleteCollection => write::delete::delete_collection(state, call),
        }
    }

    fn watch(
        &self,
        state: &mut State,
        call: &Call<'_>,
        shutdown: &CancellationToken,
    ) -> Result<Reply, ApiError> {
        let options = ListOptions::parse(&call.request.query, Mode::Watch)?;
        let subscription = match read::watch(state, call, &options)? {
            Beginning::Subscribed(subscription) => subscription,
            Beginning::Expired(error) => return Ok(Reply::watch(WatchBody::error(&error))),
        };
        let bookmarks = if options.bookmarks { Bookmarks::Wanted } else { Bookmarks::Unwanted };
        let watch = Watch::new(
            self.clone(),
            subscription,
            call.presenter(),
            bookmarks,
            options.timeout_seconds,
            shutdown.clone(),
        );
        Ok(Reply::watch(WatchBody::new(watch)))
    }

    fn count(&self, request: &Request, verb: Verb, target: Option<&Target>, reply: &Reply, effect: Effect) {
        self.lock_audit().record(AuditKey {
            user_agent: request.user_agent.clone(),
            verb,
            resource: target.map(|target| GroupResource::new(&target.group, &target.plural)),
            subresource: target.map(|target| target.subresource.clone()).unwrap_or_default(),
            effect,
            class: CodeClass::of(reply.code),
        });
    }
}

/// Documents that are about no object: discovery, OpenAPI, version, health.
fn document(state: &mut State, request: &Request, route: &Route) -> Result<Reply, ApiError> {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Err(match route {
            Route::Unknown => ApiError::UnknownPath,
            _ => ApiError::MethodNotAllowed,
        });
    }
    match route {
        Route::CoreVersions => discovery::core_versions(&state.catalog, &request.headers),
        Route::Groups => discovery::groups(&state.catalog, &request.headers),
        Route::Group(group) => discovery::group(&state.catalog, group),
        Route::Resources { group, version } => discovery::resources(&state.catalog, group, version),
        Route::OpenApiIndex => Ok(openapi::index(&state.catalog)),
        Route::OpenApi { group, version } => openapi::document(state, group, version),
        Route::Version => Ok(discovery::version()),
        Route::Health => Ok(Reply::text("ok")),
        Route::Resource(_) | Route::Unknown => Err(ApiError::UnknownPath),
    }
}

/// The server as a tower service.
#[derive(Clone)]
pub struct Service {
    server: ApiServer,
    user_agent: Option<HeaderValue>,
    shutdown: CancellationToken,
}

impl<B> tower::Service<HttpRequest<B>> for Service
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<AnswerBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<B>) -> Self::Future {
        let Self { server, user_agent, shutdown } = self.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            if let Some(user_agent) = user_agent {
                parts.headers.insert(USER_AGENT, user_agent);
            }
            let reply = match Limited::new(body, BODY_MAX).collect().await {
                Ok(body) => server.answer(&Request::new(&parts, body.to_bytes()), &shutdown).await,
                Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                    Reply::error(&ApiError::TooLarge(format!("limit is {BODY_MAX}")))
                }
                Err(error) => Reply::error(&ApiError::bad_request(error.to_string())),
            };
            Ok(reply.into_response())
        })
    }
}
