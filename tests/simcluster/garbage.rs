//! What becomes of objects whose owners go.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, PostParams};
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::{conditions, wait};
use kube::{Resource, ResourceExt as _};
use serde_json::{Value, json};

use crate::lab::{Lab, unique};
use crate::replica_sets::{all_available, set};

/// A small custom kind, defined once for all scenarios.
async fn widgets(lab: &Lab) -> Api<DynamicObject> {
    lab.once(|| define(lab)).await;
    let resource = ApiResource {
        group: "simcluster.test".to_owned(),
        version: "v1".to_owned(),
        api_version: "simcluster.test/v1".to_owned(),
        kind: "Widget".to_owned(),
        plural: "widgets".to_owned(),
    };
    Api::namespaced_with(lab.client.clone(), &lab.namespace, &resource)
}

async fn define(lab: &Lab) {
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": { "name": "widgets.simcluster.test" },
        "spec": {
            "group": "simcluster.test",
            "names": { "kind": "Widget", "listKind": "WidgetList", "plural": "widgets", "singular": "widget" },
            "scope": "Namespaced",
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
            }],
        },
    }))
    .unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(lab.client.clone());
    definitions.create(&PostParams::default(), &definition).await.unwrap();
    let established =
        wait::await_condition(definitions, "widgets.simcluster.test", conditions::is_crd_established());
    tokio::time::timeout(Duration::from_secs(60), established).await.unwrap().unwrap();
}

async fn widget(widgets: &Api<DynamicObject>, name: &str) -> DynamicObject {
    let body = json!({ "apiVersion": "simcluster.test/v1", "kind": "Widget", "metadata": { "name": name } });
    let object = serde_json::from_value(body).unwrap();
    // A definition is established a moment before its kind is served everywhere.
    for _ in 0..100 {
        match widgets.create(&PostParams::default(), &object).await {
            Ok(created) => return created,
            Err(error) => println!("not yet: {error}"),
        }
        rolloutd::clock::real_sleep(Duration::from_millis(100)).await;
    }
    panic!("widgets are not served");
}

/// A reference to an owner.
fn owned_by(owner: &DynamicObject) -> Value {
    json!({
        "apiVersion": "simcluster.test/v1",
        "kind": "Widget",
        "name": owner.name_any(),
        "uid": owner.uid(),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

fn owned_set(name: &str, replicas: u32, owner: &DynamicObject) -> Value {
    let mut owned = set(name, replicas, "web:1", &[]);
    owned["metadata"]["ownerReferences"] = json!([owned_by(owner)]);
    owned
}

/// The names of the objects in the order in which they went.
fn went<K: Resource>(history: &[K], now: &BTreeMap<String, K>) -> Vec<String> {
    let mut names = Vec::new();
    for object in history.iter().rev() {
        let name = object.meta().name.clone().unwrap_or_default();
        if !now.contains_key(&name) && !names.contains(&name) {
            names.insert(0, name);
        }
    }
    names
}

pub(crate) async fn pods_go_after_their_set_in_the_background(lab: Lab) {
    let _cluster = lab.cluster().await;
    let (mut sets, mut pods) = (lab.observe::<ReplicaSet>().await, lab.observe::<Pod>().await);
    lab.create::<ReplicaSet>(set("web", 3, "web:1", &[])).await;
    lab.create::<ReplicaSet>(set("other", 1, "web:1", &[])).await;
    all_available(&mut sets, "web", 3).await;
    all_available(&mut sets, "other", 1).await;
    pods.until("four pods are there", |pods| pods.len() == 4).await;
    lab.api::<ReplicaSet>().delete("web", &DeleteParams::background()).await.unwrap();
    sets.until("the set is gone", |sets| !sets.contains_key("web")).await;
    pods.until("its pods are gone, the other's is not", |pods| {
        pods.len() == 1 && pods.keys().all(|name| name.starts_with("other-"))
    })
    .await;
    assert_eq!(pods.ever(), 4, "nothing was made anew meanwhile");
}

pub(crate) async fn pods_go_before_their_set_in_the_foreground(lab: Lab) {
    let _cluster = lab.cluster().await;
    let (mut sets, mut pods) = (lab.observe::<ReplicaSet>().await, lab.observe::<Pod>().await);
    let lingering = [("simcluster.rolloutd.dev/termination", "1s")];
    lab.create::<ReplicaSet>(set("web", 3, "web:1", &lingering)).await;
    all_available(&mut sets, "web", 3).await;
    pods.until("three pods are there", |pods| pods.len() == 3).await;
    lab.api::<ReplicaSet>().delete("web", &DeleteParams::foreground()).await.unwrap();
    sets.until("the set is gone", BTreeMap::is_empty).await;
    let left = lab.api::<Pod>().list(&kube::api::ListParams::default()).await.unwrap().items;
    assert!(
        left.is_empty(),
        "the set went before {:?}",
        left.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>()
    );
    pods.until("its pods are gone", BTreeMap::is_empty).await;
    assert_eq!(pods.ever(), 3, "nothing was made anew meanwhile");
}

pub(crate) async fn orphaned_pods_stay(lab: Lab) {
    let _cluster = lab.cluster().await;
    let (mut sets, mut pods) = (lab.observe::<ReplicaSet>().await, lab.observe::<Pod>().await);
    lab.create::<ReplicaSet>(set("web", 3, "web:1", &[])).await;
    all_available(&mut sets, "web", 3).await;
    pods.until("three pods are there", |pods| pods.len() == 3).await;
    lab.api::<ReplicaSet>().delete("web", &DeleteParams::orphan()).await.unwrap();
    sets.until("the set is gone", BTreeMap::is_empty).await;
    pods.until("its pods are nobody's", |pods| pods.values().all(|pod| pod.owner_references().is_empty()))
        .await;
    pods.linger(Duration::from_secs(1)).await;
    assert_eq!((pods.now.len(), pods.ever()), (3, 3));
    assert!(pods.now.values().all(|pod| pod.metadata.deletion_timestamp.is_none()));
}

pub(crate) async fn a_custom_owner_takes_sets_and_pods_along(lab: Lab) {
    let _cluster = lab.cluster().await;
    let (mut sets, mut pods) = (lab.observe::<ReplicaSet>().await, lab.observe::<Pod>().await);
    let widgets = widgets(&lab).await;
    let owner = widget(&widgets, "owner").await;
    lab.create::<ReplicaSet>(owned_set("one", 2, &owner)).await;
    lab.create::<ReplicaSet>(owned_set("two", 0, &owner)).await;
    all_available(&mut sets, "one", 2).await;
    pods.until("two pods are there", |pods| pods.len() == 2).await;
    widgets.delete("owner", &DeleteParams::background()).await.unwrap();
    sets.until("its sets are gone", BTreeMap::is_empty).await;
    pods.until("their pods are gone", BTreeMap::is_empty).await;
    assert_eq!(pods.ever(), 2, "nothing was made anew meanwhile");
}

pub(crate) async fn a_custom_owner_waits_for_sets_and_pods_in_the_foreground(lab: Lab) {
    let _cluster = lab.cluster().await;
    let (mut sets, mut pods) = (lab.observe::<ReplicaSet>().await, lab.observe::<Pod>().await);
    let widgets = widgets(&lab).await;
    let owner = widget(&widgets, "owner").await;
    lab.create::<ReplicaSet>(owned_set("web", 2, &owner)).await;
    all_available(&mut sets, "web", 2).await;
    pods.until("two pods are there", |pods| pods.len() == 2).await;
    widgets.delete("owner", &DeleteParams::foreground()).await.unwrap();
    sets.until("its set is gone", BTreeMap::is_empty).await;
    pods.until("the pods are gone", BTreeMap::is_empty).await;
    assert_eq!(went(&sets.history, &sets.now), ["web"]);
    let dying =
        sets.history.iter().any(|set| set.finalizers().iter().any(|name| name == "foregroundDeletion"));
    assert!(dying, "the set waited for its pods in turn");
    let uid = owner.uid().unwrap();
    let gone = wait::await_condition(widgets.clone(), "owner", conditions::is_deleted(&uid));
    tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap().unwrap();
}

pub(crate) async fn another_owner_keeps_an_object(lab: Lab) {
    let _cluster = lab.cluster().await;
    let mut maps = lab.observe::<ConfigMap>().await;
    let widgets = widgets(&lab).await;
    let (first, second) = (widget(&widgets, "first").await, widget(&widgets, "second").await);
    let mut references = json!([owned_by(&first), owned_by(&second)]);
    references[1]["controller"] = json!(false);
    lab.create::<ConfigMap>(json!({ "metadata": { "name": "map", "ownerReferences": references } })).await;
    maps.until("the object is there", |maps| maps.contains_key("map")).await;
    widgets.delete("first", &DeleteParams::background()).await.unwrap();
    maps.until("the missing owner is taken off", |maps| maps["map"].owner_references().len() == 1).await;
    assert_eq!(maps.get("map").owner_references()[0].name, "second");
    widgets.delete("second", &DeleteParams::background()).await.unwrap();
    maps.until("with its last owner it goes", |maps| !maps.contains_key("map")).await;
}

pub(crate) async fn an_object_born_to_a_missing_owner_goes(lab: Lab) {
    let _cluster = lab.cluster().await;
    let mut maps = lab.observe::<ConfigMap>().await;
    let widgets = widgets(&lab).await;
    let namesake = widget(&widgets, "owner").await;
    let mut reference = owned_by(&namesake);
    reference["uid"] = json!(format!("00000000-0000-4000-8000-{:012}", unique()));
    lab.create::<ConfigMap>(json!({ "metadata": { "name": "orphan", "ownerReferences": [reference] } }))
        .await;
    lab.create::<ConfigMap>(
        json!({ "metadata": { "name": "child", "ownerReferences": [owned_by(&namesake)] } }),
    )
    .await;
    let there = |maps: &BTreeMap<String, ConfigMap>, name: &str| maps.contains_key(name);
    maps.until("the child is there, the orphan is gone", |maps| {
        there(maps, "child") && !there(maps, "orphan")
    })
    .await;
    maps.linger(Duration::from_secs(1)).await;
    assert!(maps.now.contains_key("child"), "what has an owner stays");
}
