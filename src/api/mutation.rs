//! How a rollout is changed: read it fresh, check, write with the version that was read; when somebody was faster, do it again.
//!
//! What a verb checks and writes is one function of what was read ([`Subject`]); this module is the loop around it. So an abort
//! by kubectl between our read and our write is seen, and two callers who promote the same step cannot both succeed.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::Context;
use super::cluster::{Change, Mode, Target};
use super::convert::{Record, annotated_fields, path};
use super::difference;
use super::environment::Admission;
use super::error::{Error, RETRY_SOON};
use super::etag;
use super::kind::ROLLOUT;
use super::status::Reason;
use super::ticket::Ticket;
use crate::crd::{ConditionStatus, ConditionType, Rollout, RolloutStatus, keys};
use crate::pb::v1;
use crate::store::{Changed, Key};

/// How often a mutation starts over because somebody was faster. Each time somebody else made progress; more than this many in the
/// time of one RPC means that something writes in a loop.
pub(super) const ATTEMPTS: usize = 10;

/// How long a verb that is guarded by the status waits for the controller to see the newest spec: far longer than a healthy
/// controller takes, short enough for a caller who waits.
pub(super) const OBSERVATION_PATIENCE: Duration = Duration::from_secs(3);

/// How many fields that changed are named.
const NAMED_FIELDS: usize = 5;

/// What is to be changed.
#[derive(Clone, Debug)]
pub(super) struct Mutation {
    /// The rollout.
    pub key: Key,
    /// The etag that it must have; empty: any.
    pub etag: String,
    /// Whether anything is written.
    pub mode: Mode,
    /// By which the object remembers the request, where it has to.
    pub ticket: Option<Ticket>,
}

/// What became of a mutation.
#[derive(Clone, Debug)]
pub(super) struct Done {
    /// The object as it was read; `None` when it was created.
    pub before: Option<Subject>,
    /// The object as it then is, or would be.
    pub after: Subject,
    /// What was done.
    pub effect: Effect,
    /// Whether it was.
    pub mode: Mode,
    /// The revision that it leads to, where that is known already; 0: a controller decides.
    pub revision: i64,
}

/// What a mutation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It changed the object, or would have.
    Changed,
    /// It was so already.
    Nothing,
    /// The same request was carried out before.
    Repeated,
}

impl Done {
    /// Nothing was done to an object.
    fn nothing(subject: Subject, effect: Effect, mode: Mode) -> Self {
        Self { before: Some(subject.clone()), after: subject, effect, mode, revision: 0 }
    }

    /// The fields of the spec that are another than they were, for people.
    pub(super) fn changed_fields(&self) -> String {
        let Some(before) = &self.before else { return String::new() };
        let changes = difference::changes(&before.object["spec"], &self.after.object["spec"]);
        let paths = changes.into_iter().map(|change| change.path);
        let annotated = annotated_fields(&before.metadata, &self.after.metadata).map(str::to_owned);
        let mut named: Vec<String> = annotated.chain(paths).collect();
        let count = named.len();
        named.truncate(NAMED_FIELDS);
        match count.saturating_sub(NAMED_FIELDS) {
            0 => named.join(", "),
            more => format!("{} and {more} more", named.join(", ")),
        }
    }
}

/// A rollout as it was read for a mutation.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    /// The object, to the letter.
    pub object: Value,
    metadata: ObjectMeta,
    decoded: Result<Rollout, String>,
}

/// What a status says about the stored spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Insight<'a> {
    /// It is of that spec.
    Seen,
    /// It is of an older spec.
    Unseen,
    /// That spec is invalid, and why: the rest of the status is of an older one.
    Invalid(&'a str),
}

impl Subject {
    /// An object of kind Rollout.
    pub(super) fn new(object: Value) -> Self {
        let decoded = Rollout::decode(&object).map_err(|why| why.to_string());
        let metadata = match &decoded {
            Ok(rollout) => rollout.metadata.clone(),
            Err(_) => ObjectMeta::deserialize(&object["metadata"]).unwrap_or_default(),
        };
        Self { object, metadata, decoded }
    }

    /// The resource, whole.
    pub(super) fn show(&self) -> v1::Rollout {
        self.record().show(v1::View::Full)
    }

    /// The rollout, unless it cannot be decoded.
    pub(super) fn rollout(&self) -> Result<&Rollout, Error> {
        self.decoded.as_ref().map_err(|why| {
            let message = format!("the stored object cannot be decoded ({why}); mend it by ApplyManifest");
            Error::new(Reason::MalformedObject, message)
        })
    }

    /// The status, unless it says nothing about the stored spec: it belongs to an older one, or that spec is invalid.
    pub(super) fn observed_status(&self) -> Result<&RolloutStatus, Error> {
        let status = self.rollout()?.status();
        match self.insight()? {
            Insight::Seen => Ok(status),
            Insight::Invalid(why) => {
                let message = format!(
                    "no update runs to the newest spec, which is invalid: {why}; mend it or roll it back"
                );
                Err(Error::new(Reason::InvalidSpec, message)
                    .precondition("status.conditions[InvalidSpec]", "must not be true"))
            }
            Insight::Unseen => {
                let message = "no controller has seen the newest spec yet, so that it is not known where the update stands";
                Err(Error::new(Reason::NotObserved, message)
                    .precondition("status.observed_generation", "must be the rollout's generation")
                    .retry_after(RETRY_SOON))
            }
        }
    }

    /// What the status says about the stored spec.
    pub(super) fn insight(&self) -> Result<Insight<'_>, Error> {
        let rollout = self.rollout()?;
        let status = rollout.status();
        if status.observed_generation() != rollout.metadata.generation || !rollout.is_workload_observed() {
            return Ok(Insight::Unseen);
        }
        let invalid = status
            .condition(&ConditionType::InvalidSpec)
            .filter(|condition| condition.status == ConditionStatus::True);
        Ok(invalid.map_or(Insight::Seen, |invalid| Insight::Invalid(&invalid.message)))
    }

    /// The object's metadata.
    pub(super) fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    /// Kubernetes' identity of the object.
    pub(super) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Kubernetes' count of changes to the spec.
    pub(super) fn generation(&self) -> Option<i64> {
        self.metadata.generation
    }

    /// The revision of the newest version; 0 before it is known.
    pub(super) fn revision(&self) -> i64 {
        let annotations = self.metadata.annotations.as_ref();
        annotations.and_then(|map| map.get(keys::REVISION)).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// The version that was read.
    pub(super) fn version(&self) -> &str {
        self.metadata.resource_version.as_deref().unwrap_or_default()
    }

    fn record(&self) -> Record<'_> {
        match &self.decoded {
            Ok(rollout) => Record::Decoded(rollout),
            Err(why) => Record::Malformed(&self.metadata, why),
        }
    }

    /// Refuses unless the etag is this one; empty: any.
    pub(super) fn check(&self, etag: &str) -> Result<(), Error> {
        let current = etag::of(self.record());
        if etag.is_empty() || etag == current {
            return Ok(());
        }
        let message = "the rollout was changed since that etag was read; read it again and decide anew";
        Err(Error::new(Reason::EtagMismatch, message).with("etag", current))
    }

    /// Makes a change refuse any version but this one.
    fn conditional(&self, change: Change) -> Change {
        change.at_version(self.uid(), self.version())
    }
}

impl Context {
    /// Reads a rollout fresh.
    pub(super) async fn read(&self, key: &Key) -> Result<Subject, Error> {
        match self.cluster.get(target(key)).await? {
            Some(object) => Ok(Subject::new(object)),
            None => Err(Error::not_found(ROLLOUT.named(&key.namespace, &key.name))),
        }
    }

    /// Changes a rollout by what `decide` makes of it; `None`: it is so already.
    ///
    /// A request that the object remembers is not carried out again, whatever else has changed since.
    /// `decide` runs again whenever somebody was faster, and once more after the controller has seen the newest spec, when that
    /// is what it waits for ([`Subject::observed_status`]).
    pub(super) async fn mutate(
        &self,
        mutation: &Mutation,
        decide: impl Fn(&Subject) -> Result<Option<Change>, Error>,
    ) -> Result<Done, Error> {
        let mut admission = self.environment_changes.admission(&mutation.key);
        let done = self.mutate_admitted(mutation, decide, &mut admission).await;
        if !done.as_ref().is_ok_and(|done| done.effect == Effect::Changed) {
            admission.release();
        }
        done
    }

    async fn mutate_admitted(
        &self,
        mutation: &Mutation,
        decide: impl Fn(&Subject) -> Result<Option<Change>, Error>,
        admission: &mut Admission<'_>,
    ) -> Result<Done, Error> {
        let patience = Instant::now() + OBSERVATION_PATIENCE;
        let mut conflict = None;
        for _ in 0..ATTEMPTS {
            let subject = self.read(&mutation.key).await?;
            if let Some(ticket) = &mutation.ticket
                && ticket.was_used(&subject.object)?
            {
                return Ok(Done::nothing(subject, Effect::Repeated, mutation.mode));
            }
            subject.check(&mutation.etag)?;
            let (change, effect) = match (decide(&subject), &mutation.ticket) {
                (Ok(None), None) => return Ok(Done::nothing(subject, Effect::Nothing, mutation.mode)),
                // That the request came is all there is to write.
                (Ok(None), Some(ticket)) => (ticket.recording(None, &subject.object), Effect::Nothing),
                (Ok(change), Some(ticket)) => (ticket.recording(change, &subject.object), Effect::Changed),
                (Ok(Some(change)), None) => (change, Effect::Changed),
                (Err(error), _) if error.reason() == Reason::NotObserved => {
                    self.observed(&mutation.key, &subject, patience).await.ok_or(error)?;
                    continue;
                }
                (Err(error), _) => return Err(error),
            };
            if mutation.mode == Mode::Commit {
                admission.ask(&subject.object, &change)?;
            }
            match self.write(mutation, &subject, change).await {
                Err(error) if error.reason() == Reason::Conflict => conflict = Some(error),
                Ok(after) => {
                    let mode = mutation.mode;
                    return Ok(Done { before: Some(subject), after, effect, mode, revision: 0 });
                }
                Err(error) => return Err(error),
            }
        }
        Err(conflict.unwrap_or_else(|| Error::new(Reason::Conflict, "the rollout keeps changing; try again")))
    }

    /// Writes a change to the version of a rollout that was read.
    pub(super) async fn write(
        &self,
        mutation: &Mutation,
        subject: &Subject,
        change: Change,
    ) -> Result<Subject, Error> {
        let change = subject.conditional(change);
        let written = self.cluster.change(target(&mutation.key), &change, mutation.mode).await;
        let shown = |field: &str| path::in_messages(&path::parse(field));
        written.map(Subject::new).map_err(|error| error.rename_fields(shown))
    }

    /// Waits until the cache shows that the controller has seen this spec or a newer one; `None` when it does not in time.
    pub(super) async fn observed(&self, key: &Key, subject: &Subject, until: Instant) -> Option<()> {
        let mut changes = self.store.changes();
        let wait = async {
            loop {
                let record = self.store.rollouts.get(key);
                if record.is_some_and(|record| {
                    record.decoded.as_ref().is_ok_and(|rollout| has_seen(rollout, subject))
                }) {
                    return Some(());
                }
                loop {
                    match changes.recv().await {
                        Ok(Changed::Rollout(changed, _)) if changed == *key => break,
                        Ok(_) => {}
                        Err(RecvError::Lagged(_)) => break,
                        Err(RecvError::Closed) => return None,
                    }
                }
            }
        };
        tokio::time::timeout_at(until, wait).await.ok().flatten()
    }
}

/// Whether the controller has seen the spec of a rollout, which is that of the subject or a newer one.
fn has_seen(rollout: &Rollout, subject: &Subject) -> bool {
    let observed = rollout.status().observed_generation();
    let of_workload = subject.decoded.as_ref().ok().and_then(Rollout::workload_generation);
    observed >= subject.metadata.generation
        && observed == rollout.metadata.generation
        && rollout.status().workload_observed_generation() >= of_workload
}

/// The stored object of a rollout.
pub(super) fn target(key: &Key) -> Target<'_> {
    Target { kind: &ROLLOUT, namespace: &key.namespace, name: &key.name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn subject() -> Subject {
        Subject::new(
            json!({ "metadata": { "name": "web", "uid": "u", "resourceVersion": "7", "generation": 2 },
            "spec": {}, "status": { "observedGeneration": "1" } }),
        )
    }

    #[test]
    fn every_change_names_the_version_it_was_decided_on() {
        let metadata = json!({ "uid": "u", "resourceVersion": "7" });
        for change in [Change::Merge(json!({ "spec": { "paused": true } })), Change::MergeStatus(json!({}))] {
            let (Change::Merge(patch) | Change::MergeStatus(patch)) = subject().conditional(change) else {
                unreachable!("a merge patch stays one")
            };
            assert_eq!(patch["metadata"], metadata);
        }
        let patch = serde_json::from_value(json!([{ "op": "remove", "path": "/spec/x" }])).unwrap();
        let Change::Json(patch) = subject().conditional(Change::Json(patch)) else {
            unreachable!("a JSON patch stays one")
        };
        let expected = json!([{ "op": "replace", "path": "/metadata/resourceVersion", "value": "7" },
            { "op": "remove", "path": "/spec/x" }]);
        assert_eq!(serde_json::to_value(patch).unwrap(), expected);
    }

    #[test]
    fn a_status_of_an_older_spec_is_no_status() {
        assert_eq!(subject().observed_status().unwrap_err().reason(), Reason::NotObserved);
    }

    #[test]
    fn an_object_that_cannot_be_decoded_has_an_etag_and_no_rollout() {
        let subject =
            Subject::new(json!({ "metadata": { "name": "web", "uid": "u" }, "spec": { "replicas": "x" } }));
        assert_eq!(subject.rollout().unwrap_err().reason(), Reason::MalformedObject);
        let shown = subject.show();
        assert_eq!(shown.status.unwrap().state, i32::from(v1::rollout_status::State::Degraded));
        assert!(subject.check(&shown.etag).is_ok());
        assert!(subject.check("other").is_err());
    }
}
