//! `get -w` and `wait`: a rollout as it changes, until interrupted, or until it is what `--until` or `--for` says.
//!
//! A stream that breaks is opened again, since each of its messages is the whole tree.

use std::time::Duration;

use tonic::{Code, Status};

use super::answer::held;
use super::{Session, kubernetes_name};
use crate::cli::args::{Format, GetArgs, Until, WaitArgs};
use crate::cli::connect::{Connection, bounded};
use crate::cli::failure::{Failure, Subject};
use crate::cli::live::Screen;
use crate::cli::output::Out;
use crate::cli::style::Detail;
use crate::cli::{json, tree, words};
use crate::clock::{Clock, real_sleep};
use crate::pb::v1;
use v1::rollout_status::State;

/// How often ages move on while nothing else does.
const REDRAW: Duration = Duration::from_secs(1);

/// How long to wait before a broken stream is opened again: a server that drains is replaced within seconds.
const PAUSE: Duration = Duration::from_secs(1);

/// How often in a row that may fail; half a minute is longer than a server takes to start.
const ATTEMPTS: u32 = 30;

/// `get -w` and `get --until`.
pub(super) async fn watch(session: &Session, out: &Out, arguments: &GetArgs) -> Result<(), Failure> {
    let view = match arguments.print.output {
        None => View::People(out.screen(), Detail::Normal),
        Some(Format::Wide) => View::People(out.screen(), Detail::Wide),
        Some(Format::Json) => View::Json,
        Some(Format::Yaml) => View::Yaml,
        Some(Format::Name) => {
            return Err(Failure::Usage(
                "-o name does not go with --watch or --until: names do not change".to_owned(),
            ));
        }
    };
    let name = session.name(&arguments.name)?;
    let connection = session.connect().await?;
    let mut watch =
        Watch { connection, name, clock: &session.clock, out, view, until: arguments.until, seen: None };
    match arguments.until {
        Some(until) => watch.wait(until, held(arguments.timeout)).await,
        None => watch.follow().await,
    }
}

/// `wait`: says how it ended on standard output, and what happens meanwhile to somebody who sits at a terminal.
pub(super) async fn wait(session: &Session, out: &Out, arguments: &WaitArgs) -> Result<(), Failure> {
    let view = match out.progress() {
        Some(screen) => View::People(screen, Detail::Normal),
        None => View::Nobody,
    };
    let name = session.name(&arguments.name)?;
    let connection = session.connect().await?;
    let until = Some(arguments.until);
    let mut watch = Watch { connection, name, clock: &session.clock, out, view, until, seen: None };
    watch.wait(arguments.until, held(arguments.timeout)).await?;
    out.lines([format!("{} is {}", kubernetes_name(&watch.name), words::standing(&watch.status()))])
}

/// How it is shown.
enum View {
    /// Not at all.
    Nobody,
    People(Screen<Box<dyn std::io::Write>>, Detail),
    /// A line for each tree.
    Json,
    /// A document for each tree.
    Yaml,
}

struct Watch<'a> {
    connection: Connection,
    name: String,
    clock: &'a Clock,
    out: &'a Out,
    view: View,
    until: Option<Until>,
    /// The newest tree.
    seen: Option<v1::RolloutTree>,
}

impl Watch<'_> {
    /// Shows what comes until the wait is over, or its time.
    async fn wait(&mut self, until: Until, limit: Duration) -> Result<(), Failure> {
        tokio::select! {
            followed = self.follow() => followed,
            () = real_sleep(limit) => Err(self.out_of_time(until, limit)),
        }
    }

    /// Shows what comes, over broken streams.
    async fn follow(&mut self) -> Result<(), Failure> {
        let mut attempts = 0;
        loop {
            let Err(status) = self.stream(&mut attempts).await? else { return Ok(()) };
            let is_broken = matches!(
                status.code(),
                Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Internal
            );
            attempts += 1;
            // What never worked is wrong rather than broken.
            if self.seen.is_none() || !is_broken || attempts > ATTEMPTS {
                return Err(self.connection.refused(Subject::Rollout(&self.name), status));
            }
            real_sleep(PAUSE).await;
        }
    }

    /// Shows what one stream brings, and says how the stream ended; `Ok` within means that the wait is over.
    async fn stream(&mut self, attempts: &mut u32) -> Result<Result<(), Status>, Failure> {
        let request = v1::WatchRolloutTreeRequest { name: self.name.clone() };
        let mut client = self.connection.rollouts();
        let mut stream = match bounded(client.watch_rollout_tree(request)).await {
            Ok(stream) => stream,
            Err(status) => return Ok(Err(status)),
        };
        loop {
            tokio::select! {
                message = stream.message() => match message {
                    Ok(Some(message)) => {
                        *attempts = 0;
                        self.seen = message.tree;
                        self.show()?;
                        if self.is_over()? {
                            return Ok(Ok(()));
                        }
                    }
                    Ok(None) => return Ok(Err(Status::unavailable("the server ended the watch"))),
                    Err(status) => return Ok(Err(status)),
                },
                () = real_sleep(REDRAW) => self.tick()?,
            }
        }
    }

    fn show(&mut self) -> Result<(), Failure> {
        let Some(tree) = &self.seen else { return Ok(()) };
        match &mut self.view {
            View::Nobody => Ok(()),
            View::People(screen, detail) => {
                let frame = tree::render(tree, self.clock.now(), screen.style(*detail));
                screen.show(&frame, &tree::summary(tree)).map_err(Failure::Output)
            }
            View::Json => self.out.lines([json::value(tree)?.to_string()]),
            View::Yaml => self.out.lines(["---".to_owned(), json::yaml(&json::value(tree)?)?]),
        }
    }

    /// Ages move; data has none.
    fn tick(&mut self) -> Result<(), Failure> {
        if matches!(self.view, View::People(..)) { self.show() } else { Ok(()) }
    }

    fn status(&self) -> v1::RolloutStatus {
        let rollout = self.seen.as_ref().and_then(|tree| tree.rollout.as_ref());
        rollout.and_then(|rollout| rollout.status.clone()).unwrap_or_default()
    }

    /// Whether the wait is over; a failure if it cannot end well any more.
    fn is_over(&self) -> Result<bool, Failure> {
        let Some(until) = self.until else { return Ok(false) };
        let status = self.status();
        match outcome(until, status.state()) {
            Outcome::Waiting => Ok(false),
            Outcome::Reached => Ok(true),
            Outcome::Elsewhere => {
                let (name, state) = (words::path(&self.name), words::state(status.state));
                let message = words::one_line(&status.message);
                let why = if message.is_empty() { String::new() } else { format!(": {message}") };
                Err(Failure::Missed(format!("{name} is {state}, not {}{why}", word(until))))
            }
        }
    }

    fn out_of_time(&self, until: Until, limit: Duration) -> Failure {
        let limit = words::span(limit.try_into().unwrap_or_default());
        let name = words::path(&self.name);
        Failure::Missed(match &self.seen {
            Some(tree) => format!("not {} within {limit}: {}", word(until), tree::summary(tree)),
            None => format!("{name}: no word from the server within {limit}"),
        })
    }
}

fn word(until: Until) -> &'static str {
    match until {
        Until::Healthy => "healthy",
        Until::Paused => "paused",
        Until::Degraded => "degraded",
        Until::Settled => "settled",
    }
}

/// Where a wait stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Waiting,
    Reached,
    /// At an end from which it moves on only if somebody does something else.
    Elsewhere,
}

/// HEALTHY and DEGRADED are ends: who waits for something else there waits in vain. A pause is none, since it may end by
/// itself, or somebody promotes.
fn outcome(until: Until, state: State) -> Outcome {
    match (until, state) {
        (_, State::Unspecified | State::Progressing) => Outcome::Waiting,
        (Until::Settled, _)
        | (Until::Healthy, State::Healthy)
        | (Until::Paused, State::Paused)
        | (Until::Degraded, State::Degraded) => Outcome::Reached,
        (_, State::Paused) => Outcome::Waiting,
        (_, State::Healthy | State::Degraded) => Outcome::Elsewhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_where_it_should_and_at_ends_that_are_not_it() {
        use Outcome::{Elsewhere, Reached, Waiting};
        let states = [State::Unspecified, State::Progressing, State::Paused, State::Healthy, State::Degraded];
        for (until, expected) in [
            (Until::Healthy, [Waiting, Waiting, Waiting, Reached, Elsewhere]),
            (Until::Paused, [Waiting, Waiting, Reached, Elsewhere, Elsewhere]),
            (Until::Degraded, [Waiting, Waiting, Waiting, Elsewhere, Reached]),
            (Until::Settled, [Waiting, Waiting, Reached, Reached, Reached]),
        ] {
            assert_eq!(states.map(|state| outcome(until, state)), expected, "{until:?}");
        }
    }
}
