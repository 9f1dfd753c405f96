//! Step plugins of programs: they answer in virtual time, some late, some with an error now and then. No step of theirs is passed that was not
//! run in the very attempt, and nobody asks them in a circle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use rolloutd::apiserver::Write;
use rolloutd::crd::StepPluginPhase;
use rolloutd::plan::{Call, KnownPlugins, PluginState, Reply};
use rolloutd::plugin::AskPlugins;
use serde_json::{Value, json};

use crate::properties::By;

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

    /// How often any was asked.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

/// The attempt at an update that runs.
#[derive(Debug, Default)]
pub struct Attempt {
    began: Option<Timestamp>,
}

impl Attempt {
    /// Every plugin's step that a worker passes was run in this attempt. Where the stable version is gone, steps are not passed but skipped.
    pub fn check(&mut self, write: &Write<'_>, by: By, has_stable: bool) -> anyhow::Result<()> {
        let (Some(old), Some(new)) = (write.old, write.new) else { return Ok(()) };
        let at = |object: &Value, field: &str| object.pointer(&format!("/status/{field}")).cloned();
        let aborts = |object: &Value| at(object, "abort") == Some(json!(true));
        let is_other =
            ["currentPodHash", "currentStepHash"].iter().any(|field| at(old, field) != at(new, field));
        if is_other || (aborts(old) && !aborts(new)) {
            self.began = Some(write.time);
        }
        let has_another = at(old, "stableRS").is_some_and(|stable| Some(stable) != at(old, "currentPodHash"));
        let is_by_steps =
            !is_other && has_stable && has_another && at(old, "promoteFull") != Some(json!(true));
        if by != By::Us || !is_by_steps {
            return Ok(());
        }
        let index = |object: &Value| usize::try_from(at(object, "currentStepIndex")?.as_u64()?).ok();
        let (from, to) = (index(old).unwrap_or(0), index(new).unwrap_or(0));
        let steps = new.pointer("/spec/strategy/canary/steps").and_then(Value::as_array);
        let steps = steps.into_iter().flatten().enumerate().take(to).skip(from);
        for (index, step) in steps.filter(|(_, step)| step.get("plugin").is_some()) {
            ensure!(self.was_run(new, index), "step {index} was passed without its plugin: {step}");
        }
        Ok(())
    }

    fn was_run(&self, rollout: &Value, index: usize) -> bool {
        let entries = rollout.pointer("/status/canary/stepPluginStatuses").and_then(Value::as_array);
        let is_it = |entry: &&Value| {
            let began = entry["startedAt"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
            // Stored times are whole seconds.
            let is_of_attempt = began.is_some_and(|began| {
                self.began.is_none_or(|attempt| attempt.duration_since(began) < SignedDuration::from_secs(1))
            });
            entry["index"] == json!(index)
                && entry["operation"] == json!("Run")
                && entry["phase"] == json!("Successful")
                && is_of_attempt
        };
        entries.into_iter().flatten().any(|entry| is_it(&entry))
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
