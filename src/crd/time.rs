//! `Time`: an instant as Kubernetes' metav1.Time writes it, RFC 3339 in UTC with whole seconds.
//!
//! Depends on jiff only. A time that was read in another spelling (a zone, a fraction of a second) is
//! written back in that spelling, so that an object we did not change does not change.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant. Two times are equal when they are the same instant, whatever their spelling.
#[derive(Clone, Debug)]
pub struct Time {
    instant: Timestamp,
    /// How it was written, where that is not how we would write it.
    spelling: Option<Box<str>>,
}

impl Time {
    /// The instant; a fraction of a second is kept when it was read.
    #[must_use]
    pub fn instant(&self) -> Timestamp {
        self.instant
    }
}

impl From<Timestamp> for Time {
    /// Truncated to whole seconds, which is all that Kubernetes' times hold.
    fn from(instant: Timestamp) -> Self {
        let second = instant.as_nanosecond().div_euclid(1_000_000_000);
        let whole = i64::try_from(second).ok().and_then(|second| Timestamp::from_second(second).ok());
        Self { instant: whole.unwrap_or(instant), spelling: None }
    }
}

impl From<Time> for Timestamp {
    fn from(time: Time) -> Self {
        time.instant
    }
}

impl PartialEq for Time {
    fn eq(&self, other: &Self) -> bool {
        self.instant == other.instant
    }
}

impl Eq for Time {}

impl PartialOrd for Time {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Time {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.instant.cmp(&other.instant)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.spelling {
            Some(spelling) => f.write_str(spelling),
            None => self.instant.fmt(f),
        }
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let instant: Timestamp = text
            .parse()
            .map_err(|_| serde::de::Error::custom(format_args!("{text:?} is not an RFC 3339 time")))?;
        let spelling = (instant.to_string() != text).then(|| text.into_boxed_str());
        Ok(Self { instant, spelling })
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json, to_value};

    #[test]
    fn a_time_is_written_as_it_was_read() {
        for text in [
            "2026-11-21T05:37:43Z",
            "2026-11-21T05:37:43.123456789Z",
            "2026-11-21T05:37:43.100Z",
            "2026-11-21T07:37:43+02:00",
            "1969-12-31T23:59:59Z",
            "0001-01-01T00:00:00Z",
        ] {
            let time: Time = from_value(json!(text)).unwrap();
            assert_eq!(to_value(time).unwrap(), Value::from(text));
        }
    }

    #[test]
    fn a_time_of_ours_has_whole_seconds() {
        for (nanos, text) in [(1_999_999_999, "1970-01-01T00:00:01Z"), (-1, "1969-12-31T23:59:59Z")] {
            let time = Time::from(Timestamp::from_nanosecond(nanos).unwrap());
            assert_eq!(time.to_string(), text);
        }
    }

    #[test]
    fn the_same_instant_is_equal_in_any_spelling() {
        let zulu: Time = from_value(json!("2026-11-21T05:37:43Z")).unwrap();
        let zoned: Time = from_value(json!("2026-11-21T07:37:43+02:00")).unwrap();
        assert_eq!(zulu, zoned);
    }

    #[test]
    fn what_is_no_time_is_refused_with_its_text() {
        for text in ["", "yesterday", "2026-11-21", "2026-11-21T05:37:43", "2026-13-21T05:37:43Z"] {
            let error = from_value::<Time>(json!(text)).unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
