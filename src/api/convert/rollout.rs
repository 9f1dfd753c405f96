//! The resource as a whole: metadata, views, and rollouts that cannot be decoded.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::value::timestamp;
use super::{Faults, Wire, annotated, status};
use crate::api::etag;
use crate::api::filter::Strategy;
use crate::crd::{self, keys};
use crate::pb::v1;
use crate::store::RolloutRecord;
use crate::validate::Path;
use v1::rollout_status::State;

/// A rollout as it is stored: decoded, or with the reason why it cannot be.
#[derive(Clone, Copy, Debug)]
pub(in crate::api) enum Record<'a> {
    /// It can be decoded.
    Decoded(&'a crd::Rollout),
    /// It cannot.
    Malformed(&'a ObjectMeta, &'a str),
}

impl<'a> From<&'a RolloutRecord> for Record<'a> {
    fn from(record: &'a RolloutRecord) -> Self {
        match &record.decoded {
            Ok(rollout) => Self::Decoded(rollout),
            Err(why) => Self::Malformed(kube::Resource::meta(record), why),
        }
    }
}

impl<'a> Record<'a> {
    /// The object's metadata.
    pub(in crate::api) fn metadata(self) -> &'a ObjectMeta {
        match self {
            Self::Decoded(rollout) => &rollout.metadata,
            Self::Malformed(metadata, _) => metadata,
        }
    }

    /// The resource's name.
    pub(in crate::api) fn name(self) -> String {
        let metadata = self.metadata();
        format!(
            "namespaces/{}/rollouts/{}",
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default()
        )
    }

    /// The state in one word.
    pub(in crate::api) fn state(self) -> State {
        match self {
            Self::Decoded(rollout) => status::state(rollout).0,
            Self::Malformed(..) => State::Degraded,
        }
    }

    /// The strategy, where it is known.
    pub(in crate::api) fn strategy(self) -> Option<Strategy> {
        let Self::Decoded(rollout) = self else { return None };
        match rollout.spec.strategy().ok()? {
            crd::Strategy::Canary(_) => Some(Strategy::Canary),
            crd::Strategy::BlueGreen(_) => Some(Strategy::BlueGreen),
        }
    }

    /// The resource, as much of it as `view` asks for.
    #[must_use]
    pub(in crate::api) fn show(self, view: v1::View) -> v1::Rollout {
        let metadata = self.metadata();
        let mut spec = match self {
            Self::Decoded(rollout) => Some(<v1::RolloutSpec as Wire>::show(&rollout.spec)),
            Self::Malformed(..) => None,
        };
        if view != v1::View::Full
            && let Some(spec) = &mut spec
        {
            spec.template = None;
        }
        let unreadable_fields = spec.as_mut().map(|spec| {
            annotated::show(metadata, spec);
            annotated::unreadable(metadata, spec).map(|field| format!("spec.{field}")).collect()
        });
        let status = match self {
            Self::Decoded(rollout) => status::status(rollout),
            Self::Malformed(metadata, why) => status::malformed(metadata, why),
        };
        let time = |time: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time| timestamp(time.0);
        v1::Rollout {
            name: self.name(),
            uid: metadata.uid.clone().unwrap_or_default(),
            etag: etag::of(self),
            generation: metadata.generation.unwrap_or(0),
            labels: metadata.labels.clone().unwrap_or_default(),
            annotations: user_annotations(metadata),
            create_time: metadata.creation_timestamp.as_ref().map(time),
            delete_time: metadata.deletion_timestamp.as_ref().map(time),
            spec,
            status: Some(status),
            unreadable_fields: unreadable_fields.unwrap_or_default(),
        }
    }
}

/// Whether an annotation is bookkeeping of a controller or of kubectl: left out of the resource, and kept in the object.
#[must_use]
pub(super) fn is_bookkeeping(key: &str) -> bool {
    const PREFIXES: [&str; 2] = ["rollout.argoproj.io/", "rolloutd.dev/"];
    [keys::LAST_APPLIED_CONFIGURATION, keys::NOTIFIED].contains(&key)
        || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// The annotations that belong to the user.
#[must_use]
fn user_annotations(metadata: &ObjectMeta) -> BTreeMap<String, String> {
    let annotations = metadata.annotations.iter().flatten().filter(|(key, _)| !is_bookkeeping(key));
    annotations.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The annotations by which users decide something: their own, and those that fields of the resource stand for.
#[must_use]
pub(in crate::api) fn decided_annotations(metadata: &ObjectMeta) -> BTreeMap<String, String> {
    let is_decided = |key: &str| !is_bookkeeping(key) || annotated::is_annotated(key);
    let annotations = metadata.annotations.iter().flatten().filter(|(key, _)| is_decided(key));
    annotations.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The part of a manifest that a resource stands for: labels, annotations and spec.
#[must_use]
pub(in crate::api) fn manifest(mut rollout: v1::Rollout, faults: &mut Faults) -> Value {
    let at = Path::root("rollout");
    for key in rollout.annotations.keys().filter(|key| is_bookkeeping(key)) {
        faults.note(&at.field("annotations").key(key), "is kept by controllers and cannot be set");
    }
    let at_spec = at.field("spec");
    if let Some(spec) = &mut rollout.spec {
        rollout.annotations.extend(annotated::store(spec, &at_spec, faults));
    }
    let spec = rollout.spec.map(|spec| spec.store(&at_spec, faults));
    let mut metadata = json!({});
    for (field, map) in [("labels", rollout.labels), ("annotations", rollout.annotations)] {
        if !map.is_empty() {
            metadata[field] = json!(map);
        }
    }
    json!({ "metadata": metadata, "spec": spec.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bookkeeping_is_not_the_users() {
        for (key, kept) in [
            ("kubectl.kubernetes.io/last-applied-configuration", true),
            ("rollout.argoproj.io/revision", true),
            ("rollout.argoproj.io/workload-generation", true),
            ("notified.notifications.argoproj.io", true),
            ("rolloutd.dev/requests", true),
            ("notifications.argoproj.io/subscribe.on-x.slack", false),
            ("team", false),
            ("argocd.argoproj.io/tracking-id", false),
        ] {
            assert_eq!(is_bookkeeping(key), kept, "{key}");
        }
    }
}
