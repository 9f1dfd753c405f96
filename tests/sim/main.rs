//! Simulation: random programs of operations on a rollout, on the embedded cluster in virtual time, with seeded faults on every
//! call and every watch. The properties hold after every write; when faults stop, what can become Healthy does.
//!
//! `ROLLOUTD_SIM_SEEDS=n` runs n programs, `ROLLOUTD_SIM_FIRST=k` begins at another seed than 1, `ROLLOUTD_SIM_SEED=k` replays one and
//! prints its journal.

#![allow(unreachable_pub, reason = "no other crate uses a test: `pub` says what its other files may use")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "all of it is tests")]

#[allow(dead_code, reason = "this suite never deletes its rollout")]
#[path = "../support/properties.rs"]
mod properties;

mod act;
mod cluster;
mod end;
mod features;
mod found;
mod held;
mod labels;
mod lens;
mod plugins;
mod program;
mod run;
mod sabotage;
mod supersede;
mod watcher;
mod weather;

use crate::program::Program;
use crate::run::{replay, replay_line, run_all, simulate};

#[test]
fn programs_end_healthy_and_break_no_property() {
    match number("ROLLOUTD_SIM_SEED") {
        Some(seed) => replay(seed),
        None => {
            let first = number("ROLLOUTD_SIM_FIRST").unwrap_or(1);
            run_all(first..first + number("ROLLOUTD_SIM_SEEDS").unwrap_or(40));
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_journal() {
    for seed in 1..=20 {
        let (first, second) = (simulate(&Program::of(seed), None), simulate(&Program::of(seed), None));
        assert!(first.journal.len() > 30, "seed {seed}: hardly anything was written");
        assert_eq!(first.journal, second.journal, "seed {seed}; {}", replay_line(seed));
    }
}

#[expect(clippy::disallowed_methods, reason = "a test is its own composition root")]
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, not a number")))
}
