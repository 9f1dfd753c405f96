//! Reading and writing the parts that every object shares: kind, metadata, status.
//!
//! Depends on nothing of the server. Objects are JSON values throughout it: a stored object is exactly what a
//! client sees, and fields of custom resources need no Rust type.

use std::io;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// A JSON object.
pub(crate) type Members = Map<String, Value>;

/// Bytes that a value has as compact JSON.
pub(crate) fn size(value: &Value) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    serde_json::to_writer(&mut counter, value).map_or(usize::MAX, |()| counter.0)
}

/// Typed access to the common fields of an object; a missing or mistyped field reads as empty.
pub(crate) trait Object {
    fn text(&self, pointer: &str) -> &str;
    fn integer(&self, pointer: &str) -> Option<i64>;
    fn list(&self, pointer: &str) -> &[Value];
    fn map(&self, pointer: &str) -> Option<&Members>;
    /// `metadata`, made if missing.
    fn metadata_mut(&mut self) -> &mut Members;
    /// Sets `metadata.<key>`, or removes it for `None`.
    fn set_meta(&mut self, key: &str, value: Option<Value>);
    /// Sets a member of the object, or removes it for `None`.
    fn set_member(&mut self, key: &str, value: Option<Value>);

    fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    fn uid(&self) -> &str {
        self.text("/metadata/uid")
    }

    fn resource_version(&self) -> &str {
        self.text("/metadata/resourceVersion")
    }

    fn generation(&self) -> i64 {
        self.integer("/metadata/generation").unwrap_or(0)
    }

    fn finalizers(&self) -> Vec<&str> {
        self.list("/metadata/finalizers").iter().filter_map(Value::as_str).collect()
    }

    fn is_being_deleted(&self) -> bool {
        !self.text("/metadata/deletionTimestamp").is_empty()
    }

    fn labels(&self) -> Option<&Members> {
        self.map("/metadata/labels")
    }
}

impl Object for Value {
    fn text(&self, pointer: &str) -> &str {
        self.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn integer(&self, pointer: &str) -> Option<i64> {
        self.pointer(pointer).and_then(Value::as_i64)
    }

    fn list(&self, pointer: &str) -> &[Value] {
        self.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    fn map(&self, pointer: &str) -> Option<&Members> {
        self.pointer(pointer).and_then(Value::as_object)
    }

    fn metadata_mut(&mut self) -> &mut Members {
        if !self.is_object() {
            *self = json!({});
        }
        let metadata = &mut self["metadata"];
        if !metadata.is_object() {
            *metadata = json!({});
        }
        metadata.as_object_mut().expect("made an object above")
    }

    fn set_meta(&mut self, key: &str, value: Option<Value>) {
        let metadata = self.metadata_mut();
        match value {
            Some(value) => metadata.insert(key.to_owned(), value),
            None => metadata.remove(key),
        };
    }

    fn set_member(&mut self, key: &str, value: Option<Value>) {
        let Some(members) = self.as_object_mut() else { return };
        match value {
            Some(value) => members.insert(key.to_owned(), value),
            None => members.remove(key),
        };
    }
}

/// A moment as `metav1.Time` writes it: UTC, whole seconds.
pub(crate) fn time(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A moment as `metav1.MicroTime` writes it: UTC, microseconds.
pub(crate) fn micro_time(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Equal for the API: a missing member, null, an empty list and an empty map mean the same.
///
/// This is `apiequality.Semantic.DeepEqual` for decoded objects.
pub(crate) fn semantically_equal(a: Option<&Value>, b: Option<&Value>) -> bool {
    fn is_empty(value: Option<&Value>) -> bool {
        match value {
            None | Some(Value::Null) => true,
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(members)) => members.is_empty(),
            Some(_) => false,
        }
    }
    match (a, b) {
        (Some(Value::Object(x)), Some(Value::Object(y))) => {
            // Each member once: twice at each level would be for ever in a deep object.
            x.iter().all(|(key, member)| semantically_equal(Some(member), y.get(key)))
                && y.iter().filter(|(key, _)| !x.contains_key(*key)).all(|(_, member)| is_empty(Some(member)))
        }
        (Some(Value::Array(x)), Some(Value::Array(y))) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| semantically_equal(Some(x), Some(y)))
        }
        (Some(x), Some(y)) if !is_empty(a) || !is_empty(b) => x == y,
        _ => is_empty(a) && is_empty(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_empty_mean_the_same() {
        let cases = [
            (json!({"a": 1}), json!({"a": 1, "b": {}, "c": [], "d": null}), true),
            (json!({"a": {"b": []}}), json!({"a": {}}), true),
            (json!({"a": ""}), json!({}), false),
            (json!({"a": 0}), json!({}), false),
            (json!([1, 2]), json!([2, 1]), false),
            (json!({"a": [{"b": null}]}), json!({"a": [{}]}), true),
        ];
        for (a, b, equal) in cases {
            assert_eq!(semantically_equal(Some(&a), Some(&b)), equal, "{a} {b}");
            assert_eq!(semantically_equal(Some(&b), Some(&a)), equal, "{b} {a}");
        }
    }

    #[test]
    fn deep_objects_are_compared_in_reasonable_time() {
        let deep = (0..100).fold(json!(1), |inner, _| json!({"a": inner}));
        assert!(semantically_equal(Some(&deep), Some(&deep.clone())));
    }

    #[test]
    fn times_have_whole_seconds_and_micro_times_six_digits() {
        let moment: Timestamp = "2024-02-03T04:05:06.789Z".parse().unwrap();
        assert_eq!(time(moment), "2024-02-03T04:05:06Z");
        assert_eq!(micro_time(moment), "2024-02-03T04:05:06.789000Z");
    }

    #[test]
    fn metadata_is_made_when_missing() {
        let mut object = json!({"metadata": null});
        object.set_meta("name", Some(json!("web")));
        assert_eq!(object.name(), "web");
        object.set_meta("name", None);
        assert_eq!(object, json!({"metadata": {}}));
    }
}
