//! Whatever is sent, there is an answer with a code, and nothing breaks.

use axum::body::Body;
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use prost::Message as _;
use rolloutd::pb::{self, v1};
use tokio::runtime::Runtime;
use tonic::{Code, Response, Status};
use tower::ServiceExt as _;
use v1::set_rollout_image_request::ContainerImage;

use crate::world::{Rollouts, World, apply_request, manifest, name, resource};

/// How many random requests each test sends: enough to meet every parser, few enough for a second or two.
const CASES: u32 = 96;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// The paths of all methods, and whether they stream.
fn methods() -> Vec<(String, bool)> {
    let set = prost_types::FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap();
    let mut methods = Vec::new();
    for file in set.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                methods.push((path, method.server_streaming()));
            }
        }
    }
    methods
}

/// Sends bytes as the message of a method, and gives the code of the answer.
async fn send(router: axum::Router, path: &str, streams: bool, bytes: &[u8]) -> Code {
    let mut frame = vec![0];
    frame.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    frame.extend(bytes);
    let request =
        http::Request::post(path).header("content-type", "application/grpc").body(Body::from(frame));
    let response = router.oneshot(request.unwrap()).await.unwrap();
    let head = Status::from_header_map(response.headers());
    if streams || head.is_some() {
        return head.map_or(Code::Ok, |status| status.code());
    }
    let whole = response.into_body().collect().await.unwrap();
    let status = whole.trailers().and_then(Status::from_header_map);
    status.expect("every answer has a code").code()
}

#[test]
fn random_bytes_are_answered_by_every_method() {
    let runtime = runtime();
    let world = runtime.block_on(World::new());
    let router = world.api.router();
    let methods = methods();
    assert!(methods.len() > 25);
    let bytes = proptest::collection::vec(any::<u8>(), 0..64);
    let strategy = (proptest::sample::select(methods), bytes);
    let mut runner =
        TestRunner::new(Config { cases: 4 * CASES, failure_persistence: None, ..Config::default() });
    runner
        .run(&strategy, |((path, streams), bytes)| {
            let code = runtime.block_on(send(router.clone(), &path, streams, &bytes));
            prop_assert!(![Code::Internal, Code::Unknown].contains(&code), "{path}: {code:?}");
            Ok(())
        })
        .unwrap();
}

/// Text that is nearly what is expected somewhere.
fn nearly() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        "[a-z]{1,3}",
        "\\PC{0,8}",
        Just("namespaces".to_owned()),
        Just("rollouts".to_owned()),
        Just("shop".to_owned()),
        Just("web".to_owned()),
        Just("-".to_owned()),
        Just("spec".to_owned()),
        Just("canary".to_owned()),
        Just("steps".to_owned()),
        Just("in".to_owned()),
        Just("*".to_owned()),
    ];
    let separator = prop_oneof![
        Just("/"),
        Just("."),
        Just(","),
        Just("="),
        Just("!"),
        Just("("),
        Just(")"),
        Just(" "),
        Just("[0]"),
        Just("\u{0}"),
        Just("\n"),
        Just("%2f"),
        Just(":"),
    ];
    proptest::collection::vec((word, separator), 0..7)
        .prop_map(|parts| parts.into_iter().map(|(word, separator)| word + separator).collect())
}

/// Checks an answer to a request that was made up.
fn orderly<A>(answer: Result<Response<A>, Status>) -> Result<(), TestCaseError> {
    match answer {
        Ok(_) => Ok(()),
        Err(status) => {
            prop_assert!(![Code::Internal, Code::Unknown].contains(&status.code()), "{status}");
            prop_assert!(!status.message().is_empty());
            Ok(())
        }
    }
}

/// Reads that have the text somewhere.
async fn read(mut client: Rollouts, text: String, number: i32) -> Result<(), TestCaseError> {
    let get = v1::GetRolloutRequest { name: text.clone(), view: number, ..Default::default() };
    orderly(client.get_rollout(get).await)?;
    orderly(client.get_rollout_tree(v1::GetRolloutTreeRequest { name: text.clone() }).await)?;
    for (parent, label_selector, page_token) in
        [(&*text, "", ""), ("namespaces/-", &*text, ""), ("namespaces/-", "", &*text)]
    {
        let list = v1::ListRolloutsRequest {
            parent: parent.to_owned(),
            label_selector: label_selector.to_owned(),
            page_token: page_token.to_owned(),
            page_size: number,
            ..Default::default()
        };
        orderly(client.list_rollouts(list).await)?;
    }
    Ok(())
}

/// Mutations that have the text somewhere, and would write nothing.
async fn mutate(mut client: Rollouts, text: String, number: i32) -> Result<(), TestCaseError> {
    let update = v1::UpdateRolloutRequest {
        rollout: Some(v1::Rollout { name: name("web"), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec![text.clone()] }),
        validate_only: true,
        ..Default::default()
    };
    orderly(client.update_rollout(update).await)?;
    let image = ContainerImage { container: text.clone(), image: text.clone() };
    let set = v1::SetRolloutImageRequest {
        name: name("web"),
        images: vec![image],
        validate_only: true,
        ..Default::default()
    };
    orderly(client.set_rollout_image(set).await)?;
    let undo = v1::RollbackRolloutRequest {
        name: name("web"),
        from: Some(v1::rollback_rollout_request::From { pod_template_hash: text.clone() }),
        to_revision: i64::from(number),
        ..Default::default()
    };
    orderly(client.rollback_rollout(undo).await)?;
    let seen =
        v1::promote_rollout_request::From { pod_template_hash: "canary".to_owned(), step_index: Some(1) };
    let promote = v1::PromoteRolloutRequest {
        name: name("web"),
        from: Some(seen),
        target: Some(v1::promote_rollout_request::Target::ToStepIndex(number)),
        validate_only: true,
        request_id: text.clone(),
        ..Default::default()
    };
    orderly(client.promote_rollout(promote).await)?;
    let create = v1::CreateRolloutRequest {
        parent: "namespaces/shop".to_owned(),
        rollout: Some(resource(&text)),
        rollout_id: text,
        validate_only: true,
        ..Default::default()
    };
    orderly(client.create_rollout(create).await)
}

#[test]
fn made_up_texts_are_answered_wherever_they_stand() {
    let runtime = runtime();
    let world = runtime.block_on(async {
        let world = World::new().await;
        world.in_the_middle("web", 1).await;
        world
    });
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let call = |(text, number): (String, i32)| {
        runtime.block_on(read(world.rollouts(), text.clone(), number))?;
        runtime.block_on(mutate(world.rollouts(), text, number))
    };
    runner.run(&(nearly(), any::<i32>()), call).unwrap();
}

/// A manifest with one value exchanged, removed or repeated.
fn disturbed() -> impl Strategy<Value = String> {
    let text = manifest("web").to_string();
    let length = text.len();
    let pieces = prop_oneof![
        Just("null".to_owned()),
        Just("{}".to_owned()),
        Just("[]".to_owned()),
        Just("-1".to_owned()),
        Just("1e400".to_owned()),
        Just("18446744073709551616".to_owned()),
        Just("&a *a".to_owned()),
        Just("\n---\n".to_owned()),
        Just("!!binary x".to_owned()),
        Just("\u{feff}".to_owned()),
        Just("<<: *x".to_owned()),
        "\\PC{0,6}",
    ];
    (0..length, 0..length, pieces).prop_map(move |(start, cut, piece)| {
        let end = (start + cut % 20).min(length);
        format!("{}{piece}{}", &text[..start], &text[end..])
    })
}

#[test]
fn disturbed_manifests_are_answered() {
    let runtime = runtime();
    let world = runtime.block_on(async {
        let world = World::new().await;
        world.store_rollout("web").await;
        world
    });
    let mut runner =
        TestRunner::new(Config { cases: 4 * CASES, failure_persistence: None, ..Config::default() });
    let call = |manifest: String| {
        let mut client = world.rollouts();
        let request = v1::ApplyManifestRequest { validate_only: true, ..apply_request(&manifest) };
        async move { orderly(client.apply_manifest(request).await) }
    };
    runner.run(&prop_oneof![disturbed(), nearly()], |manifest| runtime.block_on(call(manifest))).unwrap();
}
