//! Why a rollout stands still, case by case, as ExplainRollout says it: which object, which condition, since when, what happens next
//! and when. Each case ends as its blocker says that it would. What the cluster forbids is in [`crate::forbidden`].

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, Patch, PatchParams};
use rolloutd::crd::{ConditionType, Rollout, RolloutPhase, keys};
use rolloutd::pb::v1;
use rolloutd::pb::v1::blocker::Reason;
use rolloutd::pb::v1::rollout_status::State;
use serde_json::{Value, json};

use crate::drive::{Drive, Driver};
use crate::scenarios::{endless, healthy, is, paused_at};
use crate::world::{World, image, manifest, manifest_of};

on_both! {
    an_endless_pause
    an_image_that_cannot_be_pulled
    a_container_that_crashes_again_and_again
    an_image_that_never_becomes_ready
    a_deadline_that_has_passed
    a_missing_service
    a_service_of_others
    an_invalid_spec
    a_blue_green_update_that_awaits_its_promotion
    an_unsupported_field
    a_restart_that_a_pod_holds_up
}

/// Between two looks at an explanation that is to be a lasting one.
pub const LOOK: Duration = Duration::from_millis(500);

/// How long anything may take to be explained.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub fn drive(world: &World) -> Drive<'_> {
    Drive { world, driver: Driver::Patches }
}

pub async fn explanation(world: &World) -> v1::ExplainRolloutResponse {
    let request = v1::ExplainRolloutRequest { name: drive(world).name() };
    world.rpc().explain_rollout(request).await.expect("it is explained").into_inner()
}

/// Waits until this is the first reason and the explanation lasts.
pub async fn explained(world: &World, reason: Reason) -> v1::ExplainRolloutResponse {
    let mut last = None;
    let lasting = async {
        loop {
            let now = explanation(world).await;
            let is_meant = now.blockers.first().is_some_and(|blocker| blocker.reason() == reason);
            if is_meant && last.as_ref() == Some(&now) {
                return now;
            }
            last = Some(now);
            world.pass(LOOK).await;
        }
    };
    match tokio::time::timeout(DEADLINE, lasting).await {
        Ok(explanation) => explanation,
        Err(_) => panic!("never explained as {reason:?}: {:#?}", explanation(world).await),
    }
}

pub fn time(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    let time = time?;
    Some(Timestamp::new(time.seconds, time.nanos).expect("a time"))
}

/// Checks that something is waited for since a time after `began`; Kubernetes' own times have whole seconds.
pub fn since(world: &World, blocker: &v1::Blocker, began: Timestamp) {
    let since = time(blocker.since_time.as_ref()).unwrap_or_else(|| panic!("since when: {blocker:#?}"));
    assert!(since >= began - SignedDuration::from_secs(1), "{since} is before {began}: {blocker:#?}");
    assert!(since <= world.now(), "{since} is yet to come: {blocker:#?}");
}

/// Checks what a blocker is about: kind and name of its object, and the condition.
pub fn about(blocker: &v1::Blocker, kind: &str, name: &str, condition: &str) {
    let object = blocker.object.as_ref().expect("an object");
    let wanted = (kind, name, condition);
    assert_eq!(
        (object.kind.as_str(), object.name.as_str(), blocker.condition.as_str()),
        wanted,
        "{blocker:#?}"
    );
}

/// Checks what happens next.
pub fn next(blocker: &v1::Blocker, next: &str, at: Option<Timestamp>) {
    assert_eq!((blocker.next.as_str(), time(blocker.next_time.as_ref())), (next, at), "{blocker:#?}");
}

async fn rollout(world: &World) -> Rollout {
    world.rollouts().get("web").await.expect("it exists")
}

/// When the progress deadline passes, by what the status says.
async fn deadline(world: &World) -> Timestamp {
    let rollout = rollout(world).await;
    let progressing = rollout.status().condition(&ConditionType::Progressing).expect("it is there");
    let seconds = rollout.spec.progress_deadline_seconds().into();
    progressing.last_update_time.instant() + SignedDuration::from_secs(seconds)
}

/// The name of the newest version's ReplicaSet.
pub async fn new_set(world: &World) -> String {
    format!("web-{}", rollout(world).await.status().current_pod_hash())
}

/// A rollout whose first version is Healthy; gives the time then.
pub async fn deployed(world: &World, manifest: Value) -> Timestamp {
    drive(world).create(manifest).await;
    healthy(&drive(world)).await;
    world.now()
}

/// It ends as its blocker says it does: at the pause of the version after.
async fn goes_on_with_v3(world: World) {
    drive(&world).set_image("v3").await;
    paused_at(&drive(&world), 1).await;
    world.finish().await;
}

async fn an_endless_pause(world: World) {
    let began = deployed(&world, manifest(3, endless())).await;
    drive(&world).set_image("v2").await;
    paused_at(&drive(&world), 1).await;
    let why = explained(&world, Reason::PauseStep).await;
    assert_eq!(why.state(), State::Paused);
    let blocker = &why.blockers[0];
    about(blocker, "Rollout", "web", "status.currentStepIndex 1/2");
    since(&world, blocker, began);
    next(blocker, "promote it, then step 2 runs (setWeight: 70)", None);
    assert_eq!(why.blockers.len(), 1, "{why:#?}");
    drive(&world).promote().await;
    paused_at(&drive(&world), 3).await;
    let why = explained(&world, Reason::PauseStep).await;
    next(&why.blockers[0], "promote it, then the new version takes over", None);
    drive(&world).promote().await;
    healthy(&drive(&world)).await;
    assert_eq!(explanation(&world).await.blockers, []);
    world.finish().await;
}

async fn an_image_that_cannot_be_pulled(world: World) {
    let began = deployed(&world, manifest(3, endless())).await;
    drive(&world).set_image("absent").await;
    let why = explained(&world, Reason::PodFailing).await;
    assert_eq!(why.state(), State::Progressing);
    let blocker = &why.blockers[0];
    let pod = blocker.object.as_ref().expect("an object");
    let set = new_set(&world).await;
    assert!(pod.kind == "Pod" && pod.name.starts_with(&format!("{set}-")), "{blocker:#?}");
    let conditions = ["ErrImagePull", "ImagePullBackOff"]
        .map(|reason| format!("status.containerStatuses[web].state {reason}/Running"));
    assert!(conditions.contains(&blocker.condition), "{blocker:#?}");
    assert!(blocker.message.starts_with(&format!("pod {:?}: container \"web\": ", pod.name)), "{blocker:#?}");
    assert!(blocker.message.contains(&image("absent")), "the image is named: {blocker:#?}");
    since(&world, blocker, began);
    let deadline = deadline(&world).await;
    let tries = "the progress deadline passes, unless it runs before; abort, or change the pod template";
    next(blocker, tries, Some(deadline));
    let short = &why.blockers[1];
    assert_eq!(short.reason(), Reason::PodsNotAvailable, "{why:#?}");
    next(short, "the progress deadline passes, unless they are available before", Some(deadline));
    goes_on_with_v3(world).await;
}

async fn a_container_that_crashes_again_and_again(world: World) {
    let began = deployed(&world, manifest(3, endless())).await;
    drive(&world).set_image("crashing").await;
    let why = explained(&world, Reason::PodFailing).await;
    let blocker = &why.blockers[0];
    assert!(blocker.condition.starts_with("status.containerStatuses[web].state "), "{blocker:#?}");
    since(&world, blocker, began);
    goes_on_with_v3(world).await;
}

async fn an_image_that_never_becomes_ready(world: World) {
    let began = deployed(&world, manifest(3, endless())).await;
    drive(&world).set_image("never").await;
    let why = explained(&world, Reason::PodsNotAvailable).await;
    assert_eq!(why.state(), State::Progressing);
    let (blocker, set) = (&why.blockers[0], new_set(&world).await);
    let wanted = drive(&world).replicas("never").await;
    about(blocker, "ReplicaSet", &set, &format!("status.availableReplicas 0/{wanted}"));
    assert!(blocker.message.contains(&format!("; pod \"{set}-")), "a pod is named: {blocker:#?}");
    since(&world, blocker, began);
    let deadline = deadline(&world).await;
    next(blocker, "the progress deadline passes, unless they are available before", Some(deadline));
    goes_on_with_v3(world).await;
}

async fn a_deadline_that_has_passed(world: World) {
    let mut manifest = manifest(3, endless());
    manifest["spec"]["progressDeadlineSeconds"] = json!(3);
    let began = deployed(&world, manifest).await;
    drive(&world).set_image("never").await;
    let why = explained(&world, Reason::ProgressDeadlineExceeded).await;
    assert_eq!(why.state(), State::Degraded);
    let (blocker, set) = (&why.blockers[0], new_set(&world).await);
    about(blocker, "ReplicaSet", &set, "progress within 3s");
    assert_eq!(blocker.message, format!("ReplicaSet {set:?} has timed out progressing."));
    since(&world, blocker, began + SignedDuration::from_secs(3));
    next(blocker, "it goes on as soon as pods become available; otherwise abort it or change the spec", None);
    let short = &why.blockers[1];
    assert_eq!(short.reason(), Reason::PodsNotAvailable, "what it comes from is told too: {why:#?}");
    next(short, "it goes on once they are", None);
    goes_on_with_v3(world).await;
}

fn blue_green() -> Value {
    json!({ "blueGreen": { "activeService": "active", "autoPromotionEnabled": false } })
}

async fn a_missing_service(world: World) {
    let began = world.now();
    drive(&world).create(manifest_of(2, blue_green())).await;
    world.until("Degraded", is(RolloutPhase::Degraded)).await;
    let why = explained(&world, Reason::ServiceMissing).await;
    assert_eq!(why.state(), State::Degraded);
    let blocker = &why.blockers[0];
    about(blocker, "Service", "active", "exists");
    let says = "Service \"active\", which spec.strategy.blueGreen.activeService names, does not exist";
    assert_eq!(blocker.message, says);
    since(&world, blocker, began);
    next(blocker, "it goes on once the Service is created, or the spec names another", None);
    assert_eq!(why.blockers.len(), 1, "{why:#?}");
    drive(&world).create_services(&["active"]).await;
    healthy(&drive(&world)).await;
    world.finish().await;
}

async fn a_service_of_others(world: World) {
    let began = world.now();
    let other = manifest_of(0, blue_green()).to_string().replace("\"web\"", "\"shop\"");
    drive(&world).create(serde_json::from_str(&other).expect("it is JSON")).await;
    drive(&world).create_services(&["active"]).await;
    let managed =
        Patch::Merge(json!({ "metadata": { "annotations": { (keys::MANAGED_BY_ROLLOUTS): "shop" } } }));
    drive(&world).services().patch("active", &PatchParams::default(), &managed).await.expect("it is patched");
    drive(&world).create(manifest_of(2, blue_green())).await;
    world.until("Degraded", is(RolloutPhase::Degraded)).await;
    let why = explained(&world, Reason::InvalidSpec).await;
    let blocker = &why.blockers[0];
    about(blocker, "Service", "active", "spec.strategy.blueGreen.activeService valid");
    assert!(blocker.message.contains("is managed by another Rollout"), "{blocker:#?}");
    since(&world, blocker, began);
    next(blocker, "nothing moves until the Service is mended, or the spec names another", None);
    // With the other rollout its claim goes.
    world.rollouts().delete("shop", &DeleteParams::background()).await.expect("it is deleted");
    healthy(&drive(&world)).await;
    world.finish().await;
}

async fn an_invalid_spec(world: World) {
    let began = deployed(&world, manifest(3, endless())).await;
    drive(&world).canary(json!({ "steps": [{ "setWeight": 101 }, { "setWeight": -1 }] })).await;
    let why = explained(&world, Reason::InvalidSpec).await;
    assert_eq!(why.state(), State::Degraded);
    for (index, weight) in [101, -1].into_iter().enumerate() {
        let blocker = &why.blockers[index];
        let field = format!("spec.strategy.canary.steps[{index}].setWeight");
        about(blocker, "Rollout", "web", &format!("{field} valid"));
        assert!(blocker.message.starts_with(&format!("{field}: Invalid value: {weight}: ")), "{blocker:#?}");
        since(&world, blocker, began);
        next(blocker, "nothing moves until the spec is corrected", None);
    }
    assert_eq!(why.blockers.len(), 2, "{why:#?}");
    drive(&world).canary(endless()).await;
    healthy(&drive(&world)).await;
    world.finish().await;
}

async fn a_blue_green_update_that_awaits_its_promotion(world: World) {
    drive(&world).create_services(&["active"]).await;
    let began = deployed(&world, manifest_of(2, blue_green())).await;
    let old = drive(&world).selected("active").await;
    drive(&world).set_image("v2").await;
    let why = explained(&world, Reason::BlueGreenPause).await;
    assert_eq!(why.state(), State::Paused);
    let (blocker, new) = (&why.blockers[0], rollout(&world).await.status().current_pod_hash().to_owned());
    about(blocker, "Rollout", "web", &format!("status.blueGreen.activeSelector {old}/{new}"));
    since(&world, blocker, began);
    next(blocker, "promote it", None);
    drive(&world).promote().await;
    healthy(&drive(&world)).await;
    assert_eq!(drive(&world).selected("active").await, new);
    world.finish().await;
}

async fn an_unsupported_field(world: World) {
    deployed(&world, manifest(3, endless())).await;
    drive(&world).canary(json!({ "analysis": { "templates": [{ "templateName": "latency" }] } })).await;
    let why = explained(&world, Reason::UnsupportedField).await;
    let blocker = &why.blockers[0];
    about(blocker, "Rollout", "web", "spec.strategy.canary.analysis unset");
    assert!(blocker.message.starts_with("spec.strategy.canary.analysis is not supported"), "{blocker:#?}");
    assert_eq!(blocker.since_time, None, "nothing is written about it, so that nobody knows");
    next(blocker, "remove spec.strategy.canary.analysis, or run a version that supports it", None);
    assert_eq!(why.blockers.len(), 1, "{why:#?}");
    drive(&world).canary(json!({ "analysis": null })).await;
    goes_on_with_v3(world).await;
}

async fn a_restart_that_a_pod_holds_up(world: World) {
    let began = deployed(&world, manifest(3, json!({ "maxSurge": 0, "maxUnavailable": 1 }))).await;
    drive(&world).set_image("never").await;
    let why = explained(&world, Reason::PodsNotAvailable).await;
    let pods = why.blockers[0].message.clone();
    // Pods are created with whole seconds.
    world.pass(Duration::from_secs(2)).await;
    drive(&world).restart(world.now()).await;
    let held = async {
        loop {
            let why = explanation(&world).await;
            let restarting = why.blockers.iter().find(|blocker| blocker.reason() == Reason::Restarting);
            if let Some(blocker) = restarting {
                return blocker.clone();
            }
            world.pass(LOOK).await;
        }
    };
    let blocker = tokio::time::timeout(DEADLINE, held).await.expect("it is explained");
    since(&world, &blocker, began);
    let named = blocker.next.strip_prefix("as many are missing as may be: they go once pod \"");
    let pod = named.and_then(|rest| rest.split('"').next()).unwrap_or_else(|| panic!("{blocker:#?}"));
    assert!(pods.contains(pod), "the pod that is not ready: {pod}, {pods}");
    drive(&world).set_image("v3").await;
    healthy(&drive(&world)).await;
    world.finish().await;
}
