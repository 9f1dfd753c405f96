//! From a request's text to its objects, and the errors of that way.

use super::super::cluster::Target;
use super::super::error::Error;
use super::super::ticket;
use crate::manifest::document::{self, MOST_OBJECTS, Malformed};
use crate::manifest::{Item, item, reference};
use crate::pb::v1;

/// The objects of a manifest. Documents that name no namespace go to `namespace`.
pub(super) fn items(manifest: &str, namespace: &str) -> Result<Vec<Item>, Error> {
    let documents = document::read(manifest).map_err(|error| malformed(&error))?;
    if !documents.faults.is_empty() {
        return Err(Error::invalid(documents.faults));
    }
    match documents.objects.len() {
        0 => return Err(Error::field("manifest", "holds no object")),
        count if count > MOST_OBJECTS => {
            let message = format!("holds {count} objects; at most {MOST_OBJECTS} are applied at once");
            return Err(Error::field("manifest", message));
        }
        _ => {}
    }
    let mut found = item::find(documents.objects, namespace);
    found.faults.extend(reference::duplicates(&found.items));
    for item in &mut found.items {
        ticket::strip(&mut item.manifest);
    }
    if found.faults.is_empty() { Ok(found.items) } else { Err(Error::invalid(found.faults)) }
}

/// The message names line and column of its own accord; machines get them apart.
fn malformed(malformed: &Malformed) -> Error {
    let error =
        Error::field(malformed.place(), malformed.to_string()).with("document", malformed.index.to_string());
    match malformed.location {
        Some(location) => {
            error.with("line", location.line.to_string()).with("column", location.column.to_string())
        }
        None => error,
    }
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::StatusExt as _;

    #[test]
    fn malformed_yaml_is_refused_with_document_line_and_column() {
        let status = tonic::Status::from(items("kind: A\n---\nspec: [\n", "shop").unwrap_err());
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().starts_with("[1]: is not YAML: "), "{}", status.message());
        let metadata = status.get_details_error_info().unwrap().metadata;
        let at = |key: &str| metadata[key].as_str();
        assert_eq!((at("document"), at("line"), at("column")), ("1", "3", "7"));
    }

    #[test]
    fn what_holds_no_object_is_refused() {
        for manifest in
            ["", "# nothing\n", "---\n---\n", "just text", "- 1\n- 2", "kind: List\nitems: 7", "[]"]
        {
            assert!(items(manifest, "shop").is_err(), "{manifest}");
        }
        let many = "kind: A\n---\n".repeat(MOST_OBJECTS + 1);
        assert!(items(&many, "shop").unwrap_err().message().contains("at most"));
    }

    #[test]
    fn the_same_object_twice_is_refused() {
        let service = "{apiVersion: v1, kind: Service, metadata: {name: web}}";
        let error = items(&format!("{service}\n---\n{service}"), "shop").unwrap_err();
        assert_eq!(error.message(), "[1].metadata.name: Service \"web\" is there twice: at [0] as well");
    }

    #[test]
    fn what_is_wrong_with_any_object_is_a_violation() {
        let manifest =
            "{kind: Rollout, metadata: {name: web}}\n---\n{apiVersion: v1, kind: Service, metadata: {}}";
        let status = tonic::Status::from(items(manifest, "shop").unwrap_err());
        let violations = status.get_details_bad_request().unwrap().field_violations;
        let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["[0].apiVersion", "[1].metadata.name"]);
    }
}
