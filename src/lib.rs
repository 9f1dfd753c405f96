//! rolloutd: progressive delivery for Kubernetes behind a typed gRPC API.
//!
//! The layers, lowest first; a module may use those of its own layer's left and of lower layers, and
//! `tests/architecture.rs` keeps it so. See ARCHITECTURE.md for the why.
//!
//! - L0 [`clock`], [`pb`], [`crd`], [`hash`], [`json`], [`pod_template`]: values
//! - L1 [`validate`], [`manifest`], [`plan`], [`foresight`]: decisions; pure
//! - L2 [`telemetry`]
//! - L3 [`store`], [`lease`]: what is known of the cluster; [`plugin`]: the programs that perform steps
//! - L4 [`worker`], [`api`], [`http`]: what writes, what answers; they meet in objects only
//! - L5 [`serve`]: the composition root; [`apiserver`], [`simcluster`]: the embedded cluster, which knows none of it
//! - L6 [`dev`]: all of it in one process; [`cli`]: the client, which knows the API only

pub mod api;
pub mod apiserver;
pub mod cli;
pub mod clock;
pub mod crd;
pub mod dev;
pub mod foresight;
pub mod hash;
pub mod http;
pub mod json;
pub mod lease;
pub mod manifest;
pub mod pb;
pub mod plan;
pub mod plugin;
pub mod pod_template;
pub mod serve;
pub mod simcluster;
pub mod store;
pub mod telemetry;
pub mod validate;
pub mod worker;
