//! Plugins that are served by the test itself: the processes are shells that greet on their behalf.

use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::SignedDuration;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response};

use super::*;
use crate::crd::StepPluginPhase;
use crate::pb::plugin::v1::step_plugin_service_server::{StepPluginService, StepPluginServiceServer};
use crate::pb::wide::{struct_to_json, value_to_json};
use crate::plan::{Asked, UpdateId};

/// A plugin that does as the step's configuration says.
struct Fake;

impl Fake {
    /// What was asked, given back as status.
    async fn outcome(operation: &str, step: Option<v1::Step>) -> Result<Option<v1::Outcome>, Status> {
        let v1::Step { plugin_name, step_index, config, status, rollout } = step.expect("a step");
        let config = value_to_json(config.unwrap_or_default()).0;
        let told = |wide: Option<prost_types::Struct>| wide.map(|wide| struct_to_json(wide).0);
        let mut outcome = v1::Outcome {
            phase: v1::Phase::Running.into(),
            message: "so far so good".to_owned(),
            requeue_after: Some(prost_types::Duration { seconds: 15, nanos: 0 }),
            status: wide(&json!({
                "operation": operation,
                "plugin": plugin_name,
                "index": step_index,
                "config": config,
                "before": told(status),
                "rollout": told(rollout),
            })),
        };
        match config["do"].as_str() {
            Some("hang") => std::future::pending().await,
            Some("refuse") => return Err(Status::unavailable("the lab is closed")),
            Some("panic") => panic!("a plugin may"),
            Some("say nothing") => return Ok(None),
            Some("no phase") => outcome.phase = 0,
            Some("large") => outcome.status = wide(&json!({ "large": "x".repeat(70_000) })),
            _ => {}
        }
        Ok(Some(outcome))
    }
}

fn wide(json: &Value) -> Option<prost_types::Struct> {
    crate::pb::wide::json_to_struct(json)
}

#[tonic::async_trait]
impl StepPluginService for Fake {
    async fn run(&self, request: Request<v1::RunRequest>) -> Result<Response<v1::RunResponse>, Status> {
        let outcome = Self::outcome("Run", request.into_inner().step).await?;
        Ok(Response::new(v1::RunResponse { outcome }))
    }

    async fn terminate(
        &self,
        request: Request<v1::TerminateRequest>,
    ) -> Result<Response<v1::TerminateResponse>, Status> {
        let outcome = Self::outcome("Terminate", request.into_inner().step).await?;
        Ok(Response::new(v1::TerminateResponse { outcome }))
    }

    async fn abort(&self, request: Request<v1::AbortRequest>) -> Result<Response<v1::AbortResponse>, Status> {
        let outcome = Self::outcome("Abort", request.into_inner().step).await?;
        Ok(Response::new(v1::AbortResponse { outcome }))
    }
}

/// A folder where plugins note their process ids, and where it says on which socket they are.
struct Lab {
    folder: TempDir,
    plugins: StepPlugins,
}

struct Serving {
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Serving {
    /// Closes all connections.
    async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

/// The plugins of the tests. The second and third have nothing to do with the first.
const NAMES: [&str; 3] = ["acme/smoke", "acme/other", "acme/broken"];

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script =
            r#"echo $$ >> "$1/$2"; echo "1|1|unix|$(cat "$1/socket")|grpc"; echo more; exec sleep 1000"#;
        let place = folder.path().to_str().unwrap();
        let entry = |name: &&str| {
            let script = if *name == NAMES[2] { "exit 7" } else { script };
            json!({
                "name": name,
                "location": "file:///bin/sh",
                "args": ["-c", script, "sh", place, name.replace('/', "-")],
            })
        };
        let entries: Vec<Value> = NAMES.iter().map(entry).collect();
        let plugins = StepPlugins::new(Configuration::read(Some(&json!(entries).to_string())));
        Self { folder, plugins }
    }

    /// Serves all plugins that start from now on; those that are there know nothing of it.
    fn serve(&self, socket: &str) -> Serving {
        let socket = self.path(socket);
        let listener = UnixListener::bind(&socket).unwrap();
        std::fs::write(self.path("socket"), socket.to_str().unwrap()).unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let server = Server::builder().add_service(StepPluginServiceServer::new(Fake));
        let serving = async move {
            server.serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopped).await.unwrap();
        };
        Serving { stop, serving: tokio::spawn(serving) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The ids of all processes that the first plugin had.
    fn processes(&self) -> Vec<String> {
        ids(&self.path("acme-smoke"))
    }

    async fn ask(&self, config: Value) -> Result<Reply, String> {
        self.plugins.call(&call(StepPluginOperation::Run, config), &json!({})).await
    }
}

fn ids(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

fn call(operation: StepPluginOperation, config: Value) -> Call {
    let asked =
        Asked { update: UpdateId::default(), index: 2, name: NAMES[0].to_owned(), operation, executions: 0 };
    Call { asked, config: Some(config), status: None }
}

fn named(name: &str, config: Value) -> Call {
    let call = call(StepPluginOperation::Run, config);
    Call { asked: Asked { name: name.to_owned(), ..call.asked }, ..call }
}

/// Ends a process.
fn kill(id: &str) {
    assert!(Command::new("kill").args(["-9", id]).status().unwrap().success(), "{id} was there");
}

/// Whether a process is there.
fn lives(id: &str) -> bool {
    Command::new("kill").args(["-0", id]).stderr(std::process::Stdio::null()).status().unwrap().success()
}

#[tokio::test]
async fn each_operation_is_told_all_and_its_answer_comes_back() {
    let lab = Lab::new();
    let _server = lab.serve("a.sock");
    let rollout = json!({ "metadata": { "name": "web", "generation": 3 } });
    for operation in [StepPluginOperation::Run, StepPluginOperation::Terminate, StepPluginOperation::Abort] {
        let name = operation.to_string();
        let call = Call {
            status: Some(json!({ "seen": 1 })),
            ..call(operation, json!({ "url": "http://x", "successes": 3 }))
        };
        let reply = lab.plugins.call(&call, &rollout).await.unwrap();
        let expected = json!({
            "operation": name,
            "plugin": "acme/smoke",
            "index": 2,
            "config": { "url": "http://x", "successes": 3 },
            "before": { "seen": 1 },
            "rollout": rollout,
        });
        assert_eq!(reply.status, Some(expected));
        assert_eq!((reply.phase, reply.message.as_str()), (StepPluginPhase::Running, "so far so good"));
        assert_eq!(reply.requeue_after, Some(SignedDuration::from_secs(15)));
    }
    assert_eq!(lab.processes().len(), 1, "one process serves all");
}

#[tokio::test]
async fn many_calls_at_once_start_one_process() {
    let lab = Lab::new();
    let _server = lab.serve("a.sock");
    let calls = (0..20).map(|index| lab.ask(json!(index)));
    for reply in futures::future::join_all(calls).await {
        reply.unwrap();
    }
    assert_eq!(lab.processes().len(), 1);
}

#[tokio::test]
async fn a_process_that_was_killed_is_started_again() {
    let lab = Lab::new();
    let _server = lab.serve("a.sock");
    lab.ask(json!(1)).await.unwrap();
    let process = lab.plugins.runners[NAMES[0]].process().await.unwrap();
    kill(&lab.processes()[0]);
    process.ended().cancelled().await;
    lab.ask(json!(2)).await.unwrap();
    assert_eq!(lab.processes().len(), 2);
}

#[tokio::test]
async fn a_process_whose_connection_broke_is_replaced() {
    let lab = Lab::new();
    let server = lab.serve("a.sock");
    lab.ask(json!(1)).await.unwrap();
    let process = lab.plugins.runners[NAMES[0]].process().await.unwrap();
    let _next = lab.serve("b.sock");
    server.stop().await;
    lab.ask(json!(2)).await.unwrap();
    process.ended().cancelled().await;
    let processes = lab.processes();
    assert_eq!(processes.len(), 2);
    assert!(!lives(&processes[0]) && lives(&processes[1]));
}

#[tokio::test]
async fn a_plugin_that_does_not_start_is_an_error() {
    let lab = Lab::new();
    let broken = lab.plugins.call(&named(NAMES[2], json!({})), &json!({})).await;
    assert_eq!(broken, Err("/bin/sh ended (exit status: 7) without a greeting".to_owned()));
}

#[tokio::test]
async fn the_process_ends_with_the_last_who_may_call_it() {
    let Lab { folder, plugins } = {
        let lab = Lab::new();
        let _server = lab.serve("a.sock");
        lab.ask(json!(1)).await.unwrap();
        lab
    };
    let process = plugins.runners[NAMES[0]].process().await.unwrap();
    let ended = process.ended();
    drop(process);
    drop(plugins.clone());
    let id = ids(&folder.path().join("acme-smoke")).remove(0);
    assert!(lives(&id));
    drop(plugins);
    ended.cancelled().await;
    assert!(!lives(&id));
}

#[tokio::test]
async fn an_answer_that_cannot_be_taken_is_an_error_and_ends_nothing() {
    let lab = Lab::new();
    let _server = lab.serve("a.sock");
    for (told, said) in [
        ("large", "its answer has a status of 70012 bytes as JSON"),
        ("no phase", "its answer has no phase"),
        ("say nothing", "its answer has no outcome"),
        ("refuse", "it answers with the error Unavailable: the lab is closed"),
    ] {
        let error = lab.ask(json!({ "do": told })).await.unwrap_err();
        assert!(error.starts_with(said), "{error}");
    }
    assert_eq!(lab.processes().len(), 1);
}

#[tokio::test]
async fn a_plugin_that_breaks_down_is_asked_twice_and_no_more() {
    let lab = Lab::new();
    let _server = lab.serve("a.sock");
    let error = lab.ask(json!({ "do": "panic" })).await.unwrap_err();
    assert!(error.starts_with("it cannot be reached: "), "{error}");
    assert_eq!(lab.processes().len(), 2);
    lab.ask(json!(1)).await.unwrap();
}

#[tokio::test]
async fn a_call_that_hangs_holds_nobody_up_and_ends() {
    let lab = Lab::new();
    let _server = lab.serve("a.sock");
    let plugins = lab.plugins.clone();
    let hang = call(StepPluginOperation::Run, json!({ "do": "hang" }));
    let hanging = tokio::spawn(async move { plugins.call(&hang, &json!({})).await });
    lab.ask(json!(1)).await.unwrap();
    lab.plugins.call(&named(NAMES[1], json!(1)), &json!({})).await.unwrap();
    assert!(!hanging.is_finished());
    tokio::time::pause();
    assert_eq!(hanging.await.unwrap(), Err("it does not answer within 60 s".to_owned()));
}

#[tokio::test]
async fn what_is_not_there_to_be_asked_is_an_error_with_the_reason() {
    let text = "- {name: a/off, disabled: true}\n- {name: a/web, location: https://example.com}\n";
    let plugins = StepPlugins::new(Configuration::read(Some(text)));
    let ask = async |name: &str| plugins.call(&named(name, json!({})), &json!({})).await.unwrap_err();
    assert_eq!(ask("a/off").await, "it is disabled");
    assert_eq!(ask("a/none").await, "it is not configured");
    assert!(ask("a/web").await.contains("plugins are not downloaded"));
    assert_eq!(plugins.known().by_name.len(), 2);
}

#[test]
fn the_manifests_of_the_example_are_valid() {
    let read = |text: &str| -> Vec<Value> { serde_saphyr::from_multiple(text).unwrap() };
    let config = read(include_str!("../../examples/step-plugin/configmap.yaml")).remove(0);
    let known = Configuration::read(config["data"]["stepPlugins"].as_str()).known();
    assert_eq!(known.fault, None);
    let rollout = read(include_str!("../../examples/step-plugin/rollout.yaml")).remove(0);
    let step = &rollout["spec"]["strategy"]["canary"]["steps"][1]["plugin"];
    assert_eq!(known.by_name[step["name"].as_str().unwrap()], PluginState::Ready);
    let rollout = serde_json::from_value(rollout).unwrap();
    assert_eq!(crate::validate::rollout(&rollout), []);
}
