//! Verbs that read, and those that wait.

use clap::{Args, ValueEnum};
use jiff::SignedDuration;

use super::duration;
use super::print::{Data, Print, Rows};
use crate::cli::name::Name;

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(in crate::cli) all_namespaces: bool,
    /// Labels, in Kubernetes' syntax, such as team=shop,tier!=batch
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "", hide_default_value = true)]
    pub(in crate::cli) selector: String,
    /// States and strategies, such as 'state = PAUSED OR state = DEGRADED' or 'strategy = blue_green'
    #[arg(long, value_name = "FILTER", default_value = "", hide_default_value = true)]
    pub(in crate::cli) filter: String,
    #[command(flatten)]
    pub(in crate::cli) page: Page,
    #[command(flatten)]
    pub(in crate::cli) print: Print,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Page {
    /// How many to ask for at a time; all are listed in any case
    #[arg(long = "page-size", value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub(in crate::cli) size: i32,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct GetArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(in crate::cli) name: Name,
    /// Go on showing it until interrupted: redrawn on a terminal, one line per change otherwise
    #[arg(short, long)]
    pub(in crate::cli) watch: bool,
    /// Watch until it is so; exits with 7 when it ends otherwise
    #[arg(long, value_enum)]
    pub(in crate::cli) until: Option<Until>,
    /// How long to wait for --until, such as 90s or 1h30m
    #[arg(long, requires = "until", value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub(in crate::cli) timeout: SignedDuration,
    #[command(flatten)]
    pub(in crate::cli) print: Print,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ExplainArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(in crate::cli) name: Name,
    /// How to print it [default: for people]
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(in crate::cli) output: Option<Data>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct WaitArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(in crate::cli) name: Name,
    /// What to wait for. Exits with 7 when the rollout ends otherwise, or the time is over
    #[arg(long = "for", value_enum, value_name = "STATE", default_value_t = Until::Settled)]
    pub(in crate::cli) until: Until,
    /// How long to wait, such as 90s or 1h30m
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub(in crate::cli) timeout: SignedDuration,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Until {
    /// All that is wanted is there
    Healthy,
    /// It waits for somebody, or for a pause to end
    Paused,
    /// It is aborted, out of time, or invalid
    Degraded,
    /// Any of the three
    Settled,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct HistoryArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(in crate::cli) name: Name,
    /// Show this revision alone, with its pod template
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub(in crate::cli) revision: Option<i64>,
    #[command(flatten)]
    pub(in crate::cli) page: Page,
    #[command(flatten)]
    pub(in crate::cli) print: Print,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ActivityArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(in crate::cli) name: Name,
    /// Show the newest only, this many [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) limit: Option<u32>,
    /// How to print it [default: for people]
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(in crate::cli) output: Option<Rows>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct VersionArgs {
    /// The client's only; does not ask the server
    #[arg(long)]
    pub(in crate::cli) client: bool,
    /// How to print it
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(in crate::cli) output: Option<Data>,
}
