use serde_json::{Value, json};

use crate::crd::Rollout;

fn rollout(change: impl FnOnce(&mut Value)) -> Rollout {
    let mut object = json!({
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": {
            "replicas": 3,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": "registry.test/web:v1" }] },
            },
            "strategy": { "canary": { "steps": [{ "setWeight": 20 }, { "pause": {} }] } },
        },
    });
    change(&mut object["spec"]);
    serde_json::from_value(object).unwrap()
}

fn violations(change: impl FnOnce(&mut Value)) -> Vec<String> {
    super::rollout(&rollout(change)).iter().map(ToString::to_string).collect()
}

#[test]
fn a_plain_rollout_is_valid() {
    assert_eq!(violations(|_| {}), [""; 0]);
}

#[test]
fn each_violation_names_the_field_the_value_and_the_rule() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 15] = [
        (
            |spec| spec["replicas"] = json!(-1),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            |spec| spec["selector"] = Value::Null,
            "spec.selector: Required value: Rollout has missing field '.spec.selector'",
        ),
        (
            |spec| spec["selector"] = json!({}),
            "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
        ),
        (
            |spec| spec["template"]["metadata"]["labels"]["app"] = json!("other"),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`",
        ),
        (
            |spec| spec["template"]["spec"]["containers"] = json!([]),
            "spec.template.spec.containers: Required value",
        ),
        (
            |spec| spec["template"]["spec"]["containers"][0]["image"] = json!(""),
            "spec.template.spec.containers[0].image: Required value",
        ),
        (
            |spec| spec["template"]["spec"]["restartPolicy"] = json!("Never"),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (
            |spec| spec["rollbackWindow"] = json!({ "revisions": -1 }),
            "spec.rollbackWindow.revisions: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            |spec| spec["progressDeadlineSeconds"] = json!(0),
            "spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds",
        ),
        (
            |spec| spec["strategy"] = json!({}),
            "spec.strategy: Required value: Rollout has missing field '.spec.strategy.canary or .spec.strategy.blueGreen'",
        ),
        (
            |spec| spec["strategy"]["blueGreen"] = json!({ "activeService": "a" }),
            "spec.strategy: Invalid value: \"blueGreen: true canary: true\": Multiple Strategies can not be listed",
        ),
        (
            |spec| spec["strategy"]["canary"]["steps"][0]["setWeight"] = json!(101),
            "spec.strategy.canary.steps[0].setWeight: Invalid value: 101: SetWeight needs to be between 0 and 100",
        ),
        (
            |spec| spec["strategy"]["canary"]["steps"][1]["pause"] = json!({ "duration": "-10s" }),
            "spec.strategy.canary.steps[1].pause.duration: Invalid value: \"-10s\": Duration needs to be greater than 0",
        ),
        (
            |spec| spec["strategy"]["canary"]["steps"][0]["pause"] = json!({}),
            "spec.strategy.canary.steps[0]: Invalid value: \"setWeight, pause\": Step must have one of the following set: experiment, setWeight, setCanaryScale, plugin or pause",
        ),
        (
            |spec| {
                spec["strategy"]["canary"]["maxSurge"] = json!("0%");
                spec["strategy"]["canary"]["maxUnavailable"] = json!(0);
            },
            "spec.strategy.canary.maxSurge: Invalid value: \"0%\": MaxSurge and MaxUnavailable both can not be zero",
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(violations(change), [expected]);
    }
}

#[test]
fn a_progress_threshold_that_no_step_could_have_is_a_violation() {
    let path = "spec.strategy.canary.replicaProgressThreshold";
    for (threshold, expected) in [
        (
            json!({ "type": "Percent", "value": 101 }),
            "value: Invalid value: 101: a percentage must be between 1 and 100",
        ),
        (
            json!({ "type": "Pods", "value": 0 }),
            "value: Invalid value: 0: a number of pods must be greater than 0",
        ),
        (
            json!({ "type": "Nodes", "value": 1 }),
            "type: Unsupported value: \"Nodes\": supported values: \"Percent\", \"Pods\"",
        ),
    ] {
        let found =
            violations(|spec| spec["strategy"]["canary"]["replicaProgressThreshold"] = threshold.clone());
        assert_eq!(found, [format!("{path}.{expected}")]);
    }
}

#[test]
fn a_quantity_that_cannot_be_read_is_a_violation_of_its_path() {
    let found = violations(|spec| {
        spec["template"]["spec"]["containers"][0]["resources"] = json!({ "limits": { "memory": "invalid" } });
    });
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with(
        "spec.template.spec.containers[0].resources.limits[memory]: Invalid value: \"invalid\""
    ));
}

#[test]
fn all_violations_are_reported_at_once() {
    let found = violations(|spec| {
        spec["replicas"] = json!(-1);
        spec["strategy"]["canary"]["steps"] =
            json!([{}, { "setWeight": -5 }, { "pause": { "duration": "soon" } }]);
    });
    assert_eq!(found.len(), 4, "{found:#?}");
}

#[test]
fn a_step_with_two_actions_that_the_reference_accepts_is_accepted() {
    let found = violations(|spec| {
        spec["strategy"]["canary"]["canaryService"] = json!("canary");
        spec["strategy"]["canary"]["stableService"] = json!("stable");
        spec["strategy"]["canary"]["trafficRouting"] = json!({ "nginx": { "stableIngress": "web" } });
        spec["strategy"]["canary"]["steps"] =
            json!([{ "setWeight": 20, "setCanaryScale": { "replicas": 1 } }]);
    });
    assert_eq!(found, [""; 0]);
}
