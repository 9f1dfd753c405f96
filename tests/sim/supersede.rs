//! Revision 3 over a stuck revision 2, at every small size and with every limit, while every second write meets a conflict at first.

use std::time::Duration;

use serde_json::{Value, json};

use crate::act::Actor;
use crate::cluster::Cluster;
use crate::end;
use crate::features::Features;
use crate::labels::Labels;
use crate::program::{Act, Fortune, Limits, Pods, Program, Shape, Strategy};
use crate::run::in_virtual_time;
use crate::weather::Storm;

/// Literally nothing for both is an invalid spec; a percentage that rounds to nothing counts as one pod unavailable.
fn limits(replicas: i32) -> Vec<Limits> {
    let numbers =
        (0..=replicas).flat_map(|surge| (0..=replicas).map(move |unavailable| (surge, unavailable)));
    let mut all: Vec<Limits> = numbers
        .filter(|both| *both != (0, 0))
        .map(|(surge, unavailable)| Limits { surge: json!(surge), unavailable: json!(unavailable) })
        .collect();
    all.push(Limits { surge: json!(0), unavailable: json!("1%") });
    all.push(Limits { surge: json!("1%"), unavailable: json!("1%") });
    all
}

fn program(replicas: i32, limits: Limits, steps: Vec<Value>) -> Program {
    let (revise, wait) = (|fortune| Act::Revise(fortune), Duration::from_secs(30));
    Program {
        seed: 1,
        shape: Shape {
            replicas,
            strategy: Strategy::Canary { limits, steps },
            min_ready_seconds: 0,
            progress_deadline_seconds: 20,
            revision_history_limit: None,
            labels: Labels::default(),
            features: Features::default(),
        },
        members: 1,
        pods: Pods { start_up: Duration::from_secs(1), termination: Duration::from_millis(200) },
        storm: Storm::default(),
        acts: vec![(wait, revise(Fortune::NeverReady)), (wait, revise(Fortune::Good))],
    }
}

/// Runs it to its end, which must need nobody.
async fn finishes(program: &Program) -> anyhow::Result<()> {
    let mut cluster = Cluster::start(program, None).await;
    cluster.weather.conflict_at_every_second_write();
    let mut actor = Actor::create(&mut cluster, program).await?;
    for (pause, act) in &program.acts {
        actor.cluster.pass(*pause).await?;
        actor.act(act).await?;
    }
    end::unattended(&mut cluster).await
}

#[test]
fn a_third_revision_finishes_over_a_stuck_second_at_any_size_under_conflicts() {
    let steps = [vec![], vec![json!({ "setWeight": 50 }), json!({ "pause": { "duration": "2s" } })]];
    let mut count = 0;
    for replicas in 1..=4 {
        for (limits, steps) in limits(replicas)
            .into_iter()
            .flat_map(|limits| steps.iter().map(move |steps| (limits.clone(), steps)))
        {
            let program = program(replicas, limits, steps.clone());
            in_virtual_time(async {
                finishes(&program).await.unwrap_or_else(|error| panic!("{:?}: {error:#}", program.shape));
            });
            count += 1;
        }
    }
    println!("{count} combinations of replicas, surge, unavailable and steps");
    assert_eq!(count, 2 * (50 + 4 * 2));
}
