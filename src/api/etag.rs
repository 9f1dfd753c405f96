//! Etags: an opaque digest of what a user decides about a rollout.
//!
//! Of uid, spec without replicas (autoscalers write those), and the user's labels and annotations; status does not touch it
//! (AIP-154). The same object gives the same etag from the cache and from a fresh read, on every replica.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use serde_json::{Value, json};

use super::convert::{Record, decided_annotations};

/// How much of the digest is kept: enough that two versions never share an etag by chance.
const BYTES: usize = 15;

/// The etag of a rollout.
#[must_use]
pub(super) fn of(record: Record<'_>) -> String {
    let metadata = record.metadata();
    let decided = match record {
        Record::Decoded(rollout) => {
            let mut spec = serde_json::to_value(&rollout.spec).unwrap_or_default();
            if let Some(fields) = spec.as_object_mut() {
                fields.shift_remove("replicas");
            }
            spec
        }
        // What cannot be decoded has no spec to speak of; its generation changes with it.
        Record::Malformed(metadata, _) => json!(metadata.generation),
    };
    digest(&json!([metadata.uid, decided, metadata.labels, decided_annotations(metadata)]))
}

/// A digest of a value in which the order of fields does not matter.
#[must_use]
pub(super) fn digest(value: &Value) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    feed(&mut context, value);
    URL_SAFE_NO_PAD.encode(&context.finish().as_ref()[..BYTES])
}

fn feed(context: &mut digest::Context, value: &Value) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| *key);
            context.update(b"{");
            for (key, value) in fields {
                // As JSON, so that no text can pass for structure.
                context.update(json!(key).to_string().as_bytes());
                feed(context, value);
            }
            context.update(b"}");
        }
        Value::Array(items) => {
            context.update(b"[");
            for item in items {
                feed(context, item);
                context.update(b",");
            }
            context.update(b"]");
        }
        scalar => context.update(scalar.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::Rollout;

    fn etag(change: impl FnOnce(&mut Value)) -> String {
        let mut object = json!({
            "metadata": { "name": "web", "uid": "1", "resourceVersion": "7", "labels": { "team": "shop" } },
            "spec": { "replicas": 3, "minReadySeconds": 1, "template": { "b": [1, 2], "a": null } },
            "status": { "phase": "Healthy" },
        });
        change(&mut object);
        let rollout: Rollout = serde_json::from_value(object).unwrap();
        of(Record::Decoded(&rollout))
    }

    #[test]
    fn status_replicas_and_bookkeeping_do_not_touch_the_etag() {
        let before = etag(|_| {});
        for change in [
            |object: &mut Value| object["status"] = json!({ "phase": "Degraded" }),
            |object: &mut Value| object["spec"]["replicas"] = json!(5),
            |object: &mut Value| object["metadata"]["resourceVersion"] = json!("8"),
            |object: &mut Value| {
                object["metadata"]["annotations"] = json!({ "rollout.argoproj.io/revision": "2" });
            },
            |object: &mut Value| object["spec"]["template"] = json!({ "a": null, "b": [1, 2] }),
        ] {
            assert_eq!(etag(change), before);
        }
    }

    #[test]
    fn whatever_a_user_decides_changes_the_etag() {
        let before = etag(|_| {});
        for change in [
            |object: &mut Value| object["metadata"]["uid"] = json!("2"),
            |object: &mut Value| object["metadata"]["labels"] = json!({}),
            |object: &mut Value| object["metadata"]["annotations"] = json!({ "a": "b" }),
            |object: &mut Value| object["spec"]["paused"] = json!(true),
            |object: &mut Value| object["spec"]["template"]["b"] = json!([2, 1]),
            |object: &mut Value| object["spec"]["xUnknown"] = json!(1),
        ] {
            assert_ne!(etag(change), before);
        }
    }

    #[test]
    fn structure_cannot_be_forged_by_text() {
        assert_ne!(digest(&json!(["a", "b"])), digest(&json!(["a\",\"b"])));
        assert_ne!(digest(&json!({ "a": "b" })), digest(&json!({ "a\"\"b": "" })));
        assert_ne!(digest(&json!([12])), digest(&json!([1, 2])));
    }
}
