//! The command line, as data.
//!
//! Parsed by clap into what [`super::verb`] does; nothing is decided here. What comes from the environment is not read
//! here either: `super::Environment` hands it in.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;
use uuid::Uuid;

use super::exit;
use super::name::{Address, ContainerImage, Name};

/// Creates, moves, watches and undoes rollouts through a rolloutd server.
#[derive(Debug, Parser)]
#[command(name = "rolloutctl", version, after_help = exit::help())]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// The server, host:port or http://host:port [default: $ROLLOUTD_SERVER, or http://127.0.0.1:50051]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(super) server: Option<Address>,
    /// The namespace of names that have none [default: $ROLLOUTD_NAMESPACE, or default]
    #[arg(short, long, global = true)]
    pub(super) namespace: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Create or change what manifests say
    Apply(ApplyArgs),
    /// Create rollouts from manifests; none may exist
    Create(ManifestArgs),
    /// List rollouts
    List(ListArgs),
    /// Show a rollout with its revisions, ReplicaSets and pods, and what it waits for
    Get(GetArgs),
    /// Set a part of a rollout
    #[command(subcommand)]
    Set(SetVerb),
    /// Set the number of pods
    Scale(ScaleArgs),
    /// Move a running update on: by one step, to a step, or to its end
    Promote(PromoteArgs),
    /// Hold a rollout where it is
    Pause(PlainArgs),
    /// Let a rollout go on that `pause` holds
    Resume(PlainArgs),
    /// Abort a running update: the stable version takes everything back
    Abort(PlainArgs),
    /// Start an aborted update again
    Retry(PlainArgs),
    /// Go back to an earlier revision
    Undo(UndoArgs),
    /// Delete a rollout
    Delete(DeleteArgs),
    /// Tell the versions of client and server
    Version(VersionArgs),
}

#[derive(Debug, Subcommand)]
pub(super) enum SetVerb {
    /// Set images of containers, which starts an update
    Image(ImageArgs),
}

#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    pub(super) manifests: ManifestArgs,
    #[command(flatten)]
    pub(super) request: Request,
}

#[derive(Debug, Args)]
pub(super) struct ManifestArgs {
    /// A manifest in YAML or JSON, a directory of *.yaml, *.yml and *.json, or - for standard input; may be repeated
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub(super) filenames: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) dry: Dry,
    #[command(flatten)]
    pub(super) print: Print,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// All namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(super) all_namespaces: bool,
    /// Labels, in Kubernetes' syntax, such as team=shop,tier!=batch
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "", hide_default_value = true)]
    pub(super) selector: String,
    /// How many to ask for at a time; all are listed in any case
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(i32).range(1..=1000))]
    pub(super) page_size: i32,
    #[command(flatten)]
    pub(super) print: Print,
}

#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(super) name: Name,
    /// Go on showing it until interrupted: redrawn on a terminal, one line per change otherwise
    #[arg(short, long)]
    pub(super) watch: bool,
    /// Watch until it is so; exits with 7 when it ends otherwise
    #[arg(long, value_enum)]
    pub(super) until: Option<Until>,
    /// How long to wait for --until, such as 90s or 1h30m
    #[arg(long, requires = "until", value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub(super) timeout: SignedDuration,
    #[command(flatten)]
    pub(super) print: Print,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Until {
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
pub(super) struct ImageArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(super) name: Name,
    /// The image of a container or init container; * is every container
    #[arg(required = true, value_name = "CONTAINER=IMAGE")]
    pub(super) images: Vec<ContainerImage>,
    #[command(flatten)]
    pub(super) guards: Guards,
    #[command(flatten)]
    pub(super) print: Print,
}

#[derive(Debug, Args)]
pub(super) struct ScaleArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(super) name: Name,
    /// How many pods
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(super) replicas: i32,
    #[command(flatten)]
    pub(super) guards: Guards,
    #[command(flatten)]
    pub(super) print: Print,
}

#[derive(Debug, Args)]
pub(super) struct PromoteArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(super) name: Name,
    /// To the end: skip the remaining steps, pauses and analyses
    #[arg(long, conflicts_with = "to_step")]
    pub(super) full: bool,
    /// The step to run next, counted from 0 as `get` shows them; the number of steps is the end
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub(super) to_step: Option<i32>,
    #[command(flatten)]
    pub(super) guards: Guards,
    #[command(flatten)]
    pub(super) print: Print,
}

/// A verb that needs the rollout only.
#[derive(Debug, Args)]
pub(super) struct PlainArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(super) name: Name,
    #[command(flatten)]
    pub(super) guards: Guards,
    #[command(flatten)]
    pub(super) print: Print,
}

#[derive(Debug, Args)]
pub(super) struct UndoArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(super) name: Name,
    /// The revision to go back to [default: the one before the newest]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub(super) to_revision: Option<i64>,
    #[command(flatten)]
    pub(super) guards: Guards,
    #[command(flatten)]
    pub(super) print: Print,
}

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(super) name: Name,
    /// What becomes of ReplicaSets and pods
    #[arg(long, value_enum, default_value_t = Cascade::Background)]
    pub(super) cascade: Cascade,
    #[command(flatten)]
    pub(super) dry: Dry,
    #[command(flatten)]
    pub(super) etag: Etag,
    /// Print the rollout's name only
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(super) output: Option<NameOnly>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Cascade {
    /// The rollout goes at once, the rest follows
    Background,
    /// The rollout goes when the rest is gone
    Foreground,
    /// The rest stays
    Orphan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum NameOnly {
    /// Names alone
    Name,
}

#[derive(Debug, Args)]
pub(super) struct VersionArgs {
    /// The client's only; does not ask the server
    #[arg(long)]
    pub(super) client: bool,
    /// How to print it
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(super) output: Option<Data>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Data {
    /// JSON
    Json,
    /// YAML
    Yaml,
}

/// What guards a mutation.
#[derive(Debug, Args)]
pub(super) struct Guards {
    #[command(flatten)]
    pub(super) dry: Dry,
    #[command(flatten)]
    pub(super) etag: Etag,
    #[command(flatten)]
    pub(super) request: Request,
}

#[derive(Debug, Args)]
pub(super) struct Dry {
    /// Check everything on the server and write nothing
    #[arg(
        long,
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = DryRun::None,
        default_missing_value = "server"
    )]
    pub(super) dry_run: DryRun,
}

impl Dry {
    /// `validate_only` of requests.
    pub(super) fn validate_only(&self) -> bool {
        self.dry_run == DryRun::Server
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum DryRun {
    /// Write
    None,
    /// Do all but write
    Server,
}

#[derive(Debug, Args)]
pub(super) struct Etag {
    /// Refuse unless the rollout's etag is this one
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) etag: String,
}

#[derive(Debug, Args)]
pub(super) struct Request {
    /// A UUID that makes the request repeatable
    #[arg(long, value_name = "UUID")]
    pub(super) request_id: Option<Uuid>,
}

impl Request {
    /// `request_id` of requests.
    pub(super) fn id(&self) -> String {
        self.request_id.as_ref().map(Uuid::to_string).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Print {
    /// How to print it [default: for people]
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(super) output: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people, with more columns
    Wide,
    /// JSON, in protobuf's mapping
    Json,
    /// The same in YAML
    Yaml,
    /// Names alone
    Name,
}

/// `90s`, `10m`, `1h30m`.
fn duration(text: &str) -> Result<SignedDuration, String> {
    match text.parse::<SignedDuration>() {
        Ok(duration) if duration.is_positive() => Ok(duration),
        _ => Err("give a duration such as 90s, 10m or 1h30m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Verb, clap::error::ErrorKind> {
        let arguments = std::iter::once("rolloutctl").chain(line.split_whitespace());
        Cli::try_parse_from(arguments).map(|cli| cli.verb).map_err(|error| error.kind())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_dry_run_is_the_servers_with_and_without_saying_so() {
        for (flag, expected) in [
            ("", DryRun::None),
            ("--dry-run", DryRun::Server),
            ("--dry-run=server", DryRun::Server),
            ("--dry-run=none", DryRun::None),
        ] {
            let Ok(Verb::Pause(arguments)) = parse(&format!("pause {flag} web")) else { panic!("{flag}") };
            assert_eq!(arguments.guards.dry.dry_run, expected, "{flag}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "",
            "get",
            "get a/b/c",
            "get web --timeout 5m",
            "get web --until healthy --timeout 0s",
            "get web --until gone",
            "list --page-size 0",
            "list -A -n shop",
            "scale web",
            "scale web --replicas -1",
            "set image web",
            "set image web nginx",
            "promote web --full --to-step 2",
            "promote web --to-step -1",
            "undo web --to-revision 0",
            "pause web --request-id 7",
            "pause web --dry-run=client",
            "delete web -o json",
            "apply",
            "get web --server https://localhost:1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_help_names_the_exit_codes() {
        let help = Cli::command().render_help().to_string();
        assert!(help.contains("4    a precondition failed, or what was seen is stale"), "{help}");
    }
}
