//! The same requests as a real kube-apiserver was sent, and the same answers.
//!
//! `transcripts/<topic>.yaml` holds requests, `<topic>.json` what kube-apiserver v1.35.4 answered (started with
//! `--disable-admission-plugins=ServiceAccount --service-cluster-ip-range=10.0.0.0/24`). To record the answers anew,
//! point KUBECONFIG at a fresh server of that kind and run
//! `UPDATE_TRANSCRIPTS=1 cargo test --test apiserver transcripts`.
//!
//! Answers are compared with what differs between any two runs taken out: uids, times, revisions, addresses, field
//! managers, and the order of several causes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use kube::Client;
use regex::Regex;
use rolloutd::clock::real_sleep;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::support::{self, Answer, send};

/// How long the real server may take to serve a new definition.
const SETTLE: Duration = Duration::from_secs(4);

/// One request of a transcript.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    /// Method and path.
    request: String,
    /// JSON body.
    body: Option<Value>,
    /// Body as text, for what is no JSON or has fields twice.
    text: Option<String>,
    /// Content type: `merge`, `json-patch`, `strategic`, or a media type.
    r#type: Option<String>,
    /// `table`, `metadata`, `metadata-list`, or a media type.
    accept: Option<String>,
    /// Names for values of the answer, by pointer, that later requests use as `{name}`.
    #[serde(default)]
    remember: BTreeMap<String, String>,
    /// The real server needs a moment after this request; its answer is not compared.
    #[serde(default)]
    settles: bool,
    /// Why this server answers differently on purpose.
    deviates: Option<String>,
}

fn file(topic: &str, extension: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/apiserver/transcripts")
        .join(format!("{topic}.{extension}"))
}

fn steps(topic: &str) -> Vec<Step> {
    let text = std::fs::read_to_string(file(topic, "yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// Sends the requests of a topic, in a namespace of its own; returns the comparable answers.
async fn play(client: &Client, topic: &str, steps: &[Step], settle: Duration) -> Vec<Value> {
    let namespace = format!("transcript-{topic}");
    let body = json!({"metadata": {"name": namespace}});
    let made = support::json(client, "POST", "/api/v1/namespaces", Some(body)).await;
    assert_eq!(made.code, 201, "{}", made.body);
    let mut names = BTreeMap::from([("ns".to_owned(), namespace)]);
    let mut answers = Vec::new();
    for step in steps {
        let answer = ask(client, step, &names).await;
        for (name, pointer) in &step.remember {
            let value = answer.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            names.insert(name.clone(), value.to_owned());
        }
        if step.settles {
            real_sleep(settle).await;
            answers.push(json!({"code": answer.code}));
        } else {
            answers.push(comparable(&answer));
        }
    }
    answers
}

async fn ask(client: &Client, step: &Step, names: &BTreeMap<String, String>) -> Answer {
    let filled = |text: &str| {
        names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    };
    let (method, path) = step.request.split_once(' ').unwrap();
    let body = step.text.clone().or_else(|| step.body.as_ref().map(Value::to_string));
    let content_type = match step.r#type.as_deref() {
        None => "application/json",
        Some("merge") => "application/merge-patch+json",
        Some("json-patch") => "application/json-patch+json",
        Some("strategic") => "application/strategic-merge-patch+json",
        Some(other) => other,
    };
    let accept = match step.accept.as_deref() {
        None => "application/json",
        Some("table") => "application/json;as=Table;v=v1;g=meta.k8s.io",
        Some("metadata") => "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
        Some("metadata-list") => "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
        Some(other) => other,
    };
    let mut headers = vec![("accept", accept)];
    if body.is_some() {
        headers.push(("content-type", content_type));
    }
    let body = body.map(|body| filled(&body).into_bytes()).unwrap_or_default();
    send(client, method, &filled(path), &headers, body).await
}

/// An answer without what differs between any two runs.
fn comparable(answer: &Answer) -> Value {
    static MASKS: LazyLock<Masks> = LazyLock::new(Masks::new);
    let mut warnings = answer.warnings.clone();
    warnings.sort();
    let mut comparable =
        json!({"code": answer.code, "warnings": warnings, "body": MASKS.masked(&answer.body, "")});
    if !answer.retry_after.is_empty() {
        comparable["retryAfter"] = json!(answer.retry_after);
    }
    comparable
}

struct Masks {
    patterns: Vec<(Regex, &'static str)>,
}

impl Masks {
    fn new() -> Self {
        let pattern = |text: &str, mask| (Regex::new(text).unwrap(), mask);
        Self {
            patterns: vec![
                // The real server adds a difference of Go values to some messages.
                pattern(r"(?s)\n@@ .*", ""),
                pattern(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>"),
                pattern(r"20[2-9]\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
                pattern(r"^\d+s$", "<age>"),
                pattern(r"in record \(\d+\)", "in record (<revision>)"),
                pattern(r"10\.(0\.0|96\.\d+)\.\d+", "<address>"),
                pattern(r"\bg-[a-z0-9]{5}\b", "g-<generated>"),
            ],
        }
    }

    fn masked(&self, value: &Value, key: &str) -> Value {
        match value {
            Value::Object(members) => self.object(members),
            Value::Array(items) => items.iter().map(|item| self.masked(item, "")).collect(),
            Value::String(_) if key == "resourceVersion" => json!("<revision>"),
            Value::Number(_) if key == "nodePort" => json!("<port>"),
            Value::String(text) => {
                let masked = self.patterns.iter().fold(text.clone(), |text, (pattern, mask)| {
                    pattern.replace_all(&text, *mask).into_owned()
                });
                json!(masked)
            }
            other => other.clone(),
        }
    }

    fn object(&self, members: &Map<String, Value>) -> Value {
        let mut out = Map::new();
        for (key, value) in members {
            // Field managers and the texts of columns are no part of what is compared.
            let skipped =
                matches!(key.as_str(), "managedFields" | "selfLink" | "storageVersionHash" | "description");
            if !skipped {
                out.insert(key.clone(), self.masked(value, key));
            }
        }
        let causes =
            out.get("details").and_then(|details| details.get("causes")).and_then(Value::as_array).cloned();
        if let Some(mut causes) = causes {
            causes.sort_by_key(|cause| (cause["field"].to_string(), cause["message"].to_string()));
            causes.dedup();
            if causes.len() > 1 {
                out.insert("message".to_owned(), json!("<several causes>"));
            }
            out["details"]["causes"] = Value::Array(causes);
        }
        Value::Object(out)
    }
}

/// Where two answers differ: a line for each pointer.
fn differences(pointer: &str, recorded: &Value, answer: &Value) -> Vec<String> {
    let none = &Value::Null;
    match (recorded, answer) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
            let of = |key: &&String| {
                let (left, right) = (left.get(*key).unwrap_or(none), right.get(*key).unwrap_or(none));
                differences(&format!("{pointer}/{key}"), left, right)
            };
            keys.iter().flat_map(of).collect()
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let pairs = left.iter().zip(right).enumerate();
            pairs
                .flat_map(|(index, (left, right))| differences(&format!("{pointer}/{index}"), left, right))
                .collect()
        }
        _ if recorded == answer => Vec::new(),
        _ => vec![format!("  {pointer}\n    kube-apiserver: {recorded}\n    embedded:       {answer}")],
    }
}

async fn compare(topic: &str) {
    let steps = steps(topic);
    if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
        tokio::time::resume();
        let mut config = kube::Config::infer().await.unwrap();
        // Refusals are recorded, not tried again.
        config.default_retry = false;
        let client = Client::try_from(config).unwrap();
        let answers = play(&client, topic, &steps, SETTLE).await;
        let lines: Vec<String> = answers.iter().map(Value::to_string).collect();
        std::fs::write(file(topic, "json"), format!("[\n{}\n]\n", lines.join(",\n"))).unwrap();
        return;
    }
    let recorded = std::fs::read_to_string(file(topic, "json")).unwrap();
    let recorded: Vec<Value> = serde_json::from_str(&recorded).unwrap();
    assert_eq!(recorded.len(), steps.len(), "{topic}: record the answers anew");
    let client = support::server().client("transcripts");
    let answers = play(&client, topic, &steps, Duration::ZERO).await;
    let mut differing = Vec::new();
    for (index, ((step, answer), recorded)) in steps.iter().zip(&answers).zip(&recorded).enumerate() {
        match &step.deviates {
            None if answer != recorded => differing.push(format!(
                "{topic}[{index}] {} {}\n{}",
                step.request,
                step.body.as_ref().map(Value::to_string).unwrap_or_default(),
                differences("", recorded, answer).join("\n"),
            )),
            Some(why) if answer == recorded => {
                differing.push(format!("{topic}[{index}] {} does not deviate any more: {why}", step.request));
            }
            _ => {}
        }
    }
    assert!(differing.is_empty(), "{} answers differ\n{}", differing.len(), differing.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn pods_are_answered_as_by_a_real_server() {
    compare("pods").await;
}

#[tokio::test(start_paused = true)]
async fn replica_sets_and_revisions_are_answered_as_by_a_real_server() {
    compare("replicasets").await;
}

#[tokio::test(start_paused = true)]
async fn services_are_answered_as_by_a_real_server() {
    compare("services").await;
}

#[tokio::test(start_paused = true)]
async fn budgets_and_evictions_are_answered_as_by_a_real_server() {
    compare("disruption").await;
}

#[tokio::test(start_paused = true)]
async fn strategic_merge_patches_are_answered_as_by_a_real_server() {
    compare("strategic").await;
}

#[tokio::test(start_paused = true)]
async fn metadata_patches_lists_and_paths_are_answered_as_by_a_real_server() {
    compare("metadata").await;
}

#[tokio::test(start_paused = true)]
async fn events_leases_and_namespaces_are_answered_as_by_a_real_server() {
    compare("others").await;
}

#[tokio::test(start_paused = true)]
async fn custom_resources_are_answered_as_by_a_real_server() {
    compare("custom").await;
}
