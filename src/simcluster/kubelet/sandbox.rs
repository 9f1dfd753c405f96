//! What the kubelet remembers of a pod, and what it does next for it.
//!
//! Pure. A [`Sandbox`] is made when a pod is first seen, taking up what its status says of an earlier life;
//! [`Sandbox::decide`] is asked whenever the pod or time has moved on.

use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

use super::container::{Container, Due, Exit, Restart, State, after};
use super::status::{self, Readiness, View};
use crate::simcluster::behaviour::{BackOff, Behaviour, Overrides};
use crate::simcluster::node::NodeState;
use crate::simcluster::pod::{self, Phase};

/// A pod as its kubelet remembers it.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) uid: String,
    pub(super) pod_ip: Option<Ipv4Addr>,
    /// One for each container of the spec, in its order.
    containers: Vec<Container>,
    /// When the pod was first seen.
    started: Timestamp,
    /// Since when it is being stopped.
    leaving: Option<Timestamp>,
    /// How long stopping takes at most; its grace period may be shorter.
    termination: Duration,
    readiness: Readiness,
}

/// What to do for a pod.
#[derive(Debug, PartialEq)]
pub(super) enum Act {
    Nothing,
    /// Write its status.
    Report(Box<PodStatus>),
    /// Its containers are stopped: remove the object.
    Remove,
    /// Its node is lost for long: ask for its deletion.
    Evict,
}

/// What to do now, and when to look again.
#[derive(Debug, PartialEq)]
pub(super) struct Decision {
    pub(super) act: Act,
    pub(super) look_again: Option<Timestamp>,
}

impl Decision {
    fn nothing() -> Self {
        Self { act: Act::Nothing, look_again: None }
    }

    /// Acts at `at`, if that has come.
    fn at(at: Timestamp, now: Timestamp, act: Act) -> Self {
        if now >= at {
            Self { act, look_again: None }
        } else {
            Self { act: Act::Nothing, look_again: Some(at) }
        }
    }
}

/// What a decision depends on besides the pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    pub(super) node: NodeState,
    pub(super) host_ip: Option<Ipv4Addr>,
    /// When the pod's cohort began.
    pub(super) began: Timestamp,
    pub(super) back_off: BackOff,
    pub(super) eviction: Duration,
    pub(super) now: Timestamp,
}

impl Sandbox {
    pub(super) fn new(pod: &Pod, behaviour: &Behaviour, overrides: &Overrides, now: Timestamp) -> Self {
        let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        // Containers end with errors only, for which OnFailure restarts too.
        let restart = if policy == Some("Never") { Restart::Never } else { Restart::Always };
        let specs = pod.spec.iter().flat_map(|spec| &spec.containers);
        let containers = specs.map(|spec| {
            let plan = behaviour.plan(spec.image.as_deref().unwrap_or_default(), overrides);
            let earlier = container_status(pod, &spec.name);
            let container = Container::new(plan, restart);
            match earlier {
                Some(status) => take_up(status, container, now),
                None => container,
            }
        });
        Self {
            uid: pod::uid(pod).to_owned(),
            pod_ip: pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()?.parse().ok()),
            containers: containers.collect(),
            started: now,
            leaving: None,
            termination: behaviour.termination(overrides),
            readiness: Readiness::Told,
        }
    }

    /// The longest start-up time of its containers.
    pub(super) fn start_up(&self) -> Duration {
        self.containers.iter().map(|container| container.plan.start_up).max().unwrap_or_default()
    }

    /// Withholds or gives back readiness, whatever the containers do.
    pub(super) fn set_readiness(&mut self, readiness: Readiness) {
        self.readiness = readiness;
    }

    /// Lets every running container exit with an error; whether any ran.
    pub(super) fn crash(&mut self, circumstances: &Circumstances) -> bool {
        let Circumstances { began, back_off, now, .. } = *circumstances;
        let mut crashed = false;
        for container in &mut self.containers {
            container.advance(began, now, back_off);
            crashed |= container.crash(now, back_off);
        }
        crashed
    }

    pub(super) fn decide(&mut self, pod: &Pod, circumstances: &Circumstances) -> Decision {
        let now = circumstances.now;
        if pod::is_deleting(pod) {
            return self.terminate(pod, circumstances);
        }
        if pod::phase(pod) == Phase::Terminal {
            return Decision::nothing();
        }
        match circumstances.node {
            NodeState::Foreign => Decision::nothing(),
            NodeState::Lost(since) => {
                let evict_at = after(since, circumstances.eviction);
                if now >= evict_at {
                    return Decision { act: Act::Evict, look_again: None };
                }
                let act = self.report(pod, circumstances, Readiness::NodeLost);
                Decision { act, look_again: Some(evict_at) }
            }
            NodeState::Up => {
                for container in &mut self.containers {
                    container.advance(circumstances.began, now, circumstances.back_off);
                }
                let act = self.report(pod, circumstances, self.readiness);
                let changes =
                    self.containers.iter().filter_map(|container| container.next_change(circumstances.began));
                Decision { act, look_again: changes.min() }
            }
        }
    }

    fn terminate(&mut self, pod: &Pod, circumstances: &Circumstances) -> Decision {
        let grace = pod.metadata.deletion_grace_period_seconds;
        // With no grace left the kubelet has no more part in it: finalizers hold the object, if anything.
        if grace == Some(0) || circumstances.node != NodeState::Up {
            return Decision::nothing();
        }
        let leaving = *self.leaving.get_or_insert(circumstances.now);
        let grace =
            grace.and_then(|seconds| u64::try_from(seconds).ok()).map_or(Duration::MAX, Duration::from_secs);
        Decision::at(after(leaving, self.termination.min(grace)), circumstances.now, Act::Remove)
    }

    fn report(&self, pod: &Pod, circumstances: &Circumstances, readiness: Readiness) -> Act {
        let wanted = status::render(&View {
            pod,
            containers: &self.containers,
            started: self.started,
            pod_ip: self.pod_ip,
            host_ip: circumstances.host_ip,
            readiness,
            now: circumstances.now,
        });
        if status::same(pod.status.as_ref(), &wanted) { Act::Nothing } else { Act::Report(Box::new(wanted)) }
    }
}

fn container_status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_deref()?;
    statuses.iter().find(|status| status.name == container)
}

/// Goes on from what an earlier kubelet reported. Times within a second are lost, so that whatever was under way
/// starts over.
fn take_up(status: &ContainerStatus, container: Container, now: Timestamp) -> Container {
    let exit = |ended: ContainerStateTerminated| Exit {
        started: ended.started_at.map_or(now, |time| time.0),
        finished: ended.finished_at.map_or(now, |time| time.0),
    };
    let state = status.state.clone().unwrap_or_default();
    let last_exit = status.last_state.clone().and_then(|last| last.terminated).map(exit);
    let ready = Due::At(after(now, container.plan.start_up / 2));
    let (state, restarts) = if let Some(running) = state.running {
        let since = running.started_at.map_or(now, |time| time.0);
        (if status.ready { State::Ready { since } } else { State::Starting { since, ready } }, 0)
    } else if let Some(ended) = state.terminated {
        (State::Exited { exit: exit(ended), until: container.restarts_by_itself().then_some(now) }, 0)
    } else if last_exit.is_some() {
        (State::Starting { since: now, ready }, 1)
    } else {
        (State::Creating, 0)
    };
    container.resume(state, status.restart_count.saturating_add(restarts), last_exit)
}
