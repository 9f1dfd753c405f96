//! `completion`: what makes a shell complete commands.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::args::Cli;
use crate::cli::failure::Failure;
use crate::cli::output::Out;

/// `completion`.
pub(super) fn completion(out: &Out, shell: Shell) -> Result<(), Failure> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    out.lines(String::from_utf8_lossy(&script).lines())
}
