//! A control plane that may do what Argo Rollouts' own ClusterRole grants (contract A13): it reconciles whatever rolls out (each list of
//! scenarios has a part for that), leads, and says of the rest which rule is missing. The real API server has RBAC; in front of the embedded
//! cluster stands a [`guard`](crate::guard).

use std::time::Duration;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt};
use rolloutd::pb::v1;
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::continuity;
use crate::drive::{Drive, Driver};
use crate::guard;
use crate::rights;
use crate::scenarios::{endless, healthy, paused_at};
use crate::workload;
use crate::world::{World, manifest};

/// The control plane's user where it has no other rights.
pub const USER: &str = "argo-rollouts";

/// How long anything may take, and how often it is looked at.
const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

fn written_out() -> ClusterRole {
    serde_saphyr::from_str(include_str!("../data/argo-rollouts-clusterrole.yaml")).expect("a ClusterRole")
}

/// A client that may do what the ClusterRole grants; for the embedded cluster.
pub fn guarded(client: Client) -> Client {
    guard::guarded(client, USER, written_out().rules.unwrap_or_default())
}

/// Grants [`USER`] what the ClusterRole grants, and waits until the API server knows.
pub async fn grant(client: &Client, user: &Client) {
    let role = written_out();
    let binding = json!({ "metadata": { "name": role.name_any() },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role.name_any() },
        "subjects": [{ "kind": "User", "name": USER, "apiGroup": "rbac.authorization.k8s.io" }] });
    let binding: ClusterRoleBinding = serde_json::from_value(binding).unwrap();
    // Another test may have been first.
    for created in [
        Api::all(client.clone()).create(&PostParams::default(), &role).await.map(|_| ()),
        Api::all(client.clone()).create(&PostParams::default(), &binding).await.map(|_| ()),
    ] {
        match created {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            created => created.expect("it is created"),
        }
    }
    let creation = json!({ "verb": "create", "group": "apps", "resource": "replicasets" });
    rights::until(user, creation, true).await;
}

/// Checks that an RPC was refused because the control plane may not do this to rollouts, and says so.
pub fn lacks(refused: &Status, verb: &str, namespace: &str) {
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    let info = refused.get_details_error_info().expect("it has details");
    assert_eq!(info.reason, "PERMISSION_DENIED");
    for (key, value) in [("verb", verb), ("resource", "rollouts.argoproj.io"), ("namespace", namespace)] {
        assert_eq!(info.metadata.get(key).map(String::as_str), Some(value), "{info:?}");
    }
    assert!(refused.message().contains(verb) && !refused.message().contains(USER), "{refused:?}");
}

/// The rules that the contract tells of are among those that are written out.
#[test]
fn the_role_is_as_the_contract_has_it() {
    let rules = written_out().rules.unwrap_or_default();
    let verbs = |group: &str, resource: &str| {
        let is_in =
            |list: &Option<Vec<String>>, wanted: &str| list.iter().flatten().any(|item| item == wanted);
        let rules =
            rules.iter().filter(|rule| is_in(&rule.api_groups, group) && is_in(&rule.resources, resource));
        let mut verbs: Vec<&str> = rules.flat_map(|rule| rule.verbs.iter().map(String::as_str)).collect();
        verbs.sort_unstable();
        verbs.join(" ")
    };
    for (group, resource, expected) in [
        ("", "pods", "list update watch"),
        ("", "pods/eviction", "create"),
        ("apps", "deployments", "get list update watch"),
        ("coordination.k8s.io", "leases", "create get update"),
        ("apps", "controllerrevisions", ""),
        ("", "namespaces", ""),
        ("argoproj.io", "rollouts", "get list patch update watch"),
        ("argoproj.io", "rollouts/status", "get list patch update watch"),
        ("argoproj.io", "rollouts/scale", ""),
    ] {
        assert_eq!(verbs(group, resource), expected, "{resource}");
    }
}

/// Runs a test on both clusters.
macro_rules! on_both_under_the_role {
    ($($name:ident)+) => {
        mod on_the_embedded_cluster {
            $(#[test] fn $name() {
                crate::scenarios::in_virtual_time(async || {
                    super::$name(crate::world::World::embedded_under_its_role().await).await;
                });
            })+
        }

        mod on_kubernetes {
            $(#[test] fn $name() {
                crate::kubernetes::runtime().block_on(async {
                    match crate::world::World::real_under_its_role().await {
                        Some(world) => super::$name(world).await,
                        None => println!("skipped: KUBEBUILDER_ASSETS is not set"),
                    }
                });
            })+
        }
    };
}

on_both_under_the_role! {
    a_stopped_leader_hands_over
    what_was_done_is_kept_in_memory
    a_deployment_that_may_not_be_patched_is_updated
}

async fn a_stopped_leader_hands_over(world: World) {
    continuity::a_stopped_leader_hands_over(world).await;
}

/// Deployments may be got and updated, but not patched.
async fn a_deployment_that_may_not_be_patched_is_updated(world: World) {
    workload::a_deployment_is_taken_over_from_once_the_rollout_is_healthy(world.led()).await;
}

/// No controllerrevisions: what was done is remembered by the process that did it.
async fn what_was_done_is_kept_in_memory(world: World) {
    let world = world.led();
    let drive = Drive { world: &world, driver: Driver::Rpcs };
    drive.create(manifest(3, endless())).await;
    healthy(&drive).await;
    drive.set_image("v2").await;
    paused_at(&drive, 1).await;
    drive.abort().await;
    let list = v1::ListRolloutActivityRequest { parent: drive.name(), ..Default::default() };
    let told = async {
        loop {
            let told = world.rpc().list_rollout_activity(list.clone()).await.expect("it is told");
            let told = told.into_inner().activities;
            let verbs: Vec<&str> = told.iter().map(|activity| activity.verb.as_str()).collect();
            if ["SetRolloutImage", "AbortRollout"].iter().all(|verb| verbs.contains(verb)) {
                return;
            }
            world.pass(LOOK).await;
        }
    };
    tokio::time::timeout(DEADLINE, told).await.expect("it is told in time");
    let stored: Api<ControllerRevision> = Api::namespaced(world.client.clone(), &world.namespace);
    let stored = stored.list(&ListParams::default()).await.expect("an administrator may look").items;
    assert!(stored.is_empty(), "{stored:#?}");
    world.finish().await;
}
