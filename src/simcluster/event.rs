//! Kubernetes events of the simulated controllers, recorded beside their work.
//!
//! Depends on a `kube::Client` and the cluster clock. [`Recorder::record`] never waits: records go through a
//! bounded queue to one task that writes them. Repeats raise a count, and an object that says too much is
//! silenced for a while, as client-go's recorder does.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::request;
use crate::clock::Clock;

/// Records that wait to be written; what comes on top is dropped with a log line.
const QUEUE_LENGTH: usize = 1024;
/// One object may say this much at once (`client-go/tools/record`, spam filter).
const BURST: u32 = 25;
/// And one more each time this has passed (there, too).
const REFILL: Duration = Duration::from_secs(300);
/// How many kinds of records, and how many objects, are remembered; beyond it all are forgotten.
const MEMORY: usize = 4096;
/// In real time; a record is not worth waiting longer for.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// Whether an event tells of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    Normal,
    Warning,
}

/// Hands records to the task that writes them; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Recorder {
    sender: mpsc::Sender<Record>,
}

#[derive(Clone, Debug)]
struct Record {
    about: ObjectReference,
    component: &'static str,
    severity: Severity,
    reason: &'static str,
    message: String,
}

/// The other end of a [`Recorder`].
pub(super) struct Writer {
    client: Client,
    clock: Clock,
    records: mpsc::Receiver<Record>,
    memory: Memory,
}

/// A recorder and the writer to spawn for it.
pub(super) fn channel(client: Client, clock: Clock) -> (Recorder, Writer) {
    let (sender, records) = mpsc::channel(QUEUE_LENGTH);
    (Recorder { sender }, Writer { client, clock, records, memory: Memory::default() })
}

impl Recorder {
    pub(super) fn record<K: Resource<DynamicType = ()>>(
        &self,
        about: &K,
        component: &'static str,
        (severity, reason): (Severity, &'static str),
        message: String,
    ) {
        let record = Record { about: about.object_ref(&()), component, severity, reason, message };
        if let Err(error) = self.sender.try_send(record) {
            tracing::warn!(%error, reason, "event dropped");
        }
    }
}

impl Writer {
    /// Writes what is recorded until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let record = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                record = self.records.recv() => record,
            };
            let Some(record) = record else { return };
            match tokio::time::timeout(REQUEST_DEADLINE, self.write(&record)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(
                        reason = record.reason,
                        error = request::message(&error),
                        "event refused"
                    );
                }
                Err(_) => tracing::debug!(reason = record.reason, "event not answered in time"),
            }
        }
    }

    async fn write(&mut self, record: &Record) -> Result<(), kube::Error> {
        let now = self.clock.now();
        let namespace = record.about.namespace.as_deref().unwrap_or("default");
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        match self.memory.admit(record, now) {
            Admission::Silenced => Ok(()),
            Admission::First { name } => {
                events.create(&PostParams::default(), &event(record, &name, now)).await.map(drop)
            }
            Admission::Repeat { name, count } => {
                let patch = json!({ "count": count, "lastTimestamp": Time(now) });
                let written = events.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
                if written.is_err() {
                    // Events expire; the next occurrence begins a new one.
                    self.memory.forget(record);
                }
                written.map(drop)
            }
        }
    }
}

fn event(record: &Record, name: &str, now: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: record.about.namespace.clone().or_else(|| Some("default".to_owned())),
            ..ObjectMeta::default()
        },
        involved_object: record.about.clone(),
        type_: Some(format!("{:?}", record.severity)),
        reason: Some(record.reason.to_owned()),
        message: Some(record.message.clone()),
        source: Some(EventSource { component: Some(record.component.to_owned()), host: None }),
        reporting_component: Some(record.component.to_owned()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Event::default()
    }
}

/// What was written lately.
#[derive(Debug, Default)]
struct Memory {
    written: BTreeMap<(String, Severity, &'static str, String), (String, i32)>,
    budgets: BTreeMap<String, Budget>,
    serial: i64,
}

#[derive(Debug)]
struct Budget {
    left: u32,
    refilled: Timestamp,
}

#[derive(Debug, PartialEq, Eq)]
enum Admission {
    First { name: String },
    Repeat { name: String, count: i32 },
    Silenced,
}

impl Memory {
    fn admit(&mut self, record: &Record, now: Timestamp) -> Admission {
        if self.written.len() >= MEMORY {
            self.written.clear();
        }
        if self.budgets.len() >= MEMORY {
            self.budgets.clear();
        }
        if !self.spend(record.about.uid.clone().unwrap_or_default(), now) {
            return Admission::Silenced;
        }
        let key = Self::key(record);
        if let Some((name, count)) = self.written.get_mut(&key) {
            *count = count.saturating_add(1);
            return Admission::Repeat { name: name.clone(), count: *count };
        }
        // As client-go names them, with a serial number because cluster time may stand still.
        self.serial += 1;
        let moment = now.as_nanosecond() + i128::from(self.serial);
        let name = format!("{}.{moment:x}", record.about.name.as_deref().unwrap_or_default());
        self.written.insert(key, (name.clone(), 1));
        Admission::First { name }
    }

    fn spend(&mut self, uid: String, now: Timestamp) -> bool {
        let budget = self.budgets.entry(uid).or_insert(Budget { left: BURST, refilled: now });
        let passed = now.duration_since(budget.refilled).as_secs();
        let earned = passed / i64::try_from(REFILL.as_secs()).unwrap_or(i64::MAX).max(1);
        if earned > 0 {
            budget.left = budget.left.saturating_add(u32::try_from(earned).unwrap_or(BURST)).min(BURST);
            budget.refilled = now;
        }
        let allowed = budget.left > 0;
        budget.left = budget.left.saturating_sub(1);
        allowed
    }

    fn forget(&mut self, record: &Record) {
        self.written.remove(&Self::key(record));
    }

    fn key(record: &Record) -> (String, Severity, &'static str, String) {
        (record.about.uid.clone().unwrap_or_default(), record.severity, record.reason, record.message.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(uid: &str, message: &str) -> Record {
        Record {
            about: ObjectReference {
                name: Some("web".to_owned()),
                uid: Some(uid.to_owned()),
                ..ObjectReference::default()
            },
            component: "replicaset-controller",
            severity: Severity::Warning,
            reason: "FailedCreate",
            message: message.to_owned(),
        }
    }

    #[test]
    fn repeats_raise_the_count_of_one_event() {
        let mut memory = Memory::default();
        let now = Timestamp::UNIX_EPOCH;
        let Admission::First { name } = memory.admit(&record("u", "quota"), now) else {
            panic!("not the first")
        };
        assert_eq!(
            memory.admit(&record("u", "quota"), now),
            Admission::Repeat { name: name.clone(), count: 2 }
        );
        assert!(
            matches!(memory.admit(&record("u", "other"), now), Admission::First { name: other } if other != name)
        );
        assert!(matches!(memory.admit(&record("v", "quota"), now), Admission::First { .. }));
    }

    #[test]
    fn an_object_that_says_too_much_is_silenced_until_time_has_passed() {
        let mut memory = Memory::default();
        let now = Timestamp::UNIX_EPOCH;
        for number in 0..BURST {
            assert_ne!(memory.admit(&record("u", &format!("pod {number}")), now), Admission::Silenced);
        }
        assert_eq!(memory.admit(&record("u", "one more"), now), Admission::Silenced);
        assert_ne!(memory.admit(&record("v", "another object"), now), Admission::Silenced);
        let later = now.checked_add(REFILL).unwrap();
        assert_ne!(memory.admit(&record("u", "one more"), later), Admission::Silenced);
        assert_eq!(memory.admit(&record("u", "too soon"), later), Admission::Silenced);
    }
}
