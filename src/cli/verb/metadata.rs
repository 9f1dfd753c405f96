//! `set metadata` and `set environment`: they change what is named and keep the rest, so that they read first, and write only if nobody
//! else did meanwhile.

use super::answer::Mutation;
use super::{Session, read};
use crate::cli::args::{Entry, EnvironmentArgs, Guards, MetadataArgs, Side};
use crate::cli::connect::Connection;
use crate::cli::failure::Failure;
use crate::cli::output::Out;
use crate::pb::v1;
use v1::rollout_spec::Strategy;
use v1::set_rollout_metadata_request::Environment;

/// `set metadata`.
pub(super) async fn set_metadata(
    session: &Session,
    out: &Out,
    arguments: &MetadataArgs,
) -> Result<(), Failure> {
    let MetadataArgs { name, side, labels, annotations, guards, print } = arguments;
    let mutation = Mutation::new(session, out, name, guards, *print)?;
    let connection = session.connect().await?;
    let (request, spec) = request(&mutation, &connection, guards).await?;
    let mut metadata = of_strategy(spec.strategy, *side);
    Entry::apply(labels, &mut metadata.labels);
    Entry::apply(annotations, &mut metadata.annotations);
    let request = match side {
        Side::Canary => v1::SetRolloutMetadataRequest { canary_metadata: Some(metadata), ..request },
        Side::Stable => v1::SetRolloutMetadataRequest { stable_metadata: Some(metadata), ..request },
    };
    mutation
        .finish(&connection, connection.rollouts().set_rollout_metadata(request), "metadata updated")
        .await
}

/// `set environment`.
pub(super) async fn set_environment(
    session: &Session,
    out: &Out,
    arguments: &EnvironmentArgs,
) -> Result<(), Failure> {
    let EnvironmentArgs { name, values, side, allowed, guards, print } = arguments;
    let mutation = Mutation::new(session, out, name, guards, *print)?;
    let connection = session.connect().await?;
    let (request, spec) = request(&mutation, &connection, guards).await?;
    let environment = spec.environment.unwrap_or_default();
    let known = match side {
        Side::Canary => environment.canary,
        Side::Stable => environment.stable,
    };
    let mut given = known.unwrap_or_default().values;
    Entry::apply(values, &mut given);
    let environment = Some(Environment { values: given });
    let request = v1::SetRolloutMetadataRequest { allowed_names: allowed.clone(), ..request };
    let request = match side {
        Side::Canary => v1::SetRolloutMetadataRequest { canary_environment: environment, ..request },
        Side::Stable => v1::SetRolloutMetadataRequest { stable_environment: environment, ..request },
    };
    let done = "environment updated";
    mutation.finish(&connection, connection.rollouts().set_rollout_metadata(request), done).await
}

/// A request without anything to set, and the spec that it is about.
async fn request(
    mutation: &Mutation<'_>,
    connection: &Connection,
    guards: &Guards,
) -> Result<(v1::SetRolloutMetadataRequest, v1::RolloutSpec), Failure> {
    let seen = read::rollout(connection, &mutation.name, v1::View::Basic).await?;
    let etag = if guards.etag.etag.is_empty() { seen.etag } else { guards.etag.etag.clone() };
    let request = v1::SetRolloutMetadataRequest {
        name: mutation.name.clone(),
        etag,
        request_id: guards.request.id(),
        validate_only: guards.dry.validate_only(),
        wait: mutation.wait(),
        ..v1::SetRolloutMetadataRequest::default()
    };
    Ok((request, seen.spec.unwrap_or_default()))
}

/// The labels and annotations that a strategy has for pods.
fn of_strategy(strategy: Option<Strategy>, side: Side) -> v1::PodMetadata {
    let metadata = match (strategy, side) {
        (Some(Strategy::Canary(canary)), Side::Canary) => canary.canary_metadata,
        (Some(Strategy::Canary(canary)), Side::Stable) => canary.stable_metadata,
        (Some(Strategy::BlueGreen(strategy)), Side::Canary) => strategy.preview_metadata,
        (Some(Strategy::BlueGreen(strategy)), Side::Stable) => strategy.active_metadata,
        (None, _) => None,
    };
    metadata.unwrap_or_default()
}
