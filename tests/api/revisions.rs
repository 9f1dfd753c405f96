//! ListRevisions, GetRevision, DiffRevisions, and what a dry run of ApplyManifest would change.

use rolloutd::crd::keys;
use rolloutd::pb::v1;
use serde_json::json;
use tonic::Code;
use v1::applied_object::Outcome;
use v1::replica_set_summary::Role;

use crate::expect::refused;
use crate::world::{World, apply_request, malformed, manifest, name};

/// An update from revision 3 (`stable`, once 1) to 4 (`canary`); 2 is an old one.
async fn three() -> World {
    let world = World::new().await;
    world.in_the_middle("web", 1).await;
    world.store_set("web", "old", 2, "web:2").await;
    world.store_set("web", "stable", 3, "web:1").await;
    world.store_set("web", "canary", 4, "web:3").await;
    let sets = world.objects("apps/v1", "ReplicaSet", Some("shop"));
    let history = json!({ "metadata": { "annotations": { keys::REVISION_HISTORY: "1" } } });
    let (params, patch) = (kube::api::PatchParams::default(), kube::api::Patch::Merge(&history));
    sets.patch("web-stable", &params, &patch).await.unwrap();
    let key = rolloutd::store::Key::new("shop", "web-stable");
    while world.control_plane.store.sets.get(&key).unwrap().set.annotations.len() < 2 {
        rolloutd::clock::real_sleep(std::time::Duration::from_millis(1)).await;
    }
    world
}

fn list(page_size: i32, page_token: &str) -> v1::ListRevisionsRequest {
    v1::ListRevisionsRequest {
        parent: name("web"),
        page_size,
        page_token: page_token.to_owned(),
        ..Default::default()
    }
}

fn get(revision: &str) -> v1::GetRevisionRequest {
    v1::GetRevisionRequest { name: format!("{}/revisions/{revision}", name("web")), ..Default::default() }
}

fn diff(from_revision: i64, to_revision: i64) -> v1::DiffRevisionsRequest {
    v1::DiffRevisionsRequest { name: name("web"), from_revision, to_revision }
}

#[tokio::test(start_paused = true)]
async fn revisions_are_listed_newest_first_with_what_they_are() {
    let world = three().await;
    let answer = world.rollouts().list_revisions(list(0, "")).await.unwrap().into_inner();
    let shown: Vec<_> = answer
        .revisions
        .iter()
        .map(|revision| {
            (revision.revision, revision.role(), revision.images.join(","), &*revision.former_revisions)
        })
        .collect();
    assert_eq!(
        shown,
        [
            (4, Role::Canary, "web:3".to_owned(), &[][..]),
            (3, Role::Stable, "web:1".to_owned(), &[1][..]),
            (2, Role::Old, "web:2".to_owned(), &[][..]),
        ]
    );
    let first = &answer.revisions[0];
    assert_eq!(
        (&*first.name, &*first.pod_template_hash),
        (&*format!("{}/revisions/4", name("web")), "canary")
    );
    assert!(first.create_time.is_some() && first.template.is_none());
    assert_eq!(answer.next_page_token, "");

    let mut found = Vec::new();
    let mut token = String::new();
    for pages in 1.. {
        let page = world.rollouts().list_revisions(list(1, &token)).await.unwrap().into_inner();
        found.extend(page.revisions.iter().map(|revision| revision.revision));
        token = page.next_page_token;
        if token.is_empty() {
            assert_eq!(pages, 3);
            break;
        }
    }
    assert_eq!(found, [4, 3, 2]);
    let full = v1::ListRevisionsRequest { view: v1::View::Full.into(), ..list(0, "") };
    let answer = world.rollouts().list_revisions(full).await.unwrap().into_inner();
    assert!(answer.revisions.iter().all(|revision| revision.template.is_some()));
}

#[tokio::test(start_paused = true)]
async fn a_revision_is_read_by_its_number_now_or_formerly() {
    let world = three().await;
    for (number, revision) in [("3", 3), ("1", 3), ("4", 4)] {
        let answer = world.rollouts().get_revision(get(number)).await.unwrap().into_inner();
        assert_eq!(answer.revision.unwrap().revision, revision, "{number}");
    }
    let revision = world.rollouts().get_revision(get("4")).await.unwrap().into_inner().revision.unwrap();
    let template = format!("{:?}", revision.template.unwrap());
    assert!(template.contains("web:3") && !template.contains(keys::POD_TEMPLATE_HASH), "{template}");
    let basic = v1::GetRevisionRequest { view: v1::View::Basic.into(), ..get("4") };
    let answer = world.rollouts().get_revision(basic).await.unwrap().into_inner();
    assert!(answer.revision.unwrap().template.is_none());

    refused(world.rollouts().get_revision(get("9")).await)
        .is(Code::NotFound, "REVISION_NOT_FOUND")
        .lacks_object("rolloutd.dev/Revision", &format!("{}/revisions/9", name("web")))
        .says("there is no revision 9; kept revisions: 4, 3, 2");
    for malformed in ["0", "x", "", "1/2"] {
        refused(world.rollouts().get_revision(get(malformed)).await).names_fields(&["name"]);
    }
}

#[tokio::test(start_paused = true)]
async fn two_revisions_are_compared_by_path_and_by_line() {
    let world = three().await;
    let answer = world.rollouts().diff_revisions(diff(0, 0)).await.unwrap().into_inner();
    let changes: Vec<_> =
        answer.changes.iter().map(|change| (&*change.path, &*change.from_json, &*change.to_json)).collect();
    assert_eq!(changes, [("spec.containers[0].image", "\"web:1\"", "\"web:3\"")]);
    let diff_text = &answer.unified_diff;
    for line in
        ["--- revision 3 (stable)", "+++ revision 4 (canary)", "-  - image: web:1", "+  - image: web:3"]
    {
        assert!(diff_text.lines().any(|found| found.trim_end() == line), "{line}\n{diff_text}");
    }
    let answer = world.rollouts().diff_revisions(diff(2, 1)).await.unwrap().into_inner();
    assert_eq!((&*answer.changes[0].from_json, &*answer.changes[0].to_json), ("\"web:2\"", "\"web:1\""));
    let same = world.rollouts().diff_revisions(diff(4, 4)).await.unwrap().into_inner();
    assert_eq!(same, v1::DiffRevisionsResponse::default());

    refused(world.rollouts().diff_revisions(diff(-1, 0)).await).names_fields(&["from_revision"]);
    refused(world.rollouts().diff_revisions(diff(0, -1)).await).names_fields(&["to_revision"]);
    refused(world.rollouts().diff_revisions(diff(9, 0)).await).is(Code::NotFound, "REVISION_NOT_FOUND");
    world.seen("web", &json!({ "stableRS": "" })).await;
    refused(world.rollouts().diff_revisions(diff(0, 0)).await)
        .is(Code::NotFound, "REVISION_NOT_FOUND")
        .says("no revision is stable");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_has_no_revisions_and_what_is_malformed_keeps_its_own() {
    let world = three().await;
    let nowhere = || name("nowhere");
    let refusals = [
        refused(
            world
                .rollouts()
                .list_revisions(v1::ListRevisionsRequest { parent: nowhere(), ..list(0, "") })
                .await,
        ),
        refused(
            world.rollouts().diff_revisions(v1::DiffRevisionsRequest { name: nowhere(), ..diff(0, 0) }).await,
        ),
        refused(
            world
                .rollouts()
                .get_revision(v1::GetRevisionRequest {
                    name: format!("{}/revisions/1", nowhere()),
                    ..get("1")
                })
                .await,
        ),
    ];
    for refusal in refusals {
        refusal.lacks_object("rolloutd.dev/Rollout", &nowhere());
    }
    for (request, field) in [
        (v1::ListRevisionsRequest { parent: "web".to_owned(), ..list(0, "") }, "parent"),
        (list(-1, ""), "page_size"),
        (list(1, "x"), "page_token"),
        (v1::ListRevisionsRequest { view: 9, ..list(0, "") }, "view"),
    ] {
        refused(world.rollouts().list_revisions(request).await).names_fields(&[field]);
    }
    world.patch("web", &malformed()).await;
    let answer = world.rollouts().list_revisions(list(0, "")).await.unwrap().into_inner();
    let roles: Vec<Role> = answer.revisions.iter().map(v1::Revision::role).collect();
    assert_eq!(roles, [Role::Unspecified; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_shows_what_it_would_change() {
    let world = World::new().await;
    let dry = |manifest: &str| v1::ApplyManifestRequest { validate_only: true, ..apply_request(manifest) };
    let web = manifest("web").to_string();
    let answer = world.untouched(world.rollouts().apply_manifest(dry(&web))).await.unwrap().into_inner();
    let created = &answer.objects[0].unified_diff;
    assert!(created.starts_with(
        "--- namespaces/shop/rollouts/web (stored)\n+++ namespaces/shop/rollouts/web (applied)\n@@ -0,0 "
    ));
    assert!(created.contains("\n+kind: Rollout\n") && created.contains("\n+  replicas: 5\n"), "{created}");
    for hidden in ["uid", "creationTimestamp", "last-applied", "resourceVersion", "status"] {
        assert!(!created.contains(hidden), "{hidden}\n{created}");
    }

    let answer = world.apply(&web).await;
    assert_eq!(answer.objects[0].unified_diff, "", "only a dry run shows it");
    world.seen("web", &json!({ "phase": "Healthy" })).await;
    let mut changed = manifest("web");
    changed["spec"]["replicas"] = json!(7);
    let both = format!("{changed}\n{}", manifest("other"));
    let answer = world.untouched(world.rollouts().apply_manifest(dry(&both))).await.unwrap().into_inner();
    let diff = &answer.objects[0].unified_diff;
    let lines: Vec<&str> = diff.lines().skip(2).filter(|line| line.starts_with(['+', '-'])).collect();
    assert_eq!(lines, ["-  replicas: 5", "+  replicas: 7"], "{diff}");
    assert!(answer.objects[1].unified_diff.contains("other"));

    let answer = world.rollouts().apply_manifest(dry(&web)).await.unwrap().into_inner();
    assert_eq!((answer.objects[0].outcome(), &*answer.objects[0].unified_diff), (Outcome::Unchanged, ""));
}
