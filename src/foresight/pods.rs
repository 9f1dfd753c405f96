//! The pods of one ReplicaSet, and who moves them: the ReplicaSet controller, and kubelets.
//!
//! Just what plans and statuses tell of: how many there are, and how many of them are ready and available. Pods that go are gone at once.

use std::collections::HashSet;

use jiff::Timestamp;

use crate::crd::Time;
use crate::plan::{Pod, ReplicaSet, SetStatus};

/// A pod, and what becomes of it.
#[derive(Clone, Debug)]
struct Life {
    pod: Pod,
    /// When it becomes ready; `None` when it is, or never will.
    ready_at: Option<Timestamp>,
}

/// The pods of one ReplicaSet.
#[derive(Clone, Debug, Default)]
pub(super) struct Pods {
    lives: Vec<Life>,
    /// How many were created here: their names.
    created: u64,
}

impl Pods {
    /// Takes a pod in that exists already.
    pub(super) fn take_in(&mut self, pod: Pod, ready_at: Option<Timestamp>) {
        let ready_at = ready_at.filter(|_| pod.ready_since.is_none());
        self.lives.push(Life { pod, ready_at });
    }

    /// The pods there are.
    pub(super) fn all(&self) -> impl Iterator<Item = &Pod> {
        self.lives.iter().map(|life| &life.pod)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.lives.len()
    }

    /// Takes the pods of these uids away.
    pub(super) fn evict(&mut self, uids: &HashSet<&str>) {
        self.lives.retain(|life| !uids.contains(life.pod.uid.as_str()));
    }

    /// Has those ready whose time has come.
    pub(super) fn start(&mut self, now: Timestamp) {
        for life in &mut self.lives {
            if life.ready_at.is_some_and(|at| at <= now) {
                life.ready_at = None;
                // Conditions tell seconds apart only.
                life.pod.ready_since = Some(Time::from(now).instant());
            }
        }
    }

    /// Brings them to the number that their ReplicaSet wants, as its controller does: those that serve nobody go first, then the
    /// youngest.
    pub(super) fn resize(&mut self, set: &ReplicaSet, ready_at: Option<Timestamp>, now: Timestamp) {
        let wanted = usize::try_from(set.replicas).unwrap_or(0);
        if self.lives.len() > wanted {
            self.lives.sort_by_key(|life| (life.pod.ready_since.is_none(), life.pod.created));
            self.lives.truncate(wanted);
        }
        // A cluster that refuses this set's pods is taken to go on doing so.
        if set.status.failure.as_ref().is_some_and(|failure| failure.status == "True") {
            return;
        }
        while self.lives.len() < wanted {
            self.created += 1;
            let name = format!("{}-planned-{}", set.name, self.created);
            let pod = Pod {
                uid: name.clone(),
                name,
                set: set.uid.clone(),
                created: Time::from(now).instant(),
                ..Pod::default()
            };
            self.lives.push(Life { pod, ready_at });
        }
    }

    /// What the set's status says of them.
    pub(super) fn status(&self, set: &ReplicaSet, now: Timestamp) -> SetStatus {
        let count = |is_one: &dyn Fn(&&Pod) -> bool| {
            i32::try_from(self.all().filter(is_one).count()).unwrap_or(i32::MAX)
        };
        SetStatus {
            replicas: count(&|_| true),
            ready: count(&|pod| pod.ready_since.is_some()),
            available: count(&|pod| {
                pod.available_from(set.min_ready_seconds).is_some_and(|from| from <= now)
            }),
            observed_generation: set.generation,
            failure: set.status.failure.clone(),
        }
    }

    /// When the next of them becomes ready or available; `None` when none is on its way.
    pub(super) fn next_move(&self, set: &ReplicaSet, now: Timestamp) -> Option<Timestamp> {
        let next = |life: &Life| life.ready_at.or_else(|| life.pod.available_from(set.min_ready_seconds));
        self.lives.iter().filter_map(next).filter(|at| *at > now).min()
    }
}
