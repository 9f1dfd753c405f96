//! What happens to the cluster as a whole.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::lab::Lab;
use crate::pods::is_ready;
use crate::replica_sets::{all_available, set, status};

fn node(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

pub(crate) async fn pods_of_a_lost_node_are_replaced_and_go_when_it_is_back(lab: Lab) {
    let cluster = lab.cluster_alone().await;
    let (mut sets, mut pods) = (lab.observe::<ReplicaSet>().await, lab.observe::<Pod>().await);
    lab.create::<ReplicaSet>(set("web", 6, "web:1", &[])).await;
    all_available(&mut sets, "web", 6).await;
    let lost = cluster.nodes()[1].clone();
    pods.until("all pods are seen", |pods| pods.values().filter(|pod| is_ready(pod)).count() == 6).await;
    let on_it: Vec<String> =
        pods.now.values().filter(|pod| node(pod) == lost).map(kube::ResourceExt::name_any).collect();
    assert_eq!(on_it.len(), 2, "pods are spread");
    cluster.lose_node(&lost).unwrap();
    sets.until("its pods are not ready", |sets| status(sets, "web").ready_replicas == Some(4)).await;
    pods.until("they are evicted and replaced elsewhere", |pods| {
        let elsewhere = pods.values().filter(|pod| is_ready(pod) && node(pod) != lost).count();
        elsewhere == 6
            && on_it
                .iter()
                .all(|name| pods.get(name).is_some_and(|pod| pod.metadata.deletion_timestamp.is_some()))
    })
    .await;
    pods.linger(Duration::from_secs(1)).await;
    assert_eq!(pods.now.len(), 8, "nobody confirms that the evicted ones have stopped");
    cluster.restore_node(&lost).unwrap();
    pods.until("they are gone", |pods| pods.len() == 6).await;
    assert!(cluster.lose_node("elsewhere").is_err());
}

pub(crate) async fn another_cluster_goes_on_where_one_stopped(lab: Lab) {
    let mut cluster = lab.cluster_alone().await;
    let (mut sets, mut pods) = (lab.observe::<ReplicaSet>().await, lab.observe::<Pod>().await);
    lab.create::<ReplicaSet>(set("web", 3, "web:1", &[])).await;
    let slow = [("simcluster.rolloutd.dev/start-up", "4s")];
    lab.create::<ReplicaSet>(set("slow", 2, "web:1", &slow)).await;
    all_available(&mut sets, "web", 3).await;
    sets.until("the slow pods are there", |sets| status(sets, "slow").replicas == 2).await;
    cluster.stop().await;
    let patch = Patch::Merge(json!({ "spec": { "replicas": 4 } }));
    lab.api::<ReplicaSet>().patch("web", &PatchParams::default(), &patch).await.unwrap();
    pods.linger(Duration::from_secs(1)).await;
    assert_eq!(pods.now.len(), 5, "nobody makes pods now");
    cluster.start();
    all_available(&mut sets, "web", 4).await;
    all_available(&mut sets, "slow", 2).await;
    pods.until("all pods are ready", |pods| pods.values().filter(|pod| is_ready(pod)).count() == 6).await;
    assert_eq!(pods.ever(), 6, "none was made twice");
    let addresses: BTreeMap<&String, &String> = pods
        .now
        .iter()
        .filter_map(|(name, pod)| Some((pod.status.as_ref()?.pod_ip.as_ref()?, name)))
        .collect();
    assert_eq!(addresses.len(), 6, "no address was given twice");
}

pub(crate) async fn an_idle_cluster_asks_nothing(lab: Lab) {
    let _cluster = lab.cluster_alone().await;
    let mut sets = lab.observe::<ReplicaSet>().await;
    lab.create::<ReplicaSet>(set("web", 5, "web:1", &[])).await;
    all_available(&mut sets, "web", 5).await;
    // Events are written beside the work.
    rolloutd::clock::real_sleep(Duration::from_secs(1)).await;
    let before = lab.requests();
    rolloutd::clock::real_sleep(Duration::from_secs(3)).await;
    assert_eq!(lab.requests()[before.len()..], [] as [String; 0]);
    println!("requests for 5 pods: {}", before.len());
    for request in before {
        println!("  {request}");
    }
}
