//! JSON, with the names that stand more than once in one object: `serde_json` takes the last one and is silent about it, where
//! kube-apiserver and kubectl tell of them.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::hash::{FieldPath, PathElement};

/// How many fields that occur twice are told, as kube-apiserver does.
const DUPLICATES_MAX: usize = 100;

/// How many characters of a field's name are told: a path must not take more memory than what was read.
const NAME_MAX: usize = 512;

/// A JSON value, and what it holds twice.
#[derive(Debug)]
pub struct Json {
    /// The value.
    pub value: Value,
    /// The fields that occur more than once, in the order in which they do so, 100 at most; the last one counts.
    pub duplicates: Vec<FieldPath>,
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
        let value = Node { place: &Place::Root, duplicates: &mut duplicates }.deserialize(deserializer)?;
        Ok(Self { value, duplicates })
    }
}

/// Where a value stands. What few values need, a path, is not made for each of them.
enum Place<'a> {
    Root,
    Field(&'a Place<'a>, &'a str),
    Index(&'a Place<'a>, usize),
}

impl Place<'_> {
    fn path(&self) -> FieldPath {
        let (mut path, element) = match self {
            Self::Root => return FieldPath::default(),
            Self::Field(above, field) => {
                (above.path(), PathElement::Field(field.chars().take(NAME_MAX).collect()))
            }
            Self::Index(above, index) => (above.path(), PathElement::Index(*index)),
        };
        path.push(element);
        path
    }
}

/// A value on its way in: knows its place, to name fields that repeat.
struct Node<'a> {
    place: &'a Place<'a>,
    duplicates: &'a mut Vec<FieldPath>,
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
            let place = Place::Index(self.place, out.len());
            match items.next_element_seed(Node { place: &place, duplicates: self.duplicates })? {
                Some(item) => out.push(item),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let place = Place::Field(self.place, &name);
            if out.contains_key(&name) && self.duplicates.len() < DUPLICATES_MAX {
                let path = place.path();
                if !self.duplicates.contains(&path) {
                    self.duplicates.push(path);
                }
            }
            let value = members.next_value_seed(Node { place: &place, duplicates: self.duplicates })?;
            out.insert(name, value);
        }
        Ok(Value::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(json: &Json) -> Vec<String> {
        json.duplicates.iter().map(FieldPath::to_string).collect()
    }

    #[test]
    fn json_is_read_as_serde_json_reads_it_and_repeats_are_listed() {
        let text = r#"{"a": [1, -2, 3.5, true, null, "x"], "b": {"c": 1, "c": 2, "d": [{"e": 1, "e": 1}]}}"#;
        let json = read(text.as_bytes()).unwrap();
        assert_eq!(json.value, serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(told(&json), ["b.c", "b.d[0].e"]);
    }

    #[test]
    fn repeats_are_listed_in_their_order_once_and_not_for_ever() {
        let json = read(br#"{"a": {"x": 1, "x": 2}, "a": {"x": 1, "x": 2, "x": 3}, "a": 1}"#).unwrap();
        assert_eq!(told(&json), ["a.x", "a"]);
        let json = read(br#"{"a": {"b": 1}, "a": {"c": 1, "c": 2}}"#).unwrap();
        assert_eq!(told(&json), ["a", "a.c"]);
        let many: Vec<String> = (0..500).map(|name| format!("\"{}\": 1", name / 2)).collect();
        assert_eq!(read(format!("{{{}}}", many.join(",")).as_bytes()).unwrap().duplicates.len(), 100);
    }

    #[test]
    fn deep_nesting_and_more_than_one_value_are_malformed() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(nested(127).as_bytes()).is_ok());
        assert!(read(nested(500).as_bytes()).is_err());
        assert!(read(b"{} {}").is_err());
    }
}
