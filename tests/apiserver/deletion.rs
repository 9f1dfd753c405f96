//! Deletions: grace, finalizers, propagation, collections, namespaces and definitions.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::support::{config_map, create, gizmo, gizmos, json as ask, pod, refused, server};

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::default_namespaced(client.clone())
}

async fn finalizers(api: &Api<ConfigMap>, name: &str, finalizers: Value) -> kube::Result<ConfigMap> {
    let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    api.patch(name, &PatchParams::default(), &patch).await
}

#[tokio::test(start_paused = true)]
async fn an_object_without_finalizers_is_gone_at_once() {
    let api = maps(&server().client("test"));
    let created = {
        create(&api, &config_map("a", "1")).await;
        api.get("a").await.unwrap()
    };
    let status = api.delete("a", &DeleteParams::default()).await.unwrap().unwrap_right();
    assert_eq!(status.details.unwrap().uid, created.uid().unwrap());
    assert_eq!(refused(api.get("a").await).message, "configmaps \"a\" not found");
    assert_eq!(refused(api.delete("a", &DeleteParams::default()).await).code, 404);
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_keeps_the_object_until_it_is_removed() {
    let api = maps(&server().client("test"));
    create(&api, &config_map("a", "1")).await;
    finalizers(&api, "a", json!(["ex.dev/one", "ex.dev/two"])).await.unwrap();
    let marked = api.delete("a", &DeleteParams::default()).await.unwrap().unwrap_left();
    assert!(marked.metadata.deletion_timestamp.is_some());
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(0));
    let added = refused(finalizers(&api, "a", json!(["ex.dev/one", "ex.dev/two", "ex.dev/three"])).await);
    assert_eq!(added.code, 422);
    assert!(added.message.contains("no new finalizers can be added"), "{}", added.message);
    finalizers(&api, "a", json!(["ex.dev/two"])).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_some());
    finalizers(&api, "a", json!([])).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn preconditions_protect_an_object_that_was_replaced() {
    let api = maps(&server().client("test"));
    let version = create(&api, &config_map("a", "1")).await;
    let other = Preconditions {
        uid: Some("00000000-0000-0000-0000-000000000000".to_owned()),
        resource_version: None,
    };
    let params = DeleteParams { preconditions: Some(other), ..DeleteParams::default() };
    let conflict = refused(api.delete("a", &params).await);
    assert_eq!(conflict.code, 409);
    assert!(conflict.message.contains("the UID in the precondition"), "{}", conflict.message);
    let stale = Preconditions { uid: None, resource_version: Some("1".to_owned()) };
    let params = DeleteParams { preconditions: Some(stale), ..DeleteParams::default() };
    assert_eq!(refused(api.delete("a", &params).await).code, 409);
    let current = Preconditions { uid: None, resource_version: Some(version) };
    let params = DeleteParams { preconditions: Some(current), ..DeleteParams::default() };
    api.delete("a", &params).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pod_on_a_node_waits_for_its_kubelet() {
    let api: Api<Pod> = Api::default_namespaced(server().client("kubelet"));
    let mut bound = pod("a");
    bound.spec.as_mut().unwrap().node_name = Some("n1".to_owned());
    create(&api, &bound).await;
    let marked = api.delete("a", &DeleteParams::default()).await.unwrap().unwrap_left();
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(30));
    let until = marked.metadata.deletion_timestamp.as_ref().unwrap().0;
    assert_eq!(until.to_string(), "2024-01-01T00:00:30Z");
    // A shorter grace counts, a longer one does not.
    let shorter = api.delete("a", &DeleteParams::default().grace_period(5)).await.unwrap().unwrap_left();
    assert_eq!(shorter.metadata.deletion_grace_period_seconds, Some(5));
    let longer = api.delete("a", &DeleteParams::default().grace_period(60)).await.unwrap().unwrap_left();
    assert_eq!(longer.metadata.deletion_grace_period_seconds, Some(5));
    api.delete("a", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_a_node_or_that_has_ended_is_gone_at_once() {
    let api: Api<Pod> = Api::default_namespaced(server().client("test"));
    create(&api, &pod("pending")).await;
    let mut bound = pod("done");
    bound.spec.as_mut().unwrap().node_name = Some("n1".to_owned());
    create(&api, &bound).await;
    let done = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
    api.patch_status("done", &PatchParams::default(), &done).await.unwrap();
    for name in ["pending", "done"] {
        api.delete(name, &DeleteParams::default()).await.unwrap();
        assert!(api.get_opt(name).await.unwrap().is_none(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn propagation_is_left_to_the_garbage_collector_by_finalizers() {
    let client = server().client("test");
    let api: Api<ReplicaSet> = Api::default_namespaced(client.clone());
    let set = |name: &str| -> ReplicaSet {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "nginx"}]},
            },
        }}))
        .unwrap()
    };
    let cases = [
        (PropagationPolicy::Foreground, Some("foregroundDeletion")),
        (PropagationPolicy::Orphan, Some("orphan")),
        (PropagationPolicy::Background, None),
    ];
    for (policy, finalizer) in cases {
        let name = format!("web-{policy:?}").to_lowercase();
        create(&api, &set(&name)).await;
        let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        api.delete(&name, &params).await.unwrap();
        let left = api.get_opt(&name).await.unwrap();
        assert_eq!(left.as_ref().and_then(|set| set.finalizers().first()).map(String::as_str), finalizer);
        if left.is_some() {
            // What the collector does when the dependents are gone, or have lost their owner.
            let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
            api.patch(&name, &PatchParams::default(), &patch).await.unwrap();
        }
        assert!(api.get_opt(&name).await.unwrap().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_collection_is_deleted_by_selector() {
    let api: Api<Pod> = Api::default_namespaced(server().client("test"));
    for (name, app) in [("a", "web"), ("b", "api"), ("c", "web")] {
        let mut pod = pod(name);
        pod.metadata.labels = Some([("app".to_owned(), app.to_owned())].into());
        create(&api, &pod).await;
    }
    let web = ListParams::default().labels("app=web");
    let deleted = api.delete_collection(&DeleteParams::default(), &web).await.unwrap().unwrap_left();
    assert_eq!(deleted.items.len(), 2);
    let left = api.list(&ListParams::default()).await.unwrap();
    assert_eq!(left.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_ends_when_its_finalizer_is_removed() {
    let client = server().client("test");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let team: Namespace = serde_json::from_value(json!({"metadata": {"name": "team"}})).unwrap();
    create(&namespaces, &team).await;
    let inside: Api<ConfigMap> = Api::namespaced(client.clone(), "team");
    create(&inside, &config_map("a", "1")).await;
    namespaces.delete("team", &DeleteParams::default()).await.unwrap();
    let ending = namespaces.get("team").await.unwrap();
    assert_eq!(ending.status.unwrap().phase.as_deref(), Some("Terminating"));
    let late = refused(inside.create(&Default::default(), &config_map("b", "1")).await);
    assert_eq!(late.code, 403);
    assert_eq!(
        late.message,
        "configmaps \"b\" is forbidden: unable to create new content in namespace team because it is being terminated"
    );
    assert_eq!(late.details.unwrap().causes[0].reason, "NamespaceTerminating");
    // What the namespace controller does.
    inside.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    let mut emptied: Value = serde_json::to_value(namespaces.get("team").await.unwrap()).unwrap();
    emptied["spec"]["finalizers"] = json!([]);
    let finalized = ask(&client, "PUT", "/api/v1/namespaces/team/finalize", Some(emptied)).await;
    assert_eq!(finalized.code, 200);
    assert!(namespaces.get_opt("team").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn default_namespaces_stay() {
    let namespaces: Api<Namespace> = Api::all(server().client("test"));
    for name in ["default", "kube-system", "kube-public"] {
        let status = refused(namespaces.delete(name, &DeleteParams::default()).await);
        assert_eq!(status.code, 403);
        assert!(status.message.contains("this namespace may not be deleted"), "{}", status.message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_definition_takes_its_objects_with_it() {
    let client = server().client("test");
    let api = gizmos(&client).await;
    for name in ["free", "held"] {
        create(&api, &serde_json::from_value(gizmo(name)).unwrap()).await;
    }
    let hold = Patch::Merge(json!({"metadata": {"finalizers": ["ex.dev/hold"]}}));
    api.patch("held", &PatchParams::default(), &hold).await.unwrap();
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gizmos.ex.dev";
    let deleted = ask(&client, "DELETE", definition, None).await;
    assert_eq!(deleted.code, 200);
    // One object has a finalizer, so the definition waits for it.
    assert!(api.get_opt("free").await.unwrap().is_none());
    let ending = ask(&client, "GET", definition, None).await.body;
    assert!(ending["metadata"]["deletionTimestamp"].is_string());
    let late =
        refused(api.create(&Default::default(), &serde_json::from_value(gizmo("late")).unwrap()).await);
    assert_eq!(late.code, 405);
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("held", &PatchParams::default(), &release).await.unwrap();
    assert_eq!(ask(&client, "GET", definition, None).await.code, 404);
    let gone = refused(api.list(&ListParams::default()).await);
    assert_eq!(gone.code, 404);
}
