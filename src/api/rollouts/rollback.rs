//! RollbackRollout: the pod template of an earlier revision again (contract 4.11 «undo»).

use std::sync::Arc;

use serde_json::Value;

use super::super::cluster::Change;
use super::super::error::Error;
use super::super::mutation::{Insight, Subject};
use super::super::status::Reason;
use super::Rollouts;
use super::change::{check, difference, durable, own_template};
use super::revisions::{Wanted, not_kept};
use super::workload::Rewritten;
use crate::crd::{ConditionType, keys};
use crate::pb::v1;
use crate::plan::ReplicaSet;
use crate::plan::revision;
use crate::pod_template::{self, Sameness, UnknownFields};
use crate::store::Key;

impl Rollouts {
    /// RollbackRollout.
    pub(super) async fn rollback(
        &self,
        request: v1::RollbackRolloutRequest,
    ) -> Result<v1::RollbackRolloutResponse, Error> {
        let from = request.from.as_ref().map(|from| from.pod_template_hash.as_str()).unwrap_or_default();
        if from.is_empty() {
            let what = "is required: status.current_pod_hash as you saw it";
            return Err(Error::field("from.pod_template_hash", what));
        }
        if request.to_revision < 0 {
            return Err(Error::field("to_revision", format!("{} is negative", request.to_revision)));
        }
        self.context.require_ready()?;
        let sets = |subject: &Subject| {
            let records = self.context.store.sets.controlled_by(subject.uid());
            records.iter().map(|record| Arc::clone(&record.set)).collect::<Vec<_>>()
        };
        let back = |subject: &Subject| roll_back(subject, &sets(subject), from, request.to_revision);
        let Rewritten { mut done, before, warnings, .. } = self.rewrite(durable!(request), back).await?;
        done.revision = find(&before, &sets(&before), request.to_revision).map_or(0, ReplicaSet::revision);
        let detail = format!("from {from} to revision {}", done.revision);
        let mut answer: v1::RollbackRolloutResponse = self.answer(&done, &detail);
        answer.warnings.extend(warnings);
        Ok(answer)
    }
}

fn roll_back(
    subject: &Subject,
    sets: &[Arc<ReplicaSet>],
    from: &str,
    to_revision: i64,
) -> Result<Option<Change>, Error> {
    let template = own_template(subject)?;
    let current = subject.rollout()?.status().current_pod_hash();
    if current != from {
        let message =
            format!("the newest version is {current:?}, not {from:?}: look at it before you leave it");
        return Err(Error::new(Reason::StaleHash, message)
            .precondition("status.current_pod_hash", "must be from.pod_template_hash"));
    }
    let insight = subject.insight()?;
    let target = find(subject, sets, to_revision)?;
    let restored = revision::stripped(target);
    if restored == *template {
        return Ok(None);
    }
    // An invalid spec may be left, whatever the status says about an older one.
    if !matches!(insight, Insight::Invalid(_)) {
        // A spec that no controller has seen yet is not the version that the caller saw.
        subject.observed_status()?;
        if target.hash() == current {
            return Ok(None);
        }
    }
    let mut object = subject.object.clone();
    object["spec"]["template"] = restored;
    check(&object)?;
    Ok(difference(&subject.object, &object).map(|_| replace_template(object["spec"]["template"].take())))
}

/// Replaced whole, as kubectl's plugin does it.
fn replace_template(template: Value) -> Change {
    let replace = json_patch::ReplaceOperation {
        path: json_patch::jsonptr::PointerBuf::from_tokens(["spec", "template"]),
        value: template,
    };
    Change::Json(json_patch::Patch(vec![json_patch::PatchOperation::Replace(replace)]))
}

/// Whether undoing without a revision may lead to this set: it is another version than the spec's.
fn is_previous(subject: &Subject, set: &ReplicaSet) -> Result<bool, Error> {
    let rollout = subject.rollout()?;
    let status = rollout.status();
    let is_current = set.hash() == status.current_pod_hash();
    // A set's template is complete; a spec's need not be.
    let differs = || {
        let template = rollout.spec.template.as_ref().unwrap_or(&Value::Null);
        pod_template::compare(template, &revision::stripped(set), UnknownFields::Count) != Sameness::Same
    };
    Ok(match subject.insight()? {
        // The current hash is of an older spec, which this one spoilt.
        Insight::Invalid(_) => differs(),
        // The newest version may have no set: it could not be created.
        Insight::Seen => !is_current && differs(),
        // The spec may be what an undo made of it a moment ago: where that led is not to be left again.
        Insight::Unseen => !is_current || status.condition(&ConditionType::InvalidSpec).is_some(),
    })
}

/// The set of a revision; 0 means the newest of another version than the spec's.
fn find<'a>(
    subject: &Subject,
    sets: &'a [Arc<ReplicaSet>],
    to_revision: i64,
) -> Result<&'a ReplicaSet, Error> {
    let mut alive: Vec<&ReplicaSet> =
        sets.iter().map(Arc::as_ref).filter(|set| !set.terminating && set.revision() > 0).collect();
    alive.sort_by_key(|set| std::cmp::Reverse(set.revision()));
    let found = match to_revision {
        0 => {
            let mut previous = None;
            for set in &alive {
                if is_previous(subject, set)? {
                    previous = Some(*set);
                    break;
                }
            }
            previous
        }
        wanted => alive
            .iter()
            .find(|set| set.revision() == wanted)
            .or_else(|| alive.iter().find(|set| former_revisions(set).any(|former| former == wanted)))
            .copied(),
    };
    found.ok_or_else(|| {
        let text = |field: &str| subject.object["metadata"][field].as_str().unwrap_or_default();
        let wanted = match to_revision {
            0 => Wanted::Previous,
            number => Wanted::Number(number),
        };
        not_kept(&Key::new(text("namespace"), text("name")), &alive, wanted)
    })
}

/// The numbers that a set had before.
pub(super) fn former_revisions(set: &ReplicaSet) -> impl Iterator<Item = i64> {
    let history = set.annotations.get(keys::REVISION_HISTORY).map(String::as_str).unwrap_or_default();
    history.split(',').filter_map(|text| text.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(image: &str) -> Value {
        json!({ "metadata": { "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "web", "image": image }] } })
    }

    fn subject(image: &str, observed: &str) -> Subject {
        Subject::new(json!({
            "metadata": { "name": "web", "namespace": "shop", "generation": 3 },
            "spec": { "selector": { "matchLabels": { "app": "web" } }, "strategy": { "canary": {} },
                "template": template(image) },
            "status": { "currentPodHash": "c", "observedGeneration": observed },
        }))
    }

    fn set(hash: &str, revision: &str, history: &str, image: &str) -> Arc<ReplicaSet> {
        let annotations = [(keys::REVISION, revision), (keys::REVISION_HISTORY, history)];
        Arc::new(ReplicaSet {
            name: format!("web-{hash}"),
            labels: [(keys::POD_TEMPLATE_HASH.to_owned(), hash.to_owned())].into(),
            annotations: annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            template: Arc::new(template(image)),
            ..ReplicaSet::default()
        })
    }

    fn sets() -> Vec<Arc<ReplicaSet>> {
        vec![set("a", "2", "", "web:2"), set("b", "4", "1,3", "web:1"), set("c", "5", "", "web:3")]
    }

    fn image_after(subject: &Subject, from: &str, to: i64) -> Result<Option<String>, Reason> {
        let change = roll_back(subject, &sets(), from, to).map_err(|error| error.reason())?;
        Ok(change.map(|change| {
            let Change::Json(patch) = change else { unreachable!("a template is written by a JSON patch") };
            let patch = serde_json::to_value(patch).unwrap();
            assert_eq!((&patch[0]["op"], &patch[0]["path"]), (&json!("replace"), &json!("/spec/template")));
            patch[0]["value"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
        }))
    }

    #[test]
    fn a_revision_is_found_by_its_number_now_or_formerly() {
        let subject = subject("web:3", "3");
        for (to, image) in [(0, "web:1"), (2, "web:2"), (4, "web:1"), (3, "web:1"), (1, "web:1")] {
            assert_eq!(image_after(&subject, "c", to), Ok(Some(image.to_owned())), "{to}");
        }
        assert_eq!(image_after(&subject, "c", 5), Ok(None), "the newest is there already");
    }

    #[test]
    fn a_missing_revision_is_not_found_and_those_that_there_are_are_named() {
        let error = roll_back(&subject("web:3", "3"), &sets(), "c", 9).unwrap_err();
        assert_eq!(error.reason(), Reason::RevisionNotFound);
        assert_eq!(error.message(), "there is no revision 9; kept revisions: 5, 4, 2");
        let error = roll_back(&subject("web:3", "3"), &[], "c", 0).unwrap_err();
        assert_eq!(error.message(), "there is no revision before the newest; kept revisions: none");
    }

    #[test]
    fn repeating_it_does_not_toggle() {
        // Rolled back from c to 4, which no controller has seen yet.
        assert_eq!(image_after(&subject("web:1", "2"), "c", 4), Ok(None));
        // Seen: the newest is another one now.
        assert_eq!(image_after(&subject("web:3", "3"), "b", 0), Err(Reason::StaleHash));
    }

    #[test]
    fn a_spec_that_nobody_has_seen_is_not_rolled_back() {
        assert_eq!(image_after(&subject("web:9", "2"), "c", 2), Err(Reason::NotObserved));
    }

    fn invalid(image: &str, observed: &str) -> Subject {
        let mut object = subject(image, observed).object;
        object["status"]["conditions"] = json!([{ "type": "InvalidSpec", "status": "True", "reason": "InvalidSpec", "message": "spec.template: bad",
                "lastUpdateTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z" }]);
        Subject::new(object)
    }

    #[test]
    fn an_invalid_spec_is_undone_to_the_version_before_it() {
        // c is the stable one still; the spec went on to web:4, which is invalid.
        assert_eq!(image_after(&invalid("web:4", "3"), "c", 0), Ok(Some("web:3".to_owned())));
        assert_eq!(image_after(&invalid("web:4", "3"), "c", 4), Ok(Some("web:1".to_owned())));
        // Undone, which no controller has seen yet.
        assert_eq!(image_after(&invalid("web:3", "2"), "c", 0), Ok(None));
    }

    #[test]
    fn a_version_whose_set_could_not_be_created_is_undone_to_the_version_before_it() {
        let mut object = subject("web:4", "3").object;
        object["status"]["currentPodHash"] = json!("d");
        assert_eq!(image_after(&Subject::new(object), "d", 0), Ok(Some("web:3".to_owned())));
    }

    #[test]
    fn an_undo_of_what_was_undone_a_moment_ago_changes_nothing() {
        assert_eq!(image_after(&subject("web:1", "2"), "c", 0), Ok(None));
    }
}
