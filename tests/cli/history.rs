//! `history` and `activity`.

use rolloutd::pb::v1;
use tonic::Status;

use crate::NAME;
use crate::program::run;
use crate::server::Server;

fn revision(number: i64) -> v1::Revision {
    v1::Revision {
        name: format!("{NAME}/revisions/{number}"),
        revision: number,
        pod_template_hash: format!("v{number}"),
        images: vec![format!("shop/web:v{number}")],
        replicas: 3,
        available_replicas: 2,
        ..v1::Revision::default()
    }
}

fn activity(verb: &str) -> v1::Activity {
    v1::Activity { actor: "ada@desk".to_owned(), verb: verb.to_owned(), ..v1::Activity::default() }
}

#[tokio::test]
async fn history_lists_the_revisions_of_all_pages() {
    let server = Server::start().await;
    let page = |numbers: [i64; 2], next: &str| v1::ListRevisionsResponse {
        revisions: numbers.map(revision).into(),
        next_page_token: next.to_owned(),
    };
    server.answer(page([4, 3], "t1")).answer(page([2, 1], ""));
    let stdout = run(&server, "history web --page-size 2").await.ok();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], "REVISION   ROLE   IMAGES        AGE   PODS   HASH");
    assert_eq!(lines[1], "4          -      shop/web:v4   -     2/3    v4");
    assert_eq!(lines.len(), 5);
    let first = v1::ListRevisionsRequest {
        parent: NAME.to_owned(),
        page_size: 2,
        view: v1::View::Basic.into(),
        ..Default::default()
    };
    let second = v1::ListRevisionsRequest { page_token: "t1".to_owned(), ..first.clone() };
    assert_eq!(server.requests::<v1::ListRevisionsRequest>(), [first, second]);
}

#[tokio::test]
async fn history_as_data_is_whole_and_as_names_can_be_asked_for() {
    let answer = v1::ListRevisionsResponse { revisions: vec![revision(2)], next_page_token: String::new() };
    let server = Server::start().await;
    server.answer(answer.clone()).answer(answer);
    let value = run(&server, "history web -o json").await.json();
    assert_eq!(value["revisions"][0]["revision"], "2");
    assert_eq!(run(&server, "history web -o name").await.ok(), format!("{NAME}/revisions/2\n"));
    let views: Vec<_> =
        server.requests::<v1::ListRevisionsRequest>().iter().map(v1::ListRevisionsRequest::view).collect();
    assert_eq!(views, [v1::View::Full, v1::View::Basic]);
}

#[tokio::test]
async fn one_revision_is_shown_with_its_template() {
    let template: prost_types::Struct = prost_types::Struct {
        fields: [(
            "minReadySeconds".to_owned(),
            prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(5.0)) },
        )]
        .into(),
    };
    let server = Server::start().await;
    server.answer(v1::GetRevisionResponse {
        revision: Some(v1::Revision { template: Some(template), ..revision(3) }),
    });
    let stdout = run(&server, "history shop/web --revision 3").await.ok();
    assert_eq!(
        stdout,
        "Revision:   3\nImages:     shop/web:v3\nAge:        -\nPods:       2/3\nHash:       v3\ntemplate:\n  minReadySeconds: 5\n"
    );
    let request = server.request::<v1::GetRevisionRequest>();
    assert_eq!(request.name, "namespaces/shop/rollouts/web/revisions/3");
    assert_eq!(request.view(), v1::View::Full);

    server.refuse::<v1::GetRevisionResponse>(Status::not_found("no revision 9"));
    assert_eq!(run(&server, "history web --revision 9").await.failed(3), "error: no revision 9\n");
}

#[tokio::test]
async fn activity_lists_who_did_what_over_all_pages() {
    let server = Server::start().await;
    let page = |verb: &str, next: &str| v1::ListRolloutActivityResponse {
        activities: vec![activity(verb)],
        next_page_token: next.to_owned(),
    };
    server.answer(page("PromoteRollout", "t1")).answer(page("SetRolloutImage", ""));
    let stdout = run(&server, "activity web").await.ok();
    let verbs: Vec<&str> =
        stdout.lines().skip(1).map(|line| line.split_whitespace().nth(2).unwrap()).collect();
    assert_eq!(verbs, ["PromoteRollout", "SetRolloutImage"], "{stdout}");
}

#[tokio::test]
async fn activity_asks_for_no_more_than_its_limit() {
    let server = Server::start().await;
    let three = ["a", "b", "c"].map(activity).into();
    server.answer(v1::ListRolloutActivityResponse { activities: three, next_page_token: "t1".to_owned() });
    let value = run(&server, "activity web --limit 2 -o json").await.json();
    let verbs: Vec<_> = value["activities"].as_array().unwrap().iter().map(|one| &one["verb"]).collect();
    assert_eq!(verbs, ["a", "b"]);
    let request = server.request::<v1::ListRolloutActivityRequest>();
    assert_eq!((request.parent.as_str(), request.page_size), (NAME, 2));
}

#[tokio::test]
async fn what_has_no_history_is_said_and_is_an_empty_list_as_data() {
    let server = Server::start().await;
    server.answer(v1::ListRevisionsResponse::default()).answer(v1::ListRevisionsResponse::default());
    server.answer(v1::ListRolloutActivityResponse::default());
    assert_eq!(run(&server, "history web").await.stderr, "no revisions found of rollout default/web\n");
    assert_eq!(run(&server, "history web -o json").await.json(), serde_json::json!({ "revisions": [] }));
    let stderr = run(&server, "activity web").await.stderr;
    assert_eq!(stderr, "nothing is known to have been done to rollout default/web\n");
}
