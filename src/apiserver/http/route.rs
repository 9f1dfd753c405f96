//! Paths: what they name, before anything is looked up.
//!
//! The rules are those of apiserver's `request.RequestInfoFactory`.

use http::Method;

use super::options::Query;
use crate::apiserver::audit::Verb;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/api/v1/…` or `/apis/{group}/{version}/…`.
    Resource(Target),
    /// `/api`: versions of the core group.
    CoreVersions,
    /// `/apis`: the groups.
    Groups,
    /// `/apis/{group}`.
    Group(String),
    /// `/api/v1`, `/apis/{group}/{version}`: the resources.
    Resources {
        group: String,
        version: String,
    },
    /// `/openapi/v3`.
    OpenApiIndex,
    /// `/openapi/v3/api/v1`, `/openapi/v3/apis/{group}/{version}`.
    OpenApi {
        group: String,
        version: String,
    },
    Version,
    /// `/healthz`, `/livez`, `/readyz`.
    Health,
    Unknown,
}

/// A resource, one of its objects, or a part of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    /// Empty for paths outside namespaces.
    pub(crate) namespace: String,
    /// Empty for the whole resource.
    pub(crate) name: String,
    pub(crate) subresource: String,
}

impl Route {
    pub(crate) fn parse(path: &[String]) -> Self {
        let segments: Vec<&str> = path.iter().map(String::as_str).collect();
        match segments.as_slice() {
            ["api"] => Self::CoreVersions,
            ["apis"] => Self::Groups,
            ["apis", group] => Self::Group((*group).to_owned()),
            ["api", version] => Self::Resources { group: String::new(), version: (*version).to_owned() },
            ["apis", group, version] => {
                Self::Resources { group: (*group).to_owned(), version: (*version).to_owned() }
            }
            ["api", version, rest @ ..] => Self::resource("", version, rest),
            ["apis", group, version, rest @ ..] => Self::resource(group, version, rest),
            ["openapi", "v3"] => Self::OpenApiIndex,
            ["openapi", "v3", "api", version] => {
                Self::OpenApi { group: String::new(), version: (*version).to_owned() }
            }
            ["openapi", "v3", "apis", group, version] => {
                Self::OpenApi { group: (*group).to_owned(), version: (*version).to_owned() }
            }
            ["version"] => Self::Version,
            ["healthz" | "livez" | "readyz", ..] => Self::Health,
            _ => Self::Unknown,
        }
    }

    fn resource(group: &str, version: &str, rest: &[&str]) -> Self {
        let target = |namespace: &str, plural: &str, name: &str, subresource: &str| {
            Self::Resource(Target {
                group: group.to_owned(),
                version: version.to_owned(),
                plural: plural.to_owned(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                subresource: subresource.to_owned(),
            })
        };
        match rest {
            // Parts of a namespace, not resources in it.
            ["namespaces", name, part @ ("status" | "finalize")] => target("", "namespaces", name, part),
            ["namespaces", namespace, plural] => target(namespace, plural, "", ""),
            ["namespaces", namespace, plural, name] => target(namespace, plural, name, ""),
            ["namespaces", namespace, plural, name, part] => target(namespace, plural, name, part),
            [plural] => target("", plural, "", ""),
            [plural, name] => target("", plural, name, ""),
            [plural, name, part] => target("", plural, name, part),
            _ => Self::Unknown,
        }
    }
}

/// What a request about a target does; `None` for methods that mean nothing.
pub(crate) fn verb(method: &Method, target: &Target, query: &Query) -> Option<Verb> {
    let whole = target.name.is_empty();
    Some(match (method.as_str(), whole) {
        ("GET" | "HEAD", true) if query.flag("watch") => Verb::Watch,
        ("GET" | "HEAD", true) => Verb::List,
        ("GET" | "HEAD", false) => Verb::Get,
        ("POST", _) => Verb::Create,
        ("PUT", _) => Verb::Update,
        ("PATCH", _) => Verb::Patch,
        ("DELETE", true) => Verb::DeleteCollection,
        ("DELETE", false) => Verb::Delete,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str) -> Route {
        let segments: Vec<String> = path.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect();
        Route::parse(&segments)
    }

    #[test]
    fn paths_name_resources_objects_and_their_parts() {
        let cases = [
            ("/api/v1/pods", ["", "v1", "pods", "", "", ""]),
            ("/api/v1/namespaces", ["", "v1", "namespaces", "", "", ""]),
            ("/api/v1/namespaces/a", ["", "v1", "namespaces", "", "a", ""]),
            ("/api/v1/namespaces/a/finalize", ["", "v1", "namespaces", "", "a", "finalize"]),
            ("/api/v1/namespaces/a/pods", ["", "v1", "pods", "a", "", ""]),
            ("/api/v1/namespaces/a/pods/p/binding", ["", "v1", "pods", "a", "p", "binding"]),
            ("/apis/apps/v1/namespaces/a/replicasets/r", ["apps", "v1", "replicasets", "a", "r", ""]),
            ("/apis/ex.dev/v1/things/t/scale", ["ex.dev", "v1", "things", "", "t", "scale"]),
        ];
        for (path, [group, version, plural, namespace, name, subresource]) in cases {
            let target = Target {
                group: group.to_owned(),
                version: version.to_owned(),
                plural: plural.to_owned(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                subresource: subresource.to_owned(),
            };
            assert_eq!(route(path), Route::Resource(target), "{path}");
        }
    }

    #[test]
    fn other_documents_have_paths_of_their_own() {
        assert_eq!(route("/api"), Route::CoreVersions);
        assert_eq!(route("/apis/"), Route::Groups);
        assert_eq!(route("/apis/apps"), Route::Group("apps".to_owned()));
        assert_eq!(route("/openapi/v3"), Route::OpenApiIndex);
        assert_eq!(route("/readyz"), Route::Health);
        assert_eq!(route("/metrics"), Route::Unknown);
        assert_eq!(route("/"), Route::Unknown);
    }

    #[test]
    fn methods_are_verbs() {
        let all = Target { plural: "pods".to_owned(), ..Target::default() };
        let one = Target { name: "p".to_owned(), ..all.clone() };
        let none = Query::default();
        assert_eq!(verb(&Method::GET, &all, &Query::parse("watch=1")), Some(Verb::Watch));
        assert_eq!(verb(&Method::GET, &all, &Query::parse("watch=false")), Some(Verb::List));
        assert_eq!(verb(&Method::GET, &one, &Query::parse("watch=1")), Some(Verb::Get));
        assert_eq!(verb(&Method::DELETE, &all, &none), Some(Verb::DeleteCollection));
        assert_eq!(verb(&Method::DELETE, &one, &none), Some(Verb::Delete));
        assert_eq!(verb(&Method::OPTIONS, &one, &none), None);
    }
}
