//! Labels and annotations of live pods.
//!
//! By patch, where there is the right to: of the cached pods nobody keeps more than is read. Argo Rollouts' own ClusterRole (contract
//! A13) grants list and update of pods, but neither patch nor get: then the whole pod is read by a list of one ([`super::right`]).

use kube::api::{ListParams, Patch, PostParams, TypeMeta};
use serde_json::Map;

use super::right::{is_at, patch_or_update};
use super::{
    Api, ApiResource, DynamicObject, Expectation, Key, ObjectId, PodRecord, ResourceExt, Value, Version,
    WriteError, Writer, conditional,
};

/// What came of a write to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The pod has what was written.
    Yes,
    /// The API server took the write, and the pod has something else: somebody admits pods with other values.
    No,
}

impl Writer {
    /// Changes labels and annotations of a pod by a JSON merge patch of them. The pod is not to be written again before the cache shows
    /// it; no plan waits for that.
    ///
    /// # Errors
    ///
    /// [`WriteError::Stale`] when the version is not the current one.
    pub async fn label_pod(
        &self,
        rollout: &Key,
        pod: &str,
        version: &Version,
        patch: &Value,
    ) -> Result<Kept, WriteError> {
        let object = ObjectId::Pod(Key::new(&*rollout.namespace, pod));
        let answer = self.write_pod(&rollout.namespace, pod, version, patch).await;
        let expected = match &answer {
            Ok(written) => Expectation::AtLeast(written.resource_version().unwrap_or_default()),
            Err(WriteError::Stale | WriteError::Gone) => {
                Expectation::NewerThan(version.resource_version.clone())
            }
            // Should it have been carried out all the same, then it is refused as stale when it is tried again.
            Err(_) => return answer.map(|_| Kept::Yes),
        };
        self.store.expect_label(&object, rollout, &expected);
        answer.map(|written| if has(&written, patch) { Kept::Yes } else { Kept::No })
    }

    async fn write_pod(
        &self,
        namespace: &str,
        pod: &str,
        version: &Version,
        patch: &Value,
    ) -> Result<PodRecord, WriteError> {
        let api: Api<PodRecord> = Api::namespaced(self.client.clone(), namespace);
        let (params, conditional): (_, Patch<Value>) = conditional(patch, version);
        let patched = self.answer(api.patch(pod, &params, &conditional));
        patch_or_update(&self.updates_pods, patched, self.update_pod(namespace, pod, version, patch)).await
    }

    /// By a list of one and an update of what that gave.
    async fn update_pod(
        &self,
        namespace: &str,
        pod: &str,
        version: &Version,
        patch: &Value,
    ) -> Result<PodRecord, WriteError> {
        let kind = ApiResource::erase::<PodRecord>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &kind);
        let this = ListParams::default().fields(&format!("metadata.name={pod}"));
        let found = self.answer(api.list(&this)).await?.items.into_iter().next();
        let Some(mut whole) = found else { return Err(WriteError::Gone) };
        if !is_at(&whole, version) {
            return Err(WriteError::Stale);
        }
        // What is in a list does not say what it is.
        whole.types = Some(TypeMeta { api_version: kind.api_version.clone(), kind: kind.kind.clone() });
        merge(whole.labels_mut(), patch, "labels");
        merge(whole.annotations_mut(), patch, "annotations");
        let written = self.answer(api.replace(pod, &PostParams::default(), &whole)).await?;
        let written = serde_json::to_value(written).and_then(serde_json::from_value);
        written.map_err(|error| WriteError::Refused(super::refusal("Invalid", error.to_string())))
    }

    /// Reads a pod afresh whose cache entry does not show a write of ours for long.
    ///
    /// # Errors
    ///
    /// [`WriteError::Refused`] when the server does not answer.
    pub async fn refresh_pod(&self, pod: &ObjectId) -> Result<(), WriteError> {
        let number = self.store.labels.number(pod);
        let api: Api<PodRecord> = Api::namespaced(self.client.clone(), &pod.key().namespace);
        self.read_afresh(api, pod.key()).await?;
        self.store.labels.forget(pod, number);
        Ok(())
    }
}

/// Whether a pod has what a patch was to give it.
fn has(pod: &PodRecord, patch: &Value) -> bool {
    let parts = [("labels", &pod.marks.labels), ("annotations", &pod.marks.annotations)];
    parts.into_iter().all(|(field, values)| {
        entries(patch, field).all(|(key, value)| values.get(key).map(String::as_str) == value.as_str())
    })
}

fn merge(values: &mut std::collections::BTreeMap<String, String>, patch: &Value, field: &str) {
    for (key, value) in entries(patch, field) {
        match value.as_str() {
            Some(value) => values.insert(key.clone(), value.to_owned()),
            None => values.remove(key),
        };
    }
}

fn entries<'a>(patch: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    let metadata = patch.get("metadata").and_then(|metadata| metadata.get(field));
    metadata.and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::Method;
    use serde_json::json;

    use super::super::answers::{Asked, refused, writer as answered};
    use super::*;
    use crate::store::{Settled, Store};

    /// A writer whose cache has the pod.
    fn writer(
        answer: impl Fn(&Method) -> (u16, Value) + Clone + Send + Sync + 'static,
    ) -> (Writer, Asked, Arc<Store>) {
        let (writer, asked, store) = answered(answer);
        store.take_in::<PodRecord>(serde_json::from_value(pod("7", &json!({}))).unwrap());
        (writer, asked, store)
    }

    fn pod(version: &str, labels: &Value) -> Value {
        json!({ "metadata": { "name": "web-a", "namespace": "shop", "uid": "uid-a", "resourceVersion": version, "labels": labels },
            "spec": { "of-a-newer-kubernetes": true }, "status": { "phase": "Running" } })
    }

    fn key() -> Key {
        Key::new("shop", "web")
    }

    fn seen() -> Version {
        Version { uid: "uid-a".to_owned(), resource_version: "7".to_owned() }
    }

    fn patch() -> Value {
        json!({ "metadata": { "labels": { "status": "stable", "role": null } } })
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_is_patched_under_the_version_that_was_decided_on_and_no_plan_waits() {
        let (writer, asked, store) = writer(|_| (200, pod("8", &json!({ "status": "stable" }))));
        let kept = writer.label_pod(&key(), "web-a", &seen(), &patch()).await.unwrap();
        assert_eq!(kept, Kept::Yes);
        let (method, uri, body) = asked.lock().unwrap().remove(0);
        assert_eq!(
            (method, uri.split('?').next()),
            (Method::PATCH, Some("/api/v1/namespaces/shop/pods/web-a"))
        );
        assert_eq!(
            body["metadata"],
            json!({ "labels": { "status": "stable", "role": null }, "uid": "uid-a", "resourceVersion": "7" })
        );
        assert_eq!(store.own.settled(&key()), Settled::Yes);
        let object = ObjectId::Pod(Key::new("shop", "web-a"));
        assert!(!store.labels.allows(&object, "7") && store.labels.allows(&object, "8"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_others_make_of_a_write_is_noticed() {
        let (writer, ..) = writer(|_| (200, pod("8", &json!({ "status": "mine" }))));
        assert_eq!(writer.label_pod(&key(), "web-a", &seen(), &patch()).await.unwrap(), Kept::No);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_changed_is_looked_at_again_once_the_cache_shows_it() {
        let (writer, _, store) = writer(|_| refused(409, "Conflict", "the object has been modified"));
        let answer = writer.label_pod(&key(), "web-a", &seen(), &patch()).await;
        assert!(matches!(answer, Err(WriteError::Stale)), "{answer:?}");
        let object = ObjectId::Pod(Key::new("shop", "web-a"));
        assert!(!store.labels.allows(&object, "7") && store.labels.allows(&object, "9"));
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_right_to_patch_the_whole_pod_is_read_by_a_list_of_one_and_put_back() {
        let (writer, asked, _) = writer(|method| match *method {
            Method::PATCH => refused(
                403,
                "Forbidden",
                "pods \"web-a\" is forbidden: User \"x\" cannot patch resource \"pods\"",
            ),
            Method::GET => {
                let pod = pod("7", &json!({ "app": "web", "role": "new" }));
                (
                    200,
                    json!({ "kind": "PodList", "apiVersion": "v1", "metadata": { "resourceVersion": "7" }, "items": [pod] }),
                )
            }
            _ => (200, pod("8", &json!({ "app": "web", "status": "stable" }))),
        });
        for _ in 0..2 {
            assert_eq!(writer.label_pod(&key(), "web-a", &seen(), &patch()).await.unwrap(), Kept::Yes);
        }
        let asked = asked.lock().unwrap();
        let methods: Vec<&Method> = asked.iter().map(|(method, ..)| method).collect();
        // That patches are forbidden is asked once.
        assert_eq!(methods, [Method::PATCH, Method::GET, Method::PUT, Method::GET, Method::PUT]);
        assert!(asked[1].1.contains("fieldSelector=metadata.name%3Dweb-a"), "{}", asked[1].1);
        let mut whole = pod("7", &json!({ "app": "web", "status": "stable" }));
        whole["kind"] = json!("Pod");
        whole["apiVersion"] = json!("v1");
        let mut sent = asked[2].2.clone();
        if sent["metadata"]["annotations"] == json!({}) {
            sent["metadata"].as_object_mut().unwrap().remove("annotations");
        }
        assert_eq!(sent, whole, "nothing but labels is changed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_that_may_not_be_written_at_all_names_the_right_to_patch() {
        let says = |method: &Method| match *method {
            Method::PATCH => refused(403, "Forbidden", r#"pods "web-a" is forbidden: User "x" cannot patch"#),
            _ => refused(403, "Forbidden", "cannot list"),
        };
        let (writer, ..) = writer(says);
        let answer = writer.label_pod(&key(), "web-a", &seen(), &patch()).await;
        assert!(
            matches!(&answer, Err(WriteError::Refused(refusal)) if refusal.message.ends_with("cannot patch")),
            "{answer:?}"
        );
    }
}
