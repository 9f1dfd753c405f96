//! What the verbs do: one file for each group of them.
//!
//! A verb reads its arguments, asks the server ([`super::connect`]) and prints ([`super::output`]). Here: where it goes. What all
//! mutations print and wait for is in [`answer`].

mod answer;
mod apply;
mod change;
mod completion;
mod diff;
mod explain;
mod history;
mod lint;
mod metadata;
mod page;
mod plan;
mod read;
mod steer;
mod version;
mod watch;

use super::Environment;
use super::actor::Actor;
use super::args::{Global, SetVerb, Verb};
use super::connect::Connection;
use super::exit::Exit;
use super::failure::Failure;
use super::name::{Address, Name};
use super::output::Out;
use super::words;
use crate::clock::Clock;

/// Whom to ask, about what by default, in whose name, and what time it is.
#[derive(Debug)]
pub(super) struct Session {
    /// Where the server is; some verbs ask none, and do not mind what is wrong with it.
    address: Result<Address, String>,
    /// What `-n` says.
    chosen: Option<String>,
    /// The namespace of names that have none.
    namespace: String,
    actor: Actor,
    clock: Clock,
}

impl Session {
    /// Flags go before the environment, the environment before defaults; an empty variable is none.
    pub(super) fn new(global: &Global, environment: &Environment, clock: Clock) -> Result<Self, Failure> {
        let of_environment = |variable: &Option<String>| variable.clone().filter(|value| !value.is_empty());
        let address = match &global.server {
            Some(address) => Ok(address.clone()),
            None => of_environment(&environment.server)
                .unwrap_or_else(|| Address::DEFAULT.to_owned())
                .parse()
                .map_err(|error| format!("ROLLOUTD_SERVER: {error}")),
        };
        if global.namespace.as_deref() == Some("") {
            return Err(Failure::Usage("the namespace of -n must not be empty".to_owned()));
        }
        let chosen = global.namespace.clone();
        let namespace = chosen.clone().or_else(|| of_environment(&environment.namespace));
        let namespace = namespace.unwrap_or_else(|| "default".to_owned());
        let actor = Actor::new(global.actor.as_deref(), environment);
        Ok(Self { address, chosen, namespace, actor, clock })
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

    fn address(&self) -> Result<&Address, Failure> {
        self.address.as_ref().map_err(|error| Failure::Usage(error.clone()))
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        Connection::open(self.address()?, &self.actor).await
    }
}

impl Verb {
    /// How the verb ends when the server refuses, or something else fails.
    pub(super) fn failed(&self) -> Exit {
        match self {
            Self::Diff(_) | Self::Lint(_) => Exit::Unfound,
            _ => Exit::Failed,
        }
    }
}

/// Does what the command line says.
pub(super) async fn run(session: &Session, out: &Out, verb: Verb) -> Result<Exit, Failure> {
    let done = match verb {
        Verb::Diff(arguments) => return diff::diff(session, out, &arguments).await,
        Verb::Lint(arguments) => return lint::lint(session, out, &arguments),
        Verb::Apply(arguments) => apply::apply(session, out, &arguments).await,
        Verb::Create(arguments) => apply::create(session, out, &arguments).await,
        Verb::Plan(arguments) => plan::plan(session, out, &arguments).await,
        Verb::List(arguments) => read::list(session, out, &arguments).await,
        Verb::Get(arguments) if arguments.watch || arguments.until.is_some() => {
            watch::watch(session, out, &arguments).await
        }
        Verb::Get(arguments) => read::get(session, out, &arguments).await,
        Verb::Explain(arguments) => explain::explain(session, out, &arguments).await,
        Verb::Wait(arguments) => watch::wait(session, out, &arguments).await,
        Verb::History(arguments) => history::history(session, out, &arguments).await,
        Verb::Activity(arguments) => history::activity(session, out, &arguments).await,
        Verb::Set(SetVerb::Image(arguments)) => change::set_image(session, out, arguments).await,
        Verb::Set(SetVerb::Metadata(arguments)) => metadata::set_metadata(session, out, &arguments).await,
        Verb::Set(SetVerb::Environment(arguments)) => {
            metadata::set_environment(session, out, &arguments).await
        }
        Verb::Scale(arguments) => change::scale(session, out, &arguments).await,
        Verb::Promote(arguments) => steer::promote(session, out, &arguments).await,
        Verb::Pause(arguments) => steer::pause(session, out, &arguments).await,
        Verb::Resume(arguments) => steer::resume(session, out, &arguments).await,
        Verb::Abort(arguments) => steer::abort(session, out, &arguments).await,
        Verb::Retry(arguments) => steer::retry(session, out, &arguments).await,
        Verb::Undo(arguments) => change::undo(session, out, &arguments).await,
        Verb::Restart(arguments) => change::restart(session, out, &arguments).await,
        Verb::Delete(arguments) => change::delete(session, out, &arguments).await,
        Verb::Completion { shell } => completion::completion(out, shell),
        Verb::Version(arguments) => version::version(session, out, &arguments).await,
    };
    done.map(|()| Exit::Done)
}

/// `rollout.argoproj.io/web`, by which kubectl knows it.
fn kubernetes_name(name: &str) -> String {
    format!("rollout.argoproj.io/{}", words::short_name(name))
}

/// What is said behind a word for something done, as kubectl says it.
fn suffix(dry: &super::args::Dry) -> &'static str {
    if dry.validate_only() { " (server dry run)" } else { "" }
}
