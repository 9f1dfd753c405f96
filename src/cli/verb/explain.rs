//! `explain`.

use super::Session;
use crate::cli::args::{Data, ExplainArgs};
use crate::cli::failure::{Failure, Subject};
use crate::cli::output::Out;
use crate::cli::{explanation, json};
use crate::pb::v1;

/// `explain`.
pub(super) async fn explain(session: &Session, out: &Out, arguments: &ExplainArgs) -> Result<(), Failure> {
    let name = session.name(&arguments.name)?;
    let connection = session.connect().await?;
    let request = v1::ExplainRolloutRequest { name: name.clone() };
    let call = connection.rollouts();
    let answer = connection.ask(Subject::Rollout(&name), { call }.explain_rollout(request)).await?;
    match arguments.output {
        Some(Data::Json) => out.lines([json::pretty(&json::value(&answer)?)]),
        Some(Data::Yaml) => out.lines([json::yaml(&json::value(&answer)?)?]),
        None => out.lines(explanation::lines(&answer, session.clock.now())),
    }
}
