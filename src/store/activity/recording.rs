//! Stores activities, for as long as anybody can tell of any.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{About, MOST, Note, Shared, object};
use crate::clock::real_sleep;
use crate::telemetry::Metrics;

/// How many are stored side by side: their order is in their times.
const AT_ONCE: usize = 4;

/// How long one request may take.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);

/// How long an activity is tried: longer than an API server takes to restart.
const TRIED_FOR: Duration = Duration::from_secs(2 * 60);

/// The pause after the first failure; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How many rollouts are remembered with the number of their activities.
const COUNTED: usize = 4096;

/// The other end of [`super::Activities`].
pub struct Recording {
    notes: mpsc::Receiver<Note>,
    writer: Writer,
}

struct Writer {
    client: Client,
    shared: Arc<Shared>,
    metrics: Metrics,
    /// How many activities a rollout has, by its uid.
    counts: Mutex<HashMap<String, usize>>,
}

/// Why an activity was not stored.
#[derive(Debug, thiserror::Error)]
enum NotStored {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("no answer within {}s", REQUEST_DEADLINE.as_secs())]
    NoAnswer,
}

impl NotStored {
    /// The code of the API server's answer.
    fn code(&self) -> Option<u16> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }

    /// Whether it may succeed when it is tried again.
    fn is_transient(&self) -> bool {
        match self {
            Self::Api(kube::Error::SerdeError(_) | kube::Error::BuildRequest(_)) => false,
            _ => self.code().is_none_or(|code| matches!(code, 408 | 429 | 500..)),
        }
    }

    /// Whether the account may not do it. That a namespace is being deleted has the same code.
    fn is_forbidden(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 403 && status.message.contains(" cannot "))
    }
}

impl Recording {
    pub(super) fn new(
        client: Client,
        notes: mpsc::Receiver<Note>,
        shared: Arc<Shared>,
        metrics: Metrics,
    ) -> Self {
        Self { notes, writer: Writer { client, shared, metrics, counts: Mutex::default() } }
    }

    /// Stores what is told, until nobody is left who could tell.
    pub async fn run(self) {
        let Self { notes, writer } = self;
        let notes =
            stream::unfold(notes, |mut notes| async move { notes.recv().await.map(|note| (note, notes)) });
        notes
            .for_each_concurrent(AT_ONCE, |note| async {
                writer.record(note).await;
                writer.shared.pending.send_modify(|pending| *pending -= 1);
            })
            .await;
    }
}

impl Writer {
    async fn record(&self, note: Note) {
        if self.shared.kept.is_refused(&note.about.namespace) {
            return self.shared.kept.keep(note);
        }
        match self.insist(&note).await {
            Ok(()) => self.trim(&note.about).await,
            Err(error) if error.is_forbidden() => {
                if self.shared.kept.refuse(&note.about.namespace) {
                    tracing::warn!(
                        namespace = %note.about.namespace,
                        "activities are kept in memory only: this server's account may not create controllerrevisions.apps"
                    );
                }
                self.shared.kept.keep(note);
            }
            Err(error) => {
                tracing::warn!(%error, rollout = %note.about.name, verb = %note.activity.verb, "activity dropped");
                self.metrics.activity_dropped();
            }
        }
    }

    /// Stores an activity, however often that takes.
    async fn insist(&self, note: &Note) -> Result<(), NotStored> {
        let object = object::object(&note.about, &note.activity, &note.name);
        let object: DynamicObject = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
        let (until, mut pause) = (Instant::now() + TRIED_FOR, FIRST_PAUSE);
        loop {
            let params = PostParams::default();
            let error = match self.answer(self.objects(&note.about).create(&params, &object)).await {
                Ok(_) => return Ok(()),
                // Somebody told of this generation before; or an attempt whose answer was lost had succeeded.
                Err(error) if error.code() == Some(409) => return Ok(()),
                Err(error) => error,
            };
            if !error.is_transient() || Instant::now() + pause >= until {
                return Err(error);
            }
            tracing::debug!(%error, ?pause, "activity not stored yet");
            real_sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Deletes the oldest activities of a rollout that has more than are kept. That may fail: the next one tries again.
    async fn trim(&self, about: &About) {
        let count = {
            let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
            if counts.len() >= COUNTED && !counts.contains_key(&about.uid) {
                counts.clear();
            }
            counts.get_mut(&about.uid).map(|count| {
                *count += 1;
                *count
            })
        };
        if count.is_some_and(|count| count <= MOST) {
            return;
        }
        match self.delete_surplus(about).await {
            Ok(left) => {
                self.counts.lock().unwrap_or_else(PoisonError::into_inner).insert(about.uid.clone(), left);
            }
            Err(error) => {
                tracing::debug!(%error, rollout = %about.name, "old activities are not deleted yet");
            }
        }
    }

    /// Says how many are left.
    async fn delete_surplus(&self, about: &About) -> Result<usize, NotStored> {
        let objects = self.objects(about);
        let params = ListParams::default().labels(&object::selector(about));
        let mut all = self.answer(objects.list_metadata(&params)).await?.items;
        all.sort_by_key(|object| (object.creation_timestamp().map(|time| time.0), object.name_any()));
        let surplus = all.len().saturating_sub(MOST);
        for old in &all[..surplus] {
            match self.answer(objects.delete(&old.name_any(), &DeleteParams::background())).await {
                Ok(_) => {}
                Err(error) if error.code() == Some(404) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all.len() - surplus)
    }

    async fn answer<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, NotStored> {
        match tokio::time::timeout(REQUEST_DEADLINE, request).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(NotStored::NoAnswer),
        }
    }

    fn objects(&self, about: &About) -> Api<DynamicObject> {
        object::api(self.client.clone(), &about.namespace)
    }
}
