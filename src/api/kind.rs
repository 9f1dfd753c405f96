//! How errors name objects of the kinds that are read and written.

use super::error::Resource;
pub(super) use crate::manifest::kind::{DEPLOYMENT, Kind, NAMESPACE, POD_TEMPLATE, ROLLOUT, SERVICE, Scope};

/// apps ControllerRevision.
pub(super) const CONTROLLER_REVISION: Kind = Kind {
    group: "apps",
    version: "v1",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    scope: Scope::Namespaced,
    resource_type: "apps/v1/ControllerRevision",
};

/// apps ReplicaSet.
pub(super) const REPLICA_SET: Kind = Kind {
    group: "apps",
    version: "v1",
    kind: "ReplicaSet",
    plural: "replicasets",
    scope: Scope::Namespaced,
    resource_type: "apps/v1/ReplicaSet",
};

impl Kind {
    /// An object of the kind, as errors name it.
    pub(super) fn named(&self, namespace: &str, name: &str) -> Resource {
        let name = match self.scope {
            Scope::Namespaced => format!("namespaces/{namespace}/{}/{name}", self.plural),
            Scope::Cluster => format!("{}/{name}", self.plural),
        };
        Resource { kind: self.resource_type, name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_as_resources() {
        assert_eq!(ROLLOUT.named("shop", "web").name, "namespaces/shop/rollouts/web");
        assert_eq!(NAMESPACE.named("", "shop").name, "namespaces/shop");
    }
}
