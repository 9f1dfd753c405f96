//! JSON as messages: google.protobuf.Struct and Value.
//!
//! JSON integers travel as doubles in a Struct and are written back as integers. A double holds integers up to 2^53; beyond,
//! what a sender meant cannot be known, so that whoever reads is told where that is.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as Wide};
use serde_json::{Map, Number, Value};

/// The largest integer up to which a double holds every integer: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A number of which it cannot be known what was meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Beyond {
    /// Where it is, from the outside.
    pub at: Vec<Part>,
    /// What came.
    pub number: f64,
}

/// A part of a way into JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A field of an object.
    Field(String),
    /// An item of a list, 0-based.
    Index(usize),
}

/// A JSON object as a Struct; `None` for anything else.
#[must_use]
pub fn json_to_struct(json: &Value) -> Option<Struct> {
    let fields = json.as_object()?.iter().map(|(key, value)| (key.clone(), json_to_value(value)));
    Some(Struct { fields: fields.collect() })
}

/// A JSON value as a Value.
#[must_use]
pub fn json_to_value(json: &Value) -> Wide {
    let kind = match json {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.iter().map(json_to_value).collect() })
        }
        Value::Object(_) => Kind::StructValue(json_to_struct(json).unwrap_or_default()),
    };
    Wide { kind: Some(kind) }
}

/// A Struct as a JSON object, and the numbers in it that are not certain.
#[must_use]
pub fn struct_to_json(wide: Struct) -> (Value, Vec<Beyond>) {
    value_to_json(Wide { kind: Some(Kind::StructValue(wide)) })
}

/// A Value as JSON, and the numbers in it that are not certain. A Value without a kind counts as null.
#[must_use]
pub fn value_to_json(wide: Wide) -> (Value, Vec<Beyond>) {
    let mut reader = Reader::default();
    (reader.value(wide), reader.beyond)
}

#[derive(Default)]
struct Reader {
    /// Where it is.
    at: Vec<Part>,
    beyond: Vec<Beyond>,
}

impl Reader {
    fn value(&mut self, wide: Wide) -> Value {
        match wide.kind {
            None | Some(Kind::NullValue(_)) => Value::Null,
            Some(Kind::BoolValue(flag)) => Value::Bool(flag),
            Some(Kind::NumberValue(number)) => self.number(number),
            Some(Kind::StringValue(text)) => Value::String(text),
            Some(Kind::ListValue(list)) => {
                let items = list.values.into_iter().enumerate();
                Value::Array(items.map(|(index, item)| self.within(Part::Index(index), item)).collect())
            }
            Some(Kind::StructValue(wide)) => {
                let fields = wide.fields.into_iter();
                let fields = fields.map(|(key, value)| (key.clone(), self.within(Part::Field(key), value)));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }

    fn within(&mut self, part: Part, wide: Wide) -> Value {
        self.at.push(part);
        let value = self.value(wide);
        self.at.pop();
        value
    }

    #[expect(clippy::cast_possible_truncation, reason = "a whole number within 2^53 fits an i64")]
    fn number(&mut self, number: f64) -> Value {
        let is_certain = number.abs() <= EXACT && number.is_finite();
        if !is_certain {
            self.beyond.push(Beyond { at: self.at.clone(), number });
        } else if number.fract() == 0.0 {
            return Value::from(number as i64);
        }
        Number::from_f64(number).map_or(Value::Null, Value::Number)
    }
}
