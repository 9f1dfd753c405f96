//! What Argo Rollouts left in a namespace, put into another one.
//!
//! What only a server gives cannot be taken along: uids and versions are new, and whatever refers to them refers to the new ones. Times
//! are those of the recording, as long ago as they were when it was made, but for creation times, which are those of the loading: on the
//! real server all within a second or so, on the embedded one as far apart as they were. Nodes are those of the simulated cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, NamespaceResourceScope};
use kube::{Resource, ResourceExt};
use rolloutd::crd::Rollout;
use serde_json::{Value, json};

use crate::world::World;

/// The recorded objects.
pub struct Recording {
    items: Vec<Value>,
}

impl Recording {
    /// The file of this name.
    pub fn read(name: &str) -> Self {
        let path = format!("{}/tests/data/takeover/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut list: Value = serde_json::from_str(&text).expect("JSON");
        let Value::Array(items) = list["items"].take() else { panic!("{path}: a list") };
        Self { items }
    }

    /// The objects of a kind, those first that were created first.
    pub fn of_kind(&self, kind: &str) -> Vec<&Value> {
        let mut items: Vec<&Value> = self.items.iter().filter(|item| item["kind"] == *kind).collect();
        items.sort_by_key(|item| {
            item["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned()
        });
        items
    }

    pub fn rollout(&self) -> &Value {
        self.of_kind("Rollout")[0]
    }

    /// The rollout's name.
    pub fn name(&self) -> String {
        self.rollout()["metadata"]["name"].as_str().expect("a name").to_owned()
    }

    /// The same with times that are as long before `now` as they were before the end of the recording.
    fn shifted_to(&self, now: Timestamp) -> Self {
        let conditions = self.rollout()["status"]["conditions"].as_array().expect("conditions");
        let last = conditions.iter().filter_map(|condition| time(&condition["lastUpdateTime"])).max();
        let by = now.duration_since(last.expect("times")).round(jiff::Unit::Second).expect("seconds");
        let mut items = self.items.clone();
        items.iter_mut().for_each(|item| shift(item, by));
        Self { items }
    }

    /// Puts all of it into a world in which nobody acts on any of it yet.
    pub async fn load(&self, world: &World) {
        let this = self.shifted_to(world.now());
        let loader = Loader { world };
        let mut uids = BTreeMap::new();
        let rollout = this.rollout();
        loader.create::<Rollout>(rollout, &mut uids).await;
        for service in this.of_kind("Service") {
            loader.create::<Service>(service, &mut uids).await;
        }
        let mut before = time(&rollout["metadata"]["creationTimestamp"]);
        for set in this.of_kind("ReplicaSet") {
            let created = time(&set["metadata"]["creationTimestamp"]);
            if world.is_embedded() {
                let apart =
                    before.zip(created).and_then(|(a, b)| Duration::try_from(b.duration_since(a)).ok());
                world.pass(apart.unwrap_or_default()).await;
            }
            before = created;
            loader.create::<ReplicaSet>(set, &mut uids).await;
        }
        for pod in this.of_kind("Pod") {
            loader.create::<Pod>(pod, &mut uids).await;
        }
        loader.status::<Rollout>(rollout).await;
    }
}

/// The time that a value is, if it is one.
pub fn time(value: &Value) -> Option<Timestamp> {
    let text = value.as_str()?;
    // Nothing else in the recordings looks like a time.
    (text.len() == "2026-11-21T05:37:43Z".len() && text.ends_with('Z')).then(|| text.parse().ok()).flatten()
}

fn shift(value: &mut Value, by: SignedDuration) {
    match value {
        Value::String(_) => {
            if let Some(time) = time(value) {
                *value = json!(time.checked_add(by).expect("a time").to_string());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| shift(item, by)),
        Value::Object(fields) => fields.values_mut().for_each(|field| shift(field, by)),
        _ => {}
    }
}

struct Loader<'a> {
    world: &'a World,
}

impl Loader<'_> {
    fn api<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>>(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.world.client.clone(), &self.world.namespace, &ApiResource::erase::<K>(&()))
    }

    /// Creates an object as it was, but for its status, and of its generation.
    async fn create<K>(&self, recorded: &Value, uids: &mut BTreeMap<String, String>)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let (metadata, mut spec) = (&recorded["metadata"], recorded["spec"].clone());
        let mut owners = metadata["ownerReferences"].clone();
        for owner in owners.as_array_mut().into_iter().flatten() {
            owner["uid"] = json!(uids[owner["uid"].as_str().expect("a uid")]);
        }
        let fields = spec.as_object_mut().expect("a spec");
        fields.retain(|field, _| !field.starts_with("clusterIP"));
        if let Some(node) = fields.get_mut("nodeName") {
            *node = json!(simulated(node));
        }
        // Sizes lead to the recorded generation, which nobody can set.
        let generation = metadata["generation"].as_i64().unwrap_or(1);
        let edits = if fields.contains_key("replicas") { generation - 1 } else { 0 };
        let replicas = fields.get("replicas").and_then(Value::as_i64).unwrap_or(0);
        if edits > 0 {
            fields.insert("replicas".to_owned(), json!(replicas + edits));
        }
        let object = json!({
            "apiVersion": recorded["apiVersion"], "kind": recorded["kind"], "spec": spec,
            "metadata": { "name": metadata["name"], "labels": metadata["labels"],
                "annotations": metadata["annotations"], "ownerReferences": owners },
        });
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        let api = self.api::<K>();
        let created = api.create(&PostParams::default(), &object).await.expect("it is created");
        let name = created.name_any();
        for edit in 1..=edits {
            let patch = json!({ "spec": { "replicas": replicas + edits - edit } });
            api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("it is changed");
        }
        uids.insert(metadata["uid"].as_str().expect("a uid").to_owned(), created.uid().expect("a uid"));
        if recorded["kind"] != "Rollout" && recorded["kind"] != "Service" {
            self.status::<K>(recorded).await;
        }
    }

    /// Writes a status as it was.
    async fn status<K>(&self, recorded: &Value)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let mut status = recorded["status"].clone();
        if recorded["kind"] == "Pod" {
            // The simulated node has another address; that its kubelet writes it shows that it has taken the pod up.
            status.as_object_mut().expect("a status").retain(|field, _| !field.starts_with("hostIP"));
        }
        let name = recorded["metadata"]["name"].as_str().expect("a name");
        let patch = Patch::Merge(json!({ "status": status }));
        let written = self.api::<K>().patch_status(name, &PatchParams::default(), &patch).await;
        let written = written.expect("it is written");
        if let Some(generation) =
            recorded["metadata"]["generation"].as_i64().filter(|_| recorded["kind"] != "Pod")
        {
            assert_eq!(written.metadata.generation, Some(generation), "{name}");
        }
    }
}

/// The simulated node that stands for a recorded one.
fn simulated(node: &Value) -> String {
    const NODES: usize = 3;
    let number = node.as_str().and_then(|name| name.rsplit('-').next()?.parse::<usize>().ok()).unwrap_or(0);
    format!("sim-node-{}", number % NODES + 1)
}
