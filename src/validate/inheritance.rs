//! Which of a Rollout's labels and annotations its children inherit, as the Rollout says it: annotations `rolloutd.dev/inherit-labels`
//! and `rolloutd.dev/inherit-annotations`, each `all` (the default), `none`, or `prefixes:` and what keys may begin with, separated by
//! commas (docs/labels.md).

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::path::Path;
use super::violation::Violation;
use crate::crd::keys;

const PREFIXES: &str = "prefixes:";
const RULE: &str =
    "must be all, none, or prefixes: followed by what keys may begin with, separated by commas";

/// How many prefixes a policy may name: each key is compared with each.
const MOST_PREFIXES: usize = 64;

/// A policy of inheritance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Inheritance {
    /// Everything that may be inherited is.
    #[default]
    All,
    /// Keys that begin with one of these.
    Prefixes(Vec<String>),
    /// Nothing.
    None,
}

impl Inheritance {
    /// Reads a policy; `None` where it is malformed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "all" => Some(Self::All),
            "none" => Some(Self::None),
            other => {
                let prefixes: Vec<String> =
                    other.strip_prefix(PREFIXES)?.split(',').map(|prefix| prefix.trim().to_owned()).collect();
                let are_prefixes =
                    prefixes.len() <= MOST_PREFIXES && prefixes.iter().all(|prefix| is_prefix(prefix));
                are_prefixes.then_some(Self::Prefixes(prefixes))
            }
        }
    }

    /// The policy that an annotation of an object states: the default where it states none, or none that can be read.
    #[must_use]
    pub fn stated(metadata: &ObjectMeta, key: &str) -> Self {
        let annotations = metadata.annotations.as_ref();
        annotations
            .and_then(|annotations| annotations.get(key))
            .and_then(|text| Self::parse(text))
            .unwrap_or_default()
    }

    /// Whether it lets a key through.
    #[must_use]
    pub fn permits(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::Prefixes(prefixes) => prefixes.iter().any(|prefix| key.starts_with(prefix.as_str())),
            Self::None => false,
        }
    }
}

impl fmt::Display for Inheritance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::None => f.write_str("none"),
            Self::Prefixes(prefixes) => write!(f, "{PREFIXES}{}", prefixes.join(",")),
        }
    }
}

/// The beginning of a key of a label or annotation.
fn is_prefix(text: &str) -> bool {
    let may_be_in_key = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    !text.is_empty() && text.bytes().all(may_be_in_key)
}

/// The policies of an object that cannot be read.
pub(super) fn policies(metadata: &ObjectMeta) -> impl Iterator<Item = Violation> {
    let policies = [keys::INHERIT_LABELS, keys::INHERIT_ANNOTATIONS];
    policies.into_iter().filter_map(|key| {
        let text = metadata.annotations.as_ref()?.get(key)?;
        let path = Path::root("metadata").field("annotations").key(key);
        Inheritance::parse(text).is_none().then(|| Violation::invalid(path, text.as_str(), RULE))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_reads_back_as_it_was_written() {
        let prefixes =
            |prefixes: &[&str]| Inheritance::Prefixes(prefixes.iter().map(|&p| p.into()).collect());
        for (text, policy) in [
            ("all", Inheritance::All),
            ("none", Inheritance::None),
            ("prefixes:team.example.com/,cost", prefixes(&["team.example.com/", "cost"])),
            ("prefixes:a", prefixes(&["a"])),
        ] {
            assert_eq!(Inheritance::parse(text).as_ref(), Some(&policy), "{text}");
            assert_eq!(policy.to_string(), text);
        }
        assert_eq!(Inheritance::parse(" prefixes: a , b "), Some(prefixes(&["a", "b"])));
        for text in ["", "All", "prefixes", "prefixes:", "prefixes:a,,b", "prefixes:a b", "team", "none,all"]
        {
            assert_eq!(Inheritance::parse(text), None, "{text}");
        }
        assert_eq!(Inheritance::parse(&format!("prefixes:{}a", "a,".repeat(64))), None);
    }

    #[test]
    fn a_policy_lets_keys_through_by_their_beginning() {
        let policy = Inheritance::parse("prefixes:team.example.com/,cost").unwrap();
        for (key, permitted) in
            [("team.example.com/name", true), ("cost-center", true), ("team", false), ("a/cost", false)]
        {
            assert_eq!(policy.permits(key), permitted, "{key}");
            assert!(Inheritance::All.permits(key) && !Inheritance::None.permits(key));
        }
    }
}
