//! Bad input, each a test by name: the right code, the fields that are wrong, and nothing written.

use rolloutd::api::Limits;
use rolloutd::pb::v1;
use serde_json::{Value, json};
use tonic::Code;
use v1::set_rollout_image_request::ContainerImage;

use crate::expect::{Refusal, refused};
use crate::world::{Wanted, World, canary, manifest, name, resource};

/// What ApplyManifest says of a manifest that it must refuse; the world holds a rollout `web` before and after.
async fn apply(manifest: &str) -> Refusal {
    let world = World::new().await;
    world.store_rollout("web").await;
    let request = v1::ApplyManifestRequest {
        parent: "namespaces/shop".to_owned(),
        manifest: manifest.to_owned(),
        ..Default::default()
    };
    refused(world.untouched(world.rollouts().apply_manifest(request)).await)
}

/// The manifest after a change, as JSON.
fn changed(change: &Value) -> String {
    let mut manifest = manifest("web");
    json_patch::merge(&mut manifest, change);
    manifest.to_string()
}

/// What CreateRollout says of a resource that it must refuse.
async fn create(change: impl FnOnce(&mut v1::Rollout)) -> Refusal {
    let world = World::new().await;
    let mut rollout = resource("web");
    change(&mut rollout);
    let request = v1::CreateRolloutRequest {
        parent: "namespaces/shop".to_owned(),
        rollout_id: "web".to_owned(),
        rollout: Some(rollout),
        ..Default::default()
    };
    refused(world.untouched(world.rollouts().create_rollout(request)).await)
}

#[tokio::test(start_paused = true)]
async fn malformed_yaml() {
    let refusal = apply("kind: Rollout\n---\nspec: [\n").await.names_fields(&["[1]"]).says("line 3");
    assert_eq!((&*refusal.metadata["document"], &*refusal.metadata["line"]), ("1", "3"));
}

#[tokio::test(start_paused = true)]
async fn unknown_kind() {
    let manifest = format!(
        "{}\n---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {{name: web}}\n",
        changed(&json!({ "spec": { "replicas": 7 } }))
    );
    apply(&manifest).await.names_fields(&["[1].kind"]).says("\"StatefulSet\"").says("it applies Rollout,");
}

#[tokio::test(start_paused = true)]
async fn missing_selector() {
    create(|rollout| rollout.spec.as_mut().unwrap().selector = None)
        .await
        .names_fields(&["rollout.spec.selector"]);
    let manifest = changed(&json!({ "metadata": { "name": "new" }, "spec": { "selector": null } }));
    apply(&manifest).await.names_fields(&["[0].spec.selector"]);
}

#[tokio::test(start_paused = true)]
async fn a_selector_that_does_not_match_the_template() {
    let miss = |rollout: &mut v1::Rollout| {
        let spec = rollout.spec.as_mut().unwrap();
        spec.selector.as_mut().unwrap().match_labels.insert("app".to_owned(), "other".to_owned());
    };
    create(miss).await.names_fields(&["rollout.spec.template.metadata.labels"]);
    let selector = json!({ "spec": { "selector": { "matchLabels": { "app": "other" } } } });
    apply(&changed(&selector)).await.names_fields(&["[0].spec.template.metadata.labels"]);
}

#[tokio::test(start_paused = true)]
async fn weight_101() {
    let heavy = |rollout: &mut v1::Rollout| {
        canary(rollout).steps[0].step = Some(v1::canary_step::Step::SetWeight(101));
    };
    create(heavy).await.names_fields(&["rollout.spec.canary.steps[0].set_weight"]).says("100");
    let steps = json!({ "spec": { "strategy": { "canary": { "steps": [{ "setWeight": 101 }] } } } });
    apply(&changed(&steps)).await.names_fields(&["[0].spec.strategy.canary.steps[0].setWeight"]).says("100");
}

#[tokio::test(start_paused = true)]
async fn two_actions_in_one_step() {
    // A message cannot say this: its step is a oneof.
    let steps = json!([{ "setWeight": 10 }, { "setWeight": 20, "pause": {} }]);
    let manifest = changed(&json!({ "spec": { "strategy": { "canary": { "steps": steps } } } }));
    apply(&manifest).await.names_fields(&["[0].spec.strategy.canary.steps[1]"]);
}

#[tokio::test(start_paused = true)]
async fn negative_duration() {
    let pause = |duration: v1::int_or_string::Value| {
        move |rollout: &mut v1::Rollout| {
            let duration = Some(v1::IntOrString { value: Some(duration) });
            canary(rollout).steps[1].step = Some(v1::canary_step::Step::Pause(v1::PauseStep { duration }));
        }
    };
    for duration in
        [v1::int_or_string::Value::IntValue(-5), v1::int_or_string::Value::StringValue("-5s".to_owned())]
    {
        create(pause(duration)).await.names_fields(&["rollout.spec.canary.steps[1].pause.duration"]);
    }
    for duration in [json!(-5), json!("-1h")] {
        let steps = json!([{ "pause": { "duration": duration } }]);
        let manifest = changed(&json!({ "spec": { "strategy": { "canary": { "steps": steps } } } }));
        apply(&manifest).await.names_fields(&["[0].spec.strategy.canary.steps[0].pause.duration"]);
    }
}

#[tokio::test(start_paused = true)]
async fn both_strategies() {
    // A message cannot say this: its strategy is a oneof.
    let both = json!({ "spec": { "strategy": { "blueGreen": { "activeService": "web" } } } });
    apply(&changed(&both)).await.names_fields(&["[0].spec.strategy"]);
}

#[tokio::test(start_paused = true)]
async fn unknown_namespace() {
    let world = World::new().await;
    let request = v1::CreateRolloutRequest {
        parent: "namespaces/nowhere".to_owned(),
        rollout_id: "web".to_owned(),
        rollout: Some(resource("web")),
        ..Default::default()
    };
    refused(world.untouched(world.rollouts().create_rollout(request)).await)
        .lacks_object("v1/Namespace", "namespaces/nowhere");

    let manifest = format!(
        "{}\n---\n{}",
        changed(&json!({ "metadata": { "namespace": "shop" } })),
        changed(&json!({ "metadata": { "name": "other", "namespace": "nowhere" } }))
    );
    let refusal = apply(&manifest).await.lacks_object("v1/Namespace", "namespaces/nowhere");
    assert!(refusal.message.starts_with("[1]"), "the document is named: {}", refusal.message);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_container_in_set_rollout_image() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let image =
        |container: &str| ContainerImage { container: container.to_owned(), image: "web:2".to_owned() };
    let request = v1::SetRolloutImageRequest {
        name: name("web"),
        images: vec![image("web"), image("sidecar")],
        ..Default::default()
    };
    refused(world.untouched(world.rollouts().set_rollout_image(request)).await)
        .names_fields(&["images[1].container"])
        .says("no container \"sidecar\"; there are: web");
}

#[tokio::test(start_paused = true)]
async fn undo_to_a_missing_revision() {
    let world = World::new().await;
    world.store_rollout("web").await;
    world.seen("web", &json!({ "currentPodHash": "a", "stableRS": "a" })).await;
    for (to_revision, says) in [(9, "there is no revision 9"), (0, "no revision before the newest")] {
        let request = v1::RollbackRolloutRequest {
            name: name("web"),
            from: Some(v1::rollback_rollout_request::From { pod_template_hash: "a".to_owned() }),
            to_revision,
            ..Default::default()
        };
        refused(world.untouched(world.rollouts().rollback_rollout(request)).await)
            .is(Code::NotFound, "REVISION_NOT_FOUND")
            .lacks_object("rolloutd.dev/Revision", &format!("{}/revisions/{to_revision}", name("web")))
            .says(says);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_etag() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let mut rollouts = world.rollouts();
    let get = v1::GetRolloutRequest { name: name("web"), ..Default::default() };
    let seen = rollouts.get_rollout(get).await.unwrap().into_inner().rollout.unwrap();
    world.patch("web", &json!({ "spec": { "minReadySeconds": 3 } })).await;

    let mut wanted = seen.clone();
    wanted.spec.as_mut().unwrap().replicas = Some(9);
    let update = v1::UpdateRolloutRequest { rollout: Some(wanted), ..Default::default() };
    refused(world.untouched(rollouts.update_rollout(update)).await).is(Code::Aborted, "ETAG_MISMATCH");
    let scale = v1::ScaleRolloutRequest {
        name: name("web"),
        replicas: Some(9),
        etag: seen.etag,
        ..Default::default()
    };
    refused(world.untouched(rollouts.scale_rollout(scale)).await).is(Code::Aborted, "ETAG_MISMATCH");
}

#[tokio::test(start_paused = true)]
async fn a_bad_page_token() {
    let world = World::new().await;
    for app in ["a", "b"] {
        world.store_rollout(app).await;
    }
    let mut rollouts = world.rollouts();
    let list = |page_token: &str, label_selector: &str| v1::ListRolloutsRequest {
        parent: "namespaces/shop".to_owned(),
        page_size: 1,
        page_token: page_token.to_owned(),
        label_selector: label_selector.to_owned(),
        ..Default::default()
    };
    let first = rollouts.list_rollouts(list("", "")).await.unwrap().into_inner();
    assert!(!first.next_page_token.is_empty());
    for (token, selector, says) in [
        ("made up", "", "not a token of this server"),
        (first.next_page_token.as_str(), "app", "belongs to another request"),
    ] {
        refused(rollouts.list_rollouts(list(token, selector)).await).names_fields(&["page_token"]).says(says);
    }
    let request =
        v1::ListNamespacesRequest { page_token: first.next_page_token.clone(), ..Default::default() };
    refused(world.server().list_namespaces(request).await).names_fields(&["page_token"]);
}

#[tokio::test(start_paused = true)]
async fn an_oversized_message() {
    let limits = Limits { max_message_bytes: 10_000, requests_per_second: 0.0, ..Limits::default() };
    let world = World::wanted(Wanted { limits, ..Wanted::default() }).await;
    let manifest = changed(&json!({ "metadata": { "annotations": { "long": "x".repeat(20_000) } } }));
    let request = v1::ApplyManifestRequest { manifest, ..Default::default() };
    let refusal = refused(world.untouched(world.rollouts().apply_manifest(request)).await);
    assert!(
        matches!(refusal.code, Code::ResourceExhausted | Code::OutOfRange),
        "{:?}: {}",
        refusal.code,
        refusal.message
    );
    refusal.says("10000");
}
