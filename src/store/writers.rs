//! Who wrote an object last, by its managedFields, which are not kept.

use jiff::Timestamp;
use serde_json::Value;

/// The last writers of a rollout, as far as the API server keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writers {
    /// Of the spec.
    pub spec: Option<FieldManager>,
    /// Of the status.
    pub status: Option<FieldManager>,
}

/// A field manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldManager {
    /// Its name, such as `kubectl-edit`.
    pub name: String,
    /// How it wrote: `Update` or `Apply`.
    pub operation: String,
}

/// The name under which this program's writes stand in managedFields.
pub const FIELD_MANAGER: &str = "rolloutd";

impl Writers {
    /// The last writers by an object's managedFields.
    pub(super) fn of(metadata: &Value) -> Self {
        Self { spec: last(metadata, "f:spec"), status: last(metadata, "f:status") }
    }
}

/// Times have whole seconds: of two in the same one, it is not us who wrote last, since others look at what we wrote.
fn last(metadata: &Value, field: &str) -> Option<FieldManager> {
    let entries =
        metadata["managedFields"].as_array()?.iter().filter(|entry| !entry["fieldsV1"][field].is_null());
    let time = |entry: &Value| entry["time"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let newest = entries.max_by_key(|entry| (time(entry), entry["manager"] != FIELD_MANAGER))?;
    let text = |field: &str| newest[field].as_str().unwrap_or_default().to_owned();
    Some(FieldManager { name: text("manager"), operation: text("operation") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_newest_writer_of_each_part_is_known() {
        let entry = |manager: &str, part: &str, time: &str| json!({ "manager": manager, "operation": "Update", "fieldsV1": { part: {} }, "time": time });
        let metadata = json!({ "managedFields": [
            entry("kubectl-create", "f:spec", "2026-01-01T00:00:00Z"),
            entry("hpa", "f:spec", "2026-01-01T00:00:05Z"),
            entry("rolloutd", "f:status", "2026-01-01T00:00:07Z"),
            entry("kubectl-argo-rollouts", "f:status", "2026-01-01T00:00:07Z"),
            entry("labeller", "f:metadata", "2026-01-01T00:00:09Z"),
        ] });
        let name = |manager: Option<FieldManager>| manager.map(|manager| manager.name);
        let Writers { spec, status } = Writers::of(&metadata);
        assert_eq!(
            (name(spec), name(status)),
            (Some("hpa".to_owned()), Some("kubectl-argo-rollouts".to_owned()))
        );
        assert_eq!(Writers::of(&json!({})), Writers::default());
        assert_eq!(Writers::of(&json!({ "managedFields": [7, {}] })), Writers::default());
    }
}
