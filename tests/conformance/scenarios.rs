//! What happens to rollouts. Each scenario runs on both clusters, by both drivers, with 1, 3 and 10 replicas.

use k8s_openapi::api::apps::v1::ReplicaSet;
use kube::ResourceExt as _;
use rolloutd::crd::{ConditionType, Rollout, RolloutPhase, keys};
use serde_json::{Value, json};

use crate::drive::{Drive, Driver};
use crate::kubernetes;
use crate::world::{World, image, manifest};

/// `ROLLOUTD_REPLICAS=1,2,3` asks for others.
const REPLICAS: &str = "1,3,10";

#[expect(clippy::disallowed_methods, reason = "a test reads what its caller asks for")]
fn sizes() -> Vec<i32> {
    let sizes = std::env::var("ROLLOUTD_REPLICAS").unwrap_or_else(|_| REPLICAS.to_owned());
    sizes.split(',').map(|size| size.parse().expect("ROLLOUTD_REPLICAS holds numbers")).collect()
}

/// Each driver with each size.
fn runs() -> impl Iterator<Item = (Driver, i32)> {
    Driver::ALL.into_iter().flat_map(|driver| sizes().into_iter().map(move |replicas| (driver, replicas)))
}

/// Runs a test whose clock stands still while anything has work to do.
pub fn in_virtual_time(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(test());
}

/// Runs a scenario on the embedded cluster.
pub fn embedded(scenario: impl AsyncFn(&Drive<'_>, i32)) {
    for (driver, replicas) in runs() {
        in_virtual_time(async || {
            let world = World::embedded().await.foretelling().await;
            scenario(&Drive { world: &world, driver }, replicas).await;
            world.finish().await;
        });
    }
}

/// Runs a scenario on the real cluster, where there is one. Its runs wait most of the time, so that they wait together, each in a namespace
/// of its own.
pub fn real(scenario: impl AsyncFn(&Drive<'_>, i32)) {
    let scenario = &scenario;
    let run = async |(driver, replicas)| {
        let Some(world) = World::real().await else {
            return println!("skipped: KUBEBUILDER_ASSETS is not set");
        };
        scenario(&Drive { world: &world, driver }, replicas).await;
        world.finish().await;
    };
    kubernetes::runtime().block_on(futures::future::join_all(runs().map(run)));
}

/// With which a scenario runs once: RPCs, which need rights too, and a few pods.
const ONCE: (Driver, i32) = (Driver::Rpcs, 3);

/// Runs a scenario where the control plane may do what Argo Rollouts' own ClusterRole grants.
async fn under_its_role(scenario: impl AsyncFn(&Drive<'_>, i32), world: World) {
    let (world, (driver, replicas)) = (world.led(), ONCE);
    scenario(&Drive { world: &world, driver }, replicas).await;
    world.finish().await;
}

/// Runs a scenario so on the embedded cluster.
pub fn embedded_under_its_role(scenario: impl AsyncFn(&Drive<'_>, i32)) {
    in_virtual_time(async || under_its_role(&scenario, World::embedded_under_its_role().await).await);
}

/// Runs a scenario so on the real cluster, where there is one.
pub fn real_under_its_role(scenario: impl AsyncFn(&Drive<'_>, i32)) {
    kubernetes::runtime().block_on(async {
        match World::real_under_its_role().await {
            Some(world) => under_its_role(scenario, world).await,
            None => println!("skipped: KUBEBUILDER_ASSETS is not set"),
        }
    });
}

scenarios! {
    create
    rolling_update_without_steps
    weights_with_timed_pauses
    a_step_that_needs_a_part_of_its_pods
    pods_that_must_be_ready_for_a_while
    endless_pause_then_promote
    promote_full
    promote_to_a_step
    abort_then_retry
    abort_then_undo
    undo_in_the_middle
    rollback_within_the_window
    versions_on_different_nodes
    scale_in_the_middle
    pause_by_spec
    a_third_revision_supersedes_a_running_second
    a_third_revision_supersedes_a_second_that_never_becomes_available
    an_image_that_never_becomes_ready_runs_into_the_deadline
    an_update_that_does_not_get_on_in_time_aborts_itself
    services_select_the_stable_version_and_the_canary
    delete_cascades
}

pub fn is(phase: RolloutPhase) -> impl Fn(&Rollout) -> bool {
    move |rollout| {
        let status = rollout.status();
        let unpausing = status.controller_pause() && status.pause_conditions().is_empty();
        status.observed_generation() == rollout.metadata.generation
            && status.phase.as_ref() == Some(&phase)
            && !unpausing
    }
}

pub async fn healthy(drive: &Drive<'_>) -> Rollout {
    drive.world.until("Healthy", is(RolloutPhase::Healthy)).await
}

pub async fn paused_at(drive: &Drive<'_>, step: i32) -> Rollout {
    let paused = is(RolloutPhase::Paused);
    drive
        .world
        .until("paused at a step", |rollout| {
            paused(rollout) && rollout.status().current_step_index == Some(step)
        })
        .await
}

/// A rollout at v1, Healthy.
async fn deployed(drive: &Drive<'_>, replicas: i32, canary: Value) {
    drive.create(manifest(replicas, canary)).await;
    healthy(drive).await;
}

pub fn endless() -> Value {
    json!({ "steps": [{ "setWeight": 40 }, { "pause": {} }, { "setWeight": 70 }, { "pause": {} }] })
}

pub fn current_image(rollout: &Rollout) -> &str {
    rollout.spec.template.as_ref().unwrap()["spec"]["containers"][0]["image"].as_str().unwrap()
}

async fn create(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, endless()).await;
    let rollout = healthy(drive).await;
    let status = rollout.status();
    assert_eq!(status.available_replicas, Some(replicas));
    assert_eq!(status.current_step_index, Some(4));
    assert_eq!(status.stable_rs(), status.current_pod_hash());
    assert_eq!(rollout.metadata.annotations.unwrap()["rollout.argoproj.io/revision"], "1");
}

async fn rolling_update_without_steps(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, json!({})).await;
    drive.set_image("v2").await;
    let rollout = healthy(drive).await;
    assert_eq!(current_image(&rollout), image("v2"));
    assert_eq!(rollout.status().updated_replicas, Some(replicas));
}

async fn weights_with_timed_pauses(drive: &Drive<'_>, replicas: i32) {
    let pause = json!({ "pause": { "duration": "1s" } });
    let steps: Vec<Value> = [20, 40, 60, 80]
        .into_iter()
        .flat_map(|weight| [json!({ "setWeight": weight }), pause.clone()])
        .collect();
    deployed(drive, replicas, json!({ "steps": steps })).await;
    drive.set_image("v2").await;
    let rollout = healthy(drive).await;
    assert_eq!(rollout.status().current_step_index, Some(8));
}

async fn a_step_that_needs_a_part_of_its_pods(drive: &Drive<'_>, replicas: i32) {
    let steps = json!([{ "setWeight": 40 }, { "pause": { "duration": "1s" } }, { "setWeight": 70 }]);
    let threshold = json!({ "type": "Percent", "value": 50 });
    deployed(drive, replicas, json!({ "steps": steps, "replicaProgressThreshold": threshold })).await;
    drive.set_image("v2").await;
    let rollout = healthy(drive).await;
    let status = rollout.status();
    assert_eq!((status.updated_replicas, status.available_replicas), (Some(replicas), Some(replicas)));
    // None of that version's pods ever is enough.
    drive.set_image("never").await;
    let waits = drive.world.until("its pods exist", |rollout| {
        let status = rollout.status();
        status.current_pod_hash() != status.stable_rs() && status.updated_replicas.unwrap_or(0) > 0
    });
    assert_eq!(waits.await.status().current_step_index, Some(0));
    drive.undo(2).await;
    healthy(drive).await;
}

async fn pods_that_must_be_ready_for_a_while(drive: &Drive<'_>, replicas: i32) {
    let mut manifest = manifest(replicas, endless());
    manifest["spec"]["minReadySeconds"] = json!(2);
    drive.create(manifest).await;
    healthy(drive).await;
    drive.set_image("v2").await;
    let begun = drive.world.until("its pods are ready", |rollout| {
        let status = rollout.status();
        status.current_pod_hash() != status.stable_rs() && status.ready_replicas > status.available_replicas
    });
    assert_eq!(begun.await.status().current_step_index, Some(0));
    paused_at(drive, 1).await;
    drive.promote_full().await;
    healthy(drive).await;
    assert!(drive.sets().await.iter().all(|set| set.spec.min_ready_seconds == Some(2)));
}

async fn endless_pause_then_promote(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, endless()).await;
    drive.set_image("v2").await;
    paused_at(drive, 1).await;
    drive.promote().await;
    paused_at(drive, 3).await;
    drive.promote().await;
    healthy(drive).await;
}

async fn promote_full(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, endless()).await;
    drive.set_image("v2").await;
    paused_at(drive, 1).await;
    drive.promote_full().await;
    let rollout = healthy(drive).await;
    assert!(!rollout.status().promote_full());
}

async fn promote_to_a_step(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, endless()).await;
    drive.set_image("v2").await;
    paused_at(drive, 1).await;
    drive.promote_to(3).await;
    paused_at(drive, 3).await;
    drive.promote_to(4).await;
    healthy(drive).await;
}

async fn abort_then_retry(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, endless()).await;
    drive.set_image("v2").await;
    paused_at(drive, 1).await;
    drive.abort().await;
    let rollout = drive.world.until("aborted and back", is_back(replicas)).await;
    assert_eq!(
        rollout.status().message.as_deref(),
        Some("RolloutAborted: Rollout aborted update to revision 2")
    );
    drive.retry().await;
    paused_at(drive, 1).await;
    drive.promote_full().await;
    healthy(drive).await;
}

async fn abort_then_undo(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, endless()).await;
    drive.set_image("v2").await;
    paused_at(drive, 1).await;
    drive.abort().await;
    drive.world.until("aborted", is(RolloutPhase::Degraded)).await;
    drive.undo(1).await;
    let rollout = healthy(drive).await;
    assert_eq!(current_image(&rollout), image("v1"));
    assert!(!rollout.status().abort());
}

async fn undo_in_the_middle(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, endless()).await;
    drive.set_image("v2").await;
    paused_at(drive, 1).await;
    drive.undo(1).await;
    let rollout = healthy(drive).await;
    assert_eq!(current_image(&rollout), image("v1"));
    assert_eq!(rollout.metadata.annotations.unwrap()["rollout.argoproj.io/revision"], "3");
}

async fn rollback_within_the_window(drive: &Drive<'_>, replicas: i32) {
    let mut manifest = manifest(replicas, endless());
    manifest["spec"]["rollbackWindow"] = json!({ "revisions": 1 });
    drive.create(manifest).await;
    healthy(drive).await;
    for version in ["v2", "v3"] {
        drive.set_image(version).await;
        paused_at(drive, 1).await;
        drive.promote_full().await;
        healthy(drive).await;
    }
    // Another version was made since: it takes its steps.
    drive.undo(1).await;
    paused_at(drive, 1).await;
    drive.undo(2).await;
    let rollout = healthy(drive).await;
    assert_eq!(
        (current_image(&rollout), rollout.status().current_step_index),
        (image("v2").as_str(), Some(4))
    );
    let how = rollout.status().duration.as_ref().and_then(|duration| duration.completion_status.clone());
    assert_eq!(how.unwrap().as_str(), "FastRolledBack");
    drive.world.until_event("SkipSteps: Rollback within window").await;
}

async fn versions_on_different_nodes(drive: &Drive<'_>, replicas: i32) {
    let rules = json!({ "preferredDuringSchedulingIgnoredDuringExecution": { "weight": 9 } });
    deployed(
        drive,
        replicas,
        json!({ "steps": [{ "setWeight": 40 }, { "pause": {} }], "antiAffinity": rules }),
    )
    .await;
    let stable = healthy(drive).await.status().stable_rs().to_owned();
    drive.set_image("v2").await;
    let rollout = paused_at(drive, 1).await;
    let terms = |set: &ReplicaSet| {
        let spec = set.spec.template.as_ref()?.spec.as_ref()?;
        spec.affinity
            .as_ref()?
            .pod_anti_affinity
            .as_ref()?
            .preferred_during_scheduling_ignored_during_execution
            .clone()
    };
    for set in drive.sets().await {
        let is_stable = set.labels().get(keys::POD_TEMPLATE_HASH) == Some(&stable);
        let found = terms(&set).unwrap_or_default();
        assert_eq!(found.len(), usize::from(!is_stable), "{set:#?}");
        for term in found {
            let selector = term.pod_affinity_term.label_selector.unwrap().match_expressions.unwrap();
            assert_eq!((term.weight, selector[0].values.clone().unwrap()), (9, vec![stable.clone()]));
        }
    }
    let template = rollout.spec.template.unwrap();
    assert_eq!(template["spec"].get("affinity"), None, "the rollout's own template stays as it is");
    drive.undo(1).await;
    healthy(drive).await;
    drive.undo(2).await;
    paused_at(drive, 1).await;
    assert_eq!(drive.sets().await.len(), 2, "each version is found again");
}

async fn scale_in_the_middle(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, endless()).await;
    drive.set_image("v2").await;
    paused_at(drive, 1).await;
    for other in [replicas * 2, replicas] {
        drive.scale(other).await;
        drive
            .world
            .until("resized", |rollout| {
                let status = rollout.status();
                is(RolloutPhase::Paused)(rollout)
                    && status.available_replicas.unwrap_or(0) >= other
                    && status.available_replicas.unwrap_or(0) <= other + 1
                    && status.replicas == status.available_replicas
            })
            .await;
    }
    drive.promote_full().await;
    healthy(drive).await;
}

async fn pause_by_spec(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, endless()).await;
    drive.pause().await;
    drive.set_image("v2").await;
    let rollout = drive.world.until("paused", is(RolloutPhase::Paused)).await;
    assert_eq!(rollout.status().message.as_deref(), Some("manually paused"));
    drive.resume().await;
    paused_at(drive, 1).await;
    drive.pause().await;
    drive
        .world
        .until("paused by hand", |rollout| {
            is(RolloutPhase::Paused)(rollout)
                && rollout.status().message.as_deref() == Some("manually paused")
        })
        .await;
    drive.resume().await;
    paused_at(drive, 1).await;
    drive.promote_full().await;
    healthy(drive).await;
}

async fn a_third_revision_supersedes_a_running_second(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, endless()).await;
    drive.set_image("v2").await;
    paused_at(drive, 1).await;
    drive.set_image("v3").await;
    drive
        .world
        .until("v3 paused at its first step", |rollout| {
            is(RolloutPhase::Paused)(rollout)
                && rollout.status().current_step_index == Some(1)
                && rollout.metadata.annotations.as_ref().unwrap()["rollout.argoproj.io/revision"] == "3"
        })
        .await;
    drive.promote_full().await;
    let rollout = healthy(drive).await;
    assert_eq!(current_image(&rollout), image("v3"));
}

async fn a_third_revision_supersedes_a_second_that_never_becomes_available(drive: &Drive<'_>, replicas: i32) {
    deployed(drive, replicas, endless()).await;
    drive.set_image("never").await;
    drive
        .world
        .until("the second revision has pods", |rollout| {
            let status = rollout.status();
            status.current_pod_hash() != status.stable_rs() && status.updated_replicas.unwrap_or(0) > 0
        })
        .await;
    drive.set_image("v3").await;
    paused_at(drive, 1).await;
    drive.promote_full().await;
    let rollout = healthy(drive).await;
    assert_eq!(current_image(&rollout), image("v3"));
}

async fn an_image_that_never_becomes_ready_runs_into_the_deadline(drive: &Drive<'_>, replicas: i32) {
    let mut manifest = manifest(replicas, endless());
    manifest["spec"]["progressDeadlineSeconds"] = json!(3);
    drive.create(manifest).await;
    healthy(drive).await;
    drive.set_image("never").await;
    let rollout = drive.world.until("Degraded", is(RolloutPhase::Degraded)).await;
    let progressing = rollout.status().condition(&ConditionType::Progressing).unwrap();
    assert_eq!(progressing.reason, "ProgressDeadlineExceeded");
    drive.set_image("v3").await;
    paused_at(drive, 1).await;
}

async fn an_update_that_does_not_get_on_in_time_aborts_itself(drive: &Drive<'_>, replicas: i32) {
    let mut manifest = manifest(replicas, endless());
    manifest["spec"]["progressDeadlineSeconds"] = json!(3);
    manifest["spec"]["progressDeadlineAbort"] = json!(true);
    drive.create(manifest).await;
    healthy(drive).await;
    drive.set_image("never").await;
    let rollout = drive.world.until("aborted and back", is_back(replicas)).await;
    let message = rollout.status().message.as_deref().unwrap();
    assert!(message.starts_with("RolloutAborted: Rollout aborted update to revision 2: "), "{message}");
    assert!(message.ends_with(" has timed out progressing."), "{message}");
    assert!(rollout.status().aborted_at.is_some());
    let blockers = drive.blockers().await;
    assert!(blockers[0].ends_with(" has timed out progressing."), "{blockers:?}");
    drive.retry().await;
    drive.world.until("aborted and back again", is_back(replicas)).await;
    drive.set_image("v3").await;
    paused_at(drive, 1).await;
}

/// Whether an update was aborted and all pods are those of the stable version.
fn is_back(replicas: i32) -> impl Fn(&Rollout) -> bool {
    move |rollout| {
        let status = rollout.status();
        is(RolloutPhase::Degraded)(rollout)
            && status.abort()
            && status.available_replicas == Some(replicas)
            && status.updated_replicas.unwrap_or(0) == 0
            && status.replicas == Some(replicas)
    }
}

async fn services_select_the_stable_version_and_the_canary(drive: &Drive<'_>, replicas: i32) {
    drive.create_services(&["stable", "canary"]).await;
    let mut canary = endless();
    json_patch::merge(&mut canary, &json!({ "stableService": "stable", "canaryService": "canary" }));
    deployed(drive, replicas, canary.clone()).await;
    serving(drive, "v1", "v1").await;
    drive.set_image("v2").await;
    paused_at(drive, 1).await;
    serving(drive, "v1", "v2").await;
    drive.abort().await;
    drive.world.until("aborted and back", is_back(replicas)).await;
    serving(drive, "v1", "v1").await;
    drive.retry().await;
    paused_at(drive, 1).await;
    drive.promote_full().await;
    healthy(drive).await;
    serving(drive, "v2", "v2").await;
    canary["canaryService"] = Value::Null;
    drive.canary(canary).await;
    selecting(drive, "canary", "").await;
    drive.delete().await;
    selecting(drive, "stable", "").await;
}

/// Waits until the Services serve versions.
async fn serving(drive: &Drive<'_>, stable: &str, canary: &str) {
    for (service, version) in [("stable", stable), ("canary", canary)] {
        let hash = drive.hash_of(version).await;
        selecting(drive, service, &hash).await;
    }
}

/// Waits until a Service selects a hash.
async fn selecting(drive: &Drive<'_>, service: &str, hash: &str) {
    let selects = async {
        while drive.selected(service).await != hash {
            drive.world.pass(std::time::Duration::from_millis(50)).await;
        }
    };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(60), selects).await;
    assert!(in_time.is_ok(), "{service} never selects {hash:?}");
}

async fn delete_cascades(drive: &Drive<'_>, replicas: i32) {
    use k8s_openapi::api::core::v1::Pod;
    use kube::Api;
    use kube::api::{DeleteParams, ListParams};
    for params in [DeleteParams::background(), DeleteParams::foreground()] {
        deployed(drive, replicas, endless()).await;
        drive.interrupt().await;
        drive.world.rollouts().delete("web", &params).await.unwrap();
        let sets: Api<ReplicaSet> = Api::namespaced(drive.world.client.clone(), &drive.world.namespace);
        let pods: Api<Pod> = Api::namespaced(drive.world.client.clone(), &drive.world.namespace);
        let gone = async {
            loop {
                let all = ListParams::default();
                let left =
                    sets.list(&all).await.unwrap().items.len() + pods.list(&all).await.unwrap().items.len();
                if left == 0 && drive.world.rollouts().get_opt("web").await.unwrap().is_none() {
                    return;
                }
                rolloutd::clock::real_sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.expect("everything is gone");
    }
}
