//! The annotation in which kubectl keeps what was applied last, byte for byte as kubectl writes it.
//!
//! So kubectl apply and ApplyManifest may be used in turn: each finds what the other applied.

use serde_json::{Map, Value, json};

use crate::crd::keys::LAST_APPLIED_CONFIGURATION;
use crate::hash;

/// The manifest with the annotation that records it: what is sent.
#[must_use]
pub(super) fn annotated(manifest: &Value) -> Value {
    let mut sent = without_annotation(manifest);
    // Go's encoder ends with a line.
    let recorded = hash::go_json(&sent) + "\n";
    sent["metadata"]["annotations"][LAST_APPLIED_CONFIGURATION] = json!(recorded);
    sent
}

/// What was applied to a live object last; empty when nothing was, or when the record cannot be read.
#[must_use]
pub(super) fn recorded(live: &Value) -> Value {
    let annotation = &live["metadata"]["annotations"][LAST_APPLIED_CONFIGURATION];
    let recorded = annotation.as_str().and_then(|text| serde_json::from_str(text).ok());
    recorded.filter(Value::is_object).unwrap_or_else(|| json!({}))
}

/// The manifest without the annotation; the map of annotations is there even when it is empty then, as in kubectl.
fn without_annotation(manifest: &Value) -> Value {
    let mut bare = manifest.clone();
    let Some(metadata) = bare["metadata"].as_object_mut() else { return bare };
    let annotations = metadata.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
    match annotations {
        Value::Object(annotations) => {
            annotations.shift_remove(LAST_APPLIED_CONFIGURATION);
        }
        other => *other = json!({}),
    }
    bare
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_kubectls_to_the_byte() {
        // Written by kubectl 1.35 for this manifest.
        let manifest = json!({
            "kind": "Rollout", "apiVersion": "argoproj.io/v1alpha1",
            "metadata": { "namespace": "shop", "name": "web", "labels": { "b": "<1>", "a": "x&y" } },
            "spec": { "replicas": 2, "template": { "z": 0.5, "a": null } },
        });
        let expected = concat!(
            r#"{"apiVersion":"argoproj.io/v1alpha1","kind":"Rollout","metadata":{"annotations":{},"#,
            r#""labels":{"a":"x\u0026y","b":"\u003c1\u003e"},"name":"web","namespace":"shop"},"#,
            r#""spec":{"replicas":2,"template":{"a":null,"z":0.5}}}"#,
            "\n"
        );
        let sent = annotated(&manifest);
        assert_eq!(sent["metadata"]["annotations"][LAST_APPLIED_CONFIGURATION], expected);
        assert_eq!(recorded(&sent), without_annotation(&manifest));
        assert_eq!(annotated(&sent), sent, "a record is never recorded itself");
    }

    #[test]
    fn a_record_that_cannot_be_read_is_none() {
        for text in ["", "x", "[]", "7"] {
            let live = json!({ "metadata": { "annotations": { LAST_APPLIED_CONFIGURATION: text } } });
            assert_eq!(recorded(&live), json!({}));
        }
        assert_eq!(recorded(&json!({})), json!({}));
    }
}
