//! Restarts: pods are evicted few at a time, PodDisruptionBudgets are honoured, and in the end none is older than was asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use rolloutd::crd::{Rollout, RolloutPhase};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::drive::Drive;
use crate::scenarios::{endless, healthy, is, paused_at};
use crate::versions;
use crate::world::{World, manifest, manifest_of};

scenarios! {
    a_canary_restarts_within_max_unavailable
    a_blue_green_rollout_restarts_within_its_own
    a_restart_in_the_middle_of_an_update
    a_disruption_budget_slows_a_restart_down
    a_disruption_budget_that_permits_nothing_is_waited_for
    an_update_restarts_pods_by_itself
}

/// By version: a pod's name and how it is then, unless it is gone.
type History = BTreeMap<u64, (String, Option<Pod>)>;

/// Everything that pods went through.
struct Pods {
    seen: Arc<Mutex<History>>,
    /// The watch, which ends with it.
    _watch: JoinSet<()>,
}

impl Pods {
    async fn follow(world: &World) -> Self {
        let api: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
        let list = api.list(&ListParams::default()).await.expect("pods are listed");
        let version = list.metadata.resource_version.unwrap_or_default();
        let seen: History =
            list.items.into_iter().map(|pod| (versions::number(&pod), (pod.name_any(), Some(pod)))).collect();
        let seen = Arc::new(Mutex::new(seen));
        let recorded = Arc::clone(&seen);
        let mut watch = JoinSet::new();
        watch.spawn(versions::follow(api, version, move |number, name, pod| {
            recorded.lock().unwrap().insert(number, (name, pod));
        }));
        Self { seen, _watch: watch }
    }

    /// The fewest pods that were ready and not on their way out at any moment.
    fn least_available(&self) -> usize {
        let mut pods: BTreeMap<String, Pod> = BTreeMap::new();
        let seen = self.seen.lock().unwrap();
        let mut counts = Vec::new();
        for (name, pod) in seen.values() {
            match pod {
                Some(pod) => pods.insert(name.clone(), pod.clone()),
                None => pods.remove(name),
            };
            counts.push(pods.values().filter(|pod| is_available(pod)).count());
        }
        // The first versions are those of the list, which come one by one.
        let complete = counts.iter().position(|count| *count == *counts.iter().max().unwrap_or(&0));
        counts.into_iter().skip(complete.unwrap_or(0)).min().expect("something happened")
    }
}

fn is_available(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let is_ready = conditions.is_some_and(|all| {
        all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    });
    is_ready && pod.metadata.deletion_timestamp.is_none()
}

async fn uids(world: &World) -> Vec<String> {
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let pods = api.list(&ListParams::default()).await.expect("pods are listed").items;
    pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).filter_map(ResourceExt::uid).collect()
}

/// Asks for a restart of all pods that are there.
async fn restart(drive: &Drive<'_>) {
    // Kubernetes counts seconds: a pod of this very second is not older than it.
    drive.world.pass(Duration::from_millis(1100)).await;
    drive.restart(drive.world.now()).await;
}

/// The same where a PodDisruptionBudget slows it down, which nothing foresees.
async fn restart_slowly(drive: &Drive<'_>) {
    restart(drive).await;
    if let Some(foretold) = &drive.world.foretold {
        foretold.slowed_down();
    }
}

async fn restarted(drive: &Drive<'_>) -> Rollout {
    let is_done = |rollout: &Rollout| rollout.spec.restart_at == rollout.status().restarted_at;
    drive.world.until("restarted", |rollout| is(RolloutPhase::Healthy)(rollout) && is_done(rollout)).await
}

/// Restarts a rollout at rest; at least so many pods must stay available.
async fn restart_keeping(drive: &Drive<'_>, least: i32) {
    restart_by(drive, least, restart).await;
}

async fn restart_by(drive: &Drive<'_>, least: i32, restart: impl AsyncFn(&Drive<'_>)) {
    let before = uids(drive.world).await;
    let pods = Pods::follow(drive.world).await;
    restart(drive).await;
    restarted(drive).await;
    let after = uids(drive.world).await;
    assert!(before.iter().all(|pod| !after.contains(pod)), "{before:?} {after:?}");
    let kept = i32::try_from(pods.least_available()).unwrap();
    assert!(kept >= least, "only {kept} of {least} pods stayed available");
}

async fn a_canary_restarts_within_max_unavailable(drive: &Drive<'_>, replicas: i32) {
    drive.create(manifest(replicas, json!({ "maxUnavailable": "30%" }))).await;
    healthy(drive).await;
    let unavailable = (replicas * 30 / 100).max(1);
    restart_keeping(drive, replicas - unavailable).await;
}

async fn a_blue_green_rollout_restarts_within_its_own(drive: &Drive<'_>, replicas: i32) {
    drive.create_services(&["active"]).await;
    let strategy = json!({ "blueGreen": { "activeService": "active", "maxUnavailable": 2 } });
    drive.create(manifest_of(replicas, strategy)).await;
    healthy(drive).await;
    restart_keeping(drive, replicas - 2.min(replicas)).await;
}

async fn a_restart_in_the_middle_of_an_update(drive: &Drive<'_>, replicas: i32) {
    drive.create(manifest(replicas, endless())).await;
    healthy(drive).await;
    drive.set_image("v2").await;
    paused_at(drive, 1).await;
    let before = uids(drive.world).await;
    restart(drive).await;
    let is_done = |rollout: &Rollout| rollout.spec.restart_at == rollout.status().restarted_at;
    let paused = is(RolloutPhase::Paused);
    drive.world.until("restarted", |rollout| paused(rollout) && is_done(rollout)).await;
    let after = uids(drive.world).await;
    assert!(before.iter().all(|pod| !after.contains(pod)), "{before:?} {after:?}");
    paused_at(drive, 1).await;
    drive.promote_full().await;
    healthy(drive).await;
}

fn budget(spec: Value) -> PodDisruptionBudget {
    let mut budget =
        json!({ "metadata": { "name": "web" }, "spec": { "selector": { "matchLabels": { "app": "web" } } } });
    json_patch::merge(&mut budget["spec"], &spec);
    serde_json::from_value(budget).unwrap()
}

fn budgets(drive: &Drive<'_>) -> Api<PodDisruptionBudget> {
    Api::namespaced(drive.world.client.clone(), &drive.world.namespace)
}

/// Creates a budget, and waits until somebody has counted for it.
async fn budgeted(drive: &Drive<'_>, spec: Value, replicas: i32) {
    budgets(drive).create(&PostParams::default(), &budget(spec)).await.expect("it is created");
    let counted = async {
        loop {
            let budget = budgets(drive).get("web").await.expect("it exists");
            if budget.status.is_some_and(|status| status.current_healthy == Some(replicas)) {
                return;
            }
            drive.world.pass(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), counted).await.expect("somebody counts for budgets");
}

async fn a_disruption_budget_slows_a_restart_down(drive: &Drive<'_>, replicas: i32) {
    drive.create(manifest(replicas, json!({ "maxUnavailable": "100%" }))).await;
    healthy(drive).await;
    budgeted(drive, json!({ "maxUnavailable": 1 }), replicas).await;
    restart_by(drive, replicas - 1, restart_slowly).await;
}

async fn a_disruption_budget_that_permits_nothing_is_waited_for(drive: &Drive<'_>, replicas: i32) {
    drive.create(manifest(replicas, json!({}))).await;
    healthy(drive).await;
    budgeted(drive, json!({ "minAvailable": "100%" }), replicas).await;
    let before = uids(drive.world).await;
    restart_slowly(drive).await;
    let is_restarting = |rollout: &Rollout| {
        is(RolloutPhase::Progressing)(rollout)
            && rollout.status().message.as_deref() == Some("rollout is restarting")
    };
    drive.world.until("restarting", is_restarting).await;
    drive.world.pass(Duration::from_secs(3)).await;
    assert_eq!(uids(drive.world).await, before);
    let waits = drive.blockers().await;
    assert!(waits.iter().any(|message| message.contains("disruption budget")), "{waits:?}");
    budgets(drive).delete("web", &DeleteParams::default()).await.expect("it is deleted");
    restarted(drive).await;
    assert!(uids(drive.world).await.iter().all(|pod| !before.contains(pod)));
}

async fn an_update_restarts_pods_by_itself(drive: &Drive<'_>, replicas: i32) {
    drive.create(manifest(replicas, json!({}))).await;
    healthy(drive).await;
    drive.pause().await;
    drive.world.until("paused", is(RolloutPhase::Paused)).await;
    restart(drive).await;
    drive.set_image("v2").await;
    drive.resume().await;
    let rollout = restarted(drive).await;
    assert_eq!(rollout.status().updated_replicas, Some(replicas));
}
