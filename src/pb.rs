//! What `build.rs` generates from proto/: messages, clients, servers and the descriptor set.
//!
//! Depends on nothing of this package. [`crate::api`] implements the servers, [`crate::cli`] uses the clients.

/// Package `rolloutd.v1`.
#[allow(
    clippy::all,
    clippy::pedantic,
    missing_docs,
    unreachable_pub,
    reason = "generated; the comments are in proto/"
)]
pub mod v1 {
    tonic::include_proto!("rolloutd.v1");
}

/// The descriptors of all files in proto/, encoded; served by reflection and checked by `tests/contract.rs`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rolloutd.v1.bin"));
