//! kubectl beside the API: the patches that people and Argo Rollouts' plugin send (contract A12).

use std::io::BufRead as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::process::{Dev, Running, fails, kubectl, succeeds, until};
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

/// What kubectl prints of a command that must succeed without a word on standard error.
fn quietly(dev: &Dev, arguments: &[&str]) -> String {
    let mut command = kubectl(&dev.kubeconfig, arguments);
    let output = command.stdin(Stdio::null()).output().expect("kubectl runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "{arguments:?}");
    text(&output.stdout)
}

fn names(dev: &Dev, kind: &str) -> Vec<String> {
    let names = dev.kubectl(&["get", kind, "-o", "name"]);
    names.lines().map(|line| line.rsplit('/').next().unwrap_or_default().to_owned()).collect()
}

/// A rollout of five pods that is healthy.
fn started() -> Option<Dev> {
    if !has_kubectl() {
        return None;
    }
    let dev = Dev::start();
    dev.kubectl(&["apply", "-f", concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/examples/canary.yaml")]);
    dev.rolloutctl(&["get", "web", "--until", "healthy"]);
    Some(dev)
}

#[test]
fn kubectl_describes_what_runs() {
    let Some(dev) = started() else { return };
    let pod = names(&dev, "pods").remove(0);
    let set = names(&dev, "replicasets").remove(0);
    dev.kubectl(&["create", "poddisruptionbudget", "web", "--selector=app=web", "--min-available=4"]);
    until("the budget counted", || {
        quietly(&dev, &["get", "pdb", "web"]).contains("4               N/A               1").then_some(())
    });
    let controlled = format!("Controlled By:  ReplicaSet/{set}");
    let described = [
        (
            vec!["pod", &pod],
            vec![controlled.as_str(), "Node:         sim-node-", "Ready             True", "nginx:1.27"],
        ),
        (
            vec!["rs", &set],
            vec![
                "Controlled By:  Rollout/web",
                "5 Running / 0 Waiting",
                "SuccessfulCreate",
                "Created pod: web-",
            ],
        ),
        (
            vec!["rollout", "web"],
            vec!["Kind:         Rollout", "Max Surge:", "RolloutCompleted", "Scaled up ReplicaSet"],
        ),
        (
            vec!["svc", "web"],
            vec!["Selector:", "TargetPort:               http/TCP", "Events:                   <none>"],
        ),
        (vec!["pdb", "web"], vec!["Min available:  4", "Allowed disruptions:  1", "Total:                5"]),
        (vec!["namespace", "default"], vec!["Status:       Active"]),
    ];
    for (what, parts) in described {
        let arguments: Vec<&str> = std::iter::once("describe").chain(what).collect();
        let text = quietly(&dev, &arguments);
        for part in parts {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }
    let wide = quietly(&dev, &["get", "pods,replicasets,services,rollouts", "-o", "wide"]);
    for part in ["10.244.0.", "sim-node-", "nginx:1.27", "app=web,rollouts-pod-template-hash=", "UP-TO-DATE"]
    {
        assert!(wide.contains(part), "{part:?} in {wide}");
    }
    let events = quietly(&dev, &["get", "events", "--field-selector", "involvedObject.kind=Rollout"]);
    assert!(events.contains("rollout/web") && events.contains("Initial deploy"), "{events}");
    let explained = quietly(&dev, &["explain", "rollout.spec.strategy.canary.steps"]);
    assert!(explained.contains("setWeight\t<integer>"), "{explained}");
}

#[test]
fn kubectl_changes_what_runs() {
    let Some(dev) = started() else { return };
    let edit = |what: [&str; 2], script: &str| {
        let mut command = kubectl(&dev.kubeconfig, &["edit", what[0], what[1]]);
        succeeds(command.env("KUBE_EDITOR", format!("sed -i {script}")))
    };
    assert_eq!(dev.kubectl(&["scale", "rollout", "web", "--replicas=3"]), "rollout.argoproj.io/web scaled\n");
    until("three pods", || (names(&dev, "pods").len() == 3).then_some(()));
    // A set that a rollout owns gets its own size back.
    let set = names(&dev, "replicasets").remove(0);
    dev.kubectl(&["scale", "rs", &set, "--replicas=7"]);
    let size = || dev.kubectl(&["get", "rs", &set, "-o", "jsonpath={.spec.replicas}"]);
    until("the rollout's own size", || (size() == "3" && names(&dev, "pods").len() == 3).then_some(()));

    assert_eq!(edit(["rollout", "web"], "s/nginx:1.27/nginx:1.28/"), "rollout.argoproj.io/web edited\n");
    dev.rolloutctl(&["get", "web", "--until", "paused"]);
    assert_eq!(edit(["service", "web"], "s/None/ClientIP/"), "service/web edited\n");
    let port = r#"{"spec":{"ports":[{"port":443,"name":"https"}]}}"#;
    assert_eq!(dev.kubectl(&["patch", "svc", "web", "-p", port]), "service/web patched\n");
    let service =
        dev.kubectl(&["get", "svc", "web", "-o", "jsonpath={.spec.sessionAffinity} {.spec.ports[*].port}"]);
    assert_eq!(service, "ClientIP 443 80");
    let unserved = fails(&mut kubectl(&dev.kubeconfig, &["patch", "rollout", "web", "-p", "{}"])).1;
    assert!(
        unserved.contains("strategic-merge-patch+json is not supported by argoproj.io/v1alpha1"),
        "{unserved}"
    );
    for arguments in [["label", "rs", &set, "tier=front"], ["annotate", "svc", "web", "note=here"]] {
        dev.kubectl(&arguments);
    }
    let shown = dev.kubectl(&["get", "rs", "-l", "tier=front", "-o", "name"]);
    assert_eq!(shown.trim(), format!("replicaset.apps/{set}"));

    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/examples/canary.yaml");
    assert_eq!(
        dev.kubectl(&["apply", "-f", manifest]),
        "rollout.argoproj.io/web configured\nservice/web configured\n"
    );
    let ports = dev.kubectl(&["get", "svc", "web", "-o", "jsonpath={.spec.ports[*].port}"]);
    assert_eq!(ports, "443 80", "a port that somebody else added stays");
    dev.rolloutctl(&["get", "web", "--until", "healthy"]);
    assert_eq!(rollout(&dev)["spec"]["template"]["spec"]["containers"][0]["image"], "nginx:1.27");
}

#[test]
fn kubectl_watches_evicts_and_deletes() {
    let Some(dev) = started() else { return };
    let mut watching = Running::start(
        kubectl(&dev.kubeconfig, &["get", "pods", "--watch", "--no-headers"]).stdout(Stdio::piped()),
    );
    let mut lines = watching.output().lines().map(|line| line.expect("kubectl prints text"));
    let listed: Vec<String> = lines.by_ref().take(5).collect();
    let pod = listed[0].split_whitespace().next().expect("a name").to_owned();
    // Later versions name the namespace too.
    assert!(dev.kubectl(&["delete", "pod", &pod, "--wait"]).starts_with(&format!("pod \"{pod}\" deleted")));
    assert!(!names(&dev, "pods").contains(&pod));
    let told = lines.find(|line| line.contains("Terminating")).expect("the watch goes on");
    assert!(told.starts_with(&pod), "{told}");
    let replaced = |line: &String| {
        !listed.iter().any(|known| known.split_whitespace().next() == line.split_whitespace().next())
    };
    assert!(lines.find(replaced).expect("the watch goes on").contains("0/1"));

    dev.kubectl(&["create", "poddisruptionbudget", "web", "--selector=app=web", "--min-available=4"]);
    let allowed = || dev.kubectl(&["get", "pdb", "web", "-o", "jsonpath={.status.disruptionsAllowed}"]);
    until("a disruption to give away", || (allowed() == "1").then_some(()));
    let evict = |pod: &str| {
        let file = dev.kubeconfig.with_file_name("eviction.json");
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}});
        std::fs::write(&file, eviction.to_string()).expect("the folder of the kubeconfig takes it");
        let path = format!("/api/v1/namespaces/default/pods/{pod}/eviction");
        kubectl(&dev.kubeconfig, &["create", "--raw", &path, "-f", &file.to_string_lossy()])
    };
    let pods = names(&dev, "pods");
    assert!(succeeds(&mut evict(&pods[0])).contains("\"status\":\"Success\""));
    until("the pod replaced", || (!names(&dev, "pods").contains(&pods[0]) && allowed() == "1").then_some(()));
    dev.kubectl(&["patch", "pdb", "web", "-p", r#"{"spec":{"minAvailable":5}}"#]);
    until("nothing to give away", || (allowed() == "0").then_some(()));
    let pod = names(&dev, "pods").remove(0);
    let refused = fails(&mut evict(&pod)).1;
    assert!(refused.contains("violate the pod's disruption budget"), "{refused}");
    assert!(names(&dev, "pods").contains(&pod));

    dev.kubectl(&["delete", "rollout,pdb", "web", "--cascade=foreground"]);
    assert_eq!(names(&dev, "pods,replicasets"), Vec::<String>::new());
}
