//! The methods that are served, by their paths: metrics have no other names, whatever callers ask for.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message as _;
use prost_types::FileDescriptorSet;

/// Whether a method answers once or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// It answers once.
    Unary,
    /// It streams its answers.
    Streaming,
}

/// A method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Method {
    /// Its service, such as `rolloutd.v1.RolloutService`.
    pub service: Arc<str>,
    /// Its name, such as `GetRollout`.
    pub name: Arc<str>,
    /// How it answers.
    pub shape: Shape,
}

/// All methods.
#[derive(Clone, Debug)]
pub(super) struct Methods {
    by_path: HashMap<String, Method>,
    unknown: Method,
}

impl Methods {
    /// The methods of encoded descriptor sets. One that cannot be decoded has none.
    pub(super) fn of(descriptors: &[&[u8]]) -> Self {
        let sets = descriptors.iter().filter_map(|encoded| FileDescriptorSet::decode(*encoded).ok());
        let files = sets.flat_map(|set| set.file);
        let by_path = files.flat_map(|file| {
            let package = file.package().to_owned();
            file.service.into_iter().flat_map(move |service| {
                let name: Arc<str> = format!("{package}.{}", service.name()).into();
                service.method.into_iter().map(move |method| {
                    let shape = if method.server_streaming() { Shape::Streaming } else { Shape::Unary };
                    let path = format!("/{name}/{}", method.name());
                    (path, Method { service: Arc::clone(&name), name: method.name().into(), shape })
                })
            })
        });
        let unknown = Method { service: "unknown".into(), name: "unknown".into(), shape: Shape::Unary };
        Self { by_path: by_path.collect(), unknown }
    }

    /// The method with this path; `unknown` when there is none.
    pub(super) fn find(&self, path: &str) -> Method {
        self.by_path.get(path).unwrap_or(&self.unknown).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_known_by_their_path_and_shape() {
        let methods = Methods::of(&[crate::pb::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET]);
        let get = methods.find("/rolloutd.v1.RolloutService/GetRollout");
        assert_eq!(
            (&*get.service, &*get.name, get.shape),
            ("rolloutd.v1.RolloutService", "GetRollout", Shape::Unary)
        );
        for path in ["/rolloutd.v1.RolloutService/WatchRollouts", "/grpc.health.v1.Health/Watch"] {
            assert_eq!(methods.find(path).shape, Shape::Streaming, "{path}");
        }
        assert_eq!(&*methods.find("/a/../../b").name, "unknown");
    }
}
