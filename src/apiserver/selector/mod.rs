//! Selectors of list, watch and deletecollection: by label and by field.
//!
//! Depends on [`super::names`], [`super::field`] and [`super::object`]. The handlers parse them from the query;
//! the store's watchers keep them.

mod field;
mod label;

pub(crate) use field::FieldSelector;
pub(crate) use label::LabelSelector;
