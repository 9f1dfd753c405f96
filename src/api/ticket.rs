//! Request ids that outlive this process: the object itself remembers the last requests that changed it.
//!
//! For the verbs whose repetition would do something else than the first time ([`super::request_id`] is a short cut for all, in memory).
//! Written in the same patch as the change, as the annotation [`keys::REQUESTS`]; so whoever reads the object knows whether a request
//! was carried out, on every server and after a restart. The annotation is bookkeeping: no etag, no copy, no way to it through this API.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cluster::Change;
use super::error::Error;
use super::mutating::Mutating;
use super::request_id;
use crate::crd::keys;

/// How many requests an object remembers: more than clients have under way for one rollout, in less than a kilobyte.
const REMEMBERED: usize = 8;

/// A request that is to be carried out once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    id: String,
    /// Tells it from another request with the same id.
    digest: String,
}

/// A request that was carried out.
#[derive(Debug, Deserialize, Serialize)]
struct Entry {
    id: String,
    digest: String,
    /// The generation that it led to.
    generation: i64,
}

impl Ticket {
    /// The ticket of a request; `None` when it has no id.
    pub(super) fn of<R: Mutating>(request: &R) -> Result<Option<Self>, Error> {
        if request.request_id().is_empty() {
            return Ok(None);
        }
        let id = request_id::parse(request.request_id())?;
        let digest = request_id::digest_of(R::METHOD, &request.encode_to_vec());
        Ok(Some(Self { id, digest: digest[..DIGEST].to_owned() }))
    }

    /// Whether the object was changed by this very request. One with its id and another body is refused.
    pub(super) fn was_used(&self, object: &Value) -> Result<bool, Error> {
        match entries(object).iter().find(|entry| entry.id == self.id) {
            None => Ok(false),
            Some(entry) if entry.digest == self.digest => Ok(true),
            Some(_) => Err(request_id::reused(&self.id)),
        }
    }

    /// What the object remembers when the request was carried out too, as the annotation's value.
    pub(super) fn recorded(&self, object: &Value, generation: i64) -> String {
        let mut entries = entries(object);
        entries.push(Entry { id: self.id.clone(), digest: self.digest.clone(), generation });
        let surplus = entries.len().saturating_sub(REMEMBERED);
        json!(entries[surplus..]).to_string()
    }

    /// Lets a change to an object also record the request.
    pub(super) fn recording(&self, change: Option<Change>, object: &Value) -> Change {
        let generation = object["metadata"]["generation"].as_i64().unwrap_or(0);
        let generation = generation + i64::from(change.as_ref().is_some_and(Change::is_of_spec));
        let recorded = self.recorded(object, generation);
        match change {
            None => Change::Merge(json!({ "metadata": { "annotations": { keys::REQUESTS: recorded } } })),
            Some(Change::Merge(mut patch)) => {
                patch["metadata"]["annotations"][keys::REQUESTS] = json!(recorded);
                Change::Merge(patch)
            }
            Some(Change::Json(mut patch)) => {
                let mut annotated = object.clone();
                if !annotated["metadata"]["annotations"].is_object() {
                    annotated["metadata"]["annotations"] = json!({});
                }
                annotated["metadata"]["annotations"][keys::REQUESTS] = json!(recorded);
                patch.0.extend(json_patch::diff(object, &annotated).0);
                Change::Json(patch)
            }
            // The status subresource takes no annotations; none of the verbs that need a ticket writes there.
            Some(change @ Change::MergeStatus(_)) => change,
        }
    }
}

/// How much of a digest is kept: enough that no two requests share it by chance.
const DIGEST: usize = 22;

/// What an object remembers. What cannot be read is nothing, and is written over.
fn entries(object: &Value) -> Vec<Entry> {
    let text = object["metadata"]["annotations"][keys::REQUESTS].as_str().unwrap_or_default();
    serde_json::from_str(text).unwrap_or_default()
}

/// Takes out of a manifest what only this server writes. Says whether it was there.
pub(super) fn strip(manifest: &mut Value) -> bool {
    let annotations = manifest.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    annotations.is_some_and(|annotations| annotations.shift_remove(keys::REQUESTS).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::Reason;
    use crate::pb::v1;

    fn ticket(number: u128, replicas: i32) -> Ticket {
        let request_id = uuid::Uuid::from_u128(number).to_string();
        let request = v1::ScaleRolloutRequest { request_id, replicas: Some(replicas), ..Default::default() };
        Ticket::of(&request).unwrap().unwrap()
    }

    fn object(annotation: Option<&str>) -> Value {
        let mut object = json!({ "metadata": { "name": "web", "generation": 3 }, "spec": { "replicas": 1 } });
        if let Some(annotation) = annotation {
            object["metadata"]["annotations"] = json!({ keys::REQUESTS: annotation, "other": "kept" });
        }
        object
    }

    fn applied(change: &Change, object: &Value) -> Value {
        let mut changed = object.clone();
        match change {
            Change::Merge(patch) => json_patch::merge(&mut changed, patch),
            Change::Json(patch) => json_patch::patch(&mut changed, patch).unwrap(),
            Change::MergeStatus(_) => unreachable!("not used here"),
        }
        changed
    }

    #[test]
    fn an_object_remembers_the_last_requests_that_changed_it() {
        let mut stored = object(Some("[]"));
        for number in 0..20 {
            let ticket = ticket(number, 5);
            assert!(!ticket.was_used(&stored).unwrap());
            stored = applied(&ticket.recording(None, &stored), &stored);
            assert!(ticket.was_used(&stored).unwrap());
        }
        let known: Vec<u128> =
            (0..20).filter(|number| ticket(*number, 5).was_used(&stored).unwrap()).collect();
        assert_eq!(known, (12..20).collect::<Vec<_>>());
        assert_eq!(stored["metadata"]["annotations"]["other"], "kept");
        let text = stored["metadata"]["annotations"][keys::REQUESTS].as_str().unwrap();
        assert!(text.len() < 1024, "{} bytes", text.len());
        let error = ticket(19, 6).was_used(&stored).unwrap_err();
        assert_eq!(error.reason(), Reason::RequestIdReused);
    }

    #[test]
    fn a_request_is_recorded_in_the_patch_that_carries_it_out() {
        let spec = json!({ "spec": { "replicas": 5 } });
        let json_patch = |object: &Value| {
            let mut changed = object.clone();
            json_patch::merge(&mut changed, &spec);
            Change::Json(json_patch::diff(object, &changed))
        };
        for annotation in [None, Some("[]"), Some("not json"), Some("[{\"id\": 7}]"), Some("{}")] {
            let object = object(annotation);
            for (change, generation) in
                [(Some(Change::Merge(spec.clone())), 4), (Some(json_patch(&object)), 4), (None, 3)]
            {
                let replicas = if change.is_some() { 5 } else { 1 };
                let stored = applied(&ticket(1, 5).recording(change, &object), &object);
                assert!(ticket(1, 5).was_used(&stored).unwrap(), "{annotation:?}");
                assert_eq!(stored["spec"]["replicas"], replicas);
                assert_eq!(entries(&stored)[0].generation, generation);
            }
        }
    }

    #[test]
    fn a_manifest_cannot_forge_what_an_object_remembers() {
        let mut manifest = object(Some("[]"));
        assert!(strip(&mut manifest));
        assert_eq!(manifest["metadata"]["annotations"], json!({ "other": "kept" }));
        for mut manifest in [object(None), json!({}), json!({ "metadata": { "annotations": "x" } })] {
            assert!(!strip(&mut manifest));
        }
    }
}
