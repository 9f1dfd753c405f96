//! What this process remembers by itself, where the cluster does not take activities.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{About, MOST, Note, Recorded};

/// How many activities are remembered in all: a few megabytes.
const MOST_IN_ALL: usize = 8192;

/// How long a namespace is not asked again that took none.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(10 * 60);

#[derive(Debug, Default)]
pub(super) struct Kept {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_uid: HashMap<String, VecDeque<Recorded>>,
    in_all: usize,
    refused: HashMap<String, Instant>,
    has_warned: bool,
}

impl Kept {
    /// Whether a namespace takes no activities, as far as it is known.
    pub(super) fn is_refused(&self, namespace: &str) -> bool {
        self.lock().refused.get(namespace).is_some_and(|since| since.elapsed() < ASK_AGAIN_AFTER)
    }

    /// A namespace took none. Says whether that is news.
    pub(super) fn refuse(&self, namespace: &str) -> bool {
        let mut inner = self.lock();
        inner.refused.retain(|_, since| since.elapsed() < ASK_AGAIN_AFTER);
        inner.refused.insert(namespace.to_owned(), Instant::now());
        !std::mem::replace(&mut inner.has_warned, true)
    }

    /// Remembers an activity. One that led to a generation which somebody told of is known already.
    pub(super) fn keep(&self, note: Note) {
        let mut inner = self.lock();
        if inner.in_all >= MOST_IN_ALL {
            // Whose activities are oldest goes.
            let oldest =
                inner.by_uid.iter().min_by_key(|(_, kept)| kept.back().map(|last| last.activity.time));
            if let Some(uid) = oldest.map(|(uid, _)| uid.clone()) {
                inner.in_all -= inner.by_uid.remove(&uid).map_or(0, |kept| kept.len());
            }
        }
        let kept = inner.by_uid.entry(note.about.uid).or_default();
        if kept.iter().any(|known| known.name == note.name) {
            return;
        }
        kept.push_back(Recorded { activity: note.activity, name: note.name });
        let surplus = kept.len() > MOST;
        if surplus {
            kept.pop_front();
        }
        inner.in_all += usize::from(!surplus);
    }

    /// What is remembered of a rollout.
    pub(super) fn of(&self, about: &About) -> Vec<Recorded> {
        self.lock().by_uid.get(&about.uid).into_iter().flatten().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::activity::Activity;

    fn note(uid: usize, second: i64) -> Note {
        let activity = Activity {
            time: jiff::Timestamp::from_second(second).unwrap(),
            actor: String::new(),
            verb: String::new(),
            source: String::new(),
            outcome: String::new(),
            revision: 0,
            detail: String::new(),
        };
        Note { about: about(uid), activity, name: second.to_string() }
    }

    fn about(uid: usize) -> About {
        About { uid: uid.to_string(), ..About::default() }
    }

    #[test]
    fn of_all_namespaces_that_take_none_only_the_first_is_news() {
        let kept = Kept::default();
        assert!(kept.refuse("shop"));
        assert!(!kept.refuse("shop") && !kept.refuse("other"), "one warning is enough");
        assert!(kept.is_refused("shop") && kept.is_refused("other") && !kept.is_refused("third"));
    }

    #[test]
    fn memory_is_bounded_for_each_rollout_and_in_all() {
        let kept = Kept::default();
        for second in 0..300 {
            kept.keep(note(0, second));
        }
        let seconds: Vec<_> =
            kept.of(&about(0)).iter().map(|known| known.activity.time.as_second()).collect();
        assert_eq!(seconds, (200..300).collect::<Vec<_>>());
        kept.keep(note(0, 299));
        assert_eq!(kept.of(&about(0)).len(), MOST, "the same name is the same activity");
        for uid in 1..=200 {
            for second in 0..60 {
                kept.keep(note(uid, 1000 + second));
            }
        }
        let inner = kept.lock();
        assert_eq!(inner.in_all, inner.by_uid.values().map(VecDeque::len).sum::<usize>());
        assert!(inner.in_all <= MOST_IN_ALL + MOST && !inner.by_uid.contains_key("0"), "{}", inner.in_all);
    }
}
