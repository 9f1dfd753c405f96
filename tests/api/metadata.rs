//! SetRolloutMetadata, and the fields of the resource that the object has as annotations.

use std::collections::BTreeMap;
use std::time::Duration;

use rolloutd::crd::keys;
use rolloutd::pb::v1;
use serde_json::{Value, json};
use tonic::{Code, Response, Status};
use v1::set_rollout_metadata_request::Environment;

use crate::expect::refused;
use crate::world::{World, apply_request, manifest, name, resource};

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn environment(entries: &[(&str, &str)]) -> Option<Environment> {
    Some(Environment { values: map(entries) })
}

fn labels(entries: &[(&str, &str)]) -> Option<v1::PodMetadata> {
    Some(v1::PodMetadata { labels: map(entries), ..Default::default() })
}

async fn set(
    world: &World,
    request: v1::SetRolloutMetadataRequest,
) -> Result<Response<v1::SetRolloutMetadataResponse>, Status> {
    let request = v1::SetRolloutMetadataRequest { name: name("web"), ..request };
    world.rollouts().set_rollout_metadata(request).await
}

fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() })
}

async fn told(world: &World) -> Vec<String> {
    world.control_plane.activities.flush().await;
    let request = v1::ListRolloutActivityRequest { parent: name("web"), ..Default::default() };
    let told = world.rollouts().list_rollout_activity(request).await.unwrap().into_inner().activities;
    told.into_iter()
        .map(|activity| format!("{} | {} | {}", activity.verb, activity.outcome, activity.detail))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_set_is_where_a_careful_operator_puts_it_and_the_rest_stays() {
    for (strategy, canary, stable) in
        [("canary", "canaryMetadata", "stableMetadata"), ("blueGreen", "previewMetadata", "activeMetadata")]
    {
        let world = World::new().await;
        let mut object = manifest("web");
        let known = json!({ "activeService": "active", (stable): { "labels": { "old": "1" }, "annotations": { "own": "x" } } });
        object["spec"]["strategy"] = json!({ (strategy): known });
        object["metadata"]["annotations"] =
            json!({ "team": "shop", keys::STABLE_ENVIRONMENT: "{\"OLD\":\"1\"}" });
        world.store(&object).await;
        let request = v1::SetRolloutMetadataRequest {
            canary_metadata: labels(&[("role", "next")]),
            canary_environment: environment(&[("LOG_LEVEL", "debug"), ("EMPTY", "")]),
            ..Default::default()
        };
        let answer = set(&world, request).await.unwrap().into_inner();
        let stored = world.stored("web").await;
        let has = &stored["spec"]["strategy"][strategy];
        assert_eq!(has[canary], json!({ "labels": { "role": "next" } }), "{strategy}");
        assert_eq!(has[stable], object["spec"]["strategy"][strategy][stable], "what is not set stays");
        let annotations = &stored["metadata"]["annotations"];
        assert_eq!(annotations[keys::CANARY_ENVIRONMENT], r#"{"EMPTY":"","LOG_LEVEL":"debug"}"#);
        assert_eq!(
            (&annotations["team"], &annotations[keys::STABLE_ENVIRONMENT]),
            (&json!("shop"), &json!("{\"OLD\":\"1\"}"))
        );
        let shown = answer.rollout.unwrap().spec.unwrap().environment.unwrap();
        assert_eq!(shown.canary.unwrap().values, map(&[("EMPTY", ""), ("LOG_LEVEL", "debug")]));
        assert_eq!(shown.stable.unwrap().values, map(&[("OLD", "1")]));

        let cleared = ["stable_metadata", "stable_environment", "canary_environment"];
        let request = v1::SetRolloutMetadataRequest {
            canary_environment: environment(&[]),
            update_mask: mask(&cleared),
            ..Default::default()
        };
        set(&world, request).await.unwrap();
        let stored = world.stored("web").await;
        assert_eq!(stored["spec"]["strategy"][strategy][stable], Value::Null);
        assert_eq!(stored["metadata"]["annotations"][keys::STABLE_ENVIRONMENT], Value::Null);
        assert_eq!(stored["metadata"]["annotations"][keys::CANARY_ENVIRONMENT], "{}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_credential_is_refused_with_the_remedy_and_can_be_allowed_by_name() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let request = || v1::SetRolloutMetadataRequest {
        stable_environment: environment(&[
            ("DB_PASSWORD", "hunter2"),
            ("DB", "postgres://shop:pa55@db/shop"),
            ("PLAIN", "x"),
        ]),
        ..Default::default()
    };
    let refusal = refused(world.untouched(set(&world, request())).await)
        .names_fields(&["stable_environment.values[DB]", "stable_environment.values[DB_PASSWORD]"])
        .says("put it into a Secret")
        .says("restarts pods");
    let shown = format!("{refusal:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("pa55"), "no answer shows a value");

    let allowed_names = vec!["DB".to_owned(), "DB_PASSWORD".to_owned()];
    set(&world, v1::SetRolloutMetadataRequest { allowed_names, ..request() }).await.unwrap();
    let stored = world.stored("web").await;
    assert_eq!(stored["metadata"]["annotations"][keys::ENVIRONMENT_ALLOW], "DB,DB_PASSWORD");
    set(&world, request()).await.unwrap();

    let mut other = manifest("other");
    other["metadata"]["annotations"] = json!({ keys::CANARY_ENVIRONMENT: "{\"TOKEN\":\"x\"}" });
    refused(world.rollouts().apply_manifest(apply_request(&other.to_string())).await)
        .names_fields(&["[0].metadata.annotations[rolloutd.dev/canary-environment][TOKEN]"]);
    let mut created = resource("other");
    created.spec.as_mut().unwrap().environment = Some(v1::PodEnvironment {
        canary: Some(v1::EnvironmentValues { values: map(&[("TOKEN", "x"), ("1", "x")]) }),
        ..Default::default()
    });
    let request = v1::CreateRolloutRequest {
        parent: "namespaces/shop".to_owned(),
        rollout_id: "other".to_owned(),
        rollout: Some(created),
        ..Default::default()
    };
    refused(world.rollouts().create_rollout(request).await).names_fields(&[
        "rollout.spec.environment.canary.values[1]",
        "rollout.spec.environment.canary.values[TOKEN]",
    ]);
}

#[tokio::test(start_paused = true)]
async fn malformed_requests_are_refused_with_their_fields() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let plain = v1::SetRolloutMetadataRequest::default;
    let long = "x".repeat(200_000);
    for (request, fields) in [
        (plain(), &["update_mask"][..]),
        (v1::SetRolloutMetadataRequest { update_mask: mask(&["labels"]), ..plain() }, &["update_mask"]),
        (
            v1::SetRolloutMetadataRequest { canary_metadata: labels(&[("a b", "c")]), ..plain() },
            &["canary_metadata.labels"],
        ),
        (
            v1::SetRolloutMetadataRequest { stable_metadata: labels(&[("a", "b c")]), ..plain() },
            &["stable_metadata.labels[a]"],
        ),
        (
            v1::SetRolloutMetadataRequest {
                canary_metadata: labels(&[(keys::POD_TEMPLATE_HASH, "x")]),
                ..plain()
            },
            &["canary_metadata.labels[rollouts-pod-template-hash]"],
        ),
        (
            v1::SetRolloutMetadataRequest { canary_environment: environment(&[("A-B", "")]), ..plain() },
            &["canary_environment.values[A-B]"],
        ),
        (
            v1::SetRolloutMetadataRequest { canary_environment: environment(&[("A", &long)]), ..plain() },
            &["canary_environment"],
        ),
        (
            v1::SetRolloutMetadataRequest {
                canary_environment: environment(&[]),
                allowed_names: vec!["A,B".to_owned()],
                ..plain()
            },
            &["allowed_names[0]"],
        ),
    ] {
        refused(world.untouched(set(&world, request)).await).names_fields(fields);
    }
}

#[tokio::test(start_paused = true)]
async fn changes_of_environment_are_rate_limited_by_whatever_method() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let debug = |level: usize| v1::SetRolloutMetadataRequest {
        stable_environment: environment(&[("LEVEL", &level.to_string())]),
        ..Default::default()
    };
    for level in 0..5 {
        set(&world, debug(level)).await.unwrap();
    }
    set(&world, debug(4)).await.expect("what changes nothing counts for nothing");
    let refusal = refused(world.untouched(set(&world, debug(5))).await)
        .is(Code::ResourceExhausted, "ENVIRONMENT_CHANGES_TOO_OFTEN")
        .says("changes too often");
    let wait = refusal.retry_after().expect("it says when");
    let mut applied = manifest("web");
    applied["metadata"]["annotations"] = json!({ keys::STABLE_ENVIRONMENT: "{\"LEVEL\":\"5\"}" });
    refused(world.rollouts().apply_manifest(apply_request(&applied.to_string())).await)
        .is(Code::ResourceExhausted, "ENVIRONMENT_CHANGES_TOO_OFTEN");
    let only_labels =
        v1::SetRolloutMetadataRequest { stable_metadata: labels(&[("a", "b")]), ..Default::default() };
    set(&world, only_labels).await.expect("labels are not held up");
    set(&world, v1::SetRolloutMetadataRequest { validate_only: true, ..debug(5) })
        .await
        .expect("nor is asking");
    tokio::time::advance(wait.max(Duration::from_secs(1))).await;
    set(&world, debug(5)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_change_counts_once_however_often_somebody_is_faster() {
    let world = World::new().await;
    world.store_rollout("web").await;
    for level in 0..5 {
        world.intrude("web", None, json!({ "metadata": { "labels": { "seen": level.to_string() } } }));
        let level = environment(&[("LEVEL", &level.to_string())]);
        set(&world, v1::SetRolloutMetadataRequest { stable_environment: level, ..Default::default() })
            .await
            .unwrap();
        assert!(world.was_intruded());
    }
}

#[tokio::test(start_paused = true)]
async fn a_manifest_is_admitted_as_a_whole_or_not_at_all() {
    let world = World::new().await;
    let document = |name: &str, level: usize| {
        let mut document = manifest(name);
        let environment = json!({ "LEVEL": level.to_string() }).to_string();
        document["metadata"]["annotations"] = json!({ keys::STABLE_ENVIRONMENT: environment });
        document.to_string()
    };
    let both = |level: usize| format!("{}\n---\n{}", document("first", level), document("web", level));
    world.apply(&both(0)).await;
    for level in 1..=5 {
        world.apply(&document("web", level)).await;
    }
    let wait = refused(world.untouched(world.rollouts().apply_manifest(apply_request(&both(6)))).await)
        .is(Code::ResourceExhausted, "ENVIRONMENT_CHANGES_TOO_OFTEN")
        .says("[1]")
        .retry_after();
    for level in 11..=15 {
        world.apply(&document("first", level)).await;
    }
    tokio::time::advance(wait.expect("it says when")).await;
    world.apply(&both(6)).await;
}

#[tokio::test(start_paused = true)]
async fn every_change_is_told_of_by_name_and_never_by_value() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let request = v1::SetRolloutMetadataRequest {
        canary_metadata: labels(&[("role", "next")]),
        stable_environment: environment(&[("LEVEL", "unmistakable")]),
        ..Default::default()
    };
    set(&world, request).await.unwrap();
    let told = told(&world).await;
    assert_eq!(told, ["SetRolloutMetadata | OK | canary_metadata, stable_environment"]);
}

#[tokio::test(start_paused = true)]
async fn the_resource_has_annotations_as_fields_and_an_etag_that_minds_them() {
    let world = World::new().await;
    let mut wanted = resource("web");
    wanted.spec.as_mut().unwrap().inheritance = Some(v1::Inheritance {
        labels: Some(v1::InheritancePolicy {
            mode: v1::inheritance_policy::Mode::Prefixes.into(),
            prefixes: vec!["team".to_owned()],
        }),
        annotations: None,
    });
    let request = v1::CreateRolloutRequest {
        parent: "namespaces/shop".to_owned(),
        rollout_id: "web".to_owned(),
        rollout: Some(wanted),
        ..Default::default()
    };
    let created = world.rollouts().create_rollout(request).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(world.stored("web").await["metadata"]["annotations"][keys::INHERIT_LABELS], "prefixes:team");

    let update = |rollout: v1::Rollout, path: &str| v1::UpdateRolloutRequest {
        rollout: Some(rollout),
        update_mask: mask(&[path]),
        ..Default::default()
    };
    let mut changed = created.clone();
    changed.spec.as_mut().unwrap().environment = Some(v1::PodEnvironment {
        canary: Some(v1::EnvironmentValues { values: map(&[("A", "1")]) }),
        volume: Some(v1::EnvironmentVolume { container: "web".to_owned(), mount_path: "/live".to_owned() }),
        window: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    });
    changed.etag.clear();
    let answer = world.rollouts().update_rollout(update(changed, "spec.environment")).await.unwrap();
    let after = answer.into_inner().rollout.unwrap();
    assert_ne!(after.etag, created.etag);
    assert_eq!(after.generation, created.generation, "it is no change of the stored spec");
    let annotations = world.stored("web").await["metadata"]["annotations"].clone();
    assert_eq!(annotations[keys::ENVIRONMENT_VOLUME], r#"{"container":"web","mountPath":"/live"}"#);
    assert_eq!(
        (&annotations[keys::ENVIRONMENT_WINDOW], &annotations[keys::INHERIT_LABELS]),
        (&json!("60s"), &json!("prefixes:team"))
    );

    refused(world.rollouts().update_rollout(update(created, "spec.environment")).await)
        .is(Code::Aborted, "ETAG_MISMATCH");
    let mut emptied = after.clone();
    emptied.spec.as_mut().unwrap().environment = None;
    emptied.spec.as_mut().unwrap().inheritance = None;
    world.rollouts().update_rollout(update(emptied, "spec")).await.unwrap();
    let annotations = world.stored("web").await["metadata"]["annotations"].clone();
    assert!(
        annotations.as_object().is_none_or(|left| !left
            .keys()
            .any(|key| key.contains("environment") || key.contains("inherit"))),
        "{annotations}"
    );
}

#[tokio::test(start_paused = true)]
async fn whether_pods_have_status_labels_is_a_field_of_the_resource() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let update = |status_labels: Option<bool>| {
        let spec = v1::RolloutSpec { status_labels, ..Default::default() };
        let rollout = v1::Rollout { name: name("web"), spec: Some(spec), ..Default::default() };
        let update_mask = mask(&["spec.status_labels"]);
        v1::UpdateRolloutRequest { rollout: Some(rollout), update_mask, ..Default::default() }
    };
    let mut etags = std::collections::BTreeSet::new();
    for (given, stored) in [(Some(true), json!("true")), (Some(false), json!("false")), (None, Value::Null)] {
        let answer = world.rollouts().update_rollout(update(given)).await.unwrap().into_inner();
        let rollout = answer.rollout.unwrap();
        assert_eq!(rollout.spec.unwrap().status_labels, given);
        assert_eq!(world.stored("web").await["metadata"]["annotations"][keys::STATUS_LABELS], stored);
        assert!(etags.insert(rollout.etag), "the etag minds it");
    }
    let mut applied = manifest("web");
    applied["metadata"]["annotations"] = json!({ keys::STATUS_LABELS: "yes" });
    refused(world.untouched(world.rollouts().apply_manifest(apply_request(&applied.to_string()))).await)
        .names_fields(&["[0].metadata.annotations[rolloutd.dev/status-labels]"])
        .says("\"yes\"");
}

#[tokio::test(start_paused = true)]
async fn annotations_that_cannot_be_read_stay_until_their_field_is_set() {
    let world = World::new().await;
    let mut object = manifest("web");
    object["metadata"]["annotations"] =
        json!({ keys::CANARY_ENVIRONMENT: "A=1", keys::INHERIT_LABELS: "some", keys::STATUS_LABELS: "yes" });
    world.store(&object).await;
    let get = v1::GetRolloutRequest { name: name("web"), ..Default::default() };
    let mut seen = world.rollouts().get_rollout(get).await.unwrap().into_inner().rollout.unwrap();
    let spec = seen.spec.as_ref().unwrap();
    assert_eq!((&spec.environment, &spec.inheritance, spec.status_labels), (&None, &None, None));
    assert_eq!(
        seen.unreadable_fields,
        ["spec.environment.canary", "spec.inheritance.labels", "spec.status_labels"]
    );
    let spec = seen.spec.as_mut().unwrap();
    spec.min_ready_seconds = Some(7);
    let request =
        v1::UpdateRolloutRequest { rollout: Some(seen), update_mask: mask(&["*"]), ..Default::default() };
    world.rollouts().update_rollout(request).await.unwrap();
    let stored = world.stored("web").await;
    assert_eq!(
        (&stored["spec"]["minReadySeconds"], &stored["metadata"]["annotations"]),
        (&json!(7), &object["metadata"]["annotations"])
    );
    let request = v1::SetRolloutMetadataRequest {
        canary_environment: environment(&[("A", "1")]),
        ..Default::default()
    };
    set(&world, request).await.unwrap();
    assert_eq!(
        world.stored("web").await["metadata"]["annotations"][keys::CANARY_ENVIRONMENT],
        r#"{"A":"1"}"#
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_past_the_api_is_no_reason_to_refuse_something_else() {
    let world = World::new().await;
    let mut object = manifest("web");
    let secret = |value: &str| json!({ "DB_PASSWORD": value }).to_string();
    object["metadata"]["annotations"] = json!({ keys::STABLE_ENVIRONMENT: secret("hunter2") });
    object["spec"]["workloadRef"] =
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "scaleDown": "slowly" });
    object["spec"].as_object_mut().unwrap().remove("template");
    world.store(&object).await;

    let mut applied = object.clone();
    applied["metadata"].as_object_mut().unwrap().remove("annotations");
    applied["spec"]["replicas"] = json!(7);
    let warnings = world.apply(&applied.to_string()).await.warnings;
    let named: Vec<(&str, &str)> =
        warnings.iter().map(|warning| (&*warning.reason, &*warning.field)).collect();
    assert_eq!(
        named,
        [
            ("UNHEEDED", "[0].metadata.annotations[rolloutd.dev/stable-environment][DB_PASSWORD]"),
            ("UNHEEDED", "[0].spec.workloadRef.scaleDown")
        ]
    );
    let spec = v1::RolloutSpec { replicas: Some(9), ..Default::default() };
    let rollout = v1::Rollout { name: name("web"), spec: Some(spec), ..Default::default() };
    let update = v1::UpdateRolloutRequest { rollout: Some(rollout), ..Default::default() };
    world.rollouts().update_rollout(update).await.expect("the spec is what changes");
    set(
        &world,
        v1::SetRolloutMetadataRequest { canary_metadata: labels(&[("a", "b")]), ..Default::default() },
    )
    .await
    .expect("a label is what changes");

    object["metadata"]["annotations"] = json!({ keys::STABLE_ENVIRONMENT: secret("hunter3") });
    refused(world.untouched(world.rollouts().apply_manifest(apply_request(&object.to_string()))).await)
        .names_fields(&["[0].metadata.annotations[rolloutd.dev/stable-environment][DB_PASSWORD]"]);
}
