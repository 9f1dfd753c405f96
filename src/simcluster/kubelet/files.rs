//! What a container finds in its Downward API volumes: fields of its pod as files, as they are now.
//!
//! Pure. A real kubelet brings the files up to date within about a minute of a change; this one at once.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, Pod};

/// The files of a container by their paths, as the container sees them; `None` where the pod has no such container.
pub(super) fn files(pod: &Pod, container: &str) -> Option<BTreeMap<String, String>> {
    let spec = pod.spec.as_ref()?;
    let container = spec.containers.iter().find(|known| known.name == container)?;
    let mut files = BTreeMap::new();
    for mount in container.volume_mounts.iter().flatten() {
        let named = spec.volumes.iter().flatten().find(|volume| volume.name == mount.name);
        let Some(source) = named.and_then(|volume| volume.downward_api.as_ref()) else { continue };
        for file in source.items.iter().flatten() {
            let path = format!("{}/{}", mount.mount_path.trim_end_matches('/'), file.path);
            files.insert(path, content(pod, file).unwrap_or_default());
        }
    }
    Some(files)
}

/// What a field holds; a label or annotation that is not there is an empty file.
fn content(pod: &Pod, file: &DownwardAPIVolumeFile) -> Option<String> {
    let metadata = &pod.metadata;
    let field = file.field_ref.as_ref()?.field_path.as_str();
    let all = |map: Option<&BTreeMap<String, String>>| {
        let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    match field {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "metadata.labels" => Some(all(metadata.labels.as_ref())),
        "metadata.annotations" => Some(all(metadata.annotations.as_ref())),
        _ => {
            let (map, key) = field.strip_suffix("']")?.split_once("['")?;
            let map = match map {
                "metadata.labels" => metadata.labels.as_ref()?,
                "metadata.annotations" => metadata.annotations.as_ref()?,
                _ => return None,
            };
            map.get(key).cloned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_finds_fields_of_its_pod_where_it_mounts_them() {
        let item = |path: &str, field: &str| json!({ "path": path, "fieldRef": { "fieldPath": field } });
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "web-1", "labels": { "a": "1", "b": "x\"y" }, "annotations": { "team.io/note": "n" } },
            "spec": {
                "containers": [{ "name": "web", "volumeMounts": [{ "name": "info", "mountPath": "/etc/info/" }, { "name": "tmp", "mountPath": "/tmp" }] },
                    { "name": "other" }],
                "volumes": [
                    { "name": "tmp", "emptyDir": {} },
                    { "name": "info", "downwardAPI": { "items": [
                        item("name", "metadata.name"), item("labels", "metadata.labels"),
                        item("sub/note", "metadata.annotations['team.io/note']"), item("gone", "metadata.labels['gone']"),
                    ] } },
                ],
            },
        }))
        .unwrap();
        let expected = [
            ("/etc/info/gone", ""),
            ("/etc/info/labels", "a=\"1\"\nb=\"x\\\"y\""),
            ("/etc/info/name", "web-1"),
            ("/etc/info/sub/note", "n"),
        ];
        let found = files(&pod, "web").unwrap();
        let found: Vec<_> = found.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        assert_eq!(found, expected);
        assert_eq!(files(&pod, "other"), Some(BTreeMap::new()));
        assert_eq!(files(&pod, "absent"), None);
    }
}
