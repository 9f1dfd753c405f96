//! The server: reads command line, environment and signals, and hands over to the library.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rolloutd::telemetry::logs;
use rolloutd::{crd, dev, serve};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Progressive delivery for Kubernetes behind a typed gRPC API, on Argo Rollouts' own resource kinds.
#[derive(Parser)]
#[command(name = "rolloutd", version = VERSION, propagate_version = true, arg_required_else_help = true)]
struct Command {
    #[command(subcommand)]
    what: What,
}

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ROLLOUTD_COMMIT"), ")");

#[derive(Subcommand)]
enum What {
    /// Serve a cluster: the one of a kubeconfig, or the one that this runs in
    Serve(Box<serve::flags::Flags>),
    /// Serve a cluster of its own, with nothing installed
    Dev(dev::Flags),
    /// Print the custom resource definitions: rolloutd crds | kubectl apply -f -
    Crds,
}

fn main() -> ExitCode {
    match run(Command::parse().what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nowhere is left to say that this failed.
            let _ = writeln!(io::stderr(), "error: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and what it came from, each thing said once.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| {
        if told.contains(&cause) {
            told
        } else if told.is_empty() {
            cause
        } else {
            format!("{told}: {cause}")
        }
    })
}

fn run(what: What) -> anyhow::Result<()> {
    let runtime = Runtime::new()?;
    // Spans are sent from it, the last ones when logs are dropped.
    let _entered = runtime.enter();
    match what {
        What::Serve(flags) => {
            let _logs = init_logs(&flags.loglevel, flags.logformat)?;
            let environment =
                serve::Environment { pod_namespace: variable("POD_NAMESPACE"), hostname: hostname() };
            until_stopped(&runtime, |stop| serve::run(*flags, environment, stop))?;
        }
        What::Dev(flags) => {
            let _logs = init_logs(&flags.loglevel, flags.logformat)?;
            let environment =
                dev::Environment { no_color: std::env::var_os("NO_COLOR"), hostname: hostname() };
            until_stopped(&runtime, |stop| dev::run(flags, environment, stop))?;
        }
        What::Crds => io::stdout().lock().write_all(crd::definitions_yaml().as_bytes())?,
    }
    Ok(())
}

fn init_logs(level: &str, format: logs::Format) -> anyhow::Result<logs::Guard> {
    let otlp_endpoint = variable("OTEL_EXPORTER_OTLP_ENDPOINT");
    Ok(logs::init(&logs::Options { level: level.to_owned(), format, otlp_endpoint })?)
}

#[expect(clippy::disallowed_methods, reason = "the environment is read here and handed down")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn hostname() -> String {
    let name = hostname::get().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "rolloutd".to_owned())
}

/// Runs something that ends in order when SIGTERM or SIGINT asks for it, and at once when it is asked again.
fn until_stopped<F, E>(runtime: &Runtime, run: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<()>
where
    F: Future<Output = Result<(), E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    runtime.block_on(async {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = CancellationToken::new();
        let mut running = std::pin::pin!(run(stop.clone()));
        loop {
            tokio::select! {
                outcome = &mut running => return Ok(outcome?),
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                anyhow::bail!("stopped before everything had ended in order");
            }
            stop.cancel();
        }
    })
}
