//! The Go types of the built-in kinds: decoding a body as the real server decodes it.
//!
//! `table.json` says for each type its fields, their Go types, whether Go leaves out a zero value and how a strategic
//! merge patch treats them; it is made by `generate.go` from k8s.io/api v0.35.4. Depends on [`super::quantity`]. [`super::kind`] calls [`decode()`]
//! before it defaults and validates.

mod decode;
mod patch;
mod protobuf;
mod scalar;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

pub(crate) use decode::decode;
pub(crate) use patch::{Member, Schema, SchemaError, Strategy};
pub(crate) use protobuf::decode as decode_protobuf;

/// A field of a Go struct.
#[derive(Debug)]
struct Field {
    name: String,
    go_type: GoType,
    /// Whether a zero value is left out (`omitempty`).
    omit: bool,
    /// Its protobuf number, after those of the messages that JSON inlines; empty where protobuf has no such field.
    proto: Vec<u64>,
    strategy: Strategy,
    /// The member by which a strategic merge patch tells items apart; often empty.
    key: String,
}

/// A Go type, as far as JSON is concerned.
#[derive(Debug)]
pub(crate) enum GoType {
    Scalar(Scalar),
    Pointer(Box<GoType>),
    Slice(Box<GoType>),
    Map(Box<GoType>),
    /// A struct of the table, by name.
    Struct(String),
}

/// The types that hold no other type of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    String,
    Bool,
    Int32,
    Int64,
    Float64,
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// Any JSON value, kept as it is.
    Any,
    /// A JSON schema, a list of them, a boolean or a list of names: the unions of the CRD types.
    SchemaUnion,
}

type Table = BTreeMap<String, Vec<Field>>;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    #[derive(Deserialize)]
    struct Row {
        json: String,
        r#type: String,
        #[serde(default)]
        omit: bool,
        #[serde(default)]
        proto: Vec<u64>,
        #[serde(default)]
        patch: String,
        #[serde(default)]
        key: String,
    }
    let rows: BTreeMap<String, Vec<Row>> =
        serde_json::from_str(include_str!("table.json")).expect("the table is part of the source");
    let field = |row: Row| Field {
        go_type: GoType::parse(&row.r#type),
        name: row.json,
        omit: row.omit,
        proto: row.proto,
        strategy: Strategy::parse(&row.patch),
        key: row.key,
    };
    rows.into_iter().map(|(name, rows)| (name, rows.into_iter().map(field).collect())).collect()
});

impl GoType {
    fn parse(text: &str) -> Self {
        if let Some(inner) = text.strip_prefix('*') {
            return Self::Pointer(Box::new(Self::parse(inner)));
        }
        if let Some(inner) = text.strip_prefix("map[string]") {
            return Self::Map(Box::new(Self::parse(inner)));
        }
        let scalar = match text {
            "string" => Scalar::String,
            "bool" => Scalar::Bool,
            "int32" => Scalar::Int32,
            "int64" => Scalar::Int64,
            "float64" => Scalar::Float64,
            "[]byte" => Scalar::Bytes,
            "Time" => Scalar::Time,
            "MicroTime" => Scalar::MicroTime,
            "Quantity" => Scalar::Quantity,
            "IntOrString" => Scalar::IntOrString,
            "RawExtension" | "FieldsV1" | "JSON" => Scalar::Any,
            "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray" => {
                Scalar::SchemaUnion
            }
            _ => {
                return match text.strip_prefix("[]") {
                    Some(inner) => Self::Slice(Box::new(Self::parse(inner))),
                    None => Self::Struct(text.to_owned()),
                };
            }
        };
        Self::Scalar(scalar)
    }

    /// The kind of the type, as Go's `reflect` names it.
    fn kind(&self) -> &'static str {
        match self {
            Self::Pointer(_) => "ptr",
            Self::Slice(_) | Self::Scalar(Scalar::Bytes) => "slice",
            Self::Map(_) => "map",
            Self::Scalar(Scalar::String) => "string",
            Self::Scalar(Scalar::Bool) => "bool",
            Self::Scalar(Scalar::Int32) => "int32",
            Self::Scalar(Scalar::Int64) => "int64",
            Self::Scalar(Scalar::Float64) => "float64",
            Self::Struct(_) | Self::Scalar(_) => "struct",
        }
    }

    /// The type as Go prints it: `[]v1.Container`; a pointer prints as what it points to.
    fn go_name(&self) -> String {
        match self {
            Self::Scalar(scalar) => scalar.go_name().to_owned(),
            Self::Pointer(inner) => inner.go_name(),
            Self::Slice(inner) => format!("[]{}", inner.go_name()),
            Self::Map(inner) => format!("map[string]{}", inner.go_name()),
            Self::Struct(name) => {
                let mut parts = name.rsplit('.');
                let (name, package) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                format!("{package}.{name}")
            }
        }
    }
}

impl Scalar {
    fn go_name(self) -> &'static str {
        match self {
            Self::String | Self::Time | Self::MicroTime => "string",
            Self::Bool => "bool",
            Self::Int32 | Self::IntOrString => "int32",
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::Bytes => "[]uint8",
            Self::Quantity | Self::Any | Self::SchemaUnion => "interface {}",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::{apps, coordination, core};

    #[test]
    fn every_struct_named_in_the_table_is_in_it() {
        fn check(go_type: &GoType, context: &str) {
            match go_type {
                GoType::Pointer(inner) | GoType::Slice(inner) | GoType::Map(inner) => check(inner, context),
                GoType::Struct(name) => assert!(TABLE.contains_key(name), "{name} of {context}"),
                GoType::Scalar(_) => {}
            }
        }
        for (name, fields) in &*TABLE {
            for field in fields {
                check(&field.go_type, &format!("{name}.{}", field.name));
            }
        }
    }

    /// The table comes from Go, the client types from the OpenAPI document: a field that only the table knows
    /// would be a mistake in its making.
    #[test]
    fn every_field_of_the_table_is_one_of_the_client_library() {
        // The client library is of a later release.
        const DROPPED_SINCE: [&str; 1] = ["io.k8s.api.core.v1.PodSpec.workloadRef"];
        let schemas = [
            schemars::schema_for!(core::v1::Pod),
            schemars::schema_for!(core::v1::Service),
            schemars::schema_for!(core::v1::Event),
            schemars::schema_for!(apps::v1::ReplicaSet),
            schemars::schema_for!(coordination::v1::Lease),
        ];
        let mut compared = 0;
        for schema in schemas {
            let schema = schema.to_value();
            for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
                let Some(fields) = TABLE.get(name) else { continue };
                let Some(properties) = definition["properties"].as_object() else { continue };
                for field in fields {
                    let path = format!("{name}.{}", field.name);
                    let known =
                        properties.contains_key(&field.name) || DROPPED_SINCE.contains(&path.as_str());
                    assert!(known, "{path}");
                    compared += 1;
                }
            }
            assert!(schema["properties"].as_object().is_some_and(|p| p.contains_key("metadata")));
        }
        assert!(compared > 300, "only {compared} fields compared");
    }

    #[test]
    fn types_print_as_go_prints_them() {
        let cases = [
            ("[]io.k8s.api.core.v1.Container", "[]v1.Container"),
            ("*int32", "int32"),
            ("map[string]string", "map[string]string"),
            ("*io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector", "v1.LabelSelector"),
        ];
        for (table, go) in cases {
            assert_eq!(GoType::parse(table).go_name(), go);
        }
    }
}
