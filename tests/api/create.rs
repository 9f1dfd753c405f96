//! CreateRollout.

use rolloutd::crd::keys;
use rolloutd::pb::v1;
use serde_json::json;
use tonic::Code;

use crate::expect::refused;
use crate::world::{Wanted, World, canary, manifest, name, resource, structure};

fn create(rollout: v1::Rollout) -> v1::CreateRolloutRequest {
    v1::CreateRolloutRequest {
        parent: "namespaces/shop".to_owned(),
        rollout_id: "web".to_owned(),
        rollout: Some(rollout),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_is_stored_as_a_manifest_would_be() {
    let world = World::new().await;
    let answer = world.rollouts().create_rollout(create(resource("web"))).await.unwrap().into_inner();
    let rollout = answer.rollout.unwrap();
    assert_eq!((rollout.name.as_str(), rollout.generation), (name("web").as_str(), 1));
    assert!(!rollout.uid.is_empty() && !rollout.etag.is_empty());
    let stored = world.stored("web").await;
    let mut expected = manifest("web")["spec"].clone();
    expected["strategy"]["canary"]["steps"] = json!([{ "setWeight": 20 }, { "pause": {} }]);
    assert_eq!(stored["spec"], expected, "nothing but what was sent");
    assert_eq!(stored["metadata"]["labels"], json!({ "app": "web" }));
}

#[tokio::test(start_paused = true)]
async fn what_is_only_validated_is_shown_and_not_written() {
    let world = World::new().await;
    let request = v1::CreateRolloutRequest { validate_only: true, ..create(resource("web")) };
    let answer = world.untouched(world.rollouts().create_rollout(request)).await.unwrap().into_inner();
    assert_eq!(answer.rollout.unwrap().spec.unwrap().replicas, Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_exists_already() {
    let world = World::new().await;
    world.store_rollout("web").await;
    for validate_only in [false, true] {
        let request = v1::CreateRolloutRequest { validate_only, ..create(resource("web")) };
        refused(world.untouched(world.rollouts().create_rollout(request)).await)
            .is(Code::AlreadyExists, "ALREADY_EXISTS")
            .says(&name("web"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_or_malformed_in_the_request_is_named() {
    let world = World::new().await;
    let good = || create(resource("web"));
    for (request, field) in [
        (v1::CreateRolloutRequest { parent: String::new(), ..good() }, "parent"),
        (v1::CreateRolloutRequest { parent: "namespaces/-".to_owned(), ..good() }, "parent"),
        (v1::CreateRolloutRequest { rollout_id: String::new(), ..good() }, "rollout_id"),
        (v1::CreateRolloutRequest { rollout_id: "No_Name".to_owned(), ..good() }, "rollout_id"),
        (v1::CreateRolloutRequest { rollout_id: "a".repeat(254), ..good() }, "rollout_id"),
        (v1::CreateRolloutRequest { rollout: None, ..good() }, "rollout"),
        (v1::CreateRolloutRequest { request_id: "7".to_owned(), ..good() }, "request_id"),
    ] {
        refused(world.untouched(world.rollouts().create_rollout(request)).await).names_fields(&[field]);
    }
}

#[tokio::test(start_paused = true)]
async fn every_rule_that_is_broken_is_named_at_once() {
    let world = World::new().await;
    let mut rollout = resource("web");
    canary(&mut rollout).steps[0].step = Some(v1::canary_step::Step::SetWeight(-1));
    rollout.spec.as_mut().unwrap().replicas = Some(-2);
    let refusal = refused(world.untouched(world.rollouts().create_rollout(create(rollout))).await);
    let mut fields: Vec<&str> = refusal.violations.iter().map(|(field, _)| field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["rollout.spec.canary.steps[0].set_weight", "rollout.spec.replicas"]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_step_a_missing_strategy_and_a_missing_template_are_refused() {
    let world = World::new().await;
    type Change = fn(&mut v1::Rollout);
    let cases: [(Change, &str); 5] = [
        (|rollout| canary(rollout).steps[0].step = None, "rollout.spec.canary.steps[0]"),
        (|rollout| rollout.spec.as_mut().unwrap().strategy = None, "rollout.spec.strategy"),
        (|rollout| rollout.spec.as_mut().unwrap().template = None, "rollout.spec.template"),
        (|rollout| rollout.spec = None, "rollout.spec"),
        (
            |rollout| {
                rollout.annotations.insert(keys::REVISION.to_owned(), "9".to_owned());
            },
            "rollout.annotations[rollout.argoproj.io/revision]",
        ),
    ];
    for (change, field) in cases {
        let mut rollout = resource("web");
        change(&mut rollout);
        let refusal = refused(world.untouched(world.rollouts().create_rollout(create(rollout))).await);
        assert_eq!(refusal.code, Code::InvalidArgument);
        let named: Vec<&str> = refusal.violations.iter().map(|(field, _)| field.as_str()).collect();
        assert!(named.iter().any(|named| named.starts_with(field)), "{field}: {named:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_that_a_struct_cannot_hold_is_refused_with_the_remedy() {
    let world = World::new().await;
    let mut rollout = resource("web");
    rollout.spec.as_mut().unwrap().template = Some(structure(&json!({
        "metadata": { "labels": { "app": "web" } },
        "spec": {
            "containers": [{ "name": "web", "image": "web:1" }],
            "terminationGracePeriodSeconds": 1e17,
        },
    })));
    refused(world.untouched(world.rollouts().create_rollout(create(rollout))).await)
        .names_fields(&["rollout.spec.template.spec.terminationGracePeriodSeconds"])
        .says("ApplyManifest");
}

#[tokio::test(start_paused = true)]
async fn a_rollout_is_born_with_the_instance_id_of_its_server() {
    let wanted = Wanted { instance_id: "blue".to_owned(), ..Wanted::default() };
    let world = World::wanted(wanted).await;
    let rollout =
        world.rollouts().create_rollout(create(resource("web"))).await.unwrap().into_inner().rollout;
    assert_eq!(rollout.unwrap().labels[keys::CONTROLLER_INSTANCE_ID], "blue");
    let mut other = resource("other");
    other.labels.insert(keys::CONTROLLER_INSTANCE_ID.to_owned(), "green".to_owned());
    let request = v1::CreateRolloutRequest { rollout_id: "other".to_owned(), ..create(other) };
    refused(world.untouched(world.rollouts().create_rollout(request)).await)
        .names_fields(&["rollout.labels[argo-rollouts.argoproj.io/controller-instance-id]"])
        .says("\"blue\", not \"green\"");
}
