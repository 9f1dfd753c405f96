//! The whole new status, and the patch that brings the stored one there.
//!
//! Counts are added up here, what moves comes from [`super::step`], conditions and phase from their modules. Fields that this
//! engine does not decide are left as they are.

use serde_json::{Map, Value};

use super::canary::total;
use super::observed::{Observed, ReplicaSet};
use super::revision::Revisions;
use super::stance::{Abort, Promotion, Stance};
use crate::crd::{ConditionStatus, ConditionType, LabelSelector, RolloutStatus, Time};

/// Pods, added up over all sets of a rollout, those that are being deleted included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pods that exist.
    pub replicas: i32,
    /// Pods of the new set.
    pub updated: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Pods that are available.
    pub available: i32,
}

impl Counts {
    /// Adds the sets up.
    #[must_use]
    pub fn of(seen: &Observed, revisions: &Revisions<'_>) -> Self {
        let sum = |count: fn(&ReplicaSet) -> i32| total(seen.sets.iter().map(|set| count(set)));
        Self {
            replicas: sum(|set| set.status.replicas),
            updated: revisions.new_set().map_or(0, |set| set.status.replicas),
            ready: sum(|set| set.status.ready),
            available: sum(|set| set.status.available),
        }
    }
}

/// The status with everything but conditions, phase and message: those are derived from it.
#[must_use]
pub fn derive(
    seen: &Observed,
    revisions: &Revisions<'_>,
    stance: &Stance,
    counts: Counts,
    now: jiff::Timestamp,
) -> RolloutStatus {
    let mut status = seen.rollout.status().clone();
    let canary = status.canary.get_or_insert_default();
    canary.current_step_analysis_run_status = None;
    canary.current_background_analysis_run_status = None;
    canary.current_experiment = None;
    canary.step_plugin_statuses = None;
    RolloutStatus {
        abort: Some(stance.is_aborted()),
        aborted_at: match stance.abort {
            Abort::No => None,
            Abort::Since(since) => Some(since.map_or_else(|| Time::from(now), Time::from)),
        },
        pause_conditions: Some(stance.pauses.clone()),
        controller_pause: Some(stance.controller_pause),
        current_pod_hash: Some(revisions.hash.clone()),
        current_step_hash: Some(revisions.step_hash.clone()),
        current_step_index: stance.step,
        stable_rs: Some(stance.stable.clone()),
        promote_full: Some(stance.promotion == Promotion::Full),
        restarted_at: if stance.fresh {
            seen.rollout.spec.restart_at.clone()
        } else {
            status.restarted_at.clone()
        },
        collision_count: super::revision::collision_count(seen),
        replicas: Some(counts.replicas),
        updated_replicas: Some(counts.updated),
        ready_replicas: Some(counts.ready),
        available_replicas: Some(counts.available),
        hpa_replicas: Some(counts.replicas),
        selector: Some(seen.rollout.spec.selector.as_ref().map(selector_text).unwrap_or_default()),
        observed_generation: seen.rollout.metadata.generation.map(|generation| generation.to_string()),
        workload_observed_generation: None,
        blue_green: None,
        ..status
    }
}

/// A label selector as Kubernetes prints it (`metav1.FormatLabelSelector`): requirements sorted by key.
#[must_use]
pub fn selector_text(selector: &LabelSelector) -> String {
    let labels =
        selector.match_labels.iter().flatten().map(|(key, value)| (key.clone(), format!("{key}={value}")));
    let expressions = selector.match_expressions.iter().flatten().map(|requirement| {
        let key = &requirement.key;
        let mut values = requirement.values.clone().unwrap_or_default();
        values.sort();
        let text = match requirement.operator.as_str() {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "Exists" => key.clone(),
            _ => format!("!{key}"),
        };
        (key.clone(), text)
    });
    let mut requirements: Vec<(String, String)> = labels.chain(expressions).collect();
    requirements.sort();
    if requirements.is_empty() {
        return "<none>".to_owned();
    }
    requirements.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",")
}

/// The JSON merge patch from one status to another; `None` when there is nothing to write.
///
/// A zero, false or empty value counts as absent, as Go's `omitempty` has it: what a client wrote as `abort: false` is not
/// written again.
#[must_use]
pub fn patch(from: &RolloutStatus, to: &RolloutStatus) -> Option<Value> {
    difference(&written(from), &written(to)).map(Value::Object)
}

/// Whether the change is only one of counts and of what follows from them.
#[must_use]
pub fn is_only_counting(from: &RolloutStatus, to: &RolloutStatus) -> bool {
    const COUNTS: [&str; 7] = [
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "HPAReplicas",
        "message",
        "conditions",
    ];
    let without_counts = |status: &RolloutStatus| {
        let mut fields = written(status);
        fields.retain(|field, _| !COUNTS.contains(&field.as_str()));
        fields
    };
    // Available follows from the counts, and so does which kind of progress was made last; every other condition that
    // turns is news.
    const PROGRESS: [&str; 4] =
        ["NewReplicaSetCreated", "FoundNewReplicaSet", "ReplicaSetUpdated", "ReplicaSetNotAvailable"];
    let reason = |reason: &str| if PROGRESS.contains(&reason) { String::new() } else { reason.to_owned() };
    let turned = |status: &RolloutStatus| -> Vec<(ConditionType, ConditionStatus, String)> {
        let mut conditions: Vec<_> = status
            .conditions()
            .iter()
            .filter(|condition| condition.condition_type != ConditionType::Available)
            .map(|condition| {
                (condition.condition_type.clone(), condition.status.clone(), reason(&condition.reason))
            })
            .collect();
        conditions.sort();
        conditions
    };
    without_counts(from) == without_counts(to) && turned(from) == turned(to)
}

/// The fields of a status that say something.
fn written(status: &RolloutStatus) -> Map<String, Value> {
    // Pointers in the reference's types: their zero is not their absence.
    const ZERO_COUNTS: [&str; 2] = ["currentStepIndex", "collisionCount"];
    let Ok(Value::Object(mut fields)) = serde_json::to_value(status) else { return Map::new() };
    fields.retain(|field, value| match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => ZERO_COUNTS.contains(&field.as_str()) || number.as_i64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    });
    fields
}

fn difference(from: &Map<String, Value>, to: &Map<String, Value>) -> Option<Map<String, Value>> {
    let mut patch = Map::new();
    for (field, value) in to {
        match (from.get(field), value) {
            (Some(old), new) if old == new => {}
            (Some(Value::Object(old)), Value::Object(new)) => {
                if let Some(inner) = difference(old, new) {
                    patch.insert(field.clone(), Value::Object(inner));
                }
            }
            (_, new) => {
                patch.insert(field.clone(), new.clone());
            }
        }
    }
    for field in from.keys().filter(|field| !to.contains_key(*field)) {
        patch.insert(field.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(patch)
}
