//! Spans, as a collector gets them.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::process::{ROLLOUTD, succeeds};

#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request.into_inner().resource_spans.into_iter();
        let spans = spans.flat_map(|of| of.scope_spans).flat_map(|of| of.spans);
        self.spans.lock().unwrap().extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// The methods that spans are about.
    fn methods(&self) -> BTreeSet<String> {
        let spans = self.spans.lock().unwrap();
        let attributes = spans.iter().flat_map(|span| &span.attributes);
        let methods = attributes.filter(|attribute| attribute.key == "rpc.method");
        methods.filter_map(|attribute| Some(format!("{:?}", attribute.value.as_ref()?))).collect()
    }
}

#[test]
fn a_collector_gets_a_span_for_each_rpc_plan_and_write() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let collector = Collector::default();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
    runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let arguments =
        ["dev", "--demo", "--once", "--speed", "20", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let run = || {
        let mut demo = Command::new(ROLLOUTD);
        demo.args(arguments).env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"));
        succeeds(demo.stderr(Stdio::null()));
    };
    // A stream that ends with the process may end after the last spans are sent.
    for _ in 0..3 {
        run();
        if collector.methods().iter().any(|found| found.contains("WatchRolloutTree")) {
            break;
        }
    }
    let methods = collector.methods();
    for method in ["ApplyManifest", "SetRolloutImage", "PromoteRollout", "WatchRolloutTree"] {
        assert!(methods.iter().any(|found| found.contains(method)), "{method}: {methods:?}");
    }
    let spans = collector.spans.lock().unwrap();
    let names: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert!(names.is_superset(&BTreeSet::from(["rpc", "plan", "write"])), "{names:?}");
}
