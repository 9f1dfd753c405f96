//! Restarting pods on request: those older than spec.restartAt are evicted, few at a time (contract A13).
//!
//! How many may go at once follows from how many are available, so that a restart is never the reason for more pods missing than
//! the strategy permits. PodDisruptionBudgets are the API server's to honour: an eviction that one refuses is tried again.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::action::{Eviction, Evictions};
use super::canary::total;
use super::observed::{Observed, Pod, ReplicaSet};
use super::revision::Revisions;
use super::stance::Stance;
use crate::crd::{IntOrString, Rollout, RolloutSpec, Rounding, Strategy, Time};

/// Where a restart stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Restart {
    /// Pods to evict.
    pub evictions: Evictions,
    /// Pods that are yet to go, those to evict now included.
    pub older: usize,
    /// Pods of the rollout.
    pub pods: usize,
    /// Whether it is yet to be done.
    pub is_pending: bool,
    /// status.restartedAt.
    pub restarted_at: Option<Time>,
    /// Whether nobody goes because a set has more pods than it is to have.
    pub has_surplus: bool,
    /// When time alone will move it on.
    pub wake_at: Option<Timestamp>,
}

/// Whether a restart is asked for and not done yet; only then are pods looked at.
#[must_use]
pub fn is_asked_for(rollout: &Rollout) -> bool {
    rollout.spec.restart_at.is_some() && rollout.spec.restart_at != rollout.status().restarted_at
}

/// Moves a restart on. An update that begins restarts pods by itself (contract 4.7).
#[must_use]
pub(super) fn restart(
    seen: &Observed,
    revisions: &Revisions<'_>,
    stance: &Stance,
    now: Timestamp,
) -> Restart {
    let rollout = &seen.rollout;
    let restarted_at = rollout.status().restarted_at.clone();
    let Some(restart_at) = rollout.spec.restart_at.clone().filter(|_| is_asked_for(rollout)) else {
        return Restart { restarted_at, ..Restart::default() };
    };
    let before = rollout.status().current_pod_hash();
    // Pods of a first version may be older than a restart that its first status comes after (seed 11711).
    let is_another_version = stance.fresh && !before.is_empty() && before != revisions.hash;
    if is_another_version && restart_at.instant() <= now {
        return Restart { restarted_at: Some(restart_at), ..Restart::default() };
    }
    if restart_at.instant() > now {
        let wake_at = Some(restart_at.instant());
        return Restart { is_pending: true, restarted_at, wake_at, ..Restart::default() };
    }
    let pods = in_order(seen, revisions);
    let older: Vec<&Pod> = pods.iter().copied().filter(|pod| pod.created < restart_at.instant()).collect();
    let going = older.iter().filter(|pod| pod.terminating).count();
    // Until the sets know of the last ones that went, pods are looked at.
    let is_told = !seen.sets.iter().any(|set| counts_leaving(seen, set));
    let shown_by = restart_at.instant().checked_add(SHOWN_WITHIN).unwrap_or(now);
    let are_shown = shown_by <= now || seen.sets.iter().all(|set| shows_all(seen, set));
    if older.len() == going && is_told && are_shown {
        return Restart { pods: pods.len(), restarted_at: Some(restart_at), ..Restart::default() };
    }
    let (available, next) = available(seen, now);
    let shown_by = Some(shown_by).filter(|_| older.len() == going && !are_shown);
    let spare = available.map_or(0, |available| available - least_available(seen));
    let at_most = usize::try_from(spare).unwrap_or(0);
    let evict = |pod: &&Pod| Eviction { pod: pod.name.clone(), uid: pod.uid.clone(), set: set_of(seen, pod) };
    let staying = older.iter().filter(|pod| !pod.terminating && at_most > 0);
    Restart {
        evictions: Evictions { pods: staying.map(evict).collect(), at_most },
        older: older.len(),
        pods: pods.len(),
        is_pending: true,
        restarted_at,
        has_surplus: available.is_none(),
        wake_at: next.into_iter().chain(shown_by).min(),
    }
}

/// How long pods are waited for that a set is to have and that are not seen: a quota may keep them away.
const SHOWN_WITHIN: SignedDuration = SignedDuration::from_mins(5);

/// Whether the cache of pods shows as many as a set is to have: it may know of none that are older because it knows of none yet, and so may
/// the set's controller that counts them (seeds 34569, 35529).
fn shows_all(seen: &Observed, set: &ReplicaSet) -> bool {
    let shown = seen.pods.iter().filter(|pod| pod.set == set.uid && !pod.terminating).count();
    set.terminating || narrow(shown) >= set.replicas
}

/// What was seen, where ReplicaSets do not count pods as available any more that are on their way out: their status follows an
/// eviction a little later, and nothing must shrink on its word meanwhile. Such a status is taken for an outdated one: that pods cannot be
/// counted on does not say that they serve nobody, since the cache of pods may be the one that is behind (seed 2230).
#[must_use]
pub(super) fn without_leaving(seen: &Observed) -> Cow<'_, Observed> {
    if !is_asked_for(&seen.rollout) || !seen.sets.iter().any(|set| counts_leaving(seen, set)) {
        return Cow::Borrowed(seen);
    }
    let certain = |set: &Arc<ReplicaSet>| {
        if !counts_leaving(seen, set) {
            return Arc::clone(set);
        }
        let mut certain = ReplicaSet::clone(set);
        certain.status.available = staying(seen, set);
        certain.status.observed_generation = certain.generation.saturating_sub(1);
        Arc::new(certain)
    };
    Cow::Owned(Observed { sets: seen.sets.iter().map(certain).collect(), ..seen.clone() })
}

/// Whether a set counts pods as available that are on their way out.
fn counts_leaving(seen: &Observed, set: &ReplicaSet) -> bool {
    set.status.available > staying(seen, set)
}

/// How many pods of a set are ready and stay.
fn staying(seen: &Observed, set: &ReplicaSet) -> i32 {
    let pods = seen.pods.iter().filter(|pod| pod.set == set.uid);
    narrow(pods.filter(|pod| !pod.terminating && pod.ready_since.is_some()).count())
}

/// The name of a pod's set.
fn set_of(seen: &Observed, pod: &Pod) -> String {
    let set = seen.sets.iter().find(|set| set.uid == pod.set);
    set.map_or_else(|| pod.set.clone(), |set| set.name.clone())
}

/// Pods in the order in which they go: those of the stable set first, then those of the new one, then the others; of a set those
/// that serve nobody, which budgets permit soonest, and then the oldest.
fn in_order<'a>(seen: &'a Observed, revisions: &Revisions<'_>) -> Vec<&'a Pod> {
    let stable = revisions.stable.map(|set| set.uid.as_str());
    let new = revisions.new_set().map(|set| set.uid.as_str());
    let rank = |pod: &Pod| match Some(pod.set.as_str()) {
        set if set == stable => 0,
        set if set == new => 1,
        _ => 2,
    };
    let mut pods: Vec<&Pod> = seen.pods.iter().collect();
    pods.sort_by(|a, b| {
        (rank(a), a.ready_since.is_some(), a.created, &a.name).cmp(&(
            rank(b),
            b.ready_since.is_some(),
            b.created,
            &b.name,
        ))
    });
    pods
}

/// How many pods are available by both caches, and when the next one that is ready will be: that of pods may be behind that of sets, by which
/// they have gone and others come (seed 16245).
///
/// `None` while a set has more pods than it is to have, of which any may be on its way out: those included that the cache of pods does not
/// show yet (seed 6268), and those that it shows for too long. Which those are is known once as many are seen to go as there are too many,
/// if meanwhile nobody is evicted (seed 10823).
fn available(seen: &Observed, now: Timestamp) -> (Option<i32>, Option<Timestamp>) {
    let from = |pod: &Pod| pod.available_from(seen.rollout.spec.min_ready_seconds());
    let staying = || seen.pods.iter().filter(|pod| !pod.terminating);
    let next = staying().filter_map(from).filter(|from| *from > now).min();
    let of_set = |set: &Arc<ReplicaSet>| {
        let pods = || staying().filter(|pod| pod.set == set.uid);
        let has_too_many = narrow(pods().count()).max(set.status.replicas) > set.replicas;
        let available = narrow(pods().filter_map(from).filter(|from| *from <= now).count());
        // Nobody resizes a set that is being deleted, and none of its pods is to be counted on.
        if set.terminating {
            return Some(0);
        }
        (!has_too_many).then_some(available.min(set.status.available))
    };
    let of_sets: Option<Vec<i32>> = seen.sets.iter().map(of_set).collect();
    (of_sets.map(|counts| total(counts.into_iter())), next)
}

fn narrow(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// How many pods must stay available: as many as there are to be, without as many as may be missing, which is one at least.
fn least_available(seen: &Observed) -> i32 {
    let replicas = seen.rollout.spec.replicas();
    let wanted = replicas.max(total(seen.sets.iter().map(|set| set.replicas)));
    wanted.saturating_sub(max_unavailable(&seen.rollout.spec).max(1))
}

fn max_unavailable(spec: &RolloutSpec) -> i32 {
    let given: Option<IntOrString> = match spec.strategy() {
        Ok(Strategy::Canary(canary)) => Some(canary.max_unavailable()),
        Ok(Strategy::BlueGreen(blue_green)) => Some(blue_green.max_unavailable()),
        Err(_) => None,
    };
    let replicas = spec.replicas();
    // Validation refuses what is no percentage; should one get here, it counts as nothing.
    given.and_then(|given| given.scaled(replicas, Rounding::Down).ok()).unwrap_or(0).clamp(0, replicas.max(0))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::plan::observed::SetStatus;
    use crate::plan::plan;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000 + second).unwrap()
    }

    /// Pods of the set with this hash, in ages of creation; ready since then.
    fn pods(hash: &str, created: &[i64]) -> Vec<Pod> {
        let pod = |(index, second): (usize, &i64)| Pod {
            name: format!("web-{hash}-{index}"),
            uid: format!("uid-{hash}-{index}"),
            set: format!("uid-{hash}"),
            created: at(*second),
            terminating: false,
            ready_since: Some(at(*second)),
            unready_since: None,
            ..Pod::default()
        };
        created.iter().enumerate().map(pod).collect()
    }

    /// A rollout at rest with `hash` stable, asked at second 10 to restart its pods.
    fn seen(more: &Value, pods: Vec<Pod>) -> Observed {
        let mut object = json!({
            "metadata": { "name": "web", "namespace": "shop", "uid": "uid-web", "generation": 1, "annotations": { "rollout.argoproj.io/revision": "1" } },
            "spec": {
                "replicas": 4, "restartAt": at(10).to_string(), "strategy": { "canary": { "maxUnavailable": 1 } },
                "selector": { "matchLabels": { "app": "web" } },
                "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "web", "image": "v1" }] } },
            },
            "status": { "observedGeneration": "1", "currentPodHash": "a", "stableRS": "a", "currentStepHash": "5ffbfbbd64" },
        });
        json_patch::merge(&mut object, more);
        let set = |hash: &str, replicas: i32| ReplicaSet {
            name: format!("web-{hash}"),
            uid: format!("uid-{hash}"),
            labels: [("rollouts-pod-template-hash".to_owned(), hash.to_owned())].into(),
            replicas,
            status: SetStatus { replicas, ready: replicas, available: replicas, ..SetStatus::default() },
            ..ReplicaSet::default()
        };
        let staying = |hash: &str| {
            let pods = pods.iter().filter(|pod| pod.set == format!("uid-{hash}"));
            pods.clone().next().map(|_| narrow(pods.filter(|pod| !pod.terminating).count()))
        };
        let sets = ["a", "b"].into_iter().filter_map(|hash| Some((hash, staying(hash)?)));
        Observed {
            sets: sets.map(|(hash, replicas)| Arc::new(set(hash, replicas))).collect(),
            pods,
            ..Observed::alone(Arc::new(serde_json::from_value(object).unwrap()))
        }
    }

    fn evicted(seen: &Observed, now: i64) -> Vec<String> {
        let evictions = plan(seen, at(now)).evictions;
        evictions.pods.into_iter().take(evictions.at_most).map(|eviction| eviction.pod).collect()
    }

    fn restarted_at(seen: &Observed, now: i64) -> Value {
        plan(seen, at(now)).rollout.status.map_or(Value::Null, |write| write.patch["restartedAt"].clone())
    }

    #[test]
    fn as_many_pods_go_as_may_be_unavailable_and_one_at_least() {
        let old = || pods("a", &[3, 2, 1, 0]);
        for (unavailable, going) in
            [(json!(0), 1), (json!(1), 1), (json!(2), 2), (json!("50%"), 2), (json!(9), 4)]
        {
            let more = json!({ "spec": { "strategy": { "canary": { "maxUnavailable": unavailable } } } });
            let evicted = evicted(&seen(&more, old()), 20);
            assert_eq!(evicted.len(), going, "{unavailable}: {evicted:?}");
            assert_eq!(evicted[0], "web-a-3", "the oldest first");
        }
    }

    #[test]
    fn of_a_set_those_go_first_that_serve_nobody() {
        let more = json!({ "spec": { "strategy": { "canary": { "maxUnavailable": 2 } } } });
        let mut pods = pods("a", &[0, 1, 2, 3]);
        pods[2].ready_since = None;
        let plan = plan(&seen(&more, pods), at(20));
        let going: Vec<_> = plan.evictions.pods.iter().map(|going| (&*going.pod, &*going.set)).collect();
        assert_eq!(
            (plan.evictions.at_most, going[0], going[1]),
            (1, ("web-a-2", "web-a"), ("web-a-0", "web-a"))
        );
    }

    /// Seeds 779 (nine pods, of which two were to stay, and eight were evicted) and 10823 (one of too many was evicted, so that one that the
    /// cache showed for too long was counted in its place).
    #[test]
    fn while_a_set_has_too_many_pods_nobody_is_evicted() {
        let shrunk = |shown: &[i64], counted: i32, available: i32| {
            let mut seen = seen(&json!({ "spec": { "replicas": 2 } }), pods("a", shown));
            let set = Arc::make_mut(&mut seen.sets[0]);
            (set.replicas, set.status.replicas, set.status.available) = (2, counted, available);
            evicted(&seen, 20).len()
        };
        assert_eq!(shrunk(&[0, 1, 2, 3, 4, 5, 6, 7, 8], 9, 9), 0);
        assert_eq!(shrunk(&[0, 1, 2], 2, 2), 0, "the cache shows one for too long");
        assert_eq!(shrunk(&[0, 1], 3, 3), 0, "the cache does not show one yet, seed 6268");
        assert_eq!(shrunk(&[0, 1], 2, 1), 0, "the cache shows former ones, seed 16245");
        assert_eq!(shrunk(&[0, 1], 2, 2), 1);
    }

    #[test]
    fn nobody_goes_while_others_are_missing() {
        let mut young = pods("a", &[0, 0, 0, 15]);
        young[3].ready_since = None;
        assert_eq!(evicted(&seen(&json!({}), young.clone()), 20), [""; 0]);
        young[3].ready_since = Some(at(19));
        assert_eq!(evicted(&seen(&json!({}), young.clone()), 20).len(), 1);
        let slow = json!({ "spec": { "minReadySeconds": 5 } });
        let plan = plan(&seen(&slow, young.clone()), at(20));
        assert_eq!(
            (plan.evictions.pods.len(), plan.wake_at),
            (0, Some(at(24))),
            "ready is not available yet"
        );
        young[0].terminating = true;
        assert_eq!(evicted(&seen(&json!({}), young), 20), [""; 0], "one is on its way out");
    }

    #[test]
    fn pods_of_the_time_itself_and_later_ones_stay_and_then_it_is_done() {
        let done = seen(&json!({}), pods("a", &[10, 11, 12, 13]));
        assert_eq!(evicted(&done, 20), [""; 0]);
        assert_eq!(restarted_at(&done, 20), json!(at(10).to_string()));
        let mut last = pods("a", &[0, 11, 12, 13]);
        assert_eq!(restarted_at(&seen(&json!({}), last.clone()), 20), Value::Null);
        last[0].terminating = true;
        assert_eq!(restarted_at(&seen(&json!({}), last), 20), json!(at(10).to_string()));
    }

    /// Seeds 34569 and 35529: the pods of the first version were not in the cache yet.
    #[test]
    fn it_is_done_once_all_pods_are_seen() {
        let shown = |wanted: i32, counted: i32| {
            let mut seen = seen(&json!({}), pods("a", &[11, 12, 13]));
            let set = Arc::make_mut(&mut seen.sets[0]);
            (set.replicas, set.status.replicas) = (wanted, counted);
            restarted_at(&seen, 20)
        };
        assert_eq!(shown(4, 4), Value::Null);
        assert_eq!(shown(4, 3), Value::Null, "its controller may not have counted its own pods yet");
        assert_eq!(shown(3, 3), json!(at(10).to_string()));
        let late = at(10).checked_add(SHOWN_WITHIN).unwrap();
        let mut short = seen(&json!({}), pods("a", &[11, 12, 13]));
        Arc::make_mut(&mut short.sets[0]).replicas = 4;
        assert_eq!(plan(&short, at(20)).wake_at, Some(late));
        let told = plan(&short, late).rollout.status.unwrap();
        assert_eq!(told.patch["restartedAt"], json!(at(10).to_string()), "they may never come");
    }

    #[test]
    fn a_set_that_is_being_deleted_holds_nobody_up_and_none_of_its_pods_counts() {
        let mut seen = seen(&json!({}), [pods("a", &[0, 0, 0]), pods("b", &[0])].concat());
        let doomed = Arc::make_mut(&mut seen.sets[1]);
        (doomed.terminating, doomed.status.replicas) = (true, 5);
        assert_eq!(available(&seen, at(20)).0, Some(3));
    }

    #[test]
    fn a_set_does_not_count_pods_that_are_on_their_way_out() {
        let mut leaving = pods("a", &[11, 12, 13, 0]);
        leaving[3].terminating = true;
        let mut seen = seen(&json!({}), leaving);
        let mut told = |available: i32| {
            let mut set = ReplicaSet::clone(&seen.sets[0]);
            set.status.available = available;
            seen.sets = vec![Arc::new(set)];
            (without_leaving(&seen).sets[0].status.available, restarted_at(&seen, 20))
        };
        // The restart is not over either before its set knows that the last pod is gone.
        assert_eq!(told(4), (3, Value::Null));
        assert_eq!(told(3), (3, json!(at(10).to_string())));
        assert_eq!(told(2), (2, json!(at(10).to_string())));
    }

    /// Seed 2230: an older version lost all its pods, since none of them was in a cache that was behind, and so none seemed available.
    #[test]
    fn nothing_shrinks_because_the_cache_of_pods_is_behind() {
        let shrunk = json!({ "spec": { "replicas": 2 } });
        let shown = |count: usize| {
            let mut seen = seen(&shrunk, pods("a", &[0, 0, 0, 0]));
            let mut set = ReplicaSet::clone(&seen.sets[0]);
            (set.status.replicas, set.status.available) = (4, 4);
            seen.sets = vec![Arc::new(set)];
            seen.pods.truncate(count);
            let sizes = plan(&seen, at(20)).sets;
            sizes.iter().any(super::super::action::SetAction::resizes)
        };
        assert!(shown(4), "with all it does");
        assert!(!shown(3) && !shown(0));
    }

    #[test]
    fn while_sets_are_resized_nobody_is_evicted() {
        let resized = json!({ "spec": { "replicas": 5 } });
        let plan = plan(&seen(&resized, pods("a", &[0, 0, 0, 0])), at(20));
        assert!(!plan.sets.is_empty());
        assert_eq!(plan.evictions, Evictions::default());
    }

    #[test]
    fn a_restart_in_the_future_waits_for_its_time_and_says_so() {
        let plan = plan(&seen(&json!({}), pods("a", &[0, 0, 0, 0])), at(5));
        assert_eq!((plan.evictions.pods.len(), plan.wake_at), (0, Some(at(10))));
        let blocker =
            plan.blockers.iter().find(|blocker| blocker.reason == crate::plan::BlockerReason::Restarting);
        assert_eq!(blocker.unwrap().next_at, Some(at(10)));
    }

    #[test]
    fn the_stable_version_goes_first_and_all_versions_count() {
        let status = json!({ "status": { "currentPodHash": "b" }, "spec": { "paused": true, "strategy": { "canary": { "maxUnavailable": 2 } } } });
        let both = [pods("b", &[0, 0]), pods("a", &[1, 1, 1])].concat();
        // Five pods are wanted of two versions, and all are available: two may go.
        assert_eq!(evicted(&seen(&status, both), 20), ["web-a-0", "web-a-1"]);
    }

    #[test]
    fn what_is_done_or_not_asked_for_moves_nothing() {
        for more in [
            json!({ "status": { "restartedAt": at(10).to_string() } }),
            json!({ "spec": { "restartAt": null } }),
        ] {
            assert_eq!(evicted(&seen(&more, pods("a", &[0, 0, 0, 0])), 20), [""; 0]);
        }
    }

    #[test]
    fn blue_green_has_a_limit_of_its_own() {
        let more = json!({ "spec": { "replicas": 4, "strategy": { "canary": null, "blueGreen": { "activeService": "web", "maxUnavailable": 3 } } },
            "status": { "currentStepHash": null } });
        let mut seen = seen(&more, pods("a", &[0, 0, 0, 0]));
        seen.services = vec![Arc::new(crate::plan::Service { name: "web".to_owned(), ..Default::default() })];
        assert_eq!(evicted(&seen, 20).len(), 3);
    }
}
