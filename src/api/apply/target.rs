//! Which object a document is about: its kind, namespace and name.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::document::Document;
use crate::api::cluster::Target;
use crate::api::convert::Fault;
use crate::api::error::Error;
use crate::api::kind::{APPLIED, Kind, NAMESPACE, Scope};
use crate::api::name;
use crate::api::ticket;
use crate::pb::v1;

/// A document with the object that it is about.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
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
    /// The object in the cluster.
    pub(super) fn target(&self) -> Target<'_> {
        Target { kind: self.kind, namespace: &self.namespace, name: &self.name }
    }

    /// The object in an answer.
    pub(super) fn reference(&self) -> v1::ObjectReference {
        v1::ObjectReference {
            api_version: self.kind.api_version(),
            kind: self.kind.kind.to_owned(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    /// Whether this is a namespace of that name.
    pub(super) fn is_namespace(&self, name: &str) -> bool {
        *self.kind == NAMESPACE && self.name == name
    }
}

/// Finds the objects of all documents. Documents that name no namespace go to `namespace`.
pub(super) fn find(documents: Vec<Document>, namespace: &str) -> Result<Vec<Item>, Error> {
    let mut items = Vec::new();
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for document in documents {
        match item(document, namespace) {
            Ok(item) => {
                if !seen.insert((item.kind.kind, item.namespace.clone(), item.name.clone())) {
                    let field = item.document.at("metadata.name");
                    faults.push(Fault::new(
                        field,
                        format!("{} {:?} is in the manifest twice", item.kind.kind, item.name),
                    ));
                }
                items.push(item);
            }
            Err(found) => faults.extend(found),
        }
    }
    if faults.is_empty() { Ok(items) } else { Err(Error::invalid(faults)) }
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
    ticket::strip(&mut manifest);
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
    let Some(known) = APPLIED.iter().find(|known| known.kind == kind) else {
        let kinds: Vec<&str> = APPLIED.iter().map(|known| known.kind).collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::apply::document;

    fn found(yaml: &str) -> Result<Vec<Item>, Error> {
        find(document::read(yaml).unwrap(), "shop")
    }

    #[test]
    fn a_document_goes_where_it_says_or_else_to_the_parent() {
        let items = found(
            "{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {name: web}}\n---\n\
             {apiVersion: v1, kind: Service, metadata: {name: web, namespace: other}}\n---\n\
             {apiVersion: v1, kind: Namespace, metadata: {name: other, namespace: ignored}}\n",
        )
        .unwrap();
        let names: Vec<_> =
            items.iter().map(|item| (item.kind.kind, &*item.namespace, &*item.name)).collect();
        assert_eq!(
            names,
            [("Rollout", "shop", "web"), ("Service", "other", "web"), ("Namespace", "", "other")]
        );
        assert_eq!(items[0].manifest["metadata"]["namespace"], "shop");
    }

    #[test]
    fn what_is_wrong_is_named_for_every_document_at_once() {
        let error = found(
            "{kind: Rollout, metadata: {name: web}}\n---\n{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}}\n---\n\
             {apiVersion: v1, kind: Service, metadata: {}}\n---\n{apiVersion: v1, kind: Service, metadata: {name: A_b, namespace: 7}}\n---\n\
             {apiVersion: argoproj.io/v1, kind: Rollout, metadata: {name: web}}\n---\n{metadata: {name: x}}",
        )
        .unwrap_err();
        let status = tonic::Status::from(error);
        let details = tonic_types::StatusExt::get_details_bad_request(&status).unwrap();
        let fields: Vec<&str> =
            details.field_violations.iter().map(|violation| violation.field.as_str()).collect();
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
        let unknown = &details.field_violations[1].description;
        assert!(unknown.contains("Rollout, AnalysisRun, AnalysisTemplate"), "{unknown}");
    }

    #[test]
    fn the_same_object_twice_is_a_mistake() {
        let service = "{apiVersion: v1, kind: Service, metadata: {name: web}}";
        assert!(found(&format!("{service}\n---\n{service}")).unwrap_err().message().contains("twice"));
    }
}
