//! What guards a mutation, and what it waits for.

use clap::{Args, ValueEnum};
use jiff::SignedDuration;
use uuid::Uuid;

use super::duration;
use crate::cli::failure::Failure;

/// What guards a mutation of a rollout.
#[derive(Debug, Args)]
pub(in crate::cli) struct Guards {
    #[command(flatten)]
    pub(in crate::cli) dry: Dry,
    #[command(flatten)]
    pub(in crate::cli) etag: Etag,
    #[command(flatten)]
    pub(in crate::cli) request: Request,
    #[command(flatten)]
    pub(in crate::cli) wait: Wait,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Dry {
    /// Check everything on the server and write nothing
    #[arg(
        long,
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = DryRun::None,
        default_missing_value = "server"
    )]
    pub(in crate::cli) dry_run: DryRun,
}

impl Dry {
    /// `validate_only` of requests.
    pub(in crate::cli) fn validate_only(&self) -> bool {
        self.dry_run == DryRun::Server
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum DryRun {
    /// Write
    None,
    /// Do all but write
    Server,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Etag {
    /// Refuse unless the rollout's etag is this one
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(in crate::cli) etag: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Request {
    /// A UUID that makes the request repeatable
    #[arg(long, value_name = "UUID")]
    pub(in crate::cli) request_id: Option<Uuid>,
}

impl Request {
    /// `request_id` of requests.
    pub(in crate::cli) fn id(&self) -> String {
        self.request_id.as_ref().map(Uuid::to_string).unwrap_or_default()
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Wait {
    /// Wait until the rollout settles (healthy, paused or degraded), at most for this long; 10m if no time is given. Exits with 7
    /// when it is degraded then, or has not settled
    #[arg(
        long,
        value_name = "DURATION",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "10m",
        value_parser = duration
    )]
    pub(in crate::cli) wait: Option<SignedDuration>,
}

impl Wait {
    /// How long to wait, of a request that writes.
    pub(in crate::cli) fn limit(&self, dry: &Dry) -> Result<Option<SignedDuration>, Failure> {
        if self.wait.is_some() && dry.validate_only() {
            let text = "--wait does not go with --dry-run: nothing happens that one could wait for";
            return Err(Failure::Usage(text.to_owned()));
        }
        Ok(self.wait)
    }
}
