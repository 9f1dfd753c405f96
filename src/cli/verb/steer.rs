//! `promote`, `pause`, `resume`, `abort` and `retry`: what moves and holds an update.

use super::answer::{Hope, Mutation};
use super::{Session, read};
use crate::cli::args::{PlainArgs, PromoteArgs};
use crate::cli::failure::Failure;
use crate::cli::output::Out;
use crate::cli::{tree, words};
use crate::pb::v1;
use v1::promote_rollout_request::{From as Seen, Target};

/// `promote`: says what it saw, and sends it along, so that it moves on from there and from nowhere else.
pub(super) async fn promote(session: &Session, out: &Out, arguments: &PromoteArgs) -> Result<(), Failure> {
    let guards = &arguments.guards;
    let mutation = Mutation::new(session, out, &arguments.name, guards, arguments.print)?;
    let name = &mutation.name;
    let connection = session.connect().await?;
    let seen = read::tree(&connection, name).await?;
    let status = seen.rollout.as_ref().and_then(|rollout| rollout.status.clone()).unwrap_or_default();
    observed(name, &status)?;
    let step = tree::step(&seen).map(|step| format!(", from step {step}")).unwrap_or_default();
    out.note(&format!(
        "promoting {}, revision {} ({}){step}",
        words::path(name),
        status.revision,
        status.current_pod_hash
    ));
    let target = match arguments.to_step {
        Some(index) => Target::ToStepIndex(index),
        None if arguments.full => Target::Full(()),
        None => Target::Next(()),
    };
    let request = v1::PromoteRolloutRequest {
        name: name.clone(),
        from: Some(Seen {
            pod_template_hash: status.current_pod_hash,
            step_index: status.current_step_index,
        }),
        target: Some(target),
        etag: guards.etag.etag.clone(),
        request_id: guards.request.id(),
        validate_only: guards.dry.validate_only(),
        wait: mutation.wait(),
    };
    let done = match target {
        Target::Next(()) => "promoted".to_owned(),
        Target::Full(()) => "promoted to the end".to_owned(),
        Target::ToStepIndex(index) => format!("promoted to step {index}"),
    };
    mutation.finish(&connection, connection.rollouts().promote_rollout(request), &done).await
}

/// What nobody looked at yet has no hash that could be said.
pub(super) fn observed(name: &str, status: &v1::RolloutStatus) -> Result<(), Failure> {
    if !status.current_pod_hash.is_empty() {
        return Ok(());
    }
    Err(Failure::Unready {
        what: format!("no controller has seen rollout {} yet", words::path(name)),
        remedy: "try again in a moment; `rolloutctl version` tells whether a controller leads".to_owned(),
    })
}

/// Declares a verb that needs the rollout only: its name, the method and its request, the word for it done, and where a wait for
/// the rollout may end.
macro_rules! plain {
    ($($(#[$doc:meta])* $verb:ident = $method:ident($request:ident), $done:literal, $hope:ident;)*) => {
        $(
            $(#[$doc])*
            pub(super) async fn $verb(session: &Session, out: &Out, arguments: &PlainArgs) -> Result<(), Failure> {
                let guards = &arguments.guards;
                let mutation =
                    Mutation::new(session, out, &arguments.name, guards, arguments.print)?.hoping(Hope::$hope);
                let request = v1::$request {
                    name: mutation.name.clone(),
                    etag: guards.etag.etag.clone(),
                    request_id: guards.request.id(),
                    validate_only: guards.dry.validate_only(),
                    wait: mutation.wait(),
                };
                let connection = session.connect().await?;
                mutation.finish(&connection, connection.rollouts().$method(request), $done).await
            }
        )*
    };
}

plain! {
    /// `pause`.
    pause = pause_rollout(PauseRolloutRequest), "paused", Well;
    /// `resume`.
    resume = resume_rollout(ResumeRolloutRequest), "resumed", Well;
    /// `abort`.
    abort = abort_rollout(AbortRolloutRequest), "aborted", Aborted;
    /// `retry`.
    retry = retry_rollout(RetryRolloutRequest), "retried", Well;
}
