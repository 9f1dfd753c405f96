//! Tells of what was done to rollouts by others than callers of the API: kubectl, GitOps tools, autoscalers.
//!
//! Read from the store's history, some seconds late: whoever made a change through the API tells of it first, and more of it. Who wrote
//! is known from managedFields, where the API server keeps them. Only the leader tells, so that each is told of once.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kube::{Resource, ResourceExt};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::planner::Shared;
use crate::clock::{Clock, real_sleep};
use crate::crd::{Rollout, keys};
use crate::plan::event::{self, Event};
use crate::plan::inherited;
use crate::store::activity::{About, Activities, Activity};
use crate::store::history::{Change, Entry, Read};
use crate::store::{FIELD_MANAGER, FieldManager, Key, RolloutRecord, Store, Writers};
use crate::validate::{Side, Values};

/// How long callers of the API have to tell of what they did: longer than one request to the API server may take.
const TELL_AFTER: Duration = Duration::from_secs(5);

/// How many changes may wait for that; beyond, the oldest are told at once.
const WAITING: usize = 4096;

/// Something that somebody did.
#[derive(Clone, Debug, PartialEq)]
struct Deed {
    about: About,
    activity: Activity,
    /// The generation that it led to, where it changed the spec.
    generation: Option<i64>,
}

/// Tells until it is told to stop.
pub(super) async fn run(store: Arc<Store>, activities: Activities, clock: Clock, stop: CancellationToken) {
    let history = &store.history;
    let (mut moved, mut position) = (history.moved(), history.end());
    let mut waiting: VecDeque<(Instant, Deed)> = VecDeque::new();
    loop {
        match history.read(position) {
            Read::Entry(entry, next) => {
                position = next;
                if let Entry::Change(change) = entry {
                    waiting.extend(
                        deeds(&change, &clock).into_iter().map(|deed| (Instant::now() + TELL_AFTER, deed)),
                    );
                }
                while waiting.len() > WAITING {
                    tell(&activities, waiting.pop_front());
                }
                continue;
            }
            Read::Lost => {
                tracing::warn!("activities of others were missed: too much happened at once");
                position = history.end();
            }
            Read::End(_) => {}
        }
        let due = waiting.front().map(|(due, _)| *due);
        let timer = async {
            match due {
                Some(due) => real_sleep(due.saturating_duration_since(Instant::now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = timer => tell(&activities, waiting.pop_front()),
            // The sender lives as long as the store.
            _ = moved.changed() => {}
        }
    }
}

fn tell(activities: &Activities, deed: Option<(Instant, Deed)>) {
    let Some((_, Deed { about, activity, generation })) = deed else { return };
    match generation {
        Some(generation) => activities.note_generation(&about, generation, activity),
        None => activities.note(&about, activity),
    }
}

/// Tells of what this program did by itself and nobody asked for.
pub(super) fn tell_of_ours(shared: &Shared, key: &Key, events: &[Event]) {
    for event in events.iter().filter(|event| event.reason == event::ENVIRONMENT_TAKEN_BACK) {
        let Some(record) = shared.store.rollouts.get(key) else { return };
        let activity = Activity {
            time: shared.clock.now(),
            actor: FIELD_MANAGER.to_owned(),
            verb: "environment taken back".to_owned(),
            source: FIELD_MANAGER.to_owned(),
            outcome: "OK".to_owned(),
            revision: record
                .annotations()
                .get(keys::REVISION)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
            detail: event.message.clone(),
        };
        shared.activities.note(&about(&record), activity);
    }
}

/// The rollout that something was done to.
fn about(rollout: &RolloutRecord) -> About {
    About {
        namespace: rollout.namespace().unwrap_or_default(),
        name: rollout.name_any(),
        uid: rollout.uid().unwrap_or_default(),
        labels: inherited::for_child(rollout.meta(), |_| false).labels,
    }
}

/// What somebody else did, by a rollout before and after.
fn deeds(change: &Change, clock: &Clock) -> Vec<Deed> {
    let Some(after) = &change.after else { return Vec::new() };
    let Ok(rollout) = &after.decoded else { return Vec::new() };
    let before = change.before.as_ref().filter(|before| before.uid() == after.uid());
    let before_rollout = before.and_then(|before| before.decoded.as_deref().ok());
    let generation = after.meta().generation;
    let deed = |verb: &str, writer: Option<&FieldManager>, detail: String, generation| Deed {
        about: about(after),
        activity: Activity {
            time: clock.now(),
            actor: writer.map_or_else(|| "unknown".to_owned(), |writer| writer.name.clone()),
            verb: verb.to_owned(),
            source: writer
                .map(|writer| format!("{} ({})", writer.name, writer.operation))
                .unwrap_or_default(),
            outcome: "OK".to_owned(),
            revision: revision(after, before_rollout, rollout),
            detail,
        },
        generation,
    };
    let mut deeds = Vec::new();
    if generation.is_some() && before.is_none_or(|before| before.meta().generation != generation) {
        let writer = Writer::of(before, after, |writers| writers.spec.as_ref());
        let detail = match (before, before_rollout) {
            (None, _) => "created".to_owned(),
            (Some(_), Some(before)) => changed_fields(before, rollout),
            (Some(_), None) => "mended".to_owned(),
        };
        match writer {
            Writer::Us => {}
            Writer::Another(writer) => deeds.push(deed("spec changed", Some(writer), detail, generation)),
            Writer::Unknown => deeds.push(deed("spec changed", None, detail, generation)),
        }
    }
    let values = before_rollout.map(|before| changed_values(before, rollout)).unwrap_or_default();
    if !values.is_empty() {
        match Writer::of(before, after, |writers| writers.environment.as_ref()) {
            Writer::Us => {}
            Writer::Another(writer) => deeds.push(deed("environment changed", Some(writer), values, None)),
            Writer::Unknown => deeds.push(deed("environment changed", None, values, None)),
        }
    }
    if let (Some(before_rollout), Writer::Another(writer)) =
        (before_rollout, Writer::of(before, after, |writers| writers.status.as_ref()))
        && let Some(verb) = verb(before_rollout, rollout)
    {
        deeds.push(deed(verb, Some(writer), String::new(), None));
    }
    deeds
}

/// Who made one version of a rollout into the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer<'a> {
    Us,
    Another(&'a FieldManager),
    /// The API server does not say.
    Unknown,
}

impl<'a> Writer<'a> {
    fn of(
        before: Option<&Arc<RolloutRecord>>,
        after: &'a RolloutRecord,
        part: impl Fn(&Writers) -> Option<&FieldManager>,
    ) -> Self {
        let Some(writers) = &after.writers else { return Self::Unknown };
        let last = before.and_then(|before| before.writers.as_ref()).and_then(&part);
        match part(writers) {
            Some(writer) if Some(writer) != last => Self::Another(writer),
            _ => Self::Us,
        }
    }
}

/// The revision that it was about; 0 where the template changed, since which one that becomes is decided later.
fn revision(after: &RolloutRecord, before: Option<&Rollout>, rollout: &Rollout) -> i64 {
    match before {
        Some(before) if before.spec.template == rollout.spec.template => {
            after.annotations().get(keys::REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
        }
        _ => 0,
    }
}

/// The fields of the spec that are another than they were.
fn changed_fields(before: &Rollout, after: &Rollout) -> String {
    let fields = |rollout: &Rollout| serde_json::to_value(&rollout.spec).unwrap_or_default();
    let (before, after) = (fields(before), fields(after));
    let keys = |value: &Value| {
        value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect::<Vec<_>>()
    };
    let mut all = [keys(&before), keys(&after)].concat();
    all.sort();
    all.dedup();
    all.retain(|key| before.get(key) != after.get(key));
    all.join(", ")
}

/// The names of values of the environment that are others than they were. What they are is nobody's business but the pods'.
fn changed_values(before: &Rollout, after: &Rollout) -> String {
    let of_side = |side: Side| {
        let text = |rollout: &Rollout| rollout.metadata.annotations.as_ref()?.get(side.key()).cloned();
        let (before, after) = (text(before), text(after));
        if before == after {
            return None;
        }
        let read = |text: Option<String>| -> Values {
            text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
        };
        let (before, after) = (read(before), read(after));
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let changed = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
        let names = changed.map(String::as_str).collect::<Vec<_>>().join(", ");
        let side = match side {
            Side::Canary => "canary",
            Side::Stable => "stable",
        };
        Some(if names.is_empty() { side.to_owned() } else { format!("{side}: {names}") })
    };
    [Side::Canary, Side::Stable].into_iter().filter_map(of_side).collect::<Vec<_>>().join("; ")
}

/// What a write to the status was meant to do, as operators do it (contract 4.7).
fn verb(before: &Rollout, after: &Rollout) -> Option<&'static str> {
    let (before, after) = (before.status(), after.status());
    match (before.abort(), after.abort()) {
        (false, true) => return Some("aborted"),
        (true, false) => return Some("retried"),
        _ => {}
    }
    let ended_pause = !before.pause_conditions().is_empty() && after.pause_conditions().is_empty();
    let moved_on = before.current_step_index < after.current_step_index;
    let promoted = !before.promote_full() && after.promote_full();
    (ended_pause || moved_on || promoted).then_some("promoted")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A rollout that `manager` has just written to; `None`: we have.
    fn record(generation: i64, manager: Option<(&str, &str)>, change: &Value) -> Arc<RolloutRecord> {
        let entry = |manager: &str, subresource: &str, time: &str| {
            let part = if subresource == "status" { "f:status" } else { "f:spec" };
            json!({ "manager": manager, "operation": "Update", "subresource": subresource, "time": time, "fieldsV1": { part: {} } })
        };
        let mut managed = vec![
            entry("rolloutd", "status", "2026-01-01T00:00:01Z"),
            entry("kubectl-create", "", "2026-01-01T00:00:00Z"),
            entry("kubectl-argo-rollouts", "status", "2026-01-01T00:00:01Z"),
        ];
        managed.extend(
            manager.map(|(manager, subresource)| entry(manager, subresource, "2026-01-01T00:00:02Z")),
        );
        let mut object = json!({
            "metadata": { "name": "web", "namespace": "shop", "uid": "u", "generation": generation, "resourceVersion": "1",
                "annotations": { keys::REVISION: "3" }, "managedFields": managed },
            "spec": { "replicas": 1, "template": { "a": 1 } },
            "status": { "currentStepIndex": 1, "pauseConditions": [{ "reason": "CanaryPauseStep", "startTime": "2026-01-01T00:00:00Z" }] },
        });
        json_patch::merge(&mut object, change);
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn told(before: Option<Arc<RolloutRecord>>, after: &Arc<RolloutRecord>) -> Vec<String> {
        let clock = Clock::starting_at(jiff::Timestamp::UNIX_EPOCH, 1.0);
        let change = Change { before, after: Some(Arc::clone(after)), version: None };
        let text = |deed: Deed| {
            let Activity { verb, source, detail, revision, .. } = deed.activity;
            format!("{verb} | {source} | {detail} | {revision} | {:?}", deed.generation)
        };
        deeds(&change, &clock).into_iter().map(text).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn changes_of_the_spec_are_told_with_their_generation() {
        let before = || Some(record(1, None, &json!({})));
        let kubectl = Some(("kubectl", "scale"));
        let scaled = record(2, kubectl, &json!({ "spec": { "replicas": 5 } }));
        assert_eq!(told(before(), &scaled), ["spec changed | kubectl (Update) | replicas | 3 | Some(2)"]);
        let argo = Some(("argocd-controller", ""));
        let template = record(2, argo, &json!({ "spec": { "template": { "a": 2 }, "paused": true } }));
        assert_eq!(
            told(before(), &template),
            ["spec changed | argocd-controller (Update) | paused, template | 0 | Some(2)"]
        );
        assert_eq!(told(None, &scaled), ["spec changed | kubectl (Update) | created | 0 | Some(2)"]);
        let ours = record(2, None, &json!({ "spec": { "replicas": 5 } }));
        assert_eq!(told(before(), &ours), Vec::<String>::new());
        let labels = record(1, kubectl, &json!({ "metadata": { "labels": { "a": "b" } } }));
        assert_eq!(told(before(), &labels), Vec::<String>::new());
        let untracked =
            record(2, None, &json!({ "metadata": { "managedFields": null }, "spec": { "replicas": 5 } }));
        assert_eq!(told(before(), &untracked), ["spec changed |  | replicas | 3 | Some(2)"]);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_of_the_environment_are_told_by_name() {
        let with = |manager: Option<&str>, text: Value| {
            let managed = manager.map(|manager| {
                json!({ "manager": manager, "operation": "Update", "time": "2026-01-01T00:00:02Z",
                    "fieldsV1": { "f:metadata": { "f:annotations": { "f:rolloutd.dev/stable-environment": {} } } } })
            });
            let annotations = json!({ "rolloutd.dev/stable-environment": text });
            let managed: Vec<Value> = managed.into_iter().collect();
            record(1, None, &json!({ "metadata": { "annotations": annotations, "managedFields": managed } }))
        };
        let before = || Some(with(None, json!(r#"{"A":"1","B":"2","C":"3"}"#)));
        let changed = json!(r#"{"A":"9","C":"3","D":"4"}"#);
        assert_eq!(
            told(before(), &with(Some("kubectl-annotate"), changed.clone())),
            ["environment changed | kubectl-annotate (Update) | stable: A, B, D | 3 | None"]
        );
        assert_eq!(told(before(), &with(None, changed)), Vec::<String>::new(), "ours is told by the API");
        let taken_away = with(Some("kubectl-annotate"), Value::Null);
        assert_eq!(
            told(before(), &taken_away),
            ["environment changed | kubectl-annotate (Update) | stable: A, B, C | 3 | None"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_write_to_the_status_is_told_by_what_it_does() {
        let plugin = Some(("kubectl-argo-rollouts", "status"));
        let before = |change: Value| Some(record(1, None, &json!({ "status": change })));
        let after = |manager, change: Value| record(1, manager, &json!({ "status": change }));
        for (was, is, expected) in [
            (json!({}), json!({ "abort": true }), "aborted"),
            (json!({ "abort": true }), json!({ "abort": false }), "retried"),
            (json!({}), json!({ "pauseConditions": null }), "promoted"),
            (json!({}), json!({ "currentStepIndex": 2 }), "promoted"),
            (json!({}), json!({ "promoteFull": true }), "promoted"),
        ] {
            let by_plugin = told(before(was.clone()), &after(plugin, is.clone()));
            assert_eq!(by_plugin, [format!("{expected} | kubectl-argo-rollouts (Update) |  | 3 | None")]);
            // Ours, in the same second as another's before it.
            assert_eq!(told(before(was), &after(None, is)), Vec::<String>::new());
        }
        assert_eq!(told(before(json!({})), &after(plugin, json!({ "replicas": 3 }))), Vec::<String>::new());
    }
}
