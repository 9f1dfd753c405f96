//! Lists: order, selectors, pages and revisions.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, ListParams, ObjectList, Patch, PatchParams, VersionMatch};
use kube::{Client, Resource, ResourceExt};
use rolloutd::apiserver::{ApiServer, Config};
use serde_json::json;

use crate::support::{config, config_map, create, pod, refused, server};

fn names<K: Resource + Clone>(list: &ObjectList<K>) -> Vec<String> {
    list.iter().map(ResourceExt::name_any).collect()
}

async fn five_maps(client: &Client) -> Api<ConfigMap> {
    let api = Api::default_namespaced(client.clone());
    for name in ["c", "a", "e", "b", "d"] {
        create(&api, &config_map(name, "1")).await;
    }
    api
}

#[tokio::test(start_paused = true)]
async fn a_list_is_in_the_order_of_namespaces_and_names() {
    let client = server().client("test");
    let system: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    create(&system, &config_map("a", "1")).await;
    let api = five_maps(&client).await;
    assert_eq!(names(&api.list(&ListParams::default()).await.unwrap()), ["a", "b", "c", "d", "e"]);
    let all = Api::<ConfigMap>::all(client).list(&ListParams::default()).await.unwrap();
    let spaces: Vec<String> = all.iter().map(|map| map.namespace().unwrap()).collect();
    assert_eq!(spaces, ["default", "default", "default", "default", "default", "kube-system"]);
}

#[tokio::test(start_paused = true)]
async fn labels_and_fields_select() {
    let api: Api<Pod> = Api::default_namespaced(server().client("test"));
    for (name, app, node) in [("a", "web", "n1"), ("b", "web", "n2"), ("c", "api", "n1")] {
        let mut pod = pod(name);
        pod.metadata.labels = Some([("app".to_owned(), app.to_owned())].into());
        pod.spec.as_mut().unwrap().node_name = Some(node.to_owned());
        create(&api, &pod).await;
    }
    let running = json!({"status": {"phase": "Running"}});
    api.patch_status("b", &PatchParams::default(), &Patch::Merge(running)).await.unwrap();
    let cases = [
        ("app=web", "", vec!["a", "b"]),
        ("app in (api,db)", "", vec!["c"]),
        ("app!=web", "", vec!["c"]),
        ("!tier,app", "", vec!["a", "b", "c"]),
        ("", "spec.nodeName=n1", vec!["a", "c"]),
        ("", "spec.nodeName!=n1", vec!["b"]),
        ("", "metadata.name=c", vec!["c"]),
        ("", "status.phase=Running", vec!["b"]),
        ("app=web", "spec.nodeName=n1,status.phase=Pending", vec!["a"]),
    ];
    for (labels, fields, expected) in cases {
        let list = api.list(&ListParams::default().labels(labels).fields(fields)).await.unwrap();
        assert_eq!(names(&list), expected, "{labels} {fields}");
    }
    let unknown = refused(api.list(&ListParams::default().fields("spec.hostname=a")).await);
    assert_eq!(unknown.code, 400);
}

#[tokio::test(start_paused = true)]
async fn the_pages_of_a_list_show_one_moment() {
    let client = server().client("test");
    let api = five_maps(&client).await;
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first.metadata.remaining_item_count, Some(3));
    // What happens after the first page is not seen by the others.
    create(&api, &config_map("bb", "1")).await;
    api.delete("d", &DeleteParams::default()).await.unwrap();
    let patch = Patch::Merge(json!({"data": {"a": "2"}}));
    api.patch("e", &PatchParams::default(), &patch).await.unwrap();
    let mut token = first.metadata.continue_.clone().unwrap();
    let mut seen = Vec::new();
    while !token.is_empty() {
        let page = api.list(&ListParams::default().limit(2).continue_token(&token)).await.unwrap();
        assert_eq!(page.metadata.resource_version, first.metadata.resource_version);
        seen.extend(page.iter().map(|map| format!("{}={}", map.name_any(), map.data.as_ref().unwrap()["a"])));
        token = page.metadata.continue_.unwrap_or_default();
    }
    assert_eq!(seen, ["c=1", "d=1", "e=1"]);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_no_longer_known_has_expired() {
    let server = ApiServer::new(Config { history_limit: 3, ..config() });
    let api = five_maps(&server.client("test")).await;
    let first = api.list(&ListParams::default().limit(2)).await.unwrap();
    for name in ["f", "g", "h", "i"] {
        create(&api, &config_map(name, "1")).await;
    }
    let token = first.metadata.continue_.unwrap();
    let expired = refused(api.list(&ListParams::default().limit(2).continue_token(&token)).await);
    assert_eq!((expired.code, expired.reason.as_str()), (410, "Expired"));
}

#[tokio::test(start_paused = true)]
async fn a_list_may_name_a_revision() {
    let server = ApiServer::new(Config { history_limit: 3, ..config() });
    let api = five_maps(&server.client("test")).await;
    let now = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let revision: u64 = now.parse().unwrap();
    api.delete("a", &DeleteParams::default()).await.unwrap();

    let any = api.list(&ListParams::default().match_any()).await.unwrap();
    assert_eq!(names(&any), ["b", "c", "d", "e"]);
    let not_older =
        api.list(&ListParams::default().at(&now).matching(VersionMatch::NotOlderThan)).await.unwrap();
    assert_eq!(names(&not_older), ["b", "c", "d", "e"]);
    assert_eq!(not_older.metadata.resource_version.unwrap(), (revision + 1).to_string());
    let exact = api.list(&ListParams::default().at(&now).matching(VersionMatch::Exact)).await.unwrap();
    assert_eq!(names(&exact), ["a", "b", "c", "d", "e"]);
    assert_eq!(exact.metadata.resource_version.unwrap(), now);

    let past = (revision - 4).to_string();
    let expired = refused(api.list(&ListParams::default().at(&past).matching(VersionMatch::Exact)).await);
    assert_eq!((expired.code, expired.reason.as_str()), (410, "Expired"));
    let future = (revision + 10).to_string();
    let ahead =
        refused(api.list(&ListParams::default().at(&future).matching(VersionMatch::NotOlderThan)).await);
    assert_eq!((ahead.code, ahead.reason.as_str()), (504, "Timeout"));
    assert_eq!(ahead.details.unwrap().causes[0].reason, "ResourceVersionTooLarge");
}

#[tokio::test(start_paused = true)]
async fn metadata_alone_can_be_listed() {
    let api = five_maps(&server().client("test")).await;
    let list = api.list_metadata(&ListParams::default().limit(1)).await.unwrap();
    assert_eq!(list.items[0].name_any(), "a");
    assert_eq!(list.metadata.remaining_item_count, Some(4));
    assert_eq!(api.get_metadata("b").await.unwrap().name_any(), "b");
}
