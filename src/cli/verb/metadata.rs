//! `set metadata` and `set environment`: they change what is named and keep the rest, so that they read first, and write only if nobody
//! else did meanwhile.

use std::collections::BTreeMap;

use super::answer::Mutation;
use super::{Session, read};
use crate::cli::args::{Entry, EnvironmentArgs, Guards, MetadataArgs, Side};
use crate::cli::connect::Connection;
use crate::cli::failure::Failure;
use crate::cli::output::Out;
use crate::crd::keys;
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
    let (request, seen) = request(&mutation, &connection, guards).await?;
    let mut metadata = of_strategy(seen.spec.unwrap_or_default().strategy, *side);
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
    let EnvironmentArgs { name, values, side, allowed, replace, guards, print } = arguments;
    let mutation = Mutation::new(session, out, name, guards, *print)?;
    let connection = session.connect().await?;
    let (request, seen) = request(&mutation, &connection, guards).await?;
    let mut given = if *replace { BTreeMap::new() } else { stated(seen, *side)? };
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

/// The environment that a rollout states for a side. What cannot be read is not there to be changed, and must not be lost unseen.
fn stated(seen: v1::Rollout, side: Side) -> Result<BTreeMap<String, String>, Failure> {
    let (field, annotation) = match side {
        Side::Canary => ("spec.environment.canary", keys::CANARY_ENVIRONMENT),
        Side::Stable => ("spec.environment.stable", keys::STABLE_ENVIRONMENT),
    };
    if seen.unreadable_fields.iter().any(|unreadable| unreadable == field) {
        return Err(Failure::Unready {
            what: format!("annotation {annotation} cannot be read, so that its values cannot be kept"),
            remedy: "mend it to a JSON object of strings, or give all values with --replace".to_owned(),
        });
    }
    let environment = seen.spec.and_then(|spec| spec.environment).unwrap_or_default();
    let values = match side {
        Side::Canary => environment.canary,
        Side::Stable => environment.stable,
    };
    Ok(values.unwrap_or_default().values)
}

/// A request without anything to set, and the rollout that it is about.
async fn request(
    mutation: &Mutation<'_>,
    connection: &Connection,
    guards: &Guards,
) -> Result<(v1::SetRolloutMetadataRequest, v1::Rollout), Failure> {
    let seen = read::rollout(connection, &mutation.name, v1::View::Basic).await?;
    let etag = if guards.etag.etag.is_empty() { seen.etag.clone() } else { guards.etag.etag.clone() };
    let request = v1::SetRolloutMetadataRequest {
        name: mutation.name.clone(),
        etag,
        request_id: guards.request.id(),
        validate_only: guards.dry.validate_only(),
        wait: mutation.wait(),
        ..v1::SetRolloutMetadataRequest::default()
    };
    Ok((request, seen))
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
