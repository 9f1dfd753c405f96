//! The kinds that manifests may hold, and where the API server has their objects.

/// Whether objects of a kind live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// They do.
    Namespaced,
    /// They belong to the whole cluster.
    Cluster,
}

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The API group; empty for the core.
    pub group: &'static str,
    /// The version.
    pub version: &'static str,
    /// The kind, such as `Rollout`.
    pub kind: &'static str,
    /// Its plural in paths, such as `rollouts`.
    pub plural: &'static str,
    /// Whether its objects live in a namespace.
    pub scope: Scope,
    /// Its type in google.rpc.ResourceInfo.
    pub resource_type: &'static str,
}

const fn argo(kind: &'static str, plural: &'static str, scope: Scope, resource_type: &'static str) -> Kind {
    Kind { group: crate::crd::GROUP, version: crate::crd::VERSION, kind, plural, scope, resource_type }
}

const fn core(kind: &'static str, plural: &'static str, scope: Scope, resource_type: &'static str) -> Kind {
    Kind { group: "", version: "v1", kind, plural, scope, resource_type }
}

/// argoproj.io Rollout.
pub const ROLLOUT: Kind = argo("Rollout", "rollouts", Scope::Namespaced, "rolloutd.dev/Rollout");

/// core Namespace.
pub const NAMESPACE: Kind = core("Namespace", "namespaces", Scope::Cluster, "v1/Namespace");

/// core Service.
pub const SERVICE: Kind = core("Service", "services", Scope::Namespaced, "v1/Service");

/// apps Deployment, whose pod template a Rollout may take.
pub const DEPLOYMENT: Kind = Kind {
    group: "apps",
    version: "v1",
    kind: "Deployment",
    plural: "deployments",
    scope: Scope::Namespaced,
    resource_type: "apps/v1/Deployment",
};

/// core PodTemplate, which a Rollout may take.
pub const POD_TEMPLATE: Kind = core("PodTemplate", "podtemplates", Scope::Namespaced, "v1/PodTemplate");

/// All of them: what ApplyManifest takes.
pub const KINDS: [Kind; 9] = [
    ROLLOUT,
    argo("AnalysisRun", "analysisruns", Scope::Namespaced, "rolloutd.dev/AnalysisRun"),
    argo("AnalysisTemplate", "analysistemplates", Scope::Namespaced, "rolloutd.dev/AnalysisTemplate"),
    argo(
        "ClusterAnalysisTemplate",
        "clusteranalysistemplates",
        Scope::Cluster,
        "rolloutd.dev/ClusterAnalysisTemplate",
    ),
    argo("Experiment", "experiments", Scope::Namespaced, "rolloutd.dev/Experiment"),
    SERVICE,
    DEPLOYMENT,
    POD_TEMPLATE,
    NAMESPACE,
];

impl Kind {
    /// Group and version as objects carry them.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The plural with its group, as RBAC rules name resources.
    #[must_use]
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The path of the kind's collection; `namespace` is ignored for objects of the whole cluster.
    #[must_use]
    pub fn path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let api = self.api_version();
        match self.scope {
            Scope::Namespaced => format!("{root}/{api}/namespaces/{namespace}/{}", self.plural),
            Scope::Cluster => format!("{root}/{api}/{}", self.plural),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_knows_where_its_objects_are() {
        assert_eq!(ROLLOUT.path("shop"), "/apis/argoproj.io/v1alpha1/namespaces/shop/rollouts");
        assert_eq!(NAMESPACE.path("shop"), "/api/v1/namespaces");
        assert_eq!(
            (ROLLOUT.resource(), NAMESPACE.resource()),
            ("rollouts.argoproj.io".into(), "namespaces".into())
        );
    }
}
