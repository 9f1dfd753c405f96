//! SetRolloutImage, SetRolloutMetadata, PauseRollout, ResumeRollout, AbortRollout, RetryRollout, RollbackRollout, RestartRollout and ScaleRollout.

use rolloutd::pb::v1;
use serde_json::{Value, json};
use tonic::{Code, Response, Status};
use v1::set_rollout_image_request::ContainerImage;

use crate::expect::refused;
use crate::world::{World, malformed, manifest, name, updating};

/// A verb with the fields that all verbs share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    SetImage,
    SetMetadata,
    Pause,
    Resume,
    Abort,
    Retry,
    Rollback,
    Restart,
    Scale,
    Promote,
}

/// The standard fields of a verb.
#[derive(Clone, Debug, Default)]
struct Standard {
    name: String,
    etag: String,
    request_id: String,
    validate_only: bool,
    wait: Option<prost_types::Duration>,
}

fn about_web() -> Standard {
    Standard { name: name("web"), ..Default::default() }
}

impl Verb {
    const ALL: [Self; 10] = [
        Self::SetImage,
        Self::SetMetadata,
        Self::Pause,
        Self::Resume,
        Self::Abort,
        Self::Retry,
        Self::Rollback,
        Self::Restart,
        Self::Scale,
        Self::Promote,
    ];

    /// Calls it, with whatever else it needs.
    async fn call(self, world: &World, standard: Standard) -> Result<v1::Rollout, Status> {
        self.answer(world, standard).await.map(|(rollout, _)| rollout)
    }

    /// The same with its warnings.
    async fn answer(
        self,
        world: &World,
        standard: Standard,
    ) -> Result<(v1::Rollout, Vec<v1::Warning>), Status> {
        let mut client = world.rollouts();
        let Standard { name, etag, request_id, validate_only, wait } = standard;
        macro_rules! call {
            ($method:ident, $request:ident { $($more:tt)* }) => {{
                let request = v1::$request { name, etag, request_id, validate_only, wait, $($more)* };
                let answer = client.$method(request).await?.into_inner();
                Ok((answer.rollout.expect("it is shown"), answer.warnings))
            }};
        }
        match self {
            Self::SetImage => {
                let image = ContainerImage { container: "web".to_owned(), image: "web:2".to_owned() };
                call!(set_rollout_image, SetRolloutImageRequest { images: vec![image] })
            }
            Self::SetMetadata => {
                let one = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
                let canary_metadata =
                    v1::PodMetadata { labels: one("role", "canary"), annotations: one("note", "x") };
                let environment =
                    v1::set_rollout_metadata_request::Environment { values: one("LOG_LEVEL", "info") };
                call!(
                    set_rollout_metadata,
                    SetRolloutMetadataRequest {
                        canary_metadata: Some(canary_metadata),
                        stable_environment: Some(environment),
                        ..Default::default()
                    }
                )
            }
            Self::Pause => call!(pause_rollout, PauseRolloutRequest {}),
            Self::Resume => call!(resume_rollout, ResumeRolloutRequest {}),
            Self::Abort => call!(abort_rollout, AbortRolloutRequest {}),
            Self::Retry => call!(retry_rollout, RetryRolloutRequest {}),
            Self::Rollback => {
                let from = v1::rollback_rollout_request::From { pod_template_hash: "canary".to_owned() };
                call!(rollback_rollout, RollbackRolloutRequest { from: Some(from), to_revision: 0 })
            }
            Self::Restart => {
                // 2026-01-01T00:00:00Z, when the test's clock begins.
                let restart_time = Some(prost_types::Timestamp { seconds: 1_767_225_600, nanos: 0 });
                call!(restart_rollout, RestartRolloutRequest { restart_time })
            }
            Self::Scale => call!(scale_rollout, ScaleRolloutRequest { replicas: Some(9) }),
            Self::Promote => {
                let from = v1::promote_rollout_request::From {
                    pod_template_hash: "canary".to_owned(),
                    step_index: Some(1),
                };
                let target = v1::promote_rollout_request::Target::Next(());
                call!(promote_rollout, PromoteRolloutRequest { from: Some(from), target: Some(target) })
            }
        }
    }

    /// A rollout `web` that the verb changes.
    async fn prepare(self, world: &World) {
        world.in_the_middle("web", 1).await;
        match self {
            Self::Resume => {
                world.patch("web", &json!({ "spec": { "paused": true } })).await;
                world.seen("web", &json!({})).await;
            }
            Self::Retry => {
                world.seen("web", &json!({ "abort": true, "pauseConditions": null })).await;
            }
            Self::Rollback => {
                world.store_set("web", "stable", 1, "web:0").await;
                world.store_set("web", "canary", 2, "web:1").await;
            }
            _ => {}
        }
    }

    /// What it changes of the object, as a merge patch.
    fn effect(self) -> Value {
        match self {
            Self::SetImage => {
                json!({ "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": "web:2" }] } } } })
            }
            Self::SetMetadata => {
                let metadata = json!({ "labels": { "role": "canary" }, "annotations": { "note": "x" } });
                json!({
                    "metadata": { "annotations": { "rolloutd.dev/stable-environment": "{\"LOG_LEVEL\":\"info\"}" } },
                    "spec": { "strategy": { "canary": { "canaryMetadata": metadata } } },
                })
            }
            Self::Pause => json!({ "spec": { "paused": true } }),
            Self::Resume => json!({ "spec": { "paused": false } }),
            Self::Abort => json!({ "status": { "abort": true } }),
            Self::Retry => json!({ "status": { "abort": false } }),
            Self::Rollback => {
                json!({ "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": "web:0" }] } } } })
            }
            Self::Restart => json!({ "spec": { "restartAt": "2026-01-01T00:00:00Z" } }),
            Self::Scale => json!({ "spec": { "replicas": 9 } }),
            Self::Promote => json!({ "status": { "pauseConditions": null } }),
        }
    }
}

/// An object without what the server counts.
fn comparable(mut object: Value) -> Value {
    for field in ["resourceVersion", "generation", "managedFields"] {
        object["metadata"][field] = Value::Null;
    }
    object
}

/// A template without what the server completed.
fn only_what_a_manifest_says(template: &Value) -> Value {
    let container = &template["spec"]["containers"][0];
    json!({
        "metadata": template["metadata"],
        "spec": { "containers": [{ "name": container["name"], "image": container["image"] }] },
    })
}

#[tokio::test(start_paused = true)]
async fn every_verb_changes_its_field_and_nothing_else() {
    for verb in Verb::ALL {
        let world = World::new().await;
        verb.prepare(&world).await;
        let mut expected = world.stored("web").await;
        let shown =
            verb.call(&world, about_web()).await.unwrap_or_else(|status| panic!("{verb:?}: {status}"));
        json_patch::merge(&mut expected, &verb.effect());
        let mut after = world.stored("web").await;
        if verb == Verb::Rollback {
            // A ReplicaSet's template is complete; a manifest's need not be.
            let template = &mut after["spec"]["template"];
            assert_eq!(template["spec"]["restartPolicy"], "Always");
            *template = only_what_a_manifest_says(template);
        }
        assert_eq!(comparable(after.clone()), comparable(expected), "{verb:?}");
        assert_eq!(after["metadata"]["generation"], shown.generation, "{verb:?} shows what is stored");
    }
}

#[tokio::test(start_paused = true)]
async fn every_verb_can_be_validated_only() {
    for verb in Verb::ALL {
        let world = World::new().await;
        verb.prepare(&world).await;
        let standard = Standard { validate_only: true, ..about_web() };
        let shown = world
            .untouched(verb.call(&world, standard))
            .await
            .unwrap_or_else(|status| panic!("{verb:?}: {status}"));
        match verb {
            Verb::Scale => assert_eq!(shown.spec.unwrap().replicas, Some(9)),
            Verb::Pause => assert_eq!(shown.spec.unwrap().paused, Some(true)),
            Verb::Abort => assert!(shown.status.unwrap().aborted),
            Verb::Retry => assert!(!shown.status.unwrap().aborted),
            Verb::Promote => assert!(shown.status.unwrap().pause_conditions.is_empty()),
            Verb::Restart => assert!(shown.spec.unwrap().restart_time.is_some()),
            Verb::SetMetadata => {
                let environment = shown.spec.unwrap().environment.unwrap();
                assert_eq!(environment.stable.unwrap().values["LOG_LEVEL"], "info");
            }
            Verb::SetImage | Verb::Rollback | Verb::Resume => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_verb_finds_what_is_not_there() {
    let world = World::new().await;
    for verb in Verb::ALL {
        refused(verb.call(&world, about_web()).await.map(Response::new))
            .lacks_object("rolloutd.dev/Rollout", &name("web"));
    }
}

#[tokio::test(start_paused = true)]
async fn every_verb_reads_its_standard_fields() {
    let world = World::new().await;
    world.in_the_middle("web", 1).await;
    for verb in Verb::ALL {
        let standard = Standard { name: "web".to_owned(), ..about_web() };
        refused(world.untouched(verb.call(&world, standard)).await.map(Response::new))
            .names_fields(&["name"]);
        let standard = Standard { etag: "stale".to_owned(), ..about_web() };
        refused(world.untouched(verb.call(&world, standard)).await.map(Response::new))
            .is(Code::Aborted, "ETAG_MISMATCH");
        let standard = Standard { request_id: "no UUID".to_owned(), ..about_web() };
        refused(world.untouched(verb.call(&world, standard)).await.map(Response::new))
            .names_fields(&["request_id"])
            .says("no UUID");
        let wait = Some(prost_types::Duration { seconds: -1, nanos: 0 });
        let standard = Standard { wait, ..about_web() };
        refused(world.untouched(verb.call(&world, standard)).await.map(Response::new))
            .names_fields(&["wait"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_so_already_is_not_written_again() {
    for verb in Verb::ALL.into_iter().filter(|verb| *verb != Verb::Promote) {
        let world = World::new().await;
        verb.prepare(&world).await;
        verb.call(&world, about_web()).await.unwrap();
        world.settle().await;
        if verb == Verb::Abort {
            // The controller has begun.
            world.seen("web", &json!({ "pauseConditions": null })).await;
        }
        world
            .untouched(verb.call(&world, about_web()))
            .await
            .unwrap_or_else(|status| panic!("{verb:?}: {status}"));
    }
}

#[tokio::test(start_paused = true)]
async fn verbs_that_look_at_the_status_wait_until_it_is_of_this_spec() {
    for verb in [Verb::Abort, Verb::Promote] {
        let world = World::new().await;
        verb.prepare(&world).await;
        world.patch("web", &json!({ "spec": { "minReadySeconds": 2 } })).await;
        let refusal = refused(world.untouched(verb.call(&world, about_web())).await.map(Response::new))
            .is(Code::FailedPrecondition, "NOT_OBSERVED");
        assert!(refusal.retry_after().is_some());
        let details = tonic_types::StatusExt::get_error_details(&refusal.status);
        assert_eq!(
            details.precondition_failure().unwrap().violations[0].subject,
            "status.observed_generation"
        );

        let late = async {
            rolloutd::clock::real_sleep(std::time::Duration::from_secs(1)).await;
            world.seen("web", &updating(1)).await;
        };
        let (answer, ()) = tokio::join!(verb.call(&world, about_web()), late);
        answer.unwrap_or_else(|status| panic!("{verb:?}: {status}"));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_aborted_that_does_not_run() {
    let world = World::new().await;
    world.store_rollout("web").await;
    for status in [
        json!({ "currentPodHash": "a", "stableRS": "a" }),
        json!({ "currentPodHash": "a", "stableRS": null }),
    ] {
        world.seen("web", &status).await;
        refused(world.untouched(Verb::Abort.call(&world, about_web())).await.map(Response::new))
            .is(Code::FailedPrecondition, "NOTHING_TO_ABORT");
    }
}

#[tokio::test(start_paused = true)]
async fn sizes_are_checked() {
    let world = World::new().await;
    world.store_rollout("web").await;
    for (replicas, says) in [(None, "is required"), (Some(-1), "-1")] {
        let request = v1::ScaleRolloutRequest { name: name("web"), replicas, ..Default::default() };
        refused(world.untouched(world.rollouts().scale_rollout(request)).await)
            .names_fields(&["replicas"])
            .says(says);
    }
    let request = v1::ScaleRolloutRequest { name: name("web"), replicas: Some(0), ..Default::default() };
    let scaled = world.rollouts().scale_rollout(request).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(scaled.spec.unwrap().replicas, Some(0));
}

#[tokio::test(start_paused = true)]
async fn images_are_set_in_all_containers_or_in_named_ones() {
    let world = World::new().await;
    let mut web = manifest("web");
    web["spec"]["template"]["spec"] = json!({
        "initContainers": [{ "name": "init", "image": "init:1" }],
        "containers": [{ "name": "web", "image": "web:1" }, { "name": "side", "image": "side:1" }],
    });
    world.store(&web).await;
    let images = || async {
        let stored = world.stored("web").await;
        let spec = &stored["spec"]["template"]["spec"];
        [&spec["initContainers"][0], &spec["containers"][0], &spec["containers"][1]]
            .map(|container| container["image"].as_str().unwrap().to_owned())
    };
    for (given, expected) in [
        (&[("init", "init:2"), ("side", "side:2")][..], ["init:2", "web:1", "side:2"]),
        (&[("*", "all:3")], ["all:3", "all:3", "all:3"]),
        (&[("*", "all:4"), ("web", "web:4")], ["all:4", "web:4", "all:4"]),
    ] {
        let images_given = given.iter().map(|(container, image)| ContainerImage {
            container: (*container).to_owned(),
            image: (*image).to_owned(),
        });
        let request = v1::SetRolloutImageRequest {
            name: name("web"),
            images: images_given.collect(),
            ..Default::default()
        };
        world.rollouts().set_rollout_image(request).await.unwrap();
        assert_eq!(images().await, expected);
    }
    let request = v1::SetRolloutImageRequest { name: name("web"), ..Default::default() };
    refused(world.untouched(world.rollouts().set_rollout_image(request)).await).names_fields(&["images"]);
}

#[tokio::test(start_paused = true)]
async fn an_undo_needs_to_say_what_it_leaves() {
    let world = World::new().await;
    Verb::Rollback.prepare(&world).await;
    let undo = |hash: &str, to_revision| v1::RollbackRolloutRequest {
        name: name("web"),
        from: Some(v1::rollback_rollout_request::From { pod_template_hash: hash.to_owned() }),
        to_revision,
        ..Default::default()
    };
    refused(world.untouched(world.rollouts().rollback_rollout(undo("other", 1))).await)
        .is(Code::FailedPrecondition, "STALE_HASH")
        .says("\"canary\"");
    refused(world.untouched(world.rollouts().rollback_rollout(undo("", 1))).await)
        .names_fields(&["from.pod_template_hash"]);
    refused(world.untouched(world.rollouts().rollback_rollout(undo("canary", -1))).await)
        .names_fields(&["to_revision"]);
    let without = v1::RollbackRolloutRequest { from: None, ..undo("", 0) };
    refused(world.untouched(world.rollouts().rollback_rollout(without)).await)
        .names_fields(&["from.pod_template_hash"]);
    let missing = refused(world.untouched(world.rollouts().rollback_rollout(undo("canary", 8))).await);
    assert_eq!(missing.is(Code::NotFound, "REVISION_NOT_FOUND").metadata["revisions"], "2, 1");
}

#[tokio::test(start_paused = true)]
async fn a_template_that_lives_elsewhere_is_changed_there() {
    let world = World::new().await;
    let mut web = manifest("web");
    let spec = web["spec"].as_object_mut().unwrap();
    spec.remove("template");
    spec.insert(
        "workloadRef".to_owned(),
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" }),
    );
    world.store(&web).await;
    world.seen("web", &updating(1)).await;
    for verb in [Verb::SetImage, Verb::Rollback] {
        refused(world.untouched(verb.call(&world, about_web())).await.map(Response::new))
            .is(Code::NotFound, "NOT_FOUND")
            .says("deployments/web");
    }
    let deployment = |labels: Value| {
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "shop", "labels": labels },
            "spec": { "selector": { "matchLabels": { "app": "web" } }, "template": manifest("web")["spec"]["template"] } })
    };
    let flux = json!({ "kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system" });
    world.store(&deployment(flux)).await;
    let image = async || {
        let deployments = world.objects("apps/v1", "Deployment", Some("shop"));
        let stored = deployments.get("web").await.expect("it is there");
        stored.data["spec"]["template"]["spec"]["containers"][0]["image"].clone()
    };
    let checked = Standard { validate_only: true, ..about_web() };
    Verb::SetImage.call(&world, checked).await.expect("it is possible");
    assert_eq!(image().await, "web:1");
    let before = world.stored("web").await;
    let (_, warnings) = Verb::SetImage.answer(&world, about_web()).await.expect("it is written");
    assert_eq!(image().await, "web:2");
    assert_eq!(world.stored("web").await, before, "the rollout is what it was");
    assert!(warnings[0].description.contains("looks after Deployment \"web\""), "{warnings:?}");

    // A container that there is not is refused before anything is written.
    let container = ContainerImage { container: "nope".to_owned(), image: "web:3".to_owned() };
    let request =
        v1::SetRolloutImageRequest { name: name("web"), images: vec![container], ..Default::default() };
    refused(world.rollouts().set_rollout_image(request).await).names_fields(&["images[0].container"]);
    assert_eq!(image().await, "web:2");
}

#[tokio::test(start_paused = true)]
async fn when_a_workload_is_scaled_down_must_be_a_word_that_is_known_and_a_deployment() {
    let world = World::new().await;
    let create = |kind: &str, scale_down: &str| {
        let workload_ref = v1::WorkloadRef {
            api_version: if kind == "PodTemplate" { "v1" } else { "apps/v1" }.to_owned(),
            kind: kind.to_owned(),
            name: "legacy".to_owned(),
            scale_down: scale_down.to_owned(),
        };
        let strategy = Some(v1::rollout_spec::Strategy::Canary(v1::CanaryStrategy::default()));
        let spec = v1::RolloutSpec { workload_ref: Some(workload_ref), strategy, ..Default::default() };
        v1::CreateRolloutRequest {
            parent: "namespaces/shop".to_owned(),
            rollout_id: "new".to_owned(),
            rollout: Some(v1::Rollout { spec: Some(spec), ..Default::default() }),
            validate_only: true,
            ..Default::default()
        }
    };
    for (kind, scale_down, field) in [
        ("Deployment", "onSuccess", "rollout.spec.workload_ref.scale_down"),
        ("PodTemplate", "onsuccess", "rollout.spec.workload_ref.scale_down"),
        ("StatefulSet", "", "rollout.spec.workload_ref.kind"),
    ] {
        refused(world.rollouts().create_rollout(create(kind, scale_down)).await).names_fields(&[field]);
    }
    for (kind, scale_down) in [("Deployment", "progressively"), ("Deployment", "never"), ("ReplicaSet", "")] {
        world.rollouts().create_rollout(create(kind, scale_down)).await.expect("it is accepted");
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_object_is_left_alone_by_every_verb() {
    let world = World::new().await;
    world.in_the_middle("web", 1).await;
    world.patch("web", &malformed()).await;
    for verb in Verb::ALL {
        refused(world.untouched(verb.call(&world, about_web())).await.map(Response::new))
            .is(Code::FailedPrecondition, "MALFORMED_OBJECT")
            .says("spec.strategy.canary.maxSurge: invalid value: integer `3000000000`")
            .says("mend it by ApplyManifest");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_spec_that_a_gitops_tool_reverts_is_warned_of() {
    for verb in Verb::ALL {
        let world = World::new().await;
        verb.prepare(&world).await;
        let (_, warnings) =
            verb.answer(&world, Standard { validate_only: true, ..about_web() }).await.unwrap();
        assert_eq!(warnings, [], "{verb:?}");
        let tracking = json!({ "argocd.argoproj.io/tracking-id": "shop:argoproj.io/Rollout:shop/web" });
        world.patch("web", &json!({ "metadata": { "annotations": tracking } })).await;
        for validate_only in [true, false] {
            let standard = Standard { validate_only, ..about_web() };
            let (_, warnings) = verb.answer(&world, standard).await.unwrap();
            let reasons: Vec<&str> = warnings.iter().map(|warning| warning.reason.as_str()).collect();
            let expected: &[&str] = match verb {
                // They write to the status, which is nobody's source.
                Verb::Abort | Verb::Retry | Verb::Promote => &[],
                _ => &["GITOPS_MANAGED"],
            };
            assert_eq!(reasons, expected, "{verb:?}");
            assert!(warnings.iter().all(|warning| warning.description.contains("application \"shop\"")));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_promotion_that_ends_a_hold_changes_the_spec_too() {
    let world = World::new().await;
    world.in_the_middle("web", 1).await;
    let labels = json!({ "kustomize.toolkit.fluxcd.io/name": "apps" });
    world.patch("web", &json!({ "metadata": { "labels": labels }, "spec": { "paused": true } })).await;
    world.seen("web", &updating(1)).await;
    let (_, warnings) = Verb::Promote.answer(&world, about_web()).await.unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].description.starts_with("Flux (Kustomization \"apps\")"), "{warnings:?}");
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_of_now_unless_another_time_is_given() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let restart = |seconds: Option<i64>| v1::RestartRolloutRequest {
        name: name("web"),
        restart_time: seconds.map(|seconds| prost_types::Timestamp { seconds, nanos: 999_999_999 }),
        ..Default::default()
    };
    let before = world.clock.now().as_second();
    world.rollouts().restart_rollout(restart(None)).await.unwrap();
    let at =
        world.stored("web").await["spec"]["restartAt"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!((before..=world.clock.now().as_second()).contains(&at.as_second()));

    let future = world.clock.now().as_second() + 3600;
    let answer = world.rollouts().restart_rollout(restart(Some(future))).await.unwrap().into_inner();
    assert_eq!(answer.rollout.unwrap().spec.unwrap().restart_time.unwrap().seconds, future);
    let [warning] = answer.warnings.as_slice() else { panic!("{:?}", answer.warnings) };
    assert_eq!((warning.reason.as_str(), warning.field.as_str()), ("RESTART_IN_FUTURE", "restart_time"));
    refused(world.untouched(world.rollouts().restart_rollout(restart(Some(i64::MAX)))).await)
        .names_fields(&["restart_time"]);
}
