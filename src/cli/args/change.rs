//! Verbs that change a rollout.

use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::guard::{Dry, Etag, Guards};
use super::print::{NameOnly, Print};
use crate::cli::name::{ContainerImage, Name};

#[derive(Debug, Args)]
pub(in crate::cli) struct ImageArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(in crate::cli) name: Name,
    /// The image of a container or init container; * is every container
    #[arg(required = true, value_name = "CONTAINER=IMAGE")]
    pub(in crate::cli) images: Vec<ContainerImage>,
    #[command(flatten)]
    pub(in crate::cli) guards: Guards,
    #[command(flatten)]
    pub(in crate::cli) print: Print,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ScaleArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(in crate::cli) name: Name,
    /// How many pods
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(in crate::cli) replicas: i32,
    #[command(flatten)]
    pub(in crate::cli) guards: Guards,
    #[command(flatten)]
    pub(in crate::cli) print: Print,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PromoteArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(in crate::cli) name: Name,
    /// To the end: skip the remaining steps, pauses and analyses
    #[arg(long, conflicts_with = "to_step")]
    pub(in crate::cli) full: bool,
    /// The step to run next, counted from 0 as `get` shows them; the number of steps is the end
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(in crate::cli) to_step: Option<i32>,
    #[command(flatten)]
    pub(in crate::cli) guards: Guards,
    #[command(flatten)]
    pub(in crate::cli) print: Print,
}

/// A verb that needs the rollout only.
#[derive(Debug, Args)]
pub(in crate::cli) struct PlainArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(in crate::cli) name: Name,
    #[command(flatten)]
    pub(in crate::cli) guards: Guards,
    #[command(flatten)]
    pub(in crate::cli) print: Print,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RestartArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(in crate::cli) name: Name,
    /// Restart the pods that were created before this moment, such as 2026-01-31T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(in crate::cli) at: Option<Timestamp>,
    #[command(flatten)]
    pub(in crate::cli) guards: Guards,
    #[command(flatten)]
    pub(in crate::cli) print: Print,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct UndoArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(in crate::cli) name: Name,
    /// The revision to go back to [default: the one before the newest]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub(in crate::cli) to_revision: Option<i64>,
    #[command(flatten)]
    pub(in crate::cli) guards: Guards,
    #[command(flatten)]
    pub(in crate::cli) print: Print,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DeleteArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(in crate::cli) name: Name,
    /// What becomes of ReplicaSets and pods
    #[arg(long, value_enum, default_value_t = Cascade::Background)]
    pub(in crate::cli) cascade: Cascade,
    #[command(flatten)]
    pub(in crate::cli) dry: Dry,
    #[command(flatten)]
    pub(in crate::cli) etag: Etag,
    /// Print the rollout's name only
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(in crate::cli) output: Option<NameOnly>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Cascade {
    /// The rollout goes at once, the rest follows
    Background,
    /// The rollout goes when the rest is gone
    Foreground,
    /// The rest stays
    Orphan,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "give a time with its offset, such as 2026-01-31T12:00:00Z".to_owned())
}
