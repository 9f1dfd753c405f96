//! Pod templates as JSON values: the defaults that the API server stores.
//!
//! Depends on nothing of the package. `apiserver` applies them to pods and to the templates of ReplicaSets.

use serde_json::{Value, json};

/// Mode of files that volumes make, 0644.
const FILE_MODE: i64 = 420;

/// Sets the defaults of a pod template (or a pod): `metadata` and `spec`, as kube-apiserver stores them.
pub fn apply_defaults(template: &mut Value) {
    let Some(spec) = template.get_mut("spec").filter(|spec| spec.is_object()) else { return };
    for (key, default) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
    ] {
        set(spec, key, default);
    }
    mirror_service_account(spec);
    for list in ["containers", "initContainers"] {
        for container in items(spec, list) {
            default_container(container);
        }
    }
    for volume in items(spec, "volumes") {
        default_volume(volume);
    }
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are stored.
fn mirror_service_account(spec: &mut Value) {
    for (from, to) in [("serviceAccountName", "serviceAccount"), ("serviceAccount", "serviceAccountName")] {
        if let Some(name) = spec.get(from).cloned() {
            set(spec, to, name);
        }
    }
}

fn default_container(container: &mut Value) {
    set(container, "terminationMessagePath", json!("/dev/termination-log"));
    set(container, "terminationMessagePolicy", json!("File"));
    let policy =
        if is_latest(container["image"].as_str().unwrap_or_default()) { "Always" } else { "IfNotPresent" };
    set(container, "imagePullPolicy", json!(policy));
    for port in items(container, "ports") {
        set(port, "protocol", json!("TCP"));
    }
    for variable in items(container, "env") {
        if let Some(reference) = variable.pointer_mut("/valueFrom/fieldRef") {
            set(reference, "apiVersion", json!("v1"));
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(name).filter(|probe| probe.is_object()) {
            default_probe(probe);
        }
    }
}

/// An image without a tag, or with the tag `latest`, is pulled always.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or_default();
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn default_probe(probe: &mut Value) {
    for (key, seconds) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        set(probe, key, json!(seconds));
    }
    if let Some(get) = probe.get_mut("httpGet").filter(|get| get.is_object()) {
        set(get, "path", json!("/"));
        set(get, "scheme", json!("HTTP"));
    }
}

fn default_volume(volume: &mut Value) {
    if volume.as_object().is_some_and(|members| members.keys().all(|key| key == "name")) {
        set(volume, "emptyDir", json!({}));
    }
    for source in ["configMap", "secret", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source).filter(|source| source.is_object()) {
            set(source, "defaultMode", json!(FILE_MODE));
        }
    }
    if let Some(path) = volume.get_mut("hostPath").filter(|path| path.is_object()) {
        set(path, "type", json!(""));
    }
}

fn items<'v>(value: &'v mut Value, list: &str) -> impl Iterator<Item = &'v mut Value> {
    value.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

fn set(object: &mut Value, key: &str, default: Value) {
    if let Some(members) = object.as_object_mut()
        && members.get(key).is_none_or(Value::is_null)
    {
        members.insert(key.to_owned(), default);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_pulled_by_their_tag() {
        let cases = [
            ("nginx", true),
            ("nginx:latest", true),
            ("nginx:1.2", false),
            ("host:5000/nginx", true),
            ("host:5000/nginx:1", false),
            ("nginx@sha256:00", false),
        ];
        for (image, latest) in cases {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }

    #[test]
    fn defaults_do_not_replace_what_is_set() {
        let mut template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i",
            "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1}}]}});
        apply_defaults(&mut template);
        assert_eq!(template["spec"]["restartPolicy"], "Never");
        let probe = &template["spec"]["containers"][0]["readinessProbe"];
        assert_eq!(probe["periodSeconds"], 1);
        assert_eq!(probe["httpGet"]["path"], "/");
        let once = template.clone();
        apply_defaults(&mut template);
        assert_eq!(template, once);
    }
}
