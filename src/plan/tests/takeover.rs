//! A cluster that Argo Rollouts leaves is gone on with from where it is (contract, first facts).
//!
//! tests/data/takeover holds what its release 1.10 had written in each of these states. Of each, the plan wants no write to a set, a
//! Service or a pod, no other revision, and at most a status that says the same in other words; what differs is listed here, with why.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::crd::{Rollout, RolloutStatus, keys};
use crate::plan::revision::{self, NewSet};
use crate::plan::{self, Observed, Plan, ReplicaSet, Service, SetAction, SetStatus, unsupported};

/// What was recorded, by name, and the fields of the status that we would have otherwise.
const RECORDINGS: [(&str, &str, &[&str]); 8] = [
    ("idle", include_str!("../../../tests/data/takeover/idle.json"), &[]),
    ("mid", include_str!("../../../tests/data/takeover/mid.json"), &[]),
    ("mid-older-hashes", include_str!("../../../tests/data/takeover/mid-older-hashes.json"), &[]),
    // The reference leaves condition Paused as it was before the abort, which ended the pause.
    (
        "aborted",
        include_str!("../../../tests/data/takeover/aborted.json"),
        &["conditions.Paused: True -> False"],
    ),
    ("specpaused", include_str!("../../../tests/data/takeover/specpaused.json"), &[]),
    ("superseded", include_str!("../../../tests/data/takeover/superseded.json"), &[]),
    ("bgwait", include_str!("../../../tests/data/takeover/bgwait.json"), &[]),
    ("bgdelay", include_str!("../../../tests/data/takeover/bgdelay.json"), &[]),
];

/// What the files hold besides.
struct Recording {
    seen: Observed,
    /// Soon after the last that happened.
    now: Timestamp,
}

impl Recording {
    fn read(text: &str) -> Self {
        let list: Value = serde_json::from_str(text).unwrap();
        let of_kind = |kind: &'static str| {
            let items = list["items"].as_array().unwrap().iter();
            items.filter(move |item| item["kind"] == *kind)
        };
        let rollout = Rollout::decode(of_kind("Rollout").next().unwrap()).unwrap();
        let conditions = rollout.status().conditions().iter();
        let last = conditions.map(|condition| condition.last_update_time.instant()).max().unwrap();
        let seen = Observed {
            sets: of_kind("ReplicaSet").map(set).map(Arc::new).collect(),
            services: of_kind("Service").map(service).map(Arc::new).collect(),
            ..Observed::alone(Arc::new(rollout))
        };
        Self { seen, now: last.checked_add(SignedDuration::from_secs(5)).unwrap() }
    }

    fn plan(&self) -> Plan {
        plan::plan(&self.seen, self.now)
    }

    fn status(&self) -> &RolloutStatus {
        self.seen.rollout.status()
    }

    /// As it is after that patch of its status.
    fn with_status(&self, patch: &Value) -> Self {
        self.changed(&json!({ "status": patch }))
    }

    fn changed(&self, patch: &Value) -> Self {
        let mut object = serde_json::to_value(&*self.seen.rollout).unwrap();
        json_patch::merge(&mut object, patch);
        let rollout = Arc::new(Rollout::decode(&object).unwrap());
        Self { seen: Observed { rollout, ..self.seen.clone() }, now: self.now }
    }
}

fn strings(value: &Value) -> BTreeMap<String, String> {
    serde_json::from_value::<Option<_>>(value.clone()).unwrap().unwrap_or_default()
}

fn set(object: &Value) -> ReplicaSet {
    let (metadata, spec, status) = (&object["metadata"], &object["spec"], &object["status"]);
    let text = |field: &str| metadata[field].as_str().unwrap().to_owned();
    let count = |value: &Value| i32::try_from(value.as_i64().unwrap_or(0)).unwrap();
    ReplicaSet {
        name: text("name"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        generation: metadata["generation"].as_i64().unwrap(),
        created: text("creationTimestamp").parse().unwrap(),
        labels: strings(&metadata["labels"]),
        annotations: strings(&metadata["annotations"]),
        owners: metadata["ownerReferences"].as_array().unwrap().clone(),
        replicas: count(&spec["replicas"]),
        min_ready_seconds: count(&spec["minReadySeconds"]),
        selector: serde_json::from_value(spec["selector"].clone()).unwrap(),
        template: Arc::new(spec["template"].clone()),
        status: SetStatus {
            replicas: count(&status["replicas"]),
            ready: count(&status["readyReplicas"]),
            available: count(&status["availableReplicas"]),
            observed_generation: status["observedGeneration"].as_i64().unwrap(),
            failure: None,
        },
        ..ReplicaSet::default()
    }
}

fn service(object: &Value) -> Service {
    let metadata = &object["metadata"];
    Service {
        name: metadata["name"].as_str().unwrap().to_owned(),
        uid: metadata["uid"].as_str().unwrap().to_owned(),
        resource_version: metadata["resourceVersion"].as_str().unwrap().to_owned(),
        selector: strings(&object["spec"]["selector"]),
        managed_by: strings(&metadata["annotations"]).remove(keys::MANAGED_BY_ROLLOUTS),
        ..Service::default()
    }
}

/// The files that this version acts on.
fn recordings() -> impl Iterator<Item = (&'static str, Recording, &'static [&'static str])> {
    let read =
        RECORDINGS.into_iter().map(|(name, text, differences)| (name, Recording::read(text), differences));
    read.filter(|(_, recording, _)| unsupported::fields(&recording.seen.rollout).is_empty())
}

/// What a patch changes in a status, by field; of conditions by type.
fn differences(status: &RolloutStatus, patch: &Value) -> Vec<String> {
    let before = serde_json::to_value(status).unwrap();
    let mut found = Vec::new();
    for (field, value) in patch.as_object().unwrap() {
        if field != "conditions" {
            found.push(format!("{field}: {} -> {value}", before[field]));
            continue;
        }
        let by_type = |list: &Value| -> BTreeMap<String, Value> {
            let list = list.as_array().cloned().unwrap_or_default();
            list.into_iter()
                .map(|condition| (condition["type"].as_str().unwrap().to_owned(), condition))
                .collect()
        };
        let (old, new) = (by_type(&before[field]), by_type(value));
        for name in old.keys().chain(new.keys()).collect::<std::collections::BTreeSet<_>>() {
            if old.get(name) != new.get(name) {
                let status = |of: &BTreeMap<String, Value>| {
                    of.get(name)
                        .and_then(|condition| condition["status"].as_str())
                        .unwrap_or("none")
                        .to_owned()
                };
                found.push(format!("conditions.{name}: {} -> {}", status(&old), status(&new)));
            }
        }
    }
    found
}

#[test]
fn nothing_below_a_rollout_is_touched() {
    for (name, text, _) in RECORDINGS {
        let plan = Recording::read(text).plan();
        assert_eq!(plan.sets, [], "{name}");
        assert_eq!(plan.services, [], "{name}");
        assert_eq!(plan.evictions, plan::Evictions::default(), "{name}");
        assert_eq!(plan.rollout.object, None, "{name}: a revision of its own");
        assert_eq!(plan.question, None, "{name}");
        assert_eq!(plan.rollout.ended, None, "{name}: an update that ended long ago");
    }
}

#[test]
fn its_status_says_the_same_but_for_what_is_listed() {
    for (name, recording, expected) in recordings() {
        let plan = recording.plan();
        let Some(write) = plan.rollout.status else {
            assert!(expected.is_empty(), "{name}: {expected:?} and no write");
            continue;
        };
        assert_eq!(differences(recording.status(), &write.patch), expected, "{name}");
        assert_eq!(write.events, [], "{name}: nothing happened");
        // And then it is at rest.
        let after = recording.with_status(&write.patch).plan();
        assert_eq!((after.rollout.object, after.rollout.status), (None, None), "{name}");
    }
}

#[test]
fn the_revision_and_both_hashes_stay() {
    for (name, recording, _) in recordings() {
        let (seen, status) = (&recording.seen, recording.status());
        let revisions = revision::classify(seen).unwrap();
        assert!(
            matches!(revisions.new, NewSet::Found(set) if set.hash() == status.current_pod_hash()),
            "{name}"
        );
        assert_eq!(revisions.stable.map(ReplicaSet::hash), Some(status.stable_rs()), "{name}");
        assert_eq!(revisions.step_hash, status.current_step_hash(), "{name}");
        assert_eq!(revisions.number, plan::metadata::recorded_revision(seen), "{name}");
    }
}

/// Also where the status is no word about the spec any more: this release's hashes are the very ones that we make, and a set that bears
/// another release's hash is known by its template.
#[test]
fn both_hashes_are_those_that_we_make() {
    for (name, recording, _) in recordings() {
        let (status, spec) = (recording.status(), &recording.seen.rollout.spec);
        let template = crate::hash::effective_template_hash(spec.template.as_ref().unwrap(), None);
        let is_ours = template.unwrap().to_string() == status.current_pod_hash();
        assert_eq!(is_ours, name != "mid-older-hashes", "{name}");
        let forgotten = recording.with_status(&json!({ "observedGeneration": "1", "currentStepHash": null }));
        let forgotten = forgotten.changed(&json!({ "metadata": { "generation": 9 } }));
        let revisions = revision::classify(&forgotten.seen).unwrap();
        assert_eq!(revisions.hash, status.current_pod_hash(), "{name}");
        assert_eq!(revisions.step_hash, status.current_step_hash(), "{name}");
    }
}

#[test]
fn what_is_to_come_is_known() {
    let (_, recording, _) = recordings().find(|(name, ..)| *name == "bgdelay").unwrap();
    let deadline: Timestamp = "2026-11-21T06:37:46Z".parse().unwrap();
    assert_eq!(recording.plan().wake_at, Some(deadline), "the old version goes then");
    let late = Recording { now: deadline, ..recording };
    let plan = late.plan();
    let [action] = plan.sets.as_slice() else { panic!("{:#?}", plan.sets) };
    assert_eq!(action.name(), "bgdelay-7dcc7ff9cc");
    assert!(action.resizes());
}

/// What Argo Rollouts overwrote in the newest version's template is noted at once: later nobody could tell. No pod is touched for it.
#[test]
fn what_was_overwritten_in_the_newest_template_is_noted() {
    let (_, text, _) = RECORDINGS.into_iter().find(|(name, ..)| *name == "specpaused").unwrap();
    let own = json!({ "spec": { "template": { "metadata": { "labels": { "role": "own" } } } } });
    let plan = Recording::read(text).changed(&own).plan();
    let [SetAction::Patch { name, write, .. }] = plan.sets.as_slice() else { panic!("{:#?}", plan.sets) };
    assert_eq!(name, "specpaused-7d4666798c");
    let noted = &write.patch["metadata"]["annotations"][keys::OVERRIDDEN_METADATA];
    assert_eq!((noted, write.patch.get("spec")), (&json!(r#"{"labels":{"role":"own"}}"#), None));
    assert_eq!(plan.pods, []);
}
