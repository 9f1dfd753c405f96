//! A server that answers what a test prepared, and remembers what it was asked.

use std::any::{Any, TypeId};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures::{Stream, StreamExt as _, stream};
use rolloutd::pb::v1;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use v1::rollout_service_server::{RolloutService, RolloutServiceServer};
use v1::server_service_server::{ServerService, ServerServiceServer};

type Prepared = Result<Box<dyn Any + Send>, Status>;

/// What a prepared stream does after its last message.
pub(crate) enum End {
    /// Nothing, for ever.
    Hang,
    /// Ends, as a server does that goes away.
    Close,
    /// Fails.
    Fail(Status),
}

struct Streamed {
    trees: Vec<v1::RolloutTree>,
    end: End,
}

/// The server, still running as long as the test's runtime does.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    script: Arc<Script>,
}

#[derive(Default)]
struct Script {
    /// By the type of the answer; each is given once, in order.
    answers: Mutex<HashMap<TypeId, VecDeque<Prepared>>>,
    streams: Mutex<VecDeque<Streamed>>,
    requests: Mutex<Vec<Box<dyn Any + Send>>>,
    /// Who made each of the requests, as they said.
    actors: Mutex<Vec<Option<String>>>,
}

impl Server {
    /// Listens on a port of its own.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, script: Arc::default() };
        let serving = tonic::transport::Server::builder()
            .add_service(RolloutServiceServer::new(server.clone()))
            .add_service(ServerServiceServer::new(server.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        server
    }

    /// Prepares an answer to the method that gives this type.
    pub(crate) fn answer<T: Any + Send>(&self, answer: T) -> &Self {
        self.prepare(TypeId::of::<T>(), Ok(Box::new(answer)))
    }

    /// Prepares a refusal by the method that gives this type.
    pub(crate) fn refuse<T: Any>(&self, status: Status) -> &Self {
        self.prepare(TypeId::of::<T>(), Err(status))
    }

    fn prepare(&self, key: TypeId, answer: Prepared) -> &Self {
        self.script.answers.lock().unwrap().entry(key).or_default().push_back(answer);
        self
    }

    /// Prepares an answer to WatchRolloutTree.
    pub(crate) fn stream(&self, trees: impl IntoIterator<Item = v1::RolloutTree>, end: End) -> &Self {
        self.script.streams.lock().unwrap().push_back(Streamed { trees: trees.into_iter().collect(), end });
        self
    }

    /// The requests of a type that came, in order.
    pub(crate) fn requests<T: Any + Clone>(&self) -> Vec<T> {
        let requests = self.script.requests.lock().unwrap();
        requests.iter().filter_map(|request| request.downcast_ref::<T>()).cloned().collect()
    }

    /// The only request of a type.
    pub(crate) fn request<T: Any + Clone>(&self) -> T {
        let mut requests = self.requests::<T>();
        assert_eq!(requests.len(), 1, "{}", std::any::type_name::<T>());
        requests.remove(0)
    }

    /// How many requests came, of all types.
    pub(crate) fn request_count(&self) -> usize {
        self.script.requests.lock().unwrap().len()
    }

    /// Who made the requests that came.
    pub(crate) fn actors(&self) -> Vec<Option<String>> {
        self.script.actors.lock().unwrap().clone()
    }

    fn record<T: Any + Send>(&self, request: Request<T>) {
        let actor = request.metadata().get("rolloutd-actor").map(|actor| actor.to_str().unwrap().to_owned());
        self.script.actors.lock().unwrap().push(actor);
        self.script.requests.lock().unwrap().push(Box::new(request.into_inner()));
    }

    fn give<T: Any>(&self) -> Result<Response<T>, Status> {
        let mut answers = self.script.answers.lock().unwrap();
        let unprepared =
            || Err(Status::unimplemented(format!("{} was not prepared", std::any::type_name::<T>())));
        let answer =
            answers.get_mut(&TypeId::of::<T>()).and_then(VecDeque::pop_front).unwrap_or_else(unprepared)?;
        Ok(Response::new(*answer.downcast::<T>().unwrap()))
    }
}

/// Implements every unary method as «remember the request, give what was prepared».
macro_rules! serve {
    ($service:ident { $($method:ident($request:ident) -> $response:ident;)* } $($streams:tt)*) => {
        #[tonic::async_trait]
        impl $service for Server {
            $(async fn $method(&self, request: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                self.record(request);
                self.give()
            })*
            $($streams)*
        }
    };
}

serve! {
    ServerService {
        get_server_info(GetServerInfoRequest) -> GetServerInfoResponse;
        list_namespaces(ListNamespacesRequest) -> ListNamespacesResponse;
    }
}

serve! {
    RolloutService {
        get_rollout(GetRolloutRequest) -> GetRolloutResponse;
        list_rollouts(ListRolloutsRequest) -> ListRolloutsResponse;
        create_rollout(CreateRolloutRequest) -> CreateRolloutResponse;
        update_rollout(UpdateRolloutRequest) -> UpdateRolloutResponse;
        delete_rollout(DeleteRolloutRequest) -> DeleteRolloutResponse;
        get_rollout_tree(GetRolloutTreeRequest) -> GetRolloutTreeResponse;
        apply_manifest(ApplyManifestRequest) -> ApplyManifestResponse;
        set_rollout_image(SetRolloutImageRequest) -> SetRolloutImageResponse;
        promote_rollout(PromoteRolloutRequest) -> PromoteRolloutResponse;
        pause_rollout(PauseRolloutRequest) -> PauseRolloutResponse;
        resume_rollout(ResumeRolloutRequest) -> ResumeRolloutResponse;
        abort_rollout(AbortRolloutRequest) -> AbortRolloutResponse;
        retry_rollout(RetryRolloutRequest) -> RetryRolloutResponse;
        rollback_rollout(RollbackRolloutRequest) -> RollbackRolloutResponse;
        restart_rollout(RestartRolloutRequest) -> RestartRolloutResponse;
        scale_rollout(ScaleRolloutRequest) -> ScaleRolloutResponse;
        set_rollout_metadata(SetRolloutMetadataRequest) -> SetRolloutMetadataResponse;
        list_revisions(ListRevisionsRequest) -> ListRevisionsResponse;
        get_revision(GetRevisionRequest) -> GetRevisionResponse;
        diff_revisions(DiffRevisionsRequest) -> DiffRevisionsResponse;
        list_rollout_activity(ListRolloutActivityRequest) -> ListRolloutActivityResponse;
        plan_rollout(PlanRolloutRequest) -> PlanRolloutResponse;
        explain_rollout(ExplainRolloutRequest) -> ExplainRolloutResponse;
    }

    type WatchRolloutsStream = Pin<Box<dyn Stream<Item = Result<v1::WatchRolloutsResponse, Status>> + Send>>;

    async fn watch_rollouts(
        &self,
        _: Request<v1::WatchRolloutsRequest>,
    ) -> Result<Response<Self::WatchRolloutsStream>, Status> {
        Err(Status::unimplemented("rolloutctl does not watch lists"))
    }

    type WatchRolloutTreeStream = Pin<Box<dyn Stream<Item = Result<v1::WatchRolloutTreeResponse, Status>> + Send>>;

    async fn watch_rollout_tree(
        &self,
        request: Request<v1::WatchRolloutTreeRequest>,
    ) -> Result<Response<Self::WatchRolloutTreeStream>, Status> {
        self.record(request);
        let prepared = self.script.streams.lock().unwrap().pop_front();
        let Streamed { trees, end } =
            prepared.ok_or_else(|| Status::failed_precondition("no stream was prepared"))?;
        let trees = trees.into_iter().map(|tree| Ok(v1::WatchRolloutTreeResponse { tree: Some(tree) }));
        let end = match end {
            End::Hang => stream::pending().boxed(),
            End::Close => stream::empty().boxed(),
            End::Fail(status) => stream::iter([Err(status)]).boxed(),
        };
        Ok(Response::new(stream::iter(trees).chain(end).boxed()))
    }
}
