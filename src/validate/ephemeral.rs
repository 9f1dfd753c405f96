//! The metadata that a strategy has for pods: what no pod could bear, and what pods are found by.

use super::labels;
use super::path::Path;
use super::violation::Violation;
use crate::crd::{PodTemplateMetadata, RolloutSpec};

/// All violations of the metadata of a spec's strategy.
pub(super) fn metadata(spec: &RolloutSpec, path: &Path) -> Vec<Violation> {
    given(spec, path).into_iter().flat_map(|(metadata, path)| of(metadata, spec, &path)).collect()
}

/// The metadata that a spec's strategy has for pods, with its path.
pub(super) fn given<'a>(spec: &'a RolloutSpec, path: &Path) -> Vec<(&'a PodTemplateMetadata, Path)> {
    let Some(strategy) = &spec.strategy else { return Vec::new() };
    let canary = strategy.canary.iter().flat_map(|canary| {
        [
            ("canary", "canaryMetadata", canary.canary_metadata.as_ref()),
            ("canary", "stableMetadata", canary.stable_metadata.as_ref()),
        ]
    });
    let blue_green = strategy.blue_green.iter().flat_map(|strategy| {
        [
            ("blueGreen", "previewMetadata", strategy.preview_metadata.as_ref()),
            ("blueGreen", "activeMetadata", strategy.active_metadata.as_ref()),
        ]
    });
    let given =
        canary.chain(blue_green).filter_map(|(strategy, field, metadata)| Some((strategy, field, metadata?)));
    given.map(|(strategy, field, metadata)| (metadata, path.field(strategy).field(field))).collect()
}

fn of(metadata: &PodTemplateMetadata, spec: &RolloutSpec, path: &Path) -> Vec<Violation> {
    let mut violations = labels::labels(metadata.labels.as_ref(), &path.field("labels"));
    let selected = spec.selector.as_ref().and_then(|selector| selector.match_labels.as_ref());
    for (key, value) in metadata.labels.iter().flatten() {
        let is_moved = selected.and_then(|labels| labels.get(key)).is_some_and(|selected| selected != value);
        if is_moved {
            let rule = "is a label that the rollout's pods are found by";
            violations.push(Violation::forbidden(path.field("labels").key(key), rule));
        }
    }
    for key in metadata.annotations.iter().flatten().map(|(key, _)| key) {
        if let Some(rule) = labels::key_rule(&key.to_lowercase()) {
            violations.push(Violation::invalid(path.field("annotations"), key.as_str(), rule));
        }
    }
    violations
}
