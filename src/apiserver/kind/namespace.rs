//! Namespaces: they end when their content is gone and somebody has removed `spec.finalizers`.

use jiff::Timestamp;
use k8s_openapi::api::core;
use serde_json::{Value, json};

use super::{open_api, read, set_default};
use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::names::{self, NameFormat};
use crate::apiserver::object::Object;
use crate::apiserver::resource::{Read, ReadError, Rules, Surroundings, keep_status, unsupported_field};
use crate::apiserver::status::{ApiError, Cause, GroupResource};
use crate::apiserver::table::{Column, age};

/// In `spec.finalizers` of a namespace until its content is gone.
pub(crate) const KUBERNETES_FINALIZER: &str = "kubernetes";

/// Namespaces that exist from the start.
pub(crate) const SYSTEM_NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Label that carries the name of each namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

const GO_TYPE: &str = "io.k8s.api.core.v1.Namespace";

pub(super) struct NamespaceRules;

impl Rules for NamespaceRules {
    fn read(&self, body: Value) -> Result<Read, ReadError> {
        read(&body, GO_TYPE, "v1", |namespace| {
            set_default(&mut namespace["status"], "phase", "Active");
            label_with_name(namespace);
        })
    }

    fn name_format(&self) -> NameFormat {
        NameFormat::Label
    }

    fn delete_answers_object(&self) -> bool {
        true
    }

    fn deletes_collections(&self) -> bool {
        false
    }

    fn prepare_create(&self, namespace: &mut Value, _: &mut Surroundings<'_>) -> Result<(), ApiError> {
        namespace["status"] = json!({"phase": "Active"});
        let mut finalizers = namespace.list("/spec/finalizers").to_vec();
        if !finalizers.contains(&json!(KUBERNETES_FINALIZER)) {
            finalizers.push(json!(KUBERNETES_FINALIZER));
        }
        namespace["spec"]["finalizers"] = Value::Array(finalizers);
        // The name may have been generated only now.
        label_with_name(namespace);
        Ok(())
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _: &mut Surroundings<'_>) -> Result<(), ApiError> {
        new.set_member("spec", old.get("spec").cloned());
        keep_status(new, old);
        label_with_name(new);
        Ok(())
    }

    fn validate(&self, namespace: &Value) -> Violations {
        let path = Path::of("spec.finalizers");
        let finalizers = namespace.list("/spec/finalizers").iter().filter_map(Value::as_str);
        finalizers
            .flat_map(|name| names::qualified_name(name).into_iter().map(move |why| (name, why)))
            .map(|(name, why)| Violation::invalid(&path, name, why))
            .collect()
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Violations {
        let path = Path::of("status.Phase");
        let phase = new.text("/status/phase");
        let detail = if new.is_being_deleted() {
            (phase != "Terminating")
                .then_some("may only be 'Terminating' if `deletionTimestamp` is not empty")
        } else {
            (phase != "Active").then_some("may only be 'Active' if `deletionTimestamp` is empty")
        };
        detail.map(|detail| Violation::invalid(&path, phase, detail)).into_iter().collect()
    }

    fn field(&self, namespace: &Value, field: &str) -> Option<String> {
        match field {
            "status.phase" => Some(namespace.text("/status/phase").to_owned()),
            "name" => Some(namespace.name().to_owned()),
            _ => None,
        }
    }

    fn unknown_field(&self, field: &str) -> String {
        unsupported_field(field)
    }

    fn go_type(&self) -> Option<&'static str> {
        Some(GO_TYPE)
    }

    fn open_api(&self) -> (String, Value) {
        open_api::<core::v1::Namespace>()
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column::name(), Column::new("Status", "string", "The status of the namespace"), Column::age()]
    }

    fn cells(&self, namespace: &Value, now: Timestamp) -> Vec<Value> {
        vec![json!(namespace.name()), namespace["status"]["phase"].clone(), age(namespace, now)]
    }
}

fn label_with_name(namespace: &mut Value) {
    let name = namespace.name().to_owned();
    if !name.is_empty() {
        namespace.metadata_mut().entry("labels").or_insert_with(|| json!({}))[NAME_LABEL] = json!(name);
    }
}

/// The refusal of a new object in a namespace that is ending.
pub(crate) fn terminating(resource: &GroupResource, name: &str, namespace: &str) -> ApiError {
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let cause = Cause {
        reason: "NamespaceTerminating",
        message: format!("namespace {namespace} is being terminated"),
        field: "metadata.namespace",
    };
    ApiError::Forbidden {
        resource: resource.clone(),
        name: name.to_owned(),
        why,
        cause: Some(Box::new(cause)),
    }
}
