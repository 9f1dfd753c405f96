//! Runs programs, one after the other on each core, and tells how to replay the one that fails.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use crate::act::Actor;
use crate::cluster::Cluster;
use crate::end::end;
use crate::lens::Lens;
use crate::program::Program;
use crate::properties::Judged;

/// How many failures are told before it is enough.
const ENOUGH: usize = 5;

/// How much of a failed program's journal is told.
const TAIL: usize = 60;

/// How long a program may take, of real time, before it is said that it still runs; and how often it is said how far all of them are.
const PATIENCE: Duration = Duration::from_secs(60);

/// The least share of resizes that are judged by the limits, in percent: what is excused shows nothing.
const LEAST_JUDGED: u64 = 60;

/// What became of a program.
pub struct Outcome {
    pub journal: Vec<String>,
    /// What went wrong.
    pub error: Option<String>,
    pub judged: Judged,
}

thread_local! {
    /// What panicked on this thread. The control plane catches a plan that panics and goes on; here it is a failure.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Has panics noted by the thread that they happen on, once.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with_borrow_mut(|panics| panics.push(panic.to_string()));
            before(panic);
        }));
    });
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
    note_panics();
    PANICS.take();
    let run = || {
        in_virtual_time(async {
            let mut cluster = Cluster::start(program, lens).await;
            let ran = act_and_end(&mut cluster, program).await;
            let error = ran.err().map(|error| format!("{error:#}"));
            let judged = cluster.watcher().judged();
            Outcome { journal: std::mem::take(&mut cluster.watcher().journal), error, judged }
        })
    };
    let ran = std::panic::catch_unwind(AssertUnwindSafe(run));
    let panics = PANICS.take();
    let mut outcome =
        ran.unwrap_or_else(|_| Outcome { journal: Vec::new(), error: None, judged: Judged::default() });
    // A panic comes first: what went wrong after it may be its consequence.
    outcome.error = panics.into_iter().next().map(|panic| format!("panicked: {panic}")).or(outcome.error);
    outcome
}

async fn act_and_end(cluster: &mut Cluster, program: &Program) -> anyhow::Result<()> {
    let mut actor = Actor::create(cluster, program).await?;
    actor.cluster.weather.storm(program.storm);
    for (pause, act) in &program.acts {
        actor.cluster.pass(*pause).await?;
        actor.act(act).await?;
    }
    actor.cluster.pass(Duration::from_secs(1)).await?;
    end(&mut actor, program).await
}

/// Runs the programs of these seeds on all cores.
#[expect(clippy::disallowed_methods, reason = "a thread that only waits for others")]
pub fn run_all(seeds: std::ops::Range<u64>) {
    let (next, sum) = (AtomicU64::new(seeds.start), Mutex::new(Sum::default()));
    let began = Instant::now();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= seeds.end || sum.lock().unwrap().failures.len() >= ENOUGH {
                return;
            }
            sum.lock().unwrap().running.insert(seed, Instant::now());
            let outcome = simulate(&Program::of(seed), None);
            sum.lock().unwrap().add(seed, outcome);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..std::thread::available_parallelism().map_or(1, usize::from))
            .map(|_| scope.spawn(work))
            .collect();
        let mut told = began;
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::sleep(Duration::from_millis(100));
            sum.lock().unwrap().tell_of_slow_ones();
            if told.elapsed() >= PATIENCE {
                told = Instant::now();
                sum.lock().unwrap().tell_how_far(seeds.end - seeds.start, began.elapsed());
            }
        }
    });
    let Sum { ran, failures, acts, writes, judged: Judged { judged, excused }, .. } =
        sum.into_inner().unwrap();
    println!(
        "{ran} programs, {writes} writes and acts, {judged} resizes judged and {excused} excused, {} failed, in {:?}",
        failures.len(),
        began.elapsed()
    );
    let acts: Vec<String> = acts.into_iter().map(|(act, count)| format!("{act} {count}")).collect();
    println!("acts: {}", acts.join(", "));
    for (seed, outcome) in &failures {
        tell(*seed, outcome, TAIL);
    }
    assert!(failures.is_empty(), "{} programs failed", failures.len());
    assert!(100 * judged >= LEAST_JUDGED * (judged + excused), "too many resizes are not judged");
}

/// What became of programs, and which run.
#[derive(Default)]
struct Sum {
    running: BTreeMap<u64, Instant>,
    ran: u64,
    failures: Vec<(u64, Outcome)>,
    /// How often each act was done: operations and faults.
    acts: BTreeMap<String, usize>,
    writes: usize,
    judged: Judged,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.running.remove(&seed);
        self.ran += 1;
        self.writes += outcome.journal.len();
        for act in outcome.journal.iter().filter_map(|line| act(line)) {
            *self.acts.entry(act).or_default() += 1;
        }
        self.judged.judged += outcome.judged.judged;
        self.judged.excused += outcome.judged.excused;
        if let Some(error) = &outcome.error {
            let error = error.lines().next().unwrap_or_default();
            println!("seed {seed} failed: {error}; {}", replay_line(seed));
            self.failures.push((seed, outcome));
        }
    }

    fn tell_how_far(&self, all: u64, elapsed: Duration) {
        let (ran, failed) = (self.ran, self.failures.len());
        let left = elapsed.as_secs() * (all - ran) / ran.max(1);
        println!("{ran} of {all} programs, {failed} failed, {} s, about {left} s more", elapsed.as_secs());
    }

    /// A program that goes round in a circle without time passing would never be told of.
    fn tell_of_slow_ones(&mut self) {
        for (seed, began) in self.running.iter_mut().filter(|(_, began)| began.elapsed() > PATIENCE) {
            println!("seed {seed} runs for {PATIENCE:?} already; {}", replay_line(*seed));
            *began = Instant::now();
        }
    }
}

/// The name of the act that a line of a journal tells of; of the call, where that is one of the API.
fn act(line: &str) -> Option<String> {
    let (_, told) = line.split_once(" -- ")?;
    let name = |told: &str| told.chars().take_while(char::is_ascii_alphabetic).collect::<String>();
    // Answers and what ends are no acts.
    match told.strip_prefix("Call(") {
        Some(call) => Some(format!("RPC {}", name(call))),
        None => Some(name(told)).filter(|name| name.starts_with(char::is_uppercase)),
    }
}

/// How a program is run again alone.
pub fn replay_line(seed: u64) -> String {
    format!("replay it: ROLLOUTD_SIM_SEED={seed} cargo test --test sim programs -- --nocapture")
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
        println!("{}\n", replay_line(seed));
    }
}
