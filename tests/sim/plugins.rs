//! Step plugins of programs: they answer in virtual time, some late, some with an error now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::SignedDuration;
use rolloutd::crd::StepPluginPhase;
use rolloutd::plan::{Call, KnownPlugins, PluginState, Reply};
use rolloutd::plugin::AskPlugins;
use serde_json::{Value, json};

/// Their names.
pub const NAMES: [&str; 4] = ["acme/quick", "acme/slow", "acme/flaky", "acme/off"];

/// The plugins of a program.
#[derive(Debug)]
pub struct Plugins {
    seed: u64,
    /// How often any was asked.
    asked: AtomicU64,
}

impl Plugins {
    pub fn new(seed: u64) -> Self {
        Self { seed, asked: AtomicU64::new(0) }
    }
}

impl AskPlugins for Plugins {
    fn known(&self) -> Arc<KnownPlugins> {
        let state = |name: &str| if name == "acme/off" { PluginState::Disabled } else { PluginState::Ready };
        let by_name = NAMES.iter().map(|name| ((*name).to_owned(), state(name))).collect();
        Arc::new(KnownPlugins { by_name, fault: None })
    }

    fn call<'a>(&'a self, call: &'a Call, _: &'a Value) -> BoxFuture<'a, Result<Reply, String>> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst);
        let mut random = fastrand::Rng::with_seed(self.seed.wrapping_add(number));
        async move {
            let asked = &call.asked;
            rolloutd::clock::real_sleep(Duration::from_millis(random.u64(0..5000))).await;
            let is_done = match asked.name.as_str() {
                "acme/quick" => true,
                "acme/slow" => asked.executions >= 1,
                _ if asked.executions == 0 && random.bool() => return Err("it is away".to_owned()),
                _ => true,
            };
            Ok(Reply {
                phase: if is_done { StepPluginPhase::Successful } else { StepPluginPhase::Running },
                message: String::new(),
                requeue_after: random.bool().then(|| SignedDuration::from_secs(random.i64(0..20))),
                status: Some(json!({ "asked": number })),
            })
        }
        .boxed()
    }
}
