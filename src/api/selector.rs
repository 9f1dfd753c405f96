//! Label selectors in Kubernetes' string form: `team=shop,tier in (web, api),!legacy,weight>5`.
//!
//! `kube` has the requirements but no parser for them, and no `>` and `<`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::error::Error;
use crate::validate;

/// Requirements on labels, all of which must hold; none selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(BTreeSet<String>),
    /// Holds for an absent label too.
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

impl Selector {
    /// Reads the `label_selector` of a request; an empty one selects everything.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |why: String| {
            let form = "use Kubernetes' syntax, such as team=shop,tier in (web,api),!legacy";
            Error::field("label_selector", format!("{text:?}: {why}; {form}"))
        };
        let mut words = words(text).map_err(invalid)?.into_iter().peekable();
        let mut requirements = Vec::new();
        while words.peek().is_some() {
            requirements.push(requirement(&mut words).map_err(invalid)?);
            match words.next() {
                None => break,
                Some(Word::Symbol(",")) if words.peek().is_some() => {}
                Some(word) => {
                    return Err(invalid(format!("{} where a comma or the end belongs", word.text())));
                }
            }
        }
        Ok(Self(requirements))
    }

    /// Whether an object with these labels is selected.
    pub(super) fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.and_then(|labels| labels.get(&requirement.key));
            requirement.test.holds(value.map(String::as_str))
        })
    }
}

impl fmt::Display for Selector {
    /// As Kubernetes reads it, in one form for what is spelled in several.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Requirement { key, test }) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let set =
                |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
            match test {
                Test::In(values) => write!(f, "{comma}{key} in ({})", set(values))?,
                Test::NotIn(values) => write!(f, "{comma}{key} notin ({})", set(values))?,
                Test::Exists => write!(f, "{comma}{key}")?,
                Test::Absent => write!(f, "{comma}!{key}")?,
                Test::Greater(bound) => write!(f, "{comma}{key}>{bound}")?,
                Test::Less(bound) => write!(f, "{comma}{key}<{bound}")?,
            }
        }
        Ok(())
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match self {
            Self::In(values) => value.is_some_and(|value| values.contains(value)),
            Self::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
            Self::Greater(bound) => number().is_some_and(|value| value > *bound),
            Self::Less(bound) => number().is_some_and(|value| value < *bound),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Text(String),
    Symbol(&'static str),
}

impl Word {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => format!("{text:?}"),
            Self::Symbol(symbol) => format!("{symbol:?}"),
        }
    }
}

/// Longest first, so that `==` is not read as `=` twice.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", ">", "<", "(", ")", ","];

fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            words.push(Word::Symbol(symbol));
            rest = &rest[symbol.len()..];
        } else {
            let is_word = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            if end == 0 {
                return Err(format!("{first:?} cannot be part of a label"));
            }
            words.push(Word::Text(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(words)
}

type Words = std::iter::Peekable<std::vec::IntoIter<Word>>;

fn requirement(words: &mut Words) -> Result<Requirement, String> {
    if words.next_if_eq(&Word::Symbol("!")).is_some() {
        return Ok(Requirement { key: key(words)?, test: Test::Absent });
    }
    let key = key(words)?;
    let test = match words.peek() {
        None | Some(Word::Symbol(",")) => Test::Exists,
        Some(Word::Symbol(symbol @ ("=" | "==" | "!=" | ">" | "<"))) => {
            let symbol = *symbol;
            words.next();
            comparison(symbol, value(words)?)?
        }
        Some(Word::Text(word)) if word == "in" || word == "notin" => {
            let is_in = word == "in";
            words.next();
            let values = values(words)?;
            if is_in { Test::In(values) } else { Test::NotIn(values) }
        }
        Some(word) => return Err(format!("{} where =, !=, in, notin, > or < belongs", word.text())),
    };
    Ok(Requirement { key, test })
}

fn comparison(symbol: &str, value: String) -> Result<Test, String> {
    let number =
        || value.parse::<i64>().map_err(|_| format!("{symbol} compares with an integer, not {value:?}"));
    Ok(match symbol {
        ">" => Test::Greater(number()?),
        "<" => Test::Less(number()?),
        "!=" => Test::NotIn(BTreeSet::from([value])),
        _ => Test::In(BTreeSet::from([value])),
    })
}

/// A key that a label can have.
fn key(words: &mut Words) -> Result<String, String> {
    let key = text(words, "a label's key")?;
    match validate::key_rule(&key) {
        Some(rule) => Err(format!("{key:?} is no label's key: {rule}")),
        None => Ok(key),
    }
}

/// A value that a label can have, which may be empty.
fn value(words: &mut Words) -> Result<String, String> {
    let value = match words.peek() {
        None | Some(Word::Symbol("," | ")")) => return Ok(String::new()),
        _ => text(words, "a value")?,
    };
    match validate::value_rule(&value) {
        Some(rule) => Err(format!("{value:?} is no label's value: {rule}")),
        None => Ok(value),
    }
}

fn values(words: &mut Words) -> Result<BTreeSet<String>, String> {
    symbol(words, "(")?;
    let mut values = BTreeSet::new();
    loop {
        values.insert(value(words)?);
        if words.next_if_eq(&Word::Symbol(",")).is_none() {
            break;
        }
    }
    symbol(words, ")")?;
    Ok(values)
}

fn text(words: &mut Words, what: &str) -> Result<String, String> {
    match words.next() {
        Some(Word::Text(text)) => Ok(text),
        Some(word) => Err(format!("{} where {what} belongs", word.text())),
        None => Err(format!("it ends where {what} belongs")),
    }
}

fn symbol(words: &mut Words, wanted: &'static str) -> Result<(), String> {
    match words.next() {
        Some(Word::Symbol(symbol)) if symbol == wanted => Ok(()),
        Some(word) => Err(format!("{} where {wanted:?} belongs", word.text())),
        None => Err(format!("it ends where {wanted:?} belongs")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> BTreeMap<String, String> {
        [("team", "shop"), ("tier", "web"), ("a.b/c", ""), ("weight", "7")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn a_selector_selects_as_kubernetes_does() {
        for (text, selected) in [
            ("", true),
            (" ", true),
            ("team=shop", true),
            ("team == shop , tier=web", true),
            ("team=shop,tier=api", false),
            ("team!=shop", false),
            ("owner!=me", true),
            ("tier in (api, web)", true),
            ("tier notin (api)", true),
            ("owner notin (me)", true),
            ("owner in (me)", false),
            ("tier", true),
            ("!tier", false),
            ("!owner", true),
            ("a.b/c=", true),
            ("a.b/c", true),
            ("a.b/c in ()", true),
            ("weight>6,weight<8", true),
            ("weight>7", false),
            ("team>7", false),
            ("in in (in)", false),
        ] {
            let selector = Selector::parse(text).unwrap();
            assert_eq!(selector.matches(Some(&labels())), selected, "{text}");
            assert_eq!(Selector::parse(&selector.to_string()).unwrap(), selector, "{text}");
        }
        assert!(!Selector::parse("team").unwrap().matches(None));
    }

    #[test]
    fn what_is_no_selector_is_refused_with_a_reason() {
        for text in [
            ",",
            "a,",
            "a,,b",
            "=b",
            "a=b=c",
            "a in",
            "a in (",
            "a in b",
            "a in (b",
            "a b",
            "!",
            "!!a",
            "a>b",
            "a=b;c",
            "ä",
            "(a)",
            "a)",
            "-a=b",
            "a/b/c",
            "!a/b/c",
            "a=-b",
            "a in (b, c/d)",
        ] {
            let error = Selector::parse(text).unwrap_err();
            assert!(error.message().starts_with("label_selector: "), "{text}");
        }
    }
}
