//! What applying a manifest would change, as a unified diff: the object as it is against the server's own answer to a dry run.
//!
//! Without what the server counts and remembers by itself; and without what a Secret keeps, of which it says only whether it changes.

use serde_json::{Value, json};

use crate::api::difference;
use crate::api::ticket;
use crate::crd::keys::LAST_APPLIED_CONFIGURATION;
use crate::manifest::Item;

/// Metadata that the server writes.
const OF_THE_SERVER: [&str; 5] =
    ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"];

/// What a Secret keeps.
const SECRET: [&str; 2] = ["data", "stringData"];

/// The diff from the object that is stored (`None`: it does not exist) to what would be; empty where nothing would change.
pub(super) fn unified_diff(item: &Item, live: Option<&Value>, applied: &Value) -> String {
    let (mut before, mut after) = (live.map(comparable), comparable(applied));
    if item.kind.kind == "Secret" {
        hide(before.as_mut(), &mut after);
    }
    let name = item.kind.named(&item.namespace, &item.name).name;
    let (old, new) = (format!("{name} (stored)"), format!("{name} (applied)"));
    difference::unified((&old, before.as_ref()), (&new, Some(&after)))
}

fn comparable(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove("status");
    }
    ticket::strip(&mut object);
    let Some(metadata) = object["metadata"].as_object_mut() else { return object };
    for field in OF_THE_SERVER {
        metadata.shift_remove(field);
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.shift_remove(LAST_APPLIED_CONFIGURATION);
        if annotations.is_empty() {
            metadata.shift_remove("annotations");
        }
    }
    object
}

/// Replaces the values of a Secret by whether they change.
fn hide(mut before: Option<&mut Value>, after: &mut Value) {
    for field in SECRET {
        let old = before.as_deref().map(|before| before[field].clone()).unwrap_or_default();
        let new = after[field].clone();
        let mask = |values: &Value, other: &Value, changed: &str| {
            let masked = values.as_object()?.iter().map(|(key, value)| {
                let is_same = other.get(key) == Some(value);
                (key.clone(), json!(if is_same { "***" } else { changed }))
            });
            Some(Value::Object(masked.collect()))
        };
        if let (Some(before), Some(masked)) = (before.as_deref_mut(), mask(&old, &new, "*** (before)")) {
            before[field] = masked;
        }
        if let Some(masked) = mask(&new, &old, "*** (after)") {
            after[field] = masked;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_secret_keeps_is_never_shown() {
        let secret = |data: Value| json!({ "kind": "Secret", "data": data });
        let mut before = secret(json!({ "same": "c2FtZQ==", "other": "b2xk", "gone": "Z29uZQ==" }));
        let mut after = secret(json!({ "same": "c2FtZQ==", "other": "bmV3", "new": "bmV3" }));
        hide(Some(&mut before), &mut after);
        assert_eq!(before["data"], json!({ "same": "***", "other": "*** (before)", "gone": "*** (before)" }));
        assert_eq!(after["data"], json!({ "same": "***", "other": "*** (after)", "new": "*** (after)" }));
        let mut created = json!({ "kind": "Secret", "stringData": { "a": "secret" } });
        hide(None, &mut created);
        assert_eq!(created["stringData"], json!({ "a": "*** (after)" }));
    }

    #[test]
    fn what_the_server_writes_by_itself_is_no_difference() {
        let live = json!({
            "metadata": { "name": "web", "uid": "1", "resourceVersion": "7", "generation": 2, "creationTimestamp": "2026-01-01T00:00:00Z",
                "managedFields": [{}], "annotations": { LAST_APPLIED_CONFIGURATION: "{}", "rolloutd.dev/requests": "[]" } },
            "spec": { "replicas": 1 }, "status": { "phase": "Healthy" },
        });
        assert_eq!(comparable(&live), json!({ "metadata": { "name": "web" }, "spec": { "replicas": 1 } }));
    }
}
