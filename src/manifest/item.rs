//! Which object a document is about: its kind, namespace and name.

use serde_json::{Map, Value, json};

use super::document::Document;
use super::kind::{KINDS, Kind, NAMESPACE, Scope};
use super::{Fault, name};

/// A document with the object that it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The document.
    pub document: Document,
    /// The kind.
    pub kind: &'static Kind,
    /// The namespace; empty for objects of the whole cluster.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The manifest as kubectl would send it: with its namespace.
    pub manifest: Value,
}

impl Item {
    /// Whether this is a namespace of that name.
    #[must_use]
    pub fn is_namespace(&self, name: &str) -> bool {
        *self.kind == NAMESPACE && self.name == name
    }
}

/// What the documents of a manifest are about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Items {
    /// The objects that were found, in order.
    pub items: Vec<Item>,
    /// Why others were not.
    pub faults: Vec<Fault>,
}

/// Finds the objects of all documents. Documents that name no namespace go to `namespace`.
#[must_use]
pub fn find(documents: Vec<Document>, namespace: &str) -> Items {
    let mut found = Items::default();
    for document in documents {
        match item(document, namespace) {
            Ok(item) => found.items.push(item),
            Err(faults) => found.faults.extend(faults),
        }
    }
    found
}

fn item(document: Document, default_namespace: &str) -> Result<Item, Vec<Fault>> {
    let kind = kind(&document).map_err(|fault| vec![fault])?;
    let mut faults = Vec::new();
    let mut fault =
        |field: &str, description: String| faults.push(Fault::new(document.at(field), description));
    let empty = Map::new();
    let metadata = match document.object.get("metadata") {
        Some(Value::Object(metadata)) => metadata,
        None => &empty,
        Some(_) => {
            fault("metadata", "must be an object".to_owned());
            &empty
        }
    };
    let name = match metadata.get("name") {
        Some(Value::String(name)) if name::is_subdomain(name) && *kind != NAMESPACE => name.clone(),
        Some(Value::String(name)) if name::is_label(name) => name.clone(),
        Some(name) => {
            let form =
                "must be lower-case letters, digits, '-' or '.', beginning and ending with a letter or digit";
            fault("metadata.name", format!("{name} is no name: it {form}"));
            String::new()
        }
        None => {
            fault("metadata.name", "is required".to_owned());
            String::new()
        }
    };
    let namespace = match (kind.scope, metadata.get("namespace")) {
        (Scope::Cluster, _) => String::new(),
        (Scope::Namespaced, None | Some(Value::Null)) => default_namespace.to_owned(),
        (Scope::Namespaced, Some(Value::String(namespace))) if name::is_label(namespace) => namespace.clone(),
        (Scope::Namespaced, Some(namespace)) => {
            fault("metadata.namespace", format!("{namespace} is no name of a namespace"));
            String::new()
        }
    };
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut manifest = Value::Object(document.object.clone());
    if kind.scope == Scope::Namespaced {
        manifest["metadata"]["namespace"] = json!(namespace);
    }
    Ok(Item { document, kind, namespace, name, manifest })
}

fn kind(document: &Document) -> Result<&'static Kind, Fault> {
    let text = |field: &str| document.object.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if kind.is_empty() {
        return Err(Fault::new(document.at("kind"), "is required"));
    }
    let Some(known) = KINDS.iter().find(|known| known.kind == kind) else {
        let kinds: Vec<&str> = KINDS.iter().map(|known| known.kind).collect();
        return Err(Fault::new(
            document.at("kind"),
            format!("{kind:?} is not applied by this server; it applies {}", kinds.join(", ")),
        ));
    };
    if api_version != known.api_version() {
        let description = format!("{kind} is {}, not {api_version:?}", known.api_version());
        return Err(Fault::new(document.at("apiVersion"), description));
    }
    Ok(known)
}

/// Whether a document is of a kind that others look after.
#[must_use]
pub fn is_foreign(document: &Document) -> bool {
    let text = |field: &str| document.object.get(field).and_then(Value::as_str).unwrap_or_default();
    let kind = text("kind");
    // A core kind has no group, and neither has a version that was mistaken for one.
    let group = text("apiVersion").split_once('/').map(|(group, _)| group);
    let is_known = |known: &Kind| known.kind == kind && group.is_none_or(|group| group == known.group);
    !kind.is_empty() && !KINDS.iter().any(is_known)
}

/// A value without the nulls of its objects. kubectl drops them from what it creates, and from lists: nothing is removed by them
/// there.
#[must_use]
pub fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        Value::Object(fields) => {
            let filled = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(filled.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::document;

    fn found(yaml: &str) -> Items {
        find(document::read(yaml).unwrap().objects, "shop")
    }

    #[test]
    fn a_document_goes_where_it_says_or_else_to_the_parent() {
        let Items { items, faults } = found(
            "{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {name: web}}\n---\n\
             {apiVersion: v1, kind: Service, metadata: {name: web, namespace: other}}\n---\n\
             {apiVersion: v1, kind: Namespace, metadata: {name: other, namespace: ignored}}\n",
        );
        let names: Vec<_> =
            items.iter().map(|item| (item.kind.kind, &*item.namespace, &*item.name)).collect();
        assert_eq!(
            names,
            [("Rollout", "shop", "web"), ("Service", "other", "web"), ("Namespace", "", "other")]
        );
        assert_eq!(items[0].manifest["metadata"]["namespace"], "shop");
        assert_eq!(faults, []);
    }

    #[test]
    fn kinds_of_other_groups_and_unknown_kinds_are_foreign_but_a_wrong_version_is_not() {
        for (api_version, kind, expected) in [
            ("argoproj.io/v1alpha1", "Rollout", false),
            ("argoproj.io/v1", "Rollout", false),
            ("v1", "Rollout", false),
            ("", "Rollout", false),
            ("rollouts.kruise.io/v1beta1", "Rollout", true),
            ("v1", "Service", false),
            ("serving.knative.dev/v1", "Service", true),
            ("apps/v1", "StatefulSet", true),
            ("v1", "", false),
        ] {
            let yaml = format!("{{apiVersion: {api_version:?}, kind: {kind:?}}}");
            let documents = document::read(&yaml).unwrap();
            assert_eq!(is_foreign(&documents.objects[0]), expected, "{yaml}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_for_every_document_at_once() {
        let Items { items, faults } = found(
            "{kind: Rollout, metadata: {name: web}}\n---\n{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: web}}\n---\n\
             {apiVersion: v1, kind: Service, metadata: {}}\n---\n{apiVersion: v1, kind: Service, metadata: {name: A_b, namespace: 7}}\n---\n\
             {apiVersion: argoproj.io/v1, kind: Rollout, metadata: {name: web}}\n---\n{metadata: {name: x}}",
        );
        assert_eq!(items, []);
        let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "[0].apiVersion",
                "[1].kind",
                "[2].metadata.name",
                "[3].metadata.name",
                "[3].metadata.namespace",
                "[4].apiVersion",
                "[5].kind"
            ]
        );
        let unknown = &faults[1].description;
        assert!(unknown.contains("Rollout, AnalysisRun, AnalysisTemplate"), "{unknown}");
    }
}
