//! How often the environment of a rollout's pods may change: each change is written to every pod, and is watched for a while. Whoever
//! writes to the object directly is not held up; the controller goes on from the last word.

use std::time::Duration;

use json_patch::PatchOperation;

use super::cluster::Change;
use super::error::Error;
use super::rpc::Buckets;
use super::status::Reason;
use crate::crd::keys;
use crate::store::Key;

/// How many changes of a rollout may follow each other at once.
const BURST: u32 = 5;

/// How many a second after that: one in twenty seconds, in which some hundred pods get it.
const PER_SECOND: f64 = 0.05;

/// The changes there were.
#[derive(Debug)]
pub(super) struct EnvironmentChanges(Buckets<Key>);

impl Default for EnvironmentChanges {
    fn default() -> Self {
        Self(Buckets::new(PER_SECOND, BURST))
    }
}

impl EnvironmentChanges {
    /// Refuses a change of the environment where there were too many.
    pub(super) fn admit(&self, rollout: &Key, change: &Change) -> Result<(), Error> {
        if !changes_environment(change) {
            return Ok(());
        }
        self.0.take(Some(rollout.clone())).map_err(|wait| {
            // A caller that waits this long finds it admitted.
            let wait = Duration::from_secs(wait.as_secs().saturating_add(1));
            let message = format!(
                "the environment of this rollout's pods changes too often: each change is written to all of them and watched; the next is \
                 admitted in {} s, and nothing was written",
                wait.as_secs()
            );
            Error::new(Reason::EnvironmentChangesTooOften, message).retry_after(wait)
        })
    }
}

fn changes_environment(change: &Change) -> bool {
    let sides = [keys::CANARY_ENVIRONMENT, keys::STABLE_ENVIRONMENT];
    match change {
        Change::Merge(patch) => {
            let annotations = &patch["metadata"]["annotations"];
            sides.iter().any(|key| annotations.get(key).is_some())
        }
        Change::MergeStatus(_) => false,
        Change::Json(patch) => patch.iter().any(|operation| match operation {
            // All annotations at once, where there were none.
            PatchOperation::Add(add) if add.path.as_str() == "/metadata/annotations" => {
                sides.iter().any(|key| add.value.get(key).is_some())
            }
            PatchOperation::Test(_) => false,
            other => sides.iter().any(|key| is_at(other.path().as_str(), key)),
        }),
    }
}

fn is_at(path: &str, key: &str) -> bool {
    path.strip_prefix("/metadata/annotations/").is_some_and(|rest| rest == key.replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_of_the_environment_are_known_in_every_form() {
        let json = |operations: serde_json::Value| Change::Json(serde_json::from_value(operations).unwrap());
        let key = "/metadata/annotations/rolloutd.dev~1canary-environment";
        for (change, counts) in [
            (json(json!([{ "op": "add", "path": key, "value": "{}" }])), true),
            (json(json!([{ "op": "remove", "path": key }])), true),
            (
                json(
                    json!([{ "op": "add", "path": "/metadata/annotations", "value": { "rolloutd.dev/stable-environment": "{}" } }]),
                ),
                true,
            ),
            (json(json!([{ "op": "add", "path": "/metadata/annotations", "value": { "a": "b" } }])), false),
            (json(json!([{ "op": "add", "path": "/metadata/annotations/a", "value": "b" }])), false),
            (json(json!([{ "op": "replace", "path": "/spec/replicas", "value": 3 }])), false),
            (
                Change::Merge(
                    json!({ "metadata": { "annotations": { "rolloutd.dev/stable-environment": null } } }),
                ),
                true,
            ),
            (Change::Merge(json!({ "spec": { "paused": true } })), false),
            (Change::MergeStatus(json!({ "abort": true })), false),
        ] {
            assert_eq!(changes_environment(&change), counts, "{change:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rollout_has_a_few_changes_and_then_one_at_a_time() {
        let changes = EnvironmentChanges::default();
        let change = Change::Merge(
            json!({ "metadata": { "annotations": { "rolloutd.dev/stable-environment": "{}" } } }),
        );
        let (web, other) = (Key::new("shop", "web"), Key::new("shop", "other"));
        assert!((0..BURST).all(|_| changes.admit(&web, &change).is_ok()));
        let error = changes.admit(&web, &change).unwrap_err();
        assert_eq!(error.reason(), Reason::EnvironmentChangesTooOften);
        assert!(error.message().contains("admitted in 21 s"), "{}", error.message());
        assert!(changes.admit(&other, &change).is_ok());
        tokio::time::advance(Duration::from_secs(21)).await;
        assert!(changes.admit(&web, &change).is_ok());
    }
}
