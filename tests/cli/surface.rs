//! What all verbs share: exit codes, complaints, and streams that close.

use std::process::Stdio;

use rolloutd::pb::v1;
use tonic::{Code, Status};
use v1::rollout_status::State;

use crate::program::{finish, program, run};
use crate::rollout;
use crate::server::Server;

#[tokio::test]
async fn every_refusal_has_its_exit_code_and_one_line() {
    for (code, exit) in [
        (Code::InvalidArgument, 1),
        (Code::AlreadyExists, 1),
        (Code::ResourceExhausted, 1),
        (Code::Unimplemented, 1),
        (Code::Internal, 1),
        (Code::NotFound, 3),
        (Code::FailedPrecondition, 4),
        (Code::Aborted, 4),
        (Code::Unavailable, 5),
        (Code::DeadlineExceeded, 5),
        (Code::PermissionDenied, 6),
        (Code::Unauthenticated, 6),
    ] {
        let server = Server::start().await;
        server.refuse::<v1::PauseRolloutResponse>(Status::new(code, "no"));
        let stderr = run(&server, "pause web").await.failed(exit);
        assert_eq!(stderr.lines().next(), Some("error: no"), "{code:?}");
        assert!(stderr.lines().skip(1).all(|line| line.starts_with("  ")), "{stderr}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_ends_with_5_and_names_the_address() {
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let stderr = finish(program(&format!("list --server {address}"))).await.failed(5);
    let begin = format!("error: cannot reach the server at http://{address}: ");
    assert!(stderr.starts_with(&begin), "{stderr}");
    assert!(!stderr.contains("transport error"), "the cause is told, not the layer: {stderr}");
}

#[tokio::test]
async fn nonsense_ends_with_2_before_anything_is_sent() {
    for line in ["", "frobnicate", "get", "scale web --replicas many", "get web -o name -w"] {
        finish(program(line)).await.failed(2);
    }
    let stderr = finish(program("delete shop/web -n bank")).await.failed(2);
    assert!(stderr.starts_with("error: shop/web is not in namespace \"bank\""), "{stderr}");
    let mut command = program("list");
    command.env("ROLLOUTD_SERVER", "https://example.com:1");
    let stderr = finish(command).await.failed(2);
    assert!(stderr.starts_with("error: ROLLOUTD_SERVER: "), "{stderr}");
}

#[tokio::test]
async fn help_ends_with_0_and_lists_verbs_and_exit_codes() {
    let stdout = finish(program("--help")).await.ok();
    for text in ["promote", "undo", "ROLLOUTD_SERVER", "Exit codes:", "permission denied"] {
        assert!(stdout.contains(text), "{text}: {stdout}");
    }
}

#[tokio::test]
async fn an_answer_without_a_rollout_is_a_failure_and_no_panic() {
    let server = Server::start().await;
    server.answer(v1::PauseRolloutResponse::default());
    let stderr = run(&server, "pause web").await.failed(1);
    assert!(stderr.starts_with("error: cannot make sense of the server's answer"), "{stderr}");
}

#[tokio::test]
async fn output_that_nobody_reads_ends_the_program_without_a_word() {
    let server = Server::start().await;
    server.answer(v1::PauseRolloutResponse { rollout: Some(rollout(State::Paused)), ..Default::default() });
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = crate::program::against(&server, "pause web");
    command.stdout(Stdio::from(writer));
    let ended = command.spawn().unwrap().wait_with_output().await.unwrap();
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(141), b"".as_slice()));
}

#[tokio::test]
async fn every_call_says_who_makes_it_as_far_as_that_is_known() {
    let server = Server::start().await;
    for (line, variables, actor) in [
        ("pause web", vec![("USER", "ada")], "ada@"),
        ("pause web", vec![("LOGNAME", "ada")], "ada@"),
        ("pause web", vec![("USER", "ada"), ("ROLLOUTD_ACTOR", "release 7")], "release 7"),
        ("pause web --actor Zoë", vec![("ROLLOUTD_ACTOR", "release 7")], "Zo?"),
        ("pause web", vec![], ""),
    ] {
        server
            .answer(v1::PauseRolloutResponse { rollout: Some(rollout(State::Paused)), ..Default::default() });
        let mut command = crate::program::against(&server, line);
        finish({
            command.envs(variables.clone());
            command
        })
        .await
        .ok();
        let said = server.actors().pop().unwrap().unwrap_or_default();
        assert!(said.starts_with(actor), "{variables:?}: {said:?}");
    }
}

#[tokio::test]
async fn completion_is_printed_for_every_shell_and_asks_nobody() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let mut command = program(&format!("completion {shell}"));
        command.env("ROLLOUTD_SERVER", "nonsense://");
        let stdout = finish(command).await.ok();
        for text in ["rolloutctl", "promote", "--to-step"] {
            assert!(stdout.contains(text.trim_start_matches('-')), "{shell} completes {text}");
        }
    }
    finish(program("completion tcsh")).await.failed(2);
}
