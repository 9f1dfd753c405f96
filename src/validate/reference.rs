//! The objects that a rollout names, as far as it depends on how they are.

use std::collections::BTreeMap;

use serde_json::Value;

use super::path::Path;
use super::violation::Violation;
use crate::crd::{Rollout, ServiceName, WorkloadName, keys};

/// What is looked at of a Service.
#[derive(Clone, Copy, Debug)]
pub struct ServiceFacts<'a> {
    /// spec.selector.
    pub selector: &'a BTreeMap<String, String>,
    /// The rollout that says it manages the Service; `None` where none does.
    pub managed_by: Option<&'a str>,
}

/// What is wrong with a Service that a rollout's strategy names; `found` is `None` where there is none of this name.
///
/// It must select by labels of the pod template, and no other rollout may manage it (contract 4.2 ServiceReferenceError).
#[must_use]
pub fn service(rollout: &Rollout, named: ServiceName<'_>, found: Option<ServiceFacts<'_>>) -> Vec<Violation> {
    let path = Path::root("spec").field("strategy").fields(named.path);
    let name = named.name;
    let invalid = |detail: String| Violation::invalid(path.clone(), name, detail);
    let Some(ServiceFacts { selector, managed_by }) = found else {
        return vec![invalid(format!("service {name:?} not found"))];
    };
    let labels = rollout.spec.template.as_ref().and_then(|template| template.pointer("/metadata/labels"));
    let is_of_pods = |key: &str, value: &str| {
        labels.and_then(|labels| labels.get(key)).and_then(Value::as_str) == Some(value)
    };
    let mut violations: Vec<Violation> = selector
        .iter()
        .filter(|(key, value)| key.as_str() != keys::POD_TEMPLATE_HASH && !is_of_pods(key, value))
        .map(|(key, _)| invalid(format!("Service {name:?} has unmatch label {key:?} in rollout")))
        .collect();
    if managed_by.is_some_and(|manager| Some(manager) != rollout.metadata.name.as_deref()) {
        violations.push(invalid(format!("Service {name:?} is managed by another Rollout")));
    }
    violations
}

/// That there is no workload of the name that a rollout refers to.
#[must_use]
pub fn workload(named: &WorkloadName) -> Violation {
    let path = Path::root("spec").field("workloadRef").field("name");
    Violation::invalid(path, named.name.as_str(), format!("{named} not found"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ACTIVE: ServiceName<'_> = ServiceName { path: &["blueGreen", "activeService"], name: "web" };

    fn said(selector: Value, managed_by: Option<&str>) -> Vec<String> {
        let rollout = json!({
            "metadata": { "name": "shop" },
            "spec": { "template": { "metadata": { "labels": { "app": "shop", "tier": "web" } } } },
        });
        let rollout: Rollout = serde_json::from_value(rollout).unwrap();
        let selector: BTreeMap<String, String> = serde_json::from_value(selector).unwrap();
        let found = ServiceFacts { selector: &selector, managed_by };
        service(&rollout, ACTIVE, Some(found)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_service_selects_by_labels_of_the_pods_and_belongs_to_one_rollout() {
        let none: [&str; 0] = [];
        assert_eq!(said(json!({ "app": "shop", keys::POD_TEMPLATE_HASH: "b5" }), Some("shop")), none);
        assert_eq!(said(json!({}), None), none);
        let field = "spec.strategy.blueGreen.activeService: Invalid value: \"web\"";
        assert_eq!(
            said(json!({ "app": "other", "tier": "web" }), Some("cart")),
            [
                format!("{field}: Service \"web\" has unmatch label \"app\" in rollout"),
                format!("{field}: Service \"web\" is managed by another Rollout"),
            ]
        );
    }

    #[test]
    fn a_service_that_is_missing_is_named() {
        let missing = service(&Rollout::default(), ACTIVE, None);
        let said = "spec.strategy.blueGreen.activeService: Invalid value: \"web\": service \"web\" not found";
        assert_eq!(missing[0].to_string(), said);
    }
}
