//! Field selectors: `metadata.name=web,status.phase!=Running`.
//!
//! Depends on nothing of the server. Which fields may be selected is the kind's matter; it also gives their
//! values. Grammar and messages are those of apimachinery's `fields`.

use thiserror::Error;

/// A parsed field selector: all terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: String,
    value: String,
    relation: Relation,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Equal,
    NotEqual,
}

/// A selector that is not understood.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum SelectorError {
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Malformed { selector: String, term: String },
    #[error("invalid field selector: {0}")]
    Escape(String),
}

impl FieldSelector {
    /// Parses the `fieldSelector` parameter; empty selects everything.
    pub(crate) fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for part in split_unescaped(text, ',') {
            if part.is_empty() {
                continue;
            }
            let malformed = || SelectorError::Malformed { selector: text.to_owned(), term: part.to_owned() };
            let (field, relation, value) = split_term(part).ok_or_else(malformed)?;
            terms.push(Term { field: field.to_owned(), value: unescape(value)?, relation });
        }
        Ok(Self { terms })
    }

    /// The objects of one name.
    pub(crate) fn name(name: &str) -> Self {
        let term =
            Term { field: "metadata.name".to_owned(), value: name.to_owned(), relation: Relation::Equal };
        Self { terms: vec![term] }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The fields it asks for.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.terms.iter().map(|term| term.field.as_str())
    }

    /// The name that it requires, if it requires one.
    pub(crate) fn required_name(&self) -> Option<&str> {
        self.terms
            .iter()
            .find(|term| term.field == "metadata.name" && term.relation == Relation::Equal)
            .map(|term| term.value.as_str())
    }

    /// Whether an object is selected; `value` gives its fields.
    pub(crate) fn matches(&self, value: impl Fn(&str) -> String) -> bool {
        self.terms.iter().all(|term| (value(&term.field) == term.value) == (term.relation == Relation::Equal))
    }
}

fn split_term(term: &str) -> Option<(&str, Relation, &str)> {
    let at = term.find(['=', '!'])?;
    let (field, rest) = term.split_at(at);
    for (operator, relation) in [("!=", Relation::NotEqual), ("==", Relation::Equal), ("=", Relation::Equal)]
    {
        if let Some(value) = rest.strip_prefix(operator) {
            return Some((field, relation, value));
        }
    }
    None
}

fn split_unescaped(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == separator && !escaped {
            parts.push(&text[start..at]);
            start = at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(&text[start..]);
    parts
}

/// `\,`, `\=` and `\\` stand for themselves.
fn unescape(text: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                other => {
                    let sequence = other.map(String::from).unwrap_or_default();
                    return Err(SelectorError::Escape(format!("invalid escape sequence: \\{sequence}")));
                }
            },
            '=' | ',' => {
                return Err(SelectorError::Escape(format!("unescaped character in value: {}", u32::from(c))));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(field: &str) -> String {
        match field {
            "metadata.name" => "web,1",
            "status.phase" => "Running",
            _ => "",
        }
        .to_owned()
    }

    #[test]
    fn terms_compare_fields_with_unescaped_values() {
        let cases = [
            ("", true),
            ("status.phase=Running", true),
            ("status.phase==Running,metadata.name!=x", true),
            ("status.phase!=Running", false),
            ("metadata.name=web\\,1", true),
            ("spec.nodeName=", true),
        ];
        for (text, selected) in cases {
            assert_eq!(FieldSelector::parse(text).unwrap().matches(pod), selected, "{text}");
        }
    }

    #[test]
    fn malformed_terms_are_named() {
        let error = FieldSelector::parse("spec.foo").unwrap_err();
        assert_eq!(error.to_string(), "invalid selector: 'spec.foo'; can't understand 'spec.foo'");
        assert!(FieldSelector::parse("a=b\\x").is_err());
    }

    #[test]
    fn a_required_name_is_found() {
        let selector = FieldSelector::parse("status.phase!=x,metadata.name=web").unwrap();
        assert_eq!(selector.required_name(), Some("web"));
        assert_eq!(selector.fields().count(), 2);
    }
}
