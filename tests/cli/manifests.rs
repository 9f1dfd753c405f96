//! `apply` and `create`.

use std::fs;

use prost::Message as _;
use rolloutd::pb::v1;
use tonic::{Code, Status};
use v1::applied_object::Outcome;

use crate::program::{run, run_with_input};
use crate::server::Server;

pub(crate) fn object(kind: &str, outcome: Outcome) -> v1::AppliedObject {
    let api_version = if kind == "Rollout" { "argoproj.io/v1alpha1" } else { "v1" };
    v1::AppliedObject {
        object: Some(v1::ObjectReference {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: "default".to_owned(),
            name: "web".to_owned(),
        }),
        outcome: outcome.into(),
        ..Default::default()
    }
}

pub(crate) fn applied(objects: impl Into<Vec<v1::AppliedObject>>) -> v1::ApplyManifestResponse {
    v1::ApplyManifestResponse { objects: objects.into(), ..Default::default() }
}

#[tokio::test]
async fn apply_sends_standard_input_as_it_is_and_says_what_became_of_each_object() {
    let server = Server::start().await;
    server.answer(applied([
        object("Service", Outcome::Unchanged),
        object("Rollout", Outcome::Created),
        object("Rollout", Outcome::Configured),
    ]));
    let manifest = "# a comment\nkind: Rollout\nbig: 9007199254740993\n";
    let id = "01890000-0000-7000-8000-000000000001";
    let ended = run_with_input(&server, &format!("apply -n shop -f - --request-id {id}"), manifest).await;
    assert_eq!(
        ended.ok(),
        "service/web unchanged\nrollout.argoproj.io/web created\nrollout.argoproj.io/web configured\n"
    );
    let expected = v1::ApplyManifestRequest {
        parent: "namespaces/shop".to_owned(),
        manifest: manifest.to_owned(),
        request_id: id.to_owned(),
        ..Default::default()
    };
    assert_eq!(server.request::<v1::ApplyManifestRequest>(), expected);
}

#[tokio::test]
async fn files_and_directories_are_applied_in_order_up_to_the_first_that_fails() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::create_dir(path("more")).unwrap();
    for name in ["z.yaml", "more/a.yaml", "more/b.json", "more/c.yml"] {
        fs::write(path(name), name).unwrap();
    }
    server.answer(applied([object("Service", Outcome::Created)]));
    server.answer(applied([object("Rollout", Outcome::Created)]));
    server.refuse::<v1::ApplyManifestResponse>(Status::invalid_argument("[0]: no kind"));
    let ended = run(&server, &format!("apply --dry-run -f {} -f {}", path("z.yaml"), path("more"))).await;
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        ended.stdout,
        "service/web created (server dry run)\nrollout.argoproj.io/web created (server dry run)\n"
    );
    let (left, failed) = (path("more/c.yml"), path("more/b.json"));
    assert_eq!(ended.stderr, format!("not attempted: {left}\nerror: {failed}: [0]: no kind\n"));
    let requests = server.requests::<v1::ApplyManifestRequest>();
    let sent: Vec<_> =
        requests.iter().map(|request| (request.manifest.as_str(), request.validate_only)).collect();
    assert_eq!(sent, [("z.yaml", true), ("more/a.yaml", true), ("more/b.json", true)]);
}

#[tokio::test]
async fn a_missing_file_changes_nothing() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let present = folder.path().join("a.yaml");
    fs::write(&present, "kind: Rollout").unwrap();
    let stderr =
        run(&server, &format!("apply -f {} -f {}/missing.yaml", present.display(), folder.path().display()))
            .await
            .failed(1);
    assert!(stderr.starts_with("error: cannot read ") && stderr.contains("missing.yaml"), "{stderr}");
    assert_eq!(server.request_count(), 0);
}

#[tokio::test]
async fn a_request_id_does_not_go_with_several_files() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.yaml", "b.yaml"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let id = "01890000-0000-7000-8000-000000000001";
    let line = format!("apply -f {} --request-id {id}", folder.path().display());
    run(&server, &line).await.failed(2);
    assert_eq!(server.request_count(), 0);
}

#[tokio::test]
async fn a_manifest_that_fails_half_way_says_what_was_written() {
    let answer = applied([
        object("Service", Outcome::Created),
        object("Rollout", Outcome::Failed),
        object("Service", Outcome::NotAttempted),
    ]);
    let details = tonic_types::Status {
        code: Code::FailedPrecondition.into(),
        message: "refused by a webhook".to_owned(),
        details: vec![prost_types::Any {
            type_url: "type.googleapis.com/rolloutd.v1.ApplyManifestResponse".to_owned(),
            value: answer.encode_to_vec(),
        }],
    };
    let server = Server::start().await;
    server.refuse::<v1::ApplyManifestResponse>(Status::with_details(
        Code::FailedPrecondition,
        "refused by a webhook",
        details.encode_to_vec().into(),
    ));
    let ended = run_with_input(&server, "apply -f -", "kind: Rollout").await;
    assert_eq!(ended.code, Some(4));
    assert_eq!(
        ended.stdout,
        "service/web created\nrollout.argoproj.io/web failed\nservice/web not attempted\n"
    );
    assert_eq!(ended.stderr, "error: standard input: refused by a webhook\n");
}

#[tokio::test]
async fn applied_objects_are_printed_as_data_and_as_names() {
    for (form, expected) in
        [("json", "\"outcome\": \"OUTCOME_CREATED\""), ("name", "rollout.argoproj.io/web\n")]
    {
        let server = Server::start().await;
        server.answer(applied([object("Rollout", Outcome::Created)]));
        let stdout = run_with_input(&server, &format!("apply -f - -o {form}"), "").await.ok();
        assert!(stdout.contains(expected), "{stdout}");
    }
}

#[tokio::test]
async fn create_checks_first_and_then_writes() {
    let server = Server::start().await;
    server.answer(applied([object("Rollout", Outcome::Created)]));
    server.answer(applied([object("Rollout", Outcome::Created)]));
    let stdout = run_with_input(&server, "create -f -", "kind: Rollout").await.ok();
    assert_eq!(stdout, "rollout.argoproj.io/web created\n");
    let requests = server.requests::<v1::ApplyManifestRequest>();
    let modes: Vec<bool> = requests.iter().map(|request| request.validate_only).collect();
    assert_eq!(modes, [true, false]);
}

#[tokio::test]
async fn create_writes_nothing_in_a_dry_run_or_when_something_exists() {
    let server = Server::start().await;
    server.answer(applied([object("Rollout", Outcome::Created)]));
    let stdout = run_with_input(&server, "create -f - --dry-run", "").await.ok();
    assert_eq!(stdout, "rollout.argoproj.io/web created (server dry run)\n");

    for outcome in [Outcome::Configured, Outcome::Unchanged] {
        server.answer(applied([object("Service", Outcome::Created), object("Rollout", outcome)]));
        let stderr = run_with_input(&server, "create -f -", "").await.failed(1);
        assert!(stderr.starts_with("error: rollout.argoproj.io/web exists already\n"), "{stderr}");
    }
    assert!(server.requests::<v1::ApplyManifestRequest>().iter().all(|request| request.validate_only));
}

#[tokio::test]
async fn create_says_when_somebody_else_was_faster() {
    let server = Server::start().await;
    server.answer(applied([object("Rollout", Outcome::Created)]));
    server.answer(applied([object("Rollout", Outcome::Configured)]));
    let ended = run_with_input(&server, "create -f -", "").await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), "rollout.argoproj.io/web configured\n"));
    assert!(ended.stderr.contains("somebody else was faster: rollout.argoproj.io/web"), "{}", ended.stderr);
}
