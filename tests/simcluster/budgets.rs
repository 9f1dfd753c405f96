//! Budgets of disruptions, as those who evict pods see them.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{EvictParams, ListParams, PostParams};
use serde_json::{Value, json};

use crate::lab::{Lab, Observer};
use crate::replica_sets::{all_available, set};

/// Expected, wanted healthy, healthy and disposable pods, once they are those of the present spec.
fn counts(budgets: &BTreeMap<String, PodDisruptionBudget>, name: &str) -> Option<[i32; 4]> {
    let budget = budgets.get(name)?;
    let status =
        budget.status.as_ref().filter(|status| status.observed_generation == budget.metadata.generation)?;
    let all =
        [status.expected_pods, status.desired_healthy, status.current_healthy, status.disruptions_allowed];
    Some(all.map(|count| count.expect("all are written")))
}

async fn budget(lab: &Lab, spec: Value) -> Observer<PodDisruptionBudget> {
    let budgets = lab.observe().await;
    let mut object =
        json!({ "metadata": { "name": "web" }, "spec": { "selector": { "matchLabels": { "app": "web" } } } });
    json_patch::merge(&mut object["spec"], &spec);
    lab.create::<PodDisruptionBudget>(object).await;
    budgets
}

async fn until(budgets: &mut Observer<PodDisruptionBudget>, wanted: [i32; 4]) {
    let what = format!("the budget counts {wanted:?}");
    budgets.until(&what, |budgets| counts(budgets, "web") == Some(wanted)).await;
}

async fn names(lab: &Lab) -> Vec<String> {
    lab.api::<Pod>().list(&ListParams::default()).await.unwrap().iter().map(ResourceExt::name_any).collect()
}

pub(crate) async fn a_budget_gives_one_pod_at_a_time(lab: Lab) {
    let _cluster = lab.cluster().await;
    let mut sets = lab.observe::<ReplicaSet>().await;
    lab.create::<ReplicaSet>(set("web", 3, "app:v1", &[])).await;
    all_available(&mut sets, "web", 3).await;
    let mut budgets = budget(&lab, json!({ "maxUnavailable": "33%" })).await;
    until(&mut budgets, [3, 2, 3, 1]).await;
    let (pods, before) = (lab.api::<Pod>(), names(&lab).await);
    pods.evict(&before[0], &EvictParams::default()).await.unwrap();
    let error = pods.evict(&before[1], &EvictParams::default()).await.unwrap_err();
    let kube::Error::Api(status) = &error else { panic!("{error}") };
    assert_eq!((status.code, status.reason.as_str()), (429, "TooManyRequests"), "{status:?}");
    assert_eq!(status.message, "Cannot evict pod as it would violate the pod's disruption budget.");
    // The next pod may go when the one before has been replaced.
    until(&mut budgets, [3, 2, 2, 0]).await;
    until(&mut budgets, [3, 2, 3, 1]).await;
    pods.evict(&before[1], &EvictParams::default()).await.unwrap();
    until(&mut budgets, [3, 2, 2, 0]).await;
    until(&mut budgets, [3, 2, 3, 1]).await;
    let after = names(&lab).await;
    assert_eq!(after.iter().filter(|name| before.contains(name)).count(), 1, "{before:?}, {after:?}");
    assert_eq!(budgets.now["web"].status.as_ref().unwrap().disrupted_pods, None);
}

pub(crate) async fn an_eviction_that_deletes_nothing_is_given_back(lab: Lab) {
    let _cluster = lab.cluster().await;
    let mut sets = lab.observe::<ReplicaSet>().await;
    lab.create::<ReplicaSet>(set("web", 2, "app:v1", &[])).await;
    all_available(&mut sets, "web", 2).await;
    let mut budgets = budget(&lab, json!({ "minAvailable": 1 })).await;
    until(&mut budgets, [2, 1, 2, 1]).await;
    let name = names(&lab).await.remove(0);
    let eviction =
        json!({ "metadata": { "name": name }, "deleteOptions": { "preconditions": { "uid": "another" } } });
    let posted: kube::Result<Value> =
        lab.api::<Pod>().create_subresource("eviction", &name, &PostParams::default(), &eviction).await;
    let error = posted.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.code == 409), "{error}");
    // It is taken before the pod is looked at, and two minutes have to pass.
    until(&mut budgets, [2, 1, 1, 0]).await;
    budgets.linger(Duration::from_secs(121)).await;
    until(&mut budgets, [2, 1, 2, 1]).await;
}
