//! Runs programs, one after the other on each core, and tells how to replay the one that fails.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::act::Actor;
use crate::cluster::Cluster;
use crate::end::end;
use crate::lens::Lens;
use crate::program::Program;

/// How many failures are told before it is enough.
const ENOUGH: usize = 5;

/// How much of a failed program's journal is told.
const TAIL: usize = 60;

/// What became of a program.
pub struct Outcome {
    pub journal: Vec<String>,
    /// What went wrong.
    pub error: Option<String>,
}

/// Runs something in a runtime of its own, whose time is virtual.
pub fn in_virtual_time<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(what)
}

/// Runs one program.
pub fn simulate(program: &Program, lens: Option<Lens>) -> Outcome {
    // The jitter of watches' pauses comes from this thread's generator, and a program runs on one thread.
    fastrand::seed(program.seed);
    in_virtual_time(async {
        let mut cluster = Cluster::start(program, lens).await;
        let ran = act_and_end(&mut cluster, program).await;
        let error = ran.err().map(|error| format!("{error:#}"));
        Outcome { journal: std::mem::take(&mut cluster.watcher().journal), error }
    })
}

async fn act_and_end(cluster: &mut Cluster, program: &Program) -> anyhow::Result<()> {
    let mut actor = Actor::create(cluster, program).await?;
    actor.cluster.weather.storm(program.storm);
    for (pause, act) in &program.acts {
        actor.cluster.pass(*pause).await?;
        actor.act(act).await?;
    }
    actor.cluster.pass(std::time::Duration::from_secs(1)).await?;
    end(&mut actor, program).await
}

/// Runs the programs of these seeds on all cores.
pub fn run_all(seeds: std::ops::Range<u64>) {
    let (next, failures, writes) = (AtomicU64::new(seeds.start), Mutex::new(Vec::new()), AtomicU64::new(0));
    let began = Instant::now();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= seeds.end || failures.lock().unwrap().len() >= ENOUGH {
                return;
            }
            let outcome = simulate(&Program::of(seed), None);
            writes.fetch_add(outcome.journal.len() as u64, Ordering::SeqCst);
            if outcome.error.is_some() {
                failures.lock().unwrap().push((seed, outcome));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap();
    let (ran, writes) = (next.into_inner().min(seeds.end) - seeds.start, writes.into_inner());
    println!("{ran} programs, {writes} writes and acts, {} failed, in {:?}", failures.len(), began.elapsed());
    for (seed, outcome) in &failures {
        tell(*seed, outcome, TAIL);
    }
    assert!(failures.is_empty(), "{} programs failed", failures.len());
}

/// Runs the program of one seed and prints all of it.
pub fn replay(seed: u64) {
    let program = Program::of(seed);
    println!("{program:#?}");
    let outcome = simulate(&program, None);
    tell(seed, &outcome, usize::MAX);
    assert!(outcome.error.is_none(), "the program failed");
}

fn tell(seed: u64, outcome: &Outcome, lines: usize) {
    for line in &outcome.journal[outcome.journal.len().saturating_sub(lines)..] {
        println!("{line}");
    }
    if let Some(error) = &outcome.error {
        println!("seed {seed}: {error}");
        println!("replay it: ROLLOUTD_SIM_SEED={seed} cargo test --test sim programs -- --nocapture\n");
    }
}
