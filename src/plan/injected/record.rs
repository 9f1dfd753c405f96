//! What a ReplicaSet records of what was put into it, in annotations (contract 4.1).
//!
//! Argo Rollouts' annotation holds all that was put in, whoever asked for it, so that its controller takes out what ours put in.

use serde_json::Value;

use super::super::observed::ReplicaSet;
use super::metadata::{Kind, Metadata};
use crate::crd::{LabelSelector, keys};

/// The record of one ReplicaSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// What was put in.
    pub(super) injected: Metadata,
    /// What the template has itself under those keys.
    pub(super) overridden: Metadata,
    /// Keys that pods may still have; their values are of no matter.
    pub(super) withdrawn: Metadata,
}

impl Record {
    /// What a set records. Nobody can have put in what its selector needs.
    pub(super) fn of(set: &ReplicaSet) -> Self {
        let read = |key: &str| {
            let mut read = Metadata::read(set.annotations.get(key));
            read.retain(|kind, key| !is_reserved(kind, key, &set.selector));
            read
        };
        let injected = read(keys::EPHEMERAL_METADATA);
        let mut overridden = read(keys::OVERRIDDEN_METADATA);
        overridden.retain(|kind, key| injected.has(kind, key));
        let mut withdrawn = read(keys::WITHDRAWN_METADATA);
        withdrawn.retain(|kind, key| !injected.has(kind, key));
        Self { injected, overridden, withdrawn }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.injected.is_empty() && self.withdrawn.is_empty()
    }

    /// What a template has itself that bears what is recorded here.
    pub(super) fn own(&self, template: &Value) -> Metadata {
        let mut own = Metadata::of_template(template);
        own.retain(|kind, key| !self.injected.has(kind, key) && key != keys::POD_TEMPLATE_HASH);
        own.extend(&self.overridden);
        own
    }

    /// The annotations by which a set that has `self` recorded comes to have `wanted`; null takes one away.
    pub(super) fn changed_to(&self, wanted: &Self) -> Vec<(&'static str, Option<String>)> {
        let parts = [
            (keys::EPHEMERAL_METADATA, &self.injected, &wanted.injected),
            (keys::OVERRIDDEN_METADATA, &self.overridden, &wanted.overridden),
            (keys::WITHDRAWN_METADATA, &self.withdrawn, &wanted.withdrawn),
        ];
        let changed = parts.into_iter().filter(|(_, before, after)| before != after);
        changed.map(|(key, _, after)| (key, after.written())).collect()
    }
}

/// Whether a label is one that the set, its Services or its controller find pods by.
pub(super) fn is_reserved(kind: Kind, key: &str, selector: &LabelSelector) -> bool {
    let is_selected = || {
        let expressions = selector.match_expressions.iter().flatten();
        selector.match_labels.iter().flatten().any(|(label, _)| label.as_str() == key)
            || expressions.into_iter().any(|expression| expression.key == key)
    };
    kind == Kind::Labels
        && (key == keys::POD_TEMPLATE_HASH || key == keys::CONTROLLER_INSTANCE_ID || is_selected())
}
