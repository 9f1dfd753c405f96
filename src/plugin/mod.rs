//! Step plugins: programs that perform steps of canaries, called over gRPC (`proto/rolloutd/plugin/v1`).
//!
//! [`config`] reads which there are, [`process`] starts one and [`greeting`] finds out where it listens, [`message`] turns what is asked
//! and answered into values. What is asked when is for [`crate::plan`] to say. Depends on L0 to L2; knows neither the cluster nor who
//! calls. docs/plugins.md is for people.

mod config;
mod greeting;
mod message;
mod process;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use serde_json::Value;
use tokio::time::timeout;
use tonic::Status;

pub use config::Configuration;

use crate::crd::StepPluginOperation;
use crate::pb::plugin::v1;
use crate::pb::plugin::v1::step_plugin_service_client::StepPluginServiceClient as Client;
use crate::plan::{Call, KnownPlugins, PluginState, Reply};
use config::Program;
use process::Process;

/// How long a plugin may take for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How much of a plugin's complaint a message quotes.
const QUOTED: usize = 1024;

/// The step plugins of the configuration, and their processes, each of which serves all rollouts. Cheap to clone; the processes end with
/// the last clone.
#[derive(Clone, Debug, Default)]
pub struct StepPlugins {
    known: Arc<KnownPlugins>,
    runners: Arc<BTreeMap<String, Runner>>,
}

/// Whoever can be asked what step plugins are asked.
pub trait AskPlugins: std::fmt::Debug + Send + Sync {
    /// What a plan is to know of them.
    fn known(&self) -> Arc<KnownPlugins>;

    /// Asks one, of which `rollout` is told as plans see it. It may be asked twice.
    ///
    /// # Errors
    ///
    /// Why there is no answer that can be taken, for people; does not name the plugin.
    fn call<'a>(&'a self, call: &'a Call, rollout: &'a Value) -> BoxFuture<'a, Result<Reply, String>>;
}

impl StepPlugins {
    /// The plugins that are configured. None is started before it is called.
    #[must_use]
    pub fn new(configuration: Configuration) -> Self {
        let known = Arc::new(configuration.known());
        let runners = configuration.programs().map(|(name, program)| {
            let runner = Runner { name: name.clone(), program, process: Mutex::default() };
            (name, runner)
        });
        Self { known, runners: Arc::new(runners.collect()) }
    }

    /// Starts its process where none runs, and once more where it turns out to be gone.
    async fn ask(&self, call: &Call, rollout: &Value) -> Result<Reply, String> {
        let name = &call.asked.name;
        let runner = self.runners.get(name).ok_or_else(|| self.absence(name))?;
        let operation = Operation::of(&call.asked.operation)?;
        let step = message::step(call, rollout);
        let process = runner.process().await?;
        let asked = match ask(&process, operation, step.clone()).await {
            Err(Failure::Lost(why)) => {
                tracing::warn!(plugin = name, why, "plugin lost; it is started once more");
                process.end();
                let process = runner.process().await?;
                ask(&process, operation, step).await
            }
            asked => asked,
        };
        match asked {
            Ok(outcome) => message::reply(outcome),
            Err(Failure::Lost(why) | Failure::Said(why)) => Err(why),
        }
    }

    /// Why a plugin has no program.
    fn absence(&self, name: &str) -> String {
        match self.known.by_name.get(name) {
            Some(PluginState::Unusable(reason)) => reason.clone(),
            Some(PluginState::Disabled) => "it is disabled".to_owned(),
            Some(PluginState::Ready) | None => "it is not configured".to_owned(),
        }
    }
}

impl AskPlugins for StepPlugins {
    fn known(&self) -> Arc<KnownPlugins> {
        Arc::clone(&self.known)
    }

    fn call<'a>(&'a self, call: &'a Call, rollout: &'a Value) -> BoxFuture<'a, Result<Reply, String>> {
        self.ask(call, rollout).boxed()
    }
}

/// An attempt to start a process; all who need it wait for the same.
type Start = Shared<BoxFuture<'static, Result<Arc<Process>, String>>>;

/// What keeps a plugin running.
#[derive(Debug)]
struct Runner {
    name: String,
    program: Program,
    process: Mutex<Option<Start>>,
}

impl Runner {
    /// The process, once it can be reached: by the start that is under way or led to a process that is there, else by a new one.
    fn process(&self) -> Start {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        match process.as_ref().filter(|start| is_good(start)) {
            Some(start) => start.clone(),
            None => {
                let (name, program) = (self.name.clone(), self.program.clone());
                // A task: it goes on also when whoever asked for it goes away, so that nobody finds it half done.
                let start = tokio::spawn(async move { Process::start(&name, &program).await.map(Arc::new) });
                let start = start.map(|ended| ended.unwrap_or_else(|error| Err(error.to_string())));
                process.insert(start.boxed().shared()).clone()
            }
        }
    }
}

/// Whether it is under way, or led to a process that is there.
fn is_good(start: &Start) -> bool {
    // Not by peeking: that would not see the end of a start that nobody waited for any more.
    match start.clone().now_or_never() {
        None => true,
        Some(Ok(process)) => !process.has_ended(),
        Some(Err(_)) => false,
    }
}

#[derive(Clone, Copy)]
enum Operation {
    Run,
    Terminate,
    Abort,
}

impl Operation {
    fn of(operation: &StepPluginOperation) -> Result<Self, String> {
        match operation {
            StepPluginOperation::Run => Ok(Self::Run),
            StepPluginOperation::Terminate => Ok(Self::Terminate),
            StepPluginOperation::Abort => Ok(Self::Abort),
            StepPluginOperation::Other(other) => Err(format!("no plugin can be asked for {other:?}")),
        }
    }
}

/// Why there is no answer.
enum Failure {
    /// The plugin cannot be reached any more.
    Lost(String),
    /// It said so, or said nothing for too long.
    Said(String),
}

async fn ask(
    process: &Process,
    operation: Operation,
    step: v1::Step,
) -> Result<Option<v1::Outcome>, Failure> {
    let mut client = Client::new(process.channel.clone());
    let step = Some(step);
    let answer = async {
        Ok::<_, Status>(match operation {
            Operation::Run => client.run(v1::RunRequest { step }).await?.into_inner().outcome,
            Operation::Terminate => {
                client.terminate(v1::TerminateRequest { step }).await?.into_inner().outcome
            }
            Operation::Abort => client.abort(v1::AbortRequest { step }).await?.into_inner().outcome,
        })
    };
    match timeout(PATIENCE, answer).await {
        Ok(answer) => answer.map_err(|status| failure(&status)),
        Err(_) => Err(Failure::Said(format!("it does not answer within {} s", PATIENCE.as_secs()))),
    }
}

/// A status with a cause is one that the plugin did not send: its connection broke.
fn failure(status: &Status) -> Failure {
    let said = cut(status.message(), QUOTED);
    match std::error::Error::source(status) {
        Some(cause) => Failure::Lost(format!("it cannot be reached: {said}: {}", process::told(cause))),
        None => Failure::Said(format!("it answers with the error {:?}: {said}", status.code())),
    }
}

/// The beginning of a text, as many characters as are allowed.
fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
