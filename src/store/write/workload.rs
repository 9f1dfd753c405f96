//! Workloads that rollouts take their pod templates from: looked for afresh, and Deployments scaled.

use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Map, Value};

use super::super::expect::Expectation;
use super::super::object::{Key, ObjectId};
use super::super::workload::{Deployment, Kind, PodTemplate, ReplicaSet, WorkloadRecord};
use super::right::{is_at, patch_or_update};
use super::{WriteError, Writer, conditional};
use crate::crd::{WorkloadKind, WorkloadName};
use crate::plan::Version;

impl Writer {
    /// Changes the spec of a Deployment that a rollout takes over from by a JSON merge patch.
    ///
    /// # Errors
    ///
    /// [`WriteError::Stale`] when the version is not the current one.
    pub async fn patch_deployment(
        &self,
        rollout: &Key,
        name: &str,
        version: &Version,
        patch: &Value,
    ) -> Result<(), WriteError> {
        let object = ObjectId::Workload(WorkloadKind::Deployment, Key::new(&*rollout.namespace, name));
        let api = self.workloads::<Deployment>(rollout);
        let (params, conditional) = conditional(patch, version);
        let patched = async {
            let deployment = self.answer(api.patch(name, &params, &conditional)).await;
            deployment.map(|deployment| deployment.resource_version().unwrap_or_default())
        };
        let updated = self.update_deployment(rollout, name, version, patch);
        let written = patch_or_update(&self.updates_deployments, patched, updated).await;
        self.learn(&object, rollout, version, &written);
        self.store.expect(&object, rollout, &Expectation::AtLeast(written?));
        Ok(())
    }

    /// By an update of what is read. Gives the new version.
    async fn update_deployment(
        &self,
        rollout: &Key,
        name: &str,
        version: &Version,
        patch: &Value,
    ) -> Result<String, WriteError> {
        let kind = ApiResource::erase::<WorkloadRecord<Deployment>>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &rollout.namespace, &kind);
        let found = self.answer(api.get_opt(name)).await?;
        let Some(mut whole) = found else { return Err(WriteError::Gone) };
        if !is_at(&whole, version) {
            return Err(WriteError::Stale);
        }
        // No more than the spec: the rest of an object is not among its data, or another resource's.
        let spec = patch.get("spec").map(|spec| ("spec".to_owned(), spec.clone()));
        json_patch::merge(&mut whole.data, &Value::Object(Map::from_iter(spec)));
        let written = self.answer(api.replace(name, &PostParams::default(), &whole)).await?;
        Ok(written.resource_version().unwrap_or_default())
    }

    /// Looks afresh whether a workload exists, and takes it in if it does.
    ///
    /// # Errors
    ///
    /// [`WriteError::Refused`] when the server does not answer.
    pub async fn look_for_workload(&self, rollout: &Key, named: &WorkloadName) -> Result<bool, WriteError> {
        match named.kind {
            WorkloadKind::Deployment => self.look_for::<Deployment>(rollout, &named.name).await,
            WorkloadKind::ReplicaSet => self.look_for::<ReplicaSet>(rollout, &named.name).await,
            WorkloadKind::PodTemplate => self.look_for::<PodTemplate>(rollout, &named.name).await,
        }
    }

    async fn look_for<K: Kind>(&self, rollout: &Key, name: &str) -> Result<bool, WriteError> {
        let found = self.answer(self.workloads::<K>(rollout).get_opt(name)).await?;
        let is_there = found.is_some();
        if let Some(found) = found {
            self.store.take_in(found);
        }
        Ok(is_there)
    }

    pub(super) fn workloads<K: Kind>(&self, rollout: &Key) -> Api<WorkloadRecord<K>> {
        Api::namespaced(self.client.clone(), &rollout.namespace)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::super::answers::{refused, writer};
    use super::*;
    use crate::store::Settled;

    fn deployment(version: &str, replicas: i32) -> Value {
        json!({ "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "legacy", "namespace": "shop", "uid": "uid-l", "resourceVersion": version, "labels": { "a": "b" } },
            "spec": { "replicas": replicas, "ofANewerKubernetes": true }, "status": { "replicas": 3 } })
    }

    fn key() -> Key {
        Key::new("shop", "web")
    }

    fn seen() -> Version {
        Version { uid: "uid-l".to_owned(), resource_version: "7".to_owned() }
    }

    fn patch() -> Value {
        json!({ "spec": { "replicas": 0 } })
    }

    fn cannot_patch() -> (u16, Value) {
        refused(403, "Forbidden", r#"deployments.apps "legacy" is forbidden: User "x" cannot patch"#)
    }

    #[tokio::test(start_paused = true)]
    async fn a_deployment_is_patched_under_the_version_that_was_decided_on() {
        let (writer, asked, store) = writer(|_| (200, deployment("8", 0)));
        writer.patch_deployment(&key(), "legacy", &seen(), &patch()).await.unwrap();
        let (method, uri, body) = asked.lock().unwrap().remove(0);
        let path = "/apis/apps/v1/namespaces/shop/deployments/legacy";
        assert_eq!((method, uri.split('?').next()), (Method::PATCH, Some(path)));
        assert_eq!(body["metadata"], json!({ "uid": "uid-l", "resourceVersion": "7" }));
        assert_eq!(body["spec"], json!({ "replicas": 0 }));
        assert_ne!(store.own.settled(&key()), Settled::Yes, "it is waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_right_to_patch_the_whole_deployment_is_read_and_put_back() {
        let (writer, asked, _) = writer(|method| match *method {
            Method::PATCH => cannot_patch(),
            Method::GET => (200, deployment("7", 3)),
            _ => (200, deployment("8", 0)),
        });
        for _ in 0..2 {
            writer.patch_deployment(&key(), "legacy", &seen(), &patch()).await.unwrap();
        }
        let asked = asked.lock().unwrap();
        let methods: Vec<&Method> = asked.iter().map(|(method, ..)| method).collect();
        // That patches are forbidden is asked once.
        assert_eq!(methods, [Method::PATCH, Method::GET, Method::PUT, Method::GET, Method::PUT]);
        let mut sent = asked[2].2.clone();
        if sent["metadata"]["annotations"] == json!({}) {
            sent["metadata"].as_object_mut().unwrap().remove("annotations");
        }
        assert_eq!(sent, deployment("7", 0), "nothing but the replicas is changed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deployment_that_changed_is_looked_at_again() {
        let (writer, asked, store) = writer(|method| match *method {
            Method::PATCH => cannot_patch(),
            _ => (200, deployment("9", 3)),
        });
        let answer = writer.patch_deployment(&key(), "legacy", &seen(), &patch()).await;
        assert!(matches!(answer, Err(WriteError::Stale)), "{answer:?}");
        assert_eq!(asked.lock().unwrap().len(), 2, "it is not written");
        assert_ne!(store.own.settled(&key()), Settled::Yes, "the newer one is waited for");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deployment_that_may_not_be_written_at_all_names_the_right_to_patch() {
        for forbidden in [Method::GET, Method::PUT] {
            let (writer, ..) = writer(move |method| match *method {
                Method::PATCH => cannot_patch(),
                _ if *method == forbidden => refused(403, "Forbidden", "cannot update"),
                _ => (200, deployment("7", 3)),
            });
            let answer = writer.patch_deployment(&key(), "legacy", &seen(), &patch()).await;
            assert!(
                matches!(&answer, Err(WriteError::Refused(refusal)) if refusal.message.ends_with("cannot patch")),
                "{answer:?}"
            );
        }
    }
}
