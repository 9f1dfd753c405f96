//! What would happen to a rollout: the same [`plan()`](crate::plan::plan()), carried out on a copied world until it comes to rest.
//!
//! Pure values: a copy of what was seen, assumptions about pods and people, and a clock that jumps from one thing that happens to the
//! next. `world` does what [`crate::worker`] does with a plan, `pods` what ReplicaSet controller and kubelet do. States are told as they are
//! reached, and not kept: each holds a whole rollout. Depends on L0, [`crate::validate`]'s word through the plan, and [`crate::plan`];
//! [`crate::api`] copies the world and shows the timeline.

mod pods;
mod state;
mod world;

use std::ops::ControlFlow;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::plan::{BlockerReason, LEAST_PAUSE, Observed, Plan, Pod, Question};
pub use state::State;
use world::World;

/// How much work one look ahead is worth, in pods looked at ([`World::effort`]): far more than a rollout of thousands of pods and dozens of
/// steps takes, and a few seconds of one processor.
const MOST_EFFORT: u64 = 10_000_000;

/// How many pods are followed at most, each by itself: as many as ten thousand replicas have while they are all replaced.
const MOST_PODS: i64 = 25_000;

/// How many states are told at most: a hundred steps with their pauses, twice over, in an answer that clients take.
const MOST_STATES: usize = 250;

/// How far is looked ahead at most; nobody waits longer for a pause.
const HORIZON: SignedDuration = SignedDuration::from_hours(366 * 24);

/// How often in a row nothing comes of the passage of time before nothing is expected of it any more, while the rollout's status cannot be
/// written: a pause whose beginning is nowhere recorded never ends. More often than delays of other objects end meanwhile.
const MOST_IDLE: u32 = 100;

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
    /// What becomes of pods that cannot run when the world is copied, by their [`Pod::fault`].
    pub failing: Outcome,
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

/// What is to be said of a timeline besides its states.
#[derive(Clone, Debug)]
pub struct Foreseen {
    /// Why there is no more of it.
    pub end: End,
    /// How long after the beginning that is.
    pub reached: SignedDuration,
    /// Whether the abort that was assumed came about; as well where none was.
    pub aborted: bool,
    /// Pods of the newest and of the stable version that could not run when the world was copied.
    pub failing: Option<Failing>,
}

/// Pods that cannot run.
#[derive(Clone, Debug)]
pub struct Failing {
    /// The oldest of them.
    pub pod: Pod,
    /// How many others there are.
    pub more: usize,
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
    /// [`MOST_EFFORT`].
    #[error(
        "it takes too many decisions about too many pods and ReplicaSets to be followed further; fewer replicas, or a larger maxSurge or \
         maxUnavailable, take fewer"
    )]
    Effort,
    /// [`MOST_PODS`].
    #[error("the rollout would have more than {MOST_PODS} pods")]
    Pods,
    /// [`MOST_STATES`].
    #[error("it would rest in more than {MOST_STATES} states")]
    States,
    /// Whom it is told takes no more.
    #[error("its states do not fit into one answer")]
    Answer,
    /// [`HORIZON`].
    #[error("it would take longer than {} days", HORIZON.as_hours() / 24)]
    Time,
}

/// Looks ahead until the rollout comes to rest for good, or somebody would have to act of whom nothing is assumed. The states in which it
/// would rest are told in order; the last is the end. Who has no room for a state that it is told breaks, and is told no more.
///
/// # Errors
///
/// What the plan must know first and the copy does not say. What was told until then is void.
pub fn foresee(
    copied: Copied,
    assumptions: Assumptions,
    tell: &mut dyn FnMut(&State) -> ControlFlow<()>,
) -> Result<Foreseen, Question> {
    let began = copied.now;
    let (world, failing) = World::new(copied, assumptions);
    let mut course = Course {
        began,
        world,
        endless_pauses: assumptions.endless_pauses,
        abort_at_step: assumptions.abort_at_step,
        tell,
        last: None,
        told: 0,
        idle: 0,
    };
    let end = course.run()?;
    let reached = course.world.now.duration_since(began);
    Ok(Foreseen { end, reached, aborted: course.abort_at_step.is_none(), failing })
}

/// A look ahead while it is under way.
struct Course<'a> {
    began: Timestamp,
    world: World,
    endless_pauses: EndlessPauses,
    /// While it is yet to come.
    abort_at_step: Option<i32>,
    tell: &'a mut dyn FnMut(&State) -> ControlFlow<()>,
    /// The state that was told last.
    last: Option<State>,
    told: usize,
    /// How often in a row nothing came of the passage of time.
    idle: u32,
}

impl Course<'_> {
    fn run(&mut self) -> Result<End, Question> {
        let mut effort = 0;
        while effort < MOST_EFFORT {
            effort += self.world.effort();
            let plan = self.world.plan();
            if let Some(question) = plan.question {
                return Err(question);
            }
            if self.world.carry_out(&plan) {
                self.idle = 0;
                continue;
            }
            if self.world.wanted_pods() > MOST_PODS {
                return Ok(End::CutOff(Limit::Pods));
            }
            // At one moment everything happens that can; only then it is looked at what it led to.
            if self.world.move_pods() {
                self.idle = 0;
                continue;
            }
            if self.world.is_at_rest()
                && let Err(limit) = self.record(&plan)
            {
                return Ok(End::CutOff(limit));
            }
            if self.somebody_acts(&plan) {
                continue;
            }
            if self.world.refuses_rollout() && self.idle >= MOST_IDLE {
                return Ok(End::Rest);
            }
            self.idle += 1;
            let wake_at = plan.wake_at.map(|at| at.max(later(self.world.now, LEAST_PAUSE)));
            let Some(next) = wake_at.into_iter().chain(self.world.next_move()).min() else {
                return Ok(End::Rest);
            };
            if next.duration_since(self.began) > HORIZON {
                return Ok(End::CutOff(Limit::Time));
            }
            self.world.now = next;
        }
        Ok(End::CutOff(Limit::Effort))
    }

    /// Tells a state, unless it looks like the one before.
    fn record(&mut self, plan: &Plan) -> Result<(), Limit> {
        let at = self.world.now.duration_since(self.began);
        let state = State::new(at, self.world.without_pods(), plan.blockers.clone());
        if self.last.as_ref().is_some_and(|last| last.resembles(&state)) {
            return Ok(());
        }
        if self.told >= MOST_STATES {
            return Err(Limit::States);
        }
        if (self.tell)(&state).is_break() {
            return Err(Limit::Answer);
        }
        self.told += 1;
        self.last = Some(state);
        Ok(())
    }

    /// Does what somebody is assumed to do now, if anything. Who refuses the controller's writes to the rollout refuses theirs.
    fn somebody_acts(&mut self, plan: &Plan) -> bool {
        if self.world.refuses_rollout() {
            return false;
        }
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
