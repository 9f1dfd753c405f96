//! Records events of rollouts as core/v1 Events, beside the writes that they tell of.
//!
//! In order for each rollout, and never in the way: events wait in bounded lanes, for as long as the API server is away for a short
//! while; what does not fit or cannot be recorded is counted and dropped.
//! What repeats itself is counted up in the event that is there (as client-go does).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event as KubeEvent, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, real_sleep};
use crate::crd;
use crate::plan::{Event, Observed};
use crate::store::Key;
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

/// How long an event is tried: longer than an API server takes to restart, and much shorter than events live.
const TRIED_FOR: Duration = Duration::from_secs(5 * 60);

/// The pause after the first failure; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

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

    /// A rollout that is there no more.
    pub(super) fn gone(key: &Key) -> Self {
        let reference = Reference {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            uid: String::new(),
            resource_version: String::new(),
        };
        Self { uid: String::new(), is_unseen: false, reference }
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
                (sender, Lane::new(client.clone(), notes, number, metrics.clone()))
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
            real_sleep(LAST_EVENTS).await;
        };
        tokio::select! {
            biased;
            _ = lanes => {}
            () = last_call => {}
        }
    }
}

struct Lane {
    client: Client,
    notes: mpsc::Receiver<Note>,
    /// Whether an event is neither recorded nor lost yet.
    is_busy: bool,
    number: usize,
    made: u64,
    recorded: HashMap<(Reference, Event), Recorded>,
    metrics: Metrics,
}

/// An event that was recorded before.
struct Recorded {
    name: String,
    count: i32,
    /// When it was last used, in events of this lane.
    used: u64,
}

/// Why an event was not recorded.
#[derive(Debug, thiserror::Error)]
enum NotRecorded {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("no answer within {}s", REQUEST_DEADLINE.as_secs())]
    NoAnswer,
}

impl NotRecorded {
    /// Whether it may succeed when it is tried again.
    fn is_transient(&self) -> bool {
        match self {
            Self::Api(kube::Error::Api(status)) => matches!(status.code, 408 | 409 | 429 | 500..),
            Self::Api(kube::Error::SerdeError(_) | kube::Error::BuildRequest(_)) => false,
            // No answer: the connection, a proxy or the credentials failed.
            Self::Api(_) | Self::NoAnswer => true,
        }
    }
}

impl Lane {
    fn new(client: Client, notes: mpsc::Receiver<Note>, number: usize, metrics: Metrics) -> Self {
        Self { client, notes, is_busy: false, number, made: 0, recorded: HashMap::new(), metrics }
    }

    async fn run(mut self) {
        while let Some(note) = self.notes.recv().await {
            self.is_busy = true;
            if let Err(error) = self.insist(&note).await {
                tracing::warn!(%error, reason = note.event.reason, rollout = %note.about.name, "event dropped");
                self.metrics.event_dropped();
            }
            self.is_busy = false;
        }
    }

    /// Records an event, however often that takes; those behind it wait, which keeps their order.
    async fn insist(&mut self, note: &Note) -> Result<(), NotRecorded> {
        self.made += 1;
        let name = event_name(&note.about.name, note.at, self.number, self.made);
        let until = Instant::now() + TRIED_FOR;
        let mut pause = FIRST_PAUSE;
        loop {
            let attempt = tokio::time::timeout(REQUEST_DEADLINE, self.record(note, &name)).await;
            let error = match attempt {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => NotRecorded::Api(error),
                Err(_) => NotRecorded::NoAnswer,
            };
            if !error.is_transient() || Instant::now() + pause >= until {
                return Err(error);
            }
            tracing::debug!(%error, ?pause, "event not recorded yet");
            real_sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn record(&mut self, note: &Note, name: &str) -> kube::Result<()> {
        let Note { about, event, at } = note;
        let api: Api<KubeEvent> = Api::namespaced(self.client.clone(), &about.namespace);
        let time = Time(*at);
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
        match api.create(&PostParams::default(), &kube_event(name, about, event, &time)).await {
            // An attempt whose answer was lost had succeeded: nobody else makes that name.
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
            created => drop(created?),
        }
        self.remember(same, name.to_owned());
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

impl Drop for Lane {
    /// What still waits when the process ends is lost.
    fn drop(&mut self) {
        let lost = self.notes.len() + usize::from(self.is_busy);
        if lost > 0 {
            tracing::warn!(lost, "events dropped: this process ends");
        }
        for _ in 0..lost {
            self.metrics.event_dropped();
        }
    }
}

/// The name of an event: that of its rollout, and what makes it unique.
fn event_name(rollout: &str, at: jiff::Timestamp, lane: usize, made: u64) -> String {
    // A rollout's name may be as long as an event's; what is cut must end as a label of a DNS name does.
    let prefix: String = rollout.chars().take(NAME_PREFIX).collect();
    let prefix = prefix.trim_end_matches(['-', '.']);
    format!("{prefix}.{:x}{lane:x}{made:x}", at.as_nanosecond())
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::plan::Severity;

    /// What the API server does with the next requests; then it answers 201.
    #[derive(Clone, Copy)]
    enum Answer {
        Code(u16, &'static str),
        Refused,
        None,
    }

    /// Records three events of one rollout, and tells which were created and how many were lost.
    async fn recorded(answers: Vec<Answer>, keeps_failing: bool) -> (Vec<String>, bool) {
        let seen: Arc<Mutex<(Vec<Answer>, Vec<String>)>> = Arc::new(Mutex::new((answers, Vec::new())));
        let serve = {
            let seen = Arc::clone(&seen);
            move |request: http::Request<kube::client::Body>| {
                let seen = Arc::clone(&seen);
                async move {
                    let answer = {
                        let mut seen = seen.lock().unwrap();
                        match seen.0.first().copied() {
                            Some(answer) if keeps_failing => Some(answer),
                            Some(_) => Some(seen.0.remove(0)),
                            None => None,
                        }
                    };
                    let body =
                        http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
                    let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
                    let (code, body) = match answer {
                        Some(Answer::None) => std::future::pending().await,
                        Some(Answer::Refused) => return Err(std::io::Error::other("connection refused")),
                        Some(Answer::Code(code, reason)) => (
                            code,
                            serde_json::json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason }),
                        ),
                        None => {
                            seen.lock()
                                .unwrap()
                                .1
                                .push(event["message"].as_str().unwrap_or_default().to_owned());
                            (201, event)
                        }
                    };
                    let body = kube::client::Body::from(body.to_string().into_bytes());
                    Ok(http::Response::builder().status(code).body(body).unwrap())
                }
            }
        };
        let metrics = Metrics::default();
        let clock = Clock::starting_at(jiff::Timestamp::UNIX_EPOCH, 1.0);
        let client = Client::new(tower::service_fn(serve), "default");
        let (recorder, recording) = Recorder::new(&client, clock, metrics.clone());
        let reference = Reference {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            uid: "u".to_owned(),
            resource_version: "1".to_owned(),
        };
        let about = About { uid: "u".to_owned(), is_unseen: false, reference };
        let event =
            |message: &str| Event { severity: Severity::Normal, reason: "Test", message: message.to_owned() };
        recorder.record(&about, ["a", "b", "c"].map(event).to_vec());
        drop(recorder);
        recording.run(CancellationToken::new()).await;
        let lost = metrics.text().lines().any(|line| line.starts_with("rolloutd_events_dropped_total 3"));
        let created = seen.lock().unwrap().1.clone();
        (created, lost)
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_survives_a_short_outage_and_keeps_its_place() {
        let outage = vec![
            Answer::Refused,
            Answer::None,
            Answer::Code(429, "TooManyRequests"),
            Answer::Code(503, "ServiceUnavailable"),
            Answer::Code(409, "Conflict"),
        ];
        assert_eq!(recorded(outage, false).await, (["a", "b", "c"].map(str::to_owned).to_vec(), false));
    }

    #[tokio::test(start_paused = true)]
    async fn every_event_that_is_lost_is_counted() {
        for answer in [Answer::Refused, Answer::None, Answer::Code(403, "Forbidden")] {
            assert_eq!(recorded(vec![answer], true).await, (Vec::new(), true));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_lost_does_not_lose_the_event() {
        let (created, _) = recorded(vec![Answer::Code(409, "AlreadyExists")], false).await;
        assert_eq!(created, ["b", "c"], "the first is there already");
    }

    #[test]
    fn an_event_of_a_long_name_has_a_valid_name() {
        for end in ["-", ".", "--", "x"] {
            let rollout = format!("{}{end}yyyyyyyyyy", "a".repeat(NAME_PREFIX - end.len()));
            let name = event_name(&rollout, jiff::Timestamp::UNIX_EPOCH, 1, 2);
            let (label, _) = name.split_once('.').unwrap();
            assert!(!label.ends_with('-') && !name.contains("..") && name.len() <= 253, "{name}");
        }
    }
}
