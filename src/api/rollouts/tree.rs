//! GetRolloutTree and ExplainRollout: a rollout with everything below it, and what it waits for, from this process's own observation.

use jiff::Timestamp;

use super::super::Context;
use super::super::convert::{Record, timestamp};
use super::super::error::Error;
use super::super::kind::ROLLOUT;
use super::super::name;
use super::{Rollouts, summary};
use crate::crd::{self, ObjectRef, Rollout, RolloutTrafficRouting, Strategy, WorkloadName};
use crate::pb::v1;
use crate::plan::revision::{self, Revisions};
use crate::plan::stance::Stance;
use crate::plan::{self, BlockerReason, Object, Observed, Plan, ReplicaSet};
use crate::store::Key;
use v1::blocker::Reason;
use v1::replica_set_summary::Role;

/// A tree, and when time alone will change it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Snapshot {
    pub tree: v1::RolloutTree,
    pub wake_at: Option<Timestamp>,
}

impl Rollouts {
    /// GetRolloutTree.
    pub(super) fn tree(
        &self,
        request: &v1::GetRolloutTreeRequest,
    ) -> Result<v1::GetRolloutTreeResponse, Error> {
        Ok(v1::GetRolloutTreeResponse { tree: Some(self.seen(&request.name)?) })
    }

    /// ExplainRollout.
    pub(super) fn explain(
        &self,
        request: &v1::ExplainRolloutRequest,
    ) -> Result<v1::ExplainRolloutResponse, Error> {
        let tree = self.seen(&request.name)?;
        let status = tree.rollout.and_then(|rollout| rollout.status).unwrap_or_default();
        let (state, message) = (status.state, status.message);
        Ok(v1::ExplainRolloutResponse { state, message, blockers: tree.blockers })
    }

    fn seen(&self, name: &str) -> Result<v1::RolloutTree, Error> {
        let key = name::rollout(name, "name")?;
        self.context.require_ready()?;
        let snapshot = snapshot(&self.context, &key);
        let snapshot = snapshot.ok_or_else(|| Error::not_found(ROLLOUT.named(&key.namespace, &key.name)))?;
        Ok(snapshot.tree)
    }
}

/// The tree of a rollout as the caches have it; `None` when there is no such rollout.
pub(super) fn snapshot(context: &Context, key: &Key) -> Option<Snapshot> {
    let record = context.store.rollouts.get(key)?;
    let shown = Record::from(&*record).show(v1::View::Basic);
    let Some(seen) = context.store.observe_with_pods(key) else {
        // It cannot be decoded: what belongs to it is not known either.
        let message = shown.status.as_ref().map(|status| status.message.clone()).unwrap_or_default();
        let blockers = vec![malformed(key, message)];
        return Some(Snapshot {
            tree: v1::RolloutTree { rollout: Some(shown), blockers, ..Default::default() },
            wake_at: None,
        });
    };
    let plan = plan::plan(&seen, context.clock.now());
    let revisions = revision::classify(&seen).ok();
    let (desired_weight, actual_weight) = weights(&seen, revisions.as_ref());
    let tree = v1::RolloutTree {
        rollout: Some(shown),
        steps: steps(&seen.rollout),
        revisions: revision_trees(context, &seen, revisions.as_ref()),
        blockers: blockers(context, key, &seen, &plan),
        desired_weight,
        actual_weight,
        services: services(&seen),
        pod_labelling: plan.labelling.as_ref().map(pod_labelling),
        workload: workload(&seen),
    };
    Some(Snapshot { tree, wake_at: plan.wake_at })
}

fn steps(rollout: &Rollout) -> Vec<v1::StepSummary> {
    let Ok(Strategy::Canary(canary)) = rollout.spec.strategy() else { return Vec::new() };
    let steps = canary.steps().iter().zip(0..);
    steps.map(|(step, index)| v1::StepSummary { index, description: plan::step::describe(step) }).collect()
}

/// Newest first.
fn revision_trees(
    context: &Context,
    seen: &Observed,
    revisions: Option<&Revisions<'_>>,
) -> Vec<v1::RevisionTree> {
    let mut sets: Vec<&ReplicaSet> = seen.sets.iter().map(AsRef::as_ref).collect();
    sets.sort_by_key(|set| std::cmp::Reverse((set.revision(), set.created)));
    let tree = |set: &ReplicaSet| {
        let mut pods = context.store.pods.controlled_by(&set.uid);
        pods.sort_by_key(|pod| pod.created);
        let pods = pods.iter().map(|pod| summary::pod(pod)).collect();
        v1::RevisionTree {
            revision: set.revision(),
            replica_set: Some(summary::replica_set(set, role(seen, revisions, set), pods)),
            analysis_runs: Vec::new(),
            experiments: Vec::new(),
        }
    };
    sets.into_iter().map(tree).collect()
}

/// What a ReplicaSet is to its rollout.
pub(super) fn role(seen: &Observed, revisions: Option<&Revisions<'_>>, set: &ReplicaSet) -> Role {
    let status = seen.rollout.status();
    let new_hash = revisions.map_or(status.current_pod_hash(), |revisions| &revisions.hash);
    let is_new = set.hash() == new_hash;
    let is_stable = !status.stable_rs().is_empty() && set.hash() == status.stable_rs();
    match seen.rollout.spec.strategy() {
        Ok(Strategy::BlueGreen(_)) => {
            let active = status.blue_green.as_ref().and_then(|status| status.active_selector.as_deref());
            match (active == Some(set.hash()), is_new, is_stable) {
                (true, ..) => Role::Active,
                (false, true, _) => Role::Preview,
                (false, false, true) => Role::Stable,
                (false, false, false) => Role::Old,
            }
        }
        _ if is_stable => Role::Stable,
        _ if is_new => Role::Canary,
        _ => Role::Old,
    }
}

/// The share that the new version ought to have, and the share that it has, in percent.
pub(super) fn weights(seen: &Observed, revisions: Option<&Revisions<'_>>) -> (i32, i32) {
    const ALL: i32 = 100;
    let Some(revisions) = revisions else { return (0, 0) };
    let status = seen.rollout.status();
    match seen.rollout.spec.strategy() {
        Ok(Strategy::Canary(canary)) => {
            let most = canary.traffic_routing.as_ref().map_or(ALL, RolloutTrafficRouting::max_traffic_weight);
            let percent = |weight: i32| share(i64::from(weight), i64::from(most));
            let desired = percent(Stance::seen(seen, revisions).weight(revisions, canary).min(most));
            let routed = status.canary.as_ref().and_then(|status| status.weights.as_ref());
            let actual = match routed {
                Some(weights) => percent(weights.canary.weight),
                None => available_share(seen, revisions),
            };
            (desired, actual)
        }
        Ok(Strategy::BlueGreen(_)) => {
            let active = status.blue_green.as_ref().and_then(|status| status.active_selector.as_deref());
            let actual = if active == Some(&revisions.hash) { ALL } else { 0 };
            let paused =
                !status.pause_conditions().is_empty() || seen.rollout.spec.paused() || status.abort();
            (if paused { actual } else { ALL }, actual)
        }
        Err(_) => (0, available_share(seen, revisions)),
    }
}

fn available_share(seen: &Observed, revisions: &Revisions<'_>) -> i32 {
    let available = |set: &ReplicaSet| i64::from(set.status.available);
    let all: i64 = seen.sets.iter().map(|set| available(set)).sum();
    share(revisions.new_set().map_or(0, available), all)
}

/// A part in percent, rounded to the nearest; of nothing, nothing.
fn share(part: i64, whole: i64) -> i32 {
    if whole <= 0 {
        return 0;
    }
    i32::try_from((part * 200 + whole) / (whole * 2)).unwrap_or(i32::MAX)
}

/// The Services that the spec names, and which versions they select.
pub(super) fn services(seen: &Observed) -> Vec<v1::ServiceSummary> {
    let rollout = &seen.rollout;
    let status = rollout.status();
    let service = |name: Option<&str>, role: &str, hash: Option<&str>| {
        let name = name.filter(|name| !name.is_empty())?;
        let hash = hash.unwrap_or_default();
        Some(v1::ServiceSummary {
            name: name.to_owned(),
            role: role.to_owned(),
            pod_template_hash: hash.to_owned(),
        })
    };
    let selected = |name: Option<&str>| seen.service(name?).map(plan::Service::hash);
    let services = match rollout.spec.strategy() {
        Ok(Strategy::Canary(canary)) => {
            let weights = status.canary.as_ref().and_then(|status| status.weights.as_ref());
            let (canary, stable) = (canary.canary_service.as_deref(), canary.stable_service.as_deref());
            // Where a router sends traffic stands in the status, wherever its Services are.
            let hash = |name, destination: fn(&crd::TrafficWeights) -> &crd::WeightDestination| {
                let weighted = weights.and_then(|weights| destination(weights).pod_template_hash.as_deref());
                weighted.or_else(|| selected(name))
            };
            [
                service(canary, "canary", hash(canary, |weights| &weights.canary)),
                service(stable, "stable", hash(stable, |weights| &weights.stable)),
            ]
        }
        Ok(Strategy::BlueGreen(spec)) => {
            let (active, preview) = (Some(spec.active_service.as_str()), spec.preview_service.as_deref());
            [service(active, "active", selected(active)), service(preview, "preview", selected(preview))]
        }
        Err(_) => [None, None],
    };
    services.into_iter().flatten().collect()
}

fn pod_labelling(labelling: &plan::Labelling) -> v1::PodLabelling {
    let label = labelling.status_label.as_ref();
    v1::PodLabelling {
        pods: labelling.pods,
        labelled_pods: labelling.pods - labelling.lacking,
        status_label: label.map(|label| label.key.clone()).unwrap_or_default(),
        status_label_is_own: label.is_some_and(|label| label.is_anothers),
    }
}

/// The workload that the spec refers to.
fn workload(seen: &Observed) -> Option<v1::WorkloadSummary> {
    let WorkloadName { kind, name } =
        seen.rollout.spec.workload_ref.as_ref().and_then(ObjectRef::workload)?;
    let found = seen.workload.as_deref();
    let observed = seen.rollout.status().workload_observed_generation();
    Some(v1::WorkloadSummary {
        api_version: kind.api_version().to_owned(),
        kind: kind.as_str().to_owned(),
        name,
        exists: found.is_some(),
        generation: found.map_or(0, |workload| workload.generation),
        observed_generation: observed.unwrap_or(0),
        replicas: found.map_or(0, |workload| workload.replicas),
    })
}

fn blockers(context: &Context, key: &Key, seen: &Observed, plan: &Plan) -> Vec<v1::Blocker> {
    let mut blockers: Vec<v1::Blocker> = plan.blockers.iter().map(|blocker| show(key, blocker)).collect();
    let is_left_alone = plan.blockers.iter().any(|blocker| blocker.reason == BlockerReason::UnsupportedField);
    let is_observed = revision::is_seen(seen);
    if !is_observed && !is_left_alone {
        blockers.insert(0, not_observed(key, &seen.rollout));
    }
    let is_at_rest = is_observed && blockers.is_empty();
    if !is_at_rest && context.leadership.borrow().holder.is_none() {
        blockers.insert(0, no_leader(key));
    }
    blockers
}

/// A blocker of a plan for a rollout.
pub(super) fn show(key: &Key, blocker: &plan::Blocker) -> v1::Blocker {
    let object = match &blocker.object {
        Object::Rollout => rollout_object(key),
        Object::ReplicaSet(name) => object("apps/v1", "ReplicaSet", &key.namespace, name),
        Object::Service(name) => object("v1", "Service", &key.namespace, name),
        Object::Pod(name) => object("v1", "Pod", &key.namespace, name),
        Object::Workload(WorkloadName { kind, name }) => {
            object(kind.api_version(), kind.as_str(), &key.namespace, name)
        }
    };
    let reason = match blocker.reason {
        BlockerReason::PauseStep => Reason::PauseStep,
        BlockerReason::PausedBySpec => Reason::PausedBySpec,
        BlockerReason::PodsNotAvailable => Reason::PodsNotAvailable,
        BlockerReason::PodsNotGone => Reason::PodsNotGone,
        BlockerReason::Aborted => Reason::Aborted,
        BlockerReason::ProgressDeadlineExceeded => Reason::ProgressDeadlineExceeded,
        BlockerReason::InvalidSpec => Reason::InvalidSpec,
        BlockerReason::UnsupportedField => Reason::UnsupportedField,
        BlockerReason::ReplicaFailure => Reason::ReplicaFailure,
        BlockerReason::WriteRefused => Reason::WriteRefused,
        BlockerReason::MalformedObject => Reason::MalformedObject,
        BlockerReason::Scaling => Reason::Scaling,
        BlockerReason::BlueGreenPause => Reason::BlueGreenPause,
        BlockerReason::ServiceSwitch => Reason::ServiceSwitch,
        BlockerReason::Restarting => Reason::Restarting,
        BlockerReason::PodFailing => Reason::PodFailing,
        BlockerReason::ServiceMissing => Reason::ServiceMissing,
        BlockerReason::WorkloadMissing => Reason::WorkloadMissing,
        BlockerReason::PermissionMissing => Reason::PermissionMissing,
        BlockerReason::Relabelling => Reason::Relabelling,
        BlockerReason::EnvironmentTakenBack => Reason::EnvironmentTakenBack,
        BlockerReason::StepPlugin => Reason::StepPlugin,
        BlockerReason::PluginUnusable => Reason::PluginUnusable,
    };
    v1::Blocker {
        reason: reason.into(),
        object: Some(object),
        condition: blocker.condition.clone(),
        since_time: blocker.since.map(timestamp),
        message: blocker.message.clone(),
        next: blocker.next.clone(),
        next_time: blocker.next_at.map(timestamp),
    }
}

fn not_observed(key: &Key, rollout: &Rollout) -> v1::Blocker {
    let generation = rollout.metadata.generation.unwrap_or(0);
    let observed = rollout.status().observed_generation.as_deref().unwrap_or("0");
    v1::Blocker {
        reason: Reason::NotObserved.into(),
        object: Some(rollout_object(key)),
        condition: format!("status.observedGeneration {observed}/{generation}"),
        message: "no controller has seen the newest spec yet".to_owned(),
        next: "a controller acts on it".to_owned(),
        ..Default::default()
    }
}

fn no_leader(key: &Key) -> v1::Blocker {
    v1::Blocker {
        reason: Reason::NoLeader.into(),
        object: Some(rollout_object(key)),
        condition: "a leader holds the Lease".to_owned(),
        message: "no controller leads at this moment, so that nothing moves".to_owned(),
        next: "a controller takes the Lease".to_owned(),
        ..Default::default()
    }
}

fn malformed(key: &Key, message: String) -> v1::Blocker {
    v1::Blocker {
        reason: Reason::MalformedObject.into(),
        object: Some(rollout_object(key)),
        condition: "the stored object can be decoded".to_owned(),
        message,
        next: "nothing moves until it is mended".to_owned(),
        ..Default::default()
    }
}

fn rollout_object(key: &Key) -> v1::ObjectReference {
    object(crd::API_VERSION, crd::KIND, &key.namespace, &key.name)
}

fn object(api_version: &str, kind: &str, namespace: &str, name: &str) -> v1::ObjectReference {
    v1::ObjectReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_to_the_nearest_percent() {
        for (part, whole, percent) in
            [(0, 0, 0), (1, 3, 33), (2, 3, 67), (1, 1, 100), (1, 200, 1), (5, -1, 0)]
        {
            assert_eq!(share(part, whole), percent, "{part}/{whole}");
        }
    }
}
