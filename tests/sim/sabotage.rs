//! The simulation finds broken rules: control planes that see or write something false. Each breaks another property, and each must
//! be found, by that property.

use serde_json::{Value, json};

use crate::lens::Lens;
use crate::program::{Act, Program, Strategy};
use crate::run::simulate;

/// Among the programs of so many seeds it must be found.
const SEEDS: u64 = 500;

/// A rule that is broken.
struct Sabotage {
    name: &'static str,
    lens: Lens,
    /// The programs that it may show in; no others are run.
    shows_in: fn(&Program) -> bool,
    /// What is said of it.
    finding: &'static str,
}

const SABOTAGES: [Sabotage; 14] = [
    Sabotage {
        name: "one more pod may be unavailable",
        lens: Lens::Shows("rollouts", |rollout| one_more(rollout, "maxUnavailable")),
        shows_in: is_canary,
        finding: "resized: (wanted, available)",
    },
    Sabotage {
        name: "one more pod may be wanted",
        lens: Lens::Shows("rollouts", |rollout| one_more(rollout, "maxSurge")),
        shows_in: is_canary,
        finding: "pods wanted, allowed",
    },
    Sabotage {
        name: "the step goes back",
        lens: Lens::Writes("rollouts", |patch| {
            if let Some(step) = patch.pointer_mut("/status/currentStepIndex") {
                *step = json!(step.as_i64().map(|step| (step - 2).max(0)));
            }
        }),
        shows_in: |program| steps(program) > 2,
        finding: "the step went back",
    },
    Sabotage {
        name: "one more pod counts as available",
        lens: Lens::Shows("replicasets", |set| {
            if let Some(status) = set.get_mut("status") {
                status["availableReplicas"] = json!(status["availableReplicas"].as_i64().unwrap_or(0) + 1);
            }
        }),
        shows_in: |program| is_blue_green(program) && program.shape.replicas > 0,
        finding: "the active Service goes from",
    },
    Sabotage {
        name: "sets shrink by one more pod",
        lens: Lens::Writes("replicasets", |patch| {
            if let Some(replicas) = patch.pointer_mut("/spec/replicas") {
                *replicas = json!(replicas.as_i64().map(|replicas| (replicas - 1).max(0)));
            }
        }),
        shows_in: |program| is_blue_green(program) && does(program, |act| matches!(act, Act::Scale(_))),
        finding: "the active version goes from",
    },
    Sabotage {
        name: "all versions are created with one template",
        lens: Lens::Writes("replicasets", |set| {
            if let Some(image) = set.pointer_mut("/spec/template/spec/containers/0/image") {
                *image = json!("registry.test/web:good-0");
            }
        }),
        shows_in: |_| true,
        finding: "have the same template",
    },
    Sabotage {
        name: "an abort is taken back",
        lens: Lens::Writes("rollouts", |patch| set_status(patch, "abort", false)),
        shows_in: |program| does(program, |act| matches!(act, Act::Abort)),
        finding: "an abort was taken back",
    },
    Sabotage {
        name: "an update aborts by itself",
        lens: Lens::Writes("rollouts", |patch| set_status(patch, "abort", true)),
        shows_in: |_| true,
        finding: "it was aborted unasked",
    },
    Sabotage {
        name: "the spec is changed",
        lens: Lens::Writes("rollouts", |patch| {
            if patch.get("status").is_none() {
                patch["spec"] = json!({ "replicas": 1 });
            }
        }),
        shows_in: |program| program.shape.replicas > 1,
        finding: "a worker changed the spec",
    },
    Sabotage {
        name: "pods count as available as soon as they are ready",
        lens: Lens::Shows("rollouts", |rollout| rollout["spec"]["minReadySeconds"] = json!(0)),
        shows_in: |program| restarts(program) && program.shape.min_ready_seconds > 0,
        finding: "an eviction leaves too few pods",
    },
    Sabotage {
        name: "pods that are not ready count as available",
        lens: Lens::Shows("pods", make_ready),
        shows_in: restarts,
        finding: "an eviction leaves too few pods",
    },
    Sabotage {
        name: "one pod less counts as available",
        lens: Lens::Shows("replicasets", |set| {
            if let Some(status) = set.get_mut("status") {
                let available = status["availableReplicas"].as_i64().unwrap_or(0);
                status["availableReplicas"] = json!((available - 1).max(0));
            }
        }),
        shows_in: |program| program.shape.replicas > 0,
        finding: "stuck: ",
    },
    Sabotage {
        name: "what is paused by nobody counts as paused",
        lens: Lens::Shows("rollouts", |rollout| rollout["spec"]["paused"] = json!(true)),
        shows_in: |program| program.shape.replicas > 0,
        finding: "stuck: ",
    },
    Sabotage {
        name: "pauses never end",
        lens: Lens::Shows("rollouts", |rollout| {
            let steps = rollout.pointer_mut("/spec/strategy/canary/steps").and_then(Value::as_array_mut);
            for pause in steps.into_iter().flatten().filter_map(|step| step.get_mut("pause")) {
                *pause = json!({});
            }
        }),
        shows_in: |program| steps(program) > 2,
        finding: "stuck: ",
    },
];

fn is_canary(program: &Program) -> bool {
    matches!(program.shape.strategy, Strategy::Canary { .. })
}

fn is_blue_green(program: &Program) -> bool {
    matches!(program.shape.strategy, Strategy::BlueGreen { .. })
}

fn steps(program: &Program) -> usize {
    match &program.shape.strategy {
        Strategy::Canary { steps, .. } => steps.len(),
        Strategy::BlueGreen { .. } => 0,
    }
}

fn restarts(program: &Program) -> bool {
    does(program, |act| matches!(act, Act::Restart))
}

fn does(program: &Program, is_it: fn(&Act) -> bool) -> bool {
    program.acts.iter().any(|(_, act)| is_it(act))
}

/// One more of maxSurge or maxUnavailable.
fn one_more(rollout: &mut Value, limit: &str) {
    let replicas = rollout.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    let Some(limit) = rollout.pointer_mut(&format!("/spec/strategy/canary/{limit}")) else { return };
    let pods = match &*limit {
        Value::String(percentage) => {
            let percent: i64 = percentage.trim_end_matches('%').parse().unwrap_or(0);
            replicas * percent / 100
        }
        number => number.as_i64().unwrap_or(0),
    };
    *limit = json!(pods + 1);
}

fn set_status(patch: &mut Value, field: &str, value: bool) {
    if let Some(status) = patch.get_mut("status") {
        status[field] = json!(value);
    }
}

fn make_ready(pod: &mut Value) {
    let conditions = pod.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter(|condition| condition["type"] == "Ready") {
        condition["status"] = json!("True");
    }
}

/// Runs programs until one shows it.
fn look_for(sabotage: &Sabotage) -> Result<String, String> {
    let Sabotage { name, lens, shows_in, finding } = sabotage;
    let mut others = Vec::new();
    for program in (1..=SEEDS).map(Program::of).filter(shows_in) {
        let Some(error) = simulate(&program, Some(*lens)).error else { continue };
        if error.contains(finding) {
            return Ok(format!(
                "{name}: found by program {} after {} others: {error}",
                program.seed,
                others.len()
            ));
        }
        others.push(error);
    }
    Err(format!("{name}: not found; found instead: {others:#?}"))
}

#[test]
fn rules_that_are_broken_are_found() {
    let found: Vec<_> = std::thread::scope(|scope| {
        let looks: Vec<_> = SABOTAGES.iter().map(|sabotage| scope.spawn(|| look_for(sabotage))).collect();
        looks.into_iter().map(|look| look.join().unwrap()).collect()
    });
    for found in found {
        println!("{}", found.unwrap_or_else(|missed| panic!("{missed}")));
    }
}
