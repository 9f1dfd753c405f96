//! What nobody is to write although a stored object that says it rolls out all the same, as if it did not say so: what [`metadata`] finds,
//! and when a workload is scaled down.
//!
//! A change is refused for what it brings itself. What stood there before and stays was written past the API, and is no reason to refuse a
//! change of something else.

use serde_json::Value;

use super::metadata::metadata;
use super::path::{Path, Segment};
use super::spec::scale_down;
use super::violation::Violation;
use crate::crd::Rollout;

/// What an object would say that counts for nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unheeded {
    /// What the change brings.
    pub new: Vec<Violation>,
    /// What was so before, and stays.
    pub kept: Vec<Violation>,
}

/// What is unheeded of an object that is to be stored in the place of another.
#[must_use]
pub fn unheeded(before: Option<&Value>, after: &Value) -> Unheeded {
    let known = before.map(violations);
    let is_kept = |violation: &Violation| {
        let stays = before.is_some_and(|before| at(before, &violation.path) == at(after, &violation.path));
        let was_so = |known: &Vec<Violation>| known.iter().any(|known| known.path == violation.path);
        // Of an object that cannot be decoded it is not known.
        stays && known.iter().flatten().all(was_so)
    };
    let (kept, new) = violations(after).into_iter().flatten().partition(is_kept);
    Unheeded { new, kept }
}

fn violations(object: &Value) -> Option<Vec<Violation>> {
    let rollout = Rollout::decode(object).ok()?;
    Some(metadata(&rollout).into_iter().chain(scale_down(&rollout)).collect())
}

/// What stands at a path; below a text that means more than itself, the whole text.
fn at<'a>(object: &'a Value, path: &Path) -> Option<&'a Value> {
    let mut value = object;
    for segment in path.segments() {
        value = match (segment, value) {
            (_, Value::String(_)) => break,
            (Segment::Field(field), _) => value.get(&**field)?,
            (Segment::Key(key), _) => value.get(key)?,
            (Segment::Index(index), _) => value.get(index)?,
        };
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::keys;
    use serde_json::json;

    fn object(annotations: &Value) -> Value {
        let containers = json!([{ "name": "web", "image": "web:1" }]);
        json!({ "metadata": { "annotations": annotations }, "spec": { "template": { "spec": { "containers": containers } } } })
    }

    fn paths(violations: &[Violation]) -> Vec<String> {
        violations.iter().map(|violation| violation.path.to_string()).collect()
    }

    #[test]
    fn what_stays_as_it_was_is_nobodys_fault() {
        let path = "metadata.annotations[rolloutd.dev/stable-environment][DB_PASSWORD]";
        let secret = |value: &str| json!({ "DB_PASSWORD": value }).to_string();
        let before = object(&json!({ keys::STABLE_ENVIRONMENT: secret("a"), keys::INHERIT_LABELS: "some" }));
        let mut after = before.clone();
        after["spec"]["replicas"] = json!(3);
        let found = unheeded(Some(&before), &after);
        assert_eq!((found.new, found.kept.len()), (vec![], 2));

        let changed = object(&json!({ keys::STABLE_ENVIRONMENT: secret("b"), keys::INHERIT_LABELS: "some" }));
        let found = unheeded(Some(&before), &changed);
        assert_eq!(paths(&found.new), [path], "another value of the same name is the change's");
        assert_eq!(paths(&found.kept), ["metadata.annotations[rolloutd.dev/inherit-labels]"]);
        assert_eq!(unheeded(None, &before).new.len(), 2);
    }

    #[test]
    fn what_becomes_wrong_by_a_change_elsewhere_is_the_changes() {
        let allowed = object(
            &json!({ keys::STABLE_ENVIRONMENT: "{\"A_TOKEN\":\"x\"}", keys::ENVIRONMENT_ALLOW: "A_TOKEN" }),
        );
        let not_allowed = object(&json!({ keys::STABLE_ENVIRONMENT: "{\"A_TOKEN\":\"x\"}" }));
        assert_eq!(unheeded(Some(&allowed), &not_allowed).new.len(), 1);
        assert_eq!(unheeded(Some(&not_allowed), &allowed), Unheeded::default());
    }

    #[test]
    fn an_object_that_could_not_be_decoded_is_mended_without_regard_to_what_stays() {
        let mended = object(&json!({ keys::STABLE_ENVIRONMENT: "A=1" }));
        let mut broken = mended.clone();
        broken["spec"]["replicas"] = json!("three");
        let found = unheeded(Some(&broken), &mended);
        assert_eq!((found.new.len(), found.kept.len()), (0, 1));
    }

    #[test]
    fn words_on_scaling_a_workload_down_are_looked_at_when_they_change() {
        let of = |word: &str, kind: &str| {
            let reference =
                json!({ "apiVersion": "apps/v1", "kind": kind, "name": "web", "scaleDown": word });
            json!({ "metadata": {}, "spec": { "workloadRef": reference } })
        };
        let stored = of("slowly", "Deployment");
        assert_eq!(paths(&unheeded(None, &stored).new), ["spec.workloadRef.scaleDown"]);
        assert_eq!(unheeded(Some(&stored), &stored).new, []);
        assert_eq!(unheeded(Some(&stored), &of("quickly", "Deployment")).new.len(), 1);
        assert_eq!(
            unheeded(Some(&of("onsuccess", "Deployment")), &of("onsuccess", "ReplicaSet")).new.len(),
            1
        );
    }
}
