//! The API as its clients see it: a tonic client against the services over an embedded cluster.
//!
//! Most of it runs within the process and in virtual time; `serving` speaks over TCP. No worker runs: what a controller would
//! have written, each test writes itself, except in `moving`, where a whole control plane does. `kubectl` and `on_kubernetes` skip
//! where there is no kubectl or no kube-apiserver.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

#[path = "../support/kubernetes.rs"]
mod kubernetes;
#[path = "../support/tools.rs"]
mod tools;

mod activity;
mod apply;
mod apply_refused;
mod bad_input;
mod blue_green;
mod consistency;
mod create;
mod delete;
mod denied;
mod durable;
mod expect;
mod foresee;
mod garbage;
mod interference;
mod kubectl;
mod limits;
mod metadata;
mod moving;
mod on_kubernetes;
mod programs;
mod promote;
mod reads;
mod request_ids;
mod resumes;
mod revisions;
mod serving;
mod site;
mod trees;
mod update;
mod verbs;
mod waits;
mod watches;
mod world;
