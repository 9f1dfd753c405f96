//! Metrics of rollouts themselves, read from the cache when they are asked for, under Argo Rollouts' names (contract A11).

use std::fmt;
use std::sync::Arc;

use kube::ResourceExt;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::crd::{ConditionType, Rollout, RolloutTrafficRouting};
use crate::store::Store;

/// The phases that `rollout_phase` has a series for; `InvalidSpec` has none there.
const PHASES: [&str; 6] = ["Completed", "Progressing", "Paused", "Timeout", "Error", "Abort"];

/// Reads rollouts from a store.
pub(super) struct Rollouts(pub(super) Arc<Store>);

impl fmt::Debug for Rollouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rollouts")
    }
}

/// A number of a rollout.
type Count = fn(&Rollout) -> i64;

/// The metrics that are a number of each rollout: name, help, number.
const COUNTS: [(&str, &str, Count); 4] = [
    ("rollout_info_replicas_available", "Available pods", |rollout| {
        rollout.status().available_replicas.unwrap_or(0).into()
    }),
    ("rollout_info_replicas_unavailable", "Pods that are not available", |rollout| {
        let status = rollout.status();
        i64::from(status.replicas.unwrap_or(0)) - i64::from(status.available_replicas.unwrap_or(0))
    }),
    ("rollout_info_replicas_desired", "Desired pods", |rollout| rollout.spec.replicas().into()),
    ("rollout_info_replicas_updated", "Pods of the newest revision", |rollout| {
        rollout.status().updated_replicas.unwrap_or(0).into()
    }),
];

impl Collector for Rollouts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let records = self.0.rollouts.all();
        let rollouts: Vec<&Rollout> =
            records.iter().filter_map(|record| record.decoded.as_deref().ok()).collect();

        let mut family = encoder.encode_descriptor("rollout_info", "Rollouts", None, MetricType::Gauge)?;
        for rollout in &rollouts {
            let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
            let labels = [
                ("namespace", namespace.as_str()),
                ("name", name.as_str()),
                ("strategy", strategy(rollout)),
                ("traffic_router", router(rollout)),
                ("phase", phase(rollout)),
            ];
            ConstGauge::new(1).encode(family.encode_family(&labels)?)?;
        }
        for (name, help, count) in COUNTS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for rollout in &rollouts {
                let labels =
                    [("namespace", rollout.namespace().unwrap_or_default()), ("name", rollout.name_any())];
                ConstGauge::new(count(rollout)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Whether a rollout is in a phase; rollout_info says it in one series";
        let mut family = encoder.encode_descriptor("rollout_phase", help, None, MetricType::Gauge)?;
        for rollout in &rollouts {
            let (namespace, name) = (rollout.namespace().unwrap_or_default(), rollout.name_any());
            for of in PHASES {
                let labels = [
                    ("namespace", namespace.as_str()),
                    ("name", name.as_str()),
                    ("strategy", strategy(rollout)),
                    ("phase", of),
                ];
                let is = i64::from(phase(rollout) == of);
                ConstGauge::new(is).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn strategy(rollout: &Rollout) -> &'static str {
    match &rollout.spec.strategy {
        Some(strategy) if strategy.blue_green.is_some() => "blueGreen",
        Some(strategy) if strategy.canary.is_some() => "canary",
        _ => "none",
    }
}

/// The router that label `traffic_router` names; the last one where there are several, as in Argo Rollouts.
fn router(rollout: &Rollout) -> &str {
    let canary = rollout.spec.strategy.as_ref().and_then(|strategy| strategy.canary.as_deref());
    let Some(routing) = canary.and_then(|canary| canary.traffic_routing.as_ref()) else { return "" };
    let RolloutTrafficRouting {
        istio, nginx, alb, smi, ambassador, app_mesh, traefik, apisix, plugins, ..
    } = routing;
    let known = [
        ("ALB", alb.is_some()),
        ("Ambassador", ambassador.is_some()),
        ("Istio", istio.is_some()),
        ("Nginx", nginx.is_some()),
        ("SMI", smi.is_some()),
        ("AppMesh", app_mesh.is_some()),
        ("Traefik", traefik.is_some()),
        ("Apisix", apisix.is_some()),
    ];
    let plugin = plugins.as_ref().and_then(|plugins| plugins.keys().next_back());
    let known = known.into_iter().rev().find_map(|(name, is_set)| is_set.then_some(name));
    plugin.map(String::as_str).or(known).unwrap_or_default()
}

/// Where a rollout stands, by its conditions.
fn phase(rollout: &Rollout) -> &'static str {
    let status = rollout.status();
    if status.condition(&ConditionType::InvalidSpec).is_some() {
        return "InvalidSpec";
    }
    let progressing = status.condition(&ConditionType::Progressing);
    match progressing.map(|condition| condition.reason.as_str()) {
        Some("NewReplicaSetAvailable") => "Completed",
        Some("RolloutPaused") => "Paused",
        Some("ReplicaSetCreateError") => "Error",
        Some("ProgressDeadlineExceeded") => "Timeout",
        Some("RolloutAborted") => "Abort",
        _ => "Progressing",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rollout(value: Value) -> Rollout {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_phase_follows_the_conditions() {
        let condition = |kind: &str, reason: &str| {
            let time = "2026-01-01T00:00:00Z";
            json!({"type": kind, "status": "True", "reason": reason, "message": "",
                "lastUpdateTime": time, "lastTransitionTime": time})
        };
        let with = |conditions: &[Value]| {
            rollout(json!({"metadata": {}, "spec": {}, "status": {"conditions": conditions}}))
        };
        for (reason, expected) in [
            ("NewReplicaSetAvailable", "Completed"),
            ("RolloutPaused", "Paused"),
            ("ReplicaSetCreateError", "Error"),
            ("ProgressDeadlineExceeded", "Timeout"),
            ("RolloutAborted", "Abort"),
            ("ReplicaSetUpdated", "Progressing"),
        ] {
            assert_eq!(phase(&with(&[condition("Progressing", reason)])), expected);
        }
        let invalid =
            [condition("Progressing", "NewReplicaSetAvailable"), condition("InvalidSpec", "InvalidSpec")];
        assert_eq!(phase(&with(&invalid)), "InvalidSpec");
    }

    #[test]
    fn the_router_is_named() {
        let with = |routing: Value| {
            rollout(json!({"metadata": {}, "spec": {"strategy": {"canary": {"trafficRouting": routing}}}}))
        };
        assert_eq!(router(&with(json!({}))), "");
        assert_eq!(router(&with(json!({"nginx": {}}))), "Nginx");
        assert_eq!(router(&with(json!({"istio": {}, "smi": {}}))), "SMI");
        assert_eq!(router(&with(json!({"plugins": {"acme/gateway": {}}}))), "acme/gateway");
    }
}
