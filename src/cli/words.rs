//! Words for people: states, ages, and texts that others wrote.
//!
//! Depends on the messages only. Tables, trees and errors are made of these words.

use jiff::{SignedDuration, Timestamp};
use unicode_width::UnicodeWidthChar as _;

use crate::pb::v1;
use v1::replica_set_summary::{Role, State as SetState};
use v1::rollout_status::State;

/// `STATE_HEALTHY` as `Healthy`; a value that this client does not know by its number.
pub(super) fn state(state: i32) -> String {
    match State::try_from(state) {
        Ok(State::Unspecified) => "Unknown".to_owned(),
        Ok(State::Progressing) => "Progressing".to_owned(),
        Ok(State::Paused) => "Paused".to_owned(),
        Ok(State::Healthy) => "Healthy".to_owned(),
        Ok(State::Degraded) => "Degraded".to_owned(),
        Err(_) => format!("State{state}"),
    }
}

/// A rollout's state with its reason: `Paused: CanaryPauseStep`.
pub(super) fn standing(status: &v1::RolloutStatus) -> String {
    let state = state(status.state);
    match one_line(&status.message).as_str() {
        "" => state,
        message => format!("{state}: {message}"),
    }
}

/// The state of a ReplicaSet.
pub(super) fn set_state(state: i32) -> String {
    match SetState::try_from(state) {
        Ok(SetState::Unspecified) => "Unknown".to_owned(),
        Ok(SetState::Progressing) => "Progressing".to_owned(),
        Ok(SetState::Healthy) => "Healthy".to_owned(),
        Ok(SetState::ScaledDown) => "ScaledDown".to_owned(),
        Ok(SetState::Failing) => "Failing".to_owned(),
        Err(_) => format!("State{state}"),
    }
}

/// What a ReplicaSet is to its rollout; empty when that is not known.
pub(super) fn role(role: i32) -> &'static str {
    match Role::try_from(role) {
        Ok(Role::Stable) => "stable",
        Ok(Role::Canary) => "canary",
        Ok(Role::Active) => "active",
        Ok(Role::Preview) => "preview",
        Ok(Role::Old) => "old",
        Ok(Role::Unspecified) | Err(_) => "",
    }
}

/// The last segment of a resource's name.
pub(super) fn short_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// `namespace/name` of a rollout's full name, as the command line takes it; another text as it is.
pub(super) fn path(name: &str) -> String {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        ["namespaces", namespace, "rollouts", rollout] => format!("{namespace}/{rollout}"),
        _ => name.to_owned(),
    }
}

/// The namespace of a resource's name; empty when it has none.
pub(super) fn namespace(name: &str) -> &str {
    name.strip_prefix("namespaces/").and_then(|rest| rest.split('/').next()).unwrap_or_default()
}

/// A moment of a message; `None` when there is none, or none that exists.
pub(super) fn moment(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    let time = time?;
    Timestamp::new(time.seconds, time.nanos).ok()
}

/// A moment as messages have it.
pub(super) fn wire(moment: Timestamp) -> prost_types::Timestamp {
    let mut wire = prost_types::Timestamp { seconds: moment.as_second(), nanos: moment.subsec_nanosecond() };
    // Before 1970 the fraction counts backwards in one and forwards in the other.
    wire.normalize();
    wire
}

/// How long ago a moment was, as kubectl prints ages; `-` when it is not known.
pub(super) fn age(since: Option<&prost_types::Timestamp>, now: Timestamp) -> String {
    moment(since).map_or_else(|| "-".to_owned(), |since| span(now.duration_since(since)))
}

/// A duration as kubectl prints ages: two units while they matter, one otherwise. What is negative, since clocks differ,
/// counts as nothing.
pub(super) fn span(duration: SignedDuration) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let seconds = duration.as_secs().max(0);
    let pair = |large: i64, large_name: char, small: i64, small_name: char| {
        let (whole, rest) = (seconds / large, seconds % large / small);
        if rest == 0 {
            format!("{whole}{large_name}")
        } else {
            format!("{whole}{large_name}{rest}{small_name}")
        }
    };
    match seconds {
        ..120 => format!("{seconds}s"),
        120..600 => pair(MINUTE, 'm', 1, 's'),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => pair(HOUR, 'h', MINUTE, 'm'),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => pair(DAY, 'd', HOUR, 'h'),
        691_200..63_072_000 => format!("{}d", seconds / DAY),
        63_072_000..252_288_000 => pair(YEAR, 'y', DAY, 'd'),
        _ => format!("{}y", seconds / YEAR),
    }
}

/// A text that somebody else wrote, on one line: a pod's message may hold line breaks, or codes that drive a terminal.
pub(super) fn one_line(text: &str) -> String {
    let shown = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    shown.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How many columns of a terminal a text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(|character| character.width().unwrap_or(0)).sum()
}

/// How many columns a painted text takes: its escape codes (`ESC [ … letter`, the only ones that are made here) take none.
pub(super) fn shown_width(text: &str) -> usize {
    let mut parts = text.split("\u{1b}[");
    let before = parts.next().map_or(0, width);
    let after = |part: &str| {
        part.split_once(|end: char| end.is_ascii_alphabetic()).map_or(0, |(_, rest)| width(rest))
    };
    before + parts.map(after).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spelled_as_kubectl_spells_ages() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (121, "2m1s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (11_000, "3h3m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (63_071_999, "729d"),
            (63_072_000, "2y"),
            (63_500_000, "2y4d"),
            (252_288_000, "8y"),
        ] {
            assert_eq!(span(SignedDuration::from_secs(seconds)), text, "{seconds}");
        }
    }

    #[test]
    fn ages_of_unknown_or_impossible_moments_are_a_dash() {
        let impossible = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
        for since in [None, Some(&impossible)] {
            assert_eq!(age(since, Timestamp::UNIX_EPOCH), "-");
        }
    }

    #[test]
    fn a_text_of_others_cannot_break_a_line_or_drive_a_terminal() {
        assert_eq!(
            one_line(" back-off\n\tpulling \u{1b}[31mimage\u{9b}2J "),
            "back-off pulling [31mimage 2J"
        );
    }

    #[test]
    fn a_value_that_this_client_does_not_know_is_shown_by_its_number() {
        assert_eq!((state(99), set_state(99), role(99)), ("State99".to_owned(), "State99".to_owned(), ""));
    }

    #[test]
    fn names_are_taken_apart() {
        let name = "namespaces/shop/rollouts/web";
        assert_eq!((namespace(name), short_name(name)), ("shop", "web"));
        assert_eq!((path(name).as_str(), path("web.yaml").as_str()), ("shop/web", "web.yaml"));
        assert_eq!((namespace("web"), short_name("web")), ("", "web"));
    }
}
