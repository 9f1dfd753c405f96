//! `wait`: holds the answer to a mutation until its rollouts settle, and shows them as they then are.
//!
//! A rollout has settled when it is HEALTHY, PAUSED or DEGRADED by a status of this mutation or of a later one. A status of the newest
//! spec may still be of before the mutation, where that wrote to the status itself: so the pure [`plan::plan`] is asked what a
//! controller would write about what is there now, and as long as that decides anything, the status is an old one. Works on any
//! server, whoever leads.

use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::super::Context;
use super::super::answer::Written;
use super::super::convert::Record;
use super::super::error::{Error, RETRY_SOON};
use super::super::kind::ROLLOUT;
use super::super::name;
use super::super::status::Reason;
use super::super::token::Token;
use super::tree::snapshot;
use crate::clock;
use crate::crd::keys;
use crate::pb::v1;
use crate::plan::{self, Plan, SetAction, Urgency, restart};
use crate::store::{Changed, Key, ResourceVersion, RolloutRecord};
use v1::rollout_status::State;

/// How often a rollout is looked at although nothing was told of it: what a controller would do also depends on the time.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The reason of the warning that the time was up first.
const NOT_SETTLED: &str = "NOT_SETTLED";

/// A rollout that is waited for.
struct Waiting {
    key: Key,
    uid: String,
    /// The mutation's version.
    version: Option<ResourceVersion>,
}

/// How it stands with it.
enum Standing {
    Moves,
    Settled,
    Gone,
}

impl Context {
    /// How long a request wants to wait; `None` when it does not.
    pub(super) fn patience(&self, wait: Option<&prost_types::Duration>) -> Result<Option<Duration>, Error> {
        let Some(wait) = wait else { return Ok(None) };
        let negative = || Error::field("wait", "must not be negative");
        let wait = Duration::try_from(*wait).map_err(|_| negative())?;
        let most = self.limits.max_wait;
        if wait > most {
            let what =
                format!("is {}s; this server waits for {}s at most", wait.as_secs_f64(), most.as_secs());
            return Err(Error::field("wait", what));
        }
        Ok(Some(wait))
    }

    /// Waits until all rollouts of an answer have settled, and shows them as they then are. When the time is up first, a warning says
    /// what they wait for.
    pub(super) async fn settle<A: Written>(&self, answer: &mut A, wait: Duration) -> Result<(), Error> {
        let until = Instant::now() + wait;
        let version = Token::read(answer.consistency_token(), "wait")?.map(|token| token.version);
        let mut warnings = Vec::new();
        for shown in answer.rollouts() {
            if !self.is_served(shown) {
                continue;
            }
            let waiting =
                Waiting { key: name::rollout(&shown.name, "name")?, uid: shown.uid.clone(), version };
            if !self.settled(&waiting, until).await? {
                warnings.push(self.not_settled(&waiting, wait));
            }
            if let Some(record) =
                self.store.rollouts.get(&waiting.key).filter(|record| waiting.is_about(record))
            {
                *shown = Record::from(&*record).show(v1::View::Full);
            }
        }
        answer.warn(warnings);
        Ok(())
    }

    /// Whether this server's caches hold a rollout at all.
    fn is_served(&self, shown: &v1::Rollout) -> bool {
        let instance = shown.labels.get(keys::CONTROLLER_INSTANCE_ID).map(String::as_str).unwrap_or_default();
        let namespace = |served: &String| shown.name.starts_with(&format!("namespaces/{served}/"));
        instance == self.server.instance_id && self.server.namespace.as_ref().is_none_or(namespace)
    }

    /// Whether a rollout has settled before the time is up.
    async fn settled(&self, waiting: &Waiting, until: Instant) -> Result<bool, Error> {
        let mut changes = self.store.changes();
        loop {
            match self.standing(waiting) {
                Standing::Settled => return Ok(true),
                Standing::Gone => return Err(gone(&waiting.key)),
                Standing::Moves => {}
            }
            let changed = async {
                loop {
                    match changes.recv().await {
                        Ok(change) if !waiting.is_concerned(&change) => {}
                        Ok(_) | Err(RecvError::Lagged(_)) => return,
                        // The store lives as long as the context.
                        Err(RecvError::Closed) => std::future::pending().await,
                    }
                }
            };
            tokio::select! {
                biased;
                () = changed => {}
                () = clock::real_sleep(LOOK_EVERY) => {}
                () = clock::real_sleep(until.saturating_duration_since(Instant::now())) => return Ok(false),
                () = self.drain.cancelled() => return Err(interrupted()),
            }
        }
    }

    fn standing(&self, waiting: &Waiting) -> Standing {
        let is_known = waiting.version.is_none_or(|version| self.store.history.has_reached(version));
        let Some(record) = self.store.rollouts.get(&waiting.key) else {
            return if is_known { Standing::Gone } else { Standing::Moves };
        };
        if !waiting.is_about(&record) {
            return if is_known { Standing::Gone } else { Standing::Moves };
        }
        let shown = Record::from(&*record);
        let is_at_rest = matches!(shown.state(), State::Healthy | State::Paused | State::Degraded);
        if !is_known || !is_at_rest || shown.metadata().deletion_timestamp.is_some() {
            return Standing::Moves;
        }
        // What cannot be decoded is nothing that a controller acts on.
        let Some(seen) = self.store.observe(&waiting.key) else { return Standing::Settled };
        let now = self.clock.now();
        let restarts = restart::is_asked_for(&seen.rollout)
            && seen.rollout.spec.restart_at.as_ref().is_some_and(|at| at.instant() <= now);
        let plan = plan::plan(&seen, now);
        if restarts || decides(&plan, shown.state()) { Standing::Moves } else { Standing::Settled }
    }

    fn not_settled(&self, waiting: &Waiting, wait: Duration) -> v1::Warning {
        let tree = snapshot(self, &waiting.key).map(|snapshot| snapshot.tree);
        let why = match tree.as_ref().and_then(|tree| tree.blockers.first()) {
            Some(blocker) => format!("{}; next: {}", blocker.message, blocker.next),
            None => "it is on its way".to_owned(),
        };
        let name = ROLLOUT.named(&waiting.key.namespace, &waiting.key.name).name;
        v1::Warning {
            reason: NOT_SETTLED.to_owned(),
            field: "wait".to_owned(),
            description: format!(
                "the change was made, but {name} has not settled within {}s: {why}",
                wait.as_secs_f64()
            ),
        }
    }
}

/// Whether a plan makes another status of the one that is stored, counts aside.
fn decides(plan: &Plan, stored: State) -> bool {
    let part = &plan.rollout;
    if part.object.is_some()
        || plan.question.is_some()
        || !plan.services.is_empty()
        || plan.workload.is_some()
    {
        return true;
    }
    match &part.status {
        Some(status) => part.urgency == Urgency::Now || status.patch.get("phase").is_some(),
        // A set that is about to be created holds the status back. Where the cluster refuses it, only the leader knows; in the end
        // the status says so.
        None => {
            let creates = plan.sets.iter().any(|action| matches!(action, SetAction::Create { .. }));
            creates && stored != State::Degraded
        }
    }
}

impl Waiting {
    fn is_about(&self, record: &RolloutRecord) -> bool {
        kube::Resource::meta(record).uid.as_deref() == Some(&self.uid)
    }

    fn is_concerned(&self, change: &Changed) -> bool {
        match change {
            Changed::Rollout(key, _) => *key == self.key,
            Changed::Below { uid, .. } => *uid == self.uid,
            Changed::Orphan { namespace } | Changed::Workload { namespace, .. } => {
                *namespace == self.key.namespace
            }
            Changed::Service(service) => service.namespace == self.key.namespace,
            Changed::Plugins => true,
            Changed::BelowSet { .. } | Changed::SetLeft { .. } => false,
        }
    }
}

fn gone(key: &Key) -> Error {
    let resource = ROLLOUT.named(&key.namespace, &key.name);
    let message = format!("the change was made, but {} was deleted while it was waited for", resource.name);
    Error::new(Reason::NotFound, message).about(resource)
}

fn interrupted() -> Error {
    let message = "the change was made; this server shuts down before the rollout settled: ask another one how it stands";
    Error::new(Reason::Draining, message).retry_after(RETRY_SOON)
}
