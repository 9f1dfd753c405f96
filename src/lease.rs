//! Leadership by Lease: of several processes one writes.
//!
//! Under Argo Rollouts' own name (contract A10), so that the two controllers never run at once for one instance id. The rules
//! are client-go's: a Lease counts from when we saw it change, not by other machines' clocks. Leadership is a value
//! that anyone may watch; all of it runs in real time, which the processes share.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Clock};

/// How the Lease is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the Lease lies.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who we are: unique for each process.
    pub identity: String,
    /// How long a Lease that is not renewed keeps others out (`--leader-election-lease-duration`).
    pub lease_duration: Duration,
    /// How long the leader tries to renew before it gives up (`--leader-election-renew-deadline`).
    pub renew_deadline: Duration,
    /// How often is tried (`--leader-election-retry-period`).
    pub retry_period: Duration,
}

impl Config {
    /// With client-go's usual durations, and an identity as it makes them: readable, and another one after each start.
    #[must_use]
    pub fn new(namespace: String, instance_id: &str, host: &str) -> Self {
        Self {
            namespace,
            name: lease_name(instance_id),
            identity: format!("{host}_{}", uuid::Uuid::new_v4()),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// The name of the Lease for an instance id (contract A10).
#[must_use]
pub fn lease_name(instance_id: &str) -> String {
    const NAME: &str = "argo-rollouts-controller-lock";
    if instance_id.is_empty() { NAME.to_owned() } else { format!("{NAME}-{instance_id}") }
}

/// Who leads, as far as this process knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader's identity; `None` while nobody is known to lead.
    pub holder: Option<String>,
    /// Since when.
    pub since: Option<jiff::Timestamp>,
    /// Whether this process leads.
    pub role: Role,
}

/// What this process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It leads.
    Leader,
    /// It stands by.
    #[default]
    Standby,
}

impl Leadership {
    /// Leadership that nobody else is asked for (`--leader-elect=false`).
    #[must_use]
    pub fn undisputed(identity: &str, since: jiff::Timestamp) -> Self {
        Self { holder: Some(identity.to_owned()), since: Some(since), role: Role::Leader }
    }

    /// Whether this process leads.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.role == Role::Leader
    }
}

/// Campaigns, holds the Lease while it can, and hands it over when it is told to stop.
///
/// `leadership` says at every moment who leads. Leadership is given up before anybody else can take it.
pub async fn campaign(
    client: Client,
    config: Config,
    leadership: watch::Sender<Leadership>,
    stop: CancellationToken,
) {
    let api = Api::namespaced(client, &config.namespace);
    let mut candidate = Candidate { api, config, seen: None, renewed: None };
    loop {
        let attempt = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            attempt = candidate.attempt() => attempt,
        };
        candidate.publish(&leadership);
        if let Err(error) = attempt {
            tracing::debug!(%error, "not the leader");
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = candidate.pause(&leadership) => {}
        }
    }
}

/// Gives the Lease up so that the next leader need not wait for it to run out. To be called when this process writes no more.
pub async fn hand_over(client: Client, config: &Config) {
    let api: Api<Lease> = Api::namespaced(client, &config.namespace);
    let release = async {
        let Some(mut lease) = api.get_opt(&config.name).await? else { return Ok(()) };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&config.identity) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(now());
        api.replace(&config.name, &PostParams::default(), &lease).await.map(|_| ())
    };
    match tokio::time::timeout(config.renew_deadline, release).await {
        Ok(Ok(())) => tracing::info!(lease = %config.name, "handed the lease over"),
        Ok(Err(error)) => tracing::warn!(lease = %config.name, %error, "could not hand the lease over"),
        Err(_) => tracing::warn!(lease = %config.name, "could not hand the lease over in time"),
    }
}

struct Candidate {
    api: Api<Lease>,
    config: Config,
    /// The Lease as we last saw it, and when we saw it become so.
    seen: Option<(Lease, Instant)>,
    /// When we last began to renew it with success.
    renewed: Option<Instant>,
}

/// Why an attempt did not make us the leader.
#[derive(Debug, thiserror::Error)]
enum NotLeading {
    #[error("the lease is held by {0:?}")]
    Held(String),
    #[error("another got there first")]
    Overtaken,
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("no answer")]
    NoAnswer,
}

impl Candidate {
    /// Takes or renews the Lease.
    async fn attempt(&mut self) -> Result<(), NotLeading> {
        let began = Instant::now();
        // A leader has until its deadline, whatever the API server does meanwhile; anybody else takes no longer than that either.
        let deadline = self.expiry().filter(|expiry| *expiry > began);
        let deadline = deadline.unwrap_or_else(|| began + self.config.renew_deadline);
        let attempt = tokio::time::timeout_at(deadline, self.take()).await;
        attempt.map_err(|_| NotLeading::NoAnswer)??;
        // Counted from before the request: others may count from any time after it.
        self.renewed = Some(began);
        Ok(())
    }

    /// When leadership ends unless the Lease is renewed; `None` where it is not ours.
    fn expiry(&self) -> Option<Instant> {
        let renewed = self.renewed.filter(|_| self.holds())?;
        Some(renewed + self.config.renew_deadline)
    }

    /// Waits for the next attempt. Leadership that runs out meanwhile ends then, not after that attempt.
    async fn pause(&self, leadership: &watch::Sender<Leadership>) {
        let next = Instant::now() + self.config.retry_period;
        if let Some(expiry) = self.expiry().filter(|expiry| *expiry < next) {
            clock::real_sleep(expiry.saturating_duration_since(Instant::now())).await;
            self.publish(leadership);
        }
        clock::real_sleep(next.saturating_duration_since(Instant::now())).await;
    }

    async fn take(&mut self) -> Result<(), NotLeading> {
        let Some(lease) = self.api.get_opt(&self.config.name).await? else {
            let lease = self.lease(None);
            let created = self.api.create(&PostParams::default(), &lease).await.map_err(overtaken)?;
            self.see(created);
            return Ok(());
        };
        self.see(lease.clone());
        let holder = holder(&lease);
        let is_valid = self.seen.as_ref().is_some_and(|(lease, since)| since.elapsed() < duration(lease));
        if !holder.is_empty() && holder != self.config.identity && is_valid {
            return Err(NotLeading::Held(holder.to_owned()));
        }
        let taken = self.lease(Some(&lease));
        let written =
            self.api.replace(&self.config.name, &PostParams::default(), &taken).await.map_err(overtaken)?;
        self.see(written);
        Ok(())
    }

    fn see(&mut self, lease: Lease) {
        if self.seen.as_ref().is_none_or(|(seen, _)| seen.spec != lease.spec) {
            self.seen = Some((lease, Instant::now()));
        }
    }

    /// The Lease with us as its holder.
    fn lease(&self, before: Option<&Lease>) -> Lease {
        let spec = before.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let ours = spec.holder_identity.as_deref() == Some(&self.config.identity);
        let transitions = spec.lease_transitions.unwrap_or(0);
        let seconds = i32::try_from(self.config.lease_duration.as_secs()).unwrap_or(i32::MAX).max(1);
        let metadata = before.map_or_else(
            || ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() },
            |lease| lease.metadata.clone(),
        );
        let spec = LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: Some(seconds),
            acquire_time: if ours { spec.acquire_time } else { Some(now()) },
            renew_time: Some(now()),
            lease_transitions: Some(if ours || before.is_none() { transitions } else { transitions + 1 }),
            ..spec
        };
        Lease { metadata, spec: Some(spec) }
    }

    fn publish(&self, leadership: &watch::Sender<Leadership>) {
        // A leader that cannot renew goes on for as long as nobody else may take over.
        let leads = self.expiry().is_some_and(|expiry| Instant::now() < expiry);
        let seen = self.seen.as_ref().map(|(lease, _)| lease);
        let now = Leadership {
            holder: seen.map(|lease| holder(lease).to_owned()).filter(|holder| !holder.is_empty()),
            since: seen.and_then(|lease| lease.spec.as_ref()?.acquire_time.as_ref()).map(|time| time.0),
            role: if leads { Role::Leader } else { Role::Standby },
        };
        if now.role != leadership.borrow().role {
            tracing::info!(lease = %self.config.name, identity = %self.config.identity, role = ?now.role, "leadership");
        }
        leadership.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }

    fn holds(&self) -> bool {
        self.seen.as_ref().is_some_and(|(lease, _)| holder(lease) == self.config.identity)
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

fn duration(lease: &Lease) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn overtaken(error: kube::Error) -> NotLeading {
    match error {
        kube::Error::Api(status) if status.code == 409 => NotLeading::Overtaken,
        error => NotLeading::Api(error),
    }
}

fn now() -> MicroTime {
    MicroTime(Clock::wall().now())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use http_body_util::BodyExt as _;
    use kube::client::Body;

    use super::*;

    #[test]
    fn the_lease_bears_argo_rollouts_name_with_the_instance_id() {
        assert_eq!(lease_name(""), "argo-rollouts-controller-lock");
        assert_eq!(lease_name("blue"), "argo-rollouts-controller-lock-blue");
    }

    /// How an API server behaves that keeps one Lease.
    #[derive(Clone, Copy)]
    enum Mood {
        Answers,
        Refuses,
        Hangs,
    }

    struct Keeper {
        mood: Mood,
        lease: Option<serde_json::Value>,
    }

    fn client(keeper: &Arc<Mutex<Keeper>>) -> Client {
        let keeper = Arc::clone(keeper);
        let serve = move |request: Request<Body>| {
            let keeper = Arc::clone(&keeper);
            async move {
                let mood = keeper.lock().unwrap().mood;
                let answer = |code: u16, body: &serde_json::Value| {
                    Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap()
                };
                match mood {
                    Mood::Hangs => std::future::pending::<()>().await,
                    Mood::Refuses => {
                        return Ok::<_, std::convert::Infallible>(failure(
                            &answer,
                            503,
                            "ServiceUnavailable",
                        ));
                    }
                    Mood::Answers => {}
                }
                if request.method() == http::Method::GET {
                    let lease = keeper.lock().unwrap().lease.clone();
                    return Ok(
                        lease.map_or_else(|| failure(&answer, 404, "NotFound"), |lease| answer(200, &lease))
                    );
                }
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let lease: serde_json::Value = serde_json::from_slice(&body).unwrap();
                keeper.lock().unwrap().lease = Some(lease.clone());
                Ok(answer(200, &lease))
            }
        };
        Client::new(tower::service_fn(serve), "default")
    }

    fn failure(
        answer: &impl Fn(u16, &serde_json::Value) -> Response<Body>,
        code: u16,
        reason: &str,
    ) -> Response<Body> {
        answer(
            code,
            &serde_json::json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason }),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn leadership_ends_at_the_renew_deadline_even_between_attempts() {
        for mood in [Mood::Refuses, Mood::Hangs] {
            let keeper = Arc::new(Mutex::new(Keeper { mood: Mood::Answers, lease: None }));
            // A period that the deadline is no multiple of: it falls between two attempts.
            let retry_period = Duration::from_secs(7);
            let config = Config { retry_period, ..Config::new("here".to_owned(), "", "host") };
            let deadline = config.renew_deadline;
            let (leading, mut leads) = watch::channel(Leadership::default());
            let began = Instant::now();
            let stop = CancellationToken::new();
            let campaign = tokio::spawn(campaign(client(&keeper), config, leading, stop.clone()));
            leads.wait_for(Leadership::is_ours).await.unwrap();
            keeper.lock().unwrap().mood = mood;
            leads.wait_for(|leadership| !leadership.is_ours()).await.unwrap();
            let led = began.elapsed();
            assert!(led >= deadline && led < deadline + Duration::from_millis(50), "{led:?}");

            keeper.lock().unwrap().mood = Mood::Answers;
            leads.wait_for(Leadership::is_ours).await.unwrap();
            stop.cancel();
            campaign.await.unwrap();
        }
    }
}
