//! Pod templates as JSON values: what the API server adds, whether two are the same, and what the
//! controller puts in and takes out again.
//!
//! Pure; depends on the type table of `hash` and on the keys of `crd`. Adoption and undo in `plan/` and
//! the ReplicaSet worker use it.

use serde_json::Value;

use crate::crd::keys;
use crate::hash::{HashError, malformed_template_fields};

mod anti_affinity;
mod compare;
mod defaults;
mod environment;
mod image;

pub use anti_affinity::{Apart, anti_affinity_patch, inject_anti_affinity, remove_injected_anti_affinity};
pub use compare::{Sameness, UnknownFields, compare};
pub use defaults::apply_defaults;
pub use environment::{
    environment_annotations, environment_files, inject_environment_volume, is_environment,
    remove_injected_environment,
};

/// Takes out every value that its field cannot hold, as the reference does with a stored Rollout that is
/// malformed: the field or map entry goes, and the list where an element of one is malformed.
///
/// What went is returned, for events and blockers to name.
pub fn remove_malformed(template: &mut Value) -> Vec<HashError> {
    let malformed = malformed_template_fields(template);
    for error in &malformed {
        error.path.remove_from(template);
    }
    malformed
}

/// Takes labels out, and the map of labels when it is empty then.
pub fn remove_labels<K: AsRef<str>>(template: &mut Value, keys: impl IntoIterator<Item = K>) {
    remove_keys(template, "labels", keys);
}

/// Takes annotations out, and the map of annotations when it is empty then.
pub fn remove_annotations<K: AsRef<str>>(template: &mut Value, keys: impl IntoIterator<Item = K>) {
    remove_keys(template, "annotations", keys);
}

/// Takes the hash label out.
pub fn remove_hash_label(template: &mut Value) {
    remove_labels(template, [keys::POD_TEMPLATE_HASH]);
}

fn remove_keys<K: AsRef<str>>(template: &mut Value, map: &str, keys: impl IntoIterator<Item = K>) {
    let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let Some(entries) = metadata.get_mut(map).and_then(Value::as_object_mut) else { return };
    for key in keys {
        entries.shift_remove(key.as_ref());
    }
    if entries.is_empty() {
        metadata.shift_remove(map);
    }
}

#[cfg(test)]
mod tests;
