//! `apply` and `create`: manifests, losslessly.
//!
//! Both send the manifest's text by ApplyManifest, one request a file, and print what became of each object.

use super::manifest::{self, Manifest};
use super::{Session, suffix, warn};
use crate::cli::args::{ApplyArgs, Format};
use crate::cli::connect::Connection;
use crate::cli::failure::Failure;
use crate::cli::json;
use crate::cli::output::Out;
use crate::pb::v1;
use v1::applied_object::Outcome;

/// Whether anything is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Everything is checked only.
    Check,
    Write,
}

/// `apply`.
pub(super) async fn apply(session: &Session, out: &Out, arguments: &ApplyArgs) -> Result<(), Failure> {
    let files = Files::read(session, arguments)?;
    let connection = session.connect().await?;
    for manifest in &files.manifests {
        let mode = if arguments.dry.validate_only() { Mode::Check } else { Mode::Write };
        let answer = files.send(&connection, manifest, mode).await;
        print(out, arguments, answer)?;
    }
    Ok(())
}

/// `create`: what must not exist.
///
/// CreateRollout would refuse what exists by itself, but takes a typed rollout: a field that the contract does not know, or
/// an integer beyond 2^53 in the pod template, would be lost on the way there. ApplyManifest is lossless but takes what exists,
/// too. So it is asked twice: first only to check, which says what it would do, and then to write, if that is to create
/// everything. Who creates the same object between the two is found out by the second answer, and said.
pub(super) async fn create(session: &Session, out: &Out, arguments: &ApplyArgs) -> Result<(), Failure> {
    let files = Files::read(session, arguments)?;
    let connection = session.connect().await?;
    for manifest in &files.manifests {
        let mut answer = files.send(&connection, manifest, Mode::Check).await?;
        if let Some(object) = existing(&answer) {
            return Err(Failure::Exists(reference(object)));
        }
        if !arguments.dry.validate_only() {
            let written = files.send(&connection, manifest, Mode::Write).await;
            let Ok(written) = written else { return print(out, arguments, written) };
            answer = written;
        }
        let overtaken = existing(&answer).map(reference);
        print(out, arguments, Ok(answer))?;
        if let Some(name) = overtaken {
            return Err(Failure::Exists(format!("somebody else created it meanwhile: {name}")));
        }
    }
    Ok(())
}

fn existing(answer: &v1::ApplyManifestResponse) -> Option<&v1::AppliedObject> {
    answer.objects.iter().find(|object| object.outcome() != Outcome::Created)
}

/// Manifests and where their objects go.
struct Files {
    manifests: Vec<Manifest>,
    parent: String,
    request_id: String,
}

impl Files {
    fn read(session: &Session, arguments: &ApplyArgs) -> Result<Self, Failure> {
        let manifests = manifest::read(&arguments.filenames)?;
        let request_id = arguments.request.id();
        if manifests.len() > 1 && !request_id.is_empty() {
            let text = "--request-id goes with one file only: one id stands for one request";
            return Err(Failure::Usage(text.to_owned()));
        }
        Ok(Self { manifests, parent: format!("namespaces/{}", session.namespace), request_id })
    }

    async fn send(
        &self,
        connection: &Connection,
        manifest: &Manifest,
        mode: Mode,
    ) -> Result<v1::ApplyManifestResponse, Failure> {
        let request = v1::ApplyManifestRequest {
            parent: self.parent.clone(),
            manifest: manifest.text.clone(),
            // One id stands for one body, and a check's is another than the write's.
            request_id: if mode == Mode::Write { self.request_id.clone() } else { String::new() },
            validate_only: mode == Mode::Check,
            ..v1::ApplyManifestRequest::default()
        };
        connection.ask(&manifest.place, connection.rollouts().apply_manifest(request)).await
    }
}

/// Prints what became of the objects of a file; of one that failed half-way, too.
fn print(
    out: &Out,
    arguments: &ApplyArgs,
    answer: Result<v1::ApplyManifestResponse, Failure>,
) -> Result<(), Failure> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(failure) => {
            if let Some(answer) = failure.applied() {
                out.lines(answer.objects.iter().map(|object| line(object, "")))?;
            }
            return Err(failure);
        }
    };
    warn(out, &answer.warnings);
    let objects = answer.objects.iter();
    match arguments.print.output {
        None | Some(Format::Wide) => out.lines(objects.map(|object| line(object, suffix(&arguments.dry)))),
        Some(Format::Name) => out.lines(objects.map(reference)),
        Some(Format::Json) => out.lines([json::pretty(&json::value(&answer)?)]),
        Some(Format::Yaml) => out.lines(["---".to_owned(), json::yaml(&json::value(&answer)?)?]),
    }
}

fn line(object: &v1::AppliedObject, suffix: &str) -> String {
    let outcome = match object.outcome() {
        Outcome::Created => "created",
        Outcome::Configured => "configured",
        Outcome::Unchanged => "unchanged",
        Outcome::Failed => "failed",
        Outcome::NotAttempted => "not attempted",
        Outcome::Unspecified => "done",
    };
    format!("{} {outcome}{suffix}", reference(object))
}

/// `rollout.argoproj.io/web`, `service/web`.
fn reference(object: &v1::AppliedObject) -> String {
    let object = object.object.clone().unwrap_or_default();
    let kind = object.kind.to_lowercase();
    match object.api_version.split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", object.name),
        None => format!("{kind}/{}", object.name),
    }
}
