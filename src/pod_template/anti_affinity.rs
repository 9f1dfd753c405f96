//! The anti-affinity rule that keeps pods of two versions on different nodes (contract A2, A3).
//!
//! It goes into the template of a ReplicaSet, never into the rollout's, and is taken out again wherever templates are compared.

use serde_json::{Map, Value, json};

use crate::crd::{AntiAffinity, keys};

const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// What counts as one place for pods to be apart.
const NODE: &str = "kubernetes.io/hostname";

/// What pods keep away from.
#[derive(Clone, Copy, Debug)]
pub struct Apart<'a> {
    /// How strictly: spec.strategy.*.antiAffinity.
    pub rules: &'a AntiAffinity,
    /// The hash of the version that they keep away from.
    pub hash: &'a str,
    /// Where that is.
    pub namespace: &'a str,
}

/// Has pods keep away from nodes with pods of another version, in the place of any such rule that was there. The template's own rules
/// stay.
pub fn inject_anti_affinity(template: &mut Value, apart: Apart<'_>) {
    remove_injected_anti_affinity(template);
    let Apart { rules, hash, namespace } = apart;
    let requirement = json!({ "key": keys::POD_TEMPLATE_HASH, "operator": "In", "values": [hash] });
    let term = json!({
        "labelSelector": { "matchExpressions": [requirement] },
        "namespaces": [namespace],
        "topologyKey": NODE,
    });
    // Validation refuses both at once; the reference then takes the first.
    let (kind, entry) = match &rules.preferred_during_scheduling_ignored_during_execution {
        Some(preferred) => (PREFERRED, json!({ "weight": preferred.weight, "podAffinityTerm": term })),
        None if rules.required_during_scheduling_ignored_during_execution.is_some() => (REQUIRED, term),
        None => return,
    };
    let lists = ["spec", "affinity", "podAntiAffinity"].into_iter().fold(template, object_in);
    match object(lists).entry(kind).or_insert(Value::Null) {
        Value::Array(terms) => terms.push(entry),
        other => *other = json!([entry]),
    }
}

/// The JSON merge patch by which a stored template comes to such a rule; `None` where it has it.
#[must_use]
pub fn anti_affinity_patch(template: &Value, apart: Apart<'_>) -> Option<Value> {
    let mut injected = template.clone();
    inject_anti_affinity(&mut injected, apart);
    if injected == *template {
        return None;
    }
    // Whole lists, since a merge patch knows none of their parts; null takes one away.
    let lists = &injected["spec"]["affinity"]["podAntiAffinity"];
    let lists = json!({ (REQUIRED): lists[REQUIRED], (PREFERRED): lists[PREFERRED] });
    Some(json!({ "spec": { "affinity": { "podAntiAffinity": lists } } }))
}

/// The object that a field holds; where it holds none, there is an empty one then.
fn object_in<'a>(value: &'a mut Value, field: &str) -> &'a mut Value {
    let field = object(value).entry(field).or_insert(Value::Null);
    object(field);
    field
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("it was just made one")
}

/// Takes out the anti-affinity terms that select pods by the hash label: only the controller writes those.
/// What is empty then goes too.
pub fn remove_injected_anti_affinity(template: &mut Value) {
    let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let Some(affinity) = spec.get_mut("affinity").and_then(Value::as_object_mut) else { return };
    let Some(anti_affinity) = affinity.get_mut("podAntiAffinity").and_then(Value::as_object_mut) else {
        return;
    };
    let mut changed = false;
    let kinds = [(REQUIRED, ""), (PREFERRED, "/podAffinityTerm")];
    for (kind, term) in kinds {
        let Some(Value::Array(terms)) = anti_affinity.get_mut(kind) else { continue };
        let before = terms.len();
        terms.retain(|entry| !entry.pointer(term).is_some_and(selects_by_hash));
        changed |= terms.len() < before;
        if terms.is_empty() {
            anti_affinity.shift_remove(kind);
        }
    }
    if changed && anti_affinity.is_empty() {
        affinity.shift_remove("podAntiAffinity");
        if affinity.is_empty() {
            spec.shift_remove("affinity");
        }
    }
}

fn selects_by_hash(term: &Value) -> bool {
    let requirements = term.pointer("/labelSelector/matchExpressions").and_then(Value::as_array);
    requirements
        .is_some_and(|all| all.iter().any(|requirement| requirement["key"] == keys::POD_TEMPLATE_HASH))
}
