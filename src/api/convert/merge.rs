//! What a change made through messages does to the stored object: a three-way merge, so that whatever the messages do not know
//! survives.
//!
//! `old` is the stored object as the messages show it, `new` what they show after the change. Where both agree the stored
//! value stays as it is, to the letter. Lists are merged item by item where the items can be told apart.

use serde_json::{Map, Value};

/// The stored value with the change from `old` to `new`.
#[must_use]
pub(in crate::api) fn three_way(old: &Value, new: &Value, stored: &Value) -> Value {
    if old == new {
        return stored.clone();
    }
    match (old, new, stored) {
        (Value::Object(old), Value::Object(new), Value::Object(stored)) => {
            Value::Object(objects(old, new, stored))
        }
        (Value::Array(old), Value::Array(new), Value::Array(stored)) if old.len() == stored.len() => {
            Value::Array(lists(old, new, stored))
        }
        _ => new.clone(),
    }
}

fn objects(
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    stored: &Map<String, Value>,
) -> Map<String, Value> {
    let mut merged = stored.clone();
    merged.retain(|key, _| !old.contains_key(key) || new.contains_key(key));
    for (key, value) in new {
        let value = match (old.get(key), stored.get(key)) {
            (Some(old), Some(stored)) => three_way(old, value, stored),
            // Nobody can have meant to keep what the messages did not show under a name that they now give a value.
            _ => value.clone(),
        };
        merged.insert(key.clone(), value);
    }
    merged
}

fn lists(old: &[Value], new: &[Value], stored: &[Value]) -> Vec<Value> {
    let partners = align(old, new);
    let merge = |(item, partner): (&Value, Option<usize>)| match partner {
        Some(index) => three_way(&old[index], item, &stored[index]),
        None => item.clone(),
    };
    new.iter().zip(partners).map(merge).collect()
}

/// For each new item, the old item that it was: what both lists begin and end with is the same, and between, items are the same
/// by name, by equality, or, when there are as many as before, by position.
pub(in crate::api) fn align(old: &[Value], new: &[Value]) -> Vec<Option<usize>> {
    let head = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let tail = old_rest.iter().rev().zip(new_rest.iter().rev()).take_while(|(old, new)| old == new).count();
    let old_middle = &old_rest[..old_rest.len() - tail];
    let new_middle = &new_rest[..new_rest.len() - tail];

    let mut partners: Vec<Option<usize>> = (0..head).map(Some).collect();
    partners.extend(
        align_middle(old_middle, new_middle).into_iter().map(|index| index.map(|index| head + index)),
    );
    partners.extend((old.len() - tail..old.len()).map(Some));
    partners
}

fn align_middle(old: &[Value], new: &[Value]) -> Vec<Option<usize>> {
    let by_name = old.iter().chain(new).all(|item| name(item).is_some());
    if !by_name && old.len() == new.len() {
        return (0..old.len()).map(Some).collect();
    }
    let mut taken = vec![false; old.len()];
    let same = |a: &Value, b: &Value| if by_name { name(a) == name(b) } else { a == b };
    new.iter()
        .map(|item| {
            let index = (0..old.len()).find(|&index| !taken[index] && same(&old[index], item))?;
            taken[index] = true;
            Some(index)
        })
        .collect()
}

/// What tells the items of most of Kubernetes' lists apart.
fn name(item: &Value) -> Option<&str> {
    let fields = item.as_object()?;
    ["name", "key", "templateName", "metricName"].iter().find_map(|field| fields.get(*field)?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_the_messages_do_not_know_survives_a_change_beside_it() {
        for (old, new, stored, merged) in [
            (json!({ "a": 1 }), json!({ "a": 2 }), json!({ "a": 1, "x": 9 }), json!({ "a": 2, "x": 9 })),
            (json!({ "a": 1 }), json!({}), json!({ "a": 1, "x": 9 }), json!({ "x": 9 })),
            (json!({}), json!({ "a": { "b": 1 } }), json!({ "a": "" }), json!({ "a": { "b": 1 } })),
            (json!({}), json!({}), json!({ "empty": "" }), json!({ "empty": "" })),
            (
                json!({ "a": { "b": 1 } }),
                json!({ "a": { "b": 1, "c": 2 } }),
                json!({ "a": { "x": 0, "b": 1 } }),
                json!({ "a": { "x": 0, "b": 1, "c": 2 } }),
            ),
        ] {
            assert_eq!(three_way(&old, &new, &stored), merged, "{old} -> {new} on {stored}");
        }
    }

    #[test]
    fn items_keep_what_is_theirs_when_others_come_go_or_change() {
        let old = json!([{ "setWeight": 20 }, { "pause": {} }, { "setWeight": 60 }]);
        let stored =
            json!([{ "setWeight": 20, "x": 1 }, { "pause": {}, "x": 2 }, { "setWeight": 60, "x": 3 }]);
        for (new, merged) in [
            (
                json!([{ "setWeight": 20 }, { "setWeight": 40 }, { "pause": {} }, { "setWeight": 60 }]),
                json!([{ "setWeight": 20, "x": 1 }, { "setWeight": 40 }, { "pause": {}, "x": 2 }, { "setWeight": 60, "x": 3 }]),
            ),
            (
                json!([{ "setWeight": 20 }, { "setWeight": 60 }]),
                json!([{ "setWeight": 20, "x": 1 }, { "setWeight": 60, "x": 3 }]),
            ),
            (
                json!([{ "setWeight": 20 }, { "pause": {} }, { "setWeight": 70 }]),
                json!([{ "setWeight": 20, "x": 1 }, { "pause": {}, "x": 2 }, { "setWeight": 70, "x": 3 }]),
            ),
            (json!([]), json!([])),
        ] {
            assert_eq!(three_way(&old, &new, &stored), merged);
        }
    }

    #[test]
    fn named_items_are_the_same_wherever_they_stand() {
        let old = json!([{ "name": "a" }, { "name": "b" }]);
        let stored = json!([{ "name": "a", "x": 1 }, { "name": "b", "x": 2 }]);
        let new = json!([{ "name": "b", "image": "2" }, { "name": "c" }, { "name": "a" }]);
        let merged = json!([{ "name": "b", "x": 2, "image": "2" }, { "name": "c" }, { "name": "a", "x": 1 }]);
        assert_eq!(three_way(&old, &new, &stored), merged);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), (0..3_i32).prop_map(Value::from)];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-d]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_change_without_unknown_fields_gives_the_new_value(old in json(), new in json()) {
            prop_assert_eq!(three_way(&old, &new, &old), new);
        }

        #[test]
        fn no_change_changes_nothing(old in json(), stored in json()) {
            prop_assert_eq!(three_way(&old, &old, &stored), stored);
        }
    }
}
