//! Verbs that take manifests.

use std::path::PathBuf;

use clap::Args;

use super::guard::{Dry, Request, Wait};
use super::print::{Data, Print};
use crate::cli::name::Name;

#[derive(Debug, Args)]
pub(in crate::cli) struct ApplyArgs {
    #[command(flatten)]
    pub(in crate::cli) files: Files,
    /// Take fields over that another manager owns, such as a GitOps tool
    #[arg(long)]
    pub(in crate::cli) force: bool,
    #[command(flatten)]
    pub(in crate::cli) dry: Dry,
    #[command(flatten)]
    pub(in crate::cli) request: Request,
    #[command(flatten)]
    pub(in crate::cli) wait: Wait,
    #[command(flatten)]
    pub(in crate::cli) print: Print,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArgs {
    #[command(flatten)]
    pub(in crate::cli) files: Files,
    #[command(flatten)]
    pub(in crate::cli) dry: Dry,
    #[command(flatten)]
    pub(in crate::cli) wait: Wait,
    #[command(flatten)]
    pub(in crate::cli) print: Print,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArgs {
    /// The rollout whose revisions are compared: NAME, or NAMESPACE/NAME
    #[arg(required_unless_present = "filenames", conflicts_with = "filenames")]
    pub(in crate::cli) name: Option<Name>,
    /// Compare manifests with the cluster: what `apply` would change. In YAML or JSON, a directory, or - for standard input; may be
    /// repeated
    #[arg(short, long = "filename", value_name = "FILE")]
    pub(in crate::cli) filenames: Vec<PathBuf>,
    /// The older revision [default: the stable one]
    #[arg(long, value_name = "N", conflicts_with = "filenames", value_parser = clap::value_parser!(i64).range(1..))]
    pub(in crate::cli) from: Option<i64>,
    /// The newer revision [default: the newest]
    #[arg(long, value_name = "N", conflicts_with = "filenames", value_parser = clap::value_parser!(i64).range(1..))]
    pub(in crate::cli) to: Option<i64>,
    /// Compare as `apply --force` would write, over fields that another manager owns
    #[arg(long, conflicts_with = "name")]
    pub(in crate::cli) force: bool,
    /// How to print it [default: as unified diffs]
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(in crate::cli) output: Option<Data>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LintArgs {
    #[command(flatten)]
    pub(in crate::cli) files: Files,
    /// Take warnings for errors
    #[arg(long)]
    pub(in crate::cli) strict: bool,
    /// How to print what is found [default: a line each]
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(in crate::cli) output: Option<Data>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Files {
    /// A manifest in YAML or JSON, a directory of *.yaml, *.yml and *.json, or - for standard input; may be repeated
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub(in crate::cli) filenames: Vec<PathBuf>,
}
