//! Discovery: which groups, versions and resources there are, one document each or all in one.
//!
//! Depends on the catalog. kubectl and `kube` ask here before they ask for objects; `kubectl` prefers the aggregated
//! form (apidiscovery.k8s.io/v2).

use http::HeaderMap;
use serde_json::{Value, json};

use super::catalog::{Catalog, Group};
use super::http::accept;
use super::http::reply::Reply;
use super::resource::{Resource, Scope, Subresource, Version};
use super::status::ApiError;

/// Verbs of a resource, as discovery lists them.
const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// The version of Kubernetes whose API this is.
const KUBERNETES: (&str, &str) = ("1", "35");

/// `/version`.
pub(crate) fn version() -> Reply {
    let (major, minor) = KUBERNETES;
    Reply::json(json!({
        "major": major,
        "minor": minor,
        "gitVersion": format!("v{major}.{minor}.4+rolloutd"),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    }))
}

/// `/api`.
pub(crate) fn core_versions(catalog: &Catalog, headers: &HeaderMap) -> Result<Reply, ApiError> {
    let core = Group { name: String::new(), versions: vec!["v1".to_owned()] };
    Ok(aggregated(catalog, &[core], headers).unwrap_or_else(|| {
        Reply::json(json!({"kind": "APIVersions", "apiVersion": "v1", "versions": ["v1"],
            "serverAddressByClientCIDRs": []}))
    }))
}

/// `/apis`.
pub(crate) fn groups(catalog: &Catalog, headers: &HeaderMap) -> Result<Reply, ApiError> {
    let groups = catalog.groups();
    Ok(aggregated(catalog, &groups, headers).unwrap_or_else(|| {
        let groups: Vec<Value> = groups.iter().map(group_document).collect();
        Reply::json(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
    }))
}

/// `/apis/{group}`.
pub(crate) fn group(catalog: &Catalog, name: &str) -> Result<Reply, ApiError> {
    let groups = catalog.groups();
    let group = groups.iter().find(|group| group.name == name).ok_or(ApiError::UnknownPath)?;
    let mut document = group_document(group);
    document["kind"] = json!("APIGroup");
    document["apiVersion"] = json!("v1");
    Ok(Reply::json(document))
}

fn group_document(group: &Group) -> Value {
    let version =
        |version: &String| json!({"groupVersion": format!("{}/{version}", group.name), "version": version});
    json!({
        "name": group.name,
        "versions": group.versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": group.versions.first().map(version),
    })
}

/// `/api/v1`, `/apis/{group}/{version}`.
pub(crate) fn resources(catalog: &Catalog, group: &str, version: &str) -> Result<Reply, ApiError> {
    if !catalog.has_version(group, version) {
        let known = group.is_empty() || catalog.has_group(group);
        return Err(if known { ApiError::UnknownResource } else { ApiError::UnknownPath });
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut resources = Vec::new();
    for resource in catalog.in_version(group, version) {
        let Some(version) = resource.version(version) else { continue };
        resources.push(resource_document(resource, version));
        resources.extend(version.subresources.iter().map(|part| subresource_document(resource, *part)));
    }
    Ok(Reply::json(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": resources})))
}

fn verbs(version: &Version) -> Vec<&'static str> {
    let all = VERBS.into_iter();
    all.filter(|verb| *verb != "deletecollection" || version.rules.deletes_collections()).collect()
}

fn subresource_verbs(part: Subresource) -> &'static [&'static str] {
    match part {
        Subresource::Status | Subresource::Scale => &["get", "patch", "update"],
        Subresource::Binding | Subresource::Eviction => &["create"],
        Subresource::Finalize => &["update"],
    }
}

fn resource_document(resource: &Resource, version: &Version) -> Value {
    let names = &resource.names;
    let mut document = json!({
        "name": names.plural,
        "singularName": names.singular,
        "namespaced": resource.scope == Scope::Namespaced,
        "kind": names.kind,
        "verbs": verbs(version),
    });
    for (key, list) in [("shortNames", &names.short_names), ("categories", &names.categories)] {
        if !list.is_empty() {
            document[key] = json!(list);
        }
    }
    document
}

fn subresource_document(resource: &Resource, part: Subresource) -> Value {
    let mut document = json!({
        "name": format!("{}/{}", resource.names.plural, part.name()),
        "singularName": "",
        "namespaced": resource.scope == Scope::Namespaced,
        "kind": resource.names.kind,
        "verbs": subresource_verbs(part),
    });
    if let Some((group, version, kind)) = foreign_kind(part) {
        document["kind"] = json!(kind);
        document["group"] = json!(group);
        document["version"] = json!(version);
    }
    document
}

/// Group, version and kind of a subresource that is no part of the object itself.
fn foreign_kind(part: Subresource) -> Option<(&'static str, &'static str, &'static str)> {
    match part {
        Subresource::Scale => Some(("autoscaling", "v1", "Scale")),
        Subresource::Binding => Some(("", "v1", "Binding")),
        Subresource::Eviction => Some(("policy", "v1", "Eviction")),
        Subresource::Status | Subresource::Finalize => None,
    }
}

/// The aggregated form, if the client prefers it.
fn aggregated(catalog: &Catalog, groups: &[Group], headers: &HeaderMap) -> Option<Reply> {
    for clause in accept::clauses(headers) {
        if clause.media != "application/json" {
            continue;
        }
        let wanted = (clause.parameter("g"), clause.parameter("v"), clause.parameter("as"));
        let content_type = match wanted {
            (None, None, None) => return None,
            (Some("apidiscovery.k8s.io"), Some("v2"), Some("APIGroupDiscoveryList")) => {
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            }
            _ => continue,
        };
        let items: Vec<Value> = groups.iter().map(|group| aggregated_group(catalog, group)).collect();
        let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
            "items": items});
        return Some(Reply::json(list).with_content_type(content_type));
    }
    None
}

fn aggregated_group(catalog: &Catalog, group: &Group) -> Value {
    let versions = group.versions.iter().map(|version| {
        let resources = catalog.in_version(&group.name, version);
        let resources: Vec<Value> =
            resources.filter_map(|r| Some(aggregated_resource(r, r.version(version)?))).collect();
        json!({"version": version, "resources": resources, "freshness": "Current"})
    });
    let metadata = if group.name.is_empty() { json!({}) } else { json!({"name": group.name}) };
    json!({"metadata": metadata, "versions": versions.collect::<Vec<_>>()})
}

fn aggregated_resource(resource: &Resource, version: &Version) -> Value {
    let own = (resource.id.group.as_str(), version.name.as_str(), resource.names.kind.as_str());
    let response = |(group, version, kind): (&str, &str, &str)| json!({"group": group, "version": version, "kind": kind});
    let names = &resource.names;
    let mut document = json!({
        "resource": names.plural,
        "responseKind": response(own),
        "scope": if resource.scope == Scope::Namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": names.singular,
        "verbs": verbs(version),
    });
    for (key, list) in [("shortNames", &names.short_names), ("categories", &names.categories)] {
        if !list.is_empty() {
            document[key] = json!(list);
        }
    }
    let parts = version.subresources.iter().map(|part| {
        json!({"subresource": part.name(), "responseKind": response(foreign_kind(*part).unwrap_or(own)),
            "verbs": subresource_verbs(*part)})
    });
    let parts: Vec<Value> = parts.collect();
    if !parts.is_empty() {
        document["subresources"] = Value::Array(parts);
    }
    document
}
