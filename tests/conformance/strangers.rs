//! Objects that others made, or made badly: what is theirs is left alone, what is ours is taken up, and one rollout's trouble
//! stops no other.

use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, ResourceExt};
use rolloutd::crd::{self, Rollout, RolloutPhase, keys};
use serde_json::{Value, json};

use crate::drive::{Drive, Driver};
use crate::scenarios::{healthy, in_virtual_time, is};
use crate::world::{World, image, manifest};

on_both! {
    an_orphan_with_the_same_template_is_adopted
    a_set_of_others_with_our_name_is_left_alone
    a_rollout_with_an_unsupported_field_is_left_alone_and_says_why
    a_hash_label_that_somebody_took_is_put_back
    a_hash_label_taken_from_the_stable_version_promotes_nobody
}

fn orphan(name: &str, image: &str) -> ReplicaSet {
    let labels = json!({ "app": "web", "rollouts-pod-template-hash": "made-by-hand" });
    let containers = json!([{ "name": "web", "image": image }]);
    let set = json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": { "name": name, "labels": labels },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": containers } },
        },
    });
    serde_json::from_value(set).expect("a ReplicaSet")
}

async fn an_orphan_with_the_same_template_is_adopted(world: World) {
    let world = world.foretelling().await;
    let drive = Drive { world: &world, driver: Driver::Patches };
    let sets: Api<ReplicaSet> = Api::namespaced(world.client.clone(), &world.namespace);
    sets.create(&PostParams::default(), &orphan("web-left-behind", &image("v1")))
        .await
        .expect("it is created");
    drive.create(manifest(3, json!({}))).await;
    let rollout = healthy(&drive).await;
    let sets = drive.sets().await;
    assert_eq!(sets.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["web-left-behind"]);
    assert_eq!(sets[0].owner_references()[0].uid, rollout.uid().expect("a uid"));
    assert_eq!(sets[0].annotations()["rollout.argoproj.io/revision"], "1");
    world.finish().await;
}

async fn a_set_of_others_with_our_name_is_left_alone(world: World) {
    let drive = Drive { world: &world, driver: Driver::Patches };
    // The name that the next revision will ask for is known once it has existed.
    drive.create(manifest(3, json!({}))).await;
    healthy(&drive).await;
    let name = drive.sets().await[0].name_any();
    drive.delete().await;
    let sets: Api<ReplicaSet> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut theirs = orphan(&name, &image("theirs"));
    theirs.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
    let theirs = sets.create(&PostParams::default(), &theirs).await.expect("it is created");
    drive.create(manifest(3, json!({}))).await;
    let rollout = healthy(&drive).await;
    assert_eq!(rollout.status().collision_count, Some(1));
    let after = sets.get(&name).await.expect("it is still there");
    assert_eq!(after.metadata.uid, theirs.metadata.uid);
    assert_eq!(after.owner_references(), []);
    assert_eq!(after.spec, theirs.spec);
    assert_eq!(drive.sets().await.len(), 2);
    world.finish().await;
}

async fn a_hash_label_that_somebody_took_is_put_back(world: World) {
    let world = world.foretelling().await;
    let drive = Drive { world: &world, driver: Driver::Patches };
    drive.create(manifest(3, json!({}))).await;
    healthy(&drive).await;
    let name = drive.sets().await[0].name_any();
    take_hash(&world, &name).await;
    put_back(&world, &name).await;
    drive.set_image("v2").await;
    healthy(&drive).await;
    assert_eq!(drive.sets().await.len(), 2);
    world.finish().await;
}

async fn take_hash(world: &World, set: &str) {
    let sets: Api<ReplicaSet> = Api::namespaced(world.client.clone(), &world.namespace);
    let taken = Patch::Merge(json!({ "metadata": { "labels": { (keys::POD_TEMPLATE_HASH): null } } }));
    sets.patch(set, &PatchParams::default(), &taken).await.expect("it is patched");
}

async fn put_back(world: &World, set: &str) {
    let sets: Api<ReplicaSet> = Api::namespaced(world.client.clone(), &world.namespace);
    let is_back =
        |set: Option<&ReplicaSet>| set.is_some_and(|set| set.labels().contains_key(keys::POD_TEMPLATE_HASH));
    let back = kube::runtime::wait::await_condition(sets, set, is_back);
    tokio::time::timeout(Duration::from_secs(60), back).await.expect("in time").expect("a watch");
}

/// The watch by that label shows a ReplicaSet that lost it as one that is gone (found by the simulation): the
/// new version was then promoted as the first one, without a pod of its own. A process that begins to lead never saw it.
async fn a_hash_label_taken_from_the_stable_version_promotes_nobody(world: World) {
    let drive = Drive { world: &world, driver: Driver::Patches };
    drive.create(manifest(4, json!({ "steps": [{ "setWeight": 25 }, { "pause": {} }] }))).await;
    let stable = healthy(&drive).await.status().stable_rs().to_owned();
    let name = drive.sets().await[0].name_any();
    drive.set_image("v2").await;
    let is_paused = |rollout: &Rollout| {
        is(RolloutPhase::Paused)(rollout)
            && rollout.status().stable_rs() == stable
            && rollout.status().current_step_index == Some(1)
    };
    let sizes = async || {
        let sets = drive.sets().await;
        sets.iter().map(|set| set.spec.replicas).collect::<Vec<_>>()
    };
    world.until("paused at v2's step", is_paused).await;
    let before = sizes().await;
    take_hash(&world, &name).await;
    put_back(&world, &name).await;
    world.pass(Duration::from_secs(2)).await;
    assert!(is_paused(&world.rollouts().get("web").await.expect("it exists")));
    assert_eq!(sizes().await, before);
    let world = world.unled().await;
    take_hash(&world, &name).await;
    let world = world.led();
    let drive = Drive { world: &world, driver: Driver::Patches };
    put_back(&world, &name).await;
    world.pass(Duration::from_secs(2)).await;
    assert!(is_paused(&world.rollouts().get("web").await.expect("it exists")));
    drive.promote().await;
    healthy(&drive).await;
    assert_eq!(drive.sets().await.len(), 2);
    world.finish().await;
}

async fn set_versions(drive: &Drive<'_>) -> Vec<Option<String>> {
    drive.sets().await.iter().map(ResourceExt::resource_version).collect()
}

async fn a_rollout_with_an_unsupported_field_is_left_alone_and_says_why(world: World) {
    let world = world.foretelling().await;
    let drive = Drive { world: &world, driver: Driver::Patches };
    drive.create(manifest(3, json!({ "steps": [{ "setWeight": 50 }, { "pause": {} }] }))).await;
    let before = healthy(&drive).await;
    let versions = set_versions(&drive).await;
    drive.canary(json!({ "analysis": { "templates": [{ "templateName": "latency" }] } })).await;
    drive.set_image("v2").await;
    let event = "UnsupportedField: spec.strategy.canary.analysis is not supported";
    world.until_event(event).await;
    world.pass(Duration::from_secs(2)).await;
    let rollout = world.rollouts().get("web").await.expect("it exists");
    assert_eq!(rollout.status, before.status, "status and conditions stay as they are");
    assert_eq!(set_versions(&drive).await, versions, "no ReplicaSet is touched");
    drive.canary(json!({ "analysis": null })).await;
    world
        .until("paused at v2's first step", |rollout| {
            is(RolloutPhase::Paused)(rollout) && rollout.status().current_step_index == Some(1)
        })
        .await;
    world.finish().await;
}

/// Our own definitions with a Rollout schema that refuses nothing, as an old or foreign CRD might be.
fn definitions_that_refuse_nothing() -> Vec<CustomResourceDefinition> {
    let mut definitions = crd::definitions();
    for version in definitions.iter_mut().flat_map(|definition| &mut definition.spec.versions) {
        let open = JSONSchemaProps {
            type_: Some("object".to_owned()),
            x_kubernetes_preserve_unknown_fields: Some(true),
            ..JSONSchemaProps::default()
        };
        version.schema.as_mut().expect("a schema").open_api_v3_schema = Some(open);
    }
    definitions
}

#[test]
fn one_malformed_rollout_stops_no_other() {
    in_virtual_time(async || {
        let world = World::embedded_with(definitions_that_refuse_nothing()).await.led();
        let kind = ApiResource::erase::<Rollout>(&());
        let broken: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
        let mut manifest_of_broken = manifest(3, json!({}));
        manifest_of_broken["metadata"]["name"] = json!("broken");
        manifest_of_broken["spec"]["strategy"] = json!("fast");
        let object = serde_json::from_value(manifest_of_broken).expect("an object");
        let created = broken.create(&PostParams::default(), &object).await.expect("it is stored");

        let drive = Drive { world: &world, driver: Driver::Patches };
        drive.create(manifest(3, json!({}))).await;
        healthy(&drive).await;
        let untouched = broken.get("broken").await.expect("it exists");
        assert_eq!(untouched.resource_version(), created.resource_version());

        let repair: Patch<Value> = Patch::Merge(json!({ "spec": { "strategy": { "canary": {} } } }));
        broken.patch("broken", &PatchParams::default(), &repair).await.expect("it is patched");
        let repaired = |rollout: Option<&Rollout>| rollout.is_some_and(is(RolloutPhase::Healthy));
        let waited = kube::runtime::wait::await_condition(world.rollouts(), "broken", repaired);
        tokio::time::timeout(Duration::from_secs(60), waited).await.expect("in time").expect("a watch");
        world.finish().await;
    });
}
