//! What refused calls answer, in a form that a table of cases can hold.

use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

/// The error of a call, which must have failed.
#[track_caller]
pub(crate) fn refused<A: std::fmt::Debug>(answer: Result<Response<A>, Status>) -> Refusal {
    Refusal::of(&answer.expect_err("the call is refused"))
}

/// An error in its parts.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// The fields that break rules, with why.
    pub(crate) violations: Vec<(String, String)>,
    pub(crate) metadata: std::collections::HashMap<String, String>,
    pub(crate) status: Status,
}

impl Refusal {
    pub(crate) fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        if let Some(info) = info {
            assert_eq!(info.domain, "rolloutd.dev");
        }
        let violations = details.bad_request().map(|bad| &bad.field_violations).into_iter().flatten();
        Self {
            code: status.code(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            message: status.message().to_owned(),
            violations: violations
                .map(|violation| (violation.field.clone(), violation.description.clone()))
                .collect(),
            metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
            status: status.clone(),
        }
    }

    /// Checks code and reason.
    #[track_caller]
    pub(crate) fn is(self, code: Code, reason: &str) -> Self {
        assert_eq!((self.code, self.reason.as_str()), (code, reason), "{}", self.message);
        self
    }

    /// Checks that it is INVALID_ARGUMENT for just these fields.
    #[track_caller]
    pub(crate) fn names_fields(self, fields: &[&str]) -> Self {
        assert_eq!(self.code, Code::InvalidArgument, "{}", self.message);
        let named: Vec<&str> = self.violations.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(named, fields, "{}", self.message);
        self
    }

    /// Checks that the message says something.
    #[track_caller]
    pub(crate) fn says(self, what: &str) -> Self {
        assert!(self.message.contains(what), "{:?} does not say {what:?}", self.message);
        self
    }

    /// Checks that it says what was not found.
    #[track_caller]
    pub(crate) fn lacks_object(self, kind: &str, name: &str) -> Self {
        assert_eq!(self.code, Code::NotFound, "{}", self.message);
        let details = self.status.get_error_details();
        let resource = details.resource_info().expect("what was not found is named");
        assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), (kind, name));
        self
    }

    /// How long a client should wait.
    pub(crate) fn retry_after(&self) -> Option<std::time::Duration> {
        self.status.get_error_details().retry_info()?.retry_delay
    }
}
