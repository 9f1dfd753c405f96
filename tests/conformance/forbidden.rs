//! What the cluster forbids, as ExplainRollout says it: pods beyond a quota, and requests for which a right is missing. The real API
//! server has quotas and RBAC of its own; in front of the embedded cluster stands a [`Gate`](crate::gate::Gate).

use http::Method;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use k8s_openapi::api::rbac::v1::Role;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use rolloutd::crd::{self, ConditionType};
use rolloutd::pb::v1::blocker::Reason;
use rolloutd::pb::v1::rollout_status::State;
use serde_json::{Value, json};

use crate::explain::{DEADLINE, LOOK, about, deployed, drive, explained, new_set, next, since, time};
use crate::kubernetes;
use crate::rights;
use crate::scenarios::{endless, in_virtual_time, paused_at};
use crate::world::{World, image, manifest};

on_both! {
    an_exceeded_quota
}

/// The user that the control plane is where it may not do everything.
const USER: &str = "rolloutd";

/// A quota of three pods in the world's namespace, all of which are used.
struct Quota<'a> {
    world: &'a World,
}

impl Quota<'_> {
    fn api(&self) -> Api<ResourceQuota> {
        Api::namespaced(self.world.client.clone(), &self.world.namespace)
    }

    /// Nobody counts for quotas here but the API server, which goes by their status.
    async fn count(&self, hard: i32) {
        let status = json!({ "status": { "hard": { "pods": hard.to_string() }, "used": { "pods": "3" } } });
        let written = self.api().patch_status("few", &PatchParams::default(), &Patch::Merge(status)).await;
        written.expect("it is counted");
    }

    async fn set(&self) {
        if let Some(gate) = self.world.gate() {
            let (namespace, says) = (
                &self.world.namespace,
                "pods \"web-x\" is forbidden: exceeded quota: few, requested: pods=1, used: pods=3, limited: pods=3",
            );
            return gate.forbid(
                Method::POST,
                format!("/api/v1/namespaces/{namespace}/pods"),
                says.to_owned(),
            );
        }
        let quota = json!({ "metadata": { "name": "few" }, "spec": { "hard": { "pods": "3" } } });
        let quota: ResourceQuota = serde_json::from_value(quota).unwrap();
        self.api().create(&PostParams::default(), &quota).await.expect("it is created");
        self.count(3).await;
        let pod = json!({ "metadata": { "name": "one-more" },
            "spec": { "containers": [{ "name": "web", "image": image("v1") }] } });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let pods: Api<Pod> = Api::namespaced(self.world.client.clone(), &self.world.namespace);
        let counts = async {
            let dry = PostParams { dry_run: true, ..PostParams::default() };
            loop {
                match pods.create(&dry, &pod).await {
                    Err(kube::Error::Api(status)) if status.message.contains("exceeded quota: few") => return,
                    _ => self.world.pass(LOOK).await,
                }
            }
        };
        tokio::time::timeout(DEADLINE, counts).await.expect("the quota counts in time");
    }

    async fn raise(&self) {
        match self.world.gate() {
            Some(gate) => gate.open(),
            None => self.count(100).await,
        }
    }
}

async fn an_exceeded_quota(world: World) {
    let began = deployed(&world, manifest(3, endless())).await;
    let quota = Quota { world: &world };
    quota.set().await;
    drive(&world).set_image("v2").await;
    let why = explained(&world, Reason::ReplicaFailure).await;
    assert_eq!(why.state(), State::Progressing);
    let (blocker, set) = (&why.blockers[0], new_set(&world).await);
    let wanted = drive(&world).replicas("v2").await;
    about(blocker, "ReplicaSet", &set, &format!("status.replicas 0/{wanted}"));
    let says = "is forbidden: exceeded quota: few, requested: pods=1, used: pods=3, limited: pods=3";
    assert!(blocker.message.ends_with(says), "{blocker:#?}");
    since(&world, blocker, began);
    next(blocker, "the cluster tries again; raise ResourceQuota \"few\", or free some of it", None);
    quota.raise().await;
    paused_at(&drive(&world), 1).await;
    world.finish().await;
}

/// What the control plane may do in its namespace.
struct Rights<'a> {
    world: &'a World,
    /// As the control plane's user; `None` where the cluster has no users.
    user: Option<Client>,
}

impl Rights<'_> {
    /// The rules of one who may do everything.
    fn everything() -> Value {
        json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }])
    }

    /// The rules of one who may do everything but create ReplicaSets.
    fn but_for_creation() -> Value {
        json!([
            { "apiGroups": ["", "argoproj.io", "coordination.k8s.io", "events.k8s.io"], "resources": ["*"], "verbs": ["*"] },
            { "apiGroups": ["apps"], "resources": ["controllerrevisions"], "verbs": ["*"] },
            { "apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["get", "list", "watch", "patch", "delete"] },
        ])
    }

    async fn grant(&self) {
        let Some(user) = &self.user else { return self.world.gate().expect("a gate").open() };
        rights::grant(self.world, USER, Self::everything()).await;
        self.until_allowed(user, true).await;
    }

    async fn revoke(&self) {
        let namespace = &self.world.namespace;
        let Some(user) = &self.user else {
            let (path, says) = (
                format!("/apis/apps/v1/namespaces/{namespace}/replicasets"),
                format!(
                    "replicasets.apps is forbidden: User \"{USER}\" cannot create resource \"replicasets\" in API group \"apps\" in the namespace \"{namespace}\""
                ),
            );
            return self.world.gate().expect("a gate").forbid(Method::POST, path, says);
        };
        let roles: Api<Role> = Api::namespaced(self.world.client.clone(), namespace);
        let rules = Patch::Merge(json!({ "rules": Self::but_for_creation() }));
        roles.patch(USER, &PatchParams::default(), &rules).await.expect("the role is patched");
        self.until_allowed(user, false).await;
    }

    async fn until_allowed(&self, user: &Client, wanted: bool) {
        let namespace = &self.world.namespace;
        let creation =
            json!({ "verb": "create", "group": "apps", "resource": "replicasets", "namespace": namespace });
        rights::until(user, creation, wanted).await;
    }
}

async fn an_api_right_that_is_missing(world: World, user: Option<Client>) {
    let world = {
        let rights = Rights { world: &world, user: user.clone() };
        rights.grant().await;
        world.led()
    };
    let rights = Rights { world: &world, user };
    let began = deployed(&world, manifest(3, endless())).await;
    rights.revoke().await;
    drive(&world).set_image("v2").await;
    world
        .until("said in the status", |rollout| {
            let progressing = rollout.status().condition(&ConditionType::Progressing);
            progressing.is_some_and(|condition| condition.reason == "ReplicaSetCreateError")
        })
        .await;
    let why = explained(&world, Reason::PermissionMissing).await;
    assert_eq!(why.state(), State::Progressing);
    let (blocker, set) = (&why.blockers[0], new_set(&world).await);
    let right = format!("allowed to create replicasets.apps in namespace {:?}", world.namespace);
    about(blocker, "ReplicaSet", &set, &right);
    assert_eq!(blocker.message, format!("this server's account is not {right}"));
    since(&world, blocker, began);
    let rule = r#"{apiGroups: ["apps"], resources: ["replicasets"], verbs: ["create"]}"#;
    assert_eq!(blocker.next, format!("tried again; grant the rule {rule}"));
    let next = time(blocker.next_time.as_ref()).expect("it is tried again");
    assert!(next.duration_since(world.now()) <= SignedDuration::from_secs(30), "{blocker:#?}");
    rights.grant().await;
    paused_at(&drive(&world), 1).await;
    world.finish().await;
}

#[test]
fn an_api_right_that_is_missing_on_the_embedded_cluster() {
    in_virtual_time(async || {
        let world = World::embedded_with(crd::definitions()).await;
        an_api_right_that_is_missing(world, None).await;
    });
}

#[test]
fn an_api_right_that_is_missing_on_kubernetes() {
    kubernetes::runtime().block_on(async {
        let Some((world, user)) = World::real_as(USER).await else {
            return println!("skipped: KUBEBUILDER_ASSETS is not set");
        };
        an_api_right_that_is_missing(world, Some(user)).await;
    });
}
