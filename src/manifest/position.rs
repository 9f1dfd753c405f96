//! Where in a text the fields of a manifest stand.
//!
//! Reads the text once more: only what found something has to know. What is JSON and no YAML (objects one after the other) has no
//! positions.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::Location;
use super::document;

/// Where everything in a manifest stands.
#[derive(Clone, Debug, Default)]
pub struct Positions(Vec<Node>);

/// A value, by where it is and what is within it.
#[derive(Clone, Debug)]
struct Node {
    at: Location,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Nothing,
    Scalar,
    List(Vec<Node>),
    /// Each entry stands where its key does; what an alias repeats, where it is written.
    Map(Vec<(String, Node)>),
}

impl Positions {
    /// Looks for everything in a text.
    #[must_use]
    pub fn read(manifest: &str) -> Self {
        let mut reader = manifest.as_bytes();
        let documents =
            serde_saphyr::read_with_options::<_, Spanned<Value>>(&mut reader, document::options());
        // What cannot be read has been complained of already.
        let documents = documents.map_while(Result::ok).map(Node::from);
        Self(documents.filter(|document| !matches!(document.value, Value::Nothing)).collect())
    }

    /// Where a field stands, such as `[1].spec.replicas`; one that is missing is where it should be: in what is nearest above it.
    #[must_use]
    pub fn of(&self, field: &str) -> Option<Location> {
        let (index, rest) = index(field)?;
        let document = self.0.get(index)?;
        Some(document.nearest(rest).0)
    }
}

impl Node {
    /// The place of the deepest value on the way along a path, and how much of the path is left from there. A key may hold whatever
    /// divides a path, so that several may begin it.
    fn nearest<'a>(&self, path: &'a str) -> (Location, &'a str) {
        let here = (self.at, path);
        let deeper = match &self.value {
            Value::Nothing | Value::Scalar => None,
            Value::List(items) => {
                index(path).and_then(|(index, rest)| items.get(index).map(|item| item.nearest(rest)))
            }
            Value::Map(fields) => fields
                .iter()
                .filter_map(|(key, below)| Some(below.nearest(after(path, key)?)))
                .min_by_key(|(_, left)| left.len()),
        };
        deeper.unwrap_or(here)
    }
}

/// The index that a path begins with, and what follows.
fn index(path: &str) -> Option<(usize, &str)> {
    let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
    Some((index.parse().ok()?, rest))
}

/// What follows a key that a path begins with: `.key` or `[key]`.
fn after<'a>(path: &'a str, key: &str) -> Option<&'a str> {
    let field = || {
        let rest = path.strip_prefix('.')?.strip_prefix(key)?;
        (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
    };
    let entry = || path.strip_prefix('[')?.strip_prefix(key)?.strip_prefix(']');
    field().or_else(entry)
}

impl From<Spanned<Value>> for Node {
    fn from(spanned: Spanned<Value>) -> Self {
        let at = Location { line: spanned.defined.line(), column: spanned.defined.column() };
        Self { at, value: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

/// Declares that a kind of scalar has a place and nothing else that matters.
macro_rules! scalars {
    ($($visit:ident($kind:ty))*) => {
        $(fn $visit<E>(self, _: $kind) -> Result<Value, E> {
            Ok(Value::Scalar)
        })*
    };
}

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("anything")
    }

    scalars! { visit_bool(bool) visit_i64(i64) visit_i128(i128) visit_u64(u64) visit_u128(u128) visit_f64(f64) visit_str(&str) }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Spanned<Value>>()? {
            list.push(Node::from(item));
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let at = Location { line: key.defined.line(), column: key.defined.column() };
            map.push((key.value, Node { at, value: entries.next_value()? }));
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "\
# a comment
kind: A
metadata:
  labels:
    a.b/c: x
    a: y
spec:
  steps:
  - setWeight: 20
  -
    pause: {duration: 10, why: ~}
---
---
kind: List
items:
- kind: B
  spec: &spec
    a: 1
- spec: *spec
";

    #[test]
    fn fields_stand_where_their_keys_do_and_items_where_they_begin() {
        let positions = Positions::read(MANIFEST);
        for (field, line, column) in [
            ("[0].kind", 2, 1),
            ("[0].metadata.labels[a.b/c]", 5, 5),
            ("[0].metadata.labels.a.b/c", 5, 5),
            ("[0].metadata.labels[a]", 6, 5),
            ("[0].spec.steps[0]", 9, 5),
            ("[0].spec.steps[0].setWeight", 9, 5),
            ("[0].spec.steps[1].pause", 11, 5),
            ("[0].spec.steps[1].pause.duration", 11, 13),
            ("[1].items[0].kind", 16, 3),
            ("[1].items[0].spec.a", 18, 5),
            ("[1].items[1].spec", 19, 3),
            ("[1].items[1].spec.a", 18, 5),
        ] {
            assert_eq!(positions.of(field), Some(Location { line, column }), "{field}");
        }
    }

    #[test]
    fn what_is_missing_is_where_it_should_be() {
        let positions = Positions::read(MANIFEST);
        for (field, like) in [
            ("[0].metadata.name", "[0].metadata"),
            ("[0].spec.steps[7].pause", "[0].spec.steps"),
            ("[0].spec.steps[1].pause.why.not", "[0].spec.steps[1].pause.why"),
            ("[0].kind.of", "[0].kind"),
        ] {
            assert!(positions.of(like).is_some());
            assert_eq!(positions.of(field), positions.of(like), "{field}");
        }
        for nowhere in ["[2].kind", "kind", "manifest", "[x]"] {
            assert_eq!(positions.of(nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn json_has_positions_where_yaml_can_read_it() {
        assert_eq!(
            Positions::read("{\n  \"kind\": \"A\"\n}").of("[0].kind"),
            Some(Location { line: 2, column: 3 })
        );
        assert_eq!(Positions::read("{\"kind\":\"A\"}\n{\"kind\":\"B\"}").of("[1].kind"), None);
        assert_eq!(
            Positions::read("[{\"kind\":\"A\"}]").of("[0][0].kind"),
            Some(Location { line: 1, column: 3 })
        );
    }
}
