//! Does a stored pod template come from a written one?
//!
//! Depends on the type table of `hash` and on the table of defaults. The stored template has been through
//! an API server, of this or another version, which adds defaults and drops what it does not support;
//! where that leaves a doubt the answer is to ask the server, by a dry run.

use serde_json::{Map, Value};

use super::defaults::{apply_defaults, may_be_defaulted};
use crate::hash::go_types::{GoField, GoStruct, GoType, GoTypes};
use crate::hash::{FieldPath, PathElement, Quantity};

/// Whether two templates are the same but for what an API server does to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sameness {
    /// The stored one comes from the written one.
    Same,
    /// It does not.
    Different {
        /// The first field that tells.
        path: FieldPath,
    },
    /// They differ only in what some API server might have added or dropped. The written template, sent
    /// through a dry run, gives what to compare the stored one with.
    Undecided,
}

/// What to do with fields that our type table does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownFields {
    /// They count: what they hold must agree.
    Count,
    /// They are passed over: whoever stored the template may not have known them either (contract, fact
    /// 1, on adopted sets).
    Ignore,
}

/// Compares a template as somebody wrote it with a template as an API server stored it.
///
/// What only the controller put into the stored one (the hash label, ephemeral metadata) is taken out
/// before. Quantities compare by value; an empty map or list, null and absence are one.
#[must_use]
pub fn compare(desired: &Value, live: &Value, unknown: UnknownFields) -> Sameness {
    let mut defaulted = desired.clone();
    apply_defaults(&mut defaulted);
    // A store without defaulting holds the template as it was written; then this adds the same to both.
    let mut live = live.clone();
    apply_defaults(&mut live);
    let mut walk = Walk { unknown, path: FieldPath::default(), undecided: false };
    let versions = Versions { written: Some(desired), defaulted: &defaulted, live: &live };
    match walk.value(&GoTypes::get().named("PodTemplateSpec"), versions) {
        Err(Differs) => Sameness::Different { path: walk.path },
        Ok(()) if walk.undecided => Sameness::Undecided,
        Ok(()) => Sameness::Same,
    }
}

/// Fields that an API server drops where a feature is switched off (`dropDisabledFields` in Kubernetes'
/// pkg/api/pod/util.go).
#[rustfmt::skip]
const DROPPED_WHERE_DISABLED: &[(&str, &str)] = &[
    ("PodSpec", "hostUsers"),
    ("PodSpec", "hostnameOverride"),
    ("PodSpec", "resourceClaims"),
    ("PodSpec", "resources"),
    ("PodSecurityContext", "seLinuxChangePolicy"),
    ("PodSecurityContext", "supplementalGroupsPolicy"),
    ("SecurityContext", "procMount"),
    ("Container", "resizePolicy"),
    ("Container", "restartPolicy"),
    ("Container", "restartPolicyRules"),
    ("EphemeralContainer", "resizePolicy"),
    ("EphemeralContainer", "restartPolicyRules"),
    ("ResourceRequirements", "claims"),
    ("VolumeMount", "recursiveReadOnly"),
    ("EnvVarSource", "fileKeyRef"),
    ("Lifecycle", "stopSignal"),
    ("LifecycleHandler", "sleep"),
    ("PodAffinityTerm", "matchLabelKeys"),
    ("PodAffinityTerm", "mismatchLabelKeys"),
    ("TopologySpreadConstraint", "matchLabelKeys"),
    ("TopologySpreadConstraint", "nodeAffinityPolicy"),
    ("TopologySpreadConstraint", "nodeTaintsPolicy"),
    ("Volume", "image"),
    ("VolumeProjection", "clusterTrustBundle"),
    ("VolumeProjection", "podCertificate"),
];

/// One place in the three versions of a template.
#[derive(Clone, Copy)]
struct Versions<'a> {
    /// As written; `None` where nobody wrote anything.
    written: Option<&'a Value>,
    /// As written, with our defaults.
    defaulted: &'a Value,
    /// As stored.
    live: &'a Value,
}

/// Ends the walk; its path then is the place.
struct Differs;

struct Walk {
    unknown: UnknownFields,
    path: FieldPath,
    undecided: bool,
}

/// What a value that is not there reads as.
static ABSENT: Value = Value::Null;

impl Walk {
    fn value(&mut self, go_type: &GoType, at: Versions<'_>) -> Result<(), Differs> {
        match go_type {
            GoType::Pointer(target) => self.value(target, at),
            GoType::Struct(index) => self.structure(GoTypes::get().structure(*index), at),
            GoType::Map(element) => self.map(element, at),
            GoType::Slice(element) => {
                let (Some(ours), Some(theirs)) = (at.defaulted.as_array(), at.live.as_array()) else {
                    return equal(at.defaulted, at.live);
                };
                if ours.len() != theirs.len() {
                    return Err(Differs);
                }
                for (index, (defaulted, live)) in ours.iter().zip(theirs).enumerate() {
                    let written = at.written.and_then(|written| written.get(index));
                    self.below(PathElement::Index(index), |walk| {
                        walk.value(element, Versions { written, defaulted, live })
                    })?;
                }
                Ok(())
            }
            scalar => equal_scalars(scalar, at.defaulted, at.live),
        }
    }

    fn structure(&mut self, structure: &GoStruct, at: Versions<'_>) -> Result<(), Differs> {
        let (Some(ours), Some(theirs)) = (entries(at.defaulted), entries(at.live)) else {
            return equal(at.defaulted, at.live);
        };
        for field in &structure.fields {
            let written = at.written.and_then(|written| written.get(&field.name));
            let defaulted = ours.get(&field.name).unwrap_or(&ABSENT);
            let live = theirs.get(&field.name).unwrap_or(&ABSENT);
            self.below(PathElement::Field(field.name.clone()), |walk| {
                walk.field(structure, field, Versions { written, defaulted, live })
            })?;
        }
        if self.unknown == UnknownFields::Ignore {
            return Ok(());
        }
        let keys = ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key)));
        for key in keys.filter(|key| structure.field(key).is_none()) {
            let (defaulted, live) = (ours.get(key).unwrap_or(&ABSENT), theirs.get(key).unwrap_or(&ABSENT));
            self.below(PathElement::Field(key.clone()), |walk| walk.unknown_field(defaulted, live))?;
        }
        Ok(())
    }

    fn field(&mut self, structure: &GoStruct, field: &GoField, at: Versions<'_>) -> Result<(), Differs> {
        let is_written = at.written.is_some_and(|written| !field.go_type.is_empty(written));
        let has_ours = !field.go_type.is_empty(at.defaulted);
        let has_theirs = !field.go_type.is_empty(at.live);
        let place = (structure.name.as_str(), field.name.as_str());
        match (has_ours, has_theirs) {
            (false, true) => self.doubt_if(may_be_defaulted(place.0, place.1)),
            (true, false) if is_written => self.doubt_if(DROPPED_WHERE_DISABLED.contains(&place)),
            // Where only ours is there, it is a default that this server does not have: nobody asked for it.
            (false | true, false) => Ok(()),
            (true, true) if is_written || holds_more(&field.go_type) => self.value(&field.go_type, at),
            (true, true) => match equal_scalars(&field.go_type, at.defaulted, at.live) {
                Ok(()) => Ok(()),
                Err(Differs) => self.doubt_if(may_be_defaulted(place.0, place.1)),
            },
        }
    }

    fn map(&mut self, element: &GoType, at: Versions<'_>) -> Result<(), Differs> {
        let (Some(ours), Some(theirs)) = (entries(at.defaulted), entries(at.live)) else {
            return equal(at.defaulted, at.live);
        };
        let keys = ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key)));
        for key in keys {
            self.below(PathElement::Key(key.clone()), |walk| match (ours.get(key), theirs.get(key)) {
                (Some(defaulted), Some(live)) => {
                    walk.value(element, Versions { written: Some(defaulted), defaulted, live })
                }
                _ => Err(Differs),
            })?;
        }
        Ok(())
    }

    /// A server that does not know the field drops it, one that does may set it: only two values differ.
    fn unknown_field(&mut self, ours: &Value, theirs: &Value) -> Result<(), Differs> {
        if is_nothing(ours) == is_nothing(theirs) {
            return if is_nothing(ours) { Ok(()) } else { equal(ours, theirs) };
        }
        self.doubt_if(true)
    }

    fn doubt_if(&mut self, possible: bool) -> Result<(), Differs> {
        self.undecided |= possible;
        if possible { Ok(()) } else { Err(Differs) }
    }

    /// Walks one level down. The path stays where it is when the walk ends there.
    fn below(
        &mut self,
        element: PathElement,
        walk: impl FnOnce(&mut Self) -> Result<(), Differs>,
    ) -> Result<(), Differs> {
        self.path.push(element);
        walk(self)?;
        self.path.pop();
        Ok(())
    }
}

fn equal(ours: &Value, theirs: &Value) -> Result<(), Differs> {
    if ours == theirs { Ok(()) } else { Err(Differs) }
}

/// Quantities by value; where Go has a zero instead of an absence, both are one.
fn equal_scalars(go_type: &GoType, ours: &Value, theirs: &Value) -> Result<(), Differs> {
    let is_zero = |value: &Value| value.is_null() || value.as_i64() == Some(0);
    match go_type {
        GoType::Quantity => {
            let quantity = |value| if is_zero(value) { "0".parse().ok() } else { Quantity::from_json(value) };
            match (quantity(ours), quantity(theirs)) {
                (Some(ours), Some(theirs)) if ours == theirs => Ok(()),
                _ => equal(ours, theirs),
            }
        }
        GoType::IntOrString if is_zero(ours) && is_zero(theirs) => Ok(()),
        GoType::Pointer(target) => equal_scalars(target, ours, theirs),
        _ => equal(ours, theirs),
    }
}

/// Whether there are fields within that somebody else may have set: then looking inside says more.
fn holds_more(go_type: &GoType) -> bool {
    match go_type {
        GoType::Pointer(target) => holds_more(target),
        GoType::Struct(_) => true,
        _ => false,
    }
}

/// The fields of an object; none where there is no object.
fn entries(value: &Value) -> Option<&Map<String, Value>> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    match value {
        Value::Null => Some(&EMPTY),
        value => value.as_object(),
    }
}

/// Null, or a map or list without elements.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_that_may_be_dropped_is_in_the_type_table() {
        for (structure, field) in DROPPED_WHERE_DISABLED {
            let GoType::Struct(index) = GoTypes::get().named(structure) else { unreachable!() };
            assert!(GoTypes::get().structure(index).field(field).is_some(), "{structure}.{field}");
        }
    }
}
