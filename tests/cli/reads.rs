//! `get`, `list` and `version`.

use rolloutd::pb::v1;
use v1::rollout_status::State;

use crate::program::{against, finish, run};
use crate::server::Server;
use crate::{NAME, rollout, tree};

#[tokio::test]
async fn get_draws_the_tree() {
    let server = Server::start().await;
    server.answer(v1::GetRolloutTreeResponse { tree: Some(tree(State::Paused)) });
    let stdout = run(&server, "get web").await.ok();
    assert!(stdout.contains("Step:       1/3 (pause: 10m)\n"), "{stdout}");
    assert!(stdout.contains("└─ revision 2"), "{stdout}");
    assert!(!stdout.contains('\u{1b}'), "no colours in a pipe");
    assert_eq!(server.request::<v1::GetRolloutTreeRequest>().name, NAME);
}

#[tokio::test]
async fn get_as_data_is_the_whole_rollout() {
    for form in ["json", "yaml"] {
        let server = Server::start().await;
        server.answer(v1::GetRolloutResponse { rollout: Some(rollout(State::Paused)) });
        let stdout = run(&server, &format!("get shop/web -o {form}")).await.ok();
        // JSON is YAML.
        let value: serde_json::Value = serde_saphyr::from_str(&stdout).unwrap();
        assert_eq!(value["status"]["state"], "STATE_PAUSED");
        assert_eq!(value["status"]["revision"], "2", "64-bit integers are strings in protobuf's mapping");
        let request = server.request::<v1::GetRolloutRequest>();
        assert_eq!((request.name.as_str(), request.view()), ("namespaces/shop/rollouts/web", v1::View::Full));
    }
}

fn page(names: &[&str], next: &str) -> v1::ListRolloutsResponse {
    let rollout = |name: &&str| v1::Rollout { name: (*name).to_owned(), ..rollout(State::Healthy) };
    v1::ListRolloutsResponse {
        rollouts: names.iter().map(rollout).collect(),
        next_page_token: next.to_owned(),
    }
}

#[tokio::test]
async fn list_asks_for_all_pages() {
    let server = Server::start().await;
    server.answer(page(&["namespaces/a/rollouts/web"], "t1"));
    server.answer(page(&["namespaces/b/rollouts/api"], ""));
    let stdout = run(&server, "list -A -l team=shop --page-size 1 --filter state=PAUSED").await.ok();
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines[0].starts_with("NAMESPACE   NAME   STRATEGY   STATE     STEP"), "{stdout}");
    assert!(lines[1].starts_with("a           web    canary     Healthy   1/3"), "{stdout}");
    assert_eq!(lines.len(), 3);
    let requests = server.requests::<v1::ListRolloutsRequest>();
    let first = v1::ListRolloutsRequest {
        parent: "namespaces/-".to_owned(),
        page_size: 1,
        label_selector: "team=shop".to_owned(),
        filter: "state=PAUSED".to_owned(),
        view: v1::View::Basic.into(),
        ..Default::default()
    };
    let second = v1::ListRolloutsRequest { page_token: "t1".to_owned(), ..first.clone() };
    assert_eq!(requests, [first, second]);
}

#[tokio::test]
async fn list_as_data_holds_all_pages_and_is_a_list_even_when_empty() {
    let server = Server::start().await;
    server.answer(page(&["namespaces/default/rollouts/api"], "t1"));
    server.answer(page(&["namespaces/default/rollouts/web"], ""));
    let value = run(&server, "list -o json").await.json();
    let names: Vec<_> = value["rollouts"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["namespaces/default/rollouts/api", "namespaces/default/rollouts/web"]);

    server.answer(page(&[], ""));
    assert_eq!(run(&server, "list -o json").await.json(), serde_json::json!({ "rollouts": [] }));
    server.answer(page(&[], ""));
    let ended = run(&server, "list").await;
    assert_eq!(ended.stderr, "no rollouts found in namespace default\n");
    assert_eq!(ended.ok(), "");
}

#[tokio::test]
async fn a_server_whose_pages_go_round_in_circles_is_not_followed() {
    let server = Server::start().await;
    server.answer(page(&[NAME], "t1"));
    server.answer(page(&[NAME], "t1"));
    let stderr = run(&server, "list").await.failed(1);
    assert!(stderr.contains("a page's next page is itself"), "{stderr}");
}

#[tokio::test]
async fn the_namespace_is_the_flags_then_the_environments() {
    for (line, parent) in [("list", "namespaces/shop"), ("list -n bank", "namespaces/bank")] {
        let server = Server::start().await;
        server.answer(page(&[], ""));
        let mut command = against(&server, line);
        command.env("ROLLOUTD_NAMESPACE", "shop");
        finish(command).await.ok();
        assert_eq!(server.request::<v1::ListRolloutsRequest>().parent, parent);
    }
}

#[tokio::test]
async fn version_tells_of_client_and_server() {
    let server = Server::start().await;
    let info = v1::GetServerInfoResponse {
        version: "9.9.9".to_owned(),
        kubernetes_version: "v1.35.4".to_owned(),
        cluster: "https://10.0.0.1".to_owned(),
        ..Default::default()
    };
    server.answer(info.clone()).answer(info);
    let stdout = run(&server, "version").await.ok();
    assert!(stdout.starts_with(concat!("client: rolloutctl ", env!("CARGO_PKG_VERSION"))), "{stdout}");
    assert!(stdout.contains("\nserver: rolloutd 9.9.9 at http://127.0.0.1:"), "{stdout}");
    assert!(stdout.contains("\nleader: nobody\n"), "{stdout}");
    let value = run(&server, "version -o json").await.json();
    assert_eq!(value["client"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(value["server"]["kubernetesVersion"], "v1.35.4");
}

#[tokio::test]
async fn version_of_the_client_asks_nobody() {
    let server = Server::start().await;
    let value = run(&server, "version --client -o json").await.json();
    assert!(value.get("server").is_none(), "{value}");
    assert_eq!(server.request_count(), 0);
}

#[tokio::test]
async fn explain_says_what_is_waited_for_and_what_comes_next() {
    let server = Server::start().await;
    let blocker = v1::Blocker {
        object: Some(v1::ObjectReference {
            kind: "ReplicaSet".to_owned(),
            name: "web-1".to_owned(),
            ..Default::default()
        }),
        condition: "status.availableReplicas 1/3".to_owned(),
        message: "2 of 3 pods are not available".to_owned(),
        next: "its pods come up".to_owned(),
        ..Default::default()
    };
    let answer = v1::ExplainRolloutResponse {
        state: State::Progressing.into(),
        message: "more replicas need to be updated".to_owned(),
        blockers: vec![blocker],
    };
    server
        .answer(answer.clone())
        .answer(answer)
        .answer(v1::ExplainRolloutResponse { state: State::Healthy.into(), ..Default::default() });
    let expected = "Progressing: more replicas need to be updated\n\n2 of 3 pods are not available\n  object:    ReplicaSet web-1\n  \
                    condition: status.availableReplicas 1/3\n  next:      its pods come up\n";
    assert_eq!(run(&server, "explain web").await.ok(), expected);
    assert_eq!(server.request::<v1::ExplainRolloutRequest>().name, NAME);
    let value = run(&server, "explain web -o json").await.json();
    assert_eq!(value["blockers"][0]["condition"], "status.availableReplicas 1/3");
    assert_eq!(run(&server, "explain web").await.ok(), "Healthy\nIt waits for nothing.\n");
}
