//! ApplyManifest: kubectl's client-side apply, with all documents checked before the first write.
//!
//! `read` finds the objects of the text, whose forms and rules [`crate::manifest`] knows; `patch` and `last_applied` are kubectl's
//! three-way merge, `owner` says whose fields are in the way. Here: the order of it all. Every object is rehearsed on the API
//! server (a dry run) before anything is written; writes go in order, and the answer says what became of each.

mod last_applied;
mod owner;
mod patch;
mod read;

use std::collections::BTreeSet;

use serde_json::Value;

use super::Context;
use super::cluster::{Change, Mode, Target};
use super::convert::Fault;
use super::error::{Error, Resource};
use super::kind::{NAMESPACE, ROLLOUT, Scope};
use super::mutation::Subject;
use super::name;
use super::not_yet;
use super::status::Reason;
use crate::crd::keys;
use crate::manifest::{Item, form, rule};
use crate::pb::v1;
use v1::applied_object::Outcome;

/// How often one object starts over because somebody was faster.
const ATTEMPTS: usize = 10;

/// Where documents go that name no namespace, when the request names none either.
const DEFAULT_NAMESPACE: &str = "default";

/// What is to be done about an object.
#[derive(Clone, Debug)]
enum Step {
    /// It does not exist.
    Create(Value),
    /// It is another than the manifest says.
    Change(Change, Value),
    /// It is so already.
    Nothing(Value),
}

/// What became of an object: the outcome, and the object.
type Applied = (Outcome, Value);

/// What would become of an object, and the step that would do it.
struct Rehearsal {
    applied: Applied,
    step: Step,
}

impl Context {
    /// ApplyManifest.
    pub(super) async fn apply(
        &self,
        request: v1::ApplyManifestRequest,
    ) -> Result<v1::ApplyManifestResponse, Error> {
        not_yet::fields(&[("force", request.force), ("wait", request.wait.is_some())])?;
        let namespace = match request.parent.as_str() {
            "" => DEFAULT_NAMESPACE.to_owned(),
            parent => name::namespace(parent, "parent")?,
        };
        let items = read::items(&request.manifest, &namespace)?;
        let warnings = self.check_forms(&items)?;
        let to_come = self.check_namespaces(&items).await?;

        let mut rehearsals = Vec::new();
        for item in &items {
            // What lives in a namespace that is not there yet cannot be rehearsed on the server.
            let can_send = !to_come.contains(item.namespace.as_str());
            rehearsals.push(self.rehearse(item, can_send).await.map_err(|error| placed(error, item))?);
        }
        let done = match request.validate_only {
            true => rehearsals.into_iter().map(|rehearsal| rehearsal.applied).collect(),
            false => self.carry_out(&items, rehearsals).await?,
        };
        let objects = items.iter().zip(done).map(|(item, applied)| show(item, applied)).collect();
        Ok(v1::ApplyManifestResponse { objects, warnings, consistency_token: String::new() })
    }

    /// Looks at the forms of all documents; what is wrong with any refuses all.
    fn check_forms(&self, items: &[Item]) -> Result<Vec<v1::Warning>, Error> {
        let (mut faults, mut warnings) = (Vec::new(), Vec::new());
        for item in items {
            let findings = form::check(item);
            faults.extend(findings.faults);
            warnings.extend(findings.warnings);
            warnings.extend(self.other_instance(item));
        }
        if faults.is_empty() { Ok(warnings) } else { Err(Error::invalid(faults)) }
    }

    /// A rollout of another instance id is applied, but this server does not look after it (contract 4.1).
    fn other_instance(&self, item: &Item) -> Option<v1::Warning> {
        let ours = self.server.instance_id.as_str();
        let given =
            item.manifest["metadata"]["labels"][keys::CONTROLLER_INSTANCE_ID].as_str().unwrap_or_default();
        (*item.kind == ROLLOUT && given != ours).then(|| v1::Warning {
            reason: "OTHER_INSTANCE".to_owned(),
            field: item.document.at(&format!("metadata.labels[{}]", keys::CONTROLLER_INSTANCE_ID)),
            description: format!("this server serves instance id {ours:?}: it does not look after {given:?}"),
        })
    }

    /// Checks that the namespaces exist, and gives those that the manifest itself creates.
    async fn check_namespaces<'a>(&self, items: &'a [Item]) -> Result<BTreeSet<&'a str>, Error> {
        let mut to_come = BTreeSet::new();
        let mut checked = BTreeSet::new();
        for (position, item) in items.iter().enumerate() {
            let namespace = item.namespace.as_str();
            if item.kind.scope == Scope::Cluster || !checked.insert(namespace) {
                continue;
            }
            let target = Target { kind: &NAMESPACE, namespace: "", name: namespace };
            match self.cluster.get(target).await {
                Ok(None) => {}
                Ok(Some(_)) => continue,
                // Argo Rollouts' account may not read namespaces: the rehearsal finds out.
                Err(error) if error.reason() == Reason::PermissionDenied => continue,
                Err(error) => return Err(error),
            }
            if items[..position].iter().any(|earlier| earlier.is_namespace(namespace)) {
                to_come.insert(namespace);
                continue;
            }
            return Err(Error::not_found(NAMESPACE.named("", namespace)).within(&item.document.place));
        }
        Ok(to_come)
    }

    /// What would become of an object, by the server's word; nothing is stored.
    async fn rehearse(&self, item: &Item, can_send: bool) -> Result<Rehearsal, Error> {
        for _ in 0..ATTEMPTS {
            let step = decide(item, self.cluster.get(item.target()).await?)?;
            if !can_send && let Step::Create(object) = &step {
                return Ok(Rehearsal { applied: (Outcome::Created, object.clone()), step });
            }
            match self.send(item, &step, Mode::DryRun).await {
                Ok(applied) => return Ok(Rehearsal { applied, step }),
                Err(error) if was_overtaken(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(Reason::Conflict, "the object keeps changing; try again"))
    }

    /// Writes all objects in order. When one fails, the error says what became of each.
    async fn carry_out(&self, items: &[Item], rehearsals: Vec<Rehearsal>) -> Result<Vec<Applied>, Error> {
        let mut done: Vec<Applied> = Vec::new();
        for (item, rehearsal) in items.iter().zip(rehearsals) {
            match self.write_rehearsed(item, rehearsal).await {
                Ok(applied) => done.push(applied),
                Err(error) => {
                    done.push((Outcome::Failed, Value::Null));
                    done.resize(items.len(), (Outcome::NotAttempted, Value::Null));
                    let objects = items.iter().zip(done).map(|(item, applied)| show(item, applied)).collect();
                    let answer = v1::ApplyManifestResponse { objects, ..Default::default() };
                    return Err(placed(error, item).with_answer("rolloutd.v1.ApplyManifestResponse", &answer));
                }
            }
        }
        Ok(done)
    }

    /// Writes one object as it was rehearsed; anew, when somebody was faster.
    async fn write_rehearsed(&self, item: &Item, rehearsal: Rehearsal) -> Result<Applied, Error> {
        if rehearsal.applied.0 == Outcome::Unchanged {
            return Ok(rehearsal.applied);
        }
        let mut step = rehearsal.step;
        for _ in 0..ATTEMPTS {
            match self.send(item, &step, Mode::Commit).await {
                Err(error) if was_overtaken(&error) => {
                    step = decide(item, self.cluster.get(item.target()).await?)?;
                }
                sent => return sent,
            }
        }
        Err(Error::new(Reason::Conflict, "the object keeps changing; try again"))
    }

    async fn send(&self, item: &Item, step: &Step, mode: Mode) -> Result<Applied, Error> {
        match step {
            Step::Nothing(live) => Ok((Outcome::Unchanged, live.clone())),
            Step::Create(object) => {
                Ok((Outcome::Created, self.cluster.create(item.target(), object, mode).await?))
            }
            Step::Change(change, live) => {
                let object = self.cluster.change(item.target(), change, mode).await?;
                // The server may find that nothing changes: it completes what a manifest leaves out.
                let is_same = owner::settled(&object) == owner::settled(live);
                Ok((if is_same { Outcome::Unchanged } else { Outcome::Configured }, object))
            }
        }
    }
}

/// Whether somebody created, changed or deleted the object since it was read.
fn was_overtaken(error: &Error) -> bool {
    matches!(error.reason(), Reason::Conflict | Reason::AlreadyExists)
}

/// Decides what is to be done about an object, and refuses what must not be.
fn decide(item: &Item, live: Option<Value>) -> Result<Step, Error> {
    let sent = last_applied::annotated(&item.manifest);
    let Some(live) = live else {
        let created = patch::without_nulls(&sent);
        check(item, &created)?;
        return Ok(Step::Create(created));
    };
    check_version(item, &live)?;
    let last = last_applied::recorded(&live);
    let manifest = match item.kind {
        kind if kind.kind == "Service" => patch::complete(&last, &sent, &live, &patch::SERVICE_PORTS),
        _ => sent,
    };
    let mut patch = patch::three_way(&last, &manifest, &live);
    owner::let_go(&mut patch, &live);
    let mut changed = live.clone();
    json_patch::merge(&mut changed, &patch);
    if changed == live {
        return Ok(Step::Nothing(live));
    }
    check(item, &changed)?;
    let taken = owner::taken(&live, &changed);
    if !taken.is_empty() {
        return Err(is_taken(item, &taken));
    }
    for field in ["uid", "resourceVersion"] {
        patch["metadata"][field] = live["metadata"][field].clone();
    }
    Ok(Step::Change(Change::Merge(patch), live))
}

/// Checks an object as it would be stored; violations carry the manifest's path.
fn check(item: &Item, object: &Value) -> Result<(), Error> {
    let faults = rule::check(item, object);
    if faults.is_empty() { Ok(()) } else { Err(Error::invalid(faults)) }
}

/// A manifest that names a version or identity wants no other.
fn check_version(item: &Item, live: &Value) -> Result<(), Error> {
    for field in ["resourceVersion", "uid"] {
        let wanted = &item.manifest["metadata"][field];
        if !wanted.is_null() && *wanted != live["metadata"][field] {
            let field = item.document.at(&format!("metadata.{field}"));
            let message =
                format!("{field}: the object is another than the manifest names; read it and decide anew");
            return Err(Error::new(Reason::EtagMismatch, message).with("field", field));
        }
    }
    Ok(())
}

fn is_taken(item: &Item, taken: &[owner::Taken]) -> Error {
    let first = &taken[0];
    let field = item.document.at(&first.field);
    let more = match taken.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let message = format!("{field} belongs to {:?}, which wrote it last{more}", first.manager);
    let faults = taken
        .iter()
        .map(|taken| Fault::new(item.document.at(&taken.field), format!("belongs to {:?}", taken.manager)));
    Error::new(Reason::FieldOwned, message)
        .with_faults(faults.collect())
        .with("field", field)
        .with("manager", first.manager.clone())
}

/// Says of which document an error is, and names fields as the manifest does.
fn placed(error: Error, item: &Item) -> Error {
    let Resource { name, .. } = item.kind.named(&item.namespace, &item.name);
    let error = match error.reason() {
        Reason::InvalidObject => error.rename_fields(|field| item.document.at(field)),
        _ => error,
    };
    match error.reason() {
        // Its message begins with the field.
        Reason::InvalidField | Reason::FieldOwned | Reason::EtagMismatch => error,
        _ => error.within(&format!("{} ({name})", item.document.place)),
    }
    .with("document", item.document.index.to_string())
}

fn show(item: &Item, (outcome, object): Applied) -> v1::AppliedObject {
    let is_rollout = *item.kind == ROLLOUT && object.is_object();
    v1::AppliedObject {
        document_index: i32::try_from(item.document.index).unwrap_or(i32::MAX),
        object: Some(item.reference()),
        outcome: outcome.into(),
        rollout: is_rollout.then(|| Subject::new(object).show()),
        unified_diff: String::new(),
    }
}
