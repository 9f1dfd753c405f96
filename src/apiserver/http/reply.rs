//! Answers: documents, texts and streams, and their headers.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;

use super::accept::Media;
use crate::apiserver::status::ApiError;
use crate::apiserver::stream::WatchBody;

/// Longest warning header; a longer text is cut, as kube-apiserver cuts it.
const WARNING_MAX: usize = 1024;

/// Body of an answer.
pub(crate) type AnswerBody = http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// An answer.
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) content: Content,
    /// Texts for the `Warning` headers.
    pub(crate) warnings: Vec<String>,
}

/// What an answer carries.
pub(crate) enum Content {
    /// A document; with a content type of its own for negotiated discovery.
    Document {
        value: Value,
        media: Media,
        content_type: Option<&'static str>,
    },
    Text(String),
    Watch(Box<WatchBody>),
}

impl Reply {
    pub(crate) fn document(value: Value, media: Media) -> Self {
        Self {
            code: 200,
            content: Content::Document { value, media, content_type: None },
            warnings: Vec::new(),
        }
    }

    pub(crate) fn json(value: Value) -> Self {
        Self::document(value, Media::Json)
    }

    pub(crate) fn text(text: &str) -> Self {
        Self { code: 200, content: Content::Text(text.to_owned()), warnings: Vec::new() }
    }

    pub(crate) fn watch(body: WatchBody) -> Self {
        Self { code: 200, content: Content::Watch(Box::new(body)), warnings: Vec::new() }
    }

    pub(crate) fn error(error: &ApiError) -> Self {
        let content = match error {
            ApiError::UnknownPath => Content::Text(format!("{error}\n")),
            error => Content::Document { value: error.to_status(), media: Media::Json, content_type: None },
        };
        Self { code: error.code(), content, warnings: Vec::new() }
    }

    pub(crate) fn with_code(self, code: u16) -> Self {
        Self { code, ..self }
    }

    pub(crate) fn with_content_type(self, name: &'static str) -> Self {
        let content = match self.content {
            Content::Document { value, media, .. } => {
                Content::Document { value, media, content_type: Some(name) }
            }
            other => other,
        };
        Self { content, ..self }
    }

    /// The HTTP response.
    pub(crate) fn into_response(self) -> Response<AnswerBody> {
        let retry_after = match &self.content {
            Content::Document { value, .. } if self.code >= 400 => {
                value.pointer("/details/retryAfterSeconds").and_then(Value::as_u64)
            }
            _ => None,
        };
        let (content_type, body) = match self.content {
            Content::Document { value, media, content_type } => {
                let (name, bytes) = encoded(&value, media);
                (content_type.unwrap_or(name), full(bytes))
            }
            Content::Text(text) => ("text/plain; charset=utf-8", full(text.into_bytes())),
            Content::Watch(body) => ("application/json", body.boxed_unsync()),
        };
        let mut response = Response::new(body);
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        *response.status_mut() = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        for warning in self.warnings {
            if let Ok(value) = HeaderValue::from_str(&warning_header(&warning)) {
                headers.append(HeaderName::from_static("warning"), value);
            }
        }
        response
    }
}

fn full(bytes: Vec<u8>) -> AnswerBody {
    Full::new(Bytes::from(bytes)).boxed_unsync()
}

fn encoded(value: &Value, media: Media) -> (&'static str, Vec<u8>) {
    if media == Media::Yaml
        && let Ok(text) = serde_saphyr::to_string(value)
    {
        return ("application/yaml", text.into_bytes());
    }
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    ("application/json", bytes)
}

/// RFC 7234: code 299, no agent, the text in quotes; control characters have no place in a header.
fn warning_header(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).take(WARNING_MAX).collect();
    format!("299 - \"{}\"", clean.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn warnings_are_quoted() {
        let reply =
            Reply { warnings: vec!["unknown field \"spec.bar\"".to_owned()], ..Reply::json(json!({})) };
        let response = reply.into_response();
        assert_eq!(response.headers()["warning"], "299 - \"unknown field \\\"spec.bar\\\"\"");
        assert_eq!(response.headers()["content-type"], "application/json");
    }

    #[test]
    fn an_unknown_path_is_answered_in_plain_text() {
        let response = Reply::error(&ApiError::UnknownPath).into_response();
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    }
}
