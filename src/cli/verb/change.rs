//! `set image`, `scale`, `undo`, `restart` and `delete`: what changes the spec, or ends it.

use super::answer::Mutation;
use super::{Session, kubernetes_name, read, steer, suffix};
use crate::cli::args::{Cascade, DeleteArgs, ImageArgs, NameOnly, RestartArgs, ScaleArgs, UndoArgs};
use crate::cli::failure::{Failure, Subject};
use crate::cli::output::Out;
use crate::cli::words;
use crate::pb::v1;
use v1::delete_rollout_request::Propagation;
use v1::rollback_rollout_request::From as Seen;
use v1::set_rollout_image_request::ContainerImage;

/// `set image`.
pub(super) async fn set_image(session: &Session, out: &Out, arguments: ImageArgs) -> Result<(), Failure> {
    let guards = &arguments.guards;
    let mutation = Mutation::new(session, out, &arguments.name, guards, arguments.print)?;
    let images = arguments.images.into_iter();
    let request = v1::SetRolloutImageRequest {
        name: mutation.name.clone(),
        images: images
            .map(|given| ContainerImage { container: given.container, image: given.image })
            .collect(),
        etag: guards.etag.etag.clone(),
        request_id: guards.request.id(),
        validate_only: guards.dry.validate_only(),
        wait: mutation.wait(),
    };
    let connection = session.connect().await?;
    mutation.finish(&connection, connection.rollouts().set_rollout_image(request), "image updated").await
}

/// `scale`.
pub(super) async fn scale(session: &Session, out: &Out, arguments: &ScaleArgs) -> Result<(), Failure> {
    let guards = &arguments.guards;
    let mutation = Mutation::new(session, out, &arguments.name, guards, arguments.print)?;
    let request = v1::ScaleRolloutRequest {
        name: mutation.name.clone(),
        replicas: Some(arguments.replicas),
        etag: guards.etag.etag.clone(),
        request_id: guards.request.id(),
        validate_only: guards.dry.validate_only(),
        wait: mutation.wait(),
    };
    let connection = session.connect().await?;
    mutation.finish(&connection, connection.rollouts().scale_rollout(request), "scaled").await
}

/// `restart`.
pub(super) async fn restart(session: &Session, out: &Out, arguments: &RestartArgs) -> Result<(), Failure> {
    let guards = &arguments.guards;
    let mutation = Mutation::new(session, out, &arguments.name, guards, arguments.print)?;
    let request = v1::RestartRolloutRequest {
        name: mutation.name.clone(),
        // Unset: now, by the server's clock.
        restart_time: arguments.at.map(words::wire),
        etag: guards.etag.etag.clone(),
        request_id: guards.request.id(),
        validate_only: guards.dry.validate_only(),
        wait: mutation.wait(),
    };
    let connection = session.connect().await?;
    mutation.finish(&connection, connection.rollouts().restart_rollout(request), "restarted").await
}

/// `undo`: sends the version that it saw, so that a repeated one does not toggle.
pub(super) async fn undo(session: &Session, out: &Out, arguments: &UndoArgs) -> Result<(), Failure> {
    let guards = &arguments.guards;
    let mutation = Mutation::new(session, out, &arguments.name, guards, arguments.print)?;
    let name = &mutation.name;
    let connection = session.connect().await?;
    let seen = read::rollout(&connection, name, v1::View::Basic).await?;
    let status = seen.status.unwrap_or_default();
    steer::observed(name, &status)?;
    let from = format!("revision {} ({})", status.revision, status.current_pod_hash);
    out.note(&format!("undoing {} of {}", from, words::path(name)));
    let request = v1::RollbackRolloutRequest {
        name: name.clone(),
        from: Some(Seen { pod_template_hash: status.current_pod_hash }),
        // 0: the one before the newest.
        to_revision: arguments.to_revision.unwrap_or(0),
        etag: guards.etag.etag.clone(),
        request_id: guards.request.id(),
        validate_only: guards.dry.validate_only(),
        wait: mutation.wait(),
    };
    mutation.finish(&connection, connection.rollouts().rollback_rollout(request), "rolled back").await
}

/// `delete`.
pub(super) async fn delete(session: &Session, out: &Out, arguments: &DeleteArgs) -> Result<(), Failure> {
    let name = session.name(&arguments.name)?;
    let propagation = match arguments.cascade {
        Cascade::Background => Propagation::Background,
        Cascade::Foreground => Propagation::Foreground,
        Cascade::Orphan => Propagation::Orphan,
    };
    let request = v1::DeleteRolloutRequest {
        name: name.clone(),
        etag: arguments.etag.etag.clone(),
        propagation: propagation.into(),
        validate_only: arguments.dry.validate_only(),
        request_id: String::new(),
    };
    let connection = session.connect().await?;
    connection.ask(Subject::Rollout(&name), connection.rollouts().delete_rollout(request)).await?;
    let object = kubernetes_name(&name);
    match arguments.output {
        Some(NameOnly::Name) => out.lines([object]),
        None => out.lines([format!("{object} deleted{}", suffix(&arguments.dry))]),
    }
}
