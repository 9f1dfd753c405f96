//! Over TCP: health, reflection, and an orderly end.

use std::net::SocketAddr;
use std::time::Duration;

use rolloutd::api::Limits;
use rolloutd::pb::v1;
use rolloutd::pb::v1::rollout_service_client::RolloutServiceClient;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::{v1 as reflection, v1alpha};

use crate::expect::Refusal;
use crate::world::{Wanted, World, name};

/// How long anything may take; real time, on a machine that is shared.
const PATIENCE: Duration = Duration::from_secs(20);

struct Served {
    world: World,
    address: SocketAddr,
    channel: Channel,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

async fn serve(world: World) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let (api, until) = (world.api.clone(), stop.clone());
    let serving = tokio::spawn(async move { api.serve(listener, until).await });
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    Served { world, address, channel, stop, serving }
}

async fn check(channel: &Channel, service: &str) -> Result<ServingStatus, tonic::Status> {
    let request = HealthCheckRequest { service: service.to_owned() };
    Ok(HealthClient::new(channel.clone()).check(request).await?.into_inner().status())
}

async fn next_health(health: &mut Streaming<HealthCheckResponse>) -> Option<ServingStatus> {
    let message = tokio::time::timeout(PATIENCE, health.message()).await.expect("health is pushed");
    message.unwrap().map(|response| response.status())
}

#[tokio::test]
async fn a_client_over_tcp_is_served_and_drained() {
    let served = serve(World::new().await).await;
    served.world.store_rollout("web").await;
    let mut client = RolloutServiceClient::new(served.channel.clone());
    let get = v1::GetRolloutRequest { name: name("web"), ..Default::default() };
    client.get_rollout(get.clone()).await.unwrap();

    for service in ["", "rolloutd.v1.RolloutService", "rolloutd.v1.ServerService"] {
        assert_eq!(check(&served.channel, service).await.unwrap(), ServingStatus::Serving, "{service:?}");
    }
    assert_eq!(check(&served.channel, "nobody").await.unwrap_err().code(), Code::NotFound);
    let request = HealthCheckRequest { service: String::new() };
    let mut health = HealthClient::new(served.channel.clone()).watch(request).await.unwrap().into_inner();
    assert_eq!(next_health(&mut health).await, Some(ServingStatus::Serving));
    let request = v1::WatchRolloutsRequest { parent: "namespaces/-".to_owned(), ..Default::default() };
    let mut rollouts = client.watch_rollouts(request).await.unwrap().into_inner();
    let request = v1::WatchRolloutTreeRequest { name: name("web") };
    let mut tree = client.watch_rollout_tree(request).await.unwrap().into_inner();
    tree.message().await.unwrap().unwrap();

    served.stop.cancel();
    assert_eq!(next_health(&mut health).await, Some(ServingStatus::NotServing));
    let drained = async {
        let rollouts = loop {
            if let Err(status) = rollouts.message().await {
                break status;
            }
        };
        let tree = loop {
            if let Err(status) = tree.message().await {
                break status;
            }
        };
        [rollouts, tree]
    };
    for end in tokio::time::timeout(PATIENCE, drained).await.expect("watches end") {
        let end = Refusal::of(&end).is(Code::Unavailable, "DRAINING");
        assert!(end.retry_after().is_some());
    }
    tokio::time::timeout(PATIENCE, served.serving).await.expect("the drain ends").unwrap();
    assert!(client.get_rollout(get).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_drain_waits_for_no_client_longer_than_its_limit() {
    let limits = Limits { drain: Duration::from_millis(300), ..Wanted::default().limits };
    let served = serve(World::wanted(Wanted { limits, ..Wanted::default() }).await).await;
    // One that has connected and says nothing, not even that it speaks HTTP/2; and one that never reads its watch.
    let silent = TcpStream::connect(served.address).await.unwrap();
    let request = v1::WatchRolloutsRequest { parent: "namespaces/-".to_owned(), ..Default::default() };
    let mut client = RolloutServiceClient::new(served.channel.clone());
    let unread = client.watch_rollouts(request).await.unwrap();
    let began = tokio::time::Instant::now();
    served.stop.cancel();
    tokio::time::timeout(PATIENCE, served.serving).await.expect("the drain is bounded").unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    drop((silent, unread));
}

#[tokio::test]
async fn reflection_lists_and_describes_everything() {
    let served = serve(World::new().await).await;
    let ask = |message_request| reflection::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message_request),
    };
    let requests = tokio_stream::iter([
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol("rolloutd.v1.RolloutService".to_owned())),
    ]);
    let mut client = ServerReflectionClient::new(served.channel.clone());
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("services are listed")
    };
    let mut services: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    services.sort();
    for service in ["grpc.health.v1.Health", "rolloutd.v1.RolloutService", "rolloutd.v1.ServerService"] {
        assert!(services.iter().any(|listed| listed == service), "{services:?}");
    }
    let Some(MessageResponse::FileDescriptorResponse(files)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("a service is described")
    };
    assert!(!files.file_descriptor_proto.is_empty());

    let list = v1alpha::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(served.channel.clone());
    let requests = tokio_stream::iter([request]);
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().unwrap().message_response.is_some());
    served.stop.cancel();
}

#[tokio::test]
async fn health_tells_when_the_caches_have_listed() {
    let served = serve(World::not_listed(Wanted::default()).await).await;
    let request = HealthCheckRequest { service: "rolloutd.v1.RolloutService".to_owned() };
    let mut health = HealthClient::new(served.channel.clone()).watch(request).await.unwrap().into_inner();
    loop {
        match next_health(&mut health).await {
            Some(ServingStatus::Serving) => break,
            Some(ServingStatus::NotServing) => {}
            other => panic!("{other:?}"),
        }
    }
    served.stop.cancel();
}
