//! A rollout is held while what became of a write of ours cannot be found out; it says so, and goes on by itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, Request};
use kube::client::Body;
use rolloutd::pb::v1::blocker::Reason;

use crate::act::Actor;
use crate::cluster::Cluster;
use crate::end;
use crate::features::Features;
use crate::labels::Labels;
use crate::lens::{Lens, Refusal};
use crate::program::{Limits, Pods, Program, Shape, Strategy};
use crate::run::in_virtual_time;
use crate::weather::Storm;

/// Whether ReplicaSets can be created and read one by one.
static IS_BROKEN: AtomicBool = AtomicBool::new(true);

/// Creations find no answer, and nobody may look what became of them.
fn broken(request: &Request<Body>) -> Option<Refusal> {
    let is_set = request.uri().path().ends_with("/replicasets");
    if !is_set || !IS_BROKEN.load(Ordering::SeqCst) {
        return None;
    }
    if request.method() == Method::POST {
        return Some((500, "InternalError", "etcdserver: request timed out"));
    }
    let is_of_one = request.uri().query().is_some_and(|query| query.contains("fieldSelector=metadata.name"));
    let forbidden = "replicasets.apps is forbidden: User \"rolloutd\" cannot list resource \"replicasets\" in API group \"apps\" in the namespace \"shop\"";
    is_of_one.then_some((403, "Forbidden", forbidden))
}

fn program() -> Program {
    let one = || serde_json::json!(1);
    Program {
        seed: 1,
        shape: Shape {
            replicas: 2,
            strategy: Strategy::Canary {
                limits: Limits { surge: one(), unavailable: one() },
                steps: Vec::new(),
            },
            min_ready_seconds: 0,
            progress_deadline_seconds: 60,
            revision_history_limit: None,
            labels: Labels::default(),
            features: Features::default(),
        },
        members: 1,
        pods: Pods { start_up: Duration::from_secs(1), termination: Duration::from_millis(200) },
        storm: Storm::default(),
        acts: Vec::new(),
    }
}

#[test]
fn what_cannot_be_read_after_a_write_without_an_answer_is_a_blocker_until_it_can() {
    in_virtual_time(async {
        let program = program();
        let mut cluster = Cluster::start(&program, Some(Lens::Answers(broken))).await;
        Actor::create(&mut cluster, &program).await.unwrap();
        cluster.pass(Duration::from_secs(20)).await.unwrap();
        let blockers = end::explain(&cluster).await.unwrap();
        let missing = blockers.iter().find(|blocker| blocker.reason() == Reason::PermissionMissing);
        let missing = missing.unwrap_or_else(|| panic!("{blockers:#?}"));
        assert_eq!(missing.condition, "allowed to list replicasets.apps in namespace \"shop\"");
        assert!(missing.next_time.is_some(), "{missing:#?}");
        IS_BROKEN.store(false, Ordering::SeqCst);
        end::unattended(&mut cluster).await.unwrap();
    });
}
