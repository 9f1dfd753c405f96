//! The copy of the world that PlanRollout looks ahead in: a rollout as it is or would be, and what is below it.
//!
//! What an update would make of the rollout is the API server's own answer to a dry run, asked by the very checks of the method that
//! would write it; the rest comes from the caches. Nothing is stored.

use std::sync::Arc;

use serde::Deserialize as _;
use serde_json::Value;

use super::super::apply::{Ownership, Rehearsed};
use super::super::cluster::{Mode, Target};
use super::super::error::Error;
use super::super::kind::{REPLICA_SET, ROLLOUT, SERVICE};
use super::super::mutation::{Mutation, Subject, target};
use super::super::name;
use super::super::status::Reason;
use super::workload::{self, Rewritten};
use super::{Rollouts, image, update};
use crate::crd::{ObjectRef, Rollout, Strategy, keys};
use crate::foresight::Copied;
use crate::pb::v1;
use crate::plan::{DefaultedTemplate, Observed, Service, Workload, revision, template};
use crate::store::{Key, ServiceRecord};
use v1::plan_rollout_request::Update;

/// The identity of a rollout that does not exist.
const UNBORN: &str = "planned";

/// A rollout as it would be, with the Services that come with it.
pub(super) struct Prospect {
    pub rollout: Rollout,
    /// Services of the same manifest.
    services: Vec<Service>,
    /// The workload that its pod template is from, as the update would make it; `None`: as it is.
    workload: Option<Arc<Workload>>,
    /// What the caller ought to know of the update.
    pub warnings: Vec<v1::Warning>,
}

impl Rollouts {
    /// The rollout as an update would make it; as it stands, where there is none.
    pub(super) async fn prospect(
        &self,
        key: &Key,
        update: Option<Update>,
        ownership: Ownership,
    ) -> Result<Prospect, Error> {
        let alone = |subject| (subject, Rehearsed::default());
        let mut workload = None;
        let (subject, mut rehearsed) = match update {
            None => alone(self.context.read(key).await?),
            Some(Update::Rollout(rollout)) => alone(self.with_resource(key, rollout).await?),
            Some(Update::SetImage(request)) => {
                let rewritten = self.with_images(key, &request).await?;
                workload = rewritten.workload;
                let warnings = rewritten.warnings;
                (rewritten.done.after, Rehearsed { warnings, ..Rehearsed::default() })
            }
            Some(Update::Manifest(manifest)) => self.with_manifest(key, &manifest, ownership).await?,
        };
        workload = workload.or(to_come(key, subject.rollout()?, &rehearsed)?);
        let services = rehearsed
            .objects
            .iter()
            .filter(|(item, _)| *item.kind == SERVICE && item.namespace == key.namespace);
        let services = services.map(|(_, object)| service(object)).collect::<Result<_, _>>()?;
        let mut rollout = subject.rollout()?.clone();
        let metadata = &mut rollout.metadata;
        // A dry run that could not be sent to the server has not been given these.
        metadata.uid.get_or_insert_with(|| UNBORN.to_owned());
        metadata.generation.get_or_insert(1);
        metadata.creation_timestamp.get_or_insert_with(|| self.context.clock.now().into());
        self.check_served(key, &rollout)?;
        let warnings = std::mem::take(&mut rehearsed.warnings);
        Ok(Prospect { rollout, services, workload, warnings })
    }

    async fn with_resource(&self, key: &Key, mut rollout: v1::Rollout) -> Result<Subject, Error> {
        check_name(key, &rollout.name, "rollout.name")?;
        if self.context.cluster.get(target(key)).await?.is_none() {
            let object = self.new_object(key, rollout)?;
            return self.create_object(key, &object, Mode::DryRun).await;
        }
        rollout.name = ROLLOUT.named(&key.namespace, &key.name).name;
        let mutation = rehearsal(key, &rollout.etag);
        let done = self.context.mutate(&mutation, |subject| update::update(subject, &rollout, &[])).await?;
        Ok(done.after)
    }

    async fn with_images(&self, key: &Key, request: &v1::SetRolloutImageRequest) -> Result<Rewritten, Error> {
        check_name(key, &request.name, "set_image.name")?;
        let within = |error: Error| error.rename_fields(|field| format!("set_image.{field}"));
        image::check_images(&request.images).map_err(within)?;
        let mutation = rehearsal(key, &request.etag);
        let set = |subject: &Subject| {
            image::set(subject, &request.images).map_err(|error| match error.reason() {
                Reason::InvalidField => within(error),
                _ => error,
            })
        };
        self.context.rewrite(&mutation, set).await
    }

    async fn with_manifest(
        &self,
        key: &Key,
        manifest: &str,
        ownership: Ownership,
    ) -> Result<(Subject, Rehearsed), Error> {
        let rehearsed = self.context.rehearsed(manifest, &key.namespace, ownership).await?;
        let is_it = |item: &crate::manifest::Item| {
            *item.kind == ROLLOUT && item.namespace == key.namespace && item.name == key.name
        };
        match rehearsed.objects.iter().find(|(item, _)| is_it(item)) {
            Some((_, object)) => {
                let subject = Subject::new(object.clone());
                Ok((subject, rehearsed))
            }
            None => {
                let name = ROLLOUT.named(&key.namespace, &key.name).name;
                Err(Error::field("manifest", format!("does not hold {name}, which `name` asks about")))
            }
        }
    }

    /// What this server's caches leave out cannot be looked ahead of.
    fn check_served(&self, key: &Key, rollout: &Rollout) -> Result<(), Error> {
        let server = &self.context.server;
        let labels = rollout.metadata.labels.as_ref();
        let instance = labels.and_then(|labels| labels.get(keys::CONTROLLER_INSTANCE_ID));
        let is_served = instance.map_or("", String::as_str) == server.instance_id
            && server.namespace.as_ref().is_none_or(|namespace| *namespace == key.namespace);
        if is_served { Ok(()) } else { Err(Error::not_found(ROLLOUT.named(&key.namespace, &key.name))) }
    }

    /// The world around a rollout as it would be.
    pub(super) async fn copy(&self, key: &Key, prospect: Prospect) -> Result<Copied, Error> {
        let rollout = Arc::new(prospect.rollout);
        let workload = match prospect.workload {
            Some(workload) => Some(workload),
            None => self.context.workload(key, rollout.spec.workload_ref.as_ref()).await?,
        };
        let seen = self.context.store.observe_resolved(key, template::resolve(rollout, workload));
        let mut seen = seen.expect("a prospect has an identity");
        // That was a fresh look.
        seen.workload_is_absent = true;
        self.add_services(key, &mut seen, &prospect.services).await?;
        let pods = self.context.store.lasting_pods(seen.sets.iter().chain(&seen.orphans));
        Ok(Copied { seen, pods, now: self.context.clock.now() })
    }

    /// The Services that the strategy names: those of the manifest, those that the caches show, and what a fresh look finds.
    async fn add_services(&self, key: &Key, seen: &mut Observed, to_come: &[Service]) -> Result<(), Error> {
        let rollout = Arc::clone(&seen.rollout);
        for named in rollout.spec.strategy().map(Strategy::services).unwrap_or_default() {
            let found = match to_come.iter().find(|service| service.name == named.name) {
                Some(service) => Some(service.clone()),
                None if seen.service(named.name).is_some() => continue,
                None => {
                    let target = Target { kind: &SERVICE, namespace: &key.namespace, name: named.name };
                    self.context.cluster.get(target).await?.as_ref().map(service).transpose()?
                }
            };
            seen.services.retain(|service| service.name != named.name);
            seen.absent_services.remove(named.name);
            match found {
                Some(service) => seen.services.push(Arc::new(service)),
                None => {
                    seen.absent_services.insert(named.name.to_owned());
                }
            }
        }
        Ok(())
    }

    /// How the pod template looks with the API server's defaults.
    pub(super) async fn defaulted(&self, key: &Key, seen: &Observed) -> Result<DefaultedTemplate, Error> {
        let given = Arc::new(seen.rollout.spec.template.clone().unwrap_or_default());
        let Some(sample) = revision::sample_set(seen) else {
            return Ok(DefaultedTemplate { given, stored: None });
        };
        let name = sample["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let target = Target { kind: &REPLICA_SET, namespace: &key.namespace, name: &name };
        let stored = match self.context.cluster.create(target, &sample, Mode::DryRun).await {
            Ok(set) => revision::sampled_template(&set).map(Arc::new),
            Err(error) if is_verdict(error.reason()) => None,
            Err(error) => return Err(error),
        };
        Ok(DefaultedTemplate { given, stored })
    }
}

/// The workload that a rollout refers to, where a manifest brings it.
fn to_come(key: &Key, rollout: &Rollout, rehearsed: &Rehearsed) -> Result<Option<Arc<Workload>>, Error> {
    let Some(named) = rollout.spec.workload_ref.as_ref().and_then(ObjectRef::workload) else {
        return Ok(None);
    };
    let is_it = |item: &crate::manifest::Item| {
        item.kind.kind == named.kind.as_str() && item.namespace == key.namespace && item.name == named.name
    };
    let found = rehearsed.objects.iter().find(|(item, _)| is_it(item));
    found.map(|(_, object)| workload::read(&named, object)).transpose()
}

/// Whether the API server has something against an object, rather than being away.
fn is_verdict(reason: Reason) -> bool {
    matches!(reason, Reason::InvalidObject | Reason::AdmissionDenied | Reason::QuotaExceeded)
}

/// A mutation that is rehearsed only.
fn rehearsal(key: &Key, etag: &str) -> Mutation {
    Mutation { key: key.clone(), etag: etag.to_owned(), mode: Mode::DryRun, ticket: None }
}

/// An update that names its rollout names this one.
fn check_name(key: &Key, given: &str, field: &str) -> Result<(), Error> {
    if given.is_empty() || name::rollout(given, field)? == *key {
        return Ok(());
    }
    let name = ROLLOUT.named(&key.namespace, &key.name).name;
    Err(Error::field(field, format!("is {given:?}, but `name` asks about {name:?}; leave one of them out")))
}

fn service(object: &Value) -> Result<Service, Error> {
    let record = ServiceRecord::deserialize(object);
    let record = record.map_err(|error| Error::internal("a Service was not understood", &error))?;
    Ok(Service::clone(&record.service))
}
