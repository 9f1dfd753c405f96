//! ListRolloutActivity: who did what to a rollout, newest first.

use jiff::Timestamp;

use super::super::cluster::{Target, explain, within_deadline};
use super::super::convert::timestamp;
use super::super::error::Error;
use super::super::kind::{CONTROLLER_REVISION, ROLLOUT};
use super::super::name;
use super::super::page::Page;
use super::Rollouts;
use crate::pb::v1;
use crate::store::Key;
use crate::store::activity::{About, Activity, Recorded};

impl Rollouts {
    /// ListRolloutActivity.
    pub(super) async fn list_activity(
        &self,
        request: &v1::ListRolloutActivityRequest,
    ) -> Result<v1::ListRolloutActivityResponse, Error> {
        let key = name::rollout(&request.parent, "parent")?;
        let page = Page::read(request.page_size, &request.page_token, &[&request.parent])?;
        self.context.require_ready()?;
        let record = self.context.store.rollouts.get(&key);
        let record = record.ok_or_else(|| Error::not_found(ROLLOUT.named(&key.namespace, &key.name)))?;
        let uid = kube::ResourceExt::uid(&*record).unwrap_or_default();
        let about = About { namespace: key.namespace.clone(), name: key.name, uid, ..About::default() };
        let target = Target { kind: &CONTROLLER_REVISION, namespace: &key.namespace, name: "" };
        let explain = |error: &kube::Error| explain(error, "list", target, "");
        let mut activities = within_deadline(self.context.activities.list(&about), explain).await?;
        if let Some(after) = page.after.as_ref().and_then(place) {
            activities.retain(|recorded| (recorded.activity.time, recorded.name.as_str()) < after);
        }
        let shown = &activities[..activities.len().min(page.size)];
        let last = shown.last().map(|last| Key::new(last.activity.time.to_string(), &*last.name));
        let next_page_token = page.next(activities.len(), shown.len(), last.as_ref());
        let activities = shown.iter().map(|Recorded { activity, .. }| show(activity)).collect();
        Ok(v1::ListRolloutActivityResponse { activities, next_page_token })
    }
}

/// Where the page before ended.
fn place(after: &Key) -> Option<(Timestamp, &str)> {
    Some((after.namespace.parse().ok()?, &after.name))
}

fn show(activity: &Activity) -> v1::Activity {
    let Activity { time, actor, verb, source, outcome, revision, detail } = activity.clone();
    v1::Activity { time: Some(timestamp(time)), actor, verb, source, outcome, revision, detail }
}
