//! The environment that pods follow while they run, by the example application's manifest: files in their volume, as the simulated
//! kubelet projects them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use rolloutd::crd::keys;
use rolloutd::pb::v1;
use serde_json::{Value, json};
use tonic::Code;
use v1::blocker::Reason;
use v1::set_rollout_metadata_request::Environment;

use crate::explain::{DEADLINE, LOOK, drive, explanation};
use crate::scenarios::{healthy, paused_at};
use crate::world::{World, image};

on_both! {
    the_file_in_a_running_pod_follows_and_no_pod_restarts
    a_bad_change_is_taken_back_and_the_word_of_the_rollout_stays
}

const FILE: &str = "/etc/live/environment";

/// The Rollout of examples/environment, under the name and with the images of these tests.
fn example() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/environment/rollout.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let documents = text.split("\n---\n").map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    let mut rollout = documents.into_iter().find(|document| document["kind"] == "Rollout").unwrap();
    rollout["metadata"]["name"] = json!("web");
    // By the container's name, images are set here.
    let container = &mut rollout["spec"]["template"]["spec"]["containers"][0];
    (container["name"], container["image"]) = (json!("web"), json!(image("v1")));
    let volume = json!({ "container": "web", "mountPath": "/etc/live" }).to_string();
    rollout["metadata"]["annotations"][keys::ENVIRONMENT_VOLUME] = json!(volume);
    rollout
}

fn values(entries: &[(&str, &str)]) -> Option<Environment> {
    let values = entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Some(Environment { values })
}

async fn set(world: &World, request: v1::SetRolloutMetadataRequest) -> Result<v1::Rollout, tonic::Status> {
    let request = v1::SetRolloutMetadataRequest { name: drive(world).name(), ..request };
    let answer = world.rpc().set_rollout_metadata(request).await?;
    Ok(answer.into_inner().rollout.expect("it is shown"))
}

async fn pods(world: &World) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut pods = pods.list(&ListParams::default()).await.expect("pods are listed").items;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    pods
}

/// The uids of pods, and how often they were restarted.
async fn lives(world: &World) -> BTreeMap<String, i32> {
    let restarts = |pod: &Pod| {
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        statuses.map(|status| status.restart_count).sum()
    };
    pods(world).await.into_iter().map(|pod| (pod.uid().unwrap(), restarts(&pod))).collect()
}

/// What the pods' container finds in its volume, by the image's version.
async fn files(world: &World) -> Vec<(String, BTreeMap<String, String>)> {
    let simcluster = world.simcluster();
    let pods = pods(world).await.into_iter();
    let files = pods.filter_map(|pod| {
        let files = simcluster.files(&world.namespace, &pod.name_any(), "web").ok()?;
        let image = pod.spec.as_ref()?.containers.first()?.image.clone()?;
        Some((image, files))
    });
    files.collect()
}

/// Waits until the pods of a version, and as many of them, find just this text.
async fn read(world: &World, version: &str, count: usize, text: &str) -> Vec<BTreeMap<String, String>> {
    let settled = async {
        loop {
            let all = files(world).await.into_iter().filter(|(of, _)| *of == image(version));
            let of_version: Vec<_> = all.map(|(_, files)| files).collect();
            if of_version.len() == count && of_version.iter().all(|files| files[FILE] == text) {
                return of_version;
            }
            world.pass(LOOK).await;
        }
    };
    match tokio::time::timeout(DEADLINE, settled).await {
        Ok(files) => files,
        Err(_) => {
            panic!("{version} never read {text:?}: {:#?}\n{:#?}", files(world).await, world.events().await)
        }
    }
}

async fn the_file_in_a_running_pod_follows_and_no_pod_restarts(world: World) {
    let drive = drive(&world);
    drive.create(example()).await;
    healthy(&drive).await;
    let first = read(&world, "v1", 3, "LOG_LEVEL=\"info\"\n").await;
    assert_eq!(first[0]["/etc/live/LOG_LEVEL"], "info");
    let before = lives(&world).await;
    let hash = healthy(&drive).await.status().current_pod_hash().to_owned();

    let stable_environment = values(&[("LOG_LEVEL", "warning"), ("MOTTO", "$5 \"off\"")]);
    set(&world, v1::SetRolloutMetadataRequest { stable_environment, ..Default::default() }).await.unwrap();
    let text = "LOG_LEVEL=\"warning\"\nMOTTO=\"\\$5 \\\"off\\\"\"\n";
    for files in read(&world, "v1", 3, text).await {
        assert_eq!(files["/etc/live/LOG_LEVEL"], "warning");
        assert!(!files.contains_key("/etc/live/MOTTO"), "values that came later are in the one file");
    }
    assert_eq!(lives(&world).await, before, "no pod restarts");
    assert_eq!(healthy(&drive).await.status().current_pod_hash(), hash, "it is no revision");

    let stable_environment = values(&[("DB_PASSWORD", "hunter2")]);
    let request = v1::SetRolloutMetadataRequest { stable_environment, ..Default::default() };
    let refusal = set(&world, request).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().contains("Secret") && !refusal.message().contains("hunter2"), "{refusal:?}");

    drive.set_image("v2").await;
    let paused = paused_at(&drive, 1).await;
    let canaries = usize::try_from(paused.status().updated_replicas.unwrap()).unwrap();
    read(&world, "v2", canaries, "LOG_LEVEL=\"debug\"\n").await;
    read(&world, "v1", 3 - canaries, text).await;
    let born = lives(&world).await;
    drive.promote_full().await;
    healthy(&drive).await;
    for files in read(&world, "v2", 3, text).await {
        assert!(files.contains_key("/etc/live/MOTTO"), "it was there when this version was created");
    }
    let now = lives(&world).await;
    assert_eq!(born.iter().filter(|(uid, _)| now.contains_key(*uid)).count(), canaries, "promoted pods stay");
    assert!(now.values().all(|restarts| *restarts == 0));
    world.finish().await;
}

async fn a_bad_change_is_taken_back_and_the_word_of_the_rollout_stays(world: World) {
    let drive = drive(&world);
    drive.create(example()).await;
    healthy(&drive).await;
    let good = "LOG_LEVEL=\"info\"\n";
    read(&world, "v1", 3, good).await;
    let before = lives(&world).await;

    let stable_environment = values(&[("LOG_LEVEL", "loud")]);
    set(&world, v1::SetRolloutMetadataRequest { stable_environment, ..Default::default() }).await.unwrap();
    read(&world, "v1", 3, "LOG_LEVEL=\"loud\"\n").await;
    // Times in the status of pods have whole seconds.
    world.pass(Duration::from_secs(2)).await;
    let broken = pods(&world).await[0].name_any();
    world.simcluster().make_unready(&world.namespace, &broken).unwrap();
    read(&world, "v1", 3, good).await;
    world.simcluster().make_ready(&world.namespace, &broken).unwrap();
    world.until_event("EnvironmentTakenBack: ").await;
    healthy(&drive).await;
    assert_eq!(lives(&world).await, before);

    let rollout = world.rollouts().get("web").await.unwrap();
    assert_eq!(rollout.annotations()[keys::STABLE_ENVIRONMENT], r#"{"LOG_LEVEL":"loud"}"#, "its word stays");
    let why = explanation(&world).await;
    let blocker = why.blockers.iter().find(|blocker| blocker.reason() == Reason::EnvironmentTakenBack);
    assert!(blocker.is_some(), "{why:#?}");
    let told = async {
        let request = || v1::ListRolloutActivityRequest { parent: drive.name(), ..Default::default() };
        loop {
            let told = world.rpc().list_rollout_activity(request()).await.unwrap().into_inner().activities;
            if let Some(found) = told.into_iter().find(|activity| activity.verb == "environment taken back") {
                return found;
            }
            world.pass(LOOK).await;
        }
    };
    let told = tokio::time::timeout(DEADLINE, told).await.expect("it is told of in time");
    assert!(told.detail.contains(&broken), "{told:?}");

    world.pass(Duration::from_secs(3)).await;
    read(&world, "v1", 3, good).await;
    let stable_environment = values(&[("LOG_LEVEL", "error")]);
    set(&world, v1::SetRolloutMetadataRequest { stable_environment, ..Default::default() }).await.unwrap();
    read(&world, "v1", 3, "LOG_LEVEL=\"error\"\n").await;
    let why = explanation(&world).await;
    assert!(why.blockers.iter().all(|blocker| blocker.reason() != Reason::EnvironmentTakenBack), "{why:#?}");
    world.finish().await;
}
