//! Steps that plugins do, on both clusters: what is asked of them, what the status keeps of it, and that an abort has it undone.

use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::SignedDuration;
use rolloutd::crd::{Rollout, StepPluginOperation, StepPluginPhase, StepPluginStatus};
use rolloutd::plan::{Call, KnownPlugins, PluginState, Reply};
use rolloutd::plugin::AskPlugins;
use rolloutd::serve::{Options, PluginSource};
use serde_json::{Value, json};

use crate::explain::drive;
use crate::scenarios::{healthy, paused_at};
use crate::world::{World, manifest};

on_both! {
    a_step_is_done_and_undone_by_its_plugin
}

const NAME: &str = "acme/smoke";

/// A plugin that has done its step when it is asked for the second time.
#[derive(Debug, Default)]
struct Smoke {
    asked: Mutex<Vec<String>>,
}

impl AskPlugins for Smoke {
    fn known(&self) -> Arc<KnownPlugins> {
        Arc::new(KnownPlugins { by_name: [(NAME.to_owned(), PluginState::Ready)].into(), fault: None })
    }

    fn call<'a>(&'a self, call: &'a Call, rollout: &'a Value) -> BoxFuture<'a, Result<Reply, String>> {
        let Call { asked, config, status } = call;
        let name = rollout["metadata"]["name"].as_str().unwrap_or_default();
        let (config, status) = (config.clone().unwrap_or_default(), status.clone().unwrap_or_default());
        self.asked
            .lock()
            .unwrap()
            .push(format!("{} {} of {name} {config} {status}", asked.operation, asked.index));
        let is_done = asked.operation != StepPluginOperation::Run || asked.executions > 0;
        let reply = Reply {
            phase: if is_done { StepPluginPhase::Successful } else { StepPluginPhase::Running },
            message: "as it should be".to_owned(),
            requeue_after: Some(SignedDuration::from_secs(10)),
            status: Some(json!({ "id": 7 })),
        };
        async move { Ok(reply) }.boxed()
    }
}

fn entries(rollout: &Rollout) -> &[StepPluginStatus] {
    let canary = rollout.status().canary.as_deref();
    canary.and_then(|canary| canary.step_plugin_statuses.as_deref()).unwrap_or_default()
}

async fn a_step_is_done_and_undone_by_its_plugin(world: World) {
    let smoke = Arc::new(Smoke::default());
    let world = world.unled().await;
    let plugins = PluginSource::These(Arc::clone(&smoke) as _);
    let options = Options { plugins, ..world.options() };
    let world = world.led_by(options);
    let drive = drive(&world);
    let step = json!({ "plugin": { "name": NAME, "config": { "url": "u" } } });
    drive.create(manifest(2, json!({ "steps": [{ "setWeight": 50 }, step, { "pause": {} }] }))).await;
    healthy(&drive).await;
    drive.set_image("v2").await;
    paused_at(&drive, 2).await;
    let asked = || smoke.asked.lock().unwrap().clone();
    let runs = [r#"Run 1 of web {"url":"u"} null"#, r#"Run 1 of web {"url":"u"} {"id":7}"#];
    assert_eq!(asked(), runs);

    let rollout = world.rollouts().get("web").await.unwrap();
    let [entry] = entries(&rollout) else { panic!("one entry: {:?}", entries(&rollout)) };
    assert_eq!((entry.index, &*entry.name, entry.executions), (1, NAME, Some(2)));
    assert_eq!(entry.phase, Some(StepPluginPhase::Successful));
    assert_eq!(
        (entry.message.as_deref(), &entry.status),
        (Some("as it should be"), &Some(json!({ "id": 7 })))
    );
    assert!(entry.started_at < entry.finished_at && entry.updated_at == entry.finished_at);

    drive.abort().await;
    let is_undone = |rollout: &Rollout| {
        entries(rollout).iter().any(|entry| {
            entry.operation == StepPluginOperation::Abort && entry.phase == Some(StepPluginPhase::Successful)
        })
    };
    world.until("the step undone", is_undone).await;
    assert_eq!(asked()[2..], [r#"Abort 1 of web {"url":"u"} {"id":7}"#]);
    world.until_event("StepPluginTransition: Step plugin acme/smoke (step 2): Abort Successful").await;
    world.finish().await;
}
