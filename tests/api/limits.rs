//! Limits: answers, never a hang; and a small stack.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::BodyExt as _;
use prost::Message as _;
use prost_types::value::Kind;
use rolloutd::api::{Api, Config, Limits, ServerFacts};
use rolloutd::pb::v1;
use rolloutd::pb::v1::rollout_service_client::RolloutServiceClient;
use serde_json::json;
use tokio::runtime::{Handle, Runtime};
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::{Code, Request, Status};
use tower::{Service, ServiceExt as _};

use crate::expect::refused;
use crate::world::{Wanted, World, apply_request, manifest, name, resource};

/// The smallest stack that all methods must make do with: a quarter of what tokio gives its threads.
const STACK: usize = 512 * 1024;

/// The stack that tokio gives its threads.
const THREADS_STACK: usize = 4 * STACK;

/// The stack of what is not looked at here: clients, and the cluster.
const LARGE_STACK: usize = 64 * STACK;

fn get() -> v1::GetRolloutRequest {
    v1::GetRolloutRequest { name: name("web"), ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn more_than_the_rate_is_refused_with_a_pause() {
    let limits = Limits { requests_per_second: 1.0, burst: 3, ..Limits::default() };
    let world = World::wanted(Wanted { limits, ..Wanted::default() }).await;
    world.store_rollout("web").await;
    for _ in 0..3 {
        world.rollouts().get_rollout(get()).await.unwrap();
    }
    let refusal =
        refused(world.rollouts().get_rollout(get()).await).is(Code::ResourceExhausted, "TOO_MANY_REQUESTS");
    let pause = refusal.retry_after().expect("it says how long to wait");
    rolloutd::clock::real_sleep(pause + Duration::from_millis(1)).await;
    world.rollouts().get_rollout(get()).await.expect("it waited as long as it was told");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_full_says_so_and_answers_probes_all_the_same() {
    let limits = Limits { max_requests: 1, requests_per_second: 0.001, burst: 2, ..Limits::default() };
    let world = World::wanted(Wanted { limits, ..Wanted::default() }).await;
    world.in_the_middle("web", 1).await;
    world.patch("web", &json!({ "spec": { "minReadySeconds": 2 } })).await;
    // It waits for a controller, and holds its place.
    let abort = v1::AbortRolloutRequest { name: name("web"), ..Default::default() };
    let mut client = world.rollouts();
    let waiting = client.abort_rollout(abort);
    let others = async {
        rolloutd::clock::real_sleep(Duration::from_millis(100)).await;
        refused(world.rollouts().get_rollout(get()).await)
            .is(Code::ResourceExhausted, "TOO_MANY_REQUESTS")
            .says("at once");
        refused(world.rollouts().get_rollout(get()).await)
            .is(Code::ResourceExhausted, "TOO_MANY_REQUESTS")
            .says("a second");
        for _ in 0..5 {
            let check = tonic_health::pb::HealthCheckRequest { service: String::new() };
            let mut health = tonic_health::pb::health_client::HealthClient::new(world.api.router());
            health.check(check).await.expect("probes are answered");
        }
    };
    let (aborted, ()) = tokio::join!(waiting, others);
    refused(aborted).is(Code::FailedPrecondition, "NOT_OBSERVED");
}

#[tokio::test(start_paused = true)]
async fn every_rpc_is_counted_by_method_and_code() {
    let world = World::new().await;
    world.store_rollout("web").await;
    world.rollouts().get_rollout(get()).await.unwrap();
    let lost = v1::GetRolloutRequest { name: name("lost"), ..Default::default() };
    for _ in 0..2 {
        refused(world.rollouts().get_rollout(lost.clone()).await);
    }
    let text = world.metrics.text();
    let counted = |code: &str| {
        let labels = format!("grpc_method=\"GetRollout\",grpc_code=\"{code}\"}} ");
        let line = text.lines().find_map(|line| Some(line.split_once(&labels)?.1.to_owned()));
        line.unwrap_or_else(|| panic!("{code}: {text}"))
    };
    assert_eq!((counted("OK").as_str(), counted("NOT_FOUND").as_str()), ("1", "2"));
}

#[tokio::test(start_paused = true)]
async fn a_callers_deadline_is_kept() {
    let world = World::new().await;
    world.in_the_middle("web", 1).await;
    world.patch("web", &json!({ "spec": { "minReadySeconds": 2 } })).await;
    // It would wait three seconds for a controller.
    let abort = v1::AbortRolloutRequest { name: name("web"), ..Default::default() };
    let mut request = Request::new(abort);
    request.set_timeout(Duration::from_millis(500));
    let began = tokio::time::Instant::now();
    let answer = world.untouched(world.rollouts().abort_rollout(request)).await;
    let status = answer.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_message_just_below_the_limit_passes() {
    let mut web = manifest("web");
    web["metadata"]["annotations"] = json!({ "long": "x".repeat(5_000) });
    let request = apply_request(&web.to_string());
    for (room, passes) in [(0, true), (1, false)] {
        let limits = Limits { max_message_bytes: request.encoded_len() - room, ..Wanted::default().limits };
        let world = World::wanted(Wanted { limits, ..Wanted::default() }).await;
        assert_eq!(world.rollouts().apply_manifest(request.clone()).await.is_ok(), passes);
    }
}

#[tokio::test(start_paused = true)]
async fn more_objects_than_one_request_may_apply_are_refused() {
    let world = World::new().await;
    let many = vec![manifest("web").to_string(); 201].join("\n");
    refused(world.untouched(world.rollouts().apply_manifest(apply_request(&many))).await)
        .names_fields(&["manifest"])
        .says("201");
}

/// A value in lists within lists, or objects within objects.
fn nested(depth: usize, wrap: fn(prost_types::Value) -> Kind) -> prost_types::Value {
    (0..depth).fold(prost_types::Value { kind: Some(Kind::BoolValue(true)) }, |below, _| prost_types::Value {
        kind: Some(wrap(below)),
    })
}

fn in_list(below: prost_types::Value) -> Kind {
    Kind::ListValue(prost_types::ListValue { values: vec![below] })
}

fn in_object(below: prost_types::Value) -> Kind {
    Kind::StructValue(prost_types::Struct { fields: [("a".to_owned(), below)].into() })
}

/// Rollouts whose templates are nested this deep.
fn rollouts(depth: usize) -> [v1::Rollout; 2] {
    [in_list, in_object].map(|wrap| {
        let mut rollout = resource("web");
        rollout.name = name("web");
        let template = rollout.spec.as_mut().unwrap().template.as_mut().unwrap();
        template.fields.insert("deep".to_owned(), nested(depth, wrap));
        rollout
    })
}

/// Manifests that are nested this deep, and that are no valid rollouts whatever their depth.
fn manifests(depth: usize) -> [String; 7] {
    let head = "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: new}\nspec: ";
    let indented: String =
        (0..depth.min(2000)).map(|level| format!("\n{}a:", " ".repeat(level + 1))).collect();
    [
        format!("{head}{}{}", "[".repeat(depth), "]".repeat(depth)),
        format!("{head}{}1{}", "{a: ".repeat(depth), "}".repeat(depth)),
        format!("{head}{indented} 1"),
        format!("{{\"kind\": \"Rollout\", \"spec\": {}{}}}", "[".repeat(depth), "]".repeat(depth)),
        format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth)),
        format!("{}{}", "[".repeat(depth), "]".repeat(depth)),
        format!("{{\"kind\": \"List\", \"items\": [{}]}}", "[".repeat(depth)),
    ]
}

/// Calls everything that takes values of any depth.
async fn call_all<T>(mut client: RolloutServiceClient<T>, depth: usize)
where
    T: GrpcService<Body, ResponseBody = Whole, Error = Infallible>,
{
    let rollouts = rollouts(depth);
    for rollout in rollouts {
        let create = v1::CreateRolloutRequest {
            parent: "namespaces/shop".to_owned(),
            rollout_id: "new".to_owned(),
            rollout: Some(rollout.clone()),
            validate_only: true,
            ..Default::default()
        };
        expect_answer(client.create_rollout(create).await.err());
        let update = v1::UpdateRolloutRequest {
            rollout: Some(rollout.clone()),
            validate_only: true,
            ..Default::default()
        };
        expect_answer(client.update_rollout(update).await.err());
        let update = Some(v1::plan_rollout_request::Update::Rollout(rollout));
        let plan = v1::PlanRolloutRequest { update, ..Default::default() };
        expect_answer(client.plan_rollout(plan).await.err());
    }
    let paths = vec![format!("spec{}", ".canary".repeat(depth))];
    let update = v1::UpdateRolloutRequest {
        rollout: Some(v1::Rollout { name: name("web"), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths }),
        ..Default::default()
    };
    refused(client.update_rollout(update).await).names_fields(&["update_mask"]);
}

/// Applies manifests of any depth.
async fn apply_all<T>(mut client: RolloutServiceClient<T>, depth: usize)
where
    T: GrpcService<Body, ResponseBody = Whole, Error = Infallible>,
{
    for manifest in manifests(depth) {
        let refusal = refused(client.apply_manifest(apply_request(&manifest)).await);
        assert_eq!(refusal.code, Code::InvalidArgument, "{}", refusal.message);
    }
}

/// Done, or refused in an orderly way.
fn expect_answer(status: Option<Status>) {
    let Some(status) = status else { return };
    assert!([Code::InvalidArgument, Code::Unimplemented].contains(&status.code()), "{status}");
}

/// A body that has arrived whole.
type Whole = http_body_util::Collected<bytes::Bytes>;

/// The cluster, as a server elsewhere: each request is carried out on its runtime.
fn elsewhere(server: rolloutd::apiserver::Service, runtime: Handle) -> kube::Client {
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let answer = runtime.spawn(server.clone().oneshot(request));
        async move { answer.await.expect("the server answers") }
    });
    kube::Client::new(service, "default")
}

/// The services, each request carried out to its end on their own runtime.
fn served(
    api: &Api,
    runtime: Handle,
) -> impl Service<http::Request<Body>, Response = http::Response<Whole>, Error = Infallible, Future: Send> + Clone
{
    let router = api.router();
    tower::service_fn(move |request: http::Request<Body>| {
        let router = router.clone();
        let answer = runtime.spawn(async move {
            let (parts, body) = router.oneshot(request).await.expect("a router is infallible").into_parts();
            http::Response::from_parts(parts, body.collect().await.expect("the body is whole"))
        });
        async move { Ok(answer.await.expect("the service answers")) }
    })
}

fn runtime(stack: usize) -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).thread_stack_size(stack).enable_all().build().unwrap()
}

/// The services on a runtime of this stack, which holds a rollout `web`; a client and the cluster have a large one.
fn on_a_stack_of<C: Future<Output = ()> + Send>(
    stack: usize,
    calls: impl FnOnce(Api, Handle) -> C + Send + 'static,
) {
    let (large, small) = (runtime(LARGE_STACK), runtime(stack));
    let (outside, inside) = (large.handle().clone(), small.handle().clone());
    let calls = large.spawn(async move {
        let world = World::new().await;
        world.store_rollout("web").await;
        let api = Api::new(Config {
            store: world.control_plane.store.clone(),
            activities: world.control_plane.activities.clone(),
            clock: world.clock.clone(),
            leadership: world.control_plane.leadership.clone(),
            client: elsewhere(world.cluster.service("small"), outside),
            metrics: rolloutd::telemetry::Metrics::default(),
            server: ServerFacts::default(),
            limits: Wanted::default().limits,
        });
        calls(api, inside).await;
    });
    large.block_on(calls).expect("every call is answered");
}

#[test]
fn every_method_decodes_on_a_512_kib_stack() {
    on_a_stack_of(STACK, |api, runtime| async move {
        for depth in [10, 30, 60, 95, 200] {
            call_all(RolloutServiceClient::new(served(&api, runtime.clone())), depth).await;
        }
    });
}

#[test]
fn a_manifest_of_any_depth_is_read_or_refused() {
    on_a_stack_of(THREADS_STACK, |api, runtime| async move {
        for depth in [10, 60, 70, 130, 1_000, 100_000] {
            apply_all(RolloutServiceClient::new(served(&api, runtime.clone())), depth).await;
        }
    });
}

#[test]
fn a_message_that_is_nested_beyond_measure_is_an_error() {
    let raw = std::thread::Builder::new().stack_size(LARGE_STACK).spawn(|| {
        [in_list, in_object].map(|wrap| {
            let mut rollout = resource("web");
            let template = rollout.spec.as_mut().unwrap().template.as_mut().unwrap();
            template.fields.insert("deep".to_owned(), nested(1_000, wrap));
            let request = v1::CreateRolloutRequest { rollout: Some(rollout), ..Default::default() };
            let bytes = request.encode_to_vec();
            // Dropping recurses as well.
            drop(request);
            bytes
        })
    });
    let raw = raw.unwrap().join().unwrap();
    let serving = move || {
        for bytes in raw {
            assert!(v1::CreateRolloutRequest::decode(bytes.as_slice()).is_err());
        }
    };
    std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(serving)
        .unwrap()
        .join()
        .expect("it decodes or refuses");
}
