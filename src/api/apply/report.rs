//! What the caller is told: of each object, of what is worth a warning, and of what went wrong.

use serde_json::Value;

use super::decide::{Proposal, Step};
use super::{Applied, Rehearsal, preview};
use crate::api::error::{Error, Resource};
use crate::api::gitops;
use crate::api::kind::ROLLOUT;
use crate::api::mutation::Subject;
use crate::api::status::Reason;
use crate::crd::keys;
use crate::manifest::Item;
use crate::pb::v1;
use crate::store::ResourceVersion;
use crate::validate::{self, Violation};
use v1::applied_object::Outcome;

/// The reason of a warning about a field that was taken over.
const FIELD_TAKEN: &str = "FIELD_TAKEN";

/// The reason of a warning about an annotation that is not the manifest's.
const BOOKKEEPING_IGNORED: &str = "BOOKKEEPING_IGNORED";

/// The reason of a warning about what the stored object says and nobody heeds.
const UNHEEDED: &str = "UNHEEDED";

/// What a caller ought to know of a change before or after it is made.
pub(super) fn concerns(item: &Item, rehearsal: &Rehearsal) -> Vec<v1::Warning> {
    let Step::Change(Proposal { live, taken, .. }) = &rehearsal.step else { return Vec::new() };
    let took = taken.iter().map(|taken| v1::Warning {
        reason: FIELD_TAKEN.to_owned(),
        field: item.document.at(&taken.field),
        description: format!("belonged to {:?}, which may write it again", taken.manager),
    });
    let is_rollout = *item.kind == ROLLOUT;
    let subject = is_rollout.then(|| Subject::new(rehearsal.applied.1.clone()));
    let gitops = subject.and_then(|subject| gitops::warning(live, &subject, &item.document.place));
    took.chain(gitops).chain(unheeded(item, live, &rehearsal.applied.1)).collect()
}

/// What stands in a rollout, is none of the change's, and counts for nothing.
fn unheeded(item: &Item, live: &Value, after: &Value) -> Vec<v1::Warning> {
    if *item.kind != ROLLOUT {
        return Vec::new();
    }
    let warning = |violation: &Violation| v1::Warning {
        reason: UNHEEDED.to_owned(),
        field: item.document.at(&violation.path.to_string()),
        description: format!("stays as it is, and is not heeded: {}", violation.description()),
    };
    validate::unheeded(Some(live), after).kept.iter().map(warning).collect()
}

/// A manifest that was read from the cluster may hold what only this server writes.
pub(super) fn not_the_users(item: &Item) -> Option<v1::Warning> {
    let annotations = item.document.object.get("metadata")?.get("annotations")?;
    annotations.get(keys::REQUESTS).map(|_| v1::Warning {
        reason: BOOKKEEPING_IGNORED.to_owned(),
        field: item.document.at(&format!("metadata.annotations[{}]", keys::REQUESTS)),
        description: "is kept by this server; what the manifest says of it is ignored".to_owned(),
    })
}

/// Says of which document an error is, and names fields as the manifest does.
pub(super) fn placed(error: Error, item: &Item) -> Error {
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

/// The newest version of the rollouts among what was applied: other kinds are not in the cache that a token is about.
pub(super) fn newest(items: &[Item], done: &[Applied]) -> Option<ResourceVersion> {
    let rollouts = items.iter().zip(done).filter(|(item, _)| *item.kind == ROLLOUT);
    let version = |object: &Value| ResourceVersion::parse(object["metadata"]["resourceVersion"].as_str()?);
    rollouts.filter_map(|(_, (_, object))| version(object)).max()
}

/// What would become of an object, with the difference that it makes.
pub(super) fn foresee(item: &Item, rehearsal: Rehearsal) -> v1::AppliedObject {
    let live = rehearsal.step.live();
    let unified_diff = match rehearsal.applied.0 {
        Outcome::Unchanged => String::new(),
        _ => preview::unified_diff(item, live, &rehearsal.applied.1),
    };
    v1::AppliedObject { unified_diff, ..show(item, rehearsal.applied) }
}

pub(super) fn show(item: &Item, (outcome, object): Applied) -> v1::AppliedObject {
    let is_rollout = *item.kind == ROLLOUT && object.is_object();
    v1::AppliedObject {
        document_index: i32::try_from(item.document.index).unwrap_or(i32::MAX),
        object: Some(item.reference()),
        outcome: outcome.into(),
        rollout: is_rollout.then(|| Subject::new(object).show()),
        unified_diff: String::new(),
    }
}
