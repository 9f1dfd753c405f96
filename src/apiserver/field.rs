//! Violations of a field's rules, worded as Kubernetes words them.
//!
//! Depends on nothing of the server. Validation code collects [`Violation`]s; [`super::status`] turns a list
//! of them into the `causes` and the message of a 422 answer.

use std::fmt;

use serde_json::Value;

/// Where in an object a value stands, spelled as Kubernetes spells it: `spec.containers[0].name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path(String);

impl Path {
    /// The object itself.
    pub(crate) fn root() -> Self {
        Self::default()
    }

    /// A path given whole.
    pub(crate) fn of(path: &str) -> Self {
        Self(path.to_owned())
    }

    /// The member `name` of this object.
    pub(crate) fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// The element at `index` of this list.
    pub(crate) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The entry `key` of this map.
    pub(crate) fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// What kind of rule was broken; the variants are those of apimachinery's `field.ErrorType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TypeInvalid,
    NotFound,
}

impl Rule {
    /// The `reason` of the cause in a Status.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::NotFound => "FieldValueNotFound",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::NotFound => "Not found",
        }
    }

    fn shows_value(self) -> bool {
        !matches!(self, Self::Required | Self::Forbidden | Self::TooLong)
    }
}

/// One broken rule of one field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Violation {
    pub(crate) rule: Rule,
    pub(crate) path: Path,
    /// `None` where the message does not show the value.
    value: Option<Value>,
    detail: String,
}

/// What validation returns: empty when the object is valid.
pub(crate) type Violations = Vec<Violation>;

impl Violation {
    fn new(rule: Rule, path: &Path, value: Value, detail: impl Into<String>) -> Self {
        Self { rule, path: path.clone(), value: Some(value), detail: detail.into() }
    }

    /// The same violation without its value in the message.
    pub(crate) fn without_value(self) -> Self {
        Self { value: None, ..self }
    }

    pub(crate) fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(Rule::Required, path, Value::Null, detail)
    }

    pub(crate) fn invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(Rule::Invalid, path, value.into(), detail)
    }

    pub(crate) fn type_invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(Rule::TypeInvalid, path, value.into(), detail)
    }

    pub(crate) fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(Rule::Duplicate, path, value.into(), "")
    }

    pub(crate) fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(Rule::NotFound, path, value.into(), "")
    }

    pub(crate) fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(Rule::Forbidden, path, Value::Null, detail)
    }

    /// `supported` in the order the server lists them.
    pub(crate) fn not_supported<S: AsRef<str>>(
        path: &Path,
        value: impl Into<Value>,
        supported: &[S],
    ) -> Self {
        let list: Vec<String> = supported.iter().map(|s| quoted(s.as_ref())).collect();
        let detail =
            if list.is_empty() { String::new() } else { format!("supported values: {}", list.join(", ")) };
        Self::new(Rule::NotSupported, path, value.into(), detail)
    }

    pub(crate) fn too_long(path: &Path, limit: usize) -> Self {
        let unit = if limit == 1 { "byte" } else { "bytes" };
        Self::new(Rule::TooLong, path, Value::Null, format!("may not be more than {limit} {unit}"))
    }

    pub(crate) fn too_many(path: &Path, actual: usize, limit: usize) -> Self {
        let unit = if limit == 1 { "item" } else { "items" };
        Self::new(Rule::TooMany, path, Value::from(actual), format!("must have at most {limit} {unit}"))
    }

    /// The violation without its path: the `message` of the cause.
    pub(crate) fn body(&self) -> String {
        let mut body = self.rule.label().to_owned();
        if let Some(value) = self.value.as_ref().filter(|_| self.rule.shows_value()) {
            body.push_str(": ");
            body.push_str(&go_json(value));
        }
        if !self.detail.is_empty() {
            body.push_str(": ");
            body.push_str(&self.detail);
        }
        body
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// A string in double quotes, as Go's `%q` prints it.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A value as the messages show it: strings as `%q`, everything else as Go's encoding/json, which escapes
/// `<`, `>` and `&`.
pub(crate) fn go_json(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => other.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn violations_read_as_kubernetes_words_them() {
        let path = Path::root().child("spec").child("containers").index(0).child("name");
        let cases = [
            (Violation::required(&path, ""), "spec.containers[0].name: Required value"),
            (
                Violation::invalid(&path, "A", "must be lower case"),
                "spec.containers[0].name: Invalid value: \"A\": must be lower case",
            ),
            (
                Violation::not_supported(&path, "x", &["a", "b"]),
                "spec.containers[0].name: Unsupported value: \"x\": supported values: \"a\", \"b\"",
            ),
            (Violation::too_long(&path, 1), "spec.containers[0].name: Too long: may not be more than 1 byte"),
            (
                Violation::too_many(&path, 3, 2),
                "spec.containers[0].name: Too many: 3: must have at most 2 items",
            ),
            (
                Violation::duplicate(&path, json!({"k": "<a>"})),
                "spec.containers[0].name: Duplicate value: {\"k\":\"\\u003ca\\u003e\"}",
            ),
            (Violation::invalid(&Path::root(), Value::Null, "m"), "<nil>: Invalid value: null: m"),
        ];
        for (violation, text) in cases {
            assert_eq!(violation.to_string(), text);
        }
    }

    #[test]
    fn control_characters_are_escaped_as_go_does() {
        assert_eq!(quoted("a\"\\\n\u{1}"), r#""a\"\\\n\x01""#);
    }
}
