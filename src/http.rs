//! Probes and metrics over plain HTTP, beside the gRPC API.
//!
//! `/healthz` says that the process runs, and nothing else: a process whose cluster is away must not be restarted for it.
//! `/readyz` says whether it can serve, and names what is missing. `/metrics` is for Prometheus. Knows no cluster: the
//! composition root says what is missing.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::telemetry::Metrics;

/// The type of OpenMetrics' text form.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long open connections may last after the end: a scrape takes milliseconds.
const DRAIN: Duration = Duration::from_secs(2);

/// Names what this process lacks to serve; empty when it is ready.
pub type Missing = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// `/healthz` (also `/livez`) and `/readyz`.
pub fn probes(missing: Missing) -> Router {
    let ready = async move || {
        let missing = missing();
        match missing.as_slice() {
            [] => (StatusCode::OK, "ok".to_owned()),
            _ => (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n")),
        }
    };
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/livez", get(async || "ok"))
        .route("/readyz", get(ready))
}

/// `/metrics`.
pub fn metrics(metrics: Metrics) -> Router {
    let text = async move || ([(header::CONTENT_TYPE, OPENMETRICS)], metrics.text()).into_response();
    Router::new().route("/metrics", get(text))
}

/// Serves until `stop` is cancelled.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let shutdown = stop.clone();
    let serving = axum::serve(listener, router)
        .with_graceful_shutdown(async move { shutdown.cancelled().await })
        .into_future();
    let late = async {
        stop.cancelled().await;
        crate::clock::real_sleep(DRAIN).await;
    };
    tokio::select! {
        // It never fails: a connection that cannot be accepted is tried again.
        _ = serving => {}
        () = late => {}
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(router: Router, path: &str) -> (StatusCode, Option<String>, String) {
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let content_type = response.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.map(|value| value.to_str().unwrap().to_owned());
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, content_type, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn liveness_does_not_depend_on_what_is_missing() {
        let router = probes(Arc::new(|| vec!["the API server does not answer".to_owned()]));
        for path in ["/healthz", "/livez"] {
            let (status, _, body) = ask(router.clone(), path).await;
            assert_eq!((status, body.as_str()), (StatusCode::OK, "ok"));
        }
    }

    #[tokio::test]
    async fn readiness_names_all_that_is_missing() {
        let (status, _, body) =
            ask(probes(Arc::new(|| vec!["this".to_owned(), "and that".to_owned()])), "/readyz").await;
        assert_eq!((status, body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "this\nand that"));
        let (status, _, body) = ask(probes(Arc::new(Vec::new)), "/readyz").await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "ok"));
    }

    #[tokio::test]
    async fn metrics_are_openmetrics() {
        let counted = Metrics::default();
        counted.event("shop", "web", "Normal", "RolloutCompleted");
        let (status, content_type, body) = ask(metrics(counted), "/metrics").await;
        assert_eq!((status, content_type.as_deref()), (StatusCode::OK, Some(OPENMETRICS)));
        assert!(body.contains("rollout_events_total{"), "{body}");
        assert!(body.ends_with("# EOF\n"), "{body}");
    }
}
