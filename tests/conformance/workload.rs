//! Rollouts that take their pod template from a Deployment, a ReplicaSet or a PodTemplate. No controller makes pods of the Deployment here,
//! which is nothing to the rollout: it goes by its own.

use std::time::Duration;

use http::Method;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplate;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt as _};
use rolloutd::crd::{Rollout, RolloutPhase, keys};
use rolloutd::pb::v1;
use rolloutd::pb::v1::blocker::Reason;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::drive::{Drive, Driver};
use crate::explain::explained;
use crate::scenarios::{endless, healthy, in_virtual_time, is, paused_at};
use crate::world::{NEVER_READY, World, image, manifest};

on_both! {
    a_deployment_is_taken_over_from_once_the_rollout_is_healthy
    a_deployment_gives_its_replicas_as_the_rollouts_pods_come_up
    a_pod_template_is_followed
    a_replica_set_is_followed
    a_workload_that_is_missing_is_waited_for
    the_api_writes_the_workload
}

/// What ends with a pod that is never ready.
fn never() -> String {
    NEVER_READY.trim_start_matches(':').to_owned()
}

/// A rollout without a template, which another object has.
fn referring(replicas: i32, reference: Value, canary: Value) -> Value {
    let mut manifest = manifest(replicas, canary);
    let spec = manifest["spec"].as_object_mut().unwrap();
    spec.remove("template");
    spec.insert("workloadRef".to_owned(), reference);
    manifest
}

fn template(version: &str) -> Value {
    json!({ "metadata": { "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "web", "image": image(version) }] } })
}

fn deployment(scale_down: &str) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "legacy", "scaleDown": scale_down })
}

/// The workload `legacy` of a kind.
struct Legacy<'a, K> {
    world: &'a World,
    /// Where its template is.
    template: &'static str,
    api: Api<K>,
}

impl<'a, K> Legacy<'a, K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Serialize
        + std::fmt::Debug,
{
    async fn create(world: &'a World, template_at: &'static str, content: Value) -> Self {
        let api: Api<K> = Api::namespaced(world.client.clone(), &world.namespace);
        let mut object = content;
        object["metadata"] = json!({ "name": "legacy" });
        let object: K = serde_json::from_value(object).expect("it is one");
        api.create(&PostParams::default(), &object).await.expect("it is created");
        Self { world, template: template_at, api }
    }

    async fn patch(&self, patch: Value) {
        self.api.patch("legacy", &PatchParams::default(), &Patch::Merge(patch)).await.expect("it is patched");
    }

    async fn set_image(&self, version: &str) {
        let containers = json!({ "spec": { "containers": [{ "name": "web", "image": image(version) }] } });
        let patch = self
            .template
            .rsplit('/')
            .filter(|name| !name.is_empty())
            .fold(containers, |patch, name| json!({ name: patch }));
        self.patch(patch).await;
    }

    async fn object(&self) -> Value {
        serde_json::to_value(self.api.get("legacy").await.expect("it exists")).unwrap()
    }

    async fn image(&self) -> String {
        let object = self.object().await;
        let at = format!("{}/spec/containers/0/image", self.template);
        object.pointer(&at).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Waits until it has so many replicas.
    async fn until_replicas(&self, wanted: i64) {
        let reached = async {
            while self.object().await.pointer("/spec/replicas") != Some(&json!(wanted)) {
                self.world.pass(Duration::from_millis(50)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(60), reached).await;
        assert!(in_time.is_ok(), "never {wanted}: {:#?}", self.object().await);
    }

    /// Checks that the rollout's annotation and status name its generation.
    async fn is_observed(&self) {
        let generation = self.object().await.pointer("/metadata/generation").unwrap().to_string();
        let noted = |rollout: &Rollout| {
            rollout.annotations().get(keys::WORKLOAD_GENERATION) == Some(&generation)
                && rollout.status().workload_observed_generation.as_ref() == Some(&generation)
        };
        self.world.until("its generation noted", noted).await;
    }
}

async fn legacy_deployment<'a>(world: &'a World, replicas: i32, version: &str) -> Legacy<'a, Deployment> {
    let spec = json!({ "replicas": replicas, "selector": { "matchLabels": { "app": "web" } }, "template": template(version) });
    Legacy::create(world, "/spec/template", json!({ "spec": spec })).await
}

/// Waits until this revision is announced.
async fn revision(world: &World, number: &str) {
    let is_announced = |rollout: &Rollout| {
        rollout.annotations().get(keys::REVISION).is_some_and(|revision| revision == number)
    };
    world.until("the revision", is_announced).await;
}

/// Healthy by a status of this version.
async fn healthy_at(drive: &Drive<'_>, version: &str) {
    let hash = drive.hash_of(version).await;
    let wanted = is(RolloutPhase::Healthy);
    drive
        .world
        .until("Healthy", |rollout| wanted(rollout) && rollout.status().current_pod_hash() == hash)
        .await;
}

pub async fn a_deployment_is_taken_over_from_once_the_rollout_is_healthy(world: World) {
    let drive = Drive { world: &world, driver: Driver::Patches };
    let legacy = legacy_deployment(&world, 4, "v1").await;
    let mut bare = referring(3, deployment("onsuccess"), endless());
    // The Deployment's selector is taken.
    bare["spec"].as_object_mut().unwrap().remove("selector");
    drive.create(bare).await;
    let rollout = healthy(&drive).await;
    assert_eq!(rollout.status().selector.as_deref(), Some("app=web"));
    legacy.until_replicas(0).await;
    world.until_event("ScalingWorkload: Scaled down Deployment legacy from 4 to 0").await;
    legacy.is_observed().await;
    let rollout = world
        .until("the takeover over", |rollout| !rollout.annotations().contains_key(keys::WORKLOAD_REPLICAS))
        .await;
    assert!(rollout.spec.template.is_none(), "the stored spec stays as it was written");
    assert_eq!(drive.sets().await.len(), 1, "replicas of the Deployment make no revision");

    // To update, people change the Deployment.
    legacy.set_image("v2").await;
    paused_at(&drive, 1).await;
    legacy.is_observed().await;
    assert!(drive.replicas("v2").await > 0);
    drive.promote_full().await;
    healthy_at(&drive, "v2").await;

    // The Deployment's replicas are nobody's business any more.
    legacy.patch(json!({ "spec": { "replicas": 2 } })).await;
    legacy.is_observed().await;
    legacy.set_image("v1").await;
    drive.world.until("going back", |rollout| rollout.status().current_step_index == Some(1)).await;
    assert_eq!(legacy.object().await["spec"]["replicas"], 2);
    world.finish().await;
}

async fn a_deployment_gives_its_replicas_as_the_rollouts_pods_come_up(world: World) {
    let drive = Drive { world: &world, driver: Driver::Patches };
    let legacy = legacy_deployment(&world, 3, &never()).await;
    drive.create(referring(3, deployment("progressively"), json!({}))).await;
    world.until("its pods created", |rollout| rollout.status().replicas == Some(3)).await;
    world.pass(Duration::from_secs(2)).await;
    assert_eq!(legacy.object().await["spec"]["replicas"], 3, "nothing is given for pods that are not there");
    let noted = world.rollouts().get("web").await.unwrap();
    assert_eq!(noted.annotations().get(keys::WORKLOAD_REPLICAS).map(String::as_str), Some("3"));

    // The first version is mended, which makes it the second.
    legacy.set_image("v1").await;
    revision(&world, "2").await;
    healthy_at(&drive, "v1").await;
    legacy.until_replicas(0).await;
    world.until("over", |rollout| !rollout.annotations().contains_key(keys::WORKLOAD_REPLICAS)).await;
    legacy.is_observed().await;
    world.finish().await;
}

async fn a_pod_template_is_followed(world: World) {
    let drive = Drive { world: &world, driver: Driver::Patches };
    let legacy: Legacy<'_, PodTemplate> =
        Legacy::create(&world, "/template", json!({ "template": template("v1") })).await;
    let reference = json!({ "apiVersion": "v1", "kind": "PodTemplate", "name": "legacy" });
    drive.create(referring(2, reference, json!({}))).await;
    healthy(&drive).await;
    legacy.is_observed().await;
    legacy.set_image("v2").await;
    revision(&world, "2").await;
    healthy_at(&drive, "v2").await;
    legacy.is_observed().await;
    world.finish().await;
}

async fn a_replica_set_is_followed(world: World) {
    let drive = Drive { world: &world, driver: Driver::Patches };
    // It bears no hash of ours, so that it is in none of the other caches.
    let spec =
        json!({ "replicas": 0, "selector": { "matchLabels": { "app": "web" } }, "template": template("v1") });
    let legacy: Legacy<'_, ReplicaSet> =
        Legacy::create(&world, "/spec/template", json!({ "spec": spec })).await;
    let reference = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "legacy" });
    drive.create(referring(2, reference, json!({}))).await;
    healthy(&drive).await;
    legacy.is_observed().await;
    legacy.set_image("v2").await;
    revision(&world, "2").await;
    let rollout = healthy(&drive).await;
    assert_eq!(rollout.status().updated_replicas, Some(2));
    let found = legacy.api.get("legacy").await.unwrap();
    assert!(found.owner_references().is_empty(), "the template's owner is left alone");
    world.finish().await;
}

async fn a_workload_that_is_missing_is_waited_for(world: World) {
    let drive = Drive { world: &world, driver: Driver::Patches };
    drive.create(referring(2, deployment("never"), json!({}))).await;
    let degraded = world.until("InvalidSpec", is(RolloutPhase::Degraded)).await;
    let said = "InvalidSpec: The Rollout \"web\" is invalid: spec.workloadRef.name: Invalid value: \"legacy\": Deployment \"legacy\" not found";
    assert_eq!(degraded.status().message.as_deref(), Some(said));
    let why = explained(&world, Reason::WorkloadMissing).await;
    let object = why.blockers[0].object.clone().unwrap();
    assert_eq!((object.kind.as_str(), object.name.as_str()), ("Deployment", "legacy"));
    let legacy = legacy_deployment(&world, 2, "v1").await;
    healthy(&drive).await;
    legacy.is_observed().await;
    assert_eq!(legacy.object().await["spec"]["replicas"], 2);
    world.finish().await;
}

async fn the_api_writes_the_workload(world: World) {
    let drive = Drive { world: &world, driver: Driver::Rpcs };
    let mut rpc = world.rpc();
    let manifests = [
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "legacy" },
            "spec": { "replicas": 2, "selector": { "matchLabels": { "app": "web" } }, "template": template("v1") } }),
        referring(2, deployment("onsuccess"), endless()),
    ];
    let request = v1::ApplyManifestRequest {
        parent: format!("namespaces/{}", world.namespace),
        manifest: manifests.map(|manifest| manifest.to_string()).join("\n---\n"),
        wait: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        ..Default::default()
    };
    let applied = rpc.apply_manifest(request).await.expect("both are applied").into_inner();
    assert_eq!((applied.objects.len(), applied.warnings), (2, Vec::new()));
    let legacy: Legacy<'_, Deployment> = Legacy {
        world: &world,
        template: "/spec/template",
        api: Api::namespaced(world.client.clone(), &world.namespace),
    };
    // It was waited for the whole of it.
    assert_eq!(legacy.object().await["spec"]["replicas"], 0);

    let images = vec![v1::set_rollout_image_request::ContainerImage {
        container: "web".to_owned(),
        image: image("v2"),
    }];
    let set = v1::SetRolloutImageRequest { name: drive.name(), images: images.clone(), ..Default::default() };
    let looked = v1::PlanRolloutRequest {
        name: drive.name(),
        update: Some(v1::plan_rollout_request::Update::SetImage(set.clone())),
        ..Default::default()
    };
    let foreseen = rpc.plan_rollout(looked).await.expect("it is foreseen").into_inner();
    assert_eq!(foreseen.timeline.last().expect("a state").step_index, Some(1), "{foreseen:#?}");
    assert_eq!(legacy.image().await, image("v1"), "a look ahead writes nothing");

    let request_id = "7a1ffb64-8c3e-4f6c-9d0f-3c5f1d6f6a11".to_owned();
    let waiting = v1::SetRolloutImageRequest {
        request_id,
        wait: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        ..set
    };
    let answer = rpc.set_rollout_image(waiting.clone()).await.expect("it is set").into_inner();
    let status = answer.rollout.unwrap().status.unwrap();
    assert_eq!((status.state(), status.current_step_index), (v1::rollout_status::State::Paused, Some(1)));
    assert_eq!(legacy.image().await, image("v2"));
    let generation = legacy.object().await["metadata"]["generation"].clone();
    rpc.set_rollout_image(waiting).await.expect("it was");
    assert_eq!(legacy.object().await["metadata"]["generation"], generation, "a request is carried out once");

    let tree = v1::GetRolloutTreeRequest { name: drive.name() };
    let tree = rpc.get_rollout_tree(tree).await.expect("it is shown").into_inner().tree.unwrap();
    let workload = tree.workload.expect("it is named");
    assert_eq!(
        (workload.kind.as_str(), workload.name.as_str(), workload.exists),
        ("Deployment", "legacy", true)
    );
    assert_eq!((workload.generation, workload.replicas), (generation.as_i64().unwrap(), 0));
    assert_eq!(workload.observed_generation, workload.generation);

    drive.promote_full().await;
    healthy_at(&drive, "v2").await;
    drive.undo(1).await;
    assert_eq!(legacy.image().await, image("v1"), "the template that was copied is the Deployment's");
    paused_at(&drive, 1).await;
    assert!(drive.replicas("v1").await > 0);
    world.finish().await;
}

#[test]
fn a_deployment_that_must_not_be_written_is_named_with_the_rule() {
    in_virtual_time(async || {
        let world = World::embedded().await;
        let drive = Drive { world: &world, driver: Driver::Patches };
        let legacy = legacy_deployment(&world, 2, "v1").await;
        let namespace = &world.namespace;
        let says = format!(
            "deployments.apps \"legacy\" is forbidden: User \"x\" cannot patch resource \"deployments\" in API group \"apps\" in the namespace \"{namespace}\""
        );
        let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/legacy");
        world.gate().expect("a gate").forbid_all(vec![Method::PATCH, Method::PUT], path, says);
        drive.create(referring(2, deployment("onsuccess"), json!({}))).await;
        healthy(&drive).await;
        let why = explained(&world, Reason::PermissionMissing).await;
        let rule = r#"{apiGroups: ["apps"], resources: ["deployments"], verbs: ["patch"]}"#;
        assert!(why.blockers[0].next.ends_with(rule), "{:#?}", why.blockers);
        assert_eq!(legacy.object().await["spec"]["replicas"], 2);
        world.gate().expect("a gate").open();
        legacy.until_replicas(0).await;
        world.finish().await;
    });
}

#[test]
fn a_kind_that_no_rollout_refers_to_is_not_watched() {
    in_virtual_time(async || {
        let world = World::embedded().await;
        let drive = Drive { world: &world, driver: Driver::Patches };
        let asked = |what: &str| {
            let audit = world.cluster().api.audit().to_string();
            audit.lines().any(|line| line.contains("(watch)") && line.contains(what))
        };
        drive.create(manifest(1, json!({}))).await;
        healthy(&drive).await;
        assert!(asked("replicasets.apps") && !asked("deployments.apps") && !asked("podtemplates"));
        legacy_deployment(&world, 1, "v1").await;
        let mut second = referring(1, deployment("never"), json!({}));
        second["metadata"]["name"] = json!("second");
        let second: Rollout = serde_json::from_value(second).unwrap();
        world.rollouts().create(&PostParams::default(), &second).await.unwrap();
        let at_rest = |rollout: Option<&Rollout>| rollout.is_some_and(is(RolloutPhase::Healthy));
        let waited = kube::runtime::wait::await_condition(world.rollouts(), "second", at_rest);
        tokio::time::timeout(Duration::from_secs(60), waited).await.expect("in time").expect("a watch");
        assert!(asked("deployments.apps") && !asked("podtemplates"));
        world.finish().await;
    });
}
