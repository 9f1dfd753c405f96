//! Which rollouts a control plane writes to: those of its instance id and its namespace, and none at all when it is told so.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use rolloutd::crd::{Rollout, keys};
use rolloutd::serve::{Options, Reconcile};
use serde_json::json;

use crate::drive::{Drive, Driver};
use crate::scenarios::{healthy, in_virtual_time};
use crate::world::{World, manifest};

async fn world() -> World {
    World::embedded_with(rolloutd::crd::definitions()).await
}

/// Nobody has written to the rollout for an hour.
async fn is_left_alone(world: &World) {
    let before = world.version().await;
    world.pass(Duration::from_secs(3600)).await;
    assert_eq!(world.version().await, before);
    assert!(Drive { world, driver: Driver::Patches }.sets().await.is_empty());
}

#[test]
fn an_instance_id_serves_those_that_bear_it() {
    in_virtual_time(async || {
        let world = world().await;
        let nameless = world.member_with(world.options());
        let red = world.member_with(Options { instance_id: "red".to_owned(), ..world.options() });
        let mut labelled = manifest(2, json!({}));
        labelled["metadata"]["labels"] = json!({ (keys::CONTROLLER_INSTANCE_ID): "blue" });
        let drive = Drive { world: &world, driver: Driver::Patches };
        drive.create(labelled).await;
        is_left_alone(&world).await;

        let blue = world.member_with(Options { instance_id: "blue".to_owned(), ..world.options() });
        healthy(&drive).await;
        // Without its label it is the nameless one's.
        blue.stop().await;
        let unlabelled = Patch::Merge(json!({ "metadata": { "labels": null } }));
        world.rollouts().patch("web", &PatchParams::default(), &unlabelled).await.unwrap();
        drive.set_image("v2").await;
        let rollout = healthy(&drive).await;
        assert_eq!(rollout.status().updated_replicas, Some(2));
        nameless.stop().await;
        red.stop().await;
        world.finish().await;
    });
}

#[test]
fn services_of_another_controllers_rollout_are_left_alone_and_those_of_no_rollout_are_released() {
    in_virtual_time(async || {
        let world = world().await;
        let drive = Drive { world: &world, driver: Driver::Patches };
        let mut theirs = manifest(2, json!({}));
        theirs["metadata"]["labels"] = json!({ (keys::CONTROLLER_INSTANCE_ID): "blue" });
        drive.create(theirs).await;
        drive.create_services(&["theirs", "nobodys"]).await;
        for (service, manager) in [("theirs", "web"), ("nobodys", "gone")] {
            let switched = Patch::Merge(json!({
                "metadata": { "annotations": { (keys::MANAGED_BY_ROLLOUTS): manager } },
                "spec": { "selector": { (keys::POD_TEMPLATE_HASH): "b5" } },
            }));
            drive.services().patch(service, &PatchParams::default(), &switched).await.unwrap();
        }
        let member = world.member_with(world.options());
        let released = async {
            while !drive.selected("nobodys").await.is_empty() {
                world.pass(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), released).await.expect("it is released");
        is_left_alone(&world).await;
        assert_eq!(drive.selected("theirs").await, "b5");
        member.stop().await;
        world.finish().await;
    });
}

#[test]
fn analysis_alone_writes_to_no_rollout() {
    in_virtual_time(async || {
        let world = world().await;
        let member = world.member_with(Options { reconcile: Reconcile::AnalysisOnly, ..world.options() });
        let drive = Drive { world: &world, driver: Driver::Patches };
        drive.create(manifest(2, json!({}))).await;
        is_left_alone(&world).await;
        member.stop().await;
        world.finish().await;
    });
}

#[test]
fn a_namespaced_control_plane_stays_in_its_namespace() {
    in_virtual_time(async || {
        let world = world().await.led();
        let metadata = ObjectMeta { name: Some("elsewhere".to_owned()), ..ObjectMeta::default() };
        let namespaces: Api<Namespace> = Api::all(world.client.clone());
        let elsewhere = Namespace { metadata, ..Namespace::default() };
        namespaces.create(&PostParams::default(), &elsewhere).await.unwrap();
        let rollouts: Api<Rollout> = Api::namespaced(world.client.clone(), "elsewhere");
        let rollout = serde_json::from_value(manifest(2, json!({}))).unwrap();
        rollouts.create(&PostParams::default(), &rollout).await.unwrap();

        let drive = Drive { world: &world, driver: Driver::Patches };
        drive.create(manifest(2, json!({}))).await;
        healthy(&drive).await;
        world.pass(Duration::from_secs(3600)).await;
        assert_eq!(rollouts.get("web").await.unwrap().status, None);
        world.finish().await;
    });
}
