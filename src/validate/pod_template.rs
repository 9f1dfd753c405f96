//! Pod templates, as far as a ReplicaSet of theirs would be refused: the rest is left to the API server.
//!
//! Works on the JSON, so that a field that has another type than it should is reported with its path like everything else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::labels;
use super::path::Path;
use super::violation::Violation;
use crate::crd::LabelSelector;
use crate::hash::{self, HashError, Quantity};

/// All violations of a pod template, and of its belonging to the selector.
pub(super) fn pod_template(given: &Value, selector: Option<&LabelSelector>, path: &Path) -> Vec<Violation> {
    let Some(template) = given.as_object() else {
        return vec![Violation::invalid(path.clone(), given.clone(), "must be an object")];
    };
    let mut violations = malformed(given, path);
    violations.extend(metadata(template, selector, &path.field("metadata")));
    let path = path.field("spec");
    match template.get("spec").and_then(Value::as_object) {
        Some(spec) => violations.extend(pod_spec(spec, &path)),
        None => violations.push(Violation::required(path, "")),
    }
    violations
}

/// Values that their fields cannot hold, such as a quantity that is none.
fn malformed(template: &Value, path: &Path) -> Vec<Violation> {
    let violation = |error: HashError| {
        let value = serde_json::from_str(&error.value).unwrap_or(Value::String(error.value.clone()));
        Violation::invalid(path.below(&error.path), value, format!("must be {}", error.expected))
    };
    hash::malformed_template_fields(template).into_iter().map(violation).collect()
}

fn metadata(template: &Map<String, Value>, selector: Option<&LabelSelector>, path: &Path) -> Vec<Violation> {
    let mut violations = Vec::new();
    let given = template.get("metadata");
    let template_labels = strings(given.and_then(|metadata| metadata.get("labels")));
    let annotations = strings(given.and_then(|metadata| metadata.get("annotations")));
    let labels_path = path.field("labels");
    if let Some(selector) = selector
        && labels::matches(selector, &template_labels) == Some(false)
    {
        let value = serde_json::to_value(&template_labels).unwrap_or_default();
        let rule = "`selector` does not match template `labels`";
        violations.push(Violation::invalid(labels_path.clone(), value, rule));
    }
    violations.extend(labels::labels(Some(&template_labels), &labels_path));
    for key in annotations.keys() {
        if let Some(rule) = labels::key_rule(&key.to_lowercase()) {
            violations.push(Violation::invalid(path.field("annotations"), key.as_str(), rule));
        }
    }
    violations
}

/// The strings of a map; what is none is reported as malformed.
fn strings(map: Option<&Value>) -> BTreeMap<String, String> {
    let entries = map.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn pod_spec(spec: &Map<String, Value>, path: &Path) -> Vec<Violation> {
    let mut violations = Vec::new();
    let volumes = volume_names(spec, path, &mut violations);
    let mut names = BTreeSet::new();
    for field in ["initContainers", "containers"] {
        let path = path.field(field);
        for (index, container) in list(spec, field).iter().enumerate() {
            violations.extend(self::container(container, &volumes, &mut names, &path.index(index)));
        }
    }
    if list(spec, "containers").is_empty() {
        violations.push(Violation::required(path.field("containers"), ""));
    }
    match spec.get("restartPolicy").and_then(Value::as_str) {
        None | Some("Always") => {}
        Some(other) => {
            violations.push(Violation::not_supported(path.field("restartPolicy"), other, &["Always"]));
        }
    }
    if spec.get("activeDeadlineSeconds").is_some_and(|value| !value.is_null()) {
        let rule = "activeDeadlineSeconds in ReplicaSet is not Supported";
        violations.push(Violation::forbidden(path.field("activeDeadlineSeconds"), rule));
    }
    if let Some(seconds) =
        spec.get("terminationGracePeriodSeconds").and_then(Value::as_i64).filter(|value| *value < 0)
    {
        let rule = "must be greater than or equal to 0";
        violations.push(Violation::invalid(path.field("terminationGracePeriodSeconds"), seconds, rule));
    }
    violations
}

fn volume_names(spec: &Map<String, Value>, path: &Path, violations: &mut Vec<Violation>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let path = path.field("volumes").index(index).field("name");
        if let Some(name) = dns_label(volume, path.clone(), violations)
            && !names.insert(name.to_owned())
        {
            violations.push(Violation::duplicate(path, name));
        }
    }
    names
}

fn container(
    container: &Value,
    volumes: &BTreeSet<String>,
    names: &mut BTreeSet<String>,
    path: &Path,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let name_path = path.field("name");
    if let Some(name) = dns_label(container, name_path.clone(), &mut violations)
        && !names.insert(name.to_owned())
    {
        violations.push(Violation::duplicate(name_path, name));
    }
    match container.get("image").and_then(Value::as_str) {
        None | Some("") => violations.push(Violation::required(path.field("image"), "")),
        Some(image) if image.trim() != image => {
            let rule = "must not have leading or trailing whitespace";
            violations.push(Violation::invalid(path.field("image"), image, rule));
        }
        Some(_) => {}
    }
    const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
    if let Some(policy) = container.get("imagePullPolicy").and_then(Value::as_str)
        && !PULL_POLICIES.contains(&policy)
    {
        violations.push(Violation::not_supported(path.field("imagePullPolicy"), policy, PULL_POLICIES));
    }
    violations.extend(ports(container, path));
    violations.extend(environment(container, path));
    violations.extend(mounts(container, volumes, path));
    violations.extend(resources(container, path));
    violations
}

fn ports(container: &Value, path: &Path) -> Vec<Violation> {
    const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
    let mut violations = Vec::new();
    for (index, port) in items(container, "ports").iter().enumerate() {
        let path = path.field("ports").index(index);
        match port.get("containerPort") {
            None => violations.push(Violation::required(path.field("containerPort"), "")),
            Some(number) if !number.as_i64().is_some_and(|number| (1..=65535).contains(&number)) => {
                let rule = "must be between 1 and 65535, inclusive";
                violations.push(Violation::invalid(path.field("containerPort"), number.clone(), rule));
            }
            Some(_) => {}
        }
        if let Some(protocol) = port.get("protocol").and_then(Value::as_str)
            && !PROTOCOLS.contains(&protocol)
        {
            violations.push(Violation::not_supported(path.field("protocol"), protocol, PROTOCOLS));
        }
    }
    violations
}

fn environment(container: &Value, path: &Path) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, variable) in items(container, "env").iter().enumerate() {
        let path = path.field("env").index(index);
        match variable.get("name").and_then(Value::as_str) {
            None | Some("") => violations.push(Violation::required(path.field("name"), "")),
            Some(name) if name.contains('=') => {
                violations.push(Violation::invalid(path.field("name"), name, "must not contain '='"));
            }
            Some(_) => {}
        }
        let has_value = variable.get("value").and_then(Value::as_str).is_some_and(|value| !value.is_empty());
        if has_value && variable.get("valueFrom").is_some_and(|from| !from.is_null()) {
            let rule = "may not be specified when `value` is not empty";
            violations.push(Violation::forbidden(path.field("valueFrom"), rule));
        }
    }
    violations
}

fn mounts(container: &Value, volumes: &BTreeSet<String>, path: &Path) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, mount) in items(container, "volumeMounts").iter().enumerate() {
        let path = path.field("volumeMounts").index(index);
        match mount.get("name").and_then(Value::as_str) {
            None | Some("") => violations.push(Violation::required(path.field("name"), "")),
            Some(name) if !volumes.contains(name) => {
                violations.push(Violation::invalid(path.field("name"), name, "no volume has this name"));
            }
            Some(_) => {}
        }
        if mount.get("mountPath").and_then(Value::as_str).unwrap_or_default().is_empty() {
            violations.push(Violation::required(path.field("mountPath"), ""));
        }
    }
    violations
}

/// Requests that do not exceed limits; quantities that cannot be read are reported as malformed.
fn resources(container: &Value, path: &Path) -> Vec<Violation> {
    let amounts = |field: &str| -> BTreeMap<&str, Quantity> {
        let given =
            container.get("resources").and_then(|resources| resources.get(field)).and_then(Value::as_object);
        let entries = given.into_iter().flatten();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        entries.filter_map(|(resource, value)| Some((resource.as_str(), text(value).parse().ok()?))).collect()
    };
    let limits = amounts("limits");
    let exceeds =
        |(resource, request): &(&str, Quantity)| limits.get(resource).is_some_and(|limit| request > limit);
    amounts("requests")
        .into_iter()
        .filter(exceeds)
        .map(|(resource, request)| {
            let path = path.field("resources").field("requests").key(resource);
            let rule = format!("must be less than or equal to {resource} limit");
            Violation::invalid(path, request.to_string(), rule)
        })
        .collect()
}

fn dns_label<'a>(object: &'a Value, path: Path, violations: &mut Vec<Violation>) -> Option<&'a str> {
    match object.get("name").and_then(Value::as_str) {
        None | Some("") => {
            violations.push(Violation::required(path, ""));
            None
        }
        Some(name) if !labels::is_dns_label(name) => {
            let rule = "must consist of at most 63 lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
            violations.push(Violation::invalid(path, name, rule));
            None
        }
        Some(name) => Some(name),
    }
}

fn list<'a>(object: &'a Map<String, Value>, field: &str) -> &'a [Value] {
    object.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn items<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    object.as_object().map_or(&[], |object| list(object, field))
}
