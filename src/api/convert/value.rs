//! Plain values: Struct and JSON, times, int-or-string.
//!
//! Numbers of a Struct that are beyond 2^53 (see [`wide`]) are refused with the remedy.

use jiff::Timestamp;
use prost_types::{Struct, Value as Wide};
use serde_json::Value;

use super::{Faults, Wire};
use crate::crd::{self, IntOrString};
use crate::pb::v1;
pub(in crate::api) use crate::pb::wide::json_to_struct;
pub(super) use crate::pb::wide::json_to_value as widen;
use crate::pb::wide::{self, Beyond, Part};
use crate::validate::Path;

/// A Struct as a JSON object.
pub(in crate::api) fn struct_to_json(wide: Struct, at: &Path, faults: &mut Faults) -> Value {
    noted(wide::struct_to_json(wide), at, faults)
}

/// A Value as JSON. A Value without a kind counts as null.
pub(super) fn narrow(wide: Wide, at: &Path, faults: &mut Faults) -> Value {
    noted(wide::value_to_json(wide), at, faults)
}

fn noted((json, beyond): (Value, Vec<Beyond>), at: &Path, faults: &mut Faults) -> Value {
    for Beyond { at: within, number } in beyond {
        let at = within.into_iter().fold(at.clone(), |at, part| match part {
            Part::Field(field) => at.field(field),
            Part::Index(index) => at.index(index),
        });
        let remedy = "is beyond 2^53, where a Struct no longer holds every integer: send it by ApplyManifest";
        faults.note(&at, format!("{number} {remedy}"));
    }
    json
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
