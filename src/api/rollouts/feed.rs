//! What a watch tells of, in order: from the store's history, or, for what was before it, from the API server's own memory.
//!
//! A watch that begins gets a snapshot and then what the history has after it. One that resumes goes on from its version in the
//! history, where that reaches back as far; otherwise (the token is another server's, or from before a restart) the API server is
//! asked what happened since ([`super::past`]), until it has told as much as the history begins with. Nobody has to know by heart what
//! a consumer knows: both sources tell everything, in the order of versions.

use std::sync::Arc;

use tokio::sync::watch;

use super::super::Context;
use super::super::error::Error;
use super::super::name::Span;
use super::super::selection::Selection;
use super::past::Past;
use crate::store::history::{Change, Entry, Position, Read};
use crate::store::{ResourceVersion, RolloutRecord};

/// Something to be told.
#[derive(Debug)]
pub(super) enum News {
    /// A rollout changed.
    Change(Change),
    /// All up to here was told.
    UpToDate,
}

/// Why nothing more is told.
#[derive(Debug)]
pub(super) enum NoNews {
    /// The reader was slower than the history is long.
    TooSlow,
    /// Something else.
    Failed(Error),
}

/// The news of one watch.
pub(super) struct Feed {
    context: Arc<Context>,
    source: Source,
    moved: watch::Receiver<()>,
    /// Everything up to here was told; `None` while only a part of what a list shows was.
    version: Option<ResourceVersion>,
    /// Whether it is news to be up to date.
    is_behind: bool,
}

enum Source {
    /// Those that exist, and where the history goes on from there.
    Snapshot {
        rest: std::vec::IntoIter<Arc<RolloutRecord>>,
        position: Position,
        version: Option<ResourceVersion>,
    },
    History(Position),
    Past(Past),
    /// Nothing of what is watched is served here: only that the history gets to this version is waited for.
    Nothing(ResourceVersion),
}

impl Feed {
    /// News from the beginning.
    pub(super) fn new(context: &Arc<Context>, span: &Span) -> Self {
        let snapshot = context.store.history.snapshot(span.namespace());
        let (position, version) = (snapshot.position, snapshot.version);
        Self::from(context, Source::Snapshot { rest: snapshot.rollouts.into_iter(), position, version }, None)
    }

    /// News after a version.
    pub(super) fn after(version: ResourceVersion, context: &Arc<Context>, selection: &Selection) -> Self {
        let past = Past::after(version, context, selection);
        Self::from(context, past.map_or(Source::Nothing(version), Source::Past), Some(version))
    }

    fn from(context: &Arc<Context>, source: Source, version: Option<ResourceVersion>) -> Self {
        let moved = context.store.history.moved();
        Self { context: Arc::clone(context), source, moved, version, is_behind: true }
    }

    /// Everything up to this version was told, so that a watch can resume after it; `None` where it cannot.
    pub(super) fn version(&self) -> Option<ResourceVersion> {
        self.version
    }

    /// The next news. Nothing is lost when the wait is dropped.
    pub(super) async fn next(&mut self) -> Result<News, NoNews> {
        loop {
            if let Some(news) = self.step().await? {
                return Ok(news);
            }
        }
    }

    async fn step(&mut self) -> Result<Option<News>, NoNews> {
        let history = &self.context.store.history;
        match &mut self.source {
            Source::Snapshot { rest, position, version } => {
                if let Some(rollout) = rest.next() {
                    let change = Change { before: None, after: Some(rollout), version: None };
                    return Ok(Some(News::Change(change)));
                }
                self.version = *version;
                self.source = Source::History(*position);
                Ok(None)
            }
            Source::History(position) => match history.read(*position) {
                Read::Entry(entry, next) => {
                    *position = next;
                    Ok(self.entry(entry))
                }
                Read::End(seen) => {
                    self.version = seen;
                    if std::mem::take(&mut self.is_behind) {
                        return Ok(Some(News::UpToDate));
                    }
                    // The sender lives as long as the store.
                    let _ = self.moved.changed().await;
                    Ok(None)
                }
                Read::Lost => Err(NoNews::TooSlow),
            },
            Source::Past(past) => {
                if let Some(position) = history.position_after(past.version()) {
                    self.source = Source::History(position);
                    return Ok(None);
                }
                let change = tokio::select! {
                    change = past.next() => change.map_err(NoNews::Failed)?,
                    // Perhaps the history has got there.
                    _ = self.moved.changed() => None,
                };
                self.version = Some(past.version());
                Ok(change.map(News::Change))
            }
            Source::Nothing(version) => {
                match history.seen() {
                    Some(seen) if seen >= *version => self.source = Source::History(history.end()),
                    _ => drop(self.moved.changed().await),
                }
                Ok(None)
            }
        }
    }

    fn entry(&mut self, entry: Entry) -> Option<News> {
        match entry {
            Entry::Change(change) => {
                self.version = change.version;
                Some(News::Change(change))
            }
            Entry::Listed(version) => {
                self.version = Some(version);
                self.is_behind = true;
                None
            }
        }
    }
}
