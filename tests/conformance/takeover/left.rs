//! And back: what we leave is what Argo Rollouts leaves. The same rollouts are brought into the recorded states by our control plane, and
//! everything that is there then is compared with the recording: fields, annotations, labels, hashes and names. What differs is listed.

use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use rolloutd::crd::{Rollout, RolloutPhase, keys};
use serde_json::{Map, Value, json};

use super::recording::{Recording, time};
use super::{Snapshot, until};
use crate::scenarios::is;
use crate::world::World;

on_both! {
    idle
    mid_canary
    aborted
    paused_by_spec_with_ephemeral_metadata
    superseded
    blue_green_awaiting_its_promotion
    blue_green_inside_the_scale_down_delay
}

/// What the reference always writes and we leave out: fields of a status that say nothing, because its strategy is the other one.
const EMPTY: [&str; 2] =
    ["Rollout.status.blueGreen: an object -> null", "Rollout.status.canary: an object -> null"];

/// ReplicaSets that we create inherit the Rollout's labels, and note it, also where there are none (docs/labels.md).
const INHERITED: [&str; 3] = [
    "ReplicaSet.annotations.rolloutd.dev/inherited: null -> \"{\\\"labels\\\":{\\\"team\\\":\\\"a847e0a9\\\"}}\"",
    "ReplicaSet.labels.team: null -> \"shop\"",
    "ReplicaSet.annotations.rolloutd.dev/inherited: null -> \"{}\"",
];

/// We write condition Paused from the first status on, the reference when an update first pauses.
const PAUSED_FROM_THE_BEGINNING: &str = "Rollout.status.conditions.Paused: null -> an object";

/// An abort ends a pause, which the reference does not note.
const NOT_PAUSED_AFTER_AN_ABORT: &str = "Rollout.status.conditions.Paused.status: \"True\" -> \"False\"";

/// A recording whose state is to be reached.
struct Reached<'a> {
    world: &'a World,
    recording: Recording,
}

impl Reached<'_> {
    /// Creates the rollout with the first of its versions, and rolls the others out, waiting in between for `next`.
    async fn through(world: World, file: &str, next: impl Fn(&Rollout) -> bool) -> World {
        let this = Reached { world: &world, recording: Recording::read(file) };
        let images = this.images();
        this.create(&images[0]).await;
        this.until("Healthy", is(RolloutPhase::Healthy)).await;
        for image in &images[1..] {
            let containers = json!([{ "op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image }]);
            let patch: Patch<Value> = Patch::Json(serde_json::from_value(containers).unwrap());
            world
                .rollouts()
                .patch(&this.recording.name(), &PatchParams::default(), &patch)
                .await
                .expect("it is updated");
            this.until("rolled out as far as it goes", &next).await;
        }
        world
    }

    /// The images of its versions, oldest first.
    fn images(&self) -> Vec<String> {
        let mut sets = self.recording.of_kind("ReplicaSet");
        sets.sort_by_key(|set| {
            set["metadata"]["annotations"][keys::REVISION].as_str().unwrap_or_default().to_owned()
        });
        let image = |set: &Value| {
            set.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str).map(str::to_owned)
        };
        sets.into_iter().filter_map(image).collect()
    }

    /// Creates its Services and itself as users do.
    async fn create(&self, first: &str) {
        let mut objects: Vec<Value> = self.recording.of_kind("Service").into_iter().cloned().collect();
        for service in &mut objects {
            let annotations = service["metadata"]["annotations"].as_object_mut().expect("annotations");
            annotations.shift_remove(keys::MANAGED_BY_ROLLOUTS);
            let spec = service["spec"].as_object_mut().expect("a spec");
            spec.retain(|field, _| !field.starts_with("clusterIP"));
            spec["selector"].as_object_mut().expect("a selector").shift_remove(keys::POD_TEMPLATE_HASH);
        }
        let mut rollout = self.recording.rollout().clone();
        rollout["metadata"]["annotations"].as_object_mut().expect("annotations").shift_remove(keys::REVISION);
        rollout["spec"].as_object_mut().expect("a spec").shift_remove("paused");
        rollout["spec"]["template"]["spec"]["containers"][0]["image"] = json!(first);
        objects.push(rollout);
        for object in objects {
            let metadata = &object["metadata"];
            let object = json!({ "apiVersion": object["apiVersion"], "kind": object["kind"], "spec": object["spec"],
                "metadata": { "name": metadata["name"], "labels": metadata["labels"], "annotations": metadata["annotations"] } });
            let object: DynamicObject = serde_json::from_value(object).expect("an object");
            let types = object.types.clone().expect("a kind");
            let resource = match types.kind.as_str() {
                "Service" => ApiResource::erase::<k8s_openapi::api::core::v1::Service>(&()),
                _ => ApiResource::erase::<Rollout>(&()),
            };
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.world.client.clone(), &self.world.namespace, &resource);
            api.create(&PostParams::default(), &object).await.expect("it is created");
        }
    }

    async fn until(&self, what: &str, wanted: impl Fn(&Rollout) -> bool) {
        until(self.world, &self.recording.name(), what, wanted).await;
    }
}

/// Compares what is there with the recording.
async fn as_recorded(world: World, file: &str, listed: &[&str]) {
    let recording = Recording::read(file);
    let left = Snapshot::settled(&world).await;
    let mut found = Vec::new();
    for kind in ["Rollout", "ReplicaSet", "Service"] {
        let mut recorded: Map<String, Value> = Map::new();
        for object in recording.of_kind(kind) {
            recorded.insert(
                object["metadata"]["name"].as_str().expect("a name").to_owned(),
                essence(kind, object),
            );
        }
        let left: Map<String, Value> =
            left.of_kind(kind).map(|(name, object)| (name.to_owned(), essence(kind, object))).collect();
        let names = |objects: &Map<String, Value>| {
            let mut names: Vec<String> = objects.keys().cloned().collect();
            names.sort();
            names
        };
        assert_eq!(names(&left), names(&recorded), "{kind}s of {file}");
        for (name, object) in &recorded {
            differences(kind, object, &left[name], &mut found);
        }
    }
    for pod in recording.of_kind("Pod") {
        let labels = &pod["metadata"]["labels"];
        let same = left.of_kind("Pod").filter(|(_, other)| other["metadata"]["labels"] == *labels).count();
        let recorded = recording
            .of_kind("Pod")
            .into_iter()
            .filter(|other| other["metadata"]["labels"] == *labels)
            .count();
        assert_eq!(same, recorded, "pods of {file} with {labels}");
    }
    found.sort();
    found.dedup();
    let is_expected = |difference: &&str| EMPTY.contains(difference) || INHERITED.contains(difference);
    found.retain(|difference| !is_expected(&difference.as_str()));
    assert_eq!(found, listed, "what differs in {file} between the recording and what we left");
    world.finish().await;
}

/// What is to be the same of an object: neither what only a server gives, nor when it was.
fn essence(kind: &str, object: &Value) -> Value {
    let metadata = &object["metadata"];
    let mut owners = metadata["ownerReferences"].clone();
    for owner in owners.as_array_mut().into_iter().flatten() {
        owner.as_object_mut().expect("an owner").shift_remove("uid");
    }
    let mut annotations = metadata["annotations"].clone();
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.shift_remove(keys::LAST_APPLIED_CONFIGURATION);
    }
    let spec = match kind {
        // The rest is the server's.
        "Service" => json!({ "selector": object["spec"]["selector"] }),
        _ => object["spec"].clone(),
    };
    let mut status = match kind {
        "Service" => Value::Null,
        _ => object["status"].clone(),
    };
    if let Some(conditions) = status["conditions"].as_array().cloned() {
        let by_type = conditions
            .into_iter()
            .map(|condition| (condition["type"].as_str().expect("a type").to_owned(), condition));
        status["conditions"] = Value::Object(by_type.collect());
    }
    if kind == "ReplicaSet" {
        // How often it was written.
        status.as_object_mut().expect("a status").shift_remove("observedGeneration");
    }
    let mut essence = json!({ "labels": metadata["labels"], "annotations": annotations, "owners": owners, "spec": spec, "status": status });
    without_times(&mut essence);
    essence
}

fn without_times(value: &mut Value) {
    match value {
        Value::String(_) if time(value).is_some() => *value = json!("a time"),
        Value::Array(items) => items.iter_mut().for_each(without_times),
        Value::Object(fields) => {
            if let Some(seconds) = fields.get_mut("totalManualPauseDurationSeconds") {
                *seconds = json!("seconds");
            }
            fields.values_mut().for_each(without_times);
        }
        _ => {}
    }
}

/// What differs, by path.
fn differences(path: &str, recorded: &Value, left: &Value, found: &mut Vec<String>) {
    if let (Value::Object(recorded), Value::Object(left)) = (recorded, left) {
        let keys: std::collections::BTreeSet<_> = recorded.keys().chain(left.keys()).collect();
        for key in keys {
            let (recorded, left) =
                (recorded.get(key).unwrap_or(&Value::Null), left.get(key).unwrap_or(&Value::Null));
            differences(&format!("{path}.{key}"), recorded, left, found);
        }
    } else if recorded != left {
        let brief =
            |value: &Value| if value.is_object() { "an object".to_owned() } else { value.to_string() };
        found.push(format!("{path}: {} -> {}", brief(recorded), brief(left)));
    }
}

fn paused_at(step: Option<i32>) -> impl Fn(&Rollout) -> bool {
    let paused = is(RolloutPhase::Paused);
    move |rollout| paused(rollout) && rollout.status().current_step_index == step
}

async fn idle(world: World) {
    let world = Reached::through(world, "idle", |_| true).await;
    as_recorded(world, "idle", &[PAUSED_FROM_THE_BEGINNING]).await;
}

async fn mid_canary(world: World) {
    let world = Reached::through(world, "mid", paused_at(Some(3))).await;
    as_recorded(world, "mid", &[]).await;
}

async fn aborted(world: World) {
    let world = Reached::through(world, "aborted", paused_at(Some(3))).await;
    // It was held by hand for a second.
    world.pass(std::time::Duration::from_secs(1)).await;
    let abort = Patch::Merge(json!({ "status": { "abort": true } }));
    world.rollouts().patch_status("aborted", &PatchParams::default(), &abort).await.expect("it is aborted");
    let degraded = is(RolloutPhase::Degraded);
    until(&world, "aborted", "back", |rollout| {
        let status = rollout.status();
        degraded(rollout) && status.updated_replicas.unwrap_or(0) == 0 && status.available_replicas == Some(5)
    })
    .await;
    as_recorded(world, "aborted", &[NOT_PAUSED_AFTER_AN_ABORT]).await;
}

async fn paused_by_spec_with_ephemeral_metadata(world: World) {
    let rollout = Rollout::decode(Recording::read("specpaused").rollout()).expect("a rollout");
    if !rolloutd::plan::unsupported::fields(&rollout).is_empty() {
        // Left alone as a whole.
        return;
    }
    let world = Reached::through(world, "specpaused", paused_at(Some(3))).await;
    let pause = Patch::Merge(json!({ "spec": { "paused": true } }));
    world.rollouts().patch("specpaused", &PatchParams::default(), &pause).await.expect("it is paused");
    until(&world, "specpaused", "paused by its spec", |rollout| {
        is(RolloutPhase::Paused)(rollout) && rollout.status().message.as_deref() == Some("manually paused")
    })
    .await;
    as_recorded(world, "specpaused", &[]).await;
}

async fn superseded(world: World) {
    let world = Reached::through(world, "superseded", paused_at(Some(1))).await;
    as_recorded(world, "superseded", &[]).await;
}

async fn blue_green_awaiting_its_promotion(world: World) {
    let world = Reached::through(world, "bgwait", paused_at(None)).await;
    as_recorded(world, "bgwait", &[]).await;
}

async fn blue_green_inside_the_scale_down_delay(world: World) {
    let healthy = is(RolloutPhase::Healthy);
    let world = Reached::through(world, "bgdelay", |rollout| {
        healthy(rollout) && rollout.status().replicas == Some(6)
    })
    .await;
    as_recorded(world, "bgdelay", &[PAUSED_FROM_THE_BEGINNING]).await;
}
