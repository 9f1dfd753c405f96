//! The one list of fields that the engine does not act on yet.
//!
//! A rollout that uses one of them is stored and left alone as a whole: nothing is skipped in silence. Later versions shorten
//! this list.

use crate::crd::{BlueGreenStrategy, CanaryStep, CanaryStrategy, Rollout, StepAction};

/// The fields of a rollout that are not acted on yet, by their path; empty when all are.
#[must_use]
pub fn fields(rollout: &Rollout) -> Vec<String> {
    let spec = &rollout.spec;
    let strategy = spec.strategy.as_ref();
    let mut used = Vec::new();
    let mut check = |field: &str, uses: bool| {
        if uses {
            used.push(field.to_owned());
        }
    };
    check("spec.analysis", spec.analysis.is_some());
    if let Some(blue_green) = strategy.and_then(|strategy| strategy.blue_green.as_ref()) {
        used.extend(blue_green_fields(blue_green));
    }
    if let Some(canary) = strategy.and_then(|strategy| strategy.canary.as_ref()) {
        used.extend(canary_fields(canary));
    }
    used
}

fn blue_green_fields(blue_green: &BlueGreenStrategy) -> impl Iterator<Item = String> {
    let uses = [
        ("prePromotionAnalysis", blue_green.pre_promotion_analysis.is_some()),
        ("postPromotionAnalysis", blue_green.post_promotion_analysis.is_some()),
    ];
    let fields = uses.into_iter().filter(|(_, used)| *used);
    fields.map(|(field, _)| format!("spec.strategy.blueGreen.{field}"))
}

fn canary_fields(canary: &CanaryStrategy) -> Vec<String> {
    let uses = [
        ("trafficRouting", canary.traffic_routing.is_some()),
        ("analysis", canary.analysis.is_some()),
        ("pingPong", canary.ping_pong.is_some()),
    ];
    let fields = uses.into_iter().filter(|(_, used)| *used);
    let fields = fields.map(|(field, _)| format!("spec.strategy.canary.{field}"));
    let steps = canary.steps().iter().enumerate().flat_map(|(index, step)| {
        step_fields(step).map(move |action| format!("spec.strategy.canary.steps[{index}].{action}"))
    });
    fields.chain(steps).collect()
}

fn step_fields(step: &CanaryStep) -> impl Iterator<Item = &'static str> {
    let acted_on = |action: &StepAction<'_>| {
        matches!(action, StepAction::SetWeight(_) | StepAction::Pause(_) | StepAction::Plugin(_))
    };
    step.actions().filter(move |action| !acted_on(action)).map(|action| action.name())
}
