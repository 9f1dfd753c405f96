//! What tests see of the server: each write as it is committed, the count of requests, and the same run again.

use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use rolloutd::apiserver::{ApiServer, AuditKey, CodeClass, Config, Effect, GroupResource, Verb, Write};
use serde_json::{Value, json};

use crate::support::{config, config_map, create, gizmo, gizmos, pod, refused, server};

/// Lines that a hook writes for each write.
fn record(
    server: &ApiServer,
    line: impl Fn(&Write<'_>) -> String + Send + 'static,
) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    server.on_write(move |write| sink.lock().unwrap().push(line(write)));
    lines
}

fn name(object: Option<&Value>) -> &str {
    object.and_then(|object| object["metadata"]["name"].as_str()).unwrap_or("-")
}

#[tokio::test(start_paused = true)]
async fn a_hook_sees_each_committed_write_in_order() {
    let server = server();
    let lines = record(&server, |write| {
        let Write { user_agent, verb, resource, subresource, old, new, .. } = write;
        format!("{user_agent} {verb} {resource}/{subresource} {} -> {}", name(*old), name(*new))
    });
    let pods: Api<Pod> = Api::default_namespaced(server.client("worker"));
    create(&pods, &pod("a")).await;
    let running = Patch::Merge(json!({"status": {"phase": "Running"}}));
    pods.patch_status("a", &PatchParams::default(), &running).await.unwrap();
    // Refused, dry and empty writes are not committed.
    refused(pods.create(&PostParams::default(), &pod("a")).await);
    pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &pod("b")).await.unwrap();
    pods.patch_status("a", &PatchParams::default(), &running).await.unwrap();
    let collector: Api<Pod> = Api::default_namespaced(server.client("collector"));
    collector
        .delete_collection(&DeleteParams::default().grace_period(0), &ListParams::default())
        .await
        .unwrap();
    assert_eq!(
        *lines.lock().unwrap(),
        [
            "worker create pods/ - -> a",
            "worker patch pods/status a -> a",
            "collector deletecollection pods/ a -> a",
            "collector deletecollection pods/ a -> -",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_hook_reads_all_objects_as_of_the_write() {
    let server = server();
    let lines = record(&server, |write| {
        let maps = GroupResource::new("", "configmaps");
        let seen: Vec<&str> = write.objects.list(&maps, Some("default")).map(|map| name(Some(map))).collect();
        let same = write.objects.get(&maps, "default", name(write.new)) == write.new;
        format!("{} {same}", seen.join(","))
    });
    let api: Api<ConfigMap> = Api::default_namespaced(server.client("test"));
    create(&api, &config_map("b", "1")).await;
    create(&api, &config_map("a", "1")).await;
    api.delete("b", &DeleteParams::default()).await.unwrap();
    assert_eq!(*lines.lock().unwrap(), ["b true", "a,b true", "a true"]);
}

#[tokio::test(start_paused = true)]
async fn revisions_and_times_of_writes_are_those_of_the_objects() {
    let server = server();
    let lines = record(&server, |write| {
        assert_eq!(write.new.unwrap()["metadata"]["resourceVersion"], write.revision.to_string());
        write.time.to_string()
    });
    let api: Api<ConfigMap> = Api::default_namespaced(server.client("test"));
    create(&api, &config_map("a", "1")).await;
    tokio::time::advance(std::time::Duration::from_secs(5)).await;
    create(&api, &config_map("b", "1")).await;
    assert_eq!(*lines.lock().unwrap(), ["2024-01-01T00:00:00Z", "2024-01-01T00:00:05Z"]);
}

#[tokio::test(start_paused = true)]
async fn requests_are_counted_by_who_asked_for_what() {
    let server = server();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client("rolloutd/worker"));
    create(&api, &config_map("a", "1")).await;
    let before = server.audit();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    api.create(&dry, &config_map("b", "1")).await.unwrap();
    refused(api.create(&PostParams::default(), &config_map("a", "1")).await);
    api.list(&ListParams::default()).await.unwrap();
    for _ in 0..3 {
        api.get("a").await.unwrap();
    }
    drop(api.watch(&Default::default(), "0").await.unwrap());
    let patch = Patch::Merge(json!({"data": {"a": "2"}}));
    Api::<ConfigMap>::default_namespaced(server.client("other"))
        .patch("a", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let since = server.audit().since(&before);
    assert_eq!(
        since.to_string(),
        "     1  other patch configmaps Success\n     \
              3  rolloutd/worker get configmaps Success\n     \
              1  rolloutd/worker list configmaps Success\n     \
              1  rolloutd/worker watch configmaps Success\n     \
              1  rolloutd/worker create configmaps ClientError\n     \
              1  rolloutd/worker create configmaps (dry run) Success\n"
    );
    let key = AuditKey {
        user_agent: "rolloutd/worker".to_owned(),
        verb: Verb::Create,
        resource: Some(GroupResource::new("", "configmaps")),
        subresource: String::new(),
        effect: Effect::DryRun,
        class: CodeClass::Success,
    };
    assert_eq!(since.count(|counted| *counted == key), 1);
    assert_eq!(since.count(|counted| counted.verb.is_write() && counted.effect == Effect::Real), 2);
}

#[tokio::test(start_paused = true)]
async fn subresources_and_collections_are_counted_apart() {
    let server = server();
    let api: Api<Pod> = Api::default_namespaced(server.client("w"));
    create(&api, &pod("a")).await;
    let before = server.audit();
    let running = Patch::Merge(json!({"status": {"phase": "Running"}}));
    api.patch_status("a", &PatchParams::default(), &running).await.unwrap();
    api.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap_err();
    assert_eq!(
        server.audit().since(&before).to_string(),
        "     1  w patch pods/status Success\n     \
              1  w delete pods ClientError\n     \
              1  w deletecollection pods Success\n"
    );
}

/// All writes of a small story, as bytes.
async fn story(seed: u64) -> Vec<String> {
    let server = ApiServer::new(Config { seed, ..config() });
    let lines = record(&server, |write| format!("{} {:?}", write.time, write.new.map(Value::to_string)));
    let client = server.client("test");
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    for _ in 0..3 {
        let mut unnamed = pod("");
        unnamed.metadata.name = None;
        unnamed.metadata.generate_name = Some("web-".to_owned());
        pods.create(&PostParams::default(), &unnamed).await.unwrap();
        rolloutd::clock::real_sleep(std::time::Duration::from_millis(1500)).await;
    }
    let api = gizmos(&client).await;
    create(&api, &serde_json::from_value(gizmo("a")).unwrap()).await;
    pods.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    let lines = lines.lock().unwrap();
    lines.clone()
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_and_the_same_requests_give_the_same_bytes() {
    let first = story(7).await;
    assert!(first.len() > 8);
    assert_eq!(first, story(7).await);
    assert_ne!(first, story(8).await);
}
