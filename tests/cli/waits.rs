//! `wait`, and `--wait` of verbs that change something.

use rolloutd::pb::v1;
use tonic::Status;
use v1::applied_object::Outcome;
use v1::rollout_status::State;

use crate::manifests::{applied, object};
use crate::program::{run, run_with_input};
use crate::server::{End, Server};
use crate::{rollout, tree};

fn scaled(state: State) -> v1::ScaleRolloutResponse {
    v1::ScaleRolloutResponse { rollout: Some(rollout(state)), ..Default::default() }
}

#[tokio::test]
async fn wait_ends_with_0_where_it_should_and_shows_nothing_on_the_way() {
    let server = Server::start().await;
    server.stream([State::Progressing, State::Paused, State::Healthy].map(tree), End::Hang);
    let ended = run(&server, "wait web --for healthy").await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(ended.stdout, "rollout.argoproj.io/web is Healthy\n");
}

#[tokio::test]
async fn wait_takes_any_end_by_default_and_ends_with_7_otherwise() {
    let server = Server::start().await;
    server.stream([tree(State::Degraded)], End::Hang);
    assert_eq!(run(&server, "wait web").await.ok(), "rollout.argoproj.io/web is Degraded\n");
    server.stream([tree(State::Degraded)], End::Hang);
    let stderr = run(&server, "wait web --for healthy").await.failed(7);
    assert_eq!(stderr, "error: default/web is Degraded, not healthy\n");
    server.stream([tree(State::Progressing)], End::Hang);
    let stderr = run(&server, "wait web --timeout 1s").await.failed(7);
    assert!(stderr.starts_with("error: not settled within 1s: web Progressing"), "{stderr}");
    server.stream([], End::Fail(Status::not_found("no such rollout")));
    run(&server, "wait web").await.failed(3);
}

#[tokio::test]
async fn a_change_sends_how_long_it_waits_and_says_how_the_rollout_settled() {
    for (flag, seconds) in [("--wait", 600), ("--wait=90s", 90)] {
        let server = Server::start().await;
        server.answer(scaled(State::Healthy));
        let stdout = run(&server, &format!("scale web --replicas 2 {flag}")).await.ok();
        assert_eq!(stdout, "rollout.argoproj.io/web scaled\nrollout.argoproj.io/web is Healthy\n");
        let wait = server.request::<v1::ScaleRolloutRequest>().wait.unwrap();
        assert_eq!((wait.seconds, wait.nanos), (seconds, 0));
    }
}

#[tokio::test]
async fn a_change_after_which_the_rollout_is_not_well_ends_with_7() {
    for (state, why) in [
        (State::Degraded, "error: default/web is Degraded\n"),
        (State::Progressing, "error: default/web has not settled within 10m: it is Progressing\n"),
    ] {
        let server = Server::start().await;
        server.answer(scaled(state));
        let ended = run(&server, "scale web --replicas 2 --wait").await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(7), why));
        assert_eq!(ended.stdout, "rollout.argoproj.io/web scaled\n", "what was done is said all the same");
    }
}

#[tokio::test]
async fn an_abort_that_ends_degraded_has_ended_well() {
    let server = Server::start().await;
    server.answer(v1::AbortRolloutResponse { rollout: Some(rollout(State::Degraded)), ..Default::default() });
    let stdout = run(&server, "abort web --wait").await.ok();
    assert_eq!(stdout, "rollout.argoproj.io/web aborted\nrollout.argoproj.io/web is Degraded\n");
}

#[tokio::test]
async fn every_change_of_a_rollout_can_wait() {
    macro_rules! waits {
        ($($line:literal $response:ident $request:ident;)*) => {$(
            let server = Server::start().await;
            server.answer(v1::GetRolloutResponse { rollout: Some(rollout(State::Paused)) });
            server.answer(v1::GetRolloutTreeResponse { tree: Some(tree(State::Paused)) });
            server.answer(v1::$response { rollout: Some(rollout(State::Paused)), ..Default::default() });
            let stdout = run(&server, concat!($line, " --wait=1m -o name")).await.ok();
            assert_eq!(stdout, "rollout.argoproj.io/web\n", "names and nothing else");
            assert_eq!(server.request::<v1::$request>().wait.unwrap().seconds, 60, $line);
        )*};
    }
    waits! {
        "set image web a=b" SetRolloutImageResponse SetRolloutImageRequest;
        "scale web --replicas 1" ScaleRolloutResponse ScaleRolloutRequest;
        "promote web" PromoteRolloutResponse PromoteRolloutRequest;
        "pause web" PauseRolloutResponse PauseRolloutRequest;
        "resume web" ResumeRolloutResponse ResumeRolloutRequest;
        "abort web" AbortRolloutResponse AbortRolloutRequest;
        "retry web" RetryRolloutResponse RetryRolloutRequest;
        "undo web" RollbackRolloutResponse RollbackRolloutRequest;
        "restart web" RestartRolloutResponse RestartRolloutRequest;
    }
}

#[tokio::test]
async fn apply_tells_of_every_rollout_how_it_settled() {
    let with = |state: State, name: &str| v1::AppliedObject {
        rollout: Some(v1::Rollout { name: format!("namespaces/shop/rollouts/{name}"), ..rollout(state) }),
        ..object("Rollout", Outcome::Configured)
    };
    let server = Server::start().await;
    server.answer(applied([
        object("Service", Outcome::Unchanged),
        with(State::Degraded, "a"),
        with(State::Healthy, "b"),
        with(State::Progressing, "c"),
    ]));
    let ended = run_with_input(&server, "apply -f - --wait=30s --force", "x").await;
    assert_eq!(ended.code, Some(7));
    assert!(ended.stdout.ends_with("\nrollout.argoproj.io/b is Healthy\n"), "{}", ended.stdout);
    assert_eq!(
        ended.stderr,
        "error: shop/a is Degraded; shop/c has not settled within 30s: it is Progressing\n"
    );
    let request = server.request::<v1::ApplyManifestRequest>();
    assert_eq!((request.wait.unwrap().seconds, request.force), (30, true));
}

#[tokio::test]
async fn a_dry_run_does_not_wait() {
    let server = Server::start().await;
    for line in ["pause web --wait --dry-run", "apply -f - --wait --dry-run", "create -f - --wait --dry-run"]
    {
        let stderr = run(&server, line).await.failed(2);
        assert!(stderr.starts_with("error: --wait does not go with --dry-run"), "{stderr}");
    }
    assert_eq!(server.request_count(), 0);
}

#[tokio::test]
async fn a_wait_that_the_server_breaks_off_says_how_to_go_on() {
    let server = Server::start().await;
    server.refuse::<v1::ScaleRolloutResponse>(Status::unavailable("draining"));
    let stderr = run(&server, "scale web --replicas 2 --wait").await.failed(5);
    assert!(stderr.contains("`rolloutctl wait default/web` goes on waiting"), "{stderr}");
}
