//! HTTP on the way in and out: what a request asks for, and how an answer is written.
//!
//! Depends on the status and table types; knows no kind. [`super::server`] reads a [`Request`] and writes a
//! [`reply::Reply`]; the handlers between them work on parsed values only.

pub(crate) mod accept;
pub(crate) mod body;
pub(crate) mod options;
pub(crate) mod reply;
pub(crate) mod route;

use bytes::Bytes;
use http::{HeaderMap, Method};

use options::Query;

/// A request whose body has been read.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Decoded segments of the path.
    pub(crate) path: Vec<String>,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) user_agent: String,
}

impl Request {
    pub(crate) fn new(parts: &http::request::Parts, body: Bytes) -> Self {
        let decoded =
            |segment: &str| percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned();
        let path = parts.uri.path().split('/').filter(|segment| !segment.is_empty()).map(decoded).collect();
        let header = |name: http::HeaderName| {
            parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        Self {
            method: parts.method.clone(),
            path,
            query: Query::parse(parts.uri.query().unwrap_or_default()),
            user_agent: header(http::header::USER_AGENT),
            headers: parts.headers.clone(),
            body,
        }
    }

    /// The media type of the body, without parameters.
    pub(crate) fn content_type(&self) -> &str {
        let header = self.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        header.and_then(|value| value.split(';').next()).unwrap_or_default().trim()
    }
}
