//! The end of a program: no faults any more. What can become Healthy does in time; whatever waits for somebody says so, and
//! goes on once that is done; and then nothing more is written.

use std::time::Duration;

use anyhow::{bail, ensure};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use rolloutd::crd::{CanaryStep, ConditionType, Rollout, RolloutPhase, StepAction, Strategy, keys};
use rolloutd::pb::v1;
use rolloutd::pb::v1::blocker::Reason;
use serde_json::json;

use crate::act::Actor;
use crate::cluster::{Cluster, NAMESPACE};
use crate::features::{self, template};
use crate::labels;
use crate::program::{Act, Fortune, Program};

/// How long anything may take that need not wait for somebody: the longest pauses of a program together, the eviction from a lost
/// node, the pause after refusals, and pods that come and go one after the other.
const BOUND: Duration = Duration::from_secs(600);

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often somebody may be waited for: promotions of each pause, and what else programs leave behind.
const MOST_WAITS: usize = 20;

/// How long nothing may be written at the end.
const QUIET: Duration = Duration::from_secs(120);

/// What a rollout came to.
enum Standing {
    Healthy,
    /// It waits for somebody, for this reason.
    Waits(Reason),
}

/// Calms the weather and sees the rollout to its end.
pub async fn end(actor: &mut Actor<'_>, program: &Program) -> anyhow::Result<()> {
    actor.cluster.calm();
    actor.heal_pods().await?;
    let (mut waits, mut is_seen) = (Vec::new(), false);
    loop {
        match stand(actor.cluster).await? {
            Standing::Healthy => {
                come_to_rest(actor.cluster).await?;
                if is_healthy(&actor.cluster.rollout().await) {
                    break;
                }
                // What was done last may be noticed only now: the status was still that of before (seed 492).
                ensure!(!is_seen, "Healthy does not last: {:#?}", actor.cluster.rollout().await.status);
                is_seen = true;
            }
            Standing::Waits(reason) => {
                waits.push(reason);
                ensure!(waits.len() <= MOST_WAITS, "it never ends: {waits:?}");
                actor.cluster.note(&format!("end: {reason:?}"));
                if waits.len() == 1 && needs_no_pods(reason) {
                    // Whoever waits for people does not write meanwhile.
                    come_to_rest(actor.cluster).await?;
                }
                attend_to(actor, reason, program).await?;
                actor.cluster.pass(LOOK_EVERY).await?;
            }
        }
    }
    is_whole(actor.cluster).await?;
    // Pods whose ReplicaSet was deleted without them are nobody's for a while, and old when they are taken back.
    let leaves_pods = |act: &Act| act.revises() || act.disturbs_sizes(true);
    if !program.acts.iter().any(|(_, act)| leaves_pods(act))
        && !waits.iter().any(|reason| !needs_no_pods(*reason))
    {
        is_restarted(actor.cluster).await?;
    }
    Ok(())
}

/// Whether people are waited for, rather than pods that fail: those come and go, and are counted.
fn needs_no_pods(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::PausedBySpec
            | Reason::PauseStep
            | Reason::BlueGreenPause
            | Reason::Aborted
            | Reason::InvalidSpec
            | Reason::ServiceMissing
    )
}

/// Sees a rollout to its end that must need nobody.
pub async fn unattended(cluster: &mut Cluster) -> anyhow::Result<()> {
    match stand(cluster).await? {
        Standing::Healthy => {
            come_to_rest(cluster).await?;
            is_whole(cluster).await
        }
        Standing::Waits(reason) => bail!("it waits for somebody: {reason:?}"),
    }
}

/// Waits until the rollout is Healthy or waits for somebody.
async fn stand(cluster: &mut Cluster) -> anyhow::Result<Standing> {
    let mut left = BOUND;
    loop {
        let rollout = cluster.rollout().await;
        if is_healthy(&rollout) {
            return Ok(Standing::Healthy);
        }
        let explained = explain(cluster).await?;
        for blocker in &explained {
            if waits_for_somebody(cluster, &rollout, blocker).await {
                return Ok(Standing::Waits(blocker.reason()));
            }
        }
        left = left.saturating_sub(LOOK_EVERY);
        ensure!(!left.is_zero(), "stuck: {:#?}\nblockers: {explained:#?}", rollout.status);
        cluster.pass(LOOK_EVERY).await?;
    }
}

fn is_healthy(rollout: &Rollout) -> bool {
    let status = rollout.status();
    status.observed_generation() == rollout.metadata.generation
        && status.phase == Some(RolloutPhase::Healthy)
        && status.stable_rs() == status.current_pod_hash()
        && !status.abort()
}

pub async fn explain(cluster: &Cluster) -> anyhow::Result<Vec<v1::Blocker>> {
    let name = format!("namespaces/{NAMESPACE}/rollouts/web");
    let asked = cluster.rpc().explain_rollout(v1::ExplainRolloutRequest { name }).await;
    Ok(asked.map(|answer| answer.into_inner().blockers).unwrap_or_default())
}

/// Whether a blocker is one that only somebody can end: what the control plane says of it must be so by what is stored.
async fn waits_for_somebody(cluster: &Cluster, rollout: &Rollout, blocker: &v1::Blocker) -> bool {
    let (spec, status) = (&rollout.spec, rollout.status());
    match blocker.reason() {
        Reason::PausedBySpec => spec.paused(),
        // The watcher sees to it that only somebody aborts.
        Reason::Aborted => status.abort(),
        Reason::InvalidSpec => spec.min_ready_seconds() >= spec.progress_deadline_seconds(),
        Reason::ServiceMissing => lacks_service(cluster, rollout).await,
        Reason::PauseStep | Reason::BlueGreenPause => {
            blocker.next_time.is_none() && awaits_promotion(rollout, blocker.reason())
        }
        Reason::PodFailing | Reason::PodsNotAvailable | Reason::ProgressDeadlineExceeded => {
            let template = template(cluster, rollout).await.unwrap_or_default();
            let image = template.pointer("/spec/containers/0/image").and_then(|image| image.as_str());
            let condition = status.condition(&ConditionType::Progressing);
            image.is_some_and(|image| !image.contains(":good-"))
                && condition.is_some_and(|condition| condition.reason == "ProgressDeadlineExceeded")
        }
        _ => false,
    }
}

/// Whether a Service that the strategy names is missing.
async fn lacks_service(cluster: &Cluster, rollout: &Rollout) -> bool {
    let Ok(Strategy::BlueGreen(strategy)) = rollout.spec.strategy() else { return false };
    let services: Api<Service> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let there = services.list_metadata(&ListParams::default()).await.expect("no fault reaches this client");
    let mut names = [Some(&strategy.active_service), strategy.preview_service.as_ref()].into_iter().flatten();
    names.any(|name| there.items.iter().all(|service| service.name_any() != *name))
}

/// Whether the pause that lasts has no end by the spec.
fn awaits_promotion(rollout: &Rollout, reason: Reason) -> bool {
    let status = rollout.status();
    match rollout.spec.strategy() {
        Ok(Strategy::Canary(canary)) if reason == Reason::PauseStep => {
            let index = status.current_step_index.and_then(|index| usize::try_from(index).ok());
            let step = index.and_then(|index| canary.steps().get(index)).map(CanaryStep::action);
            matches!(step, Some(Ok(StepAction::Pause(pause))) if pause.duration.is_none())
        }
        Ok(Strategy::BlueGreen(strategy)) if reason == Reason::BlueGreenPause => {
            strategy.auto_promotion_enabled == Some(false)
        }
        _ => false,
    }
}

/// Does what a blocker waits for.
async fn attend_to(actor: &mut Actor<'_>, reason: Reason, program: &Program) -> anyhow::Result<()> {
    match reason {
        Reason::PausedBySpec => actor.spec(json!({ "paused": false })).await,
        Reason::PauseStep | Reason::BlueGreenPause => actor.promote().await,
        Reason::Aborted => actor.status(json!({ "abort": false })).await,
        Reason::ServiceMissing => {
            actor.create_services().await;
            Ok(())
        }
        Reason::InvalidSpec => {
            actor.spec(json!({ "minReadySeconds": program.shape.min_ready_seconds })).await
        }
        Reason::PodFailing | Reason::PodsNotAvailable | Reason::ProgressDeadlineExceeded => {
            actor.set_image(&Fortune::Good.image(100)).await
        }
        _ => bail!("nobody waits for {reason:?}"),
    }
}

/// Waits until nothing is written any more.
async fn come_to_rest(cluster: &mut Cluster) -> anyhow::Result<()> {
    let mut left = BOUND;
    loop {
        let before = cluster.watcher().writes;
        cluster.pass(QUIET).await?;
        let writes = cluster.watcher().writes - before;
        if writes == 0 {
            return Ok(());
        }
        left = left.saturating_sub(QUIET);
        ensure!(!left.is_zero(), "it never rests: {writes} writes in the last {QUIET:?}");
    }
}

/// No pod is older than a restart that was asked for. An update takes a restart for done that it was asked for before (contract 4.7).
async fn is_restarted(cluster: &Cluster) -> anyhow::Result<()> {
    let rollout = cluster.rollout().await;
    let Some(restart_at) = rollout.spec.restart_at.as_ref().map(rolloutd::crd::Time::instant) else {
        return Ok(());
    };
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    for pod in pods.list(&ListParams::default().labels(keys::POD_TEMPLATE_HASH)).await?.items {
        let created = pod.creation_timestamp().map(|time| time.0);
        ensure!(created.is_some_and(|created| created >= restart_at), "{} was not restarted", pod.name_any());
    }
    Ok(())
}

/// Whether a pod is somebody's: those whose ReplicaSet somebody deleted without them are nobody's.
fn is_controlled(pod: &Pod) -> bool {
    pod.owner_references().iter().any(|owner| owner.controller == Some(true))
}

/// Whether a pod stays, and is somebody's (seed 1893).
pub fn is_live(pod: &Pod) -> bool {
    is_controlled(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Healthy, with one version that has all the pods, and every Service on it.
async fn is_whole(cluster: &Cluster) -> anyhow::Result<()> {
    let rollout = cluster.rollout().await;
    ensure!(is_healthy(&rollout), "no longer Healthy: {:#?}", rollout.status);
    let sets: Api<ReplicaSet> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let services: Api<Service> = Api::namespaced(cluster.client.clone(), NAMESPACE);
    let hash = rollout.status().stable_rs().to_owned();
    let all = ListParams::default();
    for set in sets.list(&all).await?.items {
        let is_stable = set.labels().get(keys::POD_TEMPLATE_HASH) == Some(&hash);
        let wanted = if is_stable { rollout.spec.replicas() } else { 0 };
        let (spec, status) = (set.spec.replicas.unwrap_or(1), set.status.clone().unwrap_or_default());
        ensure!(spec == wanted, "{} is to have {spec} pods, not {wanted}", set.name_any());
        let available = status.available_replicas.unwrap_or(0);
        ensure!(available == wanted, "{} has {available} available pods of {wanted}", set.name_any());
    }
    let mut versions = pods.list(&all.clone().labels(keys::POD_TEMPLATE_HASH)).await?.items;
    versions.retain(is_controlled);
    let right =
        versions.iter().filter(|pod| pod.labels().get(keys::POD_TEMPLATE_HASH) == Some(&hash)).count();
    ensure!(right == versions.len(), "pods of other versions are left: {right} of {}", versions.len());
    if let Some(strategy) = rollout.spec.strategy.as_ref().and_then(|strategy| strategy.blue_green.as_ref()) {
        for name in [Some(&strategy.active_service), strategy.preview_service.as_ref()].into_iter().flatten()
        {
            let selector = services.get(name).await?.spec.and_then(|spec| spec.selector).unwrap_or_default();
            let selected = selector.get(keys::POD_TEMPLATE_HASH);
            ensure!(selected == Some(&hash), "Service {name} selects {selected:?}, not {hash}");
        }
    }
    labels::are_right(cluster).await?;
    features::are_right(cluster).await
}
