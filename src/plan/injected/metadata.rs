//! Labels and annotations, as values that are handled alike.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::crd::PodTemplateMetadata;

/// Labels and annotations of a pod, or of a template of pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Labels,
    Annotations,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Labels, Self::Annotations];

    /// The field of an object's metadata.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Annotations => "annotations",
        }
    }
}

impl Metadata {
    /// What a pod template says; what is no string there is passed over.
    #[must_use]
    pub fn of_template(template: &Value) -> Self {
        let strings = |kind: Kind| {
            let entries =
                template.get("metadata").and_then(|metadata| metadata.get(kind.field())?.as_object());
            let strings = entries.into_iter().flatten();
            strings.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
        };
        Self { labels: strings(Kind::Labels), annotations: strings(Kind::Annotations) }
    }

    /// Reads the JSON of a [`PodTemplateMetadata`]; what is none says nothing, as in the reference.
    pub(super) fn read(annotation: Option<&String>) -> Self {
        let read = annotation.and_then(|text| serde_json::from_str::<Option<PodTemplateMetadata>>(text).ok());
        read.flatten().as_ref().map(Self::from).unwrap_or_default()
    }

    /// As an annotation holds it; `None` when there is nothing.
    pub(super) fn written(&self) -> Option<String> {
        (!self.is_empty()).then(|| serde_json::to_string(self).expect("maps of strings are JSON"))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }

    pub(super) fn of(&self, kind: Kind) -> &BTreeMap<String, String> {
        match kind {
            Kind::Labels => &self.labels,
            Kind::Annotations => &self.annotations,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut BTreeMap<String, String> {
        match kind {
            Kind::Labels => &mut self.labels,
            Kind::Annotations => &mut self.annotations,
        }
    }

    /// The value of a key.
    pub(super) fn get(&self, kind: Kind, key: &str) -> Option<&String> {
        self.of(kind).get(key)
    }

    pub(super) fn has(&self, kind: Kind, key: &str) -> bool {
        self.of(kind).contains_key(key)
    }

    /// Takes over all that another one has.
    pub(super) fn extend(&mut self, other: &Self) {
        for kind in Kind::ALL {
            self.of_mut(kind).extend(other.of(kind).iter().map(|(key, value)| (key.clone(), value.clone())));
        }
    }

    /// Keeps what passes.
    pub(super) fn retain(&mut self, passes: impl Fn(Kind, &str) -> bool) {
        for kind in Kind::ALL {
            self.of_mut(kind).retain(|key, _| passes(kind, key));
        }
    }

    /// The keys there are.
    pub(super) fn keys(&self) -> impl Iterator<Item = (Kind, &str)> {
        Kind::ALL.into_iter().flat_map(move |kind| self.of(kind).keys().map(move |key| (kind, key.as_str())))
    }
}

impl From<&PodTemplateMetadata> for Metadata {
    fn from(given: &PodTemplateMetadata) -> Self {
        Self {
            labels: given.labels.clone().unwrap_or_default(),
            annotations: given.annotations.clone().unwrap_or_default(),
        }
    }
}

/// A JSON merge patch of an object's metadata, gathered.
#[derive(Default)]
pub(super) struct MetadataPatch(BTreeMap<Kind, Map<String, Value>>);

impl MetadataPatch {
    pub(super) fn set(&mut self, kind: Kind, key: &str, value: Option<&String>) {
        self.0
            .entry(kind)
            .or_default()
            .insert(key.to_owned(), value.cloned().map_or(Value::Null, Value::String));
    }

    /// `None` when there is nothing to change.
    pub(super) fn finish(self) -> Option<Value> {
        let maps = self.0.into_iter().map(|(kind, map)| (kind.field().to_owned(), Value::Object(map)));
        let metadata: Map<String, Value> = maps.collect();
        (!metadata.is_empty())
            .then(|| Value::Object(Map::from_iter([("metadata".to_owned(), metadata.into())])))
    }
}
