//! The environment in a pod template of a ReplicaSet (docs/environment.md): annotations, and the volume by which a container reads them as
//! files.
//!
//! They go into the template of a ReplicaSet, never into the rollout's, and are taken out again wherever templates are compared.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::crd::keys;

/// The name of the volume: nobody else's.
const VOLUME: &str = "rolloutd-environment";

/// The file with all of it.
const FILE: &str = "environment";

/// Whether an annotation of a pod is part of its environment.
#[must_use]
pub fn is_environment(key: &str) -> bool {
    key.strip_prefix(keys::ENVIRONMENT).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Mounts the environment as files: one with all of it, and one for each of these names. A container that mounts something else there, or
/// that is not there, gets nothing; so does a template with a volume of this name.
pub fn inject_environment_volume<'a>(
    template: &mut Value,
    container: &str,
    mount_path: &str,
    names: impl Iterator<Item = &'a str>,
) {
    let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if list(spec, "volumes").is_none_or(|volumes| volumes.iter().any(|volume| volume["name"] == VOLUME)) {
        return;
    }
    let mount = json!({ "name": VOLUME, "mountPath": mount_path, "readOnly": true });
    let containers = spec.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten();
    let mut named = containers.filter(|named| named["name"] == container).filter_map(Value::as_object_mut);
    let Some(mounts) = named.next().and_then(|container| list(container, "volumeMounts")) else { return };
    if mounts.iter().any(|other| other["mountPath"].as_str().map(trimmed) == Some(trimmed(mount_path))) {
        return;
    }
    mounts.push(mount);
    let file = |path: &str, annotation: &str| {
        let field = format!("metadata.annotations['{annotation}']");
        json!({ "path": path, "fieldRef": { "apiVersion": "v1", "fieldPath": field } })
    };
    let mut files = vec![file(FILE, keys::ENVIRONMENT)];
    // Its file would be the one with all of it.
    let names = names.filter(|name| *name != FILE);
    files.extend(names.map(|name| file(name, &format!("{}.{name}", keys::ENVIRONMENT))));
    if let Some(volumes) = list(spec, "volumes") {
        volumes.push(json!({ "name": VOLUME, "downwardAPI": { "items": files } }));
    }
}

fn trimmed(path: &str) -> &str {
    path.trim_end_matches('/')
}

/// A list of an object; where it has none, there is an empty one then. `None` where it has something else.
fn list<'a>(object: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Vec<Value>> {
    let value = object.entry(field).or_insert_with(|| json!([]));
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut()
}

/// The names of the values that pods of a template have as files of their own.
#[must_use]
pub fn environment_files(template: &Value) -> Vec<&str> {
    let volumes = template.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten();
    let items = volumes
        .filter(|volume| volume["name"] == VOLUME)
        .filter_map(|volume| volume.pointer("/downwardAPI/items").and_then(Value::as_array));
    items.flatten().filter_map(|item| item["path"].as_str()).filter(|path| *path != FILE).collect()
}

/// The annotations by which pods of a template have their environment.
#[must_use]
pub fn environment_annotations(template: &Value) -> BTreeMap<&str, &str> {
    let annotations = template.pointer("/metadata/annotations").and_then(Value::as_object);
    let annotations = annotations.into_iter().flatten().filter(|(key, _)| is_environment(key));
    annotations.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
}

/// Takes out the environment: annotations, volume and mounts. What is empty then goes too.
pub fn remove_injected_environment(template: &mut Value) {
    remove_annotations_of_environment(template);
    let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let named = |entry: &Value| entry["name"] == VOLUME;
    if !remove_from(spec, "volumes", named) {
        return;
    }
    let containers = spec.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten();
    for container in containers.filter_map(Value::as_object_mut) {
        remove_from(container, "volumeMounts", named);
    }
}

fn remove_annotations_of_environment(template: &mut Value) {
    let keys: Vec<String> = environment_annotations(template).into_keys().map(str::to_owned).collect();
    if !keys.is_empty() {
        super::remove_annotations(template, keys);
    }
}

/// Takes entries out of a list, and the list when it is empty then. Says whether any was there.
fn remove_from(object: &mut Map<String, Value>, field: &str, goes: impl Fn(&Value) -> bool) -> bool {
    let Some(entries) = object.get_mut(field).and_then(Value::as_array_mut) else { return false };
    let before = entries.len();
    entries.retain(|entry| !goes(entry));
    let removed = entries.len() < before;
    if removed && entries.is_empty() {
        object.shift_remove(field);
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> Value {
        json!({ "spec": { "containers": [{ "name": "db" }, { "name": "web", "volumeMounts": [{ "name": "x", "mountPath": "/x" }] }] } })
    }

    #[test]
    fn a_container_finds_all_of_it_and_each_value_as_files() {
        let mut injected = template();
        inject_environment_volume(&mut injected, "web", "/etc/live", ["A", "B"].into_iter());
        let mounts = &injected["spec"]["containers"][1]["volumeMounts"];
        assert_eq!(
            mounts[1],
            json!({ "name": "rolloutd-environment", "mountPath": "/etc/live", "readOnly": true })
        );
        assert_eq!(injected["spec"]["containers"][0], json!({ "name": "db" }));
        let items = &injected["spec"]["volumes"][0]["downwardAPI"]["items"];
        let field = |index: usize| items[index]["fieldRef"]["fieldPath"].as_str().unwrap().to_owned();
        assert_eq!(items[0]["path"], "environment");
        assert_eq!(field(0), "metadata.annotations['rolloutd.dev/environment']");
        assert_eq!(
            (items[1]["path"].as_str(), field(1)),
            (Some("A"), "metadata.annotations['rolloutd.dev/environment.A']".to_owned())
        );
        assert_eq!(environment_files(&injected), ["A", "B"]);
        remove_injected_environment(&mut injected);
        assert_eq!(injected, template());
    }

    #[test]
    fn what_a_template_has_itself_stands() {
        for (container, path) in [("web", "/x/"), ("absent", "/etc/live")] {
            let mut injected = template();
            inject_environment_volume(&mut injected, container, path, [].into_iter());
            remove_injected_environment(&mut injected);
            injected["spec"].as_object_mut().unwrap().shift_remove("volumes");
            assert_eq!(injected, template(), "{container} {path}");
        }
        for odd in [json!(null), json!({}), json!({ "spec": { "volumes": {}, "containers": {} } })] {
            let mut injected = odd.clone();
            inject_environment_volume(&mut injected, "web", "/x", [].into_iter());
            assert_eq!(injected, odd);
        }
    }

    #[test]
    fn annotations_of_the_environment_go_and_others_stay() {
        let annotations =
            json!({ "own": "x", "rolloutd.dev/environment": "A=\"1\"\n", "rolloutd.dev/environment.A": "1" });
        let mut template = json!({ "metadata": { "annotations": annotations } });
        let expected = [(keys::ENVIRONMENT, "A=\"1\"\n"), ("rolloutd.dev/environment.A", "1")];
        assert_eq!(environment_annotations(&template), BTreeMap::from(expected));
        remove_injected_environment(&mut template);
        assert_eq!(template, json!({ "metadata": { "annotations": { "own": "x" } } }));
        assert!(!is_environment(keys::ENVIRONMENT_STATE));
    }
}
