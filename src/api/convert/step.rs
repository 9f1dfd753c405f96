//! Canary steps.

use super::value::{narrow, widen};
use super::{Faults, Wire, filled, show, show_all, store, store_all, store_each};
use crate::crd::{self, Extra, ReplicaSetSpecRef};
use crate::pb::v1;
use crate::validate::Path;
use v1::canary_step::Step;
use v1::experiment_step_template::SpecRef;
use v1::set_canary_scale::Scale;

impl Wire for v1::CanaryStep {
    type Stored = crd::CanaryStep;

    /// Of several actions, which only an object written elsewhere can have, the first is shown.
    fn show(stored: &crd::CanaryStep) -> Self {
        let crd::CanaryStep {
            set_weight,
            pause,
            experiment,
            analysis,
            set_canary_scale,
            set_header_route,
            set_mirror_route,
            plugin,
            extra: _,
        } = stored;
        let step = None
            .or_else(|| set_weight.map(Step::SetWeight))
            .or_else(|| show(pause.as_ref()).map(Step::Pause))
            .or_else(|| show(experiment.as_ref()).map(Step::Experiment))
            .or_else(|| show(analysis.as_ref()).map(Step::Analysis))
            .or_else(|| show(set_canary_scale.as_ref()).map(Step::SetCanaryScale))
            .or_else(|| show(set_header_route.as_ref()).map(Step::SetHeaderRoute))
            .or_else(|| show(set_mirror_route.as_ref()).map(Step::SetMirrorRoute))
            .or_else(|| show(plugin.as_ref()).map(Step::Plugin));
        Self { step }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::CanaryStep {
        let mut stored = crd::CanaryStep::default();
        match self.step {
            // Found by validation, with the same words as for a manifest.
            None => {}
            Some(Step::SetWeight(weight)) => stored.set_weight = Some(weight),
            Some(Step::Pause(pause)) => stored.pause = Some(pause.store(&at.field("pause"), faults)),
            Some(Step::Experiment(experiment)) => {
                stored.experiment = Some(experiment.store(&at.field("experiment"), faults));
            }
            Some(Step::Analysis(analysis)) => {
                stored.analysis = Some(analysis.store(&at.field("analysis"), faults));
            }
            Some(Step::SetCanaryScale(scale)) => {
                stored.set_canary_scale = Some(scale.store(&at.field("set_canary_scale"), faults));
            }
            Some(Step::SetHeaderRoute(route)) => {
                stored.set_header_route = Some(route.store(&at.field("set_header_route"), faults));
            }
            Some(Step::SetMirrorRoute(route)) => {
                stored.set_mirror_route = Some(route.store(&at.field("set_mirror_route"), faults));
            }
            Some(Step::Plugin(plugin)) => stored.plugin = Some(plugin.store(&at.field("plugin"), faults)),
        }
        stored
    }
}

impl Wire for v1::PauseStep {
    type Stored = crd::RolloutPause;

    fn show(stored: &crd::RolloutPause) -> Self {
        let crd::RolloutPause { duration, extra: _ } = stored;
        Self { duration: show(duration.as_ref()) }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::RolloutPause {
        let Self { duration } = self;
        crd::RolloutPause { duration: store(duration, at.field("duration"), faults), extra: Extra::new() }
    }
}

impl Wire for v1::SetCanaryScale {
    type Stored = crd::SetCanaryScale;

    /// Of several, which only an object written elsewhere can have, the one that counts is shown (contract A4).
    fn show(stored: &crd::SetCanaryScale) -> Self {
        let crd::SetCanaryScale { weight, replicas, match_traffic_weight, extra: _ } = stored;
        let scale = None
            .or_else(|| weight.map(Scale::Weight))
            .or_else(|| replicas.map(Scale::Replicas))
            .or_else(|| match_traffic_weight.map(Scale::MatchTrafficWeight));
        Self { scale }
    }

    fn store(self, _: &Path, _: &mut Faults) -> crd::SetCanaryScale {
        let mut stored = crd::SetCanaryScale::default();
        match self.scale {
            None => {}
            Some(Scale::Weight(weight)) => stored.weight = Some(weight),
            Some(Scale::Replicas(replicas)) => stored.replicas = Some(replicas),
            Some(Scale::MatchTrafficWeight(matches)) => stored.match_traffic_weight = Some(matches),
        }
        stored
    }
}

impl Wire for v1::PluginStep {
    type Stored = crd::PluginStep;

    fn show(stored: &crd::PluginStep) -> Self {
        let crd::PluginStep { name, config, extra: _ } = stored;
        Self { name: name.clone(), config: config.as_ref().map(widen) }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::PluginStep {
        let Self { name, config } = self;
        let config = config.map(|config| narrow(config, &at.field("config"), faults));
        crd::PluginStep { name, config, extra: Extra::new() }
    }
}

impl Wire for v1::ExperimentStep {
    type Stored = crd::RolloutExperimentStep;

    fn show(stored: &crd::RolloutExperimentStep) -> Self {
        let crd::RolloutExperimentStep {
            templates,
            duration,
            analyses,
            dry_run,
            analysis_run_metadata,
            scale_down_delay_seconds,
            extra: _,
        } = stored;
        Self {
            templates: show_all(Some(templates)),
            duration: duration.clone().unwrap_or_default(),
            analyses: show_all(analyses.as_ref()),
            dry_run: show_all(dry_run.as_ref()),
            analysis_run_metadata: show(analysis_run_metadata.as_ref()),
            scale_down_delay_seconds: *scale_down_delay_seconds,
        }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::RolloutExperimentStep {
        let Self { templates, duration, analyses, dry_run, analysis_run_metadata, scale_down_delay_seconds } =
            self;
        crd::RolloutExperimentStep {
            templates: store_each(templates, &at.field("templates"), faults),
            duration: filled(duration),
            analyses: store_all(analyses, &at.field("analyses"), faults),
            dry_run: store_all(dry_run, &at.field("dry_run"), faults),
            analysis_run_metadata: store(analysis_run_metadata, at.field("analysis_run_metadata"), faults),
            scale_down_delay_seconds,
            extra: Extra::new(),
        }
    }
}

impl Wire for v1::ExperimentStepTemplate {
    type Stored = crd::RolloutExperimentTemplate;

    fn show(stored: &crd::RolloutExperimentTemplate) -> Self {
        let crd::RolloutExperimentTemplate {
            name,
            spec_ref,
            replicas,
            metadata,
            selector,
            weight,
            service,
            extra: _,
        } = stored;
        let spec_ref = match spec_ref {
            ReplicaSetSpecRef::Canary => SpecRef::Canary,
            ReplicaSetSpecRef::Stable => SpecRef::Stable,
            ReplicaSetSpecRef::Other(_) => SpecRef::Unspecified,
        };
        Self {
            name: name.clone(),
            spec_ref: spec_ref.into(),
            replicas: *replicas,
            metadata: show(metadata.as_ref()),
            selector: show(selector.as_ref()),
            weight: *weight,
            service: show(service.as_ref()),
        }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::RolloutExperimentTemplate {
        let spec_ref = match self.spec_ref() {
            SpecRef::Canary => ReplicaSetSpecRef::Canary,
            SpecRef::Stable => ReplicaSetSpecRef::Stable,
            SpecRef::Unspecified => {
                faults.note(&at.field("spec_ref"), "is required");
                ReplicaSetSpecRef::Other(String::new())
            }
        };
        let Self { name, spec_ref: _, replicas, metadata, selector, weight, service } = self;
        crd::RolloutExperimentTemplate {
            name,
            spec_ref,
            replicas,
            metadata: store(metadata, at.field("metadata"), faults),
            selector: store(selector, at.field("selector"), faults),
            weight,
            service: store(service, at.field("service"), faults),
            extra: Extra::new(),
        }
    }
}

impl Wire for v1::ExperimentService {
    type Stored = crd::TemplateService;

    fn show(stored: &crd::TemplateService) -> Self {
        let crd::TemplateService { name, extra: _ } = stored;
        Self { name: name.clone().unwrap_or_default() }
    }

    fn store(self, _: &Path, _: &mut Faults) -> crd::TemplateService {
        let Self { name } = self;
        crd::TemplateService { name: filled(name), extra: Extra::new() }
    }
}

impl Wire for v1::ExperimentStepAnalysis {
    type Stored = crd::RolloutExperimentStepAnalysisTemplateRef;

    fn show(stored: &crd::RolloutExperimentStepAnalysisTemplateRef) -> Self {
        let crd::RolloutExperimentStepAnalysisTemplateRef {
            name,
            template_name,
            cluster_scope,
            args,
            required_for_completion,
            extra: _,
        } = stored;
        Self {
            name: name.clone(),
            template_name: template_name.clone(),
            cluster_scope: *cluster_scope,
            args: show_all(args.as_ref()),
            required_for_completion: *required_for_completion,
        }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::RolloutExperimentStepAnalysisTemplateRef {
        let Self { name, template_name, cluster_scope, args, required_for_completion } = self;
        crd::RolloutExperimentStepAnalysisTemplateRef {
            name,
            template_name,
            cluster_scope,
            args: store_all(args, &at.field("args"), faults),
            required_for_completion,
            extra: Extra::new(),
        }
    }
}
