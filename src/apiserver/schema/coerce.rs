//! Metadata inside custom resources: decoded as ObjectMeta, at the root and in embedded resources.

use serde_json::Value;

use super::Schema;
use crate::apiserver::go_types;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Decodes `metadata` of the object and of its embedded resources. Returns the paths of unknown metadata fields,
/// or why a field has the wrong type.
pub(crate) fn coerce_metadata(object: &mut Value, schema: &Schema) -> Result<Vec<String>, String> {
    let mut unknown = Vec::new();
    decode(object, "", &mut unknown)?;
    walk(object, schema, "", &mut unknown)?;
    unknown.sort();
    Ok(unknown)
}

fn walk(value: &mut Value, schema: &Schema, path: &str, unknown: &mut Vec<String>) -> Result<(), String> {
    match value {
        Value::Object(_) => {
            if schema.embedded {
                for name in ["apiVersion", "kind"] {
                    if value.get(name).is_some_and(|v| !v.is_string()) {
                        return Err(format!("{path}.{name}: Invalid value: must be a string"));
                    }
                }
                decode(value, path, unknown)?;
            }
            for (name, member) in value.as_object_mut().into_iter().flatten() {
                let Some(member_schema) = schema.member(name) else { continue };
                let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                walk(member, member_schema, &at, unknown)?;
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.items.as_deref() else { return Ok(()) };
            for (index, item) in items.iter_mut().enumerate() {
                walk(item, schema, &format!("{path}[{index}]"), unknown)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn decode(object: &mut Value, path: &str, unknown: &mut Vec<String>) -> Result<(), String> {
    let Some(metadata) = object.get_mut("metadata") else { return Ok(()) };
    if !metadata.is_object() {
        return Err(format!(
            "json: cannot unmarshal {} into Go value of type v1.ObjectMeta",
            match metadata {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                Value::Number(_) => "number",
                _ => "null",
            }
        ));
    }
    let decoded = go_types::decode(OBJECT_META, metadata).map_err(|e| e.to_string())?;
    let prefix = if path.is_empty() { "metadata".to_owned() } else { format!("{path}.metadata") };
    unknown.extend(decoded.unknown.into_iter().map(|name| format!("{prefix}.{name}")));
    *metadata = decoded.object;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        Schema::parse(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "emb": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
            }},
        }}))
    }

    #[test]
    fn unknown_metadata_is_dropped_and_named() {
        let mut object = json!({
            "metadata": {"name": "a", "foo": 1, "labels": {}},
            "spec": {"emb": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b", "bar": 1}}},
        });
        let unknown = coerce_metadata(&mut object, &schema()).unwrap();
        assert_eq!(unknown, ["metadata.foo", "spec.emb.metadata.bar"]);
        assert_eq!(object["metadata"], json!({"name": "a"}));
        assert_eq!(object["spec"]["emb"]["metadata"], json!({"name": "b"}));
    }

    #[test]
    fn mistyped_metadata_is_refused_in_gos_words() {
        let mut object = json!({"metadata": {"labels": {"a": 1}}});
        let error = coerce_metadata(&mut object, &schema()).unwrap_err();
        assert_eq!(
            error,
            "json: cannot unmarshal number into Go struct field ObjectMeta.labels of type string"
        );
    }
}
