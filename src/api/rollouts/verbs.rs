//! Pause, resume, abort, retry and scale: each writes one field, and nothing when it is so already (contract 4.7).

use serde_json::{Value, json};

use super::super::cluster::Change;
use super::super::error::Error;
use super::super::mutation::Subject;
use super::super::status::Reason;
use super::Rollouts;
use super::change::standard;
use crate::pb::v1;

impl Rollouts {
    /// PauseRollout: spec.paused.
    pub(super) async fn pause(
        &self,
        request: v1::PauseRolloutRequest,
    ) -> Result<v1::PauseRolloutResponse, Error> {
        let pause = |subject: &Subject| {
            Ok((!subject.rollout()?.spec.paused()).then(|| spec(&json!({ "paused": true }))))
        };
        Ok(self.answer(&self.mutate(standard!(request), pause).await?, ""))
    }

    /// ResumeRollout: no spec.paused.
    pub(super) async fn resume(
        &self,
        request: v1::ResumeRolloutRequest,
    ) -> Result<v1::ResumeRolloutResponse, Error> {
        let resume = |subject: &Subject| {
            Ok(subject.rollout()?.spec.paused().then(|| spec(&json!({ "paused": false }))))
        };
        Ok(self.answer(&self.mutate(standard!(request), resume).await?, ""))
    }

    /// AbortRollout: status.abort.
    pub(super) async fn abort(
        &self,
        request: v1::AbortRolloutRequest,
    ) -> Result<v1::AbortRolloutResponse, Error> {
        Ok(self.answer(&self.mutate(standard!(request), abort).await?, ""))
    }

    /// RetryRollout: no status.abort.
    pub(super) async fn retry(
        &self,
        request: v1::RetryRolloutRequest,
    ) -> Result<v1::RetryRolloutResponse, Error> {
        let retry = |subject: &Subject| {
            let aborted = subject.rollout()?.status().abort();
            Ok(aborted.then(|| status(&json!({ "abort": false }))))
        };
        Ok(self.answer(&self.mutate(standard!(request), retry).await?, ""))
    }

    /// ScaleRollout: spec.replicas.
    pub(super) async fn scale(
        &self,
        request: v1::ScaleRolloutRequest,
    ) -> Result<v1::ScaleRolloutResponse, Error> {
        let replicas = match request.replicas {
            Some(replicas) if replicas >= 0 => replicas,
            Some(replicas) => return Err(Error::field("replicas", format!("{replicas} is negative"))),
            None => return Err(Error::field("replicas", "is required")),
        };
        let scale = |subject: &Subject| {
            let is_so = subject.rollout()?.spec.replicas == Some(replicas);
            Ok((!is_so).then(|| spec(&json!({ "replicas": replicas }))))
        };
        let done = self.mutate(standard!(request), scale).await?;
        let before = done.before.as_ref().and_then(|before| before.object["spec"]["replicas"].as_i64());
        let before = before.map_or_else(|| "unset".to_owned(), |before| before.to_string());
        Ok(self.answer(&done, &format!("replicas {before} -> {replicas}")))
    }
}

fn abort(subject: &Subject) -> Result<Option<Change>, Error> {
    let seen = subject.observed_status()?;
    if seen.abort() {
        return Ok(None);
    }
    if seen.stable_rs().is_empty() || seen.stable_rs() == seen.current_pod_hash() {
        let message = "no update is running: the newest version is the stable one, or the first";
        return Err(Error::new(Reason::NothingToAbort, message)
            .precondition("status.current_pod_hash", "must be another than status.stable_pod_hash"));
    }
    let mut abort = json!({ "abort": true });
    // A full promotion that is under way would clear the abort again.
    if seen.promote_full() {
        abort["promoteFull"] = json!(false);
    }
    Ok(Some(status(&abort)))
}

fn spec(fields: &Value) -> Change {
    Change::Merge(json!({ "spec": fields }))
}

fn status(fields: &Value) -> Change {
    Change::MergeStatus(json!({ "status": fields }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(status: &Value) -> Result<Option<Value>, Reason> {
        let subject = Subject::new(json!({ "metadata": { "generation": 1 }, "spec": {}, "status": status }));
        let change = abort(&subject).map_err(|error| error.reason())?;
        Ok(change.map(|change| match change {
            Change::MergeStatus(mut patch) => patch["status"].take(),
            other => unreachable!("an abort is written to the status, not {other:?}"),
        }))
    }

    #[test]
    fn an_update_is_aborted_once_and_only_while_it_runs() {
        let running = json!({ "observedGeneration": "1", "currentPodHash": "b", "stableRS": "a" });
        assert_eq!(decided(&running), Ok(Some(json!({ "abort": true }))));
        for (change, expected) in [
            (json!({ "abort": true }), Ok(None)),
            (json!({ "currentPodHash": "a" }), Err(Reason::NothingToAbort)),
            (json!({ "stableRS": "" }), Err(Reason::NothingToAbort)),
            (json!({ "observedGeneration": "0" }), Err(Reason::NotObserved)),
            (
                json!({ "conditions": [{ "type": "InvalidSpec", "status": "True", "reason": "InvalidSpec", "message": "no",
                    "lastUpdateTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z" }] }),
                Err(Reason::InvalidSpec),
            ),
            (json!({ "promoteFull": true }), Ok(Some(json!({ "abort": true, "promoteFull": false })))),
        ] {
            let mut status = running.clone();
            json_patch::merge(&mut status, &change);
            assert_eq!(decided(&status), expected, "{status}");
        }
    }
}
