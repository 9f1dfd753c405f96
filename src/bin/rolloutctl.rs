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
    let variable = |name| std::env::var(name).ok();
    Environment {
        server: variable("ROLLOUTD_SERVER"),
        namespace: variable("ROLLOUTD_NAMESPACE"),
        actor: variable("ROLLOUTD_ACTOR"),
        user: variable("USER").or_else(|| variable("LOGNAME")),
        host: hostname::get().ok().and_then(|host| host.into_string().ok()),
        no_color: std::env::var_os("NO_COLOR"),
    }
}
