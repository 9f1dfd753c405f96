//! kubectl beside the API: the patches that people and Argo Rollouts' plugin send (contract A12).

use serde_json::{Value, json};

use crate::process::{Dev, until};
use crate::tools::has_kubectl;

fn rollout(dev: &Dev) -> Value {
    serde_json::from_str(&dev.kubectl(&["get", "rollout", "web", "-o", "json"])).expect("kubectl prints JSON")
}

fn patch(dev: &Dev, patch: &Value) {
    dev.kubectl(&[
        "patch",
        "rollout",
        "web",
        "--subresource=status",
        "--type=merge",
        "-p",
        &patch.to_string(),
    ]);
}

#[test]
fn kubectl_aborts_promotes_and_undoes() {
    if !has_kubectl() {
        return;
    }
    let dev = Dev::start();
    dev.kubectl(&["apply", "-f", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/examples/canary.yaml")]);
    dev.rolloutctl(&["get", "web", "--until", "healthy"]);
    dev.kubectl(&["wait", "--for=jsonpath={.status.phase}=Healthy", "rollout/web", "--timeout=60s"]);

    let image =
        json!([{ "op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "nginx:1.28" }]);
    dev.kubectl(&["patch", "rollout", "web", "--type=json", "-p", &image.to_string()]);
    dev.rolloutctl(&["get", "web", "--until", "paused"]);
    patch(&dev, &json!({ "status": { "abort": true } }));
    until("aborted", || (rollout(&dev)["status"]["phase"] == "Degraded").then_some(()));
    let message = rollout(&dev)["status"]["message"].clone();
    assert_eq!(message, "RolloutAborted: Rollout aborted update to revision 2");

    patch(&dev, &json!({ "status": { "abort": false } }));
    dev.rolloutctl(&["get", "web", "--until", "paused"]);
    assert_eq!(rollout(&dev)["status"]["currentStepIndex"], 1);
    patch(&dev, &json!({ "status": { "pauseConditions": null } }));
    dev.rolloutctl(&["get", "web", "--until", "healthy"]);

    let sets = dev.kubectl(&["get", "replicasets", "-o", "json"]);
    let sets: Value = serde_json::from_str(&sets).expect("kubectl prints JSON");
    let first = |set: &&Value| set["metadata"]["annotations"]["rollout.argoproj.io/revision"] == "1";
    let set = sets["items"].as_array().expect("a list").iter().find(first).expect("the first revision");
    let mut template = set["spec"]["template"].clone();
    let labels = template["metadata"]["labels"].as_object_mut().expect("labels");
    labels.remove("rollouts-pod-template-hash").expect("the label of the hash");
    let undo = json!([{ "op": "replace", "path": "/spec/template", "value": template }]);
    dev.kubectl(&["patch", "rollout", "web", "--type=json", "-p", &undo.to_string()]);
    until("the first version paused as the third revision", || {
        let rollout = rollout(&dev);
        let status = &rollout["status"];
        let paused = status["phase"] == "Paused" && status["currentStepIndex"] == 1;
        let third = rollout["metadata"]["annotations"]["rollout.argoproj.io/revision"] == "3";
        (paused && third).then_some(())
    });
    assert_eq!(
        rollout(&dev)["status"]["currentPodHash"],
        set["metadata"]["labels"]["rollouts-pod-template-hash"]
    );
    dev.kubectl(&["delete", "rollout", "web"]);
    until("all pods gone", || {
        dev.kubectl(&["get", "pods,replicasets", "-o", "name"]).trim().is_empty().then_some(())
    });
}
