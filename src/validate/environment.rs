//! The environment that a Rollout gives its pods while they run, as its annotations say it (docs/environment.md): what can be read of it,
//! and what must not be in it.
//!
//! `rolloutd.dev/canary-environment` and `rolloutd.dev/stable-environment` hold a JSON object of strings each; for blue-green they mean
//! preview and active. `rolloutd.dev/environment-volume` says where a container finds it as files.

mod size;

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::credential;
use super::path::Path;
use super::violation::Violation;
use crate::crd::{Rollout, go_duration, keys};

/// How long the name of a value may be: with the prefix that its annotation has, it is the name of a key, of 63 characters at most.
const LONGEST_NAME: usize = 63 - "environment.".len();

/// How long pods are watched after a change, unless the Rollout says otherwise.
const WINDOW: SignedDuration = SignedDuration::from_mins(5);

/// The longest window: who wants to watch for longer wants an analysis.
const LONGEST_WINDOW: SignedDuration = SignedDuration::from_hours(24);

const NAME_RULE: &str = "must be the name of a variable: letters, digits and '_', not beginning with a digit, ending with a letter or digit, of 51 characters at most";
const VOLUME_RULE: &str =
    r#"must be {"container": the name of a container of the pod template, "mountPath": an absolute path}"#;
const WINDOW_RULE: &str = "must be a duration such as 5m, of 24h at most; 0s watches nothing";

/// Values by their names.
pub type Values = BTreeMap<String, String>;

/// Where a container finds its environment as files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvironmentVolume {
    /// The container's name.
    pub container: String,
    /// The directory, as the container sees it.
    pub mount_path: String,
}

/// Whom an environment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Pods of the version on its way in: canary, or preview.
    Canary,
    /// Pods of the version that serves: stable, or active.
    Stable,
}

impl Side {
    /// The annotation of a Rollout that holds its environment.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Canary => keys::CANARY_ENVIRONMENT,
            Self::Stable => keys::STABLE_ENVIRONMENT,
        }
    }
}

/// The environment that a Rollout states for a side; `None` where it states none.
///
/// # Errors
///
/// What is wrong with it: such an environment is given to nobody.
pub fn environment(rollout: &Rollout, side: Side) -> Result<Option<Values>, Vec<Violation>> {
    let path = annotation(side.key());
    let Some(text) = stated(&rollout.metadata, side.key()) else { return Ok(None) };
    let values: Values = serde_json::from_str(text).map_err(|error| {
        // Neither the text nor serde's message is shown, which quotes it: it may hold what it should not.
        let (line, column) = (error.line(), error.column());
        let detail = format!("must be a JSON object of strings (line {line}, column {column})");
        vec![Violation::forbidden(path.clone(), detail)]
    })?;
    let mut violations = values_of(&values, &allowed(&rollout.metadata), &path);
    violations.extend(size::size(rollout, &values, &path));
    if violations.is_empty() { Ok(Some(values)) } else { Err(violations) }
}

/// The volume that a Rollout asks for.
///
/// # Errors
///
/// What is wrong with it: no pod gets such a volume.
pub fn environment_volume(rollout: &Rollout) -> Result<Option<EnvironmentVolume>, Violation> {
    let path = annotation(keys::ENVIRONMENT_VOLUME);
    let Some(text) = stated(&rollout.metadata, keys::ENVIRONMENT_VOLUME) else { return Ok(None) };
    let volume: EnvironmentVolume =
        serde_json::from_str(text).map_err(|_| Violation::invalid(path.clone(), text, VOLUME_RULE))?;
    let is_path = volume.mount_path.starts_with('/') && !volume.mount_path.contains([':', '\0']);
    let containers = rollout.spec.template.as_ref().and_then(|template| template.pointer("/spec/containers"));
    let is_there = containers.and_then(Value::as_array).is_none_or(|containers| {
        let mut named = containers.iter().filter_map(|container| container["name"].as_str());
        named.any(|name| name == volume.container)
    });
    if !is_path || volume.container.is_empty() || !is_there {
        return Err(Violation::invalid(path, text, VOLUME_RULE));
    }
    Ok(Some(volume))
}

/// How long pods are watched after a change of their environment.
///
/// # Errors
///
/// What is wrong with the Rollout's word on it: the default counts.
fn environment_window(rollout: &Rollout) -> Result<SignedDuration, Violation> {
    let Some(text) = stated(&rollout.metadata, keys::ENVIRONMENT_WINDOW) else { return Ok(WINDOW) };
    let window = go_duration::parse(text.trim()).ok();
    let window = window.filter(|window| !window.is_negative() && *window <= LONGEST_WINDOW);
    window.ok_or_else(|| Violation::invalid(annotation(keys::ENVIRONMENT_WINDOW), text, WINDOW_RULE))
}

/// The same, with the default where the word cannot be read.
#[must_use]
pub fn environment_window_or_default(rollout: &Rollout) -> SignedDuration {
    environment_window(rollout).unwrap_or(WINDOW)
}

/// All that is wrong with the environment of a Rollout.
pub(super) fn violations(rollout: &Rollout) -> Vec<Violation> {
    let sides = [Side::Canary, Side::Stable].into_iter();
    let mut violations: Vec<Violation> =
        sides.filter_map(|side| environment(rollout, side).err()).flatten().collect();
    violations.extend(environment_volume(rollout).err());
    violations.extend(environment_window(rollout).err());
    violations
}

/// What is wrong with values: names that are none of a variable, and what looks like a credential and is not allowed by name.
#[must_use]
pub fn values_of(values: &Values, allowed: &BTreeSet<&str>, at: &Path) -> Vec<Violation> {
    let fault = |(name, value): (&String, &String)| {
        let path = at.key(name);
        if !is_variable(name) {
            return Some(Violation::forbidden(path, NAME_RULE));
        }
        if value.contains('\0') {
            return Some(Violation::forbidden(path, "no file and no variable may hold a NUL character"));
        }
        let suspicion = credential::suspicion(name, value).filter(|_| !allowed.contains(name.as_str()))?;
        Some(Violation::forbidden(path, credential_remedy(&suspicion)))
    };
    values.iter().filter_map(fault).collect()
}

fn credential_remedy(suspicion: &str) -> String {
    format!(
        "looks like a credential ({suspicion}), and whoever may read pods can read their environment: put it into a Secret and wire that as \
         real environment of the container (env[].valueFrom.secretKeyRef in the pod template), which restarts pods; if it is no credential, \
         allow its name ({})",
        keys::ENVIRONMENT_ALLOW
    )
}

/// The names that a Rollout allows whatever they look like.
#[must_use]
pub fn allowed(metadata: &ObjectMeta) -> BTreeSet<&str> {
    let names = stated(metadata, keys::ENVIRONMENT_ALLOW).unwrap_or_default().split(',');
    names.map(str::trim).filter(|name| !name.is_empty()).collect()
}

fn is_variable(name: &str) -> bool {
    let bytes = name.as_bytes();
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    (1..=LONGEST_NAME).contains(&bytes.len())
        && bytes.iter().all(is_word)
        && bytes.first().is_some_and(|byte| !byte.is_ascii_digit())
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

fn annotation(key: &str) -> Path {
    Path::root("metadata").field("annotations").key(key)
}

fn stated<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[expect(clippy::needless_pass_by_value, reason = "callers give literals")]
    fn rollout(annotations: Value) -> Rollout {
        let containers = json!([{ "name": "web", "image": "web:1" }]);
        serde_json::from_value(json!({
            "metadata": { "annotations": annotations },
            "spec": { "template": { "spec": { "containers": containers } } },
        }))
        .unwrap()
    }

    fn wrong(annotations: Value) -> Vec<String> {
        violations(&rollout(annotations)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_environment_is_an_object_of_strings() {
        let stated = rollout(json!({ keys::CANARY_ENVIRONMENT: r#"{"LOG_LEVEL":"debug","_x1":""}"# }));
        let values = environment(&stated, Side::Canary).unwrap().unwrap();
        assert_eq!(
            values,
            BTreeMap::from([("LOG_LEVEL".into(), "debug".into()), ("_x1".into(), String::new())])
        );
        assert_eq!(environment(&stated, Side::Stable), Ok(None));
        for text in ["", "[]", r#"{"A":1}"#, "A=b", r#"{"A":{"B":"c"}}"#] {
            let wrong = wrong(json!({ keys::STABLE_ENVIRONMENT: text }));
            assert_eq!(wrong.len(), 1, "{text}");
            assert!(
                wrong[0].starts_with("metadata.annotations[rolloutd.dev/stable-environment]: "),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn names_are_names_of_variables() {
        let long = "A".repeat(LONGEST_NAME);
        for name in ["A", "a_b", "_A", "A1", &long] {
            assert!(is_variable(name), "{name}");
        }
        for name in ["", "1A", "A-B", "A.B", "A_", "Ä", &format!("{long}A")] {
            let text = json!({ name: "x" }).to_string();
            assert_eq!(wrong(json!({ keys::CANARY_ENVIRONMENT: text })).len(), 1, "{name}");
        }
    }

    #[test]
    fn what_looks_like_a_credential_is_refused_with_the_remedy_and_can_be_allowed_by_name() {
        let text = r#"{"DB_PASSWORD":"hunter2","PLAIN":"x"}"#;
        let refused = wrong(json!({ keys::CANARY_ENVIRONMENT: text }));
        assert_eq!(refused.len(), 1);
        let beginning = "metadata.annotations[rolloutd.dev/canary-environment][DB_PASSWORD]: Forbidden: looks like a credential";
        assert!(refused[0].starts_with(beginning), "{}", refused[0]);
        assert!(refused[0].contains("Secret") && refused[0].contains("restarts pods"), "{}", refused[0]);
        assert!(!refused[0].contains("hunter2"), "no answer shows a value");
        let allowed =
            json!({ keys::CANARY_ENVIRONMENT: text, keys::ENVIRONMENT_ALLOW: "OTHER, DB_PASSWORD" });
        assert_eq!(wrong(allowed), [""; 0]);
    }

    #[test]
    fn an_environment_fits_into_annotations() {
        let fits = json!({ "A": "x".repeat(40_000) }).to_string();
        assert_eq!(wrong(json!({ keys::CANARY_ENVIRONMENT: fits })), [""; 0]);
        let too_much = json!({ "A": "x".repeat(41_000), "B": "" }).to_string();
        let wrong = wrong(json!({ keys::CANARY_ENVIRONMENT: too_much }));
        assert!(wrong[0].contains("81920 are possible"), "{wrong:?}");
    }

    #[test]
    fn a_volume_names_a_container_and_a_directory() {
        let volume = |text: &str| wrong(json!({ keys::ENVIRONMENT_VOLUME: text })).len();
        assert_eq!(volume(r#"{"container":"web","mountPath":"/etc/live"}"#), 0);
        for text in [
            "",
            "web",
            r#"{"container":"web"}"#,
            r#"{"container":"web","mountPath":"etc"}"#,
            r#"{"container":"web","mountPath":"/a:b"}"#,
            r#"{"container":"db","mountPath":"/etc/live"}"#,
            r#"{"container":"web","mountPath":"/etc/live","name":"x"}"#,
        ] {
            assert_eq!(volume(text), 1, "{text}");
        }
    }

    #[test]
    fn a_window_is_a_duration() {
        let window =
            |text: &str| environment_window(&rollout(json!({ keys::ENVIRONMENT_WINDOW: text }))).ok();
        assert_eq!(window("90s"), Some(SignedDuration::from_secs(90)));
        assert_eq!(window("0s"), Some(SignedDuration::ZERO));
        for text in ["", "5", "-1m", "25h", "soon"] {
            assert_eq!(window(text), None, "{text}");
        }
        assert_eq!(environment_window_or_default(&rollout(json!({}))), SignedDuration::from_mins(5));
    }
}
