use serde_json::{Value, json};

use super::*;

const SET: &str = "io.k8s.api.apps.v1.ReplicaSet";
const POD: &str = "io.k8s.api.core.v1.Pod";

fn members(value: Value) -> Members {
    match value {
        Value::Object(members) => members,
        other => panic!("{other} is no object"),
    }
}

fn patched(object: Value, patch: Value) -> Value {
    Value::Object(merge(POD, members(object), members(patch)).unwrap_or_else(|error| panic!("{error}")))
}

fn refusal(object: Value, patch: Value) -> PatchError {
    merge(POD, members(object), members(patch)).unwrap_err()
}

/// A pod with these containers, written `name=image`.
fn pod(containers: &[&str]) -> Value {
    let container = |text: &&str| {
        let (name, image) = text.split_once('=').unwrap();
        json!({"name": name, "image": image})
    };
    json!({"spec": {"containers": containers.iter().map(container).collect::<Vec<_>>()}})
}

fn containers(pod: &Value) -> Vec<String> {
    let containers = pod["spec"]["containers"].as_array().unwrap().iter();
    containers.map(|c| format!("{}={}", c["name"].as_str().unwrap(), c["image"].as_str().unwrap())).collect()
}

fn finalizers(names: &[&str]) -> Value {
    json!({"metadata": {"finalizers": names}})
}

#[test]
fn objects_are_merged_and_nulls_remove() {
    let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"nodeName": "n"}});
    let patch = json!({"metadata": {"labels": {"a": null, "c": "3", "d": null}}, "spec": null});
    assert_eq!(patched(object, patch), json!({"metadata": {"labels": {"b": "2", "c": "3"}}}));
    // Of what is new, nulls stay behind at every depth, and so do directives.
    let patch =
        json!({"metadata": {"labels": {"a": null, "b": "1"}, "annotations": {"$patch": "delete", "x": "y"}}});
    assert_eq!(patched(json!({}), patch), json!({"metadata": {"labels": {"b": "1"}}}));
}

#[test]
fn an_object_is_replaced_or_deleted_where_the_patch_says_so() {
    let object = json!({"metadata": {"labels": {"a": "1"}, "annotations": {"x": "1"}}});
    let patch =
        json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}, "annotations": {"$patch": "delete"}}});
    assert_eq!(patched(object, patch), json!({"metadata": {"labels": {"b": "2"}, "annotations": {}}}));
    let budget = json!({"spec": {"selector": {"matchLabels": {"a": "1"}}}});
    let patch = json!({"spec": {"selector": {"matchLabels": {"b": "2"}}}});
    let merged = merge("io.k8s.api.policy.v1.PodDisruptionBudget", members(budget), members(patch.clone()));
    assert_eq!(Value::Object(merged.unwrap()), patch, "its type says replace");
}

#[test]
fn items_are_merged_by_key() {
    let patch = |items: Value| json!({"spec": {"containers": items}});
    let cases = [
        // Changed where it stands.
        (json!([{"name": "b", "image": "9"}]), vec!["a=1", "b=9", "c=3"]),
        // What is new stands first.
        (json!([{"name": "n", "image": "0"}]), vec!["n=0", "a=1", "b=2", "c=3"]),
        (json!([{"name": "b", "image": "9"}, {"name": "n", "image": "0"}]), vec!["a=1", "b=9", "n=0", "c=3"]),
        // The patch's own order holds among what it names.
        (json!([{"name": "c"}, {"name": "a"}]), vec!["b=2", "c=3", "a=1"]),
        (json!([{"name": "b", "$patch": "delete"}, {"name": "n", "$patch": "delete"}]), vec!["a=1", "c=3"]),
        (json!([{"$patch": "replace"}, {"name": "n", "image": "0"}]), vec!["n=0"]),
        (json!([{"$patch": "replace"}]), vec![]),
        (json!([]), vec!["a=1", "b=2", "c=3"]),
    ];
    for (items, expected) in cases {
        let result = patched(pod(&["a=1", "b=2", "c=3"]), patch(items.clone()));
        assert_eq!(containers(&result), expected, "{items}");
    }
}

#[test]
fn an_order_that_the_patch_says_is_the_order() {
    let order = |names: &[&str], items: Value| {
        let order: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        json!({"spec": {"$setElementOrder/containers": order, "containers": items}})
    };
    let three = pod(&["a=1", "b=2", "c=3"]);
    let cases = [
        (order(&["c", "a", "b"], json!([{"name": "a", "image": "9"}])), vec!["c=3", "a=9", "b=2"]),
        // What it does not name keeps its place beside what it stood before.
        (order(&["c", "a"], json!([])), vec!["b=2", "c=3", "a=1"]),
        (order(&["a", "n"], json!([{"name": "n", "image": "0"}])), vec!["a=1", "n=0", "b=2", "c=3"]),
        (order(&["a", "c"], json!([{"name": "b", "$patch": "delete"}])), vec!["a=1", "c=3"]),
        // An empty order orders nothing.
        (
            order(&[], json!([{"name": "m", "image": "0"}, {"name": "n", "image": "0"}])),
            vec!["n=0", "m=0", "a=1", "b=2", "c=3"],
        ),
    ];
    for (patch, expected) in cases {
        assert_eq!(containers(&patched(three.clone(), patch.clone())), expected, "{patch}");
    }
    let wrong = order(&["b", "a"], json!([{"name": "a"}, {"name": "b"}]));
    assert_eq!(
        refusal(three, wrong).to_string(),
        "The order in patch list:\n[map[name:a] map[name:b]]\n doesn't match $setElementOrder list:\n\
         [map[name:b] map[name:a]]\n"
    );
}

#[test]
fn lists_of_scalars_are_sets_or_replaced() {
    let cases = [
        (finalizers(&["c", "a"]), vec!["c", "a", "b"]),
        (json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "n"]}}), vec!["b"]),
        (
            json!({"metadata": {"$setElementOrder/finalizers": ["b", "n", "a"], "finalizers": ["n"]}}),
            vec!["b", "n", "a"],
        ),
    ];
    for (patch, expected) in cases {
        assert_eq!(patched(finalizers(&["a", "b"]), patch.clone()), finalizers(&expected), "{patch}");
    }
    let args = |args: &[&str]| json!({"spec": {"containers": [{"name": "a", "args": args}]}});
    assert_eq!(patched(args(&["x", "y"]), args(&["z"])), args(&["z"]));
    let absent = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}});
    assert_eq!(patched(json!({"metadata": {}}), absent), json!({"metadata": {}}));
}

#[test]
fn only_retained_members_stay() {
    let volume = |volume: Value| json!({"spec": {"volumes": [volume]}});
    let before = volume(json!({"name": "v", "emptyDir": {}, "hostPath": null}));
    let patch =
        volume(json!({"name": "v", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}}));
    assert_eq!(patched(before.clone(), patch), volume(json!({"name": "v", "secret": {"secretName": "s"}})));
    for keys in [json!(["name"]), json!("name")] {
        let patch = volume(json!({"name": "v", "$retainKeys": keys, "secret": {}}));
        assert_eq!(refusal(before.clone(), patch), PatchError::Malformed("retainKeys"));
    }
}

#[test]
fn malformed_patches_say_what_is_wrong() {
    let spec = |members: Value| json!({ "spec": members });
    let cases = [
        (
            spec(json!({"containers": [{"image": "1"}]})),
            "map: map[image:1] does not contain declared merge key: name",
        ),
        (
            spec(json!({"containers": [{"name": "a", "$patch": "merge"}]})),
            "merging lists cannot yet be specified in",
        ),
        (
            spec(json!({"containers": [{"name": "a", "$patch": 5}]})),
            "unknown patch type: 5 in map: map[$patch:5 name:a]",
        ),
        (
            spec(json!({"containers": [null]})),
            "list element types are not identical: [[map[image:1 name:a]] [<nil>]]",
        ),
        (spec(json!({"$setElementOrder": []})), "invalid patch format of setElementOrder list"),
        (
            spec(json!({"$setElementOrder/containers": {}})),
            "expected a []interface {}, but received a map[string]interface {}",
        ),
        (
            spec(json!({"$setElementOrder/nope": []})),
            "unable to find api field in struct PodSpec for the json field \"nope\"",
        ),
        (
            spec(json!({"$setElementOrder/hostAliases": [], "hostAliases": []})),
            "no elements in any of the given slices",
        ),
        (
            spec(json!({"$setElementOrder/hostAliases": [], "hostAliases": [[]]})),
            "lists of lists are not supported",
        ),
        (spec(json!({"$deleteFromPrimitiveList": []})), "invalid patch format of primitive list"),
    ];
    for (patch, message) in cases {
        let error = refusal(pod(&["a=1"]), patch.clone()).to_string();
        assert!(error.starts_with(message), "{patch}: {error}");
    }
}

#[test]
fn long_lists_are_merged_in_a_moment() {
    // A quadratic merge of lists that a body may have would hold the server up for minutes.
    let items = |from: usize| -> Vec<Value> {
        (from..from + 60_000).map(|n| json!({"name": n.to_string()})).collect()
    };
    let list = |from: usize| json!({"spec": {"template": {"spec": {"containers": items(from)}}}});
    let merged = merge(SET, members(list(0)), members(list(30_000))).unwrap();
    assert_eq!(merged["spec"]["template"]["spec"]["containers"].as_array().map(Vec::len), Some(90_000));
}

proptest::proptest! {
    /// Whatever a client sends: an answer, and an empty patch changes nothing.
    #[test]
    fn no_patch_panics(
        names in proptest::collection::vec("[a-c]", 0..4),
        patch in proptest::collection::vec(("[a-d]", 0..6u8), 0..5),
        order in proptest::option::of(proptest::collection::vec("[a-d]", 0..5)),
    ) {
        let present: Vec<String> = names.iter().map(|name| format!("{name}=1")).collect();
        let object = pod(&present.iter().map(String::as_str).collect::<Vec<_>>());
        let items: Vec<Value> = patch
            .iter()
            .map(|(name, kind)| match kind {
                0 => json!({"name": name, "$patch": "delete"}),
                1 => json!({"$patch": "replace"}),
                2 => json!({"image": name}),
                3 => json!(name),
                _ => json!({"name": name, "image": "2"}),
            })
            .collect();
        let mut spec = json!({ "containers": items });
        if let Some(order) = order {
            let order: Vec<Value> = order.iter().map(|name| json!({"name": name})).collect();
            spec["$setElementOrder/containers"] = json!(order);
        }
        let _ = merge(POD, members(object.clone()), members(json!({ "spec": spec })));
        proptest::prop_assert_eq!(patched(object.clone(), json!({"spec": {}})), object);
    }
}
