//! The small JSONPath of printer columns: `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`,
//! `.spec.list[*].name`, `.metadata.labels.a\.b/c`, `.spec.containers[0].image`.
//!
//! Depends on nothing. A definition's columns are parsed once; the table asks for the values of each row.

use std::borrow::Cow;

use serde_json::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Member(String),
    Index(i64),
    All,
    /// Items whose member equals the text.
    Where {
        member: Vec<String>,
        equals: String,
    },
}

impl JsonPath {
    /// Parses a path; `None` for forms that are not understood, which show an empty cell.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            rest = if let Some(inner) = rest.strip_prefix('[') {
                let end = closing_bracket(inner)?;
                steps.push(subscript(&inner[..end])?);
                &inner[end + 1..]
            } else {
                let (name, after) = member(rest.strip_prefix('.').unwrap_or(rest));
                if !name.is_empty() {
                    steps.push(Step::Member(name));
                } else if rest != "." {
                    return None;
                }
                after
            };
        }
        Some(Self(steps))
    }

    /// The values at the path, in order.
    pub(crate) fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.apply(value)).collect();
        }
        found
    }
}

impl Step {
    fn apply<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match (self, value) {
            (Self::Member(name), value) => value.get(name).into_iter().collect(),
            (Self::Index(index), Value::Array(items)) => {
                let from_end =
                    |index: i64| items.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?);
                let at = if *index < 0 { from_end(*index) } else { usize::try_from(*index).ok() };
                at.and_then(|at| items.get(at)).into_iter().collect()
            }
            (Self::All, Value::Array(items)) => items.iter().collect(),
            (Self::All, Value::Object(members)) => members.values().collect(),
            (Self::Where { member, equals }, Value::Array(items)) => {
                let matches = |item: &&Value| {
                    let value = member.iter().try_fold(*item, |value, name| value.get(name));
                    value.is_some_and(|value| {
                        let text =
                            value.as_str().map_or_else(|| Cow::Owned(value.to_string()), Cow::Borrowed);
                        text == equals.as_str()
                    })
                };
                items.iter().filter(matches).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// A member name, in which a backslash keeps a dot from ending it.
fn member(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '.' | '[' => return (name, &text[at..]),
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            c => name.push(c),
        }
    }
    (name, "")
}

/// Where the bracket closes, beyond quoted text.
fn closing_bracket(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, ']') => return Some(at),
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    None
}

fn subscript(text: &str) -> Option<Step> {
    let text = text.trim();
    if text == "*" {
        return Some(Step::All);
    }
    if let Some(name) = unquoted(text) {
        return Some(Step::Member(name.to_owned()));
    }
    if let Some(filter) = text.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        let (left, right) = filter.split_once("==")?;
        let member = left.trim().strip_prefix("@.")?.split('.').map(str::to_owned).collect();
        let right = right.trim();
        return Some(Step::Where { member, equals: unquoted(right).unwrap_or(right).to_owned() });
    }
    text.parse().ok().map(Step::Index)
}

fn unquoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_of_printer_columns_find_their_values() {
        let object = json!({
            "metadata": {"annotations": {"a.b/c": "x"}},
            "spec": {"replicas": 3, "containers": [{"image": "i", "name": "a"}, {"image": "j", "name": "b"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]},
        });
        let cases = [
            (".spec.replicas", json!([3])),
            ("{.spec.replicas}", json!([3])),
            ("$.spec.replicas", json!([3])),
            (".spec.missing.deep", json!([])),
            (".spec.containers[*].name", json!(["a", "b"])),
            (".spec.containers[1].image", json!(["j"])),
            (".spec.containers[-1].image", json!(["j"])),
            (".spec.containers[9].image", json!([])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type == 'Other')].status", json!(["False"])),
            (".metadata.annotations.a\\.b/c", json!(["x"])),
            (".metadata.annotations['a.b/c']", json!(["x"])),
        ];
        for (path, expected) in cases {
            let parsed = JsonPath::parse(path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(json!(parsed.find(&object)), expected, "{path}");
        }
    }

    #[test]
    fn other_forms_are_not_understood() {
        for path in [".spec[?(@.a > 1)]", ".a[b", "..name", ".a[x:y]"] {
            assert_eq!(JsonPath::parse(path), None, "{path}");
        }
    }
}
