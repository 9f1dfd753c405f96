//! Drives the built `rolloutctl` against a server that answers what each test prepared: what the client sends, prints and
//! ends with.

#![allow(clippy::unwrap_used, reason = "all of it is tests")]

mod diffs;
mod history;
mod lint;
mod manifests;
mod mutations;
mod plan;
mod program;
mod reads;
mod server;
mod surface;
mod waits;
mod watching;

use rolloutd::pb::v1;
use v1::rollout_status::State;

const NAME: &str = "namespaces/default/rollouts/web";

/// `web` of namespace `default`, revision 2 of hash `v2`, at step 1 of 3.
fn rollout(state: State) -> v1::Rollout {
    v1::Rollout {
        name: NAME.to_owned(),
        etag: "e1".to_owned(),
        spec: Some(v1::RolloutSpec {
            replicas: Some(5),
            strategy: Some(v1::rollout_spec::Strategy::Canary(v1::CanaryStrategy::default())),
            ..v1::RolloutSpec::default()
        }),
        status: Some(v1::RolloutStatus {
            state: state.into(),
            current_pod_hash: "v2".to_owned(),
            stable_pod_hash: "v1".to_owned(),
            current_step_index: Some(1),
            step_count: 3,
            revision: 2,
            ..v1::RolloutStatus::default()
        }),
        ..v1::Rollout::default()
    }
}

fn tree(state: State) -> v1::RolloutTree {
    let set = v1::ReplicaSetSummary {
        name: "web-v2".to_owned(),
        desired_replicas: 1,
        available_replicas: 1,
        role: v1::replica_set_summary::Role::Canary.into(),
        ..v1::ReplicaSetSummary::default()
    };
    v1::RolloutTree {
        rollout: Some(rollout(state)),
        steps: vec![v1::StepSummary { index: 1, description: "pause: 10m".to_owned() }],
        revisions: vec![v1::RevisionTree {
            revision: 2,
            replica_set: Some(set),
            ..v1::RevisionTree::default()
        }],
        desired_weight: 20,
        actual_weight: 20,
        ..v1::RolloutTree::default()
    }
}
