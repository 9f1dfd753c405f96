//! Bodies: JSON and YAML, with the fields that occur twice.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Request;
use crate::apiserver::go_types::decode_protobuf;
use crate::apiserver::status::ApiError;

/// Largest body of a request: etcd's limit of 3 MiB, as kube-apiserver takes it.
pub(crate) const BODY_MAX: usize = 3 * 1024 * 1024;

/// Deepest nesting that is read; beyond it a body is malformed.
const DEPTH_MAX: usize = 128;

/// A body as JSON.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) value: Value,
    /// Paths of the fields that occur more than once; the last one counts.
    pub(crate) duplicates: Vec<String>,
}

/// Parses the body of a create or update as an object of `kind` (for messages).
pub(crate) fn parse(request: &Request, kind: &str) -> Result<Body, ApiError> {
    let unrecognized = |why: String| {
        ApiError::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {why}"))
    };
    let excerpt = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let short: String = text.chars().take(30).collect();
        match text.len() {
            0 => "<empty>".to_owned(),
            1..=30 => short,
            _ => format!("{short} ..."),
        }
    };
    let bytes = &request.body;
    let body = match request.content_type() {
        "" | "application/json" => json(bytes).map_err(|error| {
            let why = go_syntax_error(&error);
            unrecognized(format!("couldn't get version/kind; json parse error: {why} ({})", excerpt(bytes)))
        })?,
        "application/yaml" => yaml(bytes).map_err(|error| {
            let first = error.lines().next().unwrap_or_default().to_owned();
            unrecognized(format!("yaml: {first} ({})", excerpt(bytes)))
        })?,
        "application/vnd.kubernetes.protobuf" => {
            let value = decode_protobuf(bytes).map_err(|error| unrecognized(error.to_string()))?;
            Body { value, duplicates: Vec::new() }
        }
        _ => {
            return Err(ApiError::UnsupportedMediaType(
                "the body of the request was in an unknown format - accepted media types include: application/json, \
                 application/yaml, application/vnd.kubernetes.protobuf"
                    .to_owned(),
            ));
        }
    };
    if !body.value.is_object() {
        let found = type_name(&body.value);
        return Err(unrecognized(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go value of type struct \
             {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }} ({})",
            hex(bytes)
        )));
    }
    Ok(body)
}

/// A body that is not text is shown in hexadecimal digits, as the real server shows short ones.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(30).map(|byte| format!("{byte:02x}")).collect()
}

/// How Go's encoding/json names the type of a value.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The error in Go's words where they are common.
pub(crate) fn go_syntax_error(error: &serde_json::Error) -> String {
    if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() }
}

/// Parses JSON; a key that occurs twice is listed.
pub(crate) fn json(bytes: &[u8]) -> Result<Body, serde_json::Error> {
    let mut duplicates = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let node = Node { path: "", depth: 0, duplicates: &mut duplicates };
    let value = node.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(Body { value, duplicates })
}

fn yaml(bytes: &[u8]) -> Result<Body, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    Ok(Body { value, duplicates: Vec::new() })
}

/// A JSON value on its way in: knows its path, to name keys that repeat.
struct Node<'a> {
    path: &'a str,
    depth: usize,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.depth > DEPTH_MAX {
            return Err(serde::de::Error::custom("exceeded max depth"));
        }
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
            let node = Node { path: &path, depth: self.depth + 1, duplicates: self.duplicates };
            match items.next_element_seed(node)? {
                Some(item) => out.push(item),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let path = if self.path.is_empty() { name.clone() } else { format!("{}.{name}", self.path) };
            let node = Node { path: &path, depth: self.depth + 1, duplicates: self.duplicates };
            let value = members.next_value_seed(node)?;
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
    use bytes::Bytes;
    use http::Request as HttpRequest;
    use serde_json::json;

    fn request(content_type: &str, body: &str) -> Request {
        let (parts, ()) = HttpRequest::builder()
            .uri("/")
            .header("content-type", content_type)
            .body(())
            .unwrap()
            .into_parts();
        Request::new(&parts, Bytes::copy_from_slice(body.as_bytes()))
    }

    #[test]
    fn json_is_read_as_serde_json_reads_it_and_repeats_are_listed() {
        let text = r#"{"a": [1, -2, 3.5, true, null, "x"], "b": {"c": 1, "c": 2, "d": [{"e": 1, "e": 1}]}}"#;
        let body = json(text.as_bytes()).unwrap();
        assert_eq!(body.value, serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(body.duplicates, ["b.c", "b.d[0].e"]);
    }

    #[test]
    fn yaml_is_accepted() {
        let body =
            parse(&request("application/yaml; charset=utf-8", "a: {b: [1, x]}\nc: 2.5"), "Pod").unwrap();
        assert_eq!(body.value, json!({"a": {"b": [1, "x"]}, "c": 2.5}));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let cases = [
            (
                "application/json",
                "{",
                "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: unexpected end of JSON input ({)",
            ),
            (
                "",
                "[]",
                "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" } (5b5d)",
            ),
            ("text/plain", "{}", "the body of the request was in an unknown format"),
        ];
        for (content_type, text, message) in cases {
            let error = parse(&request(content_type, text), "Pod").unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn deep_nesting_is_malformed() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        assert!(json(deep.as_bytes()).is_err());
    }
}
