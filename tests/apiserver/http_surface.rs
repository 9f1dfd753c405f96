//! The API as HTTP: documents, media types, and well-formed refusals.

use kube::Client;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::support::{Answer, gizmos, json as ask, send, server};

const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn get(client: &Client, path: &str, accept: &str) -> Answer {
    send(client, "GET", path, &[("accept", accept)], Vec::new()).await
}

fn names<'a>(list: &'a Value, key: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn discovery_names_groups_versions_and_resources() {
    let client = server().client("test");
    gizmos(&client).await;
    let core = ask(&client, "GET", "/api", None).await.body;
    assert_eq!((&core["kind"], &core["versions"]), (&json!("APIVersions"), &json!(["v1"])));
    let groups = ask(&client, "GET", "/apis", None).await.body;
    assert_eq!(
        names(&groups["groups"], "name"),
        ["apiextensions.k8s.io", "apps", "coordination.k8s.io", "policy", "ex.dev"]
    );
    let core = ask(&client, "GET", "/api/v1", None).await.body;
    let resources = names(&core["resources"], "name");
    for resource in [
        "pods",
        "pods/status",
        "pods/binding",
        "pods/eviction",
        "services",
        "namespaces/finalize",
        "secrets",
        "events",
    ] {
        assert!(resources.contains(&resource), "{resource}");
    }
    let apps = ask(&client, "GET", "/apis/apps/v1", None).await.body;
    let sets =
        &apps["resources"].as_array().unwrap().iter().find(|kind| kind["name"] == "replicasets").unwrap();
    assert_eq!(sets["shortNames"], json!(["rs"]));
    assert_eq!(sets["namespaced"], json!(true));
    // kube finds the kinds of the definition by it.
    let (kind, capabilities) = kube::discovery::oneshot::pinned_kind(
        &client,
        &kube::core::GroupVersionKind::gvk("ex.dev", "v1", "Gizmo"),
    )
    .await
    .unwrap();
    assert_eq!(kind.plural, "gizmos");
    assert_eq!(capabilities.subresources.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn aggregated_discovery_is_given_to_those_who_ask() {
    let client = server().client("test");
    gizmos(&client).await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let core = get(&client, "/api", accept).await;
    assert_eq!(core.body["kind"], "APIGroupDiscoveryList");
    assert_eq!(core.content_type, "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    assert_eq!(core.body["items"][0]["versions"][0]["version"], "v1");
    let groups = get(&client, "/apis", accept).await.body;
    let gizmos =
        groups["items"].as_array().unwrap().iter().find(|group| group["metadata"]["name"] == "ex.dev");
    let resource = &gizmos.unwrap()["versions"][0]["resources"][0];
    assert_eq!(resource["resource"], "gizmos");
    assert_eq!(names(&resource["subresources"], "subresource"), ["status", "scale"]);
}

#[tokio::test(start_paused = true)]
async fn openapi_describes_built_in_and_defined_kinds() {
    let client = server().client("test");
    gizmos(&client).await;
    let index = ask(&client, "GET", "/openapi/v3", None).await.body;
    let url = index["paths"]["apis/ex.dev/v1"]["serverRelativeURL"].as_str().unwrap();
    let document = ask(&client, "GET", url, None).await.body;
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let gizmo = schemas
        .values()
        .find(|schema| schema["description"] == "A gizmo is a thing to be rolled out.")
        .unwrap();
    assert_eq!(
        gizmo["x-kubernetes-group-version-kind"],
        json!([{"group": "ex.dev", "version": "v1", "kind": "Gizmo"}])
    );
    assert_eq!(gizmo["properties"]["spec"]["properties"]["replicas"]["description"], "How many.");
    let core = ask(&client, "GET", "/openapi/v3/api/v1", None).await.body;
    assert!(core["components"]["schemas"]["io.k8s.api.core.v1.Pod"]["properties"]["spec"].is_object());
}

#[tokio::test(start_paused = true)]
async fn version_and_health_answer() {
    let client = server().client("test");
    let version = client.apiserver_version().await.unwrap();
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "35"));
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(get(&client, path, "*/*").await.body, json!("ok"), "{path}");
    }
}

/// Method, path, headers and body; the code and the reason of the answer.
type Refusal<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a [u8], u16, &'a str);

#[tokio::test(start_paused = true)]
async fn refusals_are_status_objects() {
    let client = server().client("test");
    let pod = br#"{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    let huge = vec![b' '; 4 * 1024 * 1024];
    let json = ("content-type", "application/json");
    let cases: [Refusal<'_>; 12] = [
        ("GET", "/api/v1/namespaces/default/pods/a", &[], b"", 404, "NotFound"),
        ("GET", "/api/v1/gadgets", &[], b"", 404, "NotFound"),
        ("PUT", PODS, &[json], b"{}", 405, "MethodNotAllowed"),
        ("POST", "/api/v1/namespaces/default/pods/a", &[json], b"{}", 405, "MethodNotAllowed"),
        ("GET", PODS, &[("accept", "text/html")], b"", 406, "NotAcceptable"),
        ("POST", PODS, &[json], &huge, 413, "RequestEntityTooLarge"),
        ("POST", PODS, &[("content-type", "text/plain")], pod, 415, "UnsupportedMediaType"),
        ("PATCH", "/api/v1/namespaces/default/pods/a", &[json], b"{}", 415, "UnsupportedMediaType"),
        ("POST", PODS, &[json], b"{\"metadata\":", 400, "BadRequest"),
        ("POST", PODS, &[json], b"[1]", 400, "BadRequest"),
        ("POST", PODS, &[json], b"{\"metadata\":{\"name\":7}}", 400, "BadRequest"),
        ("POST", PODS, &[json], b"{\"metadata\":{\"name\":\"a\"}}", 422, "Invalid"),
    ];
    for (method, path, headers, body, code, reason) in cases {
        let answer = send(&client, method, path, headers, body.to_vec()).await;
        assert_eq!(answer.code, code, "{method} {path}: {}", answer.body);
        assert_eq!(answer.body["kind"], "Status", "{method} {path}");
        assert_eq!(answer.body["reason"], reason, "{method} {path}: {}", answer.body);
        assert_eq!(answer.body["code"], code, "{method} {path}");
        assert!(!answer.body["message"].as_str().unwrap().is_empty(), "{method} {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn paths_outside_the_api_are_not_found() {
    let client = server().client("test");
    for path in [
        "/",
        "/metrics",
        "/apis/ex.dev/v1/gadgets",
        "/api/v1/namespaces/default/pods/a/b/c",
        "/apis/apps/v1/%ff",
    ] {
        let answer = get(&client, path, "*/*").await;
        assert_eq!(answer.code, 404, "{path}: {}", answer.body);
    }
}

#[tokio::test(start_paused = true)]
async fn yaml_is_read_and_written() {
    let client = server().client("test");
    let body = b"metadata:\n  name: a\ndata:\n  text: |\n    two\n    lines\n".to_vec();
    let yaml = [("content-type", "application/yaml"), ("accept", "application/yaml")];
    let created = send(&client, "POST", MAPS, &yaml, body).await;
    assert_eq!((created.code, created.content_type.as_str()), (201, "application/yaml"), "{}", created.body);
    let text = created.body.as_str().unwrap();
    assert!(text.contains("kind: ConfigMap"), "{text}");
    let read = ask(&client, "GET", &format!("{MAPS}/a"), None).await;
    assert_eq!(read.body["data"]["text"], "two\nlines\n");
}

#[tokio::test(start_paused = true)]
async fn protobuf_bodies_of_built_in_kinds_are_read() {
    // The envelope that client-go sends: magic, TypeMeta, the object (name "a", data {"k": "v"}).
    let metadata = [&[0x0a, 0x01][..], b"a"].concat();
    let entry = [&[0x0a, 0x01][..], b"k", &[0x12, 0x01], b"v"].concat();
    let raw = [&[0x0a, 3][..], &metadata, &[0x12, 6], &entry].concat();
    let types = [&[0x0a, 2][..], b"v1", &[0x12, 9], b"ConfigMap"].concat();
    let body = [&b"k8s\0"[..], &[0x0a, 15], &types, &[0x12, 13], &raw].concat();
    let client = server().client("test");
    let header = [("content-type", "application/vnd.kubernetes.protobuf")];
    let created = send(&client, "POST", MAPS, &header, body.clone()).await;
    assert_eq!(created.code, 201, "{}", created.body);
    assert_eq!(created.body["data"], json!({"k": "v"}));
    for length in 0..body.len() {
        let cut = send(&client, "POST", MAPS, &header, body[..length].to_vec()).await;
        assert!((400..500).contains(&cut.code), "{length}: {}", cut.body);
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_fields_of_built_in_kinds_are_told() {
    let client = server().client("test");
    let body =
        json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i", "imag": 1}]}});
    let path = |validation: &str| format!("{PODS}?dryRun=All&fieldValidation={validation}");
    let told = ask(&client, "POST", &path("Warn"), Some(body.clone())).await;
    assert_eq!(told.code, 201);
    assert_eq!(told.warnings, ["299 - \"unknown field \\\"spec.containers[0].imag\\\"\""]);
    let refused = ask(&client, "POST", &path("Strict"), Some(body.clone())).await;
    assert_eq!(refused.code, 400);
    let message = refused.body["message"].as_str().unwrap();
    assert!(
        message.contains("strict decoding error: unknown field \"spec.containers[0].imag\""),
        "{message}"
    );
    assert_eq!(ask(&client, "POST", &path("Ignore"), Some(body)).await.warnings.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_service_answers_without_a_client() {
    let request = http::Request::get("/version").body(axum::body::Body::empty()).unwrap();
    let response = server().service("").oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
}
