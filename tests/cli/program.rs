//! Runs the built `rolloutctl`.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::server::Server;

/// No run takes longer than this, by far; one that hangs fails its test.
const DEADLINE: Duration = Duration::from_secs(60);

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Asserts that it went well, and gives its output.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout
    }

    /// Asserts the code and that nothing was printed, and gives what it complained.
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{self:#?}");
        self.stderr
    }

    pub(crate) fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

/// The program with nothing in its environment; `line` is split at blanks.
pub(crate) fn program(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rolloutctl"));
    command.env_clear().args(line.split_whitespace()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The same against a server.
pub(crate) fn against(server: &Server, line: &str) -> Command {
    let mut command = program(line);
    command.env("ROLLOUTD_SERVER", server.address.to_string());
    command
}

pub(crate) async fn finish(mut command: Command) -> Ended {
    let output = tokio::time::timeout(DEADLINE, command.output()).await.expect("it ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

pub(crate) async fn run(server: &Server, line: &str) -> Ended {
    finish(against(server, line)).await
}

/// The same with something on standard input.
pub(crate) async fn run_with_input(server: &Server, line: &str, input: &str) -> Ended {
    let mut command = against(server, line);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = tokio::time::timeout(DEADLINE, child.wait_with_output()).await.expect("it ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
