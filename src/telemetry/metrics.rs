//! What is counted, under Argo Rollouts' names where it has one (contract A11).

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

/// Seconds; planning takes microseconds, RPCs that wait take minutes.
const PLAN_BUCKETS: [f64; 7] = [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.1, 1.0];
const RPC_BUCKETS: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0];

/// Buckets for the length of an update, in seconds: from a rolling update of a few pods to a canary over a working day.
const UPDATE_BUCKETS: [f64; 12] =
    [10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0];

/// All counters of a process; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    reconcile: Family<Named, Histogram, fn() -> Histogram>,
    reconcile_errors: Family<Named, PlainCounter>,
    events: Family<EventLabels, Counter>,
    events_dropped: Counter,
    activities_dropped: Counter,
    requests: Family<RequestLabels, Counter>,
    unlabelled: Family<Named, Gauge>,
    durations: Durations,
    rpcs: Family<RpcLabels, Counter>,
    rpc_seconds: Family<MethodLabels, Histogram, fn() -> Histogram>,
}

/// How long updates took, by how they ended (contract A11).
#[derive(Clone)]
struct Durations {
    total: Family<EndLabels, Histogram, fn() -> Histogram>,
    progression: Family<EndLabels, Histogram, fn() -> Histogram>,
    manual_pause: Family<EndLabels, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    status: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    namespace: String,
    name: String,
    r#type: String,
    reason: String,
}

/// A request to the API server, by what it was about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// The kind, as a plural resource name.
    pub kind: String,
    /// The namespace; empty for all.
    pub namespace: String,
    /// The verb: Get, List, Watch, Create, Update, Patch, Delete.
    pub verb: String,
    /// The HTTP status code.
    pub status_code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    grpc_service: String,
    grpc_method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RpcLabels {
    grpc_service: String,
    grpc_method: String,
    grpc_code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: String,
    commit: String,
}

/// A counter whose name does not end in `_total`, since Argo Rollouts' does not either.
#[derive(Clone, Debug, Default)]
struct PlainCounter(Gauge<u64, AtomicU64>);

impl EncodeMetric for PlainCounter {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Unknown
    }
}

impl TypedMetric for PlainCounter {
    const TYPE: MetricType = MetricType::Unknown;
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Arc::default(),
            reconcile: Family::new_with_constructor(|| Histogram::new(PLAN_BUCKETS)),
            reconcile_errors: Family::default(),
            events: Family::default(),
            events_dropped: Counter::default(),
            activities_dropped: Counter::default(),
            requests: Family::default(),
            unlabelled: Family::default(),
            durations: Durations {
                total: Family::new_with_constructor(|| Histogram::new(UPDATE_BUCKETS)),
                progression: Family::new_with_constructor(|| Histogram::new(UPDATE_BUCKETS)),
                manual_pause: Family::new_with_constructor(|| Histogram::new(UPDATE_BUCKETS)),
            },
            rpcs: Family::default(),
            rpc_seconds: Family::new_with_constructor(|| Histogram::new(RPC_BUCKETS)),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let registry = &mut *registry;
        registry.register("rollout_reconcile", "Seconds a plan took", self.reconcile.clone());
        registry.register(
            "rollout_reconcile_error",
            "Writes that were refused",
            self.reconcile_errors.clone(),
        );
        registry.register("rollout_events", "Events of rollouts", self.events.clone());
        registry.register(
            "rolloutd_events_dropped",
            "Events that were not recorded",
            self.events_dropped.clone(),
        );
        registry.register(
            "rolloutd_activities_dropped",
            "Activities that were not stored",
            self.activities_dropped.clone(),
        );
        let help = "Requests to the API server";
        registry.register("controller_clientset_k8s_request", help, self.requests.clone());
        let help = "Live pods whose labels or annotations are not what their status asks for";
        registry.register("rolloutd_pods_unlabelled", help, self.unlabelled.clone());
        let Durations { total, progression, manual_pause } = self.durations.clone();
        let name = "rollout_duration_seconds";
        registry.register(name, "Seconds from the start of an update to its end", total);
        let name = "rollout_progression_duration_seconds";
        registry.register(name, "The same without pauses that only people end", progression);
        let name = "rollout_manual_pause_duration_seconds";
        registry.register(name, "Seconds of pauses that only people end, of an update", manual_pause);
        registry.register("grpc_server_handled", "RPCs that ended", self.rpcs.clone());
        registry.register("grpc_server_handling_seconds", "Seconds an RPC took", self.rpc_seconds.clone());
        let build = Family::<BuildLabels, Gauge>::default();
        let labels = BuildLabels {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: env!("ROLLOUTD_COMMIT").to_owned(),
        };
        build.get_or_create(&labels).set(1);
        let help = "The version that runs; always 1";
        registry.register("argo_rollouts_controller_info", help, build.clone());
        registry.register("build_info", help, build);
    }

    /// Adds metrics that are read when they are asked for.
    pub fn collect(&self, collector: impl Collector) {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).register_collector(Box::new(collector));
    }

    /// A plan was made.
    pub fn reconcile(&self, namespace: &str, name: &str, took: Duration) {
        self.reconcile.get_or_create(&Named::new(namespace, name)).observe(took.as_secs_f64());
    }

    /// A write was refused.
    pub fn reconcile_error(&self, namespace: &str, name: &str) {
        self.reconcile_errors.get_or_create(&Named::new(namespace, name)).0.inc();
    }

    /// A rollout is gone: its own series end.
    pub fn forget(&self, namespace: &str, name: &str) {
        let named = Named::new(namespace, name);
        self.reconcile.remove(&named);
        self.reconcile_errors.remove(&named);
    }

    /// So many pods of a rollout lack labels or annotations that they should have; `None` where none are put into them.
    pub fn pods_unlabelled(&self, namespace: &str, name: &str, pods: Option<i32>) {
        let named = Named::new(namespace, name);
        match pods {
            Some(pods) => {
                self.unlabelled.get_or_create(&named).set(pods.into());
            }
            None => {
                self.unlabelled.remove(&named);
            }
        }
    }

    /// An update ended.
    pub fn ended(&self, how: &str, seconds: i64, paused_seconds: i64) {
        #[expect(clippy::cast_precision_loss, reason = "no update takes 2^53 seconds")]
        let [total, paused] = [seconds, paused_seconds].map(|seconds| seconds as f64);
        let labels = EndLabels { status: how.to_owned() };
        self.durations.total.get_or_create(&labels).observe(total);
        self.durations.progression.get_or_create(&labels).observe(total - paused);
        self.durations.manual_pause.get_or_create(&labels).observe(paused);
    }

    /// An event happened.
    pub fn event(&self, namespace: &str, name: &str, severity: &str, reason: &str) {
        let labels = EventLabels {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            r#type: severity.to_owned(),
            reason: reason.to_owned(),
        };
        self.events.get_or_create(&labels).inc();
    }

    /// An event could not be recorded for want of room.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// An activity could not be stored.
    pub fn activity_dropped(&self) {
        self.activities_dropped.inc();
    }

    /// The API server answered a request.
    pub fn request(&self, labels: &RequestLabels) {
        self.requests.get_or_create(labels).inc();
    }

    /// An RPC ended.
    pub fn rpc(&self, service: &str, method: &str, code: &str, took: Duration) {
        let (grpc_service, grpc_method) = (service.to_owned(), method.to_owned());
        let labels = MethodLabels { grpc_service: grpc_service.clone(), grpc_method: grpc_method.clone() };
        self.rpc_seconds.get_or_create(&labels).observe(took.as_secs_f64());
        self.rpcs.get_or_create(&RpcLabels { grpc_service, grpc_method, grpc_code: code.to_owned() }).inc();
    }

    /// Everything in OpenMetrics' text form.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing into a string cannot fail.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

impl Named {
    fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_bear_argo_rollouts_names() {
        let metrics = Metrics::default();
        metrics.reconcile("shop", "web", Duration::from_millis(2));
        metrics.reconcile_error("shop", "web");
        metrics.event("shop", "web", "Normal", "RolloutCompleted");
        metrics.pods_unlabelled("shop", "web", Some(3));
        let text = metrics.text();
        for line in [
            "rollout_reconcile_count{namespace=\"shop\",name=\"web\"} 1",
            "rollout_reconcile_error{namespace=\"shop\",name=\"web\"} 1",
            "rolloutd_pods_unlabelled{namespace=\"shop\",name=\"web\"} 3",
            "rollout_events_total{namespace=\"shop\",name=\"web\",type=\"Normal\",reason=\"RolloutCompleted\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
        metrics.forget("shop", "web");
        assert!(!metrics.text().contains("rollout_reconcile_error{"));
        metrics.pods_unlabelled("shop", "web", None);
        assert!(!metrics.text().contains("rolloutd_pods_unlabelled{"));
    }
}
