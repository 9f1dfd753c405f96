//! Records events of rollouts as core/v1 Events, beside the writes that they tell of.
//!
//! In order for each rollout, and never in the way: events wait in bounded lanes, and what does not fit is counted and dropped.
//! What repeats itself is counted up in the event that is there (as client-go does).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event as KubeEvent, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::crd;
use crate::plan::{Event, Observed};
use crate::telemetry::Metrics;

/// The component that events come from, as Argo Rollouts names it (contract 4.2).
pub(super) const COMPONENT: &str = "rollouts-controller";

/// Lanes that record side by side; a rollout's events stay in one of them.
const LANES: usize = 8;

/// Events that may wait in a lane: minutes of a very busy cluster.
const LANE_LENGTH: usize = 1024;

/// Events that are remembered so that repeats are counted up, in each lane.
const REMEMBERED: usize = 2048;

/// How much of a rollout's name the names of its events begin with.
const NAME_PREFIX: usize = 200;

/// How long recording goes on after it was told to stop.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// How long recording one event may take.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) uid: String,
    /// Whether no controller has written the object's status yet.
    pub(super) is_unseen: bool,
    reference: Reference,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reference {
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
}

impl About {
    pub(super) fn rollout(seen: &Observed) -> Self {
        let is_unseen = seen.rollout.status().observed_generation.is_none();
        Self { is_unseen, ..Self::object(&*seen.rollout) }
    }

    pub(super) fn object(object: &impl ResourceExt) -> Self {
        let reference = Reference {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
        };
        Self { uid: reference.uid.clone(), is_unseen: false, reference }
    }
}

/// Takes events to be recorded; cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    lanes: Arc<[mpsc::Sender<Note>]>,
    clock: Clock,
    metrics: Metrics,
}

/// The other end of a [`Recorder`].
pub(super) struct Recording {
    lanes: Vec<Lane>,
}

struct Note {
    about: Reference,
    event: Event,
    at: jiff::Timestamp,
}

impl Recorder {
    pub(super) fn new(client: &Client, clock: Clock, metrics: Metrics) -> (Self, Recording) {
        let (senders, lanes) = (0..LANES)
            .map(|number| {
                let (sender, notes) = mpsc::channel(LANE_LENGTH);
                (sender, Lane { client: client.clone(), notes, number, made: 0, recorded: HashMap::new() })
            })
            .unzip::<_, _, Vec<_>, Vec<_>>();
        (Self { lanes: senders.into(), clock, metrics }, Recording { lanes })
    }

    /// Records events, in order.
    pub(super) fn record(&self, about: &About, events: Vec<Event>) {
        let lane =
            about.uid.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        for event in events {
            tracing::info!(reason = event.reason, message = %event.message, rollout = %about.reference.name, "event");
            self.metrics.event(
                &about.reference.namespace,
                &about.reference.name,
                event.severity.as_str(),
                event.reason,
            );
            let note = Note { about: about.reference.clone(), event, at: self.clock.now() };
            if self.lanes[lane % LANES].try_send(note).is_err() {
                tracing::warn!("event dropped: too many wait to be recorded");
                self.metrics.event_dropped();
            }
        }
    }
}

impl Recording {
    /// Records until it is told to stop, and then what still waits, for a short while.
    pub(super) async fn run(self, stop: CancellationToken) {
        let lanes = futures::future::join_all(self.lanes.into_iter().map(Lane::run));
        let last_call = async {
            stop.cancelled().await;
            crate::clock::real_sleep(LAST_EVENTS).await;
        };
        tokio::select! {
            _ = lanes => {}
            () = last_call => {}
        }
    }
}

struct Lane {
    client: Client,
    notes: mpsc::Receiver<Note>,
    number: usize,
    made: u64,
    recorded: HashMap<(Reference, Event), Recorded>,
}

/// An event that was recorded before.
struct Recorded {
    name: String,
    count: i32,
    /// When it was last used, in events of this lane.
    used: u64,
}

impl Lane {
    async fn run(mut self) {
        while let Some(note) = self.notes.recv().await {
            let request = self.record(note);
            if let Ok(Err(error)) = tokio::time::timeout(REQUEST_DEADLINE, request).await {
                tracing::warn!(%error, "event not recorded");
            }
        }
    }

    async fn record(&mut self, note: Note) -> kube::Result<()> {
        self.made += 1;
        let Note { about, event, at } = note;
        let api: Api<KubeEvent> = Api::namespaced(self.client.clone(), &about.namespace);
        let time = Time(at);
        // Without its version, the same object's events are the same.
        let same = (Reference { resource_version: String::new(), ..about.clone() }, event.clone());
        if let Some(recorded) = self.recorded.get_mut(&same) {
            let patch = serde_json::json!({ "count": recorded.count + 1, "lastTimestamp": time });
            let patched = api.patch(&recorded.name, &PatchParams::default(), &Patch::Merge(patch)).await;
            match patched {
                Ok(_) => {
                    recorded.count += 1;
                    recorded.used = self.made;
                    return Ok(());
                }
                // It has expired: events live an hour.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        // A rollout's name may be as long as an event's.
        let prefix: String = about.name.chars().take(NAME_PREFIX).collect();
        let name = format!("{prefix}.{:x}{:x}{:x}", at.as_nanosecond(), self.number, self.made);
        api.create(&PostParams::default(), &kube_event(&name, &about, &event, &time)).await?;
        self.remember(same, name);
        Ok(())
    }

    fn remember(&mut self, same: (Reference, Event), name: String) {
        if self.recorded.len() >= REMEMBERED {
            // Half of them at once, the longest unused, so that this is rare.
            let mut used: Vec<u64> = self.recorded.values().map(|recorded| recorded.used).collect();
            used.sort_unstable();
            let median = used[used.len() / 2];
            self.recorded.retain(|_, recorded| recorded.used > median);
        }
        self.recorded.insert(same, Recorded { name, count: 1, used: self.made });
    }
}

fn kube_event(name: &str, about: &Reference, event: &Event, time: &Time) -> KubeEvent {
    KubeEvent {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(about.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some(crd::API_VERSION.to_owned()),
            kind: Some(crd::KIND.to_owned()),
            namespace: Some(about.namespace.clone()),
            name: Some(about.name.clone()),
            uid: Some(about.uid.clone()),
            resource_version: Some(about.resource_version.clone()),
            ..ObjectReference::default()
        },
        reason: Some(event.reason.to_owned()),
        message: Some(event.message.clone()),
        type_: Some(event.severity.as_str().to_owned()),
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: None }),
        first_timestamp: Some(time.clone()),
        last_timestamp: Some(time.clone()),
        count: Some(1),
        reporting_component: Some(COMPONENT.to_owned()),
        ..KubeEvent::default()
    }
}
