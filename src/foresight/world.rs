//! A cluster made of values, in which plans are carried out.
//!
//! Writes take no time and arrive in the order of the plan; what was refused when the world was copied is refused again. See
//! [`crate::worker`] for how the same is done to a real one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::pods::Pods;
use super::{Assumptions, Copied, Failing, Outcome, later};
use crate::crd::{Rollout, StepPluginPhase, Time, keys};
use crate::plan::{
    self, Answer, Attempt, COMPANY, Evictions, Observed, Plan, Pod, ReplicaSet, Reply, RolloutPart, Service,
    ServiceAction, SetAction, SetStatus, Setback, Urgency, WorkloadAction, restart, revision,
};

/// A world of values at one moment.
pub(super) struct World {
    /// Without pods.
    seen: Observed,
    /// Pods by the uid of their ReplicaSet.
    pods: BTreeMap<String, Pods>,
    /// The present.
    pub(super) now: Timestamp,
    start_up: SignedDuration,
    /// The hash of the version whose pods never become ready.
    never_ready: Option<String>,
    /// When a status is written that waits for company.
    status_due: Option<Timestamp>,
    /// How long the rollout is in JSON, in bytes, when the look ahead begins.
    length: u64,
}

impl World {
    /// What is on its way out is gone, and what the API server had no time for is tried afresh; so is an eviction, which a budget may
    /// permit as soon as another pod is available. The pods that could not run then are told as well.
    pub(super) fn new(copied: Copied, assumptions: Assumptions) -> (Self, Option<Failing>) {
        let Copied { mut seen, pods, now } = copied;
        seen.sets.retain(|set| !set.terminating);
        let is_of_pods = |attempt: &Attempt| matches!(attempt, Attempt::Evict(_) | Attempt::Label(_));
        let lasts = |setback: &Setback| setback.is_refusal() && !is_of_pods(&setback.attempt);
        seen.setbacks.retain(lasts);
        seen.pods.clear();
        // Labels of pods follow in no time here, and nothing waits for them.
        seen.labels_settled = true;
        let newest = revision::classify(&seen).ok().map(|revisions| revisions.hash);
        let never_ready = newest.clone().filter(|_| assumptions.newest == Outcome::NeverReady);
        let length = serde_json::to_vec(&*seen.rollout).map_or(0, |json| json.len() as u64);
        let mut world = Self {
            seen,
            pods: BTreeMap::new(),
            now,
            start_up: assumptions.start_up,
            never_ready,
            status_due: None,
            length,
        };
        let failing = world.take_in(pods, newest.as_deref(), assumptions.failing);
        (world, failing)
    }

    /// The pods that exist. Those of older versions that are not ready stay so: nothing is known of what holds them up.
    fn take_in(&mut self, pods: Vec<Pod>, newest: Option<&str>, of_failing: Outcome) -> Option<Failing> {
        let mut pods_of = BTreeMap::<String, Vec<Pod>>::new();
        for pod in pods.into_iter().filter(|pod| !pod.terminating) {
            pods_of.entry(pod.set.clone()).or_default().push(pod);
        }
        let (mut taken, mut failing) = (BTreeMap::new(), Vec::new());
        for set in self.seen.sets.iter().chain(&self.seen.orphans) {
            let is_current =
                Some(set.hash()) == newest || set.hash() == self.seen.rollout.status().stable_rs();
            let mut pods = Pods::default();
            for pod in pods_of.remove(&set.uid).unwrap_or_default() {
                let fails = pod.fault.is_some() && pod.ready_since.is_none();
                if is_current && fails {
                    failing.push(pod.clone());
                }
                let starts = is_current && !(fails && of_failing == Outcome::NeverReady);
                let ready_at = self.ready_at(set, pod.created).filter(|_| starts);
                pods.take_in(pod, ready_at.map(|at| at.max(self.now)));
            }
            taken.insert(set.uid.clone(), pods);
        }
        self.pods = taken;
        let more = failing.len().saturating_sub(1);
        failing.into_iter().min_by_key(|pod| (pod.created, pod.name.clone())).map(|pod| Failing { pod, more })
    }

    /// When a pod of a set that was created then becomes ready; `None`: never.
    fn ready_at(&self, set: &ReplicaSet, created: Timestamp) -> Option<Timestamp> {
        let never = self.never_ready.as_deref() == Some(set.hash());
        (!never).then(|| later(created, self.start_up))
    }

    /// What plans are made from.
    pub(super) fn observed(&self) -> Observed {
        let pods = match restart::is_asked_for(&self.seen.rollout) {
            true => self.pods.values().flat_map(Pods::all).cloned().collect(),
            false => Vec::new(),
        };
        Observed { pods, ..self.seen.clone() }
    }

    /// What a state tells of: everything but pods.
    pub(super) fn without_pods(&self) -> Observed {
        self.seen.clone()
    }

    /// What the next plan and its consequences cost, in pods looked at: each is looked at once, during a restart by the plan as well, and a
    /// ReplicaSet takes as long as some of them; the rest is a plan's own work, and the rollout's way through JSON.
    pub(super) fn effort(&self) -> u64 {
        const OF_A_PLAN: u64 = 200;
        const OF_A_SET: u64 = 500;
        const BYTES: u64 = 20;
        let pods: usize = self.pods.values().map(Pods::len).sum();
        let sets = self.seen.sets.len() + self.seen.orphans.len();
        let looks = if restart::is_asked_for(&self.seen.rollout) { 10 } else { 1 };
        OF_A_PLAN + self.length / BYTES + looks * pods as u64 + OF_A_SET * sets as u64
    }

    pub(super) fn plan(&self) -> Plan {
        plan::plan(&self.observed(), self.now)
    }

    /// Whether the update that runs has come to a step.
    pub(super) fn has_reached(&self, step: i32) -> bool {
        let status = self.seen.rollout.status();
        let is_running = revision::is_seen(&self.seen)
            && !status.stable_rs().is_empty()
            && status.stable_rs() != status.current_pod_hash();
        is_running && !status.abort() && status.current_step_index.is_some_and(|current| current >= step)
    }

    /// Carries a plan out. Says whether anything was done.
    pub(super) fn carry_out(&mut self, plan: &Plan) -> bool {
        let setbacks = self.seen.setbacks.len();
        self.seen.setbacks.retain(|setback| plan.wants(&setback.attempt));
        let mut done = self.seen.setbacks.len() < setbacks;
        let mut written = BTreeSet::new();
        for action in &plan.sets {
            if let SetAction::Patch { after: Some(before), .. } = action
                && !written.contains(before.as_str())
            {
                continue;
            }
            if !self.is_refused(&action.attempt()) {
                self.write_set(action);
                written.insert(action.name());
            }
        }
        done |= !written.is_empty();
        for action in &plan.services {
            done |= self.write_service(action);
        }
        done |= plan.workload.as_ref().is_some_and(|action| self.write_workload(action));
        done |= self.write_rollout(&plan.rollout);
        done |= self.ask_plugin(plan);
        done | self.evict(&plan.evictions)
    }

    /// Step plugins are taken to do at once what they are asked for.
    fn ask_plugin(&mut self, plan: &Plan) -> bool {
        if plan.answer_is_stale {
            self.seen.plugins.answer = None;
        }
        let Some(call) = &plan.call else { return plan.answer_is_stale };
        let reply = Reply {
            phase: StepPluginPhase::Successful,
            message: String::new(),
            requeue_after: None,
            status: call.status.clone(),
        };
        let (asked, now) = (call.asked.clone(), self.now);
        self.seen.plugins.answer = Some(Answer { asked, began: now, ended: now, result: Ok(reply) });
        true
    }

    /// Whether nothing can be written into the rollout.
    pub(super) fn refuses_rollout(&self) -> bool {
        self.is_refused(&Attempt::Rollout)
    }

    fn is_refused(&self, attempt: &Attempt) -> bool {
        self.seen.setbacks.iter().any(|setback| setback.attempt == *attempt)
    }

    fn write_set(&mut self, action: &SetAction) {
        match action {
            SetAction::Create { name, object } => {
                if !self.seen.sets.iter().any(|set| set.name == *name) {
                    self.seen.sets.push(Arc::new(created(name, object, self.now)));
                }
            }
            SetAction::Adopt { name, patch, .. } => {
                let (adopted, orphans) = std::mem::take(&mut self.seen.orphans)
                    .into_iter()
                    .partition::<Vec<_>, _>(|set| set.name == *name);
                self.seen.orphans = orphans;
                self.seen.sets.extend(adopted);
                self.patch_set(name, patch);
            }
            SetAction::Patch { name, write, .. } => self.patch_set(name, &write.patch),
            SetAction::Delete { name, .. } => self.seen.sets.retain(|set| set.name != *name),
        }
    }

    fn patch_set(&mut self, name: &str, patch: &Value) {
        let Some(set) = self.seen.sets.iter_mut().find(|set| set.name == name) else { return };
        let set = Arc::make_mut(set);
        merge(&mut set.annotations, patch.pointer("/metadata/annotations"));
        merge(&mut set.labels, patch.pointer("/metadata/labels"));
        if let Some(owners) = patch.pointer("/metadata/ownerReferences").and_then(Value::as_array) {
            set.owners.clone_from(owners);
        }
        if let Some(template) = patch.pointer("/spec/template") {
            json_patch::merge(Arc::make_mut(&mut set.template), template);
        }
        let number = |field: &str| i32::try_from(patch.pointer(&format!("/spec/{field}"))?.as_i64()?).ok();
        let (replicas, delay) = (number("replicas"), number("minReadySeconds"));
        set.replicas = replicas.unwrap_or(set.replicas);
        set.min_ready_seconds = delay.unwrap_or(set.min_ready_seconds);
        set.generation += i64::from(patch.get("spec").is_some());
    }

    fn write_service(&mut self, action: &ServiceAction) -> bool {
        if self.is_refused(&Attempt::Service(action.name.clone())) {
            return false;
        }
        let services = &mut self.seen.services;
        let Some(service) = services.iter_mut().find(|service| service.name == action.name) else {
            return false;
        };
        let service: &mut Service = Arc::make_mut(service);
        merge(&mut service.selector, action.write.patch.pointer("/spec/selector"));
        let manager = action.write.patch.pointer("/metadata/annotations");
        if let Some(manager) = manager.and_then(|notes| notes.get(keys::MANAGED_BY_ROLLOUTS)) {
            service.managed_by = manager.as_str().map(str::to_owned);
        }
        true
    }

    fn write_workload(&mut self, action: &WorkloadAction) -> bool {
        let is_refused = self.is_refused(&Attempt::Workload(action.name.clone()));
        let Some(workload) = self.seen.workload.as_mut().filter(|_| !is_refused) else { return false };
        let replicas = action.write.patch.pointer("/spec/replicas").and_then(Value::as_i64);
        let Some(replicas) = replicas.and_then(|replicas| i32::try_from(replicas).ok()) else { return false };
        let workload = Arc::make_mut(workload);
        workload.generation += 1;
        workload.replicas = replicas;
        true
    }

    /// A status that only counts waits for company, as long as it would.
    fn write_rollout(&mut self, part: &RolloutPart) -> bool {
        if (part.object.is_none() && part.status.is_none()) || self.is_refused(&Attempt::Rollout) {
            self.status_due = None;
            return false;
        }
        if part.object.is_none() && part.urgency == Urgency::Soon {
            let due = *self.status_due.get_or_insert(later(self.now, COMPANY));
            if due > self.now {
                return false;
            }
        }
        self.status_due = None;
        if let Some(object) = &part.object {
            self.patch(&object.patch);
        }
        if let Some(status) = &part.status {
            self.patch_status(&status.patch);
        }
        true
    }

    /// Merges into the status.
    pub(super) fn patch_status(&mut self, patch: &Value) {
        self.patch(&json!({ "status": patch }));
    }

    /// Merges into the rollout. A changed spec is another generation.
    fn patch(&mut self, patch: &Value) {
        let mut object = serde_json::to_value(&*self.seen.rollout).expect("a rollout is JSON");
        let spec = object["spec"].clone();
        json_patch::merge(&mut object, patch);
        if object["spec"] != spec {
            let generation = self.seen.rollout.metadata.generation.unwrap_or(0);
            object["metadata"]["generation"] = json!(generation + 1);
        }
        let patched = Rollout::decode(&object).expect("what plans and people write are fields of a rollout");
        self.seen.rollout = Arc::new(patched);
    }

    fn evict(&mut self, evictions: &Evictions) -> bool {
        let evicted = evictions.pods.iter().take(evictions.at_most).map(|eviction| eviction.uid.as_str());
        let evicted: HashSet<&str> = evicted.collect();
        if evicted.is_empty() {
            return false;
        }
        let before: usize = self.pods.values().map(Pods::len).sum();
        self.pods.values_mut().for_each(|pods| pods.evict(&evicted));
        self.pods.values().map(Pods::len).sum::<usize>() < before
    }

    /// Pods that all sets want together.
    pub(super) fn wanted_pods(&self) -> i64 {
        self.seen.sets.iter().map(|set| i64::from(set.replicas)).sum()
    }

    /// Lets pods come and go as far as they do at this moment. Says whether any set's status tells of it.
    pub(super) fn move_pods(&mut self) -> bool {
        let mut moved = false;
        let sets = std::mem::take(&mut self.seen.sets);
        let there: HashSet<&str> =
            sets.iter().chain(&self.seen.orphans).map(|set| set.uid.as_str()).collect();
        self.pods.retain(|uid, _| there.contains(uid.as_str()));
        for mut set in sets {
            let ready_at = self.ready_at(&set, self.now);
            let pods = self.pods.entry(set.uid.clone()).or_default();
            pods.start(self.now);
            pods.resize(&set, ready_at, self.now);
            let status: SetStatus = pods.status(&set, self.now);
            if status != set.status {
                Arc::make_mut(&mut set).status = status;
                moved = true;
            }
            self.seen.sets.push(set);
        }
        moved
    }

    /// Whether nothing is on its way.
    pub(super) fn is_at_rest(&self) -> bool {
        self.next_move().is_none()
    }

    /// When the next thing happens that is on its way already.
    pub(super) fn next_move(&self) -> Option<Timestamp> {
        let next = |set: &Arc<ReplicaSet>| self.pods.get(&set.uid)?.next_move(set, self.now);
        self.seen.sets.iter().filter_map(next).chain(self.status_due).min()
    }
}

/// Merges strings; null takes one away.
fn merge(map: &mut BTreeMap<String, String>, patch: Option<&Value>) {
    for (key, value) in patch.and_then(Value::as_object).into_iter().flat_map(Map::iter) {
        match value.as_str() {
            Some(value) => map.insert(key.clone(), value.to_owned()),
            None => map.remove(key),
        };
    }
}

/// A ReplicaSet as the API server would create it, but for a version.
fn created(name: &str, object: &Value, now: Timestamp) -> ReplicaSet {
    let strings = |pointer: &str| {
        let mut map = BTreeMap::new();
        merge(&mut map, object.pointer(pointer));
        map
    };
    let number = |pointer: &str| i32::try_from(object.pointer(pointer)?.as_i64()?).ok();
    ReplicaSet {
        name: name.to_owned(),
        uid: format!("planned-{name}"),
        generation: 1,
        created: Time::from(now).instant(),
        labels: strings("/metadata/labels"),
        annotations: strings("/metadata/annotations"),
        owners: object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default(),
        replicas: number("/spec/replicas").unwrap_or(0),
        min_ready_seconds: number("/spec/minReadySeconds").unwrap_or(0),
        selector: serde_json::from_value(object["spec"]["selector"].clone()).unwrap_or_default(),
        template: Arc::new(object["spec"]["template"].clone()),
        ..ReplicaSet::default()
    }
}
