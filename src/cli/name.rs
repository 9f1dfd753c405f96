//! Names on the command line: rollouts, images, and where the server is.
//!
//! Only their form is looked at; the server decides what is valid.

use std::fmt;
use std::str::FromStr;

/// A rollout as somebody names it: `web`, `shop/web`, or in full `namespaces/shop/rollouts/web`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    namespace: Option<String>,
    rollout: String,
}

impl Name {
    /// `namespaces/{namespace}/rollouts/{rollout}`; a namespace in the name itself goes first.
    pub(super) fn full(&self, namespace: &str) -> String {
        let namespace = self.namespace.as_deref().unwrap_or(namespace);
        format!("namespaces/{namespace}/rollouts/{}", self.rollout)
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let segments: Vec<&str> = text.split('/').collect();
        let (namespace, rollout) = match segments.as_slice() {
            [rollout] => (None, *rollout),
            [namespace, rollout] | ["namespaces", namespace, "rollouts", rollout] => {
                (Some(*namespace), *rollout)
            }
            _ => return Err("give NAME or NAMESPACE/NAME".to_owned()),
        };
        if rollout.is_empty() || namespace.is_some_and(str::is_empty) {
            return Err("give NAME or NAMESPACE/NAME; neither may be empty".to_owned());
        }
        Ok(Self { namespace: namespace.map(str::to_owned), rollout: rollout.to_owned() })
    }
}

/// `CONTAINER=IMAGE`; the container `*` is every one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ContainerImage {
    pub(super) container: String,
    pub(super) image: String,
}

impl FromStr for ContainerImage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((container, image)) if !container.is_empty() && !image.is_empty() => {
                Ok(Self { container: container.to_owned(), image: image.to_owned() })
            }
            _ => Err("give CONTAINER=IMAGE".to_owned()),
        }
    }
}

/// Where the server is: `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address(String);

impl Address {
    /// What `rolloutd` listens on by default.
    pub(super) const DEFAULT: &str = "http://127.0.0.1:50051";
}

impl FromStr for Address {
    type Err = String;

    /// Takes a URL, or `host:port`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim_end_matches('/');
        let url = match text.split_once("://") {
            Some(("http", _)) => text.to_owned(),
            Some((scheme, _)) => {
                return Err(format!("{scheme}:// is not spoken here, only http:// (plaintext)"));
            }
            None => format!("http://{text}"),
        };
        let uri: http::Uri = url.parse().map_err(|_| format!("{text:?} is no address; give host:port"))?;
        match (uri.port_u16(), uri.path()) {
            (None, _) => Err(format!("{text:?} names no port; give host:port")),
            (Some(_), "/") => Ok(Self(url)),
            (Some(_), path) => {
                Err(format!("a path ({path}) has no meaning in a server's address; give host:port"))
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollouts_are_named_with_and_without_a_namespace() {
        for (text, full) in [
            ("web", "namespaces/default/rollouts/web"),
            ("shop/web", "namespaces/shop/rollouts/web"),
            ("namespaces/shop/rollouts/web", "namespaces/shop/rollouts/web"),
        ] {
            assert_eq!(text.parse::<Name>().unwrap().full("default"), full);
        }
    }

    #[test]
    fn a_name_of_another_form_is_refused() {
        for text in ["", "/web", "shop/", "a/b/c", "namespaces/shop/pods/web"] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_image_may_hold_an_equals_sign_and_a_container_must_be_named() {
        let image: ContainerImage = "web=shop/web:v2=x".parse().unwrap();
        assert_eq!((image.container.as_str(), image.image.as_str()), ("web", "shop/web:v2=x"));
        for text in ["web", "=image", "web="] {
            assert!(text.parse::<ContainerImage>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_is_an_address_with_a_port_with_or_without_a_scheme() {
        for (text, url) in [
            ("127.0.0.1:50051", "http://127.0.0.1:50051"),
            ("http://rolloutd.shop:80/", "http://rolloutd.shop:80"),
            ("[::1]:50051", "http://[::1]:50051"),
            (Address::DEFAULT, Address::DEFAULT),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), url);
        }
        for text in ["", "localhost", "https://localhost:1", "http://localhost:1/api", "a b:1"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
