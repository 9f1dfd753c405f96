//! rolloutd: progressive delivery for Kubernetes behind a typed gRPC API.
//!
//! The layers, lowest first; a module may use those of its own layer's left and of lower layers, and
//! `tests/architecture.rs` keeps it so. See ARCHITECTURE.md for the why.
//!
//! - L0 [`clock`], [`crd`], [`hash`], [`pod_template`]
//! - L5 [`apiserver`], [`simcluster`]

pub mod apiserver;
pub mod cli;
pub mod clock;
pub mod crd;
pub mod hash;
pub mod lease;
pub mod pb;
pub mod plan;
pub mod pod_template;
pub mod serve;
pub mod simcluster;
pub mod store;
pub mod telemetry;
pub mod validate;
pub mod worker;
