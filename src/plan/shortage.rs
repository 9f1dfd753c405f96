//! Why pods of a ReplicaSet are not available: which pod cannot run and for what reason, since when, and how long it may take.
//!
//! What pods say is known where they were looked at ([`Observed::pods`](super::Observed::pods)); without them the counts of the set speak.

use jiff::Timestamp;

use super::blocker::{Blocker, BlockerReason, Object};
use super::canary;
use super::conditions::{self, Facts};
use super::observed::{Pod, PodFault, PodPart, ReplicaSet};
use crate::crd::{RolloutStatus, Strategy};

/// The pods that a set lacks.
struct Shortage<'a> {
    set: &'a ReplicaSet,
    /// How many of its pods the step needs, where that is fewer than all.
    enough: Option<i32>,
    /// Those that exist and are not available, oldest first.
    pods: Vec<&'a Pod>,
    /// When the one that becomes available last does, where all of them are ready.
    available_at: Option<Timestamp>,
    /// When the progress deadline passes, if it runs.
    deadline: Option<Timestamp>,
    /// What happens then.
    outcome: &'static str,
}

/// Says what keeps pods of a set from being available; nothing where all are.
#[must_use]
pub(super) fn shortage(facts: &Facts<'_>, status: &RolloutStatus, set: &ReplicaSet) -> Vec<Blocker> {
    if set.status.available >= set.replicas {
        return Vec::new();
    }
    let available_at = |pod: &Pod| pod.available_from(set.min_ready_seconds);
    let is_missing = |pod: &&Pod| {
        pod.set == set.uid && !pod.terminating && available_at(pod).is_none_or(|at| at > facts.now)
    };
    let mut pods: Vec<&Pod> = facts.seen.pods.iter().filter(is_missing).collect();
    pods.sort_by_key(|pod| (pod.created, &pod.name));
    let last: Option<Vec<Timestamp>> = pods.iter().map(|pod| available_at(pod)).collect();
    let all_exist = i32::try_from(pods.len()).is_ok_and(|count| count >= set.replicas - set.status.available);
    let shortage = Shortage {
        set,
        enough: enough(facts, set),
        available_at: last.filter(|_| all_exist).and_then(|times| times.into_iter().max()),
        deadline: conditions::deadline(facts, status.conditions()),
        outcome: match conditions::aborts_in_the_end(facts) {
            true => "the update is aborted",
            false => "the progress deadline passes",
        },
        pods,
    };
    shortage.failing_pod().into_iter().chain([shortage.not_available()]).collect()
}

/// How many pods of the new set the step that runs needs (replicaProgressThreshold); `None`: all of them.
fn enough(facts: &Facts<'_>, set: &ReplicaSet) -> Option<i32> {
    let Strategy::Canary(canary) = facts.strategy else { return None };
    let threshold = canary.replica_progress_threshold.as_ref()?;
    facts.stance.action(canary)?;
    let is_new = facts.revisions.new_set().is_some_and(|new| new.name == set.name);
    Some(canary::enough(threshold, set.replicas)).filter(|enough| is_new && *enough < set.replicas)
}

impl Shortage<'_> {
    /// The oldest pod that cannot run.
    fn failing_pod(&self) -> Option<Blocker> {
        let mut failing = self.pods.iter().filter_map(|pod| Some((pod, pod.fault.as_ref()?)));
        let (pod, fault) = failing.next()?;
        let more = match failing.count() {
            0 => String::new(),
            more => format!(" (and {more} more of its set)"),
        };
        let remedy = match fault.part {
            PodPart::Scheduling => "make room, abort, or change the pod template",
            PodPart::InitContainer(_) | PodPart::Container(_) => "abort, or change the pod template",
        };
        Some(Blocker {
            reason: BlockerReason::PodFailing,
            object: Object::Pod(pod.name.clone()),
            condition: condition(fault),
            since: pod.unready_since,
            message: format!("pod {:?}: {fault}{more}", pod.name),
            next: match self.deadline {
                Some(_) => format!("{}, unless it runs before; {remedy}", self.outcome),
                None => format!("the cluster tries again; {remedy}"),
            },
            next_at: self.deadline,
        })
    }

    fn not_available(&self) -> Blocker {
        let (available, wanted) = (self.set.status.available, self.set.replicas);
        let mut message = format!("{available} of {wanted} pods are available");
        if let Some(enough) = self.enough {
            message += &format!("; {enough} of {wanted} pods are enough for the step");
        }
        let needed = self.enough.filter(|enough| *enough > available).unwrap_or(wanted);
        let of_pods = self.pods.iter().filter_map(|pod| pod.unready_since.or(pod.ready_since)).min();
        let (next, next_at) = match (self.available_at, self.deadline) {
            (Some(at), _) => {
                message += "; the others are ready and count as available after minReadySeconds";
                ("they are available".to_owned(), Some(at))
            }
            (None, Some(deadline)) => {
                (format!("{}, unless they are available before", self.outcome), Some(deadline))
            }
            (None, None) => ("it goes on once they are".to_owned(), None),
        };
        if let (None, Some(pod)) = (self.available_at, self.pods.iter().find(|pod| pod.ready_since.is_none()))
        {
            message += &format!("; pod {:?} is not ready", pod.name);
        }
        Blocker {
            reason: BlockerReason::PodsNotAvailable,
            object: Object::ReplicaSet(self.set.name.clone()),
            condition: format!("status.availableReplicas {available}/{needed}"),
            since: of_pods,
            message,
            next,
            next_at,
        }
    }
}

/// What must come true of a pod's part, as data.
fn condition(fault: &PodFault) -> String {
    match &fault.part {
        PodPart::Scheduling => "status.conditions[PodScheduled] False/True".to_owned(),
        PodPart::InitContainer(name) => {
            format!("status.initContainerStatuses[{name}].state {}/Completed", fault.reason)
        }
        PodPart::Container(name) => {
            format!("status.containerStatuses[{name}].state {}/Running", fault.reason)
        }
    }
}
