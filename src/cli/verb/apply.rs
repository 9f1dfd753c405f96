//! `apply` and `create`: manifests, losslessly.
//!
//! Both send the manifest's text by ApplyManifest, one request a file, and print what became of each object.

use jiff::SignedDuration;

use super::answer::{Hope, held, settled, warn, wire};
use super::{Session, suffix};
use crate::cli::args::{ApplyArgs, CreateArgs, Dry, Format, Print};
use crate::cli::connect::Connection;
use crate::cli::failure::{Failure, Subject};
use crate::cli::json;
use crate::cli::manifest::{self, Manifest};
use crate::cli::output::Out;
use crate::pb::v1;
use v1::applied_object::Outcome;

/// Whether anything is written.
pub(super) enum Mode {
    /// Everything is checked only.
    Check,
    Write {
        /// Empty: none.
        request_id: String,
        /// How long the answer may be held until rollouts settle.
        wait: Option<SignedDuration>,
    },
}

/// `apply`.
pub(super) async fn apply(session: &Session, out: &Out, arguments: &ApplyArgs) -> Result<(), Failure> {
    let files = Files::new(session, manifest::read(&arguments.files.filenames)?, arguments.force);
    let request_id = arguments.request.id();
    if files.manifests.len() > 1 && !request_id.is_empty() {
        let text = "--request-id goes with one file only: one id stands for one request";
        return Err(Failure::Usage(text.to_owned()));
    }
    let wait = arguments.wait.limit(&arguments.dry)?;
    let connection = session.connect().await?;
    let mode = match arguments.dry.validate_only() {
        true => Mode::Check,
        false => Mode::Write { request_id, wait },
    };
    let told = Told { print: arguments.print, suffix: suffix(&arguments.dry), wait };
    for (index, manifest) in files.manifests.iter().enumerate() {
        let answer = files.send(&connection, manifest, &mode).await;
        told.print(out, answer).inspect_err(|_| files.left_over(out, index))?;
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
pub(super) async fn create(session: &Session, out: &Out, arguments: &CreateArgs) -> Result<(), Failure> {
    // Nothing that is created has fields of others.
    let files = Files::new(session, manifest::read(&arguments.files.filenames)?, false);
    let wait = arguments.wait.limit(&arguments.dry)?;
    let connection = session.connect().await?;
    let told = Told { print: arguments.print, suffix: suffix(&arguments.dry), wait };
    for (index, manifest) in files.manifests.iter().enumerate() {
        let created = files.create(&connection, manifest, &arguments.dry, wait).await;
        let overtaken = created.as_ref().ok().and_then(existing).map(reference);
        told.print(out, created)
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

/// Manifests, and how they are sent.
pub(super) struct Files {
    manifests: Vec<Manifest>,
    /// Where objects go that name no namespace.
    parent: String,
    force: bool,
}

impl Files {
    pub(super) fn new(session: &Session, manifests: Vec<Manifest>, force: bool) -> Self {
        Self { manifests, parent: format!("namespaces/{}", session.namespace), force }
    }

    pub(super) fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    /// All of them as one text: what one file names may be in another.
    pub(super) fn together(&self) -> String {
        self.manifests.iter().map(|manifest| manifest.text.as_str()).collect::<Vec<_>>().join("\n---\n")
    }

    pub(super) fn force(&self) -> bool {
        self.force
    }

    /// What would be created, or what was.
    async fn create(
        &self,
        connection: &Connection,
        manifest: &Manifest,
        dry: &Dry,
        wait: Option<SignedDuration>,
    ) -> Result<v1::ApplyManifestResponse, Failure> {
        let checked = self.send(connection, manifest, &Mode::Check).await?;
        match existing(&checked) {
            Some(object) => Err(Failure::Exists(reference(object))),
            None if dry.validate_only() => Ok(checked),
            None => self.send(connection, manifest, &Mode::Write { request_id: String::new(), wait }).await,
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

    pub(super) async fn send(
        &self,
        connection: &Connection,
        manifest: &Manifest,
        mode: &Mode,
    ) -> Result<v1::ApplyManifestResponse, Failure> {
        let (request_id, wait) = match mode {
            Mode::Write { request_id, wait } => (request_id.clone(), *wait),
            Mode::Check => (String::new(), None),
        };
        let request = v1::ApplyManifestRequest {
            parent: self.parent.clone(),
            manifest: manifest.text.clone(),
            request_id,
            validate_only: matches!(mode, Mode::Check),
            force: self.force,
            wait: wait.map(wire),
        };
        let longest = wait.map(held).unwrap_or_default();
        let call = connection.rollouts();
        connection.ask_held(Subject::File(&manifest.place), longest, { call }.apply_manifest(request)).await
    }
}

/// How results are told.
struct Told {
    print: Print,
    suffix: &'static str,
    wait: Option<SignedDuration>,
}

impl Told {
    /// Prints what became of the objects of a file, of one that failed half-way, too; and how their rollouts settled, when that was
    /// waited for.
    fn print(&self, out: &Out, answer: Result<v1::ApplyManifestResponse, Failure>) -> Result<(), Failure> {
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
        match self.print.output {
            None | Some(Format::Wide) => out.lines(objects.map(|object| line(object, self.suffix)))?,
            Some(Format::Name) => out.lines(objects.map(reference))?,
            Some(Format::Json) => out.lines([json::pretty(&json::value(&answer)?)])?,
            Some(Format::Yaml) => out.lines(["---".to_owned(), json::yaml(&json::value(&answer)?)?])?,
        }
        let Some(limit) = self.wait else { return Ok(()) };
        let rollouts = answer.objects.iter().filter_map(|object| object.rollout.as_ref());
        let (well, ill): (Vec<_>, Vec<_>) =
            rollouts.map(|rollout| settled(rollout, limit, Hope::Well)).partition(Result::is_ok);
        if self.print.output.is_none() {
            out.lines(well.into_iter().flatten())?;
        }
        let ill: Vec<String> = ill.into_iter().filter_map(Result::err).collect();
        if ill.is_empty() { Ok(()) } else { Err(Failure::Missed(ill.join("; "))) }
    }
}

fn line(object: &v1::AppliedObject, suffix: &str) -> String {
    format!("{} {}{suffix}", reference(object), word(object))
}

/// What became of an object.
pub(super) fn word(object: &v1::AppliedObject) -> &'static str {
    match object.outcome() {
        Outcome::Created => "created",
        Outcome::Configured => "configured",
        Outcome::Unchanged => "unchanged",
        Outcome::Failed => "failed",
        Outcome::NotAttempted => "not attempted",
        Outcome::Unspecified => "done",
    }
}

/// `rollout.argoproj.io/web`, `service/web`.
pub(super) fn reference(object: &v1::AppliedObject) -> String {
    let object = object.object.clone().unwrap_or_default();
    let kind = object.kind.to_lowercase();
    match object.api_version.split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", object.name),
        None => format!("{kind}/{}", object.name),
    }
}
