//! The defaults that the API server stores in a pod template (`SetObjectDefaults_PodTemplate` of
//! Kubernetes v1.35), as a table.
//!
//! Depends on the type table of `hash` and on `image`. One table serves two purposes: filling defaults
//! in, and telling (`compare.rs`) which fields a server may have added.

use serde_json::{Map, Value, json};

use super::image::is_latest;
use crate::hash::Quantity;
use crate::hash::go_types::{GoStruct, GoType, GoTypes};

/// A field that is set when nobody set it.
struct Default {
    structure: &'static str,
    field: &'static str,
    value: Rule,
}

/// What a default is.
enum Rule {
    Text(&'static str),
    Number(i64),
    False,
    EmptyObject,
    /// `Always` where the named field holds an image whose tag is latest, else `IfNotPresent`.
    PullPolicy(&'static str),
    /// The same as another field, where that is set.
    SameAs(&'static str),
    /// An empty object, where nothing beside the name is set: the kind of volume is its only other field.
    OnlyNamed,
    /// Nothing today. Other versions of Kubernetes set it.
    OtherVersions,
}

const fn default(structure: &'static str, field: &'static str, value: Rule) -> Default {
    Default { structure, field, value }
}

#[rustfmt::skip]
const DEFAULTS: &[Default] = &[
    default("PodSpec", "dnsPolicy", Rule::Text("ClusterFirst")),
    default("PodSpec", "restartPolicy", Rule::Text("Always")),
    default("PodSpec", "securityContext", Rule::EmptyObject),
    default("PodSpec", "terminationGracePeriodSeconds", Rule::Number(30)),
    default("PodSpec", "schedulerName", Rule::Text("default-scheduler")),
    // Two names of one field; the newer one wins where they differ.
    default("PodSpec", "serviceAccountName", Rule::SameAs("serviceAccount")),
    default("PodSpec", "serviceAccount", Rule::SameAs("serviceAccountName")),
    default("Container", "imagePullPolicy", Rule::PullPolicy("image")),
    default("Container", "terminationMessagePath", Rule::Text("/dev/termination-log")),
    default("Container", "terminationMessagePolicy", Rule::Text("File")),
    default("EphemeralContainer", "imagePullPolicy", Rule::PullPolicy("image")),
    default("EphemeralContainer", "terminationMessagePath", Rule::Text("/dev/termination-log")),
    default("EphemeralContainer", "terminationMessagePolicy", Rule::Text("File")),
    default("ContainerPort", "protocol", Rule::Text("TCP")),
    default("ContainerPort", "hostPort", Rule::OtherVersions),
    default("SecurityContext", "procMount", Rule::OtherVersions),
    default("ObjectFieldSelector", "apiVersion", Rule::Text("v1")),
    default("FileKeySelector", "optional", Rule::False),
    default("Probe", "timeoutSeconds", Rule::Number(1)),
    default("Probe", "periodSeconds", Rule::Number(10)),
    default("Probe", "successThreshold", Rule::Number(1)),
    default("Probe", "failureThreshold", Rule::Number(3)),
    default("HTTPGetAction", "path", Rule::Text("/")),
    default("HTTPGetAction", "scheme", Rule::Text("HTTP")),
    default("GRPCAction", "service", Rule::Text("")),
    default("Volume", "emptyDir", Rule::OnlyNamed),
    default("HostPathVolumeSource", "type", Rule::Text("")),
    default("SecretVolumeSource", "defaultMode", Rule::Number(0o644)),
    default("ConfigMapVolumeSource", "defaultMode", Rule::Number(0o644)),
    default("DownwardAPIVolumeSource", "defaultMode", Rule::Number(0o644)),
    default("ProjectedVolumeSource", "defaultMode", Rule::Number(0o644)),
    default("ServiceAccountTokenProjection", "expirationSeconds", Rule::Number(3600)),
    default("ImageVolumeSource", "pullPolicy", Rule::PullPolicy("reference")),
    default("PersistentVolumeClaimSpec", "volumeMode", Rule::Text("Filesystem")),
    default("ISCSIVolumeSource", "iscsiInterface", Rule::Text("default")),
    default("RBDVolumeSource", "pool", Rule::Text("rbd")),
    default("RBDVolumeSource", "user", Rule::Text("admin")),
    default("RBDVolumeSource", "keyring", Rule::Text("/etc/ceph/keyring")),
    default("AzureDiskVolumeSource", "cachingMode", Rule::Text("ReadWrite")),
    default("AzureDiskVolumeSource", "fsType", Rule::Text("ext4")),
    default("AzureDiskVolumeSource", "readOnly", Rule::False),
    default("AzureDiskVolumeSource", "kind", Rule::Text("Shared")),
    default("ScaleIOVolumeSource", "storageMode", Rule::Text("ThinProvisioned")),
    default("ScaleIOVolumeSource", "fsType", Rule::Text("xfs")),
];

/// Maps of resources, whose quantities are stored with at most three decimals.
const RESOURCE_LISTS: [(&str, &str); 5] = [
    ("PodSpec", "overhead"),
    ("ResourceRequirements", "limits"),
    ("ResourceRequirements", "requests"),
    ("VolumeResourceRequirements", "limits"),
    ("VolumeResourceRequirements", "requests"),
];

/// Whether some version of Kubernetes sets the field when nobody else did.
pub(super) fn may_be_defaulted(structure: &str, field: &str) -> bool {
    DEFAULTS.iter().any(|default| (default.structure, default.field) == (structure, field))
}

/// Sets what the API server (v1.35) sets when a ReplicaSet with this template is created.
///
/// Values that cannot be decoded are left as they are. Doing it twice changes nothing more.
pub fn apply_defaults(template: &mut Value) {
    fill(&GoTypes::get().named("PodTemplateSpec"), template);
}

fn fill(go_type: &GoType, value: &mut Value) {
    match (go_type, value) {
        (GoType::Pointer(target), value) if !value.is_null() => fill(target, value),
        (GoType::Slice(element), Value::Array(items)) => {
            items.iter_mut().for_each(|item| fill(element, item));
        }
        (GoType::Map(element), Value::Object(map)) => map.values_mut().for_each(|value| fill(element, value)),
        (GoType::Struct(index), value @ Value::Null) => {
            let mut map = Map::new();
            fill_structure(GoTypes::get().structure(*index), &mut map);
            if !map.is_empty() {
                *value = map.into();
            }
        }
        (GoType::Struct(index), Value::Object(map)) => fill_structure(GoTypes::get().structure(*index), map),
        _ => {}
    }
}

fn fill_structure(structure: &GoStruct, map: &mut Map<String, Value>) {
    for default in DEFAULTS.iter().filter(|default| default.structure == structure.name) {
        let field = structure.field(default.field).expect("a test looks every row up in the type table");
        if map.get(default.field).is_none_or(|value| field.go_type.is_empty(value))
            && let Some(value) = default.value.of(map)
        {
            map.insert(default.field.to_owned(), value);
        }
    }
    if structure.name == "PodSpec"
        && let Some(Value::String(name)) = map.get("serviceAccountName")
        && !name.is_empty()
    {
        map.insert("serviceAccount".to_owned(), name.clone().into());
    }
    for field in &structure.fields {
        // A struct that is absent still has defaults within: Go has no absent structs.
        let mut absent = Value::Null;
        let below = map.get_mut(&field.name).unwrap_or(&mut absent);
        fill(&field.go_type, below);
        if RESOURCE_LISTS.contains(&(structure.name.as_str(), field.name.as_str())) {
            round_resources(below);
        }
        if !absent.is_null() {
            map.insert(field.name.clone(), absent);
        }
    }
}

/// Rounds quantities that have more than three decimals.
fn round_resources(resources: &mut Value) {
    for resource in resources.as_object_mut().into_iter().flat_map(Map::values_mut) {
        if let Some(quantity) = Quantity::from_json(resource) {
            let rounded = quantity.clone().rounded_up_to_milli();
            if rounded != quantity {
                *resource = rounded.to_string().into();
            }
        }
    }
}

impl Rule {
    /// The value, given the other fields; `None` where there is nothing to set.
    fn of(&self, map: &Map<String, Value>) -> Option<Value> {
        match self {
            Self::Text(text) => Some(json!(text)),
            Self::Number(number) => Some(json!(number)),
            Self::False => Some(json!(false)),
            Self::EmptyObject => Some(json!({})),
            Self::PullPolicy(image) => {
                let image = map.get(*image).and_then(Value::as_str).unwrap_or_default();
                Some(json!(if is_latest(image) { "Always" } else { "IfNotPresent" }))
            }
            Self::SameAs(other) => map
                .get(*other)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
                .map(|text| json!(text)),
            Self::OnlyNamed => {
                let is_given = |(name, value): (&String, &Value)| name != "name" && !value.is_null();
                (!map.iter().any(is_given)).then(|| json!({}))
            }
            Self::OtherVersions => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_row_names_a_field_of_the_type_table() {
        let rows = DEFAULTS.iter().map(|default| (default.structure, default.field));
        for (structure, field) in rows.chain(RESOURCE_LISTS) {
            let GoType::Struct(index) = GoTypes::get().named(structure) else { unreachable!() };
            assert!(GoTypes::get().structure(index).field(field).is_some(), "{structure}.{field}");
        }
    }

    #[test]
    fn the_rows_are_what_a_real_api_server_adds_no_more_and_no_less() {
        let vectors: Vec<Value> = serde_json::from_str(super::super::tests::SERVER_VECTORS).unwrap();
        let mut added = BTreeSet::new();
        for vector in &vectors {
            let template = GoTypes::get().named("PodTemplateSpec");
            collect_added(&template, &vector["desired"], &vector["live"], &mut added);
        }
        // Pod templates may not have ephemeral containers; pods may, with the same defaults.
        let rows = DEFAULTS
            .iter()
            .filter(|row| row.structure != "EphemeralContainer" && !matches!(row.value, Rule::OtherVersions))
            .map(|row| (row.structure, row.field))
            .collect();
        assert_eq!(added, rows);
    }

    /// The fields that are set in `live` only, by type.
    fn collect_added(
        go_type: &GoType,
        desired: &Value,
        live: &Value,
        added: &mut BTreeSet<(&'static str, &'static str)>,
    ) {
        match go_type {
            GoType::Pointer(target) => collect_added(target, desired, live, added),
            GoType::Slice(element) => {
                for (index, live) in live.as_array().into_iter().flatten().enumerate() {
                    collect_added(element, &desired[index], live, added);
                }
            }
            GoType::Struct(index) => {
                let structure = GoTypes::get().structure(*index);
                for field in &structure.fields {
                    let (desired, live) = (&desired[&field.name], &live[&field.name]);
                    let is_struct = matches!(field.go_type, GoType::Struct(_) | GoType::Quantity);
                    if !is_struct && field.go_type.is_empty(desired) && !field.go_type.is_empty(live) {
                        added.insert((&structure.name, &field.name));
                    }
                    collect_added(&field.go_type, desired, live, added);
                }
            }
            _ => {}
        }
    }
}
