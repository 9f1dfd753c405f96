//! Labels and annotations that are put into pods: pods are born with them, follow their version's status in place, and none restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use rolloutd::crd::{Rollout, RolloutPhase};
use rolloutd::pb::v1;
use serde_json::{Value, json};

use crate::drive::{Drive, Driver};
use crate::kubernetes;
use crate::rights;
use crate::scenarios::{healthy, in_virtual_time, is, paused_at};
use crate::world::{World, manifest, manifest_of};

scenarios! {
    a_canary_becomes_stable_in_its_labels
    a_preview_becomes_active_in_its_labels
}

mod once {
    use super::{labels_that_somebody_takes_away_come_back, three_hundred_pods_are_relabelled_on_promotion};

    on_both! {
        three_hundred_pods_are_relabelled_on_promotion
        labels_that_somebody_takes_away_come_back
    }
}

/// How many pods are relabelled together; `ROLLOUTD_RELABELLED=1000` asks for others.
const RELABELLED: &str = "300";

/// How long pods may take to have what they should; on a machine that is shared.
const DEADLINE: Duration = Duration::from_secs(300);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

const STATUS: &str = "argo-rollouts-status";

/// A manifest whose pods carry the status label.
fn labelled(mut manifest: Value) -> Value {
    manifest["metadata"]["annotations"]["rolloutd.dev/status-labels"] = json!("true");
    manifest
}

fn metadata(role: &str) -> Value {
    json!({ "labels": { "role": role }, "annotations": { format!("shop.io/{role}"): "yes" } })
}

/// What a pod is told to be: the status label, the strategy's label, and the annotations of the strategy.
type Told = (Option<String>, Option<String>, Vec<String>);

fn told(status: &str, role: Option<&str>) -> Told {
    let notes = role.map(|role| format!("shop.io/{role}"));
    (Some(status.to_owned()), role.map(str::to_owned), notes.into_iter().collect())
}

/// Live pods of a version by uid, and what each is told to be.
async fn pods(world: &World, version: &str) -> BTreeMap<String, Told> {
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut pods = api.list(&ListParams::default()).await.expect("pods are listed").items;
    pods.retain(|pod| {
        let image = pod.spec.as_ref().and_then(|spec| spec.containers[0].image.clone()).unwrap_or_default();
        pod.metadata.deletion_timestamp.is_none() && image.ends_with(&format!(":{version}"))
    });
    let told = |pod: &Pod| {
        let label = |key: &str| pod.labels().get(key).cloned();
        let notes = pod.annotations().keys().filter(|key| key.starts_with("shop.io/"));
        (label(STATUS), label("role"), notes.cloned().collect())
    };
    pods.iter().map(|pod| (pod.uid().expect("a uid"), told(pod))).collect()
}

/// Waits until all pods of a version are told just this. Gives their uids.
async fn until_told(world: &World, version: &str, wanted: &Told) -> BTreeSet<String> {
    let settled = async {
        loop {
            let pods = pods(world, version).await;
            if pods.values().all(|told| told == wanted) {
                return pods.into_keys().collect();
            }
            world.pass(LOOK).await;
        }
    };
    match tokio::time::timeout(DEADLINE, settled).await {
        Ok(uids) => uids,
        Err(_) => panic!("pods of {version} are not {wanted:?}: {:#?}", pods(world, version).await),
    }
}

/// No pod of a version is ever told anything else from its birth on: looked at once, as they are.
async fn are_told(world: &World, version: &str, wanted: &Told) -> BTreeSet<String> {
    let pods = pods(world, version).await;
    assert!(pods.values().all(|told| told == wanted), "{version}: {pods:#?} are not {wanted:?}");
    pods.into_keys().collect()
}

async fn a_canary_becomes_stable_in_its_labels(drive: &Drive<'_>, replicas: i32) {
    let strategy = json!({ "steps": [{ "setWeight": 50 }, { "pause": {} }],
        "canaryMetadata": metadata("new"), "stableMetadata": metadata("leading") });
    drive.create(labelled(manifest(replicas, strategy))).await;
    healthy(drive).await;
    let (stable, canary) = (told("stable", Some("leading")), told("canary", Some("new")));
    are_told(drive.world, "v1", &stable).await;
    drive.set_image("v2").await;
    paused_at(drive, 1).await;
    are_told(drive.world, "v1", &stable).await;
    let born = are_told(drive.world, "v2", &canary).await;
    assert_eq!(
        without_labels(&drive.world.rollouts().get("web").await.unwrap()),
        json!({ "labels": { "app": "web" } })
    );

    drive.abort().await;
    drive.world.until("aborted", |rollout| rollout.status().abort()).await;
    are_told(drive.world, "v2", &canary).await;
    drive.retry().await;
    paused_at(drive, 1).await;
    let born: BTreeSet<String> =
        born.intersection(&are_told(drive.world, "v2", &canary).await).cloned().collect();
    drive.promote().await;
    healthy(drive).await;
    let after = until_told(drive.world, "v2", &stable).await;
    assert!(born.is_subset(&after), "none restarts");

    // Without it in the spec, the sets and the pods lose what was put in; the version stays what it is.
    drive.canary(json!({ "canaryMetadata": null, "stableMetadata": null })).await;
    let bare = until_told(drive.world, "v2", &told("stable", None)).await;
    assert_eq!(bare, after);
    healthy(drive).await;
}

fn without_labels(rollout: &Rollout) -> Value {
    rollout.spec.template.as_ref().expect("a template")["metadata"].clone()
}

async fn a_preview_becomes_active_in_its_labels(drive: &Drive<'_>, replicas: i32) {
    drive.create_services(&["active", "preview"]).await;
    let strategy = json!({ "blueGreen": { "activeService": "active", "previewService": "preview", "autoPromotionEnabled": false,
        "scaleDownDelaySeconds": 600, "previewMetadata": metadata("new"), "activeMetadata": metadata("leading") } });
    drive.create(labelled(manifest_of(replicas, strategy))).await;
    healthy(drive).await;
    let (active, preview) = (told("active", Some("leading")), told("preview", Some("new")));
    are_told(drive.world, "v1", &active).await;
    drive.set_image("v2").await;
    drive.world.until("paused", is(RolloutPhase::Paused)).await;
    let old = are_told(drive.world, "v1", &active).await;
    let new = are_told(drive.world, "v2", &preview).await;
    drive.promote().await;
    healthy(drive).await;
    assert_eq!(until_told(drive.world, "v2", &active).await, new, "none restarts");
    assert_eq!(
        until_told(drive.world, "v1", &told("preview", None)).await,
        old,
        "they are told before they leave"
    );
}

#[expect(clippy::disallowed_methods, reason = "a test reads what its caller asks for")]
fn relabelled() -> i32 {
    let pods = std::env::var("ROLLOUTD_RELABELLED").unwrap_or_else(|_| RELABELLED.to_owned());
    pods.parse().expect("ROLLOUTD_RELABELLED holds a number")
}

async fn tree(world: &World) -> v1::RolloutTree {
    let name = format!("namespaces/{}/rollouts/web", world.namespace);
    let request = v1::GetRolloutTreeRequest { name };
    world.rpc().get_rollout_tree(request).await.expect("a tree").into_inner().tree.expect("a tree")
}

/// Waits until the tree says that all pods have what they should. Gives the counts that it told on the way.
async fn until_done(world: &World) -> Vec<i32> {
    let mut counts = Vec::new();
    let done = async {
        loop {
            let tree = tree(world).await;
            let labelling = tree.pod_labelling.expect("pods are labelled");
            let is_blocked =
                tree.blockers.iter().any(|blocker| blocker.reason() == v1::blocker::Reason::Relabelling);
            assert_eq!(
                is_blocked,
                labelling.labelled_pods < labelling.pods,
                "{labelling:?} {:#?}",
                tree.blockers
            );
            let status = tree.rollout.and_then(|rollout| rollout.status).unwrap_or_default();
            if status.state() == v1::rollout_status::State::Healthy {
                counts.push(labelling.labelled_pods);
                if !is_blocked {
                    return;
                }
            }
            world.pass(LOOK).await;
        }
    };
    tokio::time::timeout(DEADLINE, done).await.unwrap_or_else(|_| panic!("never done: {counts:?}"));
    counts
}

async fn three_hundred_pods_are_relabelled_on_promotion(world: World) {
    let count = relabelled();
    let drive = Drive { world: &world, driver: Driver::Patches };
    // All of the new version are there before it is promoted, and of the old one none has to follow.
    let strategy = json!({ "steps": [{ "setWeight": 100 }, { "pause": {} }] });
    drive.create(labelled(manifest(0, strategy))).await;
    healthy(&drive).await;
    drive.set_image("v2").await;
    paused_at(&drive, 1).await;
    drive.scale(count).await;
    let paused = |rollout: &Rollout| {
        is(RolloutPhase::Paused)(rollout) && rollout.status().available_replicas == Some(count)
    };
    let until_up = async {
        while !paused(&world.rollouts().get("web").await.expect("it exists")) {
            world.pass(LOOK).await;
        }
    };
    tokio::time::timeout(DEADLINE, until_up).await.expect("all pods come up in time");
    let before = are_told(&world, "v2", &told("canary", None)).await;
    assert_eq!(before.len(), usize::try_from(count).unwrap());

    let (requests, began) = (world.requests(), world.now());
    drive.promote().await;
    healthy(&drive).await;
    let counts = until_done(&world).await;
    let after = are_told(&world, "v2", &told("stable", None)).await;
    assert_eq!(before, after, "none restarts, and all are right when the tree says so");
    assert!(counts.windows(2).all(|pair| pair[0] <= pair[1]), "{counts:?}");
    let (requests, took) = (world.requests() - requests, world.now().duration_since(began));
    println!("{count} pods relabelled in {took:#}, with {requests} requests; told on the way: {counts:?}");
    // One for each pod, and few for the rest: the status, the sets, and the pods that somebody else wrote meanwhile.
    let most = usize::try_from(count).unwrap() + 30;
    assert!(requests <= most, "{requests} requests for {count} pods");
    // Paced: twenty a second at most.
    assert!(took.as_millis() >= i128::from(count) * 50 - 1_000, "too quick: {took:#}");

    let requests = world.requests();
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(world.requests(), requests, "at rest it costs nothing");
    world.finish().await;
}

async fn labels_that_somebody_takes_away_come_back(world: World) {
    let drive = Drive { world: &world, driver: Driver::Patches };
    drive.create(labelled(manifest(3, json!({})))).await;
    healthy(&drive).await;
    let stable = told("stable", None);
    let before = are_told(&world, "v1", &stable).await;
    let api: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let lost = Patch::Merge(json!({ "metadata": { "labels": { STATUS: null, "team": "shop" } } }));
    for pod in api.list(&ListParams::default()).await.expect("pods are listed") {
        api.patch(&pod.name_any(), &PatchParams::default(), &lost).await.expect("it is patched");
    }
    assert_eq!(until_told(&world, "v1", &stable).await, before);
    for pod in api.list(&ListParams::default()).await.expect("pods are listed") {
        assert_eq!(pod.labels().get("team").map(String::as_str), Some("shop"), "what is not ours stays");
    }
    world.finish().await;
}

#[test]
fn pods_that_cannot_be_labelled_hold_nothing_up_and_are_told() {
    in_virtual_time(async || {
        let world = World::embedded().await;
        let drive = Drive { world: &world, driver: Driver::Patches };
        drive.create(labelled(manifest(5, json!({ "steps": [{ "setWeight": 50 }, { "pause": {} }] })))).await;
        healthy(&drive).await;
        drive.set_image("v2").await;
        paused_at(&drive, 1).await;
        let gate = world.gate().expect("a gate");
        let says = "admission webhook \"policy\" denied the request: labels are frozen".to_owned();
        let pods = format!("/api/v1/namespaces/{}/pods/", world.namespace);
        gate.forbid_all(vec![Method::PATCH, Method::PUT], pods, says.clone());
        drive.promote().await;
        healthy(&drive).await;
        let before = world.requests();
        world.pass(Duration::from_secs(120)).await;
        world.until_event("RelabellingDelayed: Labels and annotations of pods have not followed").await;
        world.pass(Duration::from_secs(600)).await;
        let asked = world.requests() - before;
        assert!(asked < 400, "{asked} requests in ten minutes and more");
        let tree = tree(&world).await;
        let reasons: Vec<_> = tree.blockers.iter().map(v1::Blocker::reason).collect();
        assert_eq!(reasons, [v1::blocker::Reason::WriteRefused, v1::blocker::Reason::Relabelling]);
        assert_eq!(tree.blockers[0].message, says);
        let delayed =
            world.events().await.into_iter().filter(|event| event.starts_with("RelabellingDelayed"));
        assert_eq!(delayed.count(), 1);
        gate.open();
        until_done(&world).await;
        are_told(&world, "v2", &told("stable", None)).await;
        world.finish().await;
    });
}

/// The user that the control plane is where it may not patch pods.
const USER: &str = "labeller";

/// Under Argo Rollouts' own ClusterRole pods may be listed and updated, but neither patched nor got (contract A13).
async fn pods_that_may_not_be_patched_are_updated(world: World) {
    let drive = Drive { world: &world, driver: Driver::Patches };
    drive.create(labelled(manifest(3, json!({ "steps": [{ "setWeight": 50 }, { "pause": {} }] })))).await;
    healthy(&drive).await;
    drive.set_image("v2").await;
    paused_at(&drive, 1).await;
    let born = are_told(&world, "v2", &told("canary", None)).await;
    drive.promote().await;
    healthy(&drive).await;
    until_done(&world).await;
    let after = are_told(&world, "v2", &told("stable", None)).await;
    assert!(born.is_subset(&after), "none restarts");
    world.finish().await;
}

#[test]
fn pods_that_may_not_be_patched_are_updated_on_the_embedded_cluster() {
    in_virtual_time(async || {
        let world = World::embedded_under_its_role().await;
        pods_that_may_not_be_patched_are_updated(world.led()).await;
    });
}

#[test]
fn pods_that_may_not_be_patched_are_updated_on_kubernetes() {
    kubernetes::runtime().block_on(async {
        let Some((world, user)) = World::real_as(USER).await else {
            return println!("skipped: KUBEBUILDER_ASSETS is not set");
        };
        grant(&world, &user).await;
        pods_that_may_not_be_patched_are_updated(world.led()).await;
    });
}

/// Grants what Argo Rollouts' controller may do with pods, and everything with other objects.
async fn grant(world: &World, user: &Client) {
    let rules = json!([
        { "apiGroups": ["apps", "argoproj.io", "coordination.k8s.io", "events.k8s.io"], "resources": ["*"], "verbs": ["*"] },
        { "apiGroups": [""], "resources": ["services", "events"], "verbs": ["*"] },
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["list", "update", "watch"] },
    ]);
    rights::grant(world, USER, rules).await;
    let update = json!({ "verb": "update", "resource": "pods", "namespace": world.namespace });
    rights::until(user, update, true).await;
}
