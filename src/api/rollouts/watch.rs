//! WatchRollouts: those that exist, a bookmark, then every change.
//!
//! A task of its own pumps what [`super::feed`] tells into a bounded buffer; a consumer that takes nothing for a while although the
//! buffer is full is closed. What is selected is judged on each rollout before and after a change: entering the selection is `added`,
//! leaving it `deleted`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, Stream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::super::Context;
use super::super::convert::{Record, timestamp};
use super::super::error::{Error, RETRY_SOON};
use super::super::name;
use super::super::selection::Selection;
use super::super::status::Reason;
use super::super::token::Binding;
use super::Rollouts;
use super::feed::{Feed, News, NoNews};
use super::read::view;
use crate::clock;
use crate::pb::v1;
use crate::store::RolloutRecord;
use crate::store::history::Change;
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
        let span = name::span(&request.parent, "parent")?;
        let selection = Selection::parse(span, &request.label_selector, &request.filter)?;
        let view = view(request.view, v1::View::Basic)?;
        // Leaving a filter is not in anybody's history: a watch that has one cannot be resumed.
        let binding = selection
            .filter
            .is_empty()
            .then(|| Binding::of(&[&request.parent, &selection.selector.to_string()]));
        let after = match &binding {
            Some(binding) => binding.read(&request.resume_token, "resume_token")?,
            None if request.resume_token.is_empty() => None,
            None => return Err(Error::field("filter", "is not taken together with resume_token")),
        };
        self.context.require_ready()?;

        let feed = match after {
            Some(version) => Feed::after(version, &self.context, &selection),
            None => Feed::new(&self.context, &selection.span),
        };
        let (events, received) = mpsc::channel(BUFFERED);
        let context = Arc::clone(&self.context);
        let pump = Pump { context, feed, selection, view, binding, began: after.is_some(), events };
        let end = tokio::spawn(pump.run());
        Ok(stream::unfold(Some((received, end)), |watch| async move {
            let (mut received, end) = watch?;
            match received.recv().await {
                Some(event) => Some((Ok(event), Some((received, end)))),
                // All that was buffered is sent; now why it ends.
                None => match end.await {
                    Ok(error) => Some((Err(error?), None)),
                    Err(error) => Some((Err(Error::internal("the watch broke off", &error)), None)),
                },
            }
        }))
    }
}

struct Pump {
    context: Arc<Context>,
    feed: Feed,
    selection: Selection,
    view: v1::View,
    /// `None` where there are no tokens.
    binding: Option<Binding>,
    /// Whether the first bookmark was sent, before which there are no tokens.
    began: bool,
    events: mpsc::Sender<v1::WatchRolloutsResponse>,
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
            Err(Ended::Behind) => {
                let message = "the watch was closed: it fell behind by more changes than are kept";
                Some(Error::new(Reason::SlowConsumer, message).retry_after(RETRY_SOON))
            }
            Err(Ended::Draining) => Some(self.context.draining()),
            Err(Ended::Failed(error)) => Some(error),
            Ok(never) => match never {},
        }
    }

    async fn send_all(&mut self) -> Result<Infallible, Ended> {
        let mut heartbeat = Instant::now() + HEARTBEAT;
        loop {
            let (drain, closed) = (self.context.drain.clone(), self.events.clone());
            tokio::select! {
                () = drain.cancelled() => return Err(Ended::Draining),
                () = closed.closed() => return Err(Ended::ConsumerGone),
                () = clock::real_sleep(heartbeat.saturating_duration_since(Instant::now())), if self.began => {
                    self.bookmark().await?;
                    heartbeat = Instant::now() + HEARTBEAT;
                }
                news = self.feed.next() => match news? {
                    News::Change(change) => {
                        for event in self.events(&change) {
                            self.send(event).await?;
                        }
                    }
                    News::UpToDate => {
                        self.began = true;
                        self.bookmark().await?;
                        heartbeat = Instant::now() + HEARTBEAT;
                    }
                },
            }
        }
    }

    /// What a change is to the consumer: nothing, one event, or two where another rollout has taken the name.
    fn events(&self, change: &Change) -> Vec<v1::WatchRolloutsResponse> {
        let selected = |rollout: &Option<Arc<RolloutRecord>>| {
            rollout.clone().filter(|rollout| self.selection.selects(rollout))
        };
        let shown = |rollout: &RolloutRecord| Record::from(rollout).show(self.view);
        let event = |event, resume_token| v1::WatchRolloutsResponse { event: Some(event), resume_token };
        let token = self.token();
        match (selected(&change.before), selected(&change.after)) {
            (None, None) => Vec::new(),
            (None, Some(after)) => vec![event(Event::Added(shown(&after)), token)],
            (Some(before), None) => vec![event(Event::Deleted(deleted(&before)), token)],
            (Some(before), Some(after)) if uid(&before) == uid(&after) => {
                vec![event(Event::Modified(shown(&after)), token)]
            }
            // Who resumes after the first of the two would miss the second.
            (Some(before), Some(after)) => vec![
                event(Event::Deleted(deleted(&before)), String::new()),
                event(Event::Added(shown(&after)), token),
            ],
        }
    }

    async fn bookmark(&mut self) -> Result<(), Ended> {
        let time = Some(timestamp(self.context.clock.now()));
        let event = Some(Event::Bookmark(Bookmark { time }));
        self.send(v1::WatchRolloutsResponse { event, resume_token: self.token() }).await
    }

    /// The token that resumes after everything that was told so far; empty where there is none.
    fn token(&self) -> String {
        let version = self.feed.version().filter(|_| self.began);
        let token = version.zip(self.binding.as_ref()).map(|(version, binding)| binding.token(version));
        token.unwrap_or_default()
    }

    async fn send(&mut self, event: v1::WatchRolloutsResponse) -> Result<(), Ended> {
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

fn uid(rollout: &RolloutRecord) -> Option<&str> {
    kube::Resource::meta(rollout).uid.as_deref()
}

fn deleted(rollout: &RolloutRecord) -> Deleted {
    let uid = uid(rollout).unwrap_or_default().to_owned();
    Deleted { name: Record::from(rollout).name(), uid }
}

/// Why a watch ends.
#[derive(Debug)]
enum Ended {
    ConsumerGone,
    /// The consumer takes nothing.
    TooSlow,
    /// The consumer takes less than happens.
    Behind,
    Draining,
    Failed(Error),
}

impl From<NoNews> for Ended {
    fn from(why: NoNews) -> Self {
        match why {
            NoNews::TooSlow => Self::Behind,
            NoNews::Failed(error) => Self::Failed(error),
        }
    }
}
