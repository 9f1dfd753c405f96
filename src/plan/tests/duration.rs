//! status.duration in a table: what happens when, and what it says then (contract 4.11). Times are seconds since the first thing that
//! happens.

use serde_json::{Value, json};

use super::world::{Outcome, World};
use crate::crd::Time;
use crate::plan::Ended;

/// Something that happens.
enum Do {
    Image(&'static str),
    /// A status is written, as clients do.
    Status(Value),
    /// spec.paused.
    Hold(bool),
    /// Pods of the new version come up from now on, or do not.
    PodsComeUp(bool),
    Steps(Value),
    /// So many seconds pass.
    Pass(i64),
}

use Do::{Hold, Image, Pass, PodsComeUp, Status, Steps};

fn promote() -> Do {
    Status(json!({ "pauseConditions": null }))
}

fn full() -> Do {
    Status(json!({ "promoteFull": true }))
}

fn abort() -> Do {
    Status(json!({ "abort": true }))
}

fn retry() -> Do {
    Status(json!({ "abort": false }))
}

fn perform(world: &mut World, what: Do) {
    match what {
        Image(image) => world.set_image(image),
        Status(status) => world.patch_status(status),
        Hold(paused) => world.edit(|spec| spec["paused"] = json!(paused)),
        PodsComeUp(true) => world.outcomes.clear(),
        PodsComeUp(false) => {
            world.outcomes.insert("v2".to_owned(), Outcome::Never);
        }
        Steps(steps) => world.edit(|spec| spec["strategy"]["canary"]["steps"] = steps),
        Pass(seconds) => return world.pass(seconds),
    }
    world.settle();
}

/// What status.duration says, with times as seconds since the beginning.
fn said(world: &World, began: jiff::Timestamp) -> Value {
    let duration = world.status().duration.unwrap_or_default();
    let since = |time: &Time| json!(time.instant().duration_since(began).as_secs());
    let fields = [
        ("start", duration.rollout_started_at.as_ref().map(since)),
        ("held", duration.manual_pause_started_at.as_ref().map(since)),
        ("total", duration.total_manual_pause_duration_seconds.map(Value::from)),
        ("end", duration.finished_at.as_ref().map(since)),
        ("how", duration.completion_status.as_ref().map(|how| json!(how.as_str()))),
    ];
    fields.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?))).collect()
}

fn check(name: &str, world: &mut World, program: Vec<Do>, expected: &Value) {
    let began = world.now;
    for what in program {
        perform(world, what);
    }
    assert_eq!(said(world, began), *expected, "{name}: {:#?}", world.status());
}

fn canary() -> World {
    let steps =
        json!([{ "setWeight": 50 }, { "pause": {} }, { "setWeight": 75 }, { "pause": { "duration": 20 } }]);
    up(World::new(4, json!({ "steps": steps })))
}

fn blue_green(more: &Value) -> World {
    let mut strategy = json!({ "autoPromotionEnabled": false, "scaleDownDelaySeconds": 100 });
    json_patch::merge(&mut strategy, more);
    up(World::blue_green(4, strategy))
}

fn up(mut world: World) -> World {
    world.settle();
    world.pass(1000);
    world
}

/// What is told of a row: its name, what is done, and what the status says then.
type Row = (&'static str, Vec<Do>, Value);

#[test]
fn a_canary_from_its_start_to_each_of_its_ends() {
    for (name, program, expected) in on_the_way().into_iter().chain(to_an_end()) {
        check(name, &mut canary(), program, &expected);
    }
}

fn on_the_way() -> Vec<Row> {
    vec![
        ("start", vec![PodsComeUp(false), Image("v2")], json!({ "start": 0 })),
        ("an endless pause", vec![Image("v2"), Pass(7)], json!({ "start": 0, "held": 0 })),
        (
            "a pause that comes later",
            vec![PodsComeUp(false), Image("v2"), Pass(5), PodsComeUp(true), Pass(2)],
            json!({ "start": 0, "held": 5 }),
        ),
        ("resume", vec![Image("v2"), Pass(7), promote()], json!({ "start": 0, "total": 7 })),
        (
            "a timed pause is nobody's, and completion",
            vec![Image("v2"), Pass(7), promote(), Pass(20)],
            json!({ "start": 0, "total": 7, "end": 27, "how": "Promoted" }),
        ),
        (
            "held by hand in the timed pause",
            vec![Image("v2"), promote(), Pass(5), Hold(true), Pass(30), Hold(false)],
            json!({ "start": 0, "total": 30, "end": 35, "how": "Promoted" }),
        ),
        (
            "held by hand in the endless pause is held once",
            vec![Image("v2"), Pass(5), Hold(true), Pass(10), Hold(false), Pass(5)],
            json!({ "start": 0, "held": 0 }),
        ),
        ("no progress is no end", vec![PodsComeUp(false), Image("v2"), Pass(601)], json!({ "start": 0 })),
    ]
}

fn to_an_end() -> Vec<Row> {
    vec![
        (
            "abort",
            vec![Image("v2"), Pass(7), abort(), Pass(9)],
            json!({ "start": 0, "total": 7, "end": 7, "how": "Aborted" }),
        ),
        ("retry", vec![Image("v2"), Pass(7), abort(), Pass(9), retry()], json!({ "start": 16, "held": 16 })),
        (
            "other steps after an abort",
            vec![Image("v2"), abort(), Pass(9), Steps(json!([{ "pause": {} }]))],
            json!({ "start": 9, "held": 9 }),
        ),
        (
            "other steps on the way",
            vec![Image("v2"), Pass(9), Steps(json!([{ "setWeight": 25 }, { "pause": {} }])), Pass(1)],
            json!({ "start": 0, "held": 9, "total": 9 }),
        ),
        (
            "full promotion",
            vec![Image("v2"), Pass(7), full()],
            json!({ "start": 0, "total": 7, "end": 7, "how": "FastPromoted" }),
        ),
        (
            "a full promotion that waits for pods",
            vec![Image("v2"), Pass(7), PodsComeUp(false), full(), Pass(3), PodsComeUp(true)],
            json!({ "start": 0, "total": 7, "end": 10, "how": "FastPromoted" }),
        ),
        ("superseded", vec![Image("v2"), Pass(7), Image("v3"), Pass(1)], json!({ "start": 7, "held": 7 })),
        (
            "back to the stable version on the way",
            vec![Image("v2"), Pass(7), Image("v1")],
            json!({ "start": 7, "end": 7, "how": "FastRolledBack" }),
        ),
        (
            "back to the stable version after an abort",
            vec![Image("v2"), abort(), Pass(7), Image("v1")],
            json!({ "start": 7, "end": 7, "how": "FastRolledBack" }),
        ),
        (
            "back to an earlier version, step by step",
            vec![Image("v2"), full(), Pass(100), Image("v1"), Pass(1), promote(), Pass(20)],
            json!({ "start": 100, "total": 1, "end": 121, "how": "RolledBack" }),
        ),
        (
            "back to an earlier version without steps",
            vec![Image("v2"), full(), Pass(100), Image("v1"), Pass(1), full()],
            json!({ "start": 100, "total": 1, "end": 101, "how": "FastRolledBack" }),
        ),
        (
            "what is held after the end is not counted",
            vec![Image("v2"), full(), Pass(1), Hold(true), Pass(50), Hold(false)],
            json!({ "start": 0, "total": 0, "end": 0, "how": "FastPromoted" }),
        ),
    ]
}

#[test]
fn a_blue_green_update_from_its_start_to_each_of_its_ends() {
    let rows = [
        ("start", vec![PodsComeUp(false), Image("v2"), Pass(3)], json!({ "start": 0 })),
        ("the wait for promotion", vec![Image("v2"), Pass(7)], json!({ "start": 0, "held": 0 })),
        (
            "promotion is completion; the scale-down delay is not part of it",
            vec![Image("v2"), Pass(7), promote(), Pass(60)],
            json!({ "start": 0, "total": 7, "end": 7, "how": "Promoted" }),
        ),
        (
            "held by hand and then promoted",
            vec![Image("v2"), Pass(1), Hold(true), promote(), Pass(5), Hold(false)],
            json!({ "start": 0, "total": 6, "end": 6, "how": "Promoted" }),
        ),
        (
            "full promotion",
            vec![Image("v2"), Pass(7), full()],
            json!({ "start": 0, "total": 7, "end": 7, "how": "FastPromoted" }),
        ),
        (
            "abort",
            vec![Image("v2"), Pass(7), abort(), Pass(60)],
            json!({ "start": 0, "total": 7, "end": 7, "how": "Aborted" }),
        ),
        ("retry", vec![Image("v2"), Pass(7), abort(), Pass(9), retry()], json!({ "start": 16, "held": 16 })),
        ("superseded", vec![Image("v2"), Pass(7), Image("v3")], json!({ "start": 7, "held": 7 })),
        (
            "undone while it waits",
            vec![Image("v2"), Pass(7), Image("v1")],
            json!({ "start": 7, "end": 7, "how": "FastRolledBack" }),
        ),
        (
            "back within the scale-down delay",
            vec![Image("v2"), full(), Pass(50), Image("v1")],
            json!({ "start": 50, "end": 50, "how": "FastRolledBack" }),
        ),
        (
            "back after the scale-down delay",
            vec![Image("v2"), full(), Pass(200), Image("v1"), Pass(5), promote()],
            json!({ "start": 200, "total": 5, "end": 205, "how": "RolledBack" }),
        ),
    ];
    for (name, program, expected) in rows {
        check(name, &mut blue_green(&json!({})), program, &expected);
    }
    let promotes_itself = json!({ "autoPromotionEnabled": true, "autoPromotionSeconds": 30 });
    check(
        "a pause that ends by itself is nobody's",
        &mut blue_green(&promotes_itself),
        vec![Image("v2"), Pass(30)],
        &json!({ "start": 0, "end": 30, "how": "Promoted" }),
    );
}

#[test]
fn the_first_version_is_an_update_too() {
    for mut world in
        [World::new(2, json!({})), World::blue_green(2, json!({ "autoPromotionEnabled": false }))]
    {
        world.outcomes.insert("v1".to_owned(), Outcome::Never);
        world.settle();
        let began = world.now;
        assert_eq!(said(&world, began), json!({ "start": 0 }));
        world.outcomes.clear();
        world.pass(12);
        assert_eq!(said(&world, began), json!({ "start": 0, "end": 12, "how": "Promoted" }));
    }
}

#[test]
fn what_ended_is_told_once_with_its_length() {
    let mut world = canary();
    let ended = |world: &mut World, what: Do| {
        perform(world, what);
        std::mem::take(&mut world.ended)
    };
    ended(&mut world, Image("v2"));
    ended(&mut world, Pass(7));
    let superseded = ended(&mut world, Image("v3"));
    let told =
        |how: crate::crd::CompletionStatus, seconds, paused_seconds| Ended { how, seconds, paused_seconds };
    assert_eq!(superseded, [told(crate::crd::CompletionStatus::Superseded, 7, 7)]);
    ended(&mut world, Pass(3));
    assert_eq!(ended(&mut world, full()), [told(crate::crd::CompletionStatus::FastPromoted, 3, 3)]);
    assert_eq!(ended(&mut world, Pass(100)), []);
}
