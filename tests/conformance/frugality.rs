//! What a rollout costs the API server, counted there. The workers' requests are told apart by their User-Agent from those of
//! simcluster, of RPCs, of Leases, of watches and of events.

use std::collections::BTreeMap;
use std::time::Duration;

use rolloutd::apiserver::{Audit, CodeClass, Verb};
use rolloutd::serve::Part;
use serde_json::json;

use crate::drive::{Drive, Driver};
use crate::scenarios::{healthy, in_virtual_time};
use crate::world::{World, manifest};

/// The most successful writes of a full cycle; Argo Rollouts needs 33 to 39, the least is about 21.
const CYCLE_WRITES: u64 = 30;

fn embedded(test: impl AsyncFn(&Drive<'_>)) {
    in_virtual_time(async || {
        let world = World::embedded().await;
        test(&Drive { world: &world, driver: Driver::Patches }).await;
        world.finish().await;
    });
}

/// Requests of the workers by verb and kind; events have a client of their own.
fn of_workers(audit: &Audit) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (key, count) in audit.iter().filter(|(key, _)| key.user_agent == Part::Workers.agent()) {
        let resource = key.resource.as_ref().map(ToString::to_string).unwrap_or_default();
        let subresource =
            if key.subresource.is_empty() { String::new() } else { format!("/{}", key.subresource) };
        *counts.entry(format!("{} {resource}{subresource} {:?}", key.verb, key.class)).or_default() += count;
    }
    counts
}

fn writes(audit: &Audit) -> u64 {
    audit.count(|key| {
        key.user_agent == Part::Workers.agent() && key.verb.is_write() && key.class == CodeClass::Success
    })
}

#[test]
fn a_full_cycle_of_four_weights_costs_few_writes() {
    embedded(async |drive| {
        let before = drive.world.cluster().api.audit();
        let steps =
            json!([{ "setWeight": 20 }, { "setWeight": 40 }, { "setWeight": 60 }, { "setWeight": 80 }]);
        drive.create(manifest(5, json!({ "steps": steps }))).await;
        healthy(drive).await;
        drive.set_image("v2").await;
        healthy(drive).await;
        drive.world.pass(Duration::from_secs(60)).await;
        let cost = drive.world.cluster().api.audit().since(&before);
        for (request, count) in of_workers(&cost) {
            println!("{count:4} {request}");
        }
        println!("{:4} successful writes of the workers in all", writes(&cost));
        let reads = cost.count(|key| key.user_agent == Part::Workers.agent() && !key.verb.is_write());
        assert_eq!(reads, 0, "nothing is read before it is written");
        assert!(writes(&cost) <= CYCLE_WRITES, "{} writes", writes(&cost));
    });
}

#[test]
fn an_idle_rollout_costs_nothing() {
    embedded(async |drive| {
        drive.create(manifest(5, json!({ "steps": [{ "setWeight": 20 }, { "pause": {} }] }))).await;
        healthy(drive).await;
        drive.world.pass(Duration::from_secs(60)).await;
        for state in ["healthy", "paused in the middle"] {
            let before = drive.world.cluster().api.audit();
            drive.world.pass(Duration::from_secs(600)).await;
            let cost = drive.world.cluster().api.audit().since(&before);
            let ours = cost.count(|key| key.user_agent.starts_with("rolloutd/") && key.verb != Verb::Watch);
            assert_eq!(ours, 0, "{state}: {cost:#?}");
            drive.set_image("v2").await;
            drive.world.pass(Duration::from_secs(60)).await;
        }
    });
}
