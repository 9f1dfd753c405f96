//! The workload that a rollout takes its pod template from (contract A1, 4.1, 4.8): what is noted of it, what is missing, and how many
//! replicas a Deployment keeps while a rollout takes over from it.
//!
//! Taking over is done once: it begins with the rollout's first revision and ends when the rollout is healthy and the Deployment has no
//! pods any more. The reference only knows the first revision, so that one which fails leaves the Deployment as it is for ever; here
//! an annotation of the rollout says that taking over goes on, and how many replicas the Deployment had.

use serde_json::{Map, Value, json};

use super::action::{SetAction, WorkloadAction, Write};
use super::blocker::{Blocker, BlockerReason, Object};
use super::event;
use super::metadata;
use super::observed::{Observed, ReplicaSet, Workload};
use super::stance::Stance;
use crate::crd::{RolloutPhase, RolloutStatus, ScaleDown, WorkloadKind, WorkloadName, keys};

/// The workload that the rollout refers to, where there is none of that name.
#[must_use]
pub(super) fn missing(seen: &Observed) -> Option<WorkloadName> {
    let named = seen.rollout.spec.workload_ref.as_ref().and_then(crate::crd::ObjectRef::workload)?;
    seen.workload.is_none().then_some(named)
}

/// Whether the status is about the workload's current template, where the rollout has one from a workload (contract, first fact).
#[must_use]
pub(super) fn is_seen(seen: &Observed) -> bool {
    let observed = seen.rollout.status().workload_observed_generation.as_ref();
    seen.workload.as_ref().is_none_or(|workload| observed == Some(&workload.generation.to_string()))
}

/// status.workloadObservedGeneration.
#[must_use]
pub(super) fn observed_generation(seen: &Observed) -> Option<String> {
    seen.workload.as_ref().map(|workload| workload.generation.to_string())
}

/// The annotation of the rollout that names the workload's generation, where it is another than it should be.
#[must_use]
pub(super) fn generation_note(seen: &Observed) -> Map<String, Value> {
    let is_elsewhere = seen.rollout.spec.workload_ref.is_some() && seen.workload.is_none();
    let mut notes = Map::new();
    // Of a workload that is not there for now nothing new is known.
    if !is_elsewhere {
        note(&mut notes, seen, keys::WORKLOAD_GENERATION, observed_generation(seen).as_ref());
    }
    notes
}

/// All annotations of the rollout about its workload that are to be changed.
#[must_use]
pub(super) fn notes(seen: &Observed) -> Map<String, Value> {
    let mut notes = generation_note(seen);
    let replicas = Takeover::of(seen).and_then(|takeover| {
        let before =
            takeover.before.or(Some(takeover.deployment.replicas).filter(|replicas| *replicas > 0))?;
        (!takeover.is_over(seen)).then_some(before.to_string())
    });
    note(&mut notes, seen, keys::WORKLOAD_REPLICAS, replicas.as_ref());
    notes
}

fn note(notes: &mut Map<String, Value>, seen: &Observed, key: &str, value: Option<&String>) {
    if annotation(seen, key) != value.map(String::as_str) {
        notes.insert(key.to_owned(), json!(value));
    }
}

fn annotation<'a>(seen: &'a Observed, key: &str) -> Option<&'a str> {
    seen.rollout.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// A rollout that takes over from a Deployment.
struct Takeover<'a> {
    deployment: &'a Workload,
    scale_down: &'a ScaleDown,
    /// What the Deployment had before, once that is noted.
    before: Option<i32>,
}

impl<'a> Takeover<'a> {
    fn of(seen: &'a Observed) -> Option<Self> {
        let deployment =
            seen.workload.as_deref().filter(|workload| workload.name.kind == WorkloadKind::Deployment)?;
        let scale_down = seen.rollout.spec.workload_ref.as_ref()?.scale_down();
        let scales = matches!(scale_down, ScaleDown::OnSuccess | ScaleDown::Progressively);
        let before = annotation(seen, keys::WORKLOAD_REPLICAS).and_then(|text| text.parse().ok());
        let before = before.filter(|replicas| *replicas > 0);
        // By what is recorded: the first revision may be over before anything of it could be written (seed 2516).
        let goes_on = metadata::recorded_revision(seen) <= 1 || before.is_some();
        (scales && goes_on).then_some(Self { deployment, scale_down, before })
    }

    /// Whether nothing of it is left to do.
    fn is_over(&self, seen: &Observed) -> bool {
        self.deployment.replicas == 0 && was_healthy(seen)
    }
}

/// Whether the stored status says that all is well: the move then has a reason that everybody can see.
fn was_healthy(seen: &Observed) -> bool {
    seen.rollout.status().phase == Some(RolloutPhase::Healthy)
}

/// Scales the Deployment that the rollout takes over from, while the rollout comes to `status` and its sets to what `sets` makes of them.
#[must_use]
pub(super) fn scaled(
    seen: &Observed,
    stance: &Stance,
    status: &RolloutStatus,
    sets: &[SetAction],
) -> Option<WorkloadAction> {
    // What is over is not begun again by an update that comes before that is noted (seed 9659).
    let takeover = Takeover::of(seen).filter(|takeover| !takeover.is_over(seen))?;
    // What it had must be known before it loses any.
    let before = takeover.before.filter(|_| !stance.fresh)?;
    let deployment = takeover.deployment;
    let is_healthy = was_healthy(seen) && status.phase == Some(RolloutPhase::Healthy);
    let wanted = match takeover.scale_down {
        _ if is_healthy => 0,
        ScaleDown::Progressively => kept(seen, before, sets),
        _ => return None,
    };
    if wanted == deployment.replicas {
        return None;
    }
    let events = vec![event::scaling_workload(&deployment.name, deployment.replicas, wanted)];
    Some(WorkloadAction {
        name: deployment.name.clone(),
        version: deployment.version(),
        write: Write { patch: json!({ "spec": { "replicas": wanted } }), events },
    })
}

/// What the Deployment keeps while the rollout grows: together they have as many pods as the larger of the two wants, and the Deployment
/// never more than it had. When the rollout's pods go, as after an abort, it is given back what it gave.
fn kept(seen: &Observed, before: i32, sets: &[SetAction]) -> i32 {
    let stays = |set: &ReplicaSet| {
        let patches = |action: &&SetAction| action.name() == set.name;
        let size = sets.iter().find(patches).and_then(|action| match action {
            SetAction::Patch { write, .. } => write.patch.pointer("/spec/replicas")?.as_i64(),
            _ => None,
        });
        i64::from(set.surely_available()).min(size.unwrap_or(set.replicas.into()))
    };
    let available: i64 = seen.sets.iter().filter(|set| !set.terminating).map(|set| stays(set)).sum();
    let wanted = i64::from(before.max(seen.rollout.spec.replicas()));
    i32::try_from((wanted - available).clamp(0, before.into())).unwrap_or(before)
}

/// Why the rollout is not through with taking over.
#[must_use]
pub(super) fn taking_over(action: &WorkloadAction) -> Blocker {
    let replicas = action.write.patch.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
    Blocker {
        reason: BlockerReason::Scaling,
        object: Object::Workload(action.name.clone()),
        condition: format!("spec.replicas {replicas}"),
        since: None,
        message: format!(
            "{} is being scaled to {replicas}, since the rollout takes over from it",
            action.name
        ),
        next: "its size is written".to_owned(),
        next_at: None,
    }
}
