//! The embedded API server, seen from outside: by `kube` clients in process, by HTTP, by kubectl.
//!
//! `transcripts` compares its answers with those that a real kube-apiserver gave; the other modules show, one
//! sentence a test, what clients rely on.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

#[path = "../support/tools.rs"]
mod tools;

mod custom;
mod deletion;
mod durable;
mod hooks;
mod http_surface;
mod kubectl;
mod listing;
mod objects;
mod robustness;
mod support;
mod transcripts;
mod watching;
