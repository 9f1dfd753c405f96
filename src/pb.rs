//! What `build.rs` generates from proto/: messages, clients, servers and descriptor sets; and [`wide`], which reads the messages that
//! stand for JSON.
//!
//! Depends on nothing of this package. [`crate::api`] implements the servers of [`v1`], [`crate::cli`] uses its clients;
//! [`crate::plugin`] uses the clients of [`plugin`].

pub mod wide;

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

/// What plugins serve.
pub mod plugin {
    /// Package `rolloutd.plugin.v1`.
    #[allow(
        clippy::all,
        clippy::pedantic,
        missing_docs,
        unreachable_pub,
        reason = "generated; the comments are in proto/"
    )]
    pub mod v1 {
        tonic::include_proto!("rolloutd.plugin.v1");
    }

    /// The descriptors of the package and of what it imports, encoded; checked by `tests/contract.rs`.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rolloutd.plugin.v1.bin"));
}

/// The descriptors of [`v1`] and of what it imports, encoded; served by reflection and checked by `tests/contract.rs`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rolloutd.v1.bin"));
