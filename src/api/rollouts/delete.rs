//! DeleteRollout.

use kube::api::{DeleteParams, Preconditions, PropagationPolicy};

use super::super::cluster::Mode;
use super::super::error::Error;
use super::super::mutation::{Done, Effect, Mutation, Subject, target};
use super::super::name;
use super::super::status::Reason;
use super::super::token::Token;
use super::Rollouts;
use crate::pb::v1;
use v1::delete_rollout_request::Propagation;

/// How often a deletion starts over because the rollout was written meanwhile.
const ATTEMPTS: usize = 10;

impl Rollouts {
    /// DeleteRollout.
    pub(super) async fn delete(
        &self,
        request: v1::DeleteRolloutRequest,
    ) -> Result<v1::DeleteRolloutResponse, Error> {
        let propagation = match Propagation::try_from(request.propagation) {
            Ok(Propagation::Unspecified | Propagation::Background) => PropagationPolicy::Background,
            Ok(Propagation::Foreground) => PropagationPolicy::Foreground,
            Ok(Propagation::Orphan) => PropagationPolicy::Orphan,
            Err(_) => {
                let what = format!("{} is no propagation that this server knows", request.propagation);
                return Err(Error::field("propagation", what));
            }
        };
        let mutation = Mutation {
            key: name::rollout(&request.name, "name")?,
            etag: request.etag,
            mode: Mode::of(request.validate_only),
            ticket: None,
        };
        let mut conflict = None;
        for _ in 0..ATTEMPTS {
            let subject = self.context.read(&mutation.key).await?;
            subject.check(&mutation.etag)?;
            let params = DeleteParams {
                dry_run: mutation.mode == Mode::DryRun,
                propagation_policy: Some(propagation.clone()),
                preconditions: Some(Preconditions {
                    uid: Some(subject.uid().to_owned()),
                    // Only who asked for a version gets none but that.
                    resource_version: (!mutation.etag.is_empty()).then(|| subject.version().to_owned()),
                }),
                ..DeleteParams::default()
            };
            match self.context.cluster.delete(target(&mutation.key), &params).await {
                Ok(()) => {
                    self.note_deletion(subject, mutation.mode, &propagation);
                    let consistency_token = self.after_deletion(mutation.mode).await;
                    return Ok(v1::DeleteRolloutResponse { consistency_token });
                }
                Err(error) if error.reason() == Reason::Conflict => conflict = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(conflict.unwrap_or_else(|| Error::new(Reason::Conflict, "the rollout keeps changing; try again")))
    }

    /// Tells of a deletion that takes its time; what is gone at once has no history either.
    fn note_deletion(&self, subject: Subject, mode: Mode, propagation: &PropagationPolicy) {
        if matches!(propagation, PropagationPolicy::Foreground) {
            let (before, after) = (Some(subject.clone()), subject);
            let done = Done { before, after, effect: Effect::Changed, mode, revision: 0 };
            self.context.note_done(&self.call, &done, "in the foreground");
        }
    }

    /// A token of now: an answer to a deletion has no version. Where it cannot be had, the deletion is done all the same.
    async fn after_deletion(&self, mode: Mode) -> String {
        if mode == Mode::DryRun {
            return String::new();
        }
        let version = self.context.cluster.current_version(&self.context.scope).await;
        Token::of_version(version.inspect_err(|error| tracing::debug!(?error, "no token")).ok())
    }
}
