//! Servers, clients and small objects for the tests.

use std::time::Duration;

use http::{Request, Response};
use jiff::Timestamp;
use kube::api::{Api, DynamicObject, PostParams};
use kube::client::Body;
use kube::core::{ApiResource, GroupVersionKind, Status};
use kube::{Client, ResourceExt};
use rolloutd::apiserver::{ApiServer, Config};
use rolloutd::clock::Clock;
use serde_json::{Value, json};

/// Longest that a test waits for something; under paused time it costs nothing.
pub(crate) const DEADLINE: Duration = Duration::from_secs(300);

/// A server whose clock starts at 2024-01-01 and runs with tokio's time.
pub(crate) fn server() -> ApiServer {
    ApiServer::new(config())
}

pub(crate) fn config() -> Config {
    let start: Timestamp = "2024-01-01T00:00:00Z".parse().unwrap();
    Config::new(Clock::starting_at(start, 1.0))
}

/// An answer, read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) warnings: Vec<String>,
    pub(crate) content_type: String,
    pub(crate) retry_after: String,
    /// JSON, or the text.
    pub(crate) body: Value,
}

/// Sends a request as it stands.
pub(crate) async fn send(
    client: &Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client.send(request.body(Body::from(body)).unwrap()).await.unwrap();
    read(response).await
}

async fn read(response: Response<Body>) -> Answer {
    let header = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let warnings = response.headers().get_all("warning").iter().map(header).collect();
    let one = |name| response.headers().get(name).map(header).unwrap_or_default();
    let (content_type, retry_after) = (one("content-type"), one("retry-after"));
    let code = response.status().as_u16();
    let bytes = response.into_body().collect_bytes().await.unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { code, warnings, content_type, retry_after, body }
}

/// Sends a JSON body and expects JSON.
pub(crate) async fn json(client: &Client, method: &str, path: &str, body: Option<Value>) -> Answer {
    let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let content_type = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    send(client, method, path, &[("content-type", content_type)], bytes).await
}

/// The definition of `gizmos.ex.dev`: a scale, a status, a default, an immutable selector.
pub(crate) fn gizmo_definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "gizmos.ex.dev"},
        "spec": {
            "group": "ex.dev",
            "scope": "Namespaced",
            "names": {"plural": "gizmos", "kind": "Gizmo", "shortNames": ["gz"]},
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "subresources": {
                    "status": {},
                    "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
                },
                "additionalPrinterColumns": [
                    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "description": "A gizmo is a thing to be rolled out.",
                    "properties": {
                        "spec": {
                            "type": "object",
                            "description": "What is wanted.",
                            "properties": {
                                "replicas": {"type": "integer", "minimum": 0, "default": 1, "description": "How many."},
                                "mode": {"type": "string", "enum": ["fast", "safe"]},
                                "selector": {
                                    "type": "object",
                                    "x-kubernetes-preserve-unknown-fields": true,
                                    "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "selector is immutable"}],
                                },
                            },
                        },
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    },
                }},
            }],
        },
    })
}

pub(crate) fn gizmo(name: &str) -> Value {
    json!({"apiVersion": "ex.dev/v1", "kind": "Gizmo", "metadata": {"name": name}, "spec": {}})
}

/// Serves gizmos and returns an API for those of the default namespace.
pub(crate) async fn gizmos(client: &Client) -> Api<DynamicObject> {
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let answer = json_ok(client, "POST", definitions, gizmo_definition()).await;
    assert_eq!(answer["status"]["conditions"][1]["type"], "Established");
    let kind = GroupVersionKind::gvk("ex.dev", "v1", "Gizmo");
    Api::default_namespaced_with(client.clone(), &ApiResource::from_gvk(&kind))
}

async fn json_ok(client: &Client, method: &str, path: &str, body: Value) -> Value {
    let answer = json(client, method, path, Some(body)).await;
    assert!(answer.code < 300, "{answer:?}");
    answer.body
}

pub(crate) fn pod(name: &str) -> k8s_openapi::api::core::v1::Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "nginx:1"}]},
    }))
    .unwrap()
}

pub(crate) fn config_map(name: &str, value: &str) -> k8s_openapi::api::core::v1::ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": value}})).unwrap()
}

/// The Status of a refused request.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> Box<Status> {
    match result {
        Err(kube::Error::Api(status)) => status,
        other => panic!("not refused by the server: {other:?}"),
    }
}

/// Creates an object and returns its resourceVersion.
pub(crate) async fn create<K>(api: &Api<K>, object: &K) -> String
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let created = api.create(&PostParams::default(), object).await.unwrap();
    created.resource_version().unwrap()
}
