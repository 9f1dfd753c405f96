//! What an answer of the API server means to a controller.
//!
//! Depends on `kube` only. Controllers send requests through `kube::Api` and ask here what a refusal means;
//! [`SyncError`] is what the queue retries.

use kube::core::response::reason;
use serde_json::Value;

/// Why one look at an object did not end well; the queue tries again.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError {
    /// The server refused, or could not be asked.
    #[error("{}", message(.0))]
    Api(#[from] kube::Error),
    /// Not all was done in time.
    #[error("no answer in time")]
    Deadline,
    /// An owner's kind is not served, so nobody can tell whether the owner exists.
    #[error("kind {kind} of {api_version} is not served")]
    UnknownKind {
        /// The group and version.
        api_version: String,
        /// The kind.
        kind: String,
    },
    /// An object cannot be what its kind says.
    #[error("malformed object: {0}")]
    Malformed(String),
}

impl SyncError {
    /// Whether somebody else wrote first: look again, nothing is wrong.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(error) if Refusal::of(error) == Refusal::Conflict)
    }
}

/// What a failed request means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The object is not there.
    NotFound,
    /// Another object has this name.
    AlreadyExists,
    /// Another version than expected.
    Conflict,
    /// The namespace is being deleted; nothing can be created in it.
    NamespaceTerminating,
    /// The server decided against it.
    Refused,
    /// Nobody knows whether it was done.
    Uncertain,
}

impl Refusal {
    pub(super) fn of(error: &kube::Error) -> Self {
        let kube::Error::Api(status) = error else { return Self::Uncertain };
        let causes = status.details.as_ref().map_or(&[][..], |details| &details.causes);
        if status.is_already_exists() {
            Self::AlreadyExists
        } else if status.is_not_found() {
            Self::NotFound
        } else if status.is_conflict() {
            Self::Conflict
        } else if causes.iter().any(|cause| cause.reason == "NamespaceTerminating") {
            Self::NamespaceTerminating
        } else if status.code >= 500 || status.reason == reason::TIMEOUT {
            Self::Uncertain
        } else {
            Self::Refused
        }
    }
}

/// The server's own words where there are any.
pub(super) fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

/// A JSON merge patch that is refused when the object is no longer of this version.
pub(super) fn versioned_patch(resource_version: Option<&str>, mut metadata: Value, rest: Value) -> Value {
    if let (Some(version), Value::Object(fields)) = (resource_version, &mut metadata) {
        fields.insert("resourceVersion".to_owned(), version.into());
    }
    let mut patch = rest;
    if let Value::Object(fields) = &mut patch {
        fields.insert("metadata".to_owned(), metadata);
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use kube::core::response::{StatusCause, StatusDetails};

    fn api(status: Status) -> kube::Error {
        kube::Error::Api(status.boxed())
    }

    #[test]
    fn refusals_are_told_apart() {
        let terminating = StatusDetails {
            name: String::new(),
            group: String::new(),
            kind: String::new(),
            uid: String::new(),
            causes: vec![StatusCause {
                reason: "NamespaceTerminating".to_owned(),
                message: String::new(),
                field: String::new(),
            }],
            retry_after_seconds: 0,
        };
        for (status, refusal) in [
            (Status::failure("", "NotFound").with_code(404), Refusal::NotFound),
            (Status::failure("", "AlreadyExists").with_code(409), Refusal::AlreadyExists),
            (Status::failure("", "Conflict").with_code(409), Refusal::Conflict),
            (Status::failure("", "Forbidden").with_code(403), Refusal::Refused),
            (
                Status::failure("", "Forbidden").with_code(403).with_details(terminating),
                Refusal::NamespaceTerminating,
            ),
            (Status::failure("", "Invalid").with_code(422), Refusal::Refused),
            (Status::failure("", "InternalError").with_code(500), Refusal::Uncertain),
            (Status::failure("", "Timeout").with_code(504), Refusal::Uncertain),
        ] {
            assert_eq!(Refusal::of(&api(status.clone())), refusal, "{status:?}");
        }
        assert_eq!(Refusal::of(&kube::Error::LinesCodecMaxLineLengthExceeded), Refusal::Uncertain);
    }

    #[test]
    fn the_message_is_the_servers_own() {
        let error = api(Status::failure("exceeded quota: pods", "Forbidden").with_code(403));
        assert_eq!(SyncError::from(error).to_string(), "exceeded quota: pods");
    }
}
