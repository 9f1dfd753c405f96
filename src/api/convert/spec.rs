//! The spec as a whole.

use super::value::{json_to_struct, struct_to_json};
use super::{Faults, Wire, filled, show, store};
use crate::crd::{self, Extra};
use crate::pb::v1;
use crate::validate::Path;
use v1::rollout_spec::Strategy;

impl Wire for v1::RolloutSpec {
    type Stored = crd::RolloutSpec;

    fn show(stored: &crd::RolloutSpec) -> Self {
        let crd::RolloutSpec {
            replicas,
            selector,
            template,
            workload_ref,
            min_ready_seconds,
            rollback_window,
            strategy,
            revision_history_limit,
            paused,
            progress_deadline_seconds,
            progress_deadline_abort,
            restart_at,
            analysis,
            extra: _,
        } = stored;
        let canary = strategy.as_ref().and_then(|strategy| strategy.canary.as_deref());
        let blue_green = strategy.as_ref().and_then(|strategy| strategy.blue_green.as_deref());
        Self {
            replicas: *replicas,
            selector: show(selector.as_ref()),
            template: template.as_ref().and_then(json_to_struct),
            workload_ref: show(workload_ref.as_ref()),
            min_ready_seconds: *min_ready_seconds,
            rollback_window: show(rollback_window.as_ref()),
            strategy: show(canary).map(Strategy::Canary).or(show(blue_green).map(Strategy::BlueGreen)),
            revision_history_limit: *revision_history_limit,
            paused: *paused,
            progress_deadline_seconds: *progress_deadline_seconds,
            progress_deadline_abort: *progress_deadline_abort,
            restart_time: show(restart_at.as_ref()),
            analysis: show(analysis.as_ref()),
            // Annotations hold them.
            environment: None,
            inheritance: None,
            status_labels: None,
        }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::RolloutSpec {
        let Self {
            replicas,
            selector,
            template,
            workload_ref,
            min_ready_seconds,
            rollback_window,
            strategy,
            revision_history_limit,
            paused,
            progress_deadline_seconds,
            progress_deadline_abort,
            restart_time,
            analysis,
            environment: _,
            inheritance: _,
            status_labels: _,
        } = self;
        let strategy = strategy.map(|strategy| {
            let (mut canary, mut blue_green) = (None, None);
            match strategy {
                Strategy::Canary(message) => {
                    canary = Some(Box::new(message.store(&at.field("canary"), faults)));
                }
                Strategy::BlueGreen(message) => {
                    blue_green = Some(Box::new(message.store(&at.field("blue_green"), faults)));
                }
            }
            crd::RolloutStrategy { blue_green, canary, extra: Extra::new() }
        });
        crd::RolloutSpec {
            replicas,
            selector: store(selector, &at.field("selector"), faults),
            template: template.map(|template| struct_to_json(template, &at.field("template"), faults)),
            workload_ref: store(workload_ref, &at.field("workload_ref"), faults),
            min_ready_seconds,
            rollback_window: store(rollback_window, &at.field("rollback_window"), faults),
            strategy,
            revision_history_limit,
            paused,
            progress_deadline_seconds,
            progress_deadline_abort,
            restart_at: store(restart_time, &at.field("restart_time"), faults),
            analysis: store(analysis, &at.field("analysis"), faults),
            extra: Extra::new(),
        }
    }
}

impl Wire for v1::WorkloadRef {
    type Stored = crd::ObjectRef;

    fn show(stored: &crd::ObjectRef) -> Self {
        let crd::ObjectRef { api_version, kind, name, scale_down, extra: _ } = stored;
        Self {
            api_version: api_version.clone().unwrap_or_default(),
            kind: kind.clone().unwrap_or_default(),
            name: name.clone().unwrap_or_default(),
            scale_down: scale_down.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }

    fn store(self, _: &Path, _: &mut Faults) -> crd::ObjectRef {
        let Self { api_version, kind, name, scale_down } = self;
        crd::ObjectRef {
            api_version: filled(api_version),
            kind: filled(kind),
            name: filled(name),
            scale_down: filled(scale_down).map(|text| text.as_str().into()),
            extra: Extra::new(),
        }
    }
}

impl Wire for v1::RollbackWindow {
    type Stored = crd::RollbackWindowSpec;

    fn show(stored: &crd::RollbackWindowSpec) -> Self {
        let crd::RollbackWindowSpec { revisions, extra: _ } = stored;
        Self { revisions: revisions.unwrap_or(0) }
    }

    fn store(self, _: &Path, _: &mut Faults) -> crd::RollbackWindowSpec {
        let Self { revisions } = self;
        crd::RollbackWindowSpec {
            revisions: Some(revisions).filter(|count| *count != 0),
            extra: Extra::new(),
        }
    }
}

impl Wire for v1::AnalysisHistory {
    type Stored = crd::AnalysisRunStrategy;

    fn show(stored: &crd::AnalysisRunStrategy) -> Self {
        let crd::AnalysisRunStrategy {
            successful_run_history_limit,
            unsuccessful_run_history_limit,
            extra: _,
        } = stored;
        Self {
            successful_run_history_limit: *successful_run_history_limit,
            unsuccessful_run_history_limit: *unsuccessful_run_history_limit,
        }
    }

    fn store(self, _: &Path, _: &mut Faults) -> crd::AnalysisRunStrategy {
        let Self { successful_run_history_limit, unsuccessful_run_history_limit } = self;
        crd::AnalysisRunStrategy {
            successful_run_history_limit,
            unsuccessful_run_history_limit,
            extra: Extra::new(),
        }
    }
}
