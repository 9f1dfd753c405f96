//! Cluster addresses and node ports of Services.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::set_default;
use crate::apiserver::field::{Path, Violation};
use crate::apiserver::object::Object;
use crate::apiserver::resource::Surroundings;
use crate::apiserver::status::{ApiError, GroupKind, GroupResource};
use crate::apiserver::store::Key;

/// First two bytes of every cluster address: 10.96.0.0/16, the range that most clusters use.
const NETWORK: [u8; 2] = [10, 96];
/// Addresses in the range; the first and the last are not given out.
const ADDRESSES: usize = 65_536;
/// Node ports, first and last.
const NODE_PORTS: (usize, usize) = (30_000, 32_767);

/// Makes `clusterIP` and `clusterIPs` agree where the client set only one of them.
pub(super) fn normalize(spec: &mut Value, old: Option<&Value>) {
    let one = spec.text("/clusterIP").to_owned();
    let first = spec.text("/clusterIPs/0").to_owned();
    match old {
        None if first.is_empty() && !one.is_empty() => spec["clusterIPs"] = json!([one]),
        None if one.is_empty() && !first.is_empty() => spec["clusterIP"] = json!(first),
        Some(old) if one != first => {
            let same = |key: &str| spec.get(key) == old.get(key);
            if one.is_empty() && same("clusterIPs") {
                spec.set_member("clusterIPs", None);
            } else if !one.is_empty() && (same("clusterIPs") || first.is_empty()) {
                spec["clusterIPs"] = json!([one]);
            }
        }
        _ => {}
    }
}

/// Keeps the allocated values that an update leaves out.
pub(super) fn keep(spec: &mut Value, old: &Value) {
    if has_address(spec) && has_address(old) {
        for key in ["clusterIP", "clusterIPs"] {
            if let Some(kept) = old.get(key) {
                set_default(spec, key, kept.clone());
            }
        }
    }
    for key in ["ipFamilies", "ipFamilyPolicy"] {
        if let (true, Some(kept)) = (has_address(spec), old.get(key)) {
            set_default(spec, key, kept.clone());
        }
    }
    if has_node_ports(spec) && has_node_ports(old) {
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            let known = old.list("/ports").iter().find(|known| known.text("/name") == port.text("/name"));
            if let Some(number) = known.and_then(|known| known.get("nodePort")) {
                set_default(port, "nodePort", number.clone());
            }
        }
    }
}

/// Removes what the new type does not use any more.
pub(super) fn drop_unused(spec: &mut Value, old: &Value) {
    if !has_address(spec) && has_address(old) {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
            spec.set_member(key, None);
        }
    }
    if !has_node_ports(spec) && has_node_ports(old) {
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            port.set_member("nodePort", None);
        }
        spec.set_member("externalTrafficPolicy", None);
        spec.set_member("allocateLoadBalancerNodePorts", None);
    }
}

fn has_address(spec: &Value) -> bool {
    matches!(spec.text("/type"), "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn has_node_ports(spec: &Value) -> bool {
    match spec.text("/type") {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != json!(false),
        _ => false,
    }
}

/// Gives a Service the address and the ports that it lacks, and claims those it asks for.
pub(super) fn assign(service: &mut Value, around: &mut Surroundings<'_>) -> Result<(), ApiError> {
    if !has_address(&service["spec"]) {
        return Ok(());
    }
    set_default(&mut service["spec"], "ipFamilyPolicy", "SingleStack");
    set_default(&mut service["spec"], "ipFamilies", json!(["IPv4"]));
    let services = GroupResource::new("", "services");
    let own = Key::of(service);
    let others: Vec<_> =
        around.store.list(&services, None).filter(|(key, _)| **key != own).map(|(_, s)| s.clone()).collect();
    assign_address(service, &others, around)?;
    if has_node_ports(&service["spec"]) {
        assign_node_ports(&mut service["spec"], &others, around);
    }
    Ok(())
}

fn assign_address(
    service: &mut Value,
    others: &[std::sync::Arc<Value>],
    around: &mut Surroundings<'_>,
) -> Result<(), ApiError> {
    let used: BTreeSet<&str> = others.iter().map(|other| other.text("/spec/clusterIP")).collect();
    let wanted = service.text("/spec/clusterIP").to_owned();
    if wanted.is_empty() {
        let start = around.random.below(ADDRESSES);
        let free = (0..ADDRESSES).map(|step| (start + step) % ADDRESSES).find_map(|index| {
            let [_, _, high, low] = u32::try_from(index).unwrap_or_default().to_be_bytes();
            let address = Ipv4Addr::new(NETWORK[0], NETWORK[1], high, low).to_string();
            let usable = index != 0 && index != ADDRESSES - 1;
            (usable && !used.contains(address.as_str())).then_some(address)
        });
        let address = free
            .ok_or_else(|| ApiError::Internal("failed to allocate a cluster IP: range is full".to_owned()))?;
        service["spec"]["clusterIP"] = json!(address);
        service["spec"]["clusterIPs"] = json!([address]);
        return Ok(());
    }
    // What is no address is for validation to refuse.
    let Ok(address) = wanted.parse::<Ipv4Addr>() else { return Ok(()) };
    let why = if address.octets()[..2] != NETWORK {
        "the provided network does not match the current range"
    } else if used.contains(wanted.as_str()) {
        "provided IP is already allocated"
    } else {
        return Ok(());
    };
    let detail = format!("failed to allocate IP {wanted}: {why}");
    let violation = Violation::invalid(&Path::of("spec.clusterIPs"), json!([wanted]), detail);
    Err(ApiError::invalid(GroupKind::new("", "Service"), service.name(), vec![violation]))
}

fn assign_node_ports(spec: &mut Value, others: &[std::sync::Arc<Value>], around: &mut Surroundings<'_>) {
    let taken =
        |ports: &[Value]| ports.iter().filter_map(|port| port.integer("/nodePort")).collect::<Vec<_>>();
    let mut used: BTreeSet<i64> = others.iter().flat_map(|other| taken(other.list("/spec/ports"))).collect();
    used.extend(taken(spec.list("/ports")));
    let (first, last) = NODE_PORTS;
    let count = last - first + 1;
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if port.integer("/nodePort").is_some_and(|number| number != 0) {
            continue;
        }
        let start = around.random.below(count);
        let mut candidates = (0..count).filter_map(|step| i64::try_from(first + (start + step) % count).ok());
        if let Some(free) = candidates.find(|number| !used.contains(number)) {
            used.insert(free);
            port.set_member("nodePort", Some(json!(free)));
        }
    }
}
