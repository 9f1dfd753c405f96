use super::*;

fn strings(value: Value) -> BTreeMap<String, String> {
    serde_json::from_value(value).unwrap()
}

fn rollout(labels: Value, annotations: Value) -> ObjectMeta {
    ObjectMeta {
        labels: Some(strings(labels)),
        annotations: Some(strings(annotations)),
        ..ObjectMeta::default()
    }
}

/// A set whose template has the label `app`.
fn set(labels: Value, annotations: Value) -> ReplicaSet {
    let template = json!({ "metadata": { "labels": { "app": "web" } } });
    let (labels, annotations) = (strings(labels), strings(annotations));
    ReplicaSet { labels, annotations, template: template.into(), ..ReplicaSet::default() }
}

fn patched(set: &ReplicaSet, changes: &Changes) -> ReplicaSet {
    let mut set = set.clone();
    for (map, patch) in [(&mut set.labels, &changes.labels), (&mut set.annotations, &changes.annotations)] {
        for (key, value) in patch {
            match value.as_str() {
                Some(value) => map.insert(key.clone(), value.to_owned()),
                None => map.remove(key),
            };
        }
    }
    set
}

/// The set after the changes, of which there are none more then.
fn settled(rollout: &ObjectMeta, before: &ReplicaSet, role: Role) -> ReplicaSet {
    let after = patched(before, &changes(rollout, before, role));
    assert_eq!(changes(rollout, &after, role), Changes::default(), "it is at rest");
    after
}

fn annotations(set: &ReplicaSet) -> BTreeMap<String, String> {
    let mut annotations = set.annotations.clone();
    annotations.remove(keys::INHERITED);
    annotations
}

#[test]
fn what_tools_track_and_selectors_go_by_is_not_inherited() {
    for key in [
        "rollouts-pod-template-hash",
        "argo-rollouts.argoproj.io/controller-instance-id",
        "rollout.argoproj.io/revision",
        "rollout.argoproj.io/revision-history",
        "rollout.argoproj.io/desired-replicas",
        "rollout.argoproj.io/ephemeral-metadata",
        "notified.notifications.argoproj.io",
        "scale-down-deadline",
        "kubectl.kubernetes.io/last-applied-configuration",
        "argocd.argoproj.io/tracking-id",
        "meta.helm.sh/release-name",
        "helm.sh/chart",
        "kustomize.toolkit.fluxcd.io/name",
        "helm.toolkit.fluxcd.io/name",
        "app.kubernetes.io/instance",
        "app.kubernetes.io/managed-by",
        "rolloutd.dev/requests",
        "rolloutd.dev/inherit-labels",
    ] {
        assert!(!is_heritable(key), "{key}");
    }
    for key in
        ["team", "app.kubernetes.io/name", "example.com/helm.sh", "notifications.argoproj.io/subscribe.a.b"]
    {
        assert!(is_heritable(key), "{key}");
    }
}

#[test]
fn policies_choose_and_the_template_stands() {
    let labels = json!({ "app": "rollout", "team": "a", "cost-center": "7" });
    let of = |policy: &str| {
        let rollout = rollout(labels.clone(), json!({ keys::INHERIT_LABELS: policy, "note": "x" }));
        let inherited = for_child(&rollout, |key| key == "app");
        assert_eq!(inherited.annotations, strings(json!({ "note": "x" })), "they have a policy of their own");
        inherited.labels.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(of("all"), ["cost-center", "team"]);
    assert_eq!(of("prefixes:cost"), ["cost-center"]);
    assert_eq!(of("none"), [""; 0]);
    assert_eq!(of("whatever"), ["cost-center", "team"], "one that cannot be read is the default");
    let silent = rollout(json!({ "team": "a" }), json!({ keys::INHERIT_ANNOTATIONS: "none", "note": "x" }));
    assert_eq!(for_child(&silent, |_| false).annotations, strings(json!({})));
}

#[test]
fn changes_of_the_rollout_reach_a_set_and_go_again() {
    let fresh = set(json!({ "app": "web" }), json!({}));
    for role in [Role::New, Role::Older] {
        let first =
            settled(&rollout(json!({ "team": "a", "app": "x" }), json!({ "note": "1" })), &fresh, role);
        assert_eq!(first.labels, strings(json!({ "app": "web", "team": "a" })));
        // Those of an older version say what it was made from.
        let noted = |note: &str| if role == Role::New { json!({ "note": note }) } else { json!({}) };
        assert_eq!(annotations(&first), strings(noted("1")));
        let second =
            settled(&rollout(json!({ "team": "b", "cost": "7" }), json!({ "note": "2" })), &first, role);
        assert_eq!(second.labels, strings(json!({ "app": "web", "team": "b", "cost": "7" })));
        assert_eq!(annotations(&second), strings(noted("2")));
        let last = settled(&rollout(json!({}), json!({})), &second, role);
        assert_eq!(last.labels, fresh.labels);
        assert_eq!(last.annotations, strings(json!({ keys::INHERITED: "{}" })), "it stays known as ours");
    }
}

#[test]
fn what_others_put_on_a_set_is_neither_overwritten_nor_taken_away() {
    let theirs = set(json!({ "app": "web", "team": "theirs", "same": "s" }), json!({}));
    let ours = rollout(json!({ "team": "ours", "same": "s", "cost": "7" }), json!({ "note": "1" }));
    let given = settled(&ours, &theirs, Role::Older);
    assert_eq!(given.labels, strings(json!({ "app": "web", "team": "theirs", "same": "s", "cost": "7" })));

    let mut edited = given.clone();
    edited.labels.insert("cost".to_owned(), "8".to_owned());
    edited.annotations.insert("note".to_owned(), "mine".to_owned());
    for role in [Role::New, Role::Older] {
        assert_eq!(changes(&ours, &edited, role), Changes::default(), "the last word is theirs");
        let nothing = rollout(json!({}), json!({}));
        let after = settled(&nothing, &edited, role);
        assert_eq!(after.labels, edited.labels);
        assert_eq!(annotations(&after), strings(json!({ "note": "mine" })));
    }
    let mut without = given.clone();
    without.labels.remove("cost");
    assert_eq!(settled(&ours, &without, Role::Older), given, "what somebody took away comes back");
}

#[test]
fn a_set_that_the_reference_made_is_touched_for_labels_only() {
    let copied = json!({ "note": "1", "rollout.argoproj.io/revision": "4" });
    let theirs = set(json!({ "app": "web" }), copied.clone());
    let noted = |note: &str| rollout(json!({}), json!({ "note": note, "rollout.argoproj.io/revision": "5" }));
    for role in [Role::New, Role::Older] {
        assert_eq!(changes(&noted("1"), &theirs, role), Changes::default());
    }
    assert_eq!(changes(&noted("2"), &theirs, Role::Older), Changes::default());
    let new = settled(&noted("2"), &theirs, Role::New);
    assert_eq!(new.annotations["note"], "2", "annotations of the newest version follow (contract 4.1)");
    assert_eq!(new.annotations["rollout.argoproj.io/revision"], "4");

    let labelled = rollout(json!({ "team": "a" }), json!({ "note": "1" }));
    let old = settled(&labelled, &theirs, Role::Older);
    assert_eq!(old.labels["team"], "a");
    let after = settled(&rollout(json!({}), json!({})), &old, Role::Older);
    assert_eq!(annotations(&after), strings(copied));
    let waits = |rollout: &ObjectMeta, set: &ReplicaSet| changes(rollout, set, Role::Older).can_wait;
    assert!(waits(&labelled, &theirs), "taking a rollout over is no reason to write");
    assert!(!waits(&rollout(json!({ "team": "b" }), json!({})), &old));
}

#[test]
fn a_note_that_somebody_broke_is_none() {
    let broken = set(json!({ "app": "web", "team": "a" }), json!({ keys::INHERITED: "{" }));
    let after = settled(&rollout(json!({ "team": "b", "cost": "7" }), json!({})), &broken, Role::Older);
    assert_eq!(after.labels, strings(json!({ "app": "web", "team": "a", "cost": "7" })));
    assert_eq!(Note::read(&after.annotations[keys::INHERITED]).unwrap().labels.len(), 1);
}
