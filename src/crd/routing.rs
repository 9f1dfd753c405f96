//! Traffic routing of a canary: one struct for each router that Argo Rollouts has (contract A5).
//!
//! Depends on nothing of this package. `traffic/` has one file for each of them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_with::skip_serializing_none;

use super::Extra;
use super::schema::AnyObject;

/// Total traffic weight unless trafficRouting.maxTrafficWeight says otherwise (Argo Rollouts' types.go).
pub const DEFAULT_MAX_TRAFFIC_WEIGHT: i32 = 100;

/// Which routers split the traffic, and how. Several may be set.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutTrafficRouting {
    /// Istio VirtualServices and DestinationRules.
    pub istio: Option<IstioTrafficRouting>,
    /// Ingresses of ingress-nginx.
    pub nginx: Option<NginxTrafficRouting>,
    /// Ingresses of the AWS Load Balancer Controller.
    pub alb: Option<AlbTrafficRouting>,
    /// A TrafficSplit of the Service Mesh Interface.
    pub smi: Option<SmiTrafficRouting>,
    /// Mappings of Ambassador.
    pub ambassador: Option<AmbassadorTrafficRouting>,
    /// Virtual services and nodes of AWS App Mesh.
    pub app_mesh: Option<AppMeshTrafficRouting>,
    /// A TraefikService.
    pub traefik: Option<TraefikTrafficRouting>,
    /// An ApisixRoute.
    pub apisix: Option<ApisixTrafficRouting>,
    /// Routers that plugins implement, by plugin name; each plugin alone knows the form of its value.
    #[schemars(with = "Option<AnyObject>")]
    pub plugins: Option<BTreeMap<String, Value>>,
    /// Routes that steps may set, in order of precedence.
    pub managed_routes: Option<Vec<ManagedRoute>>,
    /// The total weight. Default 100; nginx and plugins only.
    pub max_traffic_weight: Option<i32>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

impl RolloutTrafficRouting {
    /// The total weight; 100 unless set.
    #[must_use]
    pub fn max_traffic_weight(&self) -> i32 {
        self.max_traffic_weight.unwrap_or(DEFAULT_MAX_TRAFFIC_WEIGHT)
    }
}

/// A route that header and mirror steps set and remove.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedRoute {
    /// Name of the route.
    pub name: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// Istio VirtualServices and DestinationRules.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IstioTrafficRouting {
    /// The VirtualService whose weights to change; not together with virtualServices.
    pub virtual_service: Option<IstioVirtualService>,
    /// Several VirtualServices; not together with virtualService.
    pub virtual_services: Option<Vec<IstioVirtualService>>,
    /// The DestinationRule whose subsets to point at the ReplicaSets.
    pub destination_rule: Option<IstioDestinationRule>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A VirtualService and its routes. A list may be left out when the VirtualService has one route of that kind.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IstioVirtualService {
    /// Name, or name.namespace, of the VirtualService.
    pub name: String,
    /// Names of HTTP routes.
    pub routes: Option<Vec<String>>,
    /// TLS routes.
    pub tls_routes: Option<Vec<TlsRoute>>,
    /// TCP routes.
    pub tcp_routes: Option<Vec<TcpRoute>>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A TLS route, found by its port and hosts.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsRoute {
    /// Its port.
    pub port: Option<i64>,
    /// All of its SNI hosts.
    pub sni_hosts: Option<Vec<String>>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A TCP route, found by its port.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TcpRoute {
    /// Its port.
    pub port: Option<i64>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A DestinationRule with one subset for each version.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IstioDestinationRule {
    /// Name of the DestinationRule.
    pub name: String,
    /// The subset of the new version.
    pub canary_subset_name: String,
    /// The subset of the stable version.
    pub stable_subset_name: String,
    /// Subsets that somebody else looks after.
    pub additional_subset_names: Option<Vec<String>>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// Ingresses of ingress-nginx; for each, a second one for the canary is made.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NginxTrafficRouting {
    /// Prefix of the annotations. Default nginx.ingress.kubernetes.io.
    pub annotation_prefix: Option<String>,
    /// Name of the Ingress; not together with stableIngresses.
    pub stable_ingress: Option<String>,
    /// Names of several Ingresses; not together with stableIngress.
    pub stable_ingresses: Option<Vec<String>>,
    /// Annotations for the canary Ingress, by name without the prefix.
    pub additional_ingress_annotations: Option<BTreeMap<String, String>>,
    /// Annotations for the canary Ingress, by full name.
    pub canary_ingress_annotations: Option<BTreeMap<String, String>>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// Ingresses of the AWS Load Balancer Controller.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlbTrafficRouting {
    /// Name of the Ingress; not together with ingresses.
    pub ingress: Option<String>,
    /// Names of several Ingresses; not together with ingress.
    pub ingresses: Option<Vec<String>>,
    /// Port of the Services that traffic goes to.
    pub service_port: i32,
    /// The Service that the Ingress names; default the stable Service.
    pub root_service: Option<String>,
    /// Prefix of the annotations. Default alb.ingress.kubernetes.io.
    pub annotation_prefix: Option<String>,
    /// Stickiness of the target groups.
    pub stickiness_config: Option<StickinessConfig>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// Stickiness of target groups.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StickinessConfig {
    /// Whether a client stays with its target group.
    pub enabled: bool,
    /// For how long, in seconds.
    pub duration_seconds: i64,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A TrafficSplit of the Service Mesh Interface.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SmiTrafficRouting {
    /// The Service that clients use.
    pub root_service: Option<String>,
    /// Name of the TrafficSplit. Default the name of the Rollout.
    pub traffic_split_name: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// Mappings of Ambassador; for each, a second one for the canary is made.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AmbassadorTrafficRouting {
    /// Names of the Mappings.
    pub mappings: Vec<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// Virtual services and nodes of AWS App Mesh.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppMeshTrafficRouting {
    /// The virtual service whose routes to weigh.
    pub virtual_service: Option<AppMeshVirtualService>,
    /// The virtual nodes that stand for the two versions.
    pub virtual_node_group: Option<AppMeshVirtualNodeGroup>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A virtual service of AWS App Mesh.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppMeshVirtualService {
    /// Its name.
    pub name: String,
    /// Names of its HTTP routes; may be left out when it has one.
    pub routes: Option<Vec<String>>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// The virtual nodes that stand for the two versions.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppMeshVirtualNodeGroup {
    /// The new version's.
    pub canary_virtual_node_ref: AppMeshVirtualNodeReference,
    /// The stable version's.
    pub stable_virtual_node_ref: AppMeshVirtualNodeReference,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A virtual node of AWS App Mesh.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppMeshVirtualNodeReference {
    /// Its name.
    pub name: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A TraefikService.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TraefikTrafficRouting {
    /// Name of the weighted TraefikService.
    pub weighted_traefik_service_name: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// An ApisixRoute.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApisixTrafficRouting {
    /// The route whose weights to change.
    pub route: Option<ApisixRoute>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// An ApisixRoute and its rules.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApisixRoute {
    /// Name of the ApisixRoute.
    pub name: String,
    /// Names of its HTTP rules; may be left out when it has one.
    pub rules: Option<Vec<String>>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}
