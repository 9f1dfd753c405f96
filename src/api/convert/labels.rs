//! Label selectors, and labels and annotations for objects that a rollout makes.

use super::{Faults, Wire, filled, show_all, store_all};
use crate::crd::{self, Extra};
use crate::pb::v1;
use crate::validate::Path;
use v1::label_selector_requirement::Operator;

impl Wire for v1::LabelSelector {
    type Stored = crd::LabelSelector;

    fn show(stored: &crd::LabelSelector) -> Self {
        let crd::LabelSelector { match_labels, match_expressions, extra: _ } = stored;
        Self {
            match_labels: match_labels.clone().unwrap_or_default(),
            match_expressions: show_all(match_expressions.as_ref()),
        }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::LabelSelector {
        let Self { match_labels, match_expressions } = self;
        crd::LabelSelector {
            match_labels: filled(match_labels),
            match_expressions: store_all(match_expressions, &at.field("match_expressions"), faults),
            extra: Extra::new(),
        }
    }
}

impl Wire for v1::LabelSelectorRequirement {
    type Stored = crd::LabelSelectorRequirement;

    fn show(stored: &crd::LabelSelectorRequirement) -> Self {
        let crd::LabelSelectorRequirement { key, operator, values, extra: _ } = stored;
        let operator = match operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => Operator::Unspecified,
        };
        Self { key: key.clone(), operator: operator.into(), values: values.clone().unwrap_or_default() }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::LabelSelectorRequirement {
        let operator = match self.operator() {
            Operator::In => "In",
            Operator::NotIn => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
            Operator::Unspecified => {
                faults.note(&at.field("operator"), "is required");
                ""
            }
        };
        let Self { key, operator: _, values } = self;
        let values = filled(values);
        crd::LabelSelectorRequirement { key, operator: operator.to_owned(), values, extra: Extra::new() }
    }
}

impl Wire for v1::PodMetadata {
    type Stored = crd::PodTemplateMetadata;

    fn show(stored: &crd::PodTemplateMetadata) -> Self {
        let crd::PodTemplateMetadata { labels, annotations, extra: _ } = stored;
        Self {
            labels: labels.clone().unwrap_or_default(),
            annotations: annotations.clone().unwrap_or_default(),
        }
    }

    fn store(self, _: &Path, _: &mut Faults) -> crd::PodTemplateMetadata {
        let Self { labels, annotations } = self;
        let (labels, annotations) = (filled(labels), filled(annotations));
        crd::PodTemplateMetadata { labels, annotations, extra: Extra::new() }
    }
}

impl Wire for v1::AnalysisRunMetadata {
    type Stored = crd::AnalysisRunMetadata;

    fn show(stored: &crd::AnalysisRunMetadata) -> Self {
        let crd::AnalysisRunMetadata { labels, annotations, extra: _ } = stored;
        Self {
            labels: labels.clone().unwrap_or_default(),
            annotations: annotations.clone().unwrap_or_default(),
        }
    }

    fn store(self, _: &Path, _: &mut Faults) -> crd::AnalysisRunMetadata {
        let Self { labels, annotations } = self;
        let (labels, annotations) = (filled(labels), filled(annotations));
        crd::AnalysisRunMetadata { labels, annotations, extra: Extra::new() }
    }
}
