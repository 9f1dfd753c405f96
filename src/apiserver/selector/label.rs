//! Label selectors: `app=web,tier in (a,b),!legacy,weight>5`.
//!
//! Depends on the formats of [`crate::apiserver::names`]. Grammar and messages are those of apimachinery's `labels`.

use std::collections::BTreeSet;

use serde_json::Value;
use thiserror::Error;

use crate::apiserver::field::{Path, Violation};
use crate::apiserver::names;
use crate::apiserver::object::Members;

/// A parsed label selector: all requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(BTreeSet<String>),
    /// Also true when the label is absent.
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
    Greater(i64),
    Less(i64),
}

/// A selector that is not understood.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub(crate) struct SelectorError(String);

impl LabelSelector {
    /// Parses the `labelSelector` parameter; empty selects everything.
    pub(crate) fn parse(text: &str) -> Result<Self, SelectorError> {
        Parser::new(text).parse().map_err(SelectorError)
    }

    /// A `metav1.LabelSelector` object: `matchLabels` and `matchExpressions`; malformed parts select nothing.
    pub(crate) fn from_object(selector: &Value) -> Self {
        let mut requirements = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            let values = BTreeSet::from([value.as_str().unwrap_or_default().to_owned()]);
            requirements.push(Requirement { key: key.clone(), test: Test::In(values) });
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let key = expression["key"].as_str().unwrap_or_default().to_owned();
            let values = expression["values"].as_array().into_iter().flatten();
            let values = values.filter_map(Value::as_str).map(str::to_owned).collect();
            let test = match expression["operator"].as_str() {
                Some("NotIn") => Test::NotIn(values),
                Some("Exists") => Test::Exists,
                Some("DoesNotExist") => Test::Absent,
                _ => Test::In(values),
            };
            requirements.push(Requirement { key, test });
        }
        Self { requirements }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object with these labels is selected.
    pub(crate) fn matches(&self, labels: Option<&Members>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.and_then(|l| l.get(&requirement.key)).and_then(Value::as_str);
            requirement.test.holds(value)
        })
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Self::In(values) => value.is_some_and(|v| values.contains(v)),
            Self::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            Self::Exists => value.is_some(),
            Self::Absent => value.is_none(),
            Self::Greater(bound) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v > *bound),
            Self::Less(bound) => value.and_then(|v| v.parse::<i64>().ok()).is_some_and(|v| v < *bound),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Symbol(&'static str),
    End,
}

impl Token {
    fn literal(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Symbol(symbol) => symbol,
            Self::End => "",
        }
    }
}

/// Longest first, so that `==` is not read as `=` twice.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "<", ">", "(", ")", ","];

struct Parser {
    tokens: std::vec::IntoIter<Token>,
    next: Token,
}

impl Parser {
    fn new(text: &str) -> Self {
        let mut tokens = tokens(text).into_iter();
        let next = tokens.next().unwrap_or(Token::End);
        Self { tokens, next }
    }

    fn take(&mut self) -> Token {
        std::mem::replace(&mut self.next, self.tokens.next().unwrap_or(Token::End))
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(&self.next, Token::Symbol(s) if *s == symbol);
        if found {
            self.take();
        }
        found
    }

    fn parse(mut self) -> Result<LabelSelector, String> {
        let mut requirements = Vec::new();
        if self.next == Token::End {
            return Ok(LabelSelector::default());
        }
        loop {
            let requirement = self.requirement();
            requirements.push(requirement.map_err(|why| format!("unable to parse requirement: {why}"))?);
            match self.take() {
                Token::End => return Ok(LabelSelector { requirements }),
                Token::Symbol(",") => {}
                other => {
                    return Err(format!("found '{}', expected: ',' or 'end of string'", other.literal()));
                }
            }
            if !matches!(self.next, Token::Word(_) | Token::Symbol("!")) {
                return Err(format!("found '{}', expected: identifier after ','", self.next.literal()));
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.take_symbol("!");
        let key = match self.take() {
            Token::Word(word) => word,
            other if negated || other == Token::End => {
                return Err(format!("found '{}', expected: identifier", other.literal()));
            }
            other => {
                return Err(format!(
                    "found '{}', expected: !, identifier, or 'end of string'",
                    other.literal()
                ));
            }
        };
        let reasons = names::qualified_name(&key);
        if !reasons.is_empty() {
            return Err(Violation::invalid(&Path::root(), key, reasons.join("; ")).to_string());
        }
        if negated {
            return Ok(Requirement { key, test: Test::Absent });
        }
        let test = self.test(&key)?;
        Ok(Requirement { key, test })
    }

    fn test(&mut self, key: &str) -> Result<Test, String> {
        if matches!(self.next, Token::End | Token::Symbol(",")) {
            return Ok(Test::Exists);
        }
        let operator = self.take();
        match operator.literal() {
            "=" | "==" => Ok(Test::In(BTreeSet::from([self.value(key)?]))),
            "!=" => Ok(Test::NotIn(BTreeSet::from([self.value(key)?]))),
            "in" => Ok(Test::In(self.values(key)?)),
            "notin" => Ok(Test::NotIn(self.values(key)?)),
            ">" => Ok(Test::Greater(self.bound(key)?)),
            "<" => Ok(Test::Less(self.bound(key)?)),
            other => Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
        }
    }

    /// One value; none at all means the empty string, as in `a=,b`.
    fn value(&mut self, key: &str) -> Result<String, String> {
        let value = match &self.next {
            Token::End | Token::Symbol(",") => String::new(),
            Token::Word(_) => self.take().literal().to_owned(),
            other => return Err(format!("found '{}', expected: identifier", other.literal())),
        };
        checked_value(key, value)
    }

    fn bound(&mut self, key: &str) -> Result<i64, String> {
        let value = self.value(key)?;
        value.parse().map_err(|_| {
            let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
            Violation::invalid(&Path::of("values").index(0), value, detail).to_string()
        })
    }

    fn values(&mut self, key: &str) -> Result<BTreeSet<String>, String> {
        if !self.take_symbol("(") {
            return Err(format!("found '{}' expected: '('", self.next.literal()));
        }
        let mut values = BTreeSet::new();
        loop {
            let value = match &self.next {
                Token::Word(_) => self.take().literal().to_owned(),
                Token::Symbol("," | ")") => String::new(),
                other => {
                    return Err(format!("found '{}', expected: ',', ')' or identifier", other.literal()));
                }
            };
            values.insert(checked_value(key, value)?);
            match self.take() {
                Token::Symbol(")") => return Ok(values),
                Token::Symbol(",") => {}
                other => return Err(format!("found '{}', expected: ',' or ')'", other.literal())),
            }
        }
    }
}

fn checked_value(key: &str, value: String) -> Result<String, String> {
    let reasons = names::label_value(&value);
    if reasons.is_empty() {
        Ok(value)
    } else {
        Err(Violation::invalid(&Path::of("values").index(0).key(key), value, reasons.join("; ")).to_string())
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches([' ', '\t', '\r', '\n']);
    while !rest.is_empty() {
        let length = if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            tokens.push(Token::Symbol(symbol));
            symbol.len()
        } else {
            let end =
                rest.find([' ', '\t', '\r', '\n', '=', '!', '<', '>', '(', ')', ',']).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            end
        };
        rest = rest[length..].trim_start_matches([' ', '\t', '\r', '\n']);
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_are_selected_by_every_operator() {
        let labels = json!({"app": "web", "tier": "a", "weight": "7", "empty": ""});
        let cases = [
            ("", true),
            ("app=web", true),
            ("app==web,tier!=b", true),
            ("app=api", false),
            ("app in (api, web),tier notin (b)", true),
            ("missing notin (x)", true),
            ("missing!=x", true),
            ("missing", false),
            ("!missing", true),
            ("!app", false),
            ("app", true),
            ("weight>5,weight<8", true),
            ("weight>7", false),
            ("app>5", false),
            ("empty=", true),
            ("empty=,app", true),
            (" app = web ", true),
        ];
        for (text, selected) in cases {
            let selector = LabelSelector::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(selector.matches(labels.as_object()), selected, "{text}");
        }
    }

    #[test]
    fn malformed_selectors_say_what_was_expected() {
        let cases = [
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a in x", "unable to parse requirement: found 'x' expected: '('"),
            ("a,", "found '', expected: identifier after ','"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ];
        for (text, message) in cases {
            let error = LabelSelector::parse(text).unwrap_err();
            assert_eq!(error.to_string(), message, "{text}");
        }
        let error = LabelSelector::parse("-a=b").unwrap_err().to_string();
        assert!(
            error.starts_with("unable to parse requirement: <nil>: Invalid value: \"-a\": name part"),
            "{error}"
        );
    }

    #[test]
    fn selector_objects_combine_labels_and_expressions() {
        let selector = LabelSelector::from_object(&json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}],
        }));
        assert!(selector.matches(json!({"app": "web", "tier": "b"}).as_object()));
        assert!(!selector.matches(json!({"app": "web"}).as_object()));
    }
}
