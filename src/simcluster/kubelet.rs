//! The kubelet of every simulated node: pods start, become ready, crash and stop.
//!
//! Depends on the watch cache of pods. `container` is one container's life, `sandbox` decides for a pod, `status`
//! writes it down as a kubelet does; this file keeps them, waits and sends the requests.

mod address;
mod cohort;
mod container;
mod files;
mod sandbox;
mod status;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use self::address::Addresses;
use self::cohort::{Cohorts, Member};
use self::sandbox::{Act, Circumstances, Sandbox};
use self::status::Readiness;
use super::behaviour::{Behaviour, Overrides};
use super::cache::{Cache, Change, Key, OwnWrites};
use super::event::{Recorder, Severity};
use super::node::{NodeState, Nodes};
use super::pod;
use super::queue::{Controller, Next, Queue};
use super::request::{Refusal, SyncError, versioned_patch};
use crate::clock::Clock;

/// Runs the pods of all nodes.
pub(super) struct Kubelet {
    context: Context,
    queue: Queue<Key>,
    memory: Mutex<Memory>,
    own_writes: OwnWrites,
}

/// What the kubelet works with.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) clock: Clock,
    pub(super) behaviour: Behaviour,
    pub(super) nodes: Arc<Nodes>,
    pub(super) recorder: Recorder,
    pub(super) pods: Arc<Cache<Pod>>,
}

/// A fault to inject into a pod, or its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its readiness probes fail from now on.
    Unready,
    /// They tell the truth again.
    Recovered,
    /// Its containers exit with an error.
    Crash,
}

/// Why a fault was not injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotInjected {
    /// No node of ours runs this pod.
    UnknownPod,
    /// No container of it runs.
    NotRunning,
}

#[derive(Debug, Default)]
struct Memory {
    pods: BTreeMap<Key, Remembered>,
    cohorts: Cohorts,
    addresses: Addresses,
}

#[derive(Debug)]
struct Remembered {
    sandbox: Sandbox,
    cohort: Member,
    /// Whose pods start together: the controller's uid, or the pod's own.
    owner: String,
}

impl Kubelet {
    pub(super) fn new(context: Context) -> Self {
        let queue = Queue::new(context.clock.clone());
        Self { context, queue, memory: Mutex::new(Memory::default()), own_writes: OwnWrites::new() }
    }

    /// A pod changed. It is remembered at once, not when its turn comes: its start-up time has begun.
    pub(super) fn on_pod(&self, change: &Change<'_, Pod>) {
        match change.new {
            Some(pod) => self.remember(change.key, pod),
            None => self.memory().forget(change.key),
        }
        self.queue.add(change.key.clone());
    }

    /// A node was lost or is back: look at all its pods.
    pub(super) fn on_node(&self, node: &str) {
        for pod in self.context.pods.all() {
            if pod::node_name(&pod) == Some(node) {
                self.queue.add(Key::of(&pod.metadata));
            }
        }
    }

    /// Injects a fault into a running pod.
    pub(super) fn inject(&self, key: &Key, fault: Fault) -> Result<(), NotInjected> {
        let pod = self.context.pods.get(key).ok_or(NotInjected::UnknownPod)?;
        let mut memory = self.memory();
        let circumstances = self.circumstances(&memory, key, &pod).ok_or(NotInjected::UnknownPod)?;
        let sandbox = &mut memory.pods.get_mut(key).ok_or(NotInjected::UnknownPod)?.sandbox;
        match fault {
            Fault::Unready => sandbox.set_readiness(Readiness::Withheld),
            Fault::Recovered => sandbox.set_readiness(Readiness::Told),
            Fault::Crash if sandbox.crash(&circumstances) => {}
            Fault::Crash => return Err(NotInjected::NotRunning),
        }
        drop(memory);
        self.queue.add(key.clone());
        Ok(())
    }

    /// What a container of a pod that runs here finds in its Downward API volumes.
    pub(super) fn files(&self, key: &Key, container: &str) -> Result<BTreeMap<String, String>, NotInjected> {
        let pod = self.context.pods.get(key).ok_or(NotInjected::UnknownPod)?;
        if !self.memory().pods.contains_key(key) {
            return Err(NotInjected::UnknownPod);
        }
        files::files(&pod, container).ok_or(NotInjected::NotRunning)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("no holder of this lock panics")
    }

    fn remember(&self, key: &Key, pod: &Pod) {
        let ours =
            pod::node_name(pod).is_some_and(|node| self.context.nodes.state(node) != NodeState::Foreign);
        let mut memory = self.memory();
        if memory.pods.get(key).is_some_and(|known| known.sandbox.uid != pod::uid(pod)) {
            memory.forget(key);
        }
        if !ours || memory.pods.contains_key(key) {
            return;
        }
        let (overrides, bad) = Overrides::read(pod.metadata.annotations.as_ref());
        let now = self.context.clock.now();
        memory.add(key, pod, Sandbox::new(pod, &self.context.behaviour, &overrides, now), now);
        drop(memory);
        for annotation in bad {
            let reason = (Severity::Warning, "InvalidAnnotation");
            self.context.recorder.record(pod, "kubelet", reason, annotation.to_string());
        }
    }

    /// What a decision about the pod depends on, if a node of ours runs it.
    fn circumstances(&self, memory: &Memory, key: &Key, pod: &Pod) -> Option<Circumstances> {
        let node = pod::node_name(pod)?;
        let now = self.context.clock.now();
        let known = memory.pods.get(key)?;
        Some(Circumstances {
            node: self.context.nodes.state(node),
            host_ip: self.context.nodes.address(node),
            began: memory.cohorts.began(known.cohort).unwrap_or(now),
            back_off: self.context.behaviour.back_off,
            eviction: self.context.behaviour.eviction,
            now,
        })
    }

    fn api(&self, key: &Key) -> Api<Pod> {
        Api::namespaced(self.context.client.clone(), &key.namespace)
    }

    async fn report(&self, key: &Key, pod: &Pod, status: &PodStatus) -> Result<(), SyncError> {
        let fields = json!({ "status": {
            "phase": status.phase,
            "conditions": status.conditions,
            "containerStatuses": status.container_statuses,
            "initContainerStatuses": status.init_container_statuses,
            "startTime": status.start_time,
            "podIP": status.pod_ip,
            "podIPs": status.pod_ips,
            "hostIP": status.host_ip,
            "hostIPs": status.host_ips,
            "observedGeneration": status.observed_generation,
        } });
        let identity = json!({ "uid": pod.metadata.uid });
        let patch = versioned_patch(pod.metadata.resource_version.as_deref(), identity, fields);
        let written =
            self.api(key).patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        match written {
            Ok(written) => {
                self.own_writes.wrote(key, &written.metadata, self.context.clock.now());
                Ok(())
            }
            Err(error) => gone_is_fine(error),
        }
    }

    async fn delete(&self, key: &Key, pod: &Pod, grace: Option<u32>) -> Result<(), SyncError> {
        let preconditions = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
        let parameters = DeleteParams {
            preconditions: Some(preconditions),
            grace_period_seconds: grace,
            ..DeleteParams::default()
        };
        match self.api(key).delete(&key.name, &parameters).await {
            Ok(_) => Ok(()),
            // A conflict is another pod of this name.
            Err(error) if Refusal::of(&error) == Refusal::Conflict => Ok(()),
            Err(error) => gone_is_fine(error),
        }
    }
}

fn gone_is_fine(error: kube::Error) -> Result<(), SyncError> {
    if Refusal::of(&error) == Refusal::NotFound { Ok(()) } else { Err(error.into()) }
}

impl Memory {
    fn add(&mut self, key: &Key, pod: &Pod, mut sandbox: Sandbox, now: Timestamp) {
        match sandbox.pod_ip {
            Some(earlier) => self.addresses.keep(earlier),
            None => sandbox.pod_ip = self.addresses.take(),
        }
        let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
        let controller = owners.iter().find(|owner| owner.controller == Some(true));
        let owner = controller.map_or_else(|| sandbox.uid.clone(), |owner| owner.uid.clone());
        let cohort = self.cohorts.join(&owner, sandbox.start_up(), now);
        self.pods.insert(key.clone(), Remembered { sandbox, cohort, owner });
    }

    fn forget(&mut self, key: &Key) {
        let Some(known) = self.pods.remove(key) else { return };
        self.cohorts.leave(&known.owner, known.cohort);
        if let Some(address) = known.sandbox.pod_ip {
            self.addresses.release(address);
        }
    }
}

impl Controller for Kubelet {
    type Key = Key;
    const NAME: &'static str = "kubelet";
    const CONCURRENCY: usize = 32;

    fn queue(&self) -> &Queue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Next, SyncError> {
        let Some(pod) = self.context.pods.get(key) else {
            self.own_writes.forget(key);
            return Ok(Next::Idle);
        };
        if let Some(at) = self.own_writes.awaited(key, &pod.metadata, self.context.clock.now()) {
            return Ok(Next::At(at));
        }
        let decision = {
            let mut memory = self.memory();
            let Some(circumstances) = self.circumstances(&memory, key, &pod) else { return Ok(Next::Idle) };
            let Some(known) = memory.pods.get_mut(key) else { return Ok(Next::Idle) };
            known.sandbox.decide(&pod, &circumstances)
        };
        match decision.act {
            Act::Nothing => {}
            Act::Report(status) => self.report(key, &pod, &status).await?,
            Act::Remove => self.delete(key, &pod, Some(0)).await?,
            Act::Evict => self.delete(key, &pod, None).await?,
        }
        Ok(Next::earliest([decision.look_again]))
    }
}
