//! What happened to rollouts, in order: the bounded log that watches of clients read from.
//!
//! Kubernetes tells a watch what happened in the order of resourceVersion. So once [`super::follow()`] has been told something of
//! version v, be it a list, a change, a deletion or a bookmark, it has been told everything up to v: that is [`History::seen`].
//! A version that a client brings (from an answer to its own write, or from a watch of another process) is reached when `seen` is
//! at least that. Between the list, whose version is known, and what is told after it there is no gap; so from the *floor*, which is
//! the version of the last list or of the last change that was dropped, the log is complete, and a watch may go on from any version
//! between floor and `seen` without missing or repeating anything.
//!
//! A list that had to be made again (the API server's own history was gone) tells what is different, but not what happened in
//! between, nor when something was deleted. Those differences are told without a version, and the floor is the list's.
//!
//! Where nothing happens, nothing is told, and `seen` stays behind versions that others know from their lists. Somebody who only
//! wants to read need not wait for a bookmark then: when a consistent list of version v shows nothing that this process does not
//! know, what it knows is as new as v ([`History::verify`]). That says nothing of what happened on the way there, so that it does not
//! move `seen`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::ResourceExt;
use tokio::sync::watch;

use super::kinds::RolloutRecord;
use super::object::Key;
use super::version::ResourceVersion;

/// Changes that are kept: minutes of a busy cluster, and as much as a slow reader may lag behind. Each holds the rollout before and
/// after, which its neighbours share.
const MOST_CHANGES: usize = 4096;

/// The log, and what it has led to.
#[derive(Debug)]
pub struct History {
    inner: Mutex<Inner>,
    /// Turns whenever there is more to read, or more was seen.
    moved: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Rollouts as the watch told of them; the cache may be ahead, where one was read afresh.
    head: BTreeMap<Key, Arc<RolloutRecord>>,
    entries: VecDeque<Entry>,
    /// The position of the first entry that is kept.
    first: u64,
    /// From this version and position on, nothing is missing. `None` before the first list.
    floor: Option<(ResourceVersion, u64)>,
    seen: Option<ResourceVersion>,
    verified: Option<ResourceVersion>,
    has_listed: bool,
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A rollout changed.
    Change(Change),
    /// A list was made again, and its differences are told.
    Listed(ResourceVersion),
}

/// A rollout before and after something happened to it; one of the two is there.
#[derive(Clone, Debug)]
pub struct Change {
    /// As it was; `None` when it was created.
    pub before: Option<Arc<RolloutRecord>>,
    /// As it is; `None` when it was deleted.
    pub after: Option<Arc<RolloutRecord>>,
    /// The version of the change; `None` when it is the difference between two lists.
    pub version: Option<ResourceVersion>,
}

/// Where a reader is in the log: before the entry of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(u64);

/// What a reader finds.
#[derive(Clone, Debug)]
pub enum Read {
    /// The next entry, and the position after it.
    Entry(Entry, Position),
    /// Nothing more yet; everything up to this version was read.
    End(Option<ResourceVersion>),
    /// What comes next is not kept any more.
    Lost,
}

/// All rollouts at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The rollouts, in order.
    pub rollouts: Vec<Arc<RolloutRecord>>,
    /// What happens after it.
    pub position: Position,
    /// Its version.
    pub version: Option<ResourceVersion>,
}

impl Default for History {
    fn default() -> Self {
        Self { inner: Mutex::default(), moved: watch::Sender::new(()) }
    }
}

impl History {
    /// Rollouts as they are now, of one namespace or of all.
    #[must_use]
    pub fn snapshot(&self, namespace: Option<&str>) -> Snapshot {
        let inner = self.lock();
        let within = |key: &Key| namespace.is_none_or(|namespace| key.namespace == namespace);
        let rollouts =
            inner.head.iter().filter(|(key, _)| within(key)).map(|(_, rollout)| Arc::clone(rollout));
        Snapshot { rollouts: rollouts.collect(), position: inner.end(), version: inner.seen }
    }

    /// Where a reader goes on who knows everything up to a version; `None` when the log does not begin as early, or has not got
    /// there yet.
    #[must_use]
    pub fn position_after(&self, version: ResourceVersion) -> Option<Position> {
        let inner = self.lock();
        let (floor, complete_from) = inner.floor?;
        if version < floor || inner.seen.is_none_or(|seen| seen < version) {
            return None;
        }
        let kept = usize::try_from(complete_from.saturating_sub(inner.first)).ok()?;
        let known =
            inner.entries.range(kept..).take_while(|entry| entry.version().is_some_and(|of| of <= version));
        Some(Position(complete_from.max(inner.first) + known.count() as u64))
    }

    /// Where a reader goes on who does not care for what was before.
    #[must_use]
    pub fn end(&self) -> Position {
        self.lock().end()
    }

    /// What comes next at a position.
    #[must_use]
    pub fn read(&self, position: Position) -> Read {
        let inner = self.lock();
        let Some(index) = position.0.checked_sub(inner.first) else { return Read::Lost };
        match usize::try_from(index).ok().and_then(|index| inner.entries.get(index)) {
            Some(entry) => Read::Entry(entry.clone(), Position(position.0 + 1)),
            None => Read::End(inner.seen),
        }
    }

    /// Turns whenever there is more to read, or more was seen.
    #[must_use]
    pub fn moved(&self) -> watch::Receiver<()> {
        self.moved.subscribe()
    }

    /// Everything up to this version was told.
    #[must_use]
    pub fn seen(&self) -> Option<ResourceVersion> {
        self.lock().seen
    }

    /// Whether what is known of rollouts is as new as this version.
    #[must_use]
    pub fn has_reached(&self, version: ResourceVersion) -> bool {
        let inner = self.lock();
        inner.seen.max(inner.verified).is_some_and(|reached| reached >= version)
    }

    /// Takes note that a consistent list of this version showed just these objects: when all of it is known already, what is known is
    /// as new as that.
    pub fn verify(&self, listed: &BTreeMap<Key, ResourceVersion>, version: ResourceVersion) {
        let mut inner = self.lock();
        let known = |key: &Key| inner.head.get(key).and_then(|rollout| ResourceVersion::of(&**rollout));
        let is_known = listed.iter().all(|(key, of)| known(key).is_some_and(|known| known >= *of));
        // What the list does not have was created after it.
        let has_gone =
            |key: &&Key| !listed.contains_key(*key) && known(key).is_none_or(|known| known <= version);
        if is_known && !inner.head.keys().any(|key| has_gone(&key)) {
            inner.verified = inner.verified.max(Some(version));
            drop(inner);
            self.moved.send_replace(());
        }
    }

    /// All rollouts there are, by a complete list of this version.
    pub(super) fn listed(&self, rollouts: &[Arc<RolloutRecord>], version: Option<ResourceVersion>) {
        let mut inner = self.lock();
        let is_first = !std::mem::replace(&mut inner.has_listed, true);
        let listed: BTreeMap<Key, Arc<RolloutRecord>> =
            rollouts.iter().map(|rollout| (Key::of(&**rollout), Arc::clone(rollout))).collect();
        let before = std::mem::replace(&mut inner.head, listed);
        if !is_first {
            for change in differences(&before, &inner.head) {
                inner.append(Entry::Change(change));
            }
            if let Some(version) = version {
                inner.append(Entry::Listed(version));
            }
        }
        let end = inner.end().0;
        inner.floor = version.map(|version| (version, end));
        inner.seen = version;
        inner.verified = None;
        drop(inner);
        self.moved.send_replace(());
    }

    /// A rollout was created or changed.
    pub(super) fn changed(&self, rollout: &Arc<RolloutRecord>) {
        let version = ResourceVersion::of(&**rollout);
        self.happened(version, |head| {
            let before = head.insert(Key::of(&**rollout), Arc::clone(rollout));
            Some(Change { before, after: Some(Arc::clone(rollout)), version })
        });
    }

    /// A rollout was deleted; the version of what the watch tells is that of the deletion.
    pub(super) fn deleted(&self, rollout: &RolloutRecord) {
        let version = ResourceVersion::of(rollout);
        self.happened(version, |head| {
            let before = head.remove(&Key::of(rollout))?;
            Some(Change { before: Some(before), after: None, version })
        });
    }

    /// Nothing else happened up to this version.
    pub(super) fn bookmark(&self, version: ResourceVersion) {
        self.happened(Some(version), |_| None);
    }

    fn happened(
        &self,
        version: Option<ResourceVersion>,
        apply: impl FnOnce(&mut BTreeMap<Key, Arc<RolloutRecord>>) -> Option<Change>,
    ) {
        let mut inner = self.lock();
        if version.is_some() && version <= inner.seen {
            // Told before.
            return;
        }
        if let Some(change) = apply(&mut inner.head) {
            inner.append(Entry::Change(change));
        }
        inner.seen = inner.seen.max(version);
        drop(inner);
        self.moved.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn version(&self) -> Option<ResourceVersion> {
        match self {
            Self::Change(change) => change.version,
            Self::Listed(version) => Some(*version),
        }
    }
}

impl Inner {
    /// The position after everything.
    fn end(&self) -> Position {
        Position(self.first + self.entries.len() as u64)
    }

    fn append(&mut self, entry: Entry) {
        self.entries.push_back(entry);
        while self.entries.len() > MOST_CHANGES {
            let Some(dropped) = self.entries.pop_front() else { return };
            self.first += 1;
            if let (Some((_, complete_from)), Some(version)) = (self.floor, dropped.version())
                && complete_from < self.first
            {
                self.floor = Some((version, self.first));
            }
        }
    }
}

/// What is different between two lists: what is gone, then what is new or another, in the order of versions.
fn differences(
    before: &BTreeMap<Key, Arc<RolloutRecord>>,
    after: &BTreeMap<Key, Arc<RolloutRecord>>,
) -> Vec<Change> {
    let keys: BTreeSet<&Key> = before.keys().chain(after.keys()).collect();
    let change = |key: &Key| {
        let (before, after) = (before.get(key).cloned(), after.get(key).cloned());
        let version = |rollout: &Option<Arc<RolloutRecord>>| rollout.as_ref()?.resource_version();
        (version(&before) != version(&after)).then_some(Change { before, after, version: None })
    };
    let mut changes: Vec<Change> = keys.into_iter().filter_map(change).collect();
    changes.sort_by_key(|change| change.after.as_ref().and_then(|after| ResourceVersion::of(&**after)));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rollout(name: &str, version: u64) -> Arc<RolloutRecord> {
        let object = json!({ "metadata": { "name": name, "namespace": "shop", "uid": name, "resourceVersion": version.to_string() }, "spec": {} });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn at(version: u64) -> ResourceVersion {
        ResourceVersion::parse(&version.to_string()).unwrap()
    }

    /// What a reader at a position finds, as `name version`.
    fn rest(history: &History, mut position: Position) -> Vec<String> {
        let mut found = Vec::new();
        loop {
            match history.read(position) {
                Read::Entry(entry, next) => {
                    found.push(match entry {
                        Entry::Listed(version) => format!("listed {version}"),
                        Entry::Change(Change { before, after, version }) => {
                            let verb = match (&before, &after) {
                                (None, Some(_)) => "+",
                                (Some(_), Some(_)) => "~",
                                _ => "-",
                            };
                            let name = after.or(before).unwrap().name_any();
                            format!("{verb}{name} {}", version.map(|of| of.to_string()).unwrap_or_default())
                        }
                    });
                    position = next;
                }
                Read::End(_) => return found,
                Read::Lost => return vec!["lost".to_owned()],
            }
        }
    }

    fn listed() -> History {
        let history = History::default();
        history.listed(&[rollout("a", 3), rollout("b", 5)], Some(at(10)));
        history.changed(&rollout("c", 12));
        history.changed(&rollout("a", 14));
        history.deleted(&rollout("b", 16));
        history.bookmark(at(20));
        history
    }

    #[test]
    fn a_reader_goes_on_after_any_version_between_floor_and_what_was_seen() {
        let history = listed();
        for (version, expected) in [
            (9, None),
            (10, Some(vec!["+c 12", "~a 14", "-b 16"])),
            (11, Some(vec!["+c 12", "~a 14", "-b 16"])),
            (12, Some(vec!["~a 14", "-b 16"])),
            (15, Some(vec!["-b 16"])),
            (16, Some(vec![])),
            (20, Some(vec![])),
            (21, None),
        ] {
            let found = history.position_after(at(version)).map(|position| rest(&history, position));
            assert_eq!(
                found,
                expected.map(|list| list.into_iter().map(str::to_owned).collect()),
                "{version}"
            );
        }
        let names: Vec<_> =
            history.snapshot(None).rollouts.iter().map(|rollout| rollout.name_any()).collect();
        assert_eq!((names, history.seen()), (vec!["a".to_owned(), "c".to_owned()], Some(at(20))));
    }

    #[test]
    fn another_list_tells_what_is_different_without_versions() {
        let history = listed();
        let reader = history.position_after(at(16)).unwrap();
        history.listed(&[rollout("d", 30), rollout("a", 25)], Some(at(40)));
        assert_eq!(rest(&history, reader), ["-c ", "~a ", "+d ", "listed 40"]);
        for version in [16, 20, 30, 39] {
            assert_eq!(history.position_after(at(version)), None, "{version}");
        }
        history.changed(&rollout("a", 41));
        assert_eq!(rest(&history, history.position_after(at(40)).unwrap()), ["~a 41"]);
    }

    #[test]
    fn what_was_told_before_is_not_told_again() {
        let history = listed();
        let reader = history.position_after(at(20)).unwrap();
        history.changed(&rollout("a", 14));
        history.deleted(&rollout("a", 20));
        history.bookmark(at(3));
        assert_eq!((rest(&history, reader), history.seen()), (vec![], Some(at(20))));
    }

    #[test]
    fn the_log_is_bounded_and_says_how_far_back_it_goes() {
        let history = listed();
        let reader = history.position_after(at(10)).unwrap();
        for version in 100..100 + MOST_CHANGES as u64 {
            history.changed(&rollout("a", version));
        }
        assert_eq!(rest(&history, reader), ["lost"]);
        assert_eq!(history.position_after(at(15)), None);
        assert_eq!(rest(&history, history.position_after(at(16)).unwrap()).len(), MOST_CHANGES);
        history.changed(&rollout("a", 9000));
        assert_eq!(history.position_after(at(99)), None);
        assert_eq!(rest(&history, history.position_after(at(100)).unwrap()).len(), MOST_CHANGES - 1 + 1);
    }

    #[test]
    fn a_consistent_list_of_nothing_new_is_as_good_as_a_bookmark_for_who_only_reads() {
        let history = listed();
        let shown = |objects: &[(&str, u64)]| {
            objects
                .iter()
                .map(|(name, version)| (Key::new("shop", *name), at(*version)))
                .collect::<BTreeMap<_, _>>()
        };
        assert!(history.has_reached(at(20)) && !history.has_reached(at(21)));
        for unknown in
            [shown(&[("a", 14)]), shown(&[("a", 14), ("c", 22)]), shown(&[("a", 14), ("c", 12), ("d", 23)])]
        {
            history.verify(&unknown, at(30));
            assert!(!history.has_reached(at(21)), "{unknown:?}");
        }
        history.verify(&shown(&[("a", 14), ("c", 12)]), at(30));
        assert!(history.has_reached(at(30)) && !history.has_reached(at(31)));
        assert_eq!(history.seen(), Some(at(20)), "what happened on the way is not known");
        history.changed(&rollout("e", 35));
        history.verify(&shown(&[("a", 14), ("c", 12)]), at(33));
        assert!(history.has_reached(at(35)), "what is newer than the list is no difference");
    }
}
