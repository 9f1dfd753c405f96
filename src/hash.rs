//! Hashes of pod templates and canary steps, byte for byte those of Argo Rollouts (contract 4.4).
//!
//! A hash is FNV-1a over the JSON that Go writes, spelled in letters that form no words. Depends on
//! nothing of this package. `plan/` names ReplicaSets by the hash and tells by it whether the template or
//! the steps changed.
//!
//! There are two of each. The reference's hash leaves out the fields that its Go types do not have:
//! changing only those rolls nothing out there. The effective hash is the same when there are no such
//! fields, and otherwise continues over them, so that a change to a field newer than our table rolls out.

use std::fmt;

use serde_json::Value;

mod encode;
mod field_path;
mod go_json;
pub(crate) mod go_types;
mod quantity;

use encode::{Encoded, encode, push_unknown};
pub use field_path::{FieldPath, PathElement};
use go_types::{GoType, GoTypes};
pub use quantity::{Quantity, QuantityError};

/// A value that the type of its field cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{value} is not {expected}", prefix(path))]
pub struct HashError {
    /// Where it is.
    pub path: FieldPath,
    /// The value, as JSON.
    pub value: String,
    /// What belongs there, as a noun phrase.
    pub expected: &'static str,
}

/// The path with a colon; nothing for the root.
fn prefix(path: &FieldPath) -> String {
    if path.elements().is_empty() { String::new() } else { format!("{path}: ") }
}

/// Hash of a pod template: a label value, and the end of a ReplicaSet's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodHash(String);

/// Hash of the steps of a canary, as status.currentStepHash has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepHash(String);

impl PodHash {
    /// A hash that somebody made before, from a label or a status.
    #[must_use]
    pub fn existing(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl StepHash {
    /// A hash that somebody made before, from a status.
    #[must_use]
    pub fn existing(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PodHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for StepHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The JSON that Go writes for a core/v1 PodTemplateSpec: its field order, no empty fields, sorted maps,
/// quantities in their canonical form, unknown fields left out.
///
/// # Errors
///
/// The first value that its field cannot hold.
pub fn go_template_json(template: &Value) -> Result<String, HashError> {
    well_formed(encode(&template_type(), template)).map(|encoded| encoded.json)
}

/// The JSON that Go's `encoding/json` writes for a value of unknown type: keys sorted, no white space.
#[must_use]
pub fn go_json(value: &Value) -> String {
    let mut json = String::new();
    go_json::push_value(&mut json, value, go_json::Keys::Sorted);
    json
}

/// The reference's hash of a pod template.
///
/// # Errors
///
/// The first value that its field cannot hold.
pub fn pod_template_hash(template: &Value, collision_count: Option<i32>) -> Result<PodHash, HashError> {
    let encoded = well_formed(encode(&template_type(), template))?;
    Ok(PodHash(hash(&encoded.json, collision_count)))
}

/// The hash of a pod template that changes with every field of it: the reference's, continued over the
/// fields that the reference does not know, if there are any.
///
/// # Errors
///
/// The first value that its field cannot hold.
pub fn effective_template_hash(template: &Value, collision_count: Option<i32>) -> Result<PodHash, HashError> {
    let encoded = well_formed(encode(&template_type(), template))?;
    Ok(PodHash(hash(&with_unknown(encoded), collision_count)))
}

/// All values of a pod template that their fields cannot hold, in the order of the fields.
#[must_use]
pub fn malformed_template_fields(template: &Value) -> Vec<HashError> {
    encode(&template_type(), template).malformed
}

/// The reference's hash of a list of canary steps; null stands for a missing list.
///
/// The configuration of a plugin step counts in the order of its keys. The API server sorts them, so this
/// only shows for steps that have not been there.
///
/// # Errors
///
/// The first value that its field cannot hold.
pub fn step_hash(steps: &Value) -> Result<StepHash, HashError> {
    let encoded = well_formed(encode(&steps_type(), steps))?;
    Ok(StepHash(hash(&encoded.json, None)))
}

/// The hash of a list of canary steps that changes with every field of it.
///
/// # Errors
///
/// The first value that its field cannot hold.
pub fn effective_step_hash(steps: &Value) -> Result<StepHash, HashError> {
    let encoded = well_formed(encode(&steps_type(), steps))?;
    Ok(StepHash(hash(&with_unknown(encoded), None)))
}

fn template_type() -> GoType {
    GoTypes::get().named("PodTemplateSpec")
}

fn steps_type() -> GoType {
    GoType::Slice(Box::new(GoTypes::get().named("CanaryStep")))
}

fn well_formed(mut encoded: Encoded<'_>) -> Result<Encoded<'_>, HashError> {
    if encoded.malformed.is_empty() { Ok(encoded) } else { Err(encoded.malformed.swap_remove(0)) }
}

fn with_unknown(encoded: Encoded<'_>) -> String {
    let mut text = encoded.json;
    if !encoded.unknown.is_empty() {
        push_unknown(&mut text, &encoded.unknown);
    }
    text
}

/// FNV-1a of the text and, where there was a collision, of its count as eight bytes, spelled safely.
fn hash(text: &str, collision_count: Option<i32>) -> String {
    let mut state = fnv1a(FNV_OFFSET, text.as_bytes());
    if let Some(count) = collision_count {
        // The reference writes the 32 bits of the count into a buffer of eight bytes.
        state = fnv1a(state, &u64::from(count.cast_unsigned()).to_le_bytes());
    }
    safe_encode(&state.to_string())
}

/// A short digest by which a text is known again: FNV-1a in eight hexadecimal digits. Not for what somebody might forge.
#[must_use]
pub fn digest(text: &str) -> String {
    format!("{:08x}", fnv1a(FNV_OFFSET, text.as_bytes()))
}

const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

fn fnv1a(state: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(state, |state, byte| (state ^ u32::from(*byte)).wrapping_mul(FNV_PRIME))
}

/// Kubernetes' `SafeEncodeString`: letters and digits that spell no words.
fn safe_encode(text: &str) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    text.bytes().map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])).collect()
}

#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod tests;
