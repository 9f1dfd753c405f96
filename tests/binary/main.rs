//! The programs as their users have them: `rolloutd` as processes, with kubectl, grpcurl and rolloutctl at them.
//!
//! Where kubectl, grpcurl or Python is not on the PATH its tests are skipped, with a printed line; with ROLLOUTD_REQUIRE_TOOLS set that
//! fails instead.

#![allow(unreachable_pub, reason = "no other crate uses a test: `pub` says what its other files may use")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "all of it is tests")]

#[path = "../support/kubernetes.rs"]
mod kubernetes;
#[path = "../support/tools.rs"]
mod tools;

mod cluster;
mod demo;
mod durability;
mod example;
mod flags;
mod grpcurl;
mod killed;
mod kubectl;
mod plugin;
mod process;
mod readme;
mod serve;
mod traces;
