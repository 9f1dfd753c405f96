//! What a request is refused with: one error type, and its form on the wire (`kind: Status`).
//!
//! Depends on [`super::field`], and on why a write is not stored. Every handler returns [`ApiError`]; [`super::present`] writes it out.
//! Codes, reasons and wording are those of apimachinery's `api/errors`.

use std::fmt;

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::durable;
use super::field::{Violation, Violations};

/// A resource as error messages name it: `pods`, `rollouts.argoproj.io`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupResource {
    /// API group; empty for the core group.
    pub group: String,
    /// Plural resource name.
    pub resource: String,
}

impl GroupResource {
    /// The resource `resource` of the API group `group` (empty: the core group).
    #[must_use]
    pub fn new(group: &str, resource: &str) -> Self {
        Self { group: group.to_owned(), resource: resource.to_owned() }
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.resource)
        } else {
            write!(f, "{}.{}", self.resource, self.group)
        }
    }
}

/// A group and kind, as 422 answers name it: `Pod`, `Rollout.argoproj.io`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupKind {
    pub(crate) group: String,
    pub(crate) kind: String,
}

impl GroupKind {
    pub(crate) fn new(group: &str, kind: &str) -> Self {
        Self { group: group.to_owned(), kind: kind.to_owned() }
    }

    /// The options of a request, which are validated like objects.
    pub(crate) fn options(kind: &str) -> Self {
        Self::new("meta.k8s.io", kind)
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.kind)
        } else {
            write!(f, "{}.{}", self.kind, self.group)
        }
    }
}

/// A refused request.
#[derive(Debug, Error)]
pub(crate) enum ApiError {
    #[error("the server could not find the requested resource")]
    UnknownResource,
    /// A path outside the API; answered in plain text, as the real server does.
    #[error("404 page not found")]
    UnknownPath,
    #[error("{resource} \"{name}\" not found")]
    NotFound { resource: GroupResource, name: String },
    #[error("{resource} \"{name}\" already exists")]
    AlreadyExists { resource: GroupResource, name: String },
    #[error("object is being deleted: {resource} \"{name}\" already exists")]
    BeingDeleted { resource: GroupResource, name: String },
    #[error(
        "{resource} \"{name}\" already exists, the server was not able to generate a unique name for the object"
    )]
    GeneratedNameTaken { resource: GroupResource, name: String },
    #[error("Operation cannot be fulfilled on {resource} \"{name}\": {why}")]
    Conflict { resource: GroupResource, name: String, why: String },
    #[error("{resource} \"{name}\" is forbidden: {why}")]
    Forbidden { resource: GroupResource, name: String, why: String, cause: Option<Box<Cause>> },
    #[error("{kind} \"{name}\" is invalid{}", aggregate(.violations))]
    Invalid { kind: GroupKind, name: String, violations: Violations },
    /// A JSON patch that does not apply.
    #[error("the server rejected our request due to an error in our request")]
    PatchFailed,
    #[error("{0}")]
    BadRequest(String),
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    #[error("{0}")]
    NotAcceptable(String),
    #[error("{0}")]
    UnsupportedMediaType(String),
    /// A patch of no type that the API knows; worded differently from a type that this kind lacks.
    #[error("415: Unsupported Media Type")]
    UnknownPatch,
    #[error("Request entity too large: {0}")]
    TooLarge(String),
    #[error("{0}")]
    Expired(String),
    /// An eviction that a budget does not allow now.
    #[error("Cannot evict pod as it would violate the pod's disruption budget.")]
    Disrupting { why: String, retry: Retry },
    #[error("Timeout: Too large resource version: {wanted}, current: {current}")]
    VersionAhead { wanted: u64, current: u64 },
    #[error("{0}")]
    NotImplemented(String),
    #[error("Internal error occurred: {0}")]
    Internal(String),
    /// The disk refused; whether the write will be found there is not known to the client.
    #[error("Internal error occurred: the write was not stored: {why}")]
    NotStored { why: String, cause: durable::Cause },
    /// What the real server lets through as an error without a reason, code 500.
    #[error("{0}")]
    Unclassified(String),
}

/// Whether a refusal says when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    AfterSeconds(u64),
    Unsaid,
}

/// A cause that no field violation expresses.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) field: &'static str,
}

/// Wording of the conflict that a stale `resourceVersion` meets.
pub(crate) const STALE: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

impl ApiError {
    pub(crate) fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::NotFound { resource: resource.clone(), name: name.to_owned() }
    }

    pub(crate) fn conflict(resource: &GroupResource, name: &str, why: impl Into<String>) -> Self {
        Self::Conflict { resource: resource.clone(), name: name.to_owned(), why: why.into() }
    }

    pub(crate) fn forbidden(resource: &GroupResource, name: &str, why: impl Into<String>) -> Self {
        Self::Forbidden { resource: resource.clone(), name: name.to_owned(), why: why.into(), cause: None }
    }

    pub(crate) fn invalid(kind: GroupKind, name: &str, violations: Violations) -> Self {
        Self::Invalid { kind, name: name.to_owned(), violations }
    }

    /// `Ok` when there is no violation.
    pub(crate) fn check(kind: &GroupKind, name: &str, violations: Violations) -> Result<(), Self> {
        if violations.is_empty() { Ok(()) } else { Err(Self::invalid(kind.clone(), name, violations)) }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::BadRequest(message.into())
    }

    /// HTTP status code.
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Forbidden { .. } => 403,
            Self::UnknownResource | Self::UnknownPath | Self::NotFound { .. } => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable(_) => 406,
            Self::AlreadyExists { .. }
            | Self::BeingDeleted { .. }
            | Self::GeneratedNameTaken { .. }
            | Self::Conflict { .. } => 409,
            Self::Expired(_) => 410,
            Self::TooLarge(_) => 413,
            Self::UnsupportedMediaType(_) | Self::UnknownPatch => 415,
            Self::Invalid { .. } | Self::PatchFailed => 422,
            Self::Disrupting { .. } => 429,
            Self::Internal(_)
            | Self::Unclassified(_)
            | Self::NotStored { cause: durable::Cause::Other, .. } => 500,
            Self::NotImplemented(_) => 501,
            Self::VersionAhead { .. } => 504,
            Self::NotStored { cause: durable::Cause::DiskFull, .. } => 507,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "BadRequest",
            Self::Forbidden { .. } => "Forbidden",
            Self::UnknownResource | Self::UnknownPath | Self::NotFound { .. } => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable(_) => "NotAcceptable",
            Self::AlreadyExists { .. } | Self::BeingDeleted { .. } | Self::GeneratedNameTaken { .. } => {
                "AlreadyExists"
            }
            Self::Conflict { .. } => "Conflict",
            Self::Expired(_) => "Expired",
            Self::TooLarge(_) => "RequestEntityTooLarge",
            Self::Disrupting { .. } => "TooManyRequests",
            Self::UnsupportedMediaType(_) | Self::UnknownPatch => "UnsupportedMediaType",
            Self::Invalid { .. } | Self::PatchFailed => "Invalid",
            Self::Internal(_) | Self::NotStored { .. } => "InternalError",
            Self::Unclassified(_) => "",
            // Kubernetes has no reason of its own for 501.
            Self::NotImplemented(_) => "NotImplemented",
            Self::VersionAhead { .. } => "Timeout",
        }
    }

    fn details(&self) -> Option<Value> {
        match self {
            Self::NotFound { resource, name }
            | Self::AlreadyExists { resource, name }
            | Self::BeingDeleted { resource, name }
            | Self::Conflict { resource, name, .. } => Some(object_details(resource, name, &[])),
            Self::GeneratedNameTaken { resource, name } => {
                let mut details = object_details(resource, name, &[]);
                details["retryAfterSeconds"] = json!(1);
                Some(details)
            }
            Self::Forbidden { resource, name, cause, .. } => {
                let causes: Vec<Value> = cause.iter().map(|cause| cause.to_json()).collect();
                Some(object_details(resource, name, &causes))
            }
            Self::Invalid { kind, name, violations } => {
                let causes: Vec<Value> = violations.iter().map(violation_cause).collect();
                Some(object_details(&GroupResource::new(&kind.group, &kind.kind), name, &causes))
            }
            Self::Internal(message) | Self::NotStored { why: message, .. } => {
                Some(json!({"causes": [{"message": message}]}))
            }
            Self::Disrupting { why, retry } => {
                let mut details = json!({"causes": [{"reason": "DisruptionBudget", "message": why}]});
                if let Retry::AfterSeconds(seconds) = retry {
                    details["retryAfterSeconds"] = json!(seconds);
                }
                Some(details)
            }
            Self::VersionAhead { .. } => Some(json!({
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1,
            })),
            Self::UnknownResource
            | Self::MethodNotAllowed
            | Self::NotAcceptable(_)
            | Self::UnknownPatch
            | Self::PatchFailed => Some(json!({})),
            _ => None,
        }
    }

    /// The `Status` object of the answer.
    pub(crate) fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.to_string(),
            "code": self.code(),
        });
        if !self.reason().is_empty() {
            status["reason"] = json!(self.reason());
        }
        if let Some(details) = self.details() {
            status["details"] = details;
        }
        status
    }
}

impl Cause {
    fn to_json(&self) -> Value {
        json!({"reason": self.reason, "message": self.message, "field": self.field})
    }
}

/// The `Status` of a successful delete that does not return the object.
pub(crate) fn deleted(resource: &GroupResource, name: &str, uid: &str) -> Value {
    let mut details = object_details(resource, name, &[]);
    details["uid"] = json!(uid);
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

fn object_details(resource: &GroupResource, name: &str, causes: &[Value]) -> Value {
    let mut details = Map::new();
    for (key, value) in [("name", name), ("group", &resource.group), ("kind", &resource.resource)] {
        if !value.is_empty() {
            details.insert(key.to_owned(), json!(value));
        }
    }
    if !causes.is_empty() {
        details.insert("causes".to_owned(), json!(causes));
    }
    Value::Object(details)
}

fn violation_cause(violation: &Violation) -> Value {
    json!({
        "reason": violation.rule.reason(),
        "message": violation.body(),
        "field": violation.path.to_string(),
    })
}

/// One violation stands alone; several stand in brackets, each text once.
fn aggregate(violations: &Violations) -> String {
    let mut texts: Vec<String> = Vec::with_capacity(violations.len());
    for violation in violations {
        let text = violation.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [] => String::new(),
        [one] => format!(": {one}"),
        several => format!(": [{}]", several.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::field::Path;

    #[test]
    fn a_missing_object_is_named_with_its_group() {
        let error = ApiError::not_found(&GroupResource::new("apps", "replicasets"), "web");
        let status = error.to_status();
        assert_eq!(status["message"], "replicasets.apps \"web\" not found");
        assert_eq!(status["code"], 404);
        assert_eq!(status["details"], json!({"name": "web", "group": "apps", "kind": "replicasets"}));
    }

    #[test]
    fn several_violations_stand_in_brackets_and_repeats_are_dropped_from_the_message() {
        let path = Path::of("spec.replicas");
        let violation = Violation::invalid(&path, -1, "must be greater than or equal to 0");
        let other = Violation::required(&Path::of("spec.selector"), "");
        let one = ApiError::invalid(GroupKind::new("apps", "ReplicaSet"), "web", vec![violation.clone()]);
        assert_eq!(
            one.to_string(),
            "ReplicaSet.apps \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        );
        let kind = GroupKind::new("apps", "ReplicaSet");
        let several = ApiError::invalid(kind, "web", vec![violation.clone(), violation, other]);
        assert_eq!(
            several.to_string(),
            "ReplicaSet.apps \"web\" is invalid: [spec.replicas: Invalid value: -1: must be greater than or equal to 0, \
             spec.selector: Required value]"
        );
        assert_eq!(several.to_status()["details"]["causes"].as_array().map(Vec::len), Some(3));
    }
}
