//! Validation of Services.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::container::{push_choice, push_number, push_reasons, validate_port_or_name};
use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::metadata::validate_labels;
use crate::apiserver::names;
use crate::apiserver::object::Object;

/// Validates the spec of a Service, defaults set and addresses assigned.
pub(super) fn validate(spec: &Value) -> Violations {
    let path = Path::of("spec");
    let mut violations = Violations::new();
    let kind = spec.text("/type");
    let headless = spec.text("/clusterIPs/0") == "None";
    if spec.list("/ports").is_empty() && !headless && kind != "ExternalName" {
        violations.push(Violation::required(&path.child("ports"), ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let detail = format!("may not be set to 'None' for {kind} services");
            violations.push(Violation::invalid(&path.child("clusterIPs").index(0), "None", detail));
        }
        "ExternalName" => validate_external_name(spec, &path, &mut violations),
        _ => {}
    }
    validate_ports(spec, &path.child("ports"), &mut violations);
    violations.extend(validate_labels(spec.map("/selector"), &path.child("selector")));
    let affinity = spec.text("/sessionAffinity");
    push_choice(&mut violations, &path.child("sessionAffinity"), affinity, &["ClientIP", "None"]);
    for (index, address) in spec.list("/clusterIPs").iter().filter_map(Value::as_str).enumerate() {
        if address != "None" && address.parse::<IpAddr>().is_err() {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            violations.push(Violation::invalid(&path.child("clusterIPs").index(index), address, detail));
        }
    }
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    push_choice(&mut violations, &path.child("type"), kind, &kinds);
    if kind == "ClusterIP" {
        for (index, port) in spec.list("/ports").iter().enumerate() {
            if port.integer("/nodePort").is_some_and(|number| number != 0) {
                let detail = "may not be used when `type` is 'ClusterIP'";
                violations
                    .push(Violation::forbidden(&path.child("ports").index(index).child("nodePort"), detail));
            }
        }
    }
    violations
}

/// The primary address of a Service stays, as long as it has one.
pub(super) fn validate_address_change(new: &Value, old: &Value) -> Violations {
    let primary = |spec: &Value| spec.text("/clusterIPs/0").to_owned();
    let named = |spec: &Value| spec.text("/type") == "ExternalName";
    if named(new) || named(old) || primary(old).is_empty() || primary(new) == primary(old) {
        return Violations::new();
    }
    let path = Path::of("spec.clusterIPs").index(0);
    let value = new.get("clusterIPs").cloned().unwrap_or(Value::Null);
    vec![Violation::invalid(&path, value, "may not change once set")]
}

fn validate_external_name(spec: &Value, path: &Path, violations: &mut Violations) {
    if !spec.list("/clusterIPs").is_empty() {
        let detail = "may not be set for ExternalName services";
        violations.push(Violation::forbidden(&path.child("clusterIPs"), detail));
    }
    let name = spec.text("/externalName").trim_end_matches('.');
    if name.is_empty() {
        violations.push(Violation::required(&path.child("externalName"), ""));
    } else {
        push_reasons(violations, &path.child("externalName"), name, names::dns_subdomain(name));
    }
}

fn validate_ports(spec: &Value, path: &Path, violations: &mut Violations) {
    let ports = spec.list("/ports");
    let mut seen: Vec<&str> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = port.text("/name");
        if name.is_empty() && ports.len() > 1 {
            violations.push(Violation::required(&path.child("name"), ""));
        } else if !name.is_empty() {
            push_reasons(violations, &path.child("name"), name, names::dns_label(name));
            if seen.contains(&name) {
                violations.push(Violation::duplicate(&path.child("name"), name));
            }
            seen.push(name);
        }
        let number = port.integer("/port").unwrap_or(0);
        push_number(violations, &path.child("port"), number, names::port_number(number));
        push_choice(violations, &path.child("protocol"), port.text("/protocol"), &["SCTP", "TCP", "UDP"]);
        validate_port_or_name(&port["targetPort"], &path.child("targetPort"), violations);
    }
    for (index, port) in ports.iter().enumerate() {
        let same = |other: &Value| other["port"] == port["port"] && other["protocol"] == port["protocol"];
        if ports[..index].iter().any(same) {
            let shown = json!({"Name": "", "Protocol": port["protocol"], "AppProtocol": null, "Port": port["port"],
                "TargetPort": 0, "NodePort": 0});
            violations.push(Violation::duplicate(&path.index(index), shown));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(spec: &Value) -> Vec<String> {
        validate(spec).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ports_have_names_numbers_and_protocols() {
        let spec = json!({"type": "ClusterIP", "sessionAffinity": "None", "ports": [
            {"port": 0, "protocol": "TCP", "targetPort": 0}, {"port": 80, "protocol": "X", "targetPort": "x_"}]});
        assert_eq!(
            violations(&spec),
            [
                "spec.ports[0].name: Required value",
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[1].name: Required value",
                "spec.ports[1].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
                "spec.ports[1].targetPort: Invalid value: \"x_\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
            ]
        );
    }

    #[test]
    fn a_service_needs_ports_unless_it_is_headless_or_a_name() {
        let spec = |change: Value| {
            let mut spec = json!({"type": "ClusterIP", "sessionAffinity": "None"});
            for (key, value) in change.as_object().unwrap() {
                spec[key] = value.clone();
            }
            violations(&spec)
        };
        assert_eq!(spec(json!({})), ["spec.ports: Required value"]);
        assert_eq!(spec(json!({"clusterIPs": ["None"]})), Vec::<String>::new());
        assert_eq!(spec(json!({"type": "ExternalName", "externalName": "a.b"})), Vec::<String>::new());
        assert_eq!(spec(json!({"type": "ExternalName"})), ["spec.externalName: Required value"]);
        assert_eq!(
            spec(json!({"clusterIPs": ["x"], "ports": [{"port": 1, "protocol": "TCP", "targetPort": 1}]})),
            [
                "spec.clusterIPs[0]: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            ]
        );
    }
}
