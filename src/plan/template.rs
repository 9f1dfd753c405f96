//! Which pod template a rollout has: its own or that of the workload that it refers to, without what no pod can have.
//!
//! Resolved before anything is decided, so that all that plans is written for rollouts that have a template.

use std::sync::Arc;

use serde_json::Value;

use super::blocker::{Blocker, BlockerReason, Object};
use super::event::{self, Event};
use super::observed::Workload;
use crate::crd::Rollout;
use crate::hash::{self, HashError};
use crate::validate;

/// A rollout with its pod template resolved.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The rollout as decisions take it.
    pub rollout: Arc<Rollout>,
    /// The workload that the template is from; `None` where it is the rollout's own, and where there is no such workload.
    pub workload: Option<Arc<Workload>>,
    /// Values of the template that their fields cannot hold, and that were left out.
    pub left_out: Vec<HashError>,
}

/// Gives a rollout the pod template of the workload that it refers to, and its selector where it has none, as the reference does; and
/// leaves out of it what cannot be decoded (contract 4.11). A rollout that has a template beside the reference keeps it: it is invalid.
#[must_use]
pub fn resolve(stored: Arc<Rollout>, workload: Option<Arc<Workload>>) -> Resolved {
    let mut rollout = stored;
    let workload = workload.filter(|_| !validate::has_own_template(&rollout.spec));
    if let Some(workload) = &workload {
        let spec = &mut Arc::make_mut(&mut rollout).spec;
        spec.template = Some((*workload.template).clone());
        spec.selector = spec.selector.take().or_else(|| workload.selector.clone());
    }
    let left_out = rollout.spec.template.as_ref().map(decodable).unwrap_or_default();
    if !left_out.is_empty()
        && let Some(template) = &mut Arc::make_mut(&mut rollout).spec.template
    {
        for error in &left_out {
            error.path.remove_from(template);
        }
    }
    Resolved { rollout, workload, left_out }
}

/// The values that are to be left out. Of a template that is no object, nothing would be left.
fn decodable(template: &Value) -> Vec<HashError> {
    let errors = if template.is_object() { hash::malformed_template_fields(template) } else { Vec::new() };
    errors.into_iter().filter(|error| !error.path.elements().is_empty()).collect()
}

/// A value of the pod template that is left out, since no pod can have it.
#[must_use]
pub(super) fn blocker(error: &HashError) -> Blocker {
    Blocker {
        reason: BlockerReason::MalformedObject,
        object: Object::Rollout,
        condition: format!("spec.template.{} decodable", error.path),
        since: None,
        message: message(error),
        next: "pods run without it until it is corrected".to_owned(),
        next_at: None,
    }
}

/// The same as an event.
#[must_use]
pub(super) fn notice(error: &HashError) -> Event {
    event::malformed_object(message(error))
}

fn message(error: &HashError) -> String {
    format!("spec.template.{error}; it is left out of the pods")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{LabelSelector, WorkloadKind, WorkloadName};
    use serde_json::json;

    fn rollout(spec: &Value) -> Arc<Rollout> {
        Arc::new(Rollout::decode(&json!({ "metadata": { "name": "web" }, "spec": spec })).unwrap())
    }

    fn deployment() -> Arc<Workload> {
        Arc::new(Workload {
            name: WorkloadName { kind: WorkloadKind::Deployment, name: "web".to_owned() },
            uid: "u".to_owned(),
            resource_version: "7".to_owned(),
            generation: 3,
            replicas: 5,
            selector: Some(LabelSelector {
                match_labels: Some([("app".to_owned(), "web".to_owned())].into()),
                ..LabelSelector::default()
            }),
            template: Arc::new(
                json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [] } }),
            ),
        })
    }

    fn reference() -> Value {
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" })
    }

    #[test]
    fn template_and_missing_selector_are_the_workloads() {
        let bare = resolve(rollout(&json!({ "workloadRef": reference() })), Some(deployment()));
        assert_eq!(bare.rollout.spec.template.as_ref(), Some(&*deployment().template));
        assert_eq!(bare.rollout.spec.selector, deployment().selector);
        assert!(bare.workload.is_some());

        let own = json!({ "matchLabels": { "app": "other" } });
        let selecting = json!({ "workloadRef": reference(), "selector": own });
        let selecting = resolve(rollout(&selecting), Some(deployment()));
        assert_eq!(serde_json::to_value(&selecting.rollout.spec.selector).unwrap(), own);
    }

    #[test]
    fn a_template_beside_the_reference_is_not_replaced_unless_it_is_empty() {
        let with = |template: Value| {
            resolve(rollout(&json!({ "workloadRef": reference(), "template": template })), Some(deployment()))
        };
        let given = json!({ "metadata": { "labels": { "app": "mine" } } });
        let both = with(given.clone());
        assert_eq!((both.workload, both.rollout.spec.template.clone()), (None, Some(given)));
        let empty =
            with(json!({ "metadata": { "creationTimestamp": null }, "spec": { "containers": null } }));
        assert_eq!(empty.rollout.spec.template.as_ref(), Some(&*deployment().template));
        let missing = resolve(rollout(&json!({ "workloadRef": reference() })), None);
        assert_eq!((missing.workload, missing.rollout.spec.template.clone()), (None, None));
    }

    #[test]
    fn exactly_what_cannot_be_decoded_is_left_out() {
        let container = |more: Value| {
            let mut container = json!({ "name": "web", "image": "web:1" });
            json_patch::merge(&mut container, &more);
            json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [container] } })
        };
        for (malformed, kept, path) in [
            (
                json!({ "resources": { "limits": { "memory": "invalid", "cpu": "1" } } }),
                json!({ "resources": { "limits": { "cpu": "1" } } }),
                "spec.containers[0].resources.limits[memory]",
            ),
            (
                json!({ "ports": [{ "containerPort": "http", "name": "http" }] }),
                json!({ "ports": [{ "name": "http" }] }),
                "spec.containers[0].ports[0].containerPort",
            ),
            (
                json!({ "readinessProbe": { "periodSeconds": "ten", "httpGet": { "port": 80 } } }),
                json!({ "readinessProbe": { "httpGet": { "port": 80 } } }),
                "spec.containers[0].readinessProbe.periodSeconds",
            ),
            (json!({ "tty": "yes" }), json!({}), "spec.containers[0].tty"),
        ] {
            let resolved = resolve(rollout(&json!({ "template": container(malformed) })), None);
            assert_eq!(resolved.rollout.spec.template, Some(container(kept)), "{path}");
            let paths: Vec<String> = resolved.left_out.iter().map(|error| error.path.to_string()).collect();
            assert_eq!(paths, [path]);
        }
        let not_an_object = resolve(rollout(&json!({ "template": "x" })), None);
        assert_eq!(not_an_object.rollout.spec.template, Some(json!("x")), "there is nothing to be left");
    }
}
