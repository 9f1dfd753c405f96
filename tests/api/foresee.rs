//! PlanRollout: what it foretells of each kind of update under each assumption, what it refuses, and that it writes nothing.
//!
//! That what it foretells comes true is for the conformance tests.

use rolloutd::pb::v1;
use serde_json::json;
use tonic::Code;
use v1::blocker::Reason;
use v1::plan_rollout_request::Update;
use v1::replica_set_summary::Role;
use v1::rollout_status::State;

use crate::expect::refused;
use crate::site::{Site, on_both};
use crate::world::{Rollouts, World, name, resource};

fn milliseconds(milliseconds: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: 0, nanos: milliseconds * 1_000_000 })
}

fn images(image: &str) -> Update {
    let (container, image) = ("web".to_owned(), image.to_owned());
    let images = vec![v1::set_rollout_image_request::ContainerImage { container, image }];
    Update::SetImage(v1::SetRolloutImageRequest { images, ..Default::default() })
}

fn manifest(site: &Site, image: &str) -> serde_json::Value {
    let mut manifest = site.manifest("web");
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
    manifest
}

/// What would happen to `web`, whose pods start at once.
async fn foretold(
    site: &Site,
    client: &mut Rollouts,
    update: Option<Update>,
    assumptions: v1::PlanAssumptions,
) -> v1::PlanRolloutResponse {
    let assumptions = v1::PlanAssumptions { pod_start_up: milliseconds(50), ..assumptions };
    let assumptions = Some(assumptions);
    let request =
        v1::PlanRolloutRequest { name: site.name("web"), update, assumptions, ..Default::default() };
    client.plan_rollout(request).await.unwrap().into_inner()
}

/// State, step, and the available pods of each ReplicaSet by its role.
type Told = (State, Option<i32>, Vec<(Role, i32)>);

fn told(answer: &v1::PlanRolloutResponse) -> Vec<Told> {
    let sets = |state: &v1::PlannedState| {
        let sets = state.replica_sets.iter().map(|set| (set.role(), set.available_replicas));
        sets.collect::<Vec<_>>()
    };
    answer.timeline.iter().map(|state| (state.state(), state.step_index, sets(state))).collect()
}

/// `web` at version 1, Healthy.
async fn applied(site: &Site, client: &mut Rollouts) -> v1::Rollout {
    let apply = v1::ApplyManifestRequest {
        parent: site.parent(),
        manifest: site.manifest("web").to_string(),
        wait: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    };
    let mut applied = client.apply_manifest(apply).await.unwrap().into_inner();
    let rollout = applied.objects.remove(0).rollout.unwrap();
    assert_eq!(rollout.status.as_ref().unwrap().state(), State::Healthy);
    rollout
}

async fn a_rollout_that_does_not_exist_is_foretold_from_a_manifest_or_a_resource(site: Site) {
    let server = site.server().await;
    let mut client = server.rollouts();
    let updates = [
        Update::Manifest(site.manifest("web").to_string()),
        Update::Rollout(v1::Rollout { name: site.name("web"), ..resource("web") }),
        Update::Rollout(resource("web")),
    ];
    for update in updates {
        let answer = foretold(&site, &mut client, Some(update), v1::PlanAssumptions::default()).await;
        assert_eq!(answer.warnings, []);
        let [state] = answer.timeline.as_slice() else { panic!("{:#?}", answer.timeline) };
        assert_eq!((state.state(), state.actual_weight, state.blockers.len()), (State::Healthy, 100, 0));
        assert_eq!(state.at, milliseconds(50));
        assert_eq!(state.message, "nothing is left to do");
        let [set] = state.replica_sets.as_slice() else { panic!("{:#?}", state.replica_sets) };
        assert_eq!((set.role(), set.desired_replicas, set.available_replicas), (Role::Stable, 5, 5));
        assert_eq!((set.uid.as_str(), set.name.starts_with("web-")), ("", true));
    }
    assert!(site.rollouts().get_opt("web").await.unwrap().is_none());
    server.stop().await;
}

async fn each_kind_of_update_is_foretold_and_nothing_is_written(site: Site) {
    let (leader, server) = (site.leader().await, site.server().await);
    let mut client = server.rollouts();
    let rollout = applied(&site, &mut client).await;
    let before = site.rollouts().get("web").await.unwrap().metadata;

    let mut changed = v1::Rollout::default();
    let mut spec = rollout.spec.clone().unwrap();
    let changed_template = manifest(&site, "web:2")["spec"]["template"].clone();
    spec.template = Some(crate::world::structure(&changed_template));
    changed.spec = Some(v1::RolloutSpec { template: spec.template, ..Default::default() });
    let assumed = v1::PlanAssumptions::default();
    let by_image = foretold(&site, &mut client, Some(images("web:2")), assumed).await;
    let paused = (State::Paused, Some(1), vec![(Role::Canary, 1), (Role::Stable, 4)]);
    assert_eq!(told(&by_image), [paused]);
    let waits = &by_image.timeline[0].blockers;
    assert_eq!((waits.len(), waits[0].reason(), waits[0].next_time), (1, Reason::PauseStep, None));
    assert_eq!(
        (by_image.timeline[0].actual_weight, &*waits[0].next),
        (20, "promote it, then step 2 runs (setWeight: 40)")
    );
    for update in [Update::Manifest(manifest(&site, "web:2").to_string()), Update::Rollout(changed)] {
        let answer = foretold(&site, &mut client, Some(update), assumed).await;
        assert_eq!(told(&answer), told(&by_image));
        let names = |answer: &v1::PlanRolloutResponse| {
            answer.timeline[0].replica_sets.iter().map(|set| set.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&answer), names(&by_image));
    }
    let as_it_stands = foretold(&site, &mut client, None, assumed).await;
    assert_eq!(told(&as_it_stands), [(State::Healthy, Some(4), vec![(Role::Stable, 5)])]);
    assert!(!as_it_stands.timeline[0].replica_sets[0].uid.is_empty());
    let after = site.rollouts().get("web").await.unwrap().metadata;
    assert_eq!(after.resource_version, before.resource_version);
    server.stop().await;
    leader.stop().await;
}

async fn each_assumption_changes_what_is_foretold(site: Site) {
    let (leader, server) = (site.leader().await, site.server().await);
    let mut client = server.rollouts();
    applied(&site, &mut client).await;
    let promoted = v1::PlanAssumptions { promote_pauses: true, ..Default::default() };
    let answer = foretold(&site, &mut client, Some(images("web:2")), promoted).await;
    let steps: Vec<_> = told(&answer).into_iter().map(|(state, step, _)| (state, step)).collect();
    let expected = [(State::Paused, Some(1)), (State::Paused, Some(3)), (State::Healthy, Some(4))];
    assert_eq!(steps, expected);

    let never = v1::PlanAssumptions { pods_never_ready: true, ..Default::default() };
    let answer = foretold(&site, &mut client, Some(images("web:2")), never).await;
    let sets = vec![(Role::Canary, 0), (Role::Stable, 4)];
    let expected = [(State::Progressing, Some(0), sets.clone()), (State::Degraded, Some(0), sets)];
    assert_eq!(told(&answer), expected);
    assert_eq!(answer.timeline[1].blockers[0].reason(), Reason::ProgressDeadlineExceeded);

    let aborted = v1::PlanAssumptions { abort_at_step: Some(1), ..Default::default() };
    let answer = foretold(&site, &mut client, Some(images("web:2")), aborted).await;
    let back = (State::Degraded, Some(0), vec![(Role::Canary, 0), (Role::Stable, 5)]);
    assert_eq!((told(&answer).pop(), answer.warnings), (Some(back), vec![]));

    let missed = foretold(&site, &mut client, None, aborted).await;
    assert_eq!(missed.warnings[0].reason, "ABORT_NOT_REACHED");
    server.stop().await;
    leader.stop().await;
}

async fn services_count_as_they_are_or_as_the_manifest_brings_them(site: Site) {
    let server = site.server().await;
    let mut client = server.rollouts();
    let mut rollout = site.manifest("web");
    rollout["spec"]["strategy"] = json!({ "blueGreen": { "activeService": "active" } });
    let alone = Some(Update::Manifest(rollout.to_string()));
    let answer = foretold(&site, &mut client, alone, v1::PlanAssumptions::default()).await;
    let [state] = answer.timeline.as_slice() else { panic!("{:#?}", answer.timeline) };
    assert_eq!((state.state(), state.blockers[0].reason()), (State::Degraded, Reason::ServiceMissing));
    let wanted = "Service \"active\", which spec.strategy.blueGreen.activeService names, does not exist";
    assert!(state.message.contains(wanted), "{}", state.message);

    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "active" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] } });
    let both = Some(Update::Manifest(format!("{rollout}\n---\n{service}")));
    let answer = foretold(&site, &mut client, both, v1::PlanAssumptions::default()).await;
    let last = answer.timeline.last().unwrap();
    assert_eq!((last.state(), last.replica_sets[0].role()), (State::Healthy, Role::Active));
    assert_eq!(last.services[0].pod_template_hash, last.replica_sets[0].pod_template_hash);
    server.stop().await;
}

async fn what_makes_no_sense_is_refused_by_field(site: Site) {
    let server = site.server().await;
    let mut client = server.rollouts();
    let request = |update: Option<Update>| v1::PlanRolloutRequest {
        name: site.name("web"),
        update,
        ..Default::default()
    };
    refused(client.plan_rollout(request(None)).await).is(Code::NotFound, "NOT_FOUND");
    refused(client.plan_rollout(request(Some(images("web:2")))).await).is(Code::NotFound, "NOT_FOUND");
    for (update, field) in [
        (Update::Rollout(v1::Rollout { name: site.name("api"), ..resource("web") }), "rollout.name"),
        (Update::Manifest(site.manifest("api").to_string()), "manifest"),
        (Update::Manifest(String::new()), "manifest"),
        (Update::SetImage(v1::SetRolloutImageRequest::default()), "set_image.images"),
    ] {
        let refusal = refused(client.plan_rollout(request(Some(update))).await);
        refusal.is(Code::InvalidArgument, "INVALID_FIELD").names_fields(&[field]);
    }
    for (assumptions, field) in [
        (
            v1::PlanAssumptions { pod_start_up: milliseconds(-1), ..Default::default() },
            "assumptions.pod_start_up",
        ),
        (v1::PlanAssumptions { abort_at_step: Some(4), ..Default::default() }, "assumptions.abort_at_step"),
    ] {
        let update = Some(Update::Manifest(site.manifest("web").to_string()));
        let refusal = refused(
            client
                .plan_rollout(v1::PlanRolloutRequest { assumptions: Some(assumptions), ..request(update) })
                .await,
        );
        refusal.is(Code::InvalidArgument, "INVALID_FIELD").names_fields(&[field]);
    }
    let unnamed = v1::PlanRolloutRequest::default();
    refused(client.plan_rollout(unnamed).await).is(Code::InvalidArgument, "INVALID_FIELD");
    server.stop().await;
}

on_both! {
    a_rollout_that_does_not_exist_is_foretold_from_a_manifest_or_a_resource
    each_kind_of_update_is_foretold_and_nothing_is_written
    each_assumption_changes_what_is_foretold
    services_count_as_they_are_or_as_the_manifest_brings_them
    what_makes_no_sense_is_refused_by_field
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_not_there_is_named_where_the_request_has_it() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let (container, image) = ("api".to_owned(), "web:2".to_owned());
    let images = vec![v1::set_rollout_image_request::ContainerImage { container, image }];
    let update = Some(Update::SetImage(v1::SetRolloutImageRequest { images, ..Default::default() }));
    let request = v1::PlanRolloutRequest { name: name("web"), update, ..Default::default() };
    let refusal = refused(world.untouched(world.rollouts().plan_rollout(request)).await);
    refusal.is(Code::InvalidArgument, "INVALID_FIELD").names_fields(&["set_image.images[0].container"]);
}

#[tokio::test(start_paused = true)]
async fn pods_that_cannot_run_are_named_and_stay_so_unless_a_time_is_given() {
    let world = World::new().await;
    world.store_rollout("web").await;
    world.store_set("web", "foreign", 1, "web:1").await;
    world.store_pod("web", "foreign").await;
    let plan = async |update, assumptions| {
        let assumptions = Some(assumptions);
        let request = v1::PlanRolloutRequest { name: name("web"), update, assumptions, ..Default::default() };
        world.untouched(world.rollouts().plan_rollout(request)).await.unwrap().into_inner()
    };
    let as_it_is = plan(None, v1::PlanAssumptions::default()).await;
    let last = as_it_is.timeline.last().unwrap();
    assert_eq!(
        (last.state(), last.blockers[0].reason()),
        (State::Degraded, Reason::ProgressDeadlineExceeded)
    );
    let [warning] = as_it_is.warnings.as_slice() else { panic!("{:?}", as_it_is.warnings) };
    assert_eq!(warning.reason, "PODS_FAILING");
    let said = "pod \"web-foreign-1\" cannot run now (container \"web\": CrashLoopBackOff: back-off 5m0s); \
        the timeline takes it that this stays so, unless assumptions.pod_start_up is given";
    assert_eq!(warning.description, said);
    let in_time = v1::PlanAssumptions { pod_start_up: milliseconds(50), ..Default::default() };
    let mended = plan(None, in_time).await;
    assert_eq!(mended.timeline.last().unwrap().state(), State::Healthy);
    assert_eq!(mended.warnings[0].reason, "PODS_FAILING");
    let another = plan(Some(images("web:2")), v1::PlanAssumptions::default()).await;
    assert_eq!(another.warnings, [], "nothing is expected of the version before");
}

#[tokio::test(start_paused = true)]
async fn a_set_whose_hash_is_anothers_is_known_by_its_template() {
    let world = World::new().await;
    world.store_rollout("web").await;
    world.store_set("web", "foreign", 1, "web:1").await;
    let request = v1::PlanRolloutRequest { name: name("web"), ..Default::default() };
    let answer = world.untouched(world.rollouts().plan_rollout(request)).await.unwrap().into_inner();
    let last = answer.timeline.last().expect("an end");
    let sets: Vec<&str> = last.replica_sets.iter().map(|set| set.pod_template_hash.as_str()).collect();
    assert_eq!(sets, ["foreign"]);
}
