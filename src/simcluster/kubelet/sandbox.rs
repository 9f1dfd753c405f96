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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simcluster::behaviour::{ImageMatch, Outcome, Rule};
    use serde_json::{Value, json};

    const START_UP: Duration = Duration::from_secs(2);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn behaviour() -> Behaviour {
        let crashing = Rule {
            image: ImageMatch::Prefix("crashing".to_owned()),
            start_up: None,
            outcome: Outcome::CrashLoop,
        };
        Behaviour {
            start_up: START_UP,
            termination: Duration::from_secs(5),
            rules: vec![crashing],
            ..Behaviour::default()
        }
    }

    fn pod(metadata: &Value, spec: &Value) -> Pod {
        let mut pod = json!({
            "metadata": { "name": "web", "namespace": "ns", "uid": "u" },
            "spec": { "nodeName": "n", "containers": [{ "name": "app", "image": "web:1" }] },
        });
        json_patch::merge(&mut pod, &json!({ "metadata": metadata, "spec": spec }));
        serde_json::from_value(pod).unwrap()
    }

    /// A pod with its sandbox, as time goes by.
    struct Story {
        pod: Pod,
        sandbox: Sandbox,
        node: NodeState,
        now: i64,
    }

    impl Story {
        fn new(pod: Pod) -> Self {
            Self::at(pod, 0)
        }

        fn at(pod: Pod, now: i64) -> Self {
            let (overrides, _) = Overrides::read(pod.metadata.annotations.as_ref());
            let sandbox = Sandbox::new(&pod, &behaviour(), &overrides, at(now));
            Self { pod, sandbox, node: NodeState::Up, now }
        }

        fn circumstances(&self) -> Circumstances {
            Circumstances {
                node: self.node,
                host_ip: None,
                began: at(0),
                back_off: behaviour().back_off,
                eviction: Duration::from_secs(60),
                now: at(self.now),
            }
        }

        /// Decides at `now`, and lets the API server take what is reported.
        fn decide(&mut self, now: i64) -> Decision {
            self.now = now;
            let circumstances = self.circumstances();
            let decision = self.sandbox.decide(&self.pod, &circumstances);
            if let Act::Report(status) = &decision.act {
                self.pod.status = Some((**status).clone());
            }
            decision
        }

        /// Phase, state of the first container and readiness, at `now`.
        fn look(&mut self, now: i64) -> String {
            self.decide(now);
            let status = serde_json::to_value(self.pod.status.as_ref().unwrap()).unwrap();
            let state = &status["containerStatuses"][0]["state"];
            let state = state["waiting"]["reason"].as_str().or_else(|| {
                let kinds = ["running", "terminated"];
                kinds.into_iter().find(|kind| state.get(kind).is_some())
            });
            let (phase, ready) = (status["phase"].as_str().unwrap(), pod::is_ready(&self.pod));
            format!("{phase} {} {ready}", state.unwrap())
        }
    }

    #[test]
    fn a_pod_goes_from_pending_over_running_to_ready_and_is_written_once_each() {
        let mut story = Story::new(pod(&json!({}), &json!({})));
        assert_eq!(story.look(0), "Pending ContainerCreating false");
        assert_eq!(story.decide(0), Decision { act: Act::Nothing, look_again: Some(at(1)) });
        assert_eq!(story.look(1), "Running running false");
        assert_eq!(story.decide(1), Decision { act: Act::Nothing, look_again: Some(at(2)) });
        assert_eq!(story.look(2), "Running running true");
        assert_eq!(story.decide(1000), Decision::nothing());
    }

    #[test]
    fn transition_times_are_of_the_moment_of_change() {
        let mut story = Story::new(pod(&json!({}), &json!({})));
        for second in 0..10 {
            story.decide(second);
        }
        let since =
            |kind: &str| pod::condition(&story.pod, kind).unwrap().last_transition_time.clone().unwrap().0;
        assert_eq!(since("PodScheduled"), at(0));
        assert_eq!(since("Initialized"), at(0));
        assert_eq!(since("Ready"), at(2));
        assert_eq!(since("ContainersReady"), at(2));
        assert_eq!(story.pod.status.as_ref().unwrap().start_time.clone().unwrap().0, at(0));
    }

    #[test]
    fn a_pod_is_as_slow_as_its_slowest_container_and_says_which_is_not_ready() {
        let containers = json!({ "containers": [
            { "name": "app", "image": "web:1" },
            { "name": "proxy", "image": "crashing:1" },
        ] });
        let mut story = Story::new(pod(&json!({}), &containers));
        story.decide(2);
        assert!(!pod::is_ready(&story.pod));
        let ready = pod::condition(&story.pod, "Ready").unwrap();
        assert_eq!(ready.reason.as_deref(), Some("ContainersNotReady"));
        assert_eq!(ready.message.as_deref(), Some("containers with unready status: [proxy]"));
    }

    #[test]
    fn init_containers_are_done_before_others_run_and_sidecars_stay() {
        let init = json!({ "initContainers": [
            { "name": "setup", "image": "setup:1" },
            { "name": "mesh", "image": "mesh:1", "restartPolicy": "Always" },
        ] });
        let mut story = Story::new(pod(&json!({}), &init));
        assert_eq!(story.look(0), "Pending PodInitializing false");
        let initialized = pod::condition(&story.pod, "Initialized").unwrap();
        assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [setup mesh]"));
        assert_eq!(story.look(1), "Running running false");
        let statuses = story.pod.status.as_ref().unwrap().init_container_statuses.as_ref().unwrap();
        let ended = statuses[0].state.as_ref().unwrap().terminated.as_ref().unwrap();
        assert_eq!((ended.exit_code, ended.reason.as_deref()), (0, Some("Completed")));
        assert!(statuses[1].state.as_ref().unwrap().running.is_some());
        assert_eq!(pod::condition(&story.pod, "Initialized").unwrap().status, "True");
    }

    #[test]
    fn withheld_readiness_shows_in_containers_and_conditions_until_given_back() {
        let mut story = Story::new(pod(&json!({}), &json!({})));
        assert_eq!(story.look(2), "Running running true");
        story.sandbox.set_readiness(Readiness::Withheld);
        assert_eq!(story.look(3), "Running running false");
        assert!(!story.pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].ready);
        story.sandbox.set_readiness(Readiness::Told);
        assert_eq!(story.look(4), "Running running true");
    }

    #[test]
    fn a_crash_restarts_the_container_and_remembers_the_exit() {
        let mut story = Story::new(pod(&json!({}), &json!({})));
        story.decide(2);
        story.now = 3;
        let circumstances = story.circumstances();
        assert!(story.sandbox.crash(&circumstances));
        assert_eq!(story.look(3), "Running terminated false");
        assert_eq!(story.look(4), "Running running false");
        assert_eq!(story.look(5), "Running running true");
        let container = &story.pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0];
        assert_eq!(container.restart_count, 1);
        let exit = container.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
        assert_eq!(exit.finished_at.clone().unwrap().0, at(3));
        assert_ne!(exit.container_id, container.container_id, "each run has its own id");
    }

    #[test]
    fn a_crash_loop_names_the_container_and_the_delay() {
        let mut story =
            Story::new(pod(&json!({}), &json!({ "containers": [{ "name": "app", "image": "crashing:1" }] })));
        assert_eq!(story.look(6), "Running CrashLoopBackOff false");
        let state =
            story.pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].state.clone().unwrap();
        let message = state.waiting.unwrap().message.unwrap();
        assert_eq!(message, "back-off 10s restarting failed container=app pod=web_ns(u)");
    }

    #[test]
    fn a_pod_that_must_not_restart_fails_for_good() {
        let spec =
            json!({ "restartPolicy": "Never", "containers": [{ "name": "app", "image": "crashing:1" }] });
        let mut story = Story::new(pod(&json!({}), &spec));
        assert_eq!(story.look(2), "Failed terminated false");
        assert_eq!(pod::condition(&story.pod, "Ready").unwrap().reason.as_deref(), Some("PodFailed"));
        assert_eq!(story.decide(1000), Decision::nothing());
    }

    #[test]
    fn a_deleted_pod_goes_after_its_termination_or_its_grace_whichever_is_shorter() {
        let deleted = "2026-01-01T00:00:00Z";
        for (grace, termination, gone_at) in
            [(30, None, 5), (2, None, 2), (30, Some("1s"), 1), (30, Some("1m"), 30), (30, Some("0s"), 0)]
        {
            let mut annotations = json!({});
            if let Some(termination) = termination {
                annotations = json!({ crate::simcluster::behaviour::TERMINATION_ANNOTATION: termination });
            }
            let metadata = json!({
                "deletionTimestamp": deleted,
                "deletionGracePeriodSeconds": grace,
                "annotations": annotations,
            });
            let mut story = Story::new(pod(&metadata, &json!({})));
            if gone_at > 0 {
                assert_eq!(story.decide(0), Decision { act: Act::Nothing, look_again: Some(at(gone_at)) });
            }
            assert_eq!(story.decide(gone_at).act, Act::Remove, "grace {grace}, termination {termination:?}");
        }
    }

    #[test]
    fn a_pod_without_grace_left_is_not_ours_to_remove_again() {
        let metadata =
            json!({ "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0 });
        assert_eq!(Story::new(pod(&metadata, &json!({}))).decide(100), Decision::nothing());
    }

    #[test]
    fn a_pod_on_a_lost_node_is_not_ready_then_evicted_and_never_removed() {
        let mut story = Story::new(pod(&json!({}), &json!({})));
        assert_eq!(story.look(2), "Running running true");
        story.node = NodeState::Lost(at(10));
        assert_eq!(story.look(10), "Running running false");
        assert_eq!(pod::condition(&story.pod, "ContainersReady").unwrap().status, "True");
        assert_eq!(story.decide(11), Decision { act: Act::Nothing, look_again: Some(at(70)) });
        assert_eq!(story.decide(70).act, Act::Evict);
        story.pod.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(70)));
        story.pod.metadata.deletion_grace_period_seconds = Some(30);
        assert_eq!(story.decide(1000), Decision::nothing());
        story.node = NodeState::Up;
        assert_eq!(story.decide(1001), Decision { act: Act::Nothing, look_again: Some(at(1006)) });
        assert_eq!(story.decide(1006).act, Act::Remove);
    }

    #[test]
    fn another_kubelet_goes_on_from_the_status() {
        let mut first = Story::new(pod(&json!({}), &json!({})));
        assert_eq!(first.look(2), "Running running true");
        let mut second = Story::at(first.pod.clone(), 50);
        assert_eq!(second.decide(50), Decision::nothing(), "what is ready stays as it is");

        let mut first = Story::new(pod(&json!({}), &json!({})));
        assert_eq!(first.look(1), "Running running false");
        let mut second = Story::at(first.pod.clone(), 50);
        assert_eq!(second.look(50), "Running running false");
        assert_eq!(second.look(51), "Running running true");

        let mut first =
            Story::new(pod(&json!({}), &json!({ "containers": [{ "name": "app", "image": "crashing:1" }] })));
        assert_eq!(first.look(6), "Running CrashLoopBackOff false");
        let restarts = |story: &Story| {
            story.pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].restart_count
        };
        let before = restarts(&first);
        let mut second = Story::at(first.pod.clone(), 50);
        assert_eq!(second.look(50), "Running running false");
        assert_eq!(restarts(&second), before + 1);
    }
}
