//! PlanRollout: the timeline of an update, or of the rollout as it stands.
//!
//! [`super::copied`] copies the world, the pure [`crate::foresight`] looks ahead in it; here its assumptions are read and its states are
//! shown.

use jiff::SignedDuration;

use super::super::apply::Ownership;
use super::super::convert::Record;
use super::super::error::Error;
use super::super::name;
use super::tree::{role, services, show, weights};
use super::{Rollouts, summary};
use crate::crd::{Rollout, Strategy};
use crate::foresight::{self, Assumptions, Copied, End, EndlessPauses, Outcome, State, Timeline};
use crate::pb::v1;
use crate::plan::{Attempt, Question, ReplicaSet, Setback, revision};
use crate::store::Key;

/// How long a pod takes to become ready, where nothing is assumed: small services take seconds.
const START_UP: SignedDuration = SignedDuration::from_secs(5);

/// The reason of the warning that a timeline goes on where it ends.
const CUT_OFF: &str = "CUT_OFF";

/// The reason of the warning that evictions are refused now and taken for permitted.
const EVICTIONS_REFUSED: &str = "EVICTIONS_REFUSED";

/// The reason of the warning that the update was never where it was to be aborted.
const ABORT_NOT_REACHED: &str = "ABORT_NOT_REACHED";

impl Rollouts {
    /// PlanRollout.
    pub(super) async fn foresee(
        &self,
        request: v1::PlanRolloutRequest,
    ) -> Result<v1::PlanRolloutResponse, Error> {
        let key = name::rollout(&request.name, "name")?;
        let given = request.assumptions.unwrap_or_default();
        let start_up = start_up(given.pod_start_up.as_ref())?;
        self.context.require_ready()?;
        let ownership = if request.force { Ownership::Take } else { Ownership::Respect };
        let prospect = self.prospect(&key, request.update, ownership).await?;
        let assumptions = Assumptions {
            start_up,
            newest: if given.pods_never_ready { Outcome::NeverReady } else { Outcome::Ready },
            abort_at_step: abort_at_step(given.abort_at_step, &prospect.rollout)?,
            endless_pauses: match given.promote_pauses {
                true => EndlessPauses::ArePromoted,
                false => EndlessPauses::Last,
            },
        };
        let copied = self.copy(&key, &prospect).await?;
        let mut warnings = prospect.warnings;
        warnings.extend(refused_evictions(&copied));
        let timeline = self.look_ahead(&key, copied, assumptions).await?;
        warnings.extend(remarks(&timeline, assumptions));
        let timeline = timeline.states.iter().map(|state| planned(&key, state)).collect();
        Ok(v1::PlanRolloutResponse { timeline, warnings })
    }

    /// Looks ahead, and asks the API server first what that must know.
    async fn look_ahead(
        &self,
        key: &Key,
        mut copied: Copied,
        assumptions: Assumptions,
    ) -> Result<Timeline, Error> {
        let mut looked = ahead(copied.clone(), assumptions).await?;
        if let Err(Question::DefaultedTemplate) = looked {
            copied.seen.defaulted = Some(self.defaulted(key, &copied.seen).await?);
            looked = ahead(copied, assumptions).await?;
        }
        looked.map_err(|question| {
            Error::internal("what a plan must know was told and is asked again", &format!("{question:?}"))
        })
    }
}

/// Looks ahead beside the threads that serve: it may take a moment.
async fn ahead(copied: Copied, assumptions: Assumptions) -> Result<Result<Timeline, Question>, Error> {
    let ahead = tokio::task::spawn_blocking(move || foresight::foresee(copied, assumptions)).await;
    ahead.map_err(|error| Error::internal("no timeline could be made: this is a bug", &error))
}

fn start_up(given: Option<&prost_types::Duration>) -> Result<SignedDuration, Error> {
    let Some(given) = given else { return Ok(START_UP) };
    const NANOS: u32 = 999_999_999;
    if given.nanos.unsigned_abs() > NANOS {
        let what = format!("has {} nanos; give less than a second of them", given.nanos);
        return Err(Error::field("assumptions.pod_start_up", what));
    }
    let start_up = SignedDuration::new(given.seconds, given.nanos);
    if start_up.is_negative() {
        let what = format!("is {start_up:#}; give a duration that is not negative");
        return Err(Error::field("assumptions.pod_start_up", what));
    }
    Ok(start_up)
}

/// The step of an abort, which must be one of the rollout's.
fn abort_at_step(given: Option<i32>, rollout: &Rollout) -> Result<Option<i32>, Error> {
    let Some(step) = given else { return Ok(None) };
    let steps = match rollout.spec.strategy() {
        Ok(Strategy::Canary(canary)) => canary.steps().len(),
        _ => 0,
    };
    if usize::try_from(step).is_ok_and(|step| step < steps) {
        return Ok(Some(step));
    }
    let what = match steps {
        0 => format!("is {step}, but the rollout has no steps"),
        steps => format!("is {step}; give a step from 0 to {}", steps - 1),
    };
    Err(Error::field("assumptions.abort_at_step", what))
}

/// Budgets are not foreseen.
fn refused_evictions(copied: &Copied) -> Option<v1::Warning> {
    let is_eviction = |setback: &&Setback| matches!(setback.attempt, Attempt::Evict(_));
    let refused = copied.seen.setbacks.iter().find(is_eviction)?;
    Some(v1::Warning {
        reason: EVICTIONS_REFUSED.to_owned(),
        field: String::new(),
        description: format!(
            "pods are not evicted now ({}); the timeline takes it that they soon are",
            refused.message
        ),
    })
}

/// What the caller ought to know of a timeline.
fn remarks(timeline: &Timeline, assumptions: Assumptions) -> Vec<v1::Warning> {
    let cut_off = match timeline.end {
        End::Rest => None,
        End::CutOff(limit) => Some(v1::Warning {
            reason: CUT_OFF.to_owned(),
            field: String::new(),
            description: format!("the timeline goes on beyond its last state: {limit}"),
        }),
    };
    let missed = assumptions.abort_at_step.filter(|_| !timeline.aborted).map(|step| v1::Warning {
        reason: ABORT_NOT_REACHED.to_owned(),
        field: "assumptions.abort_at_step".to_owned(),
        description: format!("no update comes to step {step}, so that none is aborted there"),
    });
    cut_off.into_iter().chain(missed).collect()
}

/// A state as the API shows it.
fn planned(key: &Key, state: &State) -> v1::PlannedState {
    let seen = &state.seen;
    let revisions = revision::classify(seen).ok();
    let mut sets: Vec<&ReplicaSet> = seen.sets.iter().map(AsRef::as_ref).collect();
    sets.sort_by_key(|set| std::cmp::Reverse((set.revision(), set.created)));
    let shown = |set: &ReplicaSet| {
        let summary = summary::replica_set(set, role(seen, revisions.as_ref(), set), Vec::new());
        // What does not exist yet has no version, and nobody knows its identity.
        let uid = if set.resource_version.is_empty() { String::new() } else { summary.uid };
        v1::ReplicaSetSummary { uid, ..summary }
    };
    let status = Record::Decoded(&seen.rollout).show(v1::View::Basic).status.unwrap_or_default();
    let at = prost_types::Duration { seconds: state.at.as_secs(), nanos: state.at.subsec_nanos() };
    v1::PlannedState {
        at: Some(at),
        step_index: status.current_step_index,
        replica_sets: sets.into_iter().map(shown).collect(),
        actual_weight: weights(seen, revisions.as_ref()).1,
        services: services(seen),
        blockers: state.blockers.iter().map(|blocker| show(key, blocker)).collect(),
        message: message(state, &status),
        state: status.state,
    }
}

/// The first thing that is waited for says most; a rollout that waits for nothing is done.
fn message(state: &State, status: &v1::RolloutStatus) -> String {
    if let Some(blocker) = state.blockers.first() {
        return blocker.message.clone();
    }
    match status.state() {
        v1::rollout_status::State::Healthy => "nothing is left to do".to_owned(),
        _ => status.message.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(steps: usize) -> Rollout {
        let steps = vec![serde_json::json!({ "setWeight": 10 }); steps];
        Rollout::decode(&serde_json::json!({ "spec": { "strategy": { "canary": { "steps": steps } } } }))
            .unwrap()
    }

    #[test]
    fn an_abort_is_at_a_step_that_there_is() {
        assert_eq!(abort_at_step(None, &rollout(0)).unwrap(), None);
        assert_eq!(abort_at_step(Some(1), &rollout(2)).unwrap(), Some(1));
        for (step, steps, expected) in [
            (2, 2, "assumptions.abort_at_step: is 2; give a step from 0 to 1"),
            (-1, 2, "assumptions.abort_at_step: is -1; give a step from 0 to 1"),
            (0, 0, "assumptions.abort_at_step: is 0, but the rollout has no steps"),
        ] {
            assert_eq!(abort_at_step(Some(step), &rollout(steps)).unwrap_err().message(), expected);
        }
    }

    #[test]
    fn pods_take_a_time_that_is_not_negative() {
        let duration = |seconds, nanos| prost_types::Duration { seconds, nanos };
        assert_eq!(start_up(None).unwrap(), START_UP);
        assert_eq!(start_up(Some(&duration(0, 50_000_000))).unwrap(), SignedDuration::from_millis(50));
        for negative in [duration(-1, 0), duration(0, -1)] {
            let error = start_up(Some(&negative)).unwrap_err();
            assert!(error.message().starts_with("assumptions.pod_start_up: is "), "{}", error.message());
        }
    }
}
