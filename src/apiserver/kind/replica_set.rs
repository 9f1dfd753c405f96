//! ReplicaSets.

use jiff::Timestamp;
use k8s_openapi::api::apps;
use serde_json::{Value, json};

use super::container::push_non_negative;
use super::label_selector::validate_label_selector;
use super::pod_spec::validate_template;
use super::{format_selector, open_api, read, set_default};
use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::metadata::immutable;
use crate::apiserver::object::{Object, semantically_equal};
use crate::apiserver::resource::{Read, ReadError, Rules, Surroundings, count_spec_changes, keep_status};
use crate::apiserver::selector::LabelSelector;
use crate::apiserver::status::ApiError;
use crate::apiserver::table::{Column, age};
use crate::pod_template;

const GO_TYPE: &str = "io.k8s.api.apps.v1.ReplicaSet";

pub(super) struct ReplicaSetRules;

impl Rules for ReplicaSetRules {
    fn read(&self, body: Value) -> Result<Read, ReadError> {
        read(&body, GO_TYPE, "apps/v1", |set| {
            set_default(&mut set["spec"], "replicas", 1);
            pod_template::apply_defaults(&mut set["spec"]["template"]);
        })
    }

    fn prepare_create(&self, set: &mut Value, _: &mut Surroundings<'_>) -> Result<(), ApiError> {
        set["status"] = json!({"replicas": 0});
        set.set_meta("generation", Some(json!(1)));
        Ok(())
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _: &mut Surroundings<'_>) -> Result<(), ApiError> {
        keep_status(new, old);
        count_spec_changes(new, old);
        Ok(())
    }

    fn validate(&self, set: &Value) -> Violations {
        let path = Path::of("spec");
        let spec = &set["spec"];
        let mut violations = Violations::new();
        for field in ["replicas", "minReadySeconds"] {
            push_non_negative(&mut violations, &path.child(field), spec.integer(&format!("/{field}")));
        }
        let selector = path.child("selector");
        let malformed = validate_selector(&spec["selector"], &selector);
        // A selector that cannot be evaluated hides what else is wrong with the template.
        let unusable = malformed.iter().any(|violation| violation.path != selector);
        violations.extend(malformed);
        if unusable {
            violations.push(Violation::invalid(
                &selector,
                spec["selector"].clone(),
                "invalid label selector",
            ));
        } else {
            violations.extend(validate_set_template(spec, &path.child("template")));
        }
        violations
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Violations {
        let mut violations = self.validate(new);
        let selector = |set: &Value| set.pointer("/spec/selector").cloned();
        if !semantically_equal(selector(new).as_ref(), selector(old).as_ref()) {
            violations.push(immutable(&Path::of("spec.selector"), selector(new)));
        }
        violations
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Violations {
        let path = Path::of("status");
        let count = |field: &str| new.integer(&format!("/status/{field}")).unwrap_or(0);
        let mut violations = Violations::new();
        for field in [
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "observedGeneration",
            "terminatingReplicas",
        ] {
            push_non_negative(&mut violations, &path.child(field), Some(count(field)));
        }
        let mut at_most = |field: &str, bound: &str, name: &str| {
            if count(field) > count(bound) {
                let detail = format!("cannot be greater than {name}");
                violations.push(Violation::invalid(&path.child(field), count(field), detail));
            }
        };
        for field in ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"] {
            at_most(field, "replicas", "status.replicas");
        }
        at_most("availableReplicas", "readyReplicas", "readyReplicas");
        violations
    }

    fn go_type(&self) -> Option<&'static str> {
        Some(GO_TYPE)
    }

    fn open_api(&self) -> (String, Value) {
        open_api::<apps::v1::ReplicaSet>()
    }

    fn columns(&self) -> Vec<Column> {
        let count = |name: &str, description: &str| Column::new(name, "integer", description);
        let text = |name: &str, description: &str| Column::new(name, "string", description).wide();
        vec![
            Column::name(),
            count("Desired", "Replicas is the number of desired pods."),
            count("Current", "Replicas is the most recently observed number of non-terminating pods."),
            count(
                "Ready",
                "The number of non-terminating pods targeted by this ReplicaSet with a Ready Condition.",
            ),
            Column::age(),
            text("Containers", "Names of each container in the template."),
            text("Images", "Images referenced by each container in the template."),
            text("Selector", "Selector is a label query over pods that should match the replica count."),
        ]
    }

    fn cells(&self, set: &Value, now: Timestamp) -> Vec<Value> {
        let count = |pointer: &str| json!(set.integer(pointer).unwrap_or(0));
        let containers = |field: &str| {
            let list = set.list("/spec/template/spec/containers").iter();
            json!(list.map(|container| container.text(field)).collect::<Vec<_>>().join(","))
        };
        vec![
            json!(set.name()),
            count("/spec/replicas"),
            count("/status/replicas"),
            count("/status/readyReplicas"),
            age(set, now),
            containers("/name"),
            containers("/image"),
            json!(format_selector(&set["spec"]["selector"])),
        ]
    }
}

/// Rules of a workload's selector.
pub(super) fn validate_selector(selector: &Value, path: &Path) -> Violations {
    if selector.is_null() {
        return vec![Violation::required(path, "")];
    }
    let mut violations = validate_label_selector(selector, path);
    let expressions = selector.list("/matchExpressions");
    if selector.map("/matchLabels").is_none_or(serde_json::Map::is_empty) && expressions.is_empty() {
        violations.push(Violation::invalid(
            path,
            selector.clone(),
            "empty selector is invalid for deployment",
        ));
    }
    violations
}

pub(super) fn validate_set_template(spec: &Value, path: &Path) -> Violations {
    let mut violations = Violations::new();
    let template = &spec["template"];
    let selector = LabelSelector::from_object(&spec["selector"]);
    let selects_nothing = spec["selector"].is_null();
    if selects_nothing || !(selector.is_empty() || selector.matches(template.labels())) {
        let labels = template.pointer("/metadata/labels").cloned().unwrap_or(Value::Null);
        let detail = "`selector` does not match template `labels`";
        violations.push(Violation::invalid(&path.child("metadata").child("labels"), labels, detail));
    }
    violations.extend(validate_template(template, path));
    let policy = template.text("/spec/restartPolicy");
    let path = path.child("spec");
    if policy != "Always" {
        violations.push(Violation::not_supported(&path.child("restartPolicy"), policy, &["Always"]));
    }
    if template.pointer("/spec/activeDeadlineSeconds").is_some() {
        let detail = "activeDeadlineSeconds in ReplicaSet is not Supported";
        violations.push(Violation::forbidden(&path.child("activeDeadlineSeconds"), detail));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(change: impl FnOnce(&mut Value)) -> Value {
        let mut body = json!({"metadata": {"name": "web"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}}}});
        change(&mut body);
        ReplicaSetRules.read(body).unwrap().object
    }

    type Change = fn(&mut Value);

    fn texts(violations: &Violations) -> Vec<String> {
        violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_plain_set_is_valid_and_wants_one_replica() {
        let set = set(|_| {});
        assert_eq!(set["spec"]["replicas"], 1);
        assert_eq!(texts(&ReplicaSetRules.validate(&set)), Vec::<String>::new());
    }

    #[test]
    fn the_selector_is_required_and_matches_the_template() {
        let cases: [(&str, Change, &str); 4] = [
            (
                "empty",
                |s| s["spec"]["selector"] = json!({}),
                "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
            ),
            (
                "other",
                |s| s["spec"]["selector"] = json!({"matchLabels": {"app": "api"}}),
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`",
            ),
            (
                "replicas",
                |s| s["spec"]["replicas"] = json!(-1),
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "policy",
                |s| s["spec"]["template"]["spec"]["restartPolicy"] = json!("Never"),
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ),
        ];
        for (name, change, expected) in cases {
            assert_eq!(texts(&ReplicaSetRules.validate(&set(change))), [expected], "{name}");
        }
    }

    #[test]
    fn the_selector_may_not_change() {
        let new = set(|s| {
            s["spec"]["selector"] = json!({"matchLabels": {"tier": "a"}});
            s["spec"]["template"]["metadata"]["labels"] = json!({"tier": "a"});
        });
        let violations = texts(&ReplicaSetRules.validate_update(&new, &set(|_| {})));
        assert_eq!(
            violations,
            ["spec.selector: Invalid value: {\"matchLabels\":{\"tier\":\"a\"}}: field is immutable"]
        );
    }

    #[test]
    fn counts_of_the_status_are_consistent() {
        let status = json!({"status": {"replicas": 1, "readyReplicas": 2, "availableReplicas": 3}});
        let violations = texts(&ReplicaSetRules.validate_status(&status, &json!({})));
        assert_eq!(violations.len(), 3);
        assert_eq!(
            violations[2],
            "status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas"
        );
    }
}
