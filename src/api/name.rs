//! Names of resources: `namespaces/{namespace}/rollouts/{rollout}` and the like.

use super::error::Error;
use crate::manifest::name::{is_label, is_subdomain};
use crate::store::Key;

/// The namespaces that a list or watch spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Span {
    /// All that this server sees (`namespaces/-`).
    All,
    /// One.
    One(String),
}

impl Span {
    /// The one namespace, where it is one.
    pub(super) fn namespace(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::One(namespace) => Some(namespace),
        }
    }
}

/// Reads the name of a rollout.
pub(super) fn rollout(name: &str, field: &str) -> Result<Key, Error> {
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        ["namespaces", namespace, "rollouts", rollout] if is_label(namespace) && is_subdomain(rollout) => {
            Ok(Key::new(*namespace, *rollout))
        }
        _ => Err(malformed(field, name, "namespaces/{namespace}/rollouts/{rollout}")),
    }
}

/// Reads the name of a revision: its rollout, and its number.
pub(super) fn revision(name: &str, field: &str) -> Result<(Key, i64), Error> {
    let form = "namespaces/{namespace}/rollouts/{rollout}/revisions/{revision}";
    let parts = name.rsplit_once("/revisions/");
    let number = parts.and_then(|(_, number)| number.parse().ok()).filter(|number| *number > 0);
    match (parts.and_then(|(name, _)| rollout(name, field).ok()), number) {
        (Some(key), Some(number)) => Ok((key, number)),
        _ => Err(malformed(field, name, form)),
    }
}

/// Reads the name of a namespace.
pub(super) fn namespace(name: &str, field: &str) -> Result<String, Error> {
    match name.split_once('/') {
        Some(("namespaces", namespace)) if is_label(namespace) => Ok(namespace.to_owned()),
        _ => Err(malformed(field, name, "namespaces/{namespace}")),
    }
}

/// Reads the parent of a list: a namespace, or all of them.
pub(super) fn span(name: &str, field: &str) -> Result<Span, Error> {
    if name == "namespaces/-" {
        return Ok(Span::All);
    }
    match namespace(name, field) {
        Ok(namespace) => Ok(Span::One(namespace)),
        Err(_) => Err(malformed(field, name, "namespaces/{namespace}, or namespaces/- for all")),
    }
}

/// Checks the last segment of a rollout's name.
pub(super) fn rollout_id(id: &str, field: &str) -> Result<(), Error> {
    if is_subdomain(id) {
        return Ok(());
    }
    let form = "must be a DNS subdomain: at most 253 lower-case letters, digits, '-' or '.', beginning and ending with a letter or digit";
    Err(Error::field(field, format!("{id:?} {form}")))
}

fn malformed(field: &str, name: &str, form: &str) -> Error {
    let form = format!(
        "must have the form {form}, in lower-case letters, digits and '-' (a rollout's name may also have '.')"
    );
    match name {
        "" => Error::field(field, format!("is required and {form}")),
        name => Error::field(field, format!("{name:?} {form}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_or_refused_with_their_form() {
        assert_eq!(rollout("namespaces/shop/rollouts/web.v1", "name").unwrap(), Key::new("shop", "web.v1"));
        for bad in [
            "",
            "web",
            "namespaces//rollouts/web",
            "namespaces/shop/rollouts/",
            "namespaces/shop/rollouts/Web",
            "namespaces/-/rollouts/web",
            "namespaces/shop/rollouts/web/",
            "namespaces/../rollouts/web",
            "namespaces/shop/rollouts/we%2fb",
            "/namespaces/shop/rollouts/web",
            "namespaces/a.b/rollouts/web",
        ] {
            let error = rollout(bad, "name").unwrap_err();
            assert!(error.message().contains("namespaces/{namespace}/rollouts/{rollout}"), "{bad}");
        }
    }

    #[test]
    fn a_revision_is_a_number_of_its_rollout() {
        let web = Key::new("shop", "web");
        assert_eq!(revision("namespaces/shop/rollouts/web/revisions/7", "name").unwrap(), (web, 7));
        for bad in [
            "namespaces/shop/rollouts/web",
            "namespaces/shop/rollouts/web/revisions/",
            "namespaces/shop/rollouts/web/revisions/0",
            "namespaces/shop/rollouts/web/revisions/-1",
            "namespaces/shop/rollouts/web/revisions/x",
            "namespaces/shop/revisions/1",
            "revisions/1",
        ] {
            assert!(revision(bad, "name").unwrap_err().message().contains("/revisions/{revision}"), "{bad}");
        }
    }

    #[test]
    fn a_dash_spans_all_namespaces() {
        assert_eq!(span("namespaces/-", "parent").unwrap(), Span::All);
        assert_eq!(span("namespaces/shop", "parent").unwrap(), Span::One("shop".to_owned()));
        for bad in ["", "-", "shop", "namespaces/", "namespaces/a/b"] {
            assert!(span(bad, "parent").is_err(), "{bad}");
        }
    }
}
