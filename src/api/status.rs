//! The one table from errors, Kubernetes' and our own, to gRPC codes and reasons.
//!
//! A reason goes into google.rpc.ErrorInfo and is part of the contract: machines read it. [`super::error`] puts the rest of an
//! error around it.

use tonic::Code;

use crate::store::Throttled;

/// Declares [`Reason`] with its table: the reason as clients see it, and its code.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal => $code:ident,)+) => {
        /// Why a request fails.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Reason {
            $($(#[$doc])* $name,)+
        }

        impl Reason {
            /// All of them.
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$name,)+];

            /// The reason as clients see it.
            pub(super) const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The code that goes with it.
            pub(super) const fn code(self) -> Code {
                match self { $(Self::$name => Code::$code,)+ }
            }
        }
    };
}

reasons! {
    /// A field of the request breaks a rule.
    InvalidField = "INVALID_FIELD" => InvalidArgument,
    /// The request is no message of the method's type, or nested too deeply.
    InvalidMessage = "INVALID_MESSAGE" => InvalidArgument,
    /// The API server found the object invalid.
    InvalidObject = "INVALID_OBJECT" => InvalidArgument,
    /// A request id was used before, with another body.
    RequestIdReused = "REQUEST_ID_REUSED" => InvalidArgument,
    /// The request, or the object in it, is larger than the cluster takes.
    ObjectTooLarge = "OBJECT_TOO_LARGE" => InvalidArgument,
    /// The rollout, namespace or other object does not exist.
    NotFound = "NOT_FOUND" => NotFound,
    /// The rollout has no such revision.
    RevisionNotFound = "REVISION_NOT_FOUND" => NotFound,
    /// The name is taken.
    AlreadyExists = "ALREADY_EXISTS" => AlreadyExists,
    /// The etag is not the rollout's.
    EtagMismatch = "ETAG_MISMATCH" => Aborted,
    /// The object is another than it was, again and again.
    Conflict = "CONFLICT" => Aborted,
    /// A newer version than the caller saw.
    StaleHash = "STALE_HASH" => FailedPrecondition,
    /// Another step than the caller saw.
    StaleStep = "STALE_STEP" => FailedPrecondition,
    /// The step asked for is not ahead.
    StepNotAhead = "STEP_NOT_AHEAD" => FailedPrecondition,
    /// No update runs that could be moved on.
    NothingToPromote = "NOTHING_TO_PROMOTE" => FailedPrecondition,
    /// No update runs that could be aborted.
    NothingToAbort = "NOTHING_TO_ABORT" => FailedPrecondition,
    /// The update was aborted.
    RolloutAborted = "ROLLOUT_ABORTED" => FailedPrecondition,
    /// No controller has seen the newest spec yet.
    NotObserved = "NOT_OBSERVED" => FailedPrecondition,
    /// The newest spec is invalid, so that no controller acts on it.
    InvalidSpec = "INVALID_SPEC" => FailedPrecondition,
    /// The stored object cannot be decoded.
    MalformedObject = "MALFORMED_OBJECT" => FailedPrecondition,
    /// The pod template belongs to another object.
    TemplateElsewhere = "TEMPLATE_ELSEWHERE" => FailedPrecondition,
    /// Another manager owns the field.
    FieldOwned = "FIELD_OWNED" => FailedPrecondition,
    /// An admission rule of the cluster refuses the object.
    AdmissionDenied = "ADMISSION_DENIED" => FailedPrecondition,
    /// The cluster does not serve the kind.
    KindNotServed = "KIND_NOT_SERVED" => FailedPrecondition,
    /// A resource quota of the namespace is used up.
    QuotaExceeded = "QUOTA_EXCEEDED" => ResourceExhausted,
    /// More requests at once, or in a second, than this server takes.
    TooManyRequests = "TOO_MANY_REQUESTS" => ResourceExhausted,
    /// The environment of the rollout's pods changes too often.
    EnvironmentChangesTooOften = "ENVIRONMENT_CHANGES_TOO_OFTEN" => ResourceExhausted,
    /// More watches at once than this server takes.
    TooManyStreams = "TOO_MANY_STREAMS" => ResourceExhausted,
    /// More who wait to look ahead than this server lets wait.
    TooManyPlans = "TOO_MANY_PLANS" => ResourceExhausted,
    /// The consumer of a watch does not keep up.
    SlowConsumer = "SLOW_CONSUMER" => ResourceExhausted,
    /// The API server asks for patience.
    ClusterBusy = "CLUSTER_BUSY" => ResourceExhausted,
    /// This server's account lacks a right in the cluster.
    PermissionDenied = "PERMISSION_DENIED" => PermissionDenied,
    /// The API server does not answer, or does not accept this server.
    ClusterUnavailable = "CLUSTER_UNAVAILABLE" => Unavailable,
    /// This server has not seen the whole cluster yet.
    NotReady = "NOT_READY" => Unavailable,
    /// This server is shutting down.
    Draining = "DRAINING" => Unavailable,
    /// The deadline has passed.
    DeadlineExceeded = "DEADLINE_EXCEEDED" => DeadlineExceeded,
    /// The cache has not come to the version that was asked for.
    NotCaughtUp = "NOT_CAUGHT_UP" => DeadlineExceeded,
    /// What a watch is to resume from is not known any more.
    WatchExpired = "WATCH_EXPIRED" => OutOfRange,
    /// Something that must not happen.
    Internal = "INTERNAL" => Internal,
}

/// The reason that an error of the Kubernetes client stands for.
pub(super) fn of_kubernetes(error: &kube::Error) -> Reason {
    match error {
        kube::Error::Api(status) => of_answer(status.code, &status.reason, &status.message),
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) | kube::Error::BuildRequest(_) => {
            Reason::Internal
        }
        // Nothing was sent: too much waits already.
        kube::Error::Service(error) if error.is::<Throttled>() => Reason::ClusterBusy,
        // No answer: the connection, a proxy, TLS or the credentials failed.
        _ => Reason::ClusterUnavailable,
    }
}

/// The reason that an answer of the API server stands for, by HTTP code and Kubernetes' reason. The message tells only the three
/// kinds of 403 apart, for which Kubernetes has one reason.
fn of_answer(code: u16, reason: &str, message: &str) -> Reason {
    match (code, reason) {
        (409, "AlreadyExists") => Reason::AlreadyExists,
        (409 | 410, _) => Reason::Conflict,
        (400, _) if message.starts_with("admission webhook ") => Reason::AdmissionDenied,
        (400 | 422, _) => Reason::InvalidObject,
        (401, _) => Reason::ClusterUnavailable,
        (403, _) if message.contains("exceeded quota") => Reason::QuotaExceeded,
        (403, _) if message.contains(" cannot ") => Reason::PermissionDenied,
        (403, _) => Reason::AdmissionDenied,
        // The path itself is unknown: the definition is missing.
        (404, _) if message.starts_with("the server could not find the requested resource") => {
            Reason::KindNotServed
        }
        (404, "NotFound") => Reason::NotFound,
        (404 | 405, _) => Reason::KindNotServed,
        (413, _) => Reason::ObjectTooLarge,
        (429, _) => Reason::ClusterBusy,
        (504, _) | (_, "Timeout") => Reason::DeadlineExceeded,
        (500.., _) => Reason::ClusterUnavailable,
        _ => Reason::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_code() {
        let expected = "\
            INVALID_FIELD InvalidArgument\nINVALID_MESSAGE InvalidArgument\nINVALID_OBJECT InvalidArgument\nREQUEST_ID_REUSED InvalidArgument\n\
            OBJECT_TOO_LARGE InvalidArgument\nNOT_FOUND NotFound\n\
            REVISION_NOT_FOUND NotFound\nALREADY_EXISTS AlreadyExists\nETAG_MISMATCH Aborted\nCONFLICT Aborted\n\
            STALE_HASH FailedPrecondition\nSTALE_STEP FailedPrecondition\nSTEP_NOT_AHEAD FailedPrecondition\n\
            NOTHING_TO_PROMOTE FailedPrecondition\nNOTHING_TO_ABORT FailedPrecondition\n\
            ROLLOUT_ABORTED FailedPrecondition\nNOT_OBSERVED FailedPrecondition\n\
            INVALID_SPEC FailedPrecondition\nMALFORMED_OBJECT FailedPrecondition\nTEMPLATE_ELSEWHERE FailedPrecondition\n\
            FIELD_OWNED FailedPrecondition\nADMISSION_DENIED FailedPrecondition\nKIND_NOT_SERVED FailedPrecondition\n\
            QUOTA_EXCEEDED ResourceExhausted\nTOO_MANY_REQUESTS ResourceExhausted\n\
            ENVIRONMENT_CHANGES_TOO_OFTEN ResourceExhausted\n\
            TOO_MANY_STREAMS ResourceExhausted\nTOO_MANY_PLANS ResourceExhausted\nSLOW_CONSUMER ResourceExhausted\nCLUSTER_BUSY ResourceExhausted\n\
            PERMISSION_DENIED PermissionDenied\nCLUSTER_UNAVAILABLE Unavailable\nNOT_READY Unavailable\n\
            DRAINING Unavailable\nDEADLINE_EXCEEDED DeadlineExceeded\nNOT_CAUGHT_UP DeadlineExceeded\n\
            WATCH_EXPIRED OutOfRange\nINTERNAL Internal\n";
        let table: String =
            Reason::ALL.iter().map(|reason| format!("{} {:?}\n", reason.text(), reason.code())).collect();
        assert_eq!(table, expected);
    }

    #[test]
    fn every_answer_of_kubernetes_has_its_reason() {
        let rbac = "rollouts.argoproj.io is forbidden: User \"x\" cannot get resource \"rollouts\"";
        let quota = "rollouts \"web\" is forbidden: exceeded quota: few, requested: 1, used: 2, limited: 2";
        let policy = "rollouts \"web\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: no";
        for (code, reason, message, expected) in [
            (400, "BadRequest", "", Reason::InvalidObject),
            (400, "", "admission webhook \"a\" denied the request: no", Reason::AdmissionDenied),
            (401, "Unauthorized", "", Reason::ClusterUnavailable),
            (403, "Forbidden", rbac, Reason::PermissionDenied),
            (403, "Forbidden", quota, Reason::QuotaExceeded),
            (403, "Forbidden", policy, Reason::AdmissionDenied),
            (404, "NotFound", "rollouts.argoproj.io \"web\" not found", Reason::NotFound),
            (404, "NotFound", "the server could not find the requested resource", Reason::KindNotServed),
            (404, "Failed to parse error data", "404 page not found", Reason::KindNotServed),
            (405, "MethodNotAllowed", "", Reason::KindNotServed),
            (409, "AlreadyExists", "", Reason::AlreadyExists),
            (409, "Conflict", "", Reason::Conflict),
            (410, "Expired", "", Reason::Conflict),
            (413, "RequestEntityTooLarge", "", Reason::ObjectTooLarge),
            (418, "Teapot", "", Reason::Internal),
            (422, "Invalid", "", Reason::InvalidObject),
            (429, "TooManyRequests", "", Reason::ClusterBusy),
            (500, "InternalError", "", Reason::ClusterUnavailable),
            (500, "Timeout", "", Reason::DeadlineExceeded),
            (502, "", "bad gateway", Reason::ClusterUnavailable),
            (503, "ServiceUnavailable", "", Reason::ClusterUnavailable),
            (504, "Timeout", "", Reason::DeadlineExceeded),
        ] {
            assert_eq!(of_answer(code, reason, message), expected, "{code} {reason} {message}");
        }
    }
}
