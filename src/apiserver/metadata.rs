//! Rules of metadata that all kinds share: system fields, names, labels, owners, finalizers.
//!
//! Depends on [`super::names`] and [`super::field`]. The handlers call it around the rules of the kind. The
//! source of the rules is apimachinery's `api/validation/objectmeta.go` and apiserver's `registry/rest`.

use serde_json::{Value, json};

use super::field::{Path, Violation, Violations};
use super::names::{self, NameFormat};
use super::object::{Object, semantically_equal};
use super::resource::Scope;

/// Most bytes that the annotations of an object may have together.
const ANNOTATIONS_MAX: usize = 256 * 1024;

/// Finalizer of a deletion that orphans dependents.
pub(crate) const ORPHAN: &str = "orphan";
/// Finalizer of a deletion that waits for dependents.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

/// Removes what only the server sets, from an object that a client wants created.
pub(crate) fn wipe_system_fields(object: &mut Value) {
    for key in ["creationTimestamp", "uid", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        object.set_meta(key, None);
    }
}

/// Drops owner references that repeat an earlier one; returns the uids of those dropped.
pub(crate) fn drop_repeated_owners(object: &mut Value) -> Vec<String> {
    let Some(Value::Array(owners)) = object.metadata_mut().get_mut("ownerReferences") else {
        return Vec::new();
    };
    let mut seen: Vec<Value> = Vec::new();
    let mut repeated = Vec::new();
    owners.retain(|owner| {
        let fresh = !seen.contains(owner);
        if fresh {
            seen.push(owner.clone());
        } else {
            repeated.push(owner.text("/uid").to_owned());
        }
        fresh
    });
    repeated
}

/// Puts back what an update may not change, or leaves it to [`validate_update`] to refuse.
pub(crate) fn keep_system_fields(new: &mut Value, old: &Value) {
    let kept = |key: &str| old.pointer(&format!("/metadata/{key}")).cloned();
    new.set_meta("generation", kept("generation"));
    new.set_meta("creationTimestamp", kept("creationTimestamp"));
    if new.uid().is_empty() {
        new.set_meta("uid", kept("uid"));
    }
    if old.is_being_deleted() {
        new.set_meta("deletionTimestamp", kept("deletionTimestamp"));
    }
    if new.integer("/metadata/deletionGracePeriodSeconds").is_none() {
        new.set_meta("deletionGracePeriodSeconds", kept("deletionGracePeriodSeconds"));
    }
}

/// Rules of a new object's metadata.
pub(crate) fn validate(object: &Value, scope: Scope, format: NameFormat) -> Violations {
    let path = Path::of("metadata");
    let mut violations = Violations::new();
    let invalid = |field: &str, value: &str, why: String| Violation::invalid(&path.child(field), value, why);
    let prefix = object.text("/metadata/generateName");
    if !prefix.is_empty() {
        let reasons = format.check_prefix(prefix);
        violations.extend(reasons.into_iter().map(|why| invalid("generateName", prefix, why)));
    }
    let name = object.name();
    if name.is_empty() {
        violations.push(Violation::required(&path.child("name"), "name or generateName is required"));
    } else {
        violations.extend(format.check(name).into_iter().map(|why| invalid("name", name, why)));
    }
    let namespace = object.namespace();
    match scope {
        Scope::Namespaced if namespace.is_empty() => {
            violations.push(Violation::required(&path.child("namespace"), ""));
        }
        Scope::Namespaced => {
            let reasons = names::dns_label(namespace);
            violations.extend(reasons.into_iter().map(|why| invalid("namespace", namespace, why)));
        }
        Scope::Cluster if !namespace.is_empty() => {
            violations.push(Violation::forbidden(&path.child("namespace"), "not allowed on this type"));
        }
        Scope::Cluster => {}
    }
    violations.extend(validate_labels(object.labels(), &path.child("labels")));
    violations.extend(validate_annotations(object, &path));
    violations.extend(validate_owners(object, &path));
    violations.extend(validate_finalizers(object, &path));
    violations
}

/// Rules of an updated object's metadata.
pub(crate) fn validate_update(new: &Value, old: &Value) -> Violations {
    let path = Path::of("metadata");
    let mut violations = Violations::new();
    if old.is_being_deleted() {
        let known = old.finalizers();
        let mut added: Vec<&str> = new.finalizers().into_iter().filter(|f| !known.contains(f)).collect();
        if !added.is_empty() {
            added.sort_unstable();
            let list: Vec<String> = added.iter().map(|f| format!("\"{f}\"")).collect();
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                list.join(", ")
            );
            violations.push(Violation::forbidden(&path.child("finalizers"), detail));
        }
    }
    if new.resource_version().is_empty() {
        let detail = "must be specified for an update";
        violations.push(Violation::invalid(&path.child("resourceVersion"), new.resource_version(), detail));
    }
    for key in
        ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        let value = |object: &Value| object.pointer(&format!("/metadata/{key}")).cloned();
        if !semantically_equal(value(new).as_ref(), value(old).as_ref()) {
            violations.push(immutable(&path.child(key), value(new)));
        }
    }
    violations.extend(validate_labels(new.labels(), &path.child("labels")));
    violations.extend(validate_annotations(new, &path));
    violations.extend(validate_owners(new, &path));
    violations
}

/// Finalizers of built-in kinds are qualified names, or those that Kubernetes knows.
pub(crate) fn validate_qualified_finalizers(object: &Value) -> Violations {
    let path = Path::of("metadata.finalizers");
    let mut violations = Violations::new();
    for (index, name) in object.finalizers().into_iter().enumerate() {
        if !name.contains('/') && ![ORPHAN, FOREGROUND, "kubernetes"].contains(&name) {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            violations.push(Violation::invalid(&path.index(index), name, detail));
        }
    }
    violations
}

/// The violation of a field that may not change.
pub(crate) fn immutable(path: &Path, value: Option<Value>) -> Violation {
    Violation::invalid(path, value.unwrap_or(Value::Null), "field is immutable")
}

/// Keys and values of labels.
pub(crate) fn validate_labels(labels: Option<&super::object::Members>, path: &Path) -> Violations {
    let mut violations = Violations::new();
    for (key, value) in labels.into_iter().flatten() {
        let reasons = names::qualified_name(key);
        violations.extend(reasons.into_iter().map(|why| Violation::invalid(path, key.as_str(), why)));
        let value = value.as_str().unwrap_or_default();
        let reasons = names::label_value(value);
        violations.extend(reasons.into_iter().map(|why| Violation::invalid(path, value, why)));
    }
    violations
}

fn validate_annotations(object: &Value, path: &Path) -> Violations {
    let path = path.child("annotations");
    let mut violations = Violations::new();
    let mut size = 0;
    for (key, value) in object.map("/metadata/annotations").into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        let reasons = names::qualified_name(&key.to_lowercase());
        violations.extend(reasons.into_iter().map(|why| Violation::invalid(&path, key.as_str(), why)));
    }
    if size > ANNOTATIONS_MAX {
        violations.push(Violation::too_long(&path, ANNOTATIONS_MAX));
    }
    violations
}

fn validate_owners(object: &Value, path: &Path) -> Violations {
    let path = path.child("ownerReferences");
    let mut violations = Violations::new();
    let mut controller: Option<String> = None;
    let owners = object.list("/metadata/ownerReferences");
    for owner in owners {
        let version = owner.text("/apiVersion");
        if version.rsplit('/').next().is_none_or(str::is_empty) {
            let detail = "version must not be empty";
            violations.push(Violation::invalid(&path.child("apiVersion"), version, detail));
        }
        for field in ["kind", "name", "uid"] {
            if owner.text(&format!("/{field}")).is_empty() {
                violations.push(Violation::invalid(&path.child(field), "", "must not be empty"));
            }
        }
        if version == "v1" && owner.text("/kind") == "Event" {
            let detail = "/v1, Kind=Event is disallowed from being an owner";
            violations.push(Violation::invalid(&path, owner.clone(), detail));
        }
        if owner["controller"] == json!(true) {
            let this = format!("{}/{}", owner.text("/kind"), owner.text("/name"));
            match &controller {
                None => controller = Some(this),
                Some(first) => {
                    let detail = format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    );
                    violations.push(Violation::invalid(&path, Value::from(owners), detail));
                }
            }
        }
    }
    violations
}

fn validate_finalizers(object: &Value, path: &Path) -> Violations {
    let path = path.child("finalizers");
    let mut violations = Violations::new();
    let finalizers = object.finalizers();
    for finalizer in &finalizers {
        let reasons = names::qualified_name(finalizer);
        violations.extend(reasons.into_iter().map(|why| Violation::invalid(&path, *finalizer, why)));
    }
    if finalizers.contains(&ORPHAN) && finalizers.contains(&FOREGROUND) {
        let detail = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        violations.push(Violation::invalid(&path, json!(finalizers), detail));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(violations: &Violations) -> Vec<String> {
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_name_is_required() {
        let violations = validate(&json!({"metadata": {}}), Scope::Cluster, NameFormat::Subdomain);
        assert_eq!(texts(&violations), ["metadata.name: Required value: name or generateName is required"]);
    }

    #[test]
    fn labels_annotations_owners_and_finalizers_are_checked() {
        let object = json!({"metadata": {
            "name": "a", "namespace": "d", "labels": {"a b": "x"}, "annotations": {"c d": ""},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": ""}],
            "finalizers": ["orphan", "foregroundDeletion"],
        }});
        let violations = texts(&validate(&object, Scope::Namespaced, NameFormat::Subdomain));
        assert_eq!(violations.len(), 4, "{violations:?}");
        assert!(violations[0].starts_with("metadata.labels: Invalid value: \"a b\": name part"));
        assert!(violations[1].starts_with("metadata.annotations: Invalid value: \"c d\""));
        assert_eq!(violations[2], "metadata.ownerReferences.uid: Invalid value: \"\": must not be empty");
        assert!(violations[3].ends_with("finalizer orphan and foregroundDeletion cannot be both set"));
    }

    #[test]
    fn an_update_keeps_what_the_server_set() {
        let old = json!({"metadata": {"name": "a", "uid": "u", "generation": 2, "creationTimestamp": "t",
            "deletionTimestamp": "d", "deletionGracePeriodSeconds": 5, "resourceVersion": "1"}});
        let mut new = json!({"metadata": {"name": "a", "generation": 9, "resourceVersion": "1", "creationTimestamp": "x"}});
        keep_system_fields(&mut new, &old);
        assert_eq!(new, old);
        assert_eq!(validate_update(&new, &old), Violations::new());
    }

    #[test]
    fn uid_and_deletion_may_not_be_chosen() {
        let old =
            json!({"metadata": {"name": "a", "uid": "u", "resourceVersion": "1", "finalizers": ["x/y"]}});
        let mut new = old.clone();
        new["metadata"]["uid"] = json!("other");
        new["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
        keep_system_fields(&mut new, &old);
        let violations = texts(&validate_update(&new, &old));
        assert_eq!(violations.len(), 2);
        assert_eq!(violations[0], "metadata.uid: Invalid value: \"other\": field is immutable");
    }

    #[test]
    fn finalizers_cannot_be_added_during_deletion() {
        let old = json!({"metadata": {"name": "a", "resourceVersion": "1", "deletionTimestamp": "d", "finalizers": ["a/b"]}});
        let mut new = old.clone();
        new["metadata"]["finalizers"] = json!(["a/b", "c/d"]);
        let violations = texts(&validate_update(&new, &old));
        assert_eq!(
            violations,
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, \
              found new finalizers []string{\"c/d\"}"
            ]
        );
    }

    #[test]
    fn repeated_owners_are_dropped_once() {
        let owner = json!({"uid": "u"});
        let mut object = json!({"metadata": {"ownerReferences": [owner.clone(), owner]}});
        assert_eq!(drop_repeated_owners(&mut object), ["u"]);
        assert_eq!(object.list("/metadata/ownerReferences").len(), 1);
        assert!(drop_repeated_owners(&mut object).is_empty());
    }
}
