//! From a JSON value to the JSON that Go would write after reading it into a struct.
//!
//! Depends on the type table (`go_types`) and Go's way of writing (`go_json`). One walk gives the text,
//! the fields that Go's struct does not have, and the values that it could not hold.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::HashError;
use super::field_path::{FieldPath, PathElement};
use super::go_json::{Keys, number, push_list, push_string, push_value};
use super::go_types::{GoField, GoType, GoTypes, Omit};
use super::quantity::Quantity;

/// What one walk over a value gives.
pub(super) struct Encoded<'a> {
    /// Go's JSON. Values that cannot be held are left at zero.
    pub(super) json: String,
    /// Fields that the struct does not have, except nulls.
    pub(super) unknown: Vec<(FieldPath, &'a Value)>,
    /// Values that the struct cannot hold.
    pub(super) malformed: Vec<HashError>,
}

/// Reads `value` as `go_type` and writes it as Go does.
pub(super) fn encode<'a>(go_type: &GoType, value: &'a Value) -> Encoded<'a> {
    let encoded = Encoded { json: String::new(), unknown: Vec::new(), malformed: Vec::new() };
    let mut encoder = Encoder { encoded, path: FieldPath::default() };
    encoder.value(go_type, value);
    encoder.encoded
}

struct Encoder<'a> {
    encoded: Encoded<'a>,
    path: FieldPath,
}

impl<'a> Encoder<'a> {
    fn value(&mut self, go_type: &GoType, value: &'a Value) {
        match (go_type, value) {
            (
                GoType::Pointer(_) | GoType::Slice(_) | GoType::Map(_) | GoType::Time | GoType::Raw,
                Value::Null,
            ) => {
                self.push("null");
            }
            (GoType::Pointer(target), value) => self.value(target, value),
            (GoType::Slice(element), Value::Array(items)) => self.slice(element, items),
            (GoType::Slice(_), _) => self.malformed(value, "a list", "null"),
            (GoType::Map(element), Value::Object(map)) => self.map(element, map),
            (GoType::Map(_), _) => self.malformed(value, "a map", "null"),
            (GoType::Struct(index), Value::Object(map)) => self.structure(*index, Some(map)),
            (GoType::Struct(index), value) => {
                if !value.is_null() {
                    self.malformed(value, "an object", "");
                }
                self.structure(*index, None);
            }
            (GoType::Raw, value) => push_value(&mut self.encoded.json, value, Keys::AsGiven),
            (scalar, value) => match scalar_json(scalar, value) {
                Some(text) => self.push(&text),
                None => self.malformed(value, expected(scalar), "null"),
            },
        }
    }

    fn structure(&mut self, index: usize, map: Option<&'a Map<String, Value>>) {
        static ABSENT: Value = Value::Null;
        let structure = GoTypes::get().structure(index);
        self.push("{");
        let mut first = true;
        for field in &structure.fields {
            let value = map.and_then(|map| map.get(&field.name)).unwrap_or(&ABSENT);
            if is_omitted(field, value) {
                continue;
            }
            if !std::mem::take(&mut first) {
                self.push(",");
            }
            push_string(&mut self.encoded.json, &field.name);
            self.push(":");
            self.below(PathElement::Field(field.name.clone()), |this| this.value(&field.go_type, value));
        }
        self.push("}");
        for (name, value) in map.into_iter().flatten() {
            if !value.is_null() && structure.field(name).is_none() {
                self.below(PathElement::Field(name.clone()), |this| {
                    this.encoded.unknown.push((this.path.clone(), value));
                });
            }
        }
    }

    fn slice(&mut self, element: &GoType, items: &'a [Value]) {
        self.push("[");
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.push(",");
            }
            self.below(PathElement::Index(index), |this| this.value(element, item));
        }
        self.push("]");
    }

    fn map(&mut self, element: &GoType, map: &'a Map<String, Value>) {
        let mut entries: Vec<_> = map.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        self.push("{");
        for (position, (key, value)) in entries.into_iter().enumerate() {
            if position > 0 {
                self.push(",");
            }
            push_string(&mut self.encoded.json, key);
            self.push(":");
            self.below(PathElement::Key(key.clone()), |this| this.value(element, value));
        }
        self.push("}");
    }

    fn below(&mut self, element: PathElement, walk: impl FnOnce(&mut Self)) {
        self.path.push(element);
        walk(self);
        self.path.pop();
    }

    fn push(&mut self, text: &str) {
        self.encoded.json.push_str(text);
    }

    fn malformed(&mut self, value: &Value, expected: &'static str, instead: &str) {
        let error = HashError { path: self.path.clone(), value: value.to_string(), expected };
        self.encoded.malformed.push(error);
        self.push(instead);
    }
}

/// Whether Go leaves the field out.
fn is_omitted(field: &GoField, value: &Value) -> bool {
    match (field.omit, &field.go_type) {
        (Omit::Never, _) => false,
        (Omit::EmptyOrZero, GoType::Time) => {
            scalar_json(&GoType::Time, value).is_some_and(|text| text == "null")
        }
        (Omit::Empty | Omit::EmptyOrZero, go_type) => go_type.is_empty(value),
    }
}

/// The JSON of a type without parts; `None` when it cannot hold the value.
fn scalar_json(go_type: &GoType, value: &Value) -> Option<String> {
    let integer = |value: &Value| value.as_i64();
    let string = |text: &str| {
        let mut out = String::new();
        push_string(&mut out, text);
        out
    };
    match (go_type, value) {
        (GoType::String, Value::Null) => Some("\"\"".to_owned()),
        (GoType::String | GoType::IntOrString, Value::String(text)) => Some(string(text)),
        (GoType::Bool, Value::Null) => Some("false".to_owned()),
        (GoType::Bool, Value::Bool(truth)) => Some(truth.to_string()),
        (GoType::Int32 | GoType::Int64 | GoType::IntOrString, Value::Null) => Some("0".to_owned()),
        (GoType::Int64, value) => integer(value).map(|number| number.to_string()),
        (GoType::Int32 | GoType::IntOrString, value) => {
            integer(value).filter(|number| i32::try_from(*number).is_ok()).map(|number| number.to_string())
        }
        (GoType::Time, Value::Null) => Some("null".to_owned()),
        (GoType::Time, Value::String(text)) => time_json(text),
        (GoType::Quantity, Value::Null) => Some("\"0\"".to_owned()),
        (GoType::Quantity, value) => Quantity::from_json(value).map(|quantity| string(&quantity.to_string())),
        _ => None,
    }
}

/// A metav1.Time: whole seconds in UTC; Go's zero time is null.
fn time_json(text: &str) -> Option<String> {
    /// 0001-01-01T00:00:00Z.
    const GO_ZERO_SECONDS: i64 = -62_135_596_800;
    let instant: Timestamp = text.parse().ok()?;
    let seconds = instant.as_nanosecond().div_euclid(1_000_000_000);
    let whole = Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
    Some(if instant.as_nanosecond() == i128::from(GO_ZERO_SECONDS) * 1_000_000_000 {
        "null".to_owned()
    } else {
        format!("\"{whole}\"")
    })
}

fn expected(go_type: &GoType) -> &'static str {
    match go_type {
        GoType::String => "a string",
        GoType::Bool => "true or false",
        GoType::Int32 => "a 32-bit integer",
        GoType::Int64 => "a 64-bit integer",
        GoType::Time => "an RFC 3339 time",
        GoType::Quantity => "a quantity such as 100m or 1Gi",
        GoType::IntOrString => "a 32-bit integer or a string",
        GoType::Pointer(_) | GoType::Slice(_) | GoType::Map(_) | GoType::Struct(_) | GoType::Raw => {
            "a value of its type"
        }
    }
}

/// Appends the unknown fields in an order and a form that do not depend on how they were written.
pub(super) fn push_unknown(out: &mut String, unknown: &[(FieldPath, &Value)]) {
    let mut lines: Vec<_> = unknown.iter().map(|(path, value)| (path.to_string(), value)).collect();
    lines.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
    push_list(out, ['{', '}'], lines, |out, (path, value)| {
        push_string(out, &path);
        out.push(':');
        push_value(out, value, Keys::Sorted);
    });
}

impl Quantity {
    /// A quantity as it stands in JSON: a string, or a number. `None` when it is neither or malformed.
    #[must_use]
    pub fn from_json(value: &Value) -> Option<Self> {
        match value {
            // Kubernetes trims the raw text, in which a control character is an escape and no space.
            Value::String(text) => {
                text.trim_matches(|c: char| c.is_whitespace() && !c.is_ascii_control()).parse().ok()
            }
            Value::Number(value) => number(value).parse().ok(),
            _ => None,
        }
    }
}
