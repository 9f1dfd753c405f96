//! A cluster made of values: just enough of the ReplicaSet controller for plans to have something to wait for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::live_pods::LivePods;
use crate::crd::{Rollout, RolloutStatus, Strategy, keys};
use crate::plan::template::{self, Resolved};
use crate::plan::{
    self, Answer, Attempt, Call, Ended, Observed, Plan, Plugins, Pod, ReplicaSet, Reply, Service,
    ServiceAction, SetAction, Setback, Settings, Workload, WorkloadAction, canary,
};

/// How pods of an image turn out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ready,
    Never,
    /// So many of them are ready, and no more.
    UpTo(i32),
}

/// The Services there are.
const SERVICES: [&str; 4] = ["active", "preview", "stable", "canary"];

fn service(name: &str) -> Service {
    Service {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        resource_version: "1".to_owned(),
        selector: [("app".to_owned(), "web".to_owned())].into(),
        ..Service::default()
    }
}

pub(super) struct World {
    pub(super) object: Value,
    pub(super) sets: BTreeMap<String, ReplicaSet>,
    pub(super) setbacks: Vec<Setback>,
    pub(super) orphans: Vec<ReplicaSet>,
    pub(super) services: BTreeMap<String, Service>,
    /// What the rollout refers to, where that is there.
    pub(super) workload: Option<Workload>,
    pub(super) workload_is_absent: bool,
    /// Pods that somebody looked at.
    pub(super) pods: Vec<Pod>,
    /// Pods one by one, as far as their labels matter.
    pub(super) live: LivePods,
    /// Step plugins, with the answer that the status does not have yet.
    pub(super) plugins: Plugins,
    /// What they will answer, in turn; then they are silent.
    pub(super) replies: VecDeque<Result<Reply, String>>,
    /// What was asked of them: operation, index of the step, state.
    pub(super) calls: Vec<String>,
    pub(super) settings: Arc<Settings>,
    pub(super) now: Timestamp,
    /// Outcomes of images other than ready.
    pub(super) outcomes: BTreeMap<String, Outcome>,
    pub(super) events: Vec<String>,
    /// Writes by verb and kind.
    pub(super) writes: Vec<String>,
    /// Updates that ended.
    pub(super) ended: Vec<Ended>,
    version: u64,
}

impl World {
    #[expect(clippy::needless_pass_by_value, reason = "callers give literals")]
    pub(super) fn new(replicas: i32, canary: Value) -> Self {
        Self::with_strategy(replicas, json!({ "canary": canary }))
    }

    /// A blue-green rollout with its Services, `active` and `preview`.
    #[expect(clippy::needless_pass_by_value, reason = "callers give literals")]
    pub(super) fn blue_green(replicas: i32, more: Value) -> Self {
        let mut strategy = json!({ "activeService": "active", "previewService": "preview" });
        json_patch::merge(&mut strategy, &more);
        Self::with_strategy(replicas, json!({ "blueGreen": strategy }))
    }

    /// With the Services `active` and `preview`, `stable` and `canary`.
    #[expect(clippy::needless_pass_by_value, reason = "callers give literals")]
    pub(super) fn with_strategy(replicas: i32, strategy: Value) -> Self {
        let object = json!({
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Rollout",
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "uid-web", "resourceVersion": "1", "generation": 1,
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {
                "replicas": replicas,
                "selector": { "matchLabels": { "app": "web" } },
                "strategy": strategy,
                "template": {
                    "metadata": { "labels": { "app": "web" } },
                    "spec": { "containers": [{ "name": "web", "image": "v1" }] },
                },
            },
        });
        Self {
            object,
            sets: BTreeMap::new(),
            setbacks: Vec::new(),
            orphans: Vec::new(),
            services: SERVICES.map(|name| (name.to_owned(), service(name))).into(),
            workload: None,
            workload_is_absent: false,
            pods: Vec::new(),
            live: LivePods::default(),
            plugins: Plugins::default(),
            replies: VecDeque::new(),
            calls: Vec::new(),
            settings: Arc::default(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            outcomes: BTreeMap::new(),
            events: Vec::new(),
            writes: Vec::new(),
            ended: Vec::new(),
            version: 1,
        }
    }

    pub(super) fn observed(&self) -> Observed {
        let rollout: Rollout = serde_json::from_value(self.object.clone()).unwrap();
        let labels_settled = self.live.have_what_they_should(self.sets.values());
        let workload = self.workload.clone().map(Arc::new);
        let Resolved { rollout, workload, left_out } = template::resolve(Arc::new(rollout), workload);
        Observed {
            workload,
            workload_is_absent: self.workload_is_absent,
            left_out,
            sets: self.sets.values().cloned().map(Arc::new).collect(),
            orphans: self.orphans.iter().cloned().map(Arc::new).collect(),
            setbacks: self.setbacks.clone(),
            services: self.services.values().cloned().map(Arc::new).collect(),
            absent_services: SERVICES.map(str::to_owned).into(),
            pods: if labels_settled { self.pods.clone() } else { self.live.all() },
            labels_settled,
            plugins: self.plugins.clone(),
            settings: Arc::clone(&self.settings),
            ..Observed::alone(rollout)
        }
    }

    pub(super) fn plan(&self) -> Plan {
        let plan = plan::plan(&self.observed(), self.now);
        assert!(
            plan.wake_at.is_none_or(|at| at > self.now),
            "it would spin: {:?} at {}",
            plan.wake_at,
            self.now
        );
        plan
    }

    pub(super) fn status(&self) -> RolloutStatus {
        self.observed().rollout.status().clone()
    }

    /// Changes the spec, as a user does.
    pub(super) fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.object["spec"]);
        self.object["metadata"]["generation"] =
            json!(self.object["metadata"]["generation"].as_i64().unwrap() + 1);
        self.touch();
    }

    /// Changes labels or annotations, as a user does: null takes one away.
    #[expect(clippy::needless_pass_by_value, reason = "callers give literals")]
    pub(super) fn edit_metadata(&mut self, patch: Value) {
        json_patch::merge(&mut self.object["metadata"], &patch);
        self.touch();
    }

    pub(super) fn set_image(&mut self, image: &str) {
        self.edit(|spec| spec["template"]["spec"]["containers"][0]["image"] = json!(image));
    }

    /// Changes the image in the workload's template, as a user does.
    pub(super) fn edit_workload(&mut self, image: &str) {
        self.version += 1;
        let workload = self.workload.as_mut().unwrap();
        Arc::make_mut(&mut workload.template)["spec"]["containers"][0]["image"] = json!(image);
        workload.generation += 1;
        workload.resource_version = self.version.to_string();
    }

    /// Scales the workload.
    pub(super) fn scale_workload(&mut self, replicas: i32) {
        self.version += 1;
        let workload = self.workload.as_mut().unwrap();
        workload.replicas = replicas;
        workload.generation += 1;
        workload.resource_version = self.version.to_string();
    }

    fn apply_to_workload(&mut self, action: &WorkloadAction) {
        let workload = self.workload.as_ref().unwrap();
        assert_eq!(action.version.resource_version, workload.resource_version, "decided on an old version");
        self.writes.push("patch workload".to_owned());
        let replicas = action.write.patch["spec"]["replicas"].as_i64().unwrap();
        self.scale_workload(i32::try_from(replicas).unwrap());
        let events = action.write.events.iter();
        self.events.extend(events.map(|event| format!("{}: {}", event.reason, event.message)));
    }

    /// Merges into the status, as kubectl's plugin does.
    #[expect(clippy::needless_pass_by_value, reason = "callers give literals")]
    pub(super) fn patch_status(&mut self, patch: Value) {
        json_patch::merge(&mut self.object, &json!({ "status": patch }));
        self.touch();
    }

    fn touch(&mut self) {
        self.version += 1;
        self.object["metadata"]["resourceVersion"] = json!(self.version.to_string());
    }

    /// Carries out one plan. Says whether it wrote anything.
    pub(super) fn apply(&mut self, plan: &Plan) -> bool {
        let mut wrote = false;
        let refused = |action: &&SetAction| {
            let attempt = Attempt::Create(action.name().to_owned());
            self.setbacks.iter().any(|setback| setback.attempt == attempt)
        };
        let permitted: Vec<&SetAction> = plan.sets.iter().filter(|action| !refused(action)).collect();
        for action in permitted {
            let before = self.sizes();
            self.check_active(action);
            self.apply_to_set(action);
            self.check(&before, action);
            wrote = true;
        }
        for action in &plan.pods {
            self.live.write(action);
            self.writes.push("patch pod".to_owned());
            wrote = true;
        }
        for action in &plan.services {
            self.check_switch(action);
            self.apply_to_service(action);
            wrote = true;
        }
        if let Some(action) = &plan.workload {
            self.apply_to_workload(action);
            wrote = true;
        }
        wrote |= self.ask_plugin(plan);
        if let Some(write) = &plan.rollout.object {
            json_patch::merge(&mut self.object, &write.patch);
            self.touch();
            self.events
                .extend(write.events.iter().map(|event| format!("{}: {}", event.reason, event.message)));
            self.writes.push("patch rollout".to_owned());
            wrote = true;
        }
        if let Some(write) = &plan.rollout.status {
            let before = self.status();
            json_patch::merge(&mut self.object, &json!({ "status": write.patch }));
            self.touch();
            self.events
                .extend(write.events.iter().map(|event| format!("{}: {}", event.reason, event.message)));
            self.writes.push("patch rollout/status".to_owned());
            self.ended.extend(plan.rollout.ended.clone());
            self.check_step(&before);
            wrote = true;
        }
        wrote
    }

    /// Asks the plugin that the plan wants asked; it answers if it has something to say.
    fn ask_plugin(&mut self, plan: &Plan) -> bool {
        if plan.answer_is_stale {
            self.plugins.answer = None;
        }
        let Some(Call { asked, config: _, status }) = &plan.call else { return plan.answer_is_stale };
        let Some(result) = self.replies.pop_front() else { return plan.answer_is_stale };
        let state = status.as_ref().map(|status| format!(" {status}")).unwrap_or_default();
        self.calls.push(format!("{} {}{state}", asked.operation, asked.index));
        self.plugins.answer = Some(Answer { asked: asked.clone(), began: self.now, ended: self.now, result });
        true
    }

    fn apply_to_service(&mut self, action: &ServiceAction) {
        self.version += 1;
        self.writes.push("patch service".to_owned());
        let service = self.services.get_mut(&action.name).unwrap();
        assert_eq!(action.version.resource_version, service.resource_version, "decided on an old version");
        match &action.write.patch["spec"]["selector"][keys::POD_TEMPLATE_HASH] {
            Value::String(hash) => service.selector.insert(keys::POD_TEMPLATE_HASH.to_owned(), hash.clone()),
            _ => service.selector.remove(keys::POD_TEMPLATE_HASH),
        };
        let manager = &action.write.patch["metadata"]["annotations"][keys::MANAGED_BY_ROLLOUTS];
        service.managed_by = manager.as_str().map(str::to_owned);
        service.resource_version = self.version.to_string();
        let events = action.write.events.iter();
        self.events.extend(events.map(|event| format!("{}: {}", event.reason, event.message)));
    }

    /// The property of design.md for blue-green: the active Service is never given fewer available pods than promotion requires, unless
    /// it had fewer still. Those of a canary are never given none.
    fn check_switch(&self, action: &ServiceAction) {
        let Value::String(to) = &action.write.patch["spec"]["selector"][keys::POD_TEMPLATE_HASH] else {
            return;
        };
        let before = self.services[&action.name].hash();
        let available = |hash: &str| {
            let set = self.sets.values().find(|set| set.hash() == hash);
            set.map_or(0, |set| set.status.available)
        };
        if ["stable", "canary"].contains(&action.name.as_str()) && before != to {
            assert!(available(to) > 0, "{} {before} -> {to} without a pod", action.name);
        }
        if action.name != "active" || before == to {
            return;
        }
        let required = self.observed().rollout.spec.replicas();
        assert!(
            available(to) >= required || (!before.is_empty() && available(to) > available(before)),
            "{before} -> {to} with {} of {required} pods available",
            available(to)
        );
    }

    /// No write of ours takes pods from the set that the active Service of a blue-green rollout selects, but for those beyond replicas.
    fn check_active(&self, action: &SetAction) {
        let seen = self.observed();
        let is_blue_green = matches!(seen.rollout.spec.strategy(), Ok(Strategy::BlueGreen(_)));
        let SetAction::Patch { name, write, .. } = action else { return };
        let set = &self.sets[name];
        let Some(size) = write.patch.pointer("/spec/replicas").and_then(Value::as_i64) else { return };
        if is_blue_green && set.hash() == self.services["active"].hash() {
            let least = i64::from(set.replicas.min(seen.rollout.spec.replicas()));
            assert!(size >= least, "the active set shrinks to {size}: {action:?}");
        }
    }

    /// The image that a Service's pods have; empty when it selects no version.
    pub(super) fn served_by(&self, service: &str) -> String {
        let hash = self.services[service].hash();
        let set = self.sets.values().find(|set| !hash.is_empty() && set.hash() == hash);
        let image = set.and_then(|set| set.template.pointer("/spec/containers/0/image")?.as_str());
        image.unwrap_or_default().to_owned()
    }

    fn apply_to_set(&mut self, action: &SetAction) {
        self.version += 1;
        let version = self.version.to_string();
        match action {
            SetAction::Create { name, object } => {
                self.writes.push("create replicaset".to_owned());
                let strings = |value: &Value| serde_json::from_value(value.clone()).unwrap();
                let set = ReplicaSet {
                    name: name.clone(),
                    uid: format!("uid-{name}"),
                    resource_version: version,
                    generation: 1,
                    created: self.now,
                    labels: strings(&object["metadata"]["labels"]),
                    annotations: strings(&object["metadata"]["annotations"]),
                    owners: object["metadata"]["ownerReferences"].as_array().unwrap().clone(),
                    replicas: i32::try_from(object["spec"]["replicas"].as_i64().unwrap()).unwrap(),
                    min_ready_seconds: i32::try_from(object["spec"]["minReadySeconds"].as_i64().unwrap())
                        .unwrap(),
                    selector: serde_json::from_value(object["spec"]["selector"].clone()).unwrap(),
                    template: Arc::new(object["spec"]["template"].clone()),
                    ..ReplicaSet::default()
                };
                assert!(self.sets.insert(name.clone(), set).is_none(), "{name} exists already");
            }
            SetAction::Patch { name, write, version: decided_on, .. } => {
                self.writes.push("patch replicaset".to_owned());
                let set = self.sets.get_mut(name).unwrap();
                assert_eq!(decided_on.resource_version, set.resource_version, "decided on an old version");
                for (key, value) in write
                    .patch
                    .pointer("/metadata/annotations")
                    .and_then(Value::as_object)
                    .into_iter()
                    .flatten()
                {
                    match value.as_str() {
                        Some(value) => set.annotations.insert(key.clone(), value.to_owned()),
                        None => set.annotations.remove(key),
                    };
                }
                let labels = write.patch.pointer("/metadata/labels").and_then(Value::as_object);
                for (key, value) in labels.into_iter().flatten() {
                    match value.as_str() {
                        Some(value) => set.labels.insert(key.clone(), value.to_owned()),
                        None => set.labels.remove(key),
                    };
                }
                if let Some(replicas) = write.patch.pointer("/spec/replicas").and_then(Value::as_i64) {
                    set.replicas = i32::try_from(replicas).unwrap();
                }
                if let Some(seconds) = write.patch.pointer("/spec/minReadySeconds").and_then(Value::as_i64) {
                    set.min_ready_seconds = i32::try_from(seconds).unwrap();
                }
                if let Some(template) = write.patch.pointer("/spec/template") {
                    json_patch::merge(Arc::make_mut(&mut set.template), template);
                }
                set.generation += i64::from(write.patch.get("spec").is_some());
                set.resource_version = version;
                self.events
                    .extend(write.events.iter().map(|event| format!("{}: {}", event.reason, event.message)));
            }
            SetAction::Delete { name, .. } => {
                self.writes.push("delete replicaset".to_owned());
                self.sets.remove(name);
            }
            SetAction::Adopt { .. } => self.writes.push("adopt replicaset".to_owned()),
        }
    }

    /// Lets pods come and go for once: surplus pods leave, wanted ones are created, and those that can become available do.
    pub(super) fn pods(&mut self) -> bool {
        let mut moved = false;
        let outcomes = self.outcomes.clone();
        for set in self.sets.values_mut() {
            let image =
                set.template.pointer("/spec/containers/0/image").and_then(Value::as_str).unwrap_or_default();
            let available = match outcomes.get(image).copied().unwrap_or(Outcome::Ready) {
                Outcome::Ready => set.replicas,
                Outcome::Never => set.status.available.min(set.replicas),
                Outcome::UpTo(pods) => pods.min(set.replicas),
            };
            let before = set.status.clone();
            set.status.replicas = set.replicas;
            set.status.ready = available;
            set.status.available = available;
            set.status.observed_generation = set.generation;
            moved |= before != set.status;
            self.live.follow(set);
        }
        if moved {
            self.version += 1;
            let version = self.version.to_string();
            for set in self.sets.values_mut() {
                set.resource_version.clone_from(&version);
            }
        }
        moved
    }

    /// Plans, writes and lets pods move until nothing happens any more; time stands still.
    pub(super) fn settle(&mut self) {
        self.settle_with(|_| {});
    }

    /// The same with something of each plan taken away.
    pub(super) fn settle_with(&mut self, change: impl Fn(&mut Plan)) {
        const MOST: usize = 400;
        for _ in 0..MOST {
            let mut plan = self.plan();
            assert_eq!(plan.question, None);
            change(&mut plan);
            let wrote = self.apply(&plan);
            if !wrote && !self.pods() {
                return;
            }
        }
        panic!("does not come to rest: {:#?}\n{:#?}", self.status(), self.events);
    }

    /// Passes time, then settles.
    pub(super) fn pass(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
        self.settle();
    }

    /// spec.replicas of the set with this image.
    pub(super) fn replicas(&self, image: &str) -> i32 {
        let of_image = |set: &&ReplicaSet| {
            set.template.pointer("/spec/containers/0/image").and_then(Value::as_str) == Some(image)
        };
        self.sets.values().filter(of_image).map(|set| set.replicas).sum()
    }

    pub(super) fn refuse_creation(&mut self, message: &str) {
        let plan = self.plan();
        let SetAction::Create { name, .. } = &plan.sets[0] else { panic!("nothing to create") };
        self.setbacks = vec![Setback {
            attempt: Attempt::Create(name.clone()),
            reason: "Forbidden".to_owned(),
            message: message.to_owned(),
            since: self.now,
            next_try: None,
        }];
    }

    /// Refuses the creation that the plan asks for, if it does.
    pub(super) fn refuse_any_creation(&mut self, message: &str) {
        if matches!(self.plan().sets.first(), Some(SetAction::Create { .. })) {
            self.refuse_creation(message);
        }
    }

    /// Takes the hash label from one of the sets.
    pub(super) fn unlabel(&mut self, index: usize) {
        let count = self.sets.len().max(1);
        if let Some(set) = self.sets.values_mut().nth(index % count) {
            set.labels.remove(crate::crd::keys::POD_TEMPLATE_HASH);
        }
    }

    /// Carries plans out, but for creations, until nothing happens any more.
    pub(super) fn settle_without_creating(&mut self) {
        for _ in 0..20 {
            let mut plan = self.plan();
            plan.sets.retain(|action| !matches!(action, SetAction::Create { .. } | SetAction::Adopt { .. }));
            if !self.apply(&plan) && !self.pods() {
                return;
            }
        }
        panic!("does not come to rest: {:#?}", self.status());
    }

    fn sizes(&self) -> (i32, i32) {
        let all = self.sets.values();
        (all.clone().map(|set| set.replicas).sum(), all.map(|set| set.size().lasting()).sum())
    }

    /// The properties of design.md for a canary without routing.
    fn check(&self, (spec_before, lasting_before): &(i32, i32), action: &SetAction) {
        let seen = self.observed();
        let Ok(Strategy::Canary(canary)) = seen.rollout.spec.strategy() else { return };
        let limits = canary::limits(&seen, canary);
        let (spec, lasting) = self.sizes();
        assert!(
            spec <= limits.most().max(*spec_before),
            "surge: {spec} > {} after {action:?}",
            limits.most()
        );
        assert!(
            lasting >= limits.least_available().min(*lasting_before),
            "availability: {lasting} < {} after {action:?}",
            limits.least_available()
        );
    }

    /// The step only grows within a revision, unless steps change or somebody aborts.
    fn check_step(&self, before: &RolloutStatus) {
        let after = self.status();
        let same_update = before.current_pod_hash() == after.current_pod_hash()
            && before.current_step_hash() == after.current_step_hash();
        if same_update && !after.abort() {
            assert!(after.current_step_index >= before.current_step_index, "{before:?} -> {after:?}");
        }
    }
}
