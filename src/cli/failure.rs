//! What went wrong, as people read it and as scripts learn it.
//!
//! One line that says what, then indented lines that say where and what to do. Pure: [`super::output`] writes them.

use std::{fmt, io};

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::exit::Exit;
use super::name::Address;
use super::words;
use crate::pb::v1;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The command line asks for what makes no sense.
    #[error("{0}")]
    Usage(String),
    /// No server answers there.
    #[error("cannot reach the server at {address}: {cause}")]
    Unreachable { address: Address, cause: String },
    /// The server answered, and said no.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File { path: String, source: io::Error },
    /// What must not exist does.
    #[error("{0} exists already")]
    Exists(String),
    /// The rollout cannot be acted upon as it was seen.
    #[error("{what}")]
    Unready { what: String, remedy: String },
    /// The wait ended otherwise.
    #[error("{0}")]
    Missed(String),
    /// The server said something that this client cannot show or use.
    #[error("cannot make sense of the server's answer: {0}")]
    Encoding(String),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
}

/// What the server was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject<'a> {
    /// Nothing in particular.
    Server,
    /// A rollout, by its full name.
    Rollout(&'a str),
    /// The same, to which something is done, and until it settles.
    Settling(&'a str),
    /// A file, whose name the server does not know.
    File(&'a str),
}

/// The server's no.
#[derive(Debug)]
pub(super) struct Refusal {
    address: Address,
    /// `namespace/name` of the rollout it is about, for remedies.
    rollout: Option<String>,
    /// The file it is about.
    file: Option<String>,
    /// Whether it may have come after the deed, while the rollout was waited for.
    was_held: bool,
    status: Status,
}

impl Failure {
    pub(super) fn unreachable(address: &Address, error: &tonic::transport::Error) -> Self {
        // The outermost error says «transport error» only.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        Self::Unreachable { address: address.clone(), cause: words::one_line(&cause.to_string()) }
    }

    pub(super) fn refused(address: &Address, subject: Subject<'_>, status: Status) -> Self {
        let (rollout, file) = match subject {
            Subject::Server => (None, None),
            Subject::Rollout(name) | Subject::Settling(name) => (Some(words::path(name)), None),
            Subject::File(path) => (None, Some(path.to_owned())),
        };
        let was_held = matches!(subject, Subject::Settling(_));
        Self::Refused(Box::new(Refusal { address: address.clone(), rollout, file, was_held, status }))
    }

    /// How the program ends.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Refused(refusal) => Exit::of(refusal.status.code()),
            Self::Unready { .. } => Exit::Stale,
            Self::Missed(_) => Exit::Missed,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Closed,
            Self::File { .. } | Self::Exists(_) | Self::Encoding(_) | Self::Output(_) => Exit::Failed,
        }
    }

    /// What is written about it; nothing when the reader of the output went away, which is how `| head` ends a program.
    pub(super) fn lines(&self) -> Vec<String> {
        if self.exit() == Exit::Closed {
            return Vec::new();
        }
        let message = self.to_string();
        let mut lines = vec![format!("error: {message}")];
        let more = match self {
            Self::Refused(refusal) => refusal.more(),
            Self::Unreachable { .. } => {
                vec![
                    "is rolloutd running there? --server or ROLLOUTD_SERVER names another address".to_owned(),
                ]
            }
            Self::Exists(_) => vec!["`rolloutctl apply` changes what exists".to_owned()],
            Self::Unready { remedy, .. } => vec![remedy.clone()],
            _ => Vec::new(),
        };
        lines.extend(more.iter().map(|line| format!("  {}", words::one_line(line))));
        lines
    }

    /// What became of each document of a manifest that failed half-way.
    pub(super) fn applied(&self) -> Option<v1::ApplyManifestResponse> {
        const TYPE: &str = "/rolloutd.v1.ApplyManifestResponse";
        let Self::Refused(refusal) = self else { return None };
        let status = tonic_types::Status::decode(refusal.status.details()).ok()?;
        let answer = status.details.into_iter().find(|detail| detail.type_url.ends_with(TYPE))?;
        v1::ApplyManifestResponse::decode(answer.value.as_slice()).ok()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(formatter, "{file}: ")?;
        }
        formatter.write_str(&self.message())
    }
}

impl Refusal {
    fn message(&self) -> String {
        let text = words::one_line(self.status.message());
        // A status without a message still has a code, and codes have descriptions.
        if text.is_empty() { self.status.code().description().to_owned() } else { text }
    }

    fn more(&self) -> Vec<String> {
        // Details that cannot be decoded are left out: the message stands.
        let details = self.status.get_error_details();
        let mut lines = violations(&details, &self.message());
        if let Some(resource) = details.resource_info().filter(|_| self.status.code() == Code::NotFound) {
            lines.push(format!("missing: {} {}", resource.resource_type, resource.resource_name));
        }
        match self.status.code() {
            Code::Unavailable | Code::DeadlineExceeded => {
                lines.push(format!("the server tried: {}", self.address));
                if self.was_held {
                    let name = self.rollout.as_deref().unwrap_or("NAME");
                    lines.push(format!(
                        "it may be done all the same: `rolloutctl get {name}` shows it, `rolloutctl wait {name}` goes on waiting"
                    ));
                }
            }
            Code::Unimplemented => {
                lines.push(format!("`rolloutctl version` tells what the server at {} is", self.address));
            }
            _ => {}
        }
        if let Some(remedy) = self.remedy(&details) {
            lines.push(remedy);
        }
        if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
            lines.push(format!("try again in {}", words::span(delay.try_into().unwrap_or_default())));
        }
        lines
    }

    /// What to do about it, by the reason's name (a part of the contract; rollout_service.proto).
    fn remedy(&self, details: &ErrorDetails) -> Option<String> {
        let name = self.rollout.as_deref().unwrap_or("NAME");
        let remedy = match details.error_info()?.reason.as_str() {
            "STALE_HASH" | "STALE_STEP" => {
                format!(
                    "`rolloutctl get {name}` shows where it is now; repeat the command if it is still wanted"
                )
            }
            "ETAG_MISMATCH" => format!("`rolloutctl get {name} -o wide` shows the present etag"),
            "STEP_NOT_AHEAD" => "steps count from 0; --to-step goes forward only".to_owned(),
            "NOTHING_TO_PROMOTE" | "NOTHING_TO_ABORT" => format!("`rolloutctl get {name}` shows where it is"),
            "ROLLOUT_ABORTED" => {
                format!("`rolloutctl retry {name}` starts it again, `rolloutctl undo {name}` goes back")
            }
            "NOT_OBSERVED" => {
                "no controller has seen the newest change yet: try again in a moment".to_owned()
            }
            _ => return None,
        };
        Some(remedy)
    }
}

/// What is violated, and where; not what the message says already.
fn violations(details: &ErrorDetails, message: &str) -> Vec<String> {
    let fields = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
    let fields = fields.iter().map(|violation| format!("{}: {}", violation.field, violation.description));
    let preconditions =
        details.precondition_failure().map(|failed| failed.violations.as_slice()).unwrap_or_default();
    let preconditions = preconditions.iter().map(|violation| match violation.subject.as_str() {
        "" => violation.description.clone(),
        subject => format!("{subject}: {}", violation.description),
    });
    let quotas = details.quota_failure().map(|failed| failed.violations.as_slice()).unwrap_or_default();
    let quotas = quotas.iter().map(|violation| format!("{}: {}", violation.subject, violation.description));
    let all = fields.chain(preconditions).chain(quotas);
    all.filter(|line| words::one_line(line) != message).collect()
}

#[cfg(test)]
mod tests;
