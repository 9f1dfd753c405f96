//! How simulated pods behave: start-up times and faults, as a value.
//!
//! Depends on Kubernetes' types only and does nothing itself. Rules go by image; annotations on a pod (so on a
//! ReplicaSet's template) override them, so that a manifest can show a fault. The kubelet asks [`Behaviour::plan`]
//! once for each container.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;

/// Time from the kubelet seeing a pod to its readiness: `500ms`, `1m30s`.
pub const START_UP_ANNOTATION: &str = "simcluster.rolloutd.dev/start-up";
/// What becomes of the pod's containers: `ready`, `never-ready`, `crash-loop` or `image-pull-failure`.
pub const OUTCOME_ANNOTATION: &str = "simcluster.rolloutd.dev/outcome";
/// Time from a pod's deletion being asked for to its removal: `2s`; never more than its grace period.
pub const TERMINATION_ANNOTATION: &str = "simcluster.rolloutd.dev/termination";

/// How the pods of a cluster behave; all times are cluster time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Time from the kubelet seeing a pod to its readiness.
    pub start_up: Duration,
    /// Time from a pod's deletion being asked for to its removal; a pod's grace period bounds it.
    pub termination: Duration,
    /// How restarts of crashed containers and image pulls are spaced.
    pub back_off: BackOff,
    /// How long pods stay on a lost node before they are deleted.
    pub eviction: Duration,
    /// Exceptions by image; the first that matches decides.
    pub rules: Vec<Rule>,
}

impl Default for Behaviour {
    /// Pods that start within a second, and Kubernetes' own delays between restarts and before eviction.
    fn default() -> Self {
        Self {
            start_up: Duration::from_secs(1),
            termination: Duration::from_millis(100),
            back_off: BackOff::default(),
            eviction: Duration::from_secs(300),
            rules: Vec::new(),
        }
    }
}

/// Delays that double from `first` to `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// The first delay.
    pub first: Duration,
    /// The longest delay.
    pub cap: Duration,
}

impl Default for BackOff {
    /// The kubelet's: ten seconds to five minutes.
    fn default() -> Self {
        Self { first: Duration::from_secs(10), cap: Duration::from_secs(300) }
    }
}

impl BackOff {
    /// The delay after `failures` failures in a row, of which there is at least one; never quite nothing, so
    /// that a container cannot crash without end at one moment.
    #[must_use]
    pub fn delay(self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.cap).max(Duration::from_millis(1))
    }
}

/// What containers of some images do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which images.
    pub image: ImageMatch,
    /// Their start-up time, when not [`Behaviour::start_up`].
    pub start_up: Option<Duration>,
    /// What becomes of them.
    pub outcome: Outcome,
}

/// Selects images by their full reference, as the pod names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageMatch {
    /// This reference exactly.
    Exact(String),
    /// References that begin so.
    Prefix(String),
    /// References that contain this.
    Contains(String),
}

impl ImageMatch {
    fn matches(&self, image: &str) -> bool {
        match self {
            Self::Exact(whole) => image == whole,
            Self::Prefix(start) => image.starts_with(start.as_str()),
            Self::Contains(part) => image.contains(part.as_str()),
        }
    }
}

/// What becomes of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It runs and becomes ready.
    Ready,
    /// It runs and never becomes ready.
    NeverReady,
    /// It exits when it would become ready, again and again.
    CrashLoop,
    /// Its image cannot be pulled.
    ImagePullFailure,
}

impl Outcome {
    /// Reads the value of [`OUTCOME_ANNOTATION`].
    fn parse(text: &str) -> Option<Self> {
        match text {
            "ready" => Some(Self::Ready),
            "never-ready" => Some(Self::NeverReady),
            "crash-loop" => Some(Self::CrashLoop),
            "image-pull-failure" => Some(Self::ImagePullFailure),
            _ => None,
        }
    }
}

/// What one container will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Time to readiness; half of it before the container runs, half while it runs.
    pub start_up: Duration,
    /// What becomes of it.
    pub outcome: Outcome,
}

/// An annotation that could not be read; the rules decide in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnnotation {
    /// A duration such as `500ms` was wanted.
    #[error("annotation {key} is {value:?}, not a duration such as 500ms")]
    Duration {
        /// The annotation.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// A name of an outcome was wanted.
    #[error(
        "annotation {OUTCOME_ANNOTATION} is {value:?}, not ready, never-ready, crash-loop or image-pull-failure"
    )]
    Outcome {
        /// Its value.
        value: String,
    },
}

/// What a pod's annotations say, read once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    start_up: Option<Duration>,
    outcome: Option<Outcome>,
    termination: Option<Duration>,
}

impl Overrides {
    /// Reads a pod's annotations; what cannot be read is left out and told.
    #[must_use]
    pub fn read(annotations: Option<&BTreeMap<String, String>>) -> (Self, Vec<BadAnnotation>) {
        let mut bad = Vec::new();
        let value = |key: &str| annotations.and_then(|all| all.get(key));
        let mut duration = |key: &'static str| {
            let value = value(key)?;
            let parsed = parse_duration(value);
            if parsed.is_none() {
                bad.push(BadAnnotation::Duration { key, value: value.clone() });
            }
            parsed
        };
        let (start_up, termination) = (duration(START_UP_ANNOTATION), duration(TERMINATION_ANNOTATION));
        let outcome = value(OUTCOME_ANNOTATION).and_then(|value| {
            let outcome = Outcome::parse(value);
            if outcome.is_none() {
                bad.push(BadAnnotation::Outcome { value: value.clone() });
            }
            outcome
        });
        (Self { start_up, outcome, termination }, bad)
    }
}

/// A duration that is not negative, in the form that people write: `500ms`, `1.5s`, `1m30s`.
fn parse_duration(text: &str) -> Option<Duration> {
    let parsed: SignedDuration = text.trim().parse().ok()?;
    Duration::try_from(parsed).ok()
}

impl Behaviour {
    /// What a container of `image` does in a pod with these annotations.
    #[must_use]
    pub fn plan(&self, image: &str, overrides: &Overrides) -> Plan {
        let rule = self.rules.iter().find(|rule| rule.image.matches(image));
        Plan {
            start_up: overrides.start_up.or_else(|| rule?.start_up).unwrap_or(self.start_up),
            outcome: overrides.outcome.unwrap_or_else(|| rule.map_or(Outcome::Ready, |rule| rule.outcome)),
        }
    }

    /// How long a pod with these annotations takes to stop, were its grace period endless.
    #[must_use]
    pub fn termination(&self, overrides: &Overrides) -> Duration {
        overrides.termination.unwrap_or(self.termination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn rule(image: ImageMatch, outcome: Outcome) -> Rule {
        Rule { image, start_up: None, outcome }
    }

    #[test]
    fn the_first_rule_that_matches_an_image_decides() {
        let behaviour = Behaviour {
            rules: vec![
                rule(ImageMatch::Exact("shop/web:2".to_owned()), Outcome::Ready),
                rule(ImageMatch::Prefix("shop/".to_owned()), Outcome::CrashLoop),
                rule(ImageMatch::Contains(":bad".to_owned()), Outcome::ImagePullFailure),
            ],
            ..Behaviour::default()
        };
        for (image, outcome) in [
            ("shop/web:2", Outcome::Ready),
            ("shop/web:22", Outcome::CrashLoop),
            ("shop/web:bad", Outcome::CrashLoop),
            ("other/web:bad-1", Outcome::ImagePullFailure),
            ("other/web:1", Outcome::Ready),
        ] {
            assert_eq!(behaviour.plan(image, &Overrides::default()).outcome, outcome, "{image}");
        }
    }

    #[test]
    fn annotations_override_rules() {
        let behaviour = Behaviour {
            rules: vec![Rule {
                image: ImageMatch::Prefix("web".to_owned()),
                start_up: Some(Duration::from_secs(9)),
                outcome: Outcome::CrashLoop,
            }],
            ..Behaviour::default()
        };
        let (overrides, bad) = Overrides::read(Some(&annotations(&[
            (START_UP_ANNOTATION, "500ms"),
            (OUTCOME_ANNOTATION, "never-ready"),
            (TERMINATION_ANNOTATION, "1m30s"),
        ])));
        assert_eq!(bad, []);
        let plan = behaviour.plan("web:1", &overrides);
        assert_eq!(plan, Plan { start_up: Duration::from_millis(500), outcome: Outcome::NeverReady });
        assert_eq!(behaviour.termination(&overrides), Duration::from_secs(90));
        assert_eq!(behaviour.plan("web:1", &Overrides::default()).start_up, Duration::from_secs(9));
    }

    #[test]
    fn a_malformed_annotation_is_told_and_the_rules_decide() {
        for (key, value) in [
            (START_UP_ANNOTATION, "soon"),
            (START_UP_ANNOTATION, "-1s"),
            (START_UP_ANNOTATION, ""),
            (TERMINATION_ANNOTATION, "5"),
            (OUTCOME_ANNOTATION, "crashloop"),
        ] {
            let (overrides, bad) = Overrides::read(Some(&annotations(&[(key, value)])));
            assert_eq!(overrides, Overrides::default(), "{key}={value}");
            assert_eq!(bad.len(), 1, "{key}={value}");
            assert!(bad[0].to_string().contains(value), "{}", bad[0]);
        }
    }

    #[test]
    fn delays_double_up_to_the_cap() {
        let back_off = BackOff { first: Duration::from_secs(10), cap: Duration::from_secs(300) };
        let delays: Vec<u64> = (1..=7).map(|failures| back_off.delay(failures).as_secs()).collect();
        assert_eq!(delays, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(back_off.delay(u32::MAX), back_off.cap);
        let none = BackOff { first: Duration::ZERO, cap: Duration::ZERO };
        assert_eq!(none.delay(1), Duration::from_millis(1));
    }
}
