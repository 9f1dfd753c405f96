//! The whole new status, and the patch that brings the stored one there.
//!
//! Counts are added up here, what moves comes from the strategies, conditions and phase from their modules. Fields that this
//! engine does not decide are left as they are.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::blue_green;
use super::canary::total;
use super::observed::{FieldPath, Observed, ReplicaSet};
use super::revision::Revisions;
use super::stance::{Abort, Promotion, Stance};
use crate::crd::{
    BlueGreenStatus, ConditionStatus, ConditionType, LabelSelector, RolloutStatus, Strategy, Time,
};

/// Pods, added up over all sets of a rollout, those that are being deleted included. Of a blue-green rollout only those of the active
/// set serve, so that ready and available ones are counted there, and autoscalers see no others (contract 4.8).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts<'a> {
    /// Pods that exist.
    pub replicas: i32,
    /// Pods of the new set.
    pub updated: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// Pods that are available.
    pub available: i32,
    /// Pods that an autoscaler counts.
    pub scaled: i32,
    /// The selector of the pods that an autoscaler looks at; `None`: the rollout's.
    pub selector: Option<&'a LabelSelector>,
}

impl<'a> Counts<'a> {
    /// Adds the sets up.
    #[must_use]
    pub fn of(seen: &Observed, revisions: &Revisions<'a>, strategy: Strategy<'_>) -> Self {
        let sum = |count: fn(&ReplicaSet) -> i32| total(seen.sets.iter().map(|set| count(set)));
        let replicas = sum(|set| set.status.replicas);
        let all = Self {
            replicas,
            updated: revisions.new_set().map_or(0, |set| set.status.replicas),
            ready: sum(|set| set.status.ready),
            available: sum(|set| set.status.available),
            scaled: replicas,
            selector: None,
        };
        let Strategy::BlueGreen(blue_green) = strategy else { return all };
        let active = blue_green::selected(seen, &blue_green.active_service);
        match revisions.all().find(|set| !active.is_empty() && set.hash() == active) {
            None => all,
            Some(active) => Self {
                ready: active.status.ready,
                available: active.status.available,
                scaled: active.status.replicas,
                selector: Some(&active.selector),
                ..all
            },
        }
    }
}

/// The status with everything but conditions, phase and message: those are derived from it.
#[must_use]
pub fn derive(
    seen: &Observed,
    revisions: &Revisions<'_>,
    stance: &Stance,
    counts: Counts<'_>,
    now: jiff::Timestamp,
) -> RolloutStatus {
    let mut status = seen.rollout.status().clone();
    let canary = status.canary.get_or_insert_default();
    canary.current_step_analysis_run_status = None;
    canary.current_background_analysis_run_status = None;
    canary.current_experiment = None;
    let asked = &stance.plugins.statuses;
    canary.step_plugin_statuses = (!asked.is_empty()).then(|| asked.clone());
    let blue_green = blue_green(seen, stance);
    if blue_green.is_some() {
        status.canary = None;
    }
    let selector = counts.selector.or(seen.rollout.spec.selector.as_ref());
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
        collision_count: super::revision::collision_count(seen),
        replicas: Some(counts.replicas),
        updated_replicas: Some(counts.updated),
        ready_replicas: Some(counts.ready),
        available_replicas: Some(counts.available),
        hpa_replicas: Some(counts.scaled),
        selector: Some(selector.map(selector_text).unwrap_or_default()),
        observed_generation: seen.rollout.metadata.generation.map(|generation| generation.to_string()),
        workload_observed_generation: super::workload::observed_generation(seen),
        blue_green,
        ..status
    }
}

/// What only a blue-green update has: which versions the Services select.
fn blue_green(seen: &Observed, stance: &Stance) -> Option<Box<BlueGreenStatus>> {
    let Ok(Strategy::BlueGreen(strategy)) = seen.rollout.spec.strategy() else { return None };
    let selector = |service: &str| Some(blue_green::selected(seen, service).to_owned());
    let before = seen.rollout.status().blue_green.as_deref().cloned().unwrap_or_default();
    Some(Box::new(BlueGreenStatus {
        preview_selector: selector(strategy.preview_service.as_deref().unwrap_or_default()),
        active_selector: selector(&strategy.active_service),
        scale_up_preview_check_point: Some(stance.check_point),
        pre_promotion_analysis_run_status: None,
        post_promotion_analysis_run_status: None,
        ..before
    }))
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
/// Fields in `pruned` are left out: the server would not keep them.
#[must_use]
pub fn patch(from: &RolloutStatus, to: &RolloutStatus, pruned: &BTreeSet<FieldPath>) -> Option<Value> {
    let mut to = written(to);
    for path in pruned {
        remove(&mut to, path);
    }
    difference(&written(from), &to).map(Value::Object)
}

fn remove(fields: &mut Map<String, Value>, path: &[String]) {
    match path {
        [] => {}
        [field] => {
            fields.shift_remove(field);
        }
        [field, below @ ..] => {
            if let Some(Value::Object(inner)) = fields.get_mut(field) {
                remove(inner, below);
                if inner.is_empty() {
                    fields.shift_remove(field);
                }
            }
        }
    }
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
    if let Some(Value::Object(blue_green)) = fields.get_mut("blueGreen") {
        blue_green.retain(|_, value| *value != Value::Bool(false) && value.as_str() != Some(""));
    }
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
