mod limits;
mod refused;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::crd::{Rollout, keys};
use crate::plan::{self, Attempt, Blocker, PodFault, PodPart, ReplicaSet, Service, SetStatus, Setback};

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn second(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

/// What would happen, with all of its states.
#[derive(Debug)]
struct Timeline {
    states: Vec<State>,
    end: End,
    aborted: bool,
    failing: Option<Failing>,
}

fn foresee(copied: Copied, assumptions: Assumptions) -> Result<Timeline, Question> {
    let mut states = Vec::new();
    let mut tell = |state: &State| {
        states.push(state.clone());
        ControlFlow::Continue(())
    };
    let Foreseen { end, reached, aborted, failing } = super::foresee(copied, assumptions, &mut tell)?;
    assert!(states.last().is_none_or(|last| last.at <= reached));
    Ok(Timeline { states, end, aborted, failing })
}

/// A rollout that was created just now.
fn fresh(replicas: i32, strategy: &Value) -> Copied {
    let object = json!({
        "metadata": { "name": "web", "namespace": "shop", "uid": "uid-web", "generation": 1, "creationTimestamp": now().to_string() },
        "spec": {
            "replicas": replicas, "strategy": strategy, "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "web", "image": "v1" }] } },
        },
    });
    let service = |name: &str| {
        let selector = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
        Arc::new(Service { name: name.to_owned(), selector, ..Service::default() })
    };
    let seen = Observed {
        services: ["active", "preview"].map(service).into(),
        ..Observed::alone(Arc::new(Rollout::decode(&object).unwrap()))
    };
    Copied { seen, pods: Vec::new(), now: now() }
}

/// The same once it is at rest, with a change of its spec.
fn updated(replicas: i32, strategy: &Value, change: &Value) -> Copied {
    let copied = fresh(replicas, strategy);
    changed(foresee(copied, ASSUMED).unwrap().states.pop().unwrap().seen, change)
}

/// A state with a change of its spec; all of its pods are ready.
fn changed(seen: Observed, change: &Value) -> Copied {
    let mut object = serde_json::to_value(&*seen.rollout).unwrap();
    let generation = seen.rollout.metadata.generation.unwrap() + i64::from(*change != json!({}));
    json_patch::merge(&mut object, &json!({ "metadata": { "generation": generation }, "spec": change }));
    let pods = seen.sets.iter().flat_map(|set| {
        let pod = |number: i32| Pod {
            name: format!("{}-{number}", set.name),
            uid: format!("{}-{number}", set.name),
            set: set.uid.clone(),
            created: now(),
            ready_since: Some(now()),
            ..Pod::default()
        };
        (0..set.status.replicas).map(pod).collect::<Vec<_>>()
    });
    let pods = pods.collect();
    let rollout = Arc::new(Rollout::decode(&object).unwrap());
    Copied { seen: Observed { rollout, ..seen }, pods, now: now() + second(60) }
}

fn v2() -> Value {
    json!({ "template": { "spec": { "containers": [{ "name": "web", "image": "v2" }] } } })
}

const ASSUMED: Assumptions = Assumptions {
    start_up: SignedDuration::from_secs(5),
    newest: Outcome::Ready,
    failing: Outcome::NeverReady,
    abort_at_step: None,
    endless_pauses: EndlessPauses::Last,
};

/// When it rests, the step, the available pods of each version, and what is waited for first.
fn told(timeline: &Timeline) -> Vec<(i64, Option<i32>, String, Option<BlockerReason>)> {
    let available = |state: &State| {
        let mut counts: Vec<String> = state
            .seen
            .sets
            .iter()
            .map(|set| {
                let image = set.template.pointer("/spec/containers/0/image").and_then(Value::as_str).unwrap();
                format!("{image}: {}/{}", set.status.available, set.replicas)
            })
            .collect();
        counts.sort();
        counts.join(" ")
    };
    let tell = |state: &State| {
        let step = state.seen.rollout.status().current_step_index;
        (state.at.as_secs(), step, available(state), state.blockers.first().map(|blocker| blocker.reason))
    };
    timeline.states.iter().map(tell).collect()
}

fn row(
    at: i64,
    step: impl Into<Option<i32>>,
    pods: &str,
    waits: impl Into<Option<BlockerReason>>,
) -> (i64, Option<i32>, String, Option<BlockerReason>) {
    (at, step.into(), pods.to_owned(), waits.into())
}

fn steps() -> Value {
    json!({ "canary": { "steps": [{ "setWeight": 25 }, { "pause": { "duration": 30 } }, { "setWeight": 50 }, { "pause": {} }] } })
}

#[test]
fn a_rollout_that_is_new_comes_up_and_rests() {
    let timeline = foresee(fresh(3, &steps()), ASSUMED).unwrap();
    assert_eq!(timeline.end, End::Rest);
    assert_eq!(told(&timeline), [row(5, 4, "v1: 3/3", None)]);
}

#[test]
fn timed_pauses_pass_and_endless_ones_end_the_timeline() {
    let timeline = foresee(updated(4, &steps(), &v2()), ASSUMED).unwrap();
    let expected = [
        row(5, 1, "v1: 3/3 v2: 1/1", BlockerReason::PauseStep),
        row(40, 3, "v1: 2/2 v2: 2/2", BlockerReason::PauseStep),
    ];
    assert_eq!((told(&timeline), timeline.end), (expected.to_vec(), End::Rest));
    let last = timeline.states.last().unwrap();
    assert_eq!(
        (last.blockers[0].next_at, &*last.blockers[0].next),
        (None, "promote it, then the new version takes over")
    );
    assert_eq!(timeline.states[0].blockers[0].next_at, Some(now() + second(60 + 5 + 30)));
}

#[test]
fn what_is_promoted_goes_on_to_the_end() {
    let promoted = Assumptions { endless_pauses: EndlessPauses::ArePromoted, ..ASSUMED };
    let timeline = foresee(updated(4, &steps(), &v2()), promoted).unwrap();
    let told = told(&timeline);
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!((told[2].1, &*told[2].2, told[2].3), (Some(4), "v1: 0/0 v2: 4/4", None));
    let strategy = json!({ "blueGreen": { "activeService": "active", "autoPromotionEnabled": false, "scaleDownDelaySeconds": 10 } });
    let timeline = foresee(updated(2, &strategy, &v2()), promoted).unwrap();
    let expected = [
        row(5, None, "v1: 2/2 v2: 2/2", BlockerReason::BlueGreenPause),
        row(5, None, "v1: 2/2 v2: 2/2", None),
        row(15, None, "v1: 0/0 v2: 2/2", None),
    ];
    assert_eq!(super::tests::told(&timeline), expected);
    let active = |state: &State| state.seen.service("active").unwrap().hash().to_owned();
    assert_ne!(active(&timeline.states[0]), active(&timeline.states[1]));
}

#[test]
fn pods_that_never_become_ready_run_into_the_deadline() {
    let change = json_merged(v2(), &json!({ "progressDeadlineSeconds": 60 }));
    let never = Assumptions { newest: Outcome::NeverReady, ..ASSUMED };
    let timeline = foresee(updated(4, &steps(), &change), never).unwrap();
    let expected = [
        row(0, 0, "v1: 3/3 v2: 0/1", BlockerReason::PodsNotAvailable),
        row(60, 0, "v1: 3/3 v2: 0/1", BlockerReason::ProgressDeadlineExceeded),
    ];
    assert_eq!(told(&timeline), expected);
}

#[test]
fn an_update_that_aborts_itself_goes_back_when_its_time_is_up() {
    let change = json_merged(v2(), &json!({ "progressDeadlineSeconds": 60, "progressDeadlineAbort": true }));
    let never = Assumptions { newest: Outcome::NeverReady, ..ASSUMED };
    let timeline = foresee(updated(4, &steps(), &change), never).unwrap();
    let expected = [
        row(0, 0, "v1: 3/3 v2: 0/1", BlockerReason::PodsNotAvailable),
        row(65, 0, "v1: 4/4 v2: 0/0", BlockerReason::Aborted),
    ];
    assert_eq!(told(&timeline), expected);
    assert!(timeline.states[1].blockers[0].message.ends_with("has timed out progressing."));
}

#[test]
fn an_abort_brings_the_stable_version_back() {
    let aborted = Assumptions { abort_at_step: Some(1), ..ASSUMED };
    let timeline = foresee(updated(4, &steps(), &v2()), aborted).unwrap();
    let expected = [
        row(5, 1, "v1: 3/3 v2: 1/1", BlockerReason::PauseStep),
        row(10, 0, "v1: 4/4 v2: 0/0", BlockerReason::Aborted),
    ];
    assert_eq!((told(&timeline), timeline.aborted), (expected.to_vec(), true));
    let timeline = foresee(fresh(4, &steps()), aborted).unwrap();
    assert!(!timeline.aborted, "a first version is no update");
}

#[test]
fn a_restart_replaces_pods_few_at_a_time() {
    let canary = json!({ "canary": { "maxUnavailable": 1 } });
    let copied = updated(3, &canary, &json!({ "restartAt": (now() + second(30)).to_string() }));
    let before: Vec<String> = copied.pods.iter().map(|pod| pod.uid.clone()).collect();
    let timeline = foresee(copied, ASSUMED).unwrap();
    assert_eq!(told(&timeline), [row(15, None, "v1: 3/3", None)]);
    assert_eq!(before.len(), 3);
    let status = timeline.states[0].seen.rollout.status();
    assert_eq!(status.restarted_at, timeline.states[0].seen.rollout.spec.restart_at);
}

#[test]
fn pods_that_cannot_run_stay_so_unless_they_are_taken_to_start() {
    let mut copied = updated(2, &steps(), &json!({ "minReadySeconds": 0 }));
    let fault = |pod: &mut Pod, created: i64| {
        pod.ready_since = None;
        pod.created = now() + second(created);
        let part = PodPart::Container("web".to_owned());
        let (reason, message) = ("CrashLoopBackOff".to_owned(), String::new());
        pod.fault = Some(PodFault { part, reason, message });
    };
    fault(&mut copied.pods[0], 30);
    fault(&mut copied.pods[1], 20);
    let oldest = copied.pods[1].name.clone();
    let stay = foresee(copied.clone(), ASSUMED).unwrap();
    let Some(Failing { pod, more: 1 }) = &stay.failing else { panic!("{:?}", stay.failing) };
    assert_eq!(pod.name, oldest);
    assert_eq!(told(&stay).last().unwrap().2, "v1: 0/2");
    let start = foresee(copied.clone(), Assumptions { failing: Outcome::Ready, ..ASSUMED }).unwrap();
    assert_eq!((told(&start).last().unwrap().2.as_str(), start.failing.unwrap().more), ("v1: 2/2", 1));
    // Of an older version nothing is expected, and nothing is said.
    let status = json!({ "status": { "stableRS": "another" }, "spec": v2() });
    let mut object = serde_json::to_value(&*copied.seen.rollout).unwrap();
    json_patch::merge(&mut object, &status);
    copied.seen.rollout = Arc::new(Rollout::decode(&object).unwrap());
    assert!(foresee(copied, ASSUMED).unwrap().failing.is_none());
}

#[test]
fn states_differ_in_what_is_shown() {
    let seen = foresee(updated(4, &steps(), &v2()), ASSUMED).unwrap().states.remove(0);
    let change = |change: &dyn Fn(&mut ReplicaSet)| {
        let mut other = seen.clone();
        change(Arc::make_mut(&mut other.seen.sets[0]));
        seen.resembles(&other)
    };
    assert!(change(&|set| set.status.observed_generation += 1));
    assert!(change(&|set| set.generation += 1));
    assert!(!change(&|set| set.status.ready -= 1));
    assert!(!change(&|set| {
        set.annotations.insert(keys::SCALE_DOWN_DEADLINE.to_owned(), now().to_string());
    }));
    let wait = |change: &dyn Fn(&mut Blocker)| {
        let mut other = State { at: seen.at + second(1), ..seen.clone() };
        change(&mut other.blockers[0]);
        seen.resembles(&other)
    };
    assert!(wait(&|_| ()));
    assert!(wait(&|blocker| blocker.next_at = blocker.next_at.map(|at| at + second(1))));
    assert!(!wait(&|blocker| blocker.next_at = None));
    assert!(!wait(&|blocker| blocker.next.push('!')));
}

#[test]
fn pods_that_are_starting_take_the_rest_of_their_time() {
    let mut copied = updated(1, &steps(), &json!({ "minReadySeconds": 0 }));
    copied.pods[0].ready_since = None;
    copied.pods[0].created = copied.now - second(3);
    let at = |copied: Copied| foresee(copied, ASSUMED).unwrap().states.last().unwrap().at.as_secs();
    assert_eq!(at(copied.clone()), 2);
    copied.pods[0].created = copied.now - second(30);
    assert_eq!(at(copied), 0, "a pod that is late is ready at once");
}

#[test]
fn what_the_plan_must_know_is_asked_for() {
    let mut copied = fresh(1, &json!({ "blueGreen": { "activeService": "active" } }));
    copied.seen.services.clear();
    let question = foresee(copied.clone(), ASSUMED).unwrap_err();
    assert_eq!(question, Question::Services(vec!["active".to_owned()]));
    copied.seen.absent_services.insert("active".to_owned());
    let timeline = foresee(copied, ASSUMED).unwrap();
    assert_eq!(told(&timeline), [row(0, None, "", BlockerReason::ServiceMissing)]);
}

#[test]
fn the_same_copy_has_the_same_future_and_stays_as_it_was() {
    let copied = updated(4, &steps(), &v2());
    let before = format!("{copied:?}");
    let told = || format!("{:?}", foresee(copied.clone(), ASSUMED).unwrap());
    assert_eq!(told(), told());
    assert_eq!(format!("{copied:?}"), before);
}

#[test]
fn sets_that_do_not_exist_have_no_version() {
    let timeline = foresee(updated(4, &steps(), &v2()), ASSUMED).unwrap();
    for set in &timeline.states[0].seen.sets {
        assert_eq!(set.resource_version, "", "{}", set.name);
        assert!(set.labels.contains_key(keys::POD_TEMPLATE_HASH));
    }
}

fn json_merged(mut value: Value, patch: &Value) -> Value {
    json_patch::merge(&mut value, patch);
    value
}
