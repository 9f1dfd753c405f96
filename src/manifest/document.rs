//! From the text of a manifest to its documents.
//!
//! YAML as kubectl reads it (YAML 1.1 booleans and octal numbers; several documents), or JSON (objects one after the other, lists, arrays).
//! Nothing is lost: integers stay integers up to the 64 bits that Kubernetes has.

use serde_json::{Map, Number, Value};
use serde_saphyr::options::DuplicateKeyPolicy;

use super::{Fault, Location};
use crate::hash::{FieldPath, PathElement};
use crate::json::Json;
use crate::validate::Path;

/// How deep YAML may be nested: a rollout with everything takes about 25 levels, and each costs stack (JSON has its own limit, 127).
const DEEPEST: usize = 64;

/// An object of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Which document it is, or belongs to, 0-based; empty documents do not count.
    pub index: usize,
    /// Where it is, as field violations begin: `[1]`, or `[1].items[0]` within a list.
    pub place: String,
    /// The object.
    pub object: Map<String, Value>,
}

impl Document {
    /// The path of a field of the object in the manifest.
    #[must_use]
    pub fn at(&self, field: &str) -> String {
        match field {
            "" => self.place.clone(),
            field => format!("{}.{field}", self.place),
        }
    }
}

/// How many objects one request may apply: each costs three requests to the cluster.
pub const MOST_OBJECTS: usize = 200;

/// What a manifest holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Documents {
    /// The objects, in order.
    pub objects: Vec<Document>,
    /// What stands where an object belongs and is none.
    pub faults: Vec<Fault>,
}

impl Documents {
    /// The same, told of as parts of a file: `web.yaml[1]`.
    #[must_use]
    pub fn of_file(mut self, file: &str) -> Self {
        for place in self.objects.iter_mut().map(|object| &mut object.place) {
            place.insert_str(0, file);
        }
        for field in self.faults.iter_mut().map(|fault| &mut fault.field) {
            field.insert_str(0, file);
        }
        self
    }
}

/// A document that cannot be read; those behind it are not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Malformed {
    /// Which document, 0-based.
    pub index: usize,
    /// The field, where one is to blame.
    pub field: String,
    /// Why; names line and column, where they are known.
    pub why: String,
    /// Where reading stopped.
    pub location: Option<Location>,
}

impl Malformed {
    /// The path of the field in the manifest, or of the document.
    #[must_use]
    pub fn place(&self) -> String {
        let Self { index, field, .. } = self;
        if field.is_empty() { format!("[{index}]") } else { format!("[{index}].{field}") }
    }
}

/// Reads a manifest.
///
/// # Errors
/// The first document that is not YAML.
pub fn read(manifest: &str) -> Result<Documents, Malformed> {
    let mut documents = Documents::default();
    for (index, value) in parse(manifest)?.into_iter().enumerate() {
        unfold(index, format!("[{index}]"), value, &mut documents);
    }
    Ok(documents)
}

fn parse(manifest: &str) -> Result<Vec<Value>, Malformed> {
    let values = match read_json(manifest) {
        Some(documents) => {
            let twice = documents.iter().map(|json| json.duplicates.first());
            if let Some((index, path)) = twice.enumerate().find_map(|(index, path)| Some((index, path?))) {
                return Err(repeated_in_json(manifest, index, path));
            }
            documents.into_iter().map(|json| json.value).collect()
        }
        None => read_yaml(manifest)?,
    };
    Ok(values.into_iter().map(whole_numbers).collect())
}

/// A brace begins JSON nearly always; where it begins YAML in flow style, this is `None`.
fn read_json(manifest: &str) -> Option<Vec<Json>> {
    let begins = manifest.trim_start().starts_with(['{', '[']);
    let json = serde_json::Deserializer::from_str(manifest).into_iter::<Json>();
    begins.then(|| json.collect::<Result<_, _>>().ok()).flatten()
}

fn read_yaml(manifest: &str) -> Result<Vec<Value>, Malformed> {
    let (mut reader, mut values) = (manifest.as_bytes(), Vec::new());
    for document in serde_saphyr::read_with_options::<_, Value>(&mut reader, options()) {
        match document {
            Ok(Value::Null) => {}
            Ok(value) => values.push(value),
            Err(error) => return Err(malformed(manifest, values.len(), &error)),
        }
    }
    Ok(values)
}

/// How YAML is read.
pub(super) fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        // 0644 is 420, as for kubectl: modes of volumes are written so.
        legacy_octal_numbers: true,
        budget: serde_saphyr::budget! { max_depth: DEEPEST },
    }
}

fn malformed(manifest: &str, index: usize, error: &serde_saphyr::Error) -> Malformed {
    let location =
        error.location().map(|location| Location { line: location.line(), column: location.column() });
    match error {
        serde_saphyr::Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or_default();
            // Another one may come first where this one has no path: numbers.
            let is_it = |path: &FieldPath| matches!(path.elements().last(), Some(PathElement::Field(name)) if name == key);
            let path = twice(manifest, index).filter(is_it);
            repeated(index, path.as_ref(), key, location)
        }
        _ => {
            let why = format!("is not YAML: {}", error.without_snippet());
            Malformed { index, field: String::new(), why, location }
        }
    }
}

/// A field that stands twice in JSON; as YAML, its line is known.
fn repeated_in_json(manifest: &str, index: usize, path: &FieldPath) -> Malformed {
    let told = repeated(index, Some(path), "", None);
    let located = read_yaml(manifest).err().filter(|malformed| malformed.field == told.field);
    located.unwrap_or(told)
}

fn repeated(index: usize, path: Option<&FieldPath>, key: &str, location: Option<Location>) -> Malformed {
    let field = path.map(field_of).unwrap_or_default();
    let named = if field.is_empty() { key } else { &field };
    let again = location.map(|at| format!(", again at line {}, column {}", at.line, at.column));
    let why = format!("{named:?} stands twice{}; keep one of them", again.unwrap_or_default());
    Malformed { index, field, why, location }
}

/// The path as field violations have it.
fn field_of(path: &FieldPath) -> String {
    let mut fields = Path::default();
    for element in path.elements() {
        fields = match element {
            PathElement::Index(index) => fields.index(*index),
            PathElement::Key(key) => fields.key(key),
            PathElement::Field(field) if field.contains(['.', '/']) => fields.key(field),
            PathElement::Field(field) => fields.field(field.clone()),
        };
    }
    fields.to_string()
}

/// The first field that a document has twice.
fn twice(manifest: &str, index: usize) -> Option<FieldPath> {
    let mut options = options();
    options.duplicate_keys = DuplicateKeyPolicy::LastWins;
    let mut reader = manifest.as_bytes();
    let documents = serde_saphyr::read_with_options::<_, Json>(&mut reader, options);
    let mut documents =
        documents.filter(|document| !document.as_ref().is_ok_and(|json| json.value.is_null()));
    documents.nth(index)?.ok()?.duplicates.into_iter().next()
}

/// Turns `1.0` into `1`, as the way from YAML to Kubernetes does for kubectl.
fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_f64() => Value::Number(whole(number)),
        Value::Array(items) => Value::Array(items.into_iter().map(whole_numbers).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (key, whole_numbers(value))).collect())
        }
        other => other,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "whole numbers within 2^53 fit")]
fn whole(number: Number) -> Number {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(float) if float.fract() == 0.0 && float.abs() <= EXACT => Number::from(float as i64),
        _ => number,
    }
}

/// An object is itself; a list is its items.
fn unfold(index: usize, place: String, value: Value, documents: &mut Documents) {
    match value {
        Value::Object(mut object) if is_list(&object) => {
            let items = object.remove("items").unwrap_or_default();
            let Value::Array(items) = items else {
                documents.faults.push(Fault::new(format!("{place}.items"), "must be a list of objects"));
                return;
            };
            for (position, item) in items.into_iter().enumerate() {
                unfold(index, format!("{place}.items[{position}]"), item, documents);
            }
        }
        Value::Object(object) => documents.objects.push(Document { index, place, object }),
        Value::Array(items) => {
            for (position, item) in items.into_iter().enumerate() {
                unfold(index, format!("{place}[{position}]"), item, documents);
            }
        }
        other => {
            let what = match other {
                Value::String(_) => "text",
                Value::Number(_) => "a number",
                Value::Null => "nothing",
                _ => "a boolean",
            };
            documents.faults.push(Fault::new(place, format!("is {what} where an object belongs")));
        }
    }
}

/// A `List`, or the list of one kind such as `RolloutList`.
fn is_list(object: &Map<String, Value>) -> bool {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    kind == "List" || (kind.ends_with("List") && object.contains_key("items"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn objects(manifest: &str) -> Vec<(String, Value)> {
        let documents = read(manifest).unwrap();
        assert_eq!(documents.faults, []);
        documents
            .objects
            .into_iter()
            .map(|document| (document.place, Value::Object(document.object)))
            .collect()
    }

    #[test]
    fn several_documents_lists_and_arrays_are_objects_with_places() {
        let a = json!({ "kind": "A" });
        let b = json!({ "kind": "B" });
        let both =
            |first: &str, second: &str| vec![(first.to_owned(), a.clone()), (second.to_owned(), b.clone())];
        for (manifest, expected) in [
            ("---\nkind: A\n---\n# nothing\n---\nkind: B\n...\n", both("[0]", "[1]")),
            ("kind: A\n---\n---\nkind: B", both("[0]", "[1]")),
            ("kind: List\nitems:\n- kind: A\n- kind: B\n", both("[0].items[0]", "[0].items[1]")),
            ("[{\"kind\":\"A\"},{\"kind\":\"B\"}]", both("[0][0]", "[0][1]")),
            ("{\"kind\":\"A\"}\n{\"kind\":\"B\"}", both("[0]", "[1]")),
            ("{kind: A}\n---\n{kind: B}", both("[0]", "[1]")),
            ("kind: A\n---\nkind: RolloutList\nitems: [{kind: B}]", both("[0]", "[1].items[0]")),
        ] {
            assert_eq!(objects(manifest), expected, "{manifest}");
        }
    }

    #[test]
    fn values_are_read_as_kubectl_reads_them_and_none_is_lost() {
        for (yaml, value) in [
            ("0644", json!(420)),
            ("'0644'", json!("0644")),
            ("9223372036854775807", json!(i64::MAX)),
            ("18446744073709551615", json!(u64::MAX)),
            ("1.0", json!(1)),
            ("0.5", json!(0.5)),
            ("yes", json!(true)),
            ("'yes'", json!("yes")),
            ("2026-11-21", json!("2026-11-21")),
            ("100m", json!("100m")),
            ("~", json!(null)),
            ("|\n  a\n  b\n", json!("a\nb\n")),
            ("1e3", json!(1000)),
        ] {
            let read = objects(&format!("v: {yaml}"));
            assert_eq!(read[0].1, json!({ "v": value }), "{yaml}");
        }
    }

    #[test]
    fn malformed_yaml_is_told_with_document_line_and_column() {
        for (manifest, index, line, column) in [
            ("kind: A\n---\nspec: [\n", 1, 3, 7),
            ("kind: A\n---\nspec: {x: 1\nkind: : :\n", 1, 4, 5),
            ("kind: A\nkind: B\n", 0, 2, 1),
            ("{\"kind\": \"A\",\n \"kind\": \"B\"}", 0, 2, 2),
            ("a: *nope\n", 0, 1, 4),
            ("{\"kind\": ]}", 0, 1, 1),
        ] {
            let malformed = read(manifest).unwrap_err();
            let location = malformed.location.unwrap();
            assert_eq!((malformed.index, location), (index, Location { line, column }), "{malformed}");
        }
    }

    #[test]
    fn names_that_stand_twice_are_told_with_their_paths() {
        for (manifest, place, location) in [
            ("kind: A\n---\nmetadata:\n  labels:\n    a: x\n    a: x\n", "[1].metadata.labels.a", (6, 5)),
            ("---\n---\nspec:\n- {b: 1}\n- {b: 1, b: 2}\n", "[0].spec[1].b", (5, 10)),
            ("spec: {a: 1}\nspec: {b: 1, b: 2}\n", "[0].spec", (2, 1)),
            ("labels: {a.b/c: 1, a.b/c: 1}\n", "[0].labels[a.b/c]", (1, 20)),
            ("{\"kind\": \"A\",\n \"spec\": {\"n\": 1, \"n\": 1}}", "[0].spec.n", (2, 19)),
        ] {
            let malformed = read(manifest).unwrap_err();
            let (line, column) = location;
            assert_eq!((&*malformed.place(), malformed.location), (place, Some(Location { line, column })));
            let field = &place[3..].trim_start_matches('.');
            let why =
                format!("{field:?} stands twice, again at line {line}, column {column}; keep one of them");
            assert_eq!(malformed.to_string(), why);
        }
    }

    #[test]
    fn a_name_that_stands_twice_is_told_where_its_path_or_its_line_is_not_known() {
        for (manifest, place, why) in [
            ("a: {7: x, 7: x}", "[0]", "\"7\" stands twice, again at line 1, column 11; keep one of them"),
            ("a: {b: x, b: x\n", "[0]", "\"b\" stands twice, again at line 1, column 11; keep one of them"),
            ("{\"b\": 1}\n{\"b\": 1, \"b\": 2}", "[1].b", "\"b\" stands twice; keep one of them"),
        ] {
            let malformed = read(manifest).unwrap_err();
            assert_eq!((&*malformed.place(), &*malformed.to_string()), (place, why));
        }
    }

    #[test]
    fn what_is_no_object_is_told_with_its_place() {
        for (manifest, places) in [
            ("just text", vec!["[0]"]),
            ("- 1\n- 2", vec!["[0][0]", "[0][1]"]),
            ("kind: A\n---\ntrue", vec!["[1]"]),
            ("kind: List\nitems: 7", vec!["[0].items"]),
            ("kind: List\nitems: [x]", vec!["[0].items[0]"]),
        ] {
            let faults = read(manifest).unwrap().faults;
            assert_eq!(faults.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(), places);
        }
    }

    #[test]
    fn what_is_empty_holds_nothing() {
        for manifest in ["", "# nothing\n", "---\n---\n", "[]", "kind: List\nitems: []"] {
            assert_eq!(read(manifest).unwrap(), Documents::default(), "{manifest}");
        }
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = format!("*a{}", level - 1);
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", ")));
        }
        assert!(read(&bomb).is_err());
    }
}
