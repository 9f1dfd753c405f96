//! Workloads that rollouts take their pod templates from: watched kind by kind, from when on a rollout refers to one.
//!
//! Most clusters have many Deployments and few rollouts that refer to any: a kind that none refers to is neither listed nor watched.

use std::borrow::Cow;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::sync::broadcast::error::RecvError;

use super::Store;
use super::cache::{Cache, Change, Changed, Record};
use super::kinds::{RolloutRecord, WireMetadata};
use super::object::{Key, ObjectId};
use super::reflect::{Scope, Stored, reflect};
use crate::crd::{LabelSelector, ObjectRef, WorkloadKind, WorkloadName};
use crate::plan::Workload;

/// A kind of workloads.
pub trait Kind: Clone + Debug + Send + Sync + 'static {
    /// Which.
    const KIND: WorkloadKind;
    /// Its API group.
    const GROUP: &'static str;
    /// Its plural in paths.
    const PLURAL: &'static str;

    /// The cache that its objects are held in.
    fn cache(workloads: &Workloads) -> &Cache<WorkloadRecord<Self>>;
}

/// Declares kinds: `(type, group, plural, field of Workloads)`.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $group:literal, $plural:literal, $field:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $kind;

        impl Kind for $kind {
            const KIND: WorkloadKind = WorkloadKind::$kind;
            const GROUP: &'static str = $group;
            const PLURAL: &'static str = $plural;

            fn cache(workloads: &Workloads) -> &Cache<WorkloadRecord<Self>> {
                &workloads.$field
            }
        }
    )+};
}

kinds! {
    /// apps Deployment.
    Deployment, "apps", "deployments", deployments;
    /// apps ReplicaSet, whoever owns it.
    ReplicaSet, "apps", "replicasets", replica_sets;
    /// core PodTemplate.
    PodTemplate, "", "podtemplates", pod_templates;
}

/// The caches of all kinds.
#[derive(Debug, Default)]
pub struct Workloads {
    deployments: Cache<WorkloadRecord<Deployment>>,
    replica_sets: Cache<WorkloadRecord<ReplicaSet>>,
    pod_templates: Cache<WorkloadRecord<PodTemplate>>,
}

impl Workloads {
    /// A workload by its name.
    fn get(&self, key: &Key, kind: WorkloadKind) -> Option<Arc<Workload>> {
        fn found<K: Kind>(workloads: &Workloads, key: &Key) -> Option<Arc<Workload>> {
            K::cache(workloads).get(key).map(|record| Arc::clone(&record.workload))
        }
        match kind {
            WorkloadKind::Deployment => found::<Deployment>(self, key),
            WorkloadKind::ReplicaSet => found::<ReplicaSet>(self, key),
            WorkloadKind::PodTemplate => found::<PodTemplate>(self, key),
        }
    }

    /// The version of a workload that is cached.
    pub(super) fn version(&self, key: &Key, kind: WorkloadKind) -> Option<String> {
        self.get(key, kind).map(|workload| workload.resource_version.clone())
    }

    /// Whether the first list of a kind is complete.
    fn has_listed(&self, kind: WorkloadKind) -> bool {
        match kind {
            WorkloadKind::Deployment => self.deployments.has_listed(),
            WorkloadKind::ReplicaSet => self.replica_sets.has_listed(),
            WorkloadKind::PodTemplate => self.pod_templates.has_listed(),
        }
    }
}

/// A workload with the fields that plans read.
#[derive(Clone, Debug)]
pub struct WorkloadRecord<K> {
    metadata: ObjectMeta,
    /// What plans read.
    pub workload: Arc<Workload>,
    kind: PhantomData<K>,
}

#[derive(Deserialize)]
struct Wire {
    metadata: WireMetadata,
    #[serde(default)]
    spec: WireSpec,
    /// Of a PodTemplate, which has no spec.
    template: Option<Value>,
}

#[derive(Default, Deserialize)]
struct WireSpec {
    replicas: Option<i32>,
    selector: Option<LabelSelector>,
    template: Option<Value>,
}

impl<'de, K: Kind> Deserialize<'de> for WorkloadRecord<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire { metadata, spec, template } = Wire::deserialize(deserializer)?;
        let identity = metadata.identity();
        let has_replicas = K::KIND != WorkloadKind::PodTemplate;
        let workload = Workload {
            name: WorkloadName { kind: K::KIND, name: metadata.name },
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            generation: metadata.generation,
            replicas: if has_replicas { spec.replicas.unwrap_or(1) } else { 0 },
            selector: spec.selector,
            template: Arc::new(spec.template.or(template).unwrap_or_default()),
        };
        Ok(Self { metadata: identity, workload: Arc::new(workload), kind: PhantomData })
    }
}

impl<K: Kind> Resource for WorkloadRecord<K> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::KIND.as_str().into()
    }

    fn group((): &()) -> Cow<'_, str> {
        K::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<K: Kind> Record for WorkloadRecord<K> {
    fn controller(&self) -> Option<&str> {
        None
    }
}

impl<K: Kind> Stored for WorkloadRecord<K> {
    const KIND: &'static str = K::PLURAL;

    fn cache(store: &Store) -> &Cache<Self> {
        K::cache(&store.workloads)
    }

    fn changed(&self, _: Change) -> Changed {
        let namespace = self.metadata.namespace.clone().unwrap_or_default();
        Changed::Workload { namespace, name: self.workload.name.clone() }
    }

    fn written(key: Key) -> ObjectId {
        ObjectId::Workload(K::KIND, key)
    }
}

/// What plans read of a workload.
///
/// # Errors
///
/// Where the object is none of the kind.
pub fn read(kind: WorkloadKind, object: &Value) -> Result<Arc<Workload>, serde_json::Error> {
    fn of<K: Kind>(object: &Value) -> Result<Arc<Workload>, serde_json::Error> {
        WorkloadRecord::<K>::deserialize(object).map(|record| record.workload)
    }
    match kind {
        WorkloadKind::Deployment => of::<Deployment>(object),
        WorkloadKind::ReplicaSet => of::<ReplicaSet>(object),
        WorkloadKind::PodTemplate => of::<PodTemplate>(object),
    }
}

/// Watches one kind of workloads into its cache, for ever, from when on a rollout refers to one.
pub async fn reflect_workloads<K: Kind>(store: Arc<Store>, client: Client, namespace: Option<String>) {
    store.refers_to(K::KIND).await;
    reflect::<WorkloadRecord<K>>(store, client, Scope { namespace, labels: String::new() }).await;
}

/// Whether a rollout refers to a workload of a kind.
fn refers_to(record: &RolloutRecord, kind: WorkloadKind) -> bool {
    named(record).is_some_and(|named| named.kind == kind)
}

fn named(record: &RolloutRecord) -> Option<WorkloadName> {
    record.decoded.as_ref().ok()?.spec.workload_ref.as_ref().and_then(ObjectRef::workload)
}

impl Store {
    /// The workload that a rollout of a namespace refers to, where the caches have it.
    #[must_use]
    pub(crate) fn workload(&self, namespace: &str, named: &WorkloadName) -> Option<Arc<Workload>> {
        self.workloads.get(&Key::new(namespace, &*named.name), named.kind)
    }

    /// Takes a workload in as it was just written, unless its kind is not watched: nobody would learn that it became another.
    pub(crate) fn take_in_workload(&self, kind: WorkloadKind, object: &Value) {
        fn take_in<K: Kind>(store: &Store, object: &Value) {
            // What is no object of the kind is left to the watch.
            let Ok(record) = WorkloadRecord::<K>::deserialize(object) else { return };
            let cache = K::cache(&store.workloads);
            if cache.has_listed() || cache.get(&Key::of(&record)).is_some() {
                store.take_in(record);
            }
        }
        match kind {
            WorkloadKind::Deployment => take_in::<Deployment>(self, object),
            WorkloadKind::ReplicaSet => take_in::<ReplicaSet>(self, object),
            WorkloadKind::PodTemplate => take_in::<PodTemplate>(self, object),
        }
    }

    /// The rollouts of a namespace that refer to a workload.
    #[must_use]
    pub fn rollouts_of_workload(&self, namespace: &str, workload: &WorkloadName) -> Vec<Key> {
        let all = self.rollouts.page(Some(namespace), None, usize::MAX);
        let referring = all.iter().filter(|record| named(record).as_ref() == Some(workload));
        referring.map(|record| Key::of(&**record)).collect()
    }

    /// Waits until the first list of a kind of workloads is complete.
    pub(crate) async fn workloads_listed(&self, kind: WorkloadKind) {
        let mut listed = self.listed.subscribe();
        // The sender lives as long as `self`.
        let _ = listed.wait_for(|()| self.workloads.has_listed(kind)).await;
    }

    /// Waits until a rollout refers to a workload of a kind.
    async fn refers_to(&self, kind: WorkloadKind) {
        let mut changes = self.changes();
        let refers = |record: &Arc<RolloutRecord>| refers_to(record, kind);
        while !self.rollouts.all().iter().any(refers) {
            loop {
                match changes.recv().await {
                    Ok(Changed::Rollout(key, _)) if self.rollouts.get(&key).as_ref().is_some_and(refers) => {
                        return;
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break,
                    // The store lives as long as whoever asks.
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn a_workload_is_read_whatever_its_kind() {
        let template = json!({ "spec": { "containers": [] } });
        let metadata = json!({ "name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7", "generation": 3,
            "managedFields": [{}] });
        let deployment = json!({ "metadata": metadata, "spec": { "selector": { "matchLabels": { "app": "web" } },
            "template": template, "strategy": {} }, "status": { "replicas": 4 } });
        let record: WorkloadRecord<Deployment> = from_value(deployment).unwrap();
        let read = &record.workload;
        assert_eq!((read.generation, read.replicas, &*read.template), (3, 1, &template));
        assert!(read.selector.is_some());
        let pod_template: WorkloadRecord<PodTemplate> =
            from_value(json!({ "metadata": metadata, "template": template })).unwrap();
        let read = &pod_template.workload;
        assert_eq!((read.replicas, &read.selector, &*read.template), (0, &None, &template));
        assert_eq!(
            WorkloadRecord::<PodTemplate>::url_path(&(), Some("shop")),
            "/api/v1/namespaces/shop/podtemplates"
        );
        assert_eq!(WorkloadRecord::<Deployment>::url_path(&(), None), "/apis/apps/v1/deployments");
    }

    #[tokio::test(start_paused = true)]
    async fn a_kind_is_waited_for_until_a_rollout_refers_to_it() {
        let store = Arc::new(Store::default());
        let waits = |kind| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.refers_to(kind).await })
        };
        let (deployments, sets) = (waits(WorkloadKind::Deployment), waits(WorkloadKind::ReplicaSet));
        tokio::task::yield_now().await;
        let rollout = |name: &str, reference: Value| -> RolloutRecord {
            from_value(json!({ "metadata": { "name": name, "namespace": "shop", "uid": name, "resourceVersion": "1" },
                "spec": { "workloadRef": reference } }))
            .unwrap()
        };
        store.take_in(rollout("plain", Value::Null));
        let reference = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web" });
        store.take_in(rollout("web", reference));
        deployments.await.unwrap();
        assert!(!sets.is_finished(), "nobody refers to a ReplicaSet");
        let named = WorkloadName { kind: WorkloadKind::Deployment, name: "web".to_owned() };
        assert_eq!(store.rollouts_of_workload("shop", &named), [Key::new("shop", "web")]);
        assert!(store.rollouts_of_workload("other", &named).is_empty());
    }
}
