//! Writes that are refused when the world is copied.

use super::*;

fn refused(attempt: Attempt, since: Timestamp) -> Vec<Setback> {
    let (reason, message) = ("Forbidden".to_owned(), "no".to_owned());
    vec![Setback { attempt, reason, message, since, next_try: None }]
}

fn reasons(state: &State) -> Vec<BlockerReason> {
    state.blockers.iter().map(|blocker| blocker.reason).collect()
}

#[test]
fn what_is_refused_stays_refused() {
    let mut copied = updated(2, &steps(), &v2());
    let creates = plan::plan(&copied.seen, copied.now).sets.remove(0).name().to_owned();
    copied.seen.setbacks = vec![Setback {
        attempt: Attempt::Create(creates.clone()),
        reason: "Forbidden".to_owned(),
        message: "exceeded quota".to_owned(),
        since: copied.now,
        next_try: None,
    }];
    let timeline = foresee(copied.clone(), ASSUMED).unwrap();
    let last = timeline.states.last().unwrap();
    assert_eq!(last.seen.sets.len(), 1);
    assert!(last.blockers.iter().any(|blocker| blocker.reason == BlockerReason::WriteRefused));
    copied.seen.setbacks[0].attempt = Attempt::Create("another".to_owned());
    assert_eq!(foresee(copied, ASSUMED).unwrap().states.last().unwrap().seen.sets.len(), 2);
}

#[test]
fn nobody_promotes_where_the_rollout_cannot_be_written() {
    let steps = json!({ "canary": { "steps": [{ "setWeight": 25 }, { "pause": {} }, { "setWeight": 50 }] } });
    let paused = foresee(updated(4, &steps, &v2()), ASSUMED).unwrap().states.pop().unwrap().seen;
    let mut copied = changed(paused, &json!({ "replicas": 8 }));
    copied.seen.setbacks = refused(Attempt::Rollout, copied.now);
    let promoted =
        Assumptions { endless_pauses: EndlessPauses::ArePromoted, abort_at_step: Some(1), ..ASSUMED };
    let timeline = foresee(copied, promoted).unwrap();
    assert_eq!((timeline.end, timeline.aborted), (End::Rest, false));
    let reasons = reasons(timeline.states.last().unwrap());
    assert!(reasons.starts_with(&[BlockerReason::WriteRefused, BlockerReason::PauseStep]), "{reasons:?}");
}

#[test]
fn a_pause_whose_beginning_cannot_be_written_is_no_reason_to_look_further() {
    let never = Assumptions { newest: Outcome::NeverReady, ..ASSUMED };
    let starting = foresee(updated(4, &steps(), &v2()), never).unwrap().states.remove(0).seen;
    let mut copied = changed(starting, &json!({}));
    let new = copied.seen.sets.iter_mut().find(|set| set.status.ready < set.replicas).unwrap();
    let status = &mut Arc::make_mut(new).status;
    (status.ready, status.available) = (1, 1);
    copied.seen.setbacks = refused(Attempt::Rollout, copied.now);
    let timeline = foresee(copied, ASSUMED).unwrap();
    assert_eq!(timeline.end, End::Rest, "{:?}", told(&timeline));
    let reasons = reasons(timeline.states.last().unwrap());
    assert_eq!(reasons, [BlockerReason::WriteRefused, BlockerReason::PauseStep]);
}
