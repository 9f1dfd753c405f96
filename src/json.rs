//! JSON, with the names that stand more than once in one object: `serde_json` takes the last one and is silent about it, where
//! kube-apiserver and kubectl tell of them.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// A JSON value, and what it holds twice.
#[derive(Debug)]
pub struct Json {
    /// The value.
    pub value: Value,
    /// Paths of the fields that occur more than once, such as `spec.containers[0].image`; the last one counts.
    pub duplicates: Vec<String>,
}

/// Reads one value, with nothing but white space behind it.
///
/// # Errors
/// What is not JSON, or is nested more than 127 levels deep.
pub fn read(bytes: &[u8]) -> Result<Json, serde_json::Error> {
    serde_json::from_slice(bytes)
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut duplicates = Vec::new();
        let value = Node { path: "", duplicates: &mut duplicates }.deserialize(deserializer)?;
        Ok(Self { value, duplicates })
    }
}

/// A value on its way in: knows its path, to name keys that repeat.
struct Node<'a> {
    path: &'a str,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, out.len());
            match items.next_element_seed(Node { path: &path, duplicates: self.duplicates })? {
                Some(item) => out.push(item),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let path = if self.path.is_empty() { name.clone() } else { format!("{}.{name}", self.path) };
            let value = members.next_value_seed(Node { path: &path, duplicates: self.duplicates })?;
            if out.insert(name, value).is_some() && !self.duplicates.contains(&path) {
                self.duplicates.push(path);
            }
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_as_serde_json_reads_it_and_repeats_are_listed() {
        let text = r#"{"a": [1, -2, 3.5, true, null, "x"], "b": {"c": 1, "c": 2, "d": [{"e": 1, "e": 1}]}}"#;
        let json = read(text.as_bytes()).unwrap();
        assert_eq!(json.value, serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(json.duplicates, ["b.c", "b.d[0].e"]);
    }

    #[test]
    fn deep_nesting_and_more_than_one_value_are_malformed() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(nested(127).as_bytes()).is_ok());
        assert!(read(nested(500).as_bytes()).is_err());
        assert!(read(b"{} {}").is_err());
    }
}
