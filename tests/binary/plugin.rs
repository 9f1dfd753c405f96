//! examples/step-plugin: the plugin in Python, started and asked as rolloutd does it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use rolloutd::crd::{StepPluginOperation, StepPluginPhase};
use rolloutd::plan::{Asked, Call, Reply, UpdateId};
use rolloutd::plugin::{AskPlugins as _, Configuration, StepPlugins};
use serde_json::{Value, json};

use crate::process::{Dev, until};
use crate::tools::{has_kubectl, has_python_grpc};

/// Answers requests with these codes, one after the other; the address.
fn answering(codes: &'static [u16]) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for code in codes {
            let (mut connection, _) = listener.accept().unwrap();
            // A request without a body comes as a whole, and nothing of it matters.
            let _ = connection.read(&mut [0; 4096]).unwrap();
            write!(connection, "HTTP/1.0 {code} As told\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    });
    format!("http://{address}/healthz")
}

/// The Python on the PATH itself: one that is started by a shim would not end with it.
fn python() -> String {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The configuration of the example.
fn entries() -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/step-plugin/plugin.py");
    let entry = json!({
        "name": "example/smoke-test",
        "location": format!("file://{}", python()),
        "args": ["-B", script],
    });
    json!([entry]).to_string()
}

fn plugins() -> StepPlugins {
    StepPlugins::new(Configuration::read(Some(&entries())))
}

async fn ask(plugins: &StepPlugins, operation: StepPluginOperation, config: Value, before: &Reply) -> Reply {
    let asked = Asked {
        update: UpdateId::default(),
        index: 1,
        name: "example/smoke-test".to_owned(),
        operation,
        executions: 0,
    };
    let call = Call { asked, config: Some(config), status: before.status.clone() };
    plugins.call(&call, &json!({ "metadata": { "name": "web" } })).await.unwrap()
}

/// Runs the step until it is over, and says how that went.
async fn run(plugins: &StepPlugins, config: Value) -> Vec<Reply> {
    let nothing =
        Reply { phase: StepPluginPhase::Running, message: String::new(), requeue_after: None, status: None };
    let mut replies = vec![nothing];
    while let Some(before) = replies.last().filter(|reply| reply.phase == StepPluginPhase::Running) {
        let reply = ask(plugins, StepPluginOperation::Run, config.clone(), before).await;
        replies.push(reply);
    }
    replies.remove(0);
    replies
}

#[tokio::test]
async fn the_example_passes_a_step_whose_url_answers_and_fails_one_whose_does_not() {
    if !has_python_grpc() {
        return;
    }
    let plugins = plugins();
    let url = answering(&[200, 503, 200, 200]);
    let passed = run(&plugins, json!({ "url": url, "successes": 2, "interval": 15 })).await;
    let after = |reply: &Reply| reply.requeue_after.map(|after| after.as_secs());
    assert_eq!(passed.iter().map(after).collect::<Vec<_>>(), [Some(15), Some(15), Some(15), None]);
    let last = passed.last().unwrap();
    assert_eq!(last.phase, StepPluginPhase::Successful);
    assert_eq!(last.message, format!("{url} answers 200; 2 of 2 in a row, 1 failed"));
    assert_eq!(last.status, Some(json!({ "successes": 2, "failures": 1 })));

    let url = answering(&[500, 500]);
    let failed = run(&plugins, json!({ "url": url, "failures": 2 })).await;
    assert_eq!((failed.len(), &failed[1].phase), (2, &StepPluginPhase::Failed));
    assert_eq!(failed[1].message, format!("{url} answers 500; 0 of 3 in a row, 2 failed"));

    let unusable = run(&plugins, json!({ "url": "web" })).await;
    assert_eq!(unusable[0].phase, StepPluginPhase::Failed);
    assert_eq!(unusable[0].message, "plugin.config.url is 'web'; it must begin with http:// or https://");

    for operation in [StepPluginOperation::Terminate, StepPluginOperation::Abort] {
        let reply = ask(&plugins, operation, json!({ "url": url }), &failed[1]).await;
        assert_eq!((reply.phase, reply.status), (StepPluginPhase::Successful, None));
    }
}

#[test]
fn the_example_says_that_it_is_a_plugin_to_people_who_start_it() {
    if !has_python_grpc() {
        return;
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/step-plugin/plugin.py");
    let output = Command::new("python3").args(["-B", script]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), said.as_str()),
        (Some(1), "this is a plugin of rolloutd, which starts it: see docs/plugins.md\n")
    );
}

/// From the ConfigMap to the end of the step; the configuration is read when a process starts.
#[test]
fn a_rollout_goes_on_once_the_example_has_done_its_step() {
    if !has_python_grpc() || !has_kubectl() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let flags = ["--speed", "10", "--data-dir", data.to_str().unwrap()];
    let write = |name: &str, object: &Value| {
        let file = folder.path().join(name);
        std::fs::write(&file, object.to_string()).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let configuration = json!({ "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "argo-rollouts-config" }, "data": { "stepPlugins": entries() } });
    let url = answering(&[200, 200]);
    let plugin =
        json!({ "name": "example/smoke-test", "config": { "url": url, "successes": 2, "interval": 10 } });
    let rollout = json!({ "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": { "name": "web" }, "spec": {
        "replicas": 2, "selector": { "matchLabels": { "app": "web" } },
        "strategy": { "canary": { "steps": [{ "setWeight": 50 }, { "plugin": plugin }, { "pause": {} }] } },
        "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "web", "image": "web:1" }] } },
    } });
    {
        let first = Dev::with(&flags);
        first.kubectl(&["apply", "-n", "argo-rollouts", "-f", &write("configmap.json", &configuration)]);
        first.kubectl(&["apply", "-n", "default", "-f", &write("rollout.json", &rollout)]);
        first.rolloutctl(&["wait", "web"]);
        first.rolloutctl(&["set", "image", "web", "web=web:2"]);
        let waits = || {
            let told = first.rolloutctl(&["explain", "web"]);
            told.contains("example/smoke-test").then_some(told)
        };
        let told = until("that it waits for the plugin", waits);
        assert!(told.contains("does not name it") && told.contains("argo-rollouts-config"), "{told}");
    }
    let second = Dev::with(&flags);
    let status = || {
        let json = second.kubectl(&["get", "rollout", "web", "-n", "default", "-o", "json"]);
        let object: Value = serde_json::from_str(&json).unwrap();
        (object["status"]["currentStepIndex"] == json!(2)).then(|| object["status"].clone())
    };
    let status = until("the end of the step", status);
    let entry = &status["canary"]["stepPluginStatuses"][0];
    assert_eq!((&entry["phase"], &entry["executions"]), (&json!("Successful"), &json!(2)));
    assert_eq!(entry["message"], json!(format!("{url} answers 200; 2 of 2 in a row, 0 failed")));
    let told = second.rolloutctl(&["get", "web", "-o", "json"]);
    assert!(told.contains("\"stepPlugins\""), "{told}");
}
