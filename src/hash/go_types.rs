//! The Go types of pod templates and canary steps: their fields, in the order Go writes them.
//!
//! Depends on the table beside it, which was made from k8s.io/api v0.34 and Argo Rollouts v1.10.
//! `encode.rs` walks values along these types, and so do defaulting and comparison of pod templates.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

/// The table: fields by type name, in Go's order.
const TABLE: &str = include_str!("go_json_field_order.json");

/// A Go type, as far as its JSON form depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GoType {
    String,
    Bool,
    Int32,
    Int64,
    Time,
    Quantity,
    IntOrString,
    /// Raw JSON that passes through (`json.RawMessage`, `metav1.FieldsV1`).
    Raw,
    Pointer(Box<GoType>),
    Slice(Box<GoType>),
    /// A map with string keys.
    Map(Box<GoType>),
    /// Index into [`GoTypes`].
    Struct(usize),
}

impl GoType {
    /// Whether a value is empty in the sense of Go's `omitempty`: null, zero, or without elements. Structs
    /// never are.
    pub(crate) fn is_empty(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Struct(_) | Self::Time | Self::Quantity | Self::IntOrString, _) => false,
            (_, Value::Null) => true,
            (Self::Slice(_), Value::Array(items)) => items.is_empty(),
            (Self::Map(_), Value::Object(map)) => map.is_empty(),
            (Self::String, Value::String(text)) => text.is_empty(),
            (Self::Bool, Value::Bool(truth)) => !truth,
            (Self::Int32 | Self::Int64, Value::Number(number)) => number.as_i64() == Some(0),
            _ => false,
        }
    }
}

/// When a field is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Omit {
    Never,
    /// `omitempty`: when empty; structs never are.
    Empty,
    /// `omitempty,omitzero`: also a struct that is zero.
    EmptyOrZero,
}

/// A field of a struct.
#[derive(Clone, Debug)]
pub(crate) struct GoField {
    pub(crate) name: String,
    pub(crate) go_type: GoType,
    pub(crate) omit: Omit,
}

/// A struct, embedded ones unfolded in place.
#[derive(Clone, Debug)]
pub(crate) struct GoStruct {
    pub(crate) name: String,
    pub(crate) fields: Vec<GoField>,
}

impl GoStruct {
    pub(crate) fn field(&self, name: &str) -> Option<&GoField> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// All structs.
pub(crate) struct GoTypes(Vec<GoStruct>);

impl GoTypes {
    /// The one table.
    pub(crate) fn get() -> &'static Self {
        static TYPES: LazyLock<GoTypes> = LazyLock::new(|| {
            GoTypes::read(TABLE).expect("the table is part of the source, and a test reads it")
        });
        &TYPES
    }

    /// A struct that the table has.
    pub(crate) fn named(&self, name: &str) -> GoType {
        self.index(name)
            .map(GoType::Struct)
            .expect("only the root types are asked for, and a test reads them")
    }

    /// The struct behind [`GoType::Struct`].
    pub(crate) fn structure(&self, index: usize) -> &GoStruct {
        &self.0[index]
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|structure| structure.name == name)
    }

    fn read(table: &str) -> Result<Self, String> {
        let rows: BTreeMap<String, Vec<Row>> =
            serde_json::from_str(table).map_err(|error| error.to_string())?;
        let names: Vec<&str> = rows.keys().map(String::as_str).collect();
        let structs = rows.keys().map(|name| {
            let mut fields = Vec::new();
            unfold(&rows, &names, name, &mut fields)?;
            Ok(GoStruct { name: name.clone(), fields })
        });
        structs.collect::<Result<_, String>>().map(Self)
    }
}

/// One field, as the table has it.
#[derive(Deserialize)]
struct Row {
    json: String,
    #[serde(rename = "type")]
    go_type: String,
    omit: Option<String>,
    #[serde(default)]
    inline: bool,
}

/// Types that write their own JSON; the table has them as structs with a single row that says so.
const CUSTOM: [(&str, GoType); 4] = [
    ("Quantity", GoType::Quantity),
    ("Time", GoType::Time),
    ("IntOrString", GoType::IntOrString),
    ("FieldsV1", GoType::Raw),
];

fn unfold(
    rows: &BTreeMap<String, Vec<Row>>,
    names: &[&str],
    name: &str,
    fields: &mut Vec<GoField>,
) -> Result<(), String> {
    if CUSTOM.iter().any(|(custom, _)| *custom == name) {
        return Ok(());
    }
    let rows_here = rows.get(name).ok_or_else(|| format!("no type {name}"))?;
    for row in rows_here {
        if row.inline {
            unfold(rows, names, &row.go_type, fields)?;
            continue;
        }
        let omit = match row.omit.as_deref() {
            None => Omit::Never,
            Some("omitempty") => Omit::Empty,
            Some("omitempty,omitzero") => Omit::EmptyOrZero,
            Some(other) => return Err(format!("{name}.{}: {other}", row.json)),
        };
        let go_type = parse_type(names, &row.go_type).ok_or_else(|| format!("no type {}", row.go_type))?;
        fields.push(GoField { name: row.json.clone(), go_type, omit });
    }
    Ok(())
}

fn parse_type(names: &[&str], text: &str) -> Option<GoType> {
    let inner = |text: &str| parse_type(names, text).map(Box::new);
    if let Some(text) = text.strip_prefix('*') {
        return inner(text).map(GoType::Pointer);
    }
    if let Some(text) = text.strip_prefix("[]") {
        return inner(text).map(GoType::Slice);
    }
    if let Some(text) = text.strip_prefix("map[string]") {
        return inner(text).map(GoType::Map);
    }
    match text {
        "string" => Some(GoType::String),
        "bool" => Some(GoType::Bool),
        "int32" => Some(GoType::Int32),
        "int64" => Some(GoType::Int64),
        "bytes" => Some(GoType::Raw),
        name => CUSTOM
            .iter()
            .find(|(custom, _)| *custom == name)
            .map(|(_, go_type)| go_type.clone())
            .or_else(|| names.iter().position(|known| *known == name).map(GoType::Struct)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_read_and_has_the_roots() {
        let types = GoTypes::read(TABLE).unwrap();
        for root in ["PodTemplateSpec", "CanaryStep"] {
            assert!(types.index(root).is_some(), "{root}");
        }
    }

    #[test]
    fn embedded_structs_are_unfolded_in_place() {
        let types = GoTypes::get();
        let GoType::Struct(index) = types.named("EphemeralContainer") else { unreachable!() };
        let fields = &types.structure(index).fields;
        assert_eq!(fields.first().map(|field| field.name.as_str()), Some("name"));
        assert_eq!(fields.last().map(|field| field.name.as_str()), Some("targetContainerName"));
    }
}
