//! What the methods that change a rollout have in common: their requests' standard fields, their checks of a new spec, their
//! answers.

use serde_json::Value;

use super::super::answer::{self, Answer};
use super::super::cluster::{Change, Mode};
use super::super::convert::{Fault, path};
use super::super::error::Error;
use super::super::mutation::{Done, Mutation, Subject};
use super::super::name;
use super::super::status::Reason;
use super::super::ticket::Ticket;
use super::Rollouts;
use crate::crd::Rollout;
use crate::validate::{self, Violation};

/// The standard fields of a mutation that names its rollout.
pub(super) struct Standard<'a> {
    pub name: &'a str,
    pub etag: &'a str,
    pub validate_only: bool,
    pub ticket: Result<Option<Ticket>, Error>,
}

/// The standard fields of a request, by their names.
macro_rules! standard {
    ($request:expr) => {
        $crate::api::rollouts::change::Standard {
            name: &$request.name,
            etag: &$request.etag,
            validate_only: $request.validate_only,
            ticket: Ok(None),
        }
    };
}

/// The same of a request that the object itself has to remember.
macro_rules! durable {
    ($request:expr) => {
        $crate::api::rollouts::change::Standard {
            ticket: $crate::api::ticket::Ticket::of(&$request),
            ..$crate::api::rollouts::change::standard!($request)
        }
    };
}

pub(super) use {durable, standard};

impl Standard<'_> {
    /// Reads them.
    pub(super) fn read(self) -> Result<Mutation, Error> {
        Ok(Mutation {
            key: name::rollout(self.name, "name")?,
            etag: self.etag.to_owned(),
            mode: Mode::of(self.validate_only),
            ticket: self.ticket?,
        })
    }
}

impl Rollouts {
    /// Changes a rollout.
    pub(super) async fn mutate(
        &self,
        standard: Standard<'_>,
        decide: impl Fn(&Subject) -> Result<Option<Change>, Error>,
    ) -> Result<Done, Error> {
        self.context.mutate(&standard.read()?, decide).await
    }

    /// Tells what was done, in a few words, and answers with the rollout as it then is.
    pub(super) fn answer<A: Answer>(&self, done: &Done, detail: &str) -> A {
        self.context.note_done(&self.call, done, detail);
        answer::of(done)
    }
}

/// Checks an object as it would be stored; the violations name fields of the messages.
pub(super) fn check(object: &Value) -> Result<(), Error> {
    check_at(object, |violation| path::in_messages(&violation.path))
}

/// The same; the violations name the fields at their places.
pub(super) fn check_at(object: &Value, place: impl Fn(&Violation) -> String) -> Result<(), Error> {
    let rollout = Rollout::decode(object)
        .map_err(|error| Error::field(path::in_messages(&path::parse(&error.path)), error.why))?;
    let violations = validate::rollout(&rollout);
    let fault = |violation: &Violation| Fault::new(place(violation), violation.description());
    if violations.is_empty() { Ok(()) } else { Err(Error::invalid(violations.iter().map(fault).collect())) }
}

/// Checks what an object says that would count for nothing, as far as it did not say so before.
pub(super) fn check_unheeded(before: Option<&Value>, after: &Value) -> Result<(), Error> {
    check_unheeded_at(before, after, |violation| path::in_messages(&violation.path))
}

/// The same; the violations name the fields at their places.
pub(super) fn check_unheeded_at(
    before: Option<&Value>,
    after: &Value,
    place: impl Fn(&Violation) -> String,
) -> Result<(), Error> {
    let new = validate::unheeded(before, after).new;
    let fault = |violation: &Violation| Fault::new(place(violation), violation.description());
    if new.is_empty() { Ok(()) } else { Err(Error::invalid(new.iter().map(fault).collect())) }
}

/// The change that brings an object from one state to another; `None` when they are the same.
pub(super) fn difference(from: &Value, to: &Value) -> Option<Change> {
    let patch = json_patch::diff(from, to);
    (!patch.0.is_empty()).then_some(Change::Json(patch))
}

/// Refuses to change the pod template of a rollout that has none of its own.
pub(super) fn own_template(subject: &Subject) -> Result<&Value, Error> {
    let rollout = subject.rollout()?;
    let template = rollout.spec.template.as_ref();
    match &rollout.spec.workload_ref {
        Some(workload) => {
            let (kind, name) = (workload.kind.as_deref(), workload.name.as_deref());
            let (kind, name) = (kind.unwrap_or("the workload"), name.unwrap_or_default());
            let message = format!("the pod template belongs to {kind} {name:?}; change it there");
            Err(Error::new(Reason::TemplateElsewhere, message))
        }
        None => {
            template.ok_or_else(|| Error::new(Reason::MalformedObject, "the rollout has no pod template"))
        }
    }
}
