//! What the cluster denies: who may not what, and nothing of the inside.

use http::Method;
use rolloutd::pb::v1;
use serde_json::json;
use tonic::Code;

use crate::expect::{Refusal, refused};
use crate::world::{Instead, Wanted, World, apply_request, manifest, name, resource};

const FORBIDDEN: &str =
    "rollouts.argoproj.io \"web\" is forbidden: User \"system:serviceaccount:a:b\" cannot do that";

async fn denying(method: Method, path: &'static str, answer: (u16, &'static str, &'static str)) -> World {
    let (code, reason, message) = answer;
    let body = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason,
        "message": message,
    });
    let instead = Some(Instead { method, path, code, body });
    let world = World::wanted(Wanted { instead, ..Wanted::default() }).await;
    world.in_the_middle("web", 1).await;
    world
}

async fn forbidding(method: Method, path: &'static str) -> World {
    denying(method, path, (403, "Forbidden", FORBIDDEN)).await
}

/// Checks that the missing rule is named, and the account that lacks it is not.
fn lacks(refusal: Refusal, verb: &str, resource: &str) {
    let refusal = refusal.is(Code::PermissionDenied, "PERMISSION_DENIED").says(verb).says(resource);
    assert_eq!((&*refusal.metadata["verb"], &*refusal.metadata["resource"]), (verb, resource));
    assert_eq!(refusal.metadata["namespace"], "shop");
    assert!(!refusal.message.contains("serviceaccount"), "{}", refusal.message);
}

#[tokio::test(start_paused = true)]
async fn the_missing_rule_is_named() {
    const ROLLOUTS: &str = "/namespaces/shop/rollouts";
    const WEB: &str = "/namespaces/shop/rollouts/web";
    let scale = || v1::ScaleRolloutRequest { name: name("web"), replicas: Some(9), ..Default::default() };
    let world = forbidding(Method::GET, WEB).await;
    lacks(
        refused(world.untouched(world.rollouts().scale_rollout(scale())).await),
        "get",
        "rollouts.argoproj.io",
    );
    let world = forbidding(Method::PATCH, WEB).await;
    lacks(
        refused(world.untouched(world.rollouts().scale_rollout(scale())).await),
        "patch",
        "rollouts.argoproj.io",
    );

    let world = forbidding(Method::PATCH, "/rollouts/web/status").await;
    let abort = v1::AbortRolloutRequest { name: name("web"), ..Default::default() };
    let refusal = refused(world.untouched(world.rollouts().abort_rollout(abort)).await);
    lacks(refusal, "patch", "rollouts.argoproj.io/status");

    let world = forbidding(Method::DELETE, WEB).await;
    let delete = v1::DeleteRolloutRequest { name: name("web"), ..Default::default() };
    let refusal = refused(world.untouched(world.rollouts().delete_rollout(delete)).await);
    lacks(refusal, "delete", "rollouts.argoproj.io");

    let world = forbidding(Method::POST, ROLLOUTS).await;
    let create = v1::CreateRolloutRequest {
        parent: "namespaces/shop".to_owned(),
        rollout_id: "new".to_owned(),
        rollout: Some(resource("new")),
        ..Default::default()
    };
    let refusal = refused(world.untouched(world.rollouts().create_rollout(create)).await);
    lacks(refusal, "create", "rollouts.argoproj.io");
    let apply = apply_request(&manifest("new").to_string());
    let refusal = refused(world.untouched(world.rollouts().apply_manifest(apply)).await);
    lacks(refusal, "create", "rollouts.argoproj.io");
}

#[tokio::test(start_paused = true)]
async fn what_the_cluster_says_becomes_a_code() {
    let webhook = "admission webhook \"rules.example.com\" denied the request: not on Fridays";
    let leak = "failed calling webhook: Post \"https://user:secret@10.0.0.1/\": refused";
    let quota = "rollouts \"web\" is forbidden: exceeded quota: few, requested: 1, used: 2, limited: 2";
    for (answer, code, reason, says) in [
        ((400, "", webhook), Code::FailedPrecondition, "ADMISSION_DENIED", "not on Fridays"),
        ((403, "Forbidden", quota), Code::ResourceExhausted, "QUOTA_EXCEEDED", "exceeded quota"),
        ((429, "TooManyRequests", "slow down"), Code::ResourceExhausted, "CLUSTER_BUSY", "patience"),
        ((500, "InternalError", leak), Code::Unavailable, "CLUSTER_UNAVAILABLE", "cannot be reached"),
        (
            (401, "Unauthorized", "Unauthorized"),
            Code::Unavailable,
            "CLUSTER_UNAVAILABLE",
            "cannot be reached",
        ),
        (
            (413, "RequestEntityTooLarge", "limit is 3145728"),
            Code::InvalidArgument,
            "OBJECT_TOO_LARGE",
            "3145728",
        ),
        ((409, "Conflict", "the object has been modified"), Code::Aborted, "CONFLICT", "try again"),
        ((504, "Timeout", "timed out"), Code::DeadlineExceeded, "DEADLINE_EXCEEDED", "in time"),
    ] {
        let world = denying(Method::PATCH, "/rollouts/web", answer).await;
        let scale = v1::ScaleRolloutRequest { name: name("web"), replicas: Some(9), ..Default::default() };
        let refusal =
            refused(world.untouched(world.rollouts().scale_rollout(scale)).await).is(code, reason).says(says);
        assert!(!refusal.message.contains("secret") && !refusal.message.contains("10.0.0.1"));
        if [Code::Unavailable, Code::ResourceExhausted].contains(&code) && reason != "QUOTA_EXCEEDED" {
            assert!(refusal.retry_after().is_some(), "{reason}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn namespaces_that_may_not_be_listed_are_those_that_hold_rollouts() {
    let world = forbidding(Method::GET, "/api/v1/namespaces").await;
    let answer = world.server().list_namespaces(v1::ListNamespacesRequest::default()).await.unwrap();
    let names: Vec<(String, i32)> = answer
        .into_inner()
        .namespaces
        .into_iter()
        .map(|namespace| (namespace.name, namespace.rollout_count))
        .collect();
    assert_eq!(names, [("namespaces/shop".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_manifest_is_applied_though_namespaces_may_not_be_read() {
    let world = forbidding(Method::GET, "/api/v1/namespaces/shop").await;
    let apply = apply_request(&manifest("new").to_string());
    world.rollouts().apply_manifest(apply).await.expect("the write says whether the namespace is there");
    let mut lost = manifest("new");
    lost["metadata"]["namespace"] = json!("nowhere");
    refused(world.untouched(world.rollouts().apply_manifest(apply_request(&lost.to_string()))).await)
        .lacks_object("v1/Namespace", "namespaces/nowhere");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_may_not_look_back_says_so() {
    let world = forbidding(Method::GET, "/namespaces/shop/rollouts").await;
    // Another server lists at a version of which this one is told nothing: only the cluster knows what was in between.
    world.create(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "other" } })).await;
    let replica = world.replica().await;
    let watch = v1::WatchRolloutsRequest { parent: "namespaces/shop".to_owned(), ..Default::default() };
    let mut first = replica.rollouts().watch_rollouts(watch.clone()).await.unwrap().into_inner();
    let mut resume_token = String::new();
    while resume_token.is_empty() {
        resume_token = first.message().await.unwrap().expect("a bookmark comes").resume_token;
    }
    let resumed = v1::WatchRolloutsRequest { resume_token, ..watch };
    let mut resumed = world.rollouts().watch_rollouts(resumed).await.unwrap().into_inner();
    let status = resumed.message().await.expect_err("it ends");
    lacks(Refusal::of(&status), "watch", "rollouts.argoproj.io");
}

#[tokio::test(start_paused = true)]
async fn what_was_denied_is_told_of() {
    let world = forbidding(Method::PATCH, "/namespaces/shop/rollouts/web").await;
    let restart = v1::RestartRolloutRequest { name: name("web"), ..Default::default() };
    lacks(refused(world.rollouts().restart_rollout(restart).await), "patch", "rollouts.argoproj.io");
    world.control_plane.activities.flush().await;
    let list = v1::ListRolloutActivityRequest { parent: name("web"), ..Default::default() };
    let told = world.rollouts().list_rollout_activity(list).await.unwrap().into_inner().activities;
    assert_eq!(told.len(), 1);
    assert_eq!(
        (&*told[0].verb, &*told[0].outcome),
        ("RestartRollout", "PERMISSION_DENIED: PERMISSION_DENIED")
    );
}
