//! RestartRollout: spec.restartAt, before which no pod may have been created (contract 4.7).

use serde_json::json;

use super::super::cluster::Change;
use super::super::convert::{Faults, Wire as _};
use super::super::error::Error;
use super::super::mutation::Subject;
use super::Rollouts;
use super::change::{check, durable};
use crate::crd::Time;
use crate::pb::v1;
use crate::validate::Path;

/// The reason of the warning that nothing happens yet.
const RESTART_IN_FUTURE: &str = "RESTART_IN_FUTURE";

impl Rollouts {
    /// RestartRollout.
    pub(super) async fn restart(
        &self,
        request: v1::RestartRolloutRequest,
    ) -> Result<v1::RestartRolloutResponse, Error> {
        let now = self.context.clock.now();
        let at = match request.restart_time {
            Some(given) => {
                let mut faults = Faults::default();
                let at = given.store(&Path::root("restart_time"), &mut faults);
                let faults = faults.beyond(&Faults::default());
                if !faults.is_empty() {
                    return Err(Error::invalid(faults));
                }
                at
            }
            None => Time::from(now),
        };
        let done = self.mutate(durable!(request), |subject| restart(subject, &at)).await?;
        let mut answer: v1::RestartRolloutResponse = self.answer(&done, &format!("restart_time {at}"));
        if at.instant() > now {
            answer.warnings.push(v1::Warning {
                reason: RESTART_IN_FUTURE.to_owned(),
                field: "restart_time".to_owned(),
                description: format!("pods are restarted once it is {at}; until then nothing happens"),
            });
        }
        Ok(answer)
    }
}

fn restart(subject: &Subject, at: &Time) -> Result<Option<Change>, Error> {
    if subject.rollout()?.spec.restart_at.as_ref() == Some(at) {
        return Ok(None);
    }
    let patch = json!({ "spec": { "restartAt": at } });
    let mut object = subject.object.clone();
    json_patch::merge(&mut object, &patch);
    check(&object)?;
    Ok(Some(Change::Merge(patch)))
}
