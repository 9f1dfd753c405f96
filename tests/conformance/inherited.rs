//! Custom labels: what ReplicaSets and activities inherit of their Rollout, and what pods do not.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{ControllerRevision, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Resource, ResourceExt};
use rolloutd::crd::keys;
use rolloutd::pb::v1;
use serde_json::{Value, json};

use crate::explain::{DEADLINE, LOOK, drive};
use crate::kubernetes;
use crate::scenarios::{endless, healthy, paused_at};
use crate::world::{World, manifest};

on_both! {
    a_label_that_changes_reaches_every_set_and_no_pod
}

fn labelled(labels: Value) -> Value {
    let mut manifest = manifest(3, endless());
    manifest["metadata"]["labels"] = labels;
    manifest
}

async fn label(world: &World, labels: Value) {
    let patch = Patch::Merge(json!({ "metadata": { "labels": labels } }));
    world.rollouts().patch("web", &PatchParams::default(), &patch).await.expect("the labels are stored");
}

async fn pods(world: &World) -> BTreeMap<String, (String, BTreeMap<String, String>)> {
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut pods = api.list(&ListParams::default()).await.expect("pods are listed").items;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    pods.into_iter().map(|pod| (pod.name_any(), (pod.uid().unwrap(), pod.labels().clone()))).collect()
}

/// Waits until a label of all ReplicaSets is so.
async fn on_all_sets(world: &World, key: &str, value: Option<&str>) -> Vec<ReplicaSet> {
    let settled = async {
        loop {
            let sets = drive(world).sets().await;
            if sets.iter().all(|set| set.labels().get(key).map(String::as_str) == value) {
                return sets;
            }
            world.pass(LOOK).await;
        }
    };
    tokio::time::timeout(DEADLINE, settled).await.expect("all sets have it in time")
}

async fn a_label_that_changes_reaches_every_set_and_no_pod(world: World) {
    let drive = drive(&world);
    drive.create(labelled(json!({ "team": "shop", "app.kubernetes.io/instance": "web" }))).await;
    healthy(&drive).await;
    drive.set_image("v2").await;
    paused_at(&drive, 1).await;
    let sets = on_all_sets(&world, "team", Some("shop")).await;
    assert_eq!(sets.len(), 2);
    assert!(sets.iter().all(|set| !set.labels().contains_key("app.kubernetes.io/instance")));
    let before = pods(&world).await;

    let api: Api<ReplicaSet> = Api::namespaced(world.client.clone(), &world.namespace);
    let (theirs, ours) = (sets[0].name_any(), sets[1].name_any());
    let own = Patch::Merge(json!({ "metadata": { "labels": { "cost": "mine", "own": "mine" } } }));
    api.patch(&theirs, &PatchParams::default(), &own).await.expect("it is labelled");
    label(&world, json!({ "team": "cellar", "cost": "7" })).await;
    let sets = on_all_sets(&world, "team", Some("cellar")).await;
    for set in &sets {
        let cost = if set.name_any() == theirs { "mine" } else { "7" };
        assert_eq!(set.labels()["cost"], cost, "what a user put there stands");
    }
    label(&world, json!({ "team": null, "cost": null })).await;
    let sets = on_all_sets(&world, "team", None).await;
    let of = |name: &str| sets.iter().find(|set| set.name_any() == name).unwrap().labels();
    assert_eq!((of(&theirs)["cost"].as_str(), of(&theirs)["own"].as_str()), ("mine", "mine"));
    assert!(!of(&ours).contains_key("cost"));

    let after = pods(&world).await;
    assert_eq!(after, before, "no pod is restarted or relabelled");
    assert!(after.values().all(|(_, labels)| !labels.contains_key("team")));
    world.finish().await;
}

fn admission(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind))
}

/// Has the API server refuse ReplicaSets and ControllerRevisions of the world's namespace without a label `team`.
async fn require_team(world: &World) {
    let (client, namespace) = (world.client.clone(), &world.namespace);
    let name = format!("team-{namespace}");
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": { "name": name },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } },
                "resourceRules": [{ "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
                    "resources": ["replicasets", "controllerrevisions"] }],
            },
            "validations": [{ "expression": "has(object.metadata.labels) && 'team' in object.metadata.labels",
                "message": "the label team is required" }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": name },
        "spec": { "policyName": name, "validationActions": ["Deny"] },
    });
    for (kind, object) in
        [("ValidatingAdmissionPolicy", policy), ("ValidatingAdmissionPolicyBinding", binding)]
    {
        let resource = admission(kind);
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        api.create(&PostParams::default(), &object).await.expect("the policy is stored");
    }
    let nobodys: ControllerRevision =
        serde_json::from_value(json!({ "metadata": { "name": "nobodys" }, "data": {}, "revision": 1 }))
            .unwrap();
    let api: Api<ControllerRevision> = Api::namespaced(client, namespace);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    // Another error, of a server that has too much to do, is not what is waited for.
    let mut last = String::new();
    let acts = async {
        while !last.contains("the label team is required") {
            world.pass(LOOK).await;
            last = match api.create(&dry, &nobodys).await {
                Ok(_) => "it is taken".to_owned(),
                Err(error) => error.to_string(),
            };
        }
    };
    let acts = tokio::time::timeout(DEADLINE, acts).await;
    assert!(acts.is_ok(), "the policy does not act in time: {last}");
}

/// Issue 6, point 6.
#[test]
fn a_policy_that_requires_a_label_is_met_once_the_rollout_has_it() {
    kubernetes::runtime().block_on(async {
        let Some(world) = World::real().await else {
            return println!("skipped: KUBEBUILDER_ASSETS is not set");
        };
        require_team(&world).await;
        let drive = drive(&world);
        drive.create(labelled(json!({}))).await;
        world.until_event("ReplicaSetCreateError: ").await;
        assert_eq!(drive.sets().await.len(), 0, "the policy holds without the label");

        label(&world, json!({ "team": "shop" })).await;
        healthy(&drive).await;
        let request = v1::ScaleRolloutRequest { name: drive.name(), replicas: Some(2), ..Default::default() };
        world.rpc().scale_rollout(request).await.expect("it is scaled");
        drive.set_image("v2").await;
        paused_at(&drive, 1).await;

        assert!(drive.sets().await.iter().all(|set| set.labels()["team"] == "shop"));
        let revisions: Api<ControllerRevision> = Api::namespaced(world.client.clone(), &world.namespace);
        let of_us = ListParams::default().labels(keys::ACTIVITY_OF);
        let told = async {
            loop {
                let told = revisions.list(&of_us).await.expect("activities are listed").items;
                if !told.is_empty() {
                    return told;
                }
                world.pass(LOOK).await;
            }
        };
        let told = tokio::time::timeout(DEADLINE, told).await.expect("an activity is stored in time");
        assert!(told.iter().all(|activity| activity.meta().labels.as_ref().unwrap()["team"] == "shop"));
        let pods = pods(&world).await;
        assert!(pods.len() >= 2 && pods.values().all(|(_, labels)| !labels.contains_key("team")));
        world.finish().await;
    });
}
