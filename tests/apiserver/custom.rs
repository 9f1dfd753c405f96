//! Definitions and the objects that they define.

use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::support::{create, gizmo, gizmo_definition, gizmos, json as ask, refused, send, server};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const GIZMOS: &str = "/apis/ex.dev/v1/namespaces/default/gizmos";

fn with_spec(name: &str, spec: Value) -> DynamicObject {
    let mut gizmo = gizmo(name);
    gizmo["spec"] = spec;
    serde_json::from_value(gizmo).unwrap()
}

async fn merge(api: &Api<DynamicObject>, name: &str, patch: Value) -> kube::Result<DynamicObject> {
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
}

#[tokio::test(start_paused = true)]
async fn objects_are_pruned_and_given_their_defaults() {
    let api = gizmos(&server().client("test")).await;
    let object = with_spec("a", json!({"mode": "fast", "colour": "red", "selector": {"any": {"thing": 1}}}));
    let created = api.create(&PostParams::default(), &object).await.unwrap();
    assert_eq!(
        created.data["spec"],
        json!({"mode": "fast", "replicas": 1, "selector": {"any": {"thing": 1}}})
    );
    assert_eq!(created.metadata.generation, Some(1));
}

#[tokio::test(start_paused = true)]
async fn each_violation_of_the_schema_is_a_cause() {
    let api = gizmos(&server().client("test")).await;
    let object = with_spec("a", json!({"mode": "slow", "selector": []}));
    let status = refused(api.create(&PostParams::default(), &object).await);
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    let causes = status.details.unwrap().causes;
    let mut causes: Vec<_> =
        causes.iter().map(|cause| (cause.field.as_str(), cause.reason.as_str())).collect();
    causes.sort_unstable();
    // Without a name: rules were not evaluated, for the object was invalid.
    assert_eq!(
        causes,
        [
            ("<nil>", "FieldValueInvalid"),
            ("spec.mode", "FieldValueNotSupported"),
            ("spec.selector", "FieldValueTypeInvalid"),
        ]
    );
    let slow = with_spec("a", json!({"mode": "slow"}));
    let status = refused(api.create(&PostParams::default(), &slow).await);
    let cause = &status.details.unwrap().causes[0];
    assert_eq!(cause.message, "Unsupported value: \"slow\": supported values: \"fast\", \"safe\"");
}

#[tokio::test(start_paused = true)]
async fn a_rule_makes_a_field_immutable() {
    let api = gizmos(&server().client("test")).await;
    create(&api, &with_spec("a", json!({"selector": {"app": "web"}}))).await;
    let status = refused(merge(&api, "a", json!({"spec": {"selector": {"app": "api"}}})).await);
    assert_eq!(
        status.message,
        "Gizmo.ex.dev \"a\" is invalid: spec.selector: Invalid value: selector is immutable"
    );
    merge(&api, "a", json!({"spec": {"selector": {"app": "web"}, "replicas": 2}})).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn rules_that_cannot_be_evaluated_are_refused_with_the_definition() {
    let client = server().client("test");
    let mut definition = gizmo_definition();
    let rules = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations";
    let spec = definition.pointer_mut(rules.rsplit_once('/').unwrap().0).unwrap();
    spec["x-kubernetes-validations"] = json!([{"rule": "self.replicas < 10"}]);
    let answer = ask(&client, "POST", DEFINITIONS, Some(definition)).await;
    assert_eq!(answer.code, 422, "{}", answer.body);
    let message = answer.body["message"].as_str().unwrap();
    assert!(message.contains("self == oldSelf"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn conversion_webhooks_are_refused() {
    let client = server().client("test");
    let mut definition = gizmo_definition();
    definition["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://convert.example"}}});
    let answer = ask(&client, "POST", DEFINITIONS, Some(definition)).await;
    assert!(answer.code >= 400, "{}", answer.body);
    assert!(answer.body["message"].as_str().unwrap().contains("conversion"), "{}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn status_and_scale_are_parts_of_their_own() {
    let api = gizmos(&server().client("test")).await;
    create(&api, &with_spec("a", json!({"replicas": 2}))).await;
    let both = merge(&api, "a", json!({"spec": {"replicas": 3}, "status": {"replicas": 9}})).await.unwrap();
    assert_eq!((both.data["spec"]["replicas"].clone(), both.data.get("status")), (json!(3), None));
    assert_eq!(both.metadata.generation, Some(2));
    let patch = Patch::Merge(json!({"spec": {"replicas": 7}, "status": {"replicas": 3}}));
    let status = api.patch_status("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(status.data["spec"]["replicas"], 3);
    assert_eq!(status.data["status"]["replicas"], 3);
    assert_eq!(status.metadata.generation, Some(2));
    let patch = Patch::Merge(json!({"spec": {"replicas": 5}}));
    let scale = api.patch_scale("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(5));
    assert_eq!(scale.status.unwrap().replicas, 3);
    assert_eq!(api.get("a").await.unwrap().metadata.generation, Some(3));
}

#[tokio::test(start_paused = true)]
async fn without_a_status_subresource_status_is_written_with_the_object() {
    let client = server().client("test");
    let mut definition = gizmo_definition();
    definition["spec"]["versions"][0]["subresources"].take();
    assert_eq!(ask(&client, "POST", DEFINITIONS, Some(definition)).await.code, 201);
    let mut object = gizmo("a");
    object["status"] = json!({"phase": "Ready"});
    let created = ask(&client, "POST", GIZMOS, Some(object)).await;
    assert_eq!(created.body["status"]["phase"], "Ready");
    let status = ask(&client, "GET", &format!("{GIZMOS}/a/status"), None).await;
    assert_eq!(status.code, 404);
}

#[tokio::test(start_paused = true)]
async fn versions_of_a_definition_show_the_same_object() {
    let client = server().client("test");
    let mut definition = gizmo_definition();
    let mut older = definition["spec"]["versions"][0].clone();
    older["name"] = json!("v1beta1");
    older["storage"] = json!(false);
    definition["spec"]["versions"].as_array_mut().unwrap().push(older);
    assert_eq!(ask(&client, "POST", DEFINITIONS, Some(definition)).await.code, 201);
    let mut object = gizmo("a");
    object["apiVersion"] = json!("ex.dev/v1beta1");
    let beta = GIZMOS.replace("/v1/", "/v1beta1/");
    let created = ask(&client, "POST", &beta, Some(object)).await;
    assert_eq!(created.body["apiVersion"], "ex.dev/v1beta1");
    let read = ask(&client, "GET", &format!("{GIZMOS}/a"), None).await;
    assert_eq!(read.body["apiVersion"], "ex.dev/v1");
    assert_eq!(read.body["metadata"], created.body["metadata"]);
    let group = ask(&client, "GET", "/apis/ex.dev", None).await;
    assert_eq!(group.body["preferredVersion"]["version"], "v1");
    let wrong = ask(&client, "POST", GIZMOS, Some(created.body)).await;
    assert_eq!(wrong.code, 400);
}

#[tokio::test(start_paused = true)]
async fn a_changed_schema_counts_for_the_next_request() {
    let client = server().client("test");
    let api = gizmos(&client).await;
    create(&api, &with_spec("a", json!({"mode": "safe"}))).await;
    let fields = json!({"spec": {"versions": [{
        "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "size": {"type": "string", "default": "small"},
        }}}}},
    }]}});
    let changed = ask(&client, "PATCH", &format!("{DEFINITIONS}/gizmos.ex.dev"), Some(fields)).await;
    assert_eq!(changed.code, 200, "{}", changed.body);
    assert_eq!(changed.body["metadata"]["generation"], 2);
    // What was stored is shown with the new defaults; unknown fields go when it is written again.
    assert_eq!(api.get("a").await.unwrap().data["spec"]["size"], "small");
    let written = merge(&api, "a", json!({"metadata": {"labels": {"x": "y"}}})).await.unwrap();
    assert_eq!(written.data["spec"], json!({"size": "small"}));
    assert_eq!(ask(&client, "GET", &format!("{GIZMOS}/a/scale"), None).await.code, 404);
}

#[tokio::test(start_paused = true)]
async fn unknown_fields_are_ignored_told_or_refused_as_asked() {
    let client = server().client("test");
    gizmos(&client).await;
    let path = |validation: &str| format!("{GIZMOS}?dryRun=All&fieldValidation={validation}");
    let mut object = gizmo("a");
    object["spec"] = json!({"colour": "red"});
    let post = async |validation: &str| ask(&client, "POST", &path(validation), Some(object.clone())).await;
    let ignored = post("Ignore").await;
    assert_eq!((ignored.code, ignored.warnings.len()), (201, 0));
    let told = post("Warn").await;
    assert_eq!(told.code, 201);
    assert_eq!(told.warnings, ["299 - \"unknown field \\\"spec.colour\\\"\""]);
    let refused = post("Strict").await;
    assert_eq!(refused.code, 400);
    assert!(
        refused.body["message"].as_str().unwrap().ends_with("unknown field \"spec.colour\""),
        "{}",
        refused.body
    );
}

#[tokio::test(start_paused = true)]
async fn definitions_are_served_at_once_and_in_discovery() {
    let client = server().client("test");
    let before = ask(&client, "GET", GIZMOS, None).await;
    assert_eq!(before.code, 404);
    gizmos(&client).await;
    assert_eq!(ask(&client, "GET", GIZMOS, None).await.code, 200);
    let resources = ask(&client, "GET", "/apis/ex.dev/v1", None).await.body;
    let names: Vec<&str> = resources["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kind| kind["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["gizmos", "gizmos/status", "gizmos/scale"]);
}

#[tokio::test(start_paused = true)]
async fn columns_of_a_definition_are_printed() {
    let client: Client = server().client("test");
    let api = gizmos(&client).await;
    create(&api, &with_spec("a", json!({"replicas": 4}))).await;
    tokio::time::advance(std::time::Duration::from_secs(90)).await;
    let accept = ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let table = send(&client, "GET", GIZMOS, &[accept], Vec::new()).await.body;
    let columns: Vec<&str> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(columns, ["Name", "Replicas", "Age"]);
    assert_eq!(table["rows"][0]["cells"], json!(["a", 4, "90s"]));
    assert_eq!(api.get("a").await.unwrap().name_any(), "a");
}
