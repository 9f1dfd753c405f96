//! Failures as they are printed.

use std::time::Duration;

use tonic_types::{FieldViolation, PreconditionViolation};

use super::*;

const NAME: &str = "namespaces/shop/rollouts/web";

fn refused(code: Code, message: &str, details: ErrorDetails) -> Failure {
    let status = Status::with_error_details(code, message, details);
    Failure::refused(&Address::DEFAULT.parse().unwrap(), Subject::Rollout(NAME), status)
}

fn printed(code: Code, message: &str, details: ErrorDetails) -> String {
    refused(code, message, details).lines().join("\n")
}

fn reason(reason: &str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, "rolloutd.dev", [])
}

#[test]
fn field_violations_stand_below_the_message_and_are_not_said_twice() {
    let fields = |fields: &[&str]| {
        let violation = |field: &&str| FieldViolation::new(*field, "must be at\nmost 100");
        ErrorDetails::with_bad_request(fields.iter().map(violation).collect::<Vec<_>>())
    };
    let step = "[1].spec.strategy.canary.steps[2].setWeight";
    insta::assert_snapshot!(printed(
        Code::InvalidArgument,
        &format!("{step}: must be at most 100 (and 1 more)"),
        fields(&[step, "[1].spec.replicas"]),
    ), @r#"
    error: [1].spec.strategy.canary.steps[2].setWeight: must be at most 100 (and 1 more)
      [1].spec.strategy.canary.steps[2].setWeight: must be at most 100
      [1].spec.replicas: must be at most 100
    "#);
    insta::assert_snapshot!(printed(
        Code::InvalidArgument,
        "replicas: must be at most 100",
        fields(&["replicas"]),
    ), @"error: replicas: must be at most 100");
}

#[test]
fn a_failure_of_a_file_names_the_file() {
    let address = Address::DEFAULT.parse().unwrap();
    let violation = ErrorDetails::with_bad_request_violation("[0]", "no kind");
    let status = Status::with_error_details(Code::InvalidArgument, "[0]: no kind", violation);
    let failure = Failure::refused(&address, Subject::File("web.yaml"), status);
    assert_eq!(failure.lines(), ["error: web.yaml: [0]: no kind"]);
}

#[test]
fn a_failed_precondition_says_what_must_be_otherwise_and_what_to_do() {
    let mut stale = reason("STALE_STEP");
    stale.set_precondition_failure(vec![PreconditionViolation::new(
        "STALE_STEP",
        "status.currentStepIndex",
        "is 2",
    )]);
    insta::assert_snapshot!(printed(Code::FailedPrecondition, "the rollout is at another step", stale), @r#"
    error: the rollout is at another step
      status.currentStepIndex: is 2
      `rolloutctl get shop/web` shows where it is now; repeat the command if it is still wanted
    "#);
    insta::assert_snapshot!(printed(Code::FailedPrecondition, "the update was aborted", reason("ROLLOUT_ABORTED")), @r#"
    error: the update was aborted
      `rolloutctl retry shop/web` starts it again, `rolloutctl undo shop/web` goes back
    "#);
    insta::assert_snapshot!(printed(Code::FailedPrecondition, "nothing to promote", reason("NOTHING_TO_PROMOTE")), @r#"
    error: nothing to promote
      `rolloutctl get shop/web` shows where it is
    "#);
    insta::assert_snapshot!(printed(Code::Aborted, "the etag is another", reason("ETAG_MISMATCH")), @r#"
    error: the etag is another
      `rolloutctl get shop/web -o wide` shows the present etag
    "#);
}

#[test]
fn what_is_missing_is_named() {
    let details = ErrorDetails::with_resource_info("rolloutd.dev/Rollout", NAME, "", "");
    insta::assert_snapshot!(printed(Code::NotFound, "no such rollout", details), @r#"
    error: no such rollout
      missing: rolloutd.dev/Rollout namespaces/shop/rollouts/web
    "#);
}

#[test]
fn a_server_that_is_away_is_named_with_when_to_try_again() {
    let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(5)));
    insta::assert_snapshot!(printed(Code::Unavailable, "this server is shutting down", details), @r#"
    error: this server is shutting down
      the server tried: http://127.0.0.1:50051
      try again in 5s
    "#);
    let unreachable = Failure::Unreachable {
        address: Address::DEFAULT.parse().unwrap(),
        cause: "connection refused".to_owned(),
    };
    insta::assert_snapshot!(unreachable.lines().join("\n"), @r#"
    error: cannot reach the server at http://127.0.0.1:50051: connection refused
      is rolloutd running there? --server or ROLLOUTD_SERVER names another address
    "#);
}

#[test]
fn a_status_without_a_message_or_with_garbled_details_is_still_an_error_in_words() {
    let status = Status::with_details(Code::Internal, "", vec![0xff, 0xff].into());
    let failure = Failure::refused(&Address::DEFAULT.parse().unwrap(), Subject::Rollout(NAME), status);
    insta::assert_snapshot!(failure.lines().join("\n"), @"error: Internal error");
    assert!(failure.applied().is_none());
}

#[test]
fn a_message_cannot_drive_the_terminal_or_forge_a_line() {
    let lines = refused(Code::Internal, "bad\nerror: fine\u{1b}[2J", ErrorDetails::new()).lines();
    assert_eq!(lines, ["error: bad error: fine [2J"]);
}

#[test]
fn every_failure_has_its_exit() {
    let pipe = Failure::Output(io::ErrorKind::BrokenPipe.into());
    assert!(pipe.lines().is_empty(), "who went away is told nothing");
    for (failure, exit) in [
        (pipe, Exit::Closed),
        (Failure::Output(io::ErrorKind::StorageFull.into()), Exit::Failed),
        (Failure::Usage(String::new()), Exit::Usage),
        (Failure::Missed(String::new()), Exit::Missed),
        (Failure::Exists(String::new()), Exit::Failed),
        (refused(Code::NotFound, "", ErrorDetails::new()), Exit::NotFound),
        (refused(Code::FailedPrecondition, "", ErrorDetails::new()), Exit::Stale),
        (refused(Code::Aborted, "", ErrorDetails::new()), Exit::Stale),
        (refused(Code::Unavailable, "", ErrorDetails::new()), Exit::Unreachable),
        (refused(Code::DeadlineExceeded, "", ErrorDetails::new()), Exit::Unreachable),
        (refused(Code::PermissionDenied, "", ErrorDetails::new()), Exit::Denied),
        (refused(Code::Unauthenticated, "", ErrorDetails::new()), Exit::Denied),
        (refused(Code::AlreadyExists, "", ErrorDetails::new()), Exit::Failed),
        (refused(Code::InvalidArgument, "", ErrorDetails::new()), Exit::Failed),
    ] {
        assert_eq!(failure.exit(), exit, "{failure}");
    }
}
