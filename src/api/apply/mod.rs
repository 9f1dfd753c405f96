//! ApplyManifest: kubectl's client-side apply, with all documents checked before the first write.
//!
//! `read` finds the objects of the text, whose forms and rules [`crate::manifest`] knows; `decide` says what is to be done about each:
//! `patch` and `last_applied` are kubectl's three-way merge, `owner` says whose fields are in the way. `report` and `preview` say what
//! became or would become of them. Here: the order of it all. Every object is rehearsed on the API
//! server (a dry run) before anything is written; writes go in order, and the answer says what became of each.

mod decide;
mod last_applied;
mod owner;
mod patch;
mod preview;
mod read;
mod report;

use std::collections::BTreeSet;

use serde_json::Value;

use super::Context;
use super::call::Call;
use super::cluster::{Mode, Target};
use super::environment::Admission;
use super::error::Error;
use super::kind::{NAMESPACE, ROLLOUT, Scope};
use super::mutation::{Done, Effect, Subject};
use super::name;
use super::status::Reason;
use super::token::Token;
use crate::crd::{WorkloadKind, keys};
use crate::manifest::{Item, form};
use crate::pb::v1;
use crate::store::Key;
use decide::{Proposal, Step, decide};
pub(super) use owner::Ownership;
use report::{concerns, foresee, newest, not_the_users, placed, show};
use v1::applied_object::Outcome;

/// How often one object starts over because somebody was faster.
const ATTEMPTS: usize = 10;

/// Where documents go that name no namespace, when the request names none either.
const DEFAULT_NAMESPACE: &str = "default";

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
        call: &Call,
        request: v1::ApplyManifestRequest,
    ) -> Result<v1::ApplyManifestResponse, Error> {
        let ownership = if request.force { Ownership::Take } else { Ownership::Respect };
        Applying { context: self, call, ownership }.apply(request).await
    }

    /// The objects of a manifest as they would be stored, by a dry run of all.
    pub(super) async fn rehearsed(
        &self,
        manifest: &str,
        namespace: &str,
        ownership: Ownership,
    ) -> Result<Rehearsed, Error> {
        let items = read::items(manifest, namespace)?;
        let applying = Applying { context: self, call: &Call::default(), ownership };
        let (rehearsals, warnings) = applying.rehearse_all(&items, |_, _| {}).await?;
        let objects = rehearsals.into_iter().map(|rehearsal| rehearsal.applied.1);
        Ok(Rehearsed { objects: items.into_iter().zip(objects).collect(), warnings })
    }
}

/// What would become of a manifest.
#[derive(Default)]
pub(super) struct Rehearsed {
    /// Its objects as they would be stored.
    pub objects: Vec<(Item, Value)>,
    /// What the caller ought to know.
    pub warnings: Vec<v1::Warning>,
}

/// One request as it is carried out.
struct Applying<'a> {
    context: &'a Context,
    call: &'a Call,
    ownership: Ownership,
}

impl Applying<'_> {
    async fn apply(&self, request: v1::ApplyManifestRequest) -> Result<v1::ApplyManifestResponse, Error> {
        let namespace = match request.parent.as_str() {
            "" => DEFAULT_NAMESPACE.to_owned(),
            parent => name::namespace(parent, "parent")?,
        };
        let items = read::items(&request.manifest, &namespace)?;
        let tell = |item: &Item, error: &Error| {
            if !request.validate_only {
                self.note_refused(item, error);
            }
        };
        let (rehearsals, warnings) = self.rehearse_all(&items, tell).await?;
        if request.validate_only {
            let objects = items.iter().zip(rehearsals).map(|(item, rehearsal)| foresee(item, rehearsal));
            return Ok(v1::ApplyManifestResponse {
                objects: objects.collect(),
                warnings,
                consistency_token: String::new(),
            });
        }
        let admissions = self.admit(&items, &rehearsals)?;
        let done = self.carry_out(&items, rehearsals, admissions).await?;
        let consistency_token = Token::of_version(newest(&items, &done));
        let objects = items.iter().zip(done).map(|(item, applied)| show(item, applied)).collect();
        Ok(v1::ApplyManifestResponse { objects, warnings, consistency_token })
    }

    /// Checks all documents and rehearses them; nothing is stored. What is refused is told of.
    async fn rehearse_all(
        &self,
        items: &[Item],
        tell: impl Fn(&Item, &Error),
    ) -> Result<(Vec<Rehearsal>, Vec<v1::Warning>), Error> {
        let mut warnings = self.check_forms(items)?;
        let to_come = self.check_namespaces(items).await?;
        let mut rehearsals = Vec::new();
        for item in items {
            // What lives in a namespace that is not there yet cannot be rehearsed on the server.
            let can_send = !to_come.contains(item.namespace.as_str());
            let rehearsal = self.rehearse(item, can_send).await;
            let rehearsal = rehearsal.map_err(|error| {
                tell(item, &error);
                placed(error, item)
            })?;
            warnings.extend(concerns(item, &rehearsal));
            rehearsals.push(rehearsal);
        }
        Ok((rehearsals, warnings))
    }

    /// Looks at the forms of all documents; what is wrong with any refuses all.
    fn check_forms(&self, items: &[Item]) -> Result<Vec<v1::Warning>, Error> {
        let (mut faults, mut warnings) = (Vec::new(), Vec::new());
        for item in items {
            let findings = form::check(item);
            faults.extend(findings.faults);
            warnings.extend(findings.warnings);
            warnings.extend(self.other_instance(item));
            warnings.extend(not_the_users(item));
        }
        if faults.is_empty() { Ok(warnings) } else { Err(Error::invalid(faults)) }
    }

    /// A rollout of another instance id is applied, but this server does not look after it (contract 4.1).
    fn other_instance(&self, item: &Item) -> Option<v1::Warning> {
        let ours = self.context.server.instance_id.as_str();
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
            match self.context.cluster.get(target).await {
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
            let step = decide(item, self.context.cluster.get(item.target()).await?, self.ownership)?;
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

    /// Asks whether the environment of each rollout may change, of all before the first write: nothing is half applied for it. What is
    /// decided anew later, because somebody was faster, is not held up.
    fn admit(&self, items: &[Item], rehearsals: &[Rehearsal]) -> Result<Vec<Admission<'_>>, Error> {
        let mut admissions = Vec::new();
        for (item, rehearsal) in items.iter().zip(rehearsals) {
            let mut admission =
                self.context.environment_changes.admission(&Key::new(&*item.namespace, &*item.name));
            if let Err(error) = ask(&mut admission, item, rehearsal) {
                admissions.iter_mut().for_each(Admission::release);
                self.note_refused(item, &error);
                return Err(placed(error, item));
            }
            admissions.push(admission);
        }
        Ok(admissions)
    }

    /// Writes all objects in order. When one fails, the error says what became of each.
    async fn carry_out(
        &self,
        items: &[Item],
        rehearsals: Vec<Rehearsal>,
        admissions: Vec<Admission<'_>>,
    ) -> Result<Vec<Applied>, Error> {
        let mut done: Vec<Applied> = Vec::new();
        let mut admissions = admissions.into_iter();
        for (item, rehearsal) in items.iter().zip(rehearsals) {
            let written = self.write_rehearsed(item, rehearsal).await;
            let admission = admissions.next();
            match written {
                Ok(applied) => done.push(applied),
                Err(error) => {
                    admission.into_iter().chain(admissions).for_each(|mut unused| unused.release());
                    self.note_refused(item, &error);
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
                    step = decide(item, self.context.cluster.get(item.target()).await?, self.ownership)?;
                }
                sent => {
                    let applied = sent?;
                    self.note(item, &step, &applied);
                    self.tell_caches(item, &applied);
                    return Ok(applied);
                }
            }
        }
        Err(Error::new(Reason::Conflict, "the object keeps changing; try again"))
    }

    async fn send(&self, item: &Item, step: &Step, mode: Mode) -> Result<Applied, Error> {
        match step {
            Step::Nothing(live) => Ok((Outcome::Unchanged, live.clone())),
            Step::Create(object) => {
                Ok((Outcome::Created, self.context.cluster.create(item.target(), object, mode).await?))
            }
            Step::Change(Proposal { change, live, .. }) => {
                let object = self.context.cluster.change(item.target(), change, mode).await?;
                // The server may find that nothing changes: it completes what a manifest leaves out.
                let is_same = owner::settled(&object) == owner::settled(live);
                Ok((if is_same { Outcome::Unchanged } else { Outcome::Configured }, object))
            }
        }
    }

    /// Tells what was done to a rollout.
    fn note(&self, item: &Item, step: &Step, (outcome, object): &Applied) {
        if *item.kind != ROLLOUT || *outcome == Outcome::Unchanged {
            return;
        }
        let done = Done {
            before: step.live().map(|live| Subject::new(live.clone())),
            after: Subject::new(object.clone()),
            effect: Effect::Changed,
            mode: Mode::Commit,
            revision: 0,
        };
        self.context.note_done(self.call, &done, &done.changed_fields());
    }

    /// Shows the caches what a rollout may take its pod template from: what it waits for depends on it.
    fn tell_caches(&self, item: &Item, (_, object): &Applied) {
        let is_it = |kind: &WorkloadKind| {
            (kind.as_str(), kind.api_version()) == (item.kind.kind, &*item.kind.api_version())
        };
        if let Some(kind) = WorkloadKind::ALL.into_iter().find(is_it) {
            self.context.store.take_in_workload(kind, object);
        }
    }

    fn note_refused(&self, item: &Item, error: &Error) {
        if *item.kind == ROLLOUT {
            self.context.note_refused(self.call, &Key::new(&*item.namespace, &*item.name), error);
        }
    }
}

/// Asks whether an object may be written as it was rehearsed: only the environment of rollouts is limited.
fn ask(admission: &mut Admission<'_>, item: &Item, rehearsal: &Rehearsal) -> Result<(), Error> {
    match &rehearsal.step {
        Step::Change(Proposal { change, live, .. }) if *item.kind == ROLLOUT => admission.ask(live, change),
        _ => Ok(()),
    }
}

/// Whether somebody created, changed or deleted the object since it was read.
fn was_overtaken(error: &Error) -> bool {
    matches!(error.reason(), Reason::Conflict | Reason::AlreadyExists)
}
