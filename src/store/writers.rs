//! Who wrote an object besides us, by its managedFields, which are not kept.

use jiff::Timestamp;
use serde_json::Value;

use crate::crd::keys;

/// The name under which this program's writes stand in managedFields.
pub const FIELD_MANAGER: &str = "rolloutd";

/// The last writers of a rollout other than this program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writers {
    /// Of the spec.
    pub spec: Option<FieldManager>,
    /// Of the status.
    pub status: Option<FieldManager>,
    /// Of the environment of its pods, which is in annotations.
    pub environment: Option<FieldManager>,
}

/// A field manager, and when it wrote. Two versions of an object that have the same one were not written by it in between: times have
/// whole seconds, but what it writes comes with a newer one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldManager {
    /// Its name, such as `kubectl-edit`.
    pub name: String,
    /// How it wrote: `Update` or `Apply`.
    pub operation: String,
    /// When.
    pub time: Option<Timestamp>,
}

impl Writers {
    /// The last writers by an object's managedFields; `None` where the API server keeps none.
    pub(super) fn of(metadata: &Value) -> Option<Self> {
        let entries = metadata["managedFields"].as_array()?;
        let part = |part: &'static str| move |fields: &Value| !fields[part].is_null();
        let environment = |fields: &Value| {
            let keys = [keys::CANARY_ENVIRONMENT, keys::STABLE_ENVIRONMENT];
            keys.iter().any(|key| !fields["f:metadata"]["f:annotations"][format!("f:{key}")].is_null())
        };
        Some(Self {
            spec: last(entries, part("f:spec")),
            status: last(entries, part("f:status")),
            environment: last(entries, environment),
        })
    }
}

fn last(entries: &[Value], wrote: impl Fn(&Value) -> bool) -> Option<FieldManager> {
    let managers = entries.iter().filter(|entry| wrote(&entry["fieldsV1"])).map(|entry| {
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        FieldManager {
            name: text("manager").to_owned(),
            operation: text("operation").to_owned(),
            time: text("time").parse().ok(),
        }
    });
    managers.filter(|manager| manager.name != FIELD_MANAGER).max_by_key(|manager| manager.time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_writer_of_each_part_is_known() {
        let entry = |manager: &str, part: &str, time: &str| json!({ "manager": manager, "operation": "Update", "fieldsV1": { part: {} }, "time": time });
        let metadata = json!({ "managedFields": [
            entry("kubectl-create", "f:spec", "2026-01-01T00:00:00Z"),
            entry("hpa", "f:spec", "2026-01-01T00:00:05Z"),
            entry("rolloutd", "f:spec", "2026-01-01T00:00:06Z"),
            entry("kubectl-argo-rollouts", "f:status", "2026-01-01T00:00:07Z"),
            entry("rolloutd", "f:status", "2026-01-01T00:00:07Z"),
            entry("labeller", "f:metadata", "2026-01-01T00:00:09Z"),
            json!({ "manager": "kubectl-annotate", "operation": "Update", "time": "2026-01-01T00:00:08Z",
                "fieldsV1": { "f:metadata": { "f:annotations": { "f:rolloutd.dev/stable-environment": {} } } } }),
        ] });
        let name = |manager: Option<FieldManager>| manager.map(|manager| manager.name);
        let Writers { spec, status, environment } = Writers::of(&metadata).unwrap();
        assert_eq!(
            [name(spec), name(status), name(environment)],
            ["hpa", "kubectl-argo-rollouts", "kubectl-annotate"].map(|name| Some(name.to_owned()))
        );
        assert_eq!(Writers::of(&json!({})), None);
        assert_eq!(Writers::of(&json!({ "managedFields": [7, {}] })), Some(Writers::default()));
    }
}
