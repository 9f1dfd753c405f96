//! PlanRollout: the timeline of an update, or of the rollout as it stands.
//!
//! [`super::copied`] copies the world, the pure [`crate::foresight`] looks ahead in it; here its assumptions are read and its states are
//! shown.

use std::ops::ControlFlow;
use std::sync::Arc;

use jiff::SignedDuration;
use prost::Message as _;

use super::super::apply::Ownership;
use super::super::convert::Record;
use super::super::error::Error;
use super::super::name;
use super::super::turns::Turn;
use super::tree::{role, services, show, weights};
use super::{Rollouts, summary};
use crate::crd::{Rollout, Strategy};
use crate::foresight::{self, Assumptions, Copied, End, EndlessPauses, Failing, Foreseen, Outcome, State};
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

/// The reason of the warning that pods cannot run now.
const PODS_FAILING: &str = "PODS_FAILING";

/// How much a timeline may weigh: clients of gRPC take 4 MiB unless they are told otherwise, and warnings want room as well.
const ANSWER_BYTES: usize = 3 * 1024 * 1024;

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
        let mut prospect = self.prospect(&key, request.update, ownership).await?;
        let assumptions = Assumptions {
            start_up,
            newest: if given.pods_never_ready { Outcome::NeverReady } else { Outcome::Ready },
            failing: if given.pod_start_up.is_some() { Outcome::Ready } else { Outcome::NeverReady },
            abort_at_step: abort_at_step(given.abort_at_step, &prospect.rollout)?,
            endless_pauses: match given.promote_pauses {
                true => EndlessPauses::ArePromoted,
                false => EndlessPauses::Last,
            },
        };
        let mut warnings = std::mem::take(&mut prospect.warnings);
        // Before the copy, so that nobody waits with a whole world in his hands.
        let turn = Arc::new(self.context.foresights.take().await?);
        let copied = self.copy(&key, prospect).await?;
        warnings.extend(refused_evictions(&copied));
        let (told, foreseen) = self.look_ahead(&key, copied, assumptions, &turn).await?;
        warnings.extend(remarks(&told, &foreseen, assumptions));
        Ok(v1::PlanRolloutResponse { timeline: told.timeline, warnings })
    }

    /// Looks ahead, and asks the API server first what that must know.
    async fn look_ahead(
        &self,
        key: &Key,
        mut copied: Copied,
        assumptions: Assumptions,
        turn: &Arc<Turn>,
    ) -> Result<(Told, Foreseen), Error> {
        let mut looked = ahead(key, copied.clone(), assumptions, turn).await?;
        if let Err(Question::DefaultedTemplate) = looked {
            copied.seen.defaulted = Some(self.defaulted(key, &copied.seen).await?);
            looked = ahead(key, copied, assumptions, turn).await?;
        }
        looked.map_err(|question| {
            Error::internal("what a plan must know was told and is asked again", &format!("{question:?}"))
        })
    }
}

/// Looks ahead beside the threads that serve: it may take a moment. When the caller has gone meanwhile, what was begun is ended, and
/// nobody else's turn before.
async fn ahead(
    key: &Key,
    copied: Copied,
    assumptions: Assumptions,
    turn: &Arc<Turn>,
) -> Result<Result<(Told, Foreseen), Question>, Error> {
    let (mut told, turn) = (Told::about(key.clone()), Arc::clone(turn));
    let ahead = tokio::task::spawn_blocking(move || {
        let foreseen = foresight::foresee(copied, assumptions, &mut |state| told.hear(state));
        drop(turn);
        foreseen.map(|foreseen| (told, foreseen))
    });
    ahead.await.map_err(|error| Error::internal("no timeline could be made: this is a bug", &error))
}

/// The states that were told, as the API shows them.
struct Told {
    about: Key,
    timeline: Vec<v1::PlannedState>,
    bytes: usize,
}

impl Told {
    fn about(about: Key) -> Self {
        Self { about, timeline: Vec::new(), bytes: 0 }
    }

    /// Takes a state, unless the answer would grow too large.
    fn hear(&mut self, state: &State) -> ControlFlow<()> {
        let state = planned(&self.about, state);
        self.bytes += state.encoded_len();
        if self.bytes > ANSWER_BYTES {
            return ControlFlow::Break(());
        }
        self.timeline.push(state);
        ControlFlow::Continue(())
    }
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
fn remarks(told: &Told, foreseen: &Foreseen, assumptions: Assumptions) -> Vec<v1::Warning> {
    let warning = |reason: &str, field: &str, description: String| v1::Warning {
        reason: reason.to_owned(),
        field: field.to_owned(),
        description,
    };
    let failing = foreseen.failing.as_ref().map(|failing| describe(failing, assumptions.failing));
    let failing = failing.map(|description| warning(PODS_FAILING, "", description));
    let cut_off = match foreseen.end {
        End::Rest => None,
        End::CutOff(limit) => {
            let goes_on = match told.timeline.is_empty() {
                true => "nothing of it could be foreseen".to_owned(),
                false => "the timeline goes on beyond its last state".to_owned(),
            };
            let description = format!("{goes_on}, looked at as far as {:#}: {limit}", foreseen.reached);
            Some(warning(CUT_OFF, "", description))
        }
    };
    let missed = assumptions.abort_at_step.filter(|_| !foreseen.aborted).map(|step| {
        let description =
            format!("no update comes to step {step} where it could be aborted, so that none is");
        warning(ABORT_NOT_REACHED, "assumptions.abort_at_step", description)
    });
    failing.into_iter().chain(cut_off).chain(missed).collect()
}

/// Which pods cannot run and why, and what is made of that.
fn describe(failing: &Failing, assumed: Outcome) -> String {
    let Failing { pod, more } = failing;
    let why = pod.fault.as_ref().map(ToString::to_string).unwrap_or_default();
    let others = match more {
        0 => String::new(),
        more => format!(", nor can {more} more"),
    };
    let then = match assumed {
        Outcome::NeverReady => "stays so, unless assumptions.pod_start_up is given",
        Outcome::Ready => "changes within assumptions.pod_start_up",
    };
    format!("pod {:?} cannot run now ({why}){others}; the timeline takes it that this {then}", pod.name)
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
    use crate::plan::Observed;

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

    /// A state of a rollout with so many ReplicaSets.
    fn state(sets: usize) -> State {
        let set =
            |number: usize| Arc::new(ReplicaSet { name: format!("web-{number}"), ..Default::default() });
        let seen = Observed { sets: (0..sets).map(set).collect(), ..Observed::alone(Arc::new(rollout(1))) };
        State { at: SignedDuration::ZERO, seen, blockers: Vec::new() }
    }

    #[test]
    fn states_are_heard_as_long_as_they_fit_into_an_answer() {
        let mut told = Told::about(Key::new("shop", "web"));
        let states = std::iter::repeat_n(state(10_000), 100);
        let heard = states.take_while(|state| told.hear(state).is_continue()).count();
        let answer = v1::PlanRolloutResponse { timeline: told.timeline, ..Default::default() };
        assert_eq!(answer.timeline.len(), heard);
        assert!(heard > 1 && answer.encoded_len() <= ANSWER_BYTES + 100, "{heard}");
        assert!(Told::about(Key::new("shop", "web")).hear(&state(200_000)).is_break());
    }

    #[test]
    fn what_a_timeline_leaves_out_is_said() {
        let assumed = Assumptions {
            start_up: START_UP,
            newest: Outcome::Ready,
            failing: Outcome::NeverReady,
            abort_at_step: Some(2),
            endless_pauses: EndlessPauses::Last,
        };
        let part = crate::plan::PodPart::Container("web".to_owned());
        let (reason, message) = ("ImagePullBackOff".to_owned(), "no such image".to_owned());
        let fault = Some(crate::plan::PodFault { part, reason, message });
        let pod = crate::plan::Pod { name: "web-1".to_owned(), fault, ..Default::default() };
        let foreseen = Foreseen {
            end: End::CutOff(foresight::Limit::Pods),
            reached: SignedDuration::from_secs(90),
            aborted: false,
            failing: Some(Failing { pod, more: 2 }),
        };
        let mut told = Told::about(Key::new("shop", "web"));
        let said = |told: &Told, assumed| {
            let remarks = remarks(told, &foreseen, assumed);
            remarks
                .into_iter()
                .map(|warning| format!("{}: {}", warning.reason, warning.description))
                .collect()
        };
        let expected = [
            "PODS_FAILING: pod \"web-1\" cannot run now (container \"web\": ImagePullBackOff: no such image), nor can 2 more; \
             the timeline takes it that this stays so, unless assumptions.pod_start_up is given",
            "CUT_OFF: nothing of it could be foreseen, looked at as far as 1m 30s: the rollout would have more than 25000 pods",
            "ABORT_NOT_REACHED: no update comes to step 2 where it could be aborted, so that none is",
        ];
        let lines: Vec<String> = said(&told, assumed);
        assert_eq!(lines, expected);
        let _ = told.hear(&state(1));
        let lines: Vec<String> = said(&told, Assumptions { failing: Outcome::Ready, ..assumed });
        assert!(lines[0].ends_with("this changes within assumptions.pod_start_up"), "{lines:?}");
        assert!(lines[1].starts_with("CUT_OFF: the timeline goes on beyond its last state, "), "{lines:?}");
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
