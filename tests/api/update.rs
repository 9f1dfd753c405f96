//! UpdateRollout.

use rolloutd::crd::keys;
use rolloutd::pb::v1;
use serde_json::{Value, json};
use tonic::Code;

use crate::expect::refused;
use crate::world::{World, canary, manifest, name, structure};

/// The rollout `web` as it is shown.
async fn shown(world: &World) -> v1::Rollout {
    let request = v1::GetRolloutRequest { name: name("web"), ..Default::default() };
    world.rollouts().get_rollout(request).await.unwrap().into_inner().rollout.unwrap()
}

fn update(rollout: v1::Rollout, paths: &[&str]) -> v1::UpdateRolloutRequest {
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    let update_mask = (!paths.is_empty()).then_some(prost_types::FieldMask { paths });
    v1::UpdateRolloutRequest { rollout: Some(rollout), update_mask, ..Default::default() }
}

/// A rollout that holds fields nobody here knows.
fn strange() -> Value {
    let mut object = manifest("web");
    let spec = &mut object["spec"];
    spec["futureField"] = json!({ "big": 9_007_199_254_740_995_i64, "list": [{ "x": null }, 0.5] });
    spec["strategy"]["canary"]["futureStrategy"] = json!("kept");
    spec["strategy"]["canary"]["steps"][0]["futureStep"] = json!(["kept"]);
    spec["template"]["spec"]["futurePod"] = json!({ "kept": true });
    spec["template"]["spec"]["containers"][0]["futureContainer"] = json!(9_007_199_254_740_995_i64);
    object["metadata"]["annotations"] = json!({ "team": "shop", keys::REVISION: "3" });
    object["metadata"]["finalizers"] = json!(["example.com/wait"]);
    object
}

#[tokio::test(start_paused = true)]
async fn fields_that_nobody_knows_survive_every_update() {
    let world = World::new().await;
    let before = world.store(&strange()).await;
    let mut wanted = shown(&world).await;
    wanted.spec.as_mut().unwrap().min_ready_seconds = Some(7);
    canary(&mut wanted).steps[0].step = Some(v1::canary_step::Step::SetWeight(25));
    canary(&mut wanted).steps.push(v1::CanaryStep { step: Some(v1::canary_step::Step::SetWeight(80)) });
    wanted.labels.insert("new".to_owned(), "label".to_owned());
    world.rollouts().update_rollout(update(wanted, &["*"])).await.unwrap();

    let mut expected = before;
    expected["spec"]["minReadySeconds"] = json!(7);
    expected["spec"]["strategy"]["canary"]["steps"][0]["setWeight"] = json!(25);
    expected["spec"]["strategy"]["canary"]["steps"].as_array_mut().unwrap().push(json!({ "setWeight": 80 }));
    expected["metadata"]["labels"]["new"] = json!("label");
    let after = world.stored("web").await;
    assert_eq!(after["spec"], expected["spec"]);
    for field in ["labels", "annotations", "finalizers", "uid"] {
        assert_eq!(after["metadata"][field], expected["metadata"][field]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_template_that_is_sent_back_changed_keeps_what_a_struct_cannot_hold() {
    let world = World::new().await;
    world.store(&strange()).await;
    let mut wanted = shown(&world).await;
    let template = wanted.spec.as_mut().unwrap().template.as_mut().unwrap();
    let labels = structure(&json!({ "labels": { "app": "web", "version": "2" } }));
    let kind = Some(prost_types::value::Kind::StructValue(labels));
    template.fields.insert("metadata".to_owned(), prost_types::Value { kind });
    world.rollouts().update_rollout(update(wanted, &["spec.template"])).await.unwrap();
    let template = &world.stored("web").await["spec"]["template"];
    assert_eq!(template["metadata"]["labels"], json!({ "app": "web", "version": "2" }));
    assert_eq!(template["spec"], strange()["spec"]["template"]["spec"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_back_as_it_was_writes_nothing() {
    let world = World::new().await;
    world.store(&strange()).await;
    let seen = shown(&world).await;
    for paths in [&[][..], &["*"], &["spec"], &["labels", "annotations", "spec.canary.steps"]] {
        let request = update(seen.clone(), paths);
        let answer = world.untouched(world.rollouts().update_rollout(request)).await.unwrap().into_inner();
        assert_eq!(answer.rollout.unwrap(), seen, "{paths:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_mask_what_is_set_is_changed_and_the_rest_stays() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let spec = v1::RolloutSpec { replicas: Some(9), ..Default::default() };
    let wanted = v1::Rollout { name: name("web"), spec: Some(spec), ..Default::default() };
    let answer = world.rollouts().update_rollout(update(wanted, &[])).await.unwrap().into_inner();
    assert_eq!(answer.rollout.unwrap().spec.unwrap().replicas, Some(9));
    let mut expected = manifest("web")["spec"].clone();
    expected["replicas"] = json!(9);
    assert_eq!(world.stored("web").await["spec"], expected);
}

#[tokio::test(start_paused = true)]
async fn a_mask_clears_what_it_names_and_is_not_set() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let wanted = v1::Rollout { name: name("web"), ..Default::default() };
    let request = update(wanted, &["spec.canary.steps", "spec.replicas", "labels"]);
    world.rollouts().update_rollout(request).await.unwrap();
    let stored = world.stored("web").await;
    assert_eq!(stored["spec"]["strategy"], json!({ "canary": {} }));
    assert_eq!(stored["spec"]["replicas"], Value::Null);
    assert!(stored["metadata"]["labels"].as_object().is_none_or(serde_json::Map::is_empty));
}

#[tokio::test(start_paused = true)]
async fn what_is_only_validated_is_shown_and_not_written() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let mut wanted = shown(&world).await;
    wanted.spec.as_mut().unwrap().replicas = Some(9);
    let request = v1::UpdateRolloutRequest { validate_only: true, ..update(wanted, &[]) };
    let answer = world.untouched(world.rollouts().update_rollout(request)).await.unwrap().into_inner();
    assert_eq!(answer.rollout.unwrap().spec.unwrap().replicas, Some(9));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_lacks_object() {
    let world = World::new().await;
    let wanted = v1::Rollout { name: name("web"), ..Default::default() };
    refused(world.rollouts().update_rollout(update(wanted, &[])).await)
        .lacks_object("rolloutd.dev/Rollout", &name("web"));
}

#[tokio::test(start_paused = true)]
async fn what_callers_do_not_decide_cannot_be_updated() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let seen = shown(&world).await;
    for path in
        ["status", "status.state", "uid", "name", "etag", "create_time", "spec.nope", "nope", "*,labels"]
    {
        refused(world.untouched(world.rollouts().update_rollout(update(seen.clone(), &[path]))).await)
            .names_fields(&["update_mask"]);
    }
    let mut other = seen.clone();
    other.spec.as_mut().unwrap().selector.as_mut().unwrap().match_labels =
        [("app".to_owned(), "x".to_owned())].into();
    refused(world.untouched(world.rollouts().update_rollout(update(other, &["spec.selector"]))).await)
        .names_fields(&["rollout.spec.selector"])
        .says("immutable");
    refused(world.rollouts().update_rollout(v1::UpdateRolloutRequest::default()).await)
        .names_fields(&["rollout"]);
    refused(world.rollouts().update_rollout(update(v1::Rollout::default(), &[])).await)
        .names_fields(&["rollout.name"]);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_sent_along_is_no_offence() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let mut wanted = shown(&world).await;
    wanted.status.as_mut().unwrap().replicas = 77;
    wanted.spec.as_mut().unwrap().replicas = Some(6);
    let answer = world.rollouts().update_rollout(update(wanted, &[])).await.unwrap().into_inner();
    assert_eq!(answer.rollout.unwrap().status.unwrap().replicas, 0);
}

#[tokio::test(start_paused = true)]
async fn the_etag_that_was_seen_lets_an_edit_through_whatever_the_status_did() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let mut wanted = shown(&world).await;
    world.seen("web", &json!({ "phase": "Healthy", "replicas": 5 })).await;
    world.patch("web", &json!({ "spec": { "replicas": 8 } })).await;
    wanted.spec.as_mut().unwrap().min_ready_seconds = Some(3);
    let answer = world.rollouts().update_rollout(update(wanted, &["spec.min_ready_seconds"])).await.unwrap();
    let rollout = answer.into_inner().rollout.unwrap();
    assert_eq!(rollout.spec.as_ref().unwrap().replicas, Some(8), "an autoscaler's size survives");
    let stale = v1::Rollout { etag: "no".to_owned(), ..rollout };
    refused(world.untouched(world.rollouts().update_rollout(update(stale, &[]))).await)
        .is(Code::Aborted, "ETAG_MISMATCH");
}

#[tokio::test(start_paused = true)]
async fn a_strategy_may_be_exchanged() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let mut wanted = shown(&world).await;
    let blue_green = v1::BlueGreenStrategy { active_service: "web".to_owned(), ..Default::default() };
    wanted.spec.as_mut().unwrap().strategy = Some(v1::rollout_spec::Strategy::BlueGreen(blue_green));
    world.rollouts().update_rollout(update(wanted, &["spec.blue_green"])).await.unwrap();
    let strategy = &world.stored("web").await["spec"]["strategy"];
    assert_eq!(*strategy, json!({ "blueGreen": { "activeService": "web" } }));
}

#[tokio::test(start_paused = true)]
async fn labels_that_selectors_go_by_are_refused_unless_they_were_there() {
    let world = World::new().await;
    let mut old = manifest("web");
    old["spec"]["template"]["metadata"]["labels"][keys::POD_TEMPLATE_HASH] = json!("old");
    world.store(&old).await;
    let mut wanted = shown(&world).await;
    wanted.labels.insert("team".to_owned(), "shop".to_owned());
    let updated = world.rollouts().update_rollout(update(wanted, &["*"])).await.unwrap();

    let mut wanted = updated.into_inner().rollout.unwrap();
    wanted.labels.insert(keys::POD_TEMPLATE_HASH.to_owned(), "mine".to_owned());
    refused(world.rollouts().update_rollout(update(wanted, &["*"])).await)
        .names_fields(&["rollout.labels[rollouts-pod-template-hash]"]);
}
