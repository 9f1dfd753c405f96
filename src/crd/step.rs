//! The steps of a canary: one action each, which the wire has as optional fields side by side.
//!
//! Depends on `analysis`, `metadata`, `int_or_string`. [`CanaryStep::action`] gives the one action;
//! `plan/` walks them, `validate/` reports steps with none or several.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_with::skip_serializing_none;

use super::go_duration::{self, DurationError};
use super::open_enum::open_enum;
use super::schema::AnyObject;
use super::{
    AnalysisRunArgument, AnalysisRunMetadata, DryRun, Extra, IntOrString, LabelSelector, NotOne,
    PodTemplateMetadata, RolloutAnalysis,
};

/// One step of a canary, as on the wire. Exactly one action is meant to be set.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryStep {
    /// Sends this share of traffic to the new version, in percent, or of maxTrafficWeight.
    pub set_weight: Option<i32>,
    /// Waits, for a time or until somebody promotes.
    pub pause: Option<RolloutPause>,
    /// Runs an Experiment and waits for its end.
    pub experiment: Option<RolloutExperimentStep>,
    /// Runs an analysis and waits for its end.
    pub analysis: Option<RolloutAnalysis>,
    /// Scales the new ReplicaSet apart from the weight; needs traffic routing.
    pub set_canary_scale: Option<SetCanaryScale>,
    /// Sends requests with certain headers to the new version.
    pub set_header_route: Option<SetHeaderRoute>,
    /// Mirrors requests to the new version.
    pub set_mirror_route: Option<SetMirrorRoute>,
    /// Runs a step plugin and waits for its end.
    pub plugin: Option<PluginStep>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// The action of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StepAction<'a> {
    /// `setWeight`: percent, or parts of maxTrafficWeight.
    SetWeight(i32),
    /// `pause`.
    Pause(&'a RolloutPause),
    /// `experiment`.
    Experiment(&'a RolloutExperimentStep),
    /// `analysis`.
    Analysis(&'a RolloutAnalysis),
    /// `setCanaryScale`.
    SetCanaryScale(&'a SetCanaryScale),
    /// `setHeaderRoute`.
    SetHeaderRoute(&'a SetHeaderRoute),
    /// `setMirrorRoute`.
    SetMirrorRoute(&'a SetMirrorRoute),
    /// `plugin`.
    Plugin(&'a PluginStep),
}

impl StepAction<'_> {
    /// The action's field name on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::SetWeight(_) => "setWeight",
            Self::Pause(_) => "pause",
            Self::Experiment(_) => "experiment",
            Self::Analysis(_) => "analysis",
            Self::SetCanaryScale(_) => "setCanaryScale",
            Self::SetHeaderRoute(_) => "setHeaderRoute",
            Self::SetMirrorRoute(_) => "setMirrorRoute",
            Self::Plugin(_) => "plugin",
        }
    }
}

impl CanaryStep {
    /// The actions that are set, in the order of the wire's fields.
    pub fn actions(&self) -> impl Iterator<Item = StepAction<'_>> {
        [
            self.set_weight.map(StepAction::SetWeight),
            self.pause.as_ref().map(StepAction::Pause),
            self.experiment.as_ref().map(StepAction::Experiment),
            self.analysis.as_ref().map(StepAction::Analysis),
            self.set_canary_scale.as_ref().map(StepAction::SetCanaryScale),
            self.set_header_route.as_ref().map(StepAction::SetHeaderRoute),
            self.set_mirror_route.as_ref().map(StepAction::SetMirrorRoute),
            self.plugin.as_ref().map(StepAction::Plugin),
        ]
        .into_iter()
        .flatten()
    }

    /// The one action.
    ///
    /// # Errors
    ///
    /// [`NotOne`] with the fields that were given, when that is not exactly one.
    pub fn action(&self) -> Result<StepAction<'_>, NotOne> {
        let mut actions = self.actions();
        match (actions.next(), actions.next()) {
            (Some(action), None) => Ok(action),
            _ => Err(NotOne {
                given: self.actions().map(|action| action.name()).collect(),
                unknown: self.extra.keys().cloned().collect(),
            }),
        }
    }
}

/// A wait between two steps.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutPause {
    /// How long: a number of seconds, or a duration such as 30s, 5m or 1h30m. Without it the pause lasts
    /// until somebody promotes.
    pub duration: Option<IntOrString>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

impl RolloutPause {
    /// How long the pause lasts, in whole seconds; `None` when only a promotion ends it.
    ///
    /// A string of decimal digits counts seconds; any other is a Go duration, whose fraction of a second
    /// is dropped (`DurationSeconds` in Argo Rollouts' types.go). Negative values come back as they are.
    ///
    /// # Errors
    ///
    /// [`DurationError`] for a string that is neither, or that has more seconds than an int32.
    pub fn duration_seconds(&self) -> Result<Option<i32>, DurationError> {
        let text = match &self.duration {
            None => return Ok(None),
            Some(IntOrString::Int(seconds)) => return Ok(Some(*seconds)),
            Some(IntOrString::String(text)) => text,
        };
        if let Ok(seconds) = text.parse() {
            return Ok(Some(seconds));
        }
        let seconds = go_duration::parse(text)?.as_secs();
        i32::try_from(seconds).map(Some).map_err(|_| DurationError::TooLong(text.clone()))
    }
}

/// How far to scale the new ReplicaSet: one of the three, kept until the next such step.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetCanaryScale {
    /// In percent of spec.replicas.
    pub weight: Option<i32>,
    /// As a number of pods.
    pub replicas: Option<i32>,
    /// Follow the traffic weight again. Default false.
    pub match_traffic_weight: Option<bool>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// Requests with certain headers go to the new version. Without `match` the route is removed.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetHeaderRoute {
    /// Name of the route, one of trafficRouting.managedRoutes.
    pub name: Option<String>,
    /// The headers; all must match.
    #[serde(rename = "match")]
    pub matches: Option<Vec<HeaderRoutingMatch>>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A header to match.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderRoutingMatch {
    /// Name of the request header.
    pub header_name: String,
    /// What its value must match.
    pub header_value: StringMatch,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// Requests that match are mirrored to the new version. Without `match` the route is removed.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetMirrorRoute {
    /// Name of the route, one of trafficRouting.managedRoutes.
    pub name: String,
    /// Which requests; any rule suffices.
    #[serde(rename = "match")]
    pub matches: Option<Vec<RouteMatch>>,
    /// How much of the matching traffic to mirror, in percent.
    pub percentage: Option<i32>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// What a mirrored request must look like.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// The HTTP method.
    pub method: Option<StringMatch>,
    /// The path.
    pub path: Option<StringMatch>,
    /// Headers by name.
    pub headers: Option<BTreeMap<String, StringMatch>>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A rule for a string: one of the three.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StringMatch {
    /// It is exactly this.
    pub exact: Option<String>,
    /// It begins with this.
    pub prefix: Option<String>,
    /// It matches this regular expression.
    pub regex: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A step that a plugin performs.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PluginStep {
    /// Name of the plugin.
    pub name: String,
    /// Configuration for the plugin, which alone knows its form.
    #[schemars(with = "Option<AnyObject>")]
    pub config: Option<Value>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// A step that runs an Experiment.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutExperimentStep {
    /// The ReplicaSets of the Experiment.
    pub templates: Vec<RolloutExperimentTemplate>,
    /// How long it runs, such as 30s, 5m or 1h; without it, until its required analyses are done.
    pub duration: Option<String>,
    /// The analyses that run beside it.
    pub analyses: Option<Vec<RolloutExperimentStepAnalysisTemplateRef>>,
    /// Metrics that are measured without deciding anything.
    pub dry_run: Option<Vec<DryRun>>,
    /// Labels and annotations for the AnalysisRuns.
    pub analysis_run_metadata: Option<AnalysisRunMetadata>,
    /// Seconds before the Experiment's ReplicaSets are scaled away at its end.
    pub scale_down_delay_seconds: Option<i32>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// One ReplicaSet of an Experiment.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutExperimentTemplate {
    /// Name of the template.
    pub name: String,
    /// Whose pod template it takes: canary or stable.
    pub spec_ref: ReplicaSetSpecRef,
    /// Number of pods. Default 1.
    pub replicas: Option<i32>,
    /// Labels and annotations for the ReplicaSet and its pods.
    pub metadata: Option<PodTemplateMetadata>,
    /// Selector of the ReplicaSet; without it, the Rollout's.
    pub selector: Option<LabelSelector>,
    /// Share of traffic for these pods, in percent.
    pub weight: Option<i32>,
    /// A Service made for these pods.
    pub service: Option<TemplateService>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

open_enum! {
    /// Whose pod template an Experiment takes.
    ReplicaSetSpecRef {
        /// The new ReplicaSet's.
        Canary = "canary",
        /// The stable ReplicaSet's.
        Stable = "stable",
    }
}

/// A Service made for the pods of an Experiment.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateService {
    /// Name of the Service; without it, the ReplicaSet's name.
    pub name: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

/// An analysis beside an Experiment.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutExperimentStepAnalysisTemplateRef {
    /// Name of this analysis within the Experiment.
    pub name: String,
    /// Name of the analysis template.
    pub template_name: String,
    /// Whether it is a ClusterAnalysisTemplate. Default false.
    pub cluster_scope: Option<bool>,
    /// Arguments handed to the run.
    pub args: Option<Vec<AnalysisRunArgument>>,
    /// Whether the Experiment waits for the end of this analysis. Default false.
    pub required_for_completion: Option<bool>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub extra: Extra,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn step(json: Value) -> CanaryStep {
        from_value(json).unwrap()
    }

    #[test]
    fn a_step_gives_its_one_action() {
        let cases = [
            (json!({ "setWeight": 0 }), "setWeight"),
            (json!({ "pause": {} }), "pause"),
            (json!({ "experiment": { "templates": [] } }), "experiment"),
            (json!({ "analysis": {} }), "analysis"),
            (json!({ "setCanaryScale": {} }), "setCanaryScale"),
            (json!({ "setHeaderRoute": {} }), "setHeaderRoute"),
            (json!({ "setMirrorRoute": { "name": "m" } }), "setMirrorRoute"),
            (json!({ "plugin": { "name": "p" } }), "plugin"),
        ];
        for (json, name) in cases {
            assert_eq!(step(json).action().map(|action| action.name()), Ok(name));
        }
        assert_eq!(step(json!({ "setWeight": 20 })).action(), Ok(StepAction::SetWeight(20)));
    }

    #[test]
    fn a_step_with_none_or_several_actions_says_what_was_given() {
        let none = step(json!({})).action().unwrap_err();
        assert_eq!(none.to_string(), "exactly one is required, none was given");
        let two = step(json!({ "pause": {}, "setWeight": 20 })).action().unwrap_err();
        assert_eq!(two.given, ["setWeight", "pause"]);
        assert_eq!(two.to_string(), "exactly one is required, 2 were given: setWeight, pause");
        let misspelt = step(json!({ "setWieght": 20 })).action().unwrap_err();
        assert_eq!((misspelt.given, misspelt.unknown), (vec![], vec!["setWieght".to_owned()]));
    }

    #[test]
    fn a_pause_lasts_whole_seconds() {
        let cases = [
            (json!({}), Ok(None)),
            (json!({ "duration": 0 }), Ok(Some(0))),
            (json!({ "duration": 90 }), Ok(Some(90))),
            (json!({ "duration": -1 }), Ok(Some(-1))),
            (json!({ "duration": "90" }), Ok(Some(90))),
            (json!({ "duration": "+90" }), Ok(Some(90))),
            (json!({ "duration": "-90" }), Ok(Some(-90))),
            (json!({ "duration": "1h30m" }), Ok(Some(5400))),
            (json!({ "duration": "1.9s" }), Ok(Some(1))),
            (json!({ "duration": "-1.9s" }), Ok(Some(-1))),
            (json!({ "duration": "999ms" }), Ok(Some(0))),
            (json!({ "duration": "" }), Err(DurationError::Malformed(String::new()))),
            (
                json!({ "duration": "1 hour" }),
                Err(DurationError::UnknownUnit("1 hour".into(), " hour".into())),
            ),
            (json!({ "duration": "1d" }), Err(DurationError::UnknownUnit("1d".into(), "d".into()))),
            (json!({ "duration": "2147483648" }), Err(DurationError::MissingUnit("2147483648".into()))),
            (json!({ "duration": "600000h" }), Err(DurationError::TooLong("600000h".into()))),
        ];
        for (pause, seconds) in cases {
            let decoded: RolloutPause = from_value(pause.clone()).unwrap();
            assert_eq!(decoded.duration_seconds(), seconds, "{pause}");
        }
    }
}
