//! Requests to the API server, as plain JSON: nothing of an object is lost on the way.
//!
//! Every request has a deadline, names this server as the field manager, and fails with an [`Error`] that says what a caller can
//! do about it.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{DeleteParams, GetParams, Patch, PatchParams, PostParams};
use kube::core::Request;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::convert::Fault;
use super::error::{Error, RETRY_SOON};
use super::kind::{Kind, NAMESPACE};
use super::status::{self, Reason};
use crate::store::{FIELD_MANAGER, RolloutRecord};

/// How long the API server may take for one request: longer than a healthy one ever does, shorter than a caller waits.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// How long the API server's version counts: it changes with an upgrade of the cluster, and anybody may ask for it at any rate.
const VERSION_KEPT_FOR: Duration = Duration::from_secs(60);

/// What the API server writes for the path of a remark about the object as a whole.
const NO_FIELD: &str = "<nil>";

/// Whether a write is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// It is.
    Commit,
    /// The server checks it as if it were, and stores nothing.
    DryRun,
}

impl Mode {
    /// The mode of a request with `validate_only`.
    pub(super) fn of(validate_only: bool) -> Self {
        if validate_only { Self::DryRun } else { Self::Commit }
    }
}

/// An object in the cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// Its kind.
    pub kind: &'a Kind,
    /// Its namespace; empty for objects of the whole cluster.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// A change to an object.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A JSON merge patch (RFC 7386).
    Merge(Value),
    /// A JSON merge patch of the status subresource.
    MergeStatus(Value),
    /// A JSON patch (RFC 6902).
    Json(json_patch::Patch),
}

impl Change {
    /// Makes it refuse any version of its object but this one.
    pub(super) fn at_version(self, uid: &str, version: &str) -> Self {
        let conditional = |mut patch: Value| {
            patch["metadata"]["uid"] = json!(uid);
            patch["metadata"]["resourceVersion"] = json!(version);
            patch
        };
        match self {
            Self::Merge(patch) => Self::Merge(conditional(patch)),
            Self::MergeStatus(patch) => Self::MergeStatus(conditional(patch)),
            Self::Json(mut patch) => {
                // A `test` of the version would be refused as invalid (422); replacing it is refused as a conflict (409).
                let replace = json_patch::ReplaceOperation {
                    path: json_patch::jsonptr::PointerBuf::from_tokens(["metadata", "resourceVersion"]),
                    value: json!(version),
                };
                patch.0.insert(0, json_patch::PatchOperation::Replace(replace));
                Self::Json(patch)
            }
        }
    }

    /// Whether it changes the spec.
    pub(super) fn is_of_spec(&self) -> bool {
        match self {
            Self::Merge(patch) => patch.get("spec").is_some(),
            Self::MergeStatus(_) => false,
            Self::Json(patch) => patch.0.iter().any(|operation| is_of_spec(operation.path().as_str())),
        }
    }
}

fn is_of_spec(pointer: &str) -> bool {
    pointer == "/spec" || pointer.starts_with("/spec/")
}

/// The API server.
#[derive(Clone)]
pub(super) struct Cluster {
    client: Client,
    /// The lock is held while it is asked for, so that all who want to know ask once.
    version: Arc<Mutex<Version>>,
}

/// The API server's version as it was last told.
#[derive(Debug, Default)]
struct Version {
    told: Option<String>,
    asked: Option<Instant>,
}

impl Cluster {
    /// Through this client.
    pub(super) fn new(client: Client) -> Self {
        Self { client, version: Arc::default() }
    }

    /// An object; `None` when it does not exist.
    pub(super) async fn get(&self, target: Target<'_>) -> Result<Option<Value>, Error> {
        let request = target.collection().get(target.name, &GetParams::default());
        match self.send(request, "get", target, "").await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.reason() == Reason::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates an object. Gives it as it is stored.
    pub(super) async fn create(
        &self,
        target: Target<'_>,
        object: &Value,
        mode: Mode,
    ) -> Result<Value, Error> {
        let params =
            PostParams { dry_run: mode == Mode::DryRun, field_manager: Some(FIELD_MANAGER.to_owned()) };
        let request = target.collection().create(&params, object.to_string().into_bytes());
        self.send(request, "create", target, "").await
    }

    /// Changes an object. Gives it as it is stored.
    pub(super) async fn change(
        &self,
        target: Target<'_>,
        change: &Change,
        mode: Mode,
    ) -> Result<Value, Error> {
        let params = PatchParams {
            dry_run: mode == Mode::DryRun,
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let collection = target.collection();
        match change {
            Change::Merge(patch) => {
                let request = collection.patch(target.name, &params, &Patch::Merge(patch));
                self.send(request, "patch", target, "").await
            }
            Change::MergeStatus(patch) => {
                let request =
                    collection.patch_subresource("status", target.name, &params, &Patch::Merge(patch));
                self.send(request, "patch", target, "/status").await
            }
            Change::Json(patch) => {
                let request = collection.patch(target.name, &params, &Patch::<()>::Json(patch.clone()));
                self.send(request, "patch", target, "").await
            }
        }
    }

    /// Deletes an object.
    pub(super) async fn delete(&self, target: Target<'_>, params: &DeleteParams) -> Result<(), Error> {
        let request = target.collection().delete(target.name, params);
        self.send(request, "delete", target, "").await.map(|_| ())
    }

    /// The names of all namespaces.
    pub(super) async fn namespaces(&self) -> Result<Vec<String>, Error> {
        let target = Target { kind: &NAMESPACE, namespace: "", name: "" };
        let request = target.collection().list_metadata(&kube::api::ListParams::default());
        let list = self.send(request, "list", target, "").await?;
        let items = list["items"].as_array().into_iter().flatten();
        Ok(items.filter_map(|item| Some(item["metadata"]["name"].as_str()?.to_owned())).collect())
    }

    /// The API server's version, as it was at most a minute ago; `None` while it has told none.
    pub(super) async fn version(&self) -> Option<String> {
        let mut version = self.version.lock().await;
        if version.asked.is_none_or(|asked| asked.elapsed() >= VERSION_KEPT_FOR) {
            version.asked = Some(Instant::now());
            let answer = tokio::time::timeout(REQUEST_DEADLINE, self.client.apiserver_version()).await;
            if let Ok(Ok(answer)) = answer {
                version.told = Some(answer.git_version);
            }
        }
        version.told.clone()
    }

    async fn send(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
        verb: &'static str,
        target: Target<'_>,
        subresource: &'static str,
    ) -> Result<Value, Error> {
        let request = request.map_err(|error| Error::internal("a request could not be built", &error))?;
        within_deadline(self.client.request(request), |error| explain(error, verb, target, subresource)).await
    }

    /// Rollouts as the caches have them, of one namespace or of all.
    pub(super) fn rollouts(&self, namespace: Option<&str>) -> Api<RolloutRecord> {
        match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}

/// Waits for the answer to a request.
pub(super) async fn within_deadline<T>(
    request: impl Future<Output = kube::Result<T>>,
    explain: impl Fn(&kube::Error) -> Error,
) -> Result<T, Error> {
    match tokio::time::timeout(REQUEST_DEADLINE, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(explain(&error)),
        Err(_) => Err(Error::new(
            Reason::ClusterUnavailable,
            format!("the API server did not answer within {}s", REQUEST_DEADLINE.as_secs()),
        )
        .retry_after(RETRY_SOON)),
    }
}

impl Target<'_> {
    fn collection(self) -> Request {
        Request::new(self.kind.path(self.namespace))
    }
}

/// What a caller is told of an error.
pub(super) fn explain(
    error: &kube::Error,
    verb: &'static str,
    target: Target<'_>,
    subresource: &str,
) -> Error {
    let reason = status::of_kubernetes(error);
    let resource = target.kind.named(target.namespace, target.name);
    let answer = match error {
        kube::Error::Api(status) => Some(&**status),
        _ => None,
    };
    let said = answer.map(|status| status.message.as_str()).unwrap_or_default();
    match reason {
        Reason::PermissionDenied => lacks_right(verb, target, subresource),
        Reason::NotFound => {
            let about = answer.and_then(|status| status.details.as_ref());
            match about.filter(|about| about.kind == NAMESPACE.plural && *target.kind != NAMESPACE) {
                Some(_) => Error::not_found(NAMESPACE.named("", target.namespace)),
                None => Error::not_found(resource),
            }
        }
        Reason::AlreadyExists => {
            Error::new(reason, format!("{} exists already", resource.name)).about(resource)
        }
        Reason::Conflict => {
            let message = format!("{} is another than it was; read it and try again", resource.name);
            Error::new(reason, message).about(resource)
        }
        Reason::InvalidObject => {
            let causes = answer.and_then(|status| status.details.as_ref()).map(|details| &details.causes);
            let fault =
                |cause: &kube::core::response::StatusCause| Fault::new(&*cause.field, &*cause.message);
            // A remark that some rules were not looked at bears no field.
            let causes = causes.into_iter().flatten().filter(|cause| cause.field != NO_FIELD);
            let mut faults: Vec<Fault> = causes.map(fault).collect();
            // The API server may say the same thing several times.
            faults.dedup();
            Error::new(reason, said).about(resource).with_faults(faults)
        }
        Reason::AdmissionDenied | Reason::QuotaExceeded | Reason::ObjectTooLarge => {
            Error::new(reason, said).about(resource)
        }
        Reason::KindNotServed => {
            let kind = target.kind;
            let message = format!("the cluster does not serve {} of {}", kind.kind, kind.api_version());
            Error::new(reason, message)
        }
        Reason::ClusterBusy => {
            let pause = answer
                .and_then(|status| status.details.as_ref())
                .map_or(0, |details| details.retry_after_seconds);
            let pause = Duration::from_secs(pause.into()).max(RETRY_SOON);
            Error::new(reason, "the API server asks for patience, or too many requests wait for it")
                .retry_after(pause)
        }
        Reason::DeadlineExceeded => Error::new(reason, "the API server did not finish in time"),
        Reason::ClusterUnavailable => {
            tracing::warn!(%error, verb, object = %resource.name, "the API server did not serve a request");
            Error::new(reason, "the API server cannot be reached, or does not serve this server now")
                .retry_after(RETRY_SOON)
        }
        _ => Error::internal("the API server's answer was not understood", error),
    }
}

fn lacks_right(verb: &'static str, target: Target<'_>, subresource: &str) -> Error {
    let resource = format!("{}{subresource}", target.kind.resource());
    let place = match target.namespace {
        "" => "in the cluster".to_owned(),
        namespace => format!("in namespace {namespace}"),
    };
    let message =
        format!("this server may not {verb} {resource} {place}: its account in the cluster lacks that rule");
    Error::new(Reason::PermissionDenied, message)
        .with("verb", verb)
        .with("resource", resource)
        .with("namespace", target.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kind::ROLLOUT;
    use serde_json::json;

    const WEB: Target<'_> = Target { kind: &ROLLOUT, namespace: "shop", name: "web" };

    fn explained(status: Value) -> Error {
        let status: kube::core::Status = serde_json::from_value(status).unwrap();
        explain(&kube::Error::Api(status.boxed()), "patch", WEB, "/status")
    }

    #[test]
    fn a_missing_right_is_named() {
        let error = explained(json!({ "code": 403, "reason": "Forbidden", "message":
            "rollouts.argoproj.io \"web\" is forbidden: User \"system:serviceaccount:a:b\" cannot patch resource" }));
        assert_eq!(
            error.message(),
            "this server may not patch rollouts.argoproj.io/status in namespace shop: its account in the cluster lacks that rule"
        );
    }

    #[test]
    fn nothing_internal_leaks() {
        let webhook = "failed calling webhook \"x\": Post \"https://user:secret@10.0.0.1/validate\": refused";
        let error = explained(json!({ "code": 500, "reason": "InternalError", "message": webhook }));
        assert_eq!(error.reason(), Reason::ClusterUnavailable);
        assert!(!format!("{error:?}").contains("secret"));
        let away = kube::Error::Service("tcp connect error: 10.0.0.1:6443".into());
        assert!(!format!("{:?}", explain(&away, "get", WEB, "")).contains("10.0.0.1"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_version_is_asked_for_once_a_minute() {
        let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let serve = {
            let asked = Arc::clone(&asked);
            move |_: http::Request<kube::client::Body>| {
                let number = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                let version = json!({ "major": "1", "minor": "35", "gitVersion": format!("v{number}"), "gitCommit": "",
                    "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": "" });
                let body = kube::client::Body::from(version.to_string().into_bytes());
                async move { Ok::<_, std::convert::Infallible>(http::Response::new(body)) }
            }
        };
        let cluster = Cluster::new(Client::new(tower::service_fn(serve), "default"));
        for _ in 0..100 {
            assert_eq!(cluster.version().await.as_deref(), Some("v0"));
        }
        tokio::time::advance(VERSION_KEPT_FOR).await;
        assert_eq!(cluster.version().await.as_deref(), Some("v1"));
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 2);
    }

    #[test]
    fn a_full_queue_to_the_api_server_is_no_outage() {
        let error = explain(&kube::Error::Service(Box::new(crate::store::Throttled)), "get", WEB, "");
        assert_eq!(error.reason(), Reason::ClusterBusy);
    }

    #[test]
    fn a_missing_namespace_is_told_from_a_missing_object() {
        let missing = |kind: &str| {
            explained(
                json!({ "code": 404, "reason": "NotFound", "message": "", "details": { "kind": kind, "name": "x" } }),
            )
        };
        assert_eq!(missing("namespaces").message(), "namespaces/shop does not exist");
        assert_eq!(missing("rollouts").message(), "namespaces/shop/rollouts/web does not exist");
    }
}
