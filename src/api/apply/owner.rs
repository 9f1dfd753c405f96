//! Whose fields a change would take: managedFields says who wrote what last.
//!
//! A field that another manager owns is not changed behind its back. kubectl's client-side apply is not another manager, and
//! neither are we; writes of the status do not count, those of other subresources, such as scale, do. Without managedFields nobody
//! is in the way.

use serde_json::{Map, Value};

use crate::crd::keys::LAST_APPLIED_CONFIGURATION;
use crate::store::FIELD_MANAGER;

/// Managers in whose stead this server acts.
const OURS: [&str; 2] = [FIELD_MANAGER, "kubectl-client-side-apply"];

/// What becomes of fields that others own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum Ownership {
    /// They are left to them.
    Respect,
    /// They are taken over (`force`).
    Take,
}

/// A field that somebody else owns and a change would take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// The field's path in the object.
    pub field: String,
    /// Who owns it.
    pub manager: String,
}

/// The fields that others own and that differ between the live object and the changed one.
#[must_use]
pub(super) fn taken(live: &Value, changed: &Value) -> Vec<Taken> {
    let others = others(live);
    let (live, changed) = (comparable(live), comparable(changed));
    let mut taken = Vec::new();
    for entry in others {
        let manager = entry["manager"].as_str().unwrap_or_default();
        let mut differing = Vec::new();
        compare(&entry["fieldsV1"], &live, &changed, "", &mut differing);
        taken.extend(differing.into_iter().map(|field| Taken { field, manager: manager.to_owned() }));
    }
    taken
}

/// Takes out of a merge patch what would remove a field that others own: a manifest that no longer says it only lets go of it, as
/// with server-side apply. An autoscaler's replicas stay when they leave the manifest.
pub(super) fn let_go(patch: &mut Value, live: &Value) {
    for entry in others(live) {
        keep(&entry["fieldsV1"], patch);
    }
}

fn keep(owned: &Value, patch: &mut Value) {
    let (Some(owned), Some(patch)) = (owned.as_object(), patch.as_object_mut()) else { return };
    for (key, owned) in owned {
        let Some(name) = key.strip_prefix("f:") else { continue };
        let is_leaf = owned.as_object().is_none_or(Map::is_empty);
        match patch.get_mut(name) {
            Some(Value::Null) if is_leaf => {
                patch.shift_remove(name);
            }
            Some(below) => keep(owned, below),
            None => {}
        }
    }
}

/// What other managers own.
fn others(live: &Value) -> Vec<&Value> {
    let entries = live["metadata"]["managedFields"].as_array().into_iter().flatten();
    let is_other = |entry: &&Value| {
        let manager = entry["manager"].as_str().unwrap_or_default();
        entry["subresource"] != "status" && !OURS.contains(&manager)
    };
    entries.filter(is_other).collect()
}

/// Walks the fields that are owned, and notes those that differ.
fn compare(owned: &Value, live: &Value, changed: &Value, path: &str, differing: &mut Vec<String>) {
    if live == changed {
        return;
    }
    let empty = Map::new();
    let owned = owned.as_object().unwrap_or(&empty);
    let below: Vec<(&String, &Value)> = owned.iter().filter(|(key, _)| *key != ".").collect();
    if below.is_empty() {
        // Owned as a whole: a scalar, or a list or map that is one value.
        let is_container = live.is_object() && owned.contains_key(".");
        if !is_container {
            differing.push(path.to_owned());
        }
        return;
    }
    for (key, owned) in below {
        match key.split_once(':') {
            Some(("f", name)) => {
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                compare(owned, &live[name], &changed[name], &path, differing);
            }
            Some(("k", keys)) => {
                let Ok(keys) = serde_json::from_str::<Map<String, Value>>(keys) else { continue };
                let (index, item) = keyed(live, &keys);
                let (_, new) = keyed(changed, &keys);
                compare(owned, item, new, &format!("{path}[{index}]"), differing);
            }
            Some(("v", value)) => {
                let Ok(value) = serde_json::from_str::<Value>(value) else { continue };
                let has = |list: &Value| list.as_array().is_some_and(|items| items.contains(&value));
                if has(live) && !has(changed) {
                    differing.push(format!("{path}[{value}]"));
                }
            }
            _ => {}
        }
    }
}

/// The item of a list with these fields, and where it stands; null where there is none.
fn keyed<'a>(list: &'a Value, keys: &Map<String, Value>) -> (usize, &'a Value) {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let found =
        items.iter().enumerate().find(|(_, item)| keys.iter().all(|(key, value)| item[key] == *value));
    found.unwrap_or((items.len(), &Value::Null))
}

/// An object without what the server writes by itself.
#[must_use]
pub(super) fn settled(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["managedFields", "resourceVersion", "generation"] {
            metadata.shift_remove(field);
        }
    }
    object
}

/// An object without that, and without the record of what was applied, which is everybody's.
fn comparable(object: &Value) -> Value {
    let mut object = settled(object);
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.shift_remove(LAST_APPLIED_CONFIGURATION);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn live(manager: &str, subresource: &str, fields: &Value) -> Value {
        json!({
            "metadata": { "name": "web", "managedFields": [{ "manager": manager, "operation": "Update", "subresource": subresource, "fieldsV1": fields }] },
            "spec": { "replicas": 3, "ports": [{ "port": 80, "name": "a" }, { "port": 81, "name": "b" }], "template": { "containers": [1] }, "set": ["x"] },
        })
    }

    fn changed(change: &Value) -> Vec<Taken> {
        let fields = json!({ "f:spec": { "f:replicas": {}, "f:ports": { ".": {}, "k:{\"port\":81}": { ".": {}, "f:name": {} } },
            "f:template": { ".": {}, "f:containers": {} }, "f:set": { "v:\"x\"": {} } } });
        let live = live("hpa", "", &fields);
        let mut changed = live.clone();
        json_patch::merge(&mut changed, &json!({ "spec": change }));
        taken(&live, &changed)
    }

    #[test]
    fn a_field_of_another_manager_is_not_taken() {
        for (change, field) in [
            (json!({ "replicas": 5 }), "spec.replicas"),
            (json!({ "replicas": null }), "spec.replicas"),
            (
                json!({ "ports": [{ "port": 80, "name": "a" }, { "port": 81, "name": "c" }] }),
                "spec.ports[1].name",
            ),
            (json!({ "ports": [{ "port": 80, "name": "a" }] }), "spec.ports[1].name"),
            (json!({ "template": { "containers": [2] } }), "spec.template.containers"),
            (json!({ "set": [] }), "spec.set[\"x\"]"),
        ] {
            assert_eq!(
                changed(&change),
                [Taken { field: field.to_owned(), manager: "hpa".to_owned() }],
                "{change}"
            );
        }
    }

    #[test]
    fn what_others_do_not_own_may_be_changed() {
        for change in [
            json!({ "replicas": 3 }),
            json!({ "other": 1 }),
            json!({ "ports": [{ "port": 80, "name": "z" }, { "port": 81, "name": "b", "x": 1 }] }),
            json!({ "template": { "more": 1 } }),
            json!({ "set": ["x", "y"] }),
        ] {
            assert_eq!(changed(&change), [], "{change}");
        }
    }

    #[test]
    fn neither_we_nor_kubectl_nor_who_writes_status_is_in_the_way() {
        let fields = json!({ "f:spec": { "f:replicas": {} } });
        for (manager, subresource, count) in [
            ("rolloutd", "", 0),
            ("kubectl-client-side-apply", "", 0),
            ("argo-rollouts", "status", 0),
            ("kubectl-edit", "", 1),
        ] {
            let live = live(manager, subresource, &fields);
            let mut changed = live.clone();
            changed["spec"]["replicas"] = json!(9);
            assert_eq!(taken(&live, &changed).len(), count, "{manager}");
        }
        assert_eq!(taken(&json!({ "spec": 1 }), &json!({ "spec": 2 })), []);
    }

    /// As an API server records `kubectl scale` and a HorizontalPodAutoscaler.
    #[test]
    fn replicas_belong_to_who_scaled_last() {
        for manager in ["kubectl", "kube-controller-manager"] {
            let live = json!({
                "metadata": { "name": "web", "managedFields": [
                    { "apiVersion": "argoproj.io/v1alpha1", "fieldsType": "FieldsV1", "manager": "rolloutd", "operation": "Update",
                      "fieldsV1": { "f:spec": { ".": {}, "f:minReadySeconds": {} } }, "time": "2026-01-01T00:00:00Z" },
                    { "apiVersion": "argoproj.io/v1alpha1", "fieldsType": "FieldsV1", "manager": manager, "operation": "Update",
                      "fieldsV1": { "f:spec": { "f:replicas": {} } }, "subresource": "scale", "time": "2026-01-01T00:01:00Z" },
                ] },
                "spec": { "replicas": 7, "minReadySeconds": 1 },
            });
            let mut changed = live.clone();
            changed["spec"] = json!({ "replicas": 1, "minReadySeconds": 2 });
            assert_eq!(
                taken(&live, &changed),
                [Taken { field: "spec.replicas".to_owned(), manager: manager.to_owned() }]
            );
            let mut patch = json!({ "spec": { "replicas": null, "minReadySeconds": null } });
            let_go(&mut patch, &live);
            assert_eq!(patch, json!({ "spec": { "minReadySeconds": null } }));
        }
    }
}
