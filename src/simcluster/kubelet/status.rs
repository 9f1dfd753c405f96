//! A pod's status as a kubelet writes it.
//!
//! Pure. The rules are those of Kubernetes' `pkg/kubelet/status/generate.go` and `getPhase` in
//! `pkg/kubelet/kubelet_pods.go`; reasons and messages are theirs, because tools read them.

use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container as ContainerSpec, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::container::{Container, Exit, State};
use crate::simcluster::random::Random;
use crate::simcluster::{pod, whole_seconds};

/// What a kubelet knows of a pod.
pub(super) struct View<'a> {
    pub(super) pod: &'a Pod,
    /// One for each container of the spec, in its order.
    pub(super) containers: &'a [Container],
    /// When the kubelet first saw the pod.
    pub(super) started: Timestamp,
    pub(super) pod_ip: Option<Ipv4Addr>,
    pub(super) host_ip: Option<Ipv4Addr>,
    pub(super) readiness: Readiness,
    pub(super) now: Timestamp,
}

/// Whether containers that are ready may say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// They do.
    Told,
    /// Their probes are made to fail.
    Withheld,
    /// The node is lost: the pod is not ready, whatever its containers last said.
    NodeLost,
}

/// The status that the pod should have; fields that a kubelet does not write are left as they are.
pub(super) fn render(view: &View<'_>) -> PodStatus {
    let current = view.pod.status.clone().unwrap_or_default();
    let phase = phase(view);
    let init = init_statuses(view);
    let containers = statuses(view);
    PodStatus {
        conditions: Some(conditions(view, &phase, &containers, &current)),
        phase: Some(phase),
        container_statuses: Some(containers),
        init_container_statuses: (!init.is_empty()).then_some(init),
        start_time: current.start_time.clone().or_else(|| Some(Time(whole_seconds(view.started)))),
        pod_ip: view.pod_ip.map(|ip| ip.to_string()),
        pod_ips: view.pod_ip.map(|ip| vec![PodIP { ip: ip.to_string() }]),
        host_ip: view.host_ip.map(|ip| ip.to_string()),
        host_ips: view.host_ip.map(|ip| vec![HostIP { ip: ip.to_string() }]),
        observed_generation: view.pod.metadata.generation,
        ..current
    }
}

/// Whether a kubelet would see no reason to write.
pub(super) fn same(current: Option<&PodStatus>, wanted: &PodStatus) -> bool {
    let Some(current) = current else { return false };
    current.phase == wanted.phase
        && current.conditions == wanted.conditions
        && current.container_statuses == wanted.container_statuses
        && current.init_container_statuses == wanted.init_container_statuses
        && current.start_time == wanted.start_time
        && current.pod_ip == wanted.pod_ip
        && current.host_ip == wanted.host_ip
}

fn phase(view: &View<'_>) -> String {
    let any =
        |wanted: &dyn Fn(&State) -> bool| view.containers.iter().any(|container| wanted(&container.state));
    // Not yet run, and not run before.
    let waiting =
        any(&|state| matches!(state, State::Creating | State::PullFailed { .. } | State::PullBackOff { .. }));
    let restartable = any(&|state| !matches!(state, State::Exited { until: None, .. }));
    if waiting {
        "Pending"
    } else if restartable {
        "Running"
    } else {
        "Failed"
    }
    .to_owned()
}

fn container_specs(pod: &Pod) -> &[ContainerSpec] {
    pod.spec.as_ref().map_or(&[], |spec| &spec.containers)
}

fn init_specs(pod: &Pod) -> &[ContainerSpec] {
    pod.spec.as_ref().and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default()
}

fn statuses(view: &View<'_>) -> Vec<ContainerStatus> {
    let pairs = container_specs(view.pod).iter().zip(view.containers);
    pairs.map(|(spec, container)| status(view, spec, container)).collect()
}

fn status(view: &View<'_>, spec: &ContainerSpec, container: &Container) -> ContainerStatus {
    let image = spec.image.clone().unwrap_or_default();
    let id = |restarts: i32| container_id(view.pod, &spec.name, restarts);
    let ended = |exit: Exit, restarts: i32| terminated(exit, id(restarts));
    let runs = matches!(container.state, State::Starting { .. } | State::Ready { .. });
    let has_run = runs || matches!(container.state, State::Exited { .. } | State::CrashBackOff { .. });
    let waiting = |reason: &str, message: Option<String>| ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason.to_owned()), message }),
        ..ContainerState::default()
    };
    let pull_error = format!("failed to pull image \"{image}\": not found");
    let state = match container.state {
        State::Creating if init_specs(view.pod).is_empty() => waiting("ContainerCreating", None),
        State::Creating => waiting("PodInitializing", None),
        State::PullFailed { .. } => waiting("ErrImagePull", Some(pull_error)),
        State::PullBackOff { .. } => waiting(
            "ImagePullBackOff",
            Some(format!("Back-off pulling image \"{image}\": ErrImagePull: {pull_error}")),
        ),
        State::Starting { since, .. } | State::Ready { since } => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(whole_seconds(since))) }),
            ..ContainerState::default()
        },
        State::Exited { exit, .. } => {
            ContainerState { terminated: Some(ended(exit, container.restarts)), ..ContainerState::default() }
        }
        State::CrashBackOff { delay, .. } => {
            waiting("CrashLoopBackOff", Some(back_off_message(view.pod, &spec.name, delay)))
        }
    };
    // The last exit is of this run while it waits to be started again, else of the one before.
    let last_run = container.restarts - i32::from(!matches!(container.state, State::CrashBackOff { .. }));
    let last_state = container
        .last_exit
        .map(|exit| ContainerState { terminated: Some(ended(exit, last_run)), ..ContainerState::default() });
    ContainerStatus {
        name: spec.name.clone(),
        image_id: if has_run { image_id(&image) } else { String::new() },
        image,
        container_id: has_run.then(|| id(container.restarts)),
        ready: matches!(container.state, State::Ready { .. }) && view.readiness != Readiness::Withheld,
        started: Some(runs),
        restart_count: container.restarts,
        state: Some(state),
        last_state: Some(last_state.unwrap_or_default()),
        ..ContainerStatus::default()
    }
}

/// Init containers are done the moment that any other container goes on from being created; sidecars among them
/// run from then on.
fn init_statuses(view: &View<'_>) -> Vec<ContainerStatus> {
    let done = is_initialized(view);
    let status = |spec: &ContainerSpec| {
        let image = spec.image.clone().unwrap_or_default();
        let id = container_id(view.pod, &spec.name, 0);
        let moment = whole_seconds(view.started);
        let sidecar = spec.restart_policy.as_deref() == Some("Always");
        let state = if !done {
            ContainerState {
                waiting: Some(ContainerStateWaiting {
                    reason: Some("PodInitializing".to_owned()),
                    message: None,
                }),
                ..ContainerState::default()
            }
        } else if sidecar {
            ContainerState {
                running: Some(ContainerStateRunning { started_at: Some(Time(moment)) }),
                ..ContainerState::default()
            }
        } else {
            let mut ended = terminated(Exit { started: moment, finished: moment }, id.clone());
            (ended.exit_code, ended.reason) = (0, Some("Completed".to_owned()));
            ContainerState { terminated: Some(ended), ..ContainerState::default() }
        };
        ContainerStatus {
            name: spec.name.clone(),
            image_id: if done { image_id(&image) } else { String::new() },
            image,
            container_id: done.then_some(id),
            ready: done,
            started: Some(done && sidecar),
            state: Some(state),
            last_state: Some(ContainerState::default()),
            ..ContainerStatus::default()
        }
    };
    init_specs(view.pod).iter().map(status).collect()
}

fn is_initialized(view: &View<'_>) -> bool {
    init_specs(view.pod).is_empty()
        || view.containers.iter().any(|container| container.state != State::Creating)
}

fn conditions(
    view: &View<'_>,
    phase: &str,
    containers: &[ContainerStatus],
    current: &PodStatus,
) -> Vec<PodCondition> {
    let initialized = if is_initialized(view) {
        Verdict::holds()
    } else {
        let names = init_specs(view.pod).iter().map(|spec| spec.name.as_str());
        Verdict::fails("ContainersNotInitialized", listed("containers with incomplete status", names))
    };
    let unready: Vec<&str> =
        containers.iter().filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    let containers_ready = if phase == "Failed" {
        Verdict { status: "False", reason: Some("PodFailed"), message: None }
    } else if unready.is_empty() {
        Verdict::holds()
    } else {
        Verdict::fails("ContainersNotReady", listed("containers with unready status", unready.into_iter()))
    };
    let ready = match view.readiness {
        Readiness::NodeLost => Verdict { status: "False", reason: None, message: None },
        _ if containers_ready.status == "False" => containers_ready.clone(),
        _ => gates(view.pod),
    };
    let own = [
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Verdict::holds()),
    ];
    let others = current.conditions.iter().flatten();
    let others = others.filter(|condition| own.iter().all(|(kind, _)| *kind != condition.type_)).cloned();
    let mut all: Vec<PodCondition> = own
        .iter()
        .map(|(kind, verdict)| condition(kind, verdict, pod::condition(view.pod, kind), view.now))
        .collect();
    all.extend(others);
    all
}

/// A condition's status with its reason.
#[derive(Clone, Debug)]
struct Verdict {
    status: &'static str,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn holds() -> Self {
        Self { status: "True", reason: None, message: None }
    }

    fn fails(reason: &'static str, message: String) -> Self {
        Self { status: "False", reason: Some(reason), message: Some(message) }
    }
}

/// Whether every readiness gate is open: conditions that somebody else sets.
fn gates(pod: &Pod) -> Verdict {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    let closed: Vec<String> = gates
        .iter()
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            match pod::condition(pod, kind) {
                None => {
                    Some(format!("corresponding condition of pod readiness gate \"{kind}\" does not exist."))
                }
                Some(condition) if condition.status != "True" => Some(format!(
                    "the status of pod readiness gate \"{kind}\" is not \"True\", but {}",
                    condition.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if closed.is_empty() {
        Verdict::holds()
    } else {
        Verdict::fails("ReadinessGatesNotReady", closed.join(", "))
    }
}

fn condition(kind: &str, verdict: &Verdict, current: Option<&PodCondition>, now: Timestamp) -> PodCondition {
    let since = current.filter(|current| current.status == verdict.status);
    let since = since.and_then(|current| current.last_transition_time.clone());
    PodCondition {
        type_: kind.to_owned(),
        status: verdict.status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message.clone(),
        last_transition_time: since.or_else(|| Some(Time(whole_seconds(now)))),
        ..PodCondition::default()
    }
}

fn listed<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    format!("{what}: [{}]", names.join(" "))
}

fn terminated(exit: Exit, container_id: String) -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: 1,
        reason: Some("Error".to_owned()),
        started_at: Some(Time(whole_seconds(exit.started))),
        finished_at: Some(Time(whole_seconds(exit.finished))),
        container_id: Some(container_id),
        ..ContainerStateTerminated::default()
    }
}

fn back_off_message(pod: &Pod, container: &str, delay: Duration) -> String {
    format!(
        "back-off {} restarting failed container={container} pod={}_{}({})",
        go_duration(delay),
        pod::name(pod),
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod::uid(pod),
    )
}

/// As Go prints durations: `10s`, `1m20s`, `250ms`.
fn go_duration(duration: Duration) -> String {
    let (minutes, seconds) = (duration.as_secs() / 60, duration.as_secs() % 60);
    match minutes {
        0 if seconds == 0 => format!("{}ms", duration.as_millis()),
        0 => format!("{seconds}s"),
        _ => format!("{minutes}m{seconds}s"),
    }
}

fn container_id(pod: &Pod, container: &str, restarts: i32) -> String {
    format!("containerd://{}", digest(&format!("{}/{container}/{restarts}", pod::uid(pod))))
}

fn image_id(image: &str) -> String {
    format!("sha256:{}", digest(image))
}

/// Looks like a SHA-256 digest and is the same for the same text; nothing here is ever fetched by it.
fn digest(text: &str) -> String {
    let numbers = Random::new(0);
    (0..4).map(|part| format!("{:016x}", numbers.number(text, part))).collect()
}
