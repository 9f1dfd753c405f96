//! `get` and `list`.
//!
//! `get` draws the tree; as data, it is the rollout whole, with its pod template. [`super::watch`] goes on showing it.

use super::{Session, kubernetes_name, page};
use crate::cli::args::{Format, GetArgs, ListArgs};
use crate::cli::connect::Connection;
use crate::cli::failure::{Failure, Subject};
use crate::cli::output::Out;
use crate::cli::style::Detail;
use crate::cli::table::{self, Namespaces};
use crate::cli::{json, tree};
use crate::pb::v1;

/// `get`.
pub(super) async fn get(session: &Session, out: &Out, arguments: &GetArgs) -> Result<(), Failure> {
    let name = session.name(&arguments.name)?;
    let connection = session.connect().await?;
    let detail = match arguments.print.output {
        None => Detail::Normal,
        Some(Format::Wide) => Detail::Wide,
        Some(Format::Name) => {
            let rollout = rollout(&connection, &name, v1::View::Basic).await?;
            return out.lines([kubernetes_name(&rollout.name)]);
        }
        Some(Format::Json) => {
            let rollout = rollout(&connection, &name, v1::View::Full).await?;
            return out.lines([json::pretty(&json::value(&rollout)?)]);
        }
        Some(Format::Yaml) => {
            let rollout = rollout(&connection, &name, v1::View::Full).await?;
            return out.lines([json::yaml(&json::value(&rollout)?)?]);
        }
    };
    let tree = tree(&connection, &name).await?;
    out.lines(tree::render(&tree, session.clock.now(), out.style(detail)))
}

/// A rollout.
pub(super) async fn rollout(
    connection: &Connection,
    name: &str,
    view: v1::View,
) -> Result<v1::Rollout, Failure> {
    let request = v1::GetRolloutRequest {
        name: name.to_owned(),
        view: view.into(),
        ..v1::GetRolloutRequest::default()
    };
    let answer = connection.ask(Subject::Rollout(name), connection.rollouts().get_rollout(request)).await?;
    answer.rollout.ok_or_else(|| Failure::Encoding("it holds no rollout".to_owned()))
}

/// A rollout's tree.
pub(super) async fn tree(connection: &Connection, name: &str) -> Result<v1::RolloutTree, Failure> {
    let request = v1::GetRolloutTreeRequest { name: name.to_owned() };
    let answer =
        connection.ask(Subject::Rollout(name), connection.rollouts().get_rollout_tree(request)).await?;
    answer.tree.ok_or_else(|| Failure::Encoding("it holds no tree".to_owned()))
}

/// `list`.
pub(super) async fn list(session: &Session, out: &Out, arguments: &ListArgs) -> Result<(), Failure> {
    let namespace = if arguments.all_namespaces { "-" } else { &session.namespace };
    let is_data = matches!(arguments.print.output, Some(Format::Json | Format::Yaml));
    let request = v1::ListRolloutsRequest {
        parent: format!("namespaces/{namespace}"),
        page_size: arguments.page.size,
        label_selector: arguments.selector.clone(),
        filter: arguments.filter.clone(),
        view: if is_data { v1::View::Full } else { v1::View::Basic }.into(),
        ..v1::ListRolloutsRequest::default()
    };
    let connection = session.connect().await?;
    let rollouts = page::all(usize::MAX, async |page_token| {
        let request = v1::ListRolloutsRequest { page_token, ..request.clone() };
        let page = connection.ask(Subject::Server, connection.rollouts().list_rollouts(request)).await?;
        Ok((page.rollouts, page.next_page_token))
    })
    .await?;
    let namespaces = if arguments.all_namespaces { Namespaces::Shown } else { Namespaces::Hidden };
    let table = |detail| table::rollouts(&rollouts, session.clock.now(), namespaces, detail);
    match arguments.print.output {
        Some(Format::Json) => out.lines([json::pretty(&json::list("rollouts", &rollouts)?)]),
        Some(Format::Yaml) => out.lines([json::yaml(&json::list("rollouts", &rollouts)?)?]),
        Some(Format::Name) => out.lines(rollouts.iter().map(|rollout| kubernetes_name(&rollout.name))),
        _ if rollouts.is_empty() => {
            match namespace {
                "-" => out.note("no rollouts found"),
                namespace => out.note(&format!("no rollouts found in namespace {namespace}")),
            }
            Ok(())
        }
        Some(Format::Wide) => out.lines(table(Detail::Wide)),
        None => out.lines(table(Detail::Normal)),
    }
}
