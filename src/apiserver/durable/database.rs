//! The file that a cluster is kept in: its directory, its tables, and what was written last.
//!
//! Depends on redb and on the store's types. [`super`] appends the changes of many requests at a time and asks what
//! has become of them after an error; whatever was found when it was opened becomes a `Store` again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use redb::backends::FileBackend;
use redb::{Builder, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::restore::{Past, Restored, Step, WrittenObject};
use crate::apiserver::state::{State, Unsettled};
use crate::apiserver::status::GroupResource;
use crate::apiserver::store::{Change, Key};

/// The form of the tables below. A file of a later form is refused; an earlier one would be brought up to date here.
const SCHEMA: u64 = 1;

/// Numbers about the whole: see the keys below.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const SCHEMA_KEY: &str = "schema";
/// Revision of the last write.
const REVISION_KEY: &str = "revision";
/// Changes up to this revision are no longer kept.
const COMPACTED_KEY: &str = "compacted";
/// Where the generator of uids goes on.
const RANDOM_KEY: &str = "random";
/// Cluster time of the last write, in microseconds since 1970.
const TIME_KEY: &str = "time";

/// Group, resource, namespace, name.
type ObjectKey = (&'static str, &'static str, &'static str, &'static str);

/// Each object as JSON, after the time of its last write.
const OBJECTS: TableDefinition<'_, ObjectKey, (u64, &[u8])> = TableDefinition::new("objects");

/// The recent changes by revision: which object, and what it was before; `None` for a new one. What it was after is
/// what it was before its next change, or is now.
const HISTORY: TableDefinition<'_, u64, (ObjectKey, Option<&[u8]>)> = TableDefinition::new("history");

const FILE: &str = "cluster.redb";
/// A file that is being made; it takes its name when it is whole.
const UNFINISHED_FILE: &str = "cluster.redb.new";
const LOCK_FILE: &str = "lock";

/// How much of a file is looked at when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// All of it.
    Whole,
    /// What an interrupted write may have left.
    Needed,
}

/// Memory for pages of the file, which is read only once, when it is opened.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Why the directory of a cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{}: another process uses this cluster; stop that one, or give another directory", .0.display())]
    InUse(PathBuf),
    /// A later version of rolloutd wrote it.
    #[error(
        "{}: written by a later version of rolloutd, in form {found} where this one knows {known}; use that version, or \
         give another directory",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its form.
        found: u64,
        /// The latest form that is known here.
        known: u64,
    },
    /// Not what rolloutd wrote, or not whole.
    #[error(
        "{}: damaged, or no cluster of rolloutd: {why}; put back a copy, or remove the file to start with an empty cluster",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The disk does not do what it should.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Why writes were not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unstored {
    pub(crate) why: String,
    pub(crate) cause: Cause,
}

/// What keeps writes from being stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    DiskFull,
    Other,
}

/// How the file is reached: tests let it fail.
pub(super) trait Medium: Send + Sync {
    fn open(&self, builder: &Builder, file: File) -> Result<redb::Database, redb::DatabaseError>;
}

struct Disk;

impl Medium for Disk {
    fn open(&self, builder: &Builder, file: File) -> Result<redb::Database, redb::DatabaseError> {
        builder.create_with_backend(FileBackend::new(file)?)
    }
}

/// The stored cluster of a directory, which no other process can use at the same time.
pub struct Database {
    folder: PathBuf,
    medium: Box<dyn Medium>,
    /// `None` before the first write to a new directory, and after a failure until it is opened again.
    file: Mutex<Option<redb::Database>>,
    found: Option<Restored>,
    /// Held, so that no other process uses the folder, until the file is closed for good.
    lock: Mutex<Option<File>>,
}

impl Database {
    /// Opens what `folder` holds; makes the folder if there is none.
    ///
    /// # Errors
    ///
    /// Another process uses the folder, what it holds cannot be read, or the disk fails.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        Self::open_on(folder, Box::new(Disk))
    }

    pub(super) fn open_on(folder: &Path, medium: Box<dyn Medium>) -> Result<Self, OpenError> {
        let lock = Mutex::new(Some(lock(folder)?));
        let (file, found) = (Mutex::new(None), None);
        let mut database = Self { folder: folder.to_owned(), medium, file, found, lock };
        if database.path().try_exists().map_err(|source| database.io(source))? {
            let file = database.open_file(&database.path(), Check::Whole)?;
            let found = guarded(|| rows(&file)).and_then(restored);
            database.found = Some(found.map_err(|error| database.unusable(error))?);
            database.file = Mutex::new(Some(file));
        }
        Ok(database)
    }

    /// Cluster time of the last write; `None` for a new cluster. Its clock must not go back before it.
    #[must_use]
    pub fn time(&self) -> Option<Timestamp> {
        self.found.as_ref().map(|found| found.time)
    }

    /// The directory.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What was found when it was opened; once.
    pub(super) fn take_found(&mut self) -> Option<Restored> {
        self.found.take()
    }

    /// Makes the file of a new cluster. It appears when all of it is there.
    pub(super) fn create(&self, state: &State) -> Result<(), OpenError> {
        let unfinished = self.folder.join(UNFINISHED_FILE);
        let outcome = (|| {
            create_file(&unfinished)?;
            let file = self.open_file(&unfinished, Check::Whole)?;
            guarded(|| write_all(&file, state)).map_err(|error| self.unusable(error))?;
            fs::rename(&unfinished, self.path()).map_err(|source| self.io(source))?;
            let folder = File::open(&self.folder).and_then(|folder| folder.sync_all());
            folder.map_err(|source| self.io(source))?;
            *self.file() = Some(file);
            Ok(())
        })();
        if outcome.is_err() {
            // What cannot be removed is made anew the next time.
            let _ = fs::remove_file(unfinished);
        }
        outcome
    }

    /// Stores writes, all or none. After an error only [`Self::reopen`] tells which.
    pub(super) fn append(&self, writes: &[Unsettled], compacted: u64, random: u64) -> Result<(), Unstored> {
        let mut file = self.file();
        let Some(open) = file.as_ref() else {
            let why = "the database is closed".to_owned();
            return Err(Unstored { why, cause: Cause::Other });
        };
        let outcome = guarded(|| append(open, writes, compacted, random));
        outcome.map_err(|error| {
            // redb does nothing more after an error of the disk.
            *file = None;
            unstored(&error)
        })
    }

    /// Opens the file again after a failure; returns the revision of the last write that is stored.
    pub(super) fn reopen(&self) -> Result<u64, Unstored> {
        let mut file = self.file();
        *file = None;
        let refused = |error: OpenError| match error {
            OpenError::Io { source, .. } => Unstored { cause: cause(&source), why: source.to_string() },
            other => Unstored { why: other.to_string(), cause: Cause::Other },
        };
        let opened = self.open_file(&self.path(), Check::Needed).map_err(refused)?;
        let numbers = guarded(|| numbers(&opened));
        let revision =
            numbers.and_then(|numbers| number(&numbers, REVISION_KEY)).map_err(|error| unstored(&error))?;
        *file = Some(opened);
        Ok(revision)
    }

    /// Closes the file in order and leaves the folder to others.
    pub(super) fn close(&self) {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(file) = self.file().take()
            && let Err(error) = file.close()
        {
            // All writes are stored; the next start repairs what is not.
            tracing::warn!(%error, "the database was not closed in order");
        }
        drop(lock);
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// A panic while this is held leaves `None` or a file that is opened again: both are sound.
    fn file(&self) -> MutexGuard<'_, Option<redb::Database>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a file; one that was found sound before is not gone through as a whole again.
    fn open_file(&self, path: &Path, check: Check) -> Result<redb::Database, OpenError> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|source| self.io(source))?;
        let length = file.metadata().map_err(|source| self.io(source))?.len();
        // redb makes a new database of an empty file, which would hide that all is lost.
        if length == 0 && path != self.folder.join(UNFINISHED_FILE) {
            return Err(OpenError::Damaged { path: path.to_owned(), why: "the file is empty".to_owned() });
        }
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(check == Check::Whole);
        guarded(|| Ok(self.medium.open(&builder, file)?)).map_err(|error| self.unusable(error))
    }

    fn io(&self, source: io::Error) -> OpenError {
        OpenError::Io { path: self.folder.clone(), source }
    }

    fn unusable(&self, failure: Failure) -> OpenError {
        let path = self.path();
        match failure {
            Failure::Newer(found) => OpenError::Newer { path, found, known: SCHEMA },
            Failure::Redb(error) => match *error {
                redb::Error::DatabaseAlreadyOpen => OpenError::InUse(self.folder.clone()),
                redb::Error::Io(source) if !is_of_content(&source) => OpenError::Io { path, source },
                error => OpenError::Damaged { path, why: error.to_string() },
            },
            Failure::Malformed(why) => OpenError::Damaged { path, why },
        }
    }
}

/// What went wrong inside.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Redb(Box<redb::Error>),
    #[error("{0}")]
    Malformed(String),
    #[error("form {0}")]
    Newer(u64),
}

/// redb checks what it reads, yet a file that is no file of its making may lead it astray.
fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(|error| Failure::Redb(Box::new(error))),
        Err(_) => Err(Failure::Malformed("the database could not be worked with".to_owned())),
    }
}

fn unstored(failure: &Failure) -> Unstored {
    if let Failure::Redb(error) = failure
        && let redb::Error::Io(error) = &**error
    {
        return Unstored { why: error.to_string(), cause: cause(error) };
    }
    Unstored { why: failure.to_string(), cause: Cause::Other }
}

/// Whether an error is about what the file holds: too little, or something else.
fn is_of_content(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

fn cause(error: &io::Error) -> Cause {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Cause::DiskFull
        }
        _ => Cause::Other,
    }
}

/// Makes the folder, readable by its owner only, and keeps other processes out of it.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let io = |source| OpenError::Io { path: folder.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io)?;
    let lock =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK_FILE));
    let lock = lock.map_err(io)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

fn create_file(path: &Path) -> Result<(), OpenError> {
    let created = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    created.map(drop).map_err(|source| OpenError::Io { path: path.to_owned(), source })
}

fn micros(time: Timestamp) -> u64 {
    // Cluster time is not before 1970.
    u64::try_from(time.as_microsecond()).unwrap_or(0)
}

fn moment(micros: u64) -> Timestamp {
    let moment = i64::try_from(micros).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
    moment.unwrap_or(Timestamp::MAX)
}

fn object_key<'k>(resource: &'k GroupResource, key: &'k Key) -> (&'k str, &'k str, &'k str, &'k str) {
    (&resource.group, &resource.resource, &key.namespace, &key.name)
}

fn resource_and_key((group, resource, namespace, name): (&str, &str, &str, &str)) -> (GroupResource, Key) {
    (GroupResource::new(group, resource), Key::new(namespace, name))
}

/// The first content of a file: all that `state` has.
fn write_all(file: &redb::Database, state: &State) -> Result<(), redb::Error> {
    let (store, time) = (&state.store, micros(state.now()));
    let transaction = file.begin_write()?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        for (resource, key, object) in store.all() {
            objects.insert(object_key(resource, key), (time, object.to_string().as_bytes()))?;
        }
        let mut history = transaction.open_table(HISTORY)?;
        for change in store.changes_after(store.compacted()).into_iter().flatten() {
            record(&mut history, change)?;
        }
        let mut numbers = transaction.open_table(NUMBERS)?;
        numbers.insert(SCHEMA_KEY, SCHEMA)?;
        for (name, number) in [
            (REVISION_KEY, store.revision()),
            (COMPACTED_KEY, store.compacted()),
            (RANDOM_KEY, state.random.state()),
            (TIME_KEY, time),
        ] {
            numbers.insert(name, number)?;
        }
    }
    Ok(transaction.commit()?)
}

fn record(
    history: &mut redb::Table<'_, u64, (ObjectKey, Option<&'static [u8]>)>,
    change: &Change,
) -> Result<(), redb::Error> {
    let old = change.old.as_ref().map(|old| old.to_string().into_bytes());
    history.insert(change.revision, (object_key(&change.resource, &change.key), old.as_deref()))?;
    Ok(())
}

fn append(
    file: &redb::Database,
    writes: &[Unsettled],
    compacted: u64,
    random: u64,
) -> Result<(), redb::Error> {
    let transaction = file.begin_write()?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        let mut history = transaction.open_table(HISTORY)?;
        let mut numbers = transaction.open_table(NUMBERS)?;
        let mut latest = numbers.get(TIME_KEY)?.map_or(0, |time| time.value());
        for Unsettled { change, time, .. } in writes {
            let key = object_key(&change.resource, &change.key);
            latest = latest.max(micros(*time));
            match &change.new {
                Some(new) => objects.insert(key, (micros(*time), new.to_string().as_bytes()))?,
                None => objects.remove(key)?,
            };
            record(&mut history, change)?;
        }
        while history.first()?.is_some_and(|(revision, _)| revision.value() <= compacted) {
            history.pop_first()?;
        }
        let revision = writes.last().map(|write| (REVISION_KEY, write.change.revision));
        let rest = [(COMPACTED_KEY, compacted), (RANDOM_KEY, random), (TIME_KEY, latest)];
        for (name, number) in revision.into_iter().chain(rest) {
            numbers.insert(name, number)?;
        }
    }
    Ok(transaction.commit()?)
}

type Numbers = BTreeMap<String, u64>;

fn numbers(file: &redb::Database) -> Result<Numbers, redb::Error> {
    let table = file.begin_read()?.open_table(NUMBERS)?;
    let mut numbers = BTreeMap::new();
    for entry in table.iter()? {
        let (name, number) = entry?;
        numbers.insert(name.value().to_owned(), number.value());
    }
    Ok(numbers)
}

fn number(numbers: &Numbers, name: &str) -> Result<u64, Failure> {
    numbers.get(name).copied().ok_or_else(|| Failure::Malformed(format!("the number {name:?} is missing")))
}

fn rows(file: &redb::Database) -> Result<(Numbers, Vec<WrittenObject>, Vec<Step>), redb::Error> {
    let numbers = numbers(file)?;
    let (mut objects, mut history) = (Vec::new(), Vec::new());
    if numbers.get(SCHEMA_KEY) > Some(&SCHEMA) {
        // What the tables of a later form are like is not known here.
        return Ok((numbers, objects, history));
    }
    let transaction = file.begin_read()?;
    for entry in transaction.open_table(OBJECTS)?.iter()? {
        let (key, value) = entry?;
        let ((resource, key), (written, json)) = (resource_and_key(key.value()), value.value());
        objects.push(WrittenObject { resource, key, written: moment(written), json: json.to_owned() });
    }
    for entry in transaction.open_table(HISTORY)?.iter()? {
        let (revision, value) = entry?;
        let (key, old) = value.value();
        let (resource, key) = resource_and_key(key);
        history.push(Step { revision: revision.value(), resource, key, old: old.map(<[u8]>::to_owned) });
    }
    Ok((numbers, objects, history))
}

fn restored(
    (numbers, objects, history): (Numbers, Vec<WrittenObject>, Vec<Step>),
) -> Result<Restored, Failure> {
    let number = |name| number(&numbers, name);
    let schema = number(SCHEMA_KEY)?;
    if schema > SCHEMA {
        return Err(Failure::Newer(schema));
    }
    let past = Past { objects, history, compacted: number(COMPACTED_KEY)?, revision: number(REVISION_KEY)? };
    let (random, time) = (number(RANDOM_KEY)?, moment(number(TIME_KEY)?));
    Restored::of(past, random, time).map_err(|error| Failure::Malformed(error.to_string()))
}
