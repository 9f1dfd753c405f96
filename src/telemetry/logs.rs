//! Logs as text or JSON, and spans to an OTLP collector when one is named.

use std::io::{self, IsTerminal as _};

use clap::ValueEnum;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What to log and where to send spans.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The least severe level of this package's own logs: error, warn, info, debug or trace; other libraries log warnings only.
    pub level: String,
    /// How logs are written.
    pub format: Format,
    /// The OTLP collector (gRPC), such as `http://localhost:4317`; `None`: spans are not sent.
    pub otlp_endpoint: Option<String>,
}

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level is none.
    #[error("log level {0:?} is none of error, warn, info, debug, trace")]
    Level(String),
    /// The collector's address cannot be used.
    #[error("cannot send spans to {endpoint:?}: {source}")]
    Otlp {
        /// The address given.
        endpoint: String,
        /// What is wrong with it.
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// It was done before.
    #[error("logs are set up already")]
    Twice,
}

/// Keeps spans flowing; sends what is left when it is dropped.
#[derive(Debug, Default)]
#[must_use = "spans are lost when it is dropped"]
pub struct Guard {
    spans: Option<SdkTracerProvider>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(spans) = self.spans.take()
            && let Err(error) = spans.shutdown()
        {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Sets logs up, on standard error, for the whole process. With a collector it must be called within a tokio runtime that
/// outlives the guard: spans are sent from it.
///
/// # Errors
///
/// When an option cannot be used, or when it was done before.
pub fn init(options: &Options) -> Result<Guard, Error> {
    let format = match options.format {
        // Colours for people only; NO_COLOR is honoured by the layer.
        Format::Text if io::stderr().is_terminal() => {
            tracing_subscriber::fmt::layer().with_writer(io::stderr).boxed()
        }
        Format::Text => tracing_subscriber::fmt::layer().with_ansi(false).with_writer(io::stderr).boxed(),
        Format::Json => tracing_subscriber::fmt::layer().json().with_writer(io::stderr).boxed(),
    };
    let spans = options.otlp_endpoint.as_deref().map(spans).transpose()?;
    // Spans go out whatever the level of logs is.
    let sending = spans.as_ref().map(|spans| {
        let layer = tracing_opentelemetry::layer().with_tracer(spans.tracer("rolloutd"));
        layer.with_filter(EnvFilter::new("off,rolloutd=info"))
    });
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    tracing_subscriber::registry()
        .with(format.with_filter(filter(&options.level)?))
        .with(sending)
        .try_init()
        .map_err(|_| Error::Twice)?;
    Ok(Guard { spans })
}

fn filter(level: &str) -> Result<EnvFilter, Error> {
    let level: tracing::Level = match level.to_ascii_lowercase().as_str() {
        // logrus' names, which Argo Rollouts' flag takes.
        "warning" => tracing::Level::WARN,
        "fatal" | "panic" => tracing::Level::ERROR,
        other => other.parse().map_err(|_| Error::Level(level.to_owned()))?,
    };
    // The client names every failed request and every connection without a checked certificate; ours say what came of it.
    let quiet = "kube_client::client=off";
    Ok(EnvFilter::new(format!("warn,{quiet},rolloutd={level},rolloutctl={level}")))
}

fn spans(endpoint: &str) -> Result<SdkTracerProvider, Error> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|source| Error::Otlp { endpoint: endpoint.to_owned(), source })?;
    let resource = Resource::builder().with_service_name("rolloutd").build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}
