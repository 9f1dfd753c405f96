//! The disruption controller: how many pods each PodDisruptionBudget can do without now.
//!
//! Depends on the watch caches of budgets, pods and ReplicaSets. [`counted`] is pure; the eviction API takes from
//! what it gives. The rules are those of `pkg/controller/disruption` of Kubernetes, for pods of ReplicaSets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Client;
use kube::api::{Api, PostParams};
use kube::core::{Selector, SelectorExt as _};

use super::cache::{Cache, Change, Key};
use super::pod;
use super::queue::{Controller, Next, Queue};
use super::request::{Refusal, SyncError};
use crate::clock::Clock;

/// Changes of pods wait this long for company: pods that become ready together give one status.
const SETTLE: Duration = Duration::from_millis(30);
/// An eviction that is not followed by a deletion is given back after this (`DeletionTimeout`).
const DELETION_TIMEOUT: Duration = Duration::from_secs(120);
/// The one condition of a budget.
const ALLOWED: &str = "DisruptionAllowed";

/// Counts for budgets.
pub(super) struct Disruptions {
    context: Context,
    queue: Queue<Key>,
}

/// What the controller works with.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) clock: Clock,
    pub(super) budgets: Arc<Cache<PodDisruptionBudget>>,
    pub(super) sets: Arc<Cache<ReplicaSet>>,
    pub(super) pods: Arc<Cache<Pod>>,
}

impl Disruptions {
    pub(super) fn new(context: Context) -> Self {
        Self { queue: Queue::new(context.clock.clone()), context }
    }

    pub(super) fn on_budget(&self, change: &Change<'_, PodDisruptionBudget>) {
        self.queue.add(change.key.clone());
    }

    pub(super) fn on_pod(&self, change: &Change<'_, Pod>) {
        let is_concerned = |budget: &PodDisruptionBudget| {
            let selector = selector_of(budget);
            let mut pods = [change.old, change.new].into_iter().flatten();
            selector.is_ok_and(|selector| pods.any(|pod| selects(selector.as_ref(), pod)))
        };
        self.add_budgets(&change.key.namespace, is_concerned);
    }

    /// Shares are of what sets are to have, not of the pods that are there.
    pub(super) fn on_set(&self, change: &Change<'_, ReplicaSet>) {
        let wanted = |set: Option<&Arc<ReplicaSet>>| set.map(|set| set.spec.replicas);
        if wanted(change.old) != wanted(change.new) {
            self.add_budgets(&change.key.namespace, |_| true);
        }
    }

    fn add_budgets(&self, namespace: &str, is_concerned: impl Fn(&PodDisruptionBudget) -> bool) {
        for budget in self.context.budgets.in_namespace(namespace) {
            if is_concerned(&budget) {
                self.queue.add_after(Key::of(&budget.metadata), SETTLE);
            }
        }
    }

    /// The status that the budget ought to have. What cannot be counted permits nothing and says why.
    fn status(&self, budget: &PodDisruptionBudget, now: Timestamp) -> PodDisruptionBudgetStatus {
        let namespace = budget.metadata.namespace.as_deref().unwrap_or_default();
        let counted = selector_of(budget).and_then(|selector| {
            let pods = self.context.pods.in_namespace(namespace).into_iter();
            let pods: Vec<Arc<Pod>> = pods.filter(|pod| selects(selector.as_ref(), pod)).collect();
            let set = |name: &str| self.context.sets.get(&Key::new(namespace, name));
            counted(budget, &pods, set, now)
        });
        counted.unwrap_or_else(|why| failed(budget, why, now))
    }

    async fn write(&self, budget: &PodDisruptionBudget, key: &Key) -> Result<(), SyncError> {
        let api: Api<PodDisruptionBudget> = Api::namespaced(self.context.client.clone(), &key.namespace);
        // With the version that was counted for: evictions since then must not be given back.
        match api.replace_status(&key.name, &PostParams::default(), budget).await {
            Ok(_) => Ok(()),
            Err(error) if Refusal::of(&error) == Refusal::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Controller for Disruptions {
    type Key = Key;
    const NAME: &'static str = "disruption";
    const CONCURRENCY: usize = 4;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Next, SyncError> {
        let Some(budget) = self.context.budgets.get(key) else { return Ok(Next::Idle) };
        let status = self.status(&budget, self.context.clock.now());
        let until = status.disrupted_pods.iter().flatten().map(|(_, since)| given_back_at(since));
        let next = Next::earliest(until);
        if budget.status.as_ref() != Some(&status) {
            let counted = PodDisruptionBudget { status: Some(status), ..PodDisruptionBudget::clone(&budget) };
            self.write(&counted, key).await?;
        }
        Ok(next)
    }
}

/// The pods that a budget is about; none without a selector.
fn selector_of(budget: &PodDisruptionBudget) -> Result<Option<Selector>, String> {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
    selector.map(Selector::try_from).transpose().map_err(|error| format!("malformed selector: {error}"))
}

fn selects(selector: Option<&Selector>, pod: &Pod) -> bool {
    let none = BTreeMap::new();
    selector.is_some_and(|selector| selector.matches(pod.metadata.labels.as_ref().unwrap_or(&none)))
}

fn given_back_at(since: &Time) -> Option<Timestamp> {
    since.0.checked_add(DELETION_TIMEOUT).ok()
}

/// Counts the pods that a budget selects.
///
/// # Errors
///
/// Why they cannot be counted.
fn counted(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    set: impl Fn(&str) -> Option<Arc<ReplicaSet>>,
    now: Timestamp,
) -> Result<PodDisruptionBudgetStatus, String> {
    let (expected, desired) = wanted(budget, pods, set)?;
    let old = budget.status.clone().unwrap_or_default();
    let disrupted = still_disrupted(&old, pods, now);
    let is_healthy = |pod: &&Arc<Pod>| {
        !pod::is_deleting(pod) && pod::is_ready(pod) && !disrupted.contains_key(pod::name(pod))
    };
    let healthy = count(pods.iter().filter(is_healthy).count());
    // A budget that selects nothing yet is safe when its first pods appear.
    let allowed = if expected > 0 { healthy.saturating_sub(desired).max(0) } else { 0 };
    let (answer, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    Ok(PodDisruptionBudgetStatus {
        conditions: Some(vec![condition(
            &old,
            answer,
            reason,
            String::new(),
            budget.metadata.generation,
            now,
        )]),
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: budget.metadata.generation,
    })
}

/// How many pods there are to be, and how many of them healthy.
fn wanted(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    set: impl Fn(&str) -> Option<Arc<ReplicaSet>>,
) -> Result<(i32, i32), String> {
    let spec = budget.spec.clone().unwrap_or_default();
    match (spec.max_unavailable, spec.min_available) {
        (Some(amount), _) => {
            let expected = scale(pods, set)?;
            Ok((expected, expected.saturating_sub(share(&amount, expected)?).max(0)))
        }
        (None, Some(IntOrString::Int(least))) => Ok((count(pods.len()), least)),
        (None, Some(amount)) => {
            let expected = scale(pods, set)?;
            Ok((expected, share(&amount, expected)?))
        }
        (None, None) => Ok((0, 0)),
    }
}

/// How many pods the sets that own these are to have; pods of nobody do not count.
fn scale(pods: &[Arc<Pod>], set: impl Fn(&str) -> Option<Arc<ReplicaSet>>) -> Result<i32, String> {
    let mut scales = BTreeMap::new();
    for pod in pods {
        let owners = pod.metadata.owner_references.iter().flatten();
        let Some(owner) = owners.into_iter().find(|owner| owner.controller == Some(true)) else { continue };
        let found = set(&owner.name).filter(|set| {
            owner.kind == "ReplicaSet" && set.metadata.uid.as_deref() == Some(owner.uid.as_str())
        });
        let found = found.ok_or_else(|| format!("found no controllers for pod \"{}\"", pod::name(pod)))?;
        scales.insert(owner.uid.clone(), found.spec.replicas.unwrap_or(1));
    }
    Ok(scales.into_values().fold(0, i32::saturating_add))
}

/// A number of pods, or its percentage of `whole`, rounded up.
fn share(amount: &IntOrString, whole: i32) -> Result<i32, String> {
    let text = match amount {
        IntOrString::Int(number) => return Ok(*number),
        IntOrString::String(text) => text,
    };
    let percent = text.strip_suffix('%').and_then(|number| number.parse::<i64>().ok());
    let percent = percent.ok_or_else(|| format!("\"{text}\" is no number of pods and no percentage"))?;
    let rounded = percent.saturating_mul(whole.into()).saturating_add(99).div_euclid(100);
    Ok(i32::try_from(rounded).unwrap_or(i32::MAX))
}

/// Evicted pods whose deletion is to come. Those that are gone or going are not listed any more, and what was not
/// deleted in time counts as healthy again.
fn still_disrupted(
    old: &PodDisruptionBudgetStatus,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> BTreeMap<String, Time> {
    let listed = old.disrupted_pods.iter().flatten();
    let is_awaited = |name: &str| pods.iter().any(|pod| pod::name(pod) == name && !pod::is_deleting(pod));
    let awaited =
        listed.filter(|(name, since)| is_awaited(name) && given_back_at(since).is_some_and(|end| end > now));
    awaited.map(|(name, since)| (name.clone(), since.clone())).collect()
}

fn failed(budget: &PodDisruptionBudget, why: String, now: Timestamp) -> PodDisruptionBudgetStatus {
    let old = budget.status.clone().unwrap_or_default();
    let condition = condition(&old, "False", "SyncFailed", why, old.observed_generation, now);
    PodDisruptionBudgetStatus { disruptions_allowed: Some(0), conditions: Some(vec![condition]), ..old }
}

fn condition(
    old: &PodDisruptionBudgetStatus,
    status: &str,
    reason: &str,
    message: String,
    observed_generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let known =
        old.conditions.iter().flatten().find(|known| known.type_ == ALLOWED && known.status == status);
    Condition {
        type_: ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation,
        last_transition_time: known
            .map_or_else(|| Time(super::whole_seconds(now)), |known| known.last_transition_time.clone()),
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        "2026-01-01T00:10:00Z".parse().unwrap()
    }

    fn budget(spec: &Value, status: &Value) -> PodDisruptionBudget {
        let object = json!({ "metadata": { "name": "b", "generation": 2 }, "spec": spec, "status": status });
        serde_json::from_value(object).unwrap()
    }

    /// Ready pods, then others, of one set that wants `replicas`.
    fn status(
        budget: &PodDisruptionBudget,
        replicas: i32,
        ready: usize,
        others: &[Value],
    ) -> Result<PodDisruptionBudgetStatus, String> {
        let ready = (0..ready)
            .map(|_| json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } }));
        let pods = ready.chain(others.iter().cloned()).enumerate().map(|(index, more)| {
            let owner = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": true });
            let mut object = json!({ "metadata": { "name": format!("web-{index}"), "ownerReferences": [owner] } });
            json_patch::merge(&mut object, &more);
            Arc::new(serde_json::from_value::<Pod>(object).unwrap())
        });
        let set = json!({ "metadata": { "name": "web", "uid": "u" },
            "spec": { "replicas": replicas, "selector": {} } });
        let set: Arc<ReplicaSet> = Arc::new(serde_json::from_value(set).unwrap());
        let find = |name: &str| (name == "web").then(|| Arc::clone(&set));
        counted(budget, &pods.collect::<Vec<_>>(), find, now())
    }

    fn numbers(spec: &Value, replicas: i32, ready: usize, others: &[Value]) -> [i32; 4] {
        let status = status(&budget(spec, &json!({})), replicas, ready, others).unwrap();
        [status.expected_pods, status.desired_healthy, status.current_healthy, status.disruptions_allowed]
            .map(|number| number.expect("all are written"))
    }

    #[test]
    fn what_is_above_the_wanted_number_may_go() {
        let leaving = json!({ "metadata": { "deletionTimestamp": "2026-01-01T00:00:00Z" },
            "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        for (spec, replicas, ready, others, expected) in [
            (json!({ "minAvailable": 2 }), 4, 4, vec![], [4, 2, 4, 2]),
            (json!({ "minAvailable": 2 }), 9, 1, vec![json!({})], [2, 2, 1, 0]),
            (json!({ "minAvailable": 0 }), 0, 0, vec![], [0, 0, 0, 0]),
            (json!({ "minAvailable": "50%" }), 5, 5, vec![], [5, 3, 5, 2]),
            (json!({ "minAvailable": "100%" }), 5, 5, vec![], [5, 5, 5, 0]),
            (json!({ "maxUnavailable": 1 }), 4, 4, vec![], [4, 3, 4, 1]),
            (json!({ "maxUnavailable": 1 }), 4, 3, vec![json!({})], [4, 3, 3, 0]),
            (json!({ "maxUnavailable": 1 }), 4, 3, vec![leaving], [4, 3, 3, 0]),
            (json!({ "maxUnavailable": "30%" }), 4, 4, vec![], [4, 2, 4, 2]),
            (json!({ "maxUnavailable": 9 }), 4, 1, vec![], [4, 0, 1, 1]),
            (json!({}), 4, 4, vec![], [0, 0, 4, 0]),
        ] {
            assert_eq!(numbers(&spec, replicas, ready, &others), expected, "{spec}");
        }
    }

    #[test]
    fn an_evicted_pod_is_not_counted_until_its_deletion_is_overdue() {
        let spec = json!({ "maxUnavailable": 1 });
        let evicted = |at: &str| {
            let old = json!({ "disruptionsAllowed": 0, "currentHealthy": 4, "desiredHealthy": 3, "expectedPods": 4,
                "disruptedPods": { "web-0": at, "gone": at } });
            status(&budget(&spec, &old), 4, 4, &[]).unwrap()
        };
        let lately = evicted("2026-01-01T00:09:00Z");
        assert_eq!((lately.current_healthy, lately.disruptions_allowed), (Some(3), Some(0)));
        assert_eq!(lately.disrupted_pods.unwrap().into_keys().collect::<Vec<_>>(), ["web-0"]);
        let long_ago = evicted("2026-01-01T00:08:00Z");
        assert_eq!((long_ago.current_healthy, long_ago.disruptions_allowed), (Some(4), Some(1)));
        assert_eq!(long_ago.disrupted_pods, None);
    }

    #[test]
    fn the_condition_keeps_its_time_while_its_answer_stays() {
        let time = "2026-01-01T00:00:00Z";
        let old = json!({ "disruptionsAllowed": 1, "currentHealthy": 4, "desiredHealthy": 3, "expectedPods": 4,
            "conditions": [{ "type": ALLOWED, "status": "True", "reason": "SufficientPods", "message": "",
                "lastTransitionTime": time }] });
        let budget = budget(&json!({ "maxUnavailable": 1 }), &old);
        for (ready, answer, reason, since) in
            [(4, "True", "SufficientPods", time.parse().unwrap()), (3, "False", "InsufficientPods", now())]
        {
            let conditions = status(&budget, 4, ready, &[]).unwrap().conditions.unwrap();
            let condition = &conditions[0];
            assert_eq!((condition.status.as_str(), condition.reason.as_str()), (answer, reason));
            assert_eq!((condition.last_transition_time.0, condition.observed_generation), (since, Some(2)));
        }
    }

    #[test]
    fn what_cannot_be_counted_permits_nothing() {
        let stranger = json!({ "metadata": { "ownerReferences": [
            { "apiVersion": "x/v1", "kind": "Cloned", "name": "web", "uid": "u", "controller": true }] } });
        let of_nobody = json!({ "metadata": { "ownerReferences": null } });
        let share = budget(&json!({ "maxUnavailable": "50%" }), &json!({}));
        assert_eq!(status(&share, 4, 4, &[of_nobody]).unwrap().expected_pods, Some(4));
        let why = status(&share, 4, 4, &[stranger]).unwrap_err();
        assert_eq!(why, "found no controllers for pod \"web-4\"");
        let failed = failed(&share, why.clone(), now());
        let condition = &failed.conditions.unwrap()[0];
        assert_eq!((condition.reason.as_str(), &condition.message), ("SyncFailed", &why));
        assert_eq!(failed.disruptions_allowed, Some(0));
    }
}
