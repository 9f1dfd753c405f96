//! Validation of containers: names, images, ports, environment, mounts, probes, resources.
//!
//! The rules are those of `pkg/apis/core/validation` that a manifest can realistically break; what is left out
//! concerns features without meaning here (devices, security contexts, resize policies, lifecycle hooks).

use serde_json::Value;

use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::names::{self, Reasons};
use crate::apiserver::object::Object;
use crate::apiserver::quantity::Quantity;

/// Validates the containers of a pod spec; `volumes` are the names of its volumes.
pub(super) fn validate_containers(containers: &[Value], volumes: &[&str], path: &Path) -> Violations {
    let mut violations = Violations::new();
    if containers.is_empty() {
        violations.push(Violation::required(path, ""));
    }
    validate_each(containers, volumes, &[], path, &mut violations);
    for (index, container) in containers.iter().enumerate() {
        for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
            if container.get(probe).is_some_and(Value::is_object) {
                validate_probe(&container[probe], &path.index(index).child(probe), &mut violations);
            }
        }
    }
    violations
}

/// Validates init containers, whose names must differ from those of the regular `others`.
pub(super) fn validate_init_containers(
    containers: &[Value],
    others: &[Value],
    volumes: &[&str],
    path: &Path,
) -> Violations {
    let mut violations = Violations::new();
    let taken: Vec<&str> = others.iter().map(|container| container.text("/name")).collect();
    validate_each(containers, volumes, &taken, path, &mut violations);
    violations
}

fn validate_each(
    containers: &[Value],
    volumes: &[&str],
    taken: &[&str],
    path: &Path,
    violations: &mut Violations,
) {
    let mut seen: Vec<&str> = taken.to_vec();
    for (index, container) in containers.iter().enumerate() {
        let path = path.index(index);
        validate_common(container, volumes, &path, violations);
        let name = container.text("/name");
        if seen.contains(&name) {
            violations.push(Violation::duplicate(&path.child("name"), name));
        }
        seen.push(name);
    }
}

/// Adds a violation for each reason.
pub(super) fn push_reasons(violations: &mut Violations, path: &Path, value: &str, reasons: Reasons) {
    violations.extend(reasons.into_iter().map(|why| Violation::invalid(path, value, why)));
}

/// A value of a fixed set; required unless it may be empty.
pub(super) fn push_choice(violations: &mut Violations, path: &Path, value: &str, choices: &[&str]) {
    if value.is_empty() {
        violations.push(Violation::required(path, ""));
    } else if !choices.contains(&value) {
        violations.push(Violation::not_supported(path, value, choices));
    }
}

/// A number that may not be below zero.
pub(super) fn push_non_negative(violations: &mut Violations, path: &Path, value: Option<i64>) {
    if let Some(value) = value.filter(|value| *value < 0) {
        violations.push(Violation::invalid(path, value, "must be greater than or equal to 0"));
    }
}

fn validate_common(container: &Value, volumes: &[&str], path: &Path, violations: &mut Violations) {
    let name = container.text("/name");
    if name.is_empty() {
        violations.push(Violation::required(&path.child("name"), ""));
    } else {
        push_reasons(violations, &path.child("name"), name, names::dns_label(name));
    }
    if container.text("/image").is_empty() {
        violations.push(Violation::required(&path.child("image"), ""));
    }
    let policy = container.text("/terminationMessagePolicy");
    push_choice(
        violations,
        &path.child("terminationMessagePolicy"),
        policy,
        &["File", "FallbackToLogsOnError"],
    );
    validate_ports(container.list("/ports"), &path.child("ports"), violations);
    validate_environment(container.list("/env"), &path.child("env"), violations);
    validate_mounts(container.list("/volumeMounts"), volumes, &path.child("volumeMounts"), violations);
    let pull = container.text("/imagePullPolicy");
    push_choice(violations, &path.child("imagePullPolicy"), pull, &["Always", "IfNotPresent", "Never"]);
    validate_resources(&container["resources"], &path.child("resources"), violations);
}

fn validate_ports(ports: &[Value], path: &Path, violations: &mut Violations) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = port.text("/name");
        if !name.is_empty() {
            let reasons = names::port_name(name);
            if reasons.is_empty() && seen.contains(&name) {
                violations.push(Violation::duplicate(&path.child("name"), name));
            }
            push_reasons(violations, &path.child("name"), name, reasons);
            seen.push(name);
        }
        match port.integer("/containerPort").unwrap_or(0) {
            0 => violations.push(Violation::required(&path.child("containerPort"), "")),
            number => {
                push_number(violations, &path.child("containerPort"), number, names::port_number(number));
            }
        }
        if let Some(number) = port.integer("/hostPort").filter(|number| *number != 0) {
            push_number(violations, &path.child("hostPort"), number, names::port_number(number));
        }
        push_choice(violations, &path.child("protocol"), port.text("/protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

/// Adds a violation for each reason against a number.
pub(super) fn push_number(violations: &mut Violations, path: &Path, value: i64, reasons: Reasons) {
    violations.extend(reasons.into_iter().map(|why| Violation::invalid(path, value, why)));
}

fn validate_environment(variables: &[Value], path: &Path, violations: &mut Violations) {
    for (index, variable) in variables.iter().enumerate() {
        let path = path.index(index);
        let name = variable.text("/name");
        if name.is_empty() {
            violations.push(Violation::required(&path.child("name"), ""));
        } else {
            push_reasons(violations, &path.child("name"), name, names::env_name(name));
        }
        let Some(source) = variable.map("/valueFrom") else { continue };
        let path = path.child("valueFrom");
        match source.len() {
            0 => {
                let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
                violations.push(Violation::invalid(&path, "", detail));
            }
            1 if !variable.text("/value").is_empty() => {
                let detail = "may not be specified when `value` is not empty";
                violations.push(Violation::invalid(&path, "", detail));
            }
            1 => {}
            _ => {
                let detail = "may not have more than one field specified at a time";
                violations.push(Violation::invalid(&path, "", detail));
            }
        }
    }
}

fn validate_mounts(mounts: &[Value], volumes: &[&str], path: &Path, violations: &mut Violations) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, mount) in mounts.iter().enumerate() {
        let path = path.index(index);
        let (name, at) = (mount.text("/name"), mount.text("/mountPath"));
        if name.is_empty() {
            violations.push(Violation::required(&path.child("name"), ""));
        }
        if !volumes.contains(&name) {
            violations.push(Violation::not_found(&path.child("name"), name));
        }
        if at.is_empty() {
            violations.push(Violation::required(&path.child("mountPath"), ""));
        }
        if seen.contains(&at) {
            violations.push(Violation::invalid(&path.child("mountPath"), at, "must be unique"));
        }
        seen.push(at);
    }
}

fn validate_probe(probe: &Value, path: &Path, violations: &mut Violations) {
    const HANDLERS: [&str; 4] = ["exec", "httpGet", "tcpSocket", "grpc"];
    let given: Vec<&str> =
        HANDLERS.into_iter().filter(|key| probe.get(key).is_some_and(Value::is_object)).collect();
    if given.is_empty() {
        violations.push(Violation::required(path, "must specify a handler type"));
    }
    for extra in given.iter().skip(1) {
        let detail = "may not specify more than 1 handler type";
        violations.push(Violation::forbidden(&path.child(extra), detail));
    }
    match given.first() {
        Some(&"exec") if probe.list("/exec/command").is_empty() => {
            violations.push(Violation::required(&path.child("exec").child("command"), ""));
        }
        Some(&handler @ ("httpGet" | "tcpSocket")) => {
            let port = &probe[handler]["port"];
            validate_port_or_name(port, &path.child(handler).child("port"), violations);
        }
        _ => {}
    }
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        push_non_negative(violations, &path.child(field), probe.integer(&format!("/{field}")));
    }
    let name = path.to_string();
    let once = name.ends_with("livenessProbe") || name.ends_with("startupProbe");
    if once && let Some(count) = probe.integer("/successThreshold").filter(|count| *count != 1) {
        violations.push(Violation::invalid(&path.child("successThreshold"), count, "must be 1"));
    }
}

/// A port by number or by name.
pub(super) fn validate_port_or_name(port: &Value, path: &Path, violations: &mut Violations) {
    match port {
        Value::String(name) => push_reasons(violations, path, name, names::port_name(name)),
        other => {
            let number = other.as_i64().unwrap_or(0);
            push_number(violations, path, number, names::port_number(number));
        }
    }
}

fn validate_resources(resources: &Value, resources_path: &Path, violations: &mut Violations) {
    let amount =
        |bag: &str, name: &str| resources[bag].get(name).and_then(Value::as_str).and_then(Quantity::parse);
    for bag in ["limits", "requests"] {
        for (name, value) in resources[bag].as_object().into_iter().flatten() {
            let path = resources_path.child(bag).key(name);
            push_reasons(violations, &path, name, names::qualified_name(name));
            let text = value.as_str().unwrap_or_default();
            if amount(bag, name).is_some_and(Quantity::is_negative) {
                violations.push(Violation::invalid(&path, text, "must be greater than or equal to 0"));
            }
            if bag == "requests"
                && let (Some(request), Some(limit)) = (amount(bag, name), amount("limits", name))
                && request.exceeds(limit)
            {
                let limit = limit.canonical();
                let detail = format!("must be less than or equal to {name} limit of {limit}");
                violations.push(Violation::invalid(&resources_path.child(bag), text, detail));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({"name": "c", "image": "nginx", "terminationMessagePolicy": "File", "imagePullPolicy": "Always",
            "resources": {}})
    }

    fn violations(change: &Value) -> Vec<String> {
        let mut container = valid();
        for (key, value) in change.as_object().unwrap() {
            container[key] = value.clone();
        }
        validate_containers(&[container], &["data"], &Path::of("c")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_plain_container_is_valid() {
        assert_eq!(violations(&json!({})), Vec::<String>::new());
    }

    #[test]
    fn each_field_is_checked() {
        let cases = [
            (json!({"name": "A"}), "c[0].name: Invalid value: \"A\": a lowercase RFC 1123 label"),
            (json!({"image": ""}), "c[0].image: Required value"),
            (
                json!({"imagePullPolicy": "Sometimes"}),
                "c[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ),
            (
                json!({"ports": [{"containerPort": 0, "protocol": "TCP"}]}),
                "c[0].ports[0].containerPort: Required value",
            ),
            (
                json!({"ports": [{"containerPort": 70000, "protocol": "TCP"}]}),
                "c[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ),
            (json!({"env": [{"name": "a=b"}]}), "c[0].env[0].name: Invalid value: \"a=b\""),
            (
                json!({"volumeMounts": [{"name": "x", "mountPath": "/x"}]}),
                "c[0].volumeMounts[0].name: Not found: \"x\"",
            ),
            (
                json!({"readinessProbe": {}}),
                "c[0].readinessProbe: Required value: must specify a handler type",
            ),
            (
                json!({"livenessProbe": {"httpGet": {"port": 0}}}),
                "c[0].livenessProbe.httpGet.port: Invalid value: 0: must be between",
            ),
            (
                json!({"livenessProbe": {"exec": {"command": ["a"]}, "successThreshold": 2}}),
                "c[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ),
            (
                json!({"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}}),
                "c[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ),
        ];
        for (change, expected) in cases {
            let found = violations(&change);
            assert_eq!(found.len(), 1, "{change}: {found:?}");
            assert!(found[0].starts_with(expected), "{change}: {found:?}");
        }
    }

    #[test]
    fn names_are_unique_among_all_containers() {
        let path = Path::of("init");
        let found = validate_init_containers(&[valid()], &[valid()], &[], &path);
        assert_eq!(found[0].to_string(), "init[0].name: Duplicate value: \"c\"");
        let none = validate_containers(&[], &[], &path);
        assert_eq!(none[0].to_string(), "init: Required value");
    }
}
