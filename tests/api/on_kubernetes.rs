//! The same services on a real API server, where `KUBEBUILDER_ASSETS` names etcd and kube-apiserver: what depends on its answers.

use std::sync::Arc;

use kube::Client;
use kube::api::{Api as Objects, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use rolloutd::api::{Api, Config, Limits, ServerFacts};
use rolloutd::clock::Clock;
use rolloutd::crd;
use rolloutd::pb::v1;
use rolloutd::pb::v1::rollout_service_client::RolloutServiceClient;
use rolloutd::serve::{Connect, ControlPlane, Election, Options, Part, PluginSource, Reconcile, Threads};
use rolloutd::telemetry::Metrics;
use serde_json::{Value, json};
use tonic::Code;
use v1::applied_object::Outcome;

use crate::expect::refused;
use crate::kubernetes::{self, Kubernetes};
use crate::site;
use crate::world::{Rollouts, apply_request, manifest, name, resource};

struct One(Client);

impl Connect for One {
    fn client(&self, _: Part) -> Client {
        self.0.clone()
    }
}

struct Cluster {
    objects: Objects<DynamicObject>,
    rollouts: Rollouts,
    _control_plane: ControlPlane,
    _kubernetes: Arc<Kubernetes>,
}

/// `None` where there is no such server.
async fn cluster() -> Option<Cluster> {
    let kubernetes = site::real_cluster().await?;
    let client = kubernetes.client("test").await.expect("a client");
    let create = |api_version: &str, kind: &str, object: Value| {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let objects: Objects<DynamicObject> = Objects::all_with(client.clone(), &resource);
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        async move { objects.create(&PostParams::default(), &object).await.expect("it is accepted") }
    };
    create(
        "v1",
        "Namespace",
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } }),
    )
    .await;
    let options = Options {
        clock: Clock::wall(),
        metrics: Metrics::default(),
        instance_id: String::new(),
        namespace: None,
        reconcile: Reconcile::AnalysisOnly,
        election: Election::Undisputed,
        threads: Threads::default(),
        settings: Arc::default(),
        plugins: PluginSource::ConfigMapIn("default".to_owned()),
    };
    let connect = One(kubernetes.client("api").await.expect("a client"));
    let control_plane = ControlPlane::start(&connect, &options);
    control_plane.store.has_listed().await;
    let api = Api::new(Config {
        store: control_plane.store.clone(),
        client: connect.client(Part::Api),
        activities: control_plane.activities.clone(),
        clock: Clock::wall(),
        metrics: Metrics::default(),
        leadership: control_plane.leadership.clone(),
        server: ServerFacts::default(),
        limits: Limits::default(),
    });
    let kind = GroupVersionKind::gvk(crd::GROUP, crd::VERSION, crd::KIND);
    Some(Cluster {
        objects: Objects::namespaced_with(client, "shop", &ApiResource::from_gvk(&kind)),
        rollouts: RolloutServiceClient::new(api.router()),
        _control_plane: control_plane,
        _kubernetes: kubernetes,
    })
}

#[test]
fn a_real_api_server_answers_as_the_embedded_one_does() {
    kubernetes::runtime().block_on(answers());
}

async fn answers() {
    let Some(mut cluster) = cluster().await else { return };
    let client = &mut cluster.rollouts;
    let create = |parent: &str| v1::CreateRolloutRequest {
        parent: parent.to_owned(),
        rollout_id: "made".to_owned(),
        rollout: Some(resource("made")),
        ..Default::default()
    };
    refused(client.create_rollout(create("namespaces/nowhere")).await)
        .lacks_object("v1/Namespace", "namespaces/nowhere");
    client.create_rollout(create("namespaces/shop")).await.unwrap();
    refused(client.create_rollout(create("namespaces/shop")).await).is(Code::AlreadyExists, "ALREADY_EXISTS");

    let text = |change: Value| {
        let mut manifest = manifest("web");
        json_patch::merge(&mut manifest, &change);
        manifest.to_string()
    };
    for (change, expected) in [
        (json!({}), Outcome::Created),
        (json!({}), Outcome::Unchanged),
        (json!({ "spec": { "minReadySeconds": 4 } }), Outcome::Configured),
        (json!({}), Outcome::Configured),
    ] {
        let answer = client.apply_manifest(apply_request(&text(change))).await.unwrap().into_inner();
        assert_eq!(answer.objects[0].outcome(), expected);
    }
    let bad = json!({ "metadata": { "labels": { "-": "x" } } });
    refused(client.apply_manifest(apply_request(&text(bad))).await).names_fields(&["[0].metadata.labels"]);
    let lost = json!({ "metadata": { "namespace": "nowhere" } });
    refused(client.apply_manifest(apply_request(&text(lost))).await)
        .lacks_object("v1/Namespace", "namespaces/nowhere");

    edited_by_another(&mut cluster).await;
    scaled_by_another(&mut cluster).await;
    let client = &mut cluster.rollouts;
    for validate_only in [true, false] {
        let scale = v1::ScaleRolloutRequest {
            name: name("web"),
            replicas: Some(7),
            validate_only,
            ..Default::default()
        };
        let scaled = client.scale_rollout(scale).await.unwrap().into_inner().rollout.unwrap();
        assert_eq!(scaled.spec.unwrap().replicas, Some(7));
        let stored = cluster.objects.get("web").await.unwrap();
        assert_eq!(stored.data["spec"]["replicas"], if validate_only { 5 } else { 7 });
    }
    let image = v1::set_rollout_image_request::ContainerImage {
        container: "*".to_owned(),
        image: "web:2".to_owned(),
    };
    let set = v1::SetRolloutImageRequest { name: name("web"), images: vec![image], ..Default::default() };
    client.set_rollout_image(set).await.unwrap();
    let delete = v1::DeleteRolloutRequest { name: name("web"), ..Default::default() };
    client.delete_rollout(delete.clone()).await.unwrap();
    refused(client.delete_rollout(delete).await).lacks_object("rolloutd.dev/Rollout", &name("web"));
}

/// A field that somebody edits is theirs, until it is taken over.
async fn edited_by_another(cluster: &mut Cluster) {
    let text = |change: Value| {
        let mut manifest = manifest("web");
        json_patch::merge(&mut manifest, &change);
        manifest.to_string()
    };
    let client = &mut cluster.rollouts;
    let edit = PatchParams { field_manager: Some("gitops".to_owned()), ..PatchParams::default() };
    let ready = Patch::Merge(json!({ "spec": { "minReadySeconds": 9 } }));
    cluster.objects.patch("web", &edit, &ready).await.unwrap();
    let taking = json!({ "spec": { "minReadySeconds": 4 } });
    refused(client.apply_manifest(apply_request(&text(taking))).await)
        .is(Code::FailedPrecondition, "FIELD_OWNED")
        .says("[0].spec.minReadySeconds belongs to \"gitops\"");

    let forced = v1::ApplyManifestRequest {
        force: true,
        ..apply_request(&text(json!({ "spec": { "minReadySeconds": 4 } })))
    };
    let dry = v1::ApplyManifestRequest { validate_only: true, ..forced.clone() };
    for request in [dry, forced] {
        let answer = client.apply_manifest(request).await.unwrap().into_inner();
        let [warning] = answer.warnings.as_slice() else { panic!("{:?}", answer.warnings) };
        assert_eq!((warning.reason.as_str(), &*warning.field), ("FIELD_TAKEN", "[0].spec.minReadySeconds"));
        assert!(warning.description.contains("gitops"), "{}", warning.description);
    }
    let ours = client.apply_manifest(apply_request(&text(json!({ "spec": { "minReadySeconds": 5 } })))).await;
    assert_eq!(ours.unwrap().into_inner().warnings, []);

    // A tool that is known by what it has written.
    let argo = PatchParams { field_manager: Some("argocd-controller".to_owned()), ..PatchParams::default() };
    let label = Patch::Merge(json!({ "metadata": { "labels": { "app.kubernetes.io/instance": "shop" } } }));
    cluster.objects.patch("web", &argo, &label).await.unwrap();
    let pause = v1::PauseRolloutRequest { name: name("web"), validate_only: true, ..Default::default() };
    let warnings = client.pause_rollout(pause).await.unwrap().into_inner().warnings;
    assert!(warnings[0].description.starts_with("Argo CD (application \"shop\")"), "{warnings:?}");
}

/// Who scales through the scale subresource owns the replicas, as `kubectl scale` and an autoscaler do.
async fn scaled_by_another(cluster: &mut Cluster) {
    let text = |replicas: Value| {
        let mut manifest = manifest("scaled");
        json_patch::merge(&mut manifest, &json!({ "spec": { "replicas": replicas } }));
        manifest.to_string()
    };
    let client = &mut cluster.rollouts;
    client.apply_manifest(apply_request(&text(json!(1)))).await.unwrap();
    let scaler =
        PatchParams { field_manager: Some("kube-controller-manager".to_owned()), ..PatchParams::default() };
    let scale = Patch::Merge(json!({ "spec": { "replicas": 7 } }));
    cluster.objects.patch_scale("scaled", &scaler, &scale).await.unwrap();

    refused(client.apply_manifest(apply_request(&text(json!(1)))).await)
        .is(Code::FailedPrecondition, "FIELD_OWNED")
        .says("[0].spec.replicas belongs to \"kube-controller-manager\"");
    for _ in 0..2 {
        client.apply_manifest(apply_request(&text(Value::Null))).await.unwrap();
        assert_eq!(cluster.objects.get("scaled").await.unwrap().data["spec"]["replicas"], 7);
    }
}
