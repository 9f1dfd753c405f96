//! An embedded cluster with the services over it, and what a controller would have written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api as Objects, Client, ResourceExt as _};
use rolloutd::api::{Api, Config, Limits, ServerFacts};
use rolloutd::apiserver::{self, ApiServer};
use rolloutd::clock::{self, Clock};
use rolloutd::crd::{self, keys};
use rolloutd::pb::v1;
use rolloutd::pb::v1::rollout_service_client::RolloutServiceClient;
use rolloutd::pb::v1::server_service_client::ServerServiceClient;
use rolloutd::serve::{Connect, ControlPlane, Election, Options, Part, PluginSource, Reconcile, Threads};
use rolloutd::store::Key;
use rolloutd::telemetry::Metrics;
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// How long the caches may lag behind what is stored, in virtual time.
const PATIENCE: Duration = Duration::from_secs(10);

/// The client of RolloutService, without a socket.
pub(crate) type Rollouts = RolloutServiceClient<axum::Router>;

/// The client of ServerService, without a socket.
pub(crate) type Server = ServerServiceClient<axum::Router>;

/// Which world is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) limits: Limits,
    pub(crate) instance_id: String,
    pub(crate) namespace: Option<String>,
    pub(crate) reconcile: Reconcile,
    pub(crate) instead: Option<Instead>,
    /// The same for what tells of activities.
    pub(crate) activities_instead: Option<Instead>,
    /// How many changes the cluster remembers.
    pub(crate) history_limit: usize,
}

/// Requests of the services that are not served as they would be.
#[derive(Clone, Debug)]
pub(crate) struct Instead {
    pub(crate) method: http::Method,
    /// How the path ends.
    pub(crate) path: &'static str,
    /// What is answered.
    pub(crate) code: u16,
    pub(crate) body: Value,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            limits: Limits { requests_per_second: 0.0, ..Limits::default() },
            instance_id: String::new(),
            namespace: None,
            reconcile: Reconcile::AnalysisOnly,
            instead: None,
            activities_instead: None,
            history_limit: apiserver::HISTORY_LIMIT,
        }
    }
}

pub(crate) struct World {
    pub(crate) cluster: ApiServer,
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) api: Api,
    pub(crate) control_plane: ControlPlane,
    intrusion: Intrusion,
}

/// What somebody else does just before the next write of the services.
type Intrusion = Arc<Mutex<Option<BoxFuture<'static, ()>>>>;

struct Embedded<'a>(&'a ApiServer, Option<Instead>);

impl Connect for Embedded<'_> {
    fn client(&self, part: Part) -> Client {
        match (&self.1, part) {
            (Some(instead), Part::Api) => api_client(self.0, Some(instead.clone()), Intrusion::default()),
            _ => self.0.client(part.agent()),
        }
    }
}

/// Another server of the same cluster.
pub(crate) struct Replica {
    pub(crate) api: Api,
    pub(crate) control_plane: ControlPlane,
}

impl Replica {
    /// Starts one, and waits until its caches have listed.
    pub(crate) async fn start(connect: &dyn Connect, clock: &Clock, wanted: Wanted) -> Self {
        let metrics = Metrics::default();
        let options = options(clock, &metrics, &wanted);
        let control_plane = ControlPlane::start(connect, &options);
        control_plane.store.has_listed().await;
        let api = Api::new(config(&control_plane, connect.client(Part::Api), &options, wanted));
        Self { api, control_plane }
    }

    pub(crate) fn rollouts(&self) -> Rollouts {
        RolloutServiceClient::new(self.api.router())
    }

    pub(crate) async fn stop(self) {
        self.api.drain();
        self.control_plane.stop().await;
    }
}

fn options(clock: &Clock, metrics: &Metrics, wanted: &Wanted) -> Options {
    Options {
        clock: clock.clone(),
        metrics: metrics.clone(),
        instance_id: wanted.instance_id.clone(),
        namespace: wanted.namespace.clone(),
        reconcile: wanted.reconcile,
        election: Election::Undisputed,
        threads: Threads::default(),
        settings: Arc::default(),
        plugins: PluginSource::ConfigMapIn("default".to_owned()),
    }
}

fn config(control_plane: &ControlPlane, client: Client, options: &Options, wanted: Wanted) -> Config {
    Config {
        store: control_plane.store.clone(),
        client,
        activities: control_plane.activities.clone(),
        clock: options.clock.clone(),
        metrics: options.metrics.clone(),
        leadership: control_plane.leadership.clone(),
        server: ServerFacts {
            version: "1.2.3".to_owned(),
            commit: "abc".to_owned(),
            cluster: "https://embedded".to_owned(),
            instance_id: wanted.instance_id,
            namespace: wanted.namespace,
        },
        limits: wanted.limits,
    }
}

impl World {
    /// The usual one.
    pub(crate) async fn new() -> Self {
        Self::wanted(Wanted::default()).await
    }

    pub(crate) async fn wanted(wanted: Wanted) -> Self {
        let world = Self::not_listed(wanted).await;
        world.control_plane.store.has_listed().await;
        world
    }

    /// One whose caches need not have listed yet.
    pub(crate) async fn not_listed(wanted: Wanted) -> Self {
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap(), 1.0);
        let history_limit = wanted.history_limit;
        let cluster =
            ApiServer::new(apiserver::Config { history_limit, ..apiserver::Config::new(clock.clone()) });
        let client = cluster.client("test");
        let metrics = Metrics::default();
        let intrusion = Intrusion::default();
        prepare(&client).await;
        let options = options(&clock, &metrics, &wanted);
        let control_plane =
            ControlPlane::start(&Embedded(&cluster, wanted.activities_instead.clone()), &options);
        let client_of_api = api_client(&cluster, wanted.instead.clone(), intrusion.clone());
        let api = Api::new(config(&control_plane, client_of_api, &options, wanted));
        Self { cluster, client, clock, metrics, api, control_plane, intrusion }
    }

    /// Another server of this cluster, whose caches have listed.
    pub(crate) async fn replica(&self) -> Replica {
        self.replica_with(Wanted::default()).await
    }

    pub(crate) async fn replica_with(&self, wanted: Wanted) -> Replica {
        Replica::start(&Embedded(&self.cluster, None), &self.clock, wanted).await
    }

    pub(crate) fn rollouts(&self) -> Rollouts {
        RolloutServiceClient::new(self.api.router())
    }

    pub(crate) fn server(&self) -> Server {
        ServerServiceClient::new(self.api.router())
    }

    /// Stores an object as kubectl create would, and waits until the caches show it.
    pub(crate) async fn store(&self, object: &Value) -> Value {
        let stored = self.create(object).await;
        self.settle().await;
        stored
    }

    /// Stores an object as kubectl create would.
    pub(crate) async fn create(&self, object: &Value) -> Value {
        let (group, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
        let namespace = object["metadata"]["namespace"].as_str();
        let objects = self.objects(group, kind, namespace);
        let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        let stored = objects.create(&PostParams::default(), &object).await.expect("it is accepted");
        serde_json::to_value(stored).unwrap()
    }

    /// Stores a rollout of this name in namespace `shop` whose controller has seen it.
    pub(crate) async fn store_rollout(&self, name: &str) -> Value {
        self.store(&manifest(name)).await;
        self.seen(name, &json!({})).await
    }

    /// The rollout's stored object.
    pub(crate) async fn stored(&self, name: &str) -> Value {
        let stored = self.objects(crd::API_VERSION, crd::KIND, Some("shop")).get(name).await;
        serde_json::to_value(stored.expect("it is there")).unwrap()
    }

    /// Writes a status as a controller that has seen the spec.
    pub(crate) async fn seen(&self, name: &str, status: &Value) -> Value {
        let generation = self.stored(name).await["metadata"]["generation"].as_i64().unwrap();
        let mut whole = json!({ "observedGeneration": generation.to_string() });
        for (field, value) in status.as_object().expect("a status is an object") {
            whole[field] = value.clone();
        }
        self.patch_status(name, &json!({ "status": whole })).await
    }

    /// A rollout in the middle of an update from `stable` to `canary`, at a step, paused there.
    pub(crate) async fn in_the_middle(&self, name: &str, step: i32) {
        self.store_rollout(name).await;
        self.seen(name, &updating(step)).await;
    }

    pub(crate) async fn patch_status(&self, name: &str, patch: &Value) -> Value {
        let objects = self.objects(crd::API_VERSION, crd::KIND, Some("shop"));
        let patched = objects.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        self.settle().await;
        serde_json::to_value(patched.expect("the status is accepted")).unwrap()
    }

    /// Patches a rollout as kubectl would.
    pub(crate) async fn patch(&self, name: &str, patch: &Value) -> Value {
        let objects = self.objects(crd::API_VERSION, crd::KIND, Some("shop"));
        let patched = objects.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        self.settle().await;
        serde_json::to_value(patched.expect("the patch is accepted")).unwrap()
    }

    /// Lets somebody patch a rollout, or its status, just before the next write of the services.
    pub(crate) fn intrude(&self, rollout: &str, subresource: Option<&'static str>, patch: Value) {
        let objects = self.objects(crd::API_VERSION, crd::KIND, Some("shop"));
        let rollout = rollout.to_owned();
        let intruder = async move {
            let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
            let patched = match subresource {
                Some(_) => objects.patch_status(&rollout, &params, &patch).await,
                None => objects.patch(&rollout, &params, &patch).await,
            };
            patched.expect("the patch is accepted");
        };
        *self.intrusion.lock().unwrap() = Some(Box::pin(intruder));
    }

    /// Whether the intruder has struck.
    pub(crate) fn was_intruded(&self) -> bool {
        self.intrusion.lock().unwrap().is_none()
    }

    /// Deletes a rollout as kubectl would.
    pub(crate) async fn delete(&self, name: &str) {
        let objects = self.objects(crd::API_VERSION, crd::KIND, Some("shop"));
        objects.delete(name, &DeleteParams::background()).await.expect("it is deleted");
        self.settle().await;
    }

    pub(crate) fn objects(
        &self,
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
    ) -> Objects<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match namespace {
            Some(namespace) => Objects::namespaced_with(self.client.clone(), namespace, &resource),
            None => Objects::all_with(self.client.clone(), &resource),
        }
    }

    /// Stores a ReplicaSet that a rollout controls.
    pub(crate) async fn store_set(&self, rollout: &str, hash: &str, revision: i64, image: &str) {
        let labels = json!({ "app": rollout, keys::POD_TEMPLATE_HASH: hash });
        let set = format!("{rollout}-{hash}");
        let template = json!({
            "metadata": { "labels": labels },
            "spec": { "containers": [{ "name": "web", "image": image }] },
        });
        self.store(&json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": set, "namespace": "shop", "labels": labels,
                "annotations": { keys::REVISION: revision.to_string() },
                "ownerReferences": [controller(&self.stored(rollout).await)],
            },
            "spec": { "replicas": 0, "selector": { "matchLabels": labels }, "template": template },
        }))
        .await;
        let key = Key::new("shop", set);
        self.until(|| self.control_plane.store.sets.get(&key).is_some()).await;
    }

    /// Stores a pod of such a ReplicaSet, which crashes.
    pub(crate) async fn store_pod(&self, rollout: &str, hash: &str) {
        let labels = json!({ "app": rollout, keys::POD_TEMPLATE_HASH: hash });
        let set = self.objects("apps/v1", "ReplicaSet", Some("shop")).get(&format!("{rollout}-{hash}")).await;
        let pod = format!("{rollout}-{hash}-1");
        self.store(&json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": pod, "namespace": "shop", "labels": labels,
                "ownerReferences": [controller(&serde_json::to_value(set.unwrap()).unwrap())],
            },
            "spec": { "nodeName": "node", "containers": [{ "name": "web", "image": "web:1" }] },
        }))
        .await;
        let waiting = json!({ "reason": "CrashLoopBackOff", "message": "back-off 5m0s" });
        let container = json!({
            "name": "web", "image": "web:1", "imageID": "", "ready": false, "restartCount": 3,
            "state": { "waiting": waiting },
        });
        let status = json!({ "status": { "phase": "Running", "containerStatuses": [container] } });
        let pods = self.objects("v1", "Pod", Some("shop"));
        pods.patch_status(&pod, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        let key = Key::new("shop", pod);
        let shown = || self.control_plane.store.pods.get(&key).is_some_and(|pod| pod.phase == "Running");
        self.until(shown).await;
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        let waiting = async {
            while !condition() {
                clock::real_sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the caches catch up");
    }

    /// Applies a manifest, which must be accepted.
    pub(crate) async fn apply(&self, manifest: &str) -> v1::ApplyManifestResponse {
        let answer = self.rollouts().apply_manifest(apply_request(manifest)).await;
        let answer = answer.unwrap_or_else(|status| panic!("{status:?}")).into_inner();
        self.settle().await;
        answer
    }

    /// Every object that a request could have written, with its version.
    pub(crate) async fn versions(&self) -> BTreeMap<String, String> {
        let kinds = [
            (crd::API_VERSION, "Rollout"),
            (crd::API_VERSION, "AnalysisRun"),
            (crd::API_VERSION, "AnalysisTemplate"),
            (crd::API_VERSION, "ClusterAnalysisTemplate"),
            (crd::API_VERSION, "Experiment"),
            ("apps/v1", "ReplicaSet"),
            ("v1", "ConfigMap"),
            ("v1", "Event"),
            ("v1", "Namespace"),
            ("v1", "Pod"),
            ("v1", "Service"),
        ];
        let mut versions = BTreeMap::new();
        for (api_version, kind) in kinds {
            let list = self.objects(api_version, kind, None).list(&ListParams::default()).await;
            for object in list.expect("objects are listed").items {
                let name = format!("{kind} {}/{}", object.namespace().unwrap_or_default(), object.name_any());
                versions.insert(name, object.resource_version().expect("stored objects have a version"));
            }
        }
        versions
    }

    /// What a call answers, after which everything must be stored as it was before.
    pub(crate) async fn untouched<A>(&self, call: impl Future<Output = A>) -> A {
        let before = self.versions().await;
        let answer = call.await;
        assert_eq!(self.versions().await, before, "something was written");
        answer
    }

    /// Waits until the caches show the rollouts as they are stored.
    pub(crate) async fn settle(&self) {
        let settled = async {
            while !self.is_settled().await {
                clock::real_sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.expect("the caches catch up");
    }

    async fn is_settled(&self) -> bool {
        let cache = &self.control_plane.store.rollouts;
        let stored = self.objects(crd::API_VERSION, crd::KIND, None).list(&ListParams::default()).await;
        let stored = stored.expect("rollouts are listed").items;
        let known = stored.iter().all(|rollout| {
            let key = Key::new(rollout.namespace().unwrap_or_default(), rollout.name_any());
            cache.version(&key).is_none_or(|version| Some(version) == rollout.resource_version())
                && (cache.version(&key).is_some() || !self.is_served(rollout))
        });
        known && cache.all().len() == stored.iter().filter(|rollout| self.is_served(rollout)).count()
    }

    /// Whether the caches hold a rollout at all: those of other instance ids they do not.
    fn is_served(&self, rollout: &DynamicObject) -> bool {
        !rollout.labels().contains_key(keys::CONTROLLER_INSTANCE_ID)
    }
}

/// The services' client.
fn api_client(cluster: &ApiServer, instead: Option<Instead>, intrusion: Intrusion) -> Client {
    let server = cluster.service(Part::Api.agent());
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let is_meant = |instead: &&Instead| {
            request.method() == instead.method && request.uri().path().ends_with(instead.path)
        };
        let answer = instead.as_ref().filter(is_meant).map(|instead| {
            let body = axum::body::Body::from(instead.body.to_string());
            http::Response::builder().status(instead.code).body(body).unwrap()
        });
        let is_write = request.method() != http::Method::GET
            && !request.uri().query().unwrap_or_default().contains("dryRun");
        let intruder = is_write.then(|| intrusion.lock().unwrap().take()).flatten();
        let server = server.clone();
        async move {
            if let Some(intruder) = intruder {
                intruder.await;
            }
            match answer {
                Some(answer) => Ok(answer),
                None => server.oneshot(request).await.map(|answer| answer.map(axum::body::Body::new)),
            }
        }
    });
    Client::new(service, "default")
}

/// The reference by which an object controls another.
fn controller(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "controller": true,
    })
}

/// Installs the CRDs and creates the namespace `shop`.
async fn prepare(client: &Client) {
    use k8s_openapi::api::core::v1::Namespace;
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let definitions: Objects<CustomResourceDefinition> = Objects::all(client.clone());
    for definition in crd::definitions() {
        definitions.create(&PostParams::default(), &definition).await.expect("the CRD is accepted");
    }
    let namespaces: Objects<Namespace> = Objects::all(client.clone());
    let shop = serde_json::from_value(json!({ "metadata": { "name": "shop" } })).unwrap();
    namespaces.create(&PostParams::default(), &shop).await.expect("the namespace is accepted");
}

/// A manifest of a canary in namespace `shop`: 20 %, a pause, 40 %, a pause.
pub(crate) fn manifest(name: &str) -> Value {
    json!({
        "apiVersion": crd::API_VERSION,
        "kind": crd::KIND,
        "metadata": { "name": name, "namespace": "shop", "labels": { "app": name } },
        "spec": {
            "replicas": 5,
            "selector": { "matchLabels": { "app": name } },
            "strategy": { "canary": { "steps": [
                { "setWeight": 20 }, { "pause": {} }, { "setWeight": 40 }, { "pause": {} },
            ] } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "web", "image": "web:1" }] },
            },
        },
    })
}

/// The status of an update from `stable` to `canary` that rests at a step.
pub(crate) fn updating(step: i32) -> Value {
    json!({
        "currentPodHash": "canary", "stableRS": "stable", "currentStepIndex": step, "phase": "Paused",
        "controllerPause": true,
        "pauseConditions": [{ "reason": "CanaryPauseStep", "startTime": "2026-01-01T00:00:00Z" }],
    })
}

/// A patch that the API server takes and after which the object cannot be decoded: its schema knows no bounds here.
pub(crate) fn malformed() -> Value {
    json!({ "spec": { "strategy": { "canary": { "maxSurge": 3_000_000_000_i64 } } } })
}

/// A request to apply a manifest in namespace `shop`.
pub(crate) fn apply_request(manifest: &str) -> v1::ApplyManifestRequest {
    v1::ApplyManifestRequest {
        parent: "namespaces/shop".to_owned(),
        manifest: manifest.to_owned(),
        ..Default::default()
    }
}

/// The name of a rollout in namespace `shop`.
pub(crate) fn name(rollout: &str) -> String {
    format!("namespaces/shop/rollouts/{rollout}")
}

/// A resource like [`manifest`].
pub(crate) fn resource(app: &str) -> v1::Rollout {
    let labels: BTreeMap<String, String> = [("app".to_owned(), app.to_owned())].into();
    let step = |step| v1::CanaryStep { step: Some(step) };
    let canary = v1::CanaryStrategy {
        steps: vec![
            step(v1::canary_step::Step::SetWeight(20)),
            step(v1::canary_step::Step::Pause(v1::PauseStep::default())),
        ],
        ..Default::default()
    };
    let template = json!({
        "metadata": { "labels": { "app": app } },
        "spec": { "containers": [{ "name": "web", "image": "web:1" }] },
    });
    v1::Rollout {
        labels: labels.clone(),
        spec: Some(v1::RolloutSpec {
            replicas: Some(5),
            selector: Some(v1::LabelSelector { match_labels: labels, ..Default::default() }),
            template: Some(structure(&template)),
            strategy: Some(v1::rollout_spec::Strategy::Canary(canary)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// JSON as a message.
pub(crate) fn structure(json: &Value) -> prost_types::Struct {
    match wire(json).kind {
        Some(prost_types::value::Kind::StructValue(structure)) => structure,
        other => panic!("an object is a structure, not {other:?}"),
    }
}

fn wire(json: &Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match json {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => {
            Kind::ListValue(prost_types::ListValue { values: items.iter().map(wire).collect() })
        }
        Value::Object(fields) => Kind::StructValue(prost_types::Struct {
            fields: fields.iter().map(|(key, value)| (key.clone(), wire(value))).collect(),
        }),
    };
    prost_types::Value { kind: Some(kind) }
}

/// The canary strategy of a resource.
pub(crate) fn canary(rollout: &mut v1::Rollout) -> &mut v1::CanaryStrategy {
    match &mut rollout.spec.as_mut().expect("it has a spec").strategy {
        Some(v1::rollout_spec::Strategy::Canary(canary)) => canary,
        other => panic!("it is a canary, not {other:?}"),
    }
}
