//! Kubernetes' resourceVersion as the number that clients may compare.

use std::fmt;

use kube::ResourceExt;

/// A moment in the history of a cluster: all objects of a kind share one sequence of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceVersion(u128);

impl ResourceVersion {
    /// Reads a version; `None` when it is no number, which no API server of the Kubernetes project sends.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self)
    }

    /// The version of an object.
    #[must_use]
    pub fn of(object: &impl ResourceExt) -> Option<Self> {
        Self::parse(object.meta().resource_version.as_deref()?)
    }
}

impl fmt::Display for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
