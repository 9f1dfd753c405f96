//! How many old versions are kept, with pods and without: scaleDownDelayRevisionLimit and revisionHistoryLimit (contract A1, 4.6).

use serde_json::{Value, json};

use super::world::World;

/// Rolls versions out one after the other, each fully promoted, a second apart.
fn roll_out(world: &mut World, versions: impl IntoIterator<Item = u32>) {
    for version in versions {
        world.set_image(&format!("v{version}"));
        world.settle();
        world.patch_status(json!({ "promoteFull": true }));
        world.settle();
        world.pass(1);
    }
}

fn blue_green(limit: &Value) -> World {
    let mut world =
        World::blue_green(2, json!({ "scaleDownDelaySeconds": 600, "scaleDownDelayRevisionLimit": limit }));
    world.settle();
    world
}

fn pods(world: &World, versions: u32) -> Vec<i32> {
    (1..=versions).map(|version| world.replicas(&format!("v{version}"))).collect()
}

#[test]
fn of_replaced_versions_as_many_stay_up_as_the_limit_says_the_newest_of_them() {
    for (limit, expected) in [
        (Value::Null, [2, 2, 2, 2]),
        (json!(2), [0, 2, 2, 2]),
        (json!(1), [0, 0, 2, 2]),
        (json!(0), [0, 0, 0, 2]),
    ] {
        let mut world = blue_green(&limit);
        roll_out(&mut world, 2..=4);
        assert_eq!(pods(&world, 4), expected, "{limit}");
        world.pass(600);
        assert_eq!(pods(&world, 4), [0, 0, 0, 2], "{limit}: all of them go in the end");
    }
}

#[test]
fn old_versions_without_pods_are_kept_as_the_history_limit_says_the_oldest_go() {
    for (limit, kept) in [(Value::Null, 10), (json!(3), 3), (json!(0), 0)] {
        for mut world in
            [World::new(2, json!({})), World::blue_green(2, json!({ "scaleDownDelaySeconds": 0 }))]
        {
            world.object["spec"]["revisionHistoryLimit"] = limit.clone();
            world.settle();
            roll_out(&mut world, 2..=13);
            let images =
                world.sets.values().map(|set| set.template["spec"]["containers"][0]["image"].clone());
            let mut images: Vec<_> =
                images.map(|image| image.as_str().unwrap()[1..].parse::<u32>().unwrap()).collect();
            images.sort_unstable();
            let expected: Vec<u32> = (13 - kept..=13).collect();
            assert_eq!(images, expected, "{limit}");
        }
    }
}

#[test]
fn a_version_that_still_has_pods_is_not_deleted_whatever_the_limit() {
    let mut world = blue_green(&Value::Null);
    world.edit(|spec| spec["revisionHistoryLimit"] = json!(0));
    world.settle();
    roll_out(&mut world, 2..=3);
    assert_eq!((world.sets.len(), pods(&world, 3)), (3, vec![2, 2, 2]));
    world.pass(600);
    assert_eq!(world.sets.len(), 1);
}
