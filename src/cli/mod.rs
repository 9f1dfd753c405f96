//! `rolloutctl`: the client.
//!
//! Talks gRPC to a server and nothing else. `args` is the command line, `verb` does what it says, `output` writes, and what is
//! shown is rendered by pure functions ([`tree`]), which `rolloutd dev` uses as well.

mod actor;
mod args;
mod connect;
pub mod exit;
mod explanation;
mod failure;
mod json;
mod lint;
pub mod live;
mod manifest;
mod name;
mod output;
pub mod style;
mod table;
mod timeline;
pub mod tree;
mod verb;
mod words;

use std::ffi::OsString;

use clap::Parser as _;

use crate::clock::Clock;
use exit::Exit;
use failure::Failure;
use output::Out;

/// What the program takes from its environment.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// ROLLOUTD_SERVER: the server's address, unless `--server` says another.
    pub server: Option<String>,
    /// ROLLOUTD_NAMESPACE: the namespace, unless `-n` says another.
    pub namespace: Option<String>,
    /// ROLLOUTD_ACTOR: who acts, unless `--actor` says another.
    pub actor: Option<String>,
    /// The user, and the host: who acts, when nothing says so.
    pub user: Option<String>,
    /// See `user`.
    pub host: Option<String>,
    /// NO_COLOR: no colours, when it is not empty.
    pub no_color: Option<OsString>,
}

/// Runs the program: `arguments` begin with its own name. Writes to standard output and error. There is nothing to clean up
/// when a signal ends it.
pub async fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: Environment,
    clock: Clock,
) -> Exit {
    let cli = match args::Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let out = Out::new(environment.no_color.clone());
    let failed = cli.verb.failed();
    let session = match verb::Session::new(&cli.global, &environment, clock) {
        Ok(session) => session,
        Err(failure) => return end(&out, &failure, failed),
    };
    match verb::run(&session, &out, cli.verb).await {
        Ok(exit) => exit,
        Err(failure) => end(&out, &failure, failed),
    }
}

/// Says what went wrong. `otherwise` is how the verb ends where others end with [`Exit::Failed`].
fn end(out: &Out, failure: &Failure, otherwise: Exit) -> Exit {
    for line in failure.lines() {
        out.note(&line);
    }
    match failure.exit() {
        Exit::Failed => otherwise,
        exit => exit,
    }
}

/// Help and version are «errors», too, and go to standard output.
fn usage(error: &clap::Error) -> Exit {
    match (error.print(), error.use_stderr()) {
        (Err(_), _) => Exit::Closed,
        (Ok(()), true) => Exit::Usage,
        (Ok(()), false) => Exit::Done,
    }
}
