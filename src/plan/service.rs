//! The selectors of Services: which version each of them selects (contract A2, 4.1).
//!
//! A Service that the strategy names gets the hash of its version and is marked as managed; one that is marked and that the
//! strategy names no more gets its own selector back, so that a change of strategy does not leave it on an old version.

use serde_json::{Value, json};

use super::action::{ServiceAction, Write};
use super::event;
use super::observed::{Observed, ReplicaSet, Service};
use super::revision::Revisions;
use super::sizing::Sizing;
use super::stance::Stance;
use crate::crd::{CanaryStrategy, ServiceName, keys};
use crate::validate::{self, ServiceFacts, Violation};

/// The Services that the rollout's strategy names.
fn named(seen: &Observed) -> Vec<ServiceName<'_>> {
    seen.rollout.spec.strategy().map(crate::crd::Strategy::services).unwrap_or_default()
}

/// Services that the strategy names, that the cache does not show, and of which it is not known that there are none.
#[must_use]
pub(super) fn unknown(seen: &Observed) -> Vec<String> {
    let is_unknown = |name: &&str| seen.service(name).is_none() && !seen.absent_services.contains(*name);
    named(seen).into_iter().map(|named| named.name).filter(is_unknown).map(str::to_owned).collect()
}

/// What is wrong with the Services that the strategy names, each with its name.
#[must_use]
pub(super) fn violations(seen: &Observed) -> Vec<(String, Violation)> {
    let check = |named: ServiceName<'_>| {
        let found = seen.service(named.name);
        let facts = found.map(|service| ServiceFacts {
            selector: &service.selector,
            managed_by: service.managed_by.as_deref(),
        });
        let (name, violations) = (named.name.to_owned(), validate::service(&seen.rollout, named, facts));
        violations.into_iter().map(move |violation| (name.clone(), violation))
    };
    named(seen).into_iter().flat_map(check).collect()
}

/// What the Services of a canary without traffic routing are to select (contract A3), while its sets come to `sizing`.
#[must_use]
pub(super) fn of_canary(
    seen: &Observed,
    revisions: &Revisions<'_>,
    stance: &Stance,
    canary: &CanaryStrategy,
    sizing: &Sizing,
) -> Vec<ServiceAction> {
    if stance.fresh {
        return Vec::new();
    }
    let rollout = seen.rollout.metadata.name.as_deref();
    let point = |name: Option<&str>, set: Option<&ReplicaSet>| {
        let (service, set) = (seen.service(name?)?, set?);
        // One that selected pods of all versions until now is not left with a part of them.
        let least = if service.managed_by.as_deref() == rollout { 1 } else { set.replicas.max(1) };
        let can_serve = set.surely_available() >= least || service.hash() == set.hash();
        can_serve.then(|| select(seen, service, set.hash())).flatten()
    };
    let is_behind_the_steps = !stance.is_aborted() && stance.action(canary).is_none();
    let stable = match revisions.new_set().filter(|_| is_behind_the_steps) {
        Some(new) => larger(revisions.stable, new, sizing),
        None => revisions.stable,
    };
    let newest = if stance.is_aborted() { revisions.stable } else { revisions.new_set() };
    let stable = point(canary.stable_service.as_deref(), stable);
    stable.into_iter().chain(point(canary.canary_service.as_deref(), newest)).collect()
}

/// The set that the stable Service selects behind the last step: the stable set goes as the new one comes, and is gone before the new one
/// is stable. The Service follows where more pods are, so that it never selects none.
fn larger<'a>(
    stable: Option<&'a ReplicaSet>,
    new: &'a ReplicaSet,
    sizing: &Sizing,
) -> Option<&'a ReplicaSet> {
    let staying = stable?.surely_available().min(sizing.stable);
    if new.surely_available() > 0 && new.surely_available() >= staying { Some(new) } else { stable }
}

/// Has a Service select a version and say who manages it; `None` where it does. An empty hash leaves its selector alone.
#[must_use]
pub(super) fn select(seen: &Observed, service: &Service, hash: &str) -> Option<ServiceAction> {
    let rollout = seen.rollout.metadata.name.as_deref().unwrap_or_default();
    let is_so = service.hash() == hash && service.managed_by.as_deref() == Some(rollout);
    if is_so || hash.is_empty() || service.terminating {
        return None;
    }
    let patch = json!({
        "metadata": { "annotations": { (keys::MANAGED_BY_ROLLOUTS): rollout } },
        "spec": { "selector": { (keys::POD_TEMPLATE_HASH): hash } },
    });
    let switched = event::switch_service(&service.name, service.hash(), hash);
    let events = (service.hash() != hash).then_some(switched).into_iter().collect();
    Some(action(service, patch, events))
}

/// Gives the Services that the strategy names no more their own selectors back.
#[must_use]
pub(super) fn releases(seen: &Observed) -> Vec<ServiceAction> {
    let named = named(seen);
    let rollout = seen.rollout.metadata.name.as_deref();
    let services = seen.services.iter().map(AsRef::as_ref).filter(|service: &&Service| {
        service.managed_by.as_deref() == rollout
            && !service.terminating
            && !named.iter().any(|named| named.name == service.name)
    });
    services.map(release).collect()
}

/// Gives a Service its own selector back, and takes our mark off it.
#[must_use]
pub fn release(service: &Service) -> ServiceAction {
    let patch = json!({
        "metadata": { "annotations": { (keys::MANAGED_BY_ROLLOUTS): Value::Null } },
        "spec": { "selector": { (keys::POD_TEMPLATE_HASH): Value::Null } },
    });
    action(service, patch, Vec::new())
}

fn action(service: &Service, patch: Value, events: Vec<event::Event>) -> ServiceAction {
    ServiceAction { name: service.name.clone(), version: service.version(), write: Write { patch, events } }
}
