//! Logs, traces and metrics: how the process tells what it does.
//!
//! Depends on L0 only. [`logs`] is set up once by the composition root; a [`Metrics`] is handed to whoever counts.

pub mod logs;
mod metrics;

pub use metrics::{Metrics, RequestLabels};
