//! `IntOrString`: a count or a text such as a percentage, kept apart as on the wire.
//!
//! Depends on nothing of this package. [`scaled`](IntOrString::scaled) follows the rule that Argo Rollouts
//! applies to maxSurge and maxUnavailable (contract A3); pauses read durations from it (`step.rs`).

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An int32 or a string.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IntOrString {
    /// A JSON number.
    Int(i32),
    /// A JSON string, which may hold digits: `"25"` is not `25`.
    String(String),
}

/// Which way a fraction of a percentage goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the next greater integer (maxSurge).
    Up,
    /// To the next smaller integer (maxUnavailable).
    Down,
}

/// A string that is neither a number nor a percentage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a percentage")]
pub struct NotAPercentage(pub String);

impl IntOrString {
    /// The absolute number: an int as it is, a string as a percentage of `total`.
    ///
    /// The percent sign is optional, as Kubernetes' deprecated `GetValueFromIntOrPercent` has it, which
    /// the reference uses: the default `"25"` means 25 % (contract A3).
    ///
    /// # Errors
    ///
    /// [`NotAPercentage`] when a string holds no decimal integer.
    pub fn scaled(&self, total: i32, rounding: Rounding) -> Result<i32, NotAPercentage> {
        match self {
            Self::Int(count) => Ok(*count),
            Self::String(text) => {
                let percent: i32 = text.replace('%', "").parse().map_err(|_| NotAPercentage(text.clone()))?;
                let hundredths = i64::from(percent) * i64::from(total);
                let count = match rounding {
                    Rounding::Up => -(-hundredths).div_euclid(100),
                    Rounding::Down => hundredths.div_euclid(100),
                };
                Ok(i32::try_from(count).unwrap_or(if count > 0 { i32::MAX } else { i32::MIN }))
            }
        }
    }
}

impl From<i32> for IntOrString {
    fn from(count: i32) -> Self {
        Self::Int(count)
    }
}

impl From<&str> for IntOrString {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(count) => count.fmt(f),
            Self::String(text) => f.write_str(text),
        }
    }
}

impl Serialize for IntOrString {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Int(count) => serializer.serialize_i32(*count),
            Self::String(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for IntOrString {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntOrStringVisitor)
    }
}

/// By hand rather than `untagged`, whose error names neither the value nor what was expected.
struct IntOrStringVisitor;

impl Visitor<'_> for IntOrStringVisitor {
    type Value = IntOrString;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an int32 or a string")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        i32::try_from(value)
            .map(IntOrString::Int)
            .map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        i32::try_from(value)
            .map(IntOrString::Int)
            .map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(IntOrString::String(value.to_owned()))
    }
}

impl JsonSchema for IntOrString {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "IntOrString".into()
    }

    /// As Kubernetes spells it in structural schemas.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "x-kubernetes-int-or-string": true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_string_is_a_percentage_with_or_without_its_sign() {
        let cases = [
            (IntOrString::from(3), 10, 3, 3),
            (IntOrString::from("25"), 10, 3, 2),
            (IntOrString::from("25%"), 10, 3, 2),
            (IntOrString::from("0%"), 10, 0, 0),
            (IntOrString::from("100%"), 7, 7, 7),
            (IntOrString::from("150%"), 3, 5, 4),
            (IntOrString::from("-50%"), 3, -1, -2),
            (IntOrString::from("+50%"), 3, 2, 1),
            (IntOrString::from("33%"), 0, 0, 0),
            (IntOrString::from("2147483647%"), i32::MAX, i32::MAX, i32::MAX),
        ];
        for (value, total, up, down) in cases {
            assert_eq!(value.scaled(total, Rounding::Up), Ok(up), "{value} of {total}, up");
            assert_eq!(value.scaled(total, Rounding::Down), Ok(down), "{value} of {total}, down");
        }
    }

    #[test]
    fn a_string_without_a_number_is_an_error() {
        for text in ["", "%", "half", "1.5%", " 5%", "0x5%"] {
            let value = IntOrString::from(text);
            assert_eq!(value.scaled(10, Rounding::Up), Err(NotAPercentage(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_number_and_a_string_of_digits_stay_apart() {
        for value in [json!(25), json!("25"), json!(-1), json!(""), json!("25%")] {
            let decoded: IntOrString = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(serde_json::to_value(decoded).unwrap(), value);
        }
    }

    #[test]
    fn what_is_neither_is_refused_with_its_value() {
        for (value, text) in
            [(json!(1.5), "1.5"), (json!(true), "true"), (json!(3_000_000_000_u64), "3000000000")]
        {
            let error = serde_json::from_value::<IntOrString>(value).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("an int32 or a string"), "{error}");
        }
    }
}
