use std::process::Command;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::pod_template::inject_environment_volume;

fn values(entries: &[(&str, &str)]) -> Values {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What a real shell makes of the lines.
fn by_shell(text: &str, names: &[&str]) -> Vec<String> {
    let shown: Vec<String> = names.iter().map(|name| format!("printf '%s\\0' \"${name}\"")).collect();
    // Without variables of its own that could be mistaken for what it reads.
    let script = format!("{text}\n{}", shown.join("\n"));
    let output = Command::new("sh").env_clear().arg("-c").arg(script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = String::from_utf8(output.stdout).unwrap();
    shown.split_terminator('\0').map(str::to_owned).collect()
}

const AWKWARD: [&str; 12] = [
    "",
    "plain",
    "two words",
    r#"a "quoted" word"#,
    "it's",
    r"back\slash\",
    "$HOME ${HOME} $(id)",
    "`id`",
    "line\nbreak\n\n",
    "tab\tend ",
    "#!*?[a]{b}~;&|<>()",
    "Grüße, 世界",
];

#[test]
fn a_shell_reads_back_what_was_written() {
    for value in AWKWARD {
        let given = values(&[("A", value), ("_b1", value)]);
        assert_eq!(by_shell(&written(&given), &["A", "_b1"]), [value, value], "{value:?}");
    }
    assert_eq!(written(&values(&[("A", "x $y"), ("B", "")])), "A=\"x \\$y\"\nB=\"\"\n");
}

#[test]
fn what_others_wrote_is_not_read() {
    for text in ["A", "A=b", "A=\"b", "A=\"b\"", "A=\"b\" x\n", "A=\"b\\"] {
        assert_eq!(read(text), None, "{text}");
    }
    assert_eq!(read(""), Some(Values::new()));
}

proptest! {
    #[test]
    fn what_was_written_reads_back(given in proptest::collection::btree_map("[A-Z][A-Z0-9]{0,3}", ".*", 0..4)) {
        prop_assert_eq!(read(&written(&given)), Some(given));
    }
}

#[test]
fn values_that_are_files_have_an_annotation_each() {
    let mut template = json!({ "spec": { "containers": [{ "name": "web" }] } });
    inject_environment_volume(&mut template, "web", "/live", ["A", "GONE"].into_iter());
    let given = values(&[("A", "1"), ("NEW", "2")]);
    let expected =
        [("rolloutd.dev/environment", "A=\"1\"\nNEW=\"2\"\n"), ("rolloutd.dev/environment.A", "1")];
    assert_eq!(annotations(&template, Some(&given)), values(&expected));
    assert_eq!(annotations(&template, None), Values::new());
}

/// A set whose environment is decided on again and again, as a planner does.
struct Set {
    effective: Option<Values>,
    state: State,
    now: Timestamp,
    /// When a pod turned unready.
    unready_since: Option<Timestamp>,
}

impl Set {
    fn new(effective: &[(&str, &str)]) -> Self {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        Self { effective: Some(values(effective)), state: State::default(), now, unready_since: None }
    }

    fn pass(&mut self, seconds: i64) {
        self.now = self.now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    /// The environment that its pods have then, and whether a change was taken back.
    fn decide(&mut self, wanted: Option<&Values>) -> (Option<Values>, bool) {
        let decide = |set: &Self| {
            let course = Course {
                wanted,
                effective: set.effective.as_ref(),
                state: &set.state,
                window: SignedDuration::from_mins(5),
                now: set.now,
            };
            decide(&course, |since| {
                set.unready_since.filter(|unready| *unready > since).map(|_| "web-1".to_owned())
            })
        };
        let decision = decide(self);
        assert!(decision.wake_at.is_none_or(|at| at > self.now), "it would spin");
        let noted = decision.state.text().map(|text| (keys::ENVIRONMENT_STATE.to_owned(), text));
        assert_eq!(State::of(&noted.into_iter().collect()), decision.state, "what is noted reads back");
        (self.effective, self.state) = (decision.effective.clone(), decision.state);
        let again = decide(self);
        assert_eq!((&again.effective, &again.state), (&self.effective, &self.state), "it is at rest");
        assert_eq!(again.taken_back_for, None);
        (decision.effective, decision.taken_back_for.is_some())
    }
}

#[test]
fn pods_follow_and_the_change_is_forgotten_when_it_has_proved_good() {
    let (mut set, wanted) = (Set::new(&[("A", "1")]), values(&[("A", "2")]));
    assert_eq!(set.decide(Some(&wanted)), (Some(wanted.clone()), false));
    assert_eq!(set.state.good, Some(values(&[("A", "1")])));
    set.pass(299);
    set.decide(Some(&wanted));
    assert_ne!(set.state, State::default());
    set.pass(1);
    assert_eq!(set.decide(Some(&wanted)), (Some(wanted.clone()), false));
    assert_eq!(set.state, State::default());
    set.unready_since = Some(set.now);
    assert_eq!(set.decide(Some(&wanted)), (Some(wanted), false), "what comes later has other reasons");
}

#[test]
fn a_pod_that_turns_unready_gets_back_what_was_good_until_the_word_changes() {
    let mut set = Set::new(&[("A", "1")]);
    let good = Some(values(&[("A", "1")]));
    let [bad, worse, better] = ["2", "3", "4"].map(|value| values(&[("A", value)]));
    set.decide(Some(&bad));
    set.pass(60);
    set.decide(Some(&worse));
    set.pass(60);
    set.unready_since = Some(set.now);
    assert_eq!(set.decide(Some(&worse)), (good.clone(), true), "what was there before the first of them");
    set.pass(3600);
    assert_eq!(set.decide(Some(&worse)), (good.clone(), false), "it is not given again");
    assert_eq!(set.decide(Some(&better)), (Some(better.clone()), false));
    set.pass(3600);
    set.decide(Some(&better));
    assert_eq!(set.state, State::default());
}

#[test]
fn going_back_by_hand_ends_the_matter() {
    let mut set = Set::new(&[("A", "1")]);
    let (good, bad) = (values(&[("A", "1")]), values(&[("A", "2")]));
    set.decide(Some(&bad));
    set.pass(1);
    set.unready_since = Some(set.now);
    set.decide(Some(&bad));
    set.decide(Some(&good));
    assert_eq!(set.state, State::default());
    set.pass(600);
    set.unready_since = None;
    assert_eq!(set.decide(Some(&bad)), (Some(bad), false), "it may be tried once more");
}

#[test]
fn an_environment_that_comes_or_goes_is_a_change_as_well() {
    let mut set = Set { effective: None, ..Set::new(&[]) };
    let wanted = values(&[("A", "1")]);
    set.decide(Some(&wanted));
    set.pass(1);
    set.unready_since = Some(set.now);
    assert_eq!(set.decide(Some(&wanted)), (None, true));
    let mut set = Set::new(&[("A", "1")]);
    assert_eq!(set.decide(None), (None, false));
    set.pass(1);
    set.unready_since = Some(set.now);
    assert_eq!(set.decide(None), (Some(wanted), true));
}
