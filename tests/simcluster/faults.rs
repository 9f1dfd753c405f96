//! An API server that is hard to work with: requests that fail, answers that are lost, watches that break.
//!
//! Faults are injected between the cluster and the server, every so many requests, so that a run can be repeated.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::client::Body;
use serde_json::json;

use crate::lab::Lab;
use crate::replica_sets::{all_available, set};

/// One request in so many is answered with a server error and not done.
const REFUSED_EVERY: u64 = 7;
/// One request in so many is done, and its answer is lost.
const LOST_EVERY: u64 = 5;
/// One watch in so many is told that its version is too old.
const EXPIRED_EVERY: u64 = 3;
/// A watch breaks after so many chunks.
const WATCH_CHUNKS: usize = 4;
/// Watches lag behind answers by more than a retry takes, so that the cluster must not trust them.
const WATCH_LAG: Duration = Duration::from_millis(150);

type Answer = Response<UnsyncBoxBody<Bytes, kube::Error>>;

/// A client whose every so many requests go wrong.
fn faulty(client: Client) -> Client {
    let (requests, watches) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        let counter = if is_watch(&request) { &watches } else { &requests };
        let count = counter.fetch_add(1, Ordering::Relaxed);
        async move {
            if is_watch(&request) {
                return watch(client, request, count).await;
            }
            if count % REFUSED_EVERY == REFUSED_EVERY - 1 {
                return Ok(status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"));
            }
            let writes = request.method() != Method::GET;
            let response = client.send(request).await?;
            if writes && count % LOST_EVERY == LOST_EVERY - 1 {
                return Err(kube::Error::Service("the answer is lost".into()));
            }
            Ok(response.map(BodyExt::boxed_unsync))
        }
    });
    Client::new(service, "default")
}

fn is_watch(request: &Request<Body>) -> bool {
    request.uri().query().is_some_and(|query| query.contains("watch=true"))
}

async fn watch(client: Client, request: Request<Body>, count: u64) -> Result<Answer, kube::Error> {
    if count % EXPIRED_EVERY == EXPIRED_EVERY - 1 {
        return Ok(status(StatusCode::GONE, "Expired"));
    }
    let response = client.send(request).await?;
    let broken = |body: Body| {
        let late = |chunk| async {
            rolloutd::clock::real_sleep(WATCH_LAG).await;
            chunk
        };
        let chunks = body.into_data_stream().take(WATCH_CHUNKS).then(late);
        StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
    };
    Ok(response.map(broken))
}

fn status(code: StatusCode, reason: &str) -> Answer {
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": "injected",
        "code": code.as_u16(),
    });
    let body = Full::from(status.to_string()).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = code;
    response
}

pub(crate) async fn no_pod_is_made_twice_and_all_goes_well_in_the_end(lab: Lab) {
    let mut cluster = lab.cluster_alone().await;
    let (mut sets, mut pods) = (lab.observe::<ReplicaSet>().await, lab.observe::<Pod>().await);
    cluster.stop().await;
    cluster.start_over(faulty);
    lab.create::<ReplicaSet>(set("web", 6, "web:1", &[])).await;
    all_available(&mut sets, "web", 6).await;
    pods.until("six pods are there", |pods| pods.len() == 6).await;
    assert_eq!(pods.ever(), 6, "no pod too many was ever made");
    for (replicas, ever) in [(2, 6), (8, 12), (3, 12)] {
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        lab.api::<ReplicaSet>().patch("web", &PatchParams::default(), &patch).await.unwrap();
        all_available(&mut sets, "web", replicas).await;
        let wanted = usize::try_from(replicas).unwrap();
        pods.until("as many pods as wanted are there", |pods| pods.len() == wanted).await;
        assert_eq!(pods.ever(), ever, "no pod too many was made or deleted for {replicas}");
    }
    lab.api::<ReplicaSet>().delete("web", &DeleteParams::foreground()).await.unwrap();
    sets.until("the set is gone", BTreeMap::is_empty).await;
    pods.until("its pods are gone", BTreeMap::is_empty).await;
    assert_eq!(pods.ever(), 12);
    cluster.stop().await;
    cluster.start();
}
