//! Random programs: rollouts come, change, enter and leave a selection and go, while a consumer of a watch is cut off and servers
//! restart. What the consumer has applied in the end is what the API server itself tells of, event by event.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt as _;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use rolloutd::crd::Rollout;
use rolloutd::pb::v1;
use serde_json::json;
use tonic::{Code, Streaming};
use v1::watch_rollouts_response::Event;

use crate::site::{self, Site};
use crate::world::Replica;

/// The label that decides whether a rollout is watched.
const LABEL: &str = "watched";

/// The annotation that tells the states of a rollout apart.
const STATE: &str = "state";

/// Rollouts of a program.
const ROLLOUTS: usize = 3;

/// Servers of a program.
const SERVERS: usize = 2;

/// How long silence lasts after which a consumer has all there is; longer than the short watches by which servers catch up.
const SILENCE: Duration = Duration::from_secs(12);

/// How long a consumer waits for an event in the middle of a program.
const DRAUGHT: Duration = Duration::from_millis(500);

/// How long a consumer may take in the end.
const DEADLINE: Duration = Duration::from_secs(60);

/// The last rollout of a program.
const END: &str = "end";

#[derive(Clone, Debug)]
enum Step {
    /// Create it, or change it so many times.
    Write {
        rollout: usize,
        times: usize,
    },
    /// Let it enter or leave the selection.
    Label {
        rollout: usize,
        is_watched: bool,
    },
    Delete {
        rollout: usize,
    },
    /// Take so many events.
    Consume {
        most: usize,
    },
    Disconnect,
    /// Go on at another server, or the same.
    Connect {
        server: usize,
    },
    Restart {
        server: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let rollout = || 0..ROLLOUTS;
    prop_oneof![
        4 => (rollout(), 1..4_usize).prop_map(|(rollout, times)| Step::Write { rollout, times }),
        2 => (rollout(), any::<bool>()).prop_map(|(rollout, is_watched)| Step::Label { rollout, is_watched }),
        2 => rollout().prop_map(|rollout| Step::Delete { rollout }),
        2 => (1..6_usize).prop_map(|most| Step::Consume { most }),
        1 => Just(Step::Disconnect),
        2 => (0..SERVERS).prop_map(|server| Step::Connect { server }),
        1 => (0..SERVERS).prop_map(|server| Step::Restart { server }),
    ]
}

fn program(length: usize) -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), length / 2..length)
}

/// What the API server tells, as `verb name state`.
type Told = Arc<Mutex<Vec<String>>>;

fn text(verb: &str, name: &str, state: Option<&String>) -> String {
    format!("{verb} {name} {}", state.map_or("-", String::as_str))
}

/// Follows the API server's own watch from now on.
async fn follow(site: &Site) -> Told {
    let rollouts = site.rollouts();
    let list = rollouts.list(&ListParams::default()).await.unwrap();
    let params = WatchParams::default().labels(&format!("{LABEL}=yes")).timeout(290);
    let version = list.metadata.resource_version.unwrap();
    let mut events = Box::pin(rollouts.watch(&params, &version).await.unwrap());
    let told = Told::default();
    let telling = Arc::clone(&told);
    tokio::spawn(async move {
        while let Some(event) = events.try_next().await.expect("the watch goes on") {
            let shown = |verb: &str, rollout: Rollout| {
                let state = rollout.annotations().get(STATE).filter(|_| verb != "deleted");
                telling.lock().unwrap().push(text(verb, &rollout.name_any(), state));
            };
            match event {
                WatchEvent::Added(rollout) => shown("added", rollout),
                WatchEvent::Modified(rollout) => shown("modified", rollout),
                WatchEvent::Deleted(rollout) => shown("deleted", rollout),
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => panic!("{status:?}"),
            }
        }
    });
    told
}

/// A client that keeps what it has applied together with the token up to which it has.
#[derive(Default)]
struct Consumer {
    applied: Vec<String>,
    token: String,
    /// What has come since the token.
    pending: Vec<String>,
    stream: Option<Streaming<v1::WatchRolloutsResponse>>,
}

impl Consumer {
    async fn connect(&mut self, site: &Site, server: &Replica) {
        self.disconnect();
        let request = v1::WatchRolloutsRequest {
            parent: site.parent(),
            label_selector: format!("{LABEL}=yes"),
            resume_token: self.token.clone(),
            ..Default::default()
        };
        self.stream = Some(server.rollouts().watch_rollouts(request).await.unwrap().into_inner());
    }

    fn disconnect(&mut self) {
        self.stream = None;
        self.pending.clear();
    }

    /// Takes an event; says whether there was one before silence.
    async fn take(&mut self, silence: Duration) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        let event = match tokio::time::timeout(silence, stream.message()).await {
            Err(_) => return false,
            Ok(Ok(event)) => event.expect("a watch ends with an error"),
            Ok(Err(status)) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                self.disconnect();
                return false;
            }
        };
        let last = |name: &str| name.rsplit_once('/').unwrap().1.to_owned();
        match event.event.unwrap() {
            Event::Added(rollout) => {
                self.pending.push(text("added", &last(&rollout.name), rollout.annotations.get(STATE)));
            }
            Event::Modified(rollout) => {
                self.pending.push(text("modified", &last(&rollout.name), rollout.annotations.get(STATE)));
            }
            Event::Deleted(deleted) => self.pending.push(text("deleted", &last(&deleted.name), None)),
            Event::Bookmark(_) => {}
        }
        if !event.resume_token.is_empty() {
            self.applied.append(&mut self.pending);
            self.token = event.resume_token;
        }
        true
    }
}

struct Program<'a> {
    site: &'a Site,
    servers: Vec<Replica>,
    consumer: Consumer,
    writes: usize,
}

impl Program<'_> {
    async fn carry_out(&mut self, step: Step) {
        match step {
            Step::Write { rollout, times } => {
                for _ in 0..times {
                    self.write(&name(rollout), None).await;
                }
            }
            Step::Label { rollout, is_watched } => self.write(&name(rollout), Some(is_watched)).await,
            Step::Delete { rollout } => {
                // It may not be there.
                let _ = self.site.rollouts().delete(&name(rollout), &DeleteParams::background()).await;
            }
            Step::Consume { most } => {
                for _ in 0..most {
                    if !self.consumer.take(DRAUGHT).await {
                        break;
                    }
                }
            }
            Step::Disconnect => self.consumer.disconnect(),
            Step::Connect { server } => self.consumer.connect(self.site, &self.servers[server]).await,
            Step::Restart { server } => {
                let started = self.site.server().await;
                std::mem::replace(&mut self.servers[server], started).stop().await;
            }
        }
    }

    /// Changes a rollout, or creates it.
    async fn write(&mut self, name: &str, is_watched: Option<bool>) {
        self.writes += 1;
        let mut change = json!({ "metadata": { "annotations": { STATE: self.writes.to_string() } } });
        if let Some(is_watched) = is_watched {
            change["metadata"]["labels"] = json!({ LABEL: if is_watched { "yes" } else { "no" } });
        }
        let rollouts = self.site.rollouts();
        match rollouts.patch(name, &PatchParams::default(), &Patch::Merge(&change)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                let mut object = self.site.manifest(name);
                object["metadata"]["labels"] = json!({ LABEL: "yes" });
                json_patch::merge(&mut object, &change);
                let object = serde_json::from_value(object).unwrap();
                rollouts.create(&PostParams::default(), &object).await.unwrap();
            }
            patched => drop(patched.unwrap()),
        }
    }
}

fn name(rollout: usize) -> String {
    format!("web-{rollout}")
}

async fn check(site: &Site, steps: Vec<Step>) {
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        servers.push(site.server().await);
    }
    let told = follow(site).await;
    let mut program = Program { site, servers, consumer: Consumer::default(), writes: 0 };
    program.carry_out(Step::Connect { server: 0 }).await;
    while program.consumer.token.is_empty() {
        assert!(program.consumer.take(SILENCE).await, "a bookmark comes");
    }
    for step in steps {
        program.carry_out(step).await;
    }
    program.write(END, Some(true)).await;

    let is_end = |event: &String| event.starts_with(&format!("added {END}"));
    let all = async {
        while !program.consumer.applied.iter().any(is_end) {
            if !program.consumer.take(SILENCE).await {
                program.consumer.connect(site, &program.servers[SERVERS - 1]).await;
            }
        }
        while !told.lock().unwrap().iter().any(is_end) {
            rolloutd::clock::real_sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, all).await.expect("the consumer comes to the end");
    assert_eq!(program.consumer.applied, *told.lock().unwrap());
    for server in program.servers {
        server.stop().await;
    }
}

proptest! {
    #![proptest_config(Config { cases: Config::default().cases.min(64), failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_consumer_misses_nothing_and_repeats_nothing_on_the_embedded_cluster(steps in program(40)) {
        site::embedded(async |site| check(&site, steps).await);
    }
}

/// Silence costs time there: a few programs, always the same.
#[test]
fn a_consumer_misses_nothing_and_repeats_nothing_on_kubernetes() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..4 {
        let steps = program(24).new_tree(&mut runner).unwrap().current();
        site::real(async |site| {
            println!("{steps:?}");
            check(&site, steps).await;
        });
    }
}
