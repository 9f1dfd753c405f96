//! A server for tests of writes: it answers as it is told, and keeps what it was asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::Method;
use http_body_util::BodyExt as _;
use kube::Client;
use serde_json::{Value, json};

use super::Writer;
use crate::store::Store;

/// What was asked: method, path and query, body.
pub(super) type Asked = Arc<Mutex<Vec<(Method, String, Value)>>>;

/// A writer whose requests are answered so.
pub(super) fn writer(
    answer: impl Fn(&Method) -> (u16, Value) + Clone + Send + Sync + 'static,
) -> (Writer, Asked, Arc<Store>) {
    let (asked, store) = (Asked::default(), Arc::<Store>::default());
    let received = Arc::clone(&asked);
    let serve = move |request: http::Request<kube::client::Body>| {
        let (received, answer) = (Arc::clone(&received), answer.clone());
        async move {
            let (method, uri) = (request.method().clone(), request.uri().to_string());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let (code, said) = answer(&method);
            received.lock().unwrap().push((method, uri, body));
            let said = kube::client::Body::from(said.to_string().into_bytes());
            Ok::<_, Infallible>(http::Response::builder().status(code).body(said).unwrap())
        }
    };
    let client = Client::new(tower::service_fn(serve), "default");
    (Writer::new(client, Arc::clone(&store)), asked, store)
}

/// A refusal, in kube-apiserver's form.
pub(super) fn refused(code: u16, reason: &str, message: &str) -> (u16, Value) {
    (
        code,
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message }),
    )
}
