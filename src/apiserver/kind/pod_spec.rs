//! Validation of pod specs and pod templates.

use serde_json::Value;

use super::container::{push_choice, push_reasons, validate_containers, validate_init_containers};
use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::metadata;
use crate::apiserver::names;
use crate::apiserver::object::Object;

/// Validates `spec.template` of a workload.
pub(super) fn validate_template(template: &Value, path: &Path) -> Violations {
    let mut violations = metadata::validate_labels(template.labels(), &path.child("labels"));
    for key in template.map("/metadata/annotations").into_iter().flat_map(|a| a.keys()) {
        let reasons = names::qualified_name(&key.to_lowercase());
        push_reasons(&mut violations, &path.child("annotations"), key, reasons);
    }
    violations.extend(validate_pod_spec(&template["spec"], &path.child("spec")));
    if !template.list("/spec/ephemeralContainers").is_empty() {
        let path = path.child("spec").child("ephemeralContainers");
        violations.push(Violation::forbidden(&path, "ephemeral containers not allowed in pod template"));
    }
    violations
}

/// Validates the spec of a pod, defaults set.
pub(super) fn validate_pod_spec(spec: &Value, path: &Path) -> Violations {
    let mut violations = Violations::new();
    let volumes = validate_volumes(spec.list("/volumes"), &path.child("volumes"), &mut violations);
    let containers = spec.list("/containers");
    violations.extend(validate_containers(containers, &volumes, &path.child("containers")));
    violations.extend(validate_init_containers(
        spec.list("/initContainers"),
        containers,
        &volumes,
        &path.child("initContainers"),
    ));
    let choice = |violations: &mut Violations, field: &str, choices: &[&str]| {
        push_choice(violations, &path.child(field), spec.text(&format!("/{field}")), choices);
    };
    choice(&mut violations, "restartPolicy", &["Always", "OnFailure", "Never"]);
    choice(&mut violations, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    violations.extend(metadata::validate_labels(spec.map("/nodeSelector"), &path.child("nodeSelector")));
    for field in ["serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"] {
        let name = spec.text(&format!("/{field}"));
        if !name.is_empty() {
            push_reasons(&mut violations, &path.child(field), name, names::dns_subdomain(name));
        }
    }
    for field in ["hostname", "subdomain"] {
        let name = spec.text(&format!("/{field}"));
        if !name.is_empty() {
            push_reasons(&mut violations, &path.child(field), name, names::dns_label(name));
        }
    }
    if let Some(seconds) = spec.integer("/activeDeadlineSeconds") {
        let reasons = names::in_range(seconds, 1, i64::from(i32::MAX));
        let path = path.child("activeDeadlineSeconds");
        violations.extend(reasons.into_iter().map(|why| Violation::invalid(&path, seconds, why)));
    }
    for (index, secret) in spec.list("/imagePullSecrets").iter().enumerate() {
        if secret.text("/name").is_empty() {
            let path = path.child("imagePullSecrets").index(index).child("name");
            violations.push(Violation::required(&path, ""));
        }
    }
    validate_tolerations(spec.list("/tolerations"), &path.child("tolerations"), &mut violations);
    violations
}

/// Validates volumes and returns the names of the valid ones.
fn validate_volumes<'v>(volumes: &'v [Value], path: &Path, violations: &mut Violations) -> Vec<&'v str> {
    let mut names: Vec<&str> = Vec::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let before = violations.len();
        let mut sources: Vec<&String> = volume
            .as_object()
            .into_iter()
            .flat_map(|members| members.keys())
            .filter(|key| *key != "name")
            .collect();
        sources.sort_unstable();
        match sources.as_slice() {
            [] => violations.push(Violation::required(&path, "must specify a volume type")),
            [_] => {}
            [_, extra, ..] => {
                let path = path.child(extra.as_str());
                violations.push(Violation::forbidden(&path, "may not specify more than 1 volume type"));
            }
        }
        let name = volume.text("/name");
        let at = path.child("name");
        if name.is_empty() {
            violations.push(Violation::required(&at, ""));
        } else {
            push_reasons(violations, &at, name, names::dns_label(name));
        }
        if names.contains(&name) {
            violations.push(Violation::duplicate(&at, name));
        }
        if violations.len() == before {
            names.push(name);
        }
    }
    names
}

fn validate_tolerations(tolerations: &[Value], path: &Path, violations: &mut Violations) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let path = path.index(index);
        let key = toleration.text("/key");
        if !key.is_empty() {
            push_reasons(violations, &path.child("key"), key, names::qualified_name(key));
        }
        if key.is_empty() && toleration.text("/operator") != "Exists" {
            let detail =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            violations.push(Violation::invalid(
                &path.child("operator"),
                toleration.text("/operator"),
                detail,
            ));
        }
        match toleration.text("/operator") {
            "" | "Equal" => {
                let value = toleration.text("/value");
                push_reasons(violations, &path.child("value"), value, names::label_value(value));
            }
            "Exists" if !toleration.text("/value").is_empty() => {
                let detail = "value must be empty when `operator` is 'Exists'";
                violations.push(Violation::invalid(&path.child("operator"), toleration.clone(), detail));
            }
            "Exists" => {}
            other => violations.push(Violation::not_supported(
                &path.child("operator"),
                other,
                &["Equal", "Exists"],
            )),
        }
        let effect = toleration.text("/effect");
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        if toleration.integer("/tolerationSeconds").is_some() && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            violations.push(Violation::invalid(&path.child("effect"), effect, detail));
        }
        if !effect.is_empty() && !effects.contains(&effect) {
            violations.push(Violation::not_supported(&path.child("effect"), effect, &effects));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn violations(change: &Value) -> Vec<String> {
        let mut spec = json!({"restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
            "containers": [{"name": "c", "image": "i", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}]});
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone();
        }
        validate_pod_spec(&spec, &Path::of("spec")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn fields_of_the_spec_are_checked() {
        assert_eq!(violations(&json!({})), Vec::<String>::new());
        let cases = [
            (json!({"containers": []}), "spec.containers: Required value"),
            (
                json!({"restartPolicy": "Maybe"}),
                "spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ),
            (
                json!({"volumes": [{"name": "v"}]}),
                "spec.volumes[0]: Required value: must specify a volume type",
            ),
            (
                json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]}),
                "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
            ),
            (json!({"nodeSelector": {"a b": "x"}}), "spec.nodeSelector: Invalid value: \"a b\""),
            (
                json!({"activeDeadlineSeconds": 0}),
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            ),
            (json!({"hostname": "A"}), "spec.hostname: Invalid value: \"A\""),
            (
                json!({"tolerations": [{"key": "a", "operator": "Near"}]}),
                "spec.tolerations[0].operator: Unsupported value: \"Near\"",
            ),
        ];
        for (change, expected) in cases {
            let found = violations(&change);
            assert_eq!(found.len(), 1, "{change}: {found:?}");
            assert!(found[0].starts_with(expected), "{change}: {found:?}");
        }
    }

    #[test]
    fn mounts_find_the_volumes_of_the_spec() {
        let mounting = json!({
            "volumes": [{"name": "data", "emptyDir": {}}],
            "containers": [{"name": "c", "image": "i", "terminationMessagePolicy": "File", "imagePullPolicy": "Always",
                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        });
        assert_eq!(violations(&mounting), Vec::<String>::new());
    }
}
