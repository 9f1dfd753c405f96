//! WatchRollouts: those that exist, a bookmark, then every change.
//!
//! Level-triggered: what a watch sends is the difference between what its consumer knows and what the cache has, so that a burst
//! that overran its buffer loses nothing but steps between. A task of its own pumps into a bounded buffer; a consumer that takes
//! nothing for a while although the buffer is full is closed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream};
use kube::ResourceExt as _;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::Context;
use super::super::convert::{Record, timestamp};
use super::super::error::{Error, RETRY_SOON};
use super::super::name::{self, Span};
use super::super::not_yet;
use super::super::selector::Selector;
use super::super::status::Reason;
use super::Rollouts;
use super::read::view;
use crate::clock;
use crate::pb::v1;
use crate::store::{Changed, Key, RolloutRecord};
use v1::watch_rollouts_response::{Bookmark, Deleted, Event};

/// Events that wait for a consumer: enough for a burst while it draws breath, few enough for a thousand watches.
const BUFFERED: usize = 64;

/// How long a full buffer may stand still before its consumer counts as too slow.
const STALLED: Duration = Duration::from_secs(10);

/// How often a bookmark comes at least; the contract promises it.
const HEARTBEAT: Duration = Duration::from_secs(30);

impl Rollouts {
    /// WatchRollouts.
    pub(super) fn watch(
        &self,
        request: &v1::WatchRolloutsRequest,
    ) -> Result<impl Stream<Item = Result<v1::WatchRolloutsResponse, Error>> + Send + use<>, Error> {
        let unfinished =
            [("filter", !request.filter.is_empty()), ("resume_token", !request.resume_token.is_empty())];
        not_yet::fields(&unfinished)?;
        let span = name::span(&request.parent, "parent")?;
        let selector = Selector::parse(&request.label_selector)?;
        let view = view(request.view, v1::View::Basic)?;
        self.context.require_ready()?;

        let (events, received) = mpsc::channel(BUFFERED);
        let pump = Pump {
            changes: self.context.store.changes(),
            context: Arc::clone(&self.context),
            span,
            selector,
            view,
            events,
            known: BTreeMap::new(),
        };
        let end = tokio::spawn(pump.run());
        Ok(stream::unfold(Some((received, end)), |watch| async move {
            let (mut received, end) = watch?;
            match received.recv().await {
                Some(event) => Some((
                    Ok(v1::WatchRolloutsResponse { event: Some(event), ..Default::default() }),
                    Some((received, end)),
                )),
                // All that was buffered is sent; now why it ends.
                None => match end.await {
                    Ok(error) => Some((Err(error?), None)),
                    Err(error) => Some((Err(Error::internal("the watch broke off", &error)), None)),
                },
            }
        }))
    }
}

/// What a consumer knows of a rollout.
struct Known {
    uid: String,
    version: Option<String>,
}

struct Pump {
    context: Arc<Context>,
    span: Span,
    selector: Selector,
    view: v1::View,
    changes: Receiver<Changed>,
    events: mpsc::Sender<Event>,
    known: BTreeMap<Key, Known>,
}

impl Pump {
    /// Sends until it ends, and says why; `None` when the consumer went away.
    async fn run(mut self) -> Option<Error> {
        match self.send_all().await {
            Err(Ended::ConsumerGone) => None,
            Err(Ended::TooSlow) => {
                let message =
                    format!("the watch was closed: nothing was taken from it for {}s", STALLED.as_secs());
                Some(Error::new(Reason::SlowConsumer, message).retry_after(RETRY_SOON))
            }
            Err(Ended::Draining) => Some(self.context.draining()),
            Ok(never) => match never {},
        }
    }

    async fn send_all(&mut self) -> Result<std::convert::Infallible, Ended> {
        self.resync().await?;
        self.bookmark().await?;
        let mut heartbeat = Instant::now() + HEARTBEAT;
        loop {
            let drain = self.context.drain.clone();
            let closed = self.events.clone();
            tokio::select! {
                () = drain.cancelled() => return Err(Ended::Draining),
                () = closed.closed() => return Err(Ended::ConsumerGone),
                () = clock::real_sleep(heartbeat.saturating_duration_since(Instant::now())) => {
                    self.bookmark().await?;
                    heartbeat = Instant::now() + HEARTBEAT;
                }
                change = self.changes.recv() => match change {
                    Ok(Changed::Rollout(key, _)) if self.spans(&key) => self.look_at(&key).await?,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => self.resync().await?,
                    // The store lives as long as the context.
                    Err(RecvError::Closed) => return Err(Ended::Draining),
                },
            }
        }
    }

    fn spans(&self, key: &Key) -> bool {
        self.span.namespace().is_none_or(|namespace| namespace == key.namespace)
    }

    /// Compares everything that there is with everything that the consumer knows.
    async fn resync(&mut self) -> Result<(), Ended> {
        let existing = self.context.store.rollouts.page(self.span.namespace(), None, usize::MAX);
        let mut keys: Vec<Key> = existing.iter().map(|record| Key::of(&**record)).collect();
        keys.extend(self.known.keys().cloned());
        keys.sort();
        keys.dedup();
        for key in keys {
            self.look_at(&key).await?;
        }
        Ok(())
    }

    /// Sends what is new about a rollout.
    async fn look_at(&mut self, key: &Key) -> Result<(), Ended> {
        let record = self.context.store.rollouts.get(key);
        let record =
            record.filter(|record| self.selector.matches(kube::Resource::meta(&**record).labels.as_ref()));
        let uid = record.as_ref().and_then(|record| record.uid()).unwrap_or_default();
        if let Some(known) = self.known.get(key)
            && (record.is_none() || known.uid != uid)
        {
            let name = format!("namespaces/{}/rollouts/{}", key.namespace, key.name);
            let deleted = Deleted { name, uid: known.uid.clone() };
            self.known.remove(key);
            self.send(Event::Deleted(deleted)).await?;
        }
        let Some(record) = record else { return Ok(()) };
        let version = record.resource_version();
        let event = match self.known.get(key) {
            Some(known) if known.version == version => return Ok(()),
            Some(_) => Event::Modified(self.show(&record)),
            None => Event::Added(self.show(&record)),
        };
        self.known.insert(key.clone(), Known { uid, version });
        self.send(event).await
    }

    fn show(&self, record: &RolloutRecord) -> v1::Rollout {
        Record::from(record).show(self.view)
    }

    async fn bookmark(&mut self) -> Result<(), Ended> {
        let time = Some(timestamp(self.context.clock.now()));
        self.send(Event::Bookmark(Bookmark { time })).await
    }

    async fn send(&mut self, event: Event) -> Result<(), Ended> {
        let drain = self.context.drain.clone();
        tokio::select! {
            sent = self.events.send_timeout(event, STALLED) => sent.map_err(|error| match error {
                mpsc::error::SendTimeoutError::Timeout(_) => Ended::TooSlow,
                mpsc::error::SendTimeoutError::Closed(_) => Ended::ConsumerGone,
            }),
            () = drain.cancelled() => Err(Ended::Draining),
        }
    }
}

/// Why a watch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    ConsumerGone,
    TooSlow,
    Draining,
}
