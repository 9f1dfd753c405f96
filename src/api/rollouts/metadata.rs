//! SetRolloutMetadata: labels, annotations and environment of the pods of a version, while they run.
//!
//! Labels and annotations are the strategy's (`canaryMetadata` and its kin), environment is in annotations of the Rollout; either is what a
//! careful operator would write. Who gives them to pods is the controller.

use serde_json::{Map, Value, json};

use super::super::cluster::Change;
use super::super::convert::{Fault, path, values_text};
use super::super::error::Error;
use super::super::mutation::Subject;
use super::super::status::Reason;
use super::Rollouts;
use super::change::{check_at, check_unheeded_at, difference, standard};
use crate::crd::{Strategy, keys};
use crate::pb::v1;
use crate::validate::{self, Path, Segment, Violation};
use v1::set_rollout_metadata_request::Environment;

/// A field of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    CanaryMetadata,
    StableMetadata,
    CanaryEnvironment,
    StableEnvironment,
}

impl Field {
    const ALL: [Self; 4] =
        [Self::CanaryMetadata, Self::StableMetadata, Self::CanaryEnvironment, Self::StableEnvironment];

    fn name(self) -> &'static str {
        match self {
            Self::CanaryMetadata => "canary_metadata",
            Self::StableMetadata => "stable_metadata",
            Self::CanaryEnvironment => "canary_environment",
            Self::StableEnvironment => "stable_environment",
        }
    }

    fn is_set(self, request: &v1::SetRolloutMetadataRequest) -> bool {
        match self {
            Self::CanaryMetadata => request.canary_metadata.is_some(),
            Self::StableMetadata => request.stable_metadata.is_some(),
            Self::CanaryEnvironment => request.canary_environment.is_some(),
            Self::StableEnvironment => request.stable_environment.is_some(),
        }
    }

    /// Where the stored object has it.
    fn place(self, strategy: Strategy<'_>) -> Place {
        let [canary, stable] = match strategy {
            Strategy::Canary(_) => [["canary", "canaryMetadata"], ["canary", "stableMetadata"]],
            Strategy::BlueGreen(_) => [["blueGreen", "previewMetadata"], ["blueGreen", "activeMetadata"]],
        };
        match self {
            Self::CanaryMetadata => Place::Strategy(canary),
            Self::StableMetadata => Place::Strategy(stable),
            Self::CanaryEnvironment => Place::Annotation(keys::CANARY_ENVIRONMENT),
            Self::StableEnvironment => Place::Annotation(keys::STABLE_ENVIRONMENT),
        }
    }
}

/// A place in the stored object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Below spec.strategy.
    Strategy([&'static str; 2]),
    /// An annotation.
    Annotation(&'static str),
}

impl Rollouts {
    /// SetRolloutMetadata.
    pub(super) async fn set_metadata(
        &self,
        request: v1::SetRolloutMetadataRequest,
    ) -> Result<v1::SetRolloutMetadataResponse, Error> {
        let fields = fields(&request)?;
        let done = self.mutate(standard!(request), |subject| set(subject, &request, &fields)).await?;
        // Values are nobody's business but the pods'.
        let named: Vec<&str> = fields.iter().map(|field| field.name()).collect();
        Ok(self.answer(&done, &named.join(", ")))
    }
}

/// The fields that are to be set.
fn fields(request: &v1::SetRolloutMetadataRequest) -> Result<Vec<Field>, Error> {
    let paths = request.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
    let mut faults = Vec::new();
    for path in paths {
        if !Field::ALL.iter().any(|field| field.name() == path) {
            let names = Field::ALL.map(Field::name).join(", ");
            faults.push(Fault::new("update_mask", format!("{path:?} is none of {names}")));
        }
    }
    for (index, name) in request.allowed_names.iter().enumerate() {
        if name.trim().is_empty() || name.contains(',') {
            faults.push(Fault::new(format!("allowed_names[{index}]"), "is not the name of a value"));
        }
    }
    let chosen = Field::ALL.into_iter().filter(|field| match paths {
        [] => field.is_set(request),
        paths => paths.iter().any(|path| path == field.name()),
    });
    let chosen: Vec<Field> = chosen.collect();
    if chosen.is_empty() && faults.is_empty() {
        let names = Field::ALL.map(Field::name).join(", ");
        faults.push(Fault::new("update_mask", format!("nothing is set: give one of {names}")));
    }
    if faults.is_empty() { Ok(chosen) } else { Err(Error::invalid(faults)) }
}

/// The change that sets fields.
fn set(
    subject: &Subject,
    request: &v1::SetRolloutMetadataRequest,
    fields: &[Field],
) -> Result<Option<Change>, Error> {
    let rollout = subject.rollout()?;
    let strategy = rollout.spec.strategy().map_err(|_| {
        Error::new(Reason::InvalidSpec, "the rollout has no strategy, or more than one: mend it first")
    })?;
    let mut object = subject.object.clone();
    for field in fields {
        let environment =
            |given: &Option<Environment>| given.as_ref().map(|given| json!(values_text(&given.values)));
        let value = match field {
            Field::CanaryMetadata => pod_metadata(request.canary_metadata.as_ref()),
            Field::StableMetadata => pod_metadata(request.stable_metadata.as_ref()),
            Field::CanaryEnvironment => environment(&request.canary_environment),
            Field::StableEnvironment => environment(&request.stable_environment),
        };
        match field.place(strategy) {
            Place::Strategy([strategy, field]) => {
                put(&mut object["spec"]["strategy"][strategy], field, value);
            }
            Place::Annotation(key) => put(&mut object["metadata"]["annotations"], key, value),
        }
    }
    let mut allowed = validate::allowed(&rollout.metadata);
    let before = allowed.len();
    allowed.extend(request.allowed_names.iter().map(|name| name.trim()));
    if allowed.len() > before {
        let names: Vec<&str> = allowed.into_iter().collect();
        put(&mut object["metadata"]["annotations"], keys::ENVIRONMENT_ALLOW, Some(json!(names.join(","))));
    }
    let place = |violation: &Violation| shown(&violation.path, strategy);
    check_at(&object, place)?;
    check_unheeded_at(Some(&subject.object), &object, place)?;
    Ok(difference(&subject.object, &object))
}

/// As the strategy has it; nothing, where it says nothing.
fn pod_metadata(given: Option<&v1::PodMetadata>) -> Option<Value> {
    let v1::PodMetadata { labels, annotations } = given?;
    let maps = [("labels", labels), ("annotations", annotations)];
    let filled = maps.into_iter().filter(|(_, map)| !map.is_empty());
    let metadata: Map<String, Value> = filled.map(|(field, map)| (field.to_owned(), json!(map))).collect();
    (!metadata.is_empty()).then_some(Value::Object(metadata))
}

/// Gives an object a field, or takes it away. What is no object holds nothing that could be lost.
fn put(object: &mut Value, field: &str, value: Option<Value>) {
    if value.is_none() && !object.is_object() {
        return;
    }
    if !object.is_object() {
        *object = json!({});
    }
    match (value, object.as_object_mut()) {
        (Some(value), Some(fields)) => {
            fields.insert(field.to_owned(), value);
        }
        (None, Some(fields)) => {
            fields.shift_remove(field);
        }
        (_, None) => {}
    }
}

/// The request's field at a path of the stored object; that of the resource, where the request has none.
fn shown(stored: &Path, strategy: Strategy<'_>) -> String {
    let segments = stored.segments();
    let is_field = |segment: &Segment, name: &str| matches!(segment, Segment::Field(field) if field == name);
    for field in Field::ALL {
        let shown = Path::root(field.name());
        match (field.place(strategy), segments) {
            (Place::Annotation(key), [_, annotations, Segment::Key(at), rest @ ..])
                if is_field(annotations, "annotations") && at == key =>
            {
                let shown = if rest.is_empty() { shown } else { shown.field("values") };
                return below(shown, rest);
            }
            (Place::Strategy([of, name]), [_, strategy, first, second, rest @ ..])
                if is_field(strategy, "strategy") && is_field(first, of) && is_field(second, name) =>
            {
                return below(shown, rest);
            }
            _ => {}
        }
    }
    path::in_messages(stored)
}

fn below(path: Path, rest: &[Segment]) -> String {
    let path = rest.iter().fold(path, |path, segment| match segment {
        Segment::Field(field) => path.field(field.clone()),
        Segment::Key(key) => path.key(key),
        Segment::Index(index) => path.index(*index),
    });
    path.to_string()
}
