//! Analyses that a rollout runs.

use super::{Faults, Wire, filled, show, show_all, store, store_all};
use crate::crd::{self, Extra, PodTemplateHashValue};
use crate::pb::v1;
use crate::validate::Path;
use v1::analysis_argument_source::{PodTemplateHash, Source};

impl Wire for v1::RolloutAnalysis {
    type Stored = crd::RolloutAnalysis;

    fn show(stored: &crd::RolloutAnalysis) -> Self {
        let crd::RolloutAnalysis {
            templates,
            args,
            dry_run,
            measurement_retention,
            analysis_run_metadata,
            extra: _,
        } = stored;
        Self {
            templates: show_all(templates.as_ref()),
            args: show_all(args.as_ref()),
            dry_run: show_all(dry_run.as_ref()),
            measurement_retention: show_all(measurement_retention.as_ref()),
            analysis_run_metadata: show(analysis_run_metadata.as_ref()),
        }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::RolloutAnalysis {
        let Self { templates, args, dry_run, measurement_retention, analysis_run_metadata } = self;
        crd::RolloutAnalysis {
            templates: store_all(templates, &at.field("templates"), faults),
            args: store_all(args, &at.field("args"), faults),
            dry_run: store_all(dry_run, &at.field("dry_run"), faults),
            measurement_retention: store_all(
                measurement_retention,
                &at.field("measurement_retention"),
                faults,
            ),
            analysis_run_metadata: store(analysis_run_metadata, at.field("analysis_run_metadata"), faults),
            extra: Extra::new(),
        }
    }
}

impl Wire for v1::BackgroundAnalysis {
    type Stored = crd::RolloutAnalysisBackground;

    fn show(stored: &crd::RolloutAnalysisBackground) -> Self {
        let crd::RolloutAnalysisBackground { analysis, starting_step } = stored;
        Self { analysis: Some(Wire::show(analysis)), starting_step: *starting_step }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::RolloutAnalysisBackground {
        let Self { analysis, starting_step } = self;
        let analysis = store(analysis, at.field("analysis"), faults).unwrap_or_default();
        crd::RolloutAnalysisBackground { analysis, starting_step }
    }
}

impl Wire for v1::AnalysisTemplateRef {
    type Stored = crd::AnalysisTemplateRef;

    fn show(stored: &crd::AnalysisTemplateRef) -> Self {
        let crd::AnalysisTemplateRef { template_name, cluster_scope, extra: _ } = stored;
        Self { template_name: template_name.clone().unwrap_or_default(), cluster_scope: *cluster_scope }
    }

    fn store(self, _: &Path, _: &mut Faults) -> crd::AnalysisTemplateRef {
        let Self { template_name, cluster_scope } = self;
        crd::AnalysisTemplateRef { template_name: filled(template_name), cluster_scope, extra: Extra::new() }
    }
}

impl Wire for v1::AnalysisArgument {
    type Stored = crd::AnalysisRunArgument;

    fn show(stored: &crd::AnalysisRunArgument) -> Self {
        let crd::AnalysisRunArgument { name, value, value_from, extra: _ } = stored;
        Self {
            name: name.clone(),
            value: value.clone().unwrap_or_default(),
            value_from: show(value_from.as_ref()),
        }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::AnalysisRunArgument {
        let Self { name, value, value_from } = self;
        crd::AnalysisRunArgument {
            name,
            value: filled(value),
            value_from: store(value_from, at.field("value_from"), faults),
            extra: Extra::new(),
        }
    }
}

impl Wire for v1::AnalysisArgumentSource {
    type Stored = crd::ArgumentValueFrom;

    fn show(stored: &crd::ArgumentValueFrom) -> Self {
        let crd::ArgumentValueFrom { pod_template_hash_value, field_ref, extra: _ } = stored;
        let source = match (pod_template_hash_value, field_ref) {
            (Some(PodTemplateHashValue::Stable), _) => Some(PodTemplateHash::Stable),
            (Some(PodTemplateHashValue::Latest), _) => Some(PodTemplateHash::Latest),
            (Some(PodTemplateHashValue::Other(_)), _) => Some(PodTemplateHash::Unspecified),
            (None, _) => None,
        };
        let source = source.map(|hash| Source::PodTemplateHashValue(hash.into()));
        let path = field_ref.as_ref().map(|field| Source::FieldPath(field.field_path.clone()));
        Self { source: source.or(path) }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::ArgumentValueFrom {
        let mut stored = crd::ArgumentValueFrom::default();
        match self.source {
            None => {}
            Some(Source::FieldPath(field_path)) => {
                stored.field_ref = Some(crd::FieldRef { field_path, extra: Extra::new() });
            }
            Some(Source::PodTemplateHashValue(hash)) => {
                stored.pod_template_hash_value = match PodTemplateHash::try_from(hash) {
                    Ok(PodTemplateHash::Stable) => Some(PodTemplateHashValue::Stable),
                    Ok(PodTemplateHash::Latest) => Some(PodTemplateHashValue::Latest),
                    Ok(PodTemplateHash::Unspecified) | Err(_) => {
                        let at = at.field("pod_template_hash_value");
                        faults.note(&at, "must be POD_TEMPLATE_HASH_STABLE or POD_TEMPLATE_HASH_LATEST");
                        None
                    }
                };
            }
        }
        stored
    }
}

impl Wire for v1::DryRunMetric {
    type Stored = crd::DryRun;

    fn show(stored: &crd::DryRun) -> Self {
        let crd::DryRun { metric_name, extra: _ } = stored;
        Self { metric_name: metric_name.clone() }
    }

    fn store(self, _: &Path, _: &mut Faults) -> crd::DryRun {
        let Self { metric_name } = self;
        crd::DryRun { metric_name, extra: Extra::new() }
    }
}

impl Wire for v1::MeasurementRetention {
    type Stored = crd::MeasurementRetention;

    fn show(stored: &crd::MeasurementRetention) -> Self {
        let crd::MeasurementRetention { metric_name, limit, extra: _ } = stored;
        Self { metric_name: metric_name.clone(), limit: *limit }
    }

    fn store(self, _: &Path, _: &mut Faults) -> crd::MeasurementRetention {
        let Self { metric_name, limit } = self;
        crd::MeasurementRetention { metric_name, limit, extra: Extra::new() }
    }
}
