//! Which rollouts a list or a watch is about: a span of namespaces, a label selector and a filter.

use super::convert::Record;
use super::error::Error;
use super::filter::Filter;
use super::name::Span;
use super::selector::Selector;
use crate::store::RolloutRecord;

/// What is asked for; all of it must hold.
#[derive(Clone, Debug)]
pub(super) struct Selection {
    /// The namespaces.
    pub span: Span,
    /// What labels must be like.
    pub selector: Selector,
    /// What the rollout must be like.
    pub filter: Filter,
}

impl Selection {
    /// Reads `label_selector` and `filter` of a request.
    pub(super) fn parse(span: Span, label_selector: &str, filter: &str) -> Result<Self, Error> {
        Ok(Self { span, selector: Selector::parse(label_selector)?, filter: Filter::parse(filter)? })
    }

    /// Whether a rollout is meant.
    pub(super) fn selects(&self, rollout: &RolloutRecord) -> bool {
        let metadata = kube::Resource::meta(rollout);
        self.span.namespace().is_none_or(|namespace| metadata.namespace.as_deref() == Some(namespace))
            && self.selector.matches(metadata.labels.as_ref())
            && self.filter.matches(Record::from(rollout))
    }
}
