//! Watches: what a watcher sees, what it may miss, and how it ends.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, Config as ClientConfig, ResourceExt};
use rolloutd::apiserver::{ApiServer, Config};
use rolloutd::clock::real_sleep;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::support::{DEADLINE, config, config_map, create, gizmo, gizmos, json as ask, pod, server};

type Events = Pin<Box<dyn Stream<Item = kube::Result<WatchEvent<ConfigMap>>> + Send>>;

async fn watch(api: &Api<ConfigMap>, params: &WatchParams, version: &str) -> Events {
    Box::pin(api.watch(params, version).await.unwrap())
}

/// The next event as `TYPE name`.
async fn next(events: &mut Events) -> Option<String> {
    let event = timeout(DEADLINE, events.next()).await.expect("an event or the end in time")?;
    Some(match event.unwrap() {
        WatchEvent::Added(map) => format!("ADDED {}", map.name_any()),
        WatchEvent::Modified(map) => format!("MODIFIED {}", map.name_any()),
        WatchEvent::Deleted(map) => format!("DELETED {}", map.name_any()),
        WatchEvent::Bookmark(bookmark) => format!("BOOKMARK {}", bookmark.metadata.resource_version),
        WatchEvent::Error(status) => format!("ERROR {} {}", status.code, status.reason),
    })
}

/// The events until the watch ends.
async fn rest(mut events: Events) -> Vec<String> {
    let mut seen = Vec::new();
    while let Some(event) = next(&mut events).await {
        seen.push(event);
    }
    seen
}

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::default_namespaced(client.clone())
}

/// Until the watch ends after one second, without bookmarks.
fn short() -> WatchParams {
    WatchParams { timeout: Some(1), bookmarks: false, ..WatchParams::default() }
}

async fn set(api: &Api<ConfigMap>, name: &str, value: &str) {
    let patch = Patch::Merge(json!({"data": {"a": value}}));
    api.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_watch_shows_what_follows_the_revision_it_starts_from() {
    let client = server().client("test");
    let api = maps(&client);
    let start = create(&api, &config_map("a", "1")).await;
    set(&api, "a", "2").await;
    let events = watch(&api, &short(), &start).await;
    create(&api, &config_map("b", "1")).await;
    create(&Api::namespaced(client.clone(), "kube-system"), &config_map("elsewhere", "1")).await;
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(rest(events).await, ["MODIFIED a", "ADDED b", "DELETED a"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_nowhere_shows_first_what_is_there() {
    let api = maps(&server().client("test"));
    for name in ["b", "a"] {
        create(&api, &config_map(name, "1")).await;
    }
    for version in ["", "0"] {
        let events = watch(&api, &short(), version).await;
        set(&api, "a", &format!("from {version:?}")).await;
        assert_eq!(rest(events).await, ["ADDED a", "ADDED b", "MODIFIED a"]);
    }
}

#[tokio::test(start_paused = true)]
async fn objects_enter_and_leave_a_selection() {
    let client = server().client("test");
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let params = WatchParams { field_selector: Some("spec.nodeName=n1".to_owned()), ..short() };
    let events = api.watch(&params, "0").await.unwrap();
    create(&api, &pod("a")).await;
    let binding = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}});
    let bound = ask(&client, "POST", "/api/v1/namespaces/default/pods/a/binding", Some(binding)).await;
    assert_eq!(bound.code, 201);
    api.delete("a", &DeleteParams::default().grace_period(0)).await.unwrap();
    let kinds: Vec<String> = events.map_ok(|event| format!("{event:?}")).try_collect().await.unwrap();
    // The deletion without grace marks the pod before it removes it.
    assert_eq!(kinds, ["Added event", "Modified event", "Deleted event"]);
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_every_minute_to_those_who_ask() {
    let api = maps(&server().client("test"));
    let version = create(&api, &config_map("a", "1")).await;
    let with = WatchParams { timeout: Some(100), bookmarks: true, ..WatchParams::default() };
    let without = WatchParams { bookmarks: false, ..with.clone() };
    let (with, without) = (watch(&api, &with, &version).await, watch(&api, &without, &version).await);
    // One bookmark after a minute, one at the end.
    let bookmark = format!("BOOKMARK {version}");
    let read = async {
        let seen = with.map_ok(|event| match event {
            WatchEvent::Bookmark(bookmark) => format!("BOOKMARK {}", bookmark.metadata.resource_version),
            other => format!("{other:?}"),
        });
        seen.try_collect::<Vec<_>>().await.unwrap()
    };
    assert_eq!(read.await, [bookmark.clone(), bookmark]);
    assert_eq!(rest(without).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_watch_lasts_as_long_as_it_was_asked_to() {
    let api = maps(&server().client("test"));
    let begin = tokio::time::Instant::now();
    assert_eq!(rest(watch(&api, &WatchParams { timeout: Some(30), ..short() }, "0").await).await.len(), 0);
    assert_eq!(begin.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_a_forgotten_revision_has_expired() {
    let server = ApiServer::new(Config { history_limit: 3, ..config() });
    let api = maps(&server.client("test"));
    let start = create(&api, &config_map("a", "1")).await;
    for value in ["2", "3", "4", "5"] {
        set(&api, "a", value).await;
    }
    assert_eq!(rest(watch(&api, &short(), &start).await).await, ["ERROR 410 Expired"]);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_fell_behind_lists_again() {
    let server = ApiServer::new(Config { history_limit: 5, ..config() });
    let api = maps(&server.client("test"));
    create(&api, &config_map("a", "0")).await;
    create(&api, &config_map("gone", "0")).await;
    let mut events = Box::pin(watcher(api.clone(), watcher::Config::default()).default_backoff());
    while !matches!(events.try_next().await.unwrap(), Some(watcher::Event::InitDone)) {}
    // More than the server keeps for a watcher that does not read, and more than its history.
    for value in 1..=2000 {
        set(&api, "a", &value.to_string()).await;
    }
    api.delete("gone", &DeleteParams::default()).await.unwrap();
    let mut listed = Vec::new();
    loop {
        match timeout(DEADLINE, events.next()).await.expect("the watcher goes on").unwrap() {
            Ok(watcher::Event::InitApply(map)) => {
                listed.push((map.name_any(), map.data.unwrap()["a"].clone()));
            }
            Ok(watcher::Event::InitDone) => break,
            Ok(_) => {}
            Err(error) => assert!(error.to_string().contains("too old resource version"), "{error}"),
        }
    }
    assert_eq!(listed, [("a".to_owned(), "2000".to_owned())]);
    set(&api, "a", "last").await;
    let next = timeout(DEADLINE, events.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(next, watcher::Event::Apply(map) if map.data.as_ref().unwrap()["a"] == "last"));
}

#[tokio::test(start_paused = true)]
async fn a_reflector_follows_for_hours() {
    let server = server();
    let client = server.client("controller");
    let api = gizmos(&client).await;
    let kind = kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("ex.dev", "v1", "Gizmo"));
    let writer = reflector::store::Writer::new(kind);
    let store = writer.as_reader();
    let stream = reflector(writer, watcher(api.clone(), watcher::Config::default()).default_backoff());
    let follower = tokio::spawn(stream.for_each(|event| async { drop(event.unwrap()) }));
    store.wait_until_ready().await.unwrap();
    for hour in 0..12 {
        let name = format!("g{hour}");
        create(&api, &serde_json::from_value(gizmo(&name)).unwrap()).await;
        if hour >= 3 {
            api.delete(&format!("g{}", hour - 3), &DeleteParams::default()).await.unwrap();
        }
        real_sleep(Duration::from_secs(3600)).await;
        let mut known: Vec<String> = store.state().iter().map(|gizmo| gizmo.name_any()).collect();
        known.sort();
        let listed = api.list(&ListParams::default()).await.unwrap();
        let mut listed: Vec<String> = listed.iter().map(ResourceExt::name_any).collect();
        listed.sort();
        assert_eq!(known, listed, "after hour {hour}");
    }
    // Watches end and begin again; the objects were listed once.
    let audit = server.audit();
    let of = |verb: rolloutd::apiserver::Verb| audit.count(|key| key.verb == verb);
    assert!(of(rolloutd::apiserver::Verb::Watch) > 12 * 3600 / 300, "{audit}");
    assert_eq!(of(rolloutd::apiserver::Verb::List), 1 + 12, "{audit}");
    follower.abort();
}

#[tokio::test(start_paused = true)]
async fn streaming_lists_are_refused_as_without_watch_list() {
    let client = server().client("test");
    let path = "/api/v1/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let answer = ask(&client, "GET", path, None).await;
    assert_eq!(answer.code, 422);
    let message = &answer.body["details"]["causes"][0]["message"];
    assert!(message.as_str().unwrap().contains("unless the WatchList feature gate is enabled"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_watch_is_closed() {
    let server = server();
    let api = maps(&server.client("test"));
    let events = watch(&api, &WatchParams::default(), "0").await;
    assert_eq!(server.open_watches(), 1);
    drop(events);
    tokio::task::yield_now().await;
    assert_eq!(server.open_watches(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_watch_can_show_table_rows() {
    let client = server().client("test");
    create(&maps(&client), &config_map("a", "1")).await;
    let request = http::Request::get("/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=1")
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(kube::client::Body::empty())
        .unwrap();
    let body = client.send(request).await.unwrap().into_body().collect_bytes().await.unwrap();
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(event["type"], "ADDED");
    assert_eq!(event["object"]["kind"], "Table");
    assert_eq!(event["object"]["rows"][0]["cells"], json!(["a", 1, "0s"]));
}

#[tokio::test]
async fn a_shutdown_ends_watches_over_http() {
    let server = server();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn({
        let (server, shutdown) = (server.clone(), shutdown.clone());
        async move { server.serve(listener, shutdown).await }
    });
    let client = Client::try_from(ClientConfig::new(url)).unwrap();
    let mut events = watch(&maps(&client), &WatchParams::default(), "0").await;
    create(&maps(&client), &config_map("a", "1")).await;
    assert_eq!(next(&mut events).await.as_deref(), Some("ADDED a"));
    shutdown.cancel();
    assert_eq!(next(&mut events).await, None);
    timeout(DEADLINE, serving).await.unwrap().unwrap().unwrap();
    assert_eq!(server.open_watches(), 0);
}
