//! An embedded, in-memory Kubernetes API server: enough of the API for `kube`, for kubectl and for tests.
//!
//! Depends on `clock` and `pod_template` only; it knows no worker and no Argo kind. In process it is a tower service
//! ([`ApiServer::client`]), for kubectl it serves plain HTTP ([`ApiServer::serve`]).
//!
//! A request goes down this list and its answer up again:
//!
//! - `server` `serve`: HTTP, one lock, dispatch · `http/`: paths, parameters, bodies, content negotiation
//! - `call`: what is asked of which resource · `read`, `write/`: the verbs · `stream`: the body of a watch
//! - `resource`: what a kind is; `kind/`: the built-in ones; `custom`, `schema/`: those of definitions
//! - `go_types/`: how Go reads and writes the built-in kinds · `strategic/`: patches that follow these types
//! - `state`: the one place where writes are committed · `store`: objects, revisions, history · `watch`: who is told
//! - `present`, `table`, `discovery`, `openapi`: what clients see
//!
//! What it does not implement (server-side apply, rules in CEL beyond `self == oldSelf`, conversion webhooks) it refuses,
//! by name. Field managers are not tracked. docs/dev-cluster.md has the whole list.

mod audit;
mod call;
mod catalog;
mod custom;
mod discovery;
mod durable;
mod field;
mod go_types;
mod http;
mod json_path;
mod kind;
mod metadata;
mod names;
mod object;
mod openapi;
mod present;
mod quantity;
mod random;
mod read;
mod resource;
mod schema;
mod selector;
mod serve;
mod server;
mod state;
mod status;
mod store;
mod strategic;
mod stream;
mod table;
mod watch;
mod write;

pub use audit::{Audit, AuditKey, CodeClass, Effect, Verb};
pub use durable::{Database, OpenError};
pub use server::{ApiServer, Service};
pub use state::{Objects, Write};
pub use status::GroupResource;

use crate::clock::Clock;

/// Changes that are kept for watches that start in the past and for lists of past revisions. A watch that comes back
/// after more writes than this is told 410 and lists again.
pub const HISTORY_LIMIT: usize = 10_000;

/// How a server is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Cluster time: timestamps of objects, ages, expiry of events.
    pub clock: Clock,
    /// Seed of uids, generated names and addresses. The same seed and the same requests give the same objects.
    pub seed: u64,
    /// Changes kept, [`HISTORY_LIMIT`] by default.
    pub history_limit: usize,
}

impl Config {
    /// A server on `clock`, with seed 0.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, seed: 0, history_limit: HISTORY_LIMIT }
    }
}
