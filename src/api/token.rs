//! Consistency tokens and resume tokens: a moment in the history of rollouts, opaque to clients.
//!
//! One form for both, so that a token of a watch may be used as `at_least`. That of a watch is bound to what was watched: elsewhere
//! it would resume something that never began.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::error::Error;
use super::etag;
use crate::store::ResourceVersion;

/// The form of tokens; another one is not read.
const FORM: u8 = 1;

/// A moment, and the watch that it was seen in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// The moment.
    pub version: ResourceVersion,
    /// A digest of what was watched; empty for the token of a mutation.
    binding: String,
}

impl Token {
    /// The token of an answer to a mutation; empty when the version is not known.
    pub(super) fn of_version(version: Option<ResourceVersion>) -> String {
        version.map(|version| encode(version, "")).unwrap_or_default()
    }

    /// Reads the token in a field of a request; `None` when it is empty.
    pub(super) fn read(text: &str, field: &'static str) -> Result<Option<Self>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let unreadable =
            || Error::field(field, "is no token of this API: send one as it was given, or nothing");
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| unreadable())?;
        let (form, version, binding): (u8, String, String) =
            serde_json::from_slice(&json).map_err(|_| unreadable())?;
        match ResourceVersion::parse(&version) {
            Some(version) if form == FORM => Ok(Some(Self { version, binding })),
            _ => Err(unreadable()),
        }
    }
}

/// What is watched, as far as tokens depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Binding(String);

impl Binding {
    /// Of a request; `fields` are those that must be the same when it is resumed.
    pub(super) fn of(fields: &[&str]) -> Self {
        Self(etag::digest(&json!(fields)))
    }

    /// A token that resumes after a version.
    pub(super) fn token(&self, version: ResourceVersion) -> String {
        encode(version, &self.0)
    }

    /// Reads the token that a request resumes with; `None` when it is empty.
    pub(super) fn read(&self, text: &str, field: &'static str) -> Result<Option<ResourceVersion>, Error> {
        let Some(token) = Token::read(text, field)? else { return Ok(None) };
        if token.binding.is_empty() {
            return Err(Error::field(
                field,
                "is the token of a mutation: only one of a watch resumes a watch",
            ));
        }
        if token.binding != self.0 {
            let what = "belongs to another watch: parent and label_selector must be as they were";
            return Err(Error::field(field, what));
        }
        Ok(Some(token.version))
    }
}

fn encode(version: ResourceVersion, binding: &str) -> String {
    URL_SAFE_NO_PAD.encode(json!([FORM, version.to_string(), binding]).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(version: &str) -> ResourceVersion {
        ResourceVersion::parse(version).unwrap()
    }

    #[test]
    fn a_token_is_read_as_it_was_given() {
        let mutation = Token::of_version(Some(at("42")));
        assert_eq!(Token::read(&mutation, "at_least").unwrap().unwrap().version, at("42"));
        assert_eq!((Token::of_version(None).as_str(), Token::read("", "at_least").unwrap()), ("", None));

        let (here, elsewhere) = (Binding::of(&["a", "b"]), Binding::of(&["ab", ""]));
        let watch = here.token(at("42"));
        assert_eq!(here.read(&watch, "resume_token").unwrap(), Some(at("42")));
        assert_eq!(Token::read(&watch, "at_least").unwrap().unwrap().version, at("42"));
        for (binding, token) in [(&elsewhere, &watch), (&here, &mutation)] {
            assert!(binding.read(token, "resume_token").is_err());
        }
    }

    #[test]
    fn what_is_no_token_is_refused_by_its_field() {
        let other = |json: &str| URL_SAFE_NO_PAD.encode(json);
        for text in [
            "x".to_owned(),
            "!!".to_owned(),
            other("{}"),
            other("[1,\"x\",\"\"]"),
            other("[1,\"-1\",\"\"]"),
            other("[1,7,\"\"]"),
            other("[2,\"7\",\"\"]"),
            other("[1,\"7\",\"\",1]"),
            "A".repeat(100_000),
        ] {
            let error = Token::read(&text, "at_least").unwrap_err();
            assert!(error.message().starts_with("at_least: "), "{}", error.message());
        }
    }
}
