//! How far is looked, and what a look ahead keeps.

use std::sync::Weak;

use super::*;

#[test]
fn a_timeline_without_end_is_cut_off() {
    let many = i32::try_from(MOST_PODS).unwrap() + 1;
    let timeline = foresee(fresh(many, &steps()), ASSUMED).unwrap();
    assert_eq!((timeline.states.len(), timeline.end), (0, End::CutOff(Limit::Pods)));
    let long = json!({ "canary": { "steps": [{ "setWeight": 50 }, { "pause": { "duration": "9000h" } }, { "pause": {} }] } });
    let timeline = foresee(updated(2, &long, &v2()), ASSUMED).unwrap();
    assert_eq!((timeline.states.len(), timeline.end), (1, End::CutOff(Limit::Time)));
    assert_eq!(Limit::Time.to_string(), "it would take longer than 366 days");
    let pause = json!({ "pause": { "duration": 1 } });
    let steps: Vec<Value> = vec![pause; MOST_STATES + 2];
    let timeline = foresee(updated(1, &json!({ "canary": { "steps": steps } }), &v2()), ASSUMED).unwrap();
    assert_eq!((timeline.states.len(), timeline.end), (MOST_STATES, End::CutOff(Limit::States)));
}

#[test]
fn what_takes_too_much_work_is_cut_off() {
    let restart = json!({ "restartAt": (now() + second(30)).to_string() });
    let one_by_one = json!({ "canary": { "maxUnavailable": 1, "maxSurge": 0, "steps": [] } });
    let timeline = foresee(updated(3_000, &one_by_one, &restart), ASSUMED).unwrap();
    assert_eq!(timeline.end, End::CutOff(Limit::Effort));
    // A rollout that is long in itself takes longer to decide about.
    let note = json!({ "template": { "metadata": { "annotations": { "note": "x".repeat(1_000_000) } } } });
    let pause = json!({ "pause": { "duration": 1 } });
    let steps: Vec<Value> = vec![pause; MOST_STATES + 2];
    let timeline = foresee(updated(1, &json!({ "canary": { "steps": steps } }), &note), ASSUMED).unwrap();
    assert_eq!(timeline.end, End::CutOff(Limit::Effort));
    assert!(timeline.states.len() < MOST_STATES);
}

#[test]
fn one_state_is_kept_at_a_time() {
    let mut rollouts: Vec<Weak<Rollout>> = Vec::new();
    let mut kept = Vec::new();
    let mut tell = |state: &State| {
        kept.push(rollouts.iter().filter(|rollout| rollout.strong_count() > 0).count());
        rollouts.push(Arc::downgrade(&state.seen.rollout));
        ControlFlow::Continue(())
    };
    let promoted = Assumptions { endless_pauses: EndlessPauses::ArePromoted, ..ASSUMED };
    super::super::foresee(updated(4, &steps(), &v2()), promoted, &mut tell).unwrap();
    assert_eq!(kept, [0, 1, 1]);
}

#[test]
fn who_has_no_room_for_a_state_is_told_no_more() {
    let mut told = 0;
    let mut tell = |_: &State| {
        told += 1;
        if told < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let foreseen = super::super::foresee(updated(4, &steps(), &v2()), ASSUMED, &mut tell).unwrap();
    assert_eq!((foreseen.end, foreseen.reached), (End::CutOff(Limit::Answer), second(40)));
    assert_eq!(told, 2);
}

#[test]
fn ten_thousand_pods_are_followed() {
    let copied = updated(10_000, &json!({ "canary": { "maxSurge": "25%", "maxUnavailable": "25%" } }), &v2());
    let timeline = foresee(copied, ASSUMED).unwrap();
    assert_eq!(timeline.end, End::Rest);
    assert!(told(&timeline).last().unwrap().2.contains("v2: 10000/10000"));
}

#[test]
fn replica_sets_are_work_too() {
    let pause = json!({ "pause": { "duration": 1 } });
    let steps: Vec<Value> = vec![pause; MOST_STATES - 2];
    let change = json_merged(v2(), &json!({ "revisionHistoryLimit": 10_000 }));
    let mut copied = updated(1, &json!({ "canary": { "steps": steps } }), &change);
    assert_eq!(foresee(copied.clone(), ASSUMED).unwrap().end, End::Rest);
    let one = Arc::clone(&copied.seen.sets[0]);
    copied.seen.sets.extend((0..1_000).map(|number| {
        let mut set = ReplicaSet::clone(&one);
        set.name = format!("{}-{number}", one.name);
        set.uid.clone_from(&set.name);
        set.labels.insert(keys::POD_TEMPLATE_HASH.to_owned(), number.to_string());
        set.template = Arc::new(json!({ "number": number }));
        (set.replicas, set.status) =
            (0, SetStatus { observed_generation: set.generation, ..SetStatus::default() });
        Arc::new(set)
    }));
    assert_eq!(foresee(copied, ASSUMED).unwrap().end, End::CutOff(Limit::Effort));
}
