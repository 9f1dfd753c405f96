//! Typed writes. Each carries the version that it was decided on, and tells the caches what to expect.
//!
//! Patches, not whole objects (but where there is no right to patch: [`right`]). A refusal says whether looking again helps
//! ([`WriteError::Stale`]), whether the object is gone, or what the server has against it. Every request has a deadline.

#[cfg(test)]
mod answers;
mod pod;
mod right;
mod workload;

pub use pod::Kept;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions,
};
use kube::core::Status;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::Store;
use super::expect::Expectation;
use super::kinds::{PodRecord, RolloutRecord, ServiceRecord, SetRecord};
use super::object::{Key, ObjectId, is_at_least};
use super::reflect::Stored;
use super::workload::{Deployment, PodTemplate, ReplicaSet};
use crate::crd::WorkloadKind;
use crate::plan::{UNAVAILABLE, Version};

/// How long a write may take: longer than a healthy API server ever does, short enough that a hung connection does not hold a
/// rollout.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The object is another than it was, or another request got there first: look again.
    #[error("the object has changed")]
    Stale,
    /// The object is gone.
    #[error("the object is gone")]
    Gone,
    /// The name is taken.
    #[error("the name is taken")]
    Taken,
    /// The server refused; trying the same again may or may not help.
    #[error("{}", .0.message)]
    Refused(Refusal),
}

/// What the server has against a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its reason in one word, such as `Forbidden`; `Unavailable` when it did not answer.
    pub reason: String,
    /// Its message.
    pub message: String,
    /// What it says of the write.
    pub fate: Fate,
}

impl Refusal {
    /// Whether there is no right to the write, rather than that this one is not admitted, which servers call forbidden as well.
    #[must_use]
    pub fn lacks_right(&self) -> bool {
        self.reason == "Forbidden" && self.message.contains(" is forbidden: User ")
    }
}

/// What a refusal says of the write that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was not carried out, for what it is.
    Denied,
    /// It was not carried out because the server has too much to do: that says nothing of what was sent.
    NotBegun,
    /// It may have been carried out all the same.
    Unknown,
}

/// Whether a question to the server was answered.
#[derive(Clone, Debug, PartialEq)]
pub enum DryRun {
    /// The object as it would be stored.
    Stored(Value),
    /// The server refused to say.
    Refused(Refusal),
}

/// Writes to rollouts, their ReplicaSets and pods, Services, and Deployments that rollouts take over from.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    store: Arc<Store>,
    /// Whether pods turned out to be writable by update only.
    updates_pods: Arc<AtomicBool>,
    /// The same of Deployments.
    updates_deployments: Arc<AtomicBool>,
}

impl Writer {
    /// A writer that sends through this client and tells these caches.
    #[must_use]
    pub fn new(client: Client, store: Arc<Store>) -> Self {
        Self { client, store, updates_pods: Arc::default(), updates_deployments: Arc::default() }
    }

    /// Creates a ReplicaSet of a rollout.
    ///
    /// # Errors
    ///
    /// [`WriteError::Taken`] when the name is.
    pub async fn create_set(&self, rollout: &Key, name: &str, object: &Value) -> Result<(), WriteError> {
        let object = dynamic(object)?;
        let created = self.answer(self.dynamic_sets(rollout).create(&PostParams::default(), &object)).await;
        self.doubt(&ObjectId::ReplicaSet(Key::new(&*rollout.namespace, name)), rollout, &created);
        let created = created?;
        self.expect_set(rollout, name, created.resource_version());
        Ok(())
    }

    /// Changes a ReplicaSet by a JSON merge patch.
    ///
    /// # Errors
    ///
    /// [`WriteError::Stale`] when the version is not the current one.
    pub async fn patch_set(
        &self,
        rollout: &Key,
        name: &str,
        version: &Version,
        patch: &Value,
    ) -> Result<(), WriteError> {
        let api = self.sets(rollout);
        let (params, patch) = conditional(patch, version);
        let request = api.patch(name, &params, &patch);
        let object = ObjectId::ReplicaSet(Key::new(&*rollout.namespace, name));
        let set = self.answer_for(object, rollout, version, request).await?;
        self.expect_set(rollout, name, set.resource_version());
        Ok(())
    }

    /// Deletes a ReplicaSet.
    ///
    /// # Errors
    ///
    /// [`WriteError::Stale`] when the version is not the current one.
    pub async fn delete_set(&self, rollout: &Key, name: &str, version: &Version) -> Result<(), WriteError> {
        let api = self.sets(rollout);
        let preconditions = Preconditions {
            uid: Some(version.uid.clone()),
            resource_version: Some(version.resource_version.clone()),
        };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        let object = ObjectId::ReplicaSet(Key::new(&*rollout.namespace, name));
        self.answer_for(object.clone(), rollout, version, api.delete(name, &params)).await?;
        self.store.expect(&object, rollout, &Expectation::Gone);
        Ok(())
    }

    /// Changes a rollout by a JSON merge patch. Gives its new version.
    ///
    /// # Errors
    ///
    /// [`WriteError::Stale`] when the version is not the current one.
    pub async fn patch_rollout(
        &self,
        rollout: &Key,
        version: &Version,
        patch: &Value,
    ) -> Result<Version, WriteError> {
        let api = self.rollouts(rollout);
        let (params, patch) = conditional(patch, version);
        let request = api.patch(&rollout.name, &params, &patch);
        self.written_rollout(rollout, version, request).await
    }

    /// Changes the status of a rollout by a JSON merge patch of it. Gives its new version.
    ///
    /// # Errors
    ///
    /// [`WriteError::Stale`] when the version is not the current one.
    pub async fn patch_status(
        &self,
        rollout: &Key,
        version: &Version,
        status: &Value,
    ) -> Result<Version, WriteError> {
        let api = self.rollouts(rollout);
        let (params, patch) = conditional(&json!({ "status": status }), version);
        let request = async {
            let written = api.patch_status(&rollout.name, &params, &patch).await?;
            if let Ok(stored) = &written.decoded {
                let stored = serde_json::to_value(stored.status()).unwrap_or_default();
                self.store.memory.compare_status(status, &stored);
            }
            Ok(written)
        };
        self.written_rollout(rollout, version, request).await
    }

    /// Changes a Service by a JSON merge patch.
    ///
    /// # Errors
    ///
    /// [`WriteError::Stale`] when the version is not the current one.
    pub async fn patch_service(
        &self,
        rollout: &Key,
        name: &str,
        version: &Version,
        patch: &Value,
    ) -> Result<(), WriteError> {
        let api = self.services(rollout);
        let (params, patch) = conditional(patch, version);
        let request = api.patch(name, &params, &patch);
        let object = ObjectId::Service(Key::new(&*rollout.namespace, name));
        let service = self.answer_for(object.clone(), rollout, version, request).await?;
        let written = Expectation::AtLeast(service.resource_version().unwrap_or_default());
        self.store.expect(&object, rollout, &written);
        Ok(())
    }

    /// Evicts a pod, unless a PodDisruptionBudget asks for patience.
    ///
    /// # Errors
    ///
    /// [`WriteError::Gone`] when there is no such pod, or another one of this name; [`WriteError::Refused`] with reason
    /// [`DISRUPTION_BUDGET`] when a budget does not permit it now.
    pub async fn evict(&self, rollout: &Key, pod: &str, uid: &str) -> Result<(), WriteError> {
        let api: Api<PodRecord> = Api::namespaced(self.client.clone(), &rollout.namespace);
        // `Api::evict` puts the options under a name that servers do not know, so that they count for nothing.
        let preconditions =
            meta::Preconditions { uid: Some(uid.to_owned()), ..meta::Preconditions::default() };
        let eviction = Eviction {
            metadata: meta::ObjectMeta { name: Some(pod.to_owned()), ..meta::ObjectMeta::default() },
            delete_options: Some(meta::DeleteOptions {
                preconditions: Some(preconditions),
                ..meta::DeleteOptions::default()
            }),
        };
        let object = ObjectId::Pod(Key::new(&*rollout.namespace, pod));
        let request = async {
            let posted: kube::Result<Value> =
                api.create_subresource("eviction", pod, &PostParams::default(), &eviction).await;
            match posted {
                Err(kube::Error::Api(status)) if is_budgets(&status) => Ok(Err(status.message)),
                answer => answer.map(Ok),
            }
        };
        let answer = self.answer(request).await;
        self.doubt(&object, rollout, &answer);
        match answer {
            Ok(Ok(_)) => self.store.expect(&object, rollout, &Expectation::Going),
            Ok(Err(message)) => return Err(WriteError::Refused(refusal(DISRUPTION_BUDGET, message))),
            // The uid is another's, or nobody has the name any more: until that is seen, there is nothing to be decided.
            Err(WriteError::Stale | WriteError::Gone) => {
                self.store.expect(&object, rollout, &Expectation::Going);
                return Err(WriteError::Gone);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Looks afresh whether a Service exists, and takes it in if it does.
    ///
    /// # Errors
    ///
    /// [`WriteError::Refused`] when the server does not answer.
    pub async fn look_for_service(&self, rollout: &Key, name: &str) -> Result<bool, WriteError> {
        let found = self.answer(self.services(rollout).get_opt(name)).await?;
        let is_there = found.is_some();
        if let Some(service) = found {
            self.store.take_in(service);
        }
        Ok(is_there)
    }

    /// Looks afresh whether a rollout exists, also one that is another controller's and so in no cache.
    ///
    /// # Errors
    ///
    /// [`WriteError::Refused`] when the server does not answer.
    pub async fn look_for_rollout(&self, rollout: &Key) -> Result<bool, WriteError> {
        Ok(self.answer(self.rollouts(rollout).get_opt(&rollout.name)).await?.is_some())
    }

    /// Reads an object afresh into the caches, and expects nothing more of it that was expected before.
    ///
    /// # Errors
    ///
    /// [`WriteError::Refused`] when the server does not answer.
    pub async fn refresh(&self, object: &ObjectId) -> Result<(), WriteError> {
        let (key, number) = (object.key(), self.store.own.number(object));
        match object {
            ObjectId::Rollout(_) => self.read_afresh(self.rollouts(key), key).await?,
            ObjectId::ReplicaSet(_) => self.read_afresh(self.sets(key), key).await?,
            ObjectId::Service(_) => self.read_afresh(self.services(key), key).await?,
            ObjectId::Workload(WorkloadKind::Deployment, _) => {
                self.read_afresh(self.workloads::<Deployment>(key), key).await?;
            }
            ObjectId::Workload(WorkloadKind::ReplicaSet, _) => {
                self.read_afresh(self.workloads::<ReplicaSet>(key), key).await?;
            }
            ObjectId::Workload(WorkloadKind::PodTemplate, _) => {
                self.read_afresh(self.workloads::<PodTemplate>(key), key).await?;
            }
            ObjectId::Pod(_) => {
                let api: Api<PodRecord> = Api::namespaced(self.client.clone(), &key.namespace);
                self.read_afresh(api, key).await?;
            }
        }
        self.store.own.forget(object, number);
        Ok(())
    }

    /// By a list of one, which whoever may watch may ask for (Argo Rollouts' own ClusterRole lets nobody get a pod), and which has just
    /// what the watch has, and ReplicaSets of ours that lost the label by which they are watched.
    async fn read_afresh<R: Stored>(&self, api: Api<R>, key: &Key) -> Result<(), WriteError> {
        let cache = R::cache(&self.store);
        let reading = cache.read_past(key);
        let mut this = ListParams::default().fields(&format!("metadata.name={}", key.name));
        if !R::READ_WITHOUT_LABEL {
            this = this.labels(cache.selector());
        }
        let list = self.answer(api.list(&this)).await?;
        match list.items.into_iter().next().filter(|object| object.is_known(&self.store)) {
            Some(_) if reading.is_outdated() => {}
            Some(object) => self.store.take_in(object),
            None => {
                let as_of = list.metadata.resource_version.unwrap_or_default();
                let is_newer = cache.version(key).is_some_and(|cached| !is_at_least(&as_of, &cached));
                if !is_newer {
                    self.store.take_out::<R>(key);
                }
            }
        }
        Ok(())
    }

    /// Reads a ReplicaSet afresh.
    ///
    /// # Errors
    ///
    /// [`WriteError::Refused`] when the server does not answer.
    pub async fn read_set(&self, rollout: &Key, name: &str) -> Result<Option<SetRecord>, WriteError> {
        self.answer(self.sets(rollout).get_opt(name)).await
    }

    /// Whether a rollout is still there, by a fresh look: the same object, and not being deleted.
    ///
    /// # Errors
    ///
    /// [`WriteError::Refused`] when the server does not answer.
    pub async fn is_alive(&self, rollout: &Key, uid: &str) -> Result<bool, WriteError> {
        let found = self.answer(self.rollouts(rollout).get_metadata_opt(&rollout.name)).await?;
        let is_alive = found.is_some_and(|found| {
            found.metadata.uid.as_deref() == Some(uid) && found.metadata.deletion_timestamp.is_none()
        });
        if !is_alive && let Some(known) = self.store.rollouts.get(rollout) {
            // The cache has yet to learn of it.
            let newer = Expectation::NewerThan(known.resource_version().unwrap_or_default());
            self.store.expect(&ObjectId::Rollout(rollout.clone()), rollout, &newer);
        }
        Ok(is_alive)
    }

    /// Asks how a ReplicaSet would be stored, without storing it.
    ///
    /// # Errors
    ///
    /// [`WriteError::Refused`] when the server does not answer at all.
    pub async fn dry_run_set(&self, rollout: &Key, object: &Value) -> Result<DryRun, WriteError> {
        let params = PostParams { dry_run: true, ..PostParams::default() };
        match self.answer(self.dynamic_sets(rollout).create(&params, &dynamic(object)?)).await {
            Ok(stored) => Ok(DryRun::Stored(stored.data)),
            Err(WriteError::Refused(refusal)) if refusal.fate != Fate::Denied => {
                Err(WriteError::Refused(refusal))
            }
            Err(error) => Ok(DryRun::Refused(refusal("", error.to_string()))),
        }
    }

    fn rollouts(&self, rollout: &Key) -> Api<RolloutRecord> {
        Api::namespaced(self.client.clone(), &rollout.namespace)
    }

    fn sets(&self, rollout: &Key) -> Api<SetRecord> {
        Api::namespaced(self.client.clone(), &rollout.namespace)
    }

    fn services(&self, rollout: &Key) -> Api<ServiceRecord> {
        Api::namespaced(self.client.clone(), &rollout.namespace)
    }

    /// ReplicaSets as plain JSON, for those that are written whole.
    fn dynamic_sets(&self, rollout: &Key) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<SetRecord>(&());
        Api::namespaced_with(self.client.clone(), &rollout.namespace, &kind)
    }

    fn expect_set(&self, rollout: &Key, name: &str, version: Option<String>) {
        let object = ObjectId::ReplicaSet(Key::new(&*rollout.namespace, name));
        self.store.expect(&object, rollout, &Expectation::AtLeast(version.unwrap_or_default()));
    }

    async fn written_rollout(
        &self,
        rollout: &Key,
        version: &Version,
        request: impl Future<Output = kube::Result<RolloutRecord>>,
    ) -> Result<Version, WriteError> {
        let object = ObjectId::Rollout(rollout.clone());
        let written = self.answer_for(object.clone(), rollout, version, request).await?;
        let resource_version = written.resource_version().unwrap_or_default();
        self.store.expect(&object, rollout, &Expectation::AtLeast(resource_version.clone()));
        Ok(Version { uid: version.uid.clone(), resource_version })
    }

    /// Waits for the answer to a conditional write; one that was stale makes us wait for what made it so.
    async fn answer_for<T>(
        &self,
        object: ObjectId,
        rollout: &Key,
        version: &Version,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, WriteError> {
        let answer = self.answer(request).await;
        self.learn(&object, rollout, version, &answer);
        answer
    }

    /// What a conditional write that was not carried out says of its object.
    fn learn<T>(&self, object: &ObjectId, rollout: &Key, version: &Version, answer: &Result<T, WriteError>) {
        // An object that is gone is seen to be by and by: until then there is nothing to be decided about it.
        if let Err(WriteError::Stale | WriteError::Gone) = answer {
            let newer = Expectation::NewerThan(version.resource_version.clone());
            self.store.expect(object, rollout, &newer);
        }
        self.doubt(object, rollout, answer);
    }

    /// After a write that may have been carried out though it found no answer, its object is to be read afresh.
    fn doubt<T>(&self, object: &ObjectId, rollout: &Key, answer: &Result<T, WriteError>) {
        if matches!(answer, Err(WriteError::Refused(refusal)) if refusal.fate == Fate::Unknown) {
            self.store.expect(object, rollout, &Expectation::Unsure);
        }
    }

    async fn answer<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, WriteError> {
        match tokio::time::timeout(REQUEST_DEADLINE, request).await {
            Ok(answer) => answer.map_err(classify),
            Err(_) => Err(unavailable(format!("no answer within {}s", REQUEST_DEADLINE.as_secs()))),
        }
    }
}

/// The reason of an eviction that was refused because a PodDisruptionBudget does not permit it now.
pub const DISRUPTION_BUDGET: &str = "DisruptionBudget";

/// Whether a refusal is a disruption budget's, rather than that of a server with too much to do.
fn is_budgets(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 429 && causes.into_iter().any(|cause| cause.reason == DISRUPTION_BUDGET)
}

fn refusal(reason: &str, message: String) -> Refusal {
    Refusal { reason: reason.to_owned(), message, fate: Fate::Denied }
}

fn unavailable(message: String) -> WriteError {
    WriteError::Refused(Refusal { fate: Fate::Unknown, ..refusal(UNAVAILABLE, message) })
}

fn classify(error: kube::Error) -> WriteError {
    let kube::Error::Api(status) = error else { return unavailable(error.to_string()) };
    match (status.code, status.reason.as_str()) {
        (409, "AlreadyExists") => WriteError::Taken,
        (409, _) => WriteError::Stale,
        (404 | 410, _) => WriteError::Gone,
        (429, _) => {
            WriteError::Refused(Refusal { fate: Fate::NotBegun, ..refusal(UNAVAILABLE, status.message) })
        }
        (503 | 504, _) => unavailable(status.message),
        // Such as a webhook that fails: that may last, and is worth saying.
        (500.., reason) => {
            WriteError::Refused(Refusal { fate: Fate::Unknown, ..refusal(reason, status.message) })
        }
        (_, reason) => WriteError::Refused(refusal(reason, status.message)),
    }
}

/// A patch with the version that it was decided on: the server refuses it once the object is another.
fn conditional(patch: &Value, version: &Version) -> (PatchParams, Patch<Value>) {
    let mut patch = patch.clone();
    patch["metadata"]["uid"] = json!(version.uid);
    patch["metadata"]["resourceVersion"] = json!(version.resource_version);
    (PatchParams::default(), Patch::Merge(patch))
}

fn dynamic(object: &Value) -> Result<DynamicObject, WriteError> {
    serde_json::from_value(object.clone())
        .map_err(|error| WriteError::Refused(refusal("Invalid", error.to_string())))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn an_eviction_means_one_pod_and_no_other_of_its_name() {
        let sent: Arc<Mutex<Vec<Value>>> = Arc::default();
        let received = Arc::clone(&sent);
        let serve = move |request: http::Request<kube::client::Body>| {
            let received = Arc::clone(&received);
            async move {
                assert_eq!(request.uri().path(), "/api/v1/namespaces/shop/pods/web-a/eviction");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                received.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                let conflict = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 409,
                    "reason": "Conflict", "message": "the UID in the precondition does not match" });
                let body = kube::client::Body::from(conflict.to_string().into_bytes());
                Ok::<_, Infallible>(http::Response::builder().status(409).body(body).unwrap())
            }
        };
        let writer = Writer::new(Client::new(tower::service_fn(serve), "default"), Arc::default());
        let answer = writer.evict(&Key::new("shop", "web"), "web-a", "uid-a").await;
        assert!(matches!(answer, Err(WriteError::Gone)), "{answer:?}");
        let wanted = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "web-a" },
            "deleteOptions": { "preconditions": { "uid": "uid-a" } } });
        assert_eq!(*sent.lock().unwrap(), [wanted]);
    }

    #[tokio::test]
    async fn an_object_that_was_deleted_while_it_was_read_is_not_put_back() {
        let store: Arc<Store> = Arc::default();
        store.sets.watches("rollouts-pod-template-hash");
        let set = json!({ "metadata": { "name": "web-1", "namespace": "shop", "resourceVersion": "7",
            "labels": { "rollouts-pod-template-hash": "1" } }, "spec": {} });
        store.take_in::<SetRecord>(serde_json::from_value(set.clone()).unwrap());
        let key = Key::new("shop", "web-1");
        let (deleting, deleted) = (Arc::clone(&store), key.clone());
        let serve = move |request: http::Request<kube::client::Body>| {
            let (store, key, set) = (Arc::clone(&deleting), deleted.clone(), set.clone());
            async move {
                let query = request.uri().query().unwrap_or_default();
                assert!(query.contains("fieldSelector=metadata.name%3Dweb-1"), "{query}");
                assert!(!query.contains("labelSelector"), "{query}");
                store.take_out::<SetRecord>(&key);
                let list = json!({ "kind": "ReplicaSetList", "apiVersion": "apps/v1",
                    "metadata": { "resourceVersion": "8" }, "items": [set] });
                let body = kube::client::Body::from(list.to_string().into_bytes());
                Ok::<_, Infallible>(http::Response::new(body))
            }
        };
        let writer = Writer::new(Client::new(tower::service_fn(serve), "default"), Arc::clone(&store));
        let (object, rollout) = (ObjectId::ReplicaSet(key.clone()), Key::new("shop", "web"));
        store.own.expect(object.clone(), &rollout, Expectation::Unsure);
        writer.refresh(&object).await.unwrap();
        assert!(store.sets.get(&key).is_none());
        assert!(store.own.rollouts().is_empty(), "nothing is expected of it any more");
    }
}
