//! Single objects through `kube`: created, replaced, patched, their status, scale and binding.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Binding, ConfigMap, Namespace, Pod, Service};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use crate::support::{config_map, create, pod, refused, server};

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::default_namespaced(client.clone())
}

fn replica_set(replicas: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "nginx:1"}]},
            },
        },
    }))
    .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_new_object_gets_an_identity() {
    let api = maps(&server().client("test"));
    let created = api.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    assert_eq!(created.metadata.uid.as_deref().map(str::len), Some(36));
    assert_eq!(created.namespace().as_deref(), Some("default"));
    let time = created.metadata.creation_timestamp.as_ref().unwrap().0;
    assert_eq!(time.to_string(), "2024-01-01T00:00:00Z");
    assert_eq!(api.get("a").await.unwrap(), created);
    let again = refused(api.create(&PostParams::default(), &config_map("a", "2")).await);
    assert_eq!((again.code, again.reason.as_str()), (409, "AlreadyExists"));
    assert_eq!(again.message, "configmaps \"a\" already exists");
}

#[tokio::test(start_paused = true)]
async fn generated_names_keep_their_prefix_and_differ() {
    let api = maps(&server().client("test"));
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let unnamed: ConfigMap =
            serde_json::from_value(json!({"metadata": {"generateName": "web-"}})).unwrap();
        names.insert(api.create(&PostParams::default(), &unnamed).await.unwrap().name_any());
    }
    assert_eq!(names.len(), 20);
    assert!(names.iter().all(|name| name.starts_with("web-") && name.len() == 9), "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stale_update_is_a_conflict() {
    let api = maps(&server().client("test"));
    let first = api.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let mut second = first.clone();
    second.data.as_mut().unwrap().insert("a".to_owned(), "2".to_owned());
    api.replace("a", &PostParams::default(), &second).await.unwrap();
    let conflict = refused(api.replace("a", &PostParams::default(), &first).await);
    assert_eq!((conflict.code, conflict.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        conflict.message,
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to \
         the latest version and try again"
    );
    let patch = json!({"metadata": {"resourceVersion": first.resource_version()}, "data": {"a": "3"}});
    let conflict = refused(api.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await);
    assert_eq!(conflict.code, 409);
    assert_eq!(api.get("a").await.unwrap().data.unwrap()["a"], "2");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_changes_nothing_writes_nothing() {
    let server = server();
    let api = maps(&server.client("test"));
    let created = api.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let replaced = api.replace("a", &PostParams::default(), &created).await.unwrap();
    let patch = Patch::Merge(json!({"data": {"a": "1"}}));
    let patched = api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(replaced.resource_version(), created.resource_version());
    assert_eq!(patched.resource_version(), created.resource_version());
}

#[tokio::test(start_paused = true)]
async fn revisions_are_counted_over_all_kinds() {
    let client = server().client("test");
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let first: u64 = create(&maps(&client), &config_map("a", "1")).await.parse().unwrap();
    let second: u64 = create(&pods, &pod("a")).await.parse().unwrap();
    let third: u64 = create(&maps(&client), &config_map("b", "1")).await.parse().unwrap();
    assert_eq!((second, third), (first + 1, first + 2));
}

#[tokio::test(start_paused = true)]
async fn spec_and_status_are_written_apart() {
    let api: Api<ReplicaSet> = Api::default_namespaced(server().client("test"));
    create(&api, &replica_set(2)).await;
    let both = json!({"spec": {"replicas": 3}, "status": {"replicas": 9, "readyReplicas": 9}});
    let merge = Patch::Merge(both);
    let spec = api.patch("web", &PatchParams::default(), &merge).await.unwrap();
    assert_eq!(spec.spec.replicas, Some(3));
    assert_eq!(spec.status.as_ref().unwrap().replicas, 0);
    assert_eq!(spec.metadata.generation, Some(2));
    let both = json!({"spec": {"replicas": 7}, "status": {"replicas": 3, "observedGeneration": 2}});
    let status = api.patch_status("web", &PatchParams::default(), &Patch::Merge(both)).await.unwrap();
    assert_eq!(status.spec.replicas, Some(3));
    assert_eq!(status.status.as_ref().unwrap().replicas, 3);
    assert_eq!(status.metadata.generation, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_scale_changes_replicas_and_nothing_else() {
    let api: Api<ReplicaSet> = Api::default_namespaced(server().client("test"));
    create(&api, &replica_set(2)).await;
    let mut scale = api.get_scale("web").await.unwrap();
    assert_eq!(scale.spec.as_ref().unwrap().replicas, Some(2));
    assert_eq!(scale.status.as_ref().unwrap().selector.as_deref(), Some("app=web"));
    scale.spec.as_mut().unwrap().replicas = Some(5);
    api.replace_scale("web", &PostParams::default(), &scale).await.unwrap();
    let after = api.get("web").await.unwrap();
    assert_eq!(after.spec.replicas, Some(5));
    assert_eq!(after.metadata.generation, Some(2));
    let stale = refused(api.replace_scale("web", &PostParams::default(), &scale).await);
    assert_eq!(stale.code, 409);
    let patch = Patch::Merge(json!({"spec": {"replicas": -1}}));
    let negative = refused(api.patch_scale("web", &PatchParams::default(), &patch).await);
    assert_eq!(negative.code, 422);
    assert_eq!(negative.details.unwrap().causes[0].field, "spec.replicas");
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_bound_to_one_node_once() {
    let api: Api<Pod> = Api::default_namespaced(server().client("scheduler"));
    create(&api, &pod("a")).await;
    let binding = Binding {
        metadata: pod("a").metadata,
        target: serde_json::from_value(json!({"kind": "Node", "name": "n1"})).unwrap(),
    };
    let _: kube::core::Status =
        api.create_subresource("binding", "a", &PostParams::default(), &binding).await.unwrap();
    let bound = api.get("a").await.unwrap();
    assert_eq!(bound.spec.as_ref().unwrap().node_name.as_deref(), Some("n1"));
    let conditions = bound.status.unwrap().conditions.unwrap();
    assert!(
        conditions.iter().any(|condition| condition.type_ == "PodScheduled" && condition.status == "True")
    );
    let again: Result<kube::core::Status, _> =
        api.create_subresource("binding", "a", &PostParams::default(), &binding).await;
    let again = refused(again);
    assert_eq!(again.code, 409);
    assert!(again.message.contains("pod a is already assigned to node \"n1\""), "{}", again.message);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_answers_as_if_it_wrote() {
    let client = server().client("test");
    let api = maps(&client);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let shown = api.create(&dry, &config_map("a", "1")).await.unwrap();
    assert!(shown.metadata.uid.is_some());
    assert_eq!(refused(api.get("a").await).code, 404);
    create(&api, &config_map("a", "1")).await;
    let patch = Patch::Merge(json!({"data": {"a": "2"}}));
    let patched =
        api.patch("a", &PatchParams { dry_run: true, ..PatchParams::default() }, &patch).await.unwrap();
    assert_eq!(patched.data.unwrap()["a"], "2");
    assert_eq!(api.get("a").await.unwrap().data.unwrap()["a"], "1");
}

#[tokio::test(start_paused = true)]
async fn a_failed_test_of_a_json_patch_changes_nothing() {
    let api = maps(&server().client("test"));
    let version = create(&api, &config_map("a", "1")).await;
    let patch: json_patch::Patch = serde_json::from_value(json!([
        {"op": "replace", "path": "/data/a", "value": "2"},
        {"op": "test", "path": "/data/a", "value": "3"},
    ]))
    .unwrap();
    let failed = refused(api.patch("a", &PatchParams::default(), &Patch::<()>::Json(patch)).await);
    assert_eq!((failed.code, failed.reason.as_str()), (422, "Invalid"));
    assert_eq!(api.get("a").await.unwrap().resource_version(), Some(version));
}

#[tokio::test(start_paused = true)]
async fn an_object_does_not_outgrow_what_a_cluster_stores() {
    let api = maps(&server().client("test"));
    create(&api, &config_map("a", "1")).await;
    let note = "x".repeat(900_000);
    for (key, code) in [("one", 200), ("two", 422)] {
        let patch = Patch::Merge(json!({"data": {key: note}}));
        let patched = api.patch("a", &PatchParams::default(), &patch).await;
        assert_eq!(patched.map_or_else(|error| refused(Err::<(), _>(error)).code, |_| 200), code, "{key}");
    }
    let pods: Api<Pod> = Api::default_namespaced(server().client("test"));
    let mut large = pod("large");
    large.spec.as_mut().unwrap().containers[0].args = Some(vec!["x".repeat(1_600_000)]);
    let status = refused(pods.create(&PostParams::default(), &large).await);
    assert_eq!((status.code, status.message.as_str()), (500, "etcdserver: request is too large"));
}

#[tokio::test(start_paused = true)]
async fn a_selector_does_not_change() {
    let api: Api<ReplicaSet> = Api::default_namespaced(server().client("test"));
    create(&api, &replica_set(1)).await;
    let patch = json!({"spec": {
        "selector": {"matchLabels": {"app": "api"}},
        "template": {"metadata": {"labels": {"app": "api"}}},
    }});
    let status = refused(api.patch("web", &PatchParams::default(), &Patch::Merge(patch)).await);
    assert_eq!(status.code, 422);
    let causes = status.details.unwrap().causes;
    assert_eq!(causes[0].field, "spec.selector");
    assert!(causes[0].message.ends_with("field is immutable"), "{}", causes[0].message);
}

#[tokio::test(start_paused = true)]
async fn a_service_is_given_an_address_of_its_own() {
    let api: Api<Service> = Api::default_namespaced(server().client("test"));
    let mut addresses = std::collections::BTreeSet::new();
    for name in ["a", "b", "c"] {
        let service: Service = serde_json::from_value(
            json!({"metadata": {"name": name}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}),
        )
        .unwrap();
        let spec = api.create(&PostParams::default(), &service).await.unwrap().spec.unwrap();
        assert_eq!(spec.type_.as_deref(), Some("ClusterIP"));
        assert_eq!(spec.cluster_ips.as_deref(), spec.cluster_ip.clone().map(|ip| vec![ip]).as_deref());
        addresses.insert(spec.cluster_ip.unwrap());
    }
    assert_eq!(addresses.len(), 3);
    assert!(addresses.iter().all(|address| address.starts_with("10.96.")), "{addresses:?}");
}

#[tokio::test(start_paused = true)]
async fn objects_live_in_namespaces_that_exist() {
    let client = server().client("test");
    let elsewhere: Api<ConfigMap> = Api::namespaced(client.clone(), "team");
    let missing = refused(elsewhere.create(&PostParams::default(), &config_map("a", "1")).await);
    assert_eq!(missing.code, 404);
    assert_eq!(missing.message, "namespaces \"team\" not found");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let team: Namespace = serde_json::from_value(json!({"metadata": {"name": "team"}})).unwrap();
    create(&namespaces, &team).await;
    create(&elsewhere, &config_map("a", "1")).await;
    let named: Vec<String> =
        namespaces.list(&Default::default()).await.unwrap().iter().map(ResourceExt::name_any).collect();
    assert_eq!(named, ["default", "kube-node-lease", "kube-public", "kube-system", "team"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_implemented_says_so() {
    let api = maps(&server().client("test"));
    create(&api, &config_map("a", "1")).await;
    let apply = Patch::Apply(config_map("a", "2"));
    let status = refused(api.patch("a", &PatchParams::apply("me"), &apply).await);
    assert_eq!(status.code, 501);
    assert!(status.message.contains("server-side apply"), "{}", status.message);
}
