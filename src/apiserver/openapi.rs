//! OpenAPI v3: one document for each group and version, for `kubectl explain` and for clients that validate.
//!
//! Depends on the catalog; the kinds give their schemas. kubectl reads from it which fields a kind has and that PATCH
//! takes `fieldValidation`.

use serde_json::{Map, Value, json};

use super::catalog::Catalog;
use super::http::reply::Reply;
use super::resource::{Resource, Scope, Subresource, Version};
use super::state::State;
use super::status::ApiError;

/// Where the schemas of a document stand.
const SCHEMAS: &str = "#/components/schemas/";

/// `/openapi/v3`.
pub(crate) fn index(catalog: &Catalog) -> Reply {
    let mut paths = Map::new();
    let mut add = |path: String| {
        let url = format!("/openapi/v3/{path}");
        paths.insert(path, json!({"serverRelativeURL": url}));
    };
    add("api/v1".to_owned());
    for group in catalog.groups() {
        for version in &group.versions {
            add(format!("apis/{}/{version}", group.name));
        }
    }
    Reply::json(json!({"paths": paths}))
}

/// `/openapi/v3/api/v1`, `/openapi/v3/apis/{group}/{version}`.
pub(crate) fn document(state: &State, group: &str, version: &str) -> Result<Reply, ApiError> {
    if !state.catalog.has_version(group, version) {
        return Err(ApiError::UnknownPath);
    }
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for resource in state.catalog.in_version(group, version) {
        let Some(version) = resource.version(version) else { continue };
        let name = add_schemas(resource, version, &mut schemas);
        add_paths(resource, version, &name, &mut paths);
    }
    Ok(Reply::json(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.35.4"},
        "paths": paths,
        "components": {"schemas": schemas},
    })))
}

fn kind_extension(resource: &Resource, version: &Version, kind: &str) -> Value {
    json!({"group": resource.id.group, "version": version.name, "kind": kind})
}

/// Adds the schemas of a resource; returns the name of that of its objects.
fn add_schemas(resource: &Resource, version: &Version, schemas: &mut Map<String, Value>) -> String {
    let (name, mut schema) = version.rules.open_api();
    if let Some(Value::Object(definitions)) = schema.as_object_mut().and_then(|s| s.remove("$defs")) {
        for (name, mut definition) in definitions {
            to_open_api(&mut definition);
            schemas.entry(name).or_insert(definition);
        }
    }
    to_open_api(&mut schema);
    schema["x-kubernetes-group-version-kind"] =
        json!([kind_extension(resource, version, &resource.names.kind)]);
    let list = json!({
        "description": format!("{} is a list of {}", resource.names.list_kind, resource.names.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "items": {"type": "array", "items": {"$ref": format!("{SCHEMAS}{name}")}},
        },
        "x-kubernetes-group-version-kind": [kind_extension(resource, version, &resource.names.list_kind)],
    });
    schemas.insert(format!("{name}List"), list);
    schemas.insert(name.clone(), schema);
    name
}

/// JSON Schema as OpenAPI 3.0 has it: references to components, with what stands beside them kept.
fn to_open_api(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            for key in ["$schema", "title"] {
                if members.get(key).is_some_and(Value::is_string) {
                    members.remove(key);
                }
            }
            for member in members.values_mut() {
                to_open_api(member);
            }
            if let Some(Value::String(reference)) = members.get("$ref") {
                let target = format!("{SCHEMAS}{}", reference.rsplit('/').next().unwrap_or_default());
                members.remove("$ref");
                if members.is_empty() {
                    members.insert("$ref".to_owned(), json!(target));
                } else {
                    members.insert("allOf".to_owned(), json!([{"$ref": target}]));
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(to_open_api),
        _ => {}
    }
}

fn add_paths(resource: &Resource, version: &Version, schema: &str, paths: &mut Map<String, Value>) {
    let root = match resource.id.group.as_str() {
        "" => format!("/api/{}", version.name),
        group => format!("/apis/{group}/{}", version.name),
    };
    let plural = &resource.names.plural;
    let collection = match resource.scope {
        Scope::Namespaced => format!("{root}/namespaces/{{namespace}}/{plural}"),
        Scope::Cluster => format!("{root}/{plural}"),
    };
    let operation = |verb: &str, list: bool| operation(resource, version, schema, verb, list);
    if resource.scope == Scope::Namespaced {
        paths.insert(format!("{root}/{plural}"), json!({"get": operation("list", true)}));
    }
    let parameters = path_parameters(resource);
    let namespace: Vec<&Value> = parameters.iter().filter(|p| p["name"] == "namespace").collect();
    paths.insert(
        collection.clone(),
        json!({"get": operation("list", true), "post": operation("post", false),
            "delete": operation("deletecollection", false), "parameters": namespace}),
    );
    let whole = json!({"get": operation("get", false), "put": operation("put", false),
        "patch": operation("patch", false), "delete": operation("delete", false), "parameters": parameters});
    for part in version.subresources.iter().filter(|part| **part == Subresource::Status) {
        let status = json!({"get": operation("get", false), "put": operation("put", false),
            "patch": operation("patch", false), "parameters": parameters});
        paths.insert(format!("{collection}/{{name}}/{}", part.name()), status);
    }
    paths.insert(format!("{collection}/{{name}}"), whole);
}

fn path_parameters(resource: &Resource) -> Vec<Value> {
    let names: &[&str] = match resource.scope {
        Scope::Namespaced => &["name", "namespace"],
        Scope::Cluster => &["name"],
    };
    let parameter =
        |name: &&str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    names.iter().map(parameter).collect()
}

fn operation(resource: &Resource, version: &Version, schema: &str, action: &str, list: bool) -> Value {
    let reference = json!({"$ref": format!("{SCHEMAS}{schema}{}", if list { "List" } else { "" })});
    let mut operation = json!({
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": reference}}}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": kind_extension(resource, version, &resource.names.kind),
    });
    if matches!(action, "post" | "put" | "patch") {
        let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
        let parameters = ["dryRun", "fieldManager", "fieldValidation"].map(parameter);
        operation["parameters"] = json!(parameters);
        let media: &[&str] = match action {
            "patch" => &["application/json-patch+json", "application/merge-patch+json"],
            _ => &["application/json"],
        };
        let body = if action == "patch" { json!({"type": "object"}) } else { reference.clone() };
        let content: Map<String, Value> =
            media.iter().map(|media| ((*media).to_owned(), json!({"schema": body}))).collect();
        operation["requestBody"] = json!({"content": content});
    }
    operation
}

/// Name of the schema of a custom resource: the group's labels reversed, version, kind.
pub(crate) fn custom_name(group: &str, version: &str, kind: &str) -> String {
    let mut labels: Vec<&str> = group.split('.').collect();
    labels.reverse();
    format!("{}.{version}.{kind}", labels.join("."))
}

/// The schema of a custom resource: that of its definition, with the fields that every object has.
pub(crate) fn custom_schema(definition_schema: &Value) -> Value {
    let metadata =
        schemars::schema_for!(k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta).to_value();
    let mut schema = definition_schema.clone();
    if !schema.is_object() {
        schema = json!({"type": "object"});
    }
    let mut definitions = metadata.get("$defs").cloned().unwrap_or_else(|| json!({}));
    const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    let mut own = metadata;
    if let Some(members) = own.as_object_mut() {
        members.remove("$defs");
    }
    definitions[OBJECT_META] = own;
    schema["$defs"] = definitions;
    schema["properties"]["apiVersion"] =
        json!({"type": "string", "description": "Version of the schema of this object."});
    schema["properties"]["kind"] = json!({"type": "string", "description": "The kind of this object."});
    schema["properties"]["metadata"] =
        json!({"$ref": format!("#/$defs/{OBJECT_META}"), "description": "Standard object's metadata."});
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_point_to_components_and_keep_their_descriptions() {
        let mut schema = json!({"title": "x", "properties": {
            "a": {"$ref": "#/$defs/io.k8s.A"}, "b": {"$ref": "#/$defs/io.k8s.A", "description": "d"},
            "title": {"type": "string"}}});
        to_open_api(&mut schema);
        assert_eq!(
            schema,
            json!({"properties": {
                "a": {"$ref": "#/components/schemas/io.k8s.A"},
                "b": {"allOf": [{"$ref": "#/components/schemas/io.k8s.A"}], "description": "d"},
                "title": {"type": "string"}}})
        );
    }

    #[test]
    fn names_of_custom_schemas_start_with_the_reversed_group() {
        assert_eq!(custom_name("argoproj.io", "v1alpha1", "Rollout"), "io.argoproj.v1alpha1.Rollout");
    }
}
