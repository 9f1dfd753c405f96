//! What a Rollout says in its metadata and what is never its to say. No rule of the reference: the API refuses it, and a stored object
//! that breaks one rolls out all the same, with a warning, as if it did not say so.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::path::Path;
use super::status_labels::status_labels;
use super::violation::Violation;
use super::{environment, ephemeral, inheritance};
use crate::crd::{Rollout, RolloutSpec, keys};

const OURS: &str = "is a label that selectors go by: the controller gives it to what it creates";

/// All violations, in the order of the object's fields.
#[must_use]
pub fn metadata(rollout: &Rollout) -> Vec<Violation> {
    let mut violations = own_labels(&rollout.metadata);
    violations.extend(inheritance::policies(&rollout.metadata));
    violations.extend(status_labels(&rollout.metadata).err());
    violations.extend(environment::violations(rollout));
    violations.extend(pod_labels(&rollout.spec));
    for (metadata, path) in ephemeral::given(&rollout.spec, &Path::root("spec").field("strategy")) {
        let labels = metadata.labels.as_ref();
        let has = |key: &str| labels.is_some_and(|labels| labels.contains_key(key));
        violations.extend(reserved(has, &path.field("labels")));
    }
    violations
}

/// The Rollout's own labels. Which instance it belongs to is the Rollout's to say.
fn own_labels(metadata: &ObjectMeta) -> Vec<Violation> {
    let hash = metadata.labels.as_ref().and_then(|labels| labels.get(keys::POD_TEMPLATE_HASH));
    let path = Path::root("metadata").field("labels").key(keys::POD_TEMPLATE_HASH);
    hash.map(|_| Violation::forbidden(path, OURS)).into_iter().collect()
}

/// Labels of the pod template.
fn pod_labels(spec: &RolloutSpec) -> Vec<Violation> {
    let labels = spec.template.as_ref().and_then(|template| template.pointer("/metadata/labels"));
    let labels = labels.and_then(Value::as_object);
    let path = Path::root("spec").fields(&["template", "metadata", "labels"]);
    reserved(|key| labels.is_some_and(|labels| labels.contains_key(key)), &path)
}

/// Keys that bear selectors, among labels of pods.
fn reserved(has: impl Fn(&str) -> bool, labels: &Path) -> Vec<Violation> {
    let keys = [keys::POD_TEMPLATE_HASH, keys::CONTROLLER_INSTANCE_ID];
    keys.into_iter().filter(|key| has(key)).map(|key| Violation::forbidden(labels.key(key), OURS)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn violations(object: Value) -> Vec<String> {
        let rollout: Rollout = serde_json::from_value(object).unwrap();
        metadata(&rollout).iter().map(|violation| violation.path.to_string()).collect()
    }

    #[test]
    fn labels_that_bear_selectors_are_nobodys_to_give() {
        let ours = json!({ keys::POD_TEMPLATE_HASH: "a", keys::CONTROLLER_INSTANCE_ID: "b", "team": "c" });
        let of = |place: Value| violations(place);
        assert_eq!(
            of(json!({ "metadata": { "labels": ours }, "spec": {} })),
            ["metadata.labels[rollouts-pod-template-hash]"],
            "the instance is the Rollout's own word"
        );
        assert_eq!(
            of(json!({ "metadata": {}, "spec": { "template": { "metadata": { "labels": ours } } } })),
            [
                "spec.template.metadata.labels[rollouts-pod-template-hash]",
                "spec.template.metadata.labels[argo-rollouts.argoproj.io/controller-instance-id]"
            ]
        );
        assert_eq!(of(json!({ "metadata": { "labels": { "team": "a" } }, "spec": {} })), [""; 0]);
    }

    #[test]
    fn whether_pods_have_status_labels_is_said_by_two_words() {
        let of = |word: &str| {
            violations(json!({ "metadata": { "annotations": { keys::STATUS_LABELS: word } }, "spec": {} }))
        };
        assert_eq!((of("true"), of("false")), (vec![], vec![]));
        for word in ["", "yes", "True"] {
            assert_eq!(of(word), ["metadata.annotations[rolloutd.dev/status-labels]"], "{word}");
        }
    }

    #[test]
    fn a_policy_that_cannot_be_read_is_named() {
        let annotations = json!({ keys::INHERIT_LABELS: "some", keys::INHERIT_ANNOTATIONS: "none" });
        assert_eq!(
            violations(json!({ "metadata": { "annotations": annotations }, "spec": {} })),
            ["metadata.annotations[rolloutd.dev/inherit-labels]"]
        );
    }
}
