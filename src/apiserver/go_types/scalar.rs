//! Scalars: what JSON a Go scalar accepts, and how it is written back.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::Scalar;
use crate::apiserver::field::quoted;
use crate::apiserver::object;
use crate::apiserver::quantity::{self, Quantity};

/// Why a value does not decode.
pub(super) enum Wrong<'v> {
    /// The JSON type is not the one; the caller knows the field.
    Type(&'v Value),
    /// The text is not of the format; the real server's words.
    Text(String),
}

/// Decodes a scalar; a missing or null value is Go's zero value.
pub(super) fn decode(kind: Scalar, value: Option<&Value>) -> Result<Value, Wrong<'_>> {
    let Some(value) = value else { return Ok(zero(kind)) };
    match (kind, value) {
        (Scalar::Any, _)
        | (Scalar::String | Scalar::IntOrString, Value::String(_))
        | (Scalar::Bool, Value::Bool(_))
        | (Scalar::Float64, Value::Number(_)) => Ok(value.clone()),
        (Scalar::Int32, Value::Number(_)) => match value.as_i64().and_then(|n| i32::try_from(n).ok()) {
            Some(number) => Ok(json!(number)),
            None => Err(Wrong::Type(value)),
        },
        (Scalar::Int64, Value::Number(number)) if number.as_i64().is_some() => Ok(value.clone()),
        (Scalar::IntOrString, value) => decode(Scalar::Int32, Some(value)),
        (Scalar::Bytes, Value::String(_)) => bytes(value),
        (Scalar::Quantity, value) => quantity(value),
        (Scalar::Time, Value::String(text)) => time(text),
        (Scalar::MicroTime, Value::String(text)) => micro_time(text),
        (_, value) => Err(Wrong::Type(value)),
    }
}

fn zero(kind: Scalar) -> Value {
    match kind {
        Scalar::String => json!(""),
        Scalar::Bool => json!(false),
        Scalar::Int32 | Scalar::Int64 | Scalar::Float64 | Scalar::IntOrString => json!(0),
        Scalar::Quantity => json!("0"),
        Scalar::Bytes | Scalar::Time | Scalar::MicroTime | Scalar::Any | Scalar::SchemaUnion => Value::Null,
    }
}

fn bytes(value: &Value) -> Result<Value, Wrong<'_>> {
    match serde_json::from_value::<ByteString>(value.clone()) {
        Ok(bytes) => Ok(json!(bytes)),
        Err(_) => Err(Wrong::Text("illegal base64 data at input byte 0".to_owned())),
    }
}

fn quantity(value: &Value) -> Result<Value, Wrong<'_>> {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match Quantity::parse(&text) {
        Some(quantity) => Ok(json!(quantity.canonical())),
        None => Err(Wrong::Text(quantity::MALFORMED.to_owned())),
    }
}

fn time(text: &str) -> Result<Value, Wrong<'_>> {
    let moment: Timestamp =
        text.parse().map_err(|_| Wrong::Text(unparsed(text, "2006-01-02T15:04:05Z07:00", text, "2006")))?;
    Ok(json!(object::time(moment)))
}

/// `metav1.MicroTime` reads exactly six digits of fraction.
fn micro_time(text: &str) -> Result<Value, Wrong<'_>> {
    const LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";
    let moment: Timestamp = text.parse().map_err(|_| Wrong::Text(unparsed(text, LAYOUT, text, "2006")))?;
    let seconds_end = "2006-01-02T15:04:05".len();
    let fraction = text.get(seconds_end..).unwrap_or_default();
    let digits = fraction.strip_prefix('.').map_or(0, |f| f.bytes().take_while(u8::is_ascii_digit).count());
    if digits != 6 {
        return Err(Wrong::Text(unparsed(text, LAYOUT, fraction, ".000000")));
    }
    Ok(json!(object::micro_time(moment)))
}

fn unparsed(text: &str, layout: &str, rest: &str, element: &str) -> String {
    format!(
        "parsing time {} as {}: cannot parse {} as {}",
        quoted(text),
        quoted(layout),
        quoted(rest),
        quoted(element)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(wrong: Wrong<'_>) -> String {
        match wrong {
            Wrong::Type(value) => format!("type {value}"),
            Wrong::Text(text) => text,
        }
    }

    #[test]
    fn scalars_are_normalised() {
        let cases = [
            (Scalar::Time, json!("2024-01-01T02:00:00.7+02:00"), json!("2024-01-01T00:00:00Z")),
            (Scalar::MicroTime, json!("2024-01-01T00:00:00.123456Z"), json!("2024-01-01T00:00:00.123456Z")),
            (Scalar::Quantity, json!(1000), json!("1k")),
            (Scalar::IntOrString, json!("25%"), json!("25%")),
            (Scalar::IntOrString, json!(25), json!(25)),
            (Scalar::Bytes, json!("Yg=="), json!("Yg==")),
        ];
        for (kind, value, expected) in cases {
            let decoded = decode(kind, Some(&value)).unwrap_or_else(|w| panic!("{}", text_of(w)));
            assert_eq!(decoded, expected);
        }
    }

    #[test]
    fn malformed_scalars_are_refused() {
        let cases = [
            (Scalar::Int32, json!(99_999_999_999_i64), "type 99999999999"),
            (Scalar::Bytes, json!("!!"), "illegal base64 data at input byte 0"),
            (Scalar::Quantity, json!(true), quantity::MALFORMED),
            (
                Scalar::MicroTime,
                json!("2024-01-01T00:00:00.5Z"),
                "parsing time \"2024-01-01T00:00:00.5Z\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \".5Z\" as \".000000\"",
            ),
            (Scalar::Bool, json!("true"), "type \"true\""),
        ];
        for (kind, value, message) in cases {
            match decode(kind, Some(&value)) {
                Ok(value) => panic!("{value}"),
                Err(wrong) => assert_eq!(text_of(wrong), message),
            }
        }
    }
}
