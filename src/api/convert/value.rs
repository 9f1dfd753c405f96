//! Plain values: Struct and JSON, times, int-or-string.
//!
//! JSON integers travel as doubles in a Struct and are written back as integers. A double holds integers up to 2^53; beyond,
//! what a client meant cannot be known, so that it is refused with the remedy.

use jiff::Timestamp;
use prost_types::value::Kind;
use prost_types::{Struct, Value as Wide};
use serde_json::{Map, Number, Value};

use super::{Faults, Wire};
use crate::crd::{self, IntOrString};
use crate::pb::v1;
use crate::validate::Path;

/// The largest integer up to which a double holds every integer: 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A JSON object as a Struct; `None` for anything else.
#[must_use]
pub(in crate::api) fn json_to_struct(json: &Value) -> Option<Struct> {
    let fields = json.as_object()?.iter().map(|(key, value)| (key.clone(), widen(value)));
    Some(Struct { fields: fields.collect() })
}

/// A JSON value as a Value.
pub(super) fn widen(json: &Value) -> Wide {
    let kind = match json {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => {
            Kind::ListValue(prost_types::ListValue { values: items.iter().map(widen).collect() })
        }
        Value::Object(_) => Kind::StructValue(json_to_struct(json).unwrap_or_default()),
    };
    Wide { kind: Some(kind) }
}

/// A Struct as a JSON object.
pub(in crate::api) fn struct_to_json(wide: Struct, at: &Path, faults: &mut Faults) -> Value {
    let fields = wide.fields.into_iter().map(|(key, value)| {
        let at = at.field(key.clone());
        (key, narrow(value, &at, faults))
    });
    Value::Object(fields.collect::<Map<_, _>>())
}

/// A Value as JSON. A Value without a kind counts as null.
pub(super) fn narrow(wide: Wide, at: &Path, faults: &mut Faults) -> Value {
    match wide.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::NumberValue(number)) => narrow_number(number, at, faults),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => {
            let items = list.values.into_iter().enumerate();
            Value::Array(items.map(|(index, item)| narrow(item, &at.index(index), faults)).collect())
        }
        Some(Kind::StructValue(fields)) => struct_to_json(fields, at, faults),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a whole number within 2^53 fits an i64")]
fn narrow_number(number: f64, at: &Path, faults: &mut Faults) -> Value {
    if number.abs() > EXACT || !number.is_finite() {
        let remedy = "is beyond 2^53, where a Struct no longer holds every integer: send it by ApplyManifest";
        faults.note(at, format!("{number} {remedy}"));
        return Number::from_f64(number).map_or(Value::Null, Value::Number);
    }
    if number.fract() == 0.0 {
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// A time as a message.
#[must_use]
pub(in crate::api) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    // jiff's fraction has the sign of the whole; protobuf's counts forward from the second before.
    let nanos = time.subsec_nanosecond();
    let (seconds, nanos) =
        if nanos < 0 { (time.as_second() - 1, nanos + 1_000_000_000) } else { (time.as_second(), nanos) };
    prost_types::Timestamp { seconds, nanos }
}

impl Wire for prost_types::Timestamp {
    type Stored = crd::Time;

    fn show(stored: &crd::Time) -> Self {
        timestamp(stored.instant())
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::Time {
        let valid = (0..1_000_000_000).contains(&self.nanos);
        let time = Timestamp::new(self.seconds, self.nanos).ok().filter(|_| valid).unwrap_or_else(|| {
            faults.note(at, "is not a time between the years 1 and 9999");
            Timestamp::UNIX_EPOCH
        });
        time.into()
    }
}

impl Wire for v1::IntOrString {
    type Stored = IntOrString;

    fn show(stored: &IntOrString) -> Self {
        let value = match stored {
            IntOrString::Int(count) => v1::int_or_string::Value::IntValue(*count),
            IntOrString::String(text) => v1::int_or_string::Value::StringValue(text.clone()),
        };
        Self { value: Some(value) }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> IntOrString {
        match self.value {
            Some(v1::int_or_string::Value::IntValue(count)) => IntOrString::Int(count),
            Some(v1::int_or_string::Value::StringValue(text)) => IntOrString::String(text),
            None => {
                faults.note(at, "must have one of int_value and string_value");
                IntOrString::Int(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn back(json: &Value) -> (Value, Vec<crate::api::convert::Fault>) {
        let mut faults = Faults::default();
        let back = narrow(widen(json), &Path::root("template"), &mut faults);
        (back, faults.beyond(&Faults::default()))
    }

    #[test]
    fn integers_come_back_as_integers_and_fractions_as_fractions() {
        for json in [json!(0), json!(-7), json!(1.5), json!(9_007_199_254_740_992_i64), json!(-0.25)] {
            let (back, faults) = back(&json);
            assert_eq!((back.to_string(), faults.len()), (json.to_string(), 0));
        }
        assert_eq!(back(&json!(1.0)).0.to_string(), "1");
    }

    #[test]
    fn a_number_beyond_two_to_the_53_is_refused_with_the_remedy() {
        let (_, faults) = back(&json!({ "spec": { "containers": [{ "port": 9_007_199_254_740_994_i64 }] } }));
        assert_eq!(faults[0].field, "template.spec.containers[0].port");
        assert!(faults[0].description.contains("ApplyManifest"), "{}", faults[0].description);
        let (_, faults) = back(&json!(-1e300));
        assert_eq!(faults.len(), 1);
    }

    #[test]
    fn times_before_1970_count_forward_from_their_second() {
        let time = Timestamp::from_nanosecond(-1).unwrap();
        assert_eq!(timestamp(time), prost_types::Timestamp { seconds: -1, nanos: 999_999_999 });
        let mut faults = Faults::default();
        let stored =
            prost_types::Timestamp { seconds: 5, nanos: 0 }.store(&Path::root("restart_time"), &mut faults);
        assert_eq!(stored.instant().as_second(), 5);
        prost_types::Timestamp { seconds: i64::MAX, nanos: 0 }.store(&Path::root("a"), &mut faults);
        prost_types::Timestamp { seconds: 5, nanos: -1 }.store(&Path::root("b"), &mut faults);
        assert_eq!(faults.beyond(&Faults::default()).len(), 2);
    }
}
