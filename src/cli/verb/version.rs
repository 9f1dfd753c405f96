//! `version`: what this is, and what the server is.

use serde_json::json;

use super::Session;
use crate::cli::args::{Data, VersionArgs};
use crate::cli::failure::{Failure, Subject};
use crate::cli::output::Out;
use crate::cli::{json, words};
use crate::pb::v1;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const COMMIT: &str = env!("ROLLOUTD_COMMIT");

/// `version`. The client's stands on the first line even when no server answers.
pub(super) async fn version(session: &Session, out: &Out, arguments: &VersionArgs) -> Result<(), Failure> {
    if arguments.output.is_none() {
        out.lines([format!("client: rolloutctl {}", named(VERSION, COMMIT))])?;
    }
    let server = if arguments.client { None } else { Some(ask(session).await?) };
    let Some(form) = arguments.output else {
        return match &server {
            Some(server) => out.lines(lines(session, server)?),
            None => Ok(()),
        };
    };
    let mut all = json!({ "client": { "version": VERSION, "commit": COMMIT } });
    if let Some(server) = &server {
        all["server"] = json::value(server)?;
    }
    match form {
        Data::Json => out.lines([json::pretty(&all)]),
        Data::Yaml => out.lines([json::yaml(&all)?]),
    }
}

async fn ask(session: &Session) -> Result<v1::GetServerInfoResponse, Failure> {
    let connection = session.connect().await?;
    connection.ask(Subject::Server, connection.server().get_server_info(v1::GetServerInfoRequest {})).await
}

fn lines(session: &Session, server: &v1::GetServerInfoResponse) -> Result<Vec<String>, Failure> {
    let address = session.address()?;
    let leader = match &server.leader {
        None => "nobody".to_owned(),
        Some(leader) => {
            let this = if leader.is_this_process { ", this process" } else { "" };
            let since = words::age(leader.acquire_time.as_ref(), session.clock.now());
            format!("{}{this}, for {since}", leader.identity)
        }
    };
    let of_instance = [("instance", &server.instance_id), ("namespace", &server.namespace)];
    let mut lines = vec![
        format!("server: rolloutd {} at {address}", named(&server.version, &server.commit)),
        format!("cluster: Kubernetes {} at {}", server.kubernetes_version, server.cluster),
        format!("leader: {leader}"),
    ];
    let given = of_instance.iter().filter(|(_, value)| !value.is_empty());
    lines.extend(given.map(|(label, value)| format!("{label}: {value}")));
    Ok(lines.iter().map(|line| words::one_line(line)).collect())
}

fn named(version: &str, commit: &str) -> String {
    if commit.is_empty() { version.to_owned() } else { format!("{version} ({commit})") }
}
