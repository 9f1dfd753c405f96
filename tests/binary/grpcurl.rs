//! A client that was not written here: grpcurl, which knows of the API what reflection tells.

use std::process::Command;

use serde_json::{Value, json};

use crate::process::{Dev, fails, succeeds};
use crate::tools::has_grpcurl;

fn grpcurl(dev: &Dev, flags: &[&str], what: &[&str]) -> Command {
    let mut command = Command::new("grpcurl");
    command.arg("-plaintext").args(flags).arg(&dev.grpc).args(what);
    command
}

fn call(dev: &Dev, method: &str, request: &Value) -> Value {
    let request = request.to_string();
    let out = succeeds(&mut grpcurl(dev, &["-d", &request], &[method]));
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

#[test]
fn services_are_listed_and_described_by_reflection() {
    if !has_grpcurl() {
        return;
    }
    let dev = Dev::start();
    let services = succeeds(&mut grpcurl(&dev, &[], &["list"]));
    for service in ["rolloutd.v1.RolloutService", "rolloutd.v1.ServerService", "grpc.health.v1.Health"] {
        assert!(services.lines().any(|line| line == service), "{services}");
    }
    let methods = succeeds(&mut grpcurl(&dev, &[], &["list", "rolloutd.v1.RolloutService"]));
    assert_eq!(methods.lines().count(), 25, "{methods}");
    let message = succeeds(&mut grpcurl(&dev, &[], &["describe", "rolloutd.v1.PromoteRolloutRequest"]));
    assert!(message.contains("oneof target"), "{message}");
}

#[test]
fn a_canary_is_driven_by_grpcurl() {
    if !has_grpcurl() {
        return;
    }
    let dev = Dev::start();
    let manifest = include_str!("../../deploy/examples/canary.yaml");
    let service = "rolloutd.v1.RolloutService";
    let applied = call(&dev, &format!("{service}/ApplyManifest"), &json!({ "manifest": manifest }));
    assert_eq!(applied["objects"].as_array().map(Vec::len), Some(2), "{applied}");
    dev.rolloutctl(&["get", "web", "--until", "healthy"]);

    let name = "namespaces/default/rollouts/web";
    let images = json!([{ "container": "web", "image": "nginx:1.28" }]);
    call(&dev, &format!("{service}/SetRolloutImage"), &json!({ "name": name, "images": images }));
    dev.rolloutctl(&["get", "web", "--until", "paused"]);
    let seen =
        call(&dev, &format!("{service}/GetRollout"), &json!({ "name": name }))["rollout"]["status"].clone();
    assert_eq!(seen["currentStepIndex"], 1, "{seen}");
    let from = json!({ "podTemplateHash": seen["currentPodHash"], "stepIndex": seen["currentStepIndex"] });
    let promote = json!({ "name": name, "from": from, "next": {} });
    call(&dev, &format!("{service}/PromoteRollout"), &promote);
    let (code, err) =
        fails(&mut grpcurl(&dev, &["-d", &promote.to_string()], &[&format!("{service}/PromoteRollout")]));
    // 64 and the gRPC code: FAILED_PRECONDITION is 9.
    assert_eq!(code, Some(64 + 9), "{err}");
    dev.rolloutctl(&["get", "web", "--until", "healthy"]);
}
