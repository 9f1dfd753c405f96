//! Changes of a pod template that belongs to another object: spec.workloadRef names it, and it is written there (contract A12).
//!
//! Decided on the rollout as a plan sees it, with the workload's template in place of its own; the change then goes to the workload, under
//! the version that was read, and the object that remembers a request is the workload too.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::Context;
use super::super::cluster::{Change, Mode, Target};
use super::super::error::Error;
use super::super::gitops;
use super::super::kind::{DEPLOYMENT, Kind, POD_TEMPLATE, REPLICA_SET};
use super::super::mutation::{ATTEMPTS, Done, Effect, Mutation, OBSERVATION_PATIENCE, Subject};
use super::super::status::Reason;
use super::Rollouts;
use super::change::Standard;
use crate::crd::{ObjectRef, WorkloadKind, WorkloadName, keys};
use crate::pb::v1;
use crate::plan::Workload;
use crate::plan::template;
use crate::store::{Key, workload};

/// What became of a pod template.
pub(super) struct Rewritten {
    /// What was done, with the rollout; its template is another's where `workload` is some.
    pub done: Done,
    /// The rollout with its template as it was before.
    pub before: Subject,
    /// The workload as it then is, or would be.
    pub workload: Option<Arc<Workload>>,
    /// What the caller ought to know.
    pub warnings: Vec<v1::Warning>,
}

/// A workload as it was read for a mutation.
struct Referenced {
    named: WorkloadName,
    object: Value,
    workload: Arc<Workload>,
}

/// The kind as the API server has it.
fn kind(kind: WorkloadKind) -> &'static Kind {
    match kind {
        WorkloadKind::Deployment => &DEPLOYMENT,
        WorkloadKind::ReplicaSet => &REPLICA_SET,
        WorkloadKind::PodTemplate => &POD_TEMPLATE,
    }
}

fn target<'a>(key: &'a Key, named: &'a WorkloadName) -> Target<'a> {
    Target { kind: kind(named.kind), namespace: &key.namespace, name: &named.name }
}

impl Rollouts {
    /// Changes the pod template of a rollout, wherever that is.
    pub(super) async fn rewrite(
        &self,
        standard: Standard<'_>,
        decide: impl Fn(&Subject) -> Result<Option<Change>, Error>,
    ) -> Result<Rewritten, Error> {
        self.context.rewrite(&standard.read()?, decide).await
    }
}

impl Context {
    /// Changes the pod template of a rollout by what `decide` makes of the rollout with that template; `None`: it is so already.
    pub(super) async fn rewrite(
        &self,
        mutation: &Mutation,
        decide: impl Fn(&Subject) -> Result<Option<Change>, Error>,
    ) -> Result<Rewritten, Error> {
        let patience = tokio::time::Instant::now() + OBSERVATION_PATIENCE;
        let mut conflict = None;
        for _ in 0..ATTEMPTS {
            let subject = self.read(&mutation.key).await?;
            let named = subject.rollout()?.spec.workload_ref.as_ref().and_then(ObjectRef::workload);
            let Some(named) = named else {
                let done = self.mutate(mutation, &decide).await?;
                let before = done.before.clone().unwrap_or_else(|| done.after.clone());
                return Ok(Rewritten { done, before, workload: None, warnings: Vec::new() });
            };
            let referenced = self.referenced(&mutation.key, named).await?;
            let resolved = resolved(&subject, &referenced);
            let rewritten = |effect, workload, warnings| {
                let (before, after) = (Some(subject.clone()), subject.clone());
                let done = Done { before, after, effect, mode: mutation.mode, revision: 0 };
                Rewritten { done, before: resolved.clone(), workload: Some(workload), warnings }
            };
            if let Some(ticket) = &mutation.ticket
                && ticket.was_used(&referenced.object)?
            {
                return Ok(rewritten(Effect::Repeated, referenced.workload, Vec::new()));
            }
            subject.check(&mutation.etag)?;
            let change = match decide(&resolved) {
                Ok(change) => change.map(|change| elsewhere(change, referenced.named.kind)),
                Err(error) if error.reason() == Reason::NotObserved => {
                    self.observed(&mutation.key, &resolved, patience).await.ok_or(error)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let effect = if change.is_some() { Effect::Changed } else { Effect::Nothing };
            let change = match (change, &mutation.ticket) {
                (None, None) => return Ok(rewritten(effect, referenced.workload, Vec::new())),
                (change, Some(ticket)) => ticket.recording(change, &referenced.object),
                (Some(change), None) => change,
            };
            match self.write_workload(mutation, &referenced, change).await {
                Err(error) if error.reason() == Reason::Conflict => conflict = Some(error),
                Ok(after) => {
                    let what = referenced.named.to_string();
                    let warning = gitops::warning_about(&referenced.object, &after, "", &what);
                    let workload = read(&referenced.named, &after)?;
                    return Ok(rewritten(effect, workload, warning.into_iter().collect()));
                }
                Err(error) => return Err(error),
            }
        }
        Err(conflict
            .unwrap_or_else(|| Error::new(Reason::Conflict, "the workload keeps changing; try again")))
    }

    /// The workload that a rollout refers to, read fresh.
    async fn referenced(&self, key: &Key, named: WorkloadName) -> Result<Referenced, Error> {
        let target = target(key, &named);
        let Some(object) = self.cluster.get(target).await? else {
            return Err(Error::not_found(target.kind.named(&key.namespace, &named.name)));
        };
        let workload = read(&named, &object)?;
        Ok(Referenced { named, object, workload })
    }

    /// Writes a change to the version of a workload that was read, and lets the caches know at once: what is waited for next depends on it.
    async fn write_workload(
        &self,
        mutation: &Mutation,
        referenced: &Referenced,
        change: Change,
    ) -> Result<Value, Error> {
        let text = |field: &str| referenced.object["metadata"][field].as_str().unwrap_or_default();
        let change = change.at_version(text("uid"), text("resourceVersion"));
        let target = target(&mutation.key, &referenced.named);
        let after = self.cluster.change(target, &change, mutation.mode).await?;
        if mutation.mode == Mode::Commit {
            self.store.take_in_workload(referenced.named.kind, &after);
        }
        Ok(after)
    }

    /// The workload that a rollout refers to, as the caches or a fresh look have it; `None` where there is none, and where it refers to none.
    pub(super) async fn workload(
        &self,
        key: &Key,
        reference: Option<&ObjectRef>,
    ) -> Result<Option<Arc<Workload>>, Error> {
        let Some(named) = reference.and_then(ObjectRef::workload) else { return Ok(None) };
        if let Some(workload) = self.store.workload(&key.namespace, &named) {
            return Ok(Some(workload));
        }
        let object = self.cluster.get(target(key, &named)).await?;
        object.map(|object| read(&named, &object)).transpose()
    }
}

/// A workload of a kind, from the object.
pub(super) fn read(named: &WorkloadName, object: &Value) -> Result<Arc<Workload>, Error> {
    let workload = workload::read(named.kind, object);
    workload.map_err(|error| Error::internal("a workload was not understood", &error))
}

/// The rollout as if its template, and where it has none its selector, were its own; and as if its annotation told of the workload as it
/// was read.
fn resolved(subject: &Subject, referenced: &Referenced) -> Subject {
    let mut object = subject.object.clone();
    let Ok(rollout) = subject.rollout() else { return subject.clone() };
    let resolved = template::resolve(Arc::new(rollout.clone()), Some(Arc::clone(&referenced.workload)));
    let spec = &resolved.rollout.spec;
    object["spec"]["template"] = spec.template.clone().unwrap_or_default();
    object["spec"]["selector"] = json!(spec.selector);
    if let Some(fields) = object["spec"].as_object_mut() {
        fields.shift_remove("workloadRef");
    }
    if !object["metadata"]["annotations"].is_object() {
        object["metadata"]["annotations"] = json!({});
    }
    object["metadata"]["annotations"][keys::WORKLOAD_GENERATION] =
        json!(referenced.workload.generation.to_string());
    Subject::new(object)
}

/// A change of a rollout's template as one of the workload that holds it: a PodTemplate has it at its top.
fn elsewhere(change: Change, kind: WorkloadKind) -> Change {
    let (WorkloadKind::PodTemplate, Change::Json(patch)) = (kind, &change) else { return change };
    let mut operations = json!(patch);
    for operation in operations.as_array_mut().into_iter().flatten() {
        if let Some(path) = operation["path"].as_str().and_then(|path| path.strip_prefix("/spec")) {
            operation["path"] = json!(path);
        }
    }
    serde_json::from_value(operations).map_or(change, Change::Json)
}
