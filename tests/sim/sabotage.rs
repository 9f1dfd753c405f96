//! The simulation finds a broken rule: a control plane that believes that one pod more may be unavailable.

use axum::body::Body as Answer;
use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower::BoxError;

use crate::program::Program;
use crate::run::simulate;

/// Within so many programs it must be found.
const PROGRAMS: u64 = 500;

/// Shows every rollout with one more unavailable pod than it has.
fn one_more_unavailable(client: Client) -> Client {
    let send = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let shows_rollouts = request.uri().path().ends_with("/rollouts");
            let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            let answer = client.send(request).await?;
            Ok::<_, BoxError>(match (shows_rollouts, is_watch) {
                (true, true) => answer.map(|body| {
                    // The server sends each event whole.
                    let events = body.into_data_stream().map(|event| event.map(|event| alter(&event)));
                    Answer::from_stream(events)
                }),
                (true, false) => {
                    let (head, body) = answer.into_parts();
                    let list = body.collect().await?.to_bytes();
                    Response::from_parts(head, Answer::from(alter(&list)))
                }
                _ => answer.map(Answer::new),
            })
        }
    });
    Client::new(send, "default")
}

fn alter(text: &Bytes) -> Bytes {
    let Ok(mut value) = serde_json::from_slice::<Value>(text) else { return text.clone() };
    if let Some(items) = value.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(one_more);
    } else if let Some(object) = value.get_mut("object") {
        one_more(object);
    }
    Bytes::from(format!("{value}\n"))
}

fn one_more(rollout: &mut Value) {
    let replicas = rollout.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    let Some(unavailable) = rollout.pointer_mut("/spec/strategy/canary/maxUnavailable") else { return };
    let pods = match &*unavailable {
        Value::String(percentage) => {
            let percent: i64 = percentage.trim_end_matches('%').parse().unwrap_or(0);
            replicas * percent / 100
        }
        number => number.as_i64().unwrap_or(0),
    };
    *unavailable = json!(pods + 1);
}

#[test]
fn a_rule_that_is_off_by_one_is_found() {
    let found = (1..=PROGRAMS).find_map(|seed| {
        let error = simulate(&Program::of(seed), Some(one_more_unavailable)).error?;
        error.contains("resized: (wanted, available)").then_some((seed, error))
    });
    let (programs, error) = found.expect("it is found");
    println!("found by program {programs}: {error}");
}
