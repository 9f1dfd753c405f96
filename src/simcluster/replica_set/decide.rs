//! What a ReplicaSet's pods mean for it: which go first, and its status.
//!
//! Pure; depends on facts about pods only. The rules are those of Kubernetes' `pkg/controller/replicaset` and
//! `pkg/controller/controller_utils.go`; the controller beside it acts on them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::SelectorExt as _;

use crate::simcluster::pod;

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Why pods could not be created or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: FailureReason,
    /// The server's own words.
    pub(super) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailureReason {
    FailedCreate,
    FailedDelete,
}

impl FailureReason {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::FailedCreate => "FailedCreate",
            Self::FailedDelete => "FailedDelete",
        }
    }
}

/// The pods of one set, told apart.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// They count as replicas.
    pub(super) active: Vec<Arc<Pod>>,
    /// On their way out.
    pub(super) terminating: usize,
}

impl Members {
    /// Sorts out the pods that name the set as their controller; those that its selector no longer selects are
    /// not counted.
    pub(super) fn of(selector: &kube::core::Selector, pods: Vec<Arc<Pod>>) -> Self {
        let no_labels = BTreeMap::new();
        let mut members = Self::default();
        for member in pods {
            if !selector.matches(member.metadata.labels.as_ref().unwrap_or(&no_labels)) {
                continue;
            }
            if pod::is_active(&member) {
                members.active.push(member);
            } else if pod::is_terminating(&member) {
                members.terminating += 1;
            }
        }
        members
    }
}

pub(super) fn wanted(set: &ReplicaSet) -> usize {
    let replicas = set.spec.replicas.unwrap_or(1);
    usize::try_from(replicas).unwrap_or(0)
}

pub(super) fn min_ready(set: &ReplicaSet) -> Duration {
    let seconds = set.spec.min_ready_seconds.unwrap_or(0);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// The `excess` pods to delete, those first whose loss hurts least. `siblings` are the active pods of all sets of
/// the same owner: of two equal pods the one with more of them on its node goes.
pub(super) fn pods_to_delete(
    active: &[Arc<Pod>],
    siblings: &[Arc<Pod>],
    excess: usize,
    now: Timestamp,
) -> Vec<Arc<Pod>> {
    let mut crowd: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    for sibling in siblings {
        *crowd.entry(pod::node_name(sibling)).or_default() += 1;
    }
    let neighbours = |pod: &Pod| crowd.get(&pod::node_name(pod)).copied().unwrap_or(0);
    let mut ranked = active.to_vec();
    ranked.sort_by_cached_key(|pod| {
        (
            pod::node_name(pod).is_some(),
            pod::phase(pod),
            pod::is_ready(pod),
            pod::deletion_cost(pod),
            Reverse(neighbours(pod)),
            pod::ready_since(pod).map(|since| magnitude(since, now)),
            Reverse(pod::restarts(pod)),
            pod::created(pod).map(|since| magnitude(since, now)),
            pod::uid(pod).to_owned(),
        )
    });
    ranked.truncate(excess);
    ranked
}

/// The order of magnitude of an age, none for what lies in the future. Pods of about one age are told apart by
/// what follows, so that they are not always taken from the same end. (Kubernetes goes straight to the uid when
/// the ages differ at all, which is no order: three pods may each come before the next.)
fn magnitude(since: Timestamp, now: Timestamp) -> Option<u32> {
    u128::try_from(now.duration_since(since).as_nanos()).ok()?.checked_ilog2()
}

/// The status that the set should have.
pub(super) fn status(
    set: &ReplicaSet,
    members: &Members,
    failure: Option<&Failure>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let count = |holds: &dyn Fn(&Pod) -> bool| as_i32(members.active.iter().filter(|pod| holds(pod)).count());
    let template = set.spec.template.as_ref();
    let labels = template.and_then(|template| template.metadata.as_ref()?.labels.clone()).unwrap_or_default();
    let fully_labeled = |pod: &Pod| {
        labels
            .iter()
            .all(|(key, value)| pod.metadata.labels.as_ref().and_then(|all| all.get(key)) == Some(value))
    };
    let min_ready = min_ready(set);
    ReplicaSetStatus {
        replicas: as_i32(members.active.len()),
        fully_labeled_replicas: Some(count(&fully_labeled)),
        ready_replicas: Some(count(&pod::is_ready)),
        available_replicas: Some(count(&|pod| pod::available_at(pod, min_ready).is_some_and(|at| at <= now))),
        terminating_replicas: Some(as_i32(members.terminating)),
        observed_generation: set.metadata.generation,
        conditions: conditions(set, failure, now),
    }
}

/// A failure is told once and taken back when it is over; until then its first message stays, as Kubernetes does.
fn conditions(
    set: &ReplicaSet,
    failure: Option<&Failure>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut conditions = set.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    match failure {
        None => conditions.retain(|condition| !is_failure(condition)),
        Some(failure) if !conditions.iter().any(is_failure) => {
            conditions.push(ReplicaSetCondition {
                type_: Some(REPLICA_FAILURE.to_owned()),
                status: Some("True".to_owned()),
                reason: Some(failure.reason.as_str().to_owned()),
                message: Some(failure.message.clone()),
                last_transition_time: Some(Time(crate::simcluster::whole_seconds(now))),
            });
        }
        Some(_) => {}
    }
    (!conditions.is_empty()).then_some(conditions)
}

fn is_failure(condition: &ReplicaSetCondition) -> bool {
    condition.type_.as_deref() == Some(REPLICA_FAILURE)
}

/// Whether two statuses say the same; the server leaves out zeros.
pub(super) fn same(a: &ReplicaSetStatus, b: &ReplicaSetStatus) -> bool {
    let numbers = |status: &ReplicaSetStatus| {
        [
            Some(status.replicas),
            status.fully_labeled_replicas,
            status.ready_replicas,
            status.available_replicas,
            status.terminating_replicas,
        ]
        .map(|number| number.unwrap_or(0))
    };
    numbers(a) == numbers(b)
        && a.observed_generation == b.observed_generation
        && a.conditions.as_deref().unwrap_or_default() == b.conditions.as_deref().unwrap_or_default()
}

/// When the next ready pod becomes available.
pub(super) fn next_availability(set: &ReplicaSet, members: &Members, now: Timestamp) -> Option<Timestamp> {
    let min_ready = min_ready(set);
    members.active.iter().filter_map(|pod| pod::available_at(pod, min_ready)).filter(|at| *at > now).min()
}

fn as_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::apps::v1::ReplicaSetSpec;
    use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec, PodStatus, PodTemplateSpec};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    /// One pod of a table; whatever is not said is the same for all.
    #[derive(Clone)]
    struct Shape {
        name: &'static str,
        node: Option<&'static str>,
        phase: &'static str,
        ready_since: Option<i64>,
        created: i64,
        cost: Option<&'static str>,
        restarts: i32,
        deleting: bool,
        labels: &'static [(&'static str, &'static str)],
    }

    const USUAL: Shape = Shape {
        name: "usual",
        node: Some("n1"),
        phase: "Running",
        ready_since: Some(0),
        created: 0,
        cost: None,
        restarts: 0,
        deleting: false,
        labels: &[("app", "web")],
    };

    const NOW: i64 = 1_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pod(shape: &Shape) -> Arc<Pod> {
        let ready = PodCondition {
            type_: "Ready".to_owned(),
            status: if shape.ready_since.is_some() { "True" } else { "False" }.to_owned(),
            last_transition_time: Some(Time(at(shape.ready_since.unwrap_or(0)))),
            ..PodCondition::default()
        };
        let labels =
            shape.labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let annotation =
            |cost: &str| [("controller.kubernetes.io/pod-deletion-cost".to_owned(), cost.to_owned())].into();
        Arc::new(Pod {
            metadata: ObjectMeta {
                name: Some(shape.name.to_owned()),
                uid: Some(shape.name.to_owned()),
                labels: Some(labels),
                annotations: shape.cost.map(annotation),
                creation_timestamp: Some(Time(at(shape.created))),
                deletion_timestamp: shape.deleting.then(|| Time(at(NOW))),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec { node_name: shape.node.map(str::to_owned), ..PodSpec::default() }),
            status: Some(PodStatus {
                phase: Some(shape.phase.to_owned()),
                conditions: Some(vec![ready]),
                container_statuses: Some(vec![ContainerStatus {
                    restart_count: shape.restarts,
                    ..ContainerStatus::default()
                }]),
                ..PodStatus::default()
            }),
        })
    }

    fn set(replicas: i32, min_ready_seconds: i32) -> ReplicaSet {
        let labels: BTreeMap<String, String> = [("app".to_owned(), "web".to_owned())].into();
        ReplicaSet {
            metadata: ObjectMeta { generation: Some(4), ..ObjectMeta::default() },
            spec: ReplicaSetSpec {
                replicas: Some(replicas),
                min_ready_seconds: Some(min_ready_seconds),
                template: Some(PodTemplateSpec {
                    metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                    spec: None,
                }),
                ..ReplicaSetSpec::default()
            },
            status: None,
        }
    }

    fn members(shapes: &[Shape]) -> Members {
        let selector = kube::core::Expression::Exists("app".to_owned()).into();
        Members::of(&selector, shapes.iter().map(pod).collect())
    }

    #[test]
    fn of_two_pods_the_one_whose_loss_hurts_less_goes_first() {
        let other = Shape { name: "other", ..USUAL };
        for (why, first) in [
            ("unassigned before assigned", Shape { node: None, ..other.clone() }),
            ("pending before running", Shape { phase: "Pending", ..other.clone() }),
            ("unknown before running", Shape { phase: "Unknown", ..other.clone() }),
            ("not ready before ready", Shape { ready_since: None, ..other.clone() }),
            ("cheaper before dearer", Shape { cost: Some("-1"), ..other.clone() }),
            ("ready for less time first", Shape { ready_since: Some(NOW - 10), ..other.clone() }),
            ("more restarts first", Shape { restarts: 1, ..other.clone() }),
            ("newer before older", Shape { created: NOW - 10, ..other.clone() }),
            ("by uid when all is equal", Shape { name: "a", ..other.clone() }),
            (
                "by uid when ages are of one magnitude",
                Shape { name: "a", ready_since: Some(NOW / 10), ..other.clone() },
            ),
        ] {
            for order in [[&first, &USUAL], [&USUAL, &first]] {
                let pods: Vec<Arc<Pod>> = order.into_iter().map(pod).collect();
                let chosen = pods_to_delete(&pods, &[], 1, at(NOW));
                assert_eq!(pod::name(&chosen[0]), first.name, "{why}");
            }
        }
    }

    #[test]
    fn readiness_weighs_more_than_cost_and_cost_more_than_age() {
        let dear_not_ready = Shape { name: "dear", ready_since: None, cost: Some("100"), ..USUAL };
        let cheap_old = Shape { name: "cheap", cost: Some("-5"), ..USUAL };
        let new = Shape { name: "new", created: NOW - 1, ready_since: Some(NOW - 1), ..USUAL };
        let pods: Vec<Arc<Pod>> = [&new, &cheap_old, &dear_not_ready].into_iter().map(pod).collect();
        let order: Vec<String> = pods_to_delete(&pods, &[], 3, at(NOW))
            .iter()
            .map(|member| pod::name(member).to_owned())
            .collect();
        assert_eq!(order, ["dear", "cheap", "new"]);
    }

    #[test]
    fn of_equal_pods_the_one_on_the_more_crowded_node_goes_first() {
        let shapes = [
            Shape { name: "a", node: Some("n1"), ..USUAL },
            Shape { name: "b", node: Some("n2"), ..USUAL },
            Shape { name: "c", node: Some("n2"), ..USUAL },
        ];
        let pods: Vec<Arc<Pod>> = shapes.iter().map(pod).collect();
        assert_eq!(pod::name(&pods_to_delete(&pods, &pods, 1, at(NOW))[0]), "b");
    }

    #[test]
    fn the_order_in_which_pods_are_listed_does_not_matter() {
        // Equal ready times and different ages, and a third between: comparing by the first rule that differs
        // would go round in a circle.
        let shapes = [
            Shape { name: "a", ready_since: Some(NOW - 100), restarts: 0, ..USUAL },
            Shape { name: "b", ready_since: Some(NOW - 110), restarts: 2, ..USUAL },
            Shape { name: "c", ready_since: Some(NOW - 100), restarts: 1, ..USUAL },
        ];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let pods: Vec<Arc<Pod>> = order.into_iter().map(|index| pod(&shapes[index])).collect();
            let chosen = pods_to_delete(&pods, &[], 3, at(NOW));
            let names: Vec<&str> = chosen.iter().map(|member| pod::name(member)).collect();
            assert_eq!(names, ["b", "c", "a"]);
        }
    }

    #[test]
    fn finished_terminating_and_unselected_pods_do_not_count() {
        let members = members(&[
            USUAL,
            Shape { name: "failed", phase: "Failed", ..USUAL },
            Shape { name: "succeeded", phase: "Succeeded", ..USUAL },
            Shape { name: "leaving", deleting: true, ..USUAL },
            Shape { name: "failed and leaving", phase: "Failed", deleting: true, ..USUAL },
            Shape { name: "unselected", labels: &[], ..USUAL },
        ]);
        assert_eq!(members.active.len(), 1);
        assert_eq!(members.terminating, 1);
    }

    #[test]
    fn the_status_counts_ready_available_and_fully_labelled_pods() {
        let members = members(&[
            USUAL,
            Shape { name: "fresh", ready_since: Some(NOW - 29), ..USUAL },
            Shape { name: "just available", ready_since: Some(NOW - 30), ..USUAL },
            Shape { name: "not ready", ready_since: None, ..USUAL },
            Shape { name: "relabelled", labels: &[("app", "other")], ..USUAL },
            Shape { name: "leaving", deleting: true, ..USUAL },
        ]);
        let set = set(5, 30);
        let status = status(&set, &members, None, at(NOW));
        assert_eq!(status.replicas, 5);
        assert_eq!(status.fully_labeled_replicas, Some(4));
        assert_eq!(status.ready_replicas, Some(4));
        assert_eq!(status.available_replicas, Some(3));
        assert_eq!(status.terminating_replicas, Some(1));
        assert_eq!(status.observed_generation, Some(4));
        assert_eq!(next_availability(&set, &members, at(NOW)), Some(at(NOW + 1)));
    }

    #[test]
    fn without_min_ready_seconds_every_ready_pod_is_available() {
        let members = members(&[Shape { ready_since: Some(NOW + 5), ..USUAL }]);
        assert_eq!(status(&set(1, 0), &members, None, at(NOW)).available_replicas, Some(1));
        assert_eq!(next_availability(&set(1, 0), &members, at(NOW)), None);
    }

    #[test]
    fn a_failure_is_told_once_and_taken_back() {
        let failure =
            |message: &str| Failure { reason: FailureReason::FailedCreate, message: message.to_owned() };
        let mut set = set(1, 0);
        let mut tell = |failure: Option<&Failure>, second: i64| {
            let status = status(&set, &Members::default(), failure, at(second));
            set.status = Some(status.clone());
            status.conditions
        };
        let first = tell(Some(&failure("exceeded quota")), 10).unwrap();
        assert_eq!(first[0].type_.as_deref(), Some("ReplicaFailure"));
        assert_eq!(first[0].reason.as_deref(), Some("FailedCreate"));
        assert_eq!(first[0].message.as_deref(), Some("exceeded quota"));
        assert_eq!(tell(Some(&failure("exceeded quota again")), 20), Some(first));
        assert_eq!(tell(None, 30), None);
    }

    #[test]
    fn a_status_without_zeros_is_the_same() {
        let full = status(&set(0, 0), &Members::default(), None, at(NOW));
        let bare =
            ReplicaSetStatus { replicas: 0, observed_generation: Some(4), ..ReplicaSetStatus::default() };
        assert!(same(&full, &bare));
        assert!(!same(&full, &ReplicaSetStatus { observed_generation: Some(3), ..bare }));
    }
}
