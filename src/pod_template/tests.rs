//! What a real API server (v1.35) stored for templates, tables of small differences, and properties.
//!
//! tests/data/pod_template_defaults.json holds templates with what the server answered to a dry run of
//! creating ReplicaSets with them; together they meet every default.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::hash::{FieldPath, PathElement, arbitrary, go_template_json};

pub(super) const SERVER_VECTORS: &str = include_str!("../../tests/data/pod_template_defaults.json");

#[derive(Deserialize)]
struct Stored {
    desired: Value,
    live: Value,
}

fn stored() -> Vec<Stored> {
    serde_json::from_str(SERVER_VECTORS).unwrap()
}

fn compared(desired: &Value, live: &Value) -> String {
    match compare(desired, live, UnknownFields::Count) {
        Sameness::Same => "same".to_owned(),
        Sameness::Undecided => "undecided".to_owned(),
        Sameness::Different { path } => path.to_string(),
    }
}

/// A template with one container, whose fields are given.
#[expect(clippy::needless_pass_by_value, reason = "takes json! as it stands")]
fn with_container(container: Value) -> Value {
    json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [container] } })
}

/// A template with one container and the fields of the pod that are given.
fn with_pod(mut spec: Value) -> Value {
    spec["containers"] = json!([{ "name": "app", "image": "app:1" }]);
    json!({ "metadata": {}, "spec": spec })
}

#[test]
fn defaults_are_those_of_a_real_api_server() {
    for Stored { desired, live } in stored() {
        let mut defaulted = desired.clone();
        apply_defaults(&mut defaulted);
        assert_eq!(go_template_json(&defaulted), go_template_json(&live), "{desired}");
    }
}

#[test]
fn structs_that_are_absent_get_their_defaults_too() {
    for mut nothing in [json!(null), json!({}), json!({ "spec": null })] {
        apply_defaults(&mut nothing);
        assert_eq!(nothing["spec"]["dnsPolicy"], "ClusterFirst");
    }
    let mut claim =
        with_pod(json!({ "volumes": [{ "name": "v", "ephemeral": { "volumeClaimTemplate": {} } }] }));
    apply_defaults(&mut claim);
    let path = "/spec/volumes/0/ephemeral/volumeClaimTemplate/spec/volumeMode";
    assert_eq!(claim.pointer(path), Some(&json!("Filesystem")));
}

#[test]
fn a_stored_template_is_the_same_as_the_written_one() {
    for Stored { desired, live } in stored() {
        assert_eq!(compared(&desired, &live), "same", "{desired}");
        assert_eq!(compared(&live, &live), "same", "{live}");
        assert_eq!(compared(&desired, &desired), "same", "a store without defaults: {desired}");
    }
}

#[test]
fn a_changed_field_is_named() {
    let desired =
        with_container(json!({ "name": "app", "image": "app:2", "env": [{ "name": "A", "value": "1" }] }));
    let cases = [
        (json!({ "name": "app", "image": "app:1" }), "spec.containers[0].image"),
        (json!({ "name": "app", "image": "app:2" }), "spec.containers[0].env"),
        (
            json!({ "name": "app", "image": "app:2", "env": [{ "name": "A", "value": "2" }] }),
            "spec.containers[0].env[0].value",
        ),
        (
            json!({ "name": "app", "image": "app:2", "env": [{ "name": "A" }] }),
            "spec.containers[0].env[0].value",
        ),
        (
            json!({ "name": "app", "image": "app:2", "env": [{ "name": "A", "value": "1" }, { "name": "B" }] }),
            "spec.containers[0].env",
        ),
        (
            json!({ "name": "app", "image": "app:2", "env": [{ "name": "A", "value": "1" }], "tty": true }),
            "spec.containers[0].tty",
        ),
        (
            json!({ "name": "app", "image": "app:2", "env": [{ "name": "A", "value": "1" }],
                "livenessProbe": { "exec": {} } }),
            "spec.containers[0].livenessProbe",
        ),
    ];
    for (live, path) in cases {
        assert_eq!(compared(&desired, &with_container(live)), path);
    }
    let mut relabelled = desired.clone();
    relabelled["metadata"]["labels"]["tier"] = json!("front");
    assert_eq!(compared(&desired, &relabelled), "metadata.labels[tier]");
    assert_eq!(compared(&relabelled, &desired), "metadata.labels[tier]");
}

#[test]
fn spellings_of_the_same_value_are_the_same() {
    let written = json!({ "name": "app", "image": "app:1", "stdin": false, "args": [], "env": null,
        "resources": { "limits": { "cpu": "1000m", "memory": "0.5Gi", "x": "0.0001" }, "requests": {} } });
    let stored = json!({ "name": "app", "image": "app:1", "imagePullPolicy": "IfNotPresent",
        "resources": { "limits": { "cpu": 1, "memory": "512Mi", "x": "1m" } } });
    assert_eq!(compared(&with_container(written), &with_container(stored)), "same");
}

#[test]
fn the_old_name_of_the_service_account_is_no_difference() {
    let stored = with_pod(json!({ "serviceAccountName": "sa", "serviceAccount": "sa" }));
    assert_eq!(compared(&with_pod(json!({ "serviceAccountName": "sa" })), &stored), "same");
    assert_eq!(compared(&with_pod(json!({ "serviceAccount": "sa" })), &stored), "same");
    assert_eq!(compared(&with_pod(json!({ "serviceAccount": "sb" })), &stored), "spec.serviceAccount");
}

#[test]
fn what_another_server_may_have_added_or_dropped_is_undecided() {
    let container = |fields: Value| {
        let mut container = json!({ "name": "app", "image": "app:1" });
        container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        with_container(container)
    };
    let cases = [
        (
            "a default that was another one",
            container(json!({})),
            container(json!({ "imagePullPolicy": "Always" })),
        ),
        (
            "a default of older versions",
            container(json!({ "ports": [{ "containerPort": 80 }] })),
            container(json!({ "ports": [{ "containerPort": 80, "hostPort": 80 }] })),
        ),
        ("a field switched off on the server", with_pod(json!({ "hostUsers": false })), with_pod(json!({}))),
        ("a field only the server knows", with_pod(json!({})), with_pod(json!({ "newer": 1 }))),
        ("a field the server does not know", with_pod(json!({ "newer": 1 })), with_pod(json!({}))),
    ];
    for (what, desired, live) in cases {
        assert_eq!(compared(&desired, &live), "undecided", "{what}");
    }
}

#[test]
fn a_certain_difference_outweighs_a_doubt() {
    let desired = with_pod(json!({ "newer": 1, "nodeSelector": { "a": "b" } }));
    assert_eq!(compared(&desired, &with_pod(json!({}))), "spec.nodeSelector");
}

#[test]
fn unknown_fields_count_unless_they_are_to_be_ignored() {
    let (one, two) = (with_pod(json!({ "newer": 1 })), with_pod(json!({ "newer": 2 })));
    assert_eq!(compared(&one, &two), "spec.newer");
    assert_eq!(compared(&one, &one), "same");
    for live in [two, with_pod(json!({}))] {
        assert_eq!(compare(&one, &live, UnknownFields::Ignore), Sameness::Same);
    }
}

#[test]
fn the_hash_label_is_taken_out_alone() {
    let mut template =
        json!({ "metadata": { "labels": { "app": "web", "rollouts-pod-template-hash": "x" } } });
    remove_hash_label(&mut template);
    assert_eq!(template, json!({ "metadata": { "labels": { "app": "web" } } }));
    let mut only = json!({ "metadata": { "labels": { "rollouts-pod-template-hash": "x" } } });
    remove_hash_label(&mut only);
    assert_eq!(only, json!({ "metadata": {} }));
    for mut odd in [json!(null), json!({ "metadata": 5 }), json!({ "metadata": { "labels": [] } })] {
        let before = odd.clone();
        remove_hash_label(&mut odd);
        assert_eq!(odd, before);
    }
}

#[test]
fn injected_anti_affinity_is_taken_out_and_the_users_stays() {
    let term = |key: &str| {
        json!({ "topologyKey": "kubernetes.io/hostname", "labelSelector": { "matchExpressions":
            [{ "key": key, "operator": "In", "values": ["x"] }] } })
    };
    let injected = term("rollouts-pod-template-hash");
    let weighted = |term: &Value| json!({ "weight": 1, "podAffinityTerm": term });
    let affinity = |required: Vec<Value>, preferred: Vec<Value>| {
        json!({ "spec": { "affinity": { "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": required,
            "preferredDuringSchedulingIgnoredDuringExecution": preferred } } } })
    };
    let mut only_ours = affinity(vec![injected.clone()], vec![weighted(&injected)]);
    remove_injected_anti_affinity(&mut only_ours);
    assert_eq!(only_ours, json!({ "spec": {} }));
    let mut mixed =
        affinity(vec![term("app"), injected.clone()], vec![weighted(&injected), weighted(&term("app"))]);
    remove_injected_anti_affinity(&mut mixed);
    assert_eq!(mixed, affinity(vec![term("app")], vec![weighted(&term("app"))]));
}

#[test]
fn malformed_values_go_and_are_named() {
    let mut template = json!({ "metadata": { "labels": { "app": "web", "n": 5 } }, "spec": {
        "hostPID": "yes",
        "containers": [{ "name": "app", "args": ["a", 5], "resources": { "limits": { "memory": "invalid", "cpu": 1 } } }],
    } });
    let gone: Vec<_> = remove_malformed(&mut template).iter().map(|error| error.path.to_string()).collect();
    assert_eq!(
        gone,
        [
            "metadata.labels[n]",
            "spec.containers[0].args[1]",
            "spec.containers[0].resources.limits[memory]",
            "spec.hostPID"
        ]
    );
    assert_eq!(
        template,
        json!({ "metadata": { "labels": { "app": "web" } }, "spec": {
            "containers": [{ "name": "app", "resources": { "limits": { "cpu": 1 } } }] } })
    );
    assert!(remove_malformed(&mut template).is_empty());
}

#[test]
fn a_container_that_is_no_object_takes_the_list_with_it() {
    let mut template = json!({ "spec": { "containers": ["app"], "nodeName": "n" } });
    assert_eq!(remove_malformed(&mut template).len(), 1);
    assert_eq!(template, json!({ "spec": { "nodeName": "n" } }));
}

/// Any JSON at all.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,6}", inner, 0..3).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn applying_defaults_twice_changes_nothing_more(template in arbitrary::template()) {
        let mut once = template;
        apply_defaults(&mut once);
        let mut twice = once.clone();
        apply_defaults(&mut twice);
        prop_assert_eq!(twice, once);
    }

    #[test]
    fn a_template_is_the_same_as_itself_with_defaults(template in arbitrary::template()) {
        let mut defaulted = template.clone();
        apply_defaults(&mut defaulted);
        prop_assert_eq!(compared(&template, &defaulted), "same");
        prop_assert_eq!(compared(&template, &template), "same");
    }

    #[test]
    fn whatever_stands_in_a_template_panics_nowhere_and_can_be_taken_out(
        template in arbitrary::template(),
        choice in any::<prop::sample::Index>(),
        junk in any_json(),
    ) {
        let mut pointers = Vec::new();
        collect_fields(&template, &FieldPath::default(), &mut pointers);
        let mut broken = template.clone();
        if pointers.is_empty() {
            broken = junk;
        } else {
            *at(&mut broken, pointers[choice.index(pointers.len())].elements()) = junk;
        }
        apply_defaults(&mut broken.clone());
        let _ = compare(&broken, &template, UnknownFields::Count);
        let _ = compare(&template, &broken, UnknownFields::Ignore);
        remove_injected_anti_affinity(&mut broken.clone());
        remove_hash_label(&mut broken.clone());
        remove_malformed(&mut broken);
        prop_assert!(go_template_json(&broken).is_ok());
    }

    #[test]
    fn a_template_that_lost_a_field_is_the_same_only_if_the_stored_json_is(
        template in arbitrary::template(),
        choice in any::<prop::sample::Index>(),
    ) {
        let mut pointers = Vec::new();
        collect_fields(&template, &FieldPath::default(), &mut pointers);
        prop_assume!(!pointers.is_empty());
        let lost = &pointers[choice.index(pointers.len())];
        let mut smaller = template.clone();
        lost.remove_from(&mut smaller);
        let stored = |template: &Value| {
            let mut template = template.clone();
            apply_defaults(&mut template);
            // Protobuf, which etcd holds, does not tell an empty list from none.
            go_template_json(&template).unwrap().replace(":[]", ":null")
        };
        for (desired, live) in [(&template, &smaller), (&smaller, &template)] {
            match compare(desired, live, UnknownFields::Ignore) {
                Sameness::Same => prop_assert_eq!(stored(desired), stored(live)),
                Sameness::Different { path } => {
                    prop_assert_ne!(stored(desired), stored(live), "{} although {} is all that went", path, lost);
                }
                Sameness::Undecided => {}
            }
        }
    }
}

/// The value that a path leads to.
fn at<'a>(root: &'a mut Value, path: &[PathElement]) -> &'a mut Value {
    path.iter().fold(root, |value, element| match element {
        PathElement::Field(name) | PathElement::Key(name) => &mut value[name.as_str()],
        PathElement::Index(index) => &mut value[*index],
    })
}

/// The paths of all fields and map entries.
fn collect_fields(value: &Value, at: &FieldPath, found: &mut Vec<FieldPath>) {
    let mut below = |element: PathElement, value: &Value| {
        let mut path = at.clone();
        path.push(element);
        if !matches!(path.elements().last(), Some(PathElement::Index(_))) {
            found.push(path.clone());
        }
        collect_fields(value, &path, found);
    };
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                below(PathElement::Index(index), item);
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                below(PathElement::Field(key.clone()), value);
            }
        }
        _ => {}
    }
}
