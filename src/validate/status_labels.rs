//! Whether the pods of a rollout carry the status label, as the Rollout says it: annotation `rolloutd.dev/status-labels` (docs/pods.md).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::path::Path;
use super::violation::Violation;
use crate::crd::keys;

/// What a Rollout says of it; `None` where it says nothing.
///
/// # Errors
///
/// What it says is neither: then it says nothing.
pub fn status_labels(metadata: &ObjectMeta) -> Result<Option<bool>, Violation> {
    let annotations = metadata.annotations.as_ref();
    match annotations.and_then(|annotations| annotations.get(keys::STATUS_LABELS)).map(String::as_str) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => {
            let path = Path::root("metadata").field("annotations").key(keys::STATUS_LABELS);
            Err(Violation::not_supported(path, other, &["true", "false"]))
        }
    }
}
