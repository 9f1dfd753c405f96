//! GetRollout, ListRollouts, ListNamespaces and GetServerInfo.

use rolloutd::crd::keys;
use rolloutd::pb::v1;
use rolloutd::serve::Reconcile;
use serde_json::json;
use tonic::Code;
use v1::rollout_status::State;

use crate::expect::refused;
use crate::world::{Wanted, World, canary, malformed, manifest, name, updating};

fn get(name: &str) -> v1::GetRolloutRequest {
    v1::GetRolloutRequest { name: name.to_owned(), ..Default::default() }
}

fn list(parent: &str) -> v1::ListRolloutsRequest {
    v1::ListRolloutsRequest { parent: parent.to_owned(), ..Default::default() }
}

/// The last segments of the names on all pages, and how many pages there were.
async fn all_pages(world: &World, mut request: v1::ListRolloutsRequest) -> (Vec<String>, usize) {
    let (mut names, mut pages) = (Vec::new(), 0);
    loop {
        let page = world.rollouts().list_rollouts(request.clone()).await.unwrap().into_inner();
        names.extend(
            page.rollouts.into_iter().map(|rollout| rollout.name.rsplit_once('/').unwrap().1.to_owned()),
        );
        pages += 1;
        if page.next_page_token.is_empty() {
            return (names, pages);
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollout_is_shown_whole() {
    let world = World::new().await;
    let stored = world.store_rollout("web").await;
    world.seen("web", &updating(1)).await;
    let shown = world.rollouts().get_rollout(get(&name("web"))).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(
        (shown.name.as_str(), shown.uid.as_str()),
        (name("web").as_str(), stored["metadata"]["uid"].as_str().unwrap())
    );
    assert!(!shown.etag.is_empty() && shown.create_time.is_some() && shown.delete_time.is_none());
    let mut spec = shown.clone();
    assert_eq!(canary(&mut spec).steps.len(), 4);
    assert!(shown.spec.unwrap().template.unwrap().fields.contains_key("spec"));
    let status = shown.status.unwrap();
    assert_eq!(
        (status.state(), status.current_pod_hash.as_str(), status.stable_pod_hash.as_str()),
        (State::Paused, "canary", "stable")
    );
    assert_eq!(
        (status.current_step_index, status.step_count, status.pause_conditions.len()),
        (Some(1), 4, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn the_basic_view_leaves_the_template_out() {
    let world = World::new().await;
    world.store_rollout("web").await;
    for (view, has_template) in
        [(v1::View::Unspecified, true), (v1::View::Full, true), (v1::View::Basic, false)]
    {
        let request = v1::GetRolloutRequest { view: view.into(), ..get(&name("web")) };
        let rollout = world.rollouts().get_rollout(request).await.unwrap().into_inner().rollout.unwrap();
        assert_eq!(rollout.spec.unwrap().template.is_some(), has_template, "{view:?}");
    }
    let request = v1::GetRolloutRequest { view: 9, ..get(&name("web")) };
    refused(world.rollouts().get_rollout(request).await).names_fields(&["view"]);
    let request = v1::ListRolloutsRequest { view: 9, ..list("namespaces/shop") };
    refused(world.rollouts().list_rollouts(request).await).names_fields(&["view"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_not_found_by_name() {
    let world = World::new().await;
    refused(world.rollouts().get_rollout(get(&name("web"))).await)
        .is(Code::NotFound, "NOT_FOUND")
        .lacks_object("rolloutd.dev/Rollout", "namespaces/shop/rollouts/web");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_none_is_refused_with_its_form() {
    let world = World::new().await;
    for bad in
        ["", "web", "namespaces/shop/rollouts/", "namespaces/-/rollouts/web", "namespaces/shop/rollouts/WEB"]
    {
        refused(world.rollouts().get_rollout(get(bad)).await)
            .names_fields(&["name"])
            .says("namespaces/{namespace}/rollouts/{rollout}");
        refused(world.rollouts().list_rollouts(list(bad)).await)
            .names_fields(&["parent"])
            .says("namespaces/- for all");
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_of_an_older_spec_reads_as_progressing() {
    let world = World::new().await;
    world.store_rollout("web").await;
    world.seen("web", &json!({ "phase": "Healthy" })).await;
    let state = || async {
        let answer = world.rollouts().get_rollout(get(&name("web"))).await.unwrap();
        answer.into_inner().rollout.unwrap().status.unwrap().state()
    };
    assert_eq!(state().await, State::Healthy);
    world.patch("web", &json!({ "spec": { "replicas": 9 } })).await;
    assert_eq!(state().await, State::Progressing);
    // A pause that was ended and that the controller has not acted on yet.
    world.seen("web", &updating(1)).await;
    assert_eq!(state().await, State::Paused);
    world.patch_status("web", &json!({ "status": { "pauseConditions": null } })).await;
    assert_eq!(state().await, State::Progressing);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_object_is_shown_as_degraded_and_hides_nobody() {
    let world = World::new().await;
    world.store_rollout("web").await;
    world.store_rollout("other").await;
    world.patch("web", &malformed()).await;
    let shown = world.rollouts().get_rollout(get(&name("web"))).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!((shown.name.as_str(), shown.labels["app"].as_str()), (name("web").as_str(), "web"));
    assert!(shown.spec.is_none());
    let status = shown.status.unwrap();
    assert_eq!(status.state(), State::Degraded);
    assert!(status.message.contains("3000000000"), "{}", status.message);
    assert_eq!(all_pages(&world, list("namespaces/shop")).await.0, ["other", "web"]);
}

#[tokio::test(start_paused = true)]
async fn pages_cover_everything_once_in_order() {
    let world = World::new().await;
    let apps: Vec<String> = (0..7).map(|number| format!("web-{number}")).collect();
    for app in apps.iter().rev() {
        world.store(&manifest(app)).await;
    }
    let mut elsewhere = manifest("zebra");
    elsewhere["metadata"]["namespace"] = json!("default");
    world.store(&elsewhere).await;
    for (parent, page_size, expected, pages) in [
        ("namespaces/shop", 0, apps.clone(), 1),
        ("namespaces/shop", 3, apps.clone(), 3),
        ("namespaces/shop", 7, apps.clone(), 1),
        ("namespaces/shop", 5000, apps.clone(), 1),
        ("namespaces/-", 4, [vec!["zebra".to_owned()], apps.clone()].concat(), 2),
        ("namespaces/nowhere", 4, Vec::new(), 1),
    ] {
        let request = v1::ListRolloutsRequest { page_size, ..list(parent) };
        assert_eq!(all_pages(&world, request).await, (expected, pages), "{parent} {page_size}");
    }
    let negative = v1::ListRolloutsRequest { page_size: -1, ..list("namespaces/shop") };
    refused(world.rollouts().list_rollouts(negative).await).names_fields(&["page_size"]).says("-1");
}

#[tokio::test(start_paused = true)]
async fn a_page_is_never_larger_than_clients_take() {
    let world = World::new().await;
    let apps: Vec<String> = (0..5).map(|number| format!("web-{number}")).collect();
    for app in &apps {
        let mut large = manifest(app);
        large["spec"]["template"]["metadata"]["annotations"] = json!({ "long": "x".repeat(200_000) });
        large["spec"]["template"]["spec"]["more"] = json!(vec!["y".repeat(100_000); 8]);
        world.create(&large).await;
    }
    world.settle().await;
    let request = v1::ListRolloutsRequest { view: v1::View::Full.into(), ..list("namespaces/shop") };
    let (names, pages) = all_pages(&world, request).await;
    assert_eq!((names, pages), (apps, 3));
}

#[tokio::test(start_paused = true)]
async fn a_page_may_end_where_a_rollout_was_deleted() {
    let world = World::new().await;
    for app in ["a", "b", "c"] {
        world.store(&manifest(app)).await;
    }
    let request = v1::ListRolloutsRequest { page_size: 2, ..list("namespaces/shop") };
    let first = world.rollouts().list_rollouts(request.clone()).await.unwrap().into_inner();
    world.delete("b").await;
    let request = v1::ListRolloutsRequest { page_token: first.next_page_token, ..request };
    assert_eq!(all_pages(&world, request).await, (vec!["c".to_owned()], 1));
}

#[tokio::test(start_paused = true)]
async fn label_selectors_select_as_kubernetes_does() {
    let world = World::new().await;
    for (app, labels) in [
        ("a", json!({ "team": "shop", "tier": "web", "size": "3" })),
        ("b", json!({ "team": "shop", "tier": "batch" })),
        ("c", json!({ "tier": "web" })),
    ] {
        let mut manifest = manifest(app);
        manifest["metadata"]["labels"] = labels;
        world.store(&manifest).await;
    }
    for (selector, expected) in [
        ("", "abc"),
        ("team=shop", "ab"),
        ("team==shop,tier!=batch", "a"),
        ("tier in (web, batch)", "abc"),
        ("team notin (shop)", "c"),
        ("team", "ab"),
        ("!team", "c"),
        ("size>2", "a"),
        ("size<2", ""),
        ("team=nobody", ""),
    ] {
        let request = v1::ListRolloutsRequest {
            label_selector: selector.to_owned(),
            page_size: 1,
            ..list("namespaces/shop")
        };
        assert_eq!(all_pages(&world, request).await.0.concat(), expected, "{selector}");
    }
    for selector in ["=", "a in", "a in (b", "a,,b", "a=b c", "-a=b", "size>x", "a/b/c"] {
        let request =
            v1::ListRolloutsRequest { label_selector: selector.to_owned(), ..list("namespaces/shop") };
        refused(world.rollouts().list_rollouts(request).await)
            .names_fields(&["label_selector"])
            .says(selector);
    }
}

#[tokio::test(start_paused = true)]
async fn filters_select_by_state_and_strategy() {
    let world = World::new().await;
    for app in ["a", "b", "c", "d", "e"] {
        world.store_rollout(app).await;
    }
    let blue_green = json!({ "canary": null, "blueGreen": { "activeService": "active" } });
    world.patch("d", &json!({ "spec": { "strategy": blue_green } })).await;
    world.seen("a", &json!({ "phase": "Healthy" })).await;
    world.seen("b", &updating(1)).await;
    world.seen("d", &json!({ "phase": "Degraded" })).await;
    world.patch("e", &malformed()).await;
    let filtered = |filter: &str| v1::ListRolloutsRequest {
        filter: filter.to_owned(),
        page_size: 1,
        ..list("namespaces/shop")
    };
    for (filter, expected) in [
        ("", "abcde"),
        ("state = HEALTHY", "a"),
        ("state = PAUSED OR state = STATE_PROGRESSING", "bc"),
        ("state:degraded", "de"),
        ("state = DEGRADED AND strategy = blue_green", "d"),
        ("-strategy = CANARY", "de"),
        ("NOT (state = PAUSED OR state = DEGRADED)", "ac"),
    ] {
        assert_eq!(all_pages(&world, filtered(filter)).await.0.concat(), expected, "{filter}");
    }
    refused(world.rollouts().list_rollouts(filtered("state = ASLEEP")).await)
        .names_fields(&["filter"])
        .says("at position 9 is no state; there are PROGRESSING, PAUSED, HEALTHY and DEGRADED");
    let first = world.rollouts().list_rollouts(filtered("state:*")).await.unwrap().into_inner();
    let page_token = first.next_page_token;
    let other = v1::ListRolloutsRequest { page_token, ..filtered("state = PAUSED") };
    refused(world.rollouts().list_rollouts(other).await).names_fields(&["page_token"]);
}

#[tokio::test(start_paused = true)]
async fn the_server_says_what_it_is() {
    let world = World::new().await;
    let info = world.server().get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((&*info.version, &*info.commit, &*info.cluster), ("1.2.3", "abc", "https://embedded"));
    assert!(info.kubernetes_version.starts_with("v1."), "{}", info.kubernetes_version);
    assert!(info.features.contains(&"canary".to_owned()));
    let leader = info.leader.expect("it leads by itself");
    assert!(leader.is_this_process && leader.acquire_time.is_some());
}

#[tokio::test(start_paused = true)]
async fn namespaces_are_listed_with_their_rollouts() {
    let world = World::new().await;
    for app in ["a", "b"] {
        world.store(&manifest(app)).await;
    }
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListNamespacesRequest { page_size: 2, page_token };
        let page = world.server().list_namespaces(request).await.unwrap().into_inner();
        names.extend(page.namespaces.into_iter().map(|namespace| (namespace.name, namespace.rollout_count)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let expected = [
        ("namespaces/default", 0),
        ("namespaces/kube-node-lease", 0),
        ("namespaces/kube-public", 0),
        ("namespaces/kube-system", 0),
        ("namespaces/shop", 2),
    ];
    assert_eq!(names, expected.map(|(name, count)| (name.to_owned(), count)));
    let negative = v1::ListNamespacesRequest { page_size: -3, ..Default::default() };
    refused(world.server().list_namespaces(negative).await).names_fields(&["page_size"]).says("-3");
}

#[tokio::test(start_paused = true)]
async fn a_confined_server_lists_its_own_namespace() {
    let wanted = Wanted { namespace: Some("shop".to_owned()), ..Wanted::default() };
    let world = World::wanted(wanted).await;
    let answer = world.server().list_namespaces(v1::ListNamespacesRequest::default()).await.unwrap();
    let names: Vec<String> =
        answer.into_inner().namespaces.into_iter().map(|namespace| namespace.name).collect();
    assert_eq!(names, ["namespaces/shop"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_not_listed_yet_says_so() {
    let world = World::not_listed(Wanted { reconcile: Reconcile::AnalysisOnly, ..Wanted::default() }).await;
    let refusal =
        refused(world.rollouts().get_rollout(get(&name("web"))).await).is(Code::Unavailable, "NOT_READY");
    assert!(refusal.retry_after().is_some());
    refused(world.rollouts().list_rollouts(list("namespaces/-")).await).is(Code::Unavailable, "NOT_READY");
    assert!(!rolloutd::api::missing(&world.control_plane.store).is_empty());
    world.control_plane.store.has_listed().await;
    world.rollouts().list_rollouts(list("namespaces/-")).await.expect("it has listed by now");
}

#[tokio::test(start_paused = true)]
async fn annotations_show_what_is_the_users() {
    let world = World::new().await;
    let mut web = manifest("web");
    web["metadata"]["annotations"] =
        json!({ "team": "shop", keys::REVISION: "3", keys::LAST_APPLIED_CONFIGURATION: "{}" });
    world.store(&web).await;
    let shown = world.rollouts().get_rollout(get(&name("web"))).await.unwrap().into_inner().rollout.unwrap();
    assert_eq!(shown.annotations, [("team".to_owned(), "shop".to_owned())].into());
    assert_eq!(shown.status.unwrap().revision, 3);
}
