//! A whole control plane: rollouts that move while clients look and act.

use std::time::Duration;

use rolloutd::pb::v1;
use rolloutd::serve::Reconcile;
use rolloutd::simcluster::{self, Behaviour, Namespaces, SimCluster};
use tonic::{Code, Streaming};
use v1::promote_rollout_request::{From as Seen, Target};
use v1::rollout_status::State;

use crate::expect::refused;
use crate::world::{Wanted, World, apply_request, manifest, name};

/// How long anything may take to come about, in virtual time.
const PATIENCE: Duration = Duration::from_secs(120);

async fn moving() -> (World, SimCluster) {
    let world = World::wanted(Wanted { reconcile: Reconcile::All, ..Wanted::default() }).await;
    let config = simcluster::Config {
        clock: world.clock.clone(),
        behaviour: Behaviour::default(),
        seed: 1,
        namespaces: Namespaces::Managed,
    };
    let cluster = SimCluster::start(world.cluster.client("simcluster"), config);
    (world, cluster)
}

async fn until(
    stream: &mut Streaming<v1::WatchRolloutTreeResponse>,
    wanted: impl Fn(&v1::RolloutStatus) -> bool,
) -> v1::RolloutTree {
    let looking = async {
        loop {
            let tree = stream.message().await.unwrap().unwrap().tree.unwrap();
            if tree.rollout.as_ref().unwrap().status.as_ref().is_some_and(&wanted) {
                return tree;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("it comes about")
}

fn status(tree: &v1::RolloutTree) -> v1::RolloutStatus {
    tree.rollout.clone().unwrap().status.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_canary_goes_from_one_version_to_the_next_through_rpcs_alone() {
    let (world, _cluster) = moving().await;
    let mut client = world.rollouts();
    client.apply_manifest(apply_request(&manifest("web").to_string())).await.unwrap();
    world.settle().await;
    let request = v1::WatchRolloutTreeRequest { name: name("web") };
    let mut stream = client.watch_rollout_tree(request).await.unwrap().into_inner();
    until(&mut stream, |status| status.state() == State::Healthy).await;

    let image = v1::set_rollout_image_request::ContainerImage {
        container: "web".to_owned(),
        image: "web:2".to_owned(),
    };
    let set = v1::SetRolloutImageRequest { name: name("web"), images: vec![image], ..Default::default() };
    client.set_rollout_image(set).await.unwrap();
    for (step, weight) in [(1, 20), (3, 40)] {
        let paused = until(&mut stream, |status| {
            status.state() == State::Paused && status.current_step_index == Some(step)
        })
        .await;
        assert_eq!((paused.desired_weight, paused.actual_weight), (weight, weight));
        assert_eq!(
            paused.blockers.iter().map(v1::Blocker::reason).collect::<Vec<_>>(),
            [v1::blocker::Reason::PauseStep]
        );
        let promote = v1::PromoteRolloutRequest {
            name: name("web"),
            from: Some(Seen { pod_template_hash: status(&paused).current_pod_hash, step_index: Some(step) }),
            target: Some(Target::Next(())),
            ..Default::default()
        };
        let (mut one, mut other) = (world.rollouts(), world.rollouts());
        let (one, other) =
            tokio::join!(one.promote_rollout(promote.clone()), other.promote_rollout(promote.clone()));
        let (done, refusal) = if one.is_ok() { (one, other) } else { (other, one) };
        done.expect("one moves it");
        assert_eq!(refused(refusal).code, Code::FailedPrecondition, "and the other does not");
    }
    let done = until(&mut stream, |status| status.state() == State::Healthy).await;
    let status = status(&done);
    assert_eq!((status.current_pod_hash.clone(), status.revision), (status.stable_pod_hash, 2));
    assert_eq!((done.actual_weight, done.blockers.len()), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn an_update_is_aborted_and_undone_through_rpcs() {
    let (world, _cluster) = moving().await;
    let mut client = world.rollouts();
    client.apply_manifest(apply_request(&manifest("web").to_string())).await.unwrap();
    world.settle().await;
    let request = v1::WatchRolloutTreeRequest { name: name("web") };
    let mut stream = client.watch_rollout_tree(request).await.unwrap().into_inner();
    let first = status(&until(&mut stream, |status| status.state() == State::Healthy).await);
    let abort = v1::AbortRolloutRequest { name: name("web"), ..Default::default() };
    refused(client.abort_rollout(abort.clone()).await).is(Code::FailedPrecondition, "NOTHING_TO_ABORT");

    let image = v1::set_rollout_image_request::ContainerImage {
        container: "*".to_owned(),
        image: "web:2".to_owned(),
    };
    let set = v1::SetRolloutImageRequest { name: name("web"), images: vec![image], ..Default::default() };
    client.set_rollout_image(set).await.unwrap();
    // At once: it waits until the controller has seen the new spec.
    assert!(client.abort_rollout(abort).await.unwrap().into_inner().rollout.unwrap().status.unwrap().aborted);
    let aborted = status(&until(&mut stream, |status| status.state() == State::Degraded).await);
    assert_eq!(aborted.stable_pod_hash, first.current_pod_hash);

    let undo = v1::RollbackRolloutRequest {
        name: name("web"),
        from: Some(v1::rollback_rollout_request::From { pod_template_hash: aborted.current_pod_hash }),
        ..Default::default()
    };
    client.rollback_rollout(undo.clone()).await.unwrap();
    let done = until(&mut stream, |status| status.state() == State::Healthy).await;
    assert_eq!(status(&done).current_pod_hash, first.current_pod_hash);
    // Repeating it does not toggle.
    world.settle().await;
    refused(world.untouched(client.rollback_rollout(undo)).await).is(Code::FailedPrecondition, "STALE_HASH");
}
