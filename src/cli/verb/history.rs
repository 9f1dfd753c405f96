//! `history` and `activity`: what was.

use super::{Session, page};
use crate::cli::args::{ActivityArgs, Format, HistoryArgs, Rows};
use crate::cli::connect::Connection;
use crate::cli::failure::{Failure, Subject};
use crate::cli::output::Out;
use crate::cli::style::Detail;
use crate::cli::{json, table, words};
use crate::pb::v1;

/// `history`.
pub(super) async fn history(session: &Session, out: &Out, arguments: &HistoryArgs) -> Result<(), Failure> {
    let name = session.name(&arguments.name)?;
    let connection = session.connect().await?;
    if let Some(number) = arguments.revision {
        return show(
            session,
            out,
            &connection,
            arguments.print.output,
            &format!("{name}/revisions/{number}"),
        )
        .await;
    }
    let is_data = matches!(arguments.print.output, Some(Format::Json | Format::Yaml));
    let request = v1::ListRevisionsRequest {
        parent: name.clone(),
        page_size: arguments.page.size,
        view: if is_data { v1::View::Full } else { v1::View::Basic }.into(),
        ..v1::ListRevisionsRequest::default()
    };
    let revisions = page::all(usize::MAX, async |page_token| {
        let request = v1::ListRevisionsRequest { page_token, ..request.clone() };
        let page =
            connection.ask(Subject::Rollout(&name), connection.rollouts().list_revisions(request)).await?;
        Ok((page.revisions, page.next_page_token))
    })
    .await?;
    let table = |detail| table::revisions(&revisions, session.clock.now(), detail);
    match arguments.print.output {
        Some(Format::Json) => out.lines([json::pretty(&json::list("revisions", &revisions)?)]),
        Some(Format::Yaml) => out.lines([json::yaml(&json::list("revisions", &revisions)?)?]),
        Some(Format::Name) => out.lines(revisions.iter().map(|revision| &revision.name)),
        _ if revisions.is_empty() => {
            out.note(&format!("no revisions found of rollout {}", words::path(&name)));
            Ok(())
        }
        Some(Format::Wide) => out.lines(table(Detail::Wide)),
        None => out.lines(table(Detail::Normal)),
    }
}

/// `history --revision`.
async fn show(
    session: &Session,
    out: &Out,
    connection: &Connection,
    form: Option<Format>,
    name: &str,
) -> Result<(), Failure> {
    let request = v1::GetRevisionRequest { name: name.to_owned(), view: v1::View::Full.into() };
    let answer = connection.ask(Subject::Server, connection.rollouts().get_revision(request)).await?;
    let revision = answer.revision.ok_or_else(|| Failure::Encoding("it holds no revision".to_owned()))?;
    match form {
        Some(Format::Json) => out.lines([json::pretty(&json::value(&revision)?)]),
        Some(Format::Yaml) => out.lines([json::yaml(&json::value(&revision)?)?]),
        Some(Format::Name) => out.lines([revision.name]),
        None | Some(Format::Wide) => {
            out.lines(table::revision(&revision, session.clock.now()))?;
            // As it is written in manifests: a part of one in YAML is YAML.
            let template = json::value(&revision)?["template"].take();
            out.lines(json::yaml(&serde_json::json!({ "template": template }))?.lines())
        }
    }
}

/// `activity`.
pub(super) async fn activity(session: &Session, out: &Out, arguments: &ActivityArgs) -> Result<(), Failure> {
    let name = session.name(&arguments.name)?;
    let connection = session.connect().await?;
    let most = arguments.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let page_size = i32::try_from(most).map_or(page::SIZE, |most| most.min(page::SIZE));
    let activities = page::all(most, async |page_token| {
        let request = v1::ListRolloutActivityRequest { parent: name.clone(), page_size, page_token };
        let call = connection.rollouts();
        let page = connection.ask(Subject::Rollout(&name), { call }.list_rollout_activity(request)).await?;
        Ok((page.activities, page.next_page_token))
    })
    .await?;
    let table = |detail| table::activities(&activities, session.clock.now(), detail);
    match arguments.output {
        Some(Rows::Json) => out.lines([json::pretty(&json::list("activities", &activities)?)]),
        Some(Rows::Yaml) => out.lines([json::yaml(&json::list("activities", &activities)?)?]),
        _ if activities.is_empty() => {
            out.note(&format!("nothing is known to have been done to rollout {}", words::path(&name)));
            Ok(())
        }
        Some(Rows::Wide) => out.lines(table(Detail::Wide)),
        None => out.lines(table(Detail::Normal)),
    }
}
