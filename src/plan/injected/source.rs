//! Who puts something into pods, and whose word counts: what the strategy says stands above the template's own, and both above our
//! status label.
//!
//! A further source is a function here that gives [`Metadata`] for a [`Role`], and its place in [`wanted`].

use std::collections::BTreeMap;

use super::super::observed::Observed;
use super::super::revision::Revisions;
use super::metadata::{Kind, Metadata};
use super::record::is_reserved;
use crate::crd::{LabelSelector, PodTemplateMetadata, Strategy};
use crate::pod_template::is_environment;
use crate::validate::{Side, status_labels};

/// What a version is to those who look at its pods; those that lead first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::plan) enum Role {
    /// The stable version; of a blue-green rollout that which the active Service selects.
    Leading,
    /// The newest version, while it is not leading.
    Candidate,
    /// Any other.
    Former,
}

impl Role {
    /// Whose environment its pods have; those of former versions keep what they have.
    pub(super) fn side(self) -> Option<Side> {
        match self {
            Self::Leading => Some(Side::Stable),
            Self::Candidate => Some(Side::Canary),
            Self::Former => None,
        }
    }

    /// What the version with this hash is, by the status that was seen. As long as none leads, the newest does (as in the reference).
    pub(super) fn of(seen: &Observed, revisions: &Revisions<'_>, hash: &str) -> Self {
        let status = seen.rollout.status();
        let active = match seen.rollout.spec.strategy() {
            Ok(Strategy::BlueGreen(_)) => {
                status.blue_green.as_ref().and_then(|status| status.active_selector.as_deref())
            }
            _ => None,
        };
        let leading = active.filter(|hash| !hash.is_empty()).unwrap_or(status.stable_rs());
        match (hash == leading, hash == revisions.hash) {
            (true, _) => Self::Leading,
            (false, true) if leading.is_empty() => Self::Leading,
            (false, true) => Self::Candidate,
            (false, false) => Self::Former,
        }
    }
}

/// A ReplicaSet, as far as it matters what can be put into it.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) role: Role,
    /// What its template has itself.
    pub(super) own: &'a Metadata,
    pub(super) selector: &'a LabelSelector,
    /// The annotations of its environment.
    pub(super) environment: &'a BTreeMap<String, String>,
}

/// All that is to be put into a ReplicaSet's pods.
pub(super) fn wanted(seen: &Observed, target: Target<'_>) -> Metadata {
    let mut wanted = status_label(seen, target);
    if let Some(metadata) = ephemeral(seen, target.role) {
        wanted.extend(&Metadata::from(metadata));
    }
    // Its keys are nobody else's.
    wanted.annotations.retain(|key, _| !is_environment(key));
    wanted.annotations.extend(target.environment.clone());
    wanted.retain(|kind, key| !is_reserved(kind, key, target.selector));
    // What the template says itself need not be put in.
    let own = target.own;
    let differs = |kind: Kind, key: &str, wanted: &Metadata| own.get(kind, key) != wanted.get(kind, key);
    let given = wanted.clone();
    wanted.retain(|kind, key| differs(kind, key, &given));
    wanted
}

/// The metadata that the strategy has for pods of a role (contract A2, A3); former versions have none.
fn ephemeral(seen: &Observed, role: Role) -> Option<&PodTemplateMetadata> {
    let (leading, candidate) = of_strategy(seen);
    match role {
        Role::Leading => leading,
        Role::Candidate => candidate,
        Role::Former => None,
    }
}

/// The metadata of the leading and of the newest version.
fn of_strategy(seen: &Observed) -> (Option<&PodTemplateMetadata>, Option<&PodTemplateMetadata>) {
    match seen.rollout.spec.strategy() {
        Ok(Strategy::Canary(canary)) => (canary.stable_metadata.as_ref(), canary.canary_metadata.as_ref()),
        Ok(Strategy::BlueGreen(strategy)) => {
            (strategy.active_metadata.as_ref(), strategy.preview_metadata.as_ref())
        }
        Err(_) => (None, None),
    }
}

/// The status label: of two values, one for the leading version and one for every other, so that there is never a pod of a former
/// version that counts as stable. A label of this key that the template has itself stands.
fn status_label(seen: &Observed, target: Target<'_>) -> Metadata {
    let labels = &seen.settings.status_labels;
    if !has_status_label(seen) || target.own.has(Kind::Labels, &labels.key) {
        return Metadata::default();
    }
    let is_leading = target.role == Role::Leading;
    let value = match (seen.rollout.spec.strategy(), is_leading) {
        (Ok(Strategy::BlueGreen(_)), true) => &labels.active,
        (Ok(Strategy::BlueGreen(_)), false) => &labels.preview,
        (_, true) => &labels.stable,
        (_, false) => &labels.canary,
    };
    Metadata { labels: [(labels.key.clone(), value.clone())].into(), ..Metadata::default() }
}

/// Whether a value is one that a version may have been given, whatever it is to its rollout.
pub(super) fn could_give(seen: &Observed, kind: Kind, key: &str, value: &str) -> bool {
    let labels = &seen.settings.status_labels;
    let of_status = [&labels.canary, &labels.stable, &labels.preview, &labels.active];
    let is_status =
        kind == Kind::Labels && key == labels.key && of_status.iter().any(|status| *status == value);
    let (leading, candidate) = of_strategy(seen);
    let mut given = [leading, candidate].into_iter().flatten();
    is_status
        || given.any(|metadata| Metadata::from(metadata).get(kind, key).is_some_and(|given| given == value))
}

/// Whether pods carry the status label: the rollout's annotation says so, or else the server's flag.
pub(super) fn has_status_label(seen: &Observed) -> bool {
    let stated = status_labels(&seen.rollout.metadata).ok().flatten();
    stated.unwrap_or(seen.settings.status_labels.enabled)
}

/// Whether somebody else decides the status label's key: a template by `own`, or the strategy.
pub(super) fn is_anothers(seen: &Observed, own: &Metadata) -> bool {
    let key = &seen.settings.status_labels.key;
    let (leading, candidate) = of_strategy(seen);
    let mut given = [leading, candidate].into_iter().flatten();
    let has = |metadata: &PodTemplateMetadata| {
        metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(key))
    };
    own.has(Kind::Labels, key) || given.any(has)
}
