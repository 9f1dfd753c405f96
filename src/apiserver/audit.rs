//! Who asked for what, how often: counted, for tests of how many requests something costs.
//!
//! Depends on nothing of the server. [`super::server`] counts each answered request; anybody may take a snapshot and
//! compare two of them.

use std::collections::BTreeMap;
use std::fmt;

use super::status::GroupResource;

/// What a request did, named as Kubernetes audit names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// One object, or a document that is no object.
    Get,
    /// The objects of a resource.
    List,
    /// Changes of the objects of a resource.
    Watch,
    /// A new object (POST).
    Create,
    /// A whole object (PUT).
    Update,
    /// A part of an object (PATCH).
    Patch,
    /// One object.
    Delete,
    /// The objects of a resource.
    DeleteCollection,
}

impl Verb {
    /// The verb in Kubernetes' spelling.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// Whether the verb changes objects.
    #[must_use]
    pub fn is_write(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a request was to be carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Carried out.
    #[default]
    Real,
    /// Asked with `dryRun=All`: nothing is written.
    DryRun,
}

/// Outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CodeClass {
    /// 2xx.
    Success,
    /// 4xx.
    ClientError,
    /// 5xx.
    ServerError,
}

impl CodeClass {
    /// The class of an HTTP status code.
    #[must_use]
    pub fn of(code: u16) -> Self {
        match code {
            0..=399 => Self::Success,
            400..=499 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

/// What requests are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuditKey {
    /// User-Agent header, whole.
    pub user_agent: String,
    /// What was asked.
    pub verb: Verb,
    /// The resource; `None` for discovery, health and the like.
    pub resource: Option<GroupResource>,
    /// `status`, `scale`, …; empty for the object itself.
    pub subresource: String,
    /// Dry runs are counted apart.
    pub effect: Effect,
    /// Outcome.
    pub class: CodeClass,
}

impl fmt::Display for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.user_agent, self.verb)?;
        if let Some(resource) = &self.resource {
            write!(f, " {resource}")?;
        }
        if !self.subresource.is_empty() {
            write!(f, "/{}", self.subresource)?;
        }
        if self.effect == Effect::DryRun {
            f.write_str(" (dry run)")?;
        }
        write!(f, " {:?}", self.class)
    }
}

/// Counts of requests at one moment, or between two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    counts: BTreeMap<AuditKey, u64>,
}

impl Audit {
    /// Each key with its count, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&AuditKey, u64)> {
        self.counts.iter().map(|(key, count)| (key, *count))
    }

    /// How many requests satisfy `which`.
    pub fn count(&self, which: impl Fn(&AuditKey) -> bool) -> u64 {
        self.iter().filter(|(key, _)| which(key)).map(|(_, count)| count).sum()
    }

    /// What was counted after `earlier` was taken.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let newer = self.counts.iter().filter_map(|(key, count)| {
            let added = count - earlier.counts.get(key).copied().unwrap_or(0).min(*count);
            (added > 0).then(|| (key.clone(), added))
        });
        Self { counts: newer.collect() }
    }

    pub(crate) fn record(&mut self, key: AuditKey) {
        *self.counts.entry(key).or_default() += 1;
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(key, count)| writeln!(f, "{count:6}  {key}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(verb: Verb, resource: &str, code: u16) -> AuditKey {
        AuditKey {
            user_agent: "rolloutd/worker".to_owned(),
            verb,
            resource: Some(GroupResource::new("apps", resource)),
            subresource: String::new(),
            effect: Effect::Real,
            class: CodeClass::of(code),
        }
    }

    #[test]
    fn the_difference_of_two_snapshots_is_what_happened_between() {
        let mut audit = Audit::default();
        audit.record(key(Verb::Patch, "replicasets", 200));
        let earlier = audit.clone();
        audit.record(key(Verb::Patch, "replicasets", 200));
        audit.record(key(Verb::Patch, "replicasets", 409));
        let between = audit.since(&earlier);
        assert_eq!(between.count(|_| true), 2);
        assert_eq!(between.count(|key| key.class == CodeClass::Success), 1);
        assert_eq!(audit.count(|key| key.verb.is_write()), 3);
        assert_eq!(audit.since(&audit), Audit::default());
    }

    #[test]
    fn counts_print_one_line_a_key() {
        let mut audit = Audit::default();
        audit.record(key(Verb::Create, "replicasets", 201));
        assert_eq!(audit.to_string(), "     1  rolloutd/worker create replicasets.apps Success\n");
    }
}
