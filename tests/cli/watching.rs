//! `get -w` and `--until`.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use rolloutd::pb::v1;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tonic::Status;
use v1::rollout_status::State;

use crate::program::{against, run};
use crate::server::{End, Server};
use crate::tree;

#[tokio::test]
async fn a_wait_prints_a_line_for_each_change_and_ends_with_0() {
    let server = Server::start().await;
    let states = [State::Progressing, State::Progressing, State::Paused, State::Healthy];
    server.stream(states.map(tree), End::Hang);
    let stdout = run(&server, "get web --until healthy").await.ok();
    let states: Vec<&str> = stdout.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(states, ["Progressing", "Paused", "Healthy"], "{stdout}");
}

#[tokio::test]
async fn a_wait_that_ends_otherwise_ends_with_7_and_says_why() {
    let server = Server::start().await;
    let mut aborted = tree(State::Degraded);
    aborted.rollout.as_mut().and_then(|rollout| rollout.status.as_mut()).unwrap().message =
        "aborted".to_owned();
    server.stream([aborted], End::Hang);
    let ended = run(&server, "get web --until healthy").await;
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert_eq!(ended.stderr, "error: default/web is Degraded, not healthy: aborted\n");
}

#[tokio::test]
async fn a_wait_ends_with_7_when_its_time_is_over() {
    let server = Server::start().await;
    server.stream([tree(State::Paused)], End::Hang);
    let ended = run(&server, "get web --until healthy --timeout 1s").await;
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(ended.stderr.starts_with("error: not healthy within 1s: web Paused"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_broken_stream_is_opened_again() {
    let server = Server::start().await;
    server.stream([tree(State::Progressing)], End::Close);
    server.stream([], End::Fail(Status::unavailable("draining")));
    server.stream([tree(State::Progressing), tree(State::Healthy)], End::Hang);
    let stdout = run(&server, "get web -w --until settled").await.ok();
    assert_eq!(stdout.lines().count(), 2, "nothing is said twice: {stdout}");
    assert_eq!(server.requests::<v1::WatchRolloutTreeRequest>().len(), 3);
}

#[tokio::test]
async fn a_rollout_that_is_deleted_or_never_was_ends_with_3() {
    let server = Server::start().await;
    server.stream([tree(State::Healthy)], End::Fail(Status::not_found("gone")));
    let ended = run(&server, "get web -w").await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(3), "error: gone\n"));
    server.stream([], End::Fail(Status::not_found("no such rollout")));
    assert_eq!(run(&server, "get web -w").await.failed(3), "error: no such rollout\n");
}

#[tokio::test]
async fn a_watch_that_never_worked_is_not_tried_again() {
    let server = Server::start().await;
    server.stream([], End::Fail(Status::unavailable("not ready")));
    run(&server, "get web -w").await.failed(5);
    assert_eq!(server.request_count(), 1);
}

#[tokio::test]
async fn a_watch_as_json_is_a_line_for_each_tree() {
    let server = Server::start().await;
    server.stream([tree(State::Progressing), tree(State::Healthy)], End::Hang);
    let stdout = run(&server, "get web --until healthy -o json").await.ok();
    let states: Vec<_> = stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|tree| tree["rollout"]["status"]["state"].clone())
        .collect();
    assert_eq!(states, ["STATE_PROGRESSING", "STATE_HEALTHY"]);
}

#[tokio::test]
async fn a_watch_goes_on_until_it_is_ended() {
    let server = Server::start().await;
    server.stream([tree(State::Paused)], End::Hang);
    let mut child = against(&server, "get web -w").spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().is_some(), "it shows the tree first");
    let id = child.id().unwrap().to_string();
    // Not INT: where tests run in the background of a script it is ignored, by programs that they start as well.
    let sent = std::process::Command::new("sh").args(["-c", &format!("kill -s TERM {id}")]).status().unwrap();
    assert!(sent.success());
    let ended = tokio::time::timeout(Duration::from_secs(60), child.wait()).await.expect("it ends").unwrap();
    assert_eq!(ended.signal(), Some(15), "as shells expect of a program that was ended");
}
