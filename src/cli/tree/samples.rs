//! Trees for tests: a canary in the middle of its steps, and what becomes of it.

use prost_types::Timestamp;

use crate::pb::v1;
use v1::replica_set_summary::{Role, State as SetState};
use v1::rollout_status::State;

/// The moment of all samples.
pub(in crate::cli) const NOW: i64 = 100_000;

fn ago(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds: NOW - seconds, nanos: 0 })
}

fn pod(name: &str, age: i64) -> v1::PodSummary {
    v1::PodSummary {
        name: name.to_owned(),
        phase: "Running".to_owned(),
        ready: true,
        ready_containers: 1,
        containers: 1,
        create_time: ago(age),
        node: "node-1".to_owned(),
        ..v1::PodSummary::default()
    }
}

fn set(hash: &str, role: Role, pods: Vec<v1::PodSummary>, age: i64) -> v1::ReplicaSetSummary {
    let ready = i32::try_from(pods.iter().filter(|pod| pod.ready).count()).unwrap();
    let count = i32::try_from(pods.len()).unwrap();
    v1::ReplicaSetSummary {
        name: format!("web-{hash}"),
        pod_template_hash: hash.to_owned(),
        role: role.into(),
        state: if ready == count { SetState::Healthy } else { SetState::Progressing }.into(),
        desired_replicas: count,
        replicas: count,
        ready_replicas: ready,
        available_replicas: ready,
        images: vec![format!("shop/web:{hash}")],
        create_time: ago(age),
        pods,
        ..v1::ReplicaSetSummary::default()
    }
}

/// `web` of namespace `shop`, revision 2 with one pod of five, in the pause of step 1 of 4.
pub(in crate::cli) fn paused() -> v1::RolloutTree {
    let canary = v1::CanaryStrategy::default();
    let steps = ["setWeight: 20", "pause: 10m", "setWeight: 60", "pause"];
    let step = |(index, text): (usize, &&str)| v1::StepSummary {
        index: i32::try_from(index).unwrap(),
        description: (*text).to_owned(),
    };
    let revision = |revision, replica_set| v1::RevisionTree {
        revision,
        replica_set: Some(replica_set),
        ..v1::RevisionTree::default()
    };
    let stable = ["a", "b", "c", "d"].map(|letter| pod(&format!("web-v1-{letter}"), 200_000)).to_vec();
    v1::RolloutTree {
        pod_labelling: None,
        rollout: Some(v1::Rollout {
            name: "namespaces/shop/rollouts/web".to_owned(),
            etag: "e7a1".to_owned(),
            generation: 4,
            create_time: ago(200_000),
            spec: Some(v1::RolloutSpec {
                replicas: Some(5),
                strategy: Some(v1::rollout_spec::Strategy::Canary(canary)),
                ..v1::RolloutSpec::default()
            }),
            status: Some(v1::RolloutStatus {
                state: State::Paused.into(),
                message: "CanaryPauseStep".to_owned(),
                observed_generation: 4,
                replicas: 5,
                updated_replicas: 1,
                ready_replicas: 5,
                available_replicas: 5,
                current_pod_hash: "v2".to_owned(),
                stable_pod_hash: "v1".to_owned(),
                current_step_index: Some(1),
                step_count: 4,
                revision: 2,
                conditions: vec![v1::Condition {
                    r#type: "Paused".to_owned(),
                    status: "True".to_owned(),
                    transition_time: ago(60),
                    reason: "RolloutPaused".to_owned(),
                    message: "Rollout is paused".to_owned(),
                    ..v1::Condition::default()
                }],
                ..v1::RolloutStatus::default()
            }),
            ..v1::Rollout::default()
        }),
        steps: steps.iter().enumerate().map(step).collect(),
        revisions: vec![
            revision(2, set("v2", Role::Canary, vec![pod("web-v2-a", 75)], 80)),
            revision(1, set("v1", Role::Stable, stable, 200_000)),
        ],
        blockers: vec![v1::Blocker {
            reason: v1::blocker::Reason::PauseStep.into(),
            condition: "status.currentStepIndex 1/4".to_owned(),
            since_time: ago(60),
            message: "step 1 is a pause of 600s".to_owned(),
            next: "the next step runs".to_owned(),
            next_time: ago(-540),
            ..v1::Blocker::default()
        }],
        desired_weight: 20,
        actual_weight: 20,
        services: Vec::new(),
        workload: None,
    }
}

/// The same, aborted: the canary's pod crashes and an older version is scaled down.
pub(in crate::cli) fn aborted() -> v1::RolloutTree {
    let mut tree = paused();
    let status = tree.rollout.as_mut().and_then(|rollout| rollout.status.as_mut()).unwrap();
    status.state = State::Degraded.into();
    status.message = "RolloutAborted: Rollout aborted update to revision 2".to_owned();
    status.aborted = true;
    status.current_step_index = Some(0);
    let canary = tree.revisions[0].replica_set.as_mut().unwrap();
    canary.state = SetState::Progressing.into();
    canary.available_replicas = 0;
    canary.scale_down_time = ago(-30);
    let crashing = &mut canary.pods[0];
    crashing.phase = "CrashLoopBackOff".to_owned();
    crashing.ready = false;
    crashing.ready_containers = 0;
    crashing.restarts = 3;
    crashing.reason = "CrashLoopBackOff: back-off 40s\nrestarting failed container".to_owned();
    tree.revisions[0].analysis_runs.push(v1::RunSummary {
        name: "web-v2-2".to_owned(),
        phase: "Failed".to_owned(),
        message: "metric \"errors\" failed".to_owned(),
        create_time: ago(70),
    });
    let mut gone = set("v0", Role::Old, Vec::new(), 400_000);
    gone.state = SetState::ScaledDown.into();
    tree.revisions.push(v1::RevisionTree {
        revision: 0,
        replica_set: Some(gone),
        ..v1::RevisionTree::default()
    });
    tree.blockers = vec![
        v1::Blocker {
            message: "Rollout aborted update to revision 2".to_owned(),
            next: "retry it, roll it back, or change the spec".to_owned(),
            ..v1::Blocker::default()
        },
        v1::Blocker {
            object: Some(v1::ObjectReference {
                kind: "ReplicaSet".to_owned(),
                name: "web-v2".to_owned(),
                ..v1::ObjectReference::default()
            }),
            message: "1 pods of an older version are still there".to_owned(),
            ..v1::Blocker::default()
        },
    ];
    tree.desired_weight = 0;
    tree
}
