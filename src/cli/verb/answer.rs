//! What every mutation of a rollout does with its answer: print it, and judge how the rollout settled when that was waited for.
//!
//! A verb builds its request and hands the call to [`Mutation::finish`].

use std::time::Duration;

use jiff::SignedDuration;
use tonic::{Response, Status};

use super::{Session, kubernetes_name, suffix};
use crate::cli::args::{Format, Guards, Print};
use crate::cli::connect::Connection;
use crate::cli::failure::{Failure, Subject};
use crate::cli::name::Name;
use crate::cli::output::Out;
use crate::cli::style::Detail;
use crate::cli::table::{self, Namespaces};
use crate::cli::{json, words};
use crate::pb::v1;
use v1::rollout_status::State;

/// A mutation of a rollout.
pub(super) struct Mutation<'a> {
    session: &'a Session,
    out: &'a Out,
    /// The rollout's full name.
    pub(super) name: String,
    guards: &'a Guards,
    /// How long the answer may be held.
    wait: Option<SignedDuration>,
    print: Print,
    hope: Hope,
}

/// Where a rollout may settle for a wait to have ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hope {
    /// HEALTHY or PAUSED.
    Well,
    /// DEGRADED as well: that is what an aborted update is.
    Aborted,
}

impl<'a> Mutation<'a> {
    pub(super) fn new(
        session: &'a Session,
        out: &'a Out,
        name: &Name,
        guards: &'a Guards,
        print: Print,
    ) -> Result<Self, Failure> {
        let name = session.name(name)?;
        let wait = guards.wait.limit(&guards.dry)?;
        Ok(Self { session, out, name, guards, wait, print, hope: Hope::Well })
    }

    pub(super) fn hoping(self, hope: Hope) -> Self {
        Self { hope, ..self }
    }

    /// `wait` of the request.
    pub(super) fn wait(&self) -> Option<prost_types::Duration> {
        self.wait.map(wire)
    }

    /// Waits for the answer, prints it with a word for what was done, and judges it.
    pub(super) async fn finish<T: Into<Answer>>(
        &self,
        connection: &Connection,
        call: impl Future<Output = Result<Response<T>, Status>>,
        done: &str,
    ) -> Result<(), Failure> {
        let answer = match self.wait {
            None => connection.ask(Subject::Rollout(&self.name), call).await?,
            Some(limit) => {
                self.out.hint(&format!(
                    "waiting for {} to settle, at most {}",
                    words::path(&self.name),
                    words::span(limit)
                ));
                connection.ask_held(Subject::Settling(&self.name), held(limit), call).await?
            }
        };
        let Answer { rollout, warnings } = answer.into();
        warn(self.out, &warnings);
        let rollout = rollout.ok_or_else(|| Failure::Encoding("it holds no rollout".to_owned()))?;
        self.show(&rollout, done)?;
        let Some(limit) = self.wait else { return Ok(()) };
        let line = settled(&rollout, limit, self.hope).map_err(Failure::Missed)?;
        if self.print.output.is_none() { self.out.lines([line]) } else { Ok(()) }
    }

    /// `rollout.argoproj.io/web paused`, or the rollout itself.
    fn show(&self, rollout: &v1::Rollout, done: &str) -> Result<(), Failure> {
        let name = kubernetes_name(&rollout.name);
        match self.print.output {
            None => self.out.lines([format!("{name} {done}{}", suffix(&self.guards.dry))]),
            Some(Format::Name) => self.out.lines([name]),
            Some(Format::Wide) => {
                let now = self.session.clock.now();
                let rollouts = std::slice::from_ref(rollout);
                self.out.lines(table::rollouts(rollouts, now, Namespaces::Hidden, Detail::Wide))
            }
            Some(Format::Json) => self.out.lines([json::pretty(&json::value(rollout)?)]),
            Some(Format::Yaml) => self.out.lines([json::yaml(&json::value(rollout)?)?]),
        }
    }
}

/// What every mutation of a rollout answers.
pub(super) struct Answer {
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
    AbortRolloutResponse RetryRolloutResponse RollbackRolloutResponse RestartRolloutResponse SetRolloutMetadataResponse
}

/// How a rollout settled that was waited for; an error when it did not, or not well.
pub(super) fn settled(rollout: &v1::Rollout, limit: SignedDuration, hope: Hope) -> Result<String, String> {
    let status = rollout.status.clone().unwrap_or_default();
    let is = words::standing(&status);
    let name = words::path(&rollout.name);
    match (status.state(), hope) {
        (State::Healthy | State::Paused, _) | (State::Degraded, Hope::Aborted) => {
            Ok(format!("{} is {is}", kubernetes_name(&rollout.name)))
        }
        (State::Degraded, Hope::Well) => Err(format!("{name} is {is}")),
        (State::Progressing | State::Unspecified, _) => {
            Err(format!("{name} has not settled within {}: it is {is}", words::span(limit)))
        }
    }
}

/// Says what the server wants the caller to know.
pub(super) fn warn(out: &Out, warnings: &[v1::Warning]) {
    for warning in warnings {
        let place = if warning.field.is_empty() { String::new() } else { format!("{}: ", warning.field) };
        out.note(&words::one_line(&format!("warning: {place}{}", warning.description)));
    }
}

/// A wait as requests have it.
pub(super) fn wire(wait: SignedDuration) -> prost_types::Duration {
    prost_types::Duration { seconds: wait.as_secs(), nanos: wait.subsec_nanos() }
}

/// A wait as clocks have it; negative ones were refused.
pub(super) fn held(wait: SignedDuration) -> Duration {
    Duration::try_from(wait).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_well_where_the_rollout_rests_as_was_hoped() {
        let rollout = |state: State| v1::Rollout {
            name: "namespaces/shop/rollouts/web".to_owned(),
            status: Some(v1::RolloutStatus {
                state: state.into(),
                message: "why\nso".to_owned(),
                ..v1::RolloutStatus::default()
            }),
            ..v1::Rollout::default()
        };
        let limit = SignedDuration::from_mins(10);
        let well = |text: &str| Ok(format!("rollout.argoproj.io/web is {text}: why so"));
        let ill = |text: &str| Err(format!("shop/web {text}: why so"));
        for (state, hope, expected) in [
            (State::Healthy, Hope::Well, well("Healthy")),
            (State::Paused, Hope::Well, well("Paused")),
            (State::Degraded, Hope::Well, ill("is Degraded")),
            (State::Degraded, Hope::Aborted, well("Degraded")),
            (State::Progressing, Hope::Aborted, ill("has not settled within 10m: it is Progressing")),
            (State::Unspecified, Hope::Well, ill("has not settled within 10m: it is Unknown")),
        ] {
            assert_eq!(settled(&rollout(state), limit, hope), expected);
        }
    }
}
