//! ControllerRevisions: immutable snapshots with a number.

use jiff::Timestamp;
use k8s_openapi::api::apps;
use serde_json::{Value, json};

use super::{open_api, read};
use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::metadata::immutable;
use crate::apiserver::object::Object;
use crate::apiserver::resource::{Read, ReadError, Rules};
use crate::apiserver::table::{Column, age};

const GO_TYPE: &str = "io.k8s.api.apps.v1.ControllerRevision";

pub(super) struct ControllerRevisionRules;

impl Rules for ControllerRevisionRules {
    fn read(&self, body: Value) -> Result<Read, ReadError> {
        read(&body, GO_TYPE, "apps/v1", |_| {})
    }

    fn validate(&self, revision: &Value) -> Violations {
        let mut violations = number(revision);
        let data = Path::of("data");
        match &revision["data"] {
            Value::Object(_) => {}
            Value::Null => violations.push(Violation::required(&data, "data is mandatory")),
            _ => violations.push(Violation::required(&data, "data must be a valid JSON object")),
        }
        violations
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Violations {
        let mut violations = number(new);
        if new["data"] != old["data"] {
            violations.push(immutable(&Path::of("data"), new.get("data").cloned()));
        }
        violations
    }

    fn go_type(&self) -> Option<&'static str> {
        Some(GO_TYPE)
    }

    fn open_api(&self) -> (String, Value) {
        open_api::<apps::v1::ControllerRevision>()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Controller", "string", "Controller of the object"),
            Column::new(
                "Revision",
                "string",
                "Revision indicates the revision of the state represented by Data.",
            ),
            Column::age(),
        ]
    }

    fn cells(&self, revision: &Value, now: Timestamp) -> Vec<Value> {
        vec![
            json!(revision.name()),
            json!(controller(revision)),
            revision["revision"].clone(),
            age(revision, now),
        ]
    }
}

fn number(revision: &Value) -> Violations {
    let path = Path::of("revision");
    let number = revision.integer("/revision").unwrap_or(0);
    (number < 0)
        .then(|| Violation::invalid(&path, number, "must be greater than or equal to 0"))
        .into_iter()
        .collect()
}

/// The controlling owner as `kind.group/name`.
fn controller(revision: &Value) -> String {
    let owners = revision.list("/metadata/ownerReferences");
    let Some(owner) = owners.iter().find(|owner| owner["controller"] == json!(true)) else {
        return "<none>".to_owned();
    };
    let kind = owner.text("/kind").to_lowercase();
    match owner.text("/apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", owner.text("/name")),
        None => format!("{kind}/{}", owner.text("/name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controller_is_shown_with_its_group() {
        let owned = json!({"metadata": {"ownerReferences": [
            {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "name": "web", "controller": true}]}});
        assert_eq!(controller(&owned), "rollout.argoproj.io/web");
        assert_eq!(controller(&json!({})), "<none>");
    }

    #[test]
    fn data_is_an_object_and_stays() {
        assert_eq!(ControllerRevisionRules.validate(&json!({"data": {"a": 1}})).len(), 0);
        assert_eq!(ControllerRevisionRules.validate(&json!({"data": [1], "revision": -1})).len(), 2);
        let violations =
            ControllerRevisionRules.validate_update(&json!({"data": {}}), &json!({"data": {"a": 1}}));
        assert_eq!(violations[0].to_string(), "data: Invalid value: {}: field is immutable");
    }
}
