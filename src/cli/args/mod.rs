//! The command line, as data.
//!
//! Parsed by clap into what [`super::verb`] does; nothing is decided here. What comes from the environment is not read
//! here either: `super::Environment` hands it in.

mod change;
mod guard;
mod manifest;
mod metadata;
mod plan;
mod print;
mod read;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use jiff::SignedDuration;

use super::exit;
use super::name::Address;
pub(super) use change::{
    Cascade, DeleteArgs, ImageArgs, PlainArgs, PromoteArgs, RestartArgs, ScaleArgs, UndoArgs,
};
pub(super) use guard::{Dry, Guards};
pub(super) use manifest::{ApplyArgs, CreateArgs, DiffArgs, LintArgs};
pub(super) use metadata::{Entry, EnvironmentArgs, MetadataArgs, Side};
pub(super) use plan::{Assumed, PlanArgs};
pub(super) use print::{Data, Format, NameOnly, Print, Rows};
pub(super) use read::{
    ActivityArgs, ExplainArgs, GetArgs, HistoryArgs, ListArgs, Until, VersionArgs, WaitArgs,
};

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
    /// Who acts, as the rollout's activity will name it [default: $ROLLOUTD_ACTOR, or the user and the host]
    #[arg(long, global = true, value_name = "WHO")]
    pub(super) actor: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Create or change what manifests say
    Apply(ApplyArgs),
    /// Create what manifests say; none of it may exist
    Create(CreateArgs),
    /// Compare two revisions of a rollout, or manifests with the cluster
    ///
    /// Ends with 0 when nothing differs, with 1 when something does, and with more than that when it fails.
    #[command(override_usage = DIFF)]
    Diff(DiffArgs),
    /// Look for mistakes in manifests; asks no server
    ///
    /// Knows what `apply` refuses and warns about, and looks at how the objects of all files go together: Services that rollouts name
    /// must be there and select their pods. Ends with 1 when something is wrong.
    Lint(LintArgs),
    /// Say what would happen: of manifests, of an image, or of a rollout as it stands
    ///
    /// The server looks ahead with the function that decides what controllers do, and writes nothing. Ends with 7 when the rollout would
    /// end Degraded although nothing was assumed that makes it so.
    #[command(override_usage = PLAN)]
    Plan(PlanArgs),
    /// List rollouts
    List(ListArgs),
    /// Show a rollout with its revisions, ReplicaSets and pods, and what it waits for
    Get(GetArgs),
    /// Say why a rollout does not advance, and what happens next
    Explain(ExplainArgs),
    /// Wait until a rollout settles, or is as --for says
    Wait(WaitArgs),
    /// List the revisions of a rollout, or show one
    History(HistoryArgs),
    /// List what was done to a rollout, and by whom
    Activity(ActivityArgs),
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
    /// Restart all pods, few at a time
    Restart(RestartArgs),
    /// Delete a rollout
    Delete(DeleteArgs),
    /// Print a script that completes commands in a shell
    #[command(after_help = COMPLETION)]
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Tell the versions of client and server
    Version(VersionArgs),
}

/// The two forms of `diff`.
const DIFF: &str = "\
rolloutctl diff [OPTIONS] <NAME>
       rolloutctl diff [OPTIONS] -f <FILE>...";

/// The two forms of `plan`.
const PLAN: &str = "\
rolloutctl plan [OPTIONS] <NAME>
       rolloutctl plan [OPTIONS] -f <FILE>...";

/// Where completion scripts go.
const COMPLETION: &str = "\
For this shell only:
  bash        source <(rolloutctl completion bash)
  zsh         source <(rolloutctl completion zsh)
  fish        rolloutctl completion fish | source
  elvish      eval (rolloutctl completion elvish | slurp)
  powershell  rolloutctl completion powershell | Out-String | Invoke-Expression

For all, write that line into what the shell reads when it starts, such as ~/.bashrc.";

#[derive(Debug, Subcommand)]
pub(super) enum SetVerb {
    /// Set images of containers, which starts an update
    Image(ImageArgs),
    /// Set labels and annotations of a version's pods while they run
    Metadata(MetadataArgs),
    /// Set environment of a version's pods, which they follow while they run; never for secrets
    #[command(visible_alias = "env")]
    Environment(EnvironmentArgs),
}

/// `90s`, `10m`, `1h30m`.
fn duration(text: &str) -> Result<SignedDuration, String> {
    match text.parse::<SignedDuration>() {
        Ok(duration) if duration.is_positive() => Ok(duration),
        _ => Err("give a duration such as 90s, 10m or 1h30m".to_owned()),
    }
}

/// The same, or none at all.
fn any_duration(text: &str) -> Result<SignedDuration, String> {
    match text.parse::<SignedDuration>() {
        Ok(duration) if !duration.is_negative() => Ok(duration),
        _ => Err("give a duration such as 500ms, 5s or 1m30s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::guard::DryRun;
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
            "set metadata web --of canary",
            "set metadata web -l a=b",
            "set metadata web --of all -l a=b",
            "set environment web --of canary",
            "set environment web --of canary A",
            "promote web --full --to-step 2",
            "promote web --to-step -1",
            "undo web --to-revision 0",
            "pause web --request-id 7",
            "pause web --dry-run=client",
            "delete web -o json",
            "apply",
            "get web --server https://localhost:1",
            "pause web --wait 5m",
            "pause web --wait=soon",
            "delete web --wait",
            "wait web --for gone",
            "history web --revision 0",
            "activity web --limit 0",
            "activity web -o name",
            "restart web --at yesterday",
            "diff",
            "diff web -f a.yaml",
            "plan",
            "plan web -f a.yaml",
            "plan -f a.yaml --image web=nginx",
            "plan web --force",
            "plan web --pod-start-up soon",
            "plan web --abort-at-step -1",
            "completion",
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
