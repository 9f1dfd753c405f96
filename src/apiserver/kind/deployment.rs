//! Deployments: kept for whoever refers to their pod templates. No controller here makes pods of them.

use jiff::Timestamp;
use k8s_openapi::api::apps;
use serde_json::{Value, json};

use super::container::push_non_negative;
use super::replica_set::{validate_selector, validate_set_template};
use super::{format_selector, open_api, read, set_default};
use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::metadata::immutable;
use crate::apiserver::object::{Object, semantically_equal};
use crate::apiserver::resource::{Read, ReadError, Rules, Surroundings, keep_status};
use crate::apiserver::status::ApiError;
use crate::apiserver::table::{Column, age};
use crate::pod_template;

const GO_TYPE: &str = "io.k8s.api.apps.v1.Deployment";

/// spec.strategy.type with limits.
const ROLLING_UPDATE: &str = "RollingUpdate";

/// spec.strategy.type without.
const RECREATE: &str = "Recreate";

pub(super) struct DeploymentRules;

impl Rules for DeploymentRules {
    fn read(&self, body: Value) -> Result<Read, ReadError> {
        read(&body, GO_TYPE, "apps/v1", |deployment| {
            let spec = &mut deployment["spec"];
            set_default(spec, "replicas", 1);
            set_default(spec, "revisionHistoryLimit", 10);
            set_default(spec, "progressDeadlineSeconds", 600);
            set_default(spec, "strategy", json!({}));
            set_default(&mut spec["strategy"], "type", ROLLING_UPDATE);
            if spec["strategy"]["type"] == ROLLING_UPDATE {
                set_default(&mut spec["strategy"], "rollingUpdate", json!({}));
                for limit in ["maxUnavailable", "maxSurge"] {
                    set_default(&mut spec["strategy"]["rollingUpdate"], limit, "25%");
                }
            }
            pod_template::apply_defaults(&mut spec["template"]);
        })
    }

    fn prepare_create(&self, deployment: &mut Value, _: &mut Surroundings<'_>) -> Result<(), ApiError> {
        deployment["status"] = json!({});
        deployment.set_meta("generation", Some(json!(1)));
        Ok(())
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _: &mut Surroundings<'_>) -> Result<(), ApiError> {
        keep_status(new, old);
        // Unlike other kinds, annotations count.
        let counts = |part: &str| !semantically_equal(new.pointer(part), old.pointer(part));
        if counts("/spec") || counts("/metadata/annotations") {
            new.set_meta("generation", Some(json!(old.generation() + 1)));
        }
        Ok(())
    }

    fn validate(&self, deployment: &Value) -> Violations {
        let path = Path::of("spec");
        let spec = &deployment["spec"];
        let mut violations = Violations::new();
        for field in ["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
            push_non_negative(&mut violations, &path.child(field), spec.integer(&format!("/{field}")));
        }
        let strategy = spec.text("/strategy/type");
        if ![ROLLING_UPDATE, RECREATE].contains(&strategy) {
            let path = path.child("strategy").child("type");
            violations.push(Violation::not_supported(&path, strategy, &[RECREATE, ROLLING_UPDATE]));
        }
        let malformed = validate_selector(&spec["selector"], &path.child("selector"));
        let is_usable = malformed.is_empty();
        violations.extend(malformed);
        if is_usable {
            violations.extend(validate_set_template(spec, &path.child("template")));
        }
        violations
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Violations {
        let mut violations = self.validate(new);
        let selector = |deployment: &Value| deployment.pointer("/spec/selector").cloned();
        if !semantically_equal(selector(new).as_ref(), selector(old).as_ref()) {
            violations.push(immutable(&Path::of("spec.selector"), selector(new)));
        }
        violations
    }

    fn go_type(&self) -> Option<&'static str> {
        Some(GO_TYPE)
    }

    fn open_api(&self) -> (String, Value) {
        open_api::<apps::v1::Deployment>()
    }

    fn columns(&self) -> Vec<Column> {
        let text = |name: &str, description: &str| Column::new(name, "string", description);
        vec![
            Column::name(),
            text("Ready", "Number of the pod with ready state"),
            text("Up-to-date", "Total number of non-terminated pods targeted by this deployment."),
            text("Available", "Total number of available pods targeted by this deployment."),
            Column::age(),
            text("Containers", "Names of each container in the template.").wide(),
            text("Images", "Images referenced by each container in the template.").wide(),
            text("Selector", "Label selector for pods.").wide(),
        ]
    }

    fn cells(&self, deployment: &Value, now: Timestamp) -> Vec<Value> {
        let count = |pointer: &str| deployment.integer(pointer).unwrap_or(0);
        let containers = |field: &str| {
            let list = deployment.list("/spec/template/spec/containers").iter();
            json!(list.map(|container| container.text(field)).collect::<Vec<_>>().join(","))
        };
        vec![
            json!(deployment.name()),
            json!(format!("{}/{}", count("/status/readyReplicas"), count("/spec/replicas"))),
            json!(count("/status/updatedReplicas")),
            json!(count("/status/availableReplicas")),
            age(deployment, now),
            containers("/name"),
            containers("/image"),
            json!(format_selector(&deployment["spec"]["selector"])),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(more: &Value) -> Value {
        let mut body = json!({"metadata": {"name": "web"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}}}});
        json_patch::merge(&mut body, more);
        DeploymentRules.read(body).unwrap().object
    }

    fn texts(violations: &Violations) -> Vec<String> {
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn defaults_are_the_servers() {
        let spec = &deployment(&json!({}))["spec"];
        assert_eq!((&spec["replicas"], &spec["revisionHistoryLimit"]), (&json!(1), &json!(10)));
        let limits = json!({"maxUnavailable": "25%", "maxSurge": "25%"});
        assert_eq!(spec["strategy"], json!({"type": ROLLING_UPDATE, "rollingUpdate": limits}));
        let recreated = deployment(&json!({"spec": {"strategy": {"type": RECREATE}}}));
        assert_eq!(recreated["spec"]["strategy"], json!({"type": RECREATE}));
        assert_eq!(texts(&DeploymentRules.validate(&recreated)), Vec::<String>::new());
    }

    #[test]
    fn a_broken_one_is_refused_with_its_fields() {
        let broken =
            deployment(&json!({"spec": {"replicas": -1, "selector": {"matchLabels": {"app": "api"}},
            "strategy": {"type": "Slow"}}}));
        assert_eq!(
            texts(&DeploymentRules.validate(&broken)),
            [
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.strategy.type: Unsupported value: \"Slow\": supported values: \"Recreate\", \"RollingUpdate\"",
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            ]
        );
        let moved = deployment(&json!({"spec": {"selector": {"matchLabels": {"app": "web", "tier": "a"}},
            "template": {"metadata": {"labels": {"tier": "a"}}}}}));
        let violations = texts(&DeploymentRules.validate_update(&moved, &deployment(&json!({}))));
        assert_eq!(violations.len(), 1, "the selector is immutable: {violations:?}");
    }
}
