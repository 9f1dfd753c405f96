//! UpdateRollout: fields that a mask names, merged into the stored object so that everything else survives.

use serde_json::{Value, json};

use super::super::cluster::{Change, Mode};
use super::super::convert::{Faults, manifest, merge};
use super::super::error::Error;
use super::super::mask;
use super::super::mutation::{Mutation, Subject};
use super::super::name;
use super::Rollouts;
use super::change::{check, check_unheeded, difference};
use crate::pb::v1;

impl Rollouts {
    /// UpdateRollout.
    pub(super) async fn update(
        &self,
        request: v1::UpdateRolloutRequest,
    ) -> Result<v1::UpdateRolloutResponse, Error> {
        let wanted = request.rollout.ok_or_else(|| Error::field("rollout", "is required"))?;
        let paths = request.update_mask.map(|mask| mask.paths).unwrap_or_default();
        let mutation = Mutation {
            key: name::rollout(&wanted.name, "rollout.name")?,
            etag: wanted.etag.clone(),
            mode: Mode::of(request.validate_only),
            ticket: None,
        };
        let done = self.context.mutate(&mutation, |subject| update(subject, &wanted, &paths)).await?;
        Ok(self.answer(&done, &done.changed_fields()))
    }
}

/// The change that brings a rollout to the fields of `wanted` that the paths name; without any, to those that are set.
pub(super) fn update(
    subject: &Subject,
    wanted: &v1::Rollout,
    paths: &[String],
) -> Result<Option<Change>, Error> {
    subject.rollout()?;
    let current = subject.show();
    let changed = mask::apply(&current, wanted, paths)?;

    let (mut stored_faults, mut faults) = (Faults::default(), Faults::default());
    let old = manifest(current, &mut stored_faults);
    let new = manifest(changed, &mut faults);
    let faults = faults.beyond(&stored_faults);
    if !faults.is_empty() {
        return Err(Error::invalid(faults));
    }
    if old["spec"]["selector"] != new["spec"]["selector"] {
        return Err(Error::field("rollout.spec.selector", "is immutable"));
    }
    let merged = merged(&old, &new, &subject.object);
    if merged == subject.object {
        return Ok(None);
    }
    check(&merged)?;
    check_unheeded(Some(&subject.object), &merged)?;
    Ok(difference(&subject.object, &merged))
}

/// The stored object with the change from `old` to `new`.
fn merged(old: &Value, new: &Value, stored: &Value) -> Value {
    let mut object = stored.clone();
    object["spec"] = merge::three_way(&old["spec"], &new["spec"], &stored["spec"]);
    for field in ["labels", "annotations"] {
        let of = |manifest: &Value| manifest["metadata"].get(field).cloned().unwrap_or_else(|| json!({}));
        let (before, after) = (of(old), of(new));
        if before != after {
            object["metadata"][field] = merge::three_way(&before, &after, &of(stored));
        }
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::Reason;

    fn subject() -> Subject {
        Subject::new(json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
            "metadata": { "name": "web", "namespace": "shop", "annotations": { "a": "b", "rollout.argoproj.io/revision": "4" } },
            "spec": {
                "xNew": { "y": [1] },
                "selector": { "matchLabels": { "app": "web" } },
                "template": { "metadata": { "labels": { "app": "web" } },
                    "spec": { "containers": [{ "name": "web", "image": "web:1", "big": 9_007_199_254_740_995_i64 }] } },
                "strategy": { "canary": { "steps": [{ "setWeight": 20, "xStep": 1 }, { "pause": {} }] } },
            },
            "status": { "phase": "Healthy" },
        }))
    }

    fn patched(change: impl FnOnce(&mut v1::Rollout), paths: &[&str]) -> Result<Option<Value>, Error> {
        let mut wanted = subject().show();
        change(&mut wanted);
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let change = update(&subject(), &wanted, &paths)?;
        Ok(change.map(|change| match change {
            Change::Json(patch) => serde_json::to_value(patch).unwrap(),
            other => unreachable!("an update is a JSON patch, not {other:?}"),
        }))
    }

    #[test]
    fn a_resource_that_is_sent_back_writes_nothing() {
        for paths in [&[][..], &["*"], &["spec", "annotations"]] {
            assert_eq!(patched(|_| {}, paths).unwrap(), None, "{paths:?}");
        }
    }

    #[test]
    fn only_what_changed_is_written() {
        let weight = |rollout: &mut v1::Rollout| {
            let Some(v1::rollout_spec::Strategy::Canary(canary)) =
                &mut rollout.spec.as_mut().unwrap().strategy
            else {
                unreachable!("it is a canary")
            };
            canary.steps[0].step = Some(v1::canary_step::Step::SetWeight(30));
        };
        let path = "/spec/strategy/canary/steps/0/setWeight";
        assert_eq!(
            patched(weight, &["*"]).unwrap(),
            Some(json!([{ "op": "replace", "path": path, "value": 30 }]))
        );
    }

    #[test]
    fn bookkeeping_survives_a_replacement_of_annotations_and_cannot_be_written() {
        let replace =
            |rollout: &mut v1::Rollout| rollout.annotations = [("c".to_owned(), "d".to_owned())].into();
        let expected = json!([{ "op": "add", "path": "/metadata/annotations/c", "value": "d" },
            { "op": "remove", "path": "/metadata/annotations/a" }]);
        assert_eq!(patched(replace, &["annotations"]).unwrap(), Some(expected));
        let forge = |rollout: &mut v1::Rollout| {
            rollout.annotations.insert("rollout.argoproj.io/revision".to_owned(), "9".to_owned());
        };
        assert_eq!(patched(forge, &["annotations"]).unwrap_err().reason(), Reason::InvalidField);
    }

    #[test]
    fn the_selector_never_changes() {
        let select = |rollout: &mut v1::Rollout| {
            rollout.spec.as_mut().unwrap().selector.as_mut().unwrap().match_labels.clear();
        };
        let error = patched(select, &["*"]).unwrap_err();
        assert_eq!(error.message(), "rollout.spec.selector: is immutable");
    }

    #[test]
    fn a_spec_that_would_be_invalid_is_refused_with_its_fields() {
        let replicas = |rollout: &mut v1::Rollout| rollout.spec.as_mut().unwrap().replicas = Some(-1);
        let error = patched(replicas, &["spec.replicas"]).unwrap_err();
        assert!(error.message().starts_with("rollout.spec.replicas: "), "{}", error.message());
    }
}
