//! What a served resource is: its names, versions and subresources, and the rules of its kind.
//!
//! Depends on the store (rules may look at other objects) and the table types. [`super::kind`] has the built-in
//! resources, [`super::custom`] makes one from each CustomResourceDefinition; [`super::catalog`] holds them all
//! and the handlers work on [`Resource`] without knowing which it is.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use thiserror::Error;

use super::field::Violations;
use super::names::NameFormat;
use super::object::{Object, semantically_equal};
use super::random::Random;
use super::status::{ApiError, GroupResource};
use super::store::Store;
use super::table::Column;

/// Whether objects live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Namespaced,
    Cluster,
}

/// The names by which clients call a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
}

/// A part of an object with a path of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subresource {
    Status,
    Scale,
    /// `pods/binding`: puts a pod on a node.
    Binding,
    /// `pods/eviction`: deletes a pod if the budgets of disruptions allow that.
    Eviction,
    /// `namespaces/finalize`: sets `spec.finalizers`.
    Finalize,
}

impl Subresource {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::Finalize => "finalize",
        }
    }
}

/// Where an object keeps what its scale subresource shows, as JSON pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScalePaths {
    pub(crate) spec_replicas: String,
    pub(crate) status_replicas: String,
    /// A selector in text form (custom resources) or a `LabelSelector` (built-in kinds).
    pub(crate) selector: Option<String>,
}

/// A version of a resource.
#[derive(Clone)]
pub(crate) struct Version {
    pub(crate) name: String,
    pub(crate) served: bool,
    pub(crate) subresources: Vec<Subresource>,
    pub(crate) scale: Option<ScalePaths>,
    pub(crate) rules: Arc<dyn Rules>,
    /// Sent as a warning with every answer of a deprecated version.
    pub(crate) deprecation: Option<String>,
}

/// A served resource.
#[derive(Clone)]
pub(crate) struct Resource {
    pub(crate) id: GroupResource,
    pub(crate) names: Names,
    pub(crate) scope: Scope,
    /// Highest priority first, as discovery lists them.
    pub(crate) versions: Vec<Version>,
    /// Version in which objects are stored.
    pub(crate) storage: String,
    pub(crate) origin: Origin,
}

/// Who defined a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    BuiltIn,
    Definition,
}

impl Resource {
    pub(crate) fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.served && version.name == name)
    }

    /// The `apiVersion` of objects in `version`.
    pub(crate) fn api_version(&self, version: &str) -> String {
        if self.id.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.id.group) }
    }
}

/// A body read as an object of the kind.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) object: Value,
    /// Paths of the fields that the kind does not have; they are not in `object`.
    pub(crate) unknown: Vec<String>,
}

/// Why a body is not an object of the kind.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ReadError {
    #[error("{stated} in version \"{version}\" cannot be handled as a {kind}: {why}")]
    Unfit { stated: String, version: String, kind: String, why: String },
    #[error("{0}")]
    Unrecognized(String),
}

impl ReadError {
    /// The reason alone, as a refused patch shows it.
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::Unfit { why, .. } | Self::Unrecognized(why) => why,
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        Self::BadRequest(error.to_string())
    }
}

/// What the rules of a kind may look at besides the object.
pub(crate) struct Surroundings<'a> {
    pub(crate) store: &'a Store,
    pub(crate) random: &'a mut Random,
    pub(crate) now: Timestamp,
}

/// The rules of a kind in one version: Kubernetes' REST strategies. Every method has the default of a plain kind.
pub(crate) trait Rules: Send + Sync {
    /// Reads a body: checks types, drops unknown fields, sets defaults.
    fn read(&self, body: Value) -> Result<Read, ReadError>;

    fn name_format(&self) -> NameFormat {
        NameFormat::Subdomain
    }

    /// Whether PUT makes an object that does not exist.
    fn put_creates(&self) -> bool {
        false
    }

    /// Whether an update must carry a resourceVersion.
    fn update_needs_version(&self) -> bool {
        false
    }

    /// Whether DELETE answers with the object instead of a Status.
    fn delete_answers_object(&self) -> bool {
        false
    }

    /// Whether DELETE of the whole resource is served.
    fn deletes_collections(&self) -> bool {
        true
    }

    /// Whether propagation policies apply; objects without dependents (events) are simply deleted.
    fn has_dependents(&self) -> bool {
        true
    }

    /// Whether finalizers must be qualified names; where they need not be, a warning says so.
    fn needs_qualified_finalizers(&self) -> bool {
        true
    }

    /// How long objects are kept after their last write; `None` for ever.
    fn time_to_live(&self) -> Option<Duration> {
        None
    }

    /// Seconds that a deletion waits for somebody to finish with the object, given what was requested; `None`
    /// when the kind is deleted at once.
    fn grace_period(&self, _object: &Value, _requested: Option<i64>) -> Option<i64> {
        None
    }

    /// Sets what a client may not choose at creation.
    fn prepare_create(&self, _object: &mut Value, _around: &mut Surroundings<'_>) -> Result<(), ApiError> {
        Ok(())
    }

    /// Sets what an update may not change; counts the generation.
    fn prepare_update(
        &self,
        _new: &mut Value,
        _old: &Value,
        _around: &mut Surroundings<'_>,
    ) -> Result<(), ApiError> {
        Ok(())
    }

    /// As [`Self::prepare_update`], for the status subresource: everything but the status stays.
    fn prepare_status(&self, new: &mut Value, old: &Value) {
        keep_all_but_status(new, old);
    }

    fn validate(&self, _object: &Value) -> Violations {
        Violations::new()
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Violations {
        self.validate(new)
    }

    fn validate_status(&self, _new: &Value, _old: &Value) -> Violations {
        Violations::new()
    }

    /// Warnings for a client that writes this object.
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// The value of a field that selectors may name, beside `metadata.name` and `metadata.namespace`; `None` for
    /// a field that they may not.
    fn field(&self, _object: &Value, _field: &str) -> Option<String> {
        None
    }

    /// The refusal of a field that selectors may not name.
    fn unknown_field(&self, field: &str) -> String {
        format!("\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    }

    /// The Go type of a built-in kind, which says how strategic merge patches are merged.
    fn go_type(&self) -> Option<&'static str> {
        None
    }

    /// Name and JSON schema of the kind, for OpenAPI; what the schema refers to stands in its `$defs`.
    fn open_api(&self) -> (String, Value);

    /// Columns of the table, the name first.
    fn columns(&self) -> Vec<Column>;

    /// One cell for each column.
    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value>;
}

/// The refusal of kinds that have fields of their own to select by.
pub(crate) fn unsupported_field(field: &str) -> String {
    format!("field label not supported: {field}")
}

/// The status of `new` on `old`; what is common to all objects stays, but for labels and annotations.
fn keep_all_but_status(new: &mut Value, old: &Value) {
    let names: Vec<String> = old
        .as_object()
        .into_iter()
        .chain(new.as_object())
        .flat_map(|members| members.keys().cloned())
        .filter(|name| name != "status" && name != "metadata")
        .collect();
    for name in names {
        new.set_member(&name, old.get(&name).cloned());
    }
}

/// Puts back the status of `old`, which only the status subresource changes.
pub(crate) fn keep_status(new: &mut Value, old: &Value) {
    new.set_member("status", old.get("status").cloned());
}

/// Counts the generation up when the spec changed.
pub(crate) fn count_spec_changes(new: &mut Value, old: &Value) {
    if !semantically_equal(new.get("spec"), old.get("spec")) {
        new.set_meta("generation", Some(Value::from(old.generation() + 1)));
    }
}
