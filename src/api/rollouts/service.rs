//! The service as tonic has it: each method hands its request to the file that owns it, and turns errors into statuses.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::Rollouts;
use crate::api::answer::Written;
use crate::api::call::Call;
use crate::api::error::Error;
use crate::api::mutating::Mutating;
use crate::api::name;
use crate::api::rpc::Stay;
use crate::pb::v1::rollout_service_server::RolloutService;
use crate::pb::v1::{
    AbortRolloutRequest, AbortRolloutResponse, ApplyManifestRequest, ApplyManifestResponse,
    CreateRolloutRequest, CreateRolloutResponse, DeleteRolloutRequest, DeleteRolloutResponse,
    DiffRevisionsRequest, DiffRevisionsResponse, ExplainRolloutRequest, ExplainRolloutResponse,
    GetRevisionRequest, GetRevisionResponse, GetRolloutRequest, GetRolloutResponse, GetRolloutTreeRequest,
    GetRolloutTreeResponse, ListRevisionsRequest, ListRevisionsResponse, ListRolloutActivityRequest,
    ListRolloutActivityResponse, ListRolloutsRequest, ListRolloutsResponse, PauseRolloutRequest,
    PauseRolloutResponse, PlanRolloutRequest, PlanRolloutResponse, PromoteRolloutRequest,
    PromoteRolloutResponse, RestartRolloutRequest, RestartRolloutResponse, ResumeRolloutRequest,
    ResumeRolloutResponse, RetryRolloutRequest, RetryRolloutResponse, RollbackRolloutRequest,
    RollbackRolloutResponse, ScaleRolloutRequest, ScaleRolloutResponse, SetRolloutImageRequest,
    SetRolloutImageResponse, SetRolloutMetadataRequest, SetRolloutMetadataResponse, UpdateRolloutRequest,
    UpdateRolloutResponse, WatchRolloutTreeRequest, WatchRolloutTreeResponse, WatchRolloutsRequest,
    WatchRolloutsResponse,
};

type Answer<A> = Result<Response<A>, Status>;
/// On the heap: requests and what is made of them are large, and would stand on the stack once for each caller.
type Run<A> = Pin<Box<dyn Future<Output = Result<A, Error>> + Send>>;
type Answers<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

fn answer<A>(outcome: Result<A, Error>) -> Answer<A> {
    outcome.map(Response::new).map_err(Status::from)
}

fn answers<A, S>(outcome: Result<S, Error>) -> Answer<Answers<A>>
where
    S: Stream<Item = Result<A, Error>> + Send + 'static,
{
    let stream = outcome.map_err(Status::from)?;
    Ok(Response::new(Box::pin(stream.map(|item| item.map_err(Status::from)))))
}

impl Rollouts {
    /// Carries a mutation out, once for each request id, and waits until what was changed settles, when that is asked for.
    async fn change<R, A>(&self, request: Request<R>, run: fn(Self, R) -> Run<A>) -> Result<A, Error>
    where
        R: Mutating,
        A: Written,
    {
        let stay = request.extensions().get::<Stay>().cloned();
        let service = Self { call: Arc::new(Call::of(&request)), ..self.clone() };
        let request = request.into_inner();
        let wait = self.context.patience(request.wait())?.filter(|_| !request.validate_only());
        if let (Some(wait), Some(stay)) = (wait, stay) {
            stay.extend(wait)?;
        }
        let mut id = request.request_id().to_owned();
        if request.validate_only() && !id.is_empty() {
            // What changes nothing may be asked again, and is no answer to the request itself.
            super::super::request_id::parse(&std::mem::take(&mut id))?;
        }
        let encoded = if id.is_empty() { Vec::new() } else { request.encode_to_vec() };
        let run = Box::pin(service.told(request, run));
        let mut answer = match id.as_str() {
            "" => run.await?,
            id => self.context.request_ids.once(id, R::METHOD, encoded, run).await?,
        };
        if let Some(wait) = wait {
            self.context.settle(&mut answer, wait).await?;
        }
        Ok(answer)
    }

    /// Carries a mutation out; what is refused is told of.
    async fn told<R, A>(self, request: R, run: fn(Self, R) -> Run<A>) -> Result<A, Error>
    where
        R: Mutating,
    {
        let about = request.rollout().filter(|_| !request.validate_only()).map(str::to_owned);
        let (context, call) = (Arc::clone(&self.context), Arc::clone(&self.call));
        let outcome = run(self, request).await;
        if let (Err(error), Some(name)) = (&outcome, about)
            && let Ok(key) = name::rollout(&name, "name")
        {
            context.note_refused(&call, &key, error);
        }
        outcome
    }
}

/// Carries a mutation out by the method of this service that is named.
macro_rules! mutation {
    ($self:ident, $request:ident, $run:ident) => {
        answer(
            $self
                .change($request, |service, request| Box::pin(async move { service.$run(request).await }))
                .await,
        )
    };
}

#[tonic::async_trait]
impl RolloutService for Rollouts {
    type WatchRolloutsStream = Answers<WatchRolloutsResponse>;
    type WatchRolloutTreeStream = Answers<WatchRolloutTreeResponse>;

    async fn get_rollout(&self, request: Request<GetRolloutRequest>) -> Answer<GetRolloutResponse> {
        answer(self.get(request.get_ref()).await)
    }

    async fn list_rollouts(&self, request: Request<ListRolloutsRequest>) -> Answer<ListRolloutsResponse> {
        answer(self.list(request.get_ref()).await)
    }

    async fn watch_rollouts(
        &self,
        request: Request<WatchRolloutsRequest>,
    ) -> Answer<Self::WatchRolloutsStream> {
        answers(self.watch(request.get_ref()))
    }

    async fn get_rollout_tree(
        &self,
        request: Request<GetRolloutTreeRequest>,
    ) -> Answer<GetRolloutTreeResponse> {
        answer(self.tree(request.get_ref()))
    }

    async fn watch_rollout_tree(
        &self,
        request: Request<WatchRolloutTreeRequest>,
    ) -> Answer<Self::WatchRolloutTreeStream> {
        answers(self.watch_tree(request.get_ref()))
    }

    async fn create_rollout(&self, request: Request<CreateRolloutRequest>) -> Answer<CreateRolloutResponse> {
        mutation!(self, request, create)
    }

    async fn update_rollout(&self, request: Request<UpdateRolloutRequest>) -> Answer<UpdateRolloutResponse> {
        mutation!(self, request, update)
    }

    async fn delete_rollout(&self, request: Request<DeleteRolloutRequest>) -> Answer<DeleteRolloutResponse> {
        mutation!(self, request, delete)
    }

    async fn apply_manifest(&self, request: Request<ApplyManifestRequest>) -> Answer<ApplyManifestResponse> {
        mutation!(self, request, apply)
    }

    async fn set_rollout_image(
        &self,
        request: Request<SetRolloutImageRequest>,
    ) -> Answer<SetRolloutImageResponse> {
        mutation!(self, request, set_image)
    }

    async fn promote_rollout(
        &self,
        request: Request<PromoteRolloutRequest>,
    ) -> Answer<PromoteRolloutResponse> {
        mutation!(self, request, promote)
    }

    async fn pause_rollout(&self, request: Request<PauseRolloutRequest>) -> Answer<PauseRolloutResponse> {
        mutation!(self, request, pause)
    }

    async fn resume_rollout(&self, request: Request<ResumeRolloutRequest>) -> Answer<ResumeRolloutResponse> {
        mutation!(self, request, resume)
    }

    async fn abort_rollout(&self, request: Request<AbortRolloutRequest>) -> Answer<AbortRolloutResponse> {
        mutation!(self, request, abort)
    }

    async fn retry_rollout(&self, request: Request<RetryRolloutRequest>) -> Answer<RetryRolloutResponse> {
        mutation!(self, request, retry)
    }

    async fn rollback_rollout(
        &self,
        request: Request<RollbackRolloutRequest>,
    ) -> Answer<RollbackRolloutResponse> {
        mutation!(self, request, rollback)
    }

    async fn scale_rollout(&self, request: Request<ScaleRolloutRequest>) -> Answer<ScaleRolloutResponse> {
        mutation!(self, request, scale)
    }

    async fn restart_rollout(
        &self,
        request: Request<RestartRolloutRequest>,
    ) -> Answer<RestartRolloutResponse> {
        mutation!(self, request, restart)
    }

    async fn set_rollout_metadata(
        &self,
        request: Request<SetRolloutMetadataRequest>,
    ) -> Answer<SetRolloutMetadataResponse> {
        mutation!(self, request, set_metadata)
    }

    async fn list_revisions(&self, request: Request<ListRevisionsRequest>) -> Answer<ListRevisionsResponse> {
        answer(self.list_revisions(request.get_ref()))
    }

    async fn get_revision(&self, request: Request<GetRevisionRequest>) -> Answer<GetRevisionResponse> {
        answer(self.get_revision(request.get_ref()))
    }

    async fn diff_revisions(&self, request: Request<DiffRevisionsRequest>) -> Answer<DiffRevisionsResponse> {
        answer(self.diff_revisions(request.get_ref()))
    }

    async fn list_rollout_activity(
        &self,
        request: Request<ListRolloutActivityRequest>,
    ) -> Answer<ListRolloutActivityResponse> {
        answer(self.list_activity(request.get_ref()).await)
    }

    async fn plan_rollout(&self, request: Request<PlanRolloutRequest>) -> Answer<PlanRolloutResponse> {
        answer(self.foresee(request.into_inner()).await)
    }

    async fn explain_rollout(
        &self,
        request: Request<ExplainRolloutRequest>,
    ) -> Answer<ExplainRolloutResponse> {
        answer(self.explain(request.get_ref()))
    }
}
