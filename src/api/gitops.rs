//! Whether a GitOps tool looks after a rollout: then a change through this API will not last, and its caller ought to know.
//!
//! Argo CD is known by its tracking annotation, or by having written the object; its label (`app.kubernetes.io/instance`) others use
//! too. Flux is known by its labels, or by its controllers.

use std::collections::BTreeMap;

use serde_json::Value;

use super::convert::is_annotated;
use super::mutation::Subject;
use crate::pb::v1;

/// The reason of the warning.
const GITOPS_MANAGED: &str = "GITOPS_MANAGED";

/// Annotation by which Argo CD knows what belongs to an application: `<application>:<group>/<kind>:<namespace>/<name>`.
const ARGO_TRACKING: &str = "argocd.argoproj.io/tracking-id";

/// Label in which Argo CD keeps the application's name, unless it is told otherwise.
const INSTANCE: &str = "app.kubernetes.io/instance";

/// The field managers of Argo CD.
const ARGO_MANAGERS: [&str; 2] = ["argocd-controller", "argocd-application-controller"];

/// A kind of Flux that applies objects: what it is called, its labels' prefix, its field manager, and the command that suspends one.
const FLUX: [(&str, &str, &str, &str); 2] = [
    ("Kustomization", "kustomize.toolkit.fluxcd.io", "kustomize-controller", "kustomization"),
    ("HelmRelease", "helm.toolkit.fluxcd.io", "helm-controller", "helmrelease"),
];

/// The warning that a change to an object will be reverted; `None` where nobody reverts it, or its spec is as it was, with what annotations
/// hold of it.
pub(super) fn warning(before: &Value, after: &Subject, field: &str) -> Option<v1::Warning> {
    warning_about(before, &after.object, field, "this rollout")
}

/// The same of another object than the rollout, which `what` names.
pub(super) fn warning_about(before: &Value, after: &Value, field: &str, what: &str) -> Option<v1::Warning> {
    let is_same = |field: &str| before[field] == after[field];
    if is_same("spec") && is_same("template") && annotated(before) == annotated(after) {
        return None;
    }
    let (who, remedy) = argo_cd(before).or_else(|| flux(before))?;
    Some(v1::Warning {
        reason: GITOPS_MANAGED.to_owned(),
        field: field.to_owned(),
        description: format!(
            "{who} looks after {what} and reverts what it did not write: change its source, or {remedy}"
        ),
    })
}

/// The annotations that fields of the resource's spec stand for.
fn annotated(object: &Value) -> BTreeMap<&String, &Value> {
    let annotations = object["metadata"]["annotations"].as_object().into_iter().flatten();
    annotations.filter(|(key, _)| is_annotated(key)).collect()
}

fn argo_cd(object: &Value) -> Option<(String, String)> {
    let tracking = object["metadata"]["annotations"][ARGO_TRACKING].as_str();
    let application = match tracking.and_then(|id| id.split(':').next()).filter(|name| !name.is_empty()) {
        Some(name) => name.to_owned(),
        None if ARGO_MANAGERS.iter().any(|manager| has_written(object, manager)) => {
            object["metadata"]["labels"][INSTANCE].as_str().unwrap_or_default().to_owned()
        }
        None => return None,
    };
    let remedy = "suspend the automated sync of the application".to_owned();
    Some(match application.as_str() {
        "" => ("Argo CD".to_owned(), remedy),
        name => (format!("Argo CD (application {name:?})"), remedy),
    })
}

fn flux(object: &Value) -> Option<(String, String)> {
    FLUX.into_iter().find_map(|(kind, prefix, manager, command)| {
        let label = |field: &str| object["metadata"]["labels"][format!("{prefix}/{field}")].as_str();
        match label("name").filter(|name| !name.is_empty()) {
            Some(name) => {
                let namespace = label("namespace").map(|of| format!(" -n {of}")).unwrap_or_default();
                let remedy = format!("`flux suspend {command} {name}{namespace}`");
                Some((format!("Flux ({kind} {name:?})"), remedy))
            }
            None if has_written(object, manager) => {
                Some((format!("Flux ({manager})"), format!("suspend its {kind}")))
            }
            None => None,
        }
    })
}

fn has_written(object: &Value, manager: &str) -> bool {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries
        .filter(|entry| entry["subresource"].as_str().is_none_or(str::is_empty))
        .any(|entry| entry["manager"] == manager)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(metadata: &Value) -> Option<String> {
        let before = json!({ "metadata": metadata, "spec": { "replicas": 1 } });
        let mut after = before.clone();
        after["spec"]["replicas"] = json!(2);
        assert_eq!(warning(&before, &Subject::new(before.clone()), ""), None, "nothing was changed");
        let mut environment = before.clone();
        environment["metadata"]["annotations"]["rolloutd.dev/stable-environment"] = json!("{}");
        let of_environment =
            warning(&before, &Subject::new(environment), "").map(|warning| warning.description);
        assert_eq!(of_environment, {
            let mut after = before.clone();
            after["spec"]["replicas"] = json!(2);
            warning(&before, &Subject::new(after), "").map(|warning| warning.description)
        });
        warning(&before, &Subject::new(after), "").map(|warning| warning.description)
    }

    #[test]
    fn the_tool_the_application_and_the_remedy_are_named() {
        let manager =
            |name: &str, subresource: &str| json!([{ "manager": name, "subresource": subresource }]);
        for (metadata, expected) in [
            (
                json!({ "annotations": { ARGO_TRACKING: "shop:argoproj.io/Rollout:prod/web" } }),
                "Argo CD (application \"shop\") looks after this rollout and reverts what it did not write: change its source, or \
                 suspend the automated sync of the application",
            ),
            (
                json!({ "labels": { INSTANCE: "shop" }, "managedFields": manager("argocd-controller", "") }),
                "Argo CD (application \"shop\") ",
            ),
            (json!({ "managedFields": manager("argocd-application-controller", "") }), "Argo CD looks after"),
            (
                json!({ "labels": { "kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux" } }),
                "Flux (Kustomization \"apps\") looks after this rollout and reverts what it did not write: change its source, or \
                 `flux suspend kustomization apps -n flux`",
            ),
            (
                json!({ "labels": { "helm.toolkit.fluxcd.io/name": "web" } }),
                "Flux (HelmRelease \"web\") looks after this rollout and reverts what it did not write: change its source, or \
                 `flux suspend helmrelease web`",
            ),
            (
                json!({ "managedFields": manager("helm-controller", "") }),
                "Flux (helm-controller) looks after",
            ),
        ] {
            let description = said(&metadata).expect("it warns");
            assert!(description.starts_with(expected), "{description}");
        }
    }

    #[test]
    fn what_proves_nothing_warns_of_nothing() {
        for metadata in [
            json!({}),
            json!({ "labels": { INSTANCE: "shop", "app.kubernetes.io/managed-by": "Helm" } }),
            json!({ "annotations": { ARGO_TRACKING: "" } }),
            json!({ "managedFields": [{ "manager": "argocd-controller", "subresource": "status" }, { "manager": "kubectl" }] }),
        ] {
            assert_eq!(said(&metadata), None, "{metadata}");
        }
    }
}
