//! Activities as ControllerRevisions: names, labels, owners, and back.
//!
//! They have an owner from the start and bear no selector's label of ours, so that no cache, no `kubectl rollout history` and no workload
//! that selects by labels which they inherit takes them for a revision of its own.

use jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::{About, Activity};
use crate::crd::{self, keys};

/// The kind of the objects.
pub const KIND: &str = "ControllerRevision";

/// How much of a rollout's name the names of its activities begin with.
const NAME_PREFIX: usize = 200;

/// How much of a uid tells a rollout from one that had its name before.
const UID_PREFIX: usize = 8;

/// The objects of a namespace.
pub(super) fn api(client: Client, namespace: &str) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", KIND));
    Api::namespaced_with(client, namespace, &kind)
}

/// What selects the activities of a rollout.
pub(super) fn selector(about: &About) -> String {
    format!("{}={}", keys::ACTIVITY_OF, about.uid)
}

/// A name that nothing else has; `count` orders those that one process gives at the same time.
pub(super) fn name_by_time(rollout: &str, time: Timestamp, count: u64) -> String {
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let (time, count) = (time.as_microsecond(), count & 0xffff);
    format!("{}-{time:014x}-{count:04x}{}", prefix(rollout), &unique[..UID_PREFIX])
}

/// The name that everybody gives who tells of a generation.
pub(super) fn name_by_generation(about: &About, generation: i64) -> String {
    let uid: String = about.uid.chars().filter(char::is_ascii_alphanumeric).take(UID_PREFIX).collect();
    format!("{}-{}-g{generation}", prefix(&about.name), uid.to_ascii_lowercase())
}

fn prefix(rollout: &str) -> String {
    // What is cut must end as a label of a DNS name does.
    let prefix: String = rollout.chars().take(NAME_PREFIX).collect();
    format!("{}-activity", prefix.trim_end_matches(['-', '.']))
}

/// The object of an activity.
pub(super) fn object(about: &About, activity: &Activity, name: &str) -> Value {
    let mut labels = about.labels.clone();
    labels.insert(keys::ACTIVITY_OF.to_owned(), about.uid.clone());
    json!({
        "apiVersion": "apps/v1",
        "kind": KIND,
        "metadata": {
            "name": name,
            "namespace": about.namespace,
            "labels": labels,
            // Who owns it is not held up by it: blockOwnerDeletion would need a right of its own.
            "ownerReferences": [{
                "apiVersion": crd::API_VERSION, "kind": crd::KIND, "name": about.name, "uid": about.uid, "controller": true,
            }],
        },
        // Its place in time.
        "revision": activity.time.as_microsecond().max(0),
        "data": activity,
    })
}

/// The activity of an object; `None` for one that is none.
pub(super) fn activity(object: &DynamicObject) -> Option<Activity> {
    Activity::deserialize(object.data.get("data")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_however_long_the_rollouts_is() {
        let time = "2026-01-01T00:00:00.000001Z".parse().unwrap();
        for rollout in ["web", "web.v1", &"a".repeat(253), &format!("{}.{}", "a".repeat(199), "b".repeat(50))]
        {
            let about = About { name: rollout.to_owned(), uid: "0A1B2C3D-x".to_owned(), ..About::default() };
            for name in [name_by_time(rollout, time, u64::MAX), name_by_generation(&about, i64::MAX)] {
                assert!(name.len() <= 253 && !name.contains(".-"), "{name}");
            }
        }
        let about = About { name: "web".to_owned(), uid: "0A1B2C3D-x".to_owned(), ..About::default() };
        assert_eq!(name_by_generation(&about, 7), "web-activity-0a1b2c3d-g7");
        let earlier = "2025-12-31T00:00:00Z".parse().unwrap();
        assert!(
            name_by_time("web", earlier, 9) < name_by_time("web", time, 0),
            "names are in the order of time"
        );
        assert!(name_by_time("web", time, 0) < name_by_time("web", time, 1));
    }
}
