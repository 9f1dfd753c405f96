//! The built-in kinds: one row of a table each, and their rules.
//!
//! Depends on [`super::resource`]. A new kind is a row in [`resources`], an implementation of [`Rules`] (most
//! methods have a default) and its Go types in the table of [`super::go_types`]. [`super::catalog`] serves what
//! stands here.

mod config_map;
mod container;
mod controller_revision;
mod definition;
mod deployment;
mod disruption_budget;
mod event;
mod label_selector;
mod lease;
mod namespace;
mod pod;
mod pod_spec;
mod pod_table;
mod pod_template;
mod replica_set;
mod secret;
mod service;
mod service_account;
mod service_address;
mod service_validation;

use std::sync::Arc;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::go_types;
use super::object::Object;
use super::resource::{
    Names, Origin, Read, ReadError, Resource, Rules, ScalePaths, Scope, Subresource, Version,
};
use super::status::GroupResource;

pub(crate) use definition::DEFINITIONS;
pub(crate) use label_selector::format_selector;
pub(crate) use namespace::{KUBERNETES_FINALIZER, SYSTEM_NAMESPACES, terminating};

/// One row of the table of built-in resources.
struct Row {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    scope: Scope,
    subresources: &'static [Subresource],
    rules: Arc<dyn Rules>,
}

impl Row {
    fn new(
        api_version: &'static str,
        plural: &'static str,
        kind: &'static str,
        rules: impl Rules + 'static,
    ) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self {
            group,
            version,
            plural,
            kind,
            short_names: &[],
            categories: &[],
            scope: Scope::Namespaced,
            subresources: &[],
            rules: Arc::new(rules),
        }
    }

    fn short(self, short_names: &'static [&'static str]) -> Self {
        Self { short_names, ..self }
    }

    fn category(self, categories: &'static [&'static str]) -> Self {
        Self { categories, ..self }
    }

    fn cluster(self) -> Self {
        Self { scope: Scope::Cluster, ..self }
    }

    fn with(self, subresources: &'static [Subresource]) -> Self {
        Self { subresources, ..self }
    }

    fn resource(self) -> Resource {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let scale = self.subresources.contains(&Subresource::Scale).then(|| ScalePaths {
            spec_replicas: "/spec/replicas".to_owned(),
            status_replicas: "/status/replicas".to_owned(),
            selector: Some("/spec/selector".to_owned()),
        });
        let version = Version {
            name: self.version.to_owned(),
            served: true,
            subresources: self.subresources.to_vec(),
            scale,
            rules: self.rules,
            deprecation: None,
        };
        Resource {
            id: GroupResource::new(self.group, self.plural),
            names: Names {
                plural: self.plural.to_owned(),
                singular: self.kind.to_lowercase(),
                kind: self.kind.to_owned(),
                list_kind: format!("{}List", self.kind),
                short_names: owned(self.short_names),
                categories: owned(self.categories),
            },
            scope: self.scope,
            storage: version.name.clone(),
            versions: vec![version],
            origin: Origin::BuiltIn,
        }
    }
}

/// The built-in resources.
pub(crate) fn resources() -> Vec<Resource> {
    use Subresource::{Binding, Eviction, Finalize, Scale, Status};
    const ALL: &[&str] = &["all"];
    [
        Row::new("v1", "namespaces", "Namespace", namespace::NamespaceRules)
            .short(&["ns"])
            .cluster()
            .with(&[Status, Finalize]),
        Row::new("v1", "pods", "Pod", pod::PodRules)
            .short(&["po"])
            .category(ALL)
            .with(&[Status, Binding, Eviction]),
        Row::new("v1", "services", "Service", service::ServiceRules)
            .short(&["svc"])
            .category(ALL)
            .with(&[Status]),
        Row::new("v1", "events", "Event", event::EventRules).short(&["ev"]),
        Row::new("v1", "configmaps", "ConfigMap", config_map::ConfigMapRules).short(&["cm"]),
        Row::new("v1", "secrets", "Secret", secret::SecretRules),
        Row::new("v1", "serviceaccounts", "ServiceAccount", service_account::ServiceAccountRules)
            .short(&["sa"]),
        Row::new("v1", "podtemplates", "PodTemplate", pod_template::PodTemplateRules),
        Row::new("apps/v1", "deployments", "Deployment", deployment::DeploymentRules)
            .short(&["deploy"])
            .category(ALL)
            .with(&[Status, Scale]),
        Row::new("apps/v1", "replicasets", "ReplicaSet", replica_set::ReplicaSetRules)
            .short(&["rs"])
            .category(ALL)
            .with(&[Status, Scale]),
        Row::new(
            "apps/v1",
            "controllerrevisions",
            "ControllerRevision",
            controller_revision::ControllerRevisionRules,
        ),
        Row::new(
            "policy/v1",
            "poddisruptionbudgets",
            "PodDisruptionBudget",
            disruption_budget::DisruptionBudgetRules,
        )
        .short(&["pdb"])
        .with(&[Status]),
        Row::new("coordination.k8s.io/v1", "leases", "Lease", lease::LeaseRules),
        Row::new(
            "apiextensions.k8s.io/v1",
            "customresourcedefinitions",
            "CustomResourceDefinition",
            definition::DefinitionRules,
        )
        .short(&["crd", "crds"])
        .category(&["api-extensions"])
        .cluster()
        .with(&[Status]),
    ]
    .map(Row::resource)
    .into()
}

/// Reads a body as a built-in kind: `go_type` is its Go type, `api_version` and `kind` what a body that does not
/// say is taken for, `set_defaults` sets the defaults of what is stored.
fn read(
    body: &Value,
    go_type: &str,
    api_version: &str,
    set_defaults: impl FnOnce(&mut Value),
) -> Result<Read, ReadError> {
    let kind = go_type.rsplit('.').next().unwrap_or(go_type);
    let stated = |key: &str, default: &str| {
        let text = body.text(key);
        if text.is_empty() { default.to_owned() } else { text.to_owned() }
    };
    let (stated_kind, stated_version) = (stated("/kind", kind), stated("/apiVersion", api_version));
    let version = stated_version.rsplit('/').next().unwrap_or_default().to_owned();
    let unfit = |why: String| ReadError::Unfit {
        stated: stated_kind.clone(),
        version: version.clone(),
        kind: kind.to_owned(),
        why,
    };
    if stated_kind != kind || stated_version != api_version {
        return Err(unfit(format!(
            "no kind \"{stated_kind}\" is registered for version \"{stated_version}\" in scheme \
             \"pkg/runtime/scheme.go:111\""
        )));
    }
    let decoded = go_types::decode(go_type, body).map_err(|error| unfit(error.to_string()))?;
    let mut object = decoded.object;
    object.set_member("kind", Some(json!(kind)));
    object.set_member("apiVersion", Some(json!(api_version)));
    set_defaults(&mut object);
    Ok(Read { object, unknown: decoded.unknown })
}

/// Name and schema of a built-in kind, from the client library's type.
fn open_api<T: JsonSchema>() -> (String, Value) {
    // The default dialect keeps definitions in `$defs` and allows members beside `$ref`.
    let generator = SchemaSettings::draft2020_12().into_generator();
    (T::schema_name().into_owned(), generator.into_root_schema_for::<T>().to_value())
}

/// Sets a member to a default where it is missing.
fn set_default(object: &mut Value, key: &str, default: impl Into<Value>) {
    if let Some(members) = object.as_object_mut()
        && members.get(key).is_none_or(Value::is_null)
    {
        members.insert(key.to_owned(), default.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_reads_an_empty_body_as_its_kind() {
        for resource in resources() {
            let version = &resource.versions[0];
            let read = version.rules.read(json!({})).unwrap_or_else(|e| panic!("{}: {e}", resource.id));
            assert_eq!(read.object.text("/kind"), resource.names.kind);
            assert_eq!(read.object.text("/apiVersion"), resource.api_version(&version.name));
            let cells = version.rules.cells(&read.object, jiff::Timestamp::UNIX_EPOCH);
            assert_eq!(cells.len(), version.rules.columns().len(), "{}", resource.id);
        }
    }

    #[test]
    fn another_kind_is_refused() {
        let replica_sets = resources().into_iter().find(|r| r.names.kind == "ReplicaSet").unwrap();
        let error = replica_sets.versions[0].rules.read(json!({"kind": "Foo"})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Foo in version \"v1\" cannot be handled as a ReplicaSet: no kind \"Foo\" is registered for version \
             \"apps/v1\" in scheme \"pkg/runtime/scheme.go:111\""
        );
    }
}
