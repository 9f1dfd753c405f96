//! `diff`.

use std::fs;

use rolloutd::pb::v1;
use tonic::{Code, Status};
use v1::applied_object::Outcome;

use crate::NAME;
use crate::manifests::{applied, object};
use crate::program::{run, run_with_input};
use crate::server::Server;

const DIFF: &str =
    "--- revision 1\n+++ revision 2\n@@ -1,2 +1,2 @@\n containers:\n-- image: a:1\n+- image: a:2\n \n";

fn comparison() -> v1::DiffRevisionsResponse {
    let change = v1::diff_revisions_response::Change {
        path: "spec.containers[0].image".to_owned(),
        from_json: "\"a:1\"".to_owned(),
        to_json: "\"a:2\"".to_owned(),
    };
    v1::DiffRevisionsResponse { changes: vec![change], unified_diff: DIFF.to_owned() }
}

fn changed(kind: &str, outcome: Outcome, unified_diff: &str) -> v1::AppliedObject {
    v1::AppliedObject { unified_diff: unified_diff.to_owned(), ..object(kind, outcome) }
}

#[tokio::test]
async fn revisions_that_differ_end_with_1_and_their_diff_comes_as_it_is() {
    let server = Server::start().await;
    server.answer(comparison());
    let ended = run(&server, "diff web --from 1 --to 2").await;
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(1), DIFF, ""));
    let expected = v1::DiffRevisionsRequest { name: NAME.to_owned(), from_revision: 1, to_revision: 2 };
    assert_eq!(server.request::<v1::DiffRevisionsRequest>(), expected);
}

#[tokio::test]
async fn without_numbers_the_stable_revision_is_compared_with_the_newest_and_no_difference_ends_with_0() {
    let server = Server::start().await;
    server.answer(v1::DiffRevisionsResponse::default());
    assert_eq!(run(&server, "diff shop/web").await.ok(), "");
    let request = server.request::<v1::DiffRevisionsRequest>();
    assert_eq!(request.name, "namespaces/shop/rollouts/web");
    assert_eq!((request.from_revision, request.to_revision), (0, 0));
}

#[tokio::test]
async fn a_comparison_as_data_is_the_message_and_its_code_the_same() {
    let server = Server::start().await;
    server.answer(comparison());
    let ended = run(&server, "diff web -o json").await;
    assert_eq!(ended.code, Some(1));
    let value: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(value["changes"][0]["path"], "spec.containers[0].image");
    assert_eq!(value["unifiedDiff"], DIFF);
}

#[tokio::test]
async fn manifests_are_compared_by_a_dry_run_and_objects_that_stay_are_not_shown() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), "a").unwrap();
    fs::write(folder.path().join("b.yaml"), "b").unwrap();
    server.answer(applied([
        changed("Service", Outcome::Unchanged, ""),
        changed("Rollout", Outcome::Configured, "@@ -1 +1 @@\n-a\n+b\n"),
    ]));
    server.answer(applied([changed("Service", Outcome::Created, "@@ -0,0 +1 @@\n+c\n")]));
    let ended = run(&server, &format!("diff -n shop --force -f {}", folder.path().display())).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(
        ended.stdout,
        "rollout.argoproj.io/web configured:\n@@ -1 +1 @@\n-a\n+b\nservice/web created:\n@@ -0,0 +1 @@\n+c\n"
    );
    for request in server.requests::<v1::ApplyManifestRequest>() {
        assert!(request.validate_only && request.force, "{request:?}");
        assert_eq!(request.parent, "namespaces/shop");
    }
}

#[tokio::test]
async fn manifests_without_a_difference_end_with_0() {
    let server = Server::start().await;
    server.answer(applied([
        changed("Service", Outcome::Unchanged, ""),
        changed("Rollout", Outcome::Configured, ""),
    ]));
    let ended = run_with_input(&server, "diff -f -", "x").await;
    assert_eq!(ended.stderr, "rollout.argoproj.io/web changes in its bookkeeping only\n");
    assert_eq!(ended.ok(), "");
}

#[tokio::test]
async fn a_comparison_that_fails_ends_with_neither_0_nor_1() {
    for (code, exit) in [
        (Code::InvalidArgument, 8),
        (Code::Unimplemented, 8),
        (Code::NotFound, 3),
        (Code::FailedPrecondition, 4),
        (Code::Unavailable, 5),
    ] {
        let server = Server::start().await;
        server.refuse::<v1::DiffRevisionsResponse>(Status::new(code, "no"));
        server.refuse::<v1::ApplyManifestResponse>(Status::new(code, "no"));
        run(&server, "diff web").await.failed(exit);
        run_with_input(&server, "diff -f -", "x").await.failed(exit);
    }
    let server = Server::start().await;
    run(&server, "diff -f /nowhere.yaml").await.failed(8);
    for line in ["diff", "diff web -f a.yaml", "diff -f a.yaml --from 1", "diff web --force"] {
        run(&server, line).await.failed(2);
    }
}
