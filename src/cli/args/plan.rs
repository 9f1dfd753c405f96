//! The verb that looks ahead.

use std::path::PathBuf;

use clap::Args;
use jiff::SignedDuration;

use super::any_duration;
use super::print::Data;
use crate::cli::name::{ContainerImage, Name};

#[derive(Debug, Args)]
pub(in crate::cli) struct PlanArgs {
    /// The rollout as it stands: NAME, or NAMESPACE/NAME
    #[arg(required_unless_present = "filenames", conflicts_with = "filenames")]
    pub(in crate::cli) name: Option<Name>,
    /// What `apply` would lead to, of all rollouts in manifests. In YAML or JSON, a directory, or - for standard input; may be repeated:
    /// all files count together
    #[arg(short, long = "filename", value_name = "FILE")]
    pub(in crate::cli) filenames: Vec<PathBuf>,
    /// What `set image` would lead to; * is every container; may be repeated
    #[arg(long = "image", value_name = "CONTAINER=IMAGE", conflicts_with = "filenames")]
    pub(in crate::cli) images: Vec<ContainerImage>,
    /// Plan as `apply --force` would write, over fields that another manager owns
    #[arg(long, conflicts_with = "name")]
    pub(in crate::cli) force: bool,
    /// How to print it [default: as a table]
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(in crate::cli) output: Option<Data>,
    #[command(flatten)]
    pub(in crate::cli) assumed: Assumed,
}

/// What is taken for granted.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Assumptions")]
pub(in crate::cli) struct Assumed {
    /// How long a pod takes to become ready, such as 500ms or 1m [default: the server's, 5s]
    #[arg(long, value_name = "DURATION", value_parser = any_duration)]
    pub(in crate::cli) pod_start_up: Option<SignedDuration>,
    /// The newest version's pods never become ready
    #[arg(long)]
    pub(in crate::cli) pods_never_ready: bool,
    /// The update is aborted as soon as it comes to this step, counted from 0
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(in crate::cli) abort_at_step: Option<i32>,
    /// Endless pauses are promoted at once; otherwise the timeline ends there
    #[arg(long)]
    pub(in crate::cli) promote_pauses: bool,
}
