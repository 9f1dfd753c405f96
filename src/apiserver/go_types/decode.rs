//! Decoding: types are checked, unknown fields dropped and listed, zero values written as Go writes them.

use serde_json::{Map, Value};
use thiserror::Error;

use super::{Field, GoType, Scalar, TABLE, scalar};

/// The type behind the unions of the CRD types.
const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// A decoded body.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The object as Go would write it.
    pub(crate) object: Value,
    /// Paths of the fields that the type does not have.
    pub(crate) unknown: Vec<String>,
}

/// A value of the wrong type; the texts are the real server's.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{text}")]
pub(crate) struct DecodeError {
    text: String,
    /// The same of an object that was put together in memory, as strategic merge patches do, and not read from JSON.
    pub(crate) in_memory: String,
}

/// Decodes `body` as the Go type `type_name` (`io.k8s.api.core.v1.Pod`).
pub(crate) fn decode(type_name: &str, body: &Value) -> Result<Decoded, DecodeError> {
    let mut decoder = Decoder { unknown: Vec::new(), path: Vec::new(), owner: short(type_name).to_owned() };
    let object = decoder.structure(type_name, Some(body))?;
    Ok(Decoded { object, unknown: decoder.unknown })
}

struct Decoder {
    unknown: Vec<String>,
    path: Vec<Step>,
    /// Name of the struct that holds the current field.
    owner: String,
}

enum Step {
    Member(String),
    Index(usize),
}

impl Decoder {
    fn structure(&mut self, type_name: &str, value: Option<&Value>) -> Result<Value, DecodeError> {
        let empty = Map::new();
        let members = match value {
            None | Some(Value::Null) => &empty,
            Some(Value::Object(members)) => members,
            Some(other) => return Err(self.mismatch(other, &GoType::Struct(type_name.to_owned()))),
        };
        let none = Vec::new();
        let fields = TABLE.get(type_name).unwrap_or(&none);
        for name in members.keys().filter(|name| !fields.iter().any(|f| &f.name == *name)) {
            self.path.push(Step::Member(name.clone()));
            self.unknown.push(self.full_path());
            self.path.pop();
        }
        let outer = std::mem::replace(&mut self.owner, short(type_name).to_owned());
        let mut out = Map::new();
        for field in fields {
            if let Some(value) = self.field(field, members.get(&field.name))? {
                out.insert(field.name.clone(), value);
            }
        }
        self.owner = outer;
        Ok(Value::Object(out))
    }

    fn field(&mut self, field: &Field, value: Option<&Value>) -> Result<Option<Value>, DecodeError> {
        self.path.push(Step::Member(field.name.clone()));
        let value = self.value(&field.go_type, value)?;
        self.path.pop();
        let omitted = field.omit && is_zero(&field.go_type, &value);
        Ok((!omitted).then_some(value))
    }

    fn value(&mut self, go_type: &GoType, value: Option<&Value>) -> Result<Value, DecodeError> {
        match (go_type, value.filter(|v| !v.is_null())) {
            (GoType::Pointer(_) | GoType::Slice(_) | GoType::Map(_), None) => Ok(Value::Null),
            (GoType::Pointer(inner), value) => self.value(inner, value),
            (GoType::Struct(name), value) => self.structure(name, value),
            (GoType::Slice(inner), Some(Value::Array(items))) => {
                let mut out = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    self.path.push(Step::Index(index));
                    out.push(self.value(inner, Some(item))?);
                    self.path.pop();
                }
                Ok(Value::Array(out))
            }
            (GoType::Map(inner), Some(Value::Object(entries))) => {
                let mut out = Map::new();
                for (key, entry) in entries {
                    out.insert(key.clone(), self.value(inner, Some(entry))?);
                }
                Ok(Value::Object(out))
            }
            (GoType::Scalar(Scalar::SchemaUnion), Some(value)) => self.schema_union(value),
            (GoType::Scalar(scalar), value) => self.scalar(*scalar, value, go_type),
            (_, Some(value)) => Err(self.mismatch(value, go_type)),
        }
    }

    fn schema_union(&mut self, value: &Value) -> Result<Value, DecodeError> {
        match value {
            Value::Object(_) => self.structure(SCHEMA, Some(value)),
            Value::Array(items) => items.iter().map(|item| self.schema_union(item)).collect(),
            other => Ok(other.clone()),
        }
    }

    fn scalar(
        &mut self,
        kind: Scalar,
        value: Option<&Value>,
        go_type: &GoType,
    ) -> Result<Value, DecodeError> {
        match scalar::decode(kind, value) {
            Ok(value) => Ok(value),
            Err(scalar::Wrong::Type(value)) => Err(self.mismatch(value, go_type)),
            Err(scalar::Wrong::Text(text)) => Err(DecodeError { in_memory: text.clone(), text }),
        }
    }

    fn mismatch(&self, value: &Value, go_type: &GoType) -> DecodeError {
        let found = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
            Value::Number(number) if matches!(go_type.go_name().as_str(), "int32" | "int64") => {
                format!("number {number}")
            }
            Value::Number(_) => "number".to_owned(),
        };
        let members: Vec<&str> = self
            .path
            .iter()
            .filter_map(|step| match step {
                Step::Member(name) => Some(name.as_str()),
                Step::Index(_) => None,
            })
            .collect();
        let text = format!(
            "json: cannot unmarshal {found} into Go struct field {}.{} of type {}",
            self.owner,
            members.join("."),
            go_type.go_name()
        );
        DecodeError { text, in_memory: unconvertible(value, go_type) }
    }

    fn full_path(&self) -> String {
        let mut out = String::new();
        for step in &self.path {
            match step {
                Step::Member(name) if out.is_empty() => out.push_str(name),
                Step::Member(name) => {
                    out.push('.');
                    out.push_str(name);
                }
                Step::Index(index) => out.push_str(&format!("[{index}]")),
            }
        }
        out
    }
}

/// Why Go's converter of objects in memory does not take the value for the type.
fn unconvertible(value: &Value, go_type: &GoType) -> String {
    // Go's kind and type of the value, and what it is in JSON.
    let (kind, name, json) = match value {
        Value::Null => ("invalid", "nil", "null"),
        Value::Bool(_) => ("bool", "bool", "bool"),
        Value::Number(number) if number.is_f64() => ("float64", "float64", "number"),
        Value::Number(_) => ("int64", "int64", "number"),
        Value::String(_) => ("string", "string", "string"),
        Value::Array(_) => ("slice", "[]interface {}", "array"),
        Value::Object(_) => ("map", "map[string]interface {}", "object"),
    };
    match (go_type, go_type.kind()) {
        (GoType::Pointer(inner), _) => unconvertible(value, inner),
        // Types that read their own JSON.
        (GoType::Scalar(Scalar::Time | Scalar::MicroTime | Scalar::IntOrString), _) => {
            format!("json: cannot unmarshal {json} into Go value of type {}", go_type.go_name())
        }
        (_, "map") => format!("cannot restore map from {kind}"),
        (_, "slice") => format!("cannot restore slice from {kind}"),
        (_, "struct") => format!("cannot restore struct from: {kind}"),
        // Go converts an integer to a string, and any number to another: the converter does not.
        (_, to) if (to == "string" && kind == "int64") || (to.starts_with("int") && kind == "float64") => {
            format!("cannot convert {name} to {to}")
        }
        (_, to) => format!("unrecognized type: {to}"),
    }
}

fn short(type_name: &str) -> &str {
    type_name.rsplit('.').next().unwrap_or(type_name)
}

/// Whether Go's `omitempty` leaves the value out.
fn is_zero(go_type: &GoType, value: &Value) -> bool {
    match (go_type, value) {
        (_, Value::Null) => true,
        (GoType::Pointer(_), _) => false,
        (_, Value::Array(items)) => items.is_empty(),
        (GoType::Map(_) | GoType::Struct(_), Value::Object(members)) => members.is_empty(),
        (GoType::Scalar(_), Value::String(text)) => text.is_empty(),
        (GoType::Scalar(_), Value::Bool(flag)) => !flag,
        (GoType::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Float64), Value::Number(number)) => {
            number.as_f64() == Some(0.0)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const POD: &str = "io.k8s.api.core.v1.Pod";
    const REPLICA_SET: &str = "io.k8s.api.apps.v1.ReplicaSet";

    fn decoded(type_name: &str, body: &Value) -> Decoded {
        decode(type_name, body).unwrap_or_else(|e| panic!("{body}: {e}"))
    }

    #[test]
    fn zero_values_are_written_as_go_writes_them() {
        let body = json!({
            "metadata": {"name": "p", "labels": {}, "creationTimestamp": null},
            "spec": {"containers": [{"name": "c", "image": "i", "env": [], "resources": {"limits": {"cpu": 0.5}}}],
                     "nodeName": "", "priority": 0, "hostNetwork": false},
        });
        let expected = json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "500m"}}}], "priority": 0},
            "status": {},
        });
        assert_eq!(decoded(POD, &body).object, expected);
        let set = decoded(REPLICA_SET, &json!({"spec": {"replicas": 0, "minReadySeconds": 0}})).object;
        assert_eq!(set["spec"]["replicas"], 0);
        assert_eq!(set["spec"].get("minReadySeconds"), None);
        assert_eq!(set["spec"]["selector"], Value::Null);
        assert_eq!(set["spec"]["template"], json!({"metadata": {}, "spec": {"containers": null}}));
        assert_eq!(set["status"], json!({"replicas": 0}));
    }

    #[test]
    fn unknown_fields_are_dropped_and_named_with_their_path() {
        let body = json!({"metadata": {"foo": 1}, "spec": {"containers": [{"x": 1}], "bar": 1}});
        let decoded = decoded(POD, &body);
        assert_eq!(decoded.unknown, ["metadata.foo", "spec.bar", "spec.containers[0].x"]);
        assert_eq!(decoded.object["spec"].get("bar"), None);
    }

    #[test]
    fn mistyped_fields_are_named_in_gos_words() {
        let cases = [
            (
                json!({"spec": {"replicas": "3"}}),
                "json: cannot unmarshal string into Go struct field ReplicaSetSpec.spec.replicas of type int32",
            ),
            (
                json!({"spec": {"replicas": 3.5}}),
                "json: cannot unmarshal number 3.5 into Go struct field ReplicaSetSpec.spec.replicas of type int32",
            ),
            (
                json!({"metadata": {"labels": {"a": 1}}}),
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                json!({"spec": []}),
                "json: cannot unmarshal array into Go struct field ReplicaSet.spec of type v1.ReplicaSetSpec",
            ),
            (
                json!({"spec": {"template": {"spec": {"containers": {}}}}}),
                "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
            ),
            (
                json!({"spec": {"template": {"spec": {"containers": [{"image": 5}]}}}}),
                "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.image of type string",
            ),
            (
                json!({"metadata": {"creationTimestamp": "yesterday"}}),
                "parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\"",
            ),
        ];
        for (body, message) in cases {
            assert_eq!(decode(REPLICA_SET, &body).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn schemas_of_a_definition_are_decoded_at_every_depth() {
        let definition = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";
        let schema = json!({"type": "array", "items": {"type": "object", "typo": 1}});
        let versions =
            json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]);
        let decoded = decoded(
            definition,
            &json!({"spec": {"group": "a", "names": {}, "scope": "", "versions": versions}}),
        );
        assert_eq!(decoded.unknown, ["spec.versions[0].schema.openAPIV3Schema.items.typo"]);
    }
}
