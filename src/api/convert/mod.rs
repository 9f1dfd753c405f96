//! Between the messages of the API and the objects that are stored.
//!
//! Each message has one [`Wire`], with both directions side by side; a field that is added to either is missed by the compiler.
//! What a client did not set stays unset, and [`merge`] keeps what the messages do not know. Depends on [`crate::crd`] and the
//! generated messages; [`crate::api::rollouts`] goes on from here.

mod analysis;
mod annotated;
mod fault;
mod labels;
pub(super) mod merge;
pub(super) mod path;
mod rollout;
mod routing;
mod spec;
mod status;
mod step;
mod strategy;
#[cfg(test)]
mod tests;
mod value;

pub(super) use annotated::{annotated_fields, is_annotated, values_text};
pub(super) use fault::{Fault, Faults};
pub(super) use rollout::{Record, decided_annotations, manifest};
pub(super) use value::{json_to_struct, timestamp};

use crate::validate::Path;

/// A message of the API that stands for a part of the stored object.
pub(super) trait Wire: Sized {
    /// The part.
    type Stored;

    /// The message that shows a part.
    fn show(stored: &Self::Stored) -> Self;

    /// The part that a message asks for. `at` is the message's path in the request; what cannot be stored is noted in `faults`.
    fn store(self, at: &Path, faults: &mut Faults) -> Self::Stored;
}

/// Shows a part that may be absent.
fn show<W: Wire>(stored: Option<&W::Stored>) -> Option<W> {
    stored.map(W::show)
}

/// Shows a list; an absent one is empty.
fn show_all<W: Wire>(stored: Option<&Vec<W::Stored>>) -> Vec<W> {
    stored.into_iter().flatten().map(W::show).collect()
}

/// Stores a part that may be unset.
fn store<W: Wire>(message: Option<W>, at: &Path, faults: &mut Faults) -> Option<W::Stored> {
    message.map(|message| message.store(at, faults))
}

/// Stores a list; an empty one is absent.
fn store_all<W: Wire>(messages: Vec<W>, at: &Path, faults: &mut Faults) -> Option<Vec<W::Stored>> {
    filled(store_each(messages, at, faults))
}

/// Stores a list that is never absent.
fn store_each<W: Wire>(messages: Vec<W>, at: &Path, faults: &mut Faults) -> Vec<W::Stored> {
    messages.into_iter().enumerate().map(|(index, message)| message.store(&at.index(index), faults)).collect()
}

/// A value of the API that is unset when it is empty.
trait Emptiness {
    fn is_unset(&self) -> bool;
}

impl Emptiness for String {
    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

impl<T> Emptiness for Vec<T> {
    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Emptiness for std::collections::BTreeMap<K, V> {
    fn is_unset(&self) -> bool {
        self.is_empty()
    }
}

/// A value, unless it is unset.
fn filled<T: Emptiness>(value: T) -> Option<T> {
    (!value.is_unset()).then_some(value)
}
