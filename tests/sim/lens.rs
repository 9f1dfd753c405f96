//! Lenses: a client through which a control plane sees something else than what is stored, or writes something else than what it
//! decided.

use axum::body::Body as Answer;
use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use rolloutd::serve::Part;
use serde_json::{Value, json};
use tower::BoxError;

/// Falsifies one resource.
#[derive(Clone, Copy)]
pub enum Lens {
    /// Every object that the control plane is shown.
    Shows(&'static str, fn(&mut Value)),
    /// What it sends with every write.
    Writes(&'static str, fn(&mut Value)),
    /// What it is answered instead of an answer of the server's, where this gives one.
    Answers(fn(&Request<Body>) -> Option<Refusal>),
}

/// A refusal: code, reason and message.
pub type Refusal = (u16, &'static str, &'static str);

impl Lens {
    /// The client of a part of the control plane, through this lens.
    pub fn over(self, part: Part, client: Client) -> Client {
        if !matches!(part, Part::Watch | Part::Workers) {
            return client;
        }
        let send = tower::service_fn(move |request: Request<Body>| {
            let client = client.clone();
            async move { self.send(&client, request).await }
        });
        Client::new(send, "default")
    }

    async fn send(self, client: &Client, request: Request<Body>) -> Result<Response<Answer>, BoxError> {
        let path = request.uri().path();
        let is_of = |resource: &str| path.split('/').any(|segment| segment == resource);
        match self {
            Self::Shows(resource, falsify) if is_of(resource) => {
                let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
                let answer = client.send(request).await?;
                if is_watch {
                    return Ok(answer.map(|body| {
                        // The server sends each event whole.
                        let events = body.into_data_stream();
                        Answer::from_stream(
                            events.map(move |event| event.map(|event| alter(&event, falsify))),
                        )
                    }));
                }
                let (head, body) = answer.into_parts();
                let body = body.collect().await?.to_bytes();
                Ok(Response::from_parts(head, Answer::from(alter(&body, falsify))))
            }
            Self::Writes(resource, falsify) if is_of(resource) && request.method() != Method::GET => {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let request = Request::from_parts(head, Body::from(alter(&body, falsify)));
                Ok(client.send(request).await?.map(Answer::new))
            }
            Self::Answers(instead) => match instead(&request) {
                Some((code, reason, message)) => {
                    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                        "reason": reason, "message": message });
                    Ok(Response::builder().status(code).body(Answer::from(status.to_string()))?)
                }
                None => Ok(client.send(request).await?.map(Answer::new)),
            },
            _ => Ok(client.send(request).await?.map(Answer::new)),
        }
    }
}

/// Falsifies the objects of a list, the object of an event, or a single one.
fn alter(text: &Bytes, falsify: fn(&mut Value)) -> Bytes {
    let Ok(mut value) = serde_json::from_slice::<Value>(text) else { return text.clone() };
    if let Some(items) = value.get_mut("items").and_then(Value::as_array_mut) {
        items.iter_mut().for_each(falsify);
    } else if let Some(object) = value.get_mut("object") {
        falsify(object);
    } else if value["kind"] != "Status" {
        falsify(&mut value);
    }
    Bytes::from(format!("{value}\n"))
}
