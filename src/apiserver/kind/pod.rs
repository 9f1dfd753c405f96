//! Pods: what is stored of a new one, what an update may change, and their graceful deletion.

use jiff::Timestamp;
use k8s_openapi::api::core;
use serde_json::{Value, json};

use super::pod_spec::validate_pod_spec;
use super::{open_api, pod_table, read, set_default};
use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::object::{Object, semantically_equal};
use crate::apiserver::resource::{
    Read, ReadError, Rules, Surroundings, count_spec_changes, keep_status, unsupported_field,
};
use crate::apiserver::status::ApiError;
use crate::apiserver::table::Column;
use crate::pod_template;

/// Seconds for which a pod tolerates a node that is not ready or unreachable (admission plugin
/// DefaultTolerationSeconds).
const NODE_TOLERATION_SECONDS: i64 = 300;

const GO_TYPE: &str = "io.k8s.api.core.v1.Pod";

pub(super) struct PodRules;

impl Rules for PodRules {
    fn read(&self, body: Value) -> Result<Read, ReadError> {
        read(&body, GO_TYPE, "v1", |pod| {
            pod_template::apply_defaults(pod);
            default_requests(&mut pod["spec"]);
            set_default(&mut pod["spec"], "enableServiceLinks", true);
            agree_on_addresses(&mut pod["status"]);
        })
    }

    fn delete_answers_object(&self) -> bool {
        true
    }

    /// A pod on a node waits for its kubelet, which deletes it with grace 0; any other goes at once.
    fn grace_period(&self, pod: &Value, requested: Option<i64>) -> Option<i64> {
        let bound = !pod.text("/spec/nodeName").is_empty();
        let finished = matches!(pod.text("/status/phase"), "Failed" | "Succeeded");
        if !bound || finished {
            return Some(0);
        }
        let wanted = requested.or_else(|| pod.integer("/spec/terminationGracePeriodSeconds")).unwrap_or(0);
        Some(if wanted < 0 { 1 } else { wanted })
    }

    fn prepare_create(&self, pod: &mut Value, _: &mut Surroundings<'_>) -> Result<(), ApiError> {
        if pod.integer("/spec/terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
            pod["spec"]["terminationGracePeriodSeconds"] = json!(1);
        }
        admit(&mut pod["spec"]);
        pod["status"] = json!({"phase": "Pending", "qosClass": quality(&pod["spec"])});
        pod.set_meta("generation", Some(json!(1)));
        Ok(())
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _: &mut Surroundings<'_>) -> Result<(), ApiError> {
        keep_status(new, old);
        count_spec_changes(new, old);
        Ok(())
    }

    fn prepare_status(&self, new: &mut Value, old: &Value) {
        new.set_member("spec", old.get("spec").cloned());
        let owners = old.pointer("/metadata/ownerReferences").cloned();
        new.set_meta("ownerReferences", owners);
        let quality = old.pointer("/status/qosClass").cloned();
        new["status"].set_member("qosClass", quality);
    }

    fn validate(&self, pod: &Value) -> Violations {
        validate_pod_spec(&pod["spec"], &Path::of("spec"))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Violations {
        let mut violations = self.validate(new);
        violations.extend(validate_spec_update(&new["spec"], &old["spec"]));
        violations
    }

    fn field(&self, pod: &Value, field: &str) -> Option<String> {
        let text = |pointer: &str| pod.text(pointer).to_owned();
        Some(match field {
            "spec.nodeName"
            | "spec.restartPolicy"
            | "spec.schedulerName"
            | "spec.serviceAccountName"
            | "status.phase"
            | "status.nominatedNodeName" => text(&format!("/{}", field.replace('.', "/"))),
            "spec.hostNetwork" => pod["spec"]["hostNetwork"].as_bool().unwrap_or(false).to_string(),
            "status.podIP" => text("/status/podIP"),
            _ => return None,
        })
    }

    fn unknown_field(&self, field: &str) -> String {
        unsupported_field(field)
    }

    fn go_type(&self) -> Option<&'static str> {
        Some(GO_TYPE)
    }

    fn open_api(&self) -> (String, Value) {
        open_api::<core::v1::Pod>()
    }

    fn columns(&self) -> Vec<Column> {
        pod_table::columns()
    }

    fn cells(&self, pod: &Value, now: Timestamp) -> Vec<Value> {
        pod_table::cells(pod, now)
    }
}

/// `podIP` is the first of `podIPs`, whichever of them a client wrote.
fn agree_on_addresses(status: &mut Value) {
    let first = status.text("/podIPs/0/ip").to_owned();
    match status.text("/podIP").to_owned() {
        address if !address.is_empty() && first != address => status["podIPs"] = json!([{"ip": address}]),
        address if address.is_empty() && !first.is_empty() => status["podIP"] = json!(first),
        _ => {}
    }
}

/// What admission sets on a new pod: its priority and the tolerations of failing nodes.
fn admit(spec: &mut Value) {
    set_default(spec, "priority", 0);
    set_default(spec, "preemptionPolicy", "PreemptLowerPriority");
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = spec.list("/tolerations").iter().any(|toleration| {
            let effect = toleration.text("/effect");
            toleration.text("/key") == key && (effect.is_empty() || effect == "NoExecute")
        });
        if !tolerated {
            set_default(spec, "tolerations", json!([]));
            if let Some(tolerations) = spec["tolerations"].as_array_mut() {
                tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute",
                    "tolerationSeconds": NODE_TOLERATION_SECONDS}));
            }
        }
    }
}

/// What a container limits and does not request, it requests.
fn default_requests(spec: &mut Value) {
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(limits) = container.map("/resources/limits").cloned() else { continue };
            set_default(&mut container["resources"], "requests", json!({}));
            for (name, limit) in limits {
                set_default(&mut container["resources"]["requests"], &name, limit);
            }
        }
    }
}

/// The quality of service class.
fn quality(spec: &Value) -> &'static str {
    const COUNTED: [&str; 2] = ["cpu", "memory"];
    let containers = || spec.list("/containers").iter().chain(spec.list("/initContainers"));
    let amount = |container: &Value, bag: &str, name: &str| {
        container["resources"][bag].get(name).filter(|amount| *amount != "0").cloned()
    };
    let asks = |container: &Value| {
        COUNTED.iter().any(|name| {
            amount(container, "limits", name).is_some() || amount(container, "requests", name).is_some()
        })
    };
    let exact = |container: &Value| {
        COUNTED.iter().all(|name| {
            let limit = amount(container, "limits", name);
            limit.is_some() && limit == amount(container, "requests", name)
        })
    };
    match (containers().any(asks), containers().all(exact)) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Of a pod's spec only images, deadlines and new tolerations may change.
fn validate_spec_update(new: &Value, old: &Value) -> Violations {
    let path = Path::of("spec");
    let mut violations = Violations::new();
    for list in ["containers", "initContainers"] {
        if new.list(&format!("/{list}")).len() != old.list(&format!("/{list}")).len() {
            let detail = "pod updates may not add or remove containers";
            violations.push(Violation::forbidden(&path.child(list), detail));
            return violations;
        }
    }
    let kept =
        old.list("/tolerations").iter().all(|toleration| new.list("/tolerations").contains(toleration));
    if !kept {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        violations.push(Violation::forbidden(&path.child("tolerations"), detail));
    }
    let mut comparable = new.clone();
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        comparable.set_member(key, old.get(key).cloned());
    }
    if old.integer("/terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        let kept = old.get("terminationGracePeriodSeconds").cloned();
        comparable.set_member("terminationGracePeriodSeconds", kept);
    }
    for list in ["containers", "initContainers"] {
        let old = old.list(&format!("/{list}"));
        for (index, container) in
            comparable.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().enumerate()
        {
            container.set_member("image", old[index].get("image").cloned());
        }
    }
    if !semantically_equal(Some(&comparable), Some(old)) {
        let detail = "pod updates may not change fields other than `spec.containers[*].image`,\
                      `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                      existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                      previously negative)";
        violations.push(Violation::forbidden(&path, detail));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        let body =
            json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}});
        PodRules.read(body).unwrap().object
    }

    #[test]
    fn limits_become_requests_and_make_the_quality_class() {
        let class = |resources: Value| {
            let body = json!({"spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}});
            let pod = PodRules.read(body).unwrap().object;
            quality(&pod["spec"])
        };
        assert_eq!(class(json!({})), "BestEffort");
        assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
        assert_eq!(class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), "Guaranteed");
        assert_eq!(class(json!({"limits": {"cpu": "1"}})), "Burstable");
    }

    #[test]
    fn a_bound_pod_waits_for_its_kubelet() {
        let mut pod = pod();
        assert_eq!(PodRules.grace_period(&pod, None), Some(0));
        pod["spec"]["nodeName"] = json!("n");
        assert_eq!(PodRules.grace_period(&pod, None), Some(30));
        assert_eq!(PodRules.grace_period(&pod, Some(5)), Some(5));
        assert_eq!(PodRules.grace_period(&pod, Some(0)), Some(0));
        assert_eq!(PodRules.grace_period(&pod, Some(-1)), Some(1));
        pod["status"]["phase"] = json!("Succeeded");
        assert_eq!(PodRules.grace_period(&pod, Some(5)), Some(0));
    }

    #[test]
    fn only_images_and_the_like_may_change() {
        let old = pod();
        let mut image = old.clone();
        image["spec"]["containers"][0]["image"] = json!("nginx:2");
        assert_eq!(PodRules.validate_update(&image, &old), Violations::new());
        let mut command = old.clone();
        command["spec"]["containers"][0]["command"] = json!(["x"]);
        let violations = PodRules.validate_update(&command, &old);
        assert!(
            violations[0]
                .to_string()
                .starts_with("spec: Forbidden: pod updates may not change fields other than")
        );
        let mut added = old.clone();
        added["spec"]["containers"] = json!([old["spec"]["containers"][0], old["spec"]["containers"][0]]);
        let violations = PodRules.validate_update(&added, &old);
        assert_eq!(
            violations.last().unwrap().to_string(),
            "spec.containers: Forbidden: pod updates may not add or remove containers"
        );
    }

    #[test]
    fn a_status_update_touches_neither_spec_nor_owners() {
        let mut old = pod();
        old["metadata"]["ownerReferences"] = json!([{"uid": "u"}]);
        old["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
        let mut new =
            json!({"metadata": {"name": "p", "labels": {"a": "b"}}, "status": {"phase": "Running"}});
        PodRules.prepare_status(&mut new, &old);
        assert_eq!(new["spec"], old["spec"]);
        assert_eq!(new["metadata"]["ownerReferences"], old["metadata"]["ownerReferences"]);
        assert_eq!(new["status"], json!({"phase": "Running", "qosClass": "BestEffort"}));
    }
}
