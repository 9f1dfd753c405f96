//! Services: defaults, cluster addresses, the table.

use jiff::Timestamp;
use k8s_openapi::api::core;
use serde_json::{Value, json};

use super::{format_selector, open_api, read, service_address, service_validation, set_default};
use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::names::NameFormat;
use crate::apiserver::object::Object;
use crate::apiserver::resource::{Read, ReadError, Rules, Surroundings, keep_status, unsupported_field};
use crate::apiserver::status::ApiError;
use crate::apiserver::table::{Column, age};

/// Seconds for which a client sticks to a pod, unless the Service says otherwise.
const CLIENT_AFFINITY_SECONDS: i64 = 10_800;

const GO_TYPE: &str = "io.k8s.api.core.v1.Service";

pub(super) struct ServiceRules;

impl Rules for ServiceRules {
    fn read(&self, body: Value) -> Result<Read, ReadError> {
        read(&body, GO_TYPE, "v1", |service| set_defaults(&mut service["spec"]))
    }

    fn name_format(&self) -> NameFormat {
        NameFormat::Dns1035
    }

    fn put_creates(&self) -> bool {
        true
    }

    fn delete_answers_object(&self) -> bool {
        true
    }

    fn prepare_create(&self, service: &mut Value, around: &mut Surroundings<'_>) -> Result<(), ApiError> {
        service["status"] = json!({"loadBalancer": {}});
        service_address::normalize(&mut service["spec"], None);
        service_address::assign(service, around)
    }

    fn prepare_update(
        &self,
        new: &mut Value,
        old: &Value,
        around: &mut Surroundings<'_>,
    ) -> Result<(), ApiError> {
        keep_status(new, old);
        service_address::normalize(&mut new["spec"], Some(&old["spec"]));
        service_address::keep(&mut new["spec"], &old["spec"]);
        service_address::drop_unused(&mut new["spec"], &old["spec"]);
        if service_validation::validate_address_change(&new["spec"], &old["spec"]).is_empty() {
            service_address::assign(new, around)?;
        }
        Ok(())
    }

    fn validate(&self, service: &Value) -> Violations {
        service_validation::validate(&service["spec"])
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Violations {
        let mut violations = service_validation::validate_address_change(&new["spec"], &old["spec"]);
        violations.extend(self.validate(new));
        violations
    }

    fn validate_status(&self, new: &Value, _old: &Value) -> Violations {
        let balanced = new.text("/spec/type") == "LoadBalancer";
        if balanced || new.list("/status/loadBalancer/ingress").is_empty() {
            return Violations::new();
        }
        let detail = "may only be used when `spec.type` is 'LoadBalancer'";
        vec![Violation::forbidden(&Path::of("status.loadBalancer.ingress"), detail)]
    }

    fn field(&self, service: &Value, field: &str) -> Option<String> {
        match field {
            "spec.clusterIP" => Some(service.text("/spec/clusterIP").to_owned()),
            "spec.type" => Some(service.text("/spec/type").to_owned()),
            _ => None,
        }
    }

    fn unknown_field(&self, field: &str) -> String {
        unsupported_field(field)
    }

    fn go_type(&self) -> Option<&'static str> {
        Some(GO_TYPE)
    }

    fn open_api(&self) -> (String, Value) {
        open_api::<core::v1::Service>()
    }

    fn columns(&self) -> Vec<Column> {
        let column = |name: &str, description: &str| Column::new(name, "string", description);
        vec![
            Column::name(),
            column("Type", "type determines how the Service is exposed."),
            column("Cluster-IP", "clusterIP is the IP address of the service."),
            column(
                "External-IP",
                "externalIPs is a list of IP addresses for which nodes will also accept traffic.",
            ),
            column("Port(s)", "The list of ports that are exposed by this service."),
            Column::age(),
            column(
                "Selector",
                "Route service traffic to pods with label keys and values matching this selector.",
            )
            .wide(),
        ]
    }

    fn cells(&self, service: &Value, now: Timestamp) -> Vec<Value> {
        let address = service.text("/spec/clusterIPs/0");
        vec![
            json!(service.name()),
            service["spec"]["type"].clone(),
            json!(if address.is_empty() { "<none>" } else { address }),
            json!(external_address(service)),
            json!(ports(service)),
            age(service, now),
            json!(format_selector(&json!({"matchLabels": service["spec"]["selector"]}))),
        ]
    }
}

fn set_defaults(spec: &mut Value) {
    set_default(spec, "sessionAffinity", "None");
    if spec.text("/sessionAffinity") == "ClientIP" {
        let config = json!({"clientIP": {"timeoutSeconds": CLIENT_AFFINITY_SECONDS}});
        set_default(spec, "sessionAffinityConfig", config);
    } else {
        spec.set_member("sessionAffinityConfig", None);
    }
    set_default(spec, "type", "ClusterIP");
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        set_default(port, "protocol", "TCP");
        if matches!(port.get("targetPort"), None | Some(Value::Null))
            || port["targetPort"] == 0
            || port["targetPort"] == ""
        {
            let number = port.get("port").cloned();
            port.set_member("targetPort", number);
        }
    }
    let kind = spec.text("/type").to_owned();
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        set_default(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        set_default(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set_default(spec, "allocateLoadBalancerNodePorts", true);
    }
}

fn external_address(service: &Value) -> String {
    let texts = |pointer: &str, member: &str| -> Vec<String> {
        let texts = service.list(pointer).iter().map(|item| match item {
            Value::String(text) => text.clone(),
            object => object.text(member).to_owned(),
        });
        texts.filter(|text| !text.is_empty()).collect()
    };
    let mut addresses = match service.text("/spec/type") {
        "ExternalName" => return service.text("/spec/externalName").to_owned(),
        "LoadBalancer" => texts("/status/loadBalancer/ingress", "/ip"),
        _ => Vec::new(),
    };
    addresses.extend(texts("/spec/externalIPs", ""));
    match (addresses.is_empty(), service.text("/spec/type")) {
        (false, _) => addresses.join(","),
        (true, "LoadBalancer") => "<pending>".to_owned(),
        (true, _) => "<none>".to_owned(),
    }
}

fn ports(service: &Value) -> String {
    let ports = service.list("/spec/ports").iter().map(|port| {
        let (number, protocol) = (port.integer("/port").unwrap_or(0), port.text("/protocol"));
        match port.integer("/nodePort").unwrap_or(0) {
            0 => format!("{number}/{protocol}"),
            node => format!("{number}:{node}/{protocol}"),
        }
    });
    let ports: Vec<String> = ports.collect();
    if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::random::Random;
    use crate::apiserver::store::Store;

    fn created(spec: &Value, store: &Store) -> Result<Value, ApiError> {
        let mut service = ServiceRules.read(json!({"metadata": {"name": "s"}, "spec": spec}))?.object;
        let mut random = Random::new(1);
        let mut around = Surroundings { store, random: &mut random, now: Timestamp::UNIX_EPOCH };
        ServiceRules.prepare_create(&mut service, &mut around)?;
        Ok(service)
    }

    #[test]
    fn a_new_service_gets_an_address() {
        let service = created(&json!({"ports": [{"port": 80}]}), &Store::new(1)).unwrap();
        let spec = &service["spec"];
        assert!(spec.text("/clusterIP").starts_with("10.96."), "{spec}");
        assert_eq!(spec["clusterIPs"], json!([spec["clusterIP"]]));
        assert_eq!(spec["ports"], json!([{"port": 80, "protocol": "TCP", "targetPort": 80}]));
        assert_eq!(spec["ipFamilyPolicy"], "SingleStack");
        assert_eq!(ServiceRules.validate(&service), Violations::new());
    }

    #[test]
    fn a_headless_service_and_a_name_get_none() {
        let headless =
            created(&json!({"clusterIP": "None", "ports": [{"port": 80}]}), &Store::new(1)).unwrap();
        assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
        let named = created(&json!({"type": "ExternalName", "externalName": "a.b"}), &Store::new(1)).unwrap();
        assert_eq!(named["spec"].get("clusterIPs"), None);
        assert_eq!(named["spec"].get("ipFamilies"), None);
    }

    #[test]
    fn rows_show_addresses_and_ports() {
        let mut service =
            created(&json!({"type": "NodePort", "ports": [{"port": 80}]}), &Store::new(1)).unwrap();
        service["spec"]["clusterIPs"] = json!(["10.96.0.9"]);
        service["spec"]["ports"][0]["nodePort"] = json!(30001);
        let cells = ServiceRules.cells(&service, Timestamp::UNIX_EPOCH);
        assert_eq!(
            cells[1..5],
            [json!("NodePort"), json!("10.96.0.9"), json!("<none>"), json!("80:30001/TCP")]
        );
    }

    #[test]
    fn an_update_without_an_address_keeps_the_old_one() {
        let store = Store::new(1);
        let old = created(&json!({"ports": [{"port": 80}]}), &store).unwrap();
        let body = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 81}]}});
        let mut new = ServiceRules.read(body).unwrap().object;
        let mut random = Random::new(2);
        let mut around = Surroundings { store: &store, random: &mut random, now: Timestamp::UNIX_EPOCH };
        ServiceRules.prepare_update(&mut new, &old, &mut around).unwrap();
        assert_eq!(new["spec"]["clusterIP"], old["spec"]["clusterIP"]);
        assert_eq!(ServiceRules.validate_update(&new, &old), Violations::new());
        new["spec"]["clusterIP"] = json!("10.96.7.7");
        new["spec"]["clusterIPs"] = json!(["10.96.7.7"]);
        assert_eq!(
            ServiceRules.validate_update(&new, &old)[0].to_string(),
            "spec.clusterIPs[0]: Invalid value: [\"10.96.7.7\"]: may not change once set"
        );
    }
}
