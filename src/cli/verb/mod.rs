//! What the verbs do: one file for each group of them.
//!
//! A verb reads its arguments, asks the server ([`super::connect`]) and prints ([`super::output`]). Here: where it goes, and what
//! all mutations print.

mod apply;
mod change;
mod manifest;
mod read;
mod steer;
mod version;
mod watch;

use super::Environment;
use super::args::{Format, Global, Print, SetVerb, Verb};
use super::connect::Connection;
use super::failure::Failure;
use super::json;
use super::name::{Address, Name};
use super::output::Out;
use super::style::Detail;
use super::table::{self, Namespaces};
use super::words;
use crate::clock::Clock;
use crate::pb::v1;

/// Whom to ask, about what by default, and what time it is.
#[derive(Debug)]
pub(super) struct Session {
    address: Address,
    /// What `-n` says.
    chosen: Option<String>,
    /// The namespace of names that have none.
    namespace: String,
    clock: Clock,
}

impl Session {
    /// Flags go before the environment, the environment before defaults; an empty variable is none.
    pub(super) fn new(global: &Global, environment: &Environment, clock: Clock) -> Result<Self, Failure> {
        let of_environment = |variable: &Option<String>| variable.clone().filter(|value| !value.is_empty());
        let address = match &global.server {
            Some(address) => address.clone(),
            None => of_environment(&environment.server)
                .unwrap_or_else(|| Address::DEFAULT.to_owned())
                .parse()
                .map_err(|error| Failure::Usage(format!("ROLLOUTD_SERVER: {error}")))?,
        };
        if global.namespace.as_deref() == Some("") {
            return Err(Failure::Usage("the namespace of -n must not be empty".to_owned()));
        }
        let chosen = global.namespace.clone();
        let namespace = chosen.clone().or_else(|| of_environment(&environment.namespace));
        Ok(Self { address, chosen, namespace: namespace.unwrap_or_else(|| "default".to_owned()), clock })
    }

    /// A rollout's full name. Two namespaces, one in the name and another by `-n`, are a mistake better not acted upon.
    fn name(&self, name: &Name) -> Result<String, Failure> {
        let full = name.full(&self.namespace);
        match &self.chosen {
            Some(chosen) if words::namespace(&full) != chosen => Err(Failure::Usage(format!(
                "{} is not in namespace {chosen:?}, which -n names",
                words::path(&full)
            ))),
            _ => Ok(full),
        }
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        Connection::open(&self.address).await
    }
}

/// Does what the command line says.
pub(super) async fn run(session: &Session, out: &Out, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Apply(arguments) => apply::apply(session, out, &arguments).await,
        Verb::Create(arguments) => apply::create(session, out, &arguments).await,
        Verb::List(arguments) => read::list(session, out, &arguments).await,
        Verb::Get(arguments) if arguments.watch || arguments.until.is_some() => {
            watch::watch(session, out, &arguments).await
        }
        Verb::Get(arguments) => read::get(session, out, &arguments).await,
        Verb::Set(SetVerb::Image(arguments)) => change::set_image(session, out, arguments).await,
        Verb::Scale(arguments) => change::scale(session, out, &arguments).await,
        Verb::Promote(arguments) => steer::promote(session, out, &arguments).await,
        Verb::Pause(arguments) => steer::pause(session, out, &arguments).await,
        Verb::Resume(arguments) => steer::resume(session, out, &arguments).await,
        Verb::Abort(arguments) => steer::abort(session, out, &arguments).await,
        Verb::Retry(arguments) => steer::retry(session, out, &arguments).await,
        Verb::Undo(arguments) => change::undo(session, out, &arguments).await,
        Verb::Delete(arguments) => change::delete(session, out, &arguments).await,
        Verb::Version(arguments) => version::version(session, out, &arguments).await,
    }
}

/// What every mutation of a rollout answers.
struct Answer {
    rollout: Option<v1::Rollout>,
    warnings: Vec<v1::Warning>,
}

macro_rules! answers {
    ($($response:ident)*) => {
        $(impl From<v1::$response> for Answer {
            fn from(v1::$response { rollout, warnings, .. }: v1::$response) -> Self {
                Self { rollout, warnings }
            }
        })*
    };
}

answers! {
    SetRolloutImageResponse ScaleRolloutResponse PromoteRolloutResponse PauseRolloutResponse ResumeRolloutResponse
    AbortRolloutResponse RetryRolloutResponse RollbackRolloutResponse
}

/// Prints what became of a rollout: `rollout.argoproj.io/web paused`, or the rollout itself.
fn print(session: &Session, out: &Out, print: Print, answer: Answer, done: &str) -> Result<(), Failure> {
    warn(out, &answer.warnings);
    let rollout = answer.rollout.ok_or_else(|| Failure::Encoding("it holds no rollout".to_owned()))?;
    match print.output {
        None => out.lines([format!("{} {done}", kubernetes_name(&rollout.name))]),
        Some(Format::Name) => out.lines([kubernetes_name(&rollout.name)]),
        Some(Format::Wide) => {
            out.lines(table::rollouts(&[rollout], session.clock.now(), Namespaces::Hidden, Detail::Wide))
        }
        Some(Format::Json) => out.lines([json::pretty(&json::value(&rollout)?)]),
        Some(Format::Yaml) => out.lines([json::yaml(&json::value(&rollout)?)?]),
    }
}

/// Says what the server wants the caller to know.
fn warn(out: &Out, warnings: &[v1::Warning]) {
    for warning in warnings {
        let place = if warning.field.is_empty() { String::new() } else { format!("{}: ", warning.field) };
        out.note(&words::one_line(&format!("warning: {place}{}", warning.description)));
    }
}

/// `rollout.argoproj.io/web`, by which kubectl knows it.
fn kubernetes_name(name: &str) -> String {
    format!("rollout.argoproj.io/{}", words::short_name(name))
}

/// What is said behind a word for something done, as kubectl says it.
fn suffix(dry: &super::args::Dry) -> &'static str {
    if dry.validate_only() { " (server dry run)" } else { "" }
}
