//! Decoding that says where it failed. Depends on nothing but the types.

use serde::Deserialize;
use serde_json::Value;

use super::Rollout;

/// Why an object is no Rollout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct Malformed {
    /// The field, such as `spec.strategy.canary.maxSurge`; empty for the object as a whole.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

impl Rollout {
    /// Decodes a stored object, unknown fields included.
    ///
    /// # Errors
    /// The first field that has a value which the type does not hold.
    pub fn decode(object: &Value) -> Result<Self, Malformed> {
        // The way that knows no paths is quicker, and nearly always enough.
        Self::deserialize(object).or_else(|_| {
            serde_path_to_error::deserialize(object).map_err(|error| {
                let path = error.path().to_string();
                let path = if path == "." { String::new() } else { path };
                Malformed { path, why: error.into_inner().to_string() }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_field_that_cannot_be_decoded_is_named() {
        for (object, path) in [
            (json!({ "spec": { "replicas": 3_000_000_000_i64 } }), "spec.replicas"),
            (
                json!({ "spec": { "strategy": { "canary": { "maxSurge": true } } } }),
                "spec.strategy.canary.maxSurge",
            ),
            (
                json!({ "spec": { "strategy": { "canary": { "steps": [{}, { "setWeight": "x" }] } } } }),
                "spec.strategy.canary.steps[1].setWeight",
            ),
            (json!({ "spec": { "restartAt": "soon" } }), "spec.restartAt"),
            (json!(7), ""),
        ] {
            assert_eq!(Rollout::decode(&object).unwrap_err().path, path, "{object}");
        }
    }
}
