//! `set metadata` and `set environment`.

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use super::guard::Guards;
use super::print::Print;
use crate::cli::name::Name;

#[derive(Debug, Args)]
pub(in crate::cli) struct MetadataArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(in crate::cli) name: Name,
    /// Whose
    #[arg(long = "of", value_enum, value_name = "PODS")]
    pub(in crate::cli) side: Side,
    /// A label to give, or with a dash behind its key one to take away
    #[arg(short, long = "label", value_name = "KEY=VALUE|KEY-", required_unless_present = "annotations")]
    pub(in crate::cli) labels: Vec<Entry>,
    /// An annotation, in the same way
    #[arg(short, long = "annotation", value_name = "KEY=VALUE|KEY-")]
    pub(in crate::cli) annotations: Vec<Entry>,
    #[command(flatten)]
    pub(in crate::cli) guards: Guards,
    #[command(flatten)]
    pub(in crate::cli) print: Print,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct EnvironmentArgs {
    /// The rollout: NAME, or NAMESPACE/NAME
    pub(in crate::cli) name: Name,
    /// Values to give, or with a dash behind a name one to take away
    #[arg(required = true, value_name = "NAME=VALUE|NAME-")]
    pub(in crate::cli) values: Vec<Entry>,
    /// Whose
    #[arg(long = "of", value_enum, value_name = "PODS")]
    pub(in crate::cli) side: Side,
    /// A name that looks like that of a credential and is none
    #[arg(long = "allow", value_name = "NAME")]
    pub(in crate::cli) allowed: Vec<String>,
    /// Give these values alone, whatever was stated before
    #[arg(long)]
    pub(in crate::cli) replace: bool,
    #[command(flatten)]
    pub(in crate::cli) guards: Guards,
    #[command(flatten)]
    pub(in crate::cli) print: Print,
}

/// Pods of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Side {
    /// Of the version on its way in
    #[value(alias = "preview")]
    Canary,
    /// Of the version that serves
    #[value(alias = "active")]
    Stable,
}

/// `KEY=VALUE`, or `KEY-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Entry {
    key: String,
    /// `None`: it goes.
    value: Option<String>,
}

impl FromStr for Entry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = match (text.split_once('='), text.strip_suffix('-')) {
            (Some((key, value)), _) => (key, Some(value.to_owned())),
            (None, Some(key)) => (key, None),
            (None, None) => return Err("give KEY=VALUE, or KEY- to take it away".to_owned()),
        };
        if key.is_empty() {
            return Err("the key is missing".to_owned());
        }
        Ok(Self { key: key.to_owned(), value })
    }
}

impl Entry {
    /// Gives or takes entries.
    pub(in crate::cli) fn apply(entries: &[Self], map: &mut BTreeMap<String, String>) {
        for Self { key, value } in entries {
            match value {
                Some(value) => map.insert(key.clone(), value.clone()),
                None => map.remove(key),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_given_and_taken() {
        let mut map = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())]);
        let entries: Vec<Entry> = ["a=x=y", "b-", "c=", "gone-"].map(|text| text.parse().unwrap()).into();
        Entry::apply(&entries, &mut map);
        assert_eq!(
            map,
            BTreeMap::from([("a".to_owned(), "x=y".to_owned()), ("c".to_owned(), String::new())])
        );
        for text in ["", "a", "=b", "-"] {
            assert!(text.parse::<Entry>().is_err(), "{text}");
        }
    }
}
