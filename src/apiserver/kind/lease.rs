//! Leases.

use jiff::Timestamp;
use k8s_openapi::api::coordination;
use serde_json::{Value, json};

use super::{open_api, read};
use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::object::Object;
use crate::apiserver::resource::{Read, ReadError, Rules, Surroundings};
use crate::apiserver::status::ApiError;
use crate::apiserver::table::{Column, age};

const GO_TYPE: &str = "io.k8s.api.coordination.v1.Lease";

pub(super) struct LeaseRules;

impl Rules for LeaseRules {
    fn read(&self, body: Value) -> Result<Read, ReadError> {
        read(&body, GO_TYPE, "coordination.k8s.io/v1", |_| {})
    }

    fn put_creates(&self) -> bool {
        true
    }

    fn update_needs_version(&self) -> bool {
        true
    }

    fn prepare_create(&self, lease: &mut Value, _: &mut Surroundings<'_>) -> Result<(), ApiError> {
        drop_coordinated_election(lease);
        Ok(())
    }

    fn prepare_update(
        &self,
        new: &mut Value,
        _old: &Value,
        _: &mut Surroundings<'_>,
    ) -> Result<(), ApiError> {
        drop_coordinated_election(new);
        Ok(())
    }

    fn validate(&self, lease: &Value) -> Violations {
        let mut violations = Violations::new();
        let path = Path::of("spec");
        if let Some(seconds) = lease.integer("/spec/leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
            let path = path.child("leaseDurationSeconds");
            violations.push(Violation::invalid(&path, seconds, "must be greater than 0"));
        }
        if let Some(count) = lease.integer("/spec/leaseTransitions").filter(|count| *count < 0) {
            let path = path.child("leaseTransitions");
            violations.push(Violation::invalid(&path, count, "must be greater than or equal to 0"));
        }
        violations
    }

    fn go_type(&self) -> Option<&'static str> {
        Some(GO_TYPE)
    }

    fn open_api(&self) -> (String, Value) {
        open_api::<coordination::v1::Lease>()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new(
                "Holder",
                "string",
                "holderIdentity contains the identity of the holder of a current lease.",
            ),
            Column::age(),
        ]
    }

    fn cells(&self, lease: &Value, now: Timestamp) -> Vec<Value> {
        vec![json!(lease.name()), json!(lease.text("/spec/holderIdentity")), age(lease, now)]
    }
}

/// Fields of a feature that is off by default.
fn drop_coordinated_election(lease: &mut Value) {
    for key in ["strategy", "preferredHolder"] {
        lease["spec"].set_member(key, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_positive() {
        let lease = json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}});
        let violations: Vec<String> = LeaseRules.validate(&lease).iter().map(ToString::to_string).collect();
        assert_eq!(
            violations,
            [
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"
            ]
        );
    }
}
