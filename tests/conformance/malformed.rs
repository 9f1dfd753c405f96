//! Stored objects with fields that nobody can decode (contract 4.11): they stop neither their own rollout nor any other.

use std::time::Duration;

use kube::Api;
use kube::api::{DynamicObject, PostParams};
use kube::core::ApiResource;
use rolloutd::crd::{Rollout, RolloutPhase};
use rolloutd::pb::v1;
use rolloutd::pb::v1::blocker::Reason;
use serde_json::{Value, json};
use tonic::Code;

use crate::drive::{Drive, Driver};
use crate::scenarios::{healthy, is};
use crate::world::{World, manifest};

on_both! {
    a_field_that_cannot_be_decoded_is_left_out_of_the_pods
}

fn with_memory(memory: &str) -> Value {
    let mut manifest = manifest(2, json!({}));
    let container = &mut manifest["spec"]["template"]["spec"]["containers"][0];
    container["resources"] = json!({ "requests": { "memory": memory, "cpu": "10m" } });
    container["ports"] = json!([{ "containerPort": 8080 }]);
    manifest
}

async fn a_field_that_cannot_be_decoded_is_left_out_of_the_pods(world: World) {
    let drive = Drive { world: &world, driver: Driver::Patches };
    let kind = ApiResource::erase::<Rollout>(&());
    let any: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &kind);
    let object = serde_json::from_value(with_memory("invalid")).expect("an object");
    any.create(&PostParams::default(), &object)
        .await
        .expect("the definition does not look into pod templates");
    healthy(&drive).await;
    let sets = drive.sets().await;
    let set = serde_json::to_value(&sets[0]).unwrap();
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["resources"], json!({ "requests": { "cpu": "10m" } }));
    assert_eq!(container["ports"][0]["containerPort"], 8080);

    let told = "spec.template.spec.containers[0].resources.requests[memory]: \"invalid\" is not a quantity such as 100m or 1Gi; \
                it is left out of the pods";
    world.until_event(&format!("MalformedObject: {told}")).await;
    assert_eq!(drive.blockers().await, [told]);
    let why = crate::explain::explained(&world, Reason::MalformedObject).await;
    assert_eq!(why.state(), v1::rollout_status::State::Healthy);

    // Another one is not held up by it, and by what is put into it in place of the value no new version is made.
    let mut other = manifest(1, json!({}));
    other["metadata"]["name"] = json!("other");
    let other: Rollout = serde_json::from_value(other).unwrap();
    world.rollouts().create(&PostParams::default(), &other).await.expect("it is created");
    let at_rest = |rollout: Option<&Rollout>| rollout.is_some_and(is(RolloutPhase::Healthy));
    let waited = kube::runtime::wait::await_condition(world.rollouts(), "other", at_rest);
    tokio::time::timeout(Duration::from_secs(60), waited).await.expect("in time").expect("a watch");

    // Through us it does not get in, nor stay when something else is changed.
    let mut rpc = world.rpc();
    let apply = |manifest: Value| v1::ApplyManifestRequest {
        parent: format!("namespaces/{}", world.namespace),
        manifest: manifest.to_string(),
        // What was stored past us belongs to whoever stored it.
        force: true,
        ..Default::default()
    };
    let refused = rpc.apply_manifest(apply(with_memory("invalid"))).await.expect_err("it is refused");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("resources.requests[memory]"), "{refused:?}");
    let images = vec![v1::set_rollout_image_request::ContainerImage {
        container: "web".to_owned(),
        image: "registry.test/web:v2".to_owned(),
    }];
    let set_image = v1::SetRolloutImageRequest { name: drive.name(), images, ..Default::default() };
    let refused = rpc.set_rollout_image(set_image).await.expect_err("it is refused");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");

    // Mended, it is another version, and nothing is said any more.
    rpc.apply_manifest(apply(with_memory("16Mi"))).await.expect("it is mended");
    world
        .until("the second revision", |rollout| {
            let status = rollout.status();
            is(RolloutPhase::Healthy)(rollout)
                && status.updated_replicas == Some(2)
                && status.replicas == Some(2)
        })
        .await;
    assert_eq!(drive.blockers().await, Vec::<String>::new());
    assert_eq!(drive.sets().await.len(), 3, "one of each version, and the other rollout's");
    world.finish().await;
}
