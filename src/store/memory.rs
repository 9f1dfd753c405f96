//! What was learned from answers: writes that were refused, and pod templates with the server's defaults.
//!
//! Kept in this process only: after a restart the same writes are tried and the same questions asked again. A refused write is
//! tried again after a growing pause, whatever else happens meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::object::Key;
use crate::crd::Rollout;
use crate::plan::{Attempt, DefaultedTemplate, Setback, UNAVAILABLE};

/// The first pause after a refused write.
const RETRY_FIRST: SignedDuration = SignedDuration::from_secs(1);

/// The longest pause: what is refused for hours costs two requests a minute, and what is mended goes on within half a one.
const RETRY_MOST: SignedDuration = SignedDuration::from_secs(30);

/// The longest pause after a write that found no answer: once the API server is back, work goes on.
const AWAY_MOST: SignedDuration = SignedDuration::from_secs(2);

/// What one process remembers.
#[derive(Debug, Default)]
pub struct Memory {
    inner: Mutex<HashMap<Key, Remembered>>,
}

#[derive(Debug, Default)]
struct Remembered {
    setbacks: BTreeMap<Attempt, (Setback, SignedDuration)>,
    defaulted: Option<DefaultedTemplate>,
}

impl Memory {
    /// What is remembered of a rollout.
    #[must_use]
    pub(super) fn about(&self, key: &Key, rollout: &Rollout) -> (Vec<Setback>, Option<DefaultedTemplate>) {
        let inner = self.lock();
        let Some(remembered) = inner.get(key) else { return Default::default() };
        let setbacks = remembered.setbacks.values().map(|(setback, _)| setback.clone()).collect();
        let given = rollout.spec.template.as_ref();
        let defaulted = remembered.defaulted.clone().filter(|answer| Some(&*answer.given) == given);
        (setbacks, defaulted)
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
        if let Some(remembered) = inner.get_mut(key) {
            remembered.setbacks.remove(attempt);
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
        let Some(remembered) = inner.get_mut(key) else { return false };
        let before = remembered.setbacks.len();
        remembered.setbacks.retain(|attempt, _| wanted(attempt));
        remembered.setbacks.len() < before
    }

    /// The server said how a template looks with its defaults, or refused to.
    pub fn defaulted(&self, key: &Key, given: Arc<Value>, stored: Option<Arc<Value>>) {
        self.lock().entry(key.clone()).or_default().defaulted = Some(DefaultedTemplate { given, stored });
    }

    /// Forgets a rollout.
    pub fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Remembered>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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
        let (setbacks, _) = memory.about(&key, &Rollout::default());
        assert_eq!(setbacks[0].since, Timestamp::UNIX_EPOCH);
        memory.succeeded(&key, &attempt);
        assert_eq!(memory.next_try(&key, &attempt, now), None);
    }

    #[test]
    fn an_answer_about_another_template_is_no_answer() {
        let (memory, key) = (Memory::default(), Key::new("shop", "web"));
        memory.defaulted(&key, Arc::new(serde_json::json!({ "spec": 1 })), None);
        let mut rollout = Rollout::default();
        assert!(memory.about(&key, &rollout).1.is_none());
        rollout.spec.template = Some(serde_json::json!({ "spec": 1 }));
        assert!(memory.about(&key, &rollout).1.is_some());
    }
}
