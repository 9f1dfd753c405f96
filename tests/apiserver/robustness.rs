//! Requests that nobody would send: whatever comes in, a well-formed answer goes out and the server goes on.

use std::future::Future;
use std::path::Path;

use kube::Client;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde::Deserialize;
use serde_json::Value;

use crate::support::{Answer, gizmos, json as ask, send, server};

/// One valid object and the path of its collection.
#[derive(Clone, Debug, Deserialize)]
struct Valid {
    path: String,
    object: Value,
}

fn valid() -> Vec<Valid> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apiserver/objects.yaml");
    serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// Any JSON, with words and numbers that mean something to the handlers among it.
fn any_json() -> impl Strategy<Value = Value> {
    let words = vec![
        "",
        "a",
        "web",
        "10%",
        "1e9Gi",
        "None",
        "2024-01-01T00:00:00Z",
        "object",
        "v1",
        ".spec",
        "(",
        "é",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(vec![-1, 0, 1, 65536]).prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        select(words).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let key =
            select(vec!["name", "type", "spec", "metadata", "labels", "items", "properties", "a", "port"]);
        let member = (key.prop_map(str::to_owned), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            prop::collection::vec(member, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Pointers to all values within a value.
fn pointers(value: &Value, at: &str) -> Vec<String> {
    let mut found = vec![at.to_owned()];
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let key = key.replace('~', "~0").replace('/', "~1");
                found.extend(pointers(member, &format!("{at}/{key}")));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                found.extend(pointers(item, &format!("{at}/{index}")));
            }
        }
        _ => {}
    }
    found
}

/// A value that something else stands in.
fn spoilt(value: &Value, place: &Index, other: Value) -> Value {
    let mut spoilt = value.clone();
    let places = pointers(value, "");
    if let Some(place) = spoilt.pointer_mut(&places[place.index(places.len())]) {
        *place = other;
    }
    spoilt
}

/// Runs under paused time: each case has a server of its own.
fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

/// An answer is a document that says the same as its code; nothing broke inside the server.
fn check(answer: &Answer, what: &str) {
    let code = answer.code;
    assert!((200..500).contains(&code) || code == 501 || code == 504, "{what}: {answer:?}");
    if code >= 400 && answer.body.is_object() {
        assert_eq!(answer.body["kind"], "Status", "{what}: {answer:?}");
        assert_eq!(answer.body["code"], code, "{what}: {answer:?}");
        assert!(!answer.body["message"].as_str().unwrap().is_empty(), "{what}: {answer:?}");
    }
}

/// What is in the server can be read in every form.
async fn check_readable(client: &Client, path: &str) {
    for accept in ["application/json", "application/json;as=Table;v=v1;g=meta.k8s.io", "application/yaml"] {
        let listed = send(client, "GET", path, &[("accept", accept)], Vec::new()).await;
        check(&listed, path);
    }
    for path in ["/apis/other.dev/v1", "/apis/other.dev/v1/things", "/openapi/v3/apis/other.dev/v1", "/apis"]
    {
        check(&ask(client, "GET", path, None).await, path);
    }
}

#[tokio::test(start_paused = true)]
async fn the_objects_are_valid_as_they_stand() {
    let client = server().client("test");
    gizmos(&client).await;
    for Valid { path, object } in valid() {
        let created = ask(&client, "POST", &path, Some(object)).await;
        assert_eq!((created.code, created.warnings.len()), (201, 0), "{path}: {created:?}");
    }
}

/// Few cases, since each has a server of its own; `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    const CASES: u32 = 64;
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if asked { config } else { ProptestConfig { cases: CASES, ..config } }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn spoilt_objects_are_refused_or_stored_as_they_are_shown(
        kind in any::<Index>(), place in any::<Index>(), other in any_json(),
    ) {
        let valid = valid();
        let Valid { path, object } = kind.get(&valid);
        let body = spoilt(object, &place, other);
        run(async {
            let client = server().client("test");
            gizmos(&client).await;
            let created = ask(&client, "POST", path, Some(body.clone())).await;
            check(&created, &format!("POST {path} {body}"));
            check_readable(&client, path).await;
            if created.code == 201 {
                // An event may have any name.
                let name = created.body["metadata"]["name"].as_str().unwrap();
                let one = format!("{path}/{}", utf8_percent_encode(name, NON_ALPHANUMERIC));
                let again = ask(&client, "GET", &one, None).await;
                assert_eq!(again.body, created.body);
                // What is stored is valid: putting it back changes nothing.
                let same = ask(&client, "PUT", &one, Some(again.body.clone())).await;
                assert_eq!((same.code, &same.body), (200, &again.body));
            }
        });
    }

    #[test]
    fn spoilt_changes_are_refused_or_made(
        kind in any::<Index>(), place in any::<Index>(), other in any_json(), method in select(vec!["PUT", "PATCH"]),
        part in select(vec!["", "/status", "/scale", "/binding", "/finalize"]),
    ) {
        let valid = valid();
        let Valid { path, object } = kind.get(&valid);
        let body = spoilt(object, &place, other);
        run(async {
            let client = server().client("test");
            gizmos(&client).await;
            let created = ask(&client, "POST", path, Some(object.clone())).await;
            assert_eq!(created.code, 201, "{}", created.body);
            let one = format!("{path}/{}", created.body["metadata"]["name"].as_str().unwrap());
            let part = format!("{one}{part}");
            let changed = ask(&client, method, &part, Some(body.clone())).await;
            check(&changed, &format!("{method} {part} {body}"));
            check_readable(&client, path).await;
            check(&ask(&client, "DELETE", &one, Some(body)).await, &one);
            check_readable(&client, path).await;
        });
    }

    #[test]
    fn odd_paths_and_parameters_are_answered(
        path in select(vec!["/api/v1/pods", "/apis/ex.dev/v1/gizmos", "/api/v1/namespaces/default/pods/x", "/apis", "/"]),
        rest in "[/a-z%0-9.?&=-]{0,12}",
        parameter in select(vec!["limit", "continue", "resourceVersion", "resourceVersionMatch", "labelSelector",
            "fieldSelector", "dryRun", "fieldValidation", "gracePeriodSeconds", "propagationPolicy", "x"]),
        value in ".{0,10}",
        method in select(vec!["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]),
        body in prop::collection::vec(any::<u8>(), 0..20),
        content_type in select(vec!["application/json", "application/yaml", "application/vnd.kubernetes.protobuf",
            "application/json-patch+json", "application/merge-patch+json", ""]),
    ) {
        let query: String = form_urlencoded::Serializer::new(String::new()).append_pair(parameter, &value).finish();
        let separator = if rest.contains('?') { '&' } else { '?' };
        let path = format!("{path}{rest}{separator}{query}");
        prop_assume!(path.parse::<http::Uri>().is_ok());
        run(async {
            let client = server().client("test");
            gizmos(&client).await;
            let answer = send(&client, method, &path, &[("content-type", content_type)], body).await;
            check(&answer, &format!("{method} {path}"));
        });
    }
}
