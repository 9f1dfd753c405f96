//! Names of objects.

use std::fmt;

use kube::ResourceExt;

use crate::crd::{WorkloadKind, WorkloadName};
use crate::plan;

/// The namespace and name of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace; empty for objects of the whole cluster.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// A key from its parts.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    #[must_use]
    pub fn of(object: &impl ResourceExt) -> Self {
        Self::new(object.namespace().unwrap_or_default(), object.name_any())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An object that is written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectId {
    /// A Rollout.
    Rollout(Key),
    /// A ReplicaSet.
    ReplicaSet(Key),
    /// A Service.
    Service(Key),
    /// A pod.
    Pod(Key),
    /// A workload that a rollout refers to.
    Workload(WorkloadKind, Key),
}

impl ObjectId {
    /// The object's namespace and name.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Rollout(key)
            | Self::ReplicaSet(key)
            | Self::Service(key)
            | Self::Pod(key)
            | Self::Workload(_, key) => key,
        }
    }
}

impl From<&ObjectId> for plan::Object {
    fn from(object: &ObjectId) -> Self {
        let name = object.key().name.clone();
        match object {
            ObjectId::Rollout(_) => Self::Rollout,
            ObjectId::ReplicaSet(_) => Self::ReplicaSet(name),
            ObjectId::Service(_) => Self::Service(name),
            ObjectId::Pod(_) => Self::Pod(name),
            ObjectId::Workload(kind, _) => Self::Workload(WorkloadName { kind: *kind, name }),
        }
    }
}

/// Whether version `a` of an object is `b` or newer. Kubernetes compares resource versions as numbers; where one is none, only
/// equality tells.
#[must_use]
pub(super) fn is_at_least(a: &str, b: &str) -> bool {
    match (a.parse::<u128>(), b.parse::<u128>()) {
        (Ok(a), Ok(b)) => a >= b,
        _ => a == b,
    }
}
