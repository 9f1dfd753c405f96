//! The client: reads the environment, runs [`rolloutd::cli`], and ends with its code.

use std::process::ExitCode;

use rolloutd::cli::{self, Environment};
use rolloutd::clock::Clock;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    cli::run(std::env::args_os(), environment(), Clock::wall()).await.into()
}

#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
fn environment() -> Environment {
    Environment {
        server: std::env::var("ROLLOUTD_SERVER").ok(),
        namespace: std::env::var("ROLLOUTD_NAMESPACE").ok(),
        no_color: std::env::var_os("NO_COLOR"),
    }
}
