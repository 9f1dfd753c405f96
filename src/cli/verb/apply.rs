//! `apply` and `create`: manifests, losslessly.
//!
//! Both send the manifest's text by ApplyManifest, one request a file, and print what became of each object.

use super::manifest::{self, Manifest};
use super::{Session, suffix, warn};
use crate::cli::args::{ApplyArgs, Dry, Format, ManifestArgs};
use crate::cli::connect::Connection;
use crate::cli::failure::{Failure, Subject};
use crate::cli::json;
use crate::cli::output::Out;
use crate::pb::v1;
use v1::applied_object::Outcome;

/// Whether anything is written.
enum Mode {
    /// Everything is checked only.
    Check,
    Write {
        /// Empty: none.
        request_id: String,
    },
}

/// `apply`.
pub(super) async fn apply(session: &Session, out: &Out, arguments: &ApplyArgs) -> Result<(), Failure> {
    let files = Files::read(session, &arguments.manifests)?;
    let request_id = arguments.request.id();
    if files.manifests.len() > 1 && !request_id.is_empty() {
        let text = "--request-id goes with one file only: one id stands for one request";
        return Err(Failure::Usage(text.to_owned()));
    }
    let connection = session.connect().await?;
    let mode = match arguments.manifests.dry.validate_only() {
        true => Mode::Check,
        false => Mode::Write { request_id },
    };
    for (index, manifest) in files.manifests.iter().enumerate() {
        let answer = files.send(&connection, manifest, &mode).await;
        print(out, &arguments.manifests, answer).inspect_err(|_| files.left_over(out, index))?;
    }
    Ok(())
}

/// `create`: what must not exist.
///
/// CreateRollout would refuse what exists by itself, but takes a typed rollout: a field that the contract does not know, or
/// an integer beyond 2^53 in the pod template, would be lost on the way there. ApplyManifest is lossless but takes what exists,
/// too. So it is asked twice: first only to check, which says what it would do, and then to write, if that is to create
/// everything. Who creates the same object between the two is found out by the second answer, and said. There is no
/// request id: of a repeated `create` the check would find what the first one created.
pub(super) async fn create(session: &Session, out: &Out, arguments: &ManifestArgs) -> Result<(), Failure> {
    let files = Files::read(session, arguments)?;
    let connection = session.connect().await?;
    for (index, manifest) in files.manifests.iter().enumerate() {
        let created = files.create(&connection, manifest, &arguments.dry).await;
        let overtaken = created.as_ref().ok().and_then(existing).map(reference);
        print(out, arguments, created)
            .and_then(|()| match overtaken {
                Some(name) => Err(Failure::Exists(format!("somebody else was faster: {name}"))),
                None => Ok(()),
            })
            .inspect_err(|_| files.left_over(out, index))?;
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
}

impl Files {
    fn read(session: &Session, arguments: &ManifestArgs) -> Result<Self, Failure> {
        let manifests = manifest::read(&arguments.filenames)?;
        Ok(Self { manifests, parent: format!("namespaces/{}", session.namespace) })
    }

    /// What would be created, or what was.
    async fn create(
        &self,
        connection: &Connection,
        manifest: &Manifest,
        dry: &Dry,
    ) -> Result<v1::ApplyManifestResponse, Failure> {
        let checked = self.send(connection, manifest, &Mode::Check).await?;
        match existing(&checked) {
            Some(object) => Err(Failure::Exists(reference(object))),
            None if dry.validate_only() => Ok(checked),
            None => self.send(connection, manifest, &Mode::Write { request_id: String::new() }).await,
        }
    }

    /// Says which files nothing was done about, because the one at `failed` failed.
    fn left_over(&self, out: &Out, failed: usize) {
        let places: Vec<&str> =
            self.manifests.iter().skip(failed + 1).map(|manifest| manifest.place.as_str()).collect();
        if !places.is_empty() {
            out.note(&format!("not attempted: {}", places.join(", ")));
        }
    }

    async fn send(
        &self,
        connection: &Connection,
        manifest: &Manifest,
        mode: &Mode,
    ) -> Result<v1::ApplyManifestResponse, Failure> {
        let request = v1::ApplyManifestRequest {
            parent: self.parent.clone(),
            manifest: manifest.text.clone(),
            request_id: match mode {
                Mode::Write { request_id } => request_id.clone(),
                Mode::Check => String::new(),
            },
            validate_only: matches!(mode, Mode::Check),
            ..v1::ApplyManifestRequest::default()
        };
        connection.ask(Subject::File(&manifest.place), connection.rollouts().apply_manifest(request)).await
    }
}

/// Prints what became of the objects of a file; of one that failed half-way, too.
fn print(
    out: &Out,
    arguments: &ManifestArgs,
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
