//! From Rust types to structural schemas: what schemars derives, spelled the way Kubernetes wants it.
//!
//! Depends on schemars. `definitions.rs` puts the result into a CustomResourceDefinition.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

/// Stands for an object whose fields this API does not describe: all of them are kept.
pub(super) struct AnyObject;

impl JsonSchema for AnyObject {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AnyObject".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
    }
}

/// The structural schema of a type: no references, no `null` among the types, and nothing that only
/// describes how Rust holds it.
pub(super) fn structural<T: JsonSchema>() -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    let schema = schema.ensure_object();
    rewrite(schema);
    std::mem::take(schema)
}

/// Rewrites a schema and everything below it.
fn rewrite(schema: &mut Map<String, Value>) {
    // `title` repeats the Rust name; `default` would make the API server store values nobody set.
    for noise in ["title", "default", "$schema"] {
        schema.shift_remove(noise);
    }
    drop_null(schema);
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = unwrap_lines(description);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(Value::Object(below)) = schema.get_mut(keyword) {
            rewrite(below);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for below in properties.values_mut().filter_map(Value::as_object_mut) {
            rewrite(below);
        }
    }
}

/// An optional field is one that may be absent. Saying that it may be null as well would keep the API
/// server from pruning nulls, so that they reached every client.
fn drop_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_mut_slice() {
            let only = only.take();
            schema.insert("type".to_owned(), only);
        }
    }
    let is_null = |schema: &Value| *schema == serde_json::json!({ "type": "null" });
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf")
        && choices.iter().any(is_null)
    {
        choices.retain(|choice| !is_null(choice));
        if let [Value::Object(only)] = choices.as_mut_slice() {
            let only = std::mem::take(only);
            schema.shift_remove("anyOf");
            for (keyword, value) in only {
                schema.entry(keyword).or_insert(value);
            }
        }
    }
}

/// Doc comments are wrapped for the source; readers of a schema wrap for themselves.
fn unwrap_lines(description: &str) -> String {
    description.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}
