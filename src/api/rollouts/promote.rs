//! PromoteRollout: moves a running update on, guarded by what the caller saw (contract 4.7).
//!
//! Written to the status is what a careful operator would write; where spec.paused holds the rollout, that is cleared last, so
//! that a crash between leaves it paused at the step that was asked for.

use serde_json::{Value, json};

use super::super::cluster::{Change, Mode};
use super::super::error::Error;
use super::super::mutation::{Done, Effect, Mutation, Subject};
use super::super::status::Reason;
use super::Rollouts;
use super::change::standard;
use crate::crd::{CanaryStrategy, RolloutStatus, StepAction, Strategy};
use crate::pb::v1;
use v1::promote_rollout_request::{From as Seen, Target};

/// How often clearing spec.paused is tried again while the planner writes the status at the same time.
const RESUME_ATTEMPTS: usize = 10;

impl Rollouts {
    /// PromoteRollout.
    pub(super) async fn promote(
        &self,
        request: v1::PromoteRolloutRequest,
    ) -> Result<v1::PromoteRolloutResponse, Error> {
        let mutation = standard!(request).read()?;
        let promotion = Promotion::read(&request)?;
        let promoted = self.context.mutate(&mutation, |subject| promotion.status(subject)).await?;
        let after = self.resume_promoted(&mutation, promoted.after.clone()).await?;
        // Where there was nothing to promote, a hold was ended.
        let done = Done { after, effect: Effect::Changed, ..promoted };
        let how = match promotion.target {
            Target::Next(()) => "next".to_owned(),
            Target::Full(()) => "full".to_owned(),
            Target::ToStepIndex(index) => format!("to_step_index {index}"),
        };
        Ok(self.answer(&done, &how))
    }

    /// Clears spec.paused of a rollout whose promotion is written.
    async fn resume_promoted(&self, mutation: &Mutation, promoted: Subject) -> Result<Subject, Error> {
        let spec_of = |subject: &Subject| subject.object["spec"].clone();
        if !promoted.rollout()?.spec.paused() {
            return Ok(promoted);
        }
        if mutation.mode == Mode::DryRun {
            // Nothing was stored that a second dry run could add to.
            let mut object = promoted.object;
            object["spec"]["paused"] = json!(false);
            return Ok(Subject::new(object));
        }
        let decided_on = spec_of(&promoted);
        let mut subject = promoted;
        for _ in 0..RESUME_ATTEMPTS {
            let resume = Change::Merge(json!({ "spec": { "paused": false } }));
            match self.context.write(mutation, &subject, resume).await {
                Err(error) if error.reason() == Reason::Conflict => {}
                written => return written,
            }
            subject = self.context.read(&mutation.key).await?;
            if spec_of(&subject) != decided_on || subject.rollout()?.status().abort() {
                break;
            }
        }
        let message = "the step was promoted, but the rollout changed meanwhile and stays paused; read it and resume it";
        Err(Error::new(Reason::Conflict, message))
    }
}

/// What a caller asks for, and what the caller saw.
struct Promotion<'a> {
    from: &'a Seen,
    target: Target,
}

impl<'a> Promotion<'a> {
    fn read(request: &'a v1::PromoteRolloutRequest) -> Result<Self, Error> {
        let from = request.from.as_ref().ok_or_else(|| Error::field("from", "is required"))?;
        if from.pod_template_hash.is_empty() {
            let what = "is required: status.current_pod_hash as you saw it";
            return Err(Error::field("from.pod_template_hash", what));
        }
        let target = request
            .target
            .ok_or_else(|| Error::field("target", "one of next, full and to_step_index is required"))?;
        match target {
            Target::ToStepIndex(index) if index < 0 => {
                Err(Error::field("to_step_index", format!("{index} is negative")))
            }
            target => Ok(Self { from, target }),
        }
    }

    /// The change of the status; `None` where clearing spec.paused is all.
    fn status(&self, subject: &Subject) -> Result<Option<Change>, Error> {
        let rollout = subject.rollout()?;
        let seen = subject.observed_status()?;
        if seen.current_pod_hash() != self.from.pod_template_hash {
            let message = format!(
                "the newest version is {:?}, not {:?}: look at it before you promote it",
                seen.current_pod_hash(),
                self.from.pod_template_hash
            );
            return Err(Error::new(Reason::StaleHash, message)
                .precondition("status.current_pod_hash", "must be from.pod_template_hash"));
        }
        if seen.abort() {
            let message = "the update was aborted; retry it, roll it back or change the spec";
            return Err(
                Error::new(Reason::RolloutAborted, message).precondition("status.aborted", "must be false")
            );
        }
        let canary = match rollout.spec.strategy() {
            Ok(Strategy::Canary(canary)) => Some(canary),
            Ok(Strategy::BlueGreen(_)) => None,
            Err(error) => return Err(Error::new(Reason::MalformedObject, format!("strategy: {error}"))),
        };
        let step = self.check_step(seen, canary)?;
        if seen.stable_rs().is_empty() || seen.stable_rs() == seen.current_pod_hash() {
            return Err(nothing("no update is running: the newest version is the stable one, or the first"));
        }
        if seen.promote_full() {
            return Err(nothing("the update is being promoted to its end already"));
        }
        let patch = match (canary, self.target) {
            (_, Target::Full(())) => Some(json!({ "promoteFull": true })),
            (Some(canary), Target::Next(())) => next(rollout.spec.paused(), seen, canary, step)?,
            (Some(canary), Target::ToStepIndex(index)) => Some(to_step(canary, step, index)?),
            (None, Target::Next(())) => end_blue_green_pause(rollout.spec.paused(), seen)?,
            (None, Target::ToStepIndex(_)) => {
                return Err(Error::field("to_step_index", "a blue-green rollout has no steps"));
            }
        };
        Ok(patch.map(|patch| Change::MergeStatus(json!({ "status": patch }))))
    }

    /// The current step, which must be the one that the caller saw.
    fn check_step(&self, seen: &RolloutStatus, canary: Option<&CanaryStrategy>) -> Result<i32, Error> {
        let steps = canary.map_or(0, |canary| canary.steps().len());
        let current = seen.current_step_index.unwrap_or(0);
        let stale = |message: String| {
            Error::new(Reason::StaleStep, message)
                .precondition("status.current_step_index", "must be from.step_index")
        };
        match (steps, self.from.step_index) {
            (0, None) => Ok(current),
            (0, Some(index)) => {
                Err(stale(format!("the rollout has no steps, so that step {index} does not run")))
            }
            (_, None) => Err(Error::field(
                "from.step_index",
                "is required for a rollout with steps: status.current_step_index as you saw it",
            )),
            (_, Some(index)) if index != current => Err(stale(format!(
                "step {current} runs, not step {index}: somebody was faster, or it went on"
            ))),
            // An ended pause that the controller has not acted on yet: this very step was promoted.
            (_, Some(index)) if seen.controller_pause() && seen.pause_conditions().is_empty() => {
                Err(stale(format!("step {index} was promoted already; the controller is about to move on")))
            }
            (_, Some(index)) => Ok(index),
        }
    }
}

/// One step on, whatever the step waits for.
fn next(
    paused: bool,
    seen: &RolloutStatus,
    canary: &CanaryStrategy,
    step: i32,
) -> Result<Option<Value>, Error> {
    let action = usize::try_from(step).ok().and_then(|index| canary.steps().get(index));
    let Some(action) = action.map(crate::crd::CanaryStep::action) else {
        // Without steps, or beyond the last, only a pause by hand can be ended.
        let what = "all steps are done; the update ends once its pods are available";
        return if paused { Ok(None) } else { Err(nothing(what)) };
    };
    let waits = seen.controller_pause() && !seen.pause_conditions().is_empty();
    if waits && !paused && matches!(action, Ok(StepAction::Pause(_))) {
        // The controller ends the pause itself, with its event.
        return Ok(Some(json!({ "pauseConditions": null })));
    }
    Ok(Some(at_step(step + 1)))
}

fn to_step(canary: &CanaryStrategy, step: i32, index: i32) -> Result<Value, Error> {
    let steps = canary.steps().len();
    if usize::try_from(index).is_ok_and(|index| index > steps) {
        return Err(Error::field(
            "to_step_index",
            format!("{index} is beyond the end: there are {steps} steps"),
        ));
    }
    if steps == 0 {
        return Err(nothing("the rollout has no steps"));
    }
    if index <= step {
        let message = format!("step {index} is not ahead: step {step} runs");
        return Err(Error::new(Reason::StepNotAhead, message)
            .precondition("status.current_step_index", "must be less than to_step_index"));
    }
    Ok(at_step(index))
}

fn at_step(index: i32) -> Value {
    json!({ "pauseConditions": null, "controllerPause": null, "currentStepIndex": index })
}

fn end_blue_green_pause(paused: bool, seen: &RolloutStatus) -> Result<Option<Value>, Error> {
    match seen.pause_conditions() {
        [] if paused => Ok(None),
        [] => Err(nothing("the update is not paused")),
        _ => Ok(Some(json!({ "pauseConditions": null }))),
    }
}

fn nothing(message: &str) -> Error {
    Error::new(Reason::NothingToPromote, message)
}

#[cfg(test)]
mod tests;
