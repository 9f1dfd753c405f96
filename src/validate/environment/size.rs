//! How much environment there may be: all annotations of an object have 256 KiB together, those of a pod and those of its ReplicaSet, which
//! notes as JSON what its pods were given, and what they had before.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Path, Values, Violation};
use crate::crd::{PodTemplateMetadata, Rollout, keys};
use crate::validate::ephemeral;

/// How many bytes the annotations of an object may have in all, keys and values (Kubernetes).
const MOST_BYTES: usize = 256 * 1024;

/// How many of them a ReplicaSet may need for what its pods were given, and again for what they had before.
const MOST_NOTED: usize = 80 * 1024;

/// What else a ReplicaSet notes of itself, and of each annotation that it inherits.
const BOOKKEEPING: usize = 4 * 1024;
const NOTE_OF_INHERITED: usize = r#""":"01234567","#.len();

/// Prefixes of annotations that a ReplicaSet does not inherit.
const NOT_INHERITED: [&str; 2] = ["rolloutd.dev/", "kubectl.kubernetes.io/"];

/// An environment that is too large.
pub(super) fn size(rollout: &Rollout, values: &Values, at: &Path) -> Option<Violation> {
    let given = ephemeral::given(&rollout.spec, at);
    let given: Vec<&PodTemplateMetadata> = given.into_iter().map(|(metadata, _)| metadata).collect();
    let noted = noted(values);
    let of_pods = of_pods(rollout, &given) + in_pods(values);
    let of_set = of_set(rollout, &given) + noted + MOST_NOTED;
    let detail = if noted > MOST_NOTED {
        format!(
            "its ReplicaSet would note {noted} bytes of it, as JSON, in which each value counts twice; {MOST_NOTED} are possible"
        )
    } else if of_pods > MOST_BYTES {
        format!("pods would have {of_pods} bytes of annotations with it; {MOST_BYTES} are possible")
    } else if of_set > MOST_BYTES {
        format!(
            "ReplicaSets could come to have {of_set} bytes of annotations with it and those they inherit; {MOST_BYTES} are possible"
        )
    } else {
        return None;
    };
    Some(Violation::forbidden(at.clone(), detail))
}

/// The environment as pods have it: as a whole, and once more value by value.
fn in_pods(values: &Values) -> usize {
    let entry = |(name, value): (&String, &String)| {
        let line = name.len() + "=\"\"\n".len() + value.len() + special(value);
        line + keys::ENVIRONMENT.len() + ".".len() + name.len() + value.len()
    };
    keys::ENVIRONMENT.len() + values.iter().map(entry).sum::<usize>()
}

/// The same as a ReplicaSet notes it, where JSON makes more of some characters.
fn noted(values: &Values) -> usize {
    let entry = |(name, value): (&String, &String)| {
        let value_in_json = in_json(value);
        // A backslash before a special character has one itself.
        let line = name.len() + r#"=\"\"\n"#.len() + value_in_json + 2 * special(value);
        line + keys::ENVIRONMENT.len() + name.len() + r#"".":"","#.len() + value_in_json
    };
    let whole = r#"{"annotations":{"":""}}"#.len() + keys::ENVIRONMENT.len();
    whole + values.iter().map(entry).sum::<usize>()
}

/// How many characters of a value a shell takes for its own: each has a backslash before it.
fn special(value: &str) -> usize {
    value.matches(['\\', '"', '$', '`']).count()
}

/// The bytes of a text in JSON, without the quotes around it.
fn in_json(text: &str) -> usize {
    let of_character = |character: char| match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => r"\u0000".len(),
        other => other.len_utf8(),
    };
    text.chars().map(of_character).sum()
}

/// The other annotations of pods.
fn of_pods(rollout: &Rollout, given: &[&PodTemplateMetadata]) -> usize {
    let template = rollout.spec.template.as_ref();
    let of_template = template.and_then(|template| template.pointer("/metadata/annotations"));
    let of_template = of_template.and_then(Value::as_object).into_iter().flatten();
    let of_template = of_template.map(|(key, value)| key.len() + value.as_str().map_or(0, str::len));
    let given = given.iter().flat_map(|metadata| metadata.annotations.iter().flatten());
    of_template.sum::<usize>() + given.map(|(key, value)| key.len() + value.len()).sum::<usize>()
}

/// The other annotations of ReplicaSets: what they note of the strategy's metadata, what they inherit, and the rest.
fn of_set(rollout: &Rollout, given: &[&PodTemplateMetadata]) -> usize {
    let entries = |map: &BTreeMap<String, String>| {
        map.iter().map(|(key, value)| in_json(key) + in_json(value) + r#""":"","#.len()).sum::<usize>()
    };
    let noted = given.iter().flat_map(|metadata| [&metadata.labels, &metadata.annotations]);
    let noted: usize = noted.flatten().map(entries).sum();
    let annotations = rollout.metadata.annotations.iter().flatten();
    let is_inherited = |key: &str| !NOT_INHERITED.iter().any(|prefix| key.starts_with(prefix));
    let inherited = annotations.filter(|(key, _)| is_inherited(key));
    let inherited: usize =
        inherited.map(|(key, value)| 2 * key.len() + value.len() + NOTE_OF_INHERITED).sum();
    BOOKKEEPING + noted + inherited
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The record of a ReplicaSet, to the letter.
    fn record(values: &Values) -> String {
        let escaped = |value: &str| {
            let escape = |character: char| match character {
                '\\' | '"' | '$' | '`' => format!("\\{character}"),
                other => other.to_string(),
            };
            value.chars().map(escape).collect::<String>()
        };
        let lines = values.iter().map(|(name, value)| format!("{name}=\"{}\"\n", escaped(value)));
        let mut annotations = BTreeMap::from([(keys::ENVIRONMENT.to_owned(), lines.collect::<String>())]);
        let each =
            values.iter().map(|(name, value)| (format!("{}.{name}", keys::ENVIRONMENT), value.clone()));
        annotations.extend(each);
        json!({ "annotations": annotations }).to_string()
    }

    #[test]
    fn the_record_is_counted_as_it_is_written() {
        for value in
            ["", "plain", "\u{1}\u{1f}\u{7f}", "\"$`\\", "a\nb\tc\r\u{8}\u{c}", "Grüße", "</script>&"]
        {
            let values: Values =
                [("A".to_owned(), value.to_owned()), ("B_1".to_owned(), value.to_owned())].into();
            assert_eq!(noted(&values), record(&values).len(), "{value:?}");
        }
    }

    fn wrong(annotations: &Value, value: &str) -> String {
        let mut annotations = annotations.clone();
        annotations[keys::CANARY_ENVIRONMENT] = json!(json!({ "A": value }).to_string());
        let rollout = json!({ "metadata": { "annotations": annotations }, "spec": {} });
        let rollout: Rollout = serde_json::from_value(rollout).unwrap();
        let values = [("A".to_owned(), value.to_owned())].into();
        size(&rollout, &values, &Path::root("metadata")).map(|violation| violation.detail).unwrap_or_default()
    }

    #[test]
    fn what_grows_in_json_counts_as_large_as_it_is_there() {
        assert_eq!(wrong(&json!({}), &"x".repeat(40_000)), "");
        assert!(wrong(&json!({}), &"x".repeat(41_000)).contains("81920 are possible"));
        assert!(wrong(&json!({}), &"\u{1}".repeat(7_000)).contains("81920 are possible"));
        assert!(wrong(&json!({}), &"\"".repeat(14_000)).contains("81920 are possible"));
    }

    #[test]
    fn what_replica_sets_inherit_counts_too() {
        let (fits, does_not) = ("x".repeat(90_000), "x".repeat(100_000));
        assert_eq!(wrong(&json!({ "note": fits }), &"x".repeat(39_000)), "");
        assert!(wrong(&json!({ "note": does_not }), &"x".repeat(39_000)).contains("inherit"));
        assert_eq!(wrong(&json!({ "kubectl.kubernetes.io/x": does_not }), &"x".repeat(39_000)), "");
    }
}
