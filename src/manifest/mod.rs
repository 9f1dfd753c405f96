//! What a manifest says, without a cluster: its documents, the objects that they are about, and what is wrong with them.
//!
//! Pure. ApplyManifest and the client's offline lint look at manifests with the same eyes: [`document`] reads the text, [`item`]
//! finds the objects, [`form`] looks at their form, [`rule`] at their rules and [`mod@reference`] at how they go together; [`position`]
//! knows the lines.

pub mod document;
mod fault;
pub mod form;
pub mod item;
pub mod kind;
pub mod name;
pub mod position;
pub mod reference;
pub mod rule;

pub use document::Document;
pub use fault::{Fault, Location};
pub use item::Item;
