//! The same scenarios on the embedded cluster and, where `KUBEBUILDER_ASSETS` names etcd and kube-apiserver, on a real
//! API server; driven by RPCs and by the very patches that kubectl and its plugin send. Properties are checked for every write.

#![allow(unreachable_pub, reason = "no other crate uses a test: `pub` says what its other files may use")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "all of it is tests")]
#![allow(clippy::needless_pass_by_value, reason = "closures are handed over")]

#[path = "../support/kubernetes.rs"]
mod kubernetes;
#[allow(dead_code, reason = "the simulation asks for more")]
#[path = "../support/properties.rs"]
mod properties;

#[macro_use]
mod both;

mod assumed;
mod autoscaling;
mod blue_green;
mod continuity;
mod drive;
mod environment;
mod explain;
mod forbidden;
mod foretold;
mod frugality;
mod gate;
mod guard;
mod history;
mod inherited;
mod interference;
mod labels;
mod malformed;
mod older_definitions;
mod plugin;
mod race;
mod restart;
mod rights;
mod role;
mod scenarios;
mod scope;
mod strangers;
mod takeover;
mod versions;
mod workload;
mod world;
