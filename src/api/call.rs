//! Who calls, from where, and what becomes of it: what goes into the activities of a rollout.
//!
//! The caller is who it says it is (`rolloutd-actor` in the metadata): nobody is asked to prove it. The address is that of the
//! connection; what a proxy says about addresses is not believed.

use tonic::metadata::MetadataMap;

use super::Context;
use super::cluster::Mode;
use super::error::Error;
use super::mutating::Mutating;
use super::mutation::{Done, Effect, Subject};
use super::rpc::{Peer, code_name};
use crate::plan::inherited;
use crate::store::Key;
use crate::store::activity::{About, Activity};

/// The metadata in which a caller says who it is.
const ACTOR: &str = "rolloutd-actor";

/// How much of that is kept.
const LONGEST_ACTOR: usize = 128;

/// The source of a call within the process.
const IN_PROCESS: &str = "in process";

/// The outcome of what was done.
const OK: &str = "OK";

/// A call that may change something.
#[derive(Clone, Debug, Default)]
pub(super) struct Call {
    method: &'static str,
    actor: String,
    source: String,
    request_id: String,
}

impl Call {
    /// A call as it came in.
    pub(super) fn of<R: Mutating>(request: &tonic::Request<R>) -> Self {
        let peer = request.extensions().get::<Peer>();
        Self {
            method: R::METHOD,
            actor: actor(request.metadata()),
            source: peer.map_or_else(|| IN_PROCESS.to_owned(), |Peer(address)| address.to_string()),
            request_id: request.get_ref().request_id().to_owned(),
        }
    }
}

/// Who calls: who it says it is, or else its program.
fn actor(metadata: &MetadataMap) -> String {
    let text = |key: &str| metadata.get(key)?.to_str().ok().map(printable).filter(|text| !text.is_empty());
    text(ACTOR).or_else(|| text("user-agent")).unwrap_or_else(|| "unknown".to_owned())
}

/// Without what would disturb a terminal or a table.
fn printable(text: &str) -> String {
    let printable = text.trim().chars().map(|c| if c.is_control() { '?' } else { c });
    printable.take(LONGEST_ACTOR).collect()
}

impl Subject {
    /// The rollout, as activities are about it.
    fn about(&self) -> About {
        let text = |field: &str| self.object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let labels = inherited::for_child(self.metadata(), |_| false).labels;
        About { namespace: text("namespace"), name: text("name"), uid: self.uid().to_owned(), labels }
    }
}

impl Context {
    /// Tells what a call has done.
    pub(super) fn note_done(&self, call: &Call, done: &Done, detail: &str) {
        if done.effect != Effect::Changed || done.mode == Mode::DryRun {
            return;
        }
        let is_of = |part: &str| {
            let after = done.after.object.pointer(part);
            done.before.as_ref().is_none_or(|before| before.object.pointer(part) != after)
        };
        let (is_of_spec, is_of_template) = (is_of("/spec"), is_of("/spec/template"));
        let about = done.after.about();
        // Which revision a new template becomes is decided later.
        let revision = if is_of_template { done.revision } else { done.after.revision() };
        let activity = Activity { revision, ..self.activity(call, OK, detail) };
        match done.after.generation().filter(|_| is_of_spec) {
            Some(generation) => self.activities.note_generation(&about, generation, activity),
            None => self.activities.note(&about, activity),
        }
    }

    /// Tells that a call about a rollout was refused, where that says something about the rollout rather than about the call.
    pub(super) fn note_refused(&self, call: &Call, key: &Key, error: &Error) {
        let code = error.reason().code();
        let tells = [tonic::Code::FailedPrecondition, tonic::Code::Aborted, tonic::Code::PermissionDenied];
        let Some(record) = self.store.rollouts.get(key).filter(|_| tells.contains(&code)) else { return };
        let uid = kube::ResourceExt::uid(&*record).unwrap_or_default();
        let labels = inherited::for_child(kube::Resource::meta(&*record), |_| false).labels;
        let about = About { namespace: key.namespace.clone(), name: key.name.clone(), uid, labels };
        let outcome = format!("{}: {}", code_name(code), error.reason().text());
        self.activities.note_refusal(&about, self.activity(call, &outcome, error.message()));
    }

    fn activity(&self, call: &Call, outcome: &str, detail: &str) -> Activity {
        let id = if call.request_id.is_empty() {
            String::new()
        } else {
            format!("request_id {}", call.request_id)
        };
        let detail = [detail, &id].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
        Activity {
            time: self.clock.now(),
            actor: call.actor.clone(),
            verb: call.method.to_owned(),
            source: call.source.clone(),
            outcome: outcome.to_owned(),
            revision: 0,
            detail,
        }
    }
}
