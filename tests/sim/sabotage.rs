//! The simulation finds broken rules: control planes that see or write something false. Each breaks another property, and each must
//! be found, by that property.

use serde_json::{Value, json};

use crate::lens::Lens;
use crate::program::{Act, Fortune, Program, Strategy};
use crate::run::simulate;

/// Each is found within so many programs.
const PROGRAMS: u64 = 500;

/// And within so many of those that it may show in; what these do not show is judged too kindly.
const ELIGIBLE: usize = 12;

/// A rule that is broken.
struct Sabotage {
    name: &'static str,
    lens: Lens,
    /// The programs that it may show in; no others are run, which saves time only.
    shows_in: fn(&Program) -> bool,
    /// What is said of it.
    finding: &'static str,
}

const SABOTAGES: [Sabotage; 18] = [
    Sabotage {
        name: "one more pod may be unavailable",
        lens: Lens::Shows("rollouts", |rollout| one_more(rollout, "maxUnavailable")),
        shows_in: |program| is_canary(program) && revises(program),
        finding: "resized: (wanted, available)",
    },
    Sabotage {
        name: "one more pod may be wanted",
        lens: Lens::Shows("rollouts", |rollout| one_more(rollout, "maxSurge")),
        shows_in: |program| is_canary(program) && revises(program),
        finding: "pods wanted, allowed",
    },
    Sabotage {
        name: "the step goes back",
        lens: Lens::Writes("rollouts", |patch| {
            if let Some(step) = patch.pointer_mut("/status/currentStepIndex").filter(|step| **step == 2) {
                *step = json!(0);
            }
        }),
        // Of two steps, 2 is the end.
        shows_in: |program| steps(program).len() > 2 && revises(program),
        finding: "the step went back",
    },
    Sabotage {
        name: "one more pod counts as available",
        lens: Lens::Shows("replicasets", |set| count_available(set, 1)),
        // All pods of a larger set become available at about the same time.
        shows_in: |program| is_blue_green(program) && matches!(program.shape.replicas, 1..=2),
        finding: "the active Service goes from",
    },
    Sabotage {
        name: "one pod less is wanted, of few",
        lens: Lens::Shows("rollouts", |rollout| {
            if let Some(replicas) = rollout.pointer_mut("/spec/replicas")
                && let Some(few @ 1..=3) = replicas.as_i64()
            {
                *replicas = json!(few - 1);
            }
        }),
        shows_in: |program| {
            let shrinks = |act: &Act| matches!(act, Act::Scale(1..=3) | Act::Autoscale(1..=3));
            is_blue_green(program) && program.shape.replicas > 4 && does(program, shrinks)
        },
        finding: "the active version goes from",
    },
    Sabotage {
        name: "all versions are created with one template",
        lens: Lens::Writes("replicasets", |set| {
            if let Some(image) = set.pointer_mut("/spec/template/spec/containers/0/image") {
                *image = json!("registry.test/web:good-0");
            }
        }),
        shows_in: revises,
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
        name: "all pods that are wanted count as available",
        lens: Lens::Shows("replicasets", |set| count_available(set, i64::from(i32::MAX))),
        shows_in: |program| {
            is_canary(program) && is_orderly(program) && revises(program) && program.shape.replicas > 2
        },
        finding: "resized: (wanted, available)",
    },
    Sabotage {
        name: "a version that comes back counts as available",
        lens: Lens::Shows("replicasets", |set| count_available(set, i64::from(i32::MAX))),
        shows_in: |program| {
            is_blue_green(program) && is_orderly(program) && undoes(program) && program.shape.replicas > 2
        },
        finding: "the active Service goes from",
    },
    Sabotage {
        name: "pods are evicted before it is asked for",
        lens: Lens::Shows("rollouts", |rollout| rollout["spec"]["restartAt"] = json!("2026-01-01T00:05:00Z")),
        shows_in: |program| !restarts(program) && program.shape.replicas > 0,
        finding: "a pod is evicted unasked",
    },
    Sabotage {
        name: "a restart is not seen",
        lens: Lens::Shows("rollouts", |rollout| {
            if let Some(spec) = rollout.get_mut("spec").and_then(Value::as_object_mut) {
                spec.remove("restartAt");
            }
        }),
        shows_in: |program| {
            let asks_late = matches!(program.acts.last(), Some((_, Act::Restart)));
            asks_late && !does(program, Act::revises) && program.shape.replicas > 0
        },
        finding: "was not restarted",
    },
    Sabotage {
        name: "one pod less counts as available",
        lens: Lens::Shows("replicasets", |set| count_available(set, -1)),
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
        shows_in: |program| {
            let ends = |step: &Value| step.pointer("/pause/duration").is_some();
            steps(program).iter().any(ends) && revises(program)
        },
        finding: "stuck: ",
    },
];

fn is_orderly(program: &Program) -> bool {
    !does(program, Act::disturbs_pods) && program.storm.late == 0
}

fn is_canary(program: &Program) -> bool {
    matches!(program.shape.strategy, Strategy::Canary { .. })
}

fn is_blue_green(program: &Program) -> bool {
    matches!(program.shape.strategy, Strategy::BlueGreen { .. })
}

fn steps(program: &Program) -> &[Value] {
    match &program.shape.strategy {
        Strategy::Canary { steps, .. } => steps,
        Strategy::BlueGreen { .. } => &[],
    }
}

fn revises(program: &Program) -> bool {
    does(program, |act| matches!(act, Act::Revise(Fortune::Good)))
}

fn undoes(program: &Program) -> bool {
    does(program, |act| matches!(act, Act::Undo(_) | Act::Retry))
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

/// So many more pods of a set are available, within what it wants.
fn count_available(set: &mut Value, more: i64) {
    let wanted = set.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    if let Some(status) = set.get_mut("status") {
        let available = status["availableReplicas"].as_i64().unwrap_or(0);
        status["availableReplicas"] = json!((available + more).clamp(0, wanted.max(available)));
    }
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
fn look_for(sabotage: &Sabotage) {
    let Sabotage { name, lens, shows_in, finding } = sabotage;
    let programs = (1..=PROGRAMS).map(Program::of).filter(shows_in).take(ELIGIBLE);
    let mut others = Vec::new();
    for program in programs {
        let error = simulate(&program, Some(*lens)).error.unwrap_or_default();
        if error.contains(finding) {
            assert_eq!(simulate(&program, None).error, None, "{name}: so is what is not broken");
            println!("{name}: found by seed {}, after {} others: {error}", program.seed, others.len());
            return;
        }
        others.push((program.seed, error));
    }
    panic!("{name}: not found; instead: {others:#?}");
}

#[test]
fn rules_that_are_broken_are_found() {
    std::thread::scope(|scope| {
        for sabotage in &SABOTAGES {
            scope.spawn(|| look_for(sabotage));
        }
    });
}
