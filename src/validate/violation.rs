//! A violation: which field, which value, what is wrong and what to do.

use std::fmt;

use serde_json::Value;

use super::path::Path;

/// Something that is wrong with a field. Displayed as Kubernetes displays its field errors.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// The field.
    pub path: Path,
    /// What is wrong.
    pub kind: Kind,
    /// The rule, for people; empty where the kind says it all.
    pub detail: String,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// It is missing.
    Required,
    /// Its value breaks a rule.
    Invalid(Value),
    /// Its value is none of these.
    NotSupported(Value, &'static [&'static str]),
    /// Its value is there already.
    Duplicate(Value),
    /// It must not be given.
    Forbidden,
}

impl Violation {
    /// The field is missing.
    #[must_use]
    pub fn required(path: Path, detail: impl Into<String>) -> Self {
        Self { path, kind: Kind::Required, detail: detail.into() }
    }

    /// The value breaks a rule.
    #[must_use]
    pub fn invalid(path: Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self { path, kind: Kind::Invalid(value.into()), detail: detail.into() }
    }

    /// The value is none of those there are.
    #[must_use]
    pub fn not_supported(path: Path, value: impl Into<Value>, supported: &'static [&'static str]) -> Self {
        Self { path, kind: Kind::NotSupported(value.into(), supported), detail: String::new() }
    }

    /// The value is there already.
    #[must_use]
    pub fn duplicate(path: Path, value: impl Into<Value>) -> Self {
        Self { path, kind: Kind::Duplicate(value.into()), detail: String::new() }
    }

    /// The field must not be given.
    #[must_use]
    pub fn forbidden(path: Path, detail: impl Into<String>) -> Self {
        Self { path, kind: Kind::Forbidden, detail: detail.into() }
    }

    /// The violation without its path: what field violations of the API describe.
    #[must_use]
    pub fn description(&self) -> String {
        let kind = self.kind.to_string();
        match self.detail.as_str() {
            "" => kind,
            detail => format!("{kind}: {detail}"),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.description())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Required => f.write_str("Required value"),
            Self::Invalid(value) => write!(f, "Invalid value: {value}"),
            Self::NotSupported(value, supported) => {
                let supported: Vec<String> = supported.iter().map(|value| format!("{value:?}")).collect();
                write!(f, "Unsupported value: {value}: supported values: {}", supported.join(", "))
            }
            Self::Duplicate(value) => write!(f, "Duplicate value: {value}"),
            Self::Forbidden => f.write_str("Forbidden"),
        }
    }
}
