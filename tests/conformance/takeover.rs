//! A cluster that Argo Rollouts left is gone on with from where it is: no pod is touched, no step goes back, no ReplicaSet is made or
//! changed, no revision comes about; then the rollout goes on to its end.
//!
//! Each of the states that were recorded from its release 1.10 (tests/data/takeover), on both clusters, with the rights that Argo Rollouts
//! had.

mod left;
mod recording;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, NamespaceResourceScope};
use kube::runtime::wait::await_condition;
use kube::{Resource, ResourceExt};
use rolloutd::crd::{self, Rollout, RolloutPhase, keys};
use rolloutd::pb::v1;
use rolloutd::pb::v1::promote_rollout_request::{From as Seen, Target};
use rolloutd::plan::unsupported;
use rolloutd::simcluster::SimCluster;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::kubernetes::{self, Kubernetes};
use crate::scenarios::{in_virtual_time, is};
use crate::world::{self, Rights, World, image};
use recording::Recording;

/// How long anything may take to come about.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at what is to come to rest.
const LOOK: Duration = Duration::from_millis(700);
/// How long a control plane is watched that should do nothing: on the embedded cluster that is no time at all.
const WATCHED: Duration = Duration::from_secs(2);

macro_rules! recordings {
    ($($name:ident: $file:literal)+) => {
        const FILES: &[&str] = &[$($file),+];

        mod on_the_embedded_cluster {
            $(#[test] fn $name() {
                super::in_virtual_time(async || super::$name(super::embedded($file).await).await);
            })+
        }

        mod on_kubernetes {
            $(#[test] fn $name() {
                crate::kubernetes::runtime().block_on(async {
                    match super::real($file).await {
                        Some(taken) => super::$name(taken).await,
                        None => println!("skipped: KUBEBUILDER_ASSETS is not set"),
                    }
                });
            })+
        }
    };
}

recordings! {
    idle: "idle"
    mid_canary: "mid"
    hashes_of_an_older_release: "mid-older-hashes"
    aborted: "aborted"
    paused_by_spec_with_ephemeral_metadata: "specpaused"
    superseded: "superseded"
    blue_green_awaiting_its_promotion: "bgwait"
    blue_green_inside_the_scale_down_delay: "bgdelay"
}

/// A rollout that was taken over.
struct Taken {
    world: World,
    name: String,
    /// Everything as it was left.
    before: Snapshot,
}

/// Everything in a namespace: by kind and name.
#[derive(Clone, Debug, PartialEq)]
struct Snapshot(BTreeMap<(&'static str, String), Value>);

impl Snapshot {
    async fn of(world: &World) -> Self {
        async fn list<K>(world: &World, kind: &'static str) -> Vec<((&'static str, String), Value)>
        where
            K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
        {
            let resource = ApiResource::erase::<K>(&());
            let api: Api<DynamicObject> =
                Api::namespaced_with(world.client.clone(), &world.namespace, &resource);
            let list = api.list(&ListParams::default()).await.expect("they are listed");
            let value = |object: DynamicObject| {
                ((kind, object.name_any()), serde_json::to_value(object).expect("JSON"))
            };
            list.items.into_iter().map(value).collect()
        }
        let mut all = list::<Rollout>(world, "Rollout").await;
        all.extend(list::<ReplicaSet>(world, "ReplicaSet").await);
        all.extend(list::<Service>(world, "Service").await);
        all.extend(list::<Pod>(world, "Pod").await);
        Self(all.into_iter().collect())
    }

    /// Once nobody writes any more, and a kubelet runs every pod.
    async fn settled(world: &World) -> Self {
        let settled = async {
            let mut before = Self::of(world).await;
            loop {
                world.pass(LOOK).await;
                let now = Self::of(world).await;
                let runs = |pod: &Value| pod["status"]["hostIP"].is_string();
                if now == before && now.of_kind("Pod").all(|(_, pod)| runs(pod)) {
                    return now;
                }
                before = now;
            }
        };
        tokio::time::timeout(DEADLINE, settled).await.expect("it comes to rest in time")
    }

    fn of_kind(&self, kind: &str) -> impl Iterator<Item = (&str, &Value)> {
        let entries = self.0.iter().filter(move |((of, _), _)| *of == kind);
        entries.map(|((_, name), object)| (name.as_str(), object))
    }

    fn rollout(&self) -> &Value {
        self.of_kind("Rollout").next().expect("there is one").1
    }

    /// Names of sets with their sizes.
    fn sizes(&self) -> BTreeMap<&str, i64> {
        self.of_kind("ReplicaSet")
            .map(|(name, set)| (name, set["spec"]["replicas"].as_i64().expect("a size")))
            .collect()
    }

    /// The uids of the pods with this hash.
    fn pods_of(&self, hash: &str) -> Vec<&str> {
        let pods = self.of_kind("Pod").map(|(_, pod)| pod);
        let pods = pods.filter(|pod| pod["metadata"]["labels"][keys::POD_TEMPLATE_HASH] == *hash);
        pods.map(|pod| pod["metadata"]["uid"].as_str().expect("a uid")).collect()
    }
}

/// Waits until a rollout is as wanted.
async fn until(world: &World, name: &str, what: &str, wanted: impl Fn(&Rollout) -> bool) -> Rollout {
    let condition = |rollout: Option<&Rollout>| rollout.is_some_and(&wanted);
    match tokio::time::timeout(DEADLINE, await_condition(world.rollouts(), name, condition)).await {
        Ok(Ok(Some(rollout))) => rollout,
        _ => {
            let rollout = world.rollouts().get_opt(name).await;
            panic!("{name}: never came about: {what}\n{rollout:#?}\n{:#?}", world.events().await)
        }
    }
}

/// What was recorded, loaded into an embedded cluster in which pods run, and taken over.
async fn embedded(file: &str) -> Taken {
    let recording = Recording::read(file);
    let mut world = World::embedded_at_rest(crd::definitions(), Rights::ArgoRollouts).await;
    recording.load(&world).await;
    world.run_pods();
    Taken::over(world, &recording).await
}

/// All that was recorded, on one real API server. Simulated controllers would take a part of a state for what is to be mended, so that
/// they come once all is there.
struct Prepared {
    worlds: Mutex<BTreeMap<&'static str, World>>,
    _kubernetes: Kubernetes,
    _simcluster: SimCluster,
}

async fn real(file: &'static str) -> Option<Taken> {
    static PREPARED: OnceCell<Option<Prepared>> = OnceCell::const_new();
    let prepare = || async {
        let kubernetes = kubernetes::own().await?;
        let client = kubernetes.client("test").await.expect("a client");
        world::install_crds(&client, crd::definitions()).await;
        let load = async |file: &'static str| {
            let world = World::under_its_role(&kubernetes).await;
            Recording::read(file).load(&world).await;
            (file, world)
        };
        let worlds = futures::future::join_all(FILES.iter().copied().map(load)).await;
        let simcluster = world::run_pods(&kubernetes).await;
        let worlds = Mutex::new(worlds.into_iter().collect());
        Some(Prepared { worlds, _kubernetes: kubernetes, _simcluster: simcluster })
    };
    let prepared = PREPARED.get_or_init(prepare).await.as_ref()?;
    let world = prepared.worlds.lock().unwrap().remove(file).expect("each is taken over once");
    Some(Taken::over(world, &Recording::read(file)).await)
}

impl Taken {
    /// Starts a control plane, and checks that it leaves everything as it is.
    async fn over(world: World, recording: &Recording) -> Self {
        let before = Snapshot::settled(&world).await;
        let world = world.led();
        let this = Self { world, name: recording.name(), before };
        // It has seen the rollout.
        let tree = v1::GetRolloutTreeRequest { name: this.path() };
        let seen = async {
            while this.world.rpc().get_rollout_tree(tree.clone()).await.is_err() {
                this.world.pass(LOOK).await;
            }
        };
        tokio::time::timeout(DEADLINE, seen).await.expect("it is seen in time");
        this.world.pass(WATCHED).await;
        let after = Snapshot::settled(&this.world).await;
        for kind in ["Pod", "ReplicaSet", "Service"] {
            // In the very version: nobody has written anything.
            let (old, new): (Vec<_>, Vec<_>) =
                (this.before.of_kind(kind).collect(), after.of_kind(kind).collect());
            assert_eq!(old, new, "{kind}s of {} were written", this.name);
        }
        this.says_the_same(after.rollout());
        if this.is_acted_on().await {
            assert_eq!(this.world.events().await, Vec::<String>::new(), "nothing happened to {}", this.name);
        }
        this
    }

    /// Checks that no revision came about, and that the status says what it said, but for what the tests of the plan list by name.
    fn says_the_same(&self, after: &Value) {
        let before = self.before.rollout();
        for part in
            ["spec", "metadata/annotations", "metadata/labels", "metadata/generation", "metadata/finalizers"]
        {
            let part = format!("/{part}");
            assert_eq!(before.pointer(&part), after.pointer(&part), "{}: {part}", self.name);
        }
        let (mut old, mut new) = (before["status"].clone(), after["status"].clone());
        if self.name == "aborted" {
            // Condition Paused, which Argo Rollouts leaves True after an abort.
            for status in [&mut old, &mut new] {
                let conditions = status["conditions"].as_array_mut().expect("conditions");
                conditions.retain(|condition| condition["type"] != "Paused");
            }
        }
        assert_eq!(old, new, "status of {}", self.name);
    }

    /// Whether the rollout has only what this version acts on.
    async fn is_acted_on(&self) -> bool {
        let rollout = self.world.rollouts().get(&self.name).await.expect("it exists");
        unsupported::fields(&rollout).is_empty()
    }

    /// The rollout's name in the API.
    fn path(&self) -> String {
        format!("namespaces/{}/rollouts/{}", self.world.namespace, self.name)
    }

    async fn until(&self, what: &str, wanted: impl Fn(&Rollout) -> bool) -> Rollout {
        until(&self.world, &self.name, what, wanted).await
    }

    async fn paused_at(&self, step: i32) {
        let paused = is(RolloutPhase::Paused);
        let is_there =
            |rollout: &Rollout| paused(rollout) && rollout.status().current_step_index == Some(step);
        self.until(&format!("paused at step {step}"), is_there).await;
    }

    async fn healthy(&self) -> Rollout {
        self.until("Healthy", is(RolloutPhase::Healthy)).await
    }

    async fn promote(&self) {
        let rollout = self.world.rollouts().get(&self.name).await.expect("it exists");
        let status = rollout.status();
        let from = Seen {
            pod_template_hash: status.current_pod_hash().to_owned(),
            step_index: status.current_step_index,
        };
        let request = v1::PromoteRolloutRequest {
            name: self.path(),
            from: Some(from),
            target: Some(Target::Next(())),
            ..Default::default()
        };
        self.world.rpc().promote_rollout(request).await.expect("it is promoted");
    }

    /// Stops, and checks the properties of everything that was written since it was taken over.
    async fn finish(self) {
        let since = self
            .before
            .0
            .values()
            .filter_map(|object| object["metadata"]["resourceVersion"].as_str()?.parse::<u64>().ok());
        let since = since.max().unwrap_or(0);
        self.world.history.catch_up(&self.world.client, &self.world.namespace).await;
        self.world.history.check_of(&self.name, since);
        self.world.finish().await;
    }

    /// Checks that the rollout ended with the version that it was taken over with, whose sets are those that were there and whose pods
    /// are the ones that ran before, and more.
    async fn ended_with_what_was_there(self) {
        let rollout = self.healthy().await;
        let after = Snapshot::settled(&self.world).await;
        let (old, status) = (self.before.rollout(), rollout.status());
        assert_eq!(
            old["status"]["currentPodHash"],
            *status.current_pod_hash(),
            "{}: another hash",
            self.name
        );
        assert_eq!(old["status"]["currentStepHash"].as_str().unwrap_or_default(), status.current_step_hash());
        assert_eq!(status.stable_rs(), status.current_pod_hash());
        let names = |snapshot: &Snapshot| snapshot.sizes().into_keys().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names(&after), names(&self.before), "{}: other sets", self.name);
        let revision = |rollout: &Value| rollout["metadata"]["annotations"][keys::REVISION].clone();
        assert_eq!(revision(after.rollout()), revision(old), "{}: another revision", self.name);
        self.kept(&after, status.current_pod_hash());
        self.finish().await;
    }

    /// Checks that the pods of a version that ran before run now, without a restart.
    fn kept(&self, after: &Snapshot, hash: &str) {
        let (before, now) = (self.before.pods_of(hash), after.pods_of(hash));
        let gone: Vec<_> = before.iter().filter(|uid| !now.contains(uid)).collect();
        assert!(gone.is_empty(), "{}: pods were replaced: {gone:?}", self.name);
        for (name, pod) in after.of_kind("Pod") {
            assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0, "{name}");
        }
    }
}

async fn idle(taken: Taken) {
    let containers = vec![v1::set_rollout_image_request::ContainerImage {
        container: "web".to_owned(),
        image: image("v2"),
    }];
    let request = v1::SetRolloutImageRequest { name: taken.path(), images: containers, ..Default::default() };
    taken.world.rpc().set_rollout_image(request).await.expect("it is updated");
    taken.paused_at(3).await;
    taken.promote().await;
    taken.paused_at(5).await;
    taken.promote().await;
    let is_new = |rollout: &Rollout| {
        let metadata = &rollout.metadata;
        metadata.annotations.as_ref().and_then(|all| all.get(keys::REVISION)).map(String::as_str) == Some("2")
    };
    let healthy = is(RolloutPhase::Healthy);
    taken.until("Healthy with revision 2", |rollout| is_new(rollout) && healthy(rollout)).await;
    let sizes = Snapshot::settled(&taken.world).await;
    assert_eq!(sizes.sizes().into_values().filter(|size| *size > 0).collect::<Vec<_>>(), [5]);
    taken.finish().await;
}

async fn mid_canary(taken: Taken) {
    taken.promote().await;
    taken.paused_at(5).await;
    taken.promote().await;
    taken.ended_with_what_was_there().await;
}

async fn hashes_of_an_older_release(taken: Taken) {
    mid_canary(taken).await;
}

async fn aborted(taken: Taken) {
    let request = v1::RetryRolloutRequest { name: taken.path(), ..Default::default() };
    taken.world.rpc().retry_rollout(request).await.expect("it is tried again");
    taken.paused_at(3).await;
    mid_canary(taken).await;
}

async fn paused_by_spec_with_ephemeral_metadata(taken: Taken) {
    if !taken.is_acted_on().await {
        // Left alone as a whole.
        return taken.finish().await;
    }
    let request = v1::ResumeRolloutRequest { name: taken.path(), ..Default::default() };
    taken.world.rpc().resume_rollout(request).await.expect("it is resumed");
    taken
        .until("resumed, and paused by its step", |rollout| {
            is(RolloutPhase::Paused)(rollout)
                && rollout.status().message.as_deref() == Some("CanaryPauseStep")
        })
        .await;
    mid_canary(taken).await;
}

async fn superseded(taken: Taken) {
    taken.promote().await;
    taken.ended_with_what_was_there().await;
}

async fn blue_green_awaiting_its_promotion(taken: Taken) {
    taken.promote().await;
    let active: Api<Service> = Api::namespaced(taken.world.client.clone(), &taken.world.namespace);
    let (name, hash) =
        (format!("{}-active", taken.name), taken.before.rollout()["status"]["currentPodHash"].clone());
    let switched = |service: Option<&Service>| {
        let selector = service.and_then(|service| service.spec.as_ref()?.selector.as_ref());
        selector.and_then(|selector| selector.get(keys::POD_TEMPLATE_HASH)).map(String::as_str)
            == hash.as_str()
    };
    let switched = await_condition(active, &name, switched);
    tokio::time::timeout(DEADLINE, switched).await.expect("it is switched in time").expect("the watch works");
    taken.ended_with_what_was_there().await;
}

/// The version that was replaced is up until its deadline, so that going back to it takes nothing but a switch; or else it goes then.
async fn blue_green_inside_the_scale_down_delay(taken: Taken) {
    let stable = taken.before.rollout()["status"]["stableRS"].as_str().expect("a hash").to_owned();
    let former = {
        let names = taken.before.of_kind("ReplicaSet").map(|(_, set)| &set["metadata"]["labels"]);
        let hashes = names.filter_map(|labels| labels[keys::POD_TEMPLATE_HASH].as_str());
        hashes.filter(|hash| *hash != stable).map(str::to_owned).next().expect("a former version")
    };
    if taken.world.is_embedded() {
        let size = format!("{}-{former}", taken.name);
        taken.world.pass(Duration::from_secs(3500)).await;
        assert_eq!(Snapshot::of(&taken.world).await.sizes()[&*size], 3, "its delay is an hour");
        taken.world.pass(Duration::from_secs(100)).await;
        let after = Snapshot::settled(&taken.world).await;
        assert_eq!(after.sizes()[&*size], 0, "and is over");
        taken.kept(&after, &stable);
        return taken.ended_with_what_was_there().await;
    }
    let from = v1::rollback_rollout_request::From { pod_template_hash: stable };
    let request = v1::RollbackRolloutRequest {
        name: taken.path(),
        from: Some(from),
        to_revision: 1,
        ..Default::default()
    };
    taken.world.rpc().rollback_rollout(request).await.expect("it goes back");
    let healthy = is(RolloutPhase::Healthy);
    let back = |rollout: &Rollout| rollout.status().stable_rs() == former && healthy(rollout);
    taken.until("Healthy with the former version", back).await;
    let after = Snapshot::settled(&taken.world).await;
    taken.kept(&after, &former);
    taken.finish().await;
}
