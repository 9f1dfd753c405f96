//! What was learned from answers: requests that were refused, and pod templates with the server's defaults.
//!
//! Kept in this process only: after a restart the same writes are tried and the same questions asked again. A refused write is
//! tried again after a growing pause, whatever else happens meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::object::Key;
use crate::crd::{ObjectRef, Rollout, WorkloadName};
use crate::plan::{Answer, Attempt, DefaultedTemplate, FieldPath, Setback, UNAVAILABLE};

/// The first pause after a refused write.
const RETRY_FIRST: SignedDuration = SignedDuration::from_secs(1);

/// The longest pause: what is refused for hours costs two requests a minute, and what is mended goes on within half a one.
const RETRY_MOST: SignedDuration = SignedDuration::from_secs(30);

/// The longest pause after a write that found no answer: once the API server is back, work goes on.
const AWAY_MOST: SignedDuration = SignedDuration::from_secs(2);

/// What one process remembers.
#[derive(Debug, Default)]
pub struct Memory {
    inner: Mutex<HashMap<Key, Entry>>,
    /// Fields of the status that the definition of Rollouts does not know. It is one for all rollouts.
    pruned: RwLock<Arc<BTreeSet<FieldPath>>>,
}

#[derive(Debug, Default)]
struct Entry {
    setbacks: BTreeMap<Attempt, (Setback, SignedDuration)>,
    defaulted: Option<DefaultedTemplate>,
    absent_services: BTreeSet<String>,
    absent_workload: Option<WorkloadName>,
    /// What a step plugin answered last.
    answer: Option<Answer>,
    /// Pods whose labels may not be written, by the name of their ReplicaSet.
    unlabelled: BTreeMap<String, Unlabelled>,
}

/// Pods of a ReplicaSet whose labels may not be written.
#[derive(Debug, Default)]
struct Unlabelled {
    /// Their uids.
    pods: BTreeSet<String>,
    /// Whether the last try was refused for every pod: others need not be tried before their time.
    all: bool,
}

/// What is remembered of a rollout.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// Writes that were refused and have not succeeded since.
    pub setbacks: Vec<Setback>,
    /// How its template looks with the server's defaults, where that was asked.
    pub defaulted: Option<DefaultedTemplate>,
    /// Services that a fresh look did not find.
    pub absent_services: BTreeSet<String>,
    /// Whether a fresh look did not find the workload that it refers to.
    pub workload_is_absent: bool,
    /// What a step plugin answered last.
    pub answer: Option<Answer>,
    /// The uids of pods whose labels may not be written.
    pub unlabelled: BTreeSet<String>,
}

impl Memory {
    /// What is remembered of a rollout.
    #[must_use]
    pub(super) fn about(&self, key: &Key, rollout: &Rollout) -> Remembered {
        let inner = self.lock();
        let Some(entry) = inner.get(key) else { return Remembered::default() };
        let given = rollout.spec.template.as_ref();
        Remembered {
            setbacks: entry.setbacks.values().map(|(setback, _)| setback.clone()).collect(),
            defaulted: entry.defaulted.clone().filter(|answer| Some(&*answer.given) == given),
            absent_services: entry.absent_services.clone(),
            workload_is_absent: entry.absent_workload.as_ref().is_some_and(|absent| {
                rollout.spec.workload_ref.as_ref().and_then(ObjectRef::workload).as_ref() == Some(absent)
            }),
            answer: entry.answer.clone(),
            unlabelled: entry.unlabelled.values().flat_map(|refused| &refused.pods).cloned().collect(),
        }
    }

    /// A fresh look found a Service of a rollout, or (`false`) did not.
    pub fn looked_for_service(&self, key: &Key, service: &str, is_there: bool) {
        let mut inner = self.lock();
        let absent = &mut inner.entry(key.clone()).or_default().absent_services;
        if is_there {
            absent.remove(service);
        } else {
            absent.insert(service.to_owned());
        }
    }

    /// A fresh look found the workload that a rollout refers to, or (`false`) did not.
    pub fn looked_for_workload(&self, key: &Key, named: &WorkloadName, is_there: bool) {
        let absent = (!is_there).then(|| named.clone());
        self.lock().entry(key.clone()).or_default().absent_workload = absent;
    }

    /// Fields of the status that the server does not keep.
    #[must_use]
    pub fn pruned(&self) -> Arc<BTreeSet<FieldPath>> {
        Arc::clone(&self.pruned.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes what of a status that was sent is missing in what was stored: the definition of Rollouts is older than these fields.
    /// Says whether anything is.
    pub fn compare_status(&self, sent: &Value, stored: &Value) -> bool {
        let mut missing = BTreeSet::new();
        missing_fields(sent, stored, &mut Vec::new(), &mut missing);
        if missing.is_empty() {
            return false;
        }
        let mut pruned = self.pruned.write().unwrap_or_else(PoisonError::into_inner);
        if !missing.is_subset(&pruned) {
            tracing::warn!(
                ?missing,
                "the definition of Rollouts does not know these fields of a status; they are left out from now on"
            );
            *pruned = Arc::new(pruned.union(&missing).cloned().collect());
        }
        true
    }

    /// A write was refused. Gives when it may be tried again.
    pub fn refused(
        &self,
        key: &Key,
        attempt: Attempt,
        reason: &str,
        message: &str,
        now: Timestamp,
    ) -> Timestamp {
        let mut inner = self.lock();
        let setbacks = &mut inner.entry(key.clone()).or_default().setbacks;
        let most = if reason == UNAVAILABLE { AWAY_MOST } else { RETRY_MOST };
        let (since, pause) = match setbacks.get(&attempt) {
            Some((setback, pause)) => (setback.since, (*pause * 2).min(most)),
            None => (now, RETRY_FIRST),
        };
        let next_try = now.checked_add(pause).unwrap_or(Timestamp::MAX);
        let setback = Setback {
            attempt: attempt.clone(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            since,
            next_try: Some(next_try),
        };
        setbacks.insert(attempt, (setback, pause));
        next_try
    }

    /// A write succeeded, or is not wanted any more.
    pub fn succeeded(&self, key: &Key, attempt: &Attempt) {
        let mut inner = self.lock();
        if let Some(entry) = inner.get_mut(key) {
            entry.setbacks.remove(attempt);
        }
    }

    /// When a write that was refused may be tried again; `None` when it may be tried at once.
    #[must_use]
    pub fn next_try(&self, key: &Key, attempt: &Attempt, now: Timestamp) -> Option<Timestamp> {
        let inner = self.lock();
        inner.get(key)?.setbacks.get(attempt)?.0.next_try.filter(|next| *next > now)
    }

    /// Forgets refusals of writes that nobody wants any more. Says whether there were any.
    pub fn keep_setbacks(&self, key: &Key, wanted: impl Fn(&Attempt) -> bool) -> bool {
        let mut inner = self.lock();
        let Some(entry) = inner.get_mut(key) else { return false };
        let before = entry.setbacks.len();
        entry.setbacks.retain(|attempt, _| wanted(attempt));
        entry.unlabelled.retain(|set, _| entry.setbacks.contains_key(&Attempt::Label(set.clone())));
        entry.setbacks.len() < before
    }

    /// The server said how a template looks with its defaults, or refused to.
    pub fn defaulted(&self, key: &Key, given: Arc<Value>, stored: Option<Arc<Value>>) {
        self.lock().entry(key.clone()).or_default().defaulted = Some(DefaultedTemplate { given, stored });
    }

    /// Labels of some pods of a ReplicaSet were written, and those of others refused (uids); `all`: others would be as well, as far as is
    /// known. Says whether there are any left that were refused.
    pub fn labelled(&self, key: &Key, set: &str, written: &[&str], refused: &[&str], all: bool) -> bool {
        let mut inner = self.lock();
        let unlabelled = &mut inner.entry(key.clone()).or_default().unlabelled;
        let known = unlabelled.entry(set.to_owned()).or_default();
        known.pods.extend(refused.iter().map(|&uid| uid.to_owned()));
        known.pods.retain(|uid| !written.contains(&uid.as_str()));
        known.all = all;
        let is_any_left = !known.pods.is_empty();
        if !is_any_left {
            unlabelled.remove(set);
        }
        is_any_left
    }

    /// Whether the labels of a pod may be written now: its set is not put off, or only for other pods of it.
    #[must_use]
    pub fn may_label(&self, key: &Key, set: &str, uid: &str, now: Timestamp) -> bool {
        if self.next_try(key, &Attempt::Label(set.to_owned()), now).is_none() {
            return true;
        }
        let inner = self.lock();
        let known = inner.get(key).and_then(|entry| entry.unlabelled.get(set));
        known.is_some_and(|known| !known.all && !known.pods.contains(uid))
    }

    /// A step plugin answered, or did not.
    pub fn answered(&self, key: &Key, answer: Answer) {
        self.lock().entry(key.clone()).or_default().answer = Some(answer);
    }

    /// Whether a plugin answered something that is still to be written down.
    #[must_use]
    pub fn has_answer(&self, key: &Key) -> bool {
        self.lock().get(key).is_some_and(|entry| entry.answer.is_some())
    }

    /// Forgets an answer that nobody wants to know any more, unless another has come meanwhile.
    pub fn forget_answer(&self, key: &Key, answer: &Answer) {
        if let Some(entry) = self.lock().get_mut(key) {
            entry.answer.take_if(|known| known == answer);
        }
    }

    /// Forgets what plugins answered.
    pub fn forget_answers(&self) {
        self.lock().values_mut().for_each(|entry| entry.answer = None);
    }

    /// Forgets a rollout.
    pub fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Collects the fields of a merge patch that are missing in the object that was stored. Lists are taken whole.
fn missing_fields(sent: &Value, stored: &Value, path: &mut FieldPath, missing: &mut BTreeSet<FieldPath>) {
    for (field, sent) in sent.as_object().into_iter().flatten().filter(|(_, sent)| !sent.is_null()) {
        path.push(field.clone());
        match stored.get(field) {
            None | Some(Value::Null) => {
                missing.insert(path.clone());
            }
            Some(stored) => missing_fields(sent, stored, path, missing),
        }
        path.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_write_is_tried_again_after_a_growing_pause_with_a_cap() {
        let (memory, key) = (Memory::default(), Key::new("shop", "web"));
        let attempt = Attempt::Create("web-1".to_owned());
        let mut now = Timestamp::UNIX_EPOCH;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            let next = memory.refused(&key, attempt.clone(), "Forbidden", "exceeded quota", now);
            pauses.push(next.duration_since(now).as_secs());
            assert_eq!(memory.next_try(&key, &attempt, now), Some(next));
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        let remembered = memory.about(&key, &Rollout::default());
        assert_eq!(remembered.setbacks[0].since, Timestamp::UNIX_EPOCH);
        memory.succeeded(&key, &attempt);
        assert_eq!(memory.next_try(&key, &attempt, now), None);
    }

    #[test]
    fn pods_that_are_refused_labels_hold_up_no_other_of_their_set() {
        let (memory, key, now) = (Memory::default(), Key::new("shop", "web"), Timestamp::UNIX_EPOCH);
        let attempt = Attempt::Label("web-1".to_owned());
        let may = |uid: &str| memory.may_label(&key, "web-1", uid, now);
        assert!(may("a"));
        memory.refused(&key, attempt.clone(), "Forbidden", "frozen", now);
        assert!(memory.labelled(&key, "web-1", &[], &["a", "b"], true));
        assert!(!may("a") && !may("c"), "as far as is known it is so of all");
        assert!(memory.labelled(&key, "web-1", &["c"], &["a"], false));
        assert!(!may("a") && !may("b") && may("d"));
        let remembered = memory.about(&key, &Rollout::default());
        assert_eq!(remembered.unlabelled, ["a", "b"].map(str::to_owned).into());
        assert!(!memory.labelled(&key, "web-1", &["a", "b"], &[], false));
        memory.refused(&key, attempt, "Forbidden", "frozen", now);
        memory.labelled(&key, "web-1", &["c"], &["a"], false);
        assert!(memory.keep_setbacks(&key, |_| false));
        assert!(memory.about(&key, &Rollout::default()).unlabelled.is_empty());
    }

    #[test]
    fn an_answer_about_another_template_is_no_answer() {
        let (memory, key) = (Memory::default(), Key::new("shop", "web"));
        memory.defaulted(&key, Arc::new(serde_json::json!({ "spec": 1 })), None);
        let mut rollout = Rollout::default();
        assert!(memory.about(&key, &rollout).defaulted.is_none());
        rollout.spec.template = Some(serde_json::json!({ "spec": 1 }));
        assert!(memory.about(&key, &rollout).defaulted.is_some());
    }

    #[test]
    fn what_the_server_did_not_keep_is_remembered_once() {
        let memory = Memory::default();
        let sent = serde_json::json!({ "phase": "Healthy", "abort": null, "duration": { "finishedAt": "x" }, "canary": { "a": 1, "b": 2 } });
        let stored = serde_json::json!({ "phase": "Healthy", "canary": { "a": 1 } });
        assert!(memory.compare_status(&sent, &stored));
        assert!(!memory.compare_status(
            &serde_json::json!({ "phase": "Paused" }),
            &serde_json::json!({ "phase": "Paused" })
        ));
        let path = |fields: &[&str]| fields.iter().map(|field| (*field).to_owned()).collect::<FieldPath>();
        assert_eq!(*memory.pruned(), BTreeSet::from([path(&["canary", "b"]), path(&["duration"])]));
    }
}
