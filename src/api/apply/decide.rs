//! What is to be done about one object: nothing, to create it, or to change it; or that it must be left alone.
//!
//! One function of the manifest and of the object as it was read, so that it is decided again whenever somebody was faster.

use serde_json::Value;

use super::owner::{self, Ownership, Taken};
use super::{last_applied, patch};
use crate::api::cluster::Change;
use crate::api::convert::Fault;
use crate::api::error::Error;
use crate::api::status::Reason;
use crate::api::ticket;
use crate::manifest::{Item, rule};

/// What is to be done about an object.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// It does not exist.
    Create(Value),
    /// It is another than the manifest says.
    Change(Proposal),
    /// It is so already.
    Nothing(Value),
}

/// A change to an object that exists.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    /// The change.
    pub change: Change,
    /// The object as it was read.
    pub live: Value,
    /// What it takes from others.
    pub taken: Vec<Taken>,
}

impl Step {
    /// The object as it was read; `None` when it does not exist.
    pub(super) fn live(&self) -> Option<&Value> {
        match self {
            Self::Create(_) => None,
            Self::Change(Proposal { live, .. }) | Self::Nothing(live) => Some(live),
        }
    }
}

/// Decides what is to be done about an object, and refuses what must not be.
pub(super) fn decide(item: &Item, live: Option<Value>, ownership: Ownership) -> Result<Step, Error> {
    let sent = last_applied::annotated(&item.manifest);
    let Some(live) = live else {
        let created = patch::without_nulls(&sent);
        check(item, None, &created)?;
        return Ok(Step::Create(created));
    };
    check_version(item, &live)?;
    let mut last = last_applied::recorded(&live);
    // Whatever was applied before it was known to be none of the manifest's business.
    ticket::strip(&mut last);
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
    check(item, Some(&live), &changed)?;
    let taken = owner::taken(&live, &changed);
    if !taken.is_empty() && ownership == Ownership::Respect {
        return Err(is_taken(item, &taken));
    }
    for field in ["uid", "resourceVersion"] {
        patch["metadata"][field] = live["metadata"][field].clone();
    }
    Ok(Step::Change(Proposal { change: Change::Merge(patch), live, taken }))
}

/// Checks an object as it would be stored; violations carry the manifest's path.
fn check(item: &Item, before: Option<&Value>, object: &Value) -> Result<(), Error> {
    let faults = rule::check(item, before, object);
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
