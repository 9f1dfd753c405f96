//! One planner for each rollout: observes it, plans, and hands each worker the newest part of the plan.
//!
//! Planning is quick and never waits, so that one task plans for all rollouts in turn; a rollout is planned again whenever
//! something below it changes, when its plan says so, and when a write of its was refused.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Workers;
use super::label::Progress;
use super::queue::Latest;
use super::recorder::{About, Recorder};
use super::replica_set::SetsJob;
use super::rollout::RolloutJob;
use super::step_plugin::CallJob;
use super::traffic::ServicesJob;
use super::workload::WorkloadJob;
use crate::clock::Clock;
use crate::plan::{
    self, Attempt, Basis, COMPANY, Call, Event, Evictions, LEAST_PAUSE, Object, Observed, Plan, PodAction,
    Question, Urgency, WorkloadAction, environment, event, restart,
};
use crate::store::activity::Activities;
use crate::store::{Changed, Key, ObjectId, Settled, Store, WriteError, Writer};
use crate::telemetry::Metrics;

/// How long a rollout rests whose plan could not be made at all.
const REST: jiff::SignedDuration = jiff::SignedDuration::from_secs(30);

/// What planner and workers share.
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) activities: Activities,
    /// Rollouts that are to be planned.
    wakes: Latest<()>,
    pub(super) rollouts: Latest<RolloutJob>,
    pub(super) sets: Latest<SetsJob>,
    pub(super) services: Latest<ServicesJob>,
    pub(super) workloads: Latest<WorkloadJob>,
    pub(super) evictions: Latest<Evictions>,
    pub(super) labels: Latest<Vec<PodAction>>,
    pub(super) calls: Latest<CallJob>,
    /// ReplicaSets that were read afresh since this process leads: what another wrote last is in the cache.
    pub(super) confirmed: Mutex<HashSet<Key>>,
}

impl Shared {
    /// Has a rollout planned again at once.
    pub(super) fn wake(&self, key: &Key) {
        self.wakes.put(key, (), Instant::now());
    }

    /// Has a rollout planned again at a time of the cluster.
    pub(super) fn wake_at(&self, key: &Key, at: Timestamp) {
        let left = Duration::try_from(at.duration_since(self.clock.now())).unwrap_or_default();
        self.wakes.put(key, (), Instant::now() + self.clock.in_real_time(left));
    }

    /// Remembers that a write was refused, and has it planned again when its pause is over.
    pub(super) fn refused(&self, key: &Key, attempt: Attempt, reason: &str, message: &str) {
        tracing::warn!(rollout = %key, ?attempt, reason, message, "request refused");
        self.metrics.reconcile_error(&key.namespace, &key.name);
        self.put_off(key, attempt, reason, message);
    }

    /// Remembers that a question was not answered; it is asked again when its pause is over.
    pub(super) fn unanswered(&self, key: &Key, attempt: Attempt, error: WriteError) {
        let (reason, message) = match error {
            WriteError::Refused(refusal) => (refusal.reason, refusal.message),
            // Nothing that is asked can be stale, gone or taken; should a server say so, it is asked again all the same.
            other => (plan::UNAVAILABLE.to_owned(), other.to_string()),
        };
        self.refused(key, attempt, &reason, &message);
    }

    /// Whether a request that was refused is yet to wait.
    pub(super) fn is_put_off(&self, key: &Key, attempt: &Attempt) -> bool {
        self.store.memory.next_try(key, attempt, self.clock.now()).is_some()
    }

    /// Has a write tried again later, and the rollout planned again at once and then.
    pub(super) fn put_off(&self, key: &Key, attempt: Attempt, reason: &str, message: &str) {
        let next = self.store.memory.refused(key, attempt, reason, message, self.clock.now());
        self.wake(key);
        self.wake_at(key, next);
    }
}

/// Plans for all rollouts.
pub(super) struct Planner {
    pub(super) shared: Arc<Shared>,
    pub(super) writer: Writer,
    recorder: Recorder,
    /// Questions and fresh looks that are under way.
    pub(super) errands: TaskTracker,
    pub(super) asking: Arc<Mutex<HashSet<Key>>>,
    /// When ReplicaSets of a rollout that are in no watch are read again.
    pub(super) unwatched: HashMap<Key, Timestamp>,
    /// ReplicaSets, by UID, that were looked for because only pods told of them, with their rollouts.
    sought: HashMap<String, Key>,
    known: HashMap<Key, Known>,
    /// Rollouts whose pods lack labels or annotations.
    labelling: Progress,
}

/// What a rollout that is gone leaves to be done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    /// Services that say that it manages them.
    Services,
}

/// What the planner remembers of a rollout that it planned for.
struct Known {
    about: About,
    /// Notices that were recorded; they are repeated by every plan.
    noticed: Vec<Event>,
}

impl Planner {
    pub(super) fn new(workers: &Workers, writer: Writer, recorder: Recorder) -> Self {
        let shared = Shared {
            store: Arc::clone(&workers.store),
            clock: workers.clock.clone(),
            metrics: workers.metrics.clone(),
            activities: workers.activities.clone(),
            wakes: Latest::default(),
            rollouts: Latest::default(),
            sets: Latest::default(),
            services: Latest::default(),
            workloads: Latest::default(),
            evictions: Latest::default(),
            labels: Latest::default(),
            calls: Latest::default(),
            confirmed: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
            writer,
            recorder,
            errands: TaskTracker::new(),
            asking: Arc::default(),
            unwatched: HashMap::new(),
            sought: HashMap::new(),
            known: HashMap::new(),
            labelling: Progress::default(),
        }
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Plans until it is told to stop.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.shared.store.changes();
        // What was answered while this process led before may be about another attempt.
        self.shared.store.memory.forget_answers();
        self.suspect_unknown_sets();
        self.wake_all();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = changes.recv() => match changed {
                    Ok(changed) => self.note(&changed),
                    Err(RecvError::Lagged(_)) => {
                        self.suspect_unknown_sets();
                        self.wake_all();
                    }
                    Err(RecvError::Closed) => break,
                },
                (key, ()) = self.shared.wakes.next() => {
                    self.plan(&key);
                    self.shared.wakes.done(&key);
                    // Many plans in a row keep a thread from everything else.
                    tokio::task::yield_now().await;
                }
            }
        }
        self.shared.wakes.clear();
        self.labelling.end(&self.shared, self.known.keys());
        self.errands.close();
        self.errands.wait().await;
    }

    /// ReplicaSets that only pods and statuses tell of are read afresh before anything is decided about their rollouts.
    fn suspect_unknown_sets(&self) {
        for (set, rollout) in self.shared.store.unknown_sets() {
            self.shared.store.own.suspect(ObjectId::ReplicaSet(set), &rollout);
        }
    }

    /// A ReplicaSet that only its pods tell of: it lost its label while the API server was away, before any list had it (seed 8356). It
    /// is looked for once; gives its rollout, which waits for that.
    fn suspect_set_of_pods(&mut self, uid: &str) -> Option<Key> {
        if self.sought.contains_key(uid) {
            return None;
        }
        let (set, rollout) = self.shared.store.unknown_set(uid)?;
        let set = ObjectId::ReplicaSet(set);
        if self.shared.store.own.expects(&set) {
            // One that was created a moment ago.
            return None;
        }
        self.sought.insert(uid.to_owned(), rollout.clone());
        self.shared.store.own.suspect(set, &rollout);
        Some(rollout)
    }

    fn wake_all(&self) {
        for rollout in self.shared.store.rollouts.all() {
            self.shared.wake(&Key::of(&*rollout));
        }
        for key in self.known.keys() {
            self.shared.wake(key);
        }
        // What was written while this process led before, to rollouts that may be gone.
        for key in self.shared.store.own.rollouts() {
            self.shared.wake(&key);
        }
        for key in self.shared.store.absent_managers() {
            self.shared.wake(&key);
        }
    }

    fn note(&mut self, changed: &Changed) {
        let store = &self.shared.store;
        match changed {
            Changed::Rollout(key, _) => self.shared.wake(key),
            Changed::Below { uid, .. } => {
                if let Some(key) = store.rollouts.key_of(uid) {
                    self.shared.wake(&key);
                }
            }
            // Plans are made from sets; their pods show in the sets' status, except while they are restarted or labelled, or tell of a
            // set that is in no cache.
            Changed::BelowSet { uid, .. } => {
                // Nearly always the set is known, and there may be thousands of pods.
                let key = match store.sets.key_of(uid) {
                    Some(set) => self.looking_at_pods(&set),
                    None => self.suspect_set_of_pods(uid),
                };
                if let Some(key) = key {
                    self.shared.wake(&key);
                }
            }
            Changed::Service(service) => {
                for key in store.rollouts_of_service(service) {
                    self.shared.wake(&key);
                }
            }
            Changed::SetLeft { set, rollout } => {
                if let Some(key) = store.rollouts.key_of(rollout) {
                    store.own.suspect(ObjectId::ReplicaSet(set.clone()), &key);
                    self.shared.wake(&key);
                }
            }
            Changed::Workload { namespace, name } => {
                for key in store.rollouts_of_workload(namespace, name) {
                    self.shared.wake(&key);
                }
            }
            Changed::Plugins => self.wake_all(),
            Changed::Orphan { namespace } => {
                for rollout in store.rollouts.page(Some(namespace), None, usize::MAX) {
                    self.shared.wake(&Key::of(&*rollout));
                }
            }
        }
    }

    /// The rollout of a ReplicaSet, while its pods are being restarted or watched, or lack labels or annotations.
    fn looking_at_pods(&self, set: &Key) -> Option<Key> {
        let store = &self.shared.store;
        let set = store.sets.get(set)?;
        let key = store.rollouts.key_of(set.set.controller()?)?;
        let rollout = store.rollouts.get(&key)?;
        let restarts = rollout.decoded.as_ref().is_ok_and(|rollout| restart::is_asked_for(rollout));
        (restarts
            || environment::is_watched(&set.set)
            || self.labelling.is_open(&key)
            || !store.is_labelled(&set.set))
        .then_some(key)
    }

    fn plan(&mut self, key: &Key) {
        match self.shared.store.own.settled(key) {
            Settled::Yes => {}
            Settled::Wait(until) => return self.shared.wakes.put(key, (), until),
            Settled::Overdue(objects) => return self.look_afresh(key, objects),
        }
        // From here on pods are written by what this plan says only; what is being written to them no cache shows yet (seed 19891).
        let labels_due = self.shared.labels.withdraw(key).unwrap_or_else(Instant::now);
        let writes_pods = self.shared.labels.is_running(key);
        if writes_pods {
            self.plan_after(key, |shared| &shared.labels);
        }
        let Some(mut seen) = self.shared.store.observe(key) else { return self.forget(key) };
        seen.labels_settled &= !writes_pods;
        let now = self.shared.clock.now();
        if self.suspects_unwatched(key, &seen, now) {
            return self.shared.wake(key);
        }
        let generation = seen.rollout.metadata.generation;
        let span = tracing::info_span!("plan", namespace = %key.namespace, rollout = %key.name, ?generation);
        let _entered = span.enter();
        let began = Instant::now();
        // One rollout that nobody thought of must not stop the others.
        let Ok(plan) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| plan::plan(&seen, now)))
        else {
            tracing::error!("no plan could be made: this is a bug; the rollout is left alone for a while");
            self.shared.metrics.reconcile_error(&key.namespace, &key.name);
            let said = event::reconciliation_error("no plan could be made: this is a bug of rolloutd");
            self.notice(key, &About::rollout(&seen), &[said]);
            return self.shared.wake_at(key, now.checked_add(REST).unwrap_or(now));
        };
        self.shared.metrics.reconcile(&key.namespace, &key.name, began.elapsed());
        self.hand_out(key, &seen, plan, now, labels_due);
    }

    fn hand_out(&mut self, key: &Key, seen: &Observed, plan: Plan, now: Timestamp, labels_due: Instant) {
        let about = About::rollout(seen);
        let late = self.labelling.follow(&self.shared, key, plan.labelling.as_ref(), now);
        self.notice(key, &about, &[plan.notices.as_slice(), late.as_slice()].concat());
        self.drop_setbacks(key, &plan);
        match &plan.question {
            Some(Question::DefaultedTemplate) => self.ask(key, seen),
            Some(Question::Services(names)) => self.look_for_services(key, names.clone()),
            Some(Question::Workload(named)) => self.look_for_workload(key, named.clone()),
            None => {}
        }
        let retry =
            seen.setbacks.iter().filter_map(|setback| setback.next_try).filter(|next| *next > now).min();
        if let Some(at) = plan.wake_at.into_iter().chain(retry).min() {
            self.shared.wake_at(key, at.max(now.checked_add(LEAST_PAUSE).unwrap_or(at)));
        }

        // Dropped by the worker of ReplicaSets when it is through: events are recorded in the order of the contract.
        let (done, sets_done) = oneshot::channel();
        let job =
            SetsJob { about: about.clone(), actions: plan.sets, basis: plan.basis.clone(), _done: done };
        self.hand_out_pods(key, job, plan.evictions);
        self.hand_out_labels(key, plan.pods, labels_due);
        self.hand_out_call(key, seen, plan.call, plan.answer_is_stale);
        self.hand_out_services(key, &about, plan.services, &plan.basis);
        self.hand_out_workload(key, &about, plan.workload, &plan.basis);
        match plan.rollout.object.is_none() && plan.rollout.status.is_none() {
            true => self.shared.rollouts.take_back(key),
            false => {
                let wait = match (&plan.rollout.object, plan.rollout.urgency) {
                    (None, Urgency::Soon) => self.shared.clock.in_real_time(COMPANY.unsigned_abs()),
                    _ => Duration::ZERO,
                };
                let job = RolloutJob { about, part: plan.rollout, version: plan.basis.rollout, sets_done };
                self.shared.rollouts.put(key, job, Instant::now() + wait);
            }
        }
    }

    /// Sizes and evictions: each was decided on the pods that the other leaves, so that what runs of the one ends before the other
    /// begins, and then it is planned again.
    fn hand_out_pods(&self, key: &Key, sizes: SetsJob, evictions: Evictions) {
        let shared = &self.shared;
        // Nothing that waits begins any more.
        shared.sets.take_back(key);
        shared.evictions.take_back(key);
        if !sizes.actions.is_empty() {
            match shared.evictions.is_running(key) {
                true => self.plan_after(key, |shared| &shared.evictions),
                false => shared.sets.put(key, sizes, Instant::now()),
            }
        }
        if !evictions.pods.is_empty() {
            match shared.sets.is_running(key) {
                true => self.plan_after(key, |shared| &shared.sets),
                false => shared.evictions.put(key, evictions, Instant::now()),
            }
        }
    }

    /// What is to be asked of a step plugin; an answer that nobody wants any more is forgotten.
    fn hand_out_call(&self, key: &Key, seen: &Observed, call: Option<Call>, answer_is_stale: bool) {
        match call {
            None => self.shared.calls.take_back(key),
            Some(call) => {
                let job = CallJob { call, rollout: Arc::clone(&seen.rollout) };
                self.shared.calls.put(key, job, Instant::now());
            }
        }
        // Afterwards: while there is an answer nothing is asked that was decided without it.
        if let Some(answer) = seen.plugins.answer.as_ref().filter(|_| answer_is_stale) {
            self.shared.store.memory.forget_answer(key, answer);
            self.shared.wake(key);
        }
    }

    /// Keeps its place among those that wait: it is planned again more often than its turn comes.
    fn hand_out_labels(&self, key: &Key, pods: Vec<PodAction>, due: Instant) {
        // Also with nothing to write the worker reads pods afresh whose last write was not shown in time.
        if !pods.is_empty() || self.shared.store.labels.awaits_pods(key) {
            self.shared.labels.put(key, pods, due);
        }
    }

    /// Plans again when a worker is through with what it does for the rollout.
    fn plan_after<T: Send + 'static>(&self, key: &Key, worker: fn(&Shared) -> &Latest<T>) {
        let (shared, key) = (Arc::clone(&self.shared), key.clone());
        self.errands.spawn(async move {
            worker(&shared).quiet(&key).await;
            shared.wake(&key);
        });
    }

    fn hand_out_services(&self, key: &Key, about: &About, actions: Vec<plan::ServiceAction>, basis: &Basis) {
        if actions.is_empty() {
            return self.shared.services.take_back(key);
        }
        let job = ServicesJob { about: about.clone(), actions, basis: basis.clone() };
        self.shared.services.put(key, job, Instant::now());
    }

    fn hand_out_workload(&self, key: &Key, about: &About, action: Option<WorkloadAction>, basis: &Basis) {
        match action {
            None => self.shared.workloads.take_back(key),
            Some(action) => {
                let job = WorkloadJob { about: about.clone(), action, rollout: basis.rollout.clone() };
                self.shared.workloads.put(key, job, Instant::now());
            }
        }
    }

    /// Records what a plan has to say besides writes, once for as long as it says so.
    fn notice(&mut self, key: &Key, about: &About, notices: &[Event]) {
        let is_new = !self.known.contains_key(key);
        let known =
            self.known.entry(key.clone()).or_insert(Known { about: about.clone(), noticed: Vec::new() });
        let replaced = known.about.uid != about.uid;
        let before = std::mem::replace(&mut known.about, about.clone());
        if replaced {
            known.noticed.clear();
            self.shared.store.memory.forget(key);
            self.recorder.record(&before, vec![event::deleted(&key.namespace, &key.name)]);
        }
        if (is_new || replaced) && about.is_unseen {
            self.recorder.record(about, vec![event::added(&key.namespace, &key.name)]);
        }
        let new: Vec<Event> =
            notices.iter().filter(|notice| !known.noticed.contains(notice)).cloned().collect();
        known.noticed = notices.to_vec();
        self.recorder.record(about, new);
    }

    /// Forgets refusals of writes that the plan does not want any more; what is said of them is then unsaid.
    fn drop_setbacks(&self, key: &Key, plan: &Plan) {
        if self.shared.store.memory.keep_setbacks(key, |attempt| plan.wants(attempt)) {
            self.shared.wake(key);
        }
    }

    /// A rollout that is gone, or that cannot be decoded.
    fn forget(&mut self, key: &Key) {
        self.shared.sets.take_back(key);
        self.shared.rollouts.take_back(key);
        self.shared.services.take_back(key);
        self.shared.workloads.take_back(key);
        self.shared.evictions.take_back(key);
        self.shared.labels.take_back(key);
        self.shared.calls.take_back(key);
        self.labelling.forget(&self.shared, key);
        self.unwatched.remove(key);
        self.sought.retain(|_, rollout| rollout != key);
        if let Some(record) = self.shared.store.rollouts.get(key) {
            let Err(error) = &record.decoded else { return };
            let message =
                format!("the stored object cannot be decoded, so nothing of it is touched: {error}");
            tracing::warn!(rollout = %key, %error, "malformed rollout");
            let about = About::object(&*record);
            return self.notice(key, &about, &[event::malformed_object(message)]);
        }
        if self.release_services(key) == Left::Nothing {
            self.shared.store.memory.forget(key);
        }
        self.shared.metrics.forget(&key.namespace, &key.name);
        if let Some(known) = self.known.remove(key) {
            self.recorder.record(&known.about, vec![event::deleted(&key.namespace, &key.name)]);
        }
    }

    /// Gives the Services of a rollout that is gone their own selectors back. A rollout that is in no cache may be another controller's:
    /// it is looked for before, once for each change of its Services.
    fn release_services(&self, key: &Key) -> Left {
        let services = self.shared.store.managed_services(key);
        if services.is_empty() {
            return Left::Nothing;
        }
        let look = Attempt::Read(Object::Rollout);
        let (memory, now) = (&self.shared.store.memory, self.shared.clock.now());
        let next_try = |service: &Arc<plan::Service>| {
            let attempts = [look.clone(), Attempt::Service(service.name.clone())];
            attempts.iter().filter_map(|attempt| memory.next_try(key, attempt, now)).max()
        };
        let staying = services.iter().filter(|service| !service.terminating);
        let (put_off, due): (Vec<_>, Vec<_>) = staying.partition(|service| next_try(service).is_some());
        if let Some(next) = put_off.into_iter().filter_map(next_try).min() {
            self.shared.wake_at(key, next);
        }
        if due.is_empty() {
            return Left::Services;
        }
        let actions = due.into_iter().map(|service| plan::service::release(service)).collect();
        let (writer, shared, of) = (self.writer.clone(), self.shared(), key.clone());
        self.send_once(key, async move {
            match writer.look_for_rollout(&of).await {
                Ok(true) => shared.store.memory.succeeded(&of, &look),
                Ok(false) => {
                    shared.store.memory.succeeded(&of, &look);
                    let job = ServicesJob { about: About::gone(&of), actions, basis: Basis::default() };
                    shared.services.put(&of, job, Instant::now());
                }
                Err(error) => shared.unanswered(&of, look, error),
            }
        });
        Left::Services
    }
}
