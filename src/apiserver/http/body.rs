//! Bodies: JSON and YAML, with the fields that occur twice.

use serde_json::Value;

use super::Request;
use crate::apiserver::go_types::decode_protobuf;
use crate::apiserver::status::ApiError;
use crate::json::{self, Json};

/// Largest body of a request: etcd's limit of 3 MiB, as kube-apiserver takes it.
pub(crate) const BODY_MAX: usize = 3 * 1024 * 1024;

/// Parses the body of a create or update as an object of `kind` (for messages).
pub(crate) fn parse(request: &Request, kind: &str) -> Result<Json, ApiError> {
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
        "" | "application/json" => json::read(bytes).map_err(|error| {
            let why = go_syntax_error(&error);
            unrecognized(format!("couldn't get version/kind; json parse error: {why} ({})", excerpt(bytes)))
        })?,
        "application/yaml" => yaml(bytes).map_err(|error| {
            let first = error.lines().next().unwrap_or_default().to_owned();
            unrecognized(format!("yaml: {first} ({})", excerpt(bytes)))
        })?,
        "application/vnd.kubernetes.protobuf" => {
            let value = decode_protobuf(bytes).map_err(|error| unrecognized(error.to_string()))?;
            Json { value, duplicates: Vec::new() }
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

fn yaml(bytes: &[u8]) -> Result<Json, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    Ok(Json { value, duplicates: Vec::new() })
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
}
