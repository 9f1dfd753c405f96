//! The path of a field in an object, as Kubernetes writes it: `spec.strategy.canary.steps[2].setWeight`.

use std::borrow::Cow;
use std::fmt;

use crate::hash::{FieldPath, PathElement};

/// A path from the object's root.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Path(Vec<Segment>);

/// One part of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// A field.
    Field(Cow<'static, str>),
    /// An item of a list, 0-based.
    Index(usize),
    /// An entry of a map.
    Key(String),
}

impl Path {
    /// The path of a field of the object itself.
    #[must_use]
    pub fn root(field: &'static str) -> Self {
        Self::default().field(field)
    }

    /// The path of a field below this one.
    #[must_use]
    pub fn field(&self, field: impl Into<Cow<'static, str>>) -> Self {
        self.with(Segment::Field(field.into()))
    }

    /// The path of several fields below each other.
    #[must_use]
    pub fn fields(&self, fields: &[&'static str]) -> Self {
        fields.iter().fold(self.clone(), |path, field| path.field(*field))
    }

    /// The path of an item of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    /// The path of an entry of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.to_owned()))
    }

    /// The path of something within this field.
    #[must_use]
    pub fn below(&self, within: &FieldPath) -> Self {
        within.elements().iter().fold(self.clone(), |path, element| match element {
            PathElement::Field(field) => path.field(field.clone()),
            PathElement::Key(key) => path.key(key),
            PathElement::Index(index) => path.index(*index),
        })
    }

    /// The parts, from the root.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    fn with(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Field(field) if position == 0 => f.write_str(field)?,
                Segment::Field(field) => write!(f, ".{field}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => write!(f, "[{key}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_kubernetes_writes_it() {
        let steps = Path::root("spec").fields(&["strategy", "canary", "steps"]);
        assert_eq!(steps.index(2).field("setWeight").to_string(), "spec.strategy.canary.steps[2].setWeight");
        assert_eq!(Path::root("metadata").field("labels").key("a.b/c").to_string(), "metadata.labels[a.b/c]");
    }
}
