//! A guard in front of the embedded cluster, which has no users: it lets through what the rules of a role grant, and answers the rest in
//! the words of kube-apiserver.

use std::sync::Arc;

use http::{Method, Request};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::Client;
use kube::client::Body;

use crate::gate::forbidden;

/// A client of a user who may do what the rules grant in every namespace.
pub fn guarded(client: Client, user: &'static str, rules: Vec<PolicyRule>) -> Client {
    let rules = Arc::new(rules);
    let send = tower::service_fn(move |request: Request<Body>| {
        let attempt = Attempt::of(&request);
        let denied = attempt.filter(|attempt| !rules.iter().any(|rule| attempt.is_granted_by(rule)));
        let client = client.clone();
        async move {
            match denied {
                Some(attempt) => Ok(forbidden(&attempt.refusal(user))),
                None => client.send(request).await,
            }
        }
    });
    Client::new(send, "default")
}

/// What a request asks for, as RBAC sees it.
#[derive(Debug, PartialEq)]
struct Attempt {
    verb: &'static str,
    group: String,
    /// With the subresource, such as `pods/eviction`.
    resource: String,
    namespace: Option<String>,
    name: Option<String>,
}

impl Attempt {
    /// `None` for what is about no resource, such as the server's version, which everybody may ask for.
    fn of(request: &Request<Body>) -> Option<Self> {
        let segments: Vec<&str> = request.uri().path().trim_matches('/').split('/').collect();
        let (group, rest) = match segments.as_slice() {
            ["api", _, rest @ ..] => ("", rest),
            ["apis", group, _, rest @ ..] => (*group, rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let (resource, name) = match rest {
            [] => return None,
            [resource] => ((*resource).to_owned(), None),
            [resource, name] => ((*resource).to_owned(), Some(*name)),
            [resource, name, subresource, ..] => (format!("{resource}/{subresource}"), Some(*name)),
        };
        let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let verb = match (request.method(), name) {
            (&Method::GET, Some(_)) => "get",
            (&Method::GET, None) if watches => "watch",
            (&Method::GET, None) => "list",
            (&Method::POST, _) => "create",
            (&Method::PUT, _) => "update",
            (&Method::PATCH, _) => "patch",
            (&Method::DELETE, Some(_)) => "delete",
            _ => "deletecollection",
        };
        let [namespace, name] = [namespace, name].map(|part| part.map(str::to_owned));
        Some(Self { verb, group: group.to_owned(), resource, namespace, name })
    }

    fn is_granted_by(&self, rule: &PolicyRule) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|item| item == wanted || item == "*");
        has(&rule.verbs, self.verb)
            && has(rule.api_groups.as_deref().unwrap_or_default(), &self.group)
            && has(rule.resources.as_deref().unwrap_or_default(), &self.resource)
    }

    fn refusal(&self, user: &str) -> String {
        let Self { verb, group, resource, namespace, name } = self;
        let plural = resource.split('/').next().unwrap_or_default();
        let kind = if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") };
        let name = name.as_ref().map(|name| format!(" {name:?}")).unwrap_or_default();
        let place = match namespace {
            Some(namespace) => format!("in the namespace {namespace:?}"),
            None => "at the cluster scope".to_owned(),
        };
        format!(
            "{kind}{name} is forbidden: User {user:?} cannot {verb} resource {resource:?} in API group {group:?} {place}"
        )
    }
}

#[test]
fn requests_are_what_rbac_takes_them_for() {
    for (method, uri, expected) in [
        ("GET", "/apis/apps/v1/namespaces/shop/replicasets?limit=500", "list apps replicasets"),
        ("GET", "/apis/apps/v1/replicasets?watch=true&resourceVersion=1", "watch apps replicasets"),
        ("GET", "/api/v1/namespaces/shop/pods/web-a", "get  pods"),
        ("GET", "/api/v1/namespaces/shop", "get  namespaces"),
        ("POST", "/api/v1/namespaces/shop/pods/web-a/eviction", "create  pods/eviction"),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", "update coordination.k8s.io leases"),
        (
            "PATCH",
            "/apis/argoproj.io/v1alpha1/namespaces/a/rollouts/b/status",
            "patch argoproj.io rollouts/status",
        ),
        ("DELETE", "/apis/apps/v1/namespaces/a/replicasets/b", "delete apps replicasets"),
        ("GET", "/version", ""),
    ] {
        let request = Request::builder().method(method).uri(uri).body(Body::empty()).unwrap();
        let attempt = Attempt::of(&request);
        let said = attempt.map(|attempt| format!("{} {} {}", attempt.verb, attempt.group, attempt.resource));
        assert_eq!(said.unwrap_or_default(), expected, "{method} {uri}");
    }
}
