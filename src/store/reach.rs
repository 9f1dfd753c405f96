//! Whether the API server answers.
//!
//! Watches say that it does not; one small probe, running only then, says when it does again. An idle process asks nothing.

use std::time::Duration;

use kube::Client;
use tokio::sync::watch;

use crate::clock;

/// How often the probe asks while the API server is away: soon enough for readiness, rare enough to be no burden.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// What is known of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// It answers, as far as anybody noticed.
    Reachable,
    /// A request found no answer, and none since did.
    Away,
}

/// A value that anyone may watch.
#[derive(Debug)]
pub struct Reach {
    state: watch::Sender<Reachability>,
}

impl Default for Reach {
    fn default() -> Self {
        Self { state: watch::Sender::new(Reachability::Reachable) }
    }
}

impl Reach {
    /// Whether it answers.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        *self.state.borrow() == Reachability::Reachable
    }

    /// The value, and its changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Reachability> {
        self.state.subscribe()
    }

    /// Something found no answer.
    pub(super) fn lost(&self) {
        self.set(Reachability::Away);
    }

    /// Something found an answer.
    pub(super) fn found(&self) {
        self.set(Reachability::Reachable);
    }

    /// Asks while the API server is away, for ever.
    pub async fn probe(&self, client: Client) {
        let mut changes = self.state.subscribe();
        loop {
            // The sender lives as long as `self`, so this only ends when it turns.
            let _ = changes.wait_for(|state| *state == Reachability::Away).await;
            while !self.is_reachable() {
                clock::real_sleep(PROBE_EVERY).await;
                if client.apiserver_version().await.is_ok() {
                    self.found();
                }
            }
        }
    }

    fn set(&self, now: Reachability) {
        self.state.send_if_modified(|state| std::mem::replace(state, now) != now);
    }
}
