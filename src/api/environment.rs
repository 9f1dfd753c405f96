//! How often the environment of a rollout's pods may change: each change is written to every pod, and is watched for a while. Whoever
//! writes to the object directly is not held up; the controller goes on from the last word.

use std::time::Duration;

use serde_json::Value;

use super::cluster::Change;
use super::error::Error;
use super::rpc::Buckets;
use super::status::Reason;
use crate::store::Key;
use crate::validate::Side;

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
    /// What a request may do to a rollout's environment.
    pub(super) fn admission(&self, rollout: &Key) -> Admission<'_> {
        Admission { changes: self, rollout: rollout.clone(), is_taken: false }
    }
}

/// One request's change of a rollout's environment: it counts once, however often it is decided anew, and not at all where it is released.
///
/// Who goes away while it is being written has had it: it may be written all the same.
#[derive(Debug)]
pub(super) struct Admission<'a> {
    changes: &'a EnvironmentChanges,
    rollout: Key,
    is_taken: bool,
}

impl Admission<'_> {
    /// Refuses a change to an object that changes the environment, where there were too many.
    pub(super) fn ask(&mut self, live: &Value, change: &Change) -> Result<(), Error> {
        if !changes_environment(live, change) {
            self.release();
            return Ok(());
        }
        if self.is_taken {
            return Ok(());
        }
        self.changes.0.take(Some(self.rollout.clone())).map_err(too_often)?;
        self.is_taken = true;
        Ok(())
    }

    /// Nothing was written.
    pub(super) fn release(&mut self) {
        if std::mem::take(&mut self.is_taken) {
            self.changes.0.give_back(Some(self.rollout.clone()));
        }
    }
}

fn too_often(wait: Duration) -> Error {
    // A caller that waits this long finds it admitted.
    let wait = Duration::from_secs(wait.as_secs().saturating_add(1));
    let message = format!(
        "the environment of this rollout's pods changes too often: each change is written to all of them and watched; the next is \
         admitted in {} s, and nothing was written",
        wait.as_secs()
    );
    Error::new(Reason::EnvironmentChangesTooOften, message).retry_after(wait)
}

/// Whether either environment is another afterwards, in whatever form the change says so.
fn changes_environment(live: &Value, change: &Change) -> bool {
    let mut after = live.clone();
    match change {
        Change::Merge(patch) => json_patch::merge(&mut after, patch),
        // What cannot be carried out changes nothing.
        Change::Json(patch) if json_patch::patch(&mut after, patch).is_err() => return false,
        Change::Json(_) => {}
        Change::MergeStatus(_) => return false,
    }
    let of = |object: &Value, side: Side| object["metadata"]["annotations"].get(side.key()).cloned();
    [Side::Canary, Side::Stable].into_iter().any(|side| of(live, side) != of(&after, side))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn live() -> Value {
        json!({ "metadata": { "name": "web", "annotations": { "a": "b", "rolloutd.dev/canary-environment": "{}" } }, "spec": {} })
    }

    #[test]
    fn changes_of_the_environment_are_known_in_every_form() {
        let json = |operations: Value| Change::Json(serde_json::from_value(operations).unwrap());
        let merge = |annotations: Value| Change::Merge(json!({ "metadata": { "annotations": annotations } }));
        let (all, key) = ("/metadata/annotations", "/metadata/annotations/rolloutd.dev~1canary-environment");
        let same = json!({ "rolloutd.dev/canary-environment": "{}" });
        let other =
            json!({ "rolloutd.dev/canary-environment": "{}", "rolloutd.dev/stable-environment": "{}" });
        for (change, counts) in [
            (json(json!([{ "op": "add", "path": key, "value": "{\"A\":\"1\"}" }])), true),
            (json(json!([{ "op": "add", "path": key, "value": "{}" }])), false),
            (json(json!([{ "op": "remove", "path": key }])), true),
            (json(json!([{ "op": "add", "path": all, "value": other }])), true),
            (json(json!([{ "op": "replace", "path": all, "value": { "a": "b" } }])), true),
            (json(json!([{ "op": "replace", "path": all, "value": same }])), false),
            (json(json!([{ "op": "remove", "path": all }])), true),
            (json(json!([{ "op": "replace", "path": "/metadata", "value": { "name": "web" } }])), true),
            (json(json!([{ "op": "move", "from": key, "path": "/metadata/annotations/x" }])), true),
            (json(json!([{ "op": "add", "path": "/metadata/annotations/a", "value": "c" }])), false),
            (json(json!([{ "op": "replace", "path": "/spec", "value": { "replicas": 3 } }])), false),
            (merge(json!({ "rolloutd.dev/canary-environment": null })), true),
            (merge(json!({ "rolloutd.dev/stable-environment": null })), false),
            (merge(Value::Null), true),
            (Change::Merge(json!({ "spec": { "paused": true } })), false),
            (Change::MergeStatus(json!({ "abort": true })), false),
        ] {
            assert_eq!(changes_environment(&live(), &change), counts, "{change:?}");
        }
    }

    fn change() -> Change {
        Change::Merge(json!({ "metadata": { "annotations": { "rolloutd.dev/stable-environment": "{}" } } }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_rollout_has_a_few_changes_and_then_one_at_a_time() {
        let changes = EnvironmentChanges::default();
        let (web, other) = (Key::new("shop", "web"), Key::new("shop", "other"));
        let ask = |key: &Key| changes.admission(key).ask(&live(), &change());
        assert!((0..BURST).all(|_| ask(&web).is_ok()));
        let error = ask(&web).unwrap_err();
        assert_eq!(error.reason(), Reason::EnvironmentChangesTooOften);
        assert!(error.message().contains("admitted in 21 s"), "{}", error.message());
        assert!(ask(&other).is_ok());
        tokio::time::advance(Duration::from_secs(21)).await;
        assert!(ask(&web).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_counts_once_and_only_when_something_is_written() {
        let changes = EnvironmentChanges::default();
        let web = Key::new("shop", "web");
        for _ in 0..3 * BURST {
            let mut refused = changes.admission(&web);
            assert!((0..3).all(|_| refused.ask(&live(), &change()).is_ok()), "it is asked for once");
            refused.release();
        }
        let mut last = changes.admission(&web);
        assert!((0..BURST - 1).all(|_| changes.admission(&web).ask(&live(), &change()).is_ok()));
        assert!(last.ask(&live(), &change()).is_ok());
        assert!(changes.admission(&web).ask(&live(), &change()).is_err());
        // Decided anew, it changes something else.
        last.ask(&live(), &Change::Merge(json!({ "spec": { "paused": true } }))).unwrap();
        assert!(changes.admission(&web).ask(&live(), &change()).is_ok());
    }
}
