//! What would happen to a rollout: the same [`plan()`](crate::plan::plan()), carried out on a copied world until it comes to rest.
//!
//! Pure values: a copy of what was seen, assumptions about pods and people, and a clock that jumps from one thing that happens to the
//! next. `world` does what [`crate::worker`] does with a plan, `pods` what ReplicaSet controller and kubelet do. Depends on L0,
//! [`crate::validate`]'s word through the plan, and [`crate::plan`]; [`crate::api`] copies the world and shows the timeline.

mod pods;
mod state;
mod world;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::plan::{BlockerReason, LEAST_PAUSE, Observed, Plan, Pod, Question};
pub use state::State;
use world::World;

/// How many plans one look ahead makes at most: far more than a rollout of hundreds of pods and dozens of steps takes, and less than a
/// second's work.
const MOST_PLANS: usize = 10_000;

/// How many pods are followed at most, each by itself.
const MOST_PODS: i64 = 10_000;

/// How many states are told at most: a hundred steps with their pauses, twice over, in an answer that clients take.
const MOST_STATES: usize = 250;

/// How far is looked ahead at most; nobody waits longer for a pause.
const HORIZON: SignedDuration = SignedDuration::from_hours(366 * 24);

/// A rollout and what is below it, at one moment.
#[derive(Clone, Debug)]
pub struct Copied {
    /// What plans are made from.
    pub seen: Observed,
    /// All pods of its ReplicaSets that have not ended.
    pub pods: Vec<Pod>,
    /// That moment.
    pub now: Timestamp,
}

/// What is taken for granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assumptions {
    /// How long pods take from their creation to their readiness.
    pub start_up: SignedDuration,
    /// What becomes of the newest version's pods.
    pub newest: Outcome,
    /// The step (0-based) at which the update is aborted; `None`: it is not.
    pub abort_at_step: Option<i32>,
    /// What becomes of pauses that only somebody can end.
    pub endless_pauses: EndlessPauses,
}

/// What becomes of a version's pods that are not ready yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// They become ready.
    Ready,
    /// They never do.
    NeverReady,
}

/// What becomes of pauses that only somebody can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndlessPauses {
    /// They last, so that the timeline ends there.
    Last,
    /// Somebody promotes at once.
    ArePromoted,
}

/// What would happen.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// The states in which the rollout would rest, in order; the last is the end.
    pub states: Vec<State>,
    /// Why there is no more of it.
    pub end: End,
    /// Whether the abort that was assumed came about; as well where none was.
    pub aborted: bool,
}

/// Why a timeline ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Nothing happens any more, unless somebody acts.
    Rest,
    /// It would go on, but more is not looked at.
    CutOff(Limit),
}

/// What a look ahead is limited by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// [`MOST_PLANS`].
    #[error("more than {MOST_PLANS} plans would be made")]
    Plans,
    /// [`MOST_PODS`].
    #[error("the rollout would have more than {MOST_PODS} pods")]
    Pods,
    /// [`MOST_STATES`].
    #[error("it would rest in more than {MOST_STATES} states")]
    States,
    /// [`HORIZON`].
    #[error("it would take longer than {} days", HORIZON.as_hours() / 24)]
    Time,
}

/// Looks ahead until the rollout comes to rest for good, or somebody would have to act of whom nothing is assumed.
///
/// # Errors
///
/// What the plan must know first and the copy does not say.
pub fn foresee(copied: Copied, assumptions: Assumptions) -> Result<Timeline, Question> {
    let mut course = Course {
        began: copied.now,
        world: World::new(copied, assumptions),
        endless_pauses: assumptions.endless_pauses,
        abort_at_step: assumptions.abort_at_step,
        states: Vec::new(),
    };
    let end = course.run()?;
    Ok(Timeline { states: course.states, end, aborted: course.abort_at_step.is_none() })
}

/// A look ahead while it is under way.
struct Course {
    began: Timestamp,
    world: World,
    endless_pauses: EndlessPauses,
    /// While it is yet to come.
    abort_at_step: Option<i32>,
    states: Vec<State>,
}

impl Course {
    fn run(&mut self) -> Result<End, Question> {
        for _ in 0..MOST_PLANS {
            let plan = self.world.plan();
            if let Some(question) = plan.question {
                return Err(question);
            }
            if self.world.carry_out(&plan) {
                continue;
            }
            if self.world.wanted_pods() > MOST_PODS {
                return Ok(End::CutOff(Limit::Pods));
            }
            // At one moment everything happens that can; only then it is looked at what it led to.
            if self.world.move_pods() {
                continue;
            }
            if self.world.is_at_rest() && !self.record(&plan) {
                return Ok(End::CutOff(Limit::States));
            }
            if self.somebody_acts(&plan) {
                continue;
            }
            let wake_at = plan.wake_at.map(|at| at.max(later(self.world.now, LEAST_PAUSE)));
            let Some(next) = wake_at.into_iter().chain(self.world.next_move()).min() else {
                return Ok(End::Rest);
            };
            if next.duration_since(self.began) > HORIZON {
                return Ok(End::CutOff(Limit::Time));
            }
            self.world.now = next;
        }
        Ok(End::CutOff(Limit::Plans))
    }

    /// Notes a state, unless it looks like the one before. Says whether there was room.
    fn record(&mut self, plan: &Plan) -> bool {
        let at = self.world.now.duration_since(self.began);
        let state = State::new(at, self.world.observed(), plan.blockers.clone());
        if self.states.last().is_some_and(|last| last.resembles(&state)) {
            return true;
        }
        let has_room = self.states.len() < MOST_STATES;
        if has_room {
            self.states.push(state);
        }
        has_room
    }

    /// Does what somebody is assumed to do now, if anything.
    fn somebody_acts(&mut self, plan: &Plan) -> bool {
        if self.abort_at_step.is_some_and(|step| self.world.has_reached(step)) {
            self.abort_at_step = None;
            self.world.patch_status(&json!({ "abort": true, "promoteFull": null }));
            return true;
        }
        let promotes = self.endless_pauses == EndlessPauses::ArePromoted
            && self.world.is_at_rest()
            && plan.blockers.iter().any(|blocker| {
                matches!(blocker.reason, BlockerReason::PauseStep | BlockerReason::BlueGreenPause)
                    && blocker.next_at.is_none()
            });
        if promotes {
            // What PromoteRollout writes: the controller ends the pause by itself.
            self.world.patch_status(&json!({ "pauseConditions": null }));
        }
        promotes
    }
}

/// The time after a while; the last there is, where that would be beyond it.
fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
