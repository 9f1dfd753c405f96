//! Objects as a client wants to see them: in its version, whole, as a table or as metadata only.
//!
//! Depends on [`super::resource`], [`super::table`] and the negotiated form. Every answer and every watch event about
//! objects goes through a [`Presenter`].

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::http::accept::{Accept, Form};
use super::object::Object;
use super::resource::{Origin, Resource, Version};
use super::table;

/// Writes objects of one resource for one client.
#[derive(Clone)]
pub(crate) struct Presenter {
    pub(crate) resource: Arc<Resource>,
    pub(crate) version: Version,
    pub(crate) accept: Accept,
}

impl Presenter {
    /// The object in the client's version. Versions differ in nothing but their name.
    pub(crate) fn convert(&self, object: &Value) -> Value {
        let mut copy = object.clone();
        if self.version.name != self.resource.storage {
            copy.set_member("apiVersion", Some(json!(self.resource.api_version(&self.version.name))));
        }
        copy
    }

    /// One object.
    pub(crate) fn object(&self, object: &Value, now: Timestamp) -> Value {
        match self.accept.form {
            Form::Objects => self.convert(object),
            Form::Metadata => table::partial(object),
            Form::Table(_) => {
                let metadata = json!({"resourceVersion": object.resource_version()});
                self.table(std::slice::from_ref(&object), &metadata, now)
            }
        }
    }

    /// A list of objects; `metadata` is that of the list.
    pub(crate) fn list(&self, objects: &[Arc<Value>], metadata: &Value, now: Timestamp) -> Value {
        match self.accept.form {
            Form::Objects => json!({
                "kind": self.resource.names.list_kind,
                "apiVersion": self.resource.api_version(&self.version.name),
                "metadata": metadata,
                "items": objects.iter().map(|object| self.item(object)).collect::<Vec<_>>(),
            }),
            Form::Metadata => json!({
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": objects.iter().map(|object| table::partial(object)).collect::<Vec<_>>(),
            }),
            Form::Table(_) => {
                let objects: Vec<&Value> = objects.iter().map(Arc::as_ref).collect();
                self.table(&objects, metadata, now)
            }
        }
    }

    /// Items of built-in kinds do not repeat the kind of the list.
    fn item(&self, object: &Value) -> Value {
        let mut item = self.convert(object);
        if self.resource.origin == Origin::BuiltIn {
            item.set_member("kind", None);
            item.set_member("apiVersion", None);
        }
        item
    }

    fn table(&self, objects: &[&Value], metadata: &Value, now: Timestamp) -> Value {
        let Form::Table(include) = self.accept.form else { return Value::Null };
        let rules = &self.version.rules;
        let row = |object: &&Value| table::row(&self.convert(object), &rules.cells(object, now), include);
        table::table(&rules.columns(), &objects.iter().map(row).collect::<Vec<_>>(), metadata)
    }

    /// The object of a bookmark: nothing but its kind and the revision.
    pub(crate) fn bookmark(&self, revision: u64) -> Value {
        let metadata = json!({"resourceVersion": revision.to_string()});
        match self.accept.form {
            Form::Objects => json!({
                "kind": self.resource.names.kind,
                "apiVersion": self.resource.api_version(&self.version.name),
                "metadata": metadata,
            }),
            Form::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            Form::Table(_) => table::table(&self.version.rules.columns(), &[], &metadata),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::catalog::Catalog;
    use crate::apiserver::table::Include;

    fn presenter(form: Form) -> Presenter {
        let definition = json!({"spec": {"group": "ex.dev", "scope": "Namespaced",
            "names": {"plural": "gizmos", "kind": "Gizmo", "listKind": "GizmoList"},
            "versions": [{"name": "v2", "served": true, "storage": true}, {"name": "v1", "served": true}]}});
        let resource = Catalog::built_in().define(&definition).unwrap();
        let version = resource.version("v1").unwrap().clone();
        Presenter { resource, version, accept: Accept { form, ..Accept::default() } }
    }

    fn gizmo() -> Value {
        json!({"kind": "Gizmo", "apiVersion": "ex.dev/v2", "metadata": {"name": "a", "resourceVersion": "7"}})
    }

    #[test]
    fn an_object_is_shown_in_the_version_that_was_asked_for() {
        let presenter = presenter(Form::Objects);
        assert_eq!(presenter.object(&gizmo(), Timestamp::UNIX_EPOCH)["apiVersion"], "ex.dev/v1");
        let list = presenter.list(&[Arc::new(gizmo())], &json!({}), Timestamp::UNIX_EPOCH);
        assert_eq!(list["kind"], "GizmoList");
        assert_eq!(list["items"][0]["apiVersion"], "ex.dev/v1");
    }

    #[test]
    fn a_table_has_a_row_for_each_object() {
        let table = presenter(Form::Table(Include::Metadata)).object(&gizmo(), Timestamp::UNIX_EPOCH);
        assert_eq!(table["kind"], "Table");
        assert_eq!(table["metadata"]["resourceVersion"], "7");
        assert_eq!(table["rows"][0]["cells"], json!(["a", "<unknown>"]));
    }

    #[test]
    fn metadata_alone_has_a_kind_of_its_own() {
        let list = presenter(Form::Metadata).list(&[Arc::new(gizmo())], &json!({}), Timestamp::UNIX_EPOCH);
        assert_eq!(list["kind"], "PartialObjectMetadataList");
        assert_eq!(list["items"][0]["kind"], "PartialObjectMetadata");
    }
}
