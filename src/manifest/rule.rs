//! Whether an object follows the rules of its kind: those that the controller goes by.

use serde_json::Value;

use super::kind::ROLLOUT;
use super::{Fault, Item};
use crate::crd::Rollout;
use crate::validate;

/// Checks an object as it would be stored in the place of another; faults carry the manifest's paths.
#[must_use]
pub fn check(item: &Item, before: Option<&Value>, object: &Value) -> Vec<Fault> {
    if *item.kind != ROLLOUT {
        return Vec::new();
    }
    let rollout = match Rollout::decode(object) {
        Ok(rollout) => rollout,
        Err(error) => return vec![Fault::new(item.document.at(&error.path), error.why)],
    };
    let fault = |violation: &validate::Violation| {
        Fault::new(item.document.at(&violation.path.to_string()), violation.description())
    };
    let violations = [validate::rollout(&rollout), validate::unheeded(before, object).new].concat();
    violations.iter().map(fault).collect()
}
