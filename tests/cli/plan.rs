//! `plan`, and what `diff` says of what would happen.

use std::fs;

use rolloutd::pb::v1;
use tonic::{Code, Status};
use v1::applied_object::Outcome;
use v1::plan_rollout_request::Update;
use v1::replica_set_summary::Role;
use v1::rollout_status::State;

use crate::manifests::{applied, object};
use crate::program::{run, run_with_input};
use crate::server::Server;
use crate::{NAME, rollout};

fn set(role: Role, hash: &str, pods: i32) -> v1::ReplicaSetSummary {
    v1::ReplicaSetSummary {
        role: role.into(),
        pod_template_hash: hash.to_owned(),
        desired_replicas: pods,
        replicas: pods,
        available_replicas: pods,
        ..Default::default()
    }
}

fn paused() -> v1::PlannedState {
    v1::PlannedState {
        at: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
        step_index: Some(1),
        replica_sets: vec![set(Role::Canary, "v2", 1), set(Role::Stable, "v1", 4)],
        actual_weight: 20,
        blockers: vec![v1::Blocker { next: "promote it".to_owned(), ..Default::default() }],
        message: "step 1 is a pause until somebody promotes".to_owned(),
        state: State::Paused.into(),
        ..Default::default()
    }
}

fn degraded() -> v1::PlannedState {
    v1::PlannedState {
        message: "RolloutAborted".to_owned(),
        state: State::Degraded.into(),
        blockers: Vec::new(),
        ..paused()
    }
}

fn timeline(states: impl Into<Vec<v1::PlannedState>>) -> v1::PlanRolloutResponse {
    v1::PlanRolloutResponse { timeline: states.into(), ..Default::default() }
}

/// A rollout of a manifest that was checked.
fn checked(outcome: Outcome) -> v1::AppliedObject {
    v1::AppliedObject {
        rollout: Some(rollout(State::Healthy)),
        unified_diff: "@@ -1 +1 @@\n-a\n+b\n".to_owned(),
        ..object("Rollout", outcome)
    }
}

const TABLE: &str = "\
AFTER   STATE    STEP   SHARE   PODS                           WAITS FOR                                   NEXT
5s      Paused   1      20%     canary v2 1/1, stable v1 4/4   step 1 is a pause until somebody promotes   promote it
";

#[tokio::test]
async fn a_rollout_as_it_stands_is_a_table_of_the_states_in_which_it_rests() {
    let server = Server::start().await;
    server.answer(timeline([paused()]));
    assert_eq!(run(&server, "plan web").await.ok(), TABLE);
    let request = server.request::<v1::PlanRolloutRequest>();
    assert_eq!((request.name.as_str(), request.update), (NAME, None));
    assert_eq!(request.assumptions, Some(v1::PlanAssumptions::default()));
}

#[tokio::test]
async fn images_and_assumptions_are_sent_as_they_are() {
    let server = Server::start().await;
    server.answer(timeline([degraded()]));
    let line = "plan shop/web --image web=nginx:2 --image *=x --pod-start-up 1500ms --pods-never-ready --abort-at-step 2 --promote-pauses";
    assert!(run(&server, line).await.ok().contains("Degraded"), "what was asked for is no failure");
    let request = server.request::<v1::PlanRolloutRequest>();
    let Some(Update::SetImage(set)) = request.update else { panic!("{request:?}") };
    let images: Vec<_> = set.images.iter().map(|image| (&*image.container, &*image.image)).collect();
    assert_eq!(images, [("web", "nginx:2"), ("*", "x")]);
    let expected = v1::PlanAssumptions {
        pod_start_up: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
        pods_never_ready: true,
        abort_at_step: Some(2),
        promote_pauses: true,
    };
    assert_eq!(request.assumptions, Some(expected));
}

#[tokio::test]
async fn files_are_checked_one_by_one_and_count_together() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), "a").unwrap();
    fs::write(folder.path().join("b.yaml"), "b").unwrap();
    server.answer(applied([object("Service", Outcome::Created)]));
    server.answer(applied([checked(Outcome::Unchanged)]));
    server.answer(timeline([paused()]));
    let ended = run(&server, &format!("plan -n shop --force -f {}", folder.path().display())).await;
    assert_eq!(ended.ok(), format!("default/web:\n{TABLE}"));
    let requests = server.requests::<v1::ApplyManifestRequest>();
    assert!(requests.iter().all(|request| request.validate_only && request.force), "{requests:?}");
    let request = server.request::<v1::PlanRolloutRequest>();
    assert_eq!(request.update, Some(Update::Manifest("a\n---\nb".to_owned())));
    assert!(request.force);
}

#[tokio::test]
async fn a_timeline_as_data_is_the_message() {
    let server = Server::start().await;
    server.answer(timeline([paused()]));
    let value = run(&server, "plan web -o json").await.json();
    assert_eq!(value["timeline"][0]["at"], "5s");
    assert_eq!(value["timeline"][0]["state"], "STATE_PAUSED");
    server.answer(timeline([paused()]));
    assert!(run(&server, "plan web -o yaml").await.ok().starts_with("---\ntimeline:\n"));
}

#[tokio::test]
async fn a_rollout_that_would_end_degraded_unasked_ends_with_7_and_warnings_are_told() {
    let server = Server::start().await;
    let warning = v1::Warning {
        reason: "EVICTIONS_REFUSED".to_owned(),
        description: "pods are not evicted now".to_owned(),
        ..Default::default()
    };
    server.answer(v1::PlanRolloutResponse { warnings: vec![warning], ..timeline([paused(), degraded()]) });
    let ended = run(&server, "plan web").await;
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(ended.stdout.starts_with("AFTER "), "{ended:?}");
    let complaints: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(
        complaints,
        ["warning: pods are not evicted now", "error: default/web would end Degraded: RolloutAborted"]
    );
}

#[tokio::test]
async fn a_plan_that_is_cut_off_passes_no_pipeline() {
    let server = Server::start().await;
    let warning = v1::Warning {
        reason: "CUT_OFF".to_owned(),
        description: "nothing of it could be foreseen".to_owned(),
        ..Default::default()
    };
    server.answer(v1::PlanRolloutResponse { warnings: vec![warning.clone()], ..timeline([]) });
    let ended = run(&server, "plan web").await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(7), "Nothing of it could be foreseen.\n"));
    let stderr =
        "warning: nothing of it could be foreseen\nerror: nothing of default/web could be foreseen\n";
    assert_eq!(ended.stderr, stderr);
    server.answer(v1::PlanRolloutResponse { warnings: vec![warning], ..timeline([paused()]) });
    let ended = run(&server, "plan web -o json").await;
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(ended.stderr.ends_with("error: the end of default/web could not be foreseen\n"), "{ended:?}");

    let stuck = v1::PlannedState { state: State::Progressing.into(), ..degraded() };
    server.answer(timeline([paused(), stuck]));
    let ended = run(&server, "plan web").await;
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert_eq!(ended.stderr, "error: default/web would be stuck: RolloutAborted\n");
}

#[tokio::test]
async fn what_cannot_be_planned_is_said() {
    let server = Server::start().await;
    server.refuse::<v1::PlanRolloutResponse>(Status::new(Code::NotFound, "no"));
    run(&server, "plan web").await.failed(3);
    server.answer(applied([object("Service", Outcome::Created)]));
    let stderr = run_with_input(&server, "plan -f -", "x").await.failed(2);
    assert!(stderr.starts_with("error: the files hold no rollout"), "{stderr}");
}

#[tokio::test]
async fn a_diff_says_what_the_rollouts_would_do_that_it_changes() {
    let server = Server::start().await;
    server.answer(applied([checked(Outcome::Configured)]));
    server.answer(timeline([paused()]));
    let ended = run_with_input(&server, "diff -f -", "x").await;
    let table: String = TABLE.lines().map(|line| format!("  {line}\n")).collect();
    let expected = format!(
        "rollout.argoproj.io/web configured:\n@@ -1 +1 @@\n-a\n+b\ndefault/web would go so:\n{table}"
    );
    assert_eq!((ended.code, ended.stdout), (Some(1), expected));
    let request = server.request::<v1::PlanRolloutRequest>();
    assert_eq!(request.update, Some(Update::Manifest("x".to_owned())));

    server.answer(applied([checked(Outcome::Configured)]));
    server.answer(timeline([paused()]));
    let ended = run_with_input(&server, "diff -f - -o json", "x").await;
    let value: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(value["objects"][0]["outcome"], "OUTCOME_CONFIGURED");
    assert_eq!(value["plans"][0]["name"], NAME);
    assert_eq!(value["plans"][0]["timeline"][0]["stepIndex"], 1);
}

#[tokio::test]
async fn a_diff_passes_on_what_a_plan_warns_of() {
    let server = Server::start().await;
    let warning = |reason: &str, description: &str| v1::Warning {
        reason: reason.to_owned(),
        description: description.to_owned(),
        ..Default::default()
    };
    let known = warning("UNKNOWN_FIELD", "nobody knows it");
    server.answer(v1::ApplyManifestResponse {
        warnings: vec![known.clone()],
        ..applied([checked(Outcome::Configured)])
    });
    let warnings = vec![known, warning("CUT_OFF", "the timeline goes on")];
    server.answer(v1::PlanRolloutResponse { warnings, ..timeline([paused()]) });
    let ended = run_with_input(&server, "diff -f -", "x").await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("default/web would go so:\n"), "{ended:?}");
    // What is said of the manifest is not said twice.
    assert_eq!(ended.stderr, "warning: nobody knows it\nwarning: the timeline goes on\n");
}

#[tokio::test]
async fn a_difference_is_shown_though_nobody_can_look_ahead_of_it() {
    let server = Server::start().await;
    server.answer(applied([checked(Outcome::Configured)]));
    server.refuse::<v1::PlanRolloutResponse>(Status::new(Code::Unimplemented, "an older server"));
    let ended = run_with_input(&server, "diff -f -", "x").await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stdout, "rollout.argoproj.io/web configured:\n@@ -1 +1 @@\n-a\n+b\n");
    assert_eq!(ended.stderr, "default/web is not looked ahead of: an older server\n");
}
