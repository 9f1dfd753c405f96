//! A cluster on disk: what clients find when the server starts again.

use std::path::Path;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use rolloutd::apiserver::{ApiServer, Config, Database};
use rolloutd::clock::Clock;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::support::{DEADLINE, config_map, create, gizmo, gizmos, json as ask, pod, refused, send};

/// The cluster of a folder, with its clock at `time`.
fn start_at(folder: &Path, history_limit: usize, time: Option<Timestamp>) -> ApiServer {
    let database = Database::open(folder).unwrap();
    let reached = database.time();
    let time = time.or(reached).unwrap_or("2024-01-01T00:00:00Z".parse().unwrap());
    assert!(reached.is_none_or(|reached| time >= reached), "{reached:?}");
    let config = Config { history_limit, seed: 1, ..Config::new(Clock::starting_at(time, 1.0)) };
    ApiServer::stored(config, database).unwrap()
}

fn start(folder: &Path) -> ApiServer {
    start_at(folder, 1000, None)
}

/// The server that starts when this one has ended.
async fn again(server: ApiServer, folder: &Path) -> ApiServer {
    server.close().await;
    start(folder)
}

fn short() -> WatchParams {
    WatchParams { timeout: Some(1), bookmarks: false, ..WatchParams::default() }
}

/// The events of a watch that ends, as `TYPE name value revision`.
async fn events(api: &Api<ConfigMap>, version: &str) -> Vec<String> {
    let events = api.watch(&short(), version).await.unwrap();
    let shown = events.map_ok(|event| match event {
        WatchEvent::Added(map) => line("ADDED", &map),
        WatchEvent::Modified(map) => line("MODIFIED", &map),
        WatchEvent::Deleted(map) => line("DELETED", &map),
        WatchEvent::Error(status) => format!("ERROR {} {}", status.code, status.reason),
        WatchEvent::Bookmark(_) => "BOOKMARK".to_owned(),
    });
    timeout(DEADLINE, shown.try_collect()).await.expect("the watch ends").unwrap()
}

fn line(kind: &str, map: &ConfigMap) -> String {
    let value = map.data.as_ref().map_or("", |data| &data["a"]);
    format!("{kind} {} {value} {}", map.name_any(), map.resource_version().unwrap())
}

async fn set(api: &Api<ConfigMap>, name: &str, value: &str) {
    let patch = Patch::Merge(json!({"data": {"a": value}}));
    api.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn objects_and_the_recent_past_outlive_the_server() {
    let folder = TempDir::new().unwrap();
    let server = start(folder.path());
    let api: Api<ConfigMap> = Api::default_namespaced(server.client("test"));
    let first = create(&api, &config_map("a", "1")).await;
    set(&api, "a", "2").await;
    create(&api, &config_map("gone", "1")).await;
    api.delete("gone", &DeleteParams::default()).await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(server.client("test"));
    create(&pods, &pod("p")).await;
    let objects = api.list(&ListParams::default()).await.unwrap();
    let past = events(&api, &first).await;
    assert_eq!(past.len(), 3, "{past:?}");

    let server = again(server, folder.path()).await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client("test"));
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items, objects.items);
    assert_eq!(events(&api, &first).await, past, "a watch from before goes on without a gap");
    // Revisions and uids go on.
    let before: u64 = objects.metadata.resource_version.unwrap().parse().unwrap();
    let created = api.create(&PostParams::default(), &config_map("b", "1")).await.unwrap();
    assert_eq!(created.resource_version(), Some((before + 1).to_string()));
    assert!(objects.items.iter().all(|map| map.uid() != created.uid()));
    assert_eq!(events(&api, &first).await.len(), 4);
    // What was in the list of the past is in it still.
    let then = ListParams { resource_version: Some(first), ..ListParams::default() };
    let then =
        api.list(&ListParams { version_match: Some(kube::api::VersionMatch::Exact), ..then }).await.unwrap();
    assert_eq!(then.items.len(), 1);
    assert_eq!(then.items[0].data.as_ref().unwrap()["a"], "1");
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_before_the_kept_history_has_expired() {
    let folder = TempDir::new().unwrap();
    let server = start_at(folder.path(), 3, None);
    let api: Api<ConfigMap> = Api::default_namespaced(server.client("test"));
    let first = create(&api, &config_map("a", "0")).await;
    for value in 1..=4 {
        set(&api, "a", &value.to_string()).await;
    }
    let second = (first.parse::<u64>().unwrap() + 1).to_string();
    let server = again(server, folder.path()).await;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client("test"));
    assert_eq!(events(&api, &first).await, ["ERROR 410 Expired"]);
    assert_eq!(events(&api, &second).await.len(), 3);
    let exactly = ListParams { resource_version: Some(first), ..ListParams::default() };
    let exactly = ListParams { version_match: Some(kube::api::VersionMatch::Exact), ..exactly };
    assert_eq!(refused(api.list(&exactly).await).code, 410);
}

#[tokio::test(start_paused = true)]
async fn definitions_are_served_with_their_schemas_from_the_first_request_on() {
    let folder = TempDir::new().unwrap();
    let server = start(folder.path());
    let api = gizmos(&server.client("test")).await;
    api.create(&PostParams::default(), &serde_json::from_value(gizmo("a")).unwrap()).await.unwrap();

    let server = again(server, folder.path()).await;
    let client = server.client("test");
    let path = "/apis/ex.dev/v1/namespaces/default/gizmos";
    let mut bad = gizmo("b");
    bad["spec"] = json!({"mode": "slow"});
    let answer = ask(&client, "POST", path, Some(bad)).await;
    assert_eq!(answer.code, 422, "{answer:?}");
    let made = ask(&client, "POST", path, Some(gizmo("b"))).await;
    assert_eq!(made.body["spec"]["replicas"], 1, "defaults are set");
    let kept = ask(&client, "GET", &format!("{path}/a/scale"), None).await;
    assert_eq!(kept.body["spec"]["replicas"], 1);
    // A definition that is deleted takes its objects along, and all of it is gone the next time.
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gizmos.ex.dev";
    assert_eq!(ask(&client, "DELETE", definition, None).await.code, 200);
    let server = again(server, folder.path()).await;
    let client = server.client("test");
    for path in [path, definition] {
        assert_eq!(ask(&client, "GET", path, None).await.code, 404, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn events_expire_as_long_after_their_last_write_as_without_a_restart() {
    let folder = TempDir::new().unwrap();
    let server = start(folder.path());
    let begin: Timestamp = "2024-01-01T00:00:00Z".parse().unwrap();
    let event = |name: &str| -> Event {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "default"},
            "involvedObject": {"namespace": "default"}}))
        .unwrap()
    };
    let api: Api<Event> = Api::default_namespaced(server.client("test"));
    create(&api, &event("a")).await;
    create(&api, &event("b")).await;
    tokio::time::advance(Duration::from_secs(30 * 60)).await;
    let note = Patch::Merge(json!({"message": "again"}));
    api.patch("b", &PatchParams::default(), &note).await.unwrap();
    server.close().await;

    let names = |server: ApiServer| async move {
        let api: Api<Event> = Api::default_namespaced(server.client("test"));
        let listed = api.list(&ListParams::default()).await.unwrap();
        server.close().await;
        listed.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
    };
    for (minutes, left) in [(59, &["a", "b"][..]), (61, &["b"]), (89, &["b"]), (91, &[])] {
        let time = begin + jiff::SignedDuration::from_mins(minutes);
        // A reader alone is enough for it to go.
        assert_eq!(names(start_at(folder.path(), 1000, Some(time))).await, left, "after {minutes} minutes");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_watched_is_durable_and_told_once() {
    let folder = TempDir::new().unwrap();
    let server = start(folder.path());
    let api: Api<ConfigMap> = Api::default_namespaced(server.client("test"));
    let watched = api.watch(&WatchParams { timeout: Some(5), ..short() }, "0").await.unwrap();
    let mut watched = Box::pin(watched);
    let writes = (0..20).map(|index| {
        let api = api.clone();
        async move { create(&api, &config_map(&format!("m{index}"), "1")).await }
    });
    let mut acknowledged: Vec<u64> =
        futures::future::join_all(writes).await.iter().map(|version| version.parse().unwrap()).collect();
    acknowledged.sort_unstable();
    let mut seen = Vec::new();
    while let Some(event) = watched.next().await {
        match event.unwrap() {
            WatchEvent::Added(map) => seen.push(map.resource_version().unwrap().parse::<u64>().unwrap()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, acknowledged, "each once, in the order of revisions");
    assert!(acknowledged.windows(2).all(|pair| pair[1] == pair[0] + 1), "{acknowledged:?}");
}

#[tokio::test(start_paused = true)]
async fn a_closed_server_reads_and_refuses_to_write() {
    let folder = TempDir::new().unwrap();
    let server = start(folder.path());
    let api: Api<ConfigMap> = Api::default_namespaced(server.client("test"));
    create(&api, &config_map("a", "1")).await;
    server.close().await;
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let status = refused(api.create(&PostParams::default(), &config_map("b", "1")).await);
    assert_eq!(
        (status.code, status.message.as_str()),
        (500, "Internal error occurred: the write was not stored: the server is stopping")
    );
}

/// Whatever can be stored can be read again.
#[tokio::test(start_paused = true)]
async fn the_deepest_object_that_is_accepted_is_read_again() {
    let folder = TempDir::new().unwrap();
    let server = start(folder.path());
    let client = server.client("test");
    gizmos(&client).await;
    let path = "/apis/ex.dev/v1/namespaces/default/gizmos";
    let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!({"a": inner}));
    let mut deepest = [0; 3];
    for depth in 20..140 {
        let mut object = gizmo("");
        object["spec"]["selector"] = nested(depth);
        for (index, content_type) in ["application/json", "application/yaml"].into_iter().enumerate() {
            object["metadata"]["name"] = Value::from(format!("g{depth}-{}", &content_type[12..]));
            let body = object.to_string().into_bytes();
            let answer = send(&client, "POST", path, &[("content-type", content_type)], body).await;
            deepest[index] = if answer.code == 201 { depth } else { deepest[index] };
        }
        // A patch can put a deep value where it is deep already.
        if depth == 20 {
            let status = Some(json!({"status": nested(depth)}));
            assert_eq!(ask(&client, "PATCH", &format!("{path}/g20-json/status"), status).await.code, 200);
        }
        let place = format!("/status{}", "/a".repeat(20));
        let patch =
            json!([{"op": "replace", "path": place, "value": nested(depth - 20)}]).to_string().into_bytes();
        let json_patch = [("content-type", "application/json-patch+json")];
        let answer = send(&client, "PATCH", &format!("{path}/g20-json/status"), &json_patch, patch).await;
        deepest[2] = if answer.code == 200 { depth } else { deepest[2] };
    }
    assert!(deepest.iter().all(|depth| (50..135).contains(depth)), "{deepest:?}");
    let kept = ask(&client, "GET", path, None).await.body;
    let server = again(server, folder.path()).await;
    assert_eq!(ask(&server.client("test"), "GET", path, None).await.body, kept);
}
