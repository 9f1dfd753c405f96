//! Traffic routers, one message each, and the routes that steps set.

use super::value::{narrow, widen};
use super::{Faults, Wire, filled, show, show_all, store, store_all};
use crate::crd::{self, Extra};
use crate::pb::v1;
use crate::validate::Path;
use v1::string_match::Match;

/// Implements [`Wire`] for a message whose fields are those of the stored part, field by field: `name` as it is, `name?` a text
/// or list that is absent when it is empty, `name[]` a list of messages, `name{}` a message.
macro_rules! same_fields {
    ($($message:ident = $stored:ident { $($field:ident $kind:tt,)+ })+) => {$(
        impl Wire for v1::$message {
            type Stored = crd::$stored;

            fn show(stored: &crd::$stored) -> Self {
                let crd::$stored { $($field,)+ extra: _ } = stored;
                Self { $($field: same_fields!(@show $kind $field),)+ }
            }

            #[allow(unused_variables, reason = "plain fields have no path and no faults")]
            fn store(self, at: &Path, faults: &mut Faults) -> crd::$stored {
                let Self { $($field,)+ } = self;
                crd::$stored { $($field: same_fields!(@store $kind $field at faults),)+ extra: Extra::new() }
            }
        }
    )+};
    (@show = $field:ident) => { $field.clone() };
    (@show ? $field:ident) => { $field.clone().unwrap_or_default() };
    (@show [] $field:ident) => { show_all($field.as_ref()) };
    (@show {} $field:ident) => { show($field.as_ref()) };
    (@store = $field:ident $at:ident $faults:ident) => { $field };
    (@store ? $field:ident $at:ident $faults:ident) => { filled($field) };
    (@store [] $field:ident $at:ident $faults:ident) => {
        store_all($field, &$at.field(stringify!($field)), $faults)
    };
    (@store {} $field:ident $at:ident $faults:ident) => {
        store($field, $at.field(stringify!($field)), $faults)
    };
}

same_fields! {
    ManagedRoute = ManagedRoute { name =, }
    IstioRouting = IstioTrafficRouting { virtual_service {}, destination_rule {}, virtual_services [], }
    IstioVirtualService = IstioVirtualService { name =, routes ?, tls_routes [], tcp_routes [], }
    IstioDestinationRule = IstioDestinationRule {
        name =, canary_subset_name =, stable_subset_name =, additional_subset_names ?,
    }
    NginxRouting = NginxTrafficRouting {
        annotation_prefix ?, stable_ingress ?, stable_ingresses ?, additional_ingress_annotations ?,
        canary_ingress_annotations ?,
    }
    AlbRouting = AlbTrafficRouting {
        ingress ?, ingresses ?, service_port =, root_service ?, annotation_prefix ?, stickiness_config {},
    }
    AlbStickiness = StickinessConfig { enabled =, duration_seconds =, }
    SmiRouting = SmiTrafficRouting { root_service ?, traffic_split_name ?, }
    AmbassadorRouting = AmbassadorTrafficRouting { mappings =, }
    AppMeshRouting = AppMeshTrafficRouting { virtual_service {}, virtual_node_group {}, }
    AppMeshVirtualService = AppMeshVirtualService { name =, routes ?, }
    TraefikRouting = TraefikTrafficRouting { weighted_traefik_service_name =, }
}

impl Wire for v1::TrafficRouting {
    type Stored = crd::RolloutTrafficRouting;

    fn show(stored: &crd::RolloutTrafficRouting) -> Self {
        let crd::RolloutTrafficRouting {
            istio,
            nginx,
            alb,
            smi,
            ambassador,
            app_mesh,
            traefik,
            apisix,
            plugins,
            managed_routes,
            max_traffic_weight,
            extra: _,
        } = stored;
        let plugins = plugins.iter().flatten().map(|(name, value)| (name.clone(), widen(value)));
        Self {
            istio: show(istio.as_ref()),
            nginx: show(nginx.as_ref()),
            alb: show(alb.as_ref()),
            smi: show(smi.as_ref()),
            ambassador: show(ambassador.as_ref()),
            app_mesh: show(app_mesh.as_ref()),
            traefik: show(traefik.as_ref()),
            apisix: show(apisix.as_ref()),
            plugins: plugins.collect(),
            managed_routes: show_all(managed_routes.as_ref()),
            max_traffic_weight: *max_traffic_weight,
        }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::RolloutTrafficRouting {
        let Self {
            istio,
            nginx,
            alb,
            smi,
            ambassador,
            app_mesh,
            traefik,
            apisix,
            plugins,
            managed_routes,
            max_traffic_weight,
        } = self;
        let plugins = plugins.into_iter().map(|(name, value)| {
            let at = at.field("plugins").key(&name);
            (name, narrow(value, &at, faults))
        });
        crd::RolloutTrafficRouting {
            plugins: filled(plugins.collect()),
            istio: store(istio, at.field("istio"), faults),
            nginx: store(nginx, at.field("nginx"), faults),
            alb: store(alb, at.field("alb"), faults),
            smi: store(smi, at.field("smi"), faults),
            ambassador: store(ambassador, at.field("ambassador"), faults),
            app_mesh: store(app_mesh, at.field("app_mesh"), faults),
            traefik: store(traefik, at.field("traefik"), faults),
            apisix: store(apisix, at.field("apisix"), faults),
            managed_routes: store_all(managed_routes, &at.field("managed_routes"), faults),
            max_traffic_weight,
            extra: Extra::new(),
        }
    }
}

impl Wire for v1::IstioTlsRoute {
    type Stored = crd::TlsRoute;

    fn show(stored: &crd::TlsRoute) -> Self {
        let crd::TlsRoute { port, sni_hosts, extra: _ } = stored;
        Self { port: port.unwrap_or(0), sni_hosts: sni_hosts.clone().unwrap_or_default() }
    }

    fn store(self, _: &Path, _: &mut Faults) -> crd::TlsRoute {
        let Self { port, sni_hosts } = self;
        let port = Some(port).filter(|port| *port != 0);
        crd::TlsRoute { port, sni_hosts: filled(sni_hosts), extra: Extra::new() }
    }
}

impl Wire for v1::IstioTcpRoute {
    type Stored = crd::TcpRoute;

    fn show(stored: &crd::TcpRoute) -> Self {
        let crd::TcpRoute { port, extra: _ } = stored;
        Self { port: port.unwrap_or(0) }
    }

    fn store(self, _: &Path, _: &mut Faults) -> crd::TcpRoute {
        let Self { port } = self;
        crd::TcpRoute { port: Some(port).filter(|port| *port != 0), extra: Extra::new() }
    }
}

impl Wire for v1::AppMeshVirtualNodeGroup {
    type Stored = crd::AppMeshVirtualNodeGroup;

    fn show(stored: &crd::AppMeshVirtualNodeGroup) -> Self {
        let crd::AppMeshVirtualNodeGroup { canary_virtual_node_ref, stable_virtual_node_ref, extra: _ } =
            stored;
        Self {
            canary_virtual_node: canary_virtual_node_ref.name.clone(),
            stable_virtual_node: stable_virtual_node_ref.name.clone(),
        }
    }

    fn store(self, _: &Path, _: &mut Faults) -> crd::AppMeshVirtualNodeGroup {
        let Self { canary_virtual_node, stable_virtual_node } = self;
        let node = |name| crd::AppMeshVirtualNodeReference { name, extra: Extra::new() };
        crd::AppMeshVirtualNodeGroup {
            canary_virtual_node_ref: node(canary_virtual_node),
            stable_virtual_node_ref: node(stable_virtual_node),
            extra: Extra::new(),
        }
    }
}

impl Wire for v1::ApisixRouting {
    type Stored = crd::ApisixTrafficRouting;

    fn show(stored: &crd::ApisixTrafficRouting) -> Self {
        let crd::ApisixTrafficRouting { route, extra: _ } = stored;
        let rules = route.as_ref().and_then(|route| route.rules.clone());
        Self {
            route: route.as_ref().map(|route| route.name.clone()).unwrap_or_default(),
            rules: rules.unwrap_or_default(),
        }
    }

    fn store(self, _: &Path, _: &mut Faults) -> crd::ApisixTrafficRouting {
        let Self { route: name, rules } = self;
        let given = !name.is_empty() || !rules.is_empty();
        let route = given.then(|| crd::ApisixRoute { name, rules: filled(rules), extra: Extra::new() });
        crd::ApisixTrafficRouting { route, extra: Extra::new() }
    }
}

impl Wire for v1::SetHeaderRoute {
    type Stored = crd::SetHeaderRoute;

    fn show(stored: &crd::SetHeaderRoute) -> Self {
        let crd::SetHeaderRoute { name, matches, extra: _ } = stored;
        Self { name: name.clone().unwrap_or_default(), r#match: show_all(matches.as_ref()) }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::SetHeaderRoute {
        let Self { name, r#match } = self;
        let matches = store_all(r#match, &at.field("match"), faults);
        crd::SetHeaderRoute { name: filled(name), matches, extra: Extra::new() }
    }
}

impl Wire for v1::HeaderRoutingMatch {
    type Stored = crd::HeaderRoutingMatch;

    fn show(stored: &crd::HeaderRoutingMatch) -> Self {
        let crd::HeaderRoutingMatch { header_name, header_value, extra: _ } = stored;
        Self { header_name: header_name.clone(), header_value: Some(Wire::show(header_value)) }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::HeaderRoutingMatch {
        let Self { header_name, header_value } = self;
        let header_value = store(header_value, at.field("header_value"), faults).unwrap_or_default();
        crd::HeaderRoutingMatch { header_name, header_value, extra: Extra::new() }
    }
}

impl Wire for v1::SetMirrorRoute {
    type Stored = crd::SetMirrorRoute;

    fn show(stored: &crd::SetMirrorRoute) -> Self {
        let crd::SetMirrorRoute { name, matches, percentage, extra: _ } = stored;
        Self { name: name.clone(), r#match: show_all(matches.as_ref()), percentage: *percentage }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::SetMirrorRoute {
        let Self { name, r#match, percentage } = self;
        let matches = store_all(r#match, &at.field("match"), faults);
        crd::SetMirrorRoute { name, matches, percentage, extra: Extra::new() }
    }
}

impl Wire for v1::RouteMatch {
    type Stored = crd::RouteMatch;

    fn show(stored: &crd::RouteMatch) -> Self {
        let crd::RouteMatch { method, path, headers, extra: _ } = stored;
        let headers = headers.iter().flatten().map(|(name, value)| (name.clone(), Wire::show(value)));
        Self { method: show(method.as_ref()), path: show(path.as_ref()), headers: headers.collect() }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::RouteMatch {
        let Self { method, path, headers } = self;
        let headers = headers.into_iter().map(|(name, value)| {
            let at = at.field("headers").key(&name);
            (name, value.store(&at, faults))
        });
        crd::RouteMatch {
            headers: filled(headers.collect()),
            method: store(method, at.field("method"), faults),
            path: store(path, at.field("path"), faults),
            extra: Extra::new(),
        }
    }
}

impl Wire for v1::StringMatch {
    type Stored = crd::StringMatch;

    /// Of several ways, which only an object written elsewhere can have, the first is shown.
    fn show(stored: &crd::StringMatch) -> Self {
        let crd::StringMatch { exact, prefix, regex, extra: _ } = stored;
        let r#match = None
            .or_else(|| exact.clone().map(Match::Exact))
            .or_else(|| prefix.clone().map(Match::Prefix))
            .or_else(|| regex.clone().map(Match::Regex));
        Self { r#match }
    }

    fn store(self, _: &Path, _: &mut Faults) -> crd::StringMatch {
        let mut stored = crd::StringMatch::default();
        match self.r#match {
            None => {}
            Some(Match::Exact(text)) => stored.exact = Some(text),
            Some(Match::Prefix(text)) => stored.prefix = Some(text),
            Some(Match::Regex(text)) => stored.regex = Some(text),
        }
        stored
    }
}
