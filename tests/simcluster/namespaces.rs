//! Namespaces that are deleted.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, PostParams};
use kube::runtime::{conditions, wait};
use serde_json::json;

use crate::lab::Lab;
use crate::replica_sets::{all_available, set};

pub(crate) async fn a_deleted_namespace_is_emptied(lab: Lab) {
    let _cluster = lab.cluster().await;
    let namespaces: Api<Namespace> = Api::all(lab.client.clone());
    let doomed = serde_json::from_value(json!({ "metadata": { "generateName": "doomed-" } })).unwrap();
    let doomed = namespaces.create(&PostParams::default(), &doomed).await.unwrap();
    let lab = lab.elsewhere(doomed.name_any());
    let mut sets = lab.observe::<ReplicaSet>().await;
    lab.create::<ReplicaSet>(set("web", 2, "web:1", &[])).await;
    lab.create::<ConfigMap>(json!({ "metadata": { "name": "map", "finalizers": ["example.com/held"] } }))
        .await;
    all_available(&mut sets, "web", 2).await;
    namespaces.delete(&lab.namespace, &DeleteParams::default()).await.unwrap();
    sets.until("its sets are gone", std::collections::BTreeMap::is_empty).await;
    // What has a finalizer holds the namespace.
    let held = namespaces.get(&lab.namespace).await.unwrap();
    assert_eq!(held.status.and_then(|status| status.phase).as_deref(), Some("Terminating"));
    let pods = lab.api::<Pod>().list(&kube::api::ListParams::default()).await.unwrap().items;
    assert!(pods.is_empty(), "pods go first");
    let release = kube::api::Patch::Merge(json!({ "metadata": { "finalizers": [] } }));
    lab.api::<ConfigMap>().patch("map", &kube::api::PatchParams::default(), &release).await.unwrap();
    let uid = doomed.uid().unwrap();
    let gone = wait::await_condition(namespaces, &lab.namespace, conditions::is_deleted(&uid));
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.unwrap().unwrap();
}
