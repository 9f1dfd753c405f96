//! What PlanRollout foretells right after each operation, against what then happens.
//!
//! Every version of everything in the namespace is recorded with its time. At the end of each instant it is looked at whether the rollout
//! rests, by the definition of PlannedState; the states in which it did must be those that were foretold, in the same order and when they
//! were foretold: up to the next operation, and up to the end when the run ends. For a clock that stands still while anything has work to do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use rolloutd::clock::Clock;
use rolloutd::crd::{Rollout, Strategy};
use rolloutd::pb::v1;
use rolloutd::plan::{self, Observed, Plan, ReplicaSet, Service, SetStatus, restart, revision};
use rolloutd::store::{PodRecord, RolloutRecord, ServiceRecord, SetRecord};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::versions;
use crate::world::{NEVER_READY, START_UP, World};

/// How far from the time that was foretold a state may come: times of objects tell seconds apart only, and so does the end of a pause.
const SLACK: SignedDuration = SignedDuration::from_millis(1500);

/// How long an instant is waited for: nothing takes so little time that is more than one.
const INSTANT: Duration = Duration::from_millis(1);

/// A kind and a name.
type Id = (&'static str, String);

/// Everything that was written: by version, when it was seen and what it was; `None` when it was deleted.
type Record = BTreeMap<u64, (Timestamp, Id, Option<Object>)>;

/// What plans read of an object.
#[derive(Clone)]
enum Object {
    Rollout(Arc<Rollout>),
    Set(Arc<ReplicaSet>),
    Pod(Box<plan::Pod>),
    Service(Arc<Service>),
}

impl Object {
    fn read(kind: &str, object: DynamicObject) -> Option<Self> {
        fn read<T: DeserializeOwned>(object: DynamicObject) -> T {
            let object = serde_json::to_value(object).expect("it came as JSON");
            T::deserialize(object).expect("it can be read")
        }
        Some(match kind {
            "Rollout" => {
                let record: RolloutRecord = read(object);
                Self::Rollout(record.decoded.expect("the scenarios' rollouts can be read"))
            }
            "ReplicaSet" => Self::Set(read::<SetRecord>(object).set),
            "Pod" => Self::Pod(Box::new(read::<PodRecord>(object).pod()?)),
            _ => Self::Service(read::<ServiceRecord>(object).service),
        })
    }
}

/// A recorder, and what was foretold last.
pub struct Foretold {
    clock: Clock,
    record: Arc<Mutex<Record>>,
    foretold: Mutex<Option<Foresight>>,
    /// The watches, which end with it.
    _watches: JoinSet<()>,
}

/// What was foretold at a time.
struct Foresight {
    operation: String,
    at: Timestamp,
    states: Vec<Reached>,
    timing: Timing,
    /// Operations that were foretold and are yet to come.
    operations: usize,
}

/// Whether what is foretold comes when it was foretold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Timing {
    Foretold,
    /// Something slows it down that is not foreseen, such as a PodDisruptionBudget.
    Unknown,
}

/// A state, and how long it took from when it was foretold.
type Reached = (SignedDuration, Settled);

/// What is compared of a state.
#[derive(Clone, Debug, PartialEq)]
struct Settled {
    /// Name, pods wanted, existing, ready and available.
    sets: Vec<(String, i32, i32, i32, i32)>,
    share: i32,
    step: Option<i32>,
    state: String,
    /// The Services that the strategy names, and the hashes that they select.
    services: Vec<(String, String)>,
    waits: Vec<Wait>,
}

/// What is compared of something that is waited for.
#[derive(Clone, Debug, PartialEq)]
struct Wait {
    reason: String,
    /// The object that it is about.
    object: String,
    condition: String,
    /// Whether time alone will tell.
    ends_by_itself: bool,
}

impl Foretold {
    pub async fn follow(client: &Client, namespace: &str, clock: Clock) -> Self {
        let (record, mut watches) = (Arc::<Mutex<Record>>::default(), JoinSet::new());
        for (kind, resource) in [
            ("Rollout", ApiResource::erase::<Rollout>(&())),
            ("ReplicaSet", ApiResource::erase::<SetRecord>(&())),
            ("Pod", ApiResource::erase::<PodRecord>(&())),
            ("Service", ApiResource::erase::<ServiceRecord>(&())),
        ] {
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
            let list = api.list_metadata(&ListParams::default()).await.expect("the namespace is listed");
            let version = list.metadata.resource_version.unwrap_or_default();
            let (clock, record) = (clock.clone(), Arc::clone(&record));
            watches.spawn(versions::follow(api, version, move |number, name, object| {
                let entry = (clock.now(), (kind, name), object.and_then(|object| Object::read(kind, object)));
                record.lock().unwrap().insert(number, entry);
            }));
        }
        Self { clock, record, foretold: Mutex::default(), _watches: watches }
    }

    /// Lets the present instant end, and compares what happened until then with what was foretold. Nothing is foretold any more.
    /// An operation that was foretold interrupts nothing.
    pub async fn interrupt(&self) {
        self.clock.sleep(INSTANT).await;
        let Some(mut foresight) = self.foretold.lock().unwrap().take() else { return };
        if foresight.operations > 0 {
            foresight.operations -= 1;
            *self.foretold.lock().unwrap() = Some(foresight);
            return;
        }
        let happened = self.happened(&foresight);
        let elapsed = self.clock.now().duration_since(foresight.at);
        let due = foresight.states.iter().filter(|(at, _)| *at + SLACK < elapsed).count();
        let is_in_time = foresight.timing == Timing::Unknown || happened.len() >= due;
        assert!(foresight.begins_with(&happened) && is_in_time, "{}", foresight.compared(&happened, elapsed));
    }

    /// Waits for the end of what was foretold, and compares all of it.
    pub async fn finish(&self) {
        let Some(foresight) = self.foretold.lock().unwrap().take() else { return };
        assert_eq!(foresight.operations, 0, "operations were foretold that did not come");
        let last = foresight.states.last().expect("a timeline has an end").0;
        let end = foresight.at + last + SLACK;
        self.clock.sleep(end.duration_since(self.clock.now()).try_into().unwrap_or_default()).await;
        self.clock.sleep(INSTANT).await;
        let happened = self.happened(&foresight);
        let elapsed = self.clock.now().duration_since(foresight.at);
        let is_whole = happened.len() == foresight.states.len();
        assert!(foresight.begins_with(&happened) && is_whole, "{}", foresight.compared(&happened, elapsed));
    }

    /// Asks what will come of an operation, unless that was foretold.
    pub async fn ask(&self, world: &World, operation: &str) {
        let is_foretold = self.foretold.lock().unwrap().is_some();
        if !is_foretold && world.rollouts().get_opt("web").await.expect("it is read").is_some() {
            self.ask_assuming(world, operation, v1::PlanAssumptions::default(), 0).await;
        }
    }

    /// The same with more assumptions, and with so many operations to come. Pods start and turn out as they will.
    pub async fn ask_assuming(
        &self,
        world: &World,
        operation: &str,
        assumptions: v1::PlanAssumptions,
        operations: usize,
    ) {
        let at = self.clock.now();
        let rollout = world.rollouts().get("web").await.expect("it exists");
        let assumptions = v1::PlanAssumptions {
            pod_start_up: Some(START_UP.try_into().unwrap()),
            pods_never_ready: crate::scenarios::current_image(&rollout).contains(NEVER_READY),
            ..assumptions
        };
        let name = format!("namespaces/{}/rollouts/web", world.namespace);
        let request = v1::PlanRolloutRequest { name, assumptions: Some(assumptions), ..Default::default() };
        let answer = world.rpc().plan_rollout(request).await.expect("it is foretold").into_inner();
        let is_known =
            |warning: &v1::Warning| ["EVICTIONS_REFUSED", "PODS_FAILING"].contains(&warning.reason.as_str());
        assert!(answer.warnings.iter().all(is_known), "{:?}", answer.warnings);
        assert!(!answer.timeline.is_empty(), "{operation}: nothing is foretold");
        let states = answer.timeline.iter().map(|state| (offset(state), foretold(state)));
        let mut states: Vec<_> = states.collect();
        // Some differ in what is not compared.
        states.dedup_by(|later, earlier| later.1 == earlier.1);
        let operation = operation.to_owned();
        let foresight = Foresight { operation, at, states, timing: Timing::Foretold, operations };
        *self.foretold.lock().unwrap() = Some(foresight);
    }

    /// What was foretold last comes when it comes.
    pub fn slowed_down(&self) {
        if let Some(foresight) = &mut *self.foretold.lock().unwrap() {
            foresight.timing = Timing::Unknown;
        }
    }

    /// The states in which the rollout has rested since then.
    fn happened(&self, foresight: &Foresight) -> Vec<Reached> {
        let now = self.clock.now();
        let record = self.record.lock().unwrap();
        let mut objects = BTreeMap::new();
        let mut states: Vec<Reached> = Vec::new();
        let mut entries = record.values().peekable();
        while let Some((at, id, object)) = entries.next() {
            match object {
                Some(object) => objects.insert(id.clone(), object.clone()),
                None => objects.remove(id),
            };
            let next = entries.peek().map_or(now, |(at, ..)| *at);
            // The end of an instant: of the one that was asked in, too.
            if next <= *at || next <= foresight.at {
                continue;
            }
            let at = (*at).max(foresight.at);
            let settled = Scene::of(&objects).and_then(|scene| scene.settled(at));
            let is_another = |settled: &Settled| states.last().is_none_or(|(_, last)| last != settled);
            if let Some(settled) = settled.filter(is_another) {
                states.push((at.duration_since(foresight.at), settled));
            }
        }
        states
    }
}

impl Foresight {
    /// Whether what happened is the beginning of what was foretold, each state at its time.
    fn begins_with(&self, happened: &[Reached]) -> bool {
        let is_it = |((foretold_at, foretold), (at, settled)): (&Reached, &Reached)| {
            let is_in_time = self.timing == Timing::Unknown || (*at - *foretold_at).abs() <= SLACK;
            foretold == settled && is_in_time
        };
        happened.len() <= self.states.len() && self.states.iter().zip(happened).all(is_it)
    }

    fn compared(&self, happened: &[Reached], elapsed: SignedDuration) -> String {
        let times = |states: &[Reached]| states.iter().map(|(at, _)| format!("{at:#}")).collect::<Vec<_>>();
        format!(
            "after {} ({elapsed:#} ago) there was foretold, for {:?}:\n{:#?}\nand there came, at {:?}:\n{happened:#?}",
            self.operation,
            times(&self.states),
            self.states,
            times(happened),
        )
    }
}

/// The rollout and what is below it at one moment.
struct Scene {
    seen: Observed,
    pods: Vec<plan::Pod>,
}

impl Scene {
    /// `None` while there is no rollout, or none that stays.
    fn of(objects: &BTreeMap<Id, Object>) -> Option<Self> {
        let (mut sets, mut pods, mut services, mut rollout) = (Vec::new(), Vec::new(), Vec::new(), None);
        for object in objects.values().cloned() {
            match object {
                Object::Rollout(found) => rollout = Some(found),
                Object::Set(set) => sets.push(set),
                Object::Pod(pod) => pods.push(*pod),
                Object::Service(service) => services.push(service),
            }
        }
        let rollout = rollout.filter(|rollout| rollout.metadata.deletion_timestamp.is_none())?;
        sets.retain(|set| set.controller() == rollout.metadata.uid.as_deref());
        let named = rollout.spec.strategy().map(Strategy::services).unwrap_or_default();
        let seen = Observed {
            absent_services: named.iter().map(|named| named.name.to_owned()).collect(),
            pods: if restart::is_asked_for(&rollout) { pods.clone() } else { Vec::new() },
            sets,
            services,
            ..Observed::alone(rollout)
        };
        Some(Self { seen, pods })
    }

    /// What is to be compared, if it rests.
    fn settled(&self, now: Timestamp) -> Option<Settled> {
        let plan = plan::plan(&self.seen, now);
        let rests = writes_nothing(&plan) && self.seen.sets.iter().all(|set| self.is_still(set));
        rests.then(|| self.show(&plan))
    }

    /// Whether no pod of a set is on its way, and the set's status knows of all of them.
    fn is_still(&self, set: &ReplicaSet) -> bool {
        let pods = || self.pods.iter().filter(|pod| pod.set == set.uid && !pod.terminating);
        let count = |count: usize| i32::try_from(count).unwrap();
        let ready = count(pods().filter(|pod| pod.ready_since.is_some()).count());
        let never = image_of(set).contains(NEVER_READY);
        set.is_observed()
            && count(pods().count()) == set.replicas
            && (ready == set.replicas || never)
            && (set.status.replicas, set.status.ready, set.status.available) == (set.replicas, ready, ready)
    }

    fn show(&self, plan: &Plan) -> Settled {
        let (rollout, status) = (&self.seen.rollout, self.seen.rollout.status());
        let sets = self.seen.sets.iter().map(|set| {
            let SetStatus { replicas, ready, available, .. } = set.status;
            (set.name.clone(), set.replicas, replicas, ready, available)
        });
        let object = |blocker: &plan::Blocker| match &blocker.object {
            plan::Object::Rollout => "web".to_owned(),
            plan::Object::ReplicaSet(name) | plan::Object::Service(name) | plan::Object::Pod(name) => {
                name.clone()
            }
            plan::Object::Workload(workload) => workload.name.clone(),
        };
        let waits = plan.blockers.iter().map(|blocker| Wait {
            reason: format!("{:?}", blocker.reason),
            object: object(blocker),
            condition: blocker.condition.clone(),
            ends_by_itself: blocker.next_at.is_some(),
        });
        let named = rollout.spec.strategy().map(Strategy::services).unwrap_or_default();
        let selected = |name: &str| self.seen.service(name).map(Service::hash).unwrap_or_default().to_owned();
        let services = named.iter().map(|named| (named.name.to_owned(), selected(named.name)));
        Settled {
            sets: sorted(sets),
            share: self.share(),
            step: status.current_step_index,
            state: match &status.phase {
                Some(phase) if revision::is_seen(&self.seen) => phase.as_str().to_owned(),
                _ => "Progressing".to_owned(),
            },
            services: sorted(services),
            waits: waits.collect(),
        }
    }

    /// The hash of the version that the spec asks for; empty while it has no ReplicaSet.
    fn newest(&self) -> &str {
        let image = crate::scenarios::current_image(&self.seen.rollout);
        let set = self.seen.sets.iter().find(|set| image_of(set) == image);
        set.map(|set| set.hash()).unwrap_or_default()
    }

    /// The share of the newest version in percent: of available pods, or of blue-green's active Service.
    fn share(&self) -> i32 {
        let newest = self.newest();
        if let Ok(Strategy::BlueGreen(strategy)) = self.seen.rollout.spec.strategy() {
            let active = self.seen.service(&strategy.active_service).map(Service::hash).unwrap_or_default();
            return if !newest.is_empty() && active == newest { 100 } else { 0 };
        }
        let available = |sets: &mut dyn Iterator<Item = &Arc<ReplicaSet>>| -> f64 {
            sets.map(|set| f64::from(set.status.available)).sum()
        };
        let all = available(&mut self.seen.sets.iter());
        let new = available(&mut self.seen.sets.iter().filter(|set| set.hash() == newest));
        #[expect(clippy::cast_possible_truncation, reason = "a share is at most 100")]
        let share = (100.0 * new / all).round() as i32;
        if all == 0.0 { 0 } else { share }
    }
}

fn writes_nothing(plan: &Plan) -> bool {
    plan.sets.is_empty()
        && plan.services.is_empty()
        && plan.evictions.pods.is_empty()
        && plan.rollout.object.is_none()
        && plan.rollout.status.is_none()
        && plan.question.is_none()
}

fn image_of(set: &ReplicaSet) -> &str {
    set.template.pointer("/spec/containers/0/image").and_then(Value::as_str).unwrap_or_default()
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort();
    items
}

fn offset(state: &v1::PlannedState) -> SignedDuration {
    let at = state.at.as_ref().expect("a state has a time");
    SignedDuration::new(at.seconds, at.nanos)
}

/// A state of the API in the same words.
fn foretold(state: &v1::PlannedState) -> Settled {
    let sets = state.replica_sets.iter().map(|set| {
        (set.name.clone(), set.desired_replicas, set.replicas, set.ready_replicas, set.available_replicas)
    });
    let services = state.services.iter();
    let waits = state.blockers.iter().map(|blocker| Wait {
        reason: format!("{:?}", blocker.reason()),
        object: blocker.object.as_ref().map(|object| object.name.clone()).unwrap_or_default(),
        condition: blocker.condition.clone(),
        ends_by_itself: blocker.next_time.is_some(),
    });
    Settled {
        sets: sorted(sets),
        share: state.actual_weight,
        step: state.step_index,
        state: format!("{:?}", state.state()),
        services: sorted(services.map(|service| (service.name.clone(), service.pod_template_hash.clone()))),
        waits: waits.collect(),
    }
}
