//! Which promotion writes what, case by case.

use super::*;

const PAUSED: &str = r#"[{ "reason": "CanaryPauseStep", "startTime": "2026-11-21T05:37:43Z" }]"#;

/// A rollout at the pause, step 1 of setWeight, pause, setWeight.
fn at_pause() -> Value {
    json!({
        "metadata": { "name": "web", "generation": 2 },
        "spec": { "strategy": { "canary": { "steps": [{ "setWeight": 20 }, { "pause": {} }, { "setWeight": 60 }] } } },
        "status": { "observedGeneration": "2", "currentPodHash": "new", "stableRS": "old", "currentStepIndex": 1,
            "controllerPause": true, "pauseConditions": serde_json::from_str::<Value>(PAUSED).unwrap() },
    })
}

fn with(change: &Value) -> Value {
    let mut rollout = at_pause();
    json_patch::merge(&mut rollout, change);
    rollout
}

fn decided(rollout: &Value, hash: &str, step: Option<i32>, target: Target) -> Result<Option<Value>, Reason> {
    let from = Seen { pod_template_hash: hash.to_owned(), step_index: step };
    let promotion = Promotion { from: &from, target };
    let change = promotion.status(&Subject::new(rollout.clone())).map_err(|error| error.reason())?;
    Ok(change.map(|change| match change {
        Change::MergeStatus(mut patch) => patch["status"].take(),
        other => unreachable!("a promotion is written to the status, not {other:?}"),
    }))
}

fn next(rollout: &Value) -> Result<Option<Value>, Reason> {
    decided(rollout, "new", Some(1), Target::Next(()))
}

fn step(index: i32) -> Result<Option<Value>, Reason> {
    Ok(Some(json!({ "pauseConditions": null, "controllerPause": null, "currentStepIndex": index })))
}

#[test]
fn next_ends_a_pause_that_lasts_and_passes_any_other_step() {
    assert_eq!(next(&at_pause()), Ok(Some(json!({ "pauseConditions": null }))));
    // The pause has not begun yet: its pods are not there.
    assert_eq!(
        next(&with(&json!({ "status": { "pauseConditions": null, "controllerPause": false } }))),
        step(2)
    );
    // Held by hand, the controller would not end it.
    assert_eq!(next(&with(&json!({ "spec": { "paused": true } }))), step(2));
    let weight = with(
        &json!({ "status": { "currentStepIndex": 0, "pauseConditions": null, "controllerPause": null } }),
    );
    assert_eq!(decided(&weight, "new", Some(0), Target::Next(())), step(1));
}

#[test]
fn a_caller_who_saw_something_else_is_refused() {
    let refused = |hash, index, target| decided(&at_pause(), hash, index, target);
    assert_eq!(refused("other", Some(1), Target::Next(())), Err(Reason::StaleHash));
    assert_eq!(refused("new", Some(0), Target::Next(())), Err(Reason::StaleStep));
    assert_eq!(refused("new", Some(2), Target::Full(())), Err(Reason::StaleStep));
    assert_eq!(refused("new", None, Target::Next(())), Err(Reason::InvalidField));
    let no_steps = with(&json!({ "spec": { "strategy": { "canary": { "steps": null } } } }));
    assert_eq!(decided(&no_steps, "new", Some(1), Target::Full(())), Err(Reason::StaleStep));
}

#[test]
fn a_step_that_somebody_promoted_already_is_not_promoted_twice() {
    let promoted = with(&json!({ "status": { "pauseConditions": null } }));
    for target in [Target::Next(()), Target::Full(()), Target::ToStepIndex(3)] {
        assert_eq!(decided(&promoted, "new", Some(1), target), Err(Reason::StaleStep));
    }
}

#[test]
fn what_does_not_run_or_is_not_known_is_not_promoted() {
    for (change, reason) in [
        (json!({ "status": { "stableRS": "new" } }), Reason::NothingToPromote),
        (json!({ "status": { "stableRS": null } }), Reason::NothingToPromote),
        (json!({ "status": { "promoteFull": true } }), Reason::NothingToPromote),
        (json!({ "status": { "abort": true } }), Reason::RolloutAborted),
        (json!({ "status": { "observedGeneration": "1" } }), Reason::NotObserved),
        (json!({ "spec": { "replicas": "x" } }), Reason::MalformedObject),
        (json!({ "spec": { "strategy": null } }), Reason::MalformedObject),
    ] {
        assert_eq!(next(&with(&change)), Err(reason), "{change}");
    }
}

#[test]
fn to_a_step_goes_forward_only_and_to_the_end_at_most() {
    let to = |index| decided(&at_pause(), "new", Some(1), Target::ToStepIndex(index));
    assert_eq!((to(2), to(3)), (step(2), step(3)));
    assert_eq!((to(0), to(1)), (Err(Reason::StepNotAhead), Err(Reason::StepNotAhead)));
    assert_eq!(to(4), Err(Reason::InvalidField));
}

#[test]
fn full_asks_the_controller_to_skip_the_rest() {
    let full = Ok(Some(json!({ "promoteFull": true })));
    assert_eq!(decided(&at_pause(), "new", Some(1), Target::Full(())), full);
    let no_steps = with(&json!({ "spec": { "strategy": { "canary": { "steps": null } } } }));
    assert_eq!(decided(&no_steps, "new", None, Target::Full(())), full);
}

#[test]
fn beyond_the_last_step_only_a_pause_by_hand_can_be_ended() {
    let done =
        json!({ "status": { "currentStepIndex": 3, "pauseConditions": null, "controllerPause": null } });
    let at_end = |rollout: &Value| decided(rollout, "new", Some(3), Target::Next(()));
    assert_eq!(at_end(&with(&done)), Err(Reason::NothingToPromote));
    let mut held = with(&done);
    held["spec"]["paused"] = json!(true);
    assert_eq!(at_end(&held), Ok(None));
}

#[test]
fn blue_green_ends_its_pause_and_has_no_steps() {
    let strategy = json!({ "spec": { "strategy": { "canary": null, "blueGreen": { "activeService": "a" } } },
        "status": { "currentStepIndex": null } });
    let paused = with(&strategy);
    let promote = |rollout: &Value, target| decided(rollout, "new", None, target);
    assert_eq!(promote(&paused, Target::Next(())), Ok(Some(json!({ "pauseConditions": null }))));
    assert_eq!(promote(&paused, Target::Full(())), Ok(Some(json!({ "promoteFull": true }))));
    assert_eq!(promote(&paused, Target::ToStepIndex(1)), Err(Reason::InvalidField));
    assert_eq!(decided(&paused, "new", Some(0), Target::Next(())), Err(Reason::StaleStep));
    let mut running = paused;
    running["status"]["pauseConditions"] = Value::Null;
    assert_eq!(promote(&running, Target::Next(())), Err(Reason::NothingToPromote));
}
