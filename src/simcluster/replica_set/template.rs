//! The pod that a ReplicaSet's template describes.
//!
//! Pure; the rules are those of `GetPodFromTemplate` in Kubernetes' `pkg/controller/controller_utils.go`.

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt as _;

/// What a generated name starts with.
pub(super) fn name_base(set: &ReplicaSet) -> String {
    format!("{}-", set.name_any())
}

/// A pod of `set`, called `name`, on `node` if one is up.
pub(super) fn pod(set: &ReplicaSet, name: String, node: Option<String>) -> Pod {
    let template = set.spec.template.clone().unwrap_or_default();
    let metadata = template.metadata.unwrap_or_default();
    let mut spec = template.spec.unwrap_or_default();
    if spec.node_name.is_none() {
        spec.node_name = node;
    }
    Pod {
        metadata: ObjectMeta {
            name: Some(name),
            generate_name: Some(name_base(set)),
            namespace: set.namespace(),
            labels: metadata.labels,
            annotations: metadata.annotations,
            finalizers: metadata.finalizers,
            owner_references: Some(vec![owner_reference(set)]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

fn owner_reference(set: &ReplicaSet) -> OwnerReference {
    OwnerReference {
        api_version: "apps/v1".to_owned(),
        kind: "ReplicaSet".to_owned(),
        name: set.name_any(),
        uid: set.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_takes_the_templates_metadata_and_names_its_set_as_controller() {
        let set: ReplicaSet = serde_json::from_value(json!({
            "metadata": { "name": "web", "namespace": "ns", "uid": "u" },
            "spec": {
                "selector": {},
                "template": {
                    "metadata": { "labels": { "app": "web" }, "annotations": { "a": "b" }, "finalizers": ["x/y"] },
                    "spec": { "containers": [{ "name": "app", "image": "web:1" }] },
                },
            },
        }))
        .unwrap();
        assert_eq!(
            serde_json::to_value(pod(&set, "web-abcde".to_owned(), Some("n1".to_owned()))).unwrap(),
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": "web-abcde",
                    "generateName": "web-",
                    "namespace": "ns",
                    "labels": { "app": "web" },
                    "annotations": { "a": "b" },
                    "finalizers": ["x/y"],
                    "ownerReferences": [{
                        "apiVersion": "apps/v1",
                        "kind": "ReplicaSet",
                        "name": "web",
                        "uid": "u",
                        "controller": true,
                        "blockOwnerDeletion": true,
                    }],
                },
                "spec": { "containers": [{ "name": "app", "image": "web:1" }], "nodeName": "n1" },
            })
        );
    }
}
