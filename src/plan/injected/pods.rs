//! Live pods: they follow the template of their ReplicaSet in what was put into that, and in nothing else.
//!
//! What a pod must have is read from its set alone, so that whoever comes after a crash goes on with it.

use std::cmp::Reverse;

use serde_json::Value;

use super::super::action::PodAction;
use super::super::observed::{Observed, Pod, ReplicaSet};
use super::super::revision::Revisions;
use super::metadata::{Kind, Metadata, MetadataPatch};
use super::record::Record;
use super::source::Role;

/// How many pods of a set one plan changes at most: as many as are written before the next plan.
const MOST_OF_A_SET: usize = 20;

/// What live pods of a ReplicaSet must have: under every key that was put into its template, what that has there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    values: Vec<(Kind, String, Option<String>)>,
    withdraws: bool,
}

impl Wanted {
    /// What pods of a set must have; `None` where nothing was put into it.
    #[must_use]
    pub fn of(set: &ReplicaSet) -> Option<Self> {
        let record = Record::of(set);
        if record.is_empty() {
            return None;
        }
        let template = Metadata::of_template(&set.template);
        let value = |(kind, key): (Kind, &str)| (kind, key.to_owned(), template.get(kind, key).cloned());
        let values = record.injected.keys().chain(record.withdrawn.keys()).map(value).collect();
        Some(Self { values, withdraws: !record.withdrawn.is_empty() })
    }

    /// Whether all live pods of the set have it. As long as they lose something, only once all pods that the set has are among them, and
    /// its controller knows of the template without it: until then the set must remember what that was.
    pub fn is_met_by<'a>(&self, set: &ReplicaSet, pods: impl Iterator<Item = &'a Metadata>) -> bool {
        let (mut count, mut all) = (0_i32, true);
        for pod in pods {
            count = count.saturating_add(1);
            all &= self.values.iter().all(|(kind, key, value)| pod.get(*kind, key) == value.as_ref());
        }
        all && (!self.withdraws || (set.is_observed() && count == set.status.replicas))
    }

    /// The JSON merge patch by which a pod comes to have all of it; `None` when it has.
    #[must_use]
    pub fn patch(&self, pod: &Metadata) -> Option<Value> {
        let mut patch = MetadataPatch::default();
        let differing = self.values.iter().filter(|(kind, key, value)| pod.get(*kind, key) != value.as_ref());
        for (kind, key, value) in differing {
            patch.set(*kind, key, value.as_ref());
        }
        patch.finish()
    }
}

/// Live pods of a set that were seen and that lack something.
pub(super) fn lacking<'a>(seen: &'a Observed, set: &'a ReplicaSet) -> impl Iterator<Item = (&'a Pod, Value)> {
    let wanted = if seen.labels_settled { None } else { Wanted::of(set) };
    let pods = wanted.map(|wanted| {
        let live = seen.pods.iter().filter(move |pod| pod.set == set.uid && !pod.terminating);
        live.filter_map(move |pod| Some((pod, wanted.patch(&pod.marks)?)))
    });
    pods.into_iter().flatten()
}

/// The next pods to change: those of former versions first, before they leave; those of the leading version last, so that at no time
/// more pods count as its than are.
pub(super) fn actions(seen: &Observed, revisions: &Revisions<'_>) -> Vec<PodAction> {
    if seen.labels_settled {
        return Vec::new();
    }
    let mut sets: Vec<&ReplicaSet> = revisions.all().collect();
    sets.sort_by_key(|set| Reverse(Role::of(seen, revisions, set.hash())));
    let actions = sets.into_iter().flat_map(|set| {
        let mut pods: Vec<_> = lacking(seen, set).collect();
        // Pods that refuse it keep no others from it.
        pods.sort_by_key(|(pod, _)| (seen.unlabelled.contains(&pod.uid), pod.created, &pod.name));
        pods.into_iter().take(MOST_OF_A_SET).map(move |(pod, patch)| PodAction {
            pod: pod.name.clone(),
            set: set.name.clone(),
            version: pod.version(),
            patch,
        })
    });
    actions.collect()
}
