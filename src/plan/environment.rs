//! The environment of pods while they run (docs/environment.md): how it is written, which values the pods of a ReplicaSet are to have, and
//! when a change of them is taken back.
//!
//! What pods are to have, the *effective* environment, stands in the template of their ReplicaSet. It follows what the Rollout states;
//! while pods are watched after a change, the set also notes what they had before, and when one turns unready they get that again. The
//! Rollout's word stays as it is: what was taken back is not given again until that word changes. Pure; [`super::sets`] writes it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::blocker::{Blocker, BlockerReason, Object};
use super::observed::{Observed, Pod, ReplicaSet};
use crate::crd::{Rollout, Time, keys};
use crate::hash::digest;
use crate::pod_template::{environment_annotations, environment_files, inject_environment_volume};
use crate::validate::{
    EnvironmentVolume, Side, Values, environment, environment_volume, environment_window_or_default,
};

/// Characters that a POSIX shell does not take literally between double quotes.
const SPECIAL: [char; 4] = ['\\', '"', '$', '`'];

/// Values as lines of assignments, which a POSIX shell reads back to the letter.
#[must_use]
pub fn written(values: &Values) -> String {
    let mut text = String::new();
    for (name, value) in values {
        text.push_str(name);
        text.push_str("=\"");
        for character in value.chars() {
            if SPECIAL.contains(&character) {
                text.push('\\');
            }
            text.push(character);
        }
        text.push_str("\"\n");
    }
    text
}

/// Values that were [`written`]; `None` where somebody else wrote them.
#[must_use]
pub fn read(text: &str) -> Option<Values> {
    let mut values = Values::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(characters.next()?.1),
                (_, character) => value.push(character),
            }
        };
        rest = after.get(end + 1..)?.strip_prefix('\n')?;
        values.insert(name.to_owned(), value);
    }
    Some(values)
}

/// The environment that pods of a template have; `None` where they have none, or none that can be read.
#[must_use]
pub fn effective(template: &Value) -> Option<Values> {
    environment_annotations(template).get(keys::ENVIRONMENT).and_then(|text| read(text))
}

/// The annotations of pods with such an environment. Values that the template makes files of have one of their own each.
#[must_use]
pub(super) fn annotations(template: &Value, values: Option<&Values>) -> BTreeMap<String, String> {
    let Some(values) = values else { return BTreeMap::new() };
    let mut annotations = BTreeMap::from([(keys::ENVIRONMENT.to_owned(), written(values))]);
    for name in environment_files(template) {
        if let Some(value) = values.get(name) {
            annotations.insert(format!("{}.{name}", keys::ENVIRONMENT), value.clone());
        }
    }
    annotations
}

/// Has a container of a new set's pods find their environment as files, where the Rollout asks for that. Each value that it states now has
/// a file, on either side: the set may come to be on the other.
pub(super) fn mount(rollout: &Rollout, template: &mut Value) {
    let Ok(Some(EnvironmentVolume { container, mount_path })) = environment_volume(rollout) else { return };
    let stated = [Side::Canary, Side::Stable].map(|side| environment(rollout, side).ok().flatten());
    let names: BTreeSet<&str> =
        stated.iter().flatten().flat_map(|values| values.keys().map(String::as_str)).collect();
    inject_environment_volume(template, &container, &mount_path, names.into_iter());
}

/// What is known of the last change of a set's environment: its annotation [`keys::ENVIRONMENT_STATE`]. Nothing, once it has proved good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct State {
    /// When it was changed, while pods are watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What pods had before, while they are watched; `None`: no environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<Values>,
    /// A digest of what was taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<String>,
}

impl State {
    /// What a set says. What somebody else wrote there says nothing.
    #[must_use]
    pub fn of(annotations: &BTreeMap<String, String>) -> Self {
        let noted = annotations.get(keys::ENVIRONMENT_STATE);
        noted.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// As it is noted; `None` where there is nothing to note.
    #[must_use]
    pub(super) fn text(&self) -> Option<String> {
        if *self == Self::default() { None } else { serde_json::to_string(self).ok() }
    }
}

/// An environment as one word: which one was taken back.
#[must_use]
pub(super) fn mark(values: Option<&Values>) -> String {
    digest(&values.map(written).unwrap_or_else(|| "none".to_owned()))
}

/// What the environment of a set depends on.
pub(super) struct Course<'a> {
    /// What the Rollout states for it.
    pub wanted: Option<&'a Values>,
    /// What its pods are to have now.
    pub effective: Option<&'a Values>,
    /// What is noted of the last change.
    pub state: &'a State,
    /// How long pods are watched after a change.
    pub window: SignedDuration,
    /// Now.
    pub now: Timestamp,
}

/// What becomes of the environment of a set.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decision {
    /// What its pods are to have.
    pub effective: Option<Values>,
    /// What is to be noted.
    pub state: State,
    /// A pod for whose sake the last change is taken back now.
    pub taken_back_for: Option<String>,
    /// When pods need not be watched any more.
    pub wake_at: Option<Timestamp>,
}

impl Decision {
    /// The annotation of a set, where it is to be changed; null takes it away.
    pub(super) fn noted(&self, set: &ReplicaSet) -> Option<(&'static str, Option<String>)> {
        let text = self.state.text();
        let is_so = set.annotations.get(keys::ENVIRONMENT_STATE) == text.as_ref();
        (!is_so).then_some((keys::ENVIRONMENT_STATE, text))
    }
}

/// Whether pods of a set are watched because their environment was changed.
#[must_use]
pub fn is_watched(set: &ReplicaSet) -> bool {
    State::of(&set.annotations).since.is_some()
}

/// What the Rollout states for a side; `Err` where pods keep what they have: their version is a former one, or what is stated cannot be
/// read or must not be given.
fn stated(seen: &Observed, side: Option<Side>) -> Result<Option<Values>, ()> {
    environment(&seen.rollout, side.ok_or(())?).map_err(|_| ())
}

/// The environment that a new set is created with.
pub(super) fn of_new_set(seen: &Observed, side: Option<Side>) -> Option<Values> {
    stated(seen, side).ok().flatten()
}

/// What becomes of the environment of a set that is there.
pub(super) fn of_set(seen: &Observed, set: &ReplicaSet, side: Option<Side>, now: Timestamp) -> Decision {
    let effective = effective(&set.template);
    let state = State::of(&set.annotations);
    let wanted = stated(seen, side).unwrap_or_else(|()| effective.clone());
    // Without pods there is nothing to watch.
    let has_pods = set.replicas > 0 || set.status.replicas > 0;
    let window = if has_pods { environment_window_or_default(&seen.rollout) } else { SignedDuration::ZERO };
    let (wanted, effective) = (wanted.as_ref(), effective.as_ref());
    let course = Course { wanted, effective, state: &state, window, now };
    decide(&course, |since| turned_unready(seen, set, since))
}

/// A pod of a set that was there at that time and turned unready since.
fn turned_unready(seen: &Observed, set: &ReplicaSet, since: Timestamp) -> Option<String> {
    let turned = |pod: &&Pod| {
        let is_since = pod.unready_since.is_some_and(|unready| unready > since);
        pod.set == set.uid && !pod.terminating && pod.created <= since && is_since
    };
    seen.pods.iter().filter(turned).map(|pod| pod.name.clone()).min()
}

/// Why pods of a set have another environment than the one that is stated.
pub(super) fn blocker(set: &ReplicaSet, decision: &Decision) -> Option<Blocker> {
    decision.state.taken_back.as_ref()?;
    let name = &set.name;
    Some(Blocker {
        reason: BlockerReason::EnvironmentTakenBack,
        object: Object::ReplicaSet(name.clone()),
        condition: "the stated environment is the effective one".to_owned(),
        since: None,
        message: format!(
            "pods of ReplicaSet {name:?} turned unready after the last change of their environment and have what they had before"
        ),
        next:
            "they keep it until the Rollout states another environment, or that one again after the good one"
                .to_owned(),
        next_at: None,
    })
}

/// Decides what pods of a set are to have. `turned_unready` names a pod that was there at that time and turned unready since.
#[must_use]
pub(super) fn decide(course: &Course<'_>, turned_unready: impl Fn(Timestamp) -> Option<String>) -> Decision {
    let Course { wanted, effective, state, window, now } = *course;
    let watched = state.since.map(|since| (since, since.checked_add(window).unwrap_or(since)));
    let watched = watched.filter(|(_, until)| now < *until);
    if let Some((since, _)) = watched
        && let Some(pod) = turned_unready(since)
    {
        let state = State { taken_back: Some(mark(effective)), ..State::default() };
        return Decision {
            effective: course.state.good.clone(),
            state,
            taken_back_for: Some(pod),
            wake_at: None,
        };
    }
    let is_taken_back = state.taken_back.as_ref().is_some_and(|mark_| *mark_ == mark(wanted));
    if wanted != effective && !is_taken_back {
        // In the middle of a window what was good is what was there before it.
        let good = if watched.is_some() { state.good.clone() } else { effective.cloned() };
        // Times in the status of pods have whole seconds.
        let since = (!window.is_zero()).then(|| Time::from(now).instant());
        let state = State { since, good: good.filter(|_| since.is_some()), taken_back: None };
        let wake_at = since.and_then(|since| since.checked_add(window).ok());
        return Decision { effective: wanted.cloned(), state, taken_back_for: None, wake_at };
    }
    let state = match watched {
        Some(_) => state.clone(),
        None => State { taken_back: state.taken_back.clone().filter(|_| is_taken_back), ..State::default() },
    };
    let wake_at = watched.map(|(_, until)| until);
    Decision { effective: effective.cloned(), state, taken_back_for: None, wake_at }
}

#[cfg(test)]
mod tests;
