//! Verbs that change a rollout: what they send and print.

use rolloutd::pb::v1;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use v1::delete_rollout_request::Propagation;
use v1::promote_rollout_request::{From as Seen, Target};
use v1::rollout_status::State;

use crate::program::run;
use crate::server::Server;
use crate::{NAME, rollout, tree};

const GUARDS: &str = "--dry-run --etag e1 --request-id 01890000-0000-7000-8000-000000000001";
const REQUEST_ID: &str = "01890000-0000-7000-8000-000000000001";

/// A server where `web` is in the pause of step 1 and can be promoted.
async fn paused() -> Server {
    let server = Server::start().await;
    server.answer(v1::GetRolloutTreeResponse { tree: Some(tree(State::Paused)) });
    let promoted = Some(rollout(State::Progressing));
    server.answer(v1::PromoteRolloutResponse { rollout: promoted, ..Default::default() });
    server
}

#[tokio::test]
async fn promote_sends_the_hash_and_step_that_it_saw_and_says_them() {
    let server = paused().await;
    let ended = run(&server, "promote web").await;
    assert_eq!(ended.stderr, "promoting default/web, revision 2 (v2), from step 1/3 (pause: 10m)\n");
    assert_eq!(ended.ok(), "rollout.argoproj.io/web promoted\n");
    let expected = v1::PromoteRolloutRequest {
        name: NAME.to_owned(),
        from: Some(Seen { pod_template_hash: "v2".to_owned(), step_index: Some(1) }),
        target: Some(Target::Next(())),
        ..Default::default()
    };
    assert_eq!(server.request::<v1::PromoteRolloutRequest>(), expected);
}

#[tokio::test]
async fn promote_goes_to_the_end_or_to_a_step_with_its_guards() {
    for (flags, target, printed) in [
        ("--full", Target::Full(()), "promoted to the end"),
        ("--to-step 3", Target::ToStepIndex(3), "promoted to step 3"),
    ] {
        let server = paused().await;
        let stdout = run(&server, &format!("promote web {flags} {GUARDS}")).await.ok();
        assert_eq!(stdout, format!("rollout.argoproj.io/web {printed} (server dry run)\n"));
        let request = server.request::<v1::PromoteRolloutRequest>();
        assert_eq!(request.target, Some(target));
        assert_eq!((request.etag.as_str(), request.request_id.as_str()), ("e1", REQUEST_ID));
        assert!(request.validate_only);
    }
}

#[tokio::test]
async fn promote_without_steps_sends_no_step() {
    let server = Server::start().await;
    let mut seen = tree(State::Paused);
    seen.rollout.as_mut().and_then(|rollout| rollout.status.as_mut()).unwrap().current_step_index = None;
    server.answer(v1::GetRolloutTreeResponse { tree: Some(seen) });
    server.answer(v1::PromoteRolloutResponse {
        rollout: Some(rollout(State::Progressing)),
        ..Default::default()
    });
    run(&server, "promote web").await.ok();
    let from = server.request::<v1::PromoteRolloutRequest>().from;
    assert_eq!(from, Some(Seen { pod_template_hash: "v2".to_owned(), step_index: None }));
}

#[tokio::test]
async fn what_no_controller_has_seen_is_neither_promoted_nor_undone() {
    for verb in ["promote", "undo"] {
        let server = Server::start().await;
        let unseen = v1::Rollout { name: NAME.to_owned(), ..Default::default() };
        server.answer(v1::GetRolloutResponse { rollout: Some(unseen.clone()) });
        let tree = v1::RolloutTree { rollout: Some(unseen), ..Default::default() };
        server.answer(v1::GetRolloutTreeResponse { tree: Some(tree) });
        let stderr = run(&server, &format!("{verb} web")).await.failed(4);
        assert!(stderr.starts_with("error: no controller has seen rollout default/web yet\n"), "{stderr}");
        assert_eq!(server.request_count(), 1, "only what was read");
    }
}

#[tokio::test]
async fn a_stale_promotion_ends_with_4_and_says_where_to_look() {
    let server = Server::start().await;
    server.answer(v1::GetRolloutTreeResponse { tree: Some(tree(State::Paused)) });
    let details = ErrorDetails::with_error_info("STALE_STEP", "rolloutd.dev", []);
    let status = Status::with_error_details(Code::FailedPrecondition, "the rollout is at step 2", details);
    server.refuse::<v1::PromoteRolloutResponse>(status);
    let stderr = run(&server, "promote web").await.failed(4);
    let lines: Vec<&str> = stderr.lines().skip(1).collect();
    assert_eq!(lines[0], "error: the rollout is at step 2");
    assert!(lines[1].contains("`rolloutctl get default/web`"), "{stderr}");
}

/// Runs a verb whose answer is prepared; gives the output and the request.
macro_rules! mutate {
    ($line:expr, $response:ident, $request:ident) => {{
        let server = Server::start().await;
        server.answer(v1::GetRolloutResponse { rollout: Some(rollout(State::Paused)) });
        server.answer(v1::$response { rollout: Some(rollout(State::Progressing)), ..Default::default() });
        let stdout = run(&server, &format!("{} {GUARDS}", $line)).await.ok();
        let request = server.request::<v1::$request>();
        assert_eq!(request.name, NAME, "{}", $line);
        assert_eq!((request.etag.as_str(), request.request_id.as_str()), ("e1", REQUEST_ID), "{}", $line);
        assert!(request.validate_only, "{}", $line);
        (stdout, request)
    }};
}

#[tokio::test]
async fn every_mutation_sends_the_name_and_its_guards_and_says_what_it_did() {
    let (pause, _) = mutate!("pause web", PauseRolloutResponse, PauseRolloutRequest);
    let (resume, _) = mutate!("resume web", ResumeRolloutResponse, ResumeRolloutRequest);
    let (abort, _) = mutate!("abort web", AbortRolloutResponse, AbortRolloutRequest);
    let (retry, _) = mutate!("retry web", RetryRolloutResponse, RetryRolloutRequest);
    let (undo, undone) = mutate!("undo web --to-revision 1", RollbackRolloutResponse, RollbackRolloutRequest);
    let (scale, scaled) = mutate!("scale web --replicas 0", ScaleRolloutResponse, ScaleRolloutRequest);
    let (image, set) =
        mutate!("set image web web=shop/web:v3 *=x", SetRolloutImageResponse, SetRolloutImageRequest);
    for (stdout, done) in [
        (pause, "paused"),
        (resume, "resumed"),
        (abort, "aborted"),
        (retry, "retried"),
        (undo, "rolled back"),
        (scale, "scaled"),
        (image, "image updated"),
    ] {
        assert_eq!(stdout, format!("rollout.argoproj.io/web {done} (server dry run)\n"));
    }
    assert_eq!((undone.from.unwrap().pod_template_hash.as_str(), undone.to_revision), ("v2", 1));
    assert_eq!(scaled.replicas, Some(0), "zero is a number of pods and not its absence");
    let images: Vec<_> =
        set.images.iter().map(|image| (image.container.as_str(), image.image.as_str())).collect();
    assert_eq!(images, [("web", "shop/web:v3"), ("*", "x")]);
}

#[tokio::test]
async fn undo_without_a_revision_asks_for_the_one_before_the_newest() {
    let server = Server::start().await;
    server.answer(v1::GetRolloutResponse { rollout: Some(rollout(State::Healthy)) });
    server.answer(v1::RollbackRolloutResponse {
        rollout: Some(rollout(State::Progressing)),
        ..Default::default()
    });
    run(&server, "undo web").await.ok();
    assert_eq!(server.request::<v1::RollbackRolloutRequest>().to_revision, 0);
}

#[tokio::test]
async fn restart_says_from_when_on_or_leaves_it_to_the_servers_clock() {
    for (flag, time) in [
        ("", None),
        ("--at 2026-01-31T12:00:00.5Z", Some((1_769_860_800, 500_000_000))),
        ("--at 1969-12-31T23:59:59.5-00:00", Some((-1, 500_000_000))),
    ] {
        let (stdout, request) =
            mutate!(format!("restart web {flag}"), RestartRolloutResponse, RestartRolloutRequest);
        assert_eq!(stdout, "rollout.argoproj.io/web restarted (server dry run)\n");
        assert_eq!(request.restart_time.map(|time| (time.seconds, time.nanos)), time, "{flag}");
    }
}

#[tokio::test]
async fn delete_says_what_becomes_of_the_rest() {
    for (flag, propagation) in [
        ("", Propagation::Background),
        ("--cascade background", Propagation::Background),
        ("--cascade foreground", Propagation::Foreground),
        ("--cascade=orphan", Propagation::Orphan),
    ] {
        let server = Server::start().await;
        server.answer(v1::DeleteRolloutResponse::default());
        let stdout = run(&server, &format!("delete shop/web {flag} --etag e1")).await.ok();
        assert_eq!(stdout, "rollout.argoproj.io/web deleted\n");
        let request = server.request::<v1::DeleteRolloutRequest>();
        assert_eq!(request.name, "namespaces/shop/rollouts/web");
        assert_eq!((request.propagation(), request.etag.as_str()), (propagation, "e1"));
        assert!(!request.validate_only);
    }
}

#[tokio::test]
async fn a_mutation_prints_the_rollout_in_every_form() {
    for (form, expected) in [
        ("json", "\"state\": \"STATE_PAUSED\""),
        ("yaml", "state: STATE_PAUSED"),
        ("name", "rollout.argoproj.io/web\n"),
        ("wide", "UP-TO-DATE"),
    ] {
        let server = Server::start().await;
        server
            .answer(v1::PauseRolloutResponse { rollout: Some(rollout(State::Paused)), ..Default::default() });
        let stdout = run(&server, &format!("pause web -o {form}")).await.ok();
        assert!(stdout.contains(expected), "{form}: {stdout}");
    }
}

#[tokio::test]
async fn warnings_go_to_standard_error() {
    let server = Server::start().await;
    let warning = v1::Warning {
        field: "spec.template".to_owned(),
        description: "argocd will revert this".to_owned(),
        ..Default::default()
    };
    let rollout = Some(rollout(State::Paused));
    server.answer(v1::PauseRolloutResponse { rollout, warnings: vec![warning], ..Default::default() });
    let ended = run(&server, "pause web -o name").await;
    assert_eq!(ended.stderr, "warning: spec.template: argocd will revert this\n");
    assert_eq!(ended.ok(), "rollout.argoproj.io/web\n");
}

/// A server that has a rollout with metadata and environment, and takes others.
async fn with_metadata() -> Server {
    let server = Server::start().await;
    let map = |entries: &[(&str, &str)]| {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let canary_metadata =
        v1::PodMetadata { labels: map(&[("role", "canary"), ("tier", "a")]), ..Default::default() };
    let canary = v1::CanaryStrategy { canary_metadata: Some(canary_metadata), ..Default::default() };
    let environment = v1::PodEnvironment {
        stable: Some(v1::EnvironmentValues { values: map(&[("LOG_LEVEL", "info"), ("OLD", "1")]) }),
        ..Default::default()
    };
    let mut seen = rollout(State::Healthy);
    seen.etag = "e7".to_owned();
    seen.spec = Some(v1::RolloutSpec {
        strategy: Some(v1::rollout_spec::Strategy::Canary(canary)),
        environment: Some(environment),
        ..Default::default()
    });
    server.answer(v1::GetRolloutResponse { rollout: Some(seen.clone()) });
    server.answer(v1::SetRolloutMetadataResponse { rollout: Some(seen), ..Default::default() });
    server
}

#[tokio::test]
async fn set_environment_keeps_what_it_does_not_name_and_guards_what_it_saw() {
    let server = with_metadata().await;
    let line = "set environment web --of active LOG_LEVEL=debug OLD- NEW_TOKEN=x --allow NEW_TOKEN";
    assert_eq!(run(&server, line).await.ok(), "rollout.argoproj.io/web environment updated\n");
    let request = server.request::<v1::SetRolloutMetadataRequest>();
    let values = request.stable_environment.unwrap().values;
    let values: Vec<_> = values.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(values, ["LOG_LEVEL=debug", "NEW_TOKEN=x"]);
    assert_eq!(
        (request.canary_environment, request.canary_metadata, request.stable_metadata),
        (None, None, None)
    );
    assert_eq!(
        (request.etag.as_str(), request.allowed_names.as_slice()),
        ("e7", &["NEW_TOKEN".to_owned()][..])
    );
}

#[tokio::test]
async fn set_environment_does_not_overwrite_what_it_cannot_read() {
    let unreadable = || async {
        let server = Server::start().await;
        let mut seen = rollout(State::Healthy);
        seen.unreadable_fields = vec!["spec.environment.stable".to_owned()];
        server.answer(v1::GetRolloutResponse { rollout: Some(seen.clone()) });
        server.answer(v1::SetRolloutMetadataResponse { rollout: Some(seen), ..Default::default() });
        server
    };
    let stderr = run(&unreadable().await, "set environment web --of stable A=b").await.failed(4);
    assert!(stderr.contains("rolloutd.dev/stable-environment cannot be read"), "{stderr}");
    assert!(stderr.contains("--replace"), "{stderr}");
    let alone = || [("A".to_owned(), "b".to_owned())].into();
    for line in ["set environment web --of stable A=b --replace", "set environment web --of canary A=b"] {
        let server = unreadable().await;
        run(&server, line).await.ok();
        let request = server.request::<v1::SetRolloutMetadataRequest>();
        let given = request.stable_environment.or(request.canary_environment).unwrap();
        assert_eq!(given.values, alone(), "{line}");
    }
    let server = with_metadata().await;
    run(&server, "set environment web --of stable A=b --replace").await.ok();
    let given = server.request::<v1::SetRolloutMetadataRequest>().stable_environment.unwrap();
    assert_eq!(given.values, alone());
}

#[tokio::test]
async fn set_metadata_keeps_what_it_does_not_name() {
    let server = with_metadata().await;
    let line = format!("set metadata web --of canary -l role=new -l tier- -a note=x {GUARDS}");
    let stdout = run(&server, &line).await.ok();
    assert_eq!(stdout, "rollout.argoproj.io/web metadata updated (server dry run)\n");
    let request = server.request::<v1::SetRolloutMetadataRequest>();
    let metadata = request.canary_metadata.unwrap();
    assert_eq!(metadata.labels.into_iter().collect::<Vec<_>>(), [("role".to_owned(), "new".to_owned())]);
    assert_eq!(metadata.annotations["note"], "x");
    assert_eq!(
        (request.etag.as_str(), request.request_id.as_str(), request.validate_only),
        ("e1", REQUEST_ID, true)
    );
}
