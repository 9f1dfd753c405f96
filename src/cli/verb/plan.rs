//! `plan`: what would happen, of manifests, of an image, or of a rollout as it stands.
//!
//! PlanRollout plans one rollout at a time; which rollouts manifests hold is asked by a dry run first, as `diff` does.

use super::Session;
use super::answer::{warn, wire};
use super::apply::{Files, Mode};
use crate::cli::args::{Assumed, Data, PlanArgs};
use crate::cli::connect::Connection;
use crate::cli::failure::{Failure, Subject};
use crate::cli::name::Name;
use crate::cli::output::Out;
use crate::cli::{json, manifest, timeline, words};
use crate::pb::v1;
use v1::plan_rollout_request::Update;
use v1::rollout_status::State;

/// The reason of the warning that a timeline goes on where it ends.
const CUT_OFF: &str = "CUT_OFF";

/// `plan`.
pub(super) async fn plan(session: &Session, out: &Out, arguments: &PlanArgs) -> Result<(), Failure> {
    let requests = match &arguments.name {
        Some(name) => vec![of_name(session, arguments, name)?],
        None => of_files(session, arguments).await?,
    };
    let connection = session.connect().await?;
    let mut ill = Vec::new();
    for request in requests {
        let name = request.name.clone();
        let answer = ask(&connection, request).await?;
        warn(out, &answer.warnings);
        match arguments.output {
            None => {
                if arguments.name.is_none() {
                    out.lines([format!("{}:", words::path(&name))])?;
                }
                out.lines(timeline::lines(&answer.timeline))?;
            }
            Some(Data::Json) => out.lines([json::pretty(&json::value(&answer)?)])?,
            Some(Data::Yaml) => out.lines(["---".to_owned(), json::yaml(&json::value(&answer)?)?])?,
        }
        ill.extend(ends_ill(&name, &answer, &arguments.assumed));
    }
    if ill.is_empty() { Ok(()) } else { Err(Failure::Missed(ill.join("; "))) }
}

fn of_name(session: &Session, arguments: &PlanArgs, name: &Name) -> Result<v1::PlanRolloutRequest, Failure> {
    let name = session.name(name)?;
    let images = arguments.images.iter().map(|given| v1::set_rollout_image_request::ContainerImage {
        container: given.container.clone(),
        image: given.image.clone(),
    });
    let set_image = v1::SetRolloutImageRequest { images: images.collect(), ..Default::default() };
    let update = (!arguments.images.is_empty()).then_some(Update::SetImage(set_image));
    Ok(v1::PlanRolloutRequest { name, update, assumptions: Some(assumed(&arguments.assumed)), force: false })
}

/// A request for each rollout that the files hold. Each file is checked by itself, so that what is wrong is found in its place.
async fn of_files(session: &Session, arguments: &PlanArgs) -> Result<Vec<v1::PlanRolloutRequest>, Failure> {
    let files = Files::new(session, manifest::read(&arguments.filenames)?, arguments.force);
    let connection = session.connect().await?;
    let mut requests = Vec::new();
    for manifest in files.manifests() {
        let checked = files.send(&connection, manifest, &Mode::Check).await?;
        requests.extend(of_objects(&files, &checked.objects, &arguments.assumed));
    }
    if requests.is_empty() {
        return Err(Failure::Usage("the files hold no rollout that could be planned".to_owned()));
    }
    Ok(requests)
}

/// A request for each rollout among objects that were checked.
pub(super) fn of_objects(
    files: &Files,
    objects: &[v1::AppliedObject],
    assumed_of_it: &Assumed,
) -> Vec<v1::PlanRolloutRequest> {
    let rollouts = objects.iter().filter_map(|object| object.rollout.as_ref());
    let request = |rollout: &v1::Rollout| v1::PlanRolloutRequest {
        name: rollout.name.clone(),
        update: Some(Update::Manifest(files.together())),
        assumptions: Some(assumed(assumed_of_it)),
        force: files.force(),
    };
    rollouts.map(request).collect()
}

/// Asks for a timeline.
pub(super) async fn ask(
    connection: &Connection,
    request: v1::PlanRolloutRequest,
) -> Result<v1::PlanRolloutResponse, Failure> {
    let name = request.name.clone();
    connection.ask(Subject::Rollout(&name), connection.rollouts().plan_rollout(request)).await
}

fn assumed(given: &Assumed) -> v1::PlanAssumptions {
    v1::PlanAssumptions {
        pod_start_up: given.pod_start_up.map(wire),
        pods_never_ready: given.pods_never_ready,
        abort_at_step: given.abort_at_step,
        promote_pauses: given.promote_pauses,
    }
}

/// What is wrong with the end of a timeline, unless it was asked for: nobody knows the end, or it is one that nobody wants.
fn ends_ill(name: &str, answer: &v1::PlanRolloutResponse, assumed: &Assumed) -> Option<String> {
    let path = words::path(name);
    let is_cut_off = answer.warnings.iter().any(|warning| warning.reason == CUT_OFF);
    let Some(last) = answer.timeline.last() else {
        return Some(format!("nothing of {path} could be foreseen"));
    };
    if is_cut_off {
        return Some(format!("the end of {path} could not be foreseen"));
    }
    let is_asked_for = assumed.pods_never_ready || assumed.abort_at_step.is_some();
    let message = words::one_line(&last.message);
    match last.state() {
        State::Healthy | State::Paused => None,
        State::Degraded | State::Progressing | State::Unspecified if is_asked_for => None,
        State::Degraded => Some(format!("{path} would end Degraded: {message}")),
        // Time would have moved it on.
        State::Progressing | State::Unspecified => Some(format!("{path} would be stuck: {message}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_ill_where_nobody_wants_it_or_knows_it() {
        let asked = Assumed { pods_never_ready: true, ..Assumed::default() };
        let aborted = Assumed { abort_at_step: Some(0), ..Assumed::default() };
        let not = Assumed::default();
        let cut_off = v1::Warning { reason: CUT_OFF.to_owned(), ..Default::default() };
        let other = v1::Warning { reason: "UNKNOWN_FIELD".to_owned(), ..Default::default() };
        for (state, warning, assumed, expected) in [
            (Some(State::Healthy), &other, &not, None),
            (Some(State::Paused), &other, &not, None),
            (Some(State::Degraded), &other, &not, Some("shop/web would end Degraded: why so")),
            (Some(State::Degraded), &other, &asked, None),
            (Some(State::Degraded), &other, &aborted, None),
            (Some(State::Progressing), &other, &not, Some("shop/web would be stuck: why so")),
            (Some(State::Progressing), &other, &asked, None),
            (Some(State::Unspecified), &other, &not, Some("shop/web would be stuck: why so")),
            (Some(State::Paused), &cut_off, &not, Some("the end of shop/web could not be foreseen")),
            (Some(State::Degraded), &cut_off, &asked, Some("the end of shop/web could not be foreseen")),
            (None, &cut_off, &not, Some("nothing of shop/web could be foreseen")),
            (None, &other, &asked, Some("nothing of shop/web could be foreseen")),
        ] {
            let last = state.map(|state| v1::PlannedState {
                state: state.into(),
                message: "why\nso".to_owned(),
                ..Default::default()
            });
            let (timeline, warnings) = (last.into_iter().collect(), vec![warning.clone()]);
            let answer = v1::PlanRolloutResponse { timeline, warnings };
            let ill = ends_ill("namespaces/shop/rollouts/web", &answer, assumed);
            assert_eq!(ill.as_deref(), expected, "{answer:?}");
        }
    }
}
