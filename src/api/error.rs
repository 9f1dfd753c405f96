//! What goes back to a caller whose request fails: a reason, a sentence, and details that machines read.
//!
//! Becomes a google.rpc.Status with ErrorInfo and, where they apply, BadRequest, PreconditionFailure, ResourceInfo and RetryInfo
//! (AIP-193). The reason decides the code ([`super::status`]). Nothing of the inside (an address, a stack) gets in here; it is
//! logged instead.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use prost::Message as _;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::convert::Fault;
use super::status::Reason;

/// The domain of every reason.
const DOMAIN: &str = "rolloutd.dev";

/// How long a client should wait before it tries again what may succeed soon.
pub(super) const RETRY_SOON: Duration = Duration::from_secs(1);

/// Why a request fails.
#[derive(Clone, Debug)]
pub(super) struct Error(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    reason: Reason,
    message: String,
    metadata: BTreeMap<&'static str, String>,
    faults: Vec<Fault>,
    precondition: Option<(&'static str, String)>,
    resource: Option<Resource>,
    retry: Option<Duration>,
    answer: Option<prost_types::Any>,
}

/// An object that an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    /// Its type, such as `rolloutd.dev/Rollout`.
    pub kind: &'static str,
    /// Its name, such as `namespaces/shop/rollouts/web`.
    pub name: String,
}

impl Error {
    /// An error with a reason and a sentence for people.
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            reason,
            message: message.into(),
            metadata: BTreeMap::new(),
            faults: Vec::new(),
            precondition: None,
            resource: None,
            retry: None,
            answer: None,
        }))
    }

    /// Fields of the request that break rules. There must be one at least.
    pub(super) fn invalid(faults: Vec<Fault>) -> Self {
        let message = match faults.as_slice() {
            [only] => format!("{}: {}", only.field, only.description),
            [first, rest @ ..] => format!("{}: {} (and {} more)", first.field, first.description, rest.len()),
            [] => "the request is invalid".to_owned(),
        };
        let mut error = Self::new(Reason::InvalidField, message);
        error.0.faults = faults;
        error
    }

    /// One field of the request that breaks a rule.
    pub(super) fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::invalid(vec![Fault::new(field, description)])
    }

    /// An object that does not exist.
    pub(super) fn not_found(resource: Resource) -> Self {
        let message = format!("{} does not exist", resource.name);
        Self::new(Reason::NotFound, message).about(resource)
    }

    /// Something that must not happen; what happened is logged.
    pub(super) fn internal(what: &str, error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "{what}");
        Self::new(Reason::Internal, format!("{what}; the server's log says more"))
    }

    /// Names the object.
    pub(super) fn about(mut self, resource: Resource) -> Self {
        self.0.resource = Some(resource);
        self
    }

    /// Adds the fields that are wrong.
    pub(super) fn with_faults(mut self, faults: Vec<Fault>) -> Self {
        self.0.faults = faults;
        self
    }

    /// Adds something that machines may want to know.
    pub(super) fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.0.metadata.insert(key, value.into());
        self
    }

    /// Names what must be otherwise before the request can succeed: `subject` is a field, such as `status.abort`.
    pub(super) fn precondition(mut self, subject: &'static str, description: impl Into<String>) -> Self {
        self.0.precondition = Some((subject, description.into()));
        self
    }

    /// Says when it is worth trying again.
    pub(super) fn retry_after(mut self, pause: Duration) -> Self {
        self.0.retry = Some(pause);
        self
    }

    /// Adds the answer as far as it got.
    pub(super) fn with_answer(mut self, name: &str, answer: &impl prost::Message) -> Self {
        self.0.answer = Some(prost_types::Any {
            type_url: format!("type.googleapis.com/{name}"),
            value: answer.encode_to_vec(),
        });
        self
    }

    /// Names the fields that are wrong otherwise.
    pub(super) fn rename_fields(mut self, rename: impl Fn(&str) -> String) -> Self {
        for fault in &mut self.0.faults {
            fault.field = rename(&fault.field);
        }
        self
    }

    /// The reason.
    pub(super) fn reason(&self) -> Reason {
        self.0.reason
    }

    /// The sentence.
    pub(super) fn message(&self) -> &str {
        &self.0.message
    }

    /// Puts words before the sentence.
    pub(super) fn within(mut self, place: &str) -> Self {
        self.0.message = format!("{place}: {}", self.0.message);
        self
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        let Parts { reason, message, metadata, faults, precondition, resource, retry, answer } = *error.0;
        let metadata: HashMap<String, String> =
            metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let mut details = ErrorDetails::with_error_info(reason.text(), DOMAIN, metadata);
        for fault in faults {
            details.add_bad_request_violation(fault.field, fault.description);
        }
        if let Some((subject, description)) = precondition {
            details.add_precondition_failure_violation(reason.text(), subject, description);
        }
        if let Some(Resource { kind, name }) = resource {
            details.set_resource_info(kind, name, "", "");
        }
        if let Some(pause) = retry {
            details.set_retry_info(Some(pause));
        }
        let status = Self::with_error_details(reason.code(), message, details);
        match answer {
            Some(answer) => with_detail(&status, answer),
            None => status,
        }
    }
}

/// Adds a detail that is none of the standard ones.
fn with_detail(status: &tonic::Status, detail: prost_types::Any) -> tonic::Status {
    let Ok(mut rpc) = tonic_types::pb::Status::decode(status.details()) else { return status.clone() };
    rpc.details.push(detail);
    tonic::Status::with_details(status.code(), status.message(), rpc.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_carries_its_details() {
        let resource = Resource { kind: "rolloutd.dev/Rollout", name: "namespaces/a/rollouts/b".to_owned() };
        let error = Error::not_found(resource).with("k", "v").retry_after(RETRY_SOON);
        let status = tonic::Status::from(error);
        assert_eq!(status.code(), tonic::Code::NotFound);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("NOT_FOUND", "rolloutd.dev"));
        assert_eq!(info.metadata["k"], "v");
        assert_eq!(details.resource_info().unwrap().resource_name, "namespaces/a/rollouts/b");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(RETRY_SOON));
    }

    #[test]
    fn field_violations_and_an_answer_travel_together() {
        let error = Error::invalid(vec![Fault::new("a", "is bad"), Fault::new("b", "is worse")]);
        assert_eq!(error.message(), "a: is bad (and 1 more)");
        let answer = crate::pb::v1::ApplyManifestResponse::default();
        let status = tonic::Status::from(error.with_answer("rolloutd.v1.ApplyManifestResponse", &answer));
        let rpc = tonic_types::pb::Status::decode(status.details()).unwrap();
        let types: Vec<&str> =
            rpc.details.iter().map(|detail| detail.type_url.rsplit('/').next().unwrap()).collect();
        assert_eq!(
            types,
            ["google.rpc.ErrorInfo", "google.rpc.BadRequest", "rolloutd.v1.ApplyManifestResponse"]
        );
    }
}
