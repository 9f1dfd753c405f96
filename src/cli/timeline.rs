//! What would happen to a rollout, a row for each state in which it would rest.
//!
//! Pure. What is waited for stands behind each row; the next row says when it was over.

use jiff::SignedDuration;

use super::{table, words};
use crate::pb::v1;

/// The lines of a timeline.
pub(super) fn lines(timeline: &[v1::PlannedState]) -> Vec<String> {
    if timeline.is_empty() {
        return vec!["Nothing of it could be foreseen.".to_owned()];
    }
    let has_steps = timeline.iter().any(|state| state.step_index.is_some());
    let has_services = timeline.iter().any(|state| !state.services.is_empty());
    let columns: [Option<(&str, Column)>; 8] = [
        Some(("AFTER", after)),
        Some(("STATE", |state| words::state(state.state))),
        has_steps.then_some(("STEP", step)),
        Some(("SHARE", share)),
        Some(("PODS", pods)),
        has_services.then_some(("SERVICES", services)),
        Some(("WAITS FOR", |state| state.message.clone())),
        Some(("NEXT", next)),
    ];
    let (titles, columns): (Vec<&str>, Vec<Column>) = columns.into_iter().flatten().unzip();
    let row = |state: &v1::PlannedState| columns.iter().map(|column| column(state)).collect();
    table::lines(&titles, timeline.iter().map(row))
}

/// What a column tells of a state.
type Column = fn(&v1::PlannedState) -> String;

fn after(state: &v1::PlannedState) -> String {
    let at = state.at.unwrap_or_default();
    let at = SignedDuration::new(at.seconds, at.nanos);
    // Rounded up: what is reached within a second is not there at once.
    let whole = at.as_secs() + i64::from(at.subsec_nanos() > 0);
    words::span(SignedDuration::from_secs(whole))
}

fn step(state: &v1::PlannedState) -> String {
    state.step_index.map(|index| index.to_string()).unwrap_or_default()
}

fn share(state: &v1::PlannedState) -> String {
    format!("{}%", state.actual_weight)
}

/// Available pods of those that are wanted, by what their ReplicaSets are; sets that have and want none are left out.
fn pods(state: &v1::PlannedState) -> String {
    let is_there = |set: &&v1::ReplicaSetSummary| set.desired_replicas > 0 || set.replicas > 0;
    let told = |set: &v1::ReplicaSetSummary| {
        let counts = format!("{}/{}", set.available_replicas, set.desired_replicas);
        format!("{} {} {counts}", words::role(set.role), set.pod_template_hash).trim_start().to_owned()
    };
    state.replica_sets.iter().filter(is_there).map(told).collect::<Vec<_>>().join(", ")
}

fn services(state: &v1::PlannedState) -> String {
    let told = |service: &v1::ServiceSummary| format!("{}: {}", service.role, service.pod_template_hash);
    state.services.iter().map(told).collect::<Vec<_>>().join(", ")
}

fn next(state: &v1::PlannedState) -> String {
    state.blockers.first().map(|blocker| blocker.next.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use v1::replica_set_summary::Role;
    use v1::rollout_status::State;

    use super::*;

    fn set(role: Role, hash: &str, available: i32, desired: i32) -> v1::ReplicaSetSummary {
        v1::ReplicaSetSummary {
            role: role.into(),
            pod_template_hash: hash.to_owned(),
            available_replicas: available,
            desired_replicas: desired,
            replicas: desired,
            ..v1::ReplicaSetSummary::default()
        }
    }

    fn state(seconds: i64, nanos: i32, state: State, message: &str) -> v1::PlannedState {
        v1::PlannedState {
            at: Some(prost_types::Duration { seconds, nanos }),
            state: state.into(),
            message: message.to_owned(),
            ..v1::PlannedState::default()
        }
    }

    #[test]
    fn a_canary_has_steps_and_shares() {
        let blocker = v1::Blocker { next: "promote it".to_owned(), ..v1::Blocker::default() };
        let paused = v1::PlannedState {
            step_index: Some(1),
            actual_weight: 25,
            replica_sets: vec![
                set(Role::Canary, "b", 1, 1),
                set(Role::Stable, "a", 3, 3),
                set(Role::Old, "z", 0, 0),
            ],
            blockers: vec![blocker],
            ..state(5, 1, State::Paused, "step 1 is a pause until somebody promotes")
        };
        let done = v1::PlannedState {
            step_index: Some(2),
            actual_weight: 100,
            replica_sets: vec![set(Role::Stable, "b", 4, 4)],
            ..state(65, 0, State::Healthy, "nothing is left to do")
        };
        insta::assert_snapshot!(lines(&[paused, done]).join("\n"), @r"
        AFTER   STATE     STEP   SHARE   PODS                         WAITS FOR                                   NEXT
        6s      Paused    1      25%     canary b 1/1, stable a 3/3   step 1 is a pause until somebody promotes   promote it
        65s     Healthy   2      100%    stable b 4/4                 nothing is left to do                       -
        ");
    }

    #[test]
    fn blue_green_has_services() {
        let service = |role: &str, hash: &str| v1::ServiceSummary {
            role: role.to_owned(),
            pod_template_hash: hash.to_owned(),
            ..v1::ServiceSummary::default()
        };
        let waiting = v1::PlannedState {
            services: vec![service("active", "a"), service("preview", "b")],
            replica_sets: vec![set(Role::Preview, "b", 2, 2), set(Role::Active, "a", 2, 2)],
            ..state(0, 0, State::Paused, "the new version is up")
        };
        insta::assert_snapshot!(lines(&[waiting]).join("\n"), @r"
        AFTER   STATE    SHARE   PODS                          SERVICES                WAITS FOR               NEXT
        0s      Paused   0%      preview b 2/2, active a 2/2   active: a, preview: b   the new version is up   -
        ");
        assert_eq!(lines(&[]), ["Nothing of it could be foreseen."]);
    }
}
