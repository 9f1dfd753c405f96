//! What the resource has as fields of its spec and the stored object as annotations: environment, inheritance and the status label
//! (docs/environment.md, docs/labels.md, docs/pods.md).
//!
//! An annotation that cannot be read is not shown but named, and stays as it is until its field is set.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::Faults;
use crate::crd::{go_duration, keys};
use crate::pb::v1;
use crate::validate::{EnvironmentVolume, Inheritance, Path, Segment, Values, allowed, status_labels};
use v1::inheritance_policy::Mode;

/// The annotations that fields stand for, and the fields' names below the spec.
const FIELDS: [(&str, &str); 8] = [
    (keys::CANARY_ENVIRONMENT, "environment.canary"),
    (keys::STABLE_ENVIRONMENT, "environment.stable"),
    (keys::ENVIRONMENT_VOLUME, "environment.volume"),
    (keys::ENVIRONMENT_WINDOW, "environment.window"),
    (keys::ENVIRONMENT_ALLOW, "environment.allowed_names"),
    (keys::INHERIT_LABELS, "inheritance.labels"),
    (keys::INHERIT_ANNOTATIONS, "inheritance.annotations"),
    (keys::STATUS_LABELS, "status_labels"),
];

/// Whether an annotation is one that a field stands for.
#[must_use]
pub(in crate::api) fn is_annotated(key: &str) -> bool {
    FIELDS.iter().any(|(known, _)| *known == key)
}

/// The fields whose annotations differ.
pub(in crate::api) fn annotated_fields<'a>(
    before: &'a ObjectMeta,
    after: &'a ObjectMeta,
) -> impl Iterator<Item = &'static str> + use<'a> {
    let text = |metadata: &'a ObjectMeta, key: &str| metadata.annotations.as_ref()?.get(key);
    FIELDS.iter().filter(move |(key, _)| text(before, key) != text(after, key)).map(|(_, field)| *field)
}

/// The path in messages of what is at a path of the stored object, where a field stands for its annotation; with what is left of it.
pub(super) fn in_messages(stored: &[Segment]) -> Option<(Path, &[Segment])> {
    let [Segment::Field(metadata), Segment::Field(annotations), Segment::Key(key), rest @ ..] = stored else {
        return None;
    };
    if metadata != "metadata" || annotations != "annotations" {
        return None;
    }
    let (_, field) = FIELDS.iter().find(|(known, _)| known == key)?;
    let path = field.split('.').fold(Path::root("rollout").field("spec"), |path, name| path.field(name));
    let is_values = [keys::CANARY_ENVIRONMENT, keys::STABLE_ENVIRONMENT].contains(&key.as_str());
    Some((if is_values && !rest.is_empty() { path.field("values") } else { path }, rest))
}

/// Shows what annotations say as fields.
pub(super) fn show(metadata: &ObjectMeta, spec: &mut v1::RolloutSpec) {
    let stated = |key: &str| metadata.annotations.as_ref()?.get(key);
    let values = |key: &str| {
        let values: Values = serde_json::from_str(stated(key)?).ok()?;
        Some(v1::EnvironmentValues { values })
    };
    let volume = stated(keys::ENVIRONMENT_VOLUME)
        .and_then(|text| serde_json::from_str::<EnvironmentVolume>(text).ok())
        .map(|EnvironmentVolume { container, mount_path }| v1::EnvironmentVolume { container, mount_path });
    let window = stated(keys::ENVIRONMENT_WINDOW).and_then(|text| go_duration::parse(text.trim()).ok());
    let environment = v1::PodEnvironment {
        canary: values(keys::CANARY_ENVIRONMENT),
        stable: values(keys::STABLE_ENVIRONMENT),
        volume,
        window: window
            .map(|window| prost_types::Duration { seconds: window.as_secs(), nanos: window.subsec_nanos() }),
        allowed_names: allowed(metadata).into_iter().map(str::to_owned).collect(),
    };
    let policy = |key: &str| stated(key).and_then(|text| Inheritance::parse(text)).map(policy);
    let inheritance = v1::Inheritance {
        labels: policy(keys::INHERIT_LABELS),
        annotations: policy(keys::INHERIT_ANNOTATIONS),
    };
    spec.environment = (environment != v1::PodEnvironment::default()).then_some(environment);
    spec.inheritance = (inheritance != v1::Inheritance::default()).then_some(inheritance);
    spec.status_labels = status_labels(metadata).ok().flatten();
}

/// The fields whose annotations say what was not [`show`]n.
pub(super) fn unreadable(
    metadata: &ObjectMeta,
    shown: &v1::RolloutSpec,
) -> impl Iterator<Item = &'static str> {
    let mut spec = v1::RolloutSpec {
        environment: shown.environment.clone(),
        inheritance: shown.inheritance.clone(),
        status_labels: shown.status_labels,
        ..v1::RolloutSpec::default()
    };
    let read = store(&mut spec, &Path::default(), &mut Faults::default());
    let is_unreadable = move |key: &str| {
        let is_stated =
            metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(key));
        // Names that are allowed can be none at all.
        is_stated && !read.contains_key(key) && key != keys::ENVIRONMENT_ALLOW
    };
    FIELDS.iter().filter(move |(key, _)| is_unreadable(key)).map(|(_, field)| *field)
}

fn policy(policy: Inheritance) -> v1::InheritancePolicy {
    let (mode, prefixes) = match policy {
        Inheritance::All => (Mode::All, Vec::new()),
        Inheritance::Prefixes(prefixes) => (Mode::Prefixes, prefixes),
        Inheritance::None => (Mode::None, Vec::new()),
    };
    v1::InheritancePolicy { mode: mode.into(), prefixes }
}

/// Takes the fields out of a spec, and gives the annotations that stand for them. `at` is the spec's path.
pub(super) fn store(spec: &mut v1::RolloutSpec, at: &Path, faults: &mut Faults) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    let mut put = |key: &str, text: Option<String>| {
        annotations.extend(text.map(|text| (key.to_owned(), text)));
    };
    if let Some(environment) = spec.environment.take() {
        let v1::PodEnvironment { canary, stable, volume, window, allowed_names } = environment;
        put(keys::CANARY_ENVIRONMENT, canary.map(|canary| values_text(&canary.values)));
        put(keys::STABLE_ENVIRONMENT, stable.map(|stable| values_text(&stable.values)));
        put(
            keys::ENVIRONMENT_VOLUME,
            volume.map(|v1::EnvironmentVolume { container, mount_path }| {
                json!({ "container": container, "mountPath": mount_path }).to_string()
            }),
        );
        let at = at.field("environment");
        put(keys::ENVIRONMENT_WINDOW, window.map(|window| window_text(window, &at.field("window"), faults)));
        for (index, name) in allowed_names.iter().enumerate() {
            if name.trim().is_empty() || name.contains(',') {
                faults.note(&at.field("allowed_names").index(index), "is not the name of a value");
            }
        }
        put(keys::ENVIRONMENT_ALLOW, (!allowed_names.is_empty()).then(|| allowed_names.join(",")));
    }
    if let Some(v1::Inheritance { labels, annotations }) = spec.inheritance.take() {
        let at = at.field("inheritance");
        put(keys::INHERIT_LABELS, labels.map(|policy| policy_text(policy, &at.field("labels"), faults)));
        put(
            keys::INHERIT_ANNOTATIONS,
            annotations.map(|policy| policy_text(policy, &at.field("annotations"), faults)),
        );
    }
    put(keys::STATUS_LABELS, spec.status_labels.take().map(|has| has.to_string()));
    annotations
}

/// Values as their annotation holds them.
pub(in crate::api) fn values_text(values: &Values) -> String {
    json!(values).to_string()
}

fn window_text(window: prost_types::Duration, at: &Path, faults: &mut Faults) -> String {
    let prost_types::Duration { seconds, nanos } = window;
    if nanos != 0 || seconds < 0 {
        faults.note(at, "must be a whole number of seconds, of 24 hours at most");
    }
    format!("{seconds}s")
}

fn policy_text(policy: v1::InheritancePolicy, at: &Path, faults: &mut Faults) -> String {
    let mode = policy.mode();
    if mode != Mode::Prefixes && !policy.prefixes.is_empty() {
        faults.note(&at.field("prefixes"), "are given with mode PREFIXES only");
    }
    let policy = match mode {
        Mode::Unspecified | Mode::All => Inheritance::All,
        Mode::Prefixes => Inheritance::Prefixes(policy.prefixes),
        Mode::None => Inheritance::None,
    };
    let text = policy.to_string();
    if Inheritance::parse(&text).is_none() {
        faults.note(
            &at.field("prefixes"),
            "must be what keys begin with: at least one, without white space or commas",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(annotations: &[(&str, &str)]) -> ObjectMeta {
        let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        ObjectMeta { annotations: Some(annotations.collect()), ..ObjectMeta::default() }
    }

    fn shown(annotations: &[(&str, &str)]) -> v1::RolloutSpec {
        let mut spec = v1::RolloutSpec::default();
        show(&metadata(annotations), &mut spec);
        spec
    }

    #[test]
    fn fields_and_annotations_stand_for_each_other() {
        let annotations = [
            (keys::CANARY_ENVIRONMENT, r#"{"A":"1"}"#),
            (keys::ENVIRONMENT_ALLOW, "A_TOKEN,B_TOKEN"),
            (keys::ENVIRONMENT_VOLUME, r#"{"container":"web","mountPath":"/live"}"#),
            (keys::ENVIRONMENT_WINDOW, "90s"),
            (keys::INHERIT_ANNOTATIONS, "none"),
            (keys::INHERIT_LABELS, "prefixes:a/,b"),
            (keys::STABLE_ENVIRONMENT, "{}"),
            (keys::STATUS_LABELS, "false"),
        ];
        let mut spec = shown(&annotations);
        let environment = spec.environment.clone().unwrap();
        assert_eq!(environment.stable, Some(v1::EnvironmentValues::default()));
        assert_eq!(environment.window.unwrap().seconds, 90);
        assert_eq!(spec.status_labels, Some(false));
        assert_eq!(spec.inheritance.as_ref().unwrap().labels.as_ref().unwrap().prefixes, ["a/", "b"]);
        let mut faults = Faults::default();
        let stored = store(&mut spec, &Path::root("rollout").field("spec"), &mut faults);
        assert_eq!(spec, v1::RolloutSpec::default());
        assert!(faults.beyond(&Faults::default()).is_empty());
        let stored: Vec<_> = stored.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(stored, annotations);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_not_shown() {
        let annotations = [
            (keys::CANARY_ENVIRONMENT, "A=1"),
            (keys::ENVIRONMENT_VOLUME, "/live"),
            (keys::ENVIRONMENT_WINDOW, "soon"),
            (keys::INHERIT_LABELS, "some"),
            (keys::STATUS_LABELS, "yes"),
        ];
        let spec = shown(&annotations);
        assert_eq!(spec, v1::RolloutSpec::default());
        let named = [
            "environment.canary",
            "environment.volume",
            "environment.window",
            "inheritance.labels",
            "status_labels",
        ];
        assert_eq!(unreadable(&metadata(&annotations), &spec).collect::<Vec<_>>(), named);
        let readable = [(keys::ENVIRONMENT_ALLOW, ""), (keys::STABLE_ENVIRONMENT, "{}"), ("a", "b")];
        assert_eq!(unreadable(&metadata(&readable), &shown(&readable)).count(), 0);
    }

    #[test]
    fn what_has_no_annotation_is_refused_with_its_field() {
        let mut spec = v1::RolloutSpec {
            environment: Some(v1::PodEnvironment {
                window: Some(prost_types::Duration { seconds: 1, nanos: 5 }),
                allowed_names: vec!["A,B".to_owned()],
                ..v1::PodEnvironment::default()
            }),
            inheritance: Some(v1::Inheritance {
                labels: Some(v1::InheritancePolicy {
                    mode: Mode::None.into(),
                    prefixes: vec!["a".to_owned()],
                }),
                annotations: Some(v1::InheritancePolicy { mode: Mode::Prefixes.into(), prefixes: vec![] }),
            }),
            ..v1::RolloutSpec::default()
        };
        let mut faults = Faults::default();
        store(&mut spec, &Path::root("spec"), &mut faults);
        let faults = faults.beyond(&Faults::default());
        let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.environment.window",
                "spec.environment.allowed_names[0]",
                "spec.inheritance.labels.prefixes",
                "spec.inheritance.annotations.prefixes"
            ]
        );
    }
}
