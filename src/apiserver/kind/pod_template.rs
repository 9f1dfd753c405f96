//! PodTemplates: a pod template by itself, with a generation that counts its changes.

use jiff::Timestamp;
use k8s_openapi::api::core;
use serde_json::{Value, json};

use super::pod_spec::validate_template;
use super::{open_api, read};
use crate::apiserver::field::{Path, Violations};
use crate::apiserver::object::{Object, semantically_equal};
use crate::apiserver::resource::{Read, ReadError, Rules, Surroundings};
use crate::apiserver::status::ApiError;
use crate::apiserver::table::{Column, age};
use crate::pod_template;

const GO_TYPE: &str = "io.k8s.api.core.v1.PodTemplate";

pub(super) struct PodTemplateRules;

impl Rules for PodTemplateRules {
    fn read(&self, body: Value) -> Result<Read, ReadError> {
        read(&body, GO_TYPE, "v1", |object| pod_template::apply_defaults(&mut object["template"]))
    }

    fn prepare_create(&self, object: &mut Value, _: &mut Surroundings<'_>) -> Result<(), ApiError> {
        object.set_meta("generation", Some(json!(1)));
        Ok(())
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _: &mut Surroundings<'_>) -> Result<(), ApiError> {
        if !semantically_equal(new.get("template"), old.get("template")) {
            new.set_meta("generation", Some(json!(old.generation() + 1)));
        }
        Ok(())
    }

    fn validate(&self, object: &Value) -> Violations {
        validate_template(&object["template"], &Path::of("template"))
    }

    fn validate_update(&self, new: &Value, _old: &Value) -> Violations {
        self.validate(new)
    }

    fn go_type(&self) -> Option<&'static str> {
        Some(GO_TYPE)
    }

    fn open_api(&self) -> (String, Value) {
        open_api::<core::v1::PodTemplate>()
    }

    fn columns(&self) -> Vec<Column> {
        let text = |name: &str, description: &str| Column::new(name, "string", description);
        vec![
            Column::name(),
            text("Containers", "Names of each container in the template."),
            text("Images", "Images referenced by each container in the template."),
            text("Pod Labels", "The labels for the pod template."),
            Column::age(),
        ]
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let containers = |field: &str| {
            let list = object.list("/template/spec/containers").iter();
            json!(list.map(|container| container.text(field)).collect::<Vec<_>>().join(","))
        };
        let labels = object.map("/template/metadata/labels").into_iter().flatten();
        let labels: Vec<String> =
            labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
        let labels = if labels.is_empty() { "<none>".to_owned() } else { labels.join(",") };
        vec![json!(object.name()), containers("/name"), containers("/image"), json!(labels), age(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_completed_and_checked() {
        let body = |image: &str| {
            json!({"metadata": {"name": "web"}, "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]}}})
        };
        let read = PodTemplateRules.read(body("nginx:1")).unwrap().object;
        assert_eq!(read["template"]["spec"]["restartPolicy"], "Always");
        assert!(PodTemplateRules.validate(&read).is_empty());
        let without = PodTemplateRules.read(body("")).unwrap().object;
        let violations: Vec<String> =
            PodTemplateRules.validate(&without).iter().map(ToString::to_string).collect();
        assert_eq!(violations, ["template.spec.containers[0].image: Required value"]);
    }
}
