use proptest::prelude::*;
use serde_json::{Value, json};

use super::world::{Outcome, World};
use crate::crd::{RolloutPhase, keys};

#[derive(Clone, Debug)]
enum Operation {
    Image(u8),
    NeverReady(u8),
    Abort,
    Retry,
    Promote,
    PromoteFull,
    Scale(i32),
    Pause(bool),
    /// The cluster refuses to create the new set from now on.
    Refuse,
    /// It refuses nothing any more.
    Permit,
    /// Somebody takes a set's hash label away.
    Unlabel(usize),
    /// A weight that is none, or a sound one again.
    Weight(i32),
    /// Another strategy.
    Strategy(Value),
    /// The first of the strategy's metadata: a label of this value, or none.
    Metadata(Option<u8>),
    /// Whether pods carry the status label.
    StatusLabel(bool),
    /// Plans and writes so many times, with pods that move every so often.
    Run(usize),
    Wait(i64),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (1..5_u8).prop_map(Operation::Image),
        (1..5_u8).prop_map(Operation::NeverReady),
        Just(Operation::Abort),
        Just(Operation::Retry),
        Just(Operation::Promote),
        Just(Operation::PromoteFull),
        (0..9_i32).prop_map(Operation::Scale),
        any::<bool>().prop_map(Operation::Pause),
        Just(Operation::Refuse),
        Just(Operation::Permit),
        any::<usize>().prop_map(Operation::Unlabel),
        prop_oneof![Just(101), 0..=100_i32].prop_map(Operation::Weight),
        strategy().prop_map(Operation::Strategy),
        proptest::option::of(0..3_u8).prop_map(Operation::Metadata),
        any::<bool>().prop_map(Operation::StatusLabel),
        (1..6_usize).prop_map(Operation::Run),
        (1..30_i64).prop_map(Operation::Wait),
    ]
}

fn strategy() -> impl Strategy<Value = Value> {
    prop_oneof![canary(), blue_green()]
}

fn blue_green() -> impl Strategy<Value = Value> {
    let maybe = |most: i32| proptest::option::of(0..most);
    let delays = (maybe(20), maybe(20), maybe(4));
    (proptest::option::of(any::<bool>()), maybe(20), maybe(6), delays).prop_map(
        |(auto_promotion, seconds, preview, (delay, abort_delay, limit))| {
            let mut strategy = json!({ "activeService": "active", "previewService": "preview",
                "autoPromotionEnabled": auto_promotion, "autoPromotionSeconds": seconds, "previewReplicaCount": preview,
                "scaleDownDelaySeconds": delay, "abortScaleDownDelaySeconds": abort_delay, "scaleDownDelayRevisionLimit": limit });
            strategy.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            json!({ "blueGreen": strategy })
        },
    )
}

fn canary() -> impl Strategy<Value = Value> {
    let step = prop_oneof![
        (0..=100_i32).prop_map(|weight| json!({ "setWeight": weight })),
        Just(json!({ "pause": { "duration": 5 } })),
        Just(json!({ "pause": {} })),
    ];
    (proptest::collection::vec(step, 0..5), 0..4_i32, 0..4_i32).prop_map(|(steps, surge, unavailable)| {
        let unavailable = if surge == 0 { unavailable.max(1) } else { unavailable };
        json!({ "canary": { "steps": steps, "maxSurge": surge, "maxUnavailable": unavailable } })
    })
}

fn perform(world: &mut World, operation: &Operation) {
    match operation {
        Operation::Image(image) => world.set_image(&format!("v{image}")),
        Operation::NeverReady(image) => {
            world.outcomes.insert(format!("v{image}"), Outcome::Never);
        }
        Operation::Abort => world.patch_status(json!({ "abort": true })),
        Operation::Retry => world.patch_status(json!({ "abort": false })),
        Operation::Promote => promote(world),
        Operation::PromoteFull => world.patch_status(json!({ "promoteFull": true })),
        Operation::Scale(replicas) => world.edit(|spec| spec["replicas"] = json!(replicas)),
        Operation::Pause(paused) => world.edit(|spec| spec["paused"] = json!(paused)),
        Operation::Refuse => world.refuse_any_creation("exceeded quota"),
        Operation::Permit => world.setbacks.clear(),
        Operation::Unlabel(index) => world.unlabel(*index),
        Operation::Weight(weight) => {
            let steps = &world.object["spec"]["strategy"]["canary"]["steps"];
            if steps.get(0).is_some_and(|step| step["setWeight"].is_i64()) {
                world.edit(|spec| spec["strategy"]["canary"]["steps"][0]["setWeight"] = json!(weight));
            }
        }
        Operation::Strategy(strategy) => world.edit(|spec| spec["strategy"] = strategy.clone()),
        Operation::Metadata(value) => world.edit(|spec| {
            let value = value.map(|value| json!({ "labels": { "role": format!("r{value}") } }));
            for (strategy, fields) in [
                ("canary", ["canaryMetadata", "stableMetadata"]),
                ("blueGreen", ["activeMetadata", "previewMetadata"]),
            ] {
                let strategy = &mut spec["strategy"][strategy];
                if strategy.is_object() {
                    strategy[fields[0]] = json!(value);
                }
            }
            spec["strategy"].as_object_mut().unwrap().retain(|_, strategy| !strategy.is_null());
        }),
        Operation::StatusLabel(wanted) => {
            world.object["metadata"]["annotations"][keys::STATUS_LABELS] = json!(wanted.to_string());
        }
        Operation::Run(plans) => {
            for round in 0..*plans {
                let plan = world.plan();
                world.apply(&plan);
                if round % 2 == 1 {
                    world.pods();
                }
            }
        }
        Operation::Wait(seconds) => {
            world.now = world.now.checked_add(jiff::SignedDuration::from_secs(*seconds)).unwrap();
        }
    }
}

/// What kubectl's plugin writes.
fn promote(world: &mut World) {
    let status = world.status();
    if !status.pause_conditions().is_empty() {
        world.patch_status(json!({ "pauseConditions": null }));
    } else if let Some(step) = status.current_step_index {
        let steps = world.object["spec"]["strategy"]["canary"]["steps"].as_array().map_or(0, Vec::len);
        let next = (step + 1).min(i32::try_from(steps).unwrap());
        world.patch_status(json!({ "pauseConditions": null, "currentStepIndex": next }));
    }
}

proptest! {
    /// Whatever happened before, what can become Healthy does, and the plan comes to rest. The world checks surge, availability
    /// and steps after every write on the way.
    #[test]
    fn nothing_ever_sticks(
        replicas in 0..9_i32, strategy in strategy(), operations in proptest::collection::vec(operation(), 0..25),
    ) {
        let mut world = World::with_strategy(replicas, strategy);
        for operation in &operations {
            perform(&mut world, operation);
        }
        world.outcomes.clear();
        world.setbacks.clear();
        world.edit(|spec| spec["paused"] = json!(false));
        perform(&mut world, &Operation::Weight(50));
        world.patch_status(json!({ "abort": false }));
        world.settle();
        for _ in 0..8 {
            if world.status().phase == Some(RolloutPhase::Paused) {
                world.patch_status(json!({ "pauseConditions": null }));
            }
            world.pass(10);
        }
        prop_assert_eq!(world.status().phase, Some(RolloutPhase::Healthy), "{:#?} {:#?}", world.status(), world.sets);
        let plan = world.plan();
        prop_assert!(plan.sets.is_empty() && plan.services.is_empty(), "{plan:?}");
        prop_assert!(plan.rollout.object.is_none() && plan.rollout.status.is_none(), "{plan:?}");
        prop_assert!(plan.blockers.is_empty(), "{:?}", plan.blockers);
        prop_assert!(plan.pods.is_empty() && plan.labelling.is_none_or(|labelling| labelling.is_settled));
        world.check_labels();
    }

    #[test]
    fn the_same_input_gives_the_same_plan(
        replicas in 0..9_i32, strategy in strategy(), operations in proptest::collection::vec(operation(), 0..10),
    ) {
        let mut world = World::with_strategy(replicas, strategy);
        for operation in &operations {
            perform(&mut world, operation);
        }
        prop_assert_eq!(world.plan(), world.plan());
    }
}
