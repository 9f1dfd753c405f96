//! ApplyManifest: what it makes of manifests, in turn with kubectl.

use rolloutd::crd::keys::LAST_APPLIED_CONFIGURATION;
use rolloutd::pb::v1;
use serde_json::{Value, json};
use v1::applied_object::Outcome;

use crate::world::{World, apply_request, malformed, manifest};

/// What became of each object: its kind, name and outcome.
fn outcomes(answer: &v1::ApplyManifestResponse) -> Vec<(String, String, Outcome)> {
    let outcome = |applied: &v1::AppliedObject| {
        let object = applied.object.clone().unwrap();
        (object.kind, object.name, applied.outcome())
    };
    answer.objects.iter().map(outcome).collect()
}

/// The only outcome.
fn outcome(answer: &v1::ApplyManifestResponse) -> Outcome {
    assert_eq!(answer.objects.len(), 1);
    answer.objects[0].outcome()
}

/// The manifest after a change, as JSON.
fn changed(change: &Value) -> String {
    let mut manifest = manifest("web");
    json_patch::merge(&mut manifest, change);
    manifest.to_string()
}

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n";

const TEMPLATE: &str = "apiVersion: argoproj.io/v1alpha1\nkind: AnalysisTemplate\nmetadata: {name: rate}\n\
    spec: {metrics: [{name: a, provider: {job: {spec: {template: {spec: {}}}}}}]}\n";

#[tokio::test(start_paused = true)]
async fn a_manifest_creates_then_changes_nothing_then_configures() {
    let world = World::new().await;
    let first = world.apply(&changed(&json!({}))).await;
    assert_eq!((outcome(&first), &first.warnings), (Outcome::Created, &vec![]));
    let shown = first.objects[0].rollout.clone().expect("a rollout is shown");
    assert_eq!(world.stored("web").await["metadata"]["uid"], shown.uid);

    let again = world.untouched(world.apply(&changed(&json!({})))).await;
    assert_eq!(outcome(&again), Outcome::Unchanged);
    assert_eq!(again.objects[0].rollout.as_ref().unwrap().etag, shown.etag);

    let other = world.apply(&changed(&json!({ "spec": { "replicas": 7 } }))).await;
    assert_eq!(outcome(&other), Outcome::Configured);
    assert_eq!(other.objects[0].rollout.as_ref().unwrap().spec.as_ref().unwrap().replicas, Some(7));
    assert_eq!(world.stored("web").await["spec"]["replicas"], 7);
}

#[tokio::test(start_paused = true)]
async fn what_is_only_validated_is_shown_and_not_written() {
    let world = World::new().await;
    let validate =
        |manifest: &str| v1::ApplyManifestRequest { validate_only: true, ..apply_request(manifest) };
    for (manifest, expected) in
        [(changed(&json!({})), Outcome::Created), (format!("{SERVICE}---\n{TEMPLATE}"), Outcome::Created)]
    {
        let answer = world.untouched(world.rollouts().apply_manifest(validate(&manifest))).await.unwrap();
        let answer = answer.into_inner();
        assert!(answer.objects.iter().all(|object| object.outcome() == expected), "{answer:?}");
    }
    world.apply(&changed(&json!({}))).await;
    let request = validate(&changed(&json!({ "spec": { "replicas": 7 } })));
    let answer = world.untouched(world.rollouts().apply_manifest(request)).await.unwrap().into_inner();
    assert_eq!(outcome(&answer), Outcome::Configured);
    assert_eq!(answer.objects[0].rollout.as_ref().unwrap().spec.as_ref().unwrap().replicas, Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_field_that_neither_manifest_has_is_left_alone() {
    let world = World::new().await;
    let without = changed(&json!({ "spec": { "replicas": null } }));
    world.apply(&without).await;
    // An autoscaler, and a controller's annotation.
    let scaled = json!({ "spec": { "replicas": 11 }, "metadata": { "annotations": { "a": "b" } } });
    world.patch("web", &scaled).await;
    let again = world.untouched(world.apply(&without)).await;
    assert_eq!(outcome(&again), Outcome::Unchanged);
    world.apply(&changed(&json!({ "spec": { "replicas": null, "minReadySeconds": 4 } }))).await;
    let stored = world.stored("web").await;
    assert_eq!(
        (&stored["spec"]["replicas"], &stored["metadata"]["annotations"]["a"]),
        (&json!(11), &json!("b"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_field_that_only_the_last_manifest_had_is_removed() {
    let world = World::new().await;
    let full = json!({ "metadata": { "annotations": { "note": "x" } }, "spec": { "minReadySeconds": 4 } });
    world.apply(&changed(&full)).await;
    let answer = world.apply(&changed(&json!({}))).await;
    assert_eq!(outcome(&answer), Outcome::Configured);
    let stored = world.stored("web").await;
    assert_eq!(stored["spec"]["minReadySeconds"], Value::Null);
    assert_eq!(stored["metadata"]["annotations"]["note"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn kubectl_finds_what_was_applied_here_and_the_other_way_round() {
    let world = World::new().await;
    world.apply(&changed(&json!({ "spec": { "minReadySeconds": 4 } }))).await;
    let record = world.stored("web").await["metadata"]["annotations"][LAST_APPLIED_CONFIGURATION].clone();
    let record = record.as_str().expect("it is recorded").to_owned();
    assert!(record.ends_with("}\n"), "Go's encoder ends with a line");
    let read: Value = serde_json::from_str(&record).unwrap();
    assert_eq!((&read["spec"]["minReadySeconds"], &read["metadata"]["annotations"]), (&json!(4), &json!({})));

    // What kubectl apply would send for a manifest that says 5 and no longer says replicas.
    let mut said = read;
    said["spec"]["minReadySeconds"] = json!(5);
    said["spec"].as_object_mut().unwrap().remove("replicas");
    let patch = json!({
        "metadata": { "annotations": { LAST_APPLIED_CONFIGURATION: format!("{said}\n") } },
        "spec": { "minReadySeconds": 5, "replicas": null },
    });
    world.patch("web", &patch).await;
    // And here, one that no longer says minReadySeconds.
    world.apply(&changed(&json!({ "spec": { "replicas": null } }))).await;
    let stored = world.stored("web").await;
    assert_eq!(
        (&stored["spec"]["minReadySeconds"], &stored["spec"]["replicas"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_that_was_never_applied_is_taken_over() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let answer = world.apply(&changed(&json!({ "spec": { "replicas": 7 } }))).await;
    assert_eq!(outcome(&answer), Outcome::Configured);
    let stored = world.stored("web").await;
    assert_eq!(stored["spec"]["replicas"], 7);
    assert!(stored["metadata"]["annotations"][LAST_APPLIED_CONFIGURATION].is_string());
    let again = world.untouched(world.apply(&changed(&json!({ "spec": { "replicas": 7 } })))).await;
    assert_eq!(outcome(&again), Outcome::Unchanged);
}

#[tokio::test(start_paused = true)]
async fn documents_lists_and_json_are_applied_in_their_order() {
    let all = [
        ("Service".to_owned(), "web".to_owned(), Outcome::Created),
        ("AnalysisTemplate".to_owned(), "rate".to_owned(), Outcome::Created),
        ("Rollout".to_owned(), "web".to_owned(), Outcome::Created),
    ];
    let json = |yaml: &str| serde_saphyr::from_str::<Value>(yaml).unwrap();
    let (service, template, rollout) = (json(SERVICE), json(TEMPLATE), manifest("web"));
    for (form, text, documents) in [
        ("documents", format!("{SERVICE}---\n# nothing\n---\n{TEMPLATE}---\n{rollout}"), [0, 1, 2]),
        (
            "a list",
            json!({ "apiVersion": "v1", "kind": "List", "items": [service, template, rollout] }).to_string(),
            [0, 0, 0],
        ),
        ("an array", json!([service, template, rollout]).to_string(), [0, 0, 0]),
        ("objects", format!("{service}\n{template}\n{rollout}"), [0, 1, 2]),
    ] {
        let world = World::new().await;
        let answer = world.apply(&text).await;
        assert_eq!(outcomes(&answer), all, "{form}");
        let indices: Vec<i32> = answer.objects.iter().map(|object| object.document_index).collect();
        assert_eq!(indices, documents, "{form}");
        let again = world.untouched(world.apply(&text)).await;
        assert!(
            again.objects.iter().all(|object| object.outcome() == Outcome::Unchanged),
            "{form}: {again:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_may_come_with_what_lives_in_it() {
    let world = World::new().await;
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: fresh}\n";
    let mut rollout = manifest("web");
    rollout["metadata"]["namespace"] = json!("fresh");
    let text = format!("{namespace}---\n{rollout}");
    let validated = v1::ApplyManifestRequest { validate_only: true, ..apply_request(&text) };
    world.untouched(world.rollouts().apply_manifest(validated)).await.unwrap();
    world.apply(&text).await;
    assert!(world.versions().await.contains_key("Rollout fresh/web"));
}

#[tokio::test(start_paused = true)]
async fn a_document_goes_to_the_parent_or_to_default() {
    let world = World::new().await;
    let mut web = manifest("web");
    web["metadata"].as_object_mut().unwrap().remove("namespace");
    for (parent, namespace) in [("namespaces/shop", "shop"), ("", "default")] {
        let request =
            v1::ApplyManifestRequest { parent: parent.to_owned(), ..apply_request(&web.to_string()) };
        let answer = world.rollouts().apply_manifest(request).await.unwrap().into_inner();
        assert_eq!(answer.objects[0].object.as_ref().unwrap().namespace, namespace);
        assert!(world.versions().await.contains_key(&format!("Rollout {namespace}/web")));
    }
}

#[tokio::test(start_paused = true)]
async fn integers_of_any_size_and_unknown_fields_arrive_as_written() {
    let world = World::new().await;
    let yaml = "
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: web, annotations: {octal: '0644', yes: 'yes'}}
spec:
  selector: {matchLabels: {app: web}}
  strategy: {canary: {}}
  futureField: {big: 9007199254740995, half: 0.5, none: ~, list: [1.0, 2e2]}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: 'web:1', resources: {limits: {cpu: 1, memory: 1Gi}}}]
      volumes: [{name: files, configMap: {name: files, defaultMode: 0644}}]
";
    let answer = world.apply(yaml).await;
    let stored = world.stored("web").await;
    let spec = &stored["spec"];
    assert_eq!(spec["futureField"]["big"], 9_007_199_254_740_995_i64);
    assert_eq!((&spec["futureField"]["half"], &spec["futureField"]["list"]), (&json!(0.5), &json!([1, 200])));
    assert!(!spec["futureField"].as_object().unwrap().contains_key("none"), "a null is absence");
    assert_eq!(spec["template"]["spec"]["volumes"][0]["configMap"]["defaultMode"], 420);
    assert_eq!(spec["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"], 1);
    assert_eq!(stored["metadata"]["annotations"]["octal"], "0644");
    assert_eq!(answer.warnings.len(), 1, "{:?}", answer.warnings);
    assert_eq!(answer.warnings[0].field, "[0].spec.futureField");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_field_is_warned_about_with_the_nearest_name() {
    let world = World::new().await;
    let steps = json!([{ "setWeight": 20, "setWieght": 30 }]);
    let answer =
        world.apply(&changed(&json!({ "spec": { "strategy": { "canary": { "steps": steps } } } }))).await;
    let warning = &answer.warnings[0];
    assert_eq!(
        (warning.reason.as_str(), warning.field.as_str()),
        ("UNKNOWN_FIELD", "[0].spec.strategy.canary.steps[0].setWieght")
    );
    assert!(warning.description.ends_with("did you mean setWeight?"), "{}", warning.description);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_object_is_mended() {
    let world = World::new().await;
    world.apply(&changed(&json!({}))).await;
    world.patch("web", &malformed()).await;
    let mend = json!({ "spec": { "strategy": { "canary": { "maxSurge": 1 } } } });
    let answer = world.apply(&changed(&mend)).await;
    assert_eq!(outcome(&answer), Outcome::Configured);
    assert_eq!(world.stored("web").await["spec"]["strategy"]["canary"]["maxSurge"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_services_ports_keep_what_the_server_gave_them() {
    let world = World::new().await;
    world.apply(SERVICE).await;
    let again = world.untouched(world.apply(SERVICE)).await;
    assert_eq!(outcome(&again), Outcome::Unchanged);
    let answer = world.apply(&SERVICE.replace("port: 80", "port: 80, targetPort: 8080")).await;
    assert_eq!(outcome(&answer), Outcome::Configured);
    let service = world.objects("v1", "Service", Some("shop")).get("web").await.unwrap();
    let port = &service.data["spec"]["ports"][0];
    assert_eq!((&port["targetPort"], &port["protocol"]), (&json!(8080), &json!("TCP")));
}
