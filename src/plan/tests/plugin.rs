//! Steps that a plugin performs.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::scenarios::{condition, healthy, phase};
use super::world::World;
use crate::crd::{ConditionType, RolloutPhase, StepPluginPhase};
use crate::plan::{Answer, BlockerReason, KnownPlugins, PluginState, Reply};

const RUNS: StepPluginPhase = StepPluginPhase::Running;
const DONE: StepPluginPhase = StepPluginPhase::Successful;
const FAILED: StepPluginPhase = StepPluginPhase::Failed;

/// A weight, a plugin, a pause, another plugin.
fn steps() -> Value {
    json!({ "steps": [
        { "setWeight": 50 }, { "plugin": { "name": "acme/smoke", "config": { "url": "u" } } }, { "pause": {} },
        { "plugin": { "name": "acme/notify" } },
    ] })
}

fn world(state: &PluginState) -> World {
    let mut world = healthy(4, steps());
    let by_name = ["acme/smoke", "acme/notify"].map(|name| (name.to_owned(), state.clone())).into();
    world.plugins.known = Some(Arc::new(KnownPlugins { by_name, fault: None }));
    world.set_image("v2");
    world
}

fn reply(phase: &StepPluginPhase, message: &str, state: Value) -> Result<Reply, String> {
    let status = Some(state).filter(|state| !state.is_null());
    Ok(Reply { phase: phase.clone(), message: message.to_owned(), requeue_after: None, status })
}

fn done() -> Result<Reply, String> {
    reply(&DONE, "", Value::Null)
}

fn replies<const N: usize>(world: &mut World, replies: [Result<Reply, String>; N]) {
    world.replies.extend(replies);
    world.settle();
}

/// What the status has of the plugins: index, operation, phase, executions, backoff.
fn entries(world: &World) -> Vec<String> {
    let status = world.object["status"]["canary"]["stepPluginStatuses"].clone();
    let entry = |entry: &Value| {
        let text = |field: &str| entry[field].as_str().unwrap_or("-").to_owned();
        format!(
            "{} {} {} {} {}",
            entry["index"],
            text("operation"),
            text("phase"),
            entry["executions"],
            text("backoff")
        )
    };
    status.as_array().into_iter().flatten().map(entry).collect()
}

fn transitions(world: &World) -> Vec<&str> {
    world.events.iter().filter_map(|event| event.strip_prefix("StepPluginTransition: ")).collect()
}

#[test]
fn a_step_passes_once_its_plugin_has_done_it() {
    let mut world = world(&PluginState::Ready);
    world.settle();
    assert_eq!(world.status().current_step_index, Some(1));
    assert_eq!(world.replicas("v2"), 2, "it is asked once the weight is reached");
    let plan = world.plan();
    let call = plan.call.expect("something is asked");
    assert_eq!((call.config, call.status), (Some(json!({ "url": "u" })), None));

    replies(&mut world, [done()]);
    assert_eq!(world.status().current_step_index, Some(2));
    assert_eq!(entries(&world), ["1 Run Successful 1 -"]);
    assert_eq!(transitions(&world), ["Step plugin acme/smoke (step 2): Run Successful"]);
    world.patch_status(json!({ "pauseConditions": null }));
    replies(&mut world, [done()]);
    assert_eq!(phase(&world).0, RolloutPhase::Healthy);
    assert_eq!(world.calls, ["Run 1", "Run 3"]);
    assert_eq!(entries(&world).len(), 2, "what was done stays to be seen");
    world.set_image("v3");
    world.settle();
    assert_eq!(entries(&world), Vec::<String>::new(), "another update begins anew");
}

#[test]
fn a_plugin_that_runs_is_asked_again_when_it_wants_with_what_it_said() {
    let mut world = world(&PluginState::Ready);
    let soon = |seconds| {
        let state = json!({ "seen": seconds });
        let after = Some(SignedDuration::from_secs(seconds));
        reply(&RUNS, "looking", state).map(|reply| Reply { requeue_after: after, ..reply })
    };
    replies(&mut world, [soon(1)]);
    assert_eq!(entries(&world), ["1 Run Running 1 10s"], "not sooner than that");
    let blocker =
        world.plan().blockers.into_iter().find(|blocker| blocker.reason == BlockerReason::StepPlugin);
    let blocker = blocker.expect("the plugin is waited for");
    assert_eq!(blocker.message, "plugin acme/smoke runs step 1: looking");
    assert_eq!(blocker.next_at, world.plan().wake_at);
    world.pass(9);
    assert_eq!(world.calls.len(), 1);
    world.replies.push_back(soon(90));
    world.pass(1);
    assert_eq!(entries(&world), ["1 Run Running 2 1m30s"]);
    world.replies.push_back(reply(&RUNS, "", Value::Null));
    world.pass(90);
    assert_eq!(entries(&world), ["1 Run Running 3 30s"], "where it does not say");
    world.replies.push_back(done());
    world.pass(30);
    assert_eq!(world.calls, ["Run 1", r#"Run 1 {"seen":1}"#, r#"Run 1 {"seen":90}"#, "Run 1"]);
    assert_eq!(world.status().current_step_index, Some(2));
    let said = [
        "Step plugin acme/smoke (step 2): Run Running: looking",
        "Step plugin acme/smoke (step 2): Run Successful",
    ];
    assert_eq!(transitions(&world), said);
}

#[test]
fn a_plugin_takes_its_time_whatever_the_deadline() {
    let mut world = world(&PluginState::Ready);
    world.edit(|spec| spec["progressDeadlineAbort"] = json!(true));
    replies(&mut world, [reply(&RUNS, "", Value::Null)]);
    for _ in 0..100 {
        world.replies.push_back(reply(&RUNS, "", Value::Null));
        world.pass(30);
    }
    assert_eq!(phase(&world).0, RolloutPhase::Progressing);
}

#[test]
fn one_that_cannot_be_asked_is_asked_again() {
    let mut world = world(&PluginState::Ready);
    replies(&mut world, [Err("connection refused".to_owned())]);
    assert_eq!(entries(&world), ["1 Run Error 1 30s"]);
    world.pass(29);
    assert_eq!(world.calls.len(), 1);
    world.replies.push_back(done());
    world.pass(1);
    assert_eq!(world.calls.len(), 2);
    assert_eq!(world.status().current_step_index, Some(2));
}

#[test]
fn one_that_fails_aborts_the_update_and_what_was_done_is_undone_the_last_first() {
    let mut world = world(&PluginState::Ready);
    replies(&mut world, [done()]);
    world.patch_status(json!({ "pauseConditions": null }));
    replies(&mut world, [reply(&FAILED, "nobody reads it", Value::Null)]);
    let status = world.status();
    assert!(status.abort());
    let (_, reason) = condition(&world, &ConditionType::Progressing);
    assert_eq!(reason, "RolloutAborted");
    let message = &status.condition(&ConditionType::Progressing).unwrap().message;
    assert!(message.ends_with("Step Plugin 4 (acme/notify) failed: nobody reads it"), "{message}");
    // What failed has nothing to undo.
    replies(&mut world, [reply(&RUNS, "", Value::Null)]);
    assert_eq!(entries(&world), ["1 Run Successful 1 -", "3 Run Failed 1 -", "1 Abort Running 1 30s"]);
    world.replies.push_back(done());
    world.pass(30);
    assert_eq!(entries(&world)[2], "1 Abort Successful 2 -");
    assert_eq!(world.calls, ["Run 1", "Run 3", "Abort 1", "Abort 1"]);
    world.replies.push_back(done());
    world.pass(300);
    assert_eq!(world.calls.len(), 4, "it is over");
    world.edit(|spec| spec["replicas"] = json!(5));
    world.settle();
    let said = [
        "Step plugin acme/smoke (step 2): Run Successful",
        "Step plugin acme/notify (step 4): Run Failed: nobody reads it",
        "Step plugin acme/smoke (step 2): Abort Running",
        "Step plugin acme/smoke (step 2): Abort Successful",
    ];
    assert_eq!(transitions(&world), said, "each is said once");

    world.patch_status(json!({ "abort": false }));
    world.settle();
    assert_eq!(world.calls.len(), 5, "a retry runs it again");
    assert_eq!(world.calls[4], "Run 1");
    assert_eq!(entries(&world), ["1 Run Successful 1 -"]);
    assert_eq!(world.status().current_step_index, Some(2));
}

#[test]
fn an_abort_undoes_what_runs_and_what_was_done() {
    let mut world = world(&PluginState::Ready);
    replies(&mut world, [done()]);
    world.patch_status(json!({ "pauseConditions": null }));
    replies(&mut world, [reply(&RUNS, "", json!({ "id": 7 }))]);
    world.patch_status(json!({ "abort": true }));
    replies(&mut world, [done(), Err("away".to_owned())]);
    assert_eq!(world.calls[2..], [r#"Abort 3 {"id":7}"#, "Abort 1"]);
    let done = ["1 Run Successful 1 -", "3 Run Running 1 30s"];
    assert_eq!(entries(&world), [done[0], done[1], "3 Abort Successful 1 -", "1 Abort Error 1 30s"]);
    assert_eq!(world.replicas("v2"), 0, "pods do not wait for it");
}

#[test]
fn what_is_left_behind_by_a_promotion_is_stopped() {
    let mut world = world(&PluginState::Ready);
    replies(&mut world, [reply(&RUNS, "", Value::Null)]);
    world.patch_status(json!({ "promoteFull": true }));
    replies(&mut world, [reply(&RUNS, "", Value::Null)]);
    assert_eq!(entries(&world), ["1 Run Running 1 30s", "1 Terminate Running 1 30s"]);
    assert_eq!(phase(&world).0, RolloutPhase::Healthy, "nothing waits for it");
    world.replies.push_back(done());
    world.pass(30);
    assert_eq!(entries(&world)[1], "1 Terminate Successful 2 -");
    assert_eq!(world.calls, ["Run 1", "Terminate 1", "Terminate 1"]);
    assert_eq!((world.plan().call, world.plan().wake_at), (None, None));
}

#[test]
fn nothing_is_asked_before_the_status_says_where_the_update_stands() {
    let mut world = world(&PluginState::Ready);
    world.settle_with(|plan| {
        if plan.rollout.status.as_ref().is_some_and(|write| write.patch.get("currentStepIndex").is_some()) {
            assert_eq!(plan.call, None);
        }
    });
    assert!(world.plan().call.is_some());
    world.edit(|spec| spec["paused"] = json!(true));
    world.settle();
    assert_eq!(world.plan().call, None, "nor while people hold it");
}

#[test]
fn an_answer_to_what_nobody_wants_to_know_any_more_is_dropped() {
    let mut world = world(&PluginState::Ready);
    world.settle();
    let asked = world.plan().call.unwrap().asked;
    world.set_image("v3");
    world.settle();
    world.plugins.answer =
        Some(Answer { asked, began: world.now, ended: world.now, result: reply(&FAILED, "", Value::Null) });
    assert!(world.plan().answer_is_stale);
    world.settle();
    assert_eq!((world.plugins.answer.clone(), world.status().abort()), (None, false));
    assert_eq!(entries(&world), Vec::<String>::new());
}

#[test]
fn the_answer_of_a_plugin_that_was_asked_before_an_abort_is_undone() {
    let mut world = world(&PluginState::Ready);
    world.settle();
    let asked = world.plan().call.unwrap().asked;
    world.patch_status(json!({ "abort": true }));
    world.settle();
    world.plugins.answer = Some(Answer { asked, began: world.now, ended: world.now, result: done() });
    replies(&mut world, [done()]);
    assert_eq!(entries(&world), ["1 Run Successful 1 -", "1 Abort Successful 1 -"]);
}

#[test]
fn disabled_plugins_pass_and_are_noted() {
    let mut world = world(&PluginState::Disabled);
    world.settle();
    assert_eq!(world.status().current_step_index, Some(2));
    let entry = &world.object["status"]["canary"]["stepPluginStatuses"][0];
    assert_eq!((&entry["disabled"], &entry["phase"]), (&json!(true), &json!("Successful")));
    world.patch_status(json!({ "abort": true }));
    world.settle();
    assert_eq!(world.plan().call, None, "there is nothing to undo");
}

#[test]
fn a_plugin_that_cannot_be_used_holds_its_step_and_says_why() {
    for (state, says) in [
        (
            Some(PluginState::Unusable("no such file".to_owned())),
            "plugin acme/smoke of step 1 cannot be asked: no such file",
        ),
        (
            None,
            "plugin acme/smoke of step 1 cannot be asked: stepPlugins of ConfigMap argo-rollouts-config does not name it: add it there and restart rolloutd, or change the step",
        ),
    ] {
        let mut world = world(&PluginState::Ready);
        let by_name = state.into_iter().map(|state| ("acme/smoke".to_owned(), state)).collect();
        world.plugins.known = Some(Arc::new(KnownPlugins { by_name, fault: None }));
        world.settle();
        let plan = world.plan();
        assert_eq!((plan.call, world.status().current_step_index), (None, Some(1)));
        let blocker = &plan.blockers[0];
        assert_eq!((blocker.reason, &*blocker.message), (BlockerReason::PluginUnusable, says));
        let notice = plan.notices.iter().find(|notice| notice.reason == "StepPluginUnusable");
        assert_eq!(notice.map(|notice| &*notice.message), Some(says), "who looks at events knows as well");
        // It can be promoted past, and aborted.
        world.patch_status(json!({ "promoteFull": true }));
        world.settle();
        assert_eq!(phase(&world).0, RolloutPhase::Healthy);
    }
}

/// The state after an abort that has undone nothing yet: the first plugin is done, the second runs.
fn aborted_while_the_second_runs() -> World {
    let mut world = world(&PluginState::Ready);
    replies(&mut world, [done()]);
    world.patch_status(json!({ "pauseConditions": null }));
    replies(&mut world, [reply(&RUNS, "", Value::Null)]);
    world.patch_status(json!({ "abort": true }));
    world.settle();
    world
}

#[test]
fn a_retry_runs_every_plugin_again_whether_or_not_what_it_did_was_undone() {
    let mut world = aborted_while_the_second_runs();
    replies(&mut world, [Err("away".to_owned())]);
    assert_eq!(entries(&world).len(), 3);
    world.patch_status(json!({ "abort": false }));
    world.settle();
    assert_eq!((world.status().current_step_index, entries(&world)), (Some(1), Vec::new()));
    replies(&mut world, [done()]);
    assert_eq!(world.calls[3..], ["Run 1"]);
    assert_eq!(world.status().current_step_index, Some(2));
}

#[test]
fn an_answer_from_before_a_retry_or_from_other_steps_is_none() {
    for change in [
        json!({ "abort": false }),
        json!({ "strategy": { "canary": { "steps": [{ "setWeight": 50 }, { "plugin": { "name": "acme/smoke", "config": { "url": "v" } } }] } } }),
    ] {
        let mut world = world(&PluginState::Ready);
        world.settle();
        let asked = world.plan().call.unwrap().asked;
        world.pass(1);
        if change.get("abort").is_some() {
            world.patch_status(json!({ "abort": true }));
            world.settle();
            world.pass(1);
            world.patch_status(change);
        } else {
            world.edit(|spec| json_patch::merge(spec, &change));
        }
        world.settle();
        let answer =
            Answer { asked, began: world.now, ended: world.now, result: reply(&FAILED, "", Value::Null) };
        world.plugins.answer = Some(answer);
        assert!(world.plan().answer_is_stale);
        world.settle();
        assert!(!world.status().abort() && entries(&world).is_empty(), "{:?}", entries(&world));
    }
}

#[test]
fn what_was_ended_is_undone_by_a_later_abort() {
    let mut world = world(&PluginState::Ready);
    replies(&mut world, [reply(&RUNS, "", json!({ "id": 7 }))]);
    world.patch_status(json!({ "currentStepIndex": 2 }));
    replies(&mut world, [done()]);
    assert_eq!(entries(&world), ["1 Run Running 1 30s", "1 Terminate Successful 1 -"]);
    world.patch_status(json!({ "abort": true }));
    replies(&mut world, [done()]);
    assert_eq!(world.calls, ["Run 1", r#"Terminate 1 {"id":7}"#, r#"Abort 1 {"id":7}"#]);
}

#[test]
fn a_step_that_was_left_and_cannot_be_ended_holds_no_other_up() {
    let mut world = world(&PluginState::Ready);
    replies(&mut world, [reply(&RUNS, "", Value::Null)]);
    world.patch_status(json!({ "currentStepIndex": 3 }));
    replies(&mut world, [Err("away".to_owned()), done()]);
    assert_eq!(world.calls, ["Run 1", "Terminate 1", "Run 3"]);
    assert_eq!(phase(&world).0, RolloutPhase::Healthy);
}

#[test]
fn a_plugin_that_cannot_tell_keeps_its_state() {
    let mut world = world(&PluginState::Ready);
    let errs = reply(&StepPluginPhase::Error, "busy", Value::Null);
    replies(&mut world, [reply(&RUNS, "", json!({ "id": 7 }))]);
    world.replies.push_back(errs);
    world.pass(30);
    world.replies.push_back(done());
    world.pass(30);
    assert_eq!(world.calls, ["Run 1", r#"Run 1 {"id":7}"#, r#"Run 1 {"id":7}"#]);
}

#[test]
fn no_plugin_is_asked_before_there_are_pods_that_it_could_be_about() {
    let canary = json!({ "steps": [{ "plugin": { "name": "acme/smoke" } }] });
    let mut world = World::new(2, canary.clone());
    let by_name = [("acme/smoke".to_owned(), PluginState::Ready)].into();
    world.plugins.known = Some(Arc::new(KnownPlugins { by_name, fault: None }));
    assert_eq!(world.plan().call, None);
    world.settle();
    assert_eq!(
        (phase(&world).0, world.calls.len()),
        (RolloutPhase::Healthy, 0),
        "a first version needs no steps"
    );
    world.set_image("v2");
    world.refuse_any_creation("exceeded quota");
    world.settle_without_creating();
    assert_eq!(world.plan().call, None);
    world.setbacks.clear();
    world.settle();
    assert!(world.plan().call.is_some());
}

/// What Argo Rollouts leaves after an abort and after a promotion: every operation has an entry of its own, and one that erred is over.
#[test]
fn what_argo_rollouts_left_is_gone_on_with() {
    let mut world = aborted_while_the_second_runs();
    let entry = |index: i32, name: &str, operation: &str, phase: &str| {
        json!({ "index": index, "name": name, "operation": operation, "phase": phase, "executions": 1,
            "startedAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:00Z" })
    };
    let left = [
        entry(1, "acme/smoke", "Run", "Successful"),
        entry(3, "acme/notify", "Run", "Successful"),
        entry(3, "acme/notify", "Abort", "Successful"),
        entry(1, "acme/smoke", "Abort", "Error"),
    ];
    world.patch_status(json!({ "canary": { "stepPluginStatuses": left } }));
    world.replies.push_back(reply(&RUNS, "", Value::Null));
    world.pass(60);
    assert_eq!(world.calls[2..], ["Abort 1"], "what is done is not done again");
    world.replies.push_back(done());
    world.pass(30);
    assert_eq!(world.calls[2..], ["Abort 1", "Abort 1"]);
    assert_eq!((world.plan().call, world.plan().wake_at), (None, None));
}

#[test]
fn all_of_an_entry_is_written() {
    let mut world = world(&PluginState::Ready);
    world.settle();
    let asked = world.plan().call.unwrap().asked;
    let began = world.now;
    world.pass(7);
    let result = reply(&DONE, "all is well", json!({ "id": 7 }));
    world.plugins.answer = Some(Answer { asked, began, ended: world.now, result });
    world.settle();
    assert_eq!(
        world.object["status"]["canary"]["stepPluginStatuses"],
        json!([{
            "index": 1, "name": "acme/smoke", "operation": "Run", "phase": "Successful", "message": "all is well",
            "startedAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:07Z", "finishedAt": "2026-01-01T00:00:07Z",
            "executions": 1, "status": { "id": 7 },
        }])
    );
}
