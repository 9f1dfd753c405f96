//! What is acknowledged is on disk, what is on disk comes back, and a disk that refuses loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use proptest::prelude::*;
use redb::backends::FileBackend;
use redb::{BackendError, Builder, StorageBackend};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::database::Medium;
use super::*;
use crate::apiserver::audit::Verb;
use crate::apiserver::state::Author;
use crate::apiserver::status::GroupResource;
use crate::apiserver::store::{Change, Key, Store};

const SEED: u64 = 7;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn maps() -> GroupResource {
    GroupResource::new("", "configmaps")
}

fn author() -> Author<'static> {
    Author { agent: "test", verb: Verb::Update, subresource: "" }
}

fn map(name: &str, value: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "default", "name": name}, "data": value})
}

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A write that is done in one request with others.
#[derive(Clone, Debug)]
enum Write {
    Put(&'static str, u8),
    Remove(&'static str),
}

fn carry_out(state: &mut State, writes: &[Write]) {
    let resource = state.catalog.get(&maps()).unwrap().clone();
    for write in writes {
        match write {
            Write::Put(name, value) => {
                let uid = state.random.uid();
                state.write(author(), &resource, map(name, &json!({"a": value, "uid": uid})));
            }
            Write::Remove(name) => drop(state.erase(author(), &maps(), &Key::new("default", name))),
        }
    }
}

type Values = BTreeMap<&'static str, u64>;

fn carried_out(values: &Values, writes: &[Write]) -> Values {
    let mut values = values.clone();
    for write in writes {
        match write {
            Write::Put(name, value) => values.insert(name, u64::from(*value)),
            Write::Remove(name) => values.remove(name),
        };
    }
    values
}

/// All that two stores could differ in.
fn content(store: &Store) -> Value {
    let objects: Vec<_> =
        store.all().map(|(resource, _, object)| json!([resource.to_string(), **object])).collect();
    let change = |change: &Arc<Change>| {
        let Change { revision, resource, key, old, new } = &**change;
        json!([revision, resource.to_string(), format!("{key:?}"), old.as_deref(), new.as_deref()])
    };
    let history: Vec<_> = store.changes_after(store.compacted()).unwrap().map(change).collect();
    json!({"objects": objects, "history": history, "revision": store.revision(), "compacted": store.compacted()})
}

/// A cluster on disk, on a disk that can be told to fail.
struct World {
    durable: Arc<Durable>,
    settled: Settled,
}

impl World {
    fn open(folder: &Path, faults: &Faults, history_limit: usize) -> Result<Self, OpenError> {
        let database = Database::open_on(folder, Box::new(faults.clone()))?;
        let new = || State::new(SEED, history_limit, at(0));
        let (durable, settled) = Durable::start(database, history_limit, at(0), new)?;
        Ok(Self { durable, settled })
    }

    async fn write(&self, writes: &[Write]) -> Result<(), ApiError> {
        self.durable.write(|| at(1), |state| carry_out(state, writes)).await
    }

    fn revision(&self) -> u64 {
        self.settled.lock().unwrap().store.revision()
    }

    fn content(&self) -> Value {
        content(&self.settled.lock().unwrap().store)
    }

    fn values(&self) -> Values {
        let settled = self.settled.lock().unwrap();
        let value = |name| settled.store.get(&maps(), &Key::new("default", name))?["data"]["a"].as_u64();
        NAMES.into_iter().filter_map(|name| Some((name, value(name)?))).collect()
    }
}

/// The file as a killed process leaves it, in a folder of its own.
fn as_killed(folder: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    fs::copy(folder.join("cluster.redb"), copy.path().join("cluster.redb")).unwrap();
    copy
}

/// How a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing can be written any more.
    Full,
    /// All is written, and an error is told all the same.
    Liar,
    /// As that, once.
    Once,
}

/// What the disk is to do.
#[derive(Clone, Debug, Default)]
struct Faults {
    /// From how many operations on it fails.
    plan: Arc<Mutex<Option<(Fault, usize)>>>,
    /// While somebody holds this, nothing is synced.
    gate: Arc<Mutex<()>>,
    syncs: Arc<AtomicUsize>,
}

impl Faults {
    fn set(&self, fault: Option<(Fault, usize)>) {
        *self.plan.lock().unwrap() = fault;
    }

    /// The fault that comes now; later ones come one operation sooner.
    fn pass(&self) -> Option<Fault> {
        let mut plan = self.plan.lock().unwrap();
        let (fault, left) = plan.as_mut()?;
        if *fault == Fault::Once && *left == 0 {
            return None;
        }
        *left = left.saturating_sub(1);
        (*left == 0).then_some(*fault)
    }
}

impl Medium for Faults {
    fn open(&self, builder: &Builder, file: fs::File) -> Result<redb::Database, redb::DatabaseError> {
        builder.create_with_backend(Faulty { disk: FileBackend::new(file)?, faults: self.clone() })
    }
}

#[derive(Debug)]
struct Faulty {
    disk: FileBackend,
    faults: Faults,
}

fn full() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::StorageFull, "no space left on device")
}

impl StorageBackend for Faulty {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        match self.faults.pass() {
            Some(Fault::Full) => Err(full()),
            _ => self.disk.set_len(len),
        }
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        let fault = self.faults.pass();
        let _open = self.faults.gate.lock().unwrap();
        self.faults.syncs.fetch_add(1, Ordering::Relaxed);
        self.disk.sync_data()?;
        if fault.is_some() { Err(full()) } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        match self.faults.pass() {
            Some(Fault::Full) => Err(full()),
            _ => self.disk.write(offset, data),
        }
    }

    fn close(&self) -> Result<(), std::io::Error> {
        self.disk.close()
    }

    fn try_lock_range(
        &self,
        start: std::ops::Bound<u64>,
        end: std::ops::Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.disk.try_lock_range(start, end)
    }

    fn unlock_range(
        &self,
        start: std::ops::Bound<u64>,
        end: std::ops::Bound<u64>,
    ) -> Result<(), BackendError> {
        self.disk.unlock_range(start, end)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// As many cases as PROPTEST_CASES says.
fn config() -> ProptestConfig {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() { config } else { ProptestConfig { cases: 48, ..config } }
}

#[derive(Clone, Debug)]
enum Act {
    Request(Vec<Write>),
    Close,
    /// The process is gone, whatever it was about to do.
    Kill,
    Fail(Fault, usize),
    Heal,
}

fn act() -> impl Strategy<Value = Act> {
    let name = || prop::sample::select(NAMES.to_vec());
    let write = prop_oneof![
        3 => (name(), any::<u8>()).prop_map(|(name, value)| Write::Put(name, value)),
        1 => name().prop_map(Write::Remove),
    ];
    let fault = prop::sample::select(vec![Fault::Full, Fault::Liar]);
    prop_oneof![
        12 => prop::collection::vec(write, 0..4).prop_map(Act::Request),
        2 => Just(Act::Close),
        2 => Just(Act::Kill),
        2 => (fault, 0..12_usize).prop_map(|(fault, after)| Act::Fail(fault, after)),
        2 => Just(Act::Heal),
    ]
}

proptest! {
    #![proptest_config(config())]

    /// Without faults the same requests give the same objects, changes and uids in memory and on disk, however often
    /// the disk is opened again.
    #[test]
    fn a_cluster_on_disk_is_the_cluster_in_memory(
        acts in prop::collection::vec(act(), 1..24), history_limit in 0..12_usize,
    ) {
        let mut folder = TempDir::new().unwrap();
        let mut model = State::new(SEED, history_limit, at(0));
        runtime().block_on(async {
            let mut world = World::open(folder.path(), &Faults::default(), history_limit).unwrap();
            for act in acts {
                match act {
                    Act::Request(writes) => {
                        world.write(&writes).await.unwrap();
                        carry_out(&mut model, &writes);
                    }
                    Act::Close => {
                        world.durable.close().await;
                        drop(world);
                        world = World::open(folder.path(), &Faults::default(), history_limit).unwrap();
                    }
                    Act::Kill => {
                        let copy = as_killed(folder.path());
                        drop(world);
                        folder = copy;
                        world = World::open(folder.path(), &Faults::default(), history_limit).unwrap();
                    }
                    Act::Fail(..) | Act::Heal => {}
                }
                assert_eq!(world.content(), content(&model.store));
            }
        });
    }

    /// Whatever the disk does: what was acknowledged is there, what was refused is there as a whole or not at all, and
    /// nobody sees what is not on the disk.
    #[test]
    fn a_failing_disk_loses_nothing(acts in prop::collection::vec(act(), 1..32)) {
        let mut folder = TempDir::new().unwrap();
        let faults = Faults::default();
        runtime().block_on(async {
            let mut world = World::open(folder.path(), &faults, 100).unwrap();
            // What may be on the disk: more than one, after a refusal.
            let mut possible = BTreeSet::from([Values::new()]);
            let mut reached = world.revision();
            for act in acts {
                match act {
                    Act::Request(writes) => {
                        let outcome = world.write(&writes).await;
                        let after: BTreeSet<Values> = possible.iter().map(|values| carried_out(values, &writes)).collect();
                        if outcome.is_ok() {
                            possible = after;
                            assert!(possible.contains(&world.values()), "{:?} is none of {possible:?}", world.values());
                            possible = BTreeSet::from([world.values()]);
                        } else {
                            assert!(possible.contains(&world.values()), "{:?} is none of {possible:?}", world.values());
                            possible.extend(after);
                        }
                    }
                    Act::Fail(fault, after) => faults.set(Some((fault, after))),
                    Act::Heal => faults.set(None),
                    Act::Close | Act::Kill => {
                        if matches!(act, Act::Close) {
                            world.durable.close().await;
                        }
                        let copy = as_killed(folder.path());
                        faults.set(None);
                        drop(world);
                        folder = copy;
                        world = World::open(folder.path(), &faults, 100).unwrap();
                        assert!(possible.contains(&world.values()), "{:?} is none of {possible:?}", world.values());
                        possible = BTreeSet::from([world.values()]);
                    }
                }
                assert!(world.revision() >= reached, "revisions went back");
                reached = world.revision();
            }
        });
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_runs_ahead_of_it() {
    let folder = TempDir::new().unwrap();
    let faults = Faults::default();
    runtime().block_on(async {
        let world = World::open(folder.path(), &faults, 100).unwrap();
        world.write(&[Write::Put("a", 1)]).await.unwrap();
        let before = world.content();
        faults.set(Some((Fault::Full, 0)));
        for write in [Write::Put("a", 2), Write::Remove("a"), Write::Put("b", 2)] {
            let error = world.write(&[write]).await.unwrap_err();
            assert_eq!(error.code(), 507);
            let told = "Internal error occurred: the write was not stored: no space left on device";
            assert_eq!(error.to_string(), told);
            assert_eq!(world.content(), before);
        }
        faults.set(None);
        world.write(&[Write::Put("b", 3)]).await.unwrap();
        assert_eq!(world.values(), Values::from([("a", 1), ("b", 3)]));
        let after = world.content();
        assert_eq!(after["revision"], before["revision"].as_u64().unwrap() + 1);
        let copy = as_killed(folder.path());
        assert_eq!(World::open(copy.path(), &faults, 100).unwrap().content(), after);
    });
}

#[test]
fn a_write_that_is_found_on_the_disk_after_an_error_is_acknowledged() {
    let folder = TempDir::new().unwrap();
    let faults = Faults::default();
    runtime().block_on(async {
        let world = World::open(folder.path(), &faults, 100).unwrap();
        // How many operations a write takes is redb's affair; at one of these its last sync tells an error.
        let mut acknowledged = 0;
        for after in 1..20 {
            world.write(&[Write::Put("a", 0)]).await.unwrap();
            faults.set(Some((Fault::Once, after)));
            let outcome = world.write(&[Write::Put("a", 1)]).await;
            let failed = faults.plan.lock().unwrap().take().is_some_and(|(_, left)| left == 0);
            let found = world.values()["a"];
            assert_eq!(outcome.is_ok(), found == 1, "{after}");
            acknowledged += usize::from(failed && outcome.is_ok());
        }
        assert!(acknowledged > 0);
    });
}

#[test]
fn requests_that_wait_for_the_disk_are_stored_together_and_readers_do_not_wait() {
    let folder = TempDir::new().unwrap();
    let faults = Faults::default();
    runtime().block_on(async {
        let world = World::open(folder.path(), &faults, 100).unwrap();
        let before = world.content();
        let shut = faults.gate.lock().unwrap();
        let synced = faults.syncs.load(Ordering::Relaxed);
        let writes: Vec<[Write; 1]> = (0..20).map(|value| [Write::Put("a", value)]).collect();
        let mut pending: Vec<_> = writes.iter().map(|write| Box::pin(world.write(write))).collect();
        for write in &mut pending {
            assert!(write.as_mut().now_or_never().is_none(), "it waits for the disk");
        }
        // Takes the lock that readers take.
        assert_eq!(world.content(), before, "nobody sees what is not durable");
        drop(shut);
        for write in pending {
            write.await.unwrap();
        }
        assert_eq!(world.values(), Values::from([("a", 19)]));
        let syncs = faults.syncs.load(Ordering::Relaxed) - synced;
        assert!(syncs <= 2, "{syncs} syncs for 20 writes");
    });
}

#[test]
fn a_second_process_is_refused() {
    let folder = TempDir::new().unwrap();
    let first = Database::open(folder.path()).unwrap();
    let refused = Database::open(folder.path()).err().unwrap();
    let told = format!(
        "{}: another process uses this cluster; stop that one, or give another directory",
        folder.path().display()
    );
    assert_eq!(refused.to_string(), told);
    drop(first);
    assert!(Database::open(folder.path()).is_ok());
}

#[test]
fn a_file_of_a_later_version_is_refused() {
    let folder = TempDir::new().unwrap();
    runtime().block_on(async {
        World::open(folder.path(), &Faults::default(), 100).unwrap().durable.close().await;
    });
    let file = redb::Database::open(folder.path().join("cluster.redb")).unwrap();
    let transaction = file.begin_write().unwrap();
    let table: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("numbers");
    transaction.open_table(table).unwrap().insert("schema", 2).unwrap();
    transaction.commit().unwrap();
    drop(file);
    let refused = Database::open(folder.path()).err().unwrap();
    assert!(matches!(refused, OpenError::Newer { found: 2, known: 1, .. }), "{refused}");
    assert!(refused.to_string().contains("written by a later version of rolloutd"), "{refused}");
}

#[test]
fn a_file_that_is_not_whole_is_an_error_or_all_that_was_stored() {
    let folder = TempDir::new().unwrap();
    let whole = runtime().block_on(async {
        let world = World::open(folder.path(), &Faults::default(), 100).unwrap();
        for value in 0..50 {
            let writes: Vec<Write> = NAMES.iter().map(|name| Write::Put(name, value)).collect();
            world.write(&writes).await.unwrap();
        }
        world.durable.close().await;
        world.content()
    });
    let bytes = fs::read(folder.path().join("cluster.redb")).unwrap();
    let opened = |bytes: &[u8]| {
        let copy = TempDir::new().unwrap();
        fs::write(copy.path().join("cluster.redb"), bytes).unwrap();
        runtime().block_on(async {
            World::open(copy.path(), &Faults::default(), 100).map(|world| world.content())
        })
    };
    let mut refused = 0;
    let lengths = [0, 1, 63, 64, 320, 4095, 4096, 8192, bytes.len() / 2, bytes.len() - 4096, bytes.len() - 1];
    for length in lengths {
        match opened(&bytes[..length]) {
            Ok(content) => assert_eq!(content, whole, "cut at {length}"),
            Err(error) => {
                let (text, named) = (error.to_string(), "cluster.redb: damaged, or no cluster of rolloutd: ");
                assert!(text.contains(named), "cut at {length}: {text}");
                refused += 1;
            }
        }
    }
    assert!(refused > lengths.len() / 2, "only {refused} were refused");
    let mut random = fastrand::Rng::with_seed(SEED);
    for _ in 0..40 {
        let mut damaged = bytes.clone();
        let at = random.usize(..bytes.len());
        damaged[at] ^= 1 << random.u8(..8);
        if let Ok(content) = opened(&damaged) {
            assert_eq!(content, whole, "a bit at {at}");
        }
    }
    assert!(opened(b"kind: Config\n").is_err());
}
