//! The canary strategy and its steps.

use serde_json::{Value, json};

use super::path::Path;
use super::spec::{anti_affinity, not_negative};
use super::violation::Violation;
use crate::crd::{
    CanaryStep, CanaryStrategy, IntOrString, ProgressType, ReplicaProgressThreshold, RolloutTrafficRouting,
    Rounding, StringMatch,
};

const ONE_ACTION: &str =
    "Step must have one of the following set: experiment, setWeight, setCanaryScale, plugin or pause";
const SERVICES_NEEDED: &str = "Canary service and Stable service must to be set to use Traffic Routing";

/// All violations of a canary strategy.
pub(super) fn canary(canary: &CanaryStrategy, path: &Path) -> Vec<Violation> {
    let mut violations = limits(canary, path);
    violations.extend(services(canary, path));
    violations.extend(ping_pong(canary, path));
    violations.extend(routing_only(canary, path));
    for (index, canary_step) in canary.steps().iter().enumerate() {
        violations.extend(step(canary_step, canary, &path.field("steps").index(index)));
    }
    violations.extend(anti_affinity(canary.anti_affinity.as_ref(), &path.field("antiAffinity")));
    if let Some(threshold) = &canary.replica_progress_threshold {
        violations.extend(progress_threshold(threshold, &path.field("replicaProgressThreshold")));
    }
    for (value, field) in [
        (canary.scale_down_delay_seconds, "scaleDownDelaySeconds"),
        (canary.abort_scale_down_delay_seconds, "abortScaleDownDelaySeconds"),
        (canary.min_pods_per_replica_set, "minPodsPerReplicaSet"),
    ] {
        violations.extend(not_negative(value, path, field));
    }
    violations
}

fn limits(canary: &CanaryStrategy, path: &Path) -> Vec<Violation> {
    const ENOUGH_TO_TELL: i32 = 100;
    let mut violations = Vec::new();
    let mut value = |given: &IntOrString, field: &'static str| {
        let amount = given.scaled(ENOUGH_TO_TELL, Rounding::Up).ok().filter(|amount| *amount >= 0);
        if amount.is_none() {
            let rule = "must be a number of pods or a percentage, and not negative";
            violations.push(Violation::invalid(path.field(field), json!(given), rule));
        }
        amount
    };
    let surge = value(&canary.max_surge(), "maxSurge");
    let unavailable = value(&canary.max_unavailable(), "maxUnavailable");
    if surge == Some(0) && unavailable == Some(0) {
        let given = json!(canary.max_surge());
        let rule = "MaxSurge and MaxUnavailable both can not be zero";
        violations.push(Violation::invalid(path.field("maxSurge"), given, rule));
    }
    violations
}

fn progress_threshold(threshold: &ReplicaProgressThreshold, path: &Path) -> Option<Violation> {
    let value = threshold.value;
    let rule = match &threshold.progress_type {
        ProgressType::Other(given) => {
            const TYPES: &[&str] = &["Percent", "Pods"];
            return Some(Violation::not_supported(path.field("type"), given.as_str(), TYPES));
        }
        ProgressType::Percent if !(1..=100).contains(&value) => "a percentage must be between 1 and 100",
        ProgressType::Pods if value < 1 => "a number of pods must be greater than 0",
        ProgressType::Percent | ProgressType::Pods => return None,
    };
    Some(Violation::invalid(path.field("value"), value, rule))
}

fn services(canary: &CanaryStrategy, path: &Path) -> Vec<Violation> {
    let mut violations = Vec::new();
    let canary_service = canary.canary_service.as_deref().unwrap_or_default();
    let stable_service = canary.stable_service.as_deref().unwrap_or_default();
    if !canary_service.is_empty() && canary_service == stable_service {
        violations.push(Violation::invalid(
            path.field("stableService"),
            stable_service,
            "This rollout uses the same service for the stable and canary services, but two different services are required.",
        ));
    }
    if canary.traffic_routing.as_ref().is_some_and(|routing| needs_services(canary, routing)) {
        for (service, field) in [(stable_service, "stableService"), (canary_service, "canaryService")] {
            if service.is_empty() {
                violations.push(Violation::invalid(path.field(field), service, SERVICES_NEEDED));
            }
        }
    }
    violations
}

fn needs_services(canary: &CanaryStrategy, routing: &RolloutTrafficRouting) -> bool {
    let no_ping_pong = canary.ping_pong.is_none();
    let by_host = routing.istio.as_ref().is_some_and(|istio| istio.destination_rule.is_none());
    (no_ping_pong && (routing.alb.is_some() || by_host))
        || routing.smi.is_some()
        || routing.apisix.is_some()
        || routing.ambassador.is_some()
        || routing.nginx.is_some()
        || routing.app_mesh.is_some()
        || routing.traefik.is_some()
}

fn ping_pong(canary: &CanaryStrategy, path: &Path) -> Vec<Violation> {
    const BOTH: &str = "Ping service and Pong service must to be set to use Ping-Pong feature";
    let Some(services) = &canary.ping_pong else { return Vec::new() };
    let mut violations = Vec::new();
    let below = path.field("pingPong");
    if let Some(routing) = &canary.traffic_routing {
        let path = path.field("trafficRouting").field("alb");
        if routing.alb.is_none() && routing.istio.is_none() && !has_plugins(routing) {
            let rule = "Ping-pong feature works with the ALB, Istio, and plugin-based traffic routers only";
            violations.push(Violation::invalid(path.clone(), Value::Null, rule));
        }
        if routing.alb.as_ref().is_some_and(|alb| alb.root_service.as_deref().unwrap_or_default().is_empty())
        {
            let rule =
                "Root service field is required for the configuration with ALB and ping-pong feature enabled";
            violations.push(Violation::invalid(path.field("rootService"), "", rule));
        }
    }
    for (service, field) in [(&services.ping_service, "pingService"), (&services.pong_service, "pongService")]
    {
        if service.is_empty() {
            violations.push(Violation::invalid(below.field(field), service.as_str(), BOTH));
        }
    }
    if services.ping_service == services.pong_service {
        violations.push(Violation::invalid(
            below.field("pingService"),
            services.ping_service.as_str(),
            "This rollout uses the same service for the ping and pong services, but two different services are required.",
        ));
    }
    violations
}

/// Fields that only mean something with traffic routing, or with some routers.
fn routing_only(canary: &CanaryStrategy, path: &Path) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut refuse = |field: &'static str, value: Value, rule: &str| {
        violations.push(Violation::invalid(path.field(field), value, rule));
    };
    match &canary.traffic_routing {
        None => {
            if let Some(delay) = canary.scale_down_delay_seconds {
                let rule = "Canary scaleDownDelaySeconds can only be used with traffic routing";
                refuse("scaleDownDelaySeconds", json!(delay), rule);
            }
            if canary.dynamic_stable_scale() {
                let rule = "Canary dynamicStableScale can only be used with traffic routing";
                refuse("dynamicStableScale", json!(true), rule);
            }
        }
        Some(_) if canary.scale_down_delay_seconds.is_some() && canary.dynamic_stable_scale() => {
            let rule = "Canary dynamicStableScale cannot be used with scaleDownDelaySeconds";
            refuse("dynamicStableScale", json!(true), rule);
        }
        Some(_) => {}
    }
    if let Some(routing) = &canary.traffic_routing
        && let Some(most) = routing.max_traffic_weight
    {
        let path = path.field("trafficRouting").field("maxTrafficWeight");
        if routing.nginx.is_none() && !has_plugins(routing) {
            let rule = "Canary maxTrafficWeight in traffic routing only supported in Nginx and Plugins";
            violations.push(Violation::invalid(path, most, rule));
        } else if most < 1 {
            violations.push(Violation::invalid(path, most, "must be greater than 0"));
        }
    }
    violations
}

fn step(step: &CanaryStep, canary: &CanaryStrategy, path: &Path) -> Vec<Violation> {
    let mut violations = actions(step, path);
    let routing = canary.traffic_routing.as_ref();
    let most = routing.map_or(100, RolloutTrafficRouting::max_traffic_weight);
    if let Some(weight) = step.set_weight.filter(|weight| !(0..=most).contains(weight)) {
        let rule = format!("SetWeight needs to be between 0 and {most}");
        violations.push(Violation::invalid(path.field("setWeight"), weight, rule));
    }
    if let Some(pause) = &step.pause {
        let path = path.field("pause").field("duration");
        let given = pause.duration.as_ref().map_or(Value::Null, |duration| json!(duration));
        match pause.duration_seconds() {
            Ok(Some(seconds)) if seconds < 0 => {
                violations.push(Violation::invalid(path, given, "Duration needs to be greater than 0"));
            }
            Ok(_) => {}
            Err(error) => violations.push(Violation::invalid(path, given, error.to_string())),
        }
    }
    if step.set_canary_scale.is_some() && routing.is_none() {
        let path = path.field("setCanaryScale");
        violations.push(Violation::forbidden(path, "SetCanaryScale requires TrafficRouting to be set"));
    }
    violations.extend(header_route(step, routing, path));
    violations.extend(mirror_route(step, routing, path));
    violations.extend(managed(step, routing, path));
    violations.extend(experiment(step, routing, path));
    violations
}

/// Exactly one action. The reference checks exclusivity for four of them only (contract A4), and manifests written for it
/// must go on working.
fn actions(step: &CanaryStep, path: &Path) -> Vec<Violation> {
    const EXCLUSIVE: [&str; 4] = ["setWeight", "pause", "experiment", "analysis"];
    let given: Vec<&str> = step.actions().map(|action| action.name()).collect();
    let exclusive = given.iter().filter(|name| EXCLUSIVE.contains(name)).count();
    if given.is_empty() || exclusive > 1 {
        return vec![Violation::invalid(path.clone(), given.join(", "), ONE_ACTION)];
    }
    Vec::new()
}

fn header_route(step: &CanaryStep, routing: Option<&RolloutTrafficRouting>, path: &Path) -> Vec<Violation> {
    let Some(route) = &step.set_header_route else { return Vec::new() };
    let path = path.field("setHeaderRoute");
    let Some(routing) = routing.filter(|routing| {
        routing.istio.is_some() || routing.alb.is_some() || routing.apisix.is_some() || has_plugins(routing)
    }) else {
        let rule = "SetHeaderRoute requires TrafficRouting, supports Istio and ALB and Apisix";
        return vec![Violation::invalid(path, json!(route), rule)];
    };
    let exact_only = routing.alb.is_some();
    let matches = route.matches.iter().flatten().enumerate();
    matches
        .filter_map(|(index, rule)| {
            string_match(&rule.header_value, exact_only, &path.field("match").index(index))
        })
        .collect()
}

fn mirror_route(step: &CanaryStep, routing: Option<&RolloutTrafficRouting>, path: &Path) -> Vec<Violation> {
    let Some(route) = &step.set_mirror_route else { return Vec::new() };
    let path = path.field("setMirrorRoute");
    let mut violations = Vec::new();
    if !routing.is_some_and(|routing| routing.istio.is_some() || has_plugins(routing)) {
        let rule = "SetMirrorRoute requires TrafficRouting, supports Istio and Plugins";
        violations.push(Violation::invalid(path.clone(), json!(route), rule));
    }
    for (index, rule) in route.matches.iter().flatten().enumerate() {
        let path = path.field("match").index(index);
        let headers = rule.headers.iter().flatten().map(|(_, value)| value);
        for value in rule.method.iter().chain(&rule.path).chain(headers) {
            violations.extend(string_match(value, false, &path));
        }
    }
    violations
}

fn string_match(value: &StringMatch, exact_only: bool, path: &Path) -> Option<Violation> {
    let filled = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let (exact, prefix, regex) = (filled(&value.exact), filled(&value.prefix), filled(&value.regex));
    let rule = match [exact, prefix, regex].into_iter().filter(|given| *given).count() {
        _ if exact_only && (!exact || prefix || regex) => {
            "SetHeaderRoute match value invalid. ALB supports 'exact' value only"
        }
        1 => return None,
        0 => "StringMatch value missed, match value must have one of the following: exact, regex, prefix",
        _ => "StringMatch match value must have exactly one of the following: exact, regex, prefix",
    };
    Some(Violation::invalid(path.clone(), json!(value), rule))
}

fn managed(step: &CanaryStep, routing: Option<&RolloutTrafficRouting>, path: &Path) -> Vec<Violation> {
    const UNKNOWN: &str =
        "Steps define a route that does not exist in spec.strategy.canary.trafficRouting.managedRoutes";
    let Some(routing) = routing else { return Vec::new() };
    let header = step
        .set_header_route
        .as_ref()
        .map(|route| (route.name.as_deref().unwrap_or_default(), "setHeaderRoute"));
    let mirror = step.set_mirror_route.as_ref().map(|route| (route.name.as_str(), "setMirrorRoute"));
    let known = |name: &str| routing.managed_routes.iter().flatten().any(|route| route.name == name);
    header
        .into_iter()
        .chain(mirror)
        .filter(|(name, _)| !known(name))
        .map(|(name, field)| Violation::invalid(path.field(field), name, UNKNOWN))
        .collect()
}

fn experiment(step: &CanaryStep, routing: Option<&RolloutTrafficRouting>, path: &Path) -> Vec<Violation> {
    let splits = |routing: &RolloutTrafficRouting| {
        routing.alb.is_some() || routing.smi.is_some() || routing.istio.is_some() || has_plugins(routing)
    };
    let rule = match routing {
        Some(routing) if splits(routing) => return Vec::new(),
        Some(_) => {
            "Experiment template weight is only available for TrafficRouting with SMI, ALB, Istio and Plugins at this time"
        }
        None => "Experiment template weight cannot be set unless TrafficRouting is enabled",
    };
    let templates = step.experiment.iter().flat_map(|experiment| experiment.templates.iter().enumerate());
    templates
        .filter_map(|(index, template)| {
            let path = path.field("experiment").field("templates").index(index).field("weight");
            Some(Violation::invalid(path, template.weight?, rule))
        })
        .collect()
}

fn has_plugins(routing: &RolloutTrafficRouting) -> bool {
    routing.plugins.as_ref().is_some_and(|plugins| !plugins.is_empty())
}
