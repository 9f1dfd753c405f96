//! ApplyManifest refuses a manifest as a whole, or says what became of each document.

use rolloutd::pb::v1;
use serde_json::{Value, json};
use tonic::Code;
use v1::applied_object::Outcome;

use crate::expect::{Refusal, refused};
use crate::world::{Instead, Wanted, World, apply_request, manifest};

/// What is said of a manifest that must be refused, after which nothing may be written.
async fn refusal(world: &World, manifest: &str) -> Refusal {
    refused(world.untouched(world.rollouts().apply_manifest(apply_request(manifest))).await)
}

/// The manifest of a rollout after a change, as JSON.
fn changed(name: &str, change: &Value) -> String {
    let mut manifest = manifest(name);
    json_patch::merge(&mut manifest, change);
    manifest.to_string()
}

#[tokio::test(start_paused = true)]
async fn nothing_is_half_applied_when_any_document_is_bad() {
    let world = World::new().await;
    let good = changed("good", &json!({}));
    let weight = json!({ "spec": { "strategy": { "canary": { "steps": [{ "setWeight": 101 }] } } } });
    for (bad, field) in [
        (changed("bad", &weight), "[1].spec.strategy.canary.steps[0].setWeight"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 70000}]}\n"
                .to_owned(),
            "[1].spec.ports[0].port",
        ),
        ("kind: Rollout".to_owned(), "[1].apiVersion"),
        ("apiVersion: argoproj.io/v1\nkind: Rollout\nmetadata: {name: x}".to_owned(), "[1].apiVersion"),
        ("apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nspec: {}".to_owned(), "[1].metadata.name"),
        ("7".to_owned(), "[1]"),
        (good.clone(), "[1].metadata.name"),
    ] {
        let refusal = refusal(&world, &format!("{good}\n---\n{bad}")).await;
        assert_eq!(refusal.code, Code::InvalidArgument, "{bad}: {}", refusal.message);
        assert_eq!(refusal.violations[0].0, field, "{bad}: {}", refusal.message);
    }
}

#[tokio::test(start_paused = true)]
async fn values_of_the_wrong_type_or_size_are_named_with_their_place() {
    let world = World::new().await;
    for (change, field, says) in [
        (json!({ "spec": { "replicas": "three" } }), "[0].spec.replicas", "three"),
        (json!({ "spec": { "replicas": 3_000_000_000_i64 } }), "[0].spec.replicas", "3000000000"),
        (json!({ "spec": { "replicas": -1 } }), "[0].spec.replicas", "-1"),
        (
            json!({ "spec": { "strategy": { "canary": { "maxSurge": 3_000_000_000_i64 } } } }),
            "[0].spec.strategy.canary.maxSurge",
            "3000000000",
        ),
        (json!({ "spec": { "restartAt": "yesterday" } }), "[0].spec.restartAt", "yesterday"),
        (
            json!({ "metadata": { "annotations": { "rolloutd.dev/inherit-labels": "some" } } }),
            "[0].metadata.annotations[rolloutd.dev/inherit-labels]",
            "prefixes:",
        ),
        (
            json!({ "metadata": { "labels": { "rollouts-pod-template-hash": "mine" } } }),
            "[0].metadata.labels[rollouts-pod-template-hash]",
            "selectors",
        ),
        (
            json!({ "spec": { "strategy": { "canary": { "steps": [7] } } } }),
            "[0].spec.strategy.canary.steps[0]",
            "7",
        ),
        (json!({ "metadata": { "labels": { "a": 7 } } }), "[0].metadata.labels[a]", "7"),
        (json!({ "metadata": { "name": "No Name" } }), "[0].metadata.name", "No Name"),
        (json!({ "metadata": { "namespace": "No.Name" } }), "[0].metadata.namespace", "No.Name"),
        (json!({ "metadata": { "labels": { "-": "x" } } }), "[0].metadata.labels", "-"),
        (json!({ "metadata": { "annotations": { "a b": "x" } } }), "[0].metadata.annotations", "a b"),
        (
            json!({ "spec": { "template": { "spec": { "containers": [{ "name": "web" }] } } } }),
            "[0].spec.template.spec.containers[0].image",
            "",
        ),
    ] {
        refusal(&world, &changed("web", &change)).await.names_fields(&[field]).says(says);
    }
}

#[tokio::test(start_paused = true)]
async fn a_word_on_scaling_a_workload_down_that_nobody_knows_is_refused_with_those_there_are() {
    let world = World::new().await;
    let of = |word: &str| {
        let reference =
            json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "scaleDown": word });
        changed("web", &json!({ "spec": { "template": null, "workloadRef": reference } }))
    };
    let unknown = of("onSuccess");
    refusal(&world, &unknown)
        .await
        .names_fields(&["[0].spec.workloadRef.scaleDown"])
        .says("\"onSuccess\": supported values: \"never\", \"onsuccess\", \"progressively\"");
    world.apply(&of("onsuccess")).await;
    refusal(&world, &unknown).await.names_fields(&["[0].spec.workloadRef.scaleDown"]);
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_holds_nothing_is_refused() {
    let world = World::new().await;
    for manifest in ["", "---\n---\n", "# only words\n"] {
        refusal(&world, manifest).await.names_fields(&["manifest"]).says("holds no object");
    }
    let request = v1::ApplyManifestRequest { parent: "shop".to_owned(), ..apply_request("kind: A") };
    refused(world.untouched(world.rollouts().apply_manifest(request)).await).names_fields(&["parent"]);
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_names_a_version_wants_no_other() {
    let world = World::new().await;
    let stored = world.store_rollout("web").await;
    let at = |version: &Value| {
        changed("web", &json!({ "metadata": { "resourceVersion": version }, "spec": { "replicas": 7 } }))
    };
    refusal(&world, &at(&json!("1")))
        .await
        .is(Code::Aborted, "ETAG_MISMATCH")
        .says("[0].metadata.resourceVersion");
    world.apply(&at(&stored["metadata"]["resourceVersion"])).await;
    assert_eq!(world.stored("web").await["spec"]["replicas"], 7);
}

#[tokio::test(start_paused = true)]
async fn the_selector_of_a_rollout_never_changes() {
    let world = World::new().await;
    world.apply(&changed("web", &json!({}))).await;
    let other = json!({ "matchLabels": { "app": "other" } });
    let change = json!({ "spec": { "selector": other, "template": { "metadata": { "labels": { "app": "other" } } } } });
    refusal(&world, &changed("web", &change)).await.names_fields(&["[0].spec.selector"]).says("immutable");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_says_what_became_of_each_document() {
    let world = World::new().await;
    // What lives in a namespace that is to come cannot be rehearsed, so that this is found out too late.
    let text = [
        "{apiVersion: v1, kind: Namespace, metadata: {name: fresh}}".to_owned(),
        "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: fresh}, spec: {ports: [{port: 70000}]}}".to_owned(),
        changed("third", &json!({ "metadata": { "namespace": "fresh" } })),
    ]
    .join("\n---\n");
    let refusal = refused(world.rollouts().apply_manifest(apply_request(&text)).await);
    assert_eq!(refusal.code, Code::InvalidArgument);
    assert_eq!(refusal.violations[0].0, "[1].spec.ports[0].port");
    assert_eq!(refusal.metadata["document"], "1");
    let status = <tonic_types::Status as prost::Message>::decode(refusal.status.details()).unwrap();
    let answer = status
        .details
        .iter()
        .find(|any| any.type_url.ends_with("rolloutd.v1.ApplyManifestResponse"))
        .expect("the answer is in the details");
    let answer = <v1::ApplyManifestResponse as prost::Message>::decode(answer.value.as_slice()).unwrap();
    let outcomes: Vec<Outcome> = answer.objects.iter().map(v1::AppliedObject::outcome).collect();
    assert_eq!(outcomes, [Outcome::Created, Outcome::Failed, Outcome::NotAttempted]);
}

#[tokio::test(start_paused = true)]
async fn a_field_that_another_manager_owns_is_not_taken() {
    // The embedded cluster keeps no managed fields: this is the object as another one would show it.
    let mut live = manifest("web");
    live["spec"]["minReadySeconds"] = json!(5);
    let entry = |manager: &str, subresource: &str, fields: Value| json!({ "manager": manager, "operation": "Update", "subresource": subresource, "fieldsV1": fields });
    live["metadata"]["managedFields"] = json!([
        entry("kubectl-client-side-apply", "", json!({ "f:spec": { "f:replicas": {} } })),
        entry("rollouts-controller", "status", json!({ "f:status": { "f:phase": {} } })),
        entry("gitops", "", json!({ "f:spec": { "f:minReadySeconds": {} } })),
    ]);
    let instead = Instead { method: http::Method::GET, path: "/rollouts/web", code: 200, body: live };
    let world = World::wanted(Wanted { instead: Some(instead), ..Wanted::default() }).await;
    let taking = json!({ "spec": { "minReadySeconds": 6, "replicas": 2 } });
    let refusal = refusal(&world, &changed("web", &taking)).await.is(Code::FailedPrecondition, "FIELD_OWNED");
    assert_eq!(refusal.metadata["manager"], "gitops");
    let refusal = refusal.says("[0].spec.minReadySeconds belongs to \"gitops\"");
    assert_eq!(refusal.violations.len(), 1, "{:?}", refusal.violations);
    // A field that it does not own, and one of its own that stays as it is, are no offence.
    let other = json!({ "spec": { "minReadySeconds": 5, "replicas": 2 } });
    let answer = world.rollouts().apply_manifest(apply_request(&changed("web", &other))).await;
    assert_eq!(refused(answer).code, Code::NotFound, "it was sent; this cluster does not have it");
}
