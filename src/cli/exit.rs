//! Exit codes: what a script learns from `rolloutctl`.
//!
//! One table; `rolloutctl --help` prints it and docs/rolloutctl.md repeats it.

use std::fmt::Write as _;
use std::process::ExitCode;

use tonic::Code;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// The server refused, or something else failed.
    Failed,
    /// The command line makes no sense; clap ends so, too.
    Usage,
    /// The object does not exist.
    NotFound,
    /// The object is not as it was seen, or not in a state for it.
    Stale,
    /// No answer.
    Unreachable,
    /// Not allowed.
    Denied,
    /// What was waited for did not come about.
    Missed,
    /// `diff` found differences, as diff(1) and kubectl have it, or `lint` violations.
    Found,
    /// What is `Failed` of other verbs, of those that may end with `Found`.
    Unfound,
    /// Nobody reads the output any more, 128 + SIGPIPE as shells have it.
    Closed,
}

/// Every way to end, with its code and meaning.
pub const TABLE: &[(Exit, u8, &str)] = &[
    (Exit::Done, 0, "done"),
    (Exit::Failed, 1, "the server refused, or something else failed"),
    (Exit::Found, 1, "`diff` found differences, or `lint` violations"),
    (Exit::Usage, 2, "the command line makes no sense"),
    (Exit::NotFound, 3, "not found"),
    (Exit::Stale, 4, "a precondition failed, or what was seen is stale"),
    (Exit::Unreachable, 5, "the server cannot be reached, or did not answer in time"),
    (Exit::Denied, 6, "permission denied"),
    (
        Exit::Missed,
        7,
        "a wait ended otherwise: degraded, or out of time; or a plan ends degraded, stuck, or cut off",
    ),
    (Exit::Unfound, 8, "`diff` or `lint` failed, where other verbs end with 1"),
    (Exit::Closed, 141, "the output was closed early"),
];

impl Exit {
    /// The code.
    #[must_use]
    pub fn code(self) -> u8 {
        TABLE.iter().find(|(exit, ..)| *exit == self).map_or(1, |(_, code, _)| *code)
    }

    /// How an RPC that ended with this code ends the program.
    pub(super) fn of(code: Code) -> Self {
        match code {
            Code::Ok => Self::Done,
            Code::NotFound => Self::NotFound,
            Code::FailedPrecondition | Code::Aborted => Self::Stale,
            Code::Unavailable | Code::DeadlineExceeded => Self::Unreachable,
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied,
            Code::Cancelled
            | Code::Unknown
            | Code::InvalidArgument
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// The table as `--help` prints it.
pub(super) fn help() -> String {
    let mut text = "Exit codes:".to_owned();
    for (_, code, meaning) in TABLE {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {code:<4} {meaning}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_has_a_code_and_all_but_two_have_one_of_their_own() {
        let codes: Vec<u8> = TABLE.iter().map(|(exit, ..)| exit.code()).collect();
        assert_eq!(codes, [0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 141]);
    }

    #[test]
    fn the_manual_has_the_same_table() {
        let manual = include_str!("../../docs/rolloutctl.md");
        for (_, code, meaning) in TABLE {
            assert!(manual.contains(&format!("| {code} | {meaning} |")), "{code} {meaning}");
        }
    }
}
