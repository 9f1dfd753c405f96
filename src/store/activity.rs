//! What was done to rollouts: who, what, when, from where, and what came of it.
//!
//! Each activity is an apps/v1 ControllerRevision (their data never changes) that the rollout owns, so that it goes with it, and one
//! list by label finds all of a rollout. Written beside the work, never in its way ([`recording`]): what is told is queued, and what
//! does not fit or cannot be stored is counted. Where the account may not create ControllerRevisions, the last activities are kept in
//! memory. Nothing here is cached: activities are read when somebody asks. Used by [`crate::api`] and [`crate::worker`].

mod kept;
mod object;
mod recording;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client, ResourceExt};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use object::KIND;
pub use recording::Recording;

use crate::telemetry::Metrics;
use kept::Kept;

/// How many activities may wait to be stored: seconds of more calls than a server takes.
const QUEUE_LENGTH: usize = 1024;

/// How many activities of a rollout are kept.
pub const MOST: usize = 100;

/// How long the same refusal of the same caller is not told again.
const MERGED_FOR: Duration = Duration::from_secs(60);

/// How many refusals are remembered so that they are merged.
const MERGED: usize = 4096;

/// How many generations are remembered so that the cluster is not told of them twice.
const TOLD: usize = 4096;

/// How long the last activities may take to be stored when a process ends.
const LAST_ACTIVITIES: Duration = Duration::from_secs(3);

/// How long a part of an activity may be, in characters: it is for people.
const LONGEST: usize = 512;

/// The rollout that something was done to: this very object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct About {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The labels that what is made for it inherits.
    pub labels: BTreeMap<String, String>,
}

/// Something that was done to a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// When.
    pub time: Timestamp,
    /// Who, as far as it is known.
    #[serde(default)]
    pub actor: String,
    /// What: the method, or a word.
    #[serde(default)]
    pub verb: String,
    /// From where: an address, or a field manager.
    #[serde(default)]
    pub source: String,
    /// What came of it.
    #[serde(default)]
    pub outcome: String,
    /// The revision it was about; 0 when none.
    #[serde(default)]
    pub revision: i64,
    /// More, for people.
    #[serde(default)]
    pub detail: String,
}

/// An activity that was read, and where it stands among others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The activity.
    pub activity: Activity,
    /// What tells it from others of the same time.
    pub name: String,
}

/// Tells and reads what was done; cheap to clone.
#[derive(Clone)]
pub struct Activities {
    client: Client,
    queue: mpsc::Sender<Note>,
    shared: Arc<Shared>,
    metrics: Metrics,
}

/// What the two ends of the queue share.
struct Shared {
    kept: Kept,
    /// How many activities were told of: it tells apart those of the same time.
    count: AtomicU64,
    /// How many activities are neither stored nor lost.
    pending: watch::Sender<usize>,
    /// Refusals that were told lately.
    merged: Mutex<HashMap<String, Instant>>,
    /// Generations that this process told of lately, by the names of their activities.
    told: Mutex<HashSet<String>>,
}

/// An activity on its way.
struct Note {
    about: About,
    activity: Activity,
    /// The name of its object.
    name: String,
}

impl Activities {
    /// Stores and reads through this client. Nothing is stored before the other end runs.
    #[must_use]
    pub fn new(client: Client, metrics: Metrics) -> (Self, Recording) {
        let (queue, notes) = mpsc::channel(QUEUE_LENGTH);
        let shared = Shared {
            kept: Kept::default(),
            count: AtomicU64::new(0),
            pending: watch::Sender::new(0),
            merged: Mutex::default(),
            told: Mutex::default(),
        };
        let shared = Arc::new(shared);
        let recording = Recording::new(client.clone(), notes, Arc::clone(&shared), metrics.clone());
        (Self { client, queue, shared, metrics }, recording)
    }

    /// Something was done.
    pub fn note(&self, about: &About, activity: Activity) {
        let count = self.shared.count.fetch_add(1, Ordering::Relaxed);
        let name = object::name_by_time(&about.name, activity.time, count);
        self.send(Note { about: about.clone(), activity: activity.bounded(), name });
    }

    /// Something was done that led to a generation of the spec. Whoever tells of a generation first is believed.
    pub fn note_generation(&self, about: &About, generation: i64, activity: Activity) {
        let name = object::name_by_generation(about, generation);
        {
            let mut told = self.shared.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.len() >= TOLD {
                told.clear();
            }
            if !told.insert(name.clone()) {
                return;
            }
        }
        self.send(Note { about: about.clone(), activity: activity.bounded(), name });
    }

    /// Something was refused. The same refusal of the same caller is told once a minute.
    pub fn note_refusal(&self, about: &About, activity: Activity) {
        let same = format!("{}\n{}\n{}\n{}", about.uid, activity.actor, activity.verb, activity.outcome);
        let is_new = {
            let mut merged = self.shared.merged.lock().unwrap_or_else(PoisonError::into_inner);
            if merged.len() >= MERGED {
                merged.retain(|_, told| told.elapsed() < MERGED_FOR);
            }
            let is_new = merged.get(&same).is_none_or(|told| told.elapsed() >= MERGED_FOR);
            if is_new && merged.len() < MERGED {
                merged.insert(same, Instant::now());
            }
            is_new
        };
        if is_new {
            self.note(about, activity);
        }
    }

    /// What was done to a rollout, newest first.
    ///
    /// # Errors
    ///
    /// When the API server does not say; not when the account may not know: then it is what this process remembers.
    pub async fn list(&self, about: &About) -> kube::Result<Vec<Recorded>> {
        let params = ListParams::default().labels(&object::selector(about));
        let stored = match self.objects(&about.namespace).list(&params).await {
            Ok(list) => list.items,
            Err(kube::Error::Api(status)) if status.code == 403 => Vec::new(),
            Err(error) => return Err(error),
        };
        let read = |object: DynamicObject| {
            let name = object.name_any();
            object::activity(&object).map(|activity| Recorded { activity, name })
        };
        let mut recorded: Vec<Recorded> = stored.into_iter().filter_map(read).collect();
        recorded.extend(self.shared.kept.of(about));
        recorded.sort_by(|a, b| (b.activity.time, &b.name).cmp(&(a.activity.time, &a.name)));
        recorded.truncate(MOST);
        Ok(recorded)
    }

    /// Waits until everything that was told so far is stored, for a short while; what is left then is counted as lost when this
    /// process ends.
    pub async fn flush(&self) {
        let mut pending = self.shared.pending.subscribe();
        // The sender lives as long as `self`.
        let stored = tokio::time::timeout(LAST_ACTIVITIES, pending.wait_for(|pending| *pending == 0)).await;
        if stored.is_err() {
            let lost = *self.shared.pending.borrow();
            tracing::warn!(lost, "activities were not stored in time");
            for _ in 0..lost {
                self.metrics.activity_dropped();
            }
        }
    }

    fn send(&self, note: Note) {
        self.shared.pending.send_modify(|pending| *pending += 1);
        if let Err(error) = self.queue.try_send(note) {
            let (mpsc::error::TrySendError::Full(note) | mpsc::error::TrySendError::Closed(note)) = error;
            self.shared.pending.send_modify(|pending| *pending -= 1);
            tracing::warn!(rollout = %note.about.name, verb = %note.activity.verb, "activity dropped: too many wait to be stored");
            self.metrics.activity_dropped();
        }
    }

    fn objects(&self, namespace: &str) -> Api<DynamicObject> {
        object::api(self.client.clone(), namespace)
    }
}

impl Activity {
    /// With parts that are short enough to be kept.
    fn bounded(mut self) -> Self {
        for part in [&mut self.actor, &mut self.verb, &mut self.source, &mut self.outcome, &mut self.detail] {
            if let Some((end, _)) = part.char_indices().nth(LONGEST) {
                part.truncate(end);
                part.push('…');
            }
        }
        self
    }
}

#[cfg(test)]
mod tests;
